"""How solves of transport problems went: errors by step, certified intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur.plots._curves import LOOKS
from jaxcur.plots._style import colour, is_dark, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxcur.ot import SinkhornResult

# Epsilons up to which each has a tick.
_TICKS = 8
_HATCHES = ("", "///", "\\\\\\", "...", "xxx", "---")


def sinkhorn_convergence(
    axes: "Axes",
    series: Sequence[tuple[str, "Sequence[SinkhornResult]"]],
    *,
    rtol: float | None = None,
) -> "Axes":
    """Error of the marginals against iterations, on a logarithmic scale.

    Filled markers are within the tolerance: `rtol` here, else that of each result.
    A result keeps no history. Results of one problem at falling `rtol` are stages of
    one and the same run, and cost no new compilation:
    `[ot.sinkhorn(x, y, epsilon=e, rtol=r) for r in (0.1, 0.01, 1e-3, 1e-4)]`.
    Iterations of the annealing are counted.

    Args:
        axes: where to draw.
        series: (name, results), at most six.
        rtol: a tolerance, drawn as a line.

    Raises:
        ValueError: no series, more than six, one without a finite error.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot, plots
        >>> x = jnp.arange(4.0)[:, None]
        >>> runs = [ot.sinkhorn(x, x**2, epsilon=1.0, rtol=r) for r in (0.1, 1e-4)]
        >>> _, axes = plots.figure()
        >>> plots.sinkhorn_convergence(axes, [("epsilon 1", runs)]).get_yscale()
        'log'
    """
    _check_count("series", series)
    dark = is_dark(axes)
    with style():
        for (name, results), (tone, marker, line) in zip(series, LOOKS, strict=False):
            steps, error, done = (
                np.array([np.asarray(getattr(one, part)) for one in results])
                for part in ("num_steps", "error", "converged")
            )
            finite = np.isfinite(error) if error.ndim == 1 else np.zeros(0, bool)
            if not finite.any():
                raise ValueError(f"the results of {name!r} must have a finite error")
            if rtol is not None:
                done = error <= rtol
            order = np.flatnonzero(finite)[np.argsort(steps[finite], kind="stable")]
            # A logarithmic axis cannot show 0.
            shown = np.maximum(error[order], np.finfo(np.float32).eps / 10)
            shade = colour(tone, dark)
            axes.plot(steps[order], shown, color=shade, ls=line)
            axes.plot([], [], color=shade, ls=line, marker=marker, label=name)
            for kept, face in (
                (done[order], shade),
                (~done[order], axes.get_facecolor()),
            ):
                axes.plot(
                    steps[order][kept],
                    shown[kept],
                    ls="none",
                    color=shade,
                    marker=marker,
                    markerfacecolor=face,
                    zorder=3,
                )
        if rtol is not None:
            axes.axhline(rtol, color=colour("grey", dark), lw=1.2, ls=(0, (1, 1.5)))
            axes.annotate(
                "tolerance",
                (0.01, rtol),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                color=colour("grey", dark),
                fontsize=9,
            )
        axes.set_yscale("log")
        axes.set_xlabel("iterations, those of the annealing included")
        axes.set_ylabel("error of the marginals (L1)")
        axes.legend(labelcolor=colour("black", dark))
    return axes


def certified_interval(
    axes: "Axes",
    series: Sequence[tuple[str, Any, Any, Any]],
    *,
    exact: float | None = None,
    ylabel: str = "transport cost",
) -> "Axes":
    """Certified bounds of the unregularised cost against epsilon.

    The cost lies in the band whatever epsilon is; the band narrows to the right, where
    epsilon is small. Two bands that do not overlap at one epsilon say for certain which
    of two costs is the larger.

    Args:
        axes: where to draw.
        series: (name, epsilons, lower, upper), arrays of shape (k,) from
            `ot.certified_bounds`; at most six.
        exact: a cost to mark, where it is known.
        ylabel: what the cost is.

    Raises:
        ValueError: no series, more than six, arrays of different shapes, an epsilon
            that is not positive.

    Example:
        >>> from jaxcur import plots
        >>> _, axes = plots.figure()
        >>> found = ("pool", [1.0, 0.1], [2.0, 2.4], [3.0, 2.5])
        >>> plots.certified_interval(axes, [found]).get_xscale()
        'log'
    """
    _check_count("series", series)
    dark = is_dark(axes)
    with style():
        for (name, *arrays), (tone, marker, line), hatch in zip(
            series, LOOKS, _HATCHES, strict=False
        ):
            epsilon, low, high = (np.asarray(part, float) for part in arrays)
            if epsilon.ndim != 1 or not epsilon.shape == low.shape == high.shape:
                raise ValueError(
                    f"epsilons and bounds of {name!r} must have one shape (k,), got "
                    f"{epsilon.shape}, {low.shape} and {high.shape}"
                )
            if not (epsilon > 0).all():
                raise ValueError(f"the epsilons of {name!r} must be positive")
            order = np.argsort(-epsilon, kind="stable")
            shade = colour(tone, dark)
            axes.fill_between(
                epsilon[order],
                low[order],
                high[order],
                facecolor=(shade, 0.22),
                edgecolor=(shade, 0.5),
                hatch=hatch,
                lw=0,
            )
            for end in (low, high):
                axes.plot(
                    epsilon[order], end[order], color=shade, ls=line, marker=marker
                )
            axes.plot([], [], color=shade, ls=line, marker=marker, label=name)
        if exact is not None:
            axes.axhline(
                exact, color=colour("grey", dark), ls=(0, (1, 1.5)), label="exact"
            )
        axes.set_xscale("log")
        axes.invert_xaxis()
        ticks = np.unique(np.concatenate([np.asarray(one[1], float) for one in series]))
        if len(ticks) <= _TICKS:
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_xticks([], minor=True)
        axes.set_xlabel("epsilon (smaller to the right)")
        axes.set_ylabel(ylabel)
        axes.legend(labelcolor=colour("black", dark))
    return axes


def _check_count(name: str, series: Sequence[Any]) -> None:
    if not 1 <= len(series) <= len(LOOKS):
        raise ValueError(f"`{name}` must hold 1 to {len(LOOKS)}, got {len(series)}")
