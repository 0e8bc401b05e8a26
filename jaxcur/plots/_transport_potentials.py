"""Potentials of a transport problem: what mass at a point costs."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur.plots._curves import LOOKS
from jaxcur.plots._style import colour, is_dark, style
from jaxcur.plots._transport import drawn_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxcur.ot import SinkhornResult

# Points beyond which a curve carries no markers.
_MARKED = 60


def potentials(
    axes: "Axes",
    result: "SinkhornResult",
    x: Any,
    y: Any,
    *,
    names: tuple[str, str] = ("f on x", "g on y"),
) -> "Axes":
    """Potentials f and g: how much the cost rises with mass at a point.

    Points on a line: two curves. Points in the plane: both clouds, a point lighter the
    higher its potential, with a scale at the side. A high f marks points of x that are
    dear to move. Balanced problems leave a shift between f and g free, so that only
    differences within one cloud mean something there.

    Args:
        axes: where to draw.
        result: of `ot.sinkhorn` or `ot.sinkhorn_matrix`.
        x: shape (n,), (n, 1) or (n, 2): the points, or where to draw them.
        y: the same for the m points of y.
        names: of the two potentials.

    Raises:
        ValueError: points of more than two columns, another number of points.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot, plots
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [3.0]])
        >>> result = ot.sinkhorn(x, y, epsilon=0.1)
        >>> _, axes = plots.figure()
        >>> plots.potentials(axes, result, x, y).get_ylabel()
        'potential'
    """
    places = drawn_positions(result, x, y, None)
    values = (np.asarray(result.f, float), np.asarray(result.g, float))
    for part in values:
        if not np.isfinite(part).all():
            raise ValueError("`result` must be finite: its potentials hold NaN")
    draw = _draw_curves if places[0].shape[1] == 1 else _draw_points
    with style():
        draw(axes, places, values, names)
    return axes


def _draw_curves(
    axes: "Axes",
    places: tuple[np.ndarray, np.ndarray],
    values: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
) -> None:
    dark = is_dark(axes)
    for where, value, name, (tone, marker, line) in zip(
        places, values, names, LOOKS, strict=False
    ):
        order = np.argsort(where[:, 0], kind="stable")
        axes.plot(
            where[order, 0],
            value[order],
            color=colour(tone, dark),
            ls=line,
            marker=marker if len(order) <= _MARKED else "",
            label=name,
        )
    axes.set_xlabel("place")
    axes.set_ylabel("potential")
    axes.legend(labelcolor=colour("black", dark))


def _draw_points(
    axes: "Axes",
    places: tuple[np.ndarray, np.ndarray],
    values: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
) -> None:
    dark = is_dark(axes)
    both = np.concatenate(values)
    shade = colour("grey", dark)
    drawn: Any = None
    for where, value, name, (_, marker, _) in zip(
        places, values, names, LOOKS, strict=False
    ):
        drawn = axes.scatter(
            *where.T,
            c=value,
            cmap="cividis",
            vmin=both.min(),
            vmax=both.max(),
            marker=marker,
            edgecolor=shade,
            linewidth=0.6,
            s=34,
        )
        # Hollow in the legend: the colour is the scale's.
        axes.plot(
            [], [], marker=marker, ls="none", mfc="none", mec=shade, label=name, ms=7
        )
    figure: Any = axes.get_figure()
    scale = figure.colorbar(drawn, ax=axes, label="potential")
    scale.outline.set_edgecolor(shade)
    scale.ax.yaxis.label.set_color(colour("black", dark))
    scale.ax.tick_params(colors=colour("black", dark))
    axes.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
        labelcolor=colour("black", dark),
    )
