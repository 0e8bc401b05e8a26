"""Reliability diagrams: event rates against forecasts, with what chance allows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur.plots._curves import LOOKS
from jaxcur.plots._style import colour, is_dark, percent_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxcur.calibration import ReliabilityDiagramResult

# The strip below zero that shows where the forecasts lie, and its columns.
_STRIP, _GAP, _COLUMNS = 0.13, 0.02, 40
_BAND_NAMES = {
    "consistency": "where calibrated forecasts would lie",
    "confidence": "interval of the rate",
}


def reliability_diagram(
    axes: "Axes",
    series: "ReliabilityDiagramResult | Sequence[tuple[str, ReliabilityDiagramResult]]",
    *,
    forecasts: bool = True,
    xlabel: str = "forecast",
    ylabel: str = "observed rate",
) -> "Axes":
    """Observed rates against forecasts; calibrated forecasts lie on the diagonal.

    A consistency band is a shaded region around the diagonal, and what lies outside it
    is drawn heavier, with filled markers. The band holds point by point, so that a few
    points of calibrated forecasts lie outside too; a test judges them all. A confidence
    band is a bar at each point. With one series the strip below 0 shows how many rows
    have which forecast.

    Args:
        axes: where to draw; on dark axes the colours are lighter.
        series: a diagram of `calibration.reliability_diagram`, of any kind; or several
            with their names, at most six. Bands of several series hide each other: two
            are a good number.
        forecasts: draw the strip, for one series.
        xlabel: name of the forecast.
        ylabel: name of the rate.

    Raises:
        ValueError: no series, more than six, or a diagram that is stacked.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration, plots
        >>> probs, labels = jnp.linspace(0.0, 1.0, 50), jnp.arange(50) > 25
        >>> diagram = calibration.reliability_diagram(
        ...     probs, labels, kind="corp", key=jax.random.key(0), num_resamples=99
        ... )
        >>> _, axes = plots.figure(5, 5)
        >>> plots.reliability_diagram(axes, diagram).get_xlabel()
        'forecast'
    """
    named = hasattr(series, "rate")
    listed: list[tuple[str, Any]] = [("", series)] if named else list(series)  # type: ignore
    if not 1 <= len(listed) <= len(LOOKS):
        raise ValueError(
            f"`series` must hold 1 to {len(LOOKS)} diagrams, got {len(listed)}"
        )
    for name, diagram in listed:
        if np.ndim(diagram.rate) != 1:
            raise ValueError(
                f"the diagram {name!r} is stacked, with rates of shape "
                f"{np.shape(diagram.rate)}; draw one at a time"
            )
    dark = is_dark(axes)
    strip = forecasts and len(listed) == 1
    with style():
        grey = colour("grey", dark)
        axes.plot([0, 1], [0, 1], color=grey, lw=1.2, ls=(0, (1, 1.5)), zorder=1.5)
        if strip:
            _draw_strip(axes, listed[0][1], grey)
        for (name, diagram), (shade, marker, line) in zip(listed, LOOKS, strict=False):
            looks = {"color": colour(shade, dark), "marker": marker, "ls": line}
            _draw_series(axes, name, diagram, looks, single=len(listed) == 1)
        for words, place, side in (
            ("happens more often", (0.03, 0.97), "left"),
            ("happens less often", (0.97, 0.05 + (0.14 if strip else 0)), "right"),
        ):
            axes.annotate(
                f"{words} than forecast",
                place,
                xycoords="axes fraction",
                ha=side,
                va="top" if side == "left" else "bottom",
                color=grey,
                fontsize=9,
            )
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-_STRIP - _GAP if strip else -0.02, 1.02)
        axes.set_aspect("equal")
        ticks = np.linspace(0, 1, 6)
        axes.set_xticks(ticks)
        axes.set_yticks(ticks)
        percent_axis(axes)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        handles, labels = axes.get_legend_handles_labels()
        if handles:
            axes.legend(
                handles,
                labels,
                loc="lower center",
                bbox_to_anchor=(0.5, 1.0),
                ncols=1 if len(handles) < 3 else 2,
            )
    return axes


def _draw_series(
    axes: "Axes", name: str, diagram: Any, looks: dict[str, Any], *, single: bool
) -> None:
    kept = ~np.isnan(np.asarray(diagram.rate, float))
    x, rate, low, high = (
        np.asarray(part, float)[kept]
        for part in (diagram.forecast, diagram.rate, diagram.lower, diagram.upper)
    )
    colour = looks["color"]
    banded = diagram.band == "consistency"
    outside = banded & ((rate < low) | (rate > high))
    if banded:
        words = _BAND_NAMES["consistency"]
        axes.fill_between(
            x,
            low,
            high,
            color=colour,
            alpha=0.22,
            lw=0,
            zorder=1,
            label=words if single else None,
        )
        for end in (low, high):
            axes.plot(x, end, color=colour, lw=0.7, alpha=0.7, zorder=1.2)
    elif diagram.band == "confidence":
        axes.errorbar(
            x,
            rate,
            yerr=np.maximum(np.stack([rate - low, high - rate]), 0),
            ls="none",
            color=colour,
            capsize=3,
            lw=1.2,
            label=_BAND_NAMES["confidence"] if single else None,
        )
    label = name or None
    if diagram.kind == "binned":
        axes.plot(x, rate, color=colour, ls=looks["ls"], lw=1.2, zorder=3)
        for chosen, face in ((~outside, axes.get_facecolor()), (outside, colour)):
            # Without a band nothing is known to be inside.
            filled = colour if not banded else face
            axes.plot(
                x[chosen],
                rate[chosen],
                ls="none",
                color=colour,
                marker=looks["marker"],
                ms=7,
                mew=1.5,
                markerfacecolor=filled,
                zorder=3.5,
            )
        if label:
            axes.plot([], [], label=label, **looks)
    else:
        axes.plot(x, rate, color=colour, ls=looks["ls"], lw=1.5, zorder=3, label=label)
        heavy = np.where(outside, rate, np.nan)
        axes.plot(x, heavy, color=colour, lw=4, solid_capstyle="butt", zorder=3.2)
    if banded and single and outside.any():
        handle: dict[str, Any] = {"marker": looks["marker"], "ls": "none", "ms": 7}
        if diagram.kind != "binned":
            handle = {"lw": 4}
        axes.plot([], [], color=colour, label="outside the band", **handle)


def _draw_strip(axes: "Axes", diagram: Any, grey: str) -> None:
    """How much weight lies at which forecast, as columns below 0."""
    x = np.asarray(diagram.forecast, float)
    weight = np.where(np.isnan(x), 0.0, np.asarray(diagram.weight, float))
    if diagram.kind == "binned":
        kept = weight > 0
        places, heights = x[kept], weight[kept]
        width = 0.6 * min([*np.diff(places), 1 / len(x)])
    else:
        edges = np.linspace(0, 1, _COLUMNS + 1)
        heights, _ = np.histogram(x, bins=edges, weights=weight)
        places, width = (edges[1:] + edges[:-1]) / 2, 0.8 / _COLUMNS
    top = heights.max()
    if top > 0:
        axes.bar(
            places,
            _STRIP * heights / top,
            width,
            bottom=-_STRIP - _GAP,
            color=grey,
            alpha=0.75,
            lw=0,
        )
