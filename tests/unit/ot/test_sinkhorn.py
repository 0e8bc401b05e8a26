"""Streaming, edges and errors of the entropic solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ot
from jaxcur.ot._loop import Measures, soft_min, solve
from jaxcur.ot._potentials import geometry_of
from jaxcur.ot._sinkhorn import prepare
from jaxcur.ot._stream import Layout
from tests.helpers import assert_close

N, M, D = 23, 17, 3


def cloud(seed=0, n=N, m=M, d=D):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(m, d)) + 0.3
    a, b = rng.random(n) + 0.1, rng.random(m) + 0.1
    return x, y, a / a.sum(), b / b.sum()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("tile", [1, 5, 23, 1000, None])
def test_any_tile_gives_the_dense_answer(tile):
    x, y, a, b = cloud()
    cost = np.asarray(ot.cost_matrix(x, y))
    dense = ot.sinkhorn_matrix(cost, a=a, b=b, epsilon=0.5, rtol=1e-10, tile=N)
    found = ot.sinkhorn(x, y, a=a, b=b, epsilon=0.5, rtol=1e-10, tile=tile)
    assert_close(float(found.value), float(dense.value), rtol=1e-9)
    assert_close(found.f, np.asarray(dense.f), rtol=0, atol=1e-8)
    vectors = np.random.default_rng(1).normal(size=(M, 2))
    plan = np.asarray(ot.plan(dense, cost))
    assert_close(ot.apply_plan(found, x, y, vectors), plan @ vectors, rtol=1e-7)
    back = ot.apply_plan(found, x, y, x[:, 0], transpose=True)
    assert_close(back, plan.T @ x[:, 0], rtol=1e-7)
    mapped = plan @ y / plan.sum(1, keepdims=True)
    assert_close(ot.barycentric_map(found, x, y), mapped, rtol=1e-7)
    assert_close(
        float(ot.transport_cost(found, x, y)), float((plan * cost).sum()), rtol=1e-7
    )
    bounds = jnp.stack(ot.certified_bounds(found, x, y))
    assert_close(bounds, jnp.stack(ot.certified_bounds(dense, cost)), rtol=1e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("low", [0.0, -5000.0])
def test_fused_iteration_is_the_textbook_one(keep, low):
    """After one pass from given potentials: a row update, then a column update.

    A column whose potential is far too low vanishes beside the others, and returns.
    """
    x, y, a, b = (jnp.asarray(v) for v in cloud())
    epsilon = 0.7
    problem = prepare(
        x,
        y,
        a,
        b,
        epsilon=epsilon,
        cost=ot.SquaredEuclidean(),
        rho_a=None,
        rho_b=None,
    )
    geometry = geometry_of(problem)
    measures = Measures(a, b, problem.epsilon, None, None)
    start = (jnp.zeros(N), (0.1 * jnp.arange(M) / M).at[3].set(low))
    layout = Layout(7, keep=keep)
    options = {"symmetric": False, "anneal": False, "layout": layout, "max_steps": 1}
    found = solve(geometry, measures, start, jnp.zeros(()), **options)
    # The first pass of a level is settled by two exact updates, then fused.
    cost = np.asarray(ot.cost_matrix(x, y))

    def rows(g):
        return -epsilon * np.log(np.exp((g - cost) / epsilon) @ np.asarray(b))

    def columns(f):
        return -epsilon * np.log(np.asarray(a) @ np.exp((f[:, None] - cost) / epsilon))

    g = columns(rows(np.asarray(start[1])))
    assert_close(geometry.v + epsilon * found.psi, g, rtol=0, atol=1e-10)
    assert_close(geometry.u + epsilon * found.phi, rows(g), rtol=0, atol=1e-10)
    lse = soft_min(geometry, found.psi + jnp.log(b), problem.epsilon, Layout(4))
    assert_close(-lse, found.phi, rtol=0, atol=1e-10)


COSTS = {
    "euclidean": ot.Euclidean(),
    "cosine": ot.Cosine(),
    "function": lambda p, q: jnp.abs(p[:, None] - q[None]).sum(-1),
    "labels": ot.LabelAugmented(
        np.array([[0.0, 2.0], [1.0, 0.5]]), base=ot.SquaredEuclidean(), label_weight=2.0
    ),
    "labels on euclidean": ot.LabelAugmented(
        np.array([[0.0, 2.0], [1.0, 0.5]]), base=ot.Euclidean(), feature_weight=0.5
    ),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", COSTS)
def test_costs_are_what_they_say(name):
    x, y, _, _ = cloud()
    labels_x, labels_y = np.arange(N) % 2, np.arange(M) // 9
    difference = x[:, None] - y[None]
    euclidean = np.linalg.norm(difference, axis=-1)
    inner = x @ y.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
    table = np.array([[0.0, 2.0], [1.0, 0.5]])[labels_x][:, labels_y]
    wanted = {
        "euclidean": euclidean,
        "cosine": 1 - inner,
        "function": np.abs(difference).sum(-1),
        "labels": euclidean**2 + 2 * table,
        "labels on euclidean": 0.5 * euclidean + table,
    }[name]
    if "labels" in name:
        x, y = ot.attach_labels(x, labels_x), ot.attach_labels(y, labels_y)
    found = ot.cost_matrix(x, y, cost=COSTS[name])
    assert_close(found, wanted, rtol=1e-9, atol=1e-9)


# One shape and one set of options for all edges below: one program in float32.
def small(x, y, a=None, b=None, epsilon=0.5, **options):
    n, m = 6, 5
    a = np.full(n, 1 / n) if a is None else a
    b = np.full(m, 1 / m) if b is None else b
    arrays = [np.asarray(v, np.float32) for v in (x, y, a, b)]
    return ot.sinkhorn(
        *arrays[:2], a=arrays[2], b=arrays[3], epsilon=epsilon, **options
    )


def points(seed=0, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(5, 2))
    return x * scale + offset, y * scale + offset


def test_points_far_from_the_origin_lose_nothing():
    x, y = (v.astype(np.float32) for v in points(offset=1e6, scale=10.0))
    near = small(x.astype(np.float64) - 1e6, y.astype(np.float64) - 1e6, epsilon=50.0)
    far = small(x, y, epsilon=50.0)
    assert bool(far.converged)
    assert_close(float(far.value), float(near.value), rtol=1e-5)
    assert_close(far.f, np.asarray(near.f), rtol=0, atol=1e-3)


def test_costs_of_1e12_and_of_1e_12():
    for scale in (1e6, 1e-6):
        x, y = points(scale=scale)
        base = small(*points())
        found = small(x, y, epsilon=0.5 * scale**2)
        assert bool(found.converged)
        assert_close(float(found.value), float(base.value) * scale**2, rtol=1e-4)


def test_tiny_epsilon_ends_with_finite_potentials():
    found = small(*points(), epsilon=1e-6, max_steps=50)
    assert not bool(found.converged)
    assert np.isfinite(np.asarray(found.f)).all()
    assert np.isfinite(np.asarray(found.g)).all()
    assert not np.isnan(float(found.value))
    lower, upper = ot.certified_bounds(found, *points())
    assert float(lower) <= float(upper)


@pytest.mark.parametrize("epsilon", [0.01, 1.0])
def test_a_solve_cut_short_still_gives_a_lower_bound(epsilon):
    """Two steps end at a coarser epsilon; its potentials are fitted to the target."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(n, 3)).astype(np.float32) for n in (60, 40))
    reference = float(ot.sinkhorn(x, y, epsilon=epsilon).value)
    for steps in (0, 2):
        found = ot.sinkhorn(x, y, epsilon=epsilon, max_steps=steps)
        assert int(found.num_steps) == steps and not bool(found.converged)
        assert 0 < float(found.value) < reference
        # No more than all mass is in the wrong place.
        assert float(found.error) <= 2 + 1e-5


