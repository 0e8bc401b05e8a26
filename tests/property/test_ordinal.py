"""Exactness and symmetries of ordinal fits on random problems.

Shapes come from a short ladder; unused rows have weight zero, which is removal.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcur import ordinal
from jaxcur.ordinal._families import row_terms

LADDER = [(2, 2), (4, 3)]
ROWS = 48
STRENGTHS = 6


def draw(seed: int, p: int, k: int, kind: str):
    """Features, classes, weights: every class occurs, many rows may be absent."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(ROWS, p)) * rng.choice([0.1, 1.0, 30.0], size=p)
    X = X + rng.normal(size=p) * 5
    if kind == "collinear":
        X[:, -1] = X[:, 0]
    elif kind == "constant":
        X[:, -1] = 0.1
    elif kind == "binary":
        X = (X > np.median(X, axis=0)).astype(float)
    y = rng.integers(0, k, size=ROWS)
    if kind == "rare":
        y = np.minimum(y, k - 2)
        y[7] = k - 1
    weights = np.zeros(ROWS)
    used = rng.integers(max(5, k), ROWS + 1)
    weights[:used] = rng.choice([0.5, 1.0, 3.0], size=used)
    for c in range(k):
        if not (weights[y == c] > 0).any():
            y[c], weights[c] = c, 1.0
    missing = [c for c in range(k) if not (weights[y == c] > 0).any()]
    if missing:
        y[:k], weights[:k] = np.arange(k), 1.0
    return X, y, weights


problems = st.builds(
    lambda seed, shape, kind: (*draw(seed, *shape, kind), shape[1]),
    st.integers(0, 2**31),
    st.sampled_from(LADDER),
    st.sampled_from(["plain", "collinear", "constant", "binary", "rare"]),
)


def standard(X, weights):
    share = weights / weights.sum()
    mean = share @ X
    scale = np.sqrt(share @ (X - mean) ** 2)
    return mean, np.where(scale < 1e-12 * np.abs(X).max(), 1, scale)


@jax.jit
def _losses(X, y, share, mean, scale, theta):
    """Mean losses at many parameters on the standardised scale, (b,)."""
    k1 = theta.shape[1] // (X.shape[1] + 1)
    Z = (X - mean) / scale

    def one(vector):
        alpha, psi = vector[:k1], vector[k1:].reshape(k1, -1)
        eta = alpha + Z @ jnp.cumsum(psi, axis=0).T
        log_prob = row_terms("cumulative", "logit", eta, y).log_prob
        return -jnp.sum(jnp.where(share > 0, share * log_prob, 0))

    return jax.vmap(one)(theta)


@pytest.mark.usefixtures("x64")
@settings(max_examples=25)
@given(problems)
def test_the_certificate_holds(problem):
    X, y, weights, k = problem
    fits = ordinal.path(
        X, y, num_classes=k, weights=weights, num_regularizations=STRENGTHS, ratio=0.02
    )
    top = float(fits.max_regularization[0])
    residual = np.asarray(fits.kkt_residual)
    met = residual <= max(1e-9 * top, 1e-14)
    assert np.all(met | (np.asarray(fits.status) != 0))
    # With a penalty there is a solution, so nothing less will do on these problems.
    assert np.mean(met) > 0.8
    # No point nearby is better by more than the bound.
    rng = np.random.default_rng(0)
    mean, scale = standard(X, weights)
    share = weights / weights.sum()
    for i in np.flatnonzero(np.asarray(fits.status) == 0):
        psi = np.asarray(fits.blocks[i])
        beta = np.asarray(fits.coefficients[i])
        alpha = np.asarray(fits.intercepts[i]) + beta.T @ mean
        theta = np.concatenate([alpha, psi.ravel()])
        size = 10.0 ** rng.uniform(-6, -1, size=(64, 1))
        trial = theta + size * rng.normal(size=(64, theta.size))
        trial[:32, k - 1 :] = np.where(psi.ravel() == 0, 0, trial[:32, k - 1 :])
        trial = np.concatenate([theta[None], trial])
        losses = np.asarray(_losses(X, y, share, mean, scale, trial))
        strength = float(fits.regularizations[i])
        values = losses + strength * np.abs(trial[:, k - 1 :]).sum(axis=1)
        assert abs(values[0] - float(fits.objective[i])) < 1e-9
        assert values.min() >= values[0] - float(fits.gap_bound[i]) - 1e-12


