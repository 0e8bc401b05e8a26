"""A reliability diagram draws the arrays it is given, and says what they mean."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxcur import plots
from jaxcur.calibration import ReliabilityDiagramResult


def diagram(kind="binned", band="consistency", **changes):
    nan = np.nan
    parts = {
        "forecast": np.array([0.1, nan, 0.5, 0.9]),
        "rate": np.array([0.3, nan, 0.55, 0.7]),
        "weight": np.array([40.0, 0.0, 10.0, 20.0]),
        "lower": np.array([0.0, nan, 0.4, 0.8]),
        "upper": np.array([0.2, nan, 0.6, 1.0]),
        "confidence_level": np.array(0.95),
    }
    return ReliabilityDiagramResult(**(parts | changes), kind=kind, band=band)


def draw(series, **options):
    _, axes = plots.figure(5, 5)
    return plots.reliability_diagram(axes, series, **options)


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def markers(axes, face):
    """Points of the markers with that filling."""
    return [
        line.get_xydata().tolist()
        for line in axes.lines
        if line.get_marker() == "o"
        and len(line.get_xdata())
        and to_rgba(line.get_markerfacecolor()) == to_rgba(face)
    ]


def test_bins_outside_the_band_are_filled_and_others_hollow():
    axes = draw(diagram())
    assert markers(axes, plots.PALETTE["blue"]) == [[[0.1, 0.3], [0.9, 0.7]]]
    assert markers(axes, "white") == [[[0.5, 0.55]]]
    assert legend_of(axes) == [
        "where calibrated forecasts would lie",
        "outside the band",
    ]
    diagonal = axes.lines[0].get_xydata()
    np.testing.assert_array_equal(diagonal, [[0, 0], [1, 1]])
    inside = draw(diagram(rate=np.array([0.1, np.nan, 0.5, 0.9])))
    assert legend_of(inside) == ["where calibrated forecasts would lie"]


def test_a_curve_is_heavy_where_it_leaves_the_band():
    for kind in ("corp", "smooth"):
        axes = draw(diagram(kind))
        [heavy] = [
            line
            for line in axes.lines
            if line.get_linewidth() == 4 and len(line.get_xdata())
        ]
        np.testing.assert_array_equal(heavy.get_ydata(), [0.3, np.nan, 0.7])
        [band] = [c for c in axes.collections if hasattr(c, "get_paths")]
        extent = band.get_paths()[0].get_extents()
        assert (extent.y0, extent.y1) == (0.0, 1.0)


def test_the_strip_shows_where_the_forecasts_lie():
    axes = draw(diagram())
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(np.array(heights) / max(heights), [1, 0.25, 0.5])
    assert axes.get_ylim()[0] < min(bar.get_y() for bar in axes.patches) + 1e-12
    assert max(bar.get_y() + bar.get_height() for bar in axes.patches) < 0
    assert not draw(diagram(), forecasts=False).patches
    assert not draw([("a", diagram()), ("b", diagram("corp"))]).patches


def test_several_series_differ_in_more_than_colour():
    axes = draw([("before", diagram("corp")), ("after", diagram("smooth"))])
    assert legend_of(axes) == ["before", "after"]
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["before"].get_linestyle() != lines["after"].get_linestyle()


def test_a_confidence_band_is_a_bar_at_each_point():
    axes = draw(diagram(band="confidence"), forecasts=False)
    [container] = axes.containers
    [bars] = container.lines[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    # An end on the wrong side of the rate is drawn at the rate.
    np.testing.assert_allclose(ends, [[0.0, 0.3], [0.4, 0.6], [0.7, 1.0]])
    assert legend_of(axes) == ["interval of the rate"]


def test_dark_axes_get_lighter_colours():
    _, axes = plots.figure()
    axes.set_facecolor("black")
    plots.reliability_diagram(axes, diagram(band="none"))
    assert markers(axes, plots.PALETTE["sky"])
    assert axes.get_legend() is None


def test_what_is_no_diagram_is_refused():
    with pytest.raises(ValueError, match="1 to 6 diagrams, got 0"):
        draw([])
    stacked = diagram(rate=np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"is stacked, with rates of shape \(2, 4\)"):
        draw([("many", stacked)])
