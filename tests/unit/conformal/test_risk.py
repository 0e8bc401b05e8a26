"""Conformal risk control: chosen index, exact ties, statuses, errors."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal import conformal_quantile, risk_control
from jaxcur.conformal._risk import RISK_CONTROL_STATUS, _largest_sum
from tests.helpers import assert_close

LOSSES = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0]], float)


def test_smallest_attaining_setting(dtype):
    result = risk_control(LOSSES.astype(dtype), level=0.5, bound=1)
    assert_close(result.risk_bounds, np.array([1, 0.5, 0.25], dtype), rtol=0)
    assert result.index == 1 and result.status == 0
    assert result.risk_bound == 0.5 and result.level == 0.5
    assert result.risk_bounds.dtype == dtype and result.index.dtype == jnp.int32


def test_unattainable_level_says_so():
    result = risk_control(LOSSES, level=0.2, bound=1)
    assert result.index == -1 and jnp.isnan(result.risk_bound)
    assert "no setting attains" in RISK_CONTROL_STATUS[int(result.status)]


def test_no_calibration_rows():
    assert risk_control(np.zeros((0, 3)), level=0.5, bound=1).index == -1
    assert risk_control(np.zeros((0, 3)), level=1, bound=1).index == 0


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("n", [9, 19, 99, 999])
def test_ties_are_accepted_exactly(dtype, n, traced):
    # Setting j has j losses of one fewer: accepted from sum <= level (n + 1) - 1 on.
    losses = (np.arange(n)[:, None] + np.arange(n + 1) < n).astype(dtype)

    def index(level, losses=losses):
        return risk_control(losses, level=level, bound=1).index

    if traced:
        index = functools.partial(jax.jit(index), losses=jnp.asarray(losses))
    for text in ("0.1", "0.29", "0.3", "0.35", "0.53", "0.57", "0.7", "0.9"):
        allowed = Fraction(text) * (n + 1) - 1
        expected = n - int(allowed // 1) if allowed >= 0 else -1
        assert int(index(np.asarray(float(text), dtype))) == expected, text


def test_limit_is_never_rounded_up_to_a_whole_sum():
    # 0.93456788 * 1e7 - 1 = 9345677.8, and float32 has only whole numbers there.
    limit = _largest_sum(0.93456788, 1, 10**7 - 1, np.float32)
    assert limit == 9345677


def test_sums_of_decimals_tie_with_decimal_levels():
    # 0.1 + 0.2 + bound 1 against 0.325 * 4 = 1.3.
    losses = np.array([[0.1], [0.2], [0.0]])
    assert risk_control(losses, level=0.325, bound=1).index == 0
    assert risk_control(losses, level=0.3249, bound=1).index == -1


def test_miss_losses_reproduce_the_conformal_quantile():
    # The loss "score above the setting" makes risk control the conformal quantile.
    rng = np.random.default_rng(0)
    scores = rng.permutation(19).astype(float)
    settings = np.arange(19.0)
    losses = scores[:, None] > settings
    for coverage in (0.05, 0.3, 0.5, 0.75, 0.9, 0.95):
        found = risk_control(losses, level=round(1 - coverage, 10), bound=1)
        expected = conformal_quantile(scores, coverage=coverage)
        assert settings[int(found.index)] == expected


def test_bound_scales_with_the_losses():
    small = risk_control(LOSSES, level=0.3, bound=1)
    large = risk_control(LOSSES * 4, level=1.2, bound=4)
    assert small.index == large.index == 2


def test_envelope_takes_the_largest_later_loss():
    losses = np.array([[0.0, 1.0, 0.0, 0.0]] * 3)
    result = risk_control(losses, level=0.5, bound=1, monotone="envelope")
    assert result.index == 2
    assert result.risk_bounds.tolist() == [1.0, 1.0, 0.25, 0.25]


def test_rise_within_rounding_is_accepted():
    losses = np.array([[0.5, np.nextafter(np.float32(0.5), np.float32(1))]], np.float32)
    assert risk_control(losses, level=0.8, bound=1).status == 0


@pytest.mark.parametrize(
    ("losses", "options", "message"),
    [
        ([1.0, 0.0], {}, "`losses` must have shape"),
        (np.zeros((3, 0)), {}, "at least one column"),
        ([[1.0, np.nan]], {}, "`losses` must not hold NaN"),
        ([[2.0, 0.0]], {}, "`losses` must be at most `bound` = 1.0, got 2.0"),
        ([[0.0, 1.0]], {}, "`losses` must not rise"),
        ([[1.0, 0.0]], {"level": -0.1}, "`level` must be >= 0"),
        ([[1.0, 0.0]], {"level": np.nan}, "`level` must be >= 0"),
        ([[1.0, 0.0]], {"level": 1.5}, "`level` must lie in \\[0, bound\\]"),
        ([[1.0, 0.0]], {"bound": np.inf}, "`bound` must be finite"),
        ([[1.0, 0.0]], {"level": [0.1, 0.2]}, "`level` must be a scalar"),
        ([[1.0, 0.0]], {"monotone": "maybe"}, "`monotone` must be one of"),
    ],
)
def test_invalid_input_is_named(losses, options, message):
    with pytest.raises(ValueError, match=message):
        risk_control(losses, **({"level": 0.5, "bound": 1} | options))


@pytest.mark.parametrize(
    ("losses", "level", "code"),
    [
        ([[1.0, jnp.nan]], 0.9, 2),
        ([[2.0, 0.0]], 0.9, 2),
        ([[0.0, 0.5]], 0.9, 2),
        ([[1.0, 0.0]], -0.1, 3),
        ([[1.0, 0.0]], 1.5, 3),
        ([[1.0, 0.0]], jnp.nan, 3),
    ],
)
def test_invalid_input_has_a_status_under_jit(losses, level, code):
    result = jax.jit(lambda x, a: risk_control(x, level=a, bound=1))(
        jnp.array(losses), level
    )
    assert result.status == code and result.index == -1
    assert jnp.isnan(result.risk_bound)
