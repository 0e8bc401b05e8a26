"""Pictures of ordinal regressions hold the numbers of the fits."""

from typing import NamedTuple

import numpy as np
import pytest

from jaxcur import plots, stats


class Fit(NamedTuple):
    """What the pictures read of a fit."""

    coefficients: np.ndarray
    regularizations: np.ndarray = np.zeros(0)
    family: str = "cumulative"
    link: str = "logit"


def make_path(num_terms=8):
    rng = np.random.default_rng(0)
    strengths = 0.1 * 0.5 ** np.arange(5)
    size = np.arange(1, num_terms + 1)[:, None]
    values = rng.uniform(0.9, 1.1, size=(5, num_terms, 2)) * size
    return Fit(values, strengths)


def test_a_path_shows_the_largest_terms_by_name_and_the_others_grey():
    path = make_path()
    _, axes = plots.figure()
    plots.coefficient_path(axes, path, terms=list("abcdefgh"), selected=2, most=3)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["h", "g", "f", "chosen"]
    by_label = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(
        by_label["g"].get_xydata(),
        np.column_stack([path.regularizations, path.coefficients[:, 6, -1]]),
    )
    assert by_label["chosen"].get_xdata()[0] == path.regularizations[2]
    assert len(axes.lines) == 1 + 8 + 1
    assert axes.get_xscale() == "log" and axes.xaxis_inverted()
    assert axes.get_ylabel().endswith("to lower classes)")
    plots.coefficient_path(axes, path._replace(family="acat"), boundary=0)
    assert axes.get_ylabel().endswith("to higher classes)")


def test_a_strength_of_zero_is_left_out_of_a_logarithmic_axis():
    path = make_path(2)
    _, axes = plots.figure()
    plots.coefficient_path(
        axes, path._replace(regularizations=np.array([0.4, 0.2, 0.1, 0.05, 0.0]))
    )
    assert all(len(line.get_xdata()) in (2, 4) for line in axes.lines)
    with pytest.raises(ValueError, match="two strengths above 0"):
        plots.coefficient_path(axes, path._replace(regularizations=np.zeros(5)))
    with pytest.raises(ValueError, match="several strengths"):
        plots.coefficient_path(axes, Fit(np.zeros((2, 2))))


def test_boundaries_of_a_term_lie_beside_their_span():
    values = np.array([[0.5, 0.5], [-1.0, 0.25], [0.0, 2.0]])
    _, axes = plots.figure()
    plots.boundary_coefficients(
        axes,
        Fit(values),
        terms=["x", "y", "z"],
        boundaries=["a|b", "b|c"],
        std_error=np.full((3, 2), 0.5),
    )
    assert [t.get_text() for t in axes.get_yticklabels()] == ["x", "y", "z"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a|b", "b|c"]
    spans = [line.get_xdata() for line in axes.lines if line.get_linewidth() == 6]
    np.testing.assert_allclose(spans, [[0.5, 0.5], [-1.0, 0.25], [0.0, 2.0]])
    for k, container in enumerate(axes.containers):
        np.testing.assert_allclose(container.lines[0].get_xdata(), values[:, k])
        bars = container.lines[2][0].get_segments()
        np.testing.assert_allclose(bars[0][:, 0], 0.5 + np.array([-0.98, 0.98]))
    words = axes.get_xlabel()
    assert words.index("to higher classes") < words.index("to lower classes")
    markers = {c.lines[0].get_marker() for c in axes.containers}
    assert len(markers) == 2


def test_bins_of_a_rare_class_show_rates_and_exact_intervals():
    probs = np.linspace(0.0, 0.4, 100)
    events = (np.arange(100) % 5 == 0) & (np.arange(100) >= 25)
    _, axes = plots.figure()
    plots.rare_calibration(axes, [("model", probs[::-1])], events[::-1], num_bins=4)
    [container] = axes.containers
    mean, rate = container.lines[0].get_xydata().T ** 2
    np.testing.assert_allclose(mean, probs.reshape(4, 25).mean(axis=1))
    np.testing.assert_allclose(rate, [0, 0.2, 0.2, 0.2], atol=1e-12)
    low, high = stats.clopper_pearson(np.array([0, 5]), 25, 0.95)
    bars = np.array(container.lines[2][0].get_segments())[:2, :, 1] ** 2
    np.testing.assert_allclose(bars, np.column_stack([low, high]), atol=1e-6)
    hollow = [x for x in axes.lines if x.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [1]


def test_what_does_not_fit_a_picture_is_refused():
    _, axes = plots.figure()
    with pytest.raises(ValueError, match="at most 6 boundaries"):
        plots.boundary_coefficients(axes, Fit(np.zeros((2, 7))))
    with pytest.raises(ValueError, match="3 columns, got 1 names"):
        plots.boundary_coefficients(axes, Fit(np.zeros((3, 2))), terms=["x"])
    with pytest.raises(ValueError, match="one fit"):
        plots.boundary_coefficients(axes, make_path())
    with pytest.raises(ValueError, match="same shape"):
        plots.rare_calibration(axes, [("m", np.zeros(3))], np.zeros(4))
    with pytest.raises(ValueError, match="must lie in 1..4"):
        plots.rare_calibration(axes, [("m", np.zeros(4))], np.zeros(4))
    with pytest.raises(ValueError, match="at most 6 series"):
        plots.rare_calibration(axes, [("m", np.zeros(4))] * 7, np.zeros(4))
