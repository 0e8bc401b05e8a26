"""Laws of optimal transport on random problems.

Shapes come from one ladder; absent points have weight zero. Each law is one compiled
program for all examples.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxcur import ot
from tests.helpers import assert_close

N, M, D = 8, 7, 2
RTOL = 1e-9

pytestmark = pytest.mark.usefixtures("x64")


def draw(seed, kind):
    """Points and weights; some coincide, some have no weight."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(N, D)), rng.normal(size=(M, D)) + 0.5
    a, b = rng.random(N) + 0.05, rng.random(M) + 0.05
    if kind == "duplicates":
        x[1], y[0], y[1] = x[0], x[0], x[0]
    elif kind == "absent":
        a[rng.integers(1, N) :] = 0
        b[rng.integers(1, M) :] = 0
    elif kind == "one point":
        a[1:] = 0
    elif kind == "spread":
        x = x * 3
    return x, y, a / a.sum(), b / b.sum()


KINDS = ["plain", "duplicates", "absent", "one point", "spread"]
problems = st.builds(draw, st.integers(0, 2**31), st.sampled_from(KINDS))
epsilons = st.sampled_from([0.1, 0.3, 1.0, 5.0])


@jax.jit
def solve(x, y, a, b, epsilon):
    """Everything a law needs, from one program."""
    cost = ot.cost_matrix(x, y)
    return solve_matrix(cost, a, b, epsilon)


@jax.jit
def solve_matrix(cost, a, b, epsilon):
    result = ot.sinkhorn_matrix(cost, a=a, b=b, epsilon=epsilon, rtol=RTOL)
    return {
        "plan": ot.plan(result, cost),
        "value": result.value,
        "cost": ot.transport_cost(result, cost),
        "f": result.f,
        "g": result.g,
        "error": result.error,
        "converged": result.converged,
        "bounds": jnp.stack(ot.certified_bounds(result, cost)),
    }


@settings(max_examples=25)
@given(problems, epsilons)
def test_plan_has_its_marginals_and_values_are_ordered(problem, epsilon):
    x, y, a, b = problem
    found = solve(x, y, a, b, epsilon)
    assert bool(found["converged"])
    plan = np.asarray(found["plan"])
    assert (plan >= 0).all()
    gap = np.abs(plan.sum(1) - a).sum() + np.abs(plan.sum(0) - b).sum()
    assert gap <= RTOL + 1e-12
    # Where duality holds the value is <P, C> + epsilon KL(P | a b').
    product = a[:, None] * b
    safe = np.where(plan > 0, plan / np.where(product > 0, product, 1), 1)
    relative = np.sum(plan * np.log(safe)) - plan.sum() + 1
    cost = float(found["cost"])
    assert_close(float(found["value"]), cost + epsilon * relative, rtol=1e-7, atol=1e-9)
    lower, upper = np.asarray(found["bounds"])
    assert lower <= upper
    assert lower <= cost + 1e-9
    entropy = [-np.sum(w[w > 0] * np.log(w[w > 0])) for w in (a, b)]
    assert cost - upper <= 1e-9
    assert cost - lower <= epsilon * min(entropy) + (upper - lower) + 1e-9
    larger = float(solve(x, y, a, b, 1.5 * epsilon)["value"])
    assert float(found["value"]) <= larger + 1e-8


@settings(max_examples=15)
@given(problems, epsilons, st.integers(0, 2**31))
def test_laws_of_the_cost_matrix(problem, epsilon, seed):
    x, y, a, b = problem
    rng = np.random.default_rng(seed)
    cost = np.asarray(ot.cost_matrix(x, y))
    base = solve_matrix(cost, a, b, epsilon)
    scaled = solve_matrix(3 * cost, a, b, 3 * epsilon)
    assert_close(float(scaled["value"]), 3 * float(base["value"]), rtol=1e-6, atol=1e-8)
    r, s = rng.normal(size=N), rng.normal(size=M)
    shifted = solve_matrix(cost + r[:, None] + s, a, b, epsilon)
    assert_close(
        float(shifted["value"]), float(base["value"]) + a @ r + b @ s, rtol=0, atol=1e-7
    )
    assert_close(shifted["plan"], base["plan"], rtol=0, atol=1e-7)
    rows, columns = rng.permutation(N), rng.permutation(M)
    turned = solve_matrix(cost[rows][:, columns], a[rows], b[columns], epsilon)
    wanted = np.asarray(base["plan"])[rows][:, columns]
    assert_close(turned["plan"], wanted, rtol=0, atol=1e-7)
    # Half an atom here, half there: the last row takes over half of the first.
    copied = np.vstack([cost[:-1], cost[:1]])
    whole, halves = a.copy(), a.copy()
    whole[0] += whole[-1]
    whole[-1] = 0
    halves[0] = halves[-1] = whole[0] / 2
    one = solve_matrix(copied, whole, b, epsilon)
    two = solve_matrix(copied, halves, b, epsilon)
    assert_close(float(one["value"]), float(two["value"]), rtol=1e-6, atol=1e-8)


