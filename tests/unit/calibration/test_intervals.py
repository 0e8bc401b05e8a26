"""Intervals by resampling and by derivatives, and arrays of diagrams."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from jaxcur.calibration import _resample
from tests.helpers import assert_close

N = 80
RNG = np.random.default_rng(0)
F = RNG.random(N)
Y = (RNG.random(N) < F**2).astype(int)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "metric",
    [
        calibration.brier_score,
        functools.partial(calibration.expected_calibration_error, num_bins=5),
        functools.partial(
            calibration.expected_calibration_error, num_bins=5, binning="mass"
        ),
        lambda p, y, w: calibration.ks_error(p, y, weights=w),
    ],
    ids=["brier", "bins", "mass", "positional"],
)
def test_given_draws_are_replayed(metric) -> None:
    draws = np.random.default_rng(1).multinomial(N, np.full(N, 1 / N), 15)
    values = [float(_resample.as_metric(metric)(F, Y, w)) for w in draws.astype(float)]
    result = calibration.confidence_interval(
        metric, F, Y, resample_weights=draws, confidence_level=0.8
    )
    low, high = np.quantile(values, [0.1, 0.9])
    assert_close(result.lower, low, rtol=1e-9)
    assert_close(result.upper, high, rtol=1e-9)
    assert_close(result.std_error, np.std(values, ddof=1), rtol=1e-9)
    basic = calibration.confidence_interval(
        metric, F, Y, resample_weights=draws, confidence_level=0.8, method="basic"
    )
    assert_close(basic.lower, 2 * float(result.estimate) - high, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_analytic_interval_of_a_mean_is_the_textbook_one() -> None:
    result = calibration.confidence_interval(
        calibration.brier_score, F, Y, method="analytic"
    )
    assert_close(result.std_error, np.std((F - Y) ** 2) / np.sqrt(N), rtol=1e-10)
    assert_close(result.upper - result.estimate, 1.959964 * result.std_error, rtol=1e-6)


def test_resampled_bins_have_the_moments_of_resampled_rows() -> None:
    n, m, reps = 4000, 6, 4000
    rng = np.random.default_rng(2)
    f = rng.beta(0.4, 1.2, n).astype(np.float32)
    y = (rng.random(n) < 0.3).astype(np.float32)
    sums = _resample.resampled_sums(
        jnp.asarray(f),
        jnp.asarray(y),
        jax.random.key(0),
        num_bins=m,
        closed="left",
        num_resamples=reps,
    )
    index = np.minimum((f * m).astype(int), m - 1)
    own = np.eye(m)[index]
    for drawn, column in (
        (sums.weight, own),
        (sums.outcome, own * y[:, None]),
        (sums.forecast, own * f[:, None]),
        (sums.residual, own * (f - y)[:, None]),
    ):
        drawn = np.asarray(drawn, float)
        sd = np.sqrt(n) * column.std(0)
        assert np.all(np.abs(drawn.mean(0) - column.sum(0)) < 5 * sd / np.sqrt(reps))
        # A sample variance of 4000 normals is within 12 % at five deviations.
        assert_close(drawn.std(0), sd, rtol=0.06)
    joint = np.corrcoef(np.asarray(sums.residual)[:, 0], np.asarray(sums.weight)[:, 0])
    rows = np.corrcoef((own * (f - y)[:, None])[:, 0], own[:, 0])
    assert abs(joint[0, 1] - rows[0, 1]) < 5 / np.sqrt(reps)


def test_bins_and_rows_give_the_same_interval() -> None:
    n = 2000
    rng = np.random.default_rng(3)
    f = rng.random(n).astype(np.float32)
    y = (rng.random(n) < f**2).astype(int)
    metric = calibration.expected_calibration_error
    key = jax.random.key(1)
    rows = calibration.confidence_interval(metric, f, y, key=key, num_resamples=2000)
    many = calibration.confidence_interval(metric, f, y, key=key, num_resamples=10_000)
    # Two standard errors of the ends of 2000 resamples are about 6 % of the width.
    width = float(rows.upper - rows.lower)
    assert abs(float(rows.lower - many.lower)) < 0.08 * width
    assert abs(float(rows.upper - many.upper)) < 0.08 * width


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({}, ValueError, "is randomised"),
        ({"method": "jackknife"}, ValueError, "must be one of"),
        ({"key": jax.random.key(0), "num_resamples": 0}, ValueError, "positive"),
        (
            {"key": jax.random.key(0), "confidence_level": 1.0},
            ValueError,
            "must lie in",
        ),
        ({"method": "analytic", "key": jax.random.key(0)}, ValueError, "draws nothing"),
        ({"resample_weights": np.ones((2, 3))}, ValueError, "must have shape"),
    ],
)
def test_errors_of_intervals(call, error, message: str) -> None:
    with pytest.raises(error, match=message):
        calibration.confidence_interval(calibration.brier_score, F, Y, **call)
    with pytest.raises(TypeError, match="must be a function"):
        calibration.confidence_interval("ece", F, Y)


@pytest.mark.usefixtures("x64")
def test_diagrams_of_three_kinds() -> None:
    key = jax.random.key(0)
    binned = calibration.reliability_diagram(F, Y, num_bins=5, key=key)
    error = np.sum(binned.weight * np.abs(binned.forecast - binned.rate)) / N
    assert_close(
        error, calibration.expected_calibration_error(F, Y, num_bins=5), rtol=1e-12
    )
    assert np.all((binned.lower <= binned.forecast) & (binned.forecast <= binned.upper))
    corp = calibration.reliability_diagram(F, Y, kind="corp", key=key, num_resamples=99)
    assert np.all(np.diff(np.asarray(corp.rate)) >= 0)
    assert np.all(np.asarray(corp.lower) <= np.asarray(corp.upper))
    score = np.mean((np.asarray(corp.rate) - Y[np.argsort(F)]) ** 2)
    terms = calibration.corp_decomposition(F, Y)
    assert_close(terms.score - terms.miscalibration, score, rtol=1e-10)
    smooth = calibration.reliability_diagram(F, Y, kind="smooth", bandwidth=0.1)
    t = np.asarray(smooth.forecast)
    kernel = sum(
        np.exp(-(((t[:, None] - image) / 0.1) ** 2) / 2)
        for shift in (-2, 0, 2)
        for image in (F + shift, shift - F)
    )
    assert_close(smooth.rate, kernel @ Y / kernel.sum(1), rtol=0, atol=1e-5)
    assert_close(np.mean(smooth.weight), 1.0, rtol=1e-3)
    assert np.isnan(np.asarray(smooth.lower)).all()
    # The band says what it is; where there is none, there is no level.
    assert_close(binned.confidence_level, 0.95, rtol=1e-12)
    assert np.isnan(smooth.confidence_level)


def test_empty_bins_are_marked() -> None:
    diagram = calibration.reliability_diagram(
        jnp.array([0.1, 0.9]), jnp.array([0, 1]), num_bins=3, band="confidence"
    )
    assert np.isnan(np.asarray(diagram.rate)).tolist() == [False, True, False]
    assert np.isnan(np.asarray(diagram.lower)).tolist() == [False, True, False]
    assert_close(diagram.weight, jnp.array([1.0, 0.0, 1.0]), rtol=0)
    assert_close(diagram.confidence_level, np.float32(0.95), rtol=1e-7)


def test_a_metric_without_weights_is_refused_in_words() -> None:
    f, y, key = np.full(4, 0.5), np.array([0, 1, 0, 1]), jax.random.key(0)
    with pytest.raises(TypeError, match="`metric` must be a function of"):
        calibration.confidence_interval(
            lambda p, c: ((p - c) ** 2).mean(), f, y, key=key
        )
    with pytest.raises(TypeError, match="`metric` must be a function of"):
        calibration.confidence_interval(lambda p, *, weights, q: p, f, y, key=key)
    with pytest.raises(TypeError, match="`labels` must hold real numbers"):
        words = np.array(["no", "yes"])[y]
        calibration.confidence_interval(calibration.brier_score, f, words, key=key)
