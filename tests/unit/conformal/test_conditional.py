"""Calibration-conditional p-values: formulas, simulation, errors."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal._conditional import (
    METHODS,
    conditional_bounds,
    conditional_p_values,
)
from tests.helpers import assert_close


def test_dkwm_adds_one_width():
    width = math.sqrt(math.log(2 / 0.1) / 100)
    adjusted = conditional_p_values([0.1, 0.95], 50, method="dkwm", delta=0.1)
    assert_close(adjusted, [0.1 + width, 1.0], rtol=1e-6)
    assert_close(conditional_p_values([0.1], 50, delta=0.1), [0.1 + width], rtol=1e-6)


def test_simes_by_hand():
    # n = 4, k = 2: a_i = sqrt(0.1 * i (i - 1) / 12) for i >= 2; a_1 = 0.
    a = [0.0] + [math.sqrt(0.1 * i * (i - 1) / 12) for i in (2, 3, 4)]
    bounds = conditional_bounds(4, method="simes", delta=0.1)
    assert_close(bounds, [1 - a[3], 1 - a[2], 1 - a[1], 1.0, 1.0], rtol=1e-6)


def test_simes_with_one_calibration_row():
    # k = 1: the only bound is 1 - delta; and P(p <= 1) is 1 whatever the rows.
    assert_close(
        conditional_bounds(1, method="simes", delta=0.25), [0.75, 1.0], rtol=1e-6
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_a_p_value_of_one_stays_one(n):
    bounds = conditional_bounds(n, method="simes", delta=0.2)
    assert float(bounds[-1]) == 1.0
    adjusted = conditional_p_values(np.ones(1), n, method="simes", delta=0.2)
    assert float(adjusted[0]) == 1.0


def test_asymptotic_by_hand(x64):
    n, delta, i = 100, 0.1, 5
    two = math.log(math.log(n))
    c = -math.log(-math.log(1 - delta)) + 2 * two + math.log(two) / 2
    c = (c - math.log(math.pi) / 2) / math.sqrt(2 * two)
    bound = i / n + c * math.sqrt(i * (n - i)) / (n * math.sqrt(n))
    bounds = conditional_bounds(n, method="asymptotic", delta=delta)
    assert_close(bounds[i - 1], bound, rtol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_dtypes_jit_and_vmap(method, dtype):
    extra = {"key": jax.random.key(0), "num_resamples": 99}
    p = jnp.asarray(np.arange(1, 10).reshape(3, 3) / 10, dtype)

    def adjust(p, delta):
        return conditional_p_values(p, 9, method=method, delta=delta, **extra)

    direct = adjust(p, 0.2)
    assert direct.shape == (3, 3) and direct.dtype == dtype
    traced = jax.jit(adjust)(p, jnp.asarray(0.2, dtype))
    assert_close(traced, direct, rtol=1e-5 if dtype == jnp.float32 else 1e-12)
    deltas = jnp.asarray([0.05, 0.2], dtype)
    both = jax.vmap(lambda delta: adjust(p[0], delta))(deltas)
    assert_close(both[1], direct[0], rtol=1e-5 if dtype == jnp.float32 else 1e-12)
    assert (np.asarray(both[0]) >= np.asarray(both[1]) * (1 - 1e-6)).all()
    empty = conditional_p_values(
        jnp.zeros(0, dtype), 9, method=method, delta=0.2, **extra
    )
    assert empty.shape == (0,)


def test_p_values_off_the_grid_and_at_the_ends():
    bounds = np.asarray(conditional_bounds(8, method="simes", delta=0.1))
    p = [0.0, 1e-9, 1 / 9 + 1e-3, 1.0]
    adjusted = conditional_p_values(p, 8, method="simes", delta=0.1)
    # floor((n + 1)(1 - p)) is 9 (only at p = 0; held at 8), 8, 7, 0 (held at 1).
    assert_close(adjusted, bounds[[0, 0, 1, 8]], rtol=0.0)


def test_float32_takes_the_floor_of_float64():
    # 18/51 is one of the grid values whose product with 51 rounds below the integer.
    p = np.arange(1, 52) / 51
    single = conditional_p_values(p, 50, method="simes", delta=0.05)
    assert single.dtype == jnp.float32
    with jax.enable_x64(True):
        double = conditional_p_values(p, 50, method="simes", delta=0.05)
    assert_close(single, np.asarray(double, np.float32), rtol=1e-6)


def test_nan_under_jit_is_nan():
    adjust = jax.jit(
        lambda p, delta: conditional_p_values(p, 9, method="simes", delta=delta)
    )
    assert np.isnan(adjust(jnp.array([jnp.nan, 0.5]), 0.1)).tolist() == [True, False]
    assert np.isnan(adjust(jnp.array([0.5]), jnp.float32(1.5))).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 9.0}, TypeError, "`n` must be a Python integer"),
        ({"n": True}, TypeError, "`n` must be a Python integer"),
        ({"n": 0}, ValueError, "`n` must be at least 1"),
        ({"n": 2, "method": "asymptotic"}, ValueError, "use 'dkwm' or 'simes'"),
        ({"delta": 0.0}, ValueError, "`delta` must lie in"),
        ({"delta": 1.0}, ValueError, "`delta` must lie in"),
        ({"p_values": [1.2]}, ValueError, "`p_values` must lie in"),
        ({"p_values": [np.nan]}, ValueError, "`p_values` must lie in"),
        ({"method": "bonferroni"}, ValueError, "'dkwm', 'simes'"),
        ({"method": "monte_carlo"}, ValueError, "one is required"),
        (
            {"method": "monte_carlo", "uniforms": np.full((99, 3), 0.5)},
            ValueError,
            r"shape \(num_resamples, 9\)",
        ),
        (
            {"method": "monte_carlo", "uniforms": np.full((5, 9), 0.5)},
            ValueError,
            "at least 10 simulated",
        ),
    ],
)
def test_errors_name_the_argument(change, error, message):
    named = {"p_values": [0.1], "n": 9, "delta": 0.1} | change
    with pytest.raises(error, match=message):
        conditional_p_values(named.pop("p_values"), named.pop("n"), **named)


def crossing_share(bounds, draws):
    """Share of sorted uniform rows with some U_(i) above the bound of rank i."""
    return (draws > np.asarray(bounds)[: draws.shape[1]]).any(axis=1).mean()


@pytest.mark.parametrize("n", [3, 20, 100])
def test_monte_carlo_spends_delta_on_its_own_draws(n):
    delta, rows = 0.1, 1999
    draws = np.random.default_rng(n).random((rows, n))
    with jax.enable_x64(True):
        bounds = conditional_bounds(
            n, method="monte_carlo", delta=delta, uniforms=draws
        )
        simes = conditional_bounds(n, method="simes", delta=delta)
    spent = crossing_share(bounds, np.sort(draws, axis=1))
    # The level is the 200th smallest critical level: 199 rows cross, unless the cap at
    # delta binds (Simes alone then crosses about delta of them).
    assert spent <= 199 / rows
    assert spent >= 0.07
    assert (np.asarray(bounds) <= np.asarray(simes) * 1.1).all()


def test_monte_carlo_from_a_key_holds_on_fresh_draws():
    n, delta = 50, 0.1
    bounds = conditional_bounds(
        n, method="monte_carlo", delta=delta, key=jax.random.key(1)
    )
    fresh = np.sort(np.random.default_rng(9).random((40_000, n)), axis=1)
    # Simulated level: standard deviation of the share is about
    # sqrt(0.09 / 10000 + 0.09 / 40000) = 0.0034.
    share = crossing_share(bounds, fresh)
    assert abs(share - delta) <= 6 * 0.0034
    simes = conditional_bounds(n, method="simes", delta=delta)
    # At the smallest p-value, the one that selections hang on, it is the sharper bound.
    assert float(bounds[0]) < 0.9 * float(simes[0])


@pytest.mark.guarantee
@pytest.mark.parametrize("method", ["dkwm", "simes"])
def test_validity_given_the_calibration_set(method):
    n, delta, rows = 20, 0.2, 20_000
    bounds = np.asarray(conditional_bounds(n, method=method, delta=delta))
    draws = np.sort(np.random.default_rng(4).random((rows, n)), axis=1)
    # With null scores uniform, P(p <= j / (n + 1) given calibration) is the j-th order
    # statistic of n uniforms: validity for all u is that none exceeds its bound.
    share = crossing_share(bounds, draws)
    error = math.sqrt(delta * (1 - delta) / rows)
    assert share <= delta + 6 * error
    # Plain p-values, and the Simes bound at twice delta, fail.
    assert crossing_share(np.arange(1, n + 2) / (n + 1), draws) > delta + 6 * error
    if method == "simes":
        loose = conditional_bounds(n, method="simes", delta=2 * delta)
        assert crossing_share(loose, draws) > delta + 6 * error
        assert share >= delta - 6 * error
