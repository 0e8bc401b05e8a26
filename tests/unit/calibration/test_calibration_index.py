"""The integrated calibration index against its definition."""

import jax
import numpy as np
import pytest
from scipy.optimize import isotonic_regression

from jaxcur import calibration
from tests.helpers import assert_close

N = 60
RNG = np.random.default_rng(3)
F = RNG.random(N)
Y = (RNG.random(N) < F**2).astype(float)
COUNTS = RNG.integers(0, 3, N).astype(float)


def kernel_curve(f, y, w, s):
    """Nadaraya-Watson regression with mirror images of the rows."""
    total = np.zeros((N, N))
    for shift in (-2, 0, 2):
        for image in (f + shift, shift - f):
            total += np.exp(-(((f[:, None] - image) / s) ** 2) / 2)
    return total @ (w * y) / (total @ w)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("smoother", ["kernel", "isotonic"])
def test_definition(smoother: str) -> None:
    options = {"bandwidth": 0.1} if smoother == "kernel" else {}
    found = calibration.integrated_calibration_index(
        F, Y, smoother=smoother, weights=COUNTS, **options
    )
    present = COUNTS > 0
    if smoother == "kernel":
        curve = kernel_curve(F, Y, COUNTS, 0.1)
        tolerance = 1e-5  # the grid of 4096 points
    else:
        order = np.argsort(F)
        order = order[present[order]]
        curve = np.full(N, np.nan)
        curve[order] = isotonic_regression(Y[order], weights=COUNTS[order]).x
        tolerance = 1e-12
    curve, counts, f = curve[present], COUNTS[present], F[present]
    assert_close(found.curve[present], curve, rtol=0, atol=tolerance)
    distance = np.repeat(np.abs(f - curve), counts.astype(int))
    assert_close(found.mean, distance.mean(), rtol=0, atol=tolerance)
    ends = np.quantile(distance, [0.5, 0.9], method="inverted_cdf")
    assert_close(np.array(found[1:3]), ends, rtol=0, atol=tolerance)


def test_the_bandwidth_is_that_of_the_smooth_error(dtype) -> None:
    f = F.astype(dtype)
    found = calibration.integrated_calibration_index(f, Y)
    width = calibration.smooth_ece(f, Y)
    again = calibration.integrated_calibration_index(f, Y, bandwidth=width)
    assert found.mean.dtype == dtype
    for one, other in zip(found, again, strict=True):
        assert_close(one, other, rtol=1e-4)
    diagram = calibration.reliability_diagram(f, Y, kind="smooth")
    between = np.interp(f, diagram.forecast, diagram.rate)
    inside = (f > diagram.forecast[0]) & (f < diagram.forecast[-1])
    # 256 points of the same curve, joined by straight lines.
    assert_close(found.curve[inside], between[inside], rtol=0, atol=1e-3)


@pytest.mark.parametrize("smoother", ["kernel", "isotonic"])
def test_edges(smoother: str) -> None:
    index = jax.jit(
        lambda f, y, w: calibration.integrated_calibration_index(
            f, y, smoother=smoother, weights=w
        )
    )
    ones = np.ones(N)
    exact = index(np.round(F), np.round(F), ones)
    assert_close(exact.p90, np.float32(0), rtol=0, atol=1e-6)
    sure = index(np.zeros(N), np.ones(N), ones)
    assert_close(sure.mean, np.float32(1), rtol=1e-5)
    assert_close(sure.median, np.float32(1), rtol=1e-5)
    bad = index(np.where(F == F[0], np.nan, F), Y, ones)
    assert np.isnan([bad.mean, bad.median, bad.p90]).all()


def test_options() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        calibration.integrated_calibration_index(F, Y, smoother="loess")
    with pytest.raises(ValueError, match="`bandwidth` needs"):
        calibration.integrated_calibration_index(
            F, Y, smoother="isotonic", bandwidth=0.1
        )
