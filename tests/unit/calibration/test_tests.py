"""Tests of calibration: p-values against definitions, draws, edges."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

TESTS = {
    "spiegelhalter": calibration.spiegelhalter_test,
    "ks": calibration.ks_test,
    "kuiper": calibration.kuiper_test,
    "kernel": calibration.kernel_test,
    "t_cal": calibration.t_cal_test,
    "hosmer_lemeshow": calibration.hosmer_lemeshow_test,
}
F = np.array([0.1, 0.3, 0.3, 0.6, 0.9, 0.95])
Y = np.array([0, 1, 0, 1, 1, 1])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["ks", "kuiper", "spiegelhalter"])
def test_monte_carlo_p_value_is_the_rank_among_the_draws(name: str) -> None:
    u = np.random.default_rng(0).random((19, 6))
    drawn = (u < F).astype(float)

    def statistic(y):
        r = y - F
        if name == "spiegelhalter":
            return abs(np.sum(r * (1 - 2 * F)))
        sums = np.concatenate([[0], np.cumsum(r)[[0, 2, 3, 4, 5]]])
        return np.ptp(sums) if name == "kuiper" else np.abs(sums).max()

    observed = statistic(Y)
    count = sum(statistic(y) >= observed - 1e-12 for y in drawn)
    result = TESTS[name](F, Y, uniforms=u, num_resamples=19)
    assert_close(result.p_value, (1 + count) / 20, rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", TESTS)
def test_exact_level_over_all_outcomes(name: str) -> None:
    # Every outcome of four rows with its probability, 19 draws each.
    f = np.array([0.2, 0.5, 0.5, 0.9])
    every = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    mass = np.prod(np.where(every == 1, f, 1 - f), axis=1)
    keys = jax.random.split(jax.random.key(1), 400)
    test = functools.partial(TESTS[name], f, num_resamples=19)

    @jax.jit
    def rejections(keys):
        def one(y):
            return jax.vmap(lambda key: test(y, key=key).p_value)(keys) <= 0.05 + 1e-9

        return jnp.mean(jax.vmap(one)(jnp.asarray(every)), axis=1)

    level = float(np.sum(mass * np.asarray(rejections(keys))))
    # Three standard deviations of 400 draws for the heaviest outcomes.
    assert level <= 0.05 + 3 * np.sqrt(0.05 / 400)


@pytest.mark.parametrize("name", TESTS)
def test_edges_of_the_forecasts(name: str, dtype) -> None:
    test = functools.partial(TESTS[name], key=jax.random.key(0), num_resamples=19)
    sure = jnp.array([0, 1, 1, 0], dtype)
    assert test(sure, jnp.array([0, 1, 1, 0])).p_value == 1
    if name != "spiegelhalter":
        # Two of them, because sums over pairs do not see a single one.
        wrong = test(sure, jnp.array([1, 1, 1, 1]))
        assert_close(wrong.p_value, jnp.asarray(1 / 20, dtype), rtol=1e-6)
    one = test(jnp.array([0.3], dtype), jnp.array([1]))
    assert 0 < one.p_value <= 1
    same = test(jnp.full(6, 0.5, dtype), jnp.ones(6, int))
    assert 0 < same.p_value <= 1
    traced = jax.jit(test)(jnp.array([0.2, jnp.nan], dtype), jnp.array([0, 1]))
    assert np.isnan(traced.p_value)


def test_statistics_where_nothing_is_random() -> None:
    f = jnp.array([0.0, 1.0])
    for test in (calibration.ks_test, calibration.kuiper_test):
        right = test(f, jnp.array([0, 1]), method="asymptotic")
        assert (right.statistic, right.p_value) == (0, 1)
        wrong = test(f, jnp.array([1, 1]), method="asymptotic")
        assert (wrong.statistic, wrong.p_value) == (jnp.inf, 0)
    half = calibration.spiegelhalter_test(
        jnp.array([0.0, 0.5, 1.0]), jnp.array([0, 1, 1]), method="asymptotic"
    )
    assert np.isnan(half.statistic)
    assert half.p_value == 1


@pytest.mark.usefixtures("x64")
def test_rows_are_tested_at_the_top_label_and_as_a_whole() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(3), 50)
    c = rng.integers(0, 3, 50)
    top = (p.max(1), (p.argmax(1) == c).astype(int))
    for name in ("spiegelhalter", "ks", "kuiper", "t_cal", "hosmer_lemeshow"):
        rows = TESTS[name](p, c, method="asymptotic")
        assert_close(
            rows.p_value, TESTS[name](*top, method="asymptotic").p_value, rtol=1e-12
        )
    whole = calibration.kernel_test(p, c, key=jax.random.key(0), num_resamples=99)
    error = calibration.kernel_calibration_error(p, c)
    assert_close(whole.statistic, error, rtol=1e-10)
    assert whole.p_value <= 0.05
    blocks = calibration.kernel_test(p, c, estimator="block", method="asymptotic")
    assert 0 < blocks.p_value < 1
    with pytest.raises(ValueError, match="no asymptotic form"):
        calibration.kernel_test(p, c, method="asymptotic")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "default for fewer than 500 rows"),
        ({"method": "monte_carlo"}, "is randomised"),
        ({"method": "exact"}, "must be one of"),
        ({"method": "asymptotic", "key": jax.random.key(0)}, "draws nothing"),
        ({"key": jax.random.key(0), "num_resamples": 0}, "positive integer"),
        ({"uniforms": np.zeros((3, 2))}, "must have shape"),
    ],
)
def test_options_of_draws(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calibration.ks_test(F, Y, **options)


def test_labels_of_a_test_are_0_or_1() -> None:
    with pytest.raises(ValueError, match="must be 0 or 1"):
        calibration.ks_test(F, Y * 0.5, method="asymptotic")


@pytest.mark.parametrize("method", ["asymptotic", "monte_carlo"])
def test_certain_forecasts_that_fail_are_refuted(method) -> None:
    key = jax.random.key(0) if method == "monte_carlo" else None
    f, y = jnp.array([0.0, 0.0, 1.0, 0.5]), jnp.array([0, 1, 1, 0])
    test = functools.partial(calibration.spiegelhalter_test, method=method, key=key)
    found = test(f, y)
    assert found.statistic == np.inf
    assert found.p_value == pytest.approx(0.001 if key is not None else 0, rel=1e-5)
    assert test(f, y, alternative="less").p_value == 1
    fulfilled = test(f, jnp.array([0, 0, 1, 0]))
    assert np.isnan(fulfilled.statistic)
    assert fulfilled.p_value == 1
