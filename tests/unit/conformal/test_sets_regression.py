"""Split intervals and conformalised quantile regression on cases worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal import (
    absolute_residual_scores,
    cqr_interval,
    cqr_scores,
    split_interval,
)

SCORES = np.array([1.0, 3.0, 2.0])


def both(interval) -> list[list[float]]:
    return [end.tolist() for end in interval]


def test_absolute_residuals(dtype):
    found = absolute_residual_scores(
        np.array([1.0, 2.0], dtype), np.array([1.5, 0.0], dtype)
    )
    assert found.dtype == dtype and found.tolist() == [0.5, 2.0]
    scaled = absolute_residual_scores([1.0, 2.0], [1.5, 0.0], scales=[0.5, 4.0])
    assert scaled.tolist() == [1.0, 0.5]


def test_split_interval_adds_the_quantile_on_both_sides(dtype):
    interval = split_interval(
        SCORES.astype(dtype), np.array([0.0, 10.0], dtype), coverage=0.5
    )
    assert both(interval) == [[-2.0, 8.0], [2.0, 12.0]]
    assert interval[0].dtype == dtype


def test_scales_stretch_the_interval():
    interval = split_interval(SCORES, [0.0, 10.0], coverage=0.75, scales=[0.5, 2.0])
    assert both(interval) == [[-1.5, 4.0], [1.5, 16.0]]


@pytest.mark.parametrize("scores", [SCORES, np.zeros(0)])
def test_unreachable_coverage_gives_the_whole_line(scores):
    interval = split_interval(scores, [0.0, 1e30], coverage=0.76, scales=[1.0, 2.0])
    assert both(interval) == [[-np.inf] * 2, [np.inf] * 2]


def test_coverage_zero_gives_empty_intervals():
    assert both(split_interval(SCORES, [5.0], coverage=0)) == [[np.inf], [-np.inf]]
    assert both(cqr_interval(SCORES, [5.0], [6.0], coverage=0)) == [[np.inf], [-np.inf]]


@pytest.mark.parametrize("coverage", [0.0, 0.5, 1.0])
def test_missing_prediction_gives_a_missing_interval(coverage):
    interval = jnp.stack(split_interval(SCORES, [np.nan, 0.0], coverage=coverage))
    assert jnp.isnan(interval[:, 0]).all() and not jnp.isnan(interval[:, 1]).any()
    for lower, upper in (([np.nan], [1.0]), ([0.0], [np.nan])):
        interval = jnp.stack(cqr_interval(SCORES, lower, upper, coverage=coverage))
        assert jnp.isnan(interval).all()


def test_missing_calibration_score_only_widens():
    scores = np.array([1.0, 3.0, np.nan])
    assert both(split_interval(scores, [0.0], coverage=0.5)) == [[-3.0], [3.0]]
    assert both(split_interval(scores, [0.0], coverage=0.75)) == [[-np.inf], [np.inf]]


def test_groups():
    groups = ([4, 4, 9], [9, 4, 0])
    interval = split_interval(SCORES, [0.0, 0.0, 0.0], coverage=0.5, groups=groups)
    # Group 4: the second of (1, 3). Group 9: the only score, 2. Group 0: none.
    assert both(interval) == [[-2.0, -3.0, -np.inf], [2.0, 3.0, np.inf]]


def test_weights_shift_the_quantile():
    interval = split_interval(
        SCORES,
        [0.0, 0.0],
        coverage=0.5,
        calibration_weights=[1, 5, 2],
        test_weights=[1, 20],
    )
    assert both(interval) == [[-3.0, -np.inf], [3.0, np.inf]]


def test_no_test_rows():
    assert both(split_interval(SCORES, np.zeros(0), coverage=0.5)) == [[], []]


def test_cqr_scores(dtype):
    lower, upper = np.zeros(3, dtype), np.full(3, 2.0, dtype)
    found = cqr_scores(lower, upper, np.array([0.5, 3.0, -4.0], dtype))
    assert found.tolist() == [-0.5, 1.0, 4.0]


def test_cqr_narrows_intervals_that_cover_too_much():
    interval = cqr_interval([-1.0, -0.5, 1.0], [0.0], [4.0], coverage=0.5)
    assert both(interval) == [[0.5], [3.5]]


def test_cqr_interval_can_be_empty():
    (lower,), (upper,) = both(cqr_interval([-3.0], [0.0], [4.0], coverage=0.5))
    assert (lower, upper) == (3.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_interval(SCORES, [[0.0]], coverage=0.5), "`predictions` must"),
        (lambda: split_interval(SCORES, [0.0], coverage=2), "`coverage` must lie in"),
        (
            lambda: split_interval(SCORES, [0.0], coverage=0.5, scales=[0.0]),
            "`scales` must be positive",
        ),
        (
            lambda: split_interval(SCORES, [0.0], coverage=0.5, scales=1.0),
            "`scales` must have shape",
        ),
        (
            lambda: split_interval(
                SCORES, [0.0], coverage=0.5, groups=([0] * 3, [0, 0])
            ),
            "`groups\\[1\\]` must have one label for each of the 1",
        ),
        (
            lambda: split_interval(
                SCORES,
                [0.0],
                coverage=0.5,
                calibration_weights=[1, 1, 1],
                test_weights=[1, 1],
            ),
            "`test_weights` must have one entry for each of the 1",
        ),
        (
            lambda: cqr_interval(SCORES, [0.0], [0.0, 1.0], coverage=0.5),
            "`upper_predictions` and `lower_predictions`",
        ),
        (lambda: cqr_scores([0.0], [1.0], [1.0, 2.0]), "`labels` and"),
        (lambda: absolute_residual_scores([0.0], [1.0, 2.0]), "`labels` and"),
    ],
)
def test_invalid_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_text_is_refused():
    with pytest.raises(TypeError, match="`predictions` must hold real numbers"):
        split_interval(SCORES, ["a"], coverage=0.5)


def test_gradient_flows_to_the_predictions():
    def width(center, scales):
        lower, upper = split_interval(SCORES, center, coverage=0.5, scales=scales)
        return jnp.sum(upper - lower) + jnp.sum(upper)

    gradients = jax.grad(width, (0, 1))(jnp.zeros(2), jnp.ones(2))
    assert gradients[0].tolist() == [1.0, 1.0]
    assert gradients[1].tolist() == [6.0, 6.0]
