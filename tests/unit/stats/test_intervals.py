"""Clopper-Pearson: reference values, exact coverage, edges, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcur.stats import clopper_pearson
from tests.helpers import assert_close

# Beta quantiles printed to seven decimals in standard tables of exact intervals; the
# tolerance is half a unit of the last digit.
PUBLISHED = [
    (100, 1000, 0.99, 0.0770217, 0.1268799),
    (5, 20, 0.95, 0.0865715, 0.4910459),
    (1000, 10000, 0.999, 0.0903830, 0.1102252),
]


def scipy_ends(k, n, confidence_level):
    """The same interval from SciPy's beta quantiles."""
    k, n = np.asarray(k, float), np.asarray(n, float)
    delta = (1 - confidence_level) / 2
    lower = np.where(
        k == 0, 0, scipy.stats.beta.ppf(delta, np.maximum(k, 1), n - k + 1)
    )
    upper = np.where(
        k == n, 1, scipy.stats.beta.isf(delta, k + 1, np.maximum(n - k, 1))
    )
    return lower, upper


@pytest.mark.parametrize(("k", "n", "level", "lower", "upper"), PUBLISHED)
def test_published_values(dtype, k, n, level, lower, upper):
    found = clopper_pearson(k, n, level)
    assert found[0].dtype == dtype
    # 6e-8: half of the last printed digit plus one rounding of a float32 near 0.5.
    assert_close(found[0], lower, rtol=0, atol=1.1e-7)
    assert_close(found[1], upper, rtol=0, atol=1.1e-7)


def test_published_one_sided_value(dtype):
    assert_close(clopper_pearson(0, 300, 0.9)[1], 0.0099361, rtol=0, atol=6e-8)


@pytest.mark.parametrize("n", [1, 2, 3, 20, 1000])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
def test_agrees_with_scipy_in_float64(x64, n, level):
    k = np.unique(np.linspace(0, n, 11).astype(int))
    k = np.resize(k, 11)
    lower, upper = clopper_pearson(k, n, level)
    expected = scipy_ends(k, n, level)
    assert_close(lower, expected[0], rtol=1e-12)
    assert_close(upper, expected[1], rtol=1e-12)


def test_agrees_with_binomtest(x64):
    lower, upper = clopper_pearson(7, 31, 0.9)
    interval = scipy.stats.binomtest(7, 31).proportion_ci(0.9, method="exact")
    assert_close(lower, interval.low, rtol=1e-10)
    assert_close(upper, interval.high, rtol=1e-10)


def test_large_counts_keep_their_precision_in_float32():
    # float32 cannot hold these counts; the interval is still right to its last bits.
    n = 10**8 + 1
    k = np.array([1, 1001, 10**7 + 1, n - 1001], np.int32)
    lower, upper = clopper_pearson(k, n, 0.95)
    expected = scipy_ends(k, n, 0.95)
    assert_close(lower, expected[0].astype(np.float32), rtol=3e-7)
    assert_close(upper, expected[1].astype(np.float32), rtol=3e-7)


def test_large_counts_in_float64(x64):
    k = np.array([10, 1000, 10**5, 5 * 10**5, 10**6 - 10])
    lower, upper = clopper_pearson(k, 10**6, 0.99)
    expected = scipy_ends(k, 10**6, 0.99)
    # The log of the binomial coefficient, about 1e7, leaves 2e-9 of the tail's size,
    # which moves the ends by 3e-10 of themselves at k = 10 and less elsewhere.
    assert_close(lower, expected[0], rtol=1e-9)
    assert_close(upper, expected[1], rtol=1e-9)


@pytest.mark.parametrize("n", [1, 9, 20])
def test_exact_coverage_is_at_least_the_confidence_level(x64, n):
    # No simulation: the coverage at p is a binomial sum over the outcomes.
    level = 0.9
    k = np.arange(n + 1)
    lower, upper = (np.asarray(end) for end in clopper_pearson(k, n, level))
    p = np.linspace(0, 1, 1001)[:, None]
    mass = scipy.stats.binom.pmf(k, n, p)
    below = np.sum(mass * (p < lower), axis=1)
    above = np.sum(mass * (p > upper), axis=1)
    assert below.max() <= 0.05 + 1e-12
    assert above.max() <= 0.05 + 1e-12


