"""Pictures of ordinal regressions: paths, boundaries by feature, rare probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur import stats
from jaxcur.plots._curves import LOOKS
from jaxcur.plots._style import PALETTE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxcur.ordinal import OrdinalPath, OrdinalResult


def coefficient_path(
    axes: "Axes",
    path: "OrdinalPath",
    *,
    terms: Sequence[str] | None = None,
    boundary: int = -1,
    selected: int | None = None,
    most: int = 6,
) -> "Axes":
    """Coefficients of one boundary against the strength of the penalty.

    The terms of the largest coefficients are named, the others are thin grey lines.

    Args:
        axes: where to draw.
        path: fits at several strengths.
        terms: names of the p features.
        boundary: which boundary; the last one, that of the rare class, by default.
        selected: position of a strength to mark, as chosen by cross-validation.
        most: how many terms to name, at most six.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal, plots
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> fits = ordinal.path(x, y, num_classes=3, num_regularizations=3)
        >>> _, axes = plots.figure()
        >>> plots.coefficient_path(axes, fits, terms=["dose"]).get_xscale()
        'log'
    """
    values = np.asarray(path.coefficients)
    if values.ndim != 3:
        raise ValueError("`path` must hold fits at several strengths, see ordinal.path")
    values = values[:, :, boundary]
    strengths = np.asarray(path.regularizations)
    positive = strengths > 0
    if positive.sum() < 2:
        raise ValueError("`path` must hold at least two strengths above 0")
    num_terms = values.shape[1]
    names = _names(terms, num_terms)
    most = min(most, len(LOOKS), num_terms)
    order = np.argsort(-np.abs(values).max(axis=0), kind="stable")
    with style():
        axes.axhline(0, color=PALETTE["grey"], lw=1)
        for j in order[most:]:
            axes.plot(strengths[positive], values[positive, j], color="#999999", lw=0.8)
        for j, (colour, marker, line) in zip(order[:most], LOOKS, strict=False):
            axes.plot(
                strengths[positive],
                values[positive, j],
                color=PALETTE[colour],
                ls=line,
                marker=marker,
                markevery=max(1, int(positive.sum()) // 8),
                ms=5,
                label=names[j],
            )
        if selected is not None:
            axes.axvline(
                float(strengths[selected]),
                color=PALETTE["black"],
                lw=1.2,
                ls="--",
                label="chosen",
            )
        axes.set_xscale("log")
        axes.invert_xaxis()
        axes.set_xlabel("strength of the penalty (weaker to the right)")
        axes.set_ylabel(f"coefficient (above 0: to {_above(path)} classes)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return axes


def boundary_coefficients(
    axes: "Axes",
    result: "OrdinalResult",
    *,
    terms: Sequence[str] | None = None,
    boundaries: Sequence[str] | None = None,
    std_error: Any = None,
) -> "Axes":
    """Coefficients of every boundary, feature by feature.

    Markers of a feature that keeps to proportional odds lie on one vertical line; a
    feature that breaks it shows a bar from its smallest to its largest coefficient.
    The axis says on which side of zero a feature moves probability to higher classes.

    Args:
        axes: where to draw.
        result: one fit.
        terms: names of the p features.
        boundaries: names of the k-1 boundaries.
        std_error: shape (p, k-1), draws intervals of 1.96 standard errors.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal, plots
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, regularization=0.05)
        >>> _, axes = plots.figure()
        >>> axes = plots.boundary_coefficients(axes, result, terms=["dose"])
        >>> [label.get_text() for label in axes.get_yticklabels()]
        ['dose']
    """
    values = np.asarray(result.coefficients)
    if values.ndim != 2:
        raise ValueError("`result` must hold one fit; take one with `.at(index)`")
    p, m = values.shape
    if m > len(LOOKS):
        raise ValueError(f"at most {len(LOOKS)} boundaries fit one picture: {m}")
    names = _names(terms, p)
    labels = _names(boundaries, m, "boundary")
    place = np.arange(p)[::-1].astype(float)
    # Beside one another, so that markers at one place do not hide each other.
    shift = 0.5 * (np.arange(m) - (m - 1) / 2) / max(m, 2)
    with style():
        axes.axvline(0, color=PALETTE["grey"], lw=1)
        for j in range(p):
            low, high = values[j].min(), values[j].max()
            axes.plot(
                [low, high],
                [place[j]] * 2,
                color="#bbbbbb",
                lw=6,
                solid_capstyle="butt",
            )
        for k, (colour, marker, _) in enumerate(LOOKS[:m]):
            error = None if std_error is None else 1.96 * np.asarray(std_error)[:, k]
            axes.errorbar(
                values[:, k],
                place - shift[k],
                xerr=error,
                ls="none",
                marker=marker,
                color=PALETTE[colour],
                capsize=2,
                lw=1.2,
                label=labels[k],
            )
        axes.set_yticks(place, names)
        axes.set_ylim(-0.6, p - 0.4)
        axes.grid(axis="y", visible=False)
        right = _above(result)
        left = "higher" if right == "lower" else "lower"
        axes.set_xlabel(
            f"\N{LEFTWARDS ARROW} to {left} classes    coefficient    "
            f"to {right} classes \N{RIGHTWARDS ARROW}"
        )
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), title="boundary")
    return axes


def rare_calibration(
    axes: "Axes",
    series: Sequence[tuple[str, Any]],
    events: Any,
    *,
    num_bins: int = 8,
    confidence_level: float = 0.95,
) -> "Axes":
    """Predicted probabilities of a rare class against observed rates, bin by bin.

    Rows are put in order of their prediction and cut into bins of equal size. A bin
    stands at its mean prediction and its observed rate, with the exact interval of
    Clopper and Pearson for the rate; bins without an event are drawn hollow. Axes are
    the square root of the share, which keeps small rates apart and can show 0.

    Args:
        axes: where to draw.
        series: (name, predictions of shape (n,)), at most six.
        events: shape (n,), whether the class is the rare one.
        num_bins: bins of equal size.
        confidence_level: of the intervals, pointwise.

    Example:
        >>> import numpy as np
        >>> from jaxcur import plots
        >>> _, axes = plots.figure()
        >>> probs = np.linspace(0.01, 0.3, 80)
        >>> events = np.arange(80) % 7 == 0
        >>> axes = plots.rare_calibration(axes, [("model", probs)], events, num_bins=4)
        >>> axes.get_ylabel()
        'observed rate'
    """
    if len(series) > len(LOOKS):
        raise ValueError(f"at most {len(LOOKS)} series fit one picture: {len(series)}")
    events = np.asarray(events, float)
    top = 0.0
    with style():
        for place, ((name, probs), look) in enumerate(zip(series, LOOKS, strict=False)):
            mean, rate, low, high = _bins(
                name, np.asarray(probs, float), events, num_bins, confidence_level
            )
            top = max(top, float(mean.max()), float(high.max()))
            colour, marker, line = look
            # A little apart, so that intervals at one prediction stay visible.
            x = np.sqrt(mean) + 0.004 * (place - (len(series) - 1) / 2)
            gap = np.stack(
                [np.sqrt(rate) - np.sqrt(low), np.sqrt(high) - np.sqrt(rate)]
            )
            axes.errorbar(
                x,
                np.sqrt(rate),
                yerr=np.maximum(gap, 0),
                color=PALETTE[colour],
                ls="none",
                marker=marker,
                capsize=3,
                lw=1.2,
                label=name,
            )
            axes.plot(x, np.sqrt(rate), color=PALETTE[colour], ls=line, lw=1)
            axes.plot(
                x[rate == 0],
                np.sqrt(rate[rate == 0]),
                ls="none",
                marker=marker,
                color=PALETTE[colour],
                markerfacecolor="white",
                zorder=4,
            )
        reach = [0.0, 1.03 * float(np.sqrt(top))]
        axes.plot(
            reach, reach, color=PALETTE["grey"], lw=1.2, ls=(0, (1, 1.5)), zorder=1
        )
        axes.set_xlim(-0.01 * reach[1], reach[1])
        axes.set_ylim(-0.02 * reach[1], reach[1])
        ticks = _share_ticks(top)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(np.sqrt(ticks), [f"{100 * t:g}%" for t in ticks])
        axes.set_xlabel("predicted probability, mean of the bin")
        axes.set_ylabel("observed rate")
        axes.legend(loc="upper left")
    return axes


def _bins(
    name: str,
    probs: np.ndarray,
    events: np.ndarray,
    num_bins: int,
    confidence_level: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean prediction, rate and its interval of each bin."""
    if probs.shape != events.shape or probs.ndim != 1:
        raise ValueError(
            f"predictions of {name!r} and `events` must have the same shape (n,), got "
            f"{probs.shape} and {events.shape}"
        )
    if not 1 <= num_bins <= len(probs):
        raise ValueError(f"`num_bins` must lie in 1..{len(probs)}, got {num_bins}")
    parts = np.array_split(np.argsort(probs, kind="stable"), num_bins)
    mean = np.array([probs[part].mean() for part in parts])
    hits = np.array([events[part].sum() for part in parts])
    sizes = np.array([len(part) for part in parts])
    low, high = stats.clopper_pearson(hits, sizes, confidence_level)
    return mean, hits / sizes, np.asarray(low, float), np.asarray(high, float)


def _share_ticks(top: float) -> np.ndarray:
    """Round shares that do not crowd each other under a square root."""
    steps = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
    kept = [0.0]
    for step in (step for step in steps if step <= top):
        if step**0.5 - kept[-1] ** 0.5 > 0.09 * top**0.5:
            kept.append(step)
    return np.array(kept)


def _above(result: "OrdinalResult") -> str:
    """To which classes a positive coefficient moves probability."""
    return "lower" if result.family in ("cumulative", "sratio") else "higher"


def _names(given: Sequence[str] | None, count: int, word: str = "x") -> list[str]:
    if given is None:
        blank = " " if word != "x" else ""
        return [f"{word}{blank}{place + 1}" for place in range(count)]
    if len(given) != count:
        raise ValueError(f"there are {count} columns, got {len(given)} names")
    return [str(name) for name in given]
