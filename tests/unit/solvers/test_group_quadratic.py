import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxcur import solvers
from tests.helpers import assert_close

pytestmark = pytest.mark.usefixtures("x64")
Q, INDEX = 9, np.arange(3, 9).reshape(2, 3)


def problem(seed, collinear=False):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(2 * Q, Q))
    if collinear:
        root[:, 4] = root[:, 3]
    hessian = root.T @ root / Q + 1e-8 * np.eye(Q)
    gradient = root.T @ rng.normal(size=2 * Q)
    penalties = np.zeros(Q)
    penalties[1] = rng.uniform(0, 2)
    return gradient, hessian, penalties, rng.uniform(0, 3, size=2)


@jax.jit
def solve(gradient, hessian, start, penalties, factors, free):
    return solvers.group_quadratic(
        gradient, hessian, start, penalties, free, solvers.Groups(INDEX, factors),
        tolerance=1e-11,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_no_search_finds_a_lower_value(seed):
    gradient, hessian, penalties, factors = problem(seed, collinear=seed % 2 == 1)
    start = np.random.default_rng(seed).normal(size=Q) * (seed % 3)
    found = solve(gradient, hessian, start, penalties, factors, np.ones(Q, bool))
    assert float(found.residual) <= 1e-11

    def value(x):
        d = x - start
        norms = np.linalg.norm(x[INDEX], axis=1) @ factors
        return gradient @ d + d @ hessian @ d / 2 + penalties @ np.abs(x) + norms

    x = np.asarray(found.solution)
    best = value(x)
    rng = np.random.default_rng(1)
    around = x + 10.0 ** rng.uniform(-6, 0, (500, 1)) * rng.normal(size=(500, Q))
    assert min(map(value, around)) >= best - 1e-12
    search = minimize(value, x + 0.1, method="Powell", options={"maxiter": 50})
    assert search.fun >= best - 1e-10


def test_a_large_factor_leaves_exact_zeros():
    gradient, hessian, penalties, _ = problem(0)
    args = (gradient, hessian, np.zeros(Q), penalties)
    found = solve(*args, np.array([100.0, 0.5]), np.ones(Q, bool))
    np.testing.assert_array_equal(found.solution[INDEX[0]], 0)
    assert np.any(np.asarray(found.solution[INDEX[1]]) != 0)
    free = np.ones(Q, bool)
    free[INDEX[1]] = False
    held = solve(*args, np.array([0.5, 0.5]), free)
    np.testing.assert_array_equal(held.solution[INDEX[1]], 0)
    assert float(held.residual) <= 1e-11


def test_the_smallest_subgradient_is_that_of_the_definition():
    rng = np.random.default_rng(2)
    groups = solvers.Groups(INDEX, jnp.array([1.0, 2.0]))
    x = rng.normal(size=Q)
    x[INDEX[1]] = 0
    gradient = rng.normal(size=Q)
    zero, free = jnp.zeros(Q), jnp.ones(Q, bool)
    found = np.asarray(
        solvers.group_stationarity(gradient, jnp.asarray(x), zero, free, groups)
    )
    smooth = gradient[INDEX[0]] + x[INDEX[0]] / np.linalg.norm(x[INDEX[0]])
    assert_close(found[INDEX[0]], smooth, rtol=1e-12)
    # The point of the ball of radius 2 that is nearest to minus the gradient.
    g = gradient[INDEX[1]]
    near = g * max(0, 1 - 2 / np.linalg.norm(g))
    assert_close(found[INDEX[1]], near, rtol=1e-12, atol=1e-15)
    assert_close(found[:3], gradient[:3], rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_coordinates_above_zero(seed):
    gradient, hessian, penalties, _ = problem(seed)
    rng = np.random.default_rng(seed)
    positive = rng.uniform(size=Q) < 0.6
    penalties = penalties + rng.uniform(0, 1, size=Q) * (rng.uniform(size=Q) < 0.5)
    found = jax.jit(
        lambda g, h, p, s: solvers.l1_quadratic(
            g, h, jnp.zeros(Q), p, jnp.ones(Q, bool), tolerance=1e-11, positive=s
        )
    )(gradient, hessian, penalties, positive)
    x = np.asarray(found.solution)
    assert x[positive].min() >= 0 and float(found.residual) <= 1e-11

    def split(v):
        x = v[:Q] - v[Q:]
        slope = gradient + hessian @ x
        value = gradient @ x + x @ hessian @ x / 2 + penalties @ (v[:Q] + v[Q:])
        return value, np.concatenate([slope + penalties, penalties - slope])

    bounds = [(0, None)] * Q + [(0, 0 if held else None) for held in positive]
    search = minimize(
        split, np.zeros(2 * Q), jac=True, method="L-BFGS-B", bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000},
    )  # fmt: skip
    best = split(np.concatenate([np.maximum(x, 0), np.maximum(-x, 0)]))[0]
    assert best <= search.fun + 1e-9
