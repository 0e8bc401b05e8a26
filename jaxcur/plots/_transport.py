"""A transport plan: an image where points lie on a line, lines in the plane."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur import ot
from jaxcur._base import import_extra
from jaxcur.plots._curves import LOOKS
from jaxcur.plots._style import colour, is_dark, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from jaxcur.ot import SinkhornResult

# Entries of the largest plan that is stored to look for its strongest.
_LARGEST = 4_000_000


def transport_plan(
    axes: "Axes",
    result: "SinkhornResult",
    x: Any,
    y: Any = None,
    *,
    positions: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("x", "y"),
    num_bins: int = 50,
    most: int = 300,
) -> "Axes":
    """Where the mass of x goes.

    Points on a line: an image of the mass that goes from each stretch of x to each
    stretch of y, darker for more (lighter on dark axes), with both marginals at the
    edges, and the mean partner of each point. Any number of points will do.

    Points in the plane: both clouds, and a line for each of the strongest pairs, wider
    for more mass. The legend says which share of the mass they carry: the rest of the
    plan is not drawn. Points without weight are left out.

    Args:
        axes: where to draw.
        result: of `ot.sinkhorn` or `ot.sinkhorn_matrix`.
        x: shape (n,), (n, 1) or (n, 2), the points of the result; any (n, d) where
            `positions` are given; the cost matrix for `ot.sinkhorn_matrix`.
        y: the same for m points; None with a cost matrix.
        positions: two arrays of shape (n,) or (n, 2), and (m,) or (m, 2): where to draw
            points that have more columns, their first two principal components say.
        names: of the clouds.
        num_bins: stretches of each axis, for points on a line.
        most: pairs to draw, in the plane.

    Raises:
        ValueError: points of more than two columns without `positions`, more than four
            million pairs in the plane, wrong shapes.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot, plots
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [3.0]])
        >>> result = ot.sinkhorn(x, y, epsilon=0.1)
        >>> _, axes = plots.figure(5, 5)
        >>> plots.transport_plan(axes, result, x, y).get_ylabel()
        'y'
    """
    left, right = drawn_positions(result, x, y, positions)
    for name, count in (("num_bins", num_bins), ("most", most)):
        if count < 1:
            raise ValueError(f"`{name}` must be at least 1, got {count}")
    if y is not None and np.ndim(x) == 1:
        x, y = np.reshape(x, (-1, 1)), np.reshape(y, (-1, 1))
    draw = _draw_image if left.shape[1] == 1 else _draw_pairs
    with style():
        draw(axes, result, (x, y), (left, right), names, num_bins, most)
    return axes


def drawn_positions(
    result: "SinkhornResult", x: Any, y: Any, positions: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Where both clouds are drawn, (n, 1) and (m, 1) or (n, 2) and (m, 2)."""
    if positions is None and y is None:
        raise ValueError("`positions` must be given with a cost matrix")
    given = (x, y) if positions is None else positions
    words = "`x` and `y`" if positions is None else "`positions`"
    if len(given) != 2:
        raise ValueError(f"`positions` must be two arrays, got {len(given)}")
    left, right = (np.asarray(part, float) for part in given)
    left, right = (p[:, None] if p.ndim == 1 else p for p in (left, right))
    n, m = result.f.shape[0], result.g.shape[0]
    shapes = f"got {np.shape(given[0])} and {np.shape(given[1])}"
    if left.ndim != 2 or right.ndim != 2 or (len(left), len(right)) != (n, m):
        raise ValueError(f"{words} must have {n} and {m} rows, {shapes}")
    if left.shape[1] != right.shape[1] or left.shape[1] not in (1, 2):
        hint = "" if positions is not None else "; give `positions`, such as two scores"
        raise ValueError(f"{words} must both have one column or two, {shapes}{hint}")
    for part in (left, right):
        if not np.isfinite(part).all():
            raise ValueError(f"{words} must be finite")
    return left, right


def _bins(points: np.ndarray, weights: np.ndarray, count: int) -> Any:
    """Edges of equal stretches, which stretch a point is in, and their masses."""
    low, high = points.min(), points.max()
    margin = 0.5 * (high - low) / count if high > low else 0.5
    edges = np.linspace(low - margin, high + margin, count + 1)
    place = np.clip(np.searchsorted(edges, points, side="right") - 1, 0, count - 1)
    return edges, place, np.bincount(place, weights, minlength=count)


