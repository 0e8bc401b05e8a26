"""Prediction intervals by split conformal inference."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, check_rank, check_same_length, is_concrete
from jaxcur.conformal._quantile import (
    Groups,
    checked_calibration,
    checked_groups,
    checked_set_weights,
    thresholds,
)


def absolute_residual_scores(
    predictions: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    scales: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, " n"]:
    """Absolute residuals |y - prediction|, divided by `scales` where these are given.

    Heuristic: no finite-sample guarantee of its own; see `split_interval`.

    Args:
        predictions: shape (n,), from a model that did not see these rows.
        labels: shape (n,).
        scales: shape (n,), positive; a guess at the size of the residual of each row,
            in the units of the label.

    Returns:
        shape (n,), nonnegative; larger is stranger. NaN where an input is NaN.

    Raises:
        ValueError: wrong shapes, or scales that are not positive (traced: NaN).

    Transformations: jit, vmap, grad where the residual is not zero.
    Cost: O(n).

    Source: Lei et al., "Distribution-free predictive inference for regression", 2018.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.absolute_residual_scores([1.0, 2.0], [1.5, 0.0])
        Array([0.5, 2. ], dtype=float32)
    """
    predictions, labels = _columns(predictions=predictions, labels=labels)
    scores = jnp.abs(labels - predictions)
    if scales is None:
        return scores
    sizes = _checked_scales(scales, predictions)
    dtype = jnp.result_type(scores, sizes)
    return scores.astype(dtype) / sizes.astype(dtype)


def split_interval(
    calibration_scores: Real[ArrayLike, " n"],
    predictions: Real[ArrayLike, " m"],
    *,
    coverage: float | Float[ArrayLike, ""],
    scales: Real[ArrayLike, " m"] | None = None,
    groups: Groups | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Intervals prediction -+ q, q the conformal quantile of the residual scores.

    With `scales` the radius of a row is q times its scale.

    Guarantee: if the n calibration rows and a test row are exchangeable and the model
    did not see them, the interval holds the label with probability at least `coverage`,
    on average over calibration sets, and at most coverage + 1/(n + 1) without ties.
    With `groups` this holds inside each group; with weights under covariate shift with
    exact likelihood ratios. Verified by: `jaxcur verify sets`.

    Args:
        calibration_scores: shape (n,), from `absolute_residual_scores`. NaN counts as
            +inf, which can only widen.
        predictions: shape (m,). A NaN prediction gives a NaN interval.
        coverage: scalar in [0, 1]. 0 gives empty intervals, (inf, -inf); more than
            n/(n + 1) gives the whole line, (-inf, inf).
        scales: shape (m,), positive, when the scores were divided by theirs.
        groups: (calibration_groups (n,), test_groups (m,)), integers; a group without
            calibration rows gets the whole line.
        calibration_weights: shape (n,), finite, >= 0, not all zero, up to a constant
            the ratio of test to calibration density.
        test_weights: shape (m,), on the same scale.

    Returns:
        (lower, upper), each (m,), closed intervals in the units of the predictions.

    Raises:
        ValueError: wrong shapes, a coverage outside [0, 1], scales that are not
            positive, bad weights; under tracing these give NaN.
        TypeError: group labels that are not integers.

    Transformations: jit, vmap. Differentiable in `predictions` and `scales`.
    Cost: O((n + m) log n) time, O(n + m) memory.

    Source: Lei et al., "Distribution-free predictive inference for regression", 2018.

    Example:
        >>> from jaxcur import conformal
        >>> scores = [1.0, 3.0, 2.0]
        >>> lower, upper = conformal.split_interval(scores, [10.0], coverage=0.75)
        >>> print(lower, upper)
        [7.] [13.]
    """
    scores = checked_calibration(calibration_scores, coverage)
    (center,) = _columns(predictions=predictions)
    strata = checked_groups(groups, scores, center.shape[0])
    weights = checked_set_weights(
        calibration_weights, test_weights, scores, center.shape[0]
    )
    radius = thresholds(scores, coverage, strata, weights)
    if scales is not None:
        radius = _scaled(radius, _checked_scales(scales, center))
    return _around(center, center, radius)


def cqr_scores(
    lower_predictions: Real[ArrayLike, " n"],
    upper_predictions: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
) -> Float[Array, " n"]:
    """How far a label lies outside its predicted interval: max(lower - y, y - upper).

    Negative inside the interval. Heuristic: no finite-sample guarantee of its own; see
    `cqr_interval`.

    Args:
        lower_predictions: shape (n,), estimated low quantile.
        upper_predictions: shape (n,), estimated high quantile; may cross the lower one.
        labels: shape (n,).

    Returns:
        shape (n,); larger is stranger. NaN where an input is NaN.

    Raises:
        ValueError: wrong shapes.

    Transformations: jit, vmap, grad almost everywhere.
    Cost: O(n).

    Source: Romano, Patterson and Candes, "Conformalized quantile regression", 2019.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.cqr_scores([0.0, 0.0], [2.0, 2.0], [0.5, 3.0])
        Array([-0.5,  1. ], dtype=float32)
    """
    lower, upper, labels = _columns(
        lower_predictions=lower_predictions,
        upper_predictions=upper_predictions,
        labels=labels,
    )
    return jnp.maximum(lower - labels, labels - upper)


