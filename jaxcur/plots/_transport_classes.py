"""Mass that goes from class to class, as a table with shades."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxcur._base import import_extra
from jaxcur.plots._style import colour, is_dark, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def class_transport(
    axes: "Axes",
    table: Any,
    *,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    xlabel: str = "to class",
    ylabel: str = "from class",
) -> "Axes":
    """Mass moved from each class of one sample to each class of another.

    Cells hold percent of the mass, rounded, and nothing below half a percent; darker is
    more (lighter on dark axes). Cells of a class to itself are framed where both sides
    have the same names.

    Args:
        axes: where to draw.
        table: shape (k, l), masses. With one-hot labels H of both samples it is
            `H_x.T @ ot.apply_plan(result, x, y, H_y)`.
        rows: names of the k classes; their numbers by default.
        columns: names of the l classes.
        xlabel: name of the columns.
        ylabel: name of the rows.

    Raises:
        ValueError: a table of another rank, negative or not finite; names that are too
            few or too many.

    Example:
        >>> from jaxcur import plots
        >>> _, axes = plots.figure()
        >>> axes = plots.class_transport(axes, [[0.5, 0.25], [0.0, 0.25]])
        >>> sorted(text.get_text() for text in axes.texts)
        ['25', '25', '50']
    """
    masses = np.asarray(table, float)
    if masses.ndim != 2 or 0 in masses.shape:
        raise ValueError(f"`table` must have shape (k, l), got {masses.shape}")
    if not (np.isfinite(masses) & (masses >= 0)).all():
        raise ValueError("`table` must be finite and nonnegative")
    k, l = masses.shape  # noqa: E741
    named = [
        list(map(str, range(count) if given is None else given))
        for given, count in ((rows, k), (columns, l))
    ]
    for word, names, count in zip(("rows", "columns"), named, (k, l), strict=True):
        if len(names) != count:
            raise ValueError(f"`{word}` must hold {count} names, got {len(names)}")
    colors = import_extra("matplotlib.colors", "plots")
    patches = import_extra("matplotlib.patches", "plots")
    dark = is_dark(axes)
    ink = [axes.get_facecolor(), colour("blue", dark)]
    shades = colors.LinearSegmentedColormap.from_list("mass", ink)
    top = masses.max()
    with style():
        axes.grid(visible=False)
        axes.imshow(masses, cmap=shades, vmin=0, vmax=top if top > 0 else 1)
        for i in range(k):
            for j in range(l):
                percent = f"{100 * masses[i, j]:.0f}"
                if percent != "0":
                    axes.text(
                        j,
                        i,
                        percent,
                        ha="center",
                        va="center",
                        fontsize=9,
                        color=_readable(shades(masses[i, j] / top)),
                    )
        if named[0] == named[1]:
            for i in range(k):
                axes.add_patch(
                    patches.Rectangle(
                        (i - 0.5, i - 0.5),
                        1,
                        1,
                        fill=False,
                        lw=1,
                        edgecolor=colour("grey", dark),
                    )
                )
        axes.set_xticks(range(l), named[1])
        axes.set_yticks(range(k), named[0])
        axes.tick_params(length=0)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
    return axes


def _readable(cell: tuple[float, float, float, float]) -> str:
    """Ink that shows on a cell of that colour."""
    red, green, blue, _ = cell
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"