def test_edges():
    lower, upper = clopper_pearson([0, 5, 0], [5, 5, 0], 0.95)
    assert lower[0] == 0 and upper[1] == 1
    assert (lower[2], upper[2]) == (0, 1)
    assert_close(upper[0], 1 - 0.025 ** (1 / 5), rtol=2e-7)
    assert_close(lower[1], 0.025 ** (1 / 5), rtol=2e-7)


def test_full_confidence_is_the_unit_interval_and_none_is_the_median():
    assert clopper_pearson(3, 9, 1.0) == (0, 1)
    lower, upper = clopper_pearson(3, 9, 0.0)
    assert_close(lower, scipy.stats.beta.median(3, 7), rtol=2e-7)
    assert_close(upper, scipy.stats.beta.median(4, 6), rtol=2e-7)


def test_arguments_broadcast_under_strict_promotion(strict_promotion):
    lower, upper = clopper_pearson(
        jnp.arange(4.0)[:, None], jnp.array([[9.0, 20.0]]), jnp.float32(0.9)
    )
    assert lower.shape == upper.shape == (4, 2)
    assert_close(lower[3, 1], clopper_pearson(3.0, 20.0, 0.9)[0], rtol=1e-6)


def test_float32_confidence_level_is_read_as_a_decimal():
    assert clopper_pearson(5, 20, np.float32(0.99)) == clopper_pearson(5, 20, 0.99)


def test_mirror_image():
    k = jnp.arange(21)
    lower, upper = clopper_pearson(k, 20, 0.95)
    # Subtraction from 1 costs half an ulp of 1.
    assert_close(1 - upper[::-1], lower, rtol=0, atol=1.2e-7)


@pytest.mark.parametrize(
    ("k", "n", "level", "message"),
    [
        (5, 4, 0.95, "`successes` must not exceed `trials`"),
        (-1, 4, 0.95, "`successes` must hold whole numbers"),
        (0, -4, 0.95, "`trials` must hold whole numbers"),
        (1.5, 4, 0.95, "`successes` must hold whole numbers"),
        (np.nan, 4, 0.95, "`successes` must hold whole numbers"),
        (1, np.inf, 0.95, "`trials` must hold whole numbers"),
        (1, 4, 1.5, "`confidence_level` must lie in"),
        (1, 4, np.nan, "`confidence_level` must lie in"),
        ([1, 2], [4, 5, 6], 0.95, "must broadcast"),
    ],
)
def test_invalid_input_is_named(k, n, level, message):
    with pytest.raises(ValueError, match=message):
        clopper_pearson(k, n, level)


@pytest.mark.parametrize(
    ("k", "n", "level"),
    [
        (5.0, 4.0, 0.95),
        (-1.0, 4.0, 0.95),
        (1.5, 4.0, 0.95),
        (np.nan, 4.0, 0.95),
        (1.0, np.inf, 0.95),
        (1.0, 4.0, 1.5),
        (1.0, 4.0, np.nan),
    ],
)
def test_invalid_input_gives_nan_under_jit(k, n, level):
    ends = jax.jit(clopper_pearson)(k, n, level)
    assert jnp.isnan(jnp.stack(ends)).all()


def test_jit_and_vmap_agree_with_eager():
    k, n = jnp.array([0, 3, 9]), jnp.array([9, 9, 9])
    eager = clopper_pearson(k, n, 0.9)
    assert_close(jax.jit(clopper_pearson)(k, n, 0.9), eager, rtol=2e-7)
    mapped = jax.vmap(lambda k, n: clopper_pearson(k, n, 0.9))(k, n)
    assert_close(mapped, eager, rtol=2e-7)
