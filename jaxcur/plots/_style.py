"""One look for every picture, without touching matplotlib's global state."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcur._base import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, which people with the common forms of colour blindness
# can tell apart, darkest first.
PALETTE = {
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "green": "#009E73",
    "orange": "#E69F00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "grey": "#666666",
    "black": "#000000",
}

# Colours of the palette that a dark background swallows, and what takes their place.
_ON_DARK = {
    "blue": PALETTE["sky"],
    "vermillion": PALETTE["orange"],
    "green": "#4FC3A1",
    "grey": "#AAAAAA",
    "black": "#FFFFFF",
}

_RC: dict[str, Any] = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Settings of this package for the length of a `with` block."""
    matplotlib = import_extra("matplotlib", "plots")
    with matplotlib.rc_context(_RC):
        yield


def figure(
    width: float = 6.4, height: float = 4.2, *, rows: int = 1, columns: int = 1
) -> "tuple[Figure, Any]":
    """A figure that belongs to nobody's `pyplot` session, and its axes.

    Args:
        width: inches.
        height: inches.
        rows: panels downwards.
        columns: panels across.

    Returns:
        The figure, and one Axes or an array of them as in `Figure.subplots`.

    Example:
        >>> from jaxcur import plots
        >>> drawing, axes = plots.figure(rows=2)
        >>> axes.shape
        (2,)
    """
    module = import_extra("matplotlib.figure", "plots")
    with style():
        drawing = module.Figure(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(rows, columns)
    return drawing, axes


def save_png(drawing: "Figure", path: Path | None = None, *, dpi: int = 150) -> bytes:
    """The figure as PNG; also written to `path` when one is given."""
    buffer = io.BytesIO()
    with style():
        # A fixed software tag keeps the bytes the same from run to run.
        drawing.savefig(buffer, format="png", dpi=dpi, metadata={"Software": "jaxcur"})
    content = buffer.getvalue()
    if path is not None:
        Path(path).write_bytes(content)
    return content


def is_dark(axes: "Axes") -> bool:
    """Whether the axes have a dark background; without one they count as light."""
    from matplotlib.colors import to_rgba

    red, green, blue, alpha = to_rgba(axes.get_facecolor())
    return alpha > 0 and 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def colour(name: str, dark: bool) -> str:
    """A colour of the palette that shows on such a background."""
    return _ON_DARK.get(name, PALETTE[name]) if dark else PALETTE[name]


def percent_axis(axes: "Axes", which: str = "both") -> None:
    """Label shares in [0, 1] as percentages."""
    ticker = import_extra("matplotlib.ticker", "plots")
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if which in (name, "both"):
            axis.set_major_formatter(ticker.PercentFormatter(1.0, decimals=0))
