"""Pictures of transport draw the plan, the potentials and the bounds they are given."""

import numpy as np
import pytest

from jaxcur import ot, plots

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 2)).astype(np.float32)
Y = RNG.normal(size=(20, 2)).astype(np.float32) + 1
A = RNG.dirichlet(np.ones(30)).astype(np.float32)
A[:2] = 0
A /= A.sum()


@pytest.fixture(scope="module")
def result():
    return ot.sinkhorn(X, Y, epsilon=0.5, a=A)


def axes_of(*size, dark=False):
    _, axes = plots.figure(*size)
    if dark:
        axes.set_facecolor("black")
    return axes


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_the_image_is_the_plan_summed_over_stretches(result):
    places = (X[:, 0], Y[:, 0])
    axes = plots.transport_plan(
        axes_of(), result, X, Y, positions=places, num_bins=4, names=("pool", "goal")
    )
    plan = np.asarray(ot.plan(result, X, Y), float)
    mesh = axes.collections[0]
    corners = mesh.get_coordinates()
    edges_x, edges_y = corners[0, :, 0], corners[:, 0, 1]
    pairs = (np.repeat(places[0], 20), np.tile(places[1], 30))
    expected, _, _ = np.histogram2d(*pairs, (edges_x, edges_y), weights=plan.ravel())
    np.testing.assert_allclose(
        np.asarray(mesh.get_array()).reshape(4, 4).T, expected, atol=1e-6
    )
    # The curve: what each point of positive weight meets on average.
    [line] = axes.lines
    order = np.argsort(places[0], kind="stable")
    order = order[A[order] > 0]
    partner = (plan @ places[1])[order] / plan.sum(axis=1)[order]
    np.testing.assert_allclose(line.get_ydata(), partner, atol=1e-4)
    assert legend_of(axes) == ["mean partner in goal"]
    for edge, axis in zip(axes.child_axes, (1, 0), strict=True):
        [stairs] = edge.patches
        # Marginals of what is shown, as far as the iteration has brought them.
        np.testing.assert_allclose(
            stairs.get_data().values, expected.sum(axis=axis), atol=2e-4
        )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("pool", "goal")


def test_points_of_one_column_may_be_vectors():
    x, y = np.array([0.0, 1.0, 5.0]), np.array([1.0, 2.0])
    found = ot.sinkhorn(x[:, None], y[:, None], epsilon=1.0)
    flat = plots.transport_plan(axes_of(), found, x, y, num_bins=3)
    column = plots.transport_plan(axes_of(), found, x[:, None], y[:, None], num_bins=3)
    np.testing.assert_array_equal(
        flat.collections[0].get_array(), column.collections[0].get_array()
    )


def test_the_strongest_pairs_are_drawn_wider_and_the_rest_is_told(result):
    axes = plots.transport_plan(axes_of(), result, X, Y, most=12)
    plan = np.asarray(ot.plan(result, X, Y), float)
    kept = np.sort(plan.ravel())[-12:]
    lines, pool, goal = axes.collections
    ends = np.array(lines.get_segments())
    assert ends.shape == (12, 2, 2)
    rows = np.array([np.abs(X - start).sum(axis=1).argmin() for start in ends[:, 0]])
    columns = np.array([np.abs(Y - end).sum(axis=1).argmin() for end in ends[:, 1]])
    np.testing.assert_allclose(plan[rows, columns], kept)
    assert (np.diff(lines.get_linewidths()) >= 0).all()
    assert legend_of(axes)[2] == f"12 strongest pairs, {kept.sum():.0%} of the mass"
    # Points without weight take no part.
    assert len(pool.get_offsets()) == 28 and len(goal.get_offsets()) == 20


def test_a_cost_matrix_is_drawn_at_positions(result):
    cost = np.asarray(ot.cost_matrix(X, Y))
    given = ot.sinkhorn_matrix(cost, epsilon=0.5, a=A)
    one = plots.transport_plan(axes_of(), given, cost, positions=(X, Y), most=5)
    other = plots.transport_plan(axes_of(), result, X, Y, most=5)
    np.testing.assert_allclose(
        one.collections[0].get_segments(), other.collections[0].get_segments()
    )
    with pytest.raises(ValueError, match="`positions` must be given with a cost"):
        plots.transport_plan(axes_of(), given, cost)


