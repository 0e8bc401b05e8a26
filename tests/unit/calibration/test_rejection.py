"""Rejection curves and their area against orders of the rows and repeated rows."""

import itertools

import jax
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N = 6
# Confidences .9, .7, .7, .7, .6, .6 with answers right and wrong inside the ties.
F = np.array([0.3, 0.6, 0.9, 0.7, 0.4, 0.3])
Y = np.array([1, 1, 1, 1, 1, 0])
ROWS = np.array([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8], [0.3, 0.2, 0.5]])
CLASSES = np.array([1, 1, 0, 2])


def over_orders(confidence, correct):
    """Mean accuracy of the first i rows over all orders by falling confidence."""
    n = len(confidence)
    found = [
        np.cumsum(correct[list(order)]) / np.arange(1, n + 1)
        for order in itertools.permutations(range(n))
        if (np.diff(confidence[list(order)]) <= 0).all()
    ]
    return np.mean(found, axis=0)


@pytest.mark.usefixtures("x64")
def test_curve_and_area_are_means_over_orders_of_ties() -> None:
    cases = [
        (F, Y, np.maximum(F, 1 - F), (F > 0.5) == Y),
        # Of the tie 0.4, 0.4 the lower class is predicted.
        (ROWS, CLASSES, ROWS.max(1), ROWS.argmax(1) == CLASSES),
    ]
    for probs, labels, confidence, correct in cases:
        wanted = over_orders(confidence, correct.astype(float))
        curve = calibration.accuracy_rejection_curve(probs, labels)
        assert_close(curve.accuracy, wanted, rtol=1e-12)
        n = len(wanted)
        assert_close(curve.kept, np.arange(1, n + 1) / n, rtol=1e-12)
        assert_close(curve.confidence, np.sort(confidence)[::-1], rtol=1e-12)
        area = calibration.area_under_risk_coverage(probs, labels)
        assert_close(area, np.mean(1 - wanted), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_a_weight_counts_rows() -> None:
    counts = np.array([2.0, 0.0, 3.0, 1.0, 4.0, 2.0])
    repeated = [np.repeat(part, counts.astype(int)) for part in (F, Y)]
    area = calibration.area_under_risk_coverage(F, Y, weights=counts)
    assert_close(area, calibration.area_under_risk_coverage(*repeated), rtol=1e-12)
    curve = calibration.accuracy_rejection_curve(F, Y, weights=counts)
    copies = calibration.accuracy_rejection_curve(*repeated)
    place = np.round(np.asarray(curve.kept) * counts.sum()).astype(int) - 1
    assert_close(curve.accuracy, np.asarray(copies.accuracy)[place], rtol=1e-12)
    assert_close(curve.kept[-1], 1.0, rtol=1e-12)


def test_order_of_the_input_and_extremes(dtype) -> None:
    f = F.astype(dtype)
    order = np.random.default_rng(0).permutation(N)
    for function in (
        calibration.accuracy_rejection_curve,
        calibration.area_under_risk_coverage,
    ):
        for one, other in zip(
            jax.tree.leaves(function(f, Y)),
            jax.tree.leaves(function(f[order], Y[order])),
            strict=True,
        ):
            assert one.dtype == dtype
            assert_close(one, other, rtol=1e-6)
    assert calibration.area_under_risk_coverage(f, f > 0.5) == 0
    assert_close(
        calibration.area_under_risk_coverage(f, f < 0.5), f[0] * 0 + 1, rtol=1e-6
    )
    # At 1/2 class 0 is predicted, as of two equal columns.
    half = calibration.accuracy_rejection_curve(np.full(1, 0.5, dtype), np.zeros(1))
    assert half.accuracy == 1


def test_many_rows_in_float32() -> None:
    # The mean of i / (i + 1) style sums loses nothing at a million rows.
    n = 200_000
    f = np.linspace(0.5001, 0.9999, n).astype(np.float32)
    y = (np.arange(n) % 3 > 0).astype(int)
    risk = np.cumsum(1 - y[::-1]) / np.arange(1, n + 1)
    found = calibration.area_under_risk_coverage(f, y)
    assert_close(found, np.float32(risk.mean()), rtol=2e-5)


def test_transformations_and_illegal_values() -> None:
    traced = jax.jit(calibration.area_under_risk_coverage)
    assert np.isnan(traced(np.array([0.2, np.nan]), np.array([0, 1])))
    curve = jax.jit(calibration.accuracy_rejection_curve)
    assert np.isnan(curve(np.array([0.2, np.nan]), np.array([0, 1])).accuracy).all()
    stacked = jax.vmap(calibration.area_under_risk_coverage)(
        np.stack([F, 1 - F]), np.stack([Y, Y])
    )
    other = calibration.area_under_risk_coverage(1 - F, Y)
    assert_close(stacked[1], other, rtol=1e-5)
    with pytest.raises(ValueError, match="`probs` must lie in"):
        calibration.accuracy_rejection_curve(F + 1, Y)
