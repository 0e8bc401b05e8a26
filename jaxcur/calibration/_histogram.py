"""Histogram binning, with a band that needs no distribution."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, check_unit_interval, register_dataclass
from jaxcur.calibration._bins import (
    check_bins,
    edge_index,
    mass_edges,
    width_edges,
    width_index,
)
from jaxcur.calibration._calibrator import new_input, with_rows
from jaxcur.calibration._inputs import check_binary
from jaxcur.stats import clopper_pearson, sort

_EMPTY = ("midpoint", "zero", "mean")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class HistogramCalibrator:
    """A step function: one value for each bin of the forecast.

    Attributes:
        edges: shape (num_bins + 1,), ascending from 0 to 1.
        values: shape (num_bins,).
        counts: shape (num_bins,), the number of rows in each bin; with unequal weights
            the number of equal ones that would vary as much, (sum w)^2 / sum w^2.
        binning: how the edges were chosen. Static.
        closed: which side a forecast on an edge goes to. Static.
    """

    edges: Array
    values: Array
    counts: Array
    binning: str = dataclasses.field(default="mass", metadata={"static": True})
    closed: str = dataclasses.field(default="left", metadata={"static": True})

    def bins(self, probs: Real[ArrayLike, " m"]) -> Array:
        """The bin of each forecast, int32 (m,)."""
        f = new_input("probs", probs, self.values)
        if self.binning == "width":
            return width_index(f, self.values.shape[0], self.closed)
        return edge_index(f, self.edges, self.closed)

    def __call__(self, probs: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at forecasts (m,)."""
        f = new_input("probs", probs, self.values)
        return jnp.where(jnp.isnan(f), jnp.nan, self.values[self.bins(f)])

    def band(
        self,
        confidence_level: Real[ArrayLike, ""] = 0.9,
        *,
        method: Literal["hoeffding", "clopper_pearson"] = "hoeffding",
    ) -> tuple[Array, Array]:
        """Bounds on P(Y = 1 | bin) for all bins at once.

        With m bins and alpha = 1 - confidence_level, Hoeffding's inequality gives the
        half width sqrt(log(2 m / alpha) / (2 N)) in a bin of N rows. For edges that
        are order statistics of the sample ("mass" with `edges="sample"`) the rows
        strictly inside a bin are exchangeable given the edges: N is then the count
        less 1, and 1 / count is added for the row on the edge.

        Guarantee: for independent rows of one distribution and equal weights, all m
        bounds hold together with probability at least `confidence_level`; for bins of
        equal mass this needs continuous forecasts (break ties at random) and
        `edges="sample"`. With midpoint edges it is approximate.
        Verified by: tests/unit/calibration/test_histogram.py.

        Args:
            confidence_level: in (0, 1).
            method: "hoeffding", or "clopper_pearson" for the sharper exact binomial
                bounds with the level alpha / m for each bin (static).

        Returns:
            Lower and upper bounds, each (num_bins,); 0 and 1 for an empty bin.
        """
        check_choice("method", method, ("hoeffding", "clopper_pearson"))
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        dtype = self.values.dtype
        m = self.values.shape[0]
        alpha = 1 - jnp.asarray(confidence_level, dtype)
        by_mass = self.binning == "mass"
        inside = jnp.maximum(self.counts - 1, 0) if by_mass else self.counts
        slack = jnp.where(by_mass, 1 / jnp.maximum(self.counts, 1), 0)
        if method == "hoeffding":
            size = jnp.where(inside > 0, inside, 1)
            width = jnp.sqrt(jnp.log(2 * m / alpha) / (2 * size))
            low, high = self.values - width - slack, self.values + width + slack
        elif by_mass:
            # The row on the edge may be either outcome.
            ones = self.values * self.counts
            least = jnp.round(jnp.maximum(ones - 1, 0))
            most = jnp.round(jnp.minimum(ones, inside))
            low = clopper_pearson(least, jnp.round(inside), 1 - alpha / m)[0]
            high = clopper_pearson(most, jnp.round(inside), 1 - alpha / m)[1]
        else:
            ones = jnp.round(self.values * self.counts)
            low, high = clopper_pearson(ones, jnp.round(inside), 1 - alpha / m)
        low = jnp.where(inside > 0, jnp.clip(low, 0, 1), 0)
        high = jnp.where(inside > 0, jnp.clip(high, 0, 1), 1)
        return low.astype(dtype), high.astype(dtype)

    def interval(
        self,
        probs: Real[ArrayLike, " m"],
        confidence_level: Real[ArrayLike, ""] = 0.9,
        *,
        method: Literal["hoeffding", "clopper_pearson"] = "hoeffding",
    ) -> tuple[Array, Array]:
        """`band` at the bins of forecasts (m,): lower and upper bounds, each (m,)."""
        low, high = self.band(confidence_level, method=method)
        index = self.bins(probs)
        return low[index], high[index]