def test_potentials_are_curves_on_a_line_and_shades_in_the_plane(result):
    axes = plots.potentials(axes_of(), result, X[:, 0], Y[:, 0])
    order = np.argsort(X[:, 0])
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.float64(X[order, 0]))
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), result.f[order])
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()
    axes = plots.potentials(axes_of(dark=True), result, X, Y, names=("one", "two"))
    for drawn, values in zip(axes.collections, (result.f, result.g), strict=True):
        np.testing.assert_array_equal(drawn.get_array(), values)
        low = float(min(result.f.min(), result.g.min()))
        assert drawn.norm.vmin == low
    assert legend_of(axes) == ["one", "two"]
    assert len(axes.get_figure().axes) == 2


def test_stages_of_a_run_end_where_the_run_does(result):
    stages = [ot.sinkhorn(X, Y, epsilon=0.5, a=A, rtol=r) for r in (1e-1, 1e-4, 1e-2)]
    axes = plots.sinkhorn_convergence(axes_of(), [("run", stages)], rtol=1e-3)
    curve, _, inside, outside, tolerance = axes.lines
    steps = sorted(int(one.num_steps) for one in stages)
    np.testing.assert_array_equal(curve.get_xdata(), steps)
    assert (np.diff(curve.get_ydata()) < 0).all()
    assert curve.get_ydata()[-1] == float(result.error)
    assert len(inside.get_xdata()) == 1 and len(outside.get_xdata()) == 2
    assert inside.get_markerfacecolor() != outside.get_markerfacecolor()
    assert tolerance.get_ydata()[0] == 1e-3
    by_flag = plots.sinkhorn_convergence(axes_of(), [("run", stages)])
    assert len(by_flag.lines[2].get_xdata()) == 3


def test_bands_of_bounds_differ_in_more_than_colour():
    series = [
        ("near", [0.1, 1.0], [1.9, 1.0], [2.0, 3.0]),
        ("far", [1.0, 0.1], [2.0, 2.9], [4.0, 3.0]),
    ]
    axes = plots.certified_interval(axes_of(dark=True), series, exact=1.95)
    near, far = axes.collections
    assert near.get_hatch() != far.get_hatch()
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1.0, 1.9])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [3.0, 2.0])
    assert legend_of(axes) == ["near", "far", "exact"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.1", "1"]
    left, right = axes.get_xlim()
    assert left > right


def test_cells_hold_percent_and_read_on_their_shade():
    table = np.array([[0.6, 0.004], [0.096, 0.3]])
    for dark in (False, True):
        axes = plots.class_transport(axes_of(dark=dark), table, rows="ab", columns="ab")
        words = {t.get_position(): t for t in axes.texts}
        assert {place: t.get_text() for place, t in words.items()} == {
            (0, 0): "60",
            (0, 1): "10",
            (1, 1): "30",
        }
        assert words[0, 0].get_color() == ("black" if dark else "white")
        assert words[0, 1].get_color() == ("white" if dark else "black")
        assert len(axes.patches) == 2
    assert not plots.class_transport(axes_of(), table, rows="ab", columns="cd").patches


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a, r: plots.transport_plan(a, r, X[:5], Y), "must have 30 and 20 rows"),
        (
            lambda a, r: plots.transport_plan(a, r, np.ones((30, 3)), np.ones((20, 3))),
            "give `positions`",
        ),
        (lambda a, r: plots.transport_plan(a, r, X, Y, positions=(X,)), "two arrays"),
        (lambda a, r: plots.transport_plan(a, r, X, Y, most=0), "`most` must be at"),
        (lambda a, r: plots.potentials(a, r, X, Y[:, 0]), "one column or two"),
        (lambda a, r: plots.potentials(a, r, X * np.inf, Y), "must be finite"),
        (lambda a, r: plots.sinkhorn_convergence(a, []), "1 to 6, got 0"),
        (lambda a, r: plots.sinkhorn_convergence(a, [("n", [])]), "finite error"),
        (
            lambda a, r: plots.certified_interval(a, [("n", [0.0], [1], [2])]),
            "must be positive",
        ),
        (
            lambda a, r: plots.certified_interval(a, [("n", [1.0], [1], [2, 3])]),
            r"one shape \(k,\)",
        ),
        (lambda a, r: plots.class_transport(a, [1.0]), r"shape \(k, l\), got \(1,\)"),
        (lambda a, r: plots.class_transport(a, [[-1.0]]), "nonnegative"),
        (lambda a, r: plots.class_transport(a, [[1.0]], rows="ab"), "1 names, got 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused(result, call, words):
    with pytest.raises(ValueError, match=words):
        call(axes_of(), result)


def test_a_plan_of_many_pairs_in_the_plane_is_refused():
    class Huge:
        f, g = np.zeros(3000), np.zeros(2000)

    with pytest.raises(ValueError, match="3000 and 2000 points, too many pairs"):
        plots.transport_plan(axes_of(), Huge, np.ones((3000, 2)), np.ones((2000, 2)))
