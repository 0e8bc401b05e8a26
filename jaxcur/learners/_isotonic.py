"""Recalibration of one feature: a monotone curve, or the mean of each bin."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.learners._protocol import prepare, prepare_new
from jaxcur.stats import (
    count_at_most,
    count_below,
    isotonic_regression,
    sort_with_order,
    weighted_quantile,
)


class IsotonicParams(NamedTuple):
    """A fitted monotone curve.

    Attributes:
        thresholds: shape (n,), ascending. The distinct values of the feature, followed
            by copies of the largest.
        values: shape (n,), monotone, the curve at the thresholds.
    """

    thresholds: Array
    values: Array


class BinnedParams(NamedTuple):
    """Means of the target in bins of one feature.

    Attributes:
        edges: shape (num_bins - 1,), ascending. A value equal to an edge belongs to the
            bin below it.
        values: shape (num_bins,), the mean target of each bin.
    """

    edges: Array
    values: Array


def _check_one_column(features: Array, name: str) -> None:
    if features.shape[1] != 1:
        raise ValueError(
            f"`features` must have one column for {name}, got shape {features.shape}; "
            "pass the prediction to recalibrate as features[:, [j]]"
        )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Isotonic:
    """The monotone curve of one feature nearest to the target.

    Minimises  sum_i w_i (y_i - f(x_i))^2  over monotone f. Rows of equal x are pooled.
    Between the distinct values of x the curve is interpolated linearly; outside their
    range it is constant. As scikit-learn's `IsotonicRegression(out_of_bounds="clip")`.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows.

    Args:
        increasing: False fits a curve that does not increase. Static.

    Raises:
        ValueError: the features have more than one column.

    Transformations: jit, vmap, and grad in the target and the weights.
    Cost: one sort and O(n) for the fit, O(log n) for a prediction.

    Source: Barlow, Bartholomew, Bremner and Brunk, "Statistical Inference under Order
    Restrictions", 1972; as recalibration, Zadrozny and Elkan, KDD 2002.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
        >>> learner = learners.Isotonic()
        >>> params = learner.fit(x, jnp.array([0.0, 2.0, 1.0, 3.0]))
        >>> learner.predict(params, jnp.array([[-5.0], [0.5], [2.0], [9.0]]))
        Array([0.  , 0.75, 1.5 , 3.  ], dtype=float32)
    """

    increasing: bool = dataclasses.field(default=True, metadata={"static": True})

    def fit(
        self,
        features: Real[ArrayLike, "n 1"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> IsotonicParams:
        """The curve at the distinct values of the feature; `key` is not used.

        Raises:
            ValueError: more than one column, shapes disagree, or values not finite.
        """
        features, target, weights = prepare(features, target, weights)
        _check_one_column(features, "Isotonic")
        return _fit_isotonic(
            features[:, 0], target, weights, increasing=bool(self.increasing)
        )

    def predict(
        self, params: IsotonicParams, features: Real[ArrayLike, "m 1"]
    ) -> Float[Array, " m"]:
        """The curve at the rows of `features`."""
        thresholds, values = params
        points = prepare_new(features, 1, thresholds.dtype)[:, 0]
        return _predict_isotonic(thresholds, values, points)


@jax.jit
def _predict_isotonic(thresholds, values, points):
    place = count_at_most(thresholds, points)
    low = jnp.maximum(place - 1, 0)
    high = jnp.minimum(place, thresholds.shape[0] - 1)
    gap = thresholds[high] - thresholds[low]
    share = (points - thresholds[low]) / jnp.where(gap > 0, gap, 1)
    # Below the first threshold both ends are the first, above the last the last.
    share = jnp.where(gap > 0, share, jnp.where(jnp.isnan(points), jnp.nan, 0))
    found = values[low] + share * (values[high] - values[low])
    # Rounding must not carry a point beyond the end of its segment.
    ends = values[low], values[high]
    return jnp.clip(found, min=jnp.minimum(*ends), max=jnp.maximum(*ends))


@jax.jit(static_argnames=("increasing",))
def _fit_isotonic(points, target, weights, *, increasing):
    n = points.shape[0]
    present = weights > 0
    # Absent rows go last, where they open no group of their own.
    ordered, order = sort_with_order(
        jax.lax.stop_gradient(jnp.where(present, points, jnp.inf))
    )
    target = jnp.where(present, target, 0)[order]
    weights = weights[order]
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    group = jnp.cumsum(is_new)
    mass = jax.ops.segment_sum(weights, group, n, indices_are_sorted=True)
    total = jax.ops.segment_sum(weights * target, group, n, indices_are_sorted=True)
    means = total / jnp.where(mass > 0, mass, 1)
    last = jnp.max(jnp.where(present, points, -jnp.inf))
    # Groups without weight follow all others and repeat the last of them.
    thresholds = jnp.full(n, jnp.inf, points.dtype).at[group].min(ordered)
    thresholds = jnp.where(mass > 0, thresholds, last)
    values = isotonic_regression(means, mass, increasing=increasing)
    # An invalid weight has been compared away above: it must not pass for an absence.
    legal = jnp.all(jnp.isfinite(weights) & (weights >= 0))
    legal &= jnp.all(jnp.isfinite(jnp.where(present, points, 0)))
    return IsotonicParams(thresholds, jnp.where(legal, values, jnp.nan))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Binned:
    """The mean of the target in quantile bins of one feature.

    The inner edges are the weighted quantiles of order 1/B, 2/B, ..., each a value of
    the feature; a row on an edge belongs to the bin below it. Edges that coincide leave
    fewer bins. Every row gets the weighted mean target of its bin.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows.

    Args:
        num_bins: B, a positive integer. Static.

    Raises:
        ValueError: `num_bins` is not a positive integer, or the features have more than
            one column.

    Transformations: jit, vmap, and grad in the target.
    Cost: one sort and O(n) for the fit, O(log B) for a prediction.

    Source: histogram binning; Zadrozny and Elkan, ICML 2001.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[1.0], [2.0], [3.0], [4.0]])
        >>> learner = learners.Binned(2)
        >>> params = learner.fit(x, jnp.array([0.0, 1.0, 1.0, 3.0]))
        >>> learner.predict(params, jnp.array([[0.0], [2.0], [2.5]]))
        Array([0.5, 0.5, 2. ], dtype=float32)
    """

    num_bins: int = dataclasses.field(metadata={"static": True})

    def __post_init__(self) -> None:
        if (
            isinstance(self.num_bins, bool)
            or not isinstance(self.num_bins, int)
            or self.num_bins < 1
        ):
            raise ValueError(
                f"`num_bins` must be a positive integer, got {self.num_bins!r}"
            )

    def fit(
        self,
        features: Real[ArrayLike, "n 1"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> BinnedParams:
        """Edges and means of the bins; `key` is not used.

        Raises:
            ValueError: more than one column, shapes disagree, or values not finite.
        """
        features, target, weights = prepare(features, target, weights)
        _check_one_column(features, "Binned")
        return _fit_binned(features[:, 0], target, weights, num_bins=self.num_bins)

    def predict(
        self, params: BinnedParams, features: Real[ArrayLike, "m 1"]
    ) -> Float[Array, " m"]:
        """The mean of the bin of each row of `features`."""
        edges, values = params
        points = prepare_new(features, 1, values.dtype)[:, 0]
        return _predict_binned(edges, values, points)


@jax.jit
def _predict_binned(edges, values, points):
    return jnp.where(jnp.isnan(points), jnp.nan, values[count_below(edges, points)])


@jax.jit(static_argnames=("num_bins",))
def _fit_binned(points, target, weights, *, num_bins):
    present = weights > 0
    orders = jnp.arange(1, num_bins, dtype=points.dtype) / num_bins
    edges = weighted_quantile(jax.lax.stop_gradient(points), weights, orders)
    place = count_below(edges, points)
    mass = jax.ops.segment_sum(weights, place, num_bins)
    total = jax.ops.segment_sum(
        weights * jnp.where(present, target, 0), place, num_bins
    )
    # Only the last bin can be empty and yet be reached, by a row beyond all others:
    # it continues the bin before.
    bins = jnp.arange(num_bins)
    filled = jax.lax.cummax(jnp.where(mass > 0, bins, 0))
    values = (total / jnp.where(mass > 0, mass, jnp.nan))[filled]
    legal = jnp.all(jnp.isfinite(weights) & (weights >= 0))
    legal &= jnp.all(jnp.isfinite(jnp.where(present, points + target, 0)))
    return BinnedParams(edges, jnp.where(legal, values, jnp.nan))
