import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from jaxcur.debiased._aggregate import aggregate_splits, nearest_positive_definite
from tests.helpers import assert_close

SEEDS = st.integers(0, 10_000)


def splits(seed, s=5, p=3):
    rng = np.random.default_rng(seed)
    estimates = rng.standard_normal((s, p))
    roots = rng.standard_normal((s, p, p + 1))
    return estimates, roots @ roots.transpose(0, 2, 1)


def by_formula(estimates, covariances, combine):
    estimate = combine(estimates, axis=0)
    terms = [
        v + np.outer(t - estimate, t - estimate)
        for t, v in zip(estimates, covariances, strict=True)
    ]
    covariance = combine(np.stack(terms), axis=0)
    return estimate, (covariance + covariance.T) / 2


def aggregate(estimates, covariances, **options):
    with jax.enable_x64(True):
        found = aggregate_splits(estimates, covariances, **options)
        return tuple(np.asarray(x) for x in found)


def test_by_hand():
    estimates = np.array([[1.0, 0.0], [2.0, 0.0], [6.0, 3.0]])
    covariances = np.stack([np.eye(2)] * 3)
    estimate, covariance = aggregate(estimates, covariances)
    assert_close(estimate, np.array([2.0, 0.0]), rtol=0)
    # Variances 1 + (1, 0, 16) and 1 + (0, 0, 9); products of deviations 0, 0, 12.
    assert_close(covariance, np.array([[2.0, 0.0], [0.0, 1.0]]), rtol=1e-12)
    estimate, covariance = aggregate(estimates, covariances, how="mean")
    assert_close(estimate, np.array([3.0, 1.0]), rtol=1e-12)
    assert_close(covariance, np.array([[17 / 3, 3.0], [3.0, 3.0]]), rtol=1e-12)


