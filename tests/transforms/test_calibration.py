"""jit, vmap and grad of the metrics of calibration, in both dtypes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

RNG = np.random.default_rng(0)
F = RNG.uniform(0.02, 0.98, (3, 40))
Y = (RNG.random((3, 40)) < F).astype(int)

METRICS = {
    "ece": calibration.expected_calibration_error,
    "mass": functools.partial(calibration.expected_calibration_error, binning="mass"),
    "squared": calibration.debiased_squared_error,
    "ks": calibration.ks_error,
    "kuiper": calibration.kuiper_error,
    "smooth": calibration.smooth_ece,
    "kernel": functools.partial(calibration.kernel_calibration_error, bandwidth=0.2),
    "t_cal": functools.partial(calibration.t_cal_statistic, num_bins=8),
    "brier": calibration.brier_score,
    "log": calibration.log_loss,
    "corp": lambda f, y: calibration.corp_decomposition(f, y).miscalibration,
}


@pytest.mark.parametrize("name", METRICS)
def test_jit_and_vmap_agree_with_the_plain_call(name: str, dtype) -> None:
    metric = METRICS[name]
    f, y = jnp.asarray(F, dtype), jnp.asarray(Y)
    tolerance = 2e-5 if dtype == jnp.float32 else 1e-11
    plain = jnp.stack([metric(a, b) for a, b in zip(f, y, strict=True)])
    mapped = jax.jit(jax.vmap(metric))(f, y)
    assert mapped.dtype == dtype
    assert_close(mapped, plain, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", [name for name in METRICS if name != "mass"])
def test_gradients_equal_differences(name: str) -> None:
    metric = jax.jit(METRICS[name])
    f, y = jnp.asarray(F[0]), jnp.asarray(Y[0])
    direction = jnp.asarray(RNG.normal(size=40))
    slope = jax.jvp(lambda x: metric(x, y), (f,), (direction,))[1]
    step = 1e-7
    up, down = metric(f + step * direction, y), metric(f - step * direction, y)
    # smooth_ece splits forecasts linearly on a grid, with kinks at its points.
    rtol = 2e-3 if name == "smooth" else 1e-5
    assert_close(slope, (up - down) / (2 * step), rtol=rtol, atol=1e-7)
    back = jax.grad(metric)(f, y)
    assert_close(jnp.vdot(back, direction), slope, rtol=1e-8, atol=1e-12)


def test_strict_promotion(strict_promotion) -> None:
    f, y = jnp.asarray(F[0], jnp.float32), jnp.asarray(Y[0])
    for metric in METRICS.values():
        assert np.isfinite(metric(f, y))
    key = jax.random.key(0)
    for test in (
        calibration.spiegelhalter_test,
        calibration.ks_test,
        calibration.kuiper_test,
        calibration.kernel_test,
        calibration.t_cal_test,
        calibration.hosmer_lemeshow_test,
    ):
        assert 0 < test(f, y, key=key, num_resamples=19).p_value <= 1
        assert 0 <= test(f, y, method="asymptotic").p_value <= 1
    for kind in ("binned", "corp", "smooth"):
        calibration.reliability_diagram(f, y, kind=kind, key=key, num_resamples=19)
    for method in ("wild_bootstrap", "hoeffding"):
        draw = {"key": key, "num_resamples": 19} if method == "wild_bootstrap" else {}
        assert 0 < calibration.kernel_test(f, y, method=method, **draw).p_value <= 1
    assert np.isfinite(calibration.calibration_slope(f, y).slope)
    assert np.isfinite(calibration.integrated_calibration_index(f, y).mean)
    assert np.isfinite(calibration.area_under_risk_coverage(f, y))
    assert np.isfinite(calibration.accuracy_rejection_curve(f, y).accuracy).all()
    for repair in ("isotonic", "temperature"):
        split = calibration.refinement_decomposition(f, y, method=repair, key=key)
        assert np.isfinite(split.refinement)
    classes = calibration.fit_class_gaussians(f[:, None], y, num_classes=2)
    assert np.isfinite(classes.sample(y, key=key)).all()
    for method in ("bootstrap", "bca"):
        calibration.confidence_interval(
            calibration.expected_calibration_error,
            f,
            y,
            method=method,
            key=key,
            num_resamples=19,
        )
