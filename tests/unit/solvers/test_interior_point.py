import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxcur import solvers
from tests.helpers import assert_close

pytestmark = pytest.mark.usefixtures("x64")
Q, C = 6, 4


def quadratic(center, hessian):
    return solvers.SmoothModel(
        predict=lambda x: x,
        value=lambda eta, x: (x - center) @ hessian @ (x - center) / 2,
        gradient=lambda eta, x: hessian @ (x - center),
        hessian=lambda eta, x: hessian,
        limit=lambda eta, change: jnp.inf,
    )


@jax.jit
def solve(center, hessian, A, cone, penalties, positive):
    constraints = solvers.Constraints(
        value=lambda x: A @ x,
        pull=lambda nu: nu @ A,
        gram=lambda w: (A.T * w) @ A,
        margin=jnp.full(C, -1.0),
        present=jnp.arange(C) < 3,
        kinks=jnp.eye(Q)[:4],
        cone=cone,
    )
    zero = jnp.zeros(Q)
    return solvers.interior_point(
        quadratic(center, hessian), constraints, zero, penalties, jnp.ones(Q, bool),
        tolerance=1e-10, max_steps=100, positive=positive,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_it_agrees_with_a_search_over_the_split_problem(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3 * Q, Q))
    if seed % 2:
        root[:, 5] = root[:, 4]
    hessian, center = root.T @ root / Q, rng.normal(size=Q) * 3
    A, cone = rng.normal(size=(C, Q)), rng.uniform(0, 1, size=(C, 4))
    penalties = rng.uniform(0, 2, size=Q) * (rng.uniform(size=Q) < 0.7)
    positive = rng.uniform(size=Q) < 0.2
    found = solve(center, hessian, A, cone, penalties, positive)
    x = np.asarray(found.solution)
    assert float(found.residual) <= 1e-10
    slack = A @ x - cone @ np.abs(x[:4]) + 1
    assert slack[:3].min() >= -1e-10 and x[positive].min(initial=0) >= 0

    def split(v):
        x = v[:Q] - v[Q:]
        slope = hessian @ (x - center)
        value = (x - center) @ slope / 2 + penalties @ (v[:Q] + v[Q:])
        return value, np.concatenate([slope + penalties, penalties - slope])

    wide = np.pad(cone, ((0, 0), (0, Q - 4)))
    rows = np.concatenate([A - wide, -A - wide], axis=1)[:3]
    bounds = [(0, None)] * Q + [(0, 0 if held else None) for held in positive]
    search = minimize(
        split, np.zeros(2 * Q), jac=True, method="SLSQP", bounds=bounds,
        constraints={"type": "ineq", "fun": lambda v: rows @ v + 1,
                     "jac": lambda v: rows},
        options={"maxiter": 500, "ftol": 1e-14},
    )  # fmt: skip
    ours = split(np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)]))[0]
    assert_close(ours, search.fun, rtol=1e-8, atol=1e-9)
    # The multipliers make the point stationary, and cost nothing inside.
    slope = hessian @ (x - center) + np.asarray(found.tilt)
    zero = (x == 0) & ((penalties > 0) | positive)
    signs = np.where(x == 0, 0, np.sign(x))
    assert np.abs(slope + penalties * signs)[~zero].max() < 1e-9
    tilt = np.asarray(found.tilt)
    trial = x + rng.normal(size=(1000, Q))
    inside = trial @ A.T - np.abs(trial[:, :4]) @ cone.T + 1
    inside = (inside[:, :3] >= 0).all(axis=1)
    assert np.all(trial[inside] @ tilt <= x @ tilt + 1e-8)


def test_a_start_can_be_kept():
    one = jnp.ones(1, bool)
    constraints = solvers.Constraints(
        value=lambda x: -x[:1],
        pull=lambda nu: jnp.zeros(2).at[0].set(-nu[0]),
        gram=lambda w: jnp.zeros((2, 2)).at[0, 0].set(w[0]),
        margin=-jnp.ones(1),
        present=one,
    )
    model, zero = quadratic(jnp.array([3.0, 1.0]), jnp.eye(2)), jnp.zeros(2)

    def run(skip):
        return solvers.interior_point(
            model, constraints, zero, zero, zero == 0, tolerance=1e-9, max_steps=50,
            skip=skip,
        )  # fmt: skip

    kept, moved = jax.jit(jax.vmap(run, out_axes=0))(jnp.array([True, False]))[0]
    np.testing.assert_array_equal(kept, zero)
    assert_close(moved, np.array([1.0, 1.0]), rtol=1e-9)