def fit_histogram(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int,
    weights: Real[ArrayLike, " n"] | None = None,
    binning: Literal["mass", "width"] = "mass",
    edges: Literal["midpoint", "sample"] = "midpoint",
    closed: Literal["left", "right"] = "left",
    empty: Literal["midpoint", "zero", "mean"] = "midpoint",
) -> HistogramCalibrator:
    """Replace a forecast by the mean outcome of its bin.

    Guarantee: the simultaneous band of `HistogramCalibrator.band`.
    Verified by: tests/unit/calibration/test_histogram.py.

    Args:
        probs: shape (n,), in [0, 1].
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        num_bins: m, a positive integer (static).
        weights: shape (n,), at least 0; ones when missing.
        binning: bins of equal numbers of rows, or of equal width (static). Equal
            forecasts are never separated, so bins of equal mass may be empty.
        edges: for "mass", half way between two rows, or at the last row of each group
            (static). The band is exact for "sample" only, which implies
            `closed="right"`.
        closed: "left": a forecast on an edge belongs to the bin above; "right": to the
            bin below (static).
        empty: the value of a bin without rows: its midpoint, 0, or the overall mean
            (static).

    Returns:
        A calibrator of probabilities.

    Raises:
        ValueError: unequal lengths, n = 0, values outside [0, 1], illegal weights or
            options.

    Transformations: jit, vmap.
    Cost: one sort for "mass", and O(n log m).

    Source: Zadrozny and Elkan, ICML 2001; the band: Gupta and Ramdas, "Distribution-
    free calibration guarantees for histogram binning without sample splitting", 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
        >>> y = jnp.array([0, 0, 1, 0, 1, 1])
        >>> calibrator = calibration.fit_histogram(f, y, num_bins=2)
        >>> [round(float(p), 2) for p in calibrator(jnp.array([0.15, 0.8]))]
        [0.33, 0.67]
    """
    check_bins(num_bins, binning, closed)
    check_choice("edges", edges, ("midpoint", "sample"))
    check_choice("empty", empty, _EMPTY)
    f, y, w = check_binary(probs, labels, weights)
    if edges == "sample":
        if weights is not None:
            raise ValueError('`edges="sample"` takes no `weights`: a band is for rows')
        closed = "right"
    return _fit_histogram(
        f,
        y,
        w,
        num_bins=int(num_bins),
        binning=binning,
        at_rows=edges == "sample",
        closed=closed,
        empty=empty,
        equal=weights is None,
    )


@jax.jit(static_argnames=("num_bins", "binning", "at_rows", "closed", "empty", "equal"))
def _fit_histogram(
    f, y, w, *, num_bins, binning, at_rows, closed, empty, equal
) -> HistogramCalibrator:
    legal = ~jnp.any(jnp.isnan(w))
    f, y = with_rows(w, f, y)
    if binning == "width":
        edges = width_edges(num_bins, f.dtype)
        index = width_index(f, num_bins, closed)
    else:
        edges = (
            _row_edges(f, num_bins)
            if at_rows
            else mass_edges(f, None if equal else w, num_bins)
        )
        index = edge_index(f, edges, closed)
    mass = jax.ops.segment_sum(w, index, num_bins)
    total = jax.ops.segment_sum(w * y, index, num_bins)
    squares = jax.ops.segment_sum(w * w, index, num_bins)
    if empty == "midpoint":
        fallback = (edges[:-1] + edges[1:]) / 2
    elif empty == "zero":
        fallback = jnp.zeros(num_bins, f.dtype)
    else:
        fallback = jnp.full(num_bins, jnp.sum(w * y) / jnp.sum(w))
    values = jnp.where(mass == 0, fallback, total / jnp.where(mass == 0, 1, mass))
    counts = mass * mass / jnp.where(squares > 0, squares, 1)
    legal &= ~jnp.any(jnp.isnan(f)) & ~jnp.any(jnp.isnan(y))
    return HistogramCalibrator(
        edges=edges,
        values=jnp.where(legal, values, jnp.nan),
        counts=counts,
        binning=binning,
        closed=closed,
    )


def _row_edges(f: Array, num_bins: int) -> Array:
    """The last row of each of m groups of nearly equal size, between 0 and 1."""
    n = f.shape[0]
    cuts = jnp.arange(1, num_bins, dtype=jnp.int32)
    place = cuts * (n // num_bins) + jnp.minimum(cuts, n % num_bins)
    inner = sort(f)[jnp.clip(place - 1, 0, n - 1)]
    ends = jnp.zeros(1, f.dtype), jnp.ones(1, f.dtype)
    return jnp.concatenate([ends[0], inner, ends[1]])
