"""Weighted quantiles: ties of the share, rows of weight zero, errors."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.stats import weighted_quantile
from tests.helpers import assert_close


def exact_quantile(values, weights, q: Fraction) -> float:
    """The definition in rational arithmetic; weights are rationals."""
    rows = sorted(zip(values, weights, strict=True))
    rows = [(v, w) for v, w in rows if w > 0]
    target, running = q * sum(w for _, w in rows), Fraction(0)
    for value, weight in rows:
        running += weight
        if running >= target:
            return value
    raise AssertionError("q is above 1")


def test_equal_weights_reach_every_quarter_exactly(dtype):
    values = np.array([4.0, 2.0, 1.0, 3.0], dtype)
    found = weighted_quantile(values, np.ones(4, dtype), [0, 0.25, 0.5, 0.75, 1.0])
    assert found.dtype == dtype
    assert found.tolist() == [1.0, 1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("weight", [1.0, 0.1, 1 / 3, 1e30, 1e-30])
@pytest.mark.parametrize("n", [3, 7, 10, 97, 1000])
def test_tied_shares_are_not_lost_to_rounding(dtype, n, weight):
    values = np.random.default_rng(n).permutation(n).astype(dtype)
    orders = [Fraction(i, 100) for i in range(101)]
    weights = np.full(n, weight, dtype)
    found = weighted_quantile(values, weights, [float(q) for q in orders])
    # Sorted values are 0..n-1: the answer is the rank ceil(q n), at least 1, minus 1.
    expected = [max(-(-q * n // 1), 1) - 1 for q in orders]
    assert found.tolist() == [float(e) for e in expected]


def test_decimal_weights_with_a_tie_agree_with_rational_arithmetic(dtype):
    rng = np.random.default_rng(1)
    for _ in range(20):
        tenths = rng.integers(0, 5, 17)
        tenths[0] += 1
        values = rng.integers(0, 9, 17).astype(float)
        weights = [Fraction(int(t), 10) for t in tenths]
        total = int(tenths.sum())
        orders = [Fraction(i, total) for i in range(total + 1)] + [Fraction(1, 3)]
        expected = [exact_quantile(values, weights, q) for q in orders]
        orders = np.array([float(q) for q in orders], dtype)
        padded = np.zeros(96, dtype)  # one shape, one compilation
        padded[: len(orders)] = orders
        found = weighted_quantile(
            values.astype(dtype), np.array(tenths / 10, dtype), padded
        )
        assert found[: len(orders)].tolist() == expected


def test_agrees_with_numpy_inverted_cdf_between_the_ties(dtype):
    rng = np.random.default_rng(2)
    values = rng.normal(size=64).astype(dtype)
    orders = (np.arange(64) + 0.37) / 64
    found = weighted_quantile(values, np.ones(64, dtype), orders)
    expected = np.quantile(values, orders, method="inverted_cdf")
    assert_close(found, expected.astype(dtype), rtol=0)


def test_agrees_with_numpy_for_unequal_weights(x64):
    rng = np.random.default_rng(3)
    values, weights = rng.normal(size=64), rng.uniform(size=64)
    orders = rng.uniform(size=17)
    expected = np.quantile(values, orders, weights=weights, method="inverted_cdf")
    assert_close(weighted_quantile(values, weights, orders), expected, rtol=0)


def test_rows_of_weight_zero_are_never_returned():
    values = np.array([-5.0, 1.0, 2.0, 3.0, 9.0, np.nan])
    weights = np.array([0, 1, 0, 1, 0, 0])
    found = weighted_quantile(values, weights, [0.0, 0.5, 0.51, 1.0])
    assert found.tolist() == [1.0, 1.0, 3.0, 3.0]


def test_order_one_reaches_a_last_row_of_tiny_weight():
    weights = np.array([1.0, 1e-12], np.float32)
    assert weighted_quantile([1.0, 2.0], weights, 1.0) == 2.0


def test_infinite_values_are_legal():
    found = weighted_quantile([np.inf, -np.inf, 0.0], [1, 1, 1], [0.1, 0.5, 0.9])
    assert found.tolist() == [-np.inf, 0.0, np.inf]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_shape_follows_the_order(shape):
    found = weighted_quantile([1.0, 2.0], [1, 1], np.full(shape, 0.5))
    assert found.shape == shape


def test_result_keeps_the_dtype_of_the_data(x64):
    values = jnp.arange(3, dtype=jnp.float32)
    assert weighted_quantile(values, jnp.ones_like(values), 0.5).dtype == jnp.float32
    assert weighted_quantile([1, 2], [1, 1], 0.5).dtype == jnp.float64


def test_huge_weights_do_not_overflow():
    weights = np.full(8, 3e38, np.float32)
    assert weighted_quantile(np.arange(8.0), weights, 0.5) == 3.0


def test_huge_float64_weights_do_not_overflow(x64):
    weights = np.full(8, 1.7e308)
    assert weighted_quantile(np.arange(8.0), weights, 0.5) == 3.0


@pytest.mark.parametrize(
    ("values", "weights", "q", "message"),
    [
        ([1.0, 2.0], [1.0, -1.0], 0.5, "`weights` must be finite and nonnegative"),
        ([1.0, 2.0], [1.0, np.inf], 0.5, "`weights` must be finite and nonnegative"),
        ([1.0, 2.0], [1.0, np.nan], 0.5, "`weights` must be finite and nonnegative"),
        ([1.0, 2.0], [0.0, 0.0], 0.5, "`weights` must not all be zero"),
        ([1.0, np.nan], [1.0, 1.0], 0.5, "`values` must not hold NaN"),
        ([1.0, 2.0], [1.0], 0.5, "`values` and `weights` must have the same length"),
        ([[1.0], [2.0]], [1.0, 1.0], 0.5, "`values` must have shape"),
        ([], [], 0.5, "`values` must hold at least one row"),
        ([1.0], [1.0], 1.5, "`q` must lie in"),
        ([1.0], [1.0], [0.5, -0.1], "`q` must lie in"),
        ([1.0], [1.0], np.nan, "`q` must lie in"),
    ],
)
def test_invalid_input_is_named(values, weights, q, message):
    with pytest.raises(ValueError, match=message):
        weighted_quantile(values, weights, q)


@pytest.mark.parametrize(
    ("values", "weights", "q"),
    [
        ([1.0, 2.0], [1.0, -1.0], 0.5),
        ([1.0, 2.0], [1.0, np.inf], 0.5),
        ([1.0, 2.0], [1.0, np.nan], 0.5),
        ([1.0, 2.0], [0.0, 0.0], 0.5),
        ([1.0, np.nan], [1.0, 1.0], 0.5),
        ([1.0, 2.0], [1.0, 1.0], 1.5),
        ([1.0, 2.0], [1.0, 1.0], np.nan),
    ],
)
def test_invalid_input_gives_nan_under_jit(values, weights, q):
    arguments = (jnp.array(values), jnp.array(weights), jnp.float32(q))
    assert jnp.isnan(jax.jit(weighted_quantile)(*arguments))


def test_gradient_selects_one_row():
    gradient = jax.grad(weighted_quantile)(jnp.array([3.0, 1.0, 2.0]), jnp.ones(3), 0.5)
    assert gradient.tolist() == [0.0, 0.0, 1.0]


def test_ties_survive_a_long_sum():
    n = 100_000
    values = np.random.default_rng(4).permutation(n).astype(np.float32)
    orders = np.array([0.1, 0.3, 0.7, 0.9], np.float32)
    found = weighted_quantile(values, np.full(n, 0.1, np.float32), orders)
    assert found.tolist() == [9999.0, 29999.0, 69999.0, 89999.0]