@settings(max_examples=10)
@given(problems, epsilons, st.integers(0, 2**31))
def test_motions_of_the_points(problem, epsilon, seed):
    x, y, a, b = problem
    rng = np.random.default_rng(seed)
    base = solve(x, y, a, b, epsilon)
    turn, _ = np.linalg.qr(rng.normal(size=(D, D)))
    t = rng.normal(size=D)
    moved = solve(x @ turn + t, y @ turn + t, a, b, epsilon)
    assert_close(float(moved["value"]), float(base["value"]), rtol=1e-6, atol=1e-8)
    away = solve(x + t, y, a, b, epsilon)
    change = t @ t + 2 * t @ (a @ x - b @ y)
    assert_close(float(away["cost"]), float(base["cost"]) + change, rtol=0, atol=1e-6)
    assert_close(away["plan"], base["plan"], rtol=0, atol=1e-7)


@functools.partial(jax.jit, static_argnames="cost")
def divergences(x, y, a, b, epsilon, cost):
    def between(x, y, a, b):
        return ot.sinkhorn_divergence(
            x, y, a=a, b=b, epsilon=epsilon, cost=cost, rtol=RTOL
        )

    # One shape for all four: pad to N points.
    y, b = jnp.pad(y, ((0, N - M), (0, 0))), jnp.pad(b, (0, N - M))
    lefts = jnp.stack([x, y, x, x + 1.0])
    rights = jnp.stack([y, x, x, y])
    return jax.lax.map(
        lambda p: between(*p),
        (lefts, rights, jnp.stack([a, b, a, a]), jnp.stack([b, a, a, b])),
    )


@settings(max_examples=15)
@given(problems, st.sampled_from([0.3, 1.0, 5.0]))
def test_divergence_is_symmetric_positive_and_zero_on_the_diagonal(problem, epsilon):
    x, y, a, b = problem
    there, back, same, away = np.asarray(
        divergences(x, y, a, b, epsilon, ot.SquaredEuclidean())
    )
    assert_close(there, back, rtol=1e-6, atol=1e-7)
    assert there >= -1e-7 and abs(same) <= 1e-7
    t = np.ones(D)
    change = t @ t + 2 * t @ (a @ x - b @ y)
    assert_close(away - there, change, rtol=0, atol=1e-6)


def test_limits_in_epsilon():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(N, D)), rng.normal(size=(M, D))
    a, b = np.full(N, 1 / N), np.full(M, 1 / M)
    wide = solve(x, y, a, b, 1e5)
    cost = np.asarray(ot.cost_matrix(x, y))
    assert_close(wide["plan"], a[:, None] * b, rtol=0, atol=1e-5)
    assert_close(float(wide["value"]), float(cost.mean()), rtol=1e-4)
    # Two problems of one size, so that the assignment is the limit.
    square = np.pad(cost, ((0, 0), (0, 1)), mode="edge")[:, :N]
    _, exact = ot.assignment(square)
    narrow = ot.sinkhorn_matrix(square, epsilon=0.01)
    found = float(ot.transport_cost(narrow, square))
    assert abs(found - float(exact) / N) <= 0.01 * np.log(N)


@jax.jit
def distances(points, weights):
    """W_p for p = 1, 2, 3 between all pairs of three measures on the line."""
    pairs = [(0, 1), (1, 2), (0, 2), (1, 0), (0, 0)]

    def one(i, j, p):
        return ot.wasserstein_1d(
            points[i], points[j], a=weights[i], b=weights[j], p=p, root=True
        )

    return jnp.stack([jnp.stack([one(i, j, p) for i, j in pairs]) for p in (1, 2, 3)])


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.booleans())
def test_wasserstein_on_the_line_is_a_metric(seed, ties):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(3, 6))
    weights = rng.random((3, 6)) * (rng.random((3, 6)) < 0.7) + 1e-3
    if ties:
        points = np.round(points)
        weights[:, 3:] = 0
    weights /= weights.sum(1, keepdims=True)
    table = np.asarray(distances(points, weights))
    assert (table[:, 2] <= table[:, 0] + table[:, 1] + 1e-9).all()
    assert_close(table[:, 0], table[:, 3], rtol=1e-9, atol=1e-12)
    assert_close(table[:, 4], np.zeros(3), rtol=0, atol=1e-12)
    assert (np.diff(table[:, 0]) >= -1e-9).all()  # W_p rises with p
    # p = 1 is the area between the distribution functions.
    grid = np.sort(np.concatenate([points[0], points[1]]))
    gaps = [
        abs(
            (weights[0] * (points[0] <= t)).sum()
            - (weights[1] * (points[1] <= t)).sum()
        )
        for t in grid[:-1]
    ]
    assert_close(table[0, 0], np.sum(np.diff(grid) * gaps), rtol=1e-9, atol=1e-12)


