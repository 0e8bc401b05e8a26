import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from sklearn.isotonic import isotonic_regression as by_sklearn

from jaxcur import stats
from tests.helpers import assert_close

# A ladder of lengths: every new shape costs a compilation.
SIZES = st.sampled_from([1, 2, 17])
# Quarters: ties are common.
VALUES = st.integers(-8, 8).map(lambda i: i / 4)


@st.composite
def worlds(draw, weights=(0.5, 1.0, 2.0)):
    n = draw(SIZES)
    values = draw(hnp.arrays(np.float64, n, elements=VALUES))
    counts = draw(hnp.arrays(np.float64, n, elements=st.sampled_from(weights)))
    return values, counts


def fit(values, weights=None, **options):
    with jax.enable_x64(True):
        return np.asarray(stats.isotonic_regression(values, weights, **options))


def test_blocks_are_pooled_by_hand(dtype):
    values = np.array([1.0, 3.0, 2.0, 5.0, 4.0, 0.0], dtype)
    found = stats.isotonic_regression(values)
    assert found.dtype == dtype
    assert_close(found, np.array([1.0, 2.5, 2.5, 3.0, 3.0, 3.0]), rtol=1e-6)
    down = stats.isotonic_regression(values, increasing=False)
    assert_close(down, np.array([3.0, 3, 3, 3, 3, 0]), rtol=1e-6)
    weighted = stats.isotonic_regression(values[:3], np.array([1, 1, 3.0], dtype))
    assert_close(weighted, np.array([1.0, 2.25, 2.25]), rtol=1e-6)


@given(world=worlds(), increasing=st.booleans())
def test_it_is_that_of_scikit_learn(world, increasing):
    values, weights = world
    expected = by_sklearn(values, sample_weight=weights, increasing=increasing)
    found = fit(values, weights, increasing=increasing)
    assert_close(found, expected, rtol=1e-12, atol=1e-12)


@given(world=worlds(weights=(0.0, 1.0, 3.0)))
def test_the_conditions_of_the_optimum_hold(world):
    values, weights = world
    weights[0] = 1.0
    fitted = fit(values, weights)
    assert (np.diff(fitted) >= 0).all()
    # Moving everything from some row on by one step changes nothing to first order:
    # downwards only where the fit has a jump, and upwards never gains.
    slack = np.cumsum((weights * (values - fitted))[::-1])[::-1]
    assert (slack <= 1e-12).all()
    jumps = np.concatenate([[True], np.diff(fitted) > 1e-12])
    assert_close(slack[jumps], np.zeros(jumps.sum()), rtol=0, atol=1e-12)


@given(world=worlds(weights=(0.0, 1.0, 2.0)))
def test_rows_without_weight_are_absent(world):
    values, weights = world
    weights[-1] = 1.0
    present = weights > 0
    spoiled = np.where(present, values, np.nan)
    found = fit(spoiled, weights)
    expected = by_sklearn(values[present], sample_weight=weights[present])
    assert_close(found[present], expected, rtol=1e-12, atol=1e-12)
    # An absent row repeats the last present one before it.
    before = np.maximum(np.cumsum(present) - 1, 0)
    assert_close(found, found[present][before], rtol=0, atol=0)


@given(world=worlds(), shift=VALUES, scale=st.sampled_from([0.25, 3.0]))
def test_units_do_not_matter(world, shift, scale):
    values, weights = world
    plain = fit(values, weights)
    assert_close(
        fit(shift + scale * values, 7 * weights),
        shift + scale * plain,
        rtol=1e-12,
        atol=1e-12,
    )
    assert_close(fit(plain, weights), plain, rtol=1e-12, atol=1e-12)


def test_a_large_common_offset_costs_no_digits():
    rng = np.random.default_rng(0)
    values = rng.integers(-50, 50, 200).astype(np.float32)
    plain = np.asarray(stats.isotonic_regression(values), np.float64)
    offset = 2.0**23
    moved = stats.isotonic_regression(values + np.float32(offset))
    # Float32 has steps of 1 from 2^23 on.
    assert np.abs(np.asarray(moved, np.float64) - offset - plain).max() <= 1


def test_jit_vmap_and_strict_promotion(strict_promotion):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((4, 17)).astype(np.float32)
    weights = rng.integers(0, 3, (4, 17)).astype(np.float32)
    weights[:, 3] = 1
    with jax.checking_leaks(), jax.debug_nans(True):
        found = jax.jit(jax.vmap(stats.isotonic_regression))(values, weights)
    assert found.dtype == jnp.float32
    assert not found.weak_type
    for row, value, weight in zip(found, values, weights, strict=True):
        assert_close(row, fit(value, weight), rtol=1e-5, atol=1e-6)


def test_gradient(x64):
    rng = np.random.default_rng(2)
    values, weights = rng.standard_normal(17), rng.uniform(0.5, 2, 17)
    target = rng.standard_normal(17)

    @jax.jit
    def value(values, weights):
        return jnp.sum(target * stats.isotonic_regression(values, weights) ** 2)

    found = jax.grad(value, argnums=(0, 1))(values, weights)
    for argument in (0, 1):
        for i in (0, 5, 16):
            move = [np.zeros(17), np.zeros(17)]
            move[argument][i] = 1e-6
            up = value(values + move[0], weights + move[1])
            down = value(values - move[0], weights - move[1])
            numeric = (up - down) / 2e-6
            assert_close(found[argument][i], numeric, rtol=1e-6, atol=1e-8)


def test_sorted_and_reversed_rows_take_linear_time():
    # The worst case for a loop that goes back: every row merges into the first block.
    n = 200_000
    found = stats.isotonic_regression(-np.arange(n, dtype=np.float32))
    # A float32 sum of 2e5 terms, one after the other.
    assert_close(found[jnp.array([0, n - 1])], np.full(2, -(n - 1) / 2), rtol=1e-4)


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        (np.zeros((2, 1)), None, r"`values` must have shape \(n,\)"),
        (np.zeros(0), None, "`values` must hold at least one row"),
        (np.zeros(3), np.ones(2), "must have the same length"),
        (np.array([0, np.nan]), None, "`values` must be finite, got 1"),
        (np.array([0, np.inf]), None, "`values` must be finite, got 1"),
        (np.zeros(2), np.array([1, -1.0]), "`weights` must be finite and nonnegative"),
        (np.zeros(2), np.array([1, np.nan]), "`weights` must be finite"),
        (np.zeros(2), np.zeros(2), "`weights` must not all be zero"),
    ],
)
def test_bad_input_is_named(values, weights, message):
    with pytest.raises(ValueError, match=message):
        stats.isotonic_regression(values, weights)


@pytest.mark.parametrize(
    ("value", "weight"), [(np.nan, 1.0), (np.inf, 1.0), (0.0, -1.0), (0.0, np.nan)]
)
def test_bad_values_under_jit_give_nan(value, weight):
    values = np.array([1.0, value, 2.0], np.float32)
    weights = np.array([1.0, weight, 1.0], np.float32)
    assert np.isnan(jax.jit(stats.isotonic_regression)(values, weights)).all()
    nothing = jax.jit(stats.isotonic_regression)(values, np.zeros(3, np.float32))
    assert np.isnan(nothing).all()