@pytest.mark.usefixtures("x64")
@settings(max_examples=15)
@given(problems)
def test_the_path_is_monotone(problem):
    X, y, weights, k = problem
    fits = ordinal.path(
        X, y, num_classes=k, weights=weights, num_regularizations=STRENGTHS, ratio=0.02
    )
    if np.any(np.asarray(fits.status) != 0):
        return
    norm = np.abs(np.asarray(fits.blocks)).sum(axis=(1, 2))
    assert np.all(np.diff(np.asarray(fits.loglik)) >= -1e-6)
    assert np.all(np.diff(norm) >= -1e-6)


FIXED = draw(11, 4, 3, "plain")


def path(X, y, weights, **options):
    return ordinal.path(
        X, y, num_classes=3, weights=weights, regularizations=GRID, **options
    )


GRID = np.geomspace(0.2, 0.004, STRENGTHS)


def close(left, right, tolerance=1e-7):
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), atol=tolerance)


@pytest.mark.usefixtures("x64")
@settings(max_examples=10)
@given(st.integers(0, 2**31))
def test_symmetries(seed):
    rng = np.random.default_rng(seed)
    X, y, weights = FIXED
    base = path(X, y, weights)
    # A shift of the features leaves the probabilities; so does a scale.
    shift, scale = rng.normal(size=4) * 100, rng.uniform(0.1, 10, size=4)
    moved = path(X * scale + shift, y, weights)
    close(moved.coefficients * scale[:, None], base.coefficients, 1e-6)
    shifted = base.intercepts - np.einsum("lpk,p->lk", moved.coefficients, shift)
    close(moved.intercepts, shifted, 1e-5)
    # Features in another order; rows in another order; absent rows of any content.
    order = rng.permutation(4)
    close(path(X[:, order], y, weights).coefficients, base.coefficients[:, order])
    rows = rng.permutation(ROWS)
    close(path(X[rows], y[rows], weights[rows]).coefficients, base.coefficients)
    garbage = np.where(weights[:, None] > 0, X, 1e6 * rng.normal(size=X.shape))
    close(path(garbage, y, weights).coefficients, base.coefficients)
    # Weights matter up to a factor, except in the log-likelihood, which is a sum.
    double = path(X, y, 2 * weights)
    close(double.coefficients, base.coefficients)
    close(double.loglik, 2 * base.loglik, 1e-6)


@pytest.mark.usefixtures("x64")
def test_a_row_of_weight_two_is_two_rows():
    X, y, weights = FIXED
    half = ROWS // 2
    heavy = np.concatenate([np.full(half, 2.0), np.zeros(ROWS - half)])
    doubled_X = np.concatenate([X[:half], X[:half]])
    doubled_y = np.concatenate([y[:half], y[:half]])
    one = path(X, y, heavy)
    two = path(doubled_X, doubled_y, np.ones(ROWS))
    close(one.coefficients, two.coefficients)
    close(one.loglik, two.loglik, 1e-6)


@pytest.mark.usefixtures("x64")
def test_reversing_the_classes_mirrors_the_fit_where_it_should():
    X, y, weights = FIXED
    options = {"penalty": ordinal.Presto(first=0.0)}
    one, two = path(X, y, weights, **options), path(X, 2 - y, weights, **options)
    close(two.coefficients, -np.asarray(one.coefficients)[:, :, ::-1])
    close(two.intercepts, -np.asarray(one.intercepts)[:, ::-1])
    # With the first block penalised the two ends of the order are not alike.
    one, two = path(X, y, weights), path(X, 2 - y, weights)
    gap = np.asarray(two.coefficients) + np.asarray(one.coefficients)[:, :, ::-1]
    assert np.max(np.abs(gap)) > 1e-3