def cqr_interval(
    calibration_scores: Real[ArrayLike, " n"],
    lower_predictions: Real[ArrayLike, " m"],
    upper_predictions: Real[ArrayLike, " m"],
    *,
    coverage: float | Float[ArrayLike, ""],
    groups: Groups | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Predicted quantile intervals, widened or narrowed until they cover.

    The interval is [lower - q, upper + q] with q the conformal quantile of the scores;
    q is negative where the predicted intervals cover too much. An interval whose lower
    end exceeds its upper end is empty.

    Guarantee: if the n calibration rows and a test row are exchangeable and the
    quantiles were estimated elsewhere, the interval holds the label with probability at
    least `coverage`, and at most coverage + 1/(n + 1) without ties; the quality of the
    quantiles affects only the width. Groups and weights as in `split_interval`.
    Verified by: `jaxcur verify sets`.

    Args:
        calibration_scores: shape (n,), from `cqr_scores`. NaN counts as +inf.
        lower_predictions: shape (m,). NaN at either end gives a NaN interval.
        upper_predictions: shape (m,).
        coverage: scalar in [0, 1]. 0 gives empty intervals, more than n/(n + 1) the
            whole line.
        groups: (calibration_groups (n,), test_groups (m,)), integers.
        calibration_weights: shape (n,), finite, >= 0, not all zero.
        test_weights: shape (m,), on the same scale.

    Returns:
        (lower, upper), each (m,), closed intervals in the units of the predictions.

    Raises:
        ValueError: wrong shapes, a coverage outside [0, 1], bad weights; under tracing
            the values give NaN.
        TypeError: group labels that are not integers.

    Transformations: jit, vmap. Differentiable in the predictions.
    Cost: O((n + m) log n) time, O(n + m) memory.

    Source: Romano, Patterson and Candes, "Conformalized quantile regression", 2019.

    Example:
        >>> from jaxcur import conformal
        >>> scores = [-1.0, 0.5, 1.0]
        >>> lower, upper = conformal.cqr_interval(scores, [0.0], [4.0], coverage=0.5)
        >>> print(lower, upper)
        [-0.5] [4.5]
    """
    scores = checked_calibration(calibration_scores, coverage)
    lower, upper = _columns(
        lower_predictions=lower_predictions, upper_predictions=upper_predictions
    )
    strata = checked_groups(groups, scores, lower.shape[0])
    weights = checked_set_weights(
        calibration_weights, test_weights, scores, lower.shape[0]
    )
    margin = thresholds(scores, coverage, strata, weights)
    return _around(lower, upper, margin)


def _columns(**named: Any) -> tuple[Array, ...]:
    """The named vectors in their common dtype, all of one length."""
    arrays = as_float(**named)
    names = list(named)
    for name, array in zip(names, arrays):
        check_rank(name, array, 1)
        check_same_length(name, array, names[0], arrays[0])
    return arrays


def _checked_scales(scales: Any, rows: Array) -> Array:
    (array,) = as_float(scales=scales)
    if array.shape != rows.shape:
        raise ValueError(
            f"`scales` must have shape {rows.shape}, one for each row, "
            f"got {array.shape}"
        )
    host = np.asarray(array) if is_concrete(array) else np.zeros(0)
    bad = ~(host > 0) & ~np.isnan(host)
    if bad.any():
        raise ValueError(f"`scales` must be positive, got {float(host[bad][0])}")
    return jnp.where(array > 0, array, jnp.nan)


@jax.jit
def _scaled(radius: Array, scales: Array) -> Array:
    dtype = jnp.result_type(radius, scales)
    return radius.astype(dtype) * scales.astype(dtype)


@jax.jit
def _around(lower: Array, upper: Array, margin: Array) -> tuple[Array, Array]:
    dtype = jnp.result_type(lower, margin)
    lower, upper, margin = (end.astype(dtype) for end in (lower, upper, margin))
    missing = jnp.isnan(lower) | jnp.isnan(upper)
    # inf - inf is NaN: an infinite margin decides the interval whatever the prediction.
    low = jnp.where(jnp.isinf(margin), -margin, lower - margin)
    high = jnp.where(jnp.isinf(margin), margin, upper + margin)
    return jnp.where(missing, jnp.nan, low), jnp.where(missing, jnp.nan, high)
