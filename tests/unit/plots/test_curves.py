"""Pictures hold the numbers they were given, and leave matplotlib's state alone."""

import matplotlib
import numpy as np
import pytest

from jaxcur import plots


def test_rate_curves_draw_the_estimates_and_intervals():
    _, axes = plots.figure()
    estimate = np.array([0.08, 0.19])
    curve = plots.Curve("ours", estimate, estimate - 0.01, estimate + 0.02)
    plots.rate_curves(axes, [0.1, 0.2], [curve, curve], ylabel="rate", diagonal=True)
    container = axes.containers[0]
    np.testing.assert_allclose(container.lines[0].get_xydata()[:, 1], estimate)
    segments = container.lines[2][0].get_segments()
    np.testing.assert_allclose(segments[1][:, 1], [0.18, 0.21])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ours"] * 2
    assert axes.get_ylim()[1] >= 0.2


def test_series_differ_in_colour_marker_and_line():
    _, axes = plots.figure()
    flat = np.array([0.1, 0.1])
    curves = [plots.Curve(str(i), flat, flat, flat) for i in range(4)]
    plots.rate_curves(axes, [0.1, 0.2], curves, ylabel="rate")
    lines = [container.lines[0] for container in axes.containers]
    for look in ("get_color", "get_marker", "get_linestyle"):
        assert len({getattr(line, look)() for line in lines}) == 4


def test_too_many_curves_are_refused():
    _, axes = plots.figure()
    flat = np.array([0.1])
    with pytest.raises(ValueError, match="at most 6"):
        plots.rate_curves(
            axes, [0.1], [plots.Curve("c", flat, flat, flat)] * 7, ylabel="rate"
        )


def test_an_infinite_cut_is_left_out():
    _, axes = plots.figure()
    plots.prediction_cut(
        axes,
        np.array([1.0, 2.0]),
        np.array([1.0, 3.0]),
        threshold=2.0,
        cuts=(("here", 1.5), ("nowhere", np.inf)),
        xlabel="x",
        ylabel="y",
    )
    words = [text.get_text() for text in axes.texts]
    assert len(words) == 1 and words[0].startswith("here")


def test_histograms_show_shares():
    _, axes = plots.figure()
    plots.histogram_pair(
        axes,
        [("a", np.array([0.0, 0.0, 0.35, 0.35]))],
        bins=np.linspace(0, 0.4, 5),
        xlabel="share",
        reference=("level", 0.1),
    )
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, [0.5, 0, 0, 0.5])


def test_pictures_are_the_same_bytes_each_time_and_settings_stay_outside(tmp_path):
    before = dict(matplotlib.rcParams)
    contents = []
    for name in ("one.png", "two.png"):
        drawing, axes = plots.figure()
        axes.plot([0, 1], [0, 1])
        contents.append(plots.save_png(drawing, tmp_path / name))
    assert contents[0] == contents[1] == (tmp_path / "two.png").read_bytes()
    assert contents[0].startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
