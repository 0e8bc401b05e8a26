"""An interval for a bounded mean that needs no large sample."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import check_unit_interval
from jaxcur.verify import mean_interval


def bounded_mean_interval(
    y: Real[ArrayLike, " n"],
    *,
    y_predicted: Real[ArrayLike, " n"],
    labeled: Bool[ArrayLike, " n"],
    sampling_prob: Real[ArrayLike, "..."],
    confidence_level: float = 0.95,
    lower: float = 0.0,
    upper: float = 1.0,
) -> tuple[float, float]:
    """Interval for the mean of a bounded label, valid in every sample size.

    The pseudo-outcomes y_hat + (R / pi) (y - y_hat), on the unit scale, lie in
    [1 - 1 / pi_min, 1 / pi_min]; a betting interval for means of bounded variables is
    taken of them. It is wider than the asymptotic one, several times so when pi_min is
    small, because it insures against everything the bounds allow.

    Guarantee: if rows are labeled independently with the stated probabilities, and the
    predictions do not depend on the labels drawn, the interval covers the mean of these
    n rows with probability at least `confidence_level`; and the population's mean when
    the rows are an i.i.d. sample of it. Verified by:
    tests/unit/debiased/test_bounded.py, by simulation.

    Args:
        y: shape (n,), in [lower, upper] where labeled; anything, NaN too, elsewhere.
        y_predicted: shape (n,), clipped to [lower, upper].
        labeled: shape (n,), bool.
        sampling_prob: shape (n,) or scalar, in (0, 1]; known, not estimated from the
            labels drawn. Not valid for a fixed number of labels.
        confidence_level: in (0, 1).
        lower: smallest value a label can take.
        upper: largest value.

    Returns:
        (low, high) inside [lower, upper], computed in float64 by NumPy.

    Raises:
        ValueError: labels out of range or NaN where labeled, NaN predictions,
            probabilities outside (0, 1], shapes that do not fit, no rows.

    Transformations: none; host computation.
    Cost: O(18 n) per step, about 60 steps.

    Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
    betting", JRSS-B 2024.

    Example:
        >>> import numpy as np
        >>> from jaxcur import debiased
        >>> labels = np.tile([0.0, 1.0], 1000)
        >>> low, high = debiased.bounded_mean_interval(
        ...     labels, y_predicted=labels, labeled=labels >= 0, sampling_prob=1.0
        ... )
        >>> bool(0.4 < low < 0.5 < high < 0.6)
        True
    """
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    if not (np.isfinite([lower, upper]).all() and lower < upper):
        raise ValueError(f"`lower` must be below `upper`, got {lower} and {upper}")
    predicted = _vector("y_predicted", y_predicted)
    label = _vector("y", y)
    is_labeled = _vector("labeled", labeled).astype(bool)
    n = predicted.size
    prob = np.asarray(sampling_prob, np.float64)
    if prob.shape not in ((), (n,)):
        raise ValueError(
            f"`sampling_prob` must be a scalar or have shape {(n,)}, got {prob.shape}"
        )
    prob = np.broadcast_to(prob, (n,))
    for name, array in (("y", label), ("labeled", is_labeled)):
        if array.shape != (n,):
            raise ValueError(f"`{name}` must have shape {(n,)}, got {array.shape}")
    if n == 0:
        raise ValueError("`y_predicted` must hold at least one row, got shape (0,)")
    bad = ~((prob > 0) & (prob <= 1))
    if bad.any():
        raise ValueError(
            f"`sampling_prob` must lie in (0, 1], got {prob[bad][0]} and {bad.sum()} "
            f"such of {n}"
        )
    if np.isnan(predicted).any():
        raise ValueError(
            f"`y_predicted` must not hold NaN, got {np.isnan(predicted).sum()} of {n}"
        )
    seen = label[is_labeled]
    if not ((seen >= lower) & (seen <= upper)).all():
        raise ValueError(f"`y` must lie in [{lower:g}, {upper:g}] where labeled")
    width = upper - lower
    guess = (np.clip(predicted, lower, upper) - lower) / width
    truth = np.where(
        is_labeled, (np.where(is_labeled, label, lower) - lower) / width, 0
    )
    weight = np.where(is_labeled, 1 / prob, 0.0)
    outcome = (1 - weight) * guess + weight * truth
    largest = 1 / prob.min()
    # Rounding may push an outcome an ulp beyond the range it has on paper.
    outcome = np.clip(outcome, 1 - largest, largest)
    low, high = _interval(outcome, confidence_level, 1 - largest, largest)
    return lower + width * max(low, 0.0), lower + width * min(high, 1.0)


def _interval(
    outcome: np.ndarray, level: float, low: float, high: float
) -> tuple[float, float]:
    if low == high:
        return low, high
    return mean_interval(outcome, level, lower=low, upper=high)


def _vector(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, np.float64)
    if array.ndim != 1:
        raise ValueError(f"`{name}` must have shape (n,), got {array.shape}")
    return array
