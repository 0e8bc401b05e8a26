import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import solvers
from tests.helpers import assert_close


def problem(seed, q=5, collinear=False):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2 * q, q))
    if collinear:
        root[:, 1] = root[:, 0]
    hessian = root.T @ root / q + 1e-9 * np.eye(q)
    gradient = rng.normal(size=q)
    penalties = rng.uniform(0, 1, size=q) * (rng.uniform(size=q) < 0.8)
    return gradient, hessian, penalties


def objective(x, start, gradient, hessian, penalties):
    d = x - start
    return gradient @ d + d @ hessian @ d / 2 + penalties @ np.abs(x)


def brute_force(start, gradient, hessian, penalties):
    """The best over all sign patterns of the stationary point with those signs."""
    q, best = len(start), np.inf
    for signs in itertools.product((-1, 0, 1), repeat=q):
        signs = np.array(signs)
        on = (signs != 0) | (penalties == 0)
        right = hessian @ start - gradient - penalties * signs
        x = np.zeros(q)
        if on.any():
            x[on] = np.linalg.solve(hessian[np.ix_(on, on)], right[on])
        best = min(best, objective(x, start, gradient, hessian, penalties))
    return best


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(6))
def test_it_is_as_good_as_every_sign_pattern(seed):
    gradient, hessian, penalties = problem(seed)
    start = np.random.default_rng(seed + 100).normal(size=5) * (seed % 2)
    found = solvers.l1_quadratic(
        *map(jnp.asarray, (gradient, hessian, start, penalties)),
        jnp.ones(5, bool),
        tolerance=1e-11,
    )
    x = np.asarray(found.solution)
    ours = objective(x, start, gradient, hessian, penalties)
    best = brute_force(start, gradient, hessian, penalties)
    assert ours <= best + 1e-10
    assert float(found.residual) <= 1e-11
    assert int(found.num_steps) < 20


@pytest.mark.usefixtures("x64")
def test_collinear_columns_are_solved():
    gradient, hessian, penalties = problem(3, collinear=True)
    found = solvers.l1_quadratic(
        *map(jnp.asarray, (gradient, hessian, np.zeros(5), penalties + 0.05)),
        jnp.ones(5, bool),
        tolerance=1e-7,
    )
    assert float(found.residual) <= 1e-7


def test_coordinates_held_stay_at_zero():
    free = jnp.array([True, False])
    found = solvers.l1_quadratic(
        jnp.array([-3.0, -3.0]), jnp.eye(2), jnp.zeros(2), jnp.ones(2), free,
        tolerance=1e-6,
    )  # fmt: skip
    assert_close(found.solution, np.array([2.0, 0.0]), rtol=1e-6)


def test_the_smallest_subgradient_is_zero_at_a_minimiser_only():
    g, x = jnp.array([0.5, -2.0, 1.0]), jnp.array([0.0, 0.0, -1.0])
    ones, free = jnp.ones(3), jnp.ones(3, bool)
    assert_close(
        solvers.stationarity(g, x, ones, free), np.array([0.0, -1.0, 0.0]), rtol=0
    )


@pytest.mark.usefixtures("x64")
def test_proximal_newton_leaves_a_flat_valley_by_its_own_status():
    # exp(-theta) has no minimiser: the iteration runs and says how far the last step
    # went; it does not report convergence with a small last step.
    model = solvers.SmoothModel(
        predict=lambda theta: theta,
        value=lambda eta, theta: jnp.sum(jnp.exp(-eta)),
        gradient=lambda eta, theta: -jnp.exp(-eta),
        hessian=lambda eta, theta: jnp.diag(jnp.exp(-eta)),
        limit=lambda eta, change: jnp.inf,
    )
    zero = jnp.zeros(1)
    found = jax.jit(
        lambda start: solvers.proximal_newton(
            model, start, zero, zero == 0, tolerance=1e-9, max_steps=100
        )
    )(zero)
    assert float(found.last_step) > 0.3
    assert 20 < float(found.solution[0]) < 40