def test_no_steps_return_the_initial_potentials():
    f, g = np.arange(6.0), -np.arange(5.0)
    found = small(*points(), init=(f, g), max_steps=0)
    assert_close(found.f, f.astype(np.float32), rtol=1e-6, atol=1e-6)
    assert_close(found.g, g.astype(np.float32), rtol=1e-6, atol=1e-6)
    assert int(found.num_steps) == 0 and not bool(found.converged)
    assert np.isfinite(float(found.error))


def test_warm_start_needs_few_steps():
    cold = small(*points(), epsilon=0.1)
    warm = small(*points(), epsilon=0.1, init=cold)
    assert int(warm.num_steps) <= 2 < int(cold.num_steps)
    assert_close(float(warm.value), float(cold.value), rtol=1e-4)


def test_weights_zero_influence_nothing_and_one_point_takes_all():
    x, y = points()
    a = np.array([0.5, 0.5, 0, 0, 0, 0])
    moved = x.copy()
    moved[2:] += 1e3
    one, other = small(x, y, a=a), small(moved, y, a=a)
    assert_close(float(one.value), float(other.value), rtol=1e-6)
    assert_close(one.g, np.asarray(other.g), rtol=0, atol=1e-4)
    # The potential of a point without weight is what a weight there would meet.
    cost = ((x[:, None] - y) ** 2).sum(-1)
    f = -0.5 * np.log(np.exp((np.asarray(one.g) - cost) / 0.5).mean(1))
    assert_close(one.f, f.astype(np.float32), rtol=0, atol=1e-4)
    single = small(x, y, a=np.eye(6)[0])
    assert_close(ot.plan(single, x, y)[0], np.full(5, 0.2), rtol=1e-5)
    assert_close(float(ot.transport_cost(single, x, y)), cost[0].mean(), rtol=1e-5)


