import dataclasses
import math

import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify._claims import as_claims


@pytest.mark.parametrize(
    ("claim", "margin"),
    [
        (verify.at_most("x", 0.1), 0.01),
        (verify.at_most("x", 0.2), 0.02),
        (verify.at_most("x", 0.01), 0.0025),
        (verify.at_most("x", 0.0), 0.0025),
        (verify.at_least("x", 0.05), 0.005),
        # Coverage of at least 0.9 is a miss rate of at most 0.1.
        (verify.at_least("x", 0.9), 0.01),
        (verify.at_least("x", 1.0), 0.0025),
        (verify.equals("x", 0.1), 0.01),
        (verify.equals("x", 0.9), 0.01),
        (verify.at_least("x", 5.0, upper=100.0), 0.5),
        (verify.at_most("x", 0.0, lower=-1.0), 0.005),
        # A tenth of 0.99 would leave the range: half of what is left of it.
        (verify.at_most("x", 0.99), 0.005),
    ],
)
def test_default_margin(claim, margin):
    assert claim.margins == (margin,)


def test_margin_rule_of_another_tier():
    claim = verify.at_most("x", 0.2).with_margin(share=0.025)
    assert claim.margins == (0.005,)
    assert verify.at_most("x", 0.2).with_margin(0.05).margins == (0.05,)
    assert verify.super_uniform("p").with_margin(share=0.025).margins == (
        0.0025,
        0.0025,
        0.0025,
        0.005,
        0.0125,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: verify.at_most("x", 1.0), "nothing to check"),
        (lambda: verify.at_least("x", 0.0), "nothing to check"),
        (lambda: verify.at_least("x", 5.0), r"range \[0, 1\], got 5.*`upper=`"),
        (lambda: verify.at_most("x", -0.1), "`bound` must lie in the metric's range"),
        (lambda: verify.at_most("x", math.nan), "`bound` must be a finite number"),
        (lambda: verify.at_most("x", 0.1, margin=0.0), "`margin` must be positive"),
        (lambda: verify.at_most("x", 0.1, margin=-1.0), "`margin` must be positive"),
        (lambda: verify.at_most("x", 0.1, margin=math.nan), "must be positive"),
        (lambda: verify.at_most("x", 0.1, margin=0.9), "reaches the end"),
        (lambda: verify.at_least("x", 0.1, margin=0.2), "reaches the end"),
        (lambda: verify.equals("x", 0.5, margin=0.5), "reaches the end"),
        (lambda: verify.at_most("x", 0.1, kind="rough"), "`kind` must be one of"),
        (lambda: verify.at_most("x", 0.1, upper=0.0), "`lower` must be below `upper`"),
        (lambda: verify.at_most("x", 0.1, upper=math.inf), "needs a finite range"),
        (
            lambda: verify.at_most("x", 0.1, upper=math.inf, kind="asymptotic"),
            "`margin` must be given",
        ),
        (lambda: verify.super_uniform("p", ()), "`thresholds` must hold at least one"),
        (lambda: verify.super_uniform("p", (0.0,)), "`thresholds` must lie in"),
        (lambda: verify.all_at_most("x", ()), "`bounds` must hold at least one"),
        (lambda: verify.all_at_most("x", (0.1, 0.2), margin=(0.1,)), "one per bound"),
        (lambda: verify.rank_uniform("r", 1), "`num_ranks` must be at least 2"),
        (lambda: verify.rank_uniform("r", 5, num_cells=6), "`num_cells` must lie"),
        (lambda: verify.forecast_calibrated("p", "y", num_bins=0), "`num_bins`"),
        (lambda: verify.ratio_at_most("a", "b", 1.0), "nothing to check"),
    ],
)
def test_impossible_claims_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_equality_at_the_end_of_the_range_has_one_side():
    assert verify.equals("x", 0.0).sides == ("upper",)
    assert verify.equals("x", 1.0).sides == ("lower",)
    assert verify.equals("x", 0.5).sides == ("upper", "lower")


def test_claims_are_values():
    claim = verify.at_most("x", 0.1)
    assert claim == verify.at_most("x", 0.1)
    assert hash(claim) == hash(verify.at_most("x", 0.1))
    assert claim != verify.at_most("x", 0.1, margin=0.02)
    with pytest.raises(dataclasses.FrozenInstanceError):
        claim.name = "other"  # type: ignore[misc]


def test_names():
    assert verify.at_most("fdp", 0.1).name == "fdp <= 0.1"
    assert verify.at_least("coverage", 0.9).name == "coverage >= 0.9"
    assert verify.equals("miss", 0.1).name == "miss == 0.1"
    assert verify.at_most("fdp", 0.1, name="FDR").name == "FDR"
    assert verify.all_at_most("x", (0.5, 0.1)).name == "x <= (0.5, 0.1)"


