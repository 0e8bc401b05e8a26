"""Student's t: agreement with SciPy, far tails, limits, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jaxcur import stats
from tests.helpers import assert_close

DEGREES = [0.3, 1.0, 2.5, 7.0, 29.0, 41.0, 1e3, 9.9e4, 1e5, 1e7, np.inf]
ORDERS = [1e-30, 1e-9, 0.01, 0.025, 0.2, 0.4, 0.5, 0.6, 0.9, 0.975, 0.999]
POINTS = [0.0, 1e-4, 0.1, 0.5, 1.0, 2.0, 3.0, 6.0, 10.0, -1e-3, -1.0, -5.0]
DEGREES_ROWS = np.array(DEGREES)[:, None]


def test_quantile_agrees_with_scipy_in_float64(x64):
    found = stats.student_t_quantile(np.array(ORDERS), DEGREES_ROWS)
    # SciPy's median is off by its own root search, hence the absolute tolerance.
    expected = scipy.stats.t.ppf(ORDERS, DEGREES_ROWS)
    assert_close(found, expected, rtol=1e-10, atol=1e-14)


def test_tail_agrees_with_scipy_in_float64(x64):
    found = stats.student_t_tail(np.array(POINTS), DEGREES_ROWS)
    assert_close(found, scipy.stats.t.sf(POINTS, DEGREES_ROWS), rtol=1e-10)


def test_cauchy_closed_form(x64):
    points = np.array([1e-9, 1e-4, 0.5, 3.0, 1e8])
    found = stats.student_t_tail(points, 1.0)
    assert_close(found, np.arctan2(1, points) / np.pi, rtol=1e-12)


def test_float32_is_right_to_its_rounding():
    orders = np.array(ORDERS[:4], np.float32)
    found = stats.student_t_quantile(orders, np.array([[7], [41]]))
    assert found.dtype == jnp.float32
    expected = scipy.stats.t.ppf(orders.astype(float), [[7], [41]])
    assert_close(found, expected, rtol=2e-7)
    points = np.array(POINTS, np.float32)
    tails = stats.student_t_tail(points, 7)
    assert_close(tails, scipy.stats.t.sf(points.astype(float), 7), rtol=2e-7)


@pytest.mark.parametrize("level", [0.975, np.float32(0.975), 0.9995])
def test_a_scalar_order_is_read_as_a_decimal(level):
    # float32 rounds 0.9995 by 2e-8, which would move the quantile by 1e-5.
    expected = scipy.stats.t.ppf(float(str(level)), 5)
    assert_close(stats.student_t_quantile(level, 5), np.float32(expected), rtol=2e-7)


@pytest.mark.parametrize(("q", "nu"), [(1e-200, 2.5), (1e-10, 0.05), (1e-200, 3.0)])
def test_far_quantiles_follow_the_asymptote(x64, q, nu):
    # P(T > t) ~ C t^-nu; SciPy 1.17 misses these by factors from 2 to 1e40.
    log_c = scipy.special.gammaln((nu + 1) / 2) - scipy.special.gammaln(nu / 2)
    log_c += (nu / 2 - 1) * np.log(nu) - np.log(np.pi) / 2
    expected = -np.exp((log_c - np.log(q)) / nu)
    # A logarithm near 500 holds 1e-13, and nu divides it.
    assert_close(stats.student_t_quantile(q, nu), expected, rtol=2e-13 / nu)


def test_the_switch_to_the_expansion_is_smooth(x64):
    below, above = np.float64(1e5) * (1 - 1e-15), 1e5
    points = np.array([0.1, 1.0, 4.0, 9.0])
    one = stats.student_t_tail(points, below)
    assert_close(one, stats.student_t_tail(points, above), rtol=1e-11)


def test_limits(dtype):
    edges = jnp.asarray([0.0, 0.5, 1.0], dtype)
    found = stats.student_t_quantile(edges, jnp.asarray(4, dtype))
    assert found.tolist() == [-np.inf, 0.0, np.inf] and found.dtype == dtype
    ends = jnp.asarray([-jnp.inf, 0.0, jnp.inf], dtype)
    for nu in (4.0, np.inf):
        assert stats.student_t_tail(ends, nu).tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(stats.student_t_tail(np.nan, 4.0))


def test_errors():
    with pytest.raises(ValueError, match="`q` must lie in"):
        stats.student_t_quantile([0.5, 1.5], 3)
    with pytest.raises(ValueError, match="`degrees_of_freedom` must be positive"):
        stats.student_t_quantile(0.5, 0)
    with pytest.raises(ValueError, match="`degrees_of_freedom` must be positive"):
        stats.student_t_tail(0.5, [1, np.nan])
    with pytest.raises(ValueError, match="must broadcast"):
        stats.student_t_tail([0.5, 0.1], [1, 2, 3])


def test_transformations():
    q, nu = jnp.array([0.1, 0.6, 0.99, 2.0]), jnp.array([3.0, jnp.inf, 50.0, 3.0])
    expected = scipy.stats.t.ppf(np.asarray(q, float), np.asarray(nu, float))
    # float32 inputs: 0.99 itself is rounded by 2e-8 and its tail by 2e-6.
    assert_close(jax.jit(stats.student_t_quantile)(q, nu), expected, rtol=1e-6)
    assert_close(jax.vmap(stats.student_t_quantile)(q, nu), expected, rtol=1e-6)
    bad = jax.jit(stats.student_t_tail)(q, jnp.array([-1.0, jnp.nan, 0.0, 2.0]))
    assert np.isnan(bad).tolist() == [True, True, True, False]