def test_identical_clouds_and_duplicates():
    x, _ = points()
    y = x[:5]
    gradient = jax.grad(
        lambda x: (
            ot.sinkhorn(x, y.astype(np.float32), epsilon=0.5, cost=ot.Euclidean()).value
        )
    )(jnp.asarray(x, jnp.float32))
    assert np.isfinite(np.asarray(gradient)).all()
    same = np.zeros((6, 2), np.float32)
    found = small(same, same[:5])
    # The dual of float32 potentials sums to 0 within an ulp of epsilon.
    assert abs(float(found.value)) < 1e-6 and bool(found.converged)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_never_give_a_number(bad):
    x, y = points()
    x[3, 1] = bad
    found = small(x, y)
    assert not bool(found.converged)
    assert np.isnan(float(found.value))


def test_bad_weights_under_tracing_give_nan():
    x, y = points()
    run = jax.jit(lambda a: small_traced(x, y, a).value)
    assert np.isnan(float(run(np.full(6, 0.5, np.float32))))
    assert np.isnan(float(run(np.array([1.5, -0.5, 0, 0, 0, 0], np.float32))))
    nearly = np.full(6, 1 / 6, np.float32) * np.float32(1 + 1e-6)
    assert np.isfinite(float(run(nearly)))


def small_traced(x, y, a):
    arrays = [jnp.asarray(v, jnp.float32) for v in (x, y)]
    return ot.sinkhorn(*arrays, a=a, epsilon=0.5)


def test_other_dtypes_are_computed_in_float32():
    x, y = points()
    whole = ot.sinkhorn(np.round(x).astype(int), np.round(y).astype(int), epsilon=0.5)
    half = ot.sinkhorn(x.astype(np.float16), y.astype(np.float16), epsilon=0.5)
    assert whole.f.dtype == half.f.dtype == jnp.float32


def test_one_row_or_column_forces_the_plan():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 2)), rng.normal(size=(4, 2))
    b = np.array([0.1, 0.2, 0.3, 0.4])
    for left, right, weights in ((x, y, {"b": b}), (y, x, {"a": b})):
        found = ot.sinkhorn(left, right, epsilon=0.01, **weights)
        assert bool(found.converged)
        assert_close(
            np.ravel(ot.plan(found, left, right)), b.astype(np.float32), rtol=1e-4
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros(3)}, "`x` must have shape"),
        ({"x": np.zeros((0, 2))}, "at least one row"),
        ({"x": np.zeros((3, 0)), "y": np.zeros((3, 0))}, "at least one row"),
        ({"x": np.zeros((3, 4))}, "same columns"),
        ({"a": np.ones(2)}, "`a` must have shape"),
        ({"a": np.ones(3)}, "`a` must sum to 1"),
        ({"a": np.array([1.5, -0.5, 0])}, "finite and nonnegative"),
        ({"b": np.zeros(3)}, "must not be all zero"),
        ({"epsilon": 0.0}, "`epsilon` must be positive"),
        ({"epsilon": np.ones(2)}, "jax.vmap"),
        ({"rho_a": -1.0}, "`rho_a` must be positive"),
        ({"tile": 0}, "`tile` must be a positive integer"),
        ({"max_steps": -1}, "`max_steps` must be a nonnegative"),
        ({"rtol": -1.0}, "`rtol` must not be negative"),
        ({"init": (np.zeros(2), np.zeros(3))}, "`init` must hold"),
        (
            {"cost": ot.LabelAugmented(np.zeros((1, 1))), "x": np.ones((3, 2))},
            "integer labels in 0..0",
        ),
        ({"cost": lambda p, q: p @ q.T @ q}, "`cost` must map blocks"),
    ],
)
def test_errors_name_the_argument(change, message):
    arguments = {"x": np.zeros((3, 2)), "y": np.zeros((3, 2)), "epsilon": 1.0}
    arguments.update(change)
    with pytest.raises(ValueError, match=message):
        ot.sinkhorn(arguments.pop("x"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        ("euclidean", "`cost` must be a cost"),
        (ot.Euclidean, r"write ot.Euclidean\(\)"),
        (np.ones((3, 3)), r"shape \(3, 3\); ot.sinkhorn_matrix"),
    ],
)
def test_a_cost_that_is_none_is_refused(cost, message):
    with pytest.raises(TypeError, match=message):
        ot.sinkhorn(np.zeros((3, 2)), np.zeros((3, 2)), epsilon=1.0, cost=cost)


def test_points_of_another_problem_are_refused():
    x, y = points()
    found = small(x, y)
    with pytest.raises(ValueError, match="points of the result"):
        ot.plan(found, x[:3], y)
    with pytest.raises(ValueError, match="`y` must be given"):
        ot.plan(found, x)
    with pytest.raises(ValueError, match="`vectors` must have shape"):
        ot.apply_plan(found, x, y, np.ones(6))
