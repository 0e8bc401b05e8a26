"""Stored results of POT, ott-jax, geomloss, SciPy and a plain NumPy loop.

Problems of different sizes are padded with points of weight zero to one shape, so that
they share a program, and so that padding is seen to influence nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ot
from tests.helpers import assert_close, load_reference

COSTS = {
    "sqeuclid": ot.SquaredEuclidean(),
    "euclid": ot.Euclidean(),
    "cosine": ot.Cosine(),
}
SHAPE = (64, 64, 16)


def cases(name, key="case"):
    """Settings and arrays of every problem in a file."""
    arrays = load_reference(f"ot/{name}.npz")
    for settings in load_reference(f"ot/{name}.json"):
        prefix = settings[key] + "__"
        own = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
        yield settings, own


def ids(found):
    return found[0].get("name", found[0].get("case"))


def pad(arrays, dtype, shape=SHAPE):
    """x, y, a, b with extra points of weight zero far away and zero columns."""
    n, m, d = shape

    def points(p, count):
        out = np.full((count, d), 3.0)
        out[: len(p)] = 0
        out[: len(p), : p.shape[1]] = p
        return out.astype(dtype)

    def weights(w, count):
        return np.pad(w, (0, count - len(w))).astype(dtype)

    return (
        points(arrays["x"], n),
        points(arrays["y"], m),
        weights(arrays["a"], n),
        weights(arrays["b"], m),
    )


SINKHORN = list(cases("sinkhorn", "name"))


@functools.partial(jax.jit, static_argnames="cost")
def solve(x, y, a, b, epsilon, rtol, cost):
    """Result, what it costs, plan and bounds, from one program."""
    result = ot.sinkhorn(
        x, y, a=a, b=b, epsilon=epsilon, cost=cost, rtol=rtol, max_steps=5000
    )
    return (
        result,
        ot.transport_cost(result, x, y),
        ot.plan(result, x, y),
        jnp.stack(ot.certified_bounds(result, x, y)),
    )


@jax.jit
def solve_matrix(cost, a, b, epsilon, rtol):
    result = ot.sinkhorn_matrix(
        cost, a=a, b=b, epsilon=epsilon, rtol=rtol, max_steps=5000
    )
    return (
        result,
        ot.transport_cost(result, cost),
        ot.plan(result, cost),
        jnp.stack(ot.certified_bounds(result, cost)),
    )


def check_sinkhorn(settings, arrays, dtype, rtol, value_rtol, plan_atol, matrix=False):
    x, y, a, b = pad(arrays, dtype)
    cost = COSTS[settings["cost"]]
    if matrix:
        costs = ot.cost_matrix(x, y, cost=cost)
        result, paid, plan, bounds = solve_matrix(costs, a, b, settings["eps"], rtol)
    else:
        solved = solve(x, y, a, b, settings["eps"], rtol, cost)
        result, paid, plan, bounds = solved
    assert bool(result.converged)
    # Stored runs end at an error of 1e-11, and the smallest epsilon multiplies it.
    value_rtol = max(value_rtol, 1e-7 if settings["name"] == "small_eps" else 0)
    n, m = arrays["P"].shape
    for source in ("pot", "ott", "own_numpy_loop"):
        if source in settings:
            found = {
                "value": float(result.value),
                "cost": float(paid),
            }
            stored = settings[source]
            wanted = {"value": stored["ot_eps"], "cost": stored["transport_cost"]}
            assert_close(found, wanted, rtol=value_rtol)
    assert float(bounds[0]) <= float(paid) <= float(bounds[1]) + 1e-6
    plan = np.asarray(plan)
    assert (plan[n:] == 0).all() and (plan[:, m:] == 0).all()
    assert_close(plan[:n, :m], arrays["P"], rtol=0, atol=plan_atol)
    # Potentials up to the shift that a balanced problem leaves free.
    weight = np.where(np.isnan(arrays["f"]), 0, arrays["a"])
    f = np.asarray(result.f, np.float64)[:n]
    g = np.asarray(result.g, np.float64)[:m]
    shift = weight @ f / weight.sum()
    known_f, known_g = ~np.isnan(arrays["f"]), ~np.isnan(arrays["g"])
    tolerance = 1e-6 if dtype == np.float64 else 2e-3
    assert_close(f[known_f] - shift, arrays["f"][known_f], rtol=0, atol=tolerance)
    assert_close(g[known_g] + shift, arrays["g"][known_g], rtol=0, atol=tolerance)
    assert np.isfinite(f).all() and np.isfinite(g).all()


SQUARED = [case for case in SINKHORN if case[0]["cost"] == "sqeuclid"]
OTHERS = [case for case in SINKHORN if case[0]["cost"] != "sqeuclid"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", SQUARED, ids=ids)
def test_sinkhorn_agrees_with_other_packages(case):
    check_sinkhorn(*case, np.float64, 1e-10, 1e-8, 1e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", OTHERS, ids=ids)
def test_given_matrices_agree_with_other_packages(case):
    check_sinkhorn(*case, np.float64, 1e-10, 1e-8, 1e-7, matrix=True)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", OTHERS, ids=ids)
def test_streamed_costs_agree_with_other_packages(case):
    check_sinkhorn(*case, np.float64, 1e-10, 1e-8, 1e-7)


@pytest.mark.parametrize(
    "case",
    SQUARED + [pytest.param(case, marks=pytest.mark.slow) for case in OTHERS],
    ids=lambda case: ids(case),
)
def test_sinkhorn_agrees_in_float32(case):
    check_sinkhorn(*case, np.float32, 1e-5, 1e-4, 1e-5)


@jax.jit
def solve_unbalanced(x, y, a, b, epsilon, rho, rtol):
    result = ot.sinkhorn(
        x, y, a=a, b=b, epsilon=epsilon, rho_a=rho, rho_b=rho, rtol=rtol
    )
    return result, ot.transport_cost(result, x, y), ot.plan(result, x, y)


@pytest.mark.parametrize("case", list(cases("unbalanced")), ids=ids)
@pytest.mark.parametrize(
    "name", ["float64", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_unbalanced_agrees_with_pot(case, name):
    settings, arrays = case
    double = name == "float64"
    with jax.enable_x64(double):
        x, y, a, b = (arrays[k].astype(name) for k in "xyab")
        rho = settings["rho"]
        rtol = 1e-11 if double else 1e-5
        result, paid, plan = solve_unbalanced(x, y, a, b, settings["eps"], rho, rtol)
        assert bool(result.converged)
        rtol = 1e-8 if double else 1e-4
        assert_close(float(result.value), settings["own_dual"], rtol=rtol)
        assert_close(float(jnp.sum(plan)), settings["pot_mass"], rtol=rtol)
        assert_close(float(paid), settings["pot_linear"], rtol=rtol)
        atol = 1e-8 if double else 1e-4
        assert_close(plan, arrays["P"], rtol=0, atol=atol)
        assert_close(result.f, arrays["f"], rtol=0, atol=10 * atol)
        assert_close(result.g, arrays["g"], rtol=0, atol=10 * atol)


def divergence(x, y, a, b, epsilon, rtol):
    return ot.sinkhorn_divergence(x, y, a=a, b=b, epsilon=epsilon, rtol=rtol)


@pytest.mark.parametrize(
    "name", ["float64", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_divergence_and_gradient_agree_with_differences_and_geomloss(name):
    double = name == "float64"
    with jax.enable_x64(double):
        run = jax.jit(jax.value_and_grad(divergence, argnums=(0, 2)))
        for settings, arrays in cases("divergence"):
            n = len(arrays["x"])
            x, y, a, b = pad(arrays, name, (30, 30, 3))
            rtol = 1e-9 if double else 1e-5
            value, (slope_x, slope_a) = run(x, y, a, b, settings["eps"], rtol)
            assert_close(float(value), settings["own_S"], rtol=1e-7 if double else 1e-4)
            assert_close(float(value), settings["S"], rtol=1e-3)
            for entry in settings["finite_diff_x"]:
                found = float(slope_x[entry["i"], entry["k"]])
                atol = 1e-5 if double else 1e-4
                assert_close(found, entry["S"], rtol=0, atol=atol)
            # Annealing leaves the stored gradients this far from the definition.
            d = arrays["x"].shape[1]
            assert_close(slope_x[:n, :d], arrays["grad_x_S"], rtol=0, atol=1e-2)
            # Its potentials are off by up to a tenth: only their pattern is compared,
            # up to a constant.
            pattern = np.corrcoef(np.asarray(slope_a)[:n], arrays["grad_a_S"])
            assert pattern[0, 1] > 0.99
            assert np.isfinite(np.asarray(slope_x)).all()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", list(cases("exact")), ids=ids)
def test_bounds_and_assignments_enclose_exact_values(case):
    settings, arrays = case
    cost = COSTS[settings["cost"]]
    matrix = ot.cost_matrix(arrays["x"], arrays["y"], cost=cost)
    padded = np.full((64, 64), float(matrix.max()))
    n, m = matrix.shape
    padded[:n, :m] = matrix
    a = np.pad(arrays["a"], (0, 64 - n))
    b = np.pad(arrays["b"], (0, 64 - m))
    _, _, _, (lower, upper) = solve_matrix(padded, a, b, 0.01, 1e-4)
    assert float(lower) <= settings["emd2"] <= float(upper)
    assert float(upper - lower) < 0.05
    if "assignment_mean" in settings:
        for method in ("host", "jax"):
            columns, value = ot.assignment(matrix, method=method)
            assert (np.asarray(columns) == arrays["perm"]).all()
            assert_close(float(value) / n, settings["assignment_mean"], rtol=1e-9)


@jax.jit
def on_the_line(u, v, a, b):
    return [ot.wasserstein_1d(u, v, p=p, a=a, b=b) for p in (1, 2, 3)]


def test_one_dimension_agrees_with_pot_and_a_linear_programme(dtype):
    double = dtype == jnp.float64
    for settings, arrays in cases("one_d"):
        u, v, a, b = (
            np.pad(arrays[k], (0, 100 - len(arrays[k]))).astype(dtype) for k in "uvab"
        )
        values = on_the_line(u, v, a, b)
        for p, value in enumerate(values, start=1):
            wanted = settings[f"Wp_p{p}"]
            assert_close(float(value), wanted, rtol=1e-9 if double else 1e-4)
        if double:
            assert_close(float(values[1]), settings["lp_p2"], rtol=1e-9)


@jax.jit
def sliced(x, y, directions):
    return [
        ot.sliced_wasserstein(x, y, p=p, projections=directions, root=True)
        for p in (1, 2)
    ]


@pytest.mark.parametrize(
    "name", ["float64", pytest.param("float32", marks=pytest.mark.slow)]
)
def test_sliced_agrees_with_pot(name):
    with jax.enable_x64(name == "float64"):
        for settings, arrays in cases("sliced"):
            x, y = arrays["x"].astype(name), arrays["y"].astype(name)
            values = sliced(x, y, arrays["projections"].T.astype(name))
            for p, value in enumerate(values, start=1):
                rtol = 1e-9 if name == "float64" else 1e-5
                assert_close(float(value), settings[f"SW_p{p}"], rtol=rtol)


def test_gaussians_agree_with_pot_and_a_closed_form(dtype):
    double = dtype == jnp.float64
    rtol = 1e-7 if double else 1e-5
    *regular, singular = load_reference("ot/gaussian_w2.json")
    arrays = load_reference("ot/gaussian_w2.npz")
    for settings in regular:
        m0, m1, s0, s1 = (
            arrays[f"{settings['case']}__{k}"].astype(dtype)
            for k in ("m0", "m1", "S0", "S1")
        )
        value = float(ot.bures(m0, s0, m1, s1))
        assert_close(value, settings["W2"] ** 2, rtol=2 * rtol)
        value = float(ot.bures(m0, s0, m0, s1))
        assert_close(value, settings["bures"] ** 2, rtol=2 * rtol)
    # diag(1, 0) and diag(4, 0): |1 - 2|^2.
    zero = np.zeros(2, dtype)
    value = ot.bures(zero, np.diag([1.0, 0.0]), zero, np.diag([4.0, 0.0]))
    assert_close(float(value), singular["bures_closed_form_sq"], rtol=rtol)