def _draw_image(
    axes: "Axes",
    result: "SinkhornResult",
    points: tuple[Any, Any],
    places: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    num_bins: int,
    most: int,
) -> None:
    colors = import_extra("matplotlib.colors", "plots")
    left, right = places[0][:, 0], places[1][:, 0]
    a, b = np.asarray(result.a, float), np.asarray(result.b, float)
    edges_x, bin_x, mass_x = _bins(left, a, num_bins)
    edges_y, bin_y, mass_y = _bins(right, b, num_bins)
    # Mass to each stretch of y, and its sum with the partners' places: one pass.
    centre = right.mean()
    hot = np.zeros((len(right), num_bins + 2), np.float32)
    hot[np.arange(len(right)), bin_y] = 1
    hot[:, -2], hot[:, -1] = right - centre, 1
    moved = np.asarray(ot.apply_plan(result, *points, hot), float)
    image = np.zeros((num_bins, num_bins))
    np.add.at(image, bin_x, moved[:, :num_bins])

    dark = is_dark(axes)
    ink = [axes.get_facecolor(), colour("blue", dark), colour("black", dark)]
    shades = colors.LinearSegmentedColormap.from_list("mass", ink)
    axes.grid(visible=False)
    axes.pcolormesh(edges_x, edges_y, image.T, cmap=shades, vmin=0, rasterized=True)
    order = np.argsort(left, kind="stable")
    order = order[moved[order, -1] > 0]
    axes.plot(
        left[order],
        centre + moved[order, -2] / moved[order, -1],
        color=colour("vermillion", dark),
        marker="s" if len(order) <= 30 else "",
        lw=1.5,
        label=f"mean partner in {names[1]}",
    )
    shade = colour("grey", dark)
    for place, size, edges, mass in (
        ((0, 1.02, 1, 0.16), "height", edges_x, mass_x),
        ((1.02, 0, 0.16, 1), "width", edges_y, mass_y),
    ):
        edge = axes.inset_axes(place)
        upright = size == "height"
        edge.stairs(
            mass,
            edges,
            orientation="vertical" if upright else "horizontal",
            fill=True,
            color=shade,
        )
        (edge.set_xlim if upright else edge.set_ylim)(edges[0], edges[-1])
        edge.axis("off")
    axes.set_xlim(edges_x[0], edges_x[-1])
    axes.set_ylim(edges_y[0], edges_y[-1])
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.legend(loc="upper left", labelcolor=_words(dark))


def _draw_pairs(
    axes: "Axes",
    result: "SinkhornResult",
    points: tuple[Any, Any],
    places: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    num_bins: int,
    most: int,
) -> None:
    collections = import_extra("matplotlib.collections", "plots")
    n, m = len(places[0]), len(places[1])
    if n * m > _LARGEST:
        raise ValueError(
            f"`x` and `y` have {n} and {m} points, too many pairs to draw; draw a "
            "sample of them, or arrows of ot.barycentric_map"
        )
    plan = np.asarray(ot.plan(result, *points), float)
    if not np.isfinite(plan).all():
        raise ValueError("`result` must be finite: its plan holds NaN")
    flat = plan.ravel()
    kept = min(most, int((flat > 0).sum()))
    # Strongest last, on top.
    chosen = np.argsort(flat, kind="stable")[flat.size - kept :]
    mass = flat[chosen]
    rows, columns = np.unravel_index(chosen, plan.shape)
    dark = is_dark(axes)
    shade = colour("grey", dark)
    share = mass.sum() / plan.sum() if kept else 0.0
    relative = mass / mass.max() if kept else mass
    lines = collections.LineCollection(
        np.stack([places[0][rows], places[1][columns]], axis=1),
        linewidths=0.3 + 2.2 * relative,
        colors=shade,
        alpha=0.6,
        zorder=1.5,
        label=f"{kept} strongest pairs, {share:.0%} of the mass",
    )
    axes.add_collection(lines)
    weights = (np.asarray(result.a, float), np.asarray(result.b, float))
    for where, weight, name, (tone, marker, _) in zip(
        places, weights, names, LOOKS, strict=False
    ):
        present = weight > 0
        size = weight[present] / weight.max()
        axes.scatter(
            *where[present].T,
            s=8 + 28 * size,
            color=colour(tone, dark),
            marker=marker,
            edgecolor=axes.get_facecolor(),
            linewidth=0.5,
            zorder=2,
            label=name,
        )
    axes.autoscale_view()
    handles, labels = axes.get_legend_handles_labels()
    handles[0] = import_extra("matplotlib.lines", "plots").Line2D(
        [], [], color=shade, lw=1.5
    )
    axes.legend(
        handles[1:] + handles[:1],
        labels[1:] + labels[:1],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        labelcolor=_words(dark),
    )


def _words(dark: bool) -> str:
    return colour("black", dark)
