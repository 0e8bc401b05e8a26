"""jit, vmap, derivatives against central differences, sharding, recompilation."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ot
from tests.helpers import assert_close

N, M, D = 12, 9, 2
H = 1e-5


@functools.cache
def world():
    rng = np.random.default_rng(0)
    a, b = rng.random(N) + 0.1, rng.random(M) + 0.1
    return {
        "x": rng.normal(size=(N, D)),
        "y": rng.normal(size=(M, D)) + 0.5,
        "a": a / a.sum(),
        "b": b / b.sum(),
        "along x": rng.normal(size=(N, D)),
        "along a": 0.01 * (rng.normal(size=N) - 0.5),
        "f": rng.normal(size=N),
        "g": rng.normal(size=M),
        "plan": rng.normal(size=(N, M)),
    }


def centred(direction):
    return direction - direction.mean()


def check(function, slope, point, direction, rtol=1e-5, atol=1e-9):
    """The derivative along a direction against the central difference."""
    ends = [float(function(point + sign * H * direction)) for sign in (1, -1)]
    difference = (ends[0] - ends[1]) / (2 * H)
    assert_close(float(jnp.vdot(slope, direction)), difference, rtol=rtol, atol=atol)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "cost",
    [ot.SquaredEuclidean(), ot.Euclidean(), lambda p, q: 1 - jnp.cos(p @ q.T)],
    ids=["squared", "euclidean", "function"],
)
def test_envelope_gradient_in_points_weights_and_epsilon(cost):
    w = world()

    @jax.jit
    def value(x, a, epsilon):
        return ot.sinkhorn(
            x, w["y"], a=a, b=w["b"], epsilon=epsilon, cost=cost, rtol=1e-11, tile=5
        ).value

    x, a, epsilon = w["x"], w["a"], jnp.asarray(0.4)
    slope_x, slope_a, slope_epsilon = jax.jit(jax.grad(value, (0, 1, 2)))(x, a, epsilon)
    check(lambda x: value(x, a, epsilon), slope_x, x, w["along x"])
    check(lambda a: value(x, a, epsilon), slope_a, a, centred(w["along a"]))
    check(lambda e: value(x, a, e), slope_epsilon, epsilon, jnp.ones(()))
    # On the simplex a constant is free: the derivative is the centred one.
    assert abs(float(jnp.vdot(slope_a, a))) < 1e-9


@pytest.mark.usefixtures("x64")
def test_gradient_in_the_cost_matrix_is_the_plan():
    w = world()
    cost = np.asarray(ot.cost_matrix(w["x"], w["y"]))

    def value(cost):
        return ot.sinkhorn_matrix(
            cost, a=w["a"], b=w["b"], epsilon=0.3, rtol=1e-11
        ).value

    found = ot.sinkhorn_matrix(cost, a=w["a"], b=w["b"], epsilon=0.3, rtol=1e-11)
    assert_close(jax.grad(value)(cost), np.asarray(ot.plan(found, cost)), rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("rho", [None, 0.7])
def test_implicit_derivatives_of_potentials_and_plans(rho):
    """One functional of everything that needs the potentials' derivatives."""
    w = world()

    @jax.jit
    def functional(x, a):
        y = w["y"]
        result = ot.sinkhorn(
            x, y, a=a, b=w["b"], epsilon=0.4, rho_a=rho, rho_b=rho, rtol=1e-12
        )
        return (
            result.f @ w["f"]
            + result.g @ w["g"]
            + jnp.sum(ot.plan(result, x, y) * w["plan"])
            + ot.transport_cost(result, x, y)
            + jnp.sum(ot.barycentric_map(result, x, y) ** 2)
        )

    slope_x, slope_a = jax.jit(jax.grad(functional, (0, 1)))(w["x"], w["a"])
    check(lambda x: functional(x, w["a"]), slope_x, w["x"], w["along x"], rtol=1e-6)
    along = centred(w["along a"])
    check(lambda a: functional(w["x"], a), slope_a, w["a"], along, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_implicit_derivatives_with_points_without_weight():
    w = world()
    a, b = w["a"].copy(), w["b"].copy()
    a[3] = b[2] = 0
    a, b = a / a.sum(), b / b.sum()

    @jax.jit
    def functional(x):
        result = ot.sinkhorn(x, w["y"], a=a, b=b, epsilon=0.4, rtol=1e-12)
        return result.f @ w["f"] + result.g @ w["g"]

    slope = jax.jit(jax.grad(functional))(w["x"])
    assert np.abs(np.asarray(slope)[3]).max() > 1e-3
    check(functional, slope, w["x"], w["along x"])


@pytest.mark.usefixtures("x64")
def test_a_linear_solve_that_fails_gives_nan():
    w = world()

    def first(x):
        return ot.sinkhorn(
            x, w["y"], epsilon=0.1, implicit=ot.ImplicitOptions(max_steps=1)
        ).f[0]

    assert np.isnan(np.asarray(jax.grad(first)(w["x"]))).any()


@pytest.mark.usefixtures("x64")
def test_divergence_gradient_and_hessian_vector_product():
    w = world()

    @jax.jit
    def divergence(x, a):
        return ot.sinkhorn_divergence(x, w["y"], a=a, b=w["b"], epsilon=0.4, rtol=1e-12)

    slope = jax.jit(jax.grad(divergence, (0, 1)))
    slope_x, slope_a = slope(w["x"], w["a"])
    check(lambda x: divergence(x, w["a"]), slope_x, w["x"], w["along x"])
    check(lambda a: divergence(w["x"], a), slope_a, w["a"], centred(w["along a"]))

    def along(x):
        return jnp.vdot(jax.grad(divergence)(x, w["a"]), w["along x"])

    product = jax.jit(jax.grad(along))(w["x"])
    other = np.random.default_rng(5).normal(size=(N, D))
    ends = [
        float(jnp.vdot(slope(w["x"] + s * H * other, w["a"])[0], w["along x"]))
        for s in (1, -1)
    ]
    assert_close(
        float(jnp.vdot(product, other)), (ends[0] - ends[1]) / (2 * H), rtol=1e-5
    )


@pytest.mark.usefixtures("x64")
def test_unbalanced_gradient_in_points_and_masses():
    w = world()

    @jax.jit
    def value(x, a):
        return ot.sinkhorn(
            x,
            w["y"],
            a=a,
            b=1.4 * w["b"],
            epsilon=0.4,
            rho_a=0.7,
            rho_b=2.0,
            rtol=1e-12,
        ).value

    slope_x, slope_a = jax.jit(jax.grad(value, (0, 1)))(w["x"], w["a"])
    check(lambda x: value(x, w["a"]), slope_x, w["x"], w["along x"])
    check(lambda a: value(w["x"], a), slope_a, w["a"], w["along a"])


@pytest.mark.usefixtures("x64")
def test_other_distances_differentiate():
    w = world()
    x, y = w["x"], w["y"]
    directions = np.random.default_rng(2).normal(size=(5, D))
    functions = {
        "sliced": lambda x: ot.sliced_wasserstein(
            x, y, projections=directions, p=3, root=True
        ),
        "frechet": lambda x: ot.frechet(x, y),
        "assignment": lambda x: ot.assignment(ot.cost_matrix(x[:M], y), method="jax")[
            1
        ],
        "line": lambda x: ot.wasserstein_1d(x[:, 0], y[:, 0], p=1),
    }
    for function in functions.values():
        compiled = jax.jit(function)
        slope = jax.jit(jax.grad(function))(x)
        check(compiled, slope, x, w["along x"], rtol=1e-6)
    same = jax.grad(lambda x: ot.bures(x[0], x[1:] @ x[1:].T, x[0], np.eye(3)))
    # Equal eigenvalues: a naive derivative of the root divides by their difference.
    assert np.isfinite(np.asarray(same(np.eye(4)[:, 1:]))).all()


def test_batches_agree_with_single_problems():
    w = world()
    rng = np.random.default_rng(1)
    xs = (w["x"] + rng.normal(size=(3, N, D))).astype(np.float32)
    y = w["y"].astype(np.float32)
    epsilons = np.array([0.1, 1.0, 10.0], np.float32)

    def solve(x, epsilon):
        result = ot.sinkhorn(x, y, epsilon=epsilon, rtol=1e-5)
        return result.value, result.f, result.num_steps, result.converged

    one = jax.jit(solve)
    value, f, steps, converged = jax.jit(jax.vmap(solve))(xs, epsilons)
    assert bool(converged.all())
    assert len(set(np.asarray(steps).tolist())) > 1
    for k in range(3):
        single = one(xs[k], epsilons[k])
        assert_close(value[k], single[0], rtol=1e-5)
        assert_close(f[k], single[1], rtol=0, atol=1e-3)


def test_new_parameters_do_not_compile_again():
    w = world()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def value(x, a, epsilon, rtol):
        return ot.sinkhorn(x, w["y"], a=a, epsilon=epsilon, rtol=rtol).value

    with jax.enable_x64(True):
        for epsilon, rtol in ((0.1, 1e-4), (2.0, 1e-6)):
            scalars = (jnp.asarray(epsilon), jnp.asarray(rtol))
            assert np.isfinite(float(value(w["x"], w["a"], *scalars)))


@pytest.mark.multidevice
@pytest.mark.usefixtures("x64")
def test_rows_over_four_devices_give_the_answer_of_one():
    w = world()
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    a = w["a"].copy()
    a[4] = 0
    a /= a.sum()

    def value(x, mesh):
        result = ot.sinkhorn(
            x, w["y"], a=a, b=w["b"], epsilon=0.4, rtol=1e-10, tile=2, mesh=mesh
        )
        return result.value, (result, ot.transport_cost(result, x, w["y"]))

    run = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=1)
    (one, (single, cost)), slope = run(w["x"], None)
    (four, (sharded, paid)), slopes = run(w["x"], mesh)
    assert int(single.num_steps) == int(sharded.num_steps)
    assert_close(float(four), float(one), rtol=1e-6)
    assert_close(float(paid), float(cost), rtol=1e-6)
    assert_close(np.asarray(sharded.f), np.asarray(single.f), rtol=0, atol=1e-6)
    assert_close(np.asarray(sharded.g), np.asarray(single.g), rtol=0, atol=1e-6)
    assert_close(np.asarray(slopes), np.asarray(slope), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("tile", "matrices"), [(100, 0.25), (None, 1.25)])
def test_derivatives_are_streamed(tile, matrices):
    """A value with its gradient needs less memory than one matrix of scores.

    Where a small matrix is kept for the solve it is one and a few panels, not two.
    """
    n, d = 4000, 4

    def value(x, y):
        return ot.sinkhorn(x, y, epsilon=1.0, tile=tile).value

    shape = jax.ShapeDtypeStruct((n, d), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(value, (0, 1))).lower(shape, shape).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < matrices * n * n * 4