def test_groups_of_claims_need_distinct_names():
    with pytest.raises(ValueError, match="two claims are called 'x <= 0.1'"):
        as_claims((verify.at_most("x", 0.1), verify.at_most("x", 0.1, margin=0.02)))
    with pytest.raises(ValueError, match="at least one claim"):
        as_claims(())
    with pytest.raises(TypeError, match="must hold claims made by"):
        as_claims(("x <= 0.1",))


def test_super_uniform_counts_exact_ties():
    # 3 / 30 is not 0.1 in float32 arithmetic everywhere; the grid point must count.
    claim = verify.super_uniform("p", (0.1, 0.3))
    for n in (9, 19, 29, 99, 999):
        grid = (np.arange(1, n + 2) / np.float32(n + 1)).astype(np.float32)
        seen = claim.observe(np, {"p": grid})
        assert seen.numerator[:, 0].sum() == (n + 1) // 10
        assert seen.numerator[:, 1].sum() == 3 * (n + 1) // 10


def test_super_uniform_averages_several_p_values():
    claim = verify.super_uniform("p", (0.2,))
    seen = claim.observe(np, {"p": np.array([[0.1, 0.3], [0.1, 0.2], [0.5, 0.6]])})
    assert seen.numerator[:, 0].tolist() == [0.5, 1.0, 0.0]


def test_rank_cells_have_exact_laws():
    claim = verify.rank_uniform("r", 7, num_cells=3)
    ranks = np.arange(7)
    seen = claim.observe(np, {"r": ranks})
    assert seen.numerator.sum(axis=0).tolist() == [3.0, 2.0, 2.0]
    assert claim.bounds == (3 / 7, 2 / 7, 2 / 7)
    assert claim.labels == ("ranks 0-2", "ranks 3-4", "ranks 5-6")
    assert seen.numerator.sum(axis=1).tolist() == [1.0] * 7
    wrong = claim.observe(np, {"r": np.array([-1.0, 7.0, 2.5, math.nan])})
    assert wrong.outside.tolist() == [True, True, True, False]
    assert wrong.failed.tolist() == [False, False, False, True]


def test_forecast_bins_cover_the_closed_interval():
    claim = verify.forecast_calibrated("p", "y", num_bins=4)
    p = np.array([0.0, 0.24, 0.25, 0.5, 0.99, 1.0])
    y = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    seen = claim.observe(np, {"p": p, "y": y})
    assert seen.denominator.sum(axis=1).tolist() == [1.0] * 6
    assert np.argmax(seen.denominator, axis=1).tolist() == [0, 0, 1, 2, 3, 3]
    expected = (1 + y - p) / 2
    assert np.allclose(seen.numerator.sum(axis=1), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_four_ulp_beyond_the_range_are_tolerated(dtype):
    claim = verify.at_most("x", 0.1)
    eps = np.finfo(dtype).eps
    x = np.array([1 + 4 * eps, 1 + 6 * eps, -4 * eps, -6 * eps], dtype)
    seen = claim.observe(np, {"x": x})
    assert seen.outside.tolist() == [False, True, False, True]
    # Nothing is clipped.
    assert seen.numerator[0, 0] > 1


def test_ratio_needs_numerator_below_denominator():
    claim = verify.ratio_at_most("a", "b", 0.1)
    seen = claim.observe(
        np, {"a": np.array([0.0, 1.0, 1.0]), "b": np.array([0.0, 1.0, 0.0])}
    )
    assert seen.outside.tolist() == [False, False, True]


def test_reported_failures_are_failures():
    claim = verify.at_most("x", 0.1)
    seen = claim.observe(
        np, {"x": np.array([0.0, math.inf, 0.0]), "failed": np.array([0, 0, 1])}
    )
    assert seen.failed.tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("claim", "metrics", "message"),
    [
        (verify.at_most("x", 0.1), {"y": np.zeros(3)}, r"needs the metric 'x'"),
        (verify.at_most("x", 0.1), {"x": np.zeros(())}, "must be a batch"),
        (verify.at_most("x", 0.1), {"x": np.zeros((3, 2))}, r"shape \(b,\)"),
        (verify.all_at_most("x", (0.1, 0.2)), {"x": np.zeros((3, 3))}, r"\(b, 2\)"),
        (
            verify.ratio_at_most("a", "b", 0.1),
            {"a": np.zeros(3), "b": np.zeros(4)},
            "same length",
        ),
        (
            verify.forecast_calibrated("p", "y"),
            {"p": np.zeros((3, 2)), "y": np.zeros(3)},
            "same shape",
        ),
    ],
)
def test_metrics_of_the_wrong_shape(claim, metrics, message):
    with pytest.raises(ValueError, match=message):
        claim.observe(np, metrics)
