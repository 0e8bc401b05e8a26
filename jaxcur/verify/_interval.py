"""Exact intervals at any time: the means the evidence does not contradict."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real
from scipy.optimize import root_scalar

from jaxcur._base import check_unit_interval
from jaxcur.verify._closed_forms import BETS
from jaxcur.verify._numerics import log_mean_exp

NUM_STEPS = 60
"""Bisection steps: they exhaust a float64."""
_COARSE_CELLS = 1024
_BLOCK = 16384


def rate_interval(
    successes: Real[ArrayLike, "..."],
    trials: Real[ArrayLike, "..."],
    confidence_level: float = 0.95,
) -> tuple[Any, Any]:
    """Interval for a rate that stays valid however often one looks.

    The set of m that neither one-sided betting mixture contradicts at level delta / 2,
    by bisection on the counts: no grid, no correction.

    Guarantee: with probability at least `confidence_level` the interval covers the
    rate at all times at once. Verified by: tests/guarantees/test_harness.py.

    Args:
        successes: number of ones, any shape.
        trials: number of replications, broadcastable.
        confidence_level: in (0, 1).

    Returns:
        (lower, upper), float64 NumPy arrays of the broadcast shape.

    Raises:
        ValueError: more successes than trials, or a level outside (0, 1).

    Transformations: none; host computation.
    Cost: O(60 * 18) per entry.

    Example:
        >>> from jaxcur import verify
        >>> low, high = verify.rate_interval(100, 1000)
        >>> bool(low < 0.1 < high)
        True
    """
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    ones, total = np.broadcast_arrays(
        np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    )
    if not np.all((ones >= 0) & (ones <= total)):
        raise ValueError(
            f"`successes` must lie between 0 and `trials`, got {successes!r} "
            f"of {trials!r}"
        )
    delta = 1 - confidence_level
    zeros = total - ones
    return _lower_rate(ones, zeros, delta), 1 - _lower_rate(zeros, ones, delta)


def _lower_rate(ones: np.ndarray, zeros: np.ndarray, delta: float) -> np.ndarray:
    goal = math.log(2 / delta)
    low, high = np.zeros(ones.shape), np.ones(ones.shape)
    for _ in range(NUM_STEPS):
        middle = (low + high) / 2
        inside = _count_terms(middle, ones, zeros)
        contradicted = log_mean_exp(np, inside, axis=-1) >= goal
        low = np.where(contradicted, middle, low)
        high = np.where(contradicted, high, middle)
    # The lower end of the last bracket is contradicted or 0: report it, and err wide.
    return low


def _count_terms(edge: Any, ones: Any, zeros: Any) -> np.ndarray:
    """Log products per bet; bets on the last axis."""
    gain = np.log1p(BETS / np.asarray(edge)[..., None] - BETS)
    return np.asarray(ones)[..., None] * gain + np.asarray(zeros)[..., None] * np.log1p(
        -BETS
    )


def mean_interval(
    values: Real[ArrayLike, " n"] | Sequence[float],
    confidence_level: float = 0.95,
    *,
    lower: float = 0.0,
    upper: float = 1.0,
) -> tuple[float, float]:
    """Interval for the mean of a bounded metric, valid at all times at once.

    Guarantee: as for `rate_interval`, for any metric in [lower, upper].
    Verified by: tests/guarantees/test_harness.py.

    Args:
        values: shape (n,), finite, in [lower, upper]; the order does not matter.
        confidence_level: in (0, 1).
        lower: smallest value the metric can take.
        upper: largest value it can take.

    Returns:
        (low, high) on the metric's scale, computed in float64.

    Raises:
        ValueError: values out of range or not finite, a level outside (0, 1).

    Transformations: none; host computation.
    Cost: O(18 n) per step, about ten steps beyond a coarse search.

    Example:
        >>> from jaxcur import verify
        >>> low, high = verify.mean_interval([0.25] * 1000)
        >>> bool(0.23 < low < 0.25 < high < 0.27)
        True
    """
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
        raise ValueError(f"`lower` must be below `upper`, got {lower} and {upper}")
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"`values` must have shape (n,), got {array.shape}")
    if not np.all((array >= lower) & (array <= upper)):
        raise ValueError(f"`values` must lie in [{lower:g}, {upper:g}] and be finite")
    unit, counts = np.unique((array - lower) / (upper - lower), return_counts=True)
    low, high = invert(
        unit, unit, np.ones_like(unit), counts, 0, 0, 1 - confidence_level
    )
    return lower + (upper - lower) * low, lower + (upper - lower) * high


def invert(
    low_values: np.ndarray,
    high_values: np.ndarray,
    denominators: np.ndarray,
    counts: np.ndarray,
    ones: Any,
    zeros: Any,
    delta: float,
) -> tuple[float, float]:
    """Ends of the interval for a mean, or a ratio of means, on the unit scale.

    Args:
        low_values: shape (n,), numerators, or lower bounds on them.
        high_values: shape (n,), numerators, or upper bounds on them.
        denominators: shape (n,), 1 for a mean.
        counts: shape (n,), how often each pair occurred.
        ones: how often numerator and denominator were both 1 (beyond the pairs);
            two numbers when the two ends count failures differently.
        zeros: how often the numerator was 0 and the denominator 1, likewise.
        delta: error rate of the interval.
    """
    one_low, one_high = np.broadcast_to(ones, (2,))
    zero_low, zero_high = np.broadcast_to(zeros, (2,))
    lower = _lower_end(low_values, denominators, counts, one_low, zero_low, delta)
    rest = denominators - high_values
    upper = 1 - _lower_end(rest, denominators, counts, zero_high, one_high, delta)
    return lower, upper


def _lower_end(
    won: np.ndarray,
    denominators: np.ndarray,
    counts: np.ndarray,
    ones: float,
    zeros: float,
    delta: float,
) -> float:
    if won.size == 0:
        return float(_lower_rate(np.asarray(ones), np.asarray(zeros), delta))
    goal = math.log(2 / delta)

    def excess(edge: float) -> float:
        terms = _count_terms(edge, ones, zeros)
        for start in range(0, won.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            ratio = won[block] / edge - denominators[block]
            logs = np.log1p(BETS * ratio[:, None])
            terms = terms + counts[block] @ logs
        return float(log_mean_exp(np, terms, axis=-1)) - goal

    low, high = 0.0, 1.0
    if won.size > 4 * _COARSE_CELLS and np.all(denominators == 1):
        # Rounding all metrics down (up) can only lower (raise) the end: a bracket.
        cell = np.floor(won * _COARSE_CELLS)
        index, where = np.unique(cell, return_inverse=True)
        mass = np.bincount(where, weights=counts)
        unit = np.ones_like(index)
        below = np.maximum(index, 0) / _COARSE_CELLS
        above = np.minimum(index + 1, _COARSE_CELLS) / _COARSE_CELLS
        low = _lower_end(below, unit, mass, ones, zeros, delta)
        high = _lower_end(above, unit, mass, ones, zeros, delta)
        if not (0 < low < high and excess(low) > 0 > excess(high)):
            low, high = 0.0, 1.0
        else:
            root = root_scalar(excess, bracket=(low, high), xtol=1e-13, rtol=1e-13)
            return float(root.root)
    for _ in range(NUM_STEPS):
        middle = (low + high) / 2
        if excess(middle) >= 0:
            low = middle
        else:
            high = middle
    return low
