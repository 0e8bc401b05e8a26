"""Bins of forecasts and the sums within them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import stats
from jaxcur._base import check_choice, is_concrete
from jaxcur.calibration._sums import (
    block_cumsum,
    ratio,
    segment_totals,
    sort_by_forecast,
    total_weight,
    weighted,
)

BINNINGS = ("width", "mass")
CLOSED = ("left", "right")
# Up to here one comparison per edge is faster than a binary search.
_MANY_EDGES = 64


class BinSums(NamedTuple):
    """Sums over the rows of each bin, each (m,).

    Attributes:
        weight: sum of the weights.
        residual: sum of weight * (forecast - outcome).
        forecast: sum of weight * forecast.
        outcome: sum of weight * outcome.
        total: sum of the weights of all bins, a scalar.
    """

    weight: Array
    residual: Array
    forecast: Array
    outcome: Array
    total: Array

    @property
    def gap(self) -> Array:
        """Mean forecast minus mean outcome, 0 in an empty bin."""
        return ratio(self.residual, self.weight)

    @property
    def rate(self) -> Array:
        """Mean outcome, 0 in an empty bin."""
        return ratio(self.outcome, self.weight)

    @property
    def mean_forecast(self) -> Array:
        """Mean forecast, 0 in an empty bin."""
        return ratio(self.forecast, self.weight)


def check_bins(num_bins: Any, binning: str, closed: str) -> None:
    """Raise on options of bins that cannot be."""
    check_choice("binning", binning, BINNINGS)
    check_choice("closed", closed, CLOSED)
    if not isinstance(num_bins, (int, np.integer)) or num_bins < 1:
        raise ValueError(f"`num_bins` must be a positive integer, got {num_bins!r}")


def check_edges(edges: Any, dtype: Any) -> Array | None:
    """Edges of bins (m + 1,), ascending from 0 to 1, or None."""
    if edges is None:
        return None
    array = jnp.asarray(edges, dtype)
    if array.ndim != 1 or array.shape[0] < 2:
        raise ValueError(f"`edges` must have shape (num_bins + 1,), got {array.shape}")
    if is_concrete(array):
        host = np.asarray(array)
        if not ((np.diff(host) >= 0).all() and host[0] <= 0 and host[-1] >= 1):
            raise ValueError("`edges` must ascend from 0 to 1")
    return array


def width_edges(num_bins: int, dtype: Any) -> Array:
    """The numbers j / num_bins for j = 0..num_bins, each correctly rounded.

    They are divided on the host: XLA may turn the division by a constant into a product
    with its reciprocal, which is another number (3 * 0.1 is not 0.3).
    """
    table = np.arange(num_bins + 1, dtype=dtype) / np.asarray(num_bins, dtype)
    return jnp.asarray(table, dtype)


def width_index(f: Array, num_bins: int, closed: str) -> Array:
    """Bin of equal width of each forecast, int32.

    The product f * m rounds across edges (0.7 * 10), so that it only tells the nearest
    edge; comparison with the number j / m itself tells the side.
    """
    nearest = jnp.clip(jnp.round(f * num_bins), 0, num_bins)
    # NaN has no bin: the first one takes it, and its sums become NaN.
    nearest = jnp.where(jnp.isnan(f), 0, nearest).astype(jnp.int32)
    edge = width_edges(num_bins, f.dtype).at[nearest].get(mode="promise_in_bounds")
    left = f < edge if closed == "left" else f <= edge
    return jnp.clip(nearest - left.astype(jnp.int32), 0, num_bins - 1)


def edge_index(f: Array, edges: Array, closed: str) -> Array:
    """Bin of each forecast between given edges (m + 1,), int32."""
    inner = edges[1:-1]
    if inner.shape[0] == 0:
        return jnp.zeros(f.shape, jnp.int32)
    if inner.shape[0] <= _MANY_EDGES:
        row, column = f[None, :], inner[:, None]
        above = row >= column if closed == "left" else row > column
        return jnp.sum(above, axis=0, dtype=jnp.int32)
    if closed == "left":
        return jnp.where(jnp.isnan(f), 0, stats.count_at_most(inner, f))
    return jnp.where(jnp.isnan(f), 0, stats.count_below(inner, f))


def mass_edges(f: Array, w: Array | None, num_bins: int) -> Array:
    """Edges of bins with equal numbers of rows, (m + 1,).

    The sorted sample is cut into m groups whose sizes differ by at most one, the first
    ones larger; an edge lies half way between two groups. A row of weight 2 counts as
    two rows. With weights that are no integers the cuts are at shares j / m.
    """
    f = jax.lax.stop_gradient(f)
    m = num_bins
    cuts = jnp.arange(1, m, dtype=jnp.int32)
    if w is None:
        ordered = stats.sort(f)
        n = f.shape[0]
        place = cuts * (n // m) + jnp.minimum(cuts, n % m)
        last = jnp.clip(place - 1, 0, n - 1)
        first = jnp.clip(place, 0, n - 1)
    else:
        w = jax.lax.stop_gradient(w)
        ordered, mass = sort_by_forecast(f, w)
        sums = block_cumsum(mass)
        total = sums[-1]
        j = cuts.astype(f.dtype)
        base = jnp.floor(total / m)
        counted = j * base + jnp.minimum(j, total - m * base)
        whole = jnp.all(w == jnp.round(w))
        target = jnp.where(whole, counted, j * (total / m))
        top = f.shape[0] - 1
        last = jnp.minimum(jnp.searchsorted(sums, target, side="left"), top)
        # With fewer rows than bins the first groups hold all and the last ones none.
        end = jnp.searchsorted(sums, total, side="left")
        first = jnp.minimum(jnp.searchsorted(sums, target, side="right"), end)
        last, first = jnp.minimum(last, end), jnp.minimum(first, top)
    inner = (ordered[last] + ordered[first]) / 2
    zero, one = jnp.zeros(1, f.dtype), jnp.ones(1, f.dtype)
    return jnp.concatenate([zero, inner, one])


def bin_index(
    f: Array,
    w: Array | None,
    *,
    num_bins: int,
    binning: str,
    closed: str,
    edges: Array | None = None,
) -> tuple[Array, int]:
    """Bin of each row, int32 (n,), and the number of bins."""
    if edges is not None:
        return edge_index(f, edges, closed), edges.shape[0] - 1
    if binning == "width":
        return width_index(f, num_bins, closed), num_bins
    return edge_index(f, mass_edges(f, w, num_bins), closed), num_bins


def bin_sums(
    f: Array, y: Array, w: Array | None, index: Array, num_bins: int
) -> BinSums:
    """Sums over each bin. Under jit, those that are not used cost nothing."""

    def total(values: Array) -> Array:
        return segment_totals(values, index, num_bins)

    return BinSums(
        weight=total(jnp.ones_like(f) if w is None else w),
        residual=total(weighted(f - y, w)),
        forecast=total(weighted(f, w)),
        outcome=total(weighted(y, w)),
        total=total_weight(w, f),
    )
