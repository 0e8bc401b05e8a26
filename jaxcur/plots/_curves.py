"""Rates against a target, one cut on a scatter, two histograms on one scale."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxcur.plots._style import PALETTE, percent_axis, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOOKS = (
    ("blue", "o", "-"),
    ("vermillion", "s", "--"),
    ("green", "^", "-."),
    ("purple", "D", ":"),
    ("orange", "v", "-"),
    ("black", "P", "--"),
)


@dataclasses.dataclass(frozen=True)
class Curve:
    """One series of rates with an interval at each point.

    Attributes:
        label: name in the legend.
        estimate: shape (points,).
        lower: shape (points,); equal to `estimate` where there is no interval.
        upper: shape (points,).
    """

    label: str
    estimate: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def rate_curves(
    axes: "Axes",
    levels: Sequence[float] | np.ndarray,
    curves: Sequence[Curve],
    *,
    ylabel: str,
    xlabel: str = "target level",
    diagonal: bool = False,
    above: str | None = None,
) -> "Axes":
    """Rates against the level that was asked for.

    Args:
        axes: where to draw.
        levels: shape (points,), the horizontal axis.
        curves: the series, at most six.
        ylabel: what the rate is.
        xlabel: what the level is.
        diagonal: draw the line on which the rate equals the level.
        above: shade the region above the diagonal and name it.

    Example:
        >>> import numpy as np
        >>> from jaxcur import plots
        >>> _, axes = plots.figure()
        >>> rate = np.array([0.08, 0.19])
        >>> curve = plots.Curve("method", rate, rate - 0.01, rate + 0.01)
        >>> axes = plots.rate_curves(axes, [0.1, 0.2], [curve], ylabel="realised FDR")
        >>> axes.get_ylabel()
        'realised FDR'
    """
    if len(curves) > len(LOOKS):
        raise ValueError(f"at most {len(LOOKS)} curves fit one picture: {len(curves)}")
    levels = np.asarray(levels, float)
    with style():
        reach = [0.0, 1.03 * float(levels.max())]
        if diagonal or above is not None:
            axes.plot(reach, reach, color=PALETTE["grey"], lw=1.2, ls=(0, (1, 1.5)))
        if above is not None:
            axes.fill_between(reach, reach, 9.0, color=PALETTE["grey"], alpha=0.1, lw=0)
            axes.annotate(
                above,
                (0.02, 0.97),
                xycoords="axes fraction",
                va="top",
                color=PALETTE["grey"],
                fontsize=10,
            )
        for curve, (colour, marker, line) in zip(curves, LOOKS, strict=False):
            estimate = np.asarray(curve.estimate)
            gap = np.stack([estimate - curve.lower, curve.upper - estimate])
            axes.errorbar(
                levels,
                estimate,
                yerr=np.maximum(gap, 0),
                color=PALETTE[colour],
                marker=marker,
                ls=line,
                capsize=3,
                label=curve.label,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_xlim(*reach)
        # Above the highest point there is room for the legend and the diagonal's name.
        top = max(float(np.max(curve.upper)) for curve in curves)
        highest = max(top, float(levels.max()) if diagonal else 0.0)
        axes.set_ylim(0, min(1.25 * highest, 1.05) if highest else 1.0)
        percent_axis(axes)
        if len(curves) > 1:
            axes.legend(loc="lower right")
    return axes


def prediction_cut(
    axes: "Axes",
    predictions: np.ndarray,
    labels: np.ndarray,
    *,
    threshold: float,
    cuts: Sequence[tuple[str, float]],
    xlabel: str,
    ylabel: str,
) -> "Axes":
    """Predictions against the truth, with the threshold and one or more cuts.

    Args:
        axes: where to draw.
        predictions: shape (m,).
        labels: shape (m,), the truth.
        threshold: labels above it are what is looked for.
        cuts: (name, prediction at or above which a rule selects); an infinite cut,
            which selects nothing, is left out.
        xlabel: name and unit of the prediction.
        ylabel: name and unit of the label.
    """
    right = labels > threshold
    with style():
        for keep, colour, marker, label in (
            (right, "blue", "o", f"above {threshold:g}"),
            (~right, "vermillion", "X", f"at or below {threshold:g}"),
        ):
            axes.scatter(
                predictions[keep],
                labels[keep],
                color=PALETTE[colour],
                marker=marker,
                s=34,
                alpha=0.8,
                edgecolor="white",
                linewidth=0.5,
                label=label,
            )
        axes.axhline(threshold, color=PALETTE["grey"], lw=1)
        top = float(labels.max())
        axes.set_ylim(min(0.0, float(labels.min())), top * 1.22)
        for (name, cut), line in zip(cuts, ("--", "-", ":", "-."), strict=False):
            if not np.isfinite(cut):
                continue
            axes.axvline(cut, color=PALETTE["black"], ls=line, lw=1.5)
            axes.annotate(
                f"{name} \N{RIGHTWARDS ARROW}",
                (cut, 0.995),
                xycoords=("data", "axes fraction"),
                xytext=(4, 0),
                textcoords="offset points",
                va="top",
                fontsize=10,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.legend(loc="lower right", title="truth", framealpha=0.9, frameon=True)
    return axes


def histogram_pair(
    axes: "Axes",
    series: Sequence[tuple[str, np.ndarray]],
    *,
    bins: np.ndarray,
    xlabel: str,
    ylabel: str = "share of repetitions",
    reference: tuple[str, float] | None = None,
) -> "Axes":
    """Histograms of shares on one scale, filled and hatched in turn.

    Args:
        axes: where to draw.
        series: (name, values of shape (repetitions,)).
        bins: edges.
        xlabel: what the values are.
        ylabel: what the height is.
        reference: a named vertical line.
    """
    looks = (("blue", None, 0.75), ("vermillion", "///", 0.45), ("green", "..", 0.45))
    with style():
        for (name, values), (colour, hatch, alpha) in zip(series, looks, strict=False):
            weights = np.full(len(values), 1 / max(len(values), 1))
            axes.hist(
                values,
                bins=list(bins),
                weights=weights,
                color=PALETTE[colour],
                alpha=alpha,
                hatch=hatch,
                edgecolor="white",
                label=name,
            )
        if reference is not None:
            axes.axvline(
                reference[1],
                color=PALETTE["black"],
                lw=1.5,
                ls="--",
                label=reference[0],
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        percent_axis(axes)
        axes.legend(loc="upper right")
    return axes
