"""Accuracy when the least confident rows are rejected, and the area under the risk."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.calibration._inputs import check_binary, check_scored, check_weights
from jaxcur.calibration._sums import (
    block_cumsum,
    ends_of_ties,
    ratio,
    sort_by_forecast,
)

# Terms summed one by one before the expansion of the digamma function takes over.
_SHIFT = 16


class AccuracyRejectionResult(NamedTuple):
    """Accuracy of the rows that are kept, the most confident first.

    Attributes:
        kept: shape (n,), ascending to 1, the share of the weight that is kept.
        accuracy: shape (n,), of the rows kept; NaN where they have no weight.
        confidence: shape (n,), descending, of the last row kept.
    """

    kept: Array
    accuracy: Array
    confidence: Array


def _decided(probs: Any, labels: Any, weights: Any) -> tuple[Array, Array, Array]:
    """Confidence of the predicted class, share of correct answers, and weights."""
    if np.ndim(probs) == 2:
        f, y, w = check_scored(probs, labels, weights)
        return f, y, check_weights(None, f, "probs") if w is None else w
    f, y, w = check_binary(probs, labels, weights)
    # A NaN is on neither side and stays.
    above = f > 0.5
    return jnp.where(above, f, 1 - f), jnp.where(above, y, 1 - y), w


class _Runs(NamedTuple):
    """Rows by falling confidence; of each, the run of equal confidences it is in."""

    confidence: Array
    weight: Array
    weight_before: Array
    missed_before: Array
    run_weight: Array
    rate: Array
    ends: Array


def _runs(confidence: Array, correct: Array, w: Array) -> _Runs:
    falling, correct, w = sort_by_forecast(-confidence, correct, w)
    ends = ends_of_ties(falling)
    run = jnp.cumsum(ends, dtype=jnp.int32) - ends.astype(jnp.int32)
    missed = jnp.where(w == 0, 0, w * (1 - correct))

    def totals(values: Array) -> tuple[Array, Array]:
        """Of the run of each row, and of all runs before it."""
        own = jax.ops.segment_sum(values, run, run.shape[0], indices_are_sorted=True)
        sums = block_cumsum(own)
        before = jnp.concatenate([jnp.zeros_like(sums[:1]), sums[:-1]])
        return own[run], before[run]

    weight, weight_before = totals(w)
    wrong, missed_before = totals(missed)
    # What cannot be ordered must not look like an answer.
    rate = ratio(wrong, weight) + 0 * jnp.sum(jnp.where(w == 0, 0, w * falling))
    return _Runs(-falling, w, weight_before, missed_before, weight, rate, ends)


@jax.jit
def _curve(confidence: Array, correct: Array, w: Array) -> AccuracyRejectionResult:
    runs = _runs(confidence, correct, w)
    kept = block_cumsum(runs.weight)
    missed = runs.missed_before + (kept - runs.weight_before) * runs.rate
    accuracy = 1 - missed / jnp.where(kept > 0, kept, jnp.nan)
    return AccuracyRejectionResult(kept / kept[-1], accuracy, runs.confidence)


def accuracy_rejection_curve(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> AccuracyRejectionResult:
    """Accuracy of the rows that are kept when the least confident are rejected.

    The predicted class is the most probable one (the lowest of a tie: 0 at a binary
    forecast of 1/2), and its probability is the confidence. Point i keeps the i most
    confident rows. Among equally confident rows the order is random, and the accuracy
    is its expectation over that order: it does not depend on the order of the input.

    Heuristic: no finite-sample guarantee; the accuracy of these rows, not of new ones.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), rows that sum to 1.
        labels: shape (n,), outcomes 0 or 1 (or means of outcomes between them), or
            classes 0..k-1 for rows.
        weights: shape (n,), at least 0; ones when missing.

    Returns:
        `AccuracyRejectionResult` of arrays (n,); the last accuracy is that of all rows.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap, grad in `weights`.
    Cost: one sort.

    Source: Nadeem, Zucker and Hanczar, "Accuracy-rejection curves (ARCs) for comparing
    classification methods with a reject option", MLSB 2009.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([0.875, 0.25, 0.25, 0.5])
        >>> curve = calibration.accuracy_rejection_curve(probs, jnp.array([1, 0, 1, 0]))
        >>> [round(float(value), 3) for value in curve.accuracy]
        [1.0, 0.75, 0.667, 0.75]
    """
    return _curve(*_decided(probs, labels, weights))


def _reciprocal_sum(start: Array, count: Array) -> Array:
    """Sum of 1 / (start + j) over j = 1..count, continued to any count >= 0.

    digamma(start + count + 1) - digamma(start + 1), every term of which has a factor
    count: no digits are lost where the two are nearly equal.
    """
    a = start + 1
    total = jnp.zeros_like(start)
    for shift in range(_SHIFT):
        total = total + count / ((a + shift) * (a + shift + count))
    a = a + _SHIFT
    b = a + count
    total = total + jnp.log1p(count / a) + count / (2 * a * b)
    # Bernoulli numbers over 2 j, for the powers a^-2j - b^-2j.
    for power, factor in ((2, 1 / 12), (4, -1 / 120), (6, 1 / 252), (8, -1 / 240)):
        total = total + factor * (a**-power - b**-power)
    return total


@jax.jit
def _area(confidence: Array, correct: Array, w: Array) -> Array:
    runs = _runs(confidence, correct, w)
    # Risk after j rows of a run:  rate + (missed before - rate * before) / (before + j)
    excess = runs.missed_before - runs.rate * runs.weight_before
    sums = _reciprocal_sum(runs.weight_before, runs.run_weight)
    area = runs.rate * runs.run_weight + excess * sums
    return jnp.sum(jnp.where(runs.ends, area, 0)) / jnp.sum(w)


def area_under_risk_coverage(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Area under the risk-coverage curve (AURC): the mean risk over what is kept.

    (1/n) sum_i risk_i, where risk_i is the share of wrong answers among the i most
    confident rows: one minus the accuracy of `accuracy_rejection_curve`, with the same
    treatment of ties, in closed form.

    Heuristic: no finite-sample guarantee as an estimate of the population value.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), rows that sum to 1.
        labels: shape (n,), outcomes 0 or 1 (or means of outcomes between them), or
            classes 0..k-1 for rows.
        weights: shape (n,), at least 0; ones when missing. A row of weight 2 counts as
            two rows, so a common factor changes the result a little.

    Returns:
        scalar in [0, 1]; 0 is best. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap, grad in `weights`.
    Cost: one sort.

    Source: Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep
    neural classifiers", ICLR 2019. The closed form with ties is ours.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([0.875, 0.25, 0.25, 0.5])
        >>> area = calibration.area_under_risk_coverage(probs, jnp.array([1, 0, 1, 0]))
        >>> print(f"{area:.4f}")
        0.2083
    """
    return _area(*_decided(probs, labels, weights))
