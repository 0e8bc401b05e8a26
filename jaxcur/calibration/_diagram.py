"""Arrays of reliability diagrams: binned, isotonic, smooth; with bands."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import check_choice, check_unit_interval, register_dataclass
from jaxcur.calibration._bins import bin_index, bin_sums, check_bins
from jaxcur.calibration._decompositions import isotonic_by_ties
from jaxcur.calibration._inputs import check_scored
from jaxcur.calibration._null import check_draw, null_statistics
from jaxcur.calibration._smooth import (
    NUM_GRID,
    check_bandwidth,
    grid_masses,
    regression_bandwidth,
    smooth,
    spectrum,
)
from jaxcur.calibration._sums import segment_totals, sort_by_forecast

KINDS = ("binned", "corp", "smooth")
BANDS = ("none", "consistency", "confidence")
# Every 16th point of the grid is returned: 256 points.
_STRIDE = 16


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ReliabilityDiagramResult:
    """A reliability diagram as arrays of one length m.

    Attributes:
        forecast: shape (m,), ascending: mean forecast of each bin, the sorted
            forecasts ("corp"), or a grid ("smooth").
        rate: shape (m,), event rate at that forecast; NaN where there are no rows.
        weight: shape (m,), weight of the rows of the bin or of the row, or the density
            of forecasts ("smooth").
        lower: shape (m,), lower end of the band; NaN without one.
        upper: shape (m,), upper end of the band.
        confidence_level: scalar, of the band as asked for; NaN without one.
        kind: "binned", "corp" or "smooth" (static).
        band: "none", "consistency" or "confidence" (static).
    """

    forecast: Array
    rate: Array
    weight: Array
    lower: Array
    upper: Array
    confidence_level: Array
    kind: str = dataclasses.field(metadata={"static": True})
    band: str = dataclasses.field(metadata={"static": True})


class _Binned(NamedTuple):
    index: Array
    weights: Array
    mass: Array


def _bin_rates(context: _Binned, y: Array) -> Array:
    total = segment_totals(y * context.weights, context.index, context.mass.shape[0])
    present = context.mass > 0
    return jnp.where(present, total / jnp.where(present, context.mass, 1), jnp.nan)


class _Sorted(NamedTuple):
    order: Array
    forecasts: Array
    weights: Array


def _isotonic_rates(context: _Sorted, y: Array) -> Array:
    return isotonic_by_ties(context.forecasts, y[context.order], context.weights)


class _Grid(NamedTuple):
    forecasts: Array
    weights: Array
    density: Array
    bandwidth: Array


def _smooth_rates(context: _Grid, y: Array) -> Array:
    masses = grid_masses(context.forecasts, y * context.weights)
    events = smooth(spectrum(masses), context.bandwidth)[_STRIDE // 2 :: _STRIDE]
    # Where the density is a rounding error, so is the rate.
    present = context.density > 1e-6 * jnp.sum(context.weights) / NUM_GRID
    rate = events / jnp.where(present, context.density, 1)
    return jnp.where(present, jnp.clip(rate, 0, 1), jnp.nan)


def _bands(values: Array, confidence_level: Array) -> tuple[Array, Array]:
    tail = (1 - confidence_level) / 2
    ends = jnp.quantile(values, jnp.stack([tail, 1 - tail]), axis=0)
    return ends[0], ends[1]


@functools.partial(
    jax.jit,
    static_argnames=(
        "kind",
        "band",
        "num_bins",
        "binning",
        "closed",
        "simultaneous",
        "num_resamples",
    ),
)
def _diagram(
    f: Array,
    y: Array,
    w: Array,
    bandwidth: Array | None,
    confidence_level: Array,
    uniforms: Array | None,
    key: Array | None,
    *,
    kind: str,
    band: str,
    num_bins: int,
    binning: str,
    closed: str,
    simultaneous: bool,
    num_resamples: int,
) -> ReliabilityDiagramResult:
    context: Any
    statistic: Callable[[Any, Array], Array]
    asked = (
        jnp.full_like(confidence_level, jnp.nan) if band == "none" else confidence_level
    )
    empty = jnp.zeros((), bool)
    if kind == "binned":
        index, m = bin_index(f, w, num_bins=num_bins, binning=binning, closed=closed)
        sums = bin_sums(f, y, w, index, m)
        empty = sums.weight == 0
        forecast = jnp.where(empty, jnp.nan, sums.mean_forecast)
        weight = sums.weight
        context, statistic = _Binned(index, w, sums.weight), _bin_rates
        if simultaneous:
            bins = jnp.sum(sums.weight > 0, dtype=f.dtype)
            confidence_level = 1 - (1 - confidence_level) / jnp.maximum(bins, 1)
    elif kind == "corp":
        places = jnp.arange(f.shape[0], dtype=jnp.int32)
        forecast, weight, order = sort_by_forecast(f, w, places)
        context, statistic = _Sorted(order, forecast, weight), _isotonic_rates
    else:
        bandwidth = regression_bandwidth(f, y, w, bandwidth)
        density = smooth(spectrum(grid_masses(f, w)), bandwidth)
        density = jnp.maximum(density[_STRIDE // 2 :: _STRIDE], 0)
        places = jnp.arange(NUM_GRID, dtype=f.dtype)[_STRIDE // 2 :: _STRIDE]
        forecast = (places + 0.5) / NUM_GRID
        weight = density * NUM_GRID / jnp.sum(w)
        context, statistic = _Grid(f, w, density, bandwidth), _smooth_rates
    rate = statistic(context, y)
    lower = upper = jnp.full_like(forecast, jnp.nan)
    if band == "consistency":
        drawn = null_statistics(
            statistic, context, f, y, uniforms, key, num_resamples=num_resamples
        )
        lower, upper = _bands(drawn[1:], confidence_level)
    elif band == "confidence":
        trials = jnp.round(weight)
        events = jnp.round(jnp.where(empty, 0, rate) * weight)
        low, high = stats.clopper_pearson(events, trials, confidence_level)
        lower, upper = jnp.where(empty, jnp.nan, low), jnp.where(empty, jnp.nan, high)
    return ReliabilityDiagramResult(
        forecast, rate, weight, lower, upper, asked, kind, band
    )


def reliability_diagram(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    kind: Literal["binned", "corp", "smooth"] = "binned",
    band: Literal["none", "consistency", "confidence"] | None = None,
    num_bins: int = 15,
    binning: Literal["width", "mass"] = "width",
    closed: Literal["left", "right"] = "left",
    bandwidth: Real[ArrayLike, ""] | float | None = None,
    confidence_level: float | Real[ArrayLike, ""] = 0.95,
    simultaneous: bool = False,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> ReliabilityDiagramResult:
    """Event rate against forecast, as arrays to draw.

    "binned" has one point a bin. "corp" is the isotonic fit of the labels on the
    forecasts, one point a row, without any choice of bins. "smooth" divides the
    smoothed events by the smoothed forecasts, the reflected Gaussian kernel at the
    bandwidth of `smooth_ece`.

    A "consistency" band is where the rate would lie if the forecasts were calibrated:
    quantiles over labels drawn from them. A "confidence" band (for "binned" with labels
    0 and 1) is where the true rate of the bin lies.

    Guarantee: with independent rows and unit weights, the confidence band of a bin
    holds the mean event probability of its rows with probability at least about
    `confidence_level` (exactly at least where the rows of a bin share one probability);
    `simultaneous` makes that hold for all bins together, by Bonferroni. The edges of
    "width" bins are fixed beforehand; those of "mass" bins are not.
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), drawn at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        kind: "binned", "corp" or "smooth". Static.
        band: which band; None for "consistency" where a draw is given and "none" where
            not. Static.
        num_bins: number of bins, for "binned". Static.
        binning: "width" or "mass", for "binned". Static.
        closed: "left" or "right", for "binned". Static.
        bandwidth: of "smooth"; None for that of `smooth_ece`.
        confidence_level: of the band, in (0, 1).
        simultaneous: a band for all bins together, for "binned". Static.
        num_resamples: draws of the labels for a consistency band. Static.
        key: PRNG key of the consistency band.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself.
        weights: shape (n,), numbers of rows.

    Returns:
        `ReliabilityDiagramResult` of arrays of shape (num_bins,), (n,) or (256,).

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, an unknown or
            impossible option, or a consistency band without a draw.

    Transformations: jit, vmap.
    Cost: as the metric of the same kind; times num_resamples for a consistency band.

    Source: Broecker and Smith 2007 (consistency); Dimitriadis, Gneiting and Jordan,
    PNAS 2021 ("corp"); Blasiok and Nakkiran, ICLR 2024 ("smooth").

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.25, 0.75]), jnp.array([0, 1, 1])
        >>> diagram = calibration.reliability_diagram(probs, labels, num_bins=2)
        >>> diagram.rate
        Array([0.5, 1. ], dtype=float32)
    """
    check_choice("kind", kind, KINDS)
    check_bins(num_bins, binning, closed)
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    if band is None:
        band = "none" if key is None and uniforms is None else "consistency"
    check_choice("band", band, BANDS)
    if band == "confidence" and kind != "binned":
        raise ValueError(f"band='confidence' needs kind='binned', got kind={kind!r}")
    if simultaneous and kind != "binned":
        raise ValueError(f"`simultaneous` needs kind='binned', got kind={kind!r}")
    drawn = (key is not None) + (uniforms is not None)
    if band == "consistency" and drawn != 1:
        raise ValueError(
            "band='consistency' is randomised: pass one of `key=jax.random.key(...)` "
            "and `uniforms`"
        )
    if band != "consistency" and drawn:
        raise ValueError(f"band={band!r} draws nothing: drop `key` and `uniforms`")
    f, y, w = check_scored(probs, labels, weights)
    w = jnp.ones_like(f) if w is None else w
    return _diagram(
        f,
        y,
        w,
        check_bandwidth(bandwidth, f.dtype),
        jnp.asarray(confidence_level, f.dtype),
        check_draw(uniforms, num_resamples, f.shape[0], f.dtype),
        key,
        kind=kind,
        band=band,
        num_bins=num_bins,
        binning=binning,
        closed=closed,
        simultaneous=bool(simultaneous),
        num_resamples=num_resamples,
    )
