"""Integrated calibration index: distances of forecasts to a smooth curve through y."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import check_choice
from jaxcur.calibration._decompositions import isotonic_by_ties
from jaxcur.calibration._inputs import check_binary
from jaxcur.calibration._smooth import (
    NUM_GRID,
    check_bandwidth,
    grid_masses,
    regression_bandwidth,
    smooth,
    spectrum,
)
from jaxcur.calibration._sums import mean, ratio, sort_by_forecast


class CalibrationIndexResult(NamedTuple):
    """Absolute distances |f - curve(f)| over the rows.

    Attributes:
        mean: scalar, the integrated calibration index (ICI).
        median: scalar, E50.
        p90: scalar, E90, the 90th percentile.
        curve: shape (n,), the smoothed event rate at each forecast; NaN at a row of
            weight 0 that is far from all others.
    """

    mean: Array
    median: Array
    p90: Array
    curve: Array


def kernel_rates(f: Array, y: Array, w: Array, bandwidth: Array | None) -> Array:
    """Smoothed events over smoothed rows at each forecast, (n,)."""
    bandwidth = regression_bandwidth(f, y, w, bandwidth)
    events, rows = (
        smooth(spectrum(grid_masses(f, part)), bandwidth) for part in (w * y, w)
    )
    position = jnp.clip(f * NUM_GRID - 0.5, 0, NUM_GRID - 1)
    low = jnp.clip(jnp.floor(jnp.where(jnp.isnan(f), 0, position)), 0, NUM_GRID - 2)
    share = position - low
    index = low.astype(jnp.int32)

    def at(values: Array) -> Array:
        return (1 - share) * values[index] + share * values[index + 1]

    density = at(rows)
    rates = jnp.clip(ratio(at(events), density), 0, 1)
    # A row that counts keeps its own density away from 0; another may be far from all.
    lonely = (w == 0) & (density <= 1e-6 * jnp.sum(w) / NUM_GRID)
    return jnp.where(lonely, jnp.nan, rates)


@functools.partial(jax.jit, static_argnames=("smoother",))
def _index(
    f: Array, y: Array, w: Array, bandwidth: Array | None, *, smoother: str
) -> CalibrationIndexResult:
    if smoother == "isotonic":
        places = jnp.arange(f.shape[0], dtype=jnp.int32)
        sorted_f, sorted_y, mass, order = sort_by_forecast(f, y, w, places)
        fitted = isotonic_by_ties(sorted_f, sorted_y, mass)
        curve = jnp.zeros_like(fitted).at[order].set(fitted)
    else:
        curve = kernel_rates(f, y, w, bandwidth)
    distance = jnp.abs(f - curve)
    ends = stats.weighted_quantile(
        jax.lax.stop_gradient(jnp.where(w == 0, 0, distance)),
        jax.lax.stop_gradient(w),
        jnp.asarray([0.5, 0.9], f.dtype),
    )
    return CalibrationIndexResult(mean(distance, w), ends[0], ends[1], curve)


def integrated_calibration_index(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    smoother: Literal["kernel", "isotonic"] = "kernel",
    bandwidth: Real[ArrayLike, ""] | float | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> CalibrationIndexResult:
    """Mean, median and 90th percentile of |f - smoothed event rate at f|.

    The index is published with loess as the smoother; there is no loess here, so the
    numbers differ from those of R packages, though they estimate the same thing.
    "kernel" is the regression of `reliability_diagram(kind="smooth")`: events over
    rows, both smoothed by the reflected Gaussian kernel at the bandwidth of
    `smooth_ece`. "isotonic" is the monotone fit of `reliability_diagram(kind="corp")`.

    Heuristic: no finite-sample guarantee. Every smoother follows noise: the numbers of
    a calibrated forecast are above 0, with "isotonic" more so than with "kernel".

    Args:
        probs: shape (n,), forecasts of a binary event.
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        smoother: "kernel" or "isotonic". Static.
        bandwidth: of "kernel", positive; None for that of `smooth_ece`.
        weights: shape (n,), at least 0; ones when missing. A weight counts rows.

    Returns:
        `CalibrationIndexResult`. The percentiles are values of rows
        (`stats.weighted_quantile`). NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, an unknown
            smoother, or a bandwidth that is not positive or not used.

    Transformations: jit, vmap; grad of `mean` and `curve` in `labels` and `weights`
    (and of "kernel" in `probs`).
    Cost: one sort; for "kernel" 33 transforms of a grid of 4096 points besides.

    Source: Austin and Steyerberg, "The Integrated Calibration Index (ICI) and related
    metrics", Statistics in Medicine 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([0.25, 0.25, 0.5, 0.75])
        >>> found = calibration.integrated_calibration_index(
        ...     probs, jnp.array([0, 1, 0, 1]), smoother="isotonic"
        ... )
        >>> [round(float(value), 3) for value in found[:3]]
        [0.146, 0.083, 0.25]
    """
    check_choice("smoother", smoother, ("kernel", "isotonic"))
    if smoother == "isotonic" and bandwidth is not None:
        raise ValueError("`bandwidth` needs smoother='kernel'")
    f, y, w = check_binary(probs, labels, weights)
    return _index(f, y, w, check_bandwidth(bandwidth, f.dtype), smoother=smoother)