@given(seed=SEEDS, s=st.sampled_from([1, 4, 5]))
def test_formulas(seed, s):
    estimates, covariances = splits(seed, s)
    estimate, covariance = aggregate(estimates, covariances, how="mean")
    expected = by_formula(estimates, covariances, np.mean)
    assert_close((estimate, covariance), expected, rtol=1e-11, atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() > 0
    estimate, covariance = aggregate(estimates, covariances)
    centre, plain = by_formula(estimates, covariances, np.median)
    assert_close(estimate, centre, rtol=1e-12)
    assert_close(np.diag(covariance), np.diag(plain), rtol=1e-12)
    assert_close(covariance, covariance.T, rtol=0)
    assert np.linalg.eigvalsh(covariance).min() > 0
    if np.linalg.eigvalsh(plain).min() > 1e-10:
        assert_close(covariance, plain, rtol=1e-12)
    if s == 1:
        assert_close(covariance, covariances[0], rtol=1e-12)


@given(seed=SEEDS)
def test_units_and_order_do_not_matter(seed):
    estimates, covariances = splits(seed)
    scale = np.array([1e-4, 1.0, 1e5])
    for how in ("median", "mean"):
        estimate, covariance = aggregate(estimates, covariances, how=how)
        scaled = aggregate(
            estimates[::-1] * scale,
            covariances[::-1] * np.outer(scale, scale),
            how=how,
        )
        assert_close(scaled[0], estimate * scale, rtol=1e-11)
        size = np.sqrt(np.diag(covariance))
        gap = scaled[1] / np.outer(scale, scale) - covariance
        assert np.abs(gap / np.outer(size, size)).max() < 1e-9


# A matrix of signs that no three variables have: its nearest correlation matrix is
# known, all correlations become halves.
SIGNS = np.array([[1.0, 1, 1], [1, 1, -1], [1, -1, 1]])
HALVES = np.array([[1.0, 0.5, 0.5], [0.5, 1, -0.5], [0.5, -0.5, 1]])


def test_the_nearest_matrix_is_found(dtype):
    scale = np.array([0.01, 1.0, 100.0])
    outer = np.outer(scale, scale)
    found = nearest_positive_definite(jnp.asarray(SIGNS * outer, dtype))
    assert found.dtype == dtype
    assert_close(jnp.diagonal(found), (scale**2).astype(dtype), rtol=0)
    tolerance = 1e-3 if dtype == jnp.float32 else 1e-6
    # The iteration stops where steps are at rounding; float32 reaches 1e-4.
    assert_close(found / jnp.asarray(outer, dtype), HALVES, rtol=tolerance)
    assert np.isfinite(np.linalg.cholesky(np.asarray(found))).all()


def test_the_published_example_is_met(x64):
    # Higham (2002), section 4: four digits are printed.
    chain = np.array([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    expected = np.array([[1, 0.7607, 0.1573], [0.7607, 1, 0.7607], [0.1573, 0.7607, 1]])
    found = nearest_positive_definite(chain)
    assert_close(found, expected, rtol=0, atol=5e-5)


@given(seed=SEEDS)
def test_the_nearest_matrix_beats_others(seed):
    rng = np.random.default_rng(seed)
    matrix = np.clip(rng.standard_normal((4, 4)), -0.95, 0.95)
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, 1)
    with jax.enable_x64(True):
        found = np.asarray(nearest_positive_definite(matrix))
    assert_close(found, found.T, rtol=0)
    assert_close(np.diag(found), np.ones(4), rtol=0)
    assert np.linalg.eigvalsh(found).min() > 0
    if np.linalg.eigvalsh(matrix).min() > 1e-10:
        assert_close(found, matrix, rtol=0)
        return
    # A projection on a convex set: no correlation matrix lies at an acute angle.
    roots = rng.standard_normal((200, 4, 4))
    others = roots @ roots.transpose(0, 2, 1)
    sizes = np.sqrt(np.diagonal(others, axis1=1, axis2=2))
    others = others / (sizes[:, :, None] * sizes[:, None, :])
    angle = np.sum((matrix - found) * (others - found), axis=(1, 2))
    assert (angle < 1e-6).all()


def test_a_median_that_is_not_definite_is_repaired():
    covariances = np.stack([SIGNS + 0.01 * np.eye(3)] * 3)
    estimates = np.zeros((3, 3))
    estimate, covariance = aggregate(estimates, covariances)
    assert np.linalg.eigvalsh(covariances[0]).min() < 0
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert_close(np.diag(covariance), np.full(3, 1.01), rtol=1e-12)
    # Medians of definite matrices, entry by entry, can be like that too.
    corners = np.array([[1.0, 1, 0.9], [1, 1, 0.9], [0.9, 0.9, 1]])
    assert_close(estimate, np.zeros(3), rtol=0)
    flips = [np.diag(x) for x in ([1, 1, 1], [1, 1, -1], [1, -1, 1])]
    parts = np.stack([f @ corners @ f for f in flips])
    _, covariance = aggregate(estimates, parts)
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_edges():
    estimates, covariances = splits(0)
    flat = covariances.copy()
    flat[:, 1] = flat[:, :, 1] = 0
    same = np.repeat(estimates[:1], 5, axis=0)
    _, covariance = aggregate(same, flat)
    assert np.isfinite(covariance).all()
    assert (covariance[1] == 0).all()
    broken = estimates.copy()
    broken[2, 0] = np.nan
    for how in ("median", "mean"):
        estimate, covariance = aggregate(broken, covariances, how=how)
        assert np.isnan(estimate[0])
        assert np.isnan(covariance[0, 0])
        assert np.isfinite(estimate[1:]).all()
    scalar = aggregate(estimates[:, :1], covariances[:, :1, :1])
    assert scalar[1].shape == (1, 1)


def test_jit_and_vmap(strict_promotion):
    parts = [splits(seed) for seed in range(4)]
    estimates, covariances = (
        np.stack(x).astype(np.float32) for x in zip(*parts, strict=True)
    )
    covariances[0] = SIGNS
    for how in ("median", "mean"):

        def one(estimates, covariances, how=how):
            return aggregate_splits(estimates, covariances, how=how)

        with jax.checking_leaks(), jax.debug_nans(True):
            found = jax.jit(jax.vmap(one))(estimates, covariances)
        for i in range(4):
            row = jax.tree.map(lambda x, i=i: x[i], found)
            expected = one(estimates[i], covariances[i])
            assert_close(row, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("estimates", "covariances", "options", "message"),
    [
        (np.zeros(3), np.zeros((3, 3)), {}, r"`estimates` must have shape \(s, p\)"),
        (np.zeros((0, 2)), np.zeros((0, 2, 2)), {}, "at least one split"),
        (np.zeros((2, 3)), np.zeros((2, 3)), {}, r"must have shape \(2, 3, 3\)"),
        (np.zeros((2, 3)), np.zeros((3, 3, 3)), {}, r"must have shape \(2, 3, 3\)"),
        (np.zeros((1, 1)), np.zeros((1, 1, 1)), {"how": "max"}, "`how` must be one of"),
    ],
)
def test_bad_input_is_named(estimates, covariances, options, message):
    with pytest.raises(ValueError, match=message):
        aggregate_splits(estimates, covariances, **options)