@jax.jit
def clouds_apart(clouds, projections):
    """Assignment with p = 1, 2 and sliced distance between pairs of three clouds."""

    def pair(i, j):
        x, y = clouds[i], clouds[j]
        near = ot.cost_matrix(x, y, cost=ot.Euclidean())
        far = ot.cost_matrix(x, y)
        size = x.shape[0]
        sliced = ot.sliced_wasserstein(x, y, projections=projections, root=True)
        return jnp.stack(
            [
                ot.assignment(near)[1] / size,
                jnp.sqrt(ot.assignment(far)[1] / size),
                sliced,
            ]
        )

    return jnp.stack([pair(*p) for p in [(0, 1), (1, 2), (0, 2), (1, 0), (0, 0)]], 1)


@settings(max_examples=25)
@given(st.integers(0, 2**31), st.booleans())
def test_assignment_and_sliced_distances_are_metrics(seed, ties):
    rng = np.random.default_rng(seed)
    clouds = rng.normal(size=(3, 6, 2)) * [[[1.0]], [[3.0]], [[0.1]]]
    if ties:
        clouds = np.round(clouds)
    table = np.asarray(clouds_apart(clouds, rng.normal(size=(5, 2))))
    assert (table[:, 2] <= table[:, 0] + table[:, 1] + 1e-9).all()
    assert_close(table[:, 0], table[:, 3], rtol=1e-9, atol=1e-9)
    assert_close(table[:, 4], np.zeros(3), rtol=0, atol=1e-7)
    # A projection shortens: the sliced distance is below the one it slices.
    assert (table[2] <= table[1] + 1e-9).all()


def test_sliced_distance_of_a_translation_and_its_standard_error():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(40, 3)), np.array([1.0, -2.0, 0.5])
    directions = rng.normal(size=(400, 3))
    value, error = ot.sliced_wasserstein(
        x, x + t, projections=directions, std_error=True
    )
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    exact = (unit @ t) ** 2
    assert_close(float(value), exact.mean(), rtol=1e-9)
    assert_close(float(error), exact.std(ddof=1) / 20, rtol=1e-9)
    assert abs(float(value) - t @ t / 3) < 4 * float(error)
    best, direction = ot.max_sliced_wasserstein(x, x + t, projections=np.eye(3))
    assert_close(float(best), t @ t, rtol=1e-9)
    assert_close(abs(np.asarray(direction) @ t), np.linalg.norm(t), rtol=1e-9)


@jax.jit
def unbalanced(cost, a, b, epsilon, rho):
    result = ot.sinkhorn_matrix(
        cost, a=a, b=b, epsilon=epsilon, rho_a=rho, rho_b=rho, rtol=1e-9
    )
    plan = ot.plan(result, cost)
    return result.value, plan, ot.transport_cost(result, cost), result.converged


@settings(max_examples=15)
@given(problems, st.sampled_from([0.3, 1.0]), st.sampled_from([0.1, 1.0, 30.0]))
def test_unbalanced_primal_equals_dual_and_has_its_limits(problem, epsilon, rho):
    x, y, a, b = problem
    b = 1.3 * b
    cost = np.asarray(ot.cost_matrix(x, y))
    value, plan, paid, converged = unbalanced(cost, a, b, epsilon, rho)
    assert bool(converged)

    def kl(p, q):
        positive = (p > 0) & (q > 0)
        terms = p * np.log(np.where(positive, p / np.where(q > 0, q, 1), 1)) - p + q
        return terms.sum()

    plan = np.asarray(plan)
    primal = float(paid) + epsilon * kl(plan, a[:, None] * b)
    primal += rho * (kl(plan.sum(1), a) + kl(plan.sum(0), b))
    assert_close(float(value), primal, rtol=1e-6, atol=1e-8)
    # Without penalties the entropy alone decides: P = a b' e^{-C / epsilon}.
    _, free, _, _ = unbalanced(cost, a, b, epsilon, 1e-6)
    decided = a[:, None] * b * np.exp(-cost / epsilon)
    assert_close(free, decided, rtol=1e-3, atol=1e-9)
    _, kept, _, _ = unbalanced(cost, a, b / 1.3, epsilon, 1e6)
    balanced = solve_matrix(cost, a, b / 1.3, epsilon)["plan"]
    assert_close(kept, balanced, rtol=0, atol=1e-4)
