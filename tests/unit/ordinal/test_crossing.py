"""Boundaries kept in order: validity everywhere, and optimality against SLSQP."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxcur import ordinal
from jaxcur.ordinal._group import Group
from tests.helpers import assert_close

N, P, K = 40, 2, 4
M = K - 1
CORNERS = np.array(list(itertools.product((0, 1), repeat=P)))
PENALTIES = {
    "presto": ordinal.Presto(),
    "nonparallel": ordinal.NonParallel(),
    "positive": ordinal.Presto(positive=[True, False]),
    "first0": ordinal.Presto(first=0.0, weights=[1.0, 0.5]),
}


def sample(seed=5, dtype=float):
    """Boundaries with slopes of opposite signs: they cross."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, P)) * [1.0, 20.0] + [0.0, 50.0]
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    eta = np.array([-1.0, 0.0, 1.0]) + Z @ np.array([[1.5, 0.0, -1.5], [0.5, 1, 0.5]])
    y = (rng.logistic(size=N)[:, None] > eta).sum(axis=1)
    y[:K] = np.arange(K)
    return X.astype(dtype), y


def fit(X, y, strength=0.01, **options):
    return ordinal.fit(X, y, num_classes=K, regularization=strength, **options)


def corners(X):
    return np.where(CORNERS == 1, X.max(axis=0), X.min(axis=0))


def points(X, count, seed=0):
    uniform = np.random.default_rng(seed).uniform(size=(count, X.shape[1]))
    lower, upper = X.min(axis=0), X.max(axis=0)
    return (lower + uniform * (upper - lower)).astype(X.dtype).clip(lower, upper)


def signed(result, X):
    return np.asarray(ordinal.predict_proba(result, X, repair="none"))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("crossing", ["box", "train"])
def test_where_nothing_crosses_the_optimum_is_the_usual_one(crossing):
    X, _ = sample()
    latent = X[:, 0] + np.random.default_rng(0).logistic(size=N)
    y = np.digitize(latent, np.quantile(latent, [0.4, 0.7, 0.9]))
    own, kept = fit(X, y, 0.05), fit(X, y, 0.05, crossing=crossing)
    assert signed(own, corners(X)).min() > 0
    assert np.any(np.asarray(own.coefficients))
    np.testing.assert_array_equal(kept.coefficients, own.coefficients)
    np.testing.assert_array_equal(kept.intercepts, own.intercepts)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("presto", np.float32),
        pytest.param("presto", np.float64, marks=pytest.mark.slow),
        pytest.param("nonparallel", np.float32, marks=pytest.mark.slow),
    ],
)
def test_probabilities_are_valid_in_the_whole_box(name, dtype, request):
    if dtype == np.float64:
        request.getfixturevalue("x64")
    X, y = sample(dtype=dtype)
    options = {"penalty": PENALTIES[name], "crossing": "box"}
    result = fit(X, y, **options)
    assert int(result.status) == 0 and int(result.num_crossing) == 0
    where = np.concatenate([corners(X), points(X, 100_000)]).astype(dtype)
    assert signed(result, where).min() >= 0
    # The constraint binds: the optimum lies on the edge.
    assert signed(result, corners(X)).min() < 1e-4


@pytest.mark.slow
def test_the_box_may_be_given_and_may_be_a_single_value():
    X, y = sample(dtype=np.float32)
    options = {"penalty": PENALTIES["presto"], "crossing": "box"}
    result = fit(X, y, **options)
    wide = (X.min(axis=0) - [1, 30], X.max(axis=0) + [1, 30])
    larger = fit(X, y, box=wide, **options)
    outer = np.where(CORNERS == 1, wide[1], wide[0]).astype(np.float32)
    assert signed(larger, outer).min() >= 0
    assert float(larger.objective) > float(result.objective)
    low, high = X[:, 0].min(), X[:, 0].max()
    thin = fit(X, y, box=([low, 50.0], [high, 50.0]), **options)
    line = np.column_stack([np.linspace(low, high, 1000), np.full(1000, 50.0)])
    assert signed(thin, line.astype(np.float32)).min() >= 0


@pytest.mark.usefixtures("x64")
def test_probabilities_are_valid_at_the_rows():
    X, y = sample()
    usual = fit(X, y)
    assert int(usual.num_crossing) > 0
    assert signed(usual, corners(X)).min() < -0.1
    result = fit(X, y, crossing="train")
    assert int(result.status) == 0 and int(result.num_crossing) == 0
    assert signed(result, X).min() >= 0
    # That is weaker than the box.
    assert signed(result, corners(X)).min() < 0
    assert float(usual.objective) < float(result.objective)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_box_costs_more_than_the_rows():
    X, y = sample()
    rows, box = (fit(X, y, crossing=policy) for policy in ("train", "box"))
    assert float(rows.objective) < float(box.objective)


@pytest.mark.slow
def test_probabilities_are_valid_at_the_rows_in_single_precision():
    X, y = sample(dtype=np.float32)
    result = fit(X, y, crossing="train")
    assert int(result.status) == 0 and int(result.num_crossing) == 0
    assert signed(result, X).min() >= 0


def test_features_far_from_zero_keep_their_order_in_single_precision():
    X, y = sample(dtype=np.float32)
    X = X + np.float32(1000)
    result = fit(X, y, crossing="box")
    assert int(result.num_crossing) == 0
    assert signed(result, np.concatenate([corners(X), points(X, 100_000)])).min() >= 0


class Smooth:
    """The same problem for SLSQP: psi = plus - minus, constraints written out."""

    def __init__(self, X, y, strength, name, crossing):
        penalty = PENALTIES[name]
        blocks = penalty.blocks(M, P, jnp.float64)
        self.T, self.c = np.asarray(blocks.matrix), np.asarray(blocks.weights).ravel()
        self.mean, self.scale = X.mean(axis=0), X.std(axis=0)
        self.Z = (X - self.mean) / self.scale
        self.y, self.strength, self.L = y, strength, self.T.shape[1]
        where = corners(X) if crossing == "box" else X
        where = (where - self.mean) / self.scale
        D = np.diff(np.eye(M), axis=0)
        rows = [
            np.concatenate([D[k], np.kron(D[k] @ self.T, z)])
            for z in where
            for k in range(M - 1)
        ]
        self.A = np.array(rows)
        positive = np.zeros((self.L, P), bool)
        if blocks.positive is not None:
            positive = np.asarray(blocks.positive)
        self.positive = positive.ravel()
        self.value_and_grad = jax.jit(jax.value_and_grad(self.loss))

    def loss(self, theta):
        psi = theta[M:].reshape(self.L, P)
        eta = theta[:M] + self.Z @ (jnp.asarray(self.T) @ psi).T
        below = jnp.concatenate(
            [jnp.zeros((N, 1)), jax.nn.sigmoid(eta), jnp.ones((N, 1))], axis=1
        )
        own = jnp.diff(below, axis=1)[jnp.arange(N), self.y]
        # Finite outside the domain too, where the search may step.
        return jnp.mean(jnp.where(own > 1e-9, -jnp.log(jnp.maximum(own, 1e-9)), 20))

    def objective(self, theta):
        value = float(self.value_and_grad(jnp.asarray(theta))[0])
        return value + self.strength * self.c @ np.abs(theta[M:])

    def from_result(self, result):
        beta = np.asarray(result.coefficients)
        alpha = np.asarray(result.intercepts) + beta.T @ self.mean
        return np.concatenate([alpha, np.asarray(result.blocks).ravel()])

    def solve(self, start):
        q = self.L * P

        def split(v):
            theta = np.concatenate([v[:M], v[M : M + q] - v[M + q :]])
            value, slope = self.value_and_grad(jnp.asarray(theta))
            slope, pull = np.asarray(slope), self.strength * self.c
            value = float(value) + pull @ (v[M : M + q] + v[M + q :])
            parts = [slope[:M], slope[M:] + pull, pull - slope[M:]]
            return value, np.concatenate(parts)

        A = np.concatenate([self.A, -self.A[:, M:]], axis=1)
        bounds = [(None, None)] * M + [(0, None)] * q
        bounds += [(0, 0 if held else None) for held in self.positive]
        constraint = {"type": "ineq", "fun": lambda v: A @ v, "jac": lambda v: A}
        first = np.concatenate([start, np.zeros(2 * q)])
        found = minimize(
            split, first, jac=True, method="SLSQP", bounds=bounds,
            constraints=constraint, options={"maxiter": 1000, "ftol": 1e-13},
        )  # fmt: skip
        assert (A @ found.x).min() > -1e-8
        return found.fun


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("crossing", ["box", "train"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "presto" else pytest.mark.slow)
        for name in PENALTIES
    ],
)
@pytest.mark.parametrize("seed", [4, 5])
def test_the_optimum_is_that_of_an_independent_solver(name, crossing, seed):
    X, y = sample(seed)
    result = fit(X, y, penalty=PENALTIES[name], crossing=crossing)
    assert int(result.status) == 0
    assert float(result.gap_bound) < 1e-6
    smooth = Smooth(X, y, 0.01, name, crossing)
    theta = smooth.from_result(result)
    ours = smooth.objective(theta)
    assert_close(result.objective, ours, rtol=0, atol=1e-12)
    start = np.quantile(np.arange(K), [0.3, 0.6, 0.9]) - 1.5
    assert_close(ours, smooth.solve(start), rtol=0, atol=1e-8)
    # No feasible point nearby is better by more than the bound.
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-6, -1, size=(1000, 1))
    trial = theta + size * rng.normal(size=(1000, theta.size))
    trial[:500, M:] = np.where(theta[M:] == 0, 0, trial[:500, M:])
    # Half of them along the edge: what points outwards is projected away.
    tight = smooth.A[smooth.A @ theta < 1e-6]
    assert tight.size
    pull = np.linalg.pinv(tight)
    away = trial - theta
    trial[::2] = theta + (away - np.minimum(away @ tight.T, 0) @ pull.T)[::2]
    trial[:, M:] = np.where(smooth.positive, np.maximum(trial[:, M:], 0), trial[:, M:])
    feasible = (trial @ smooth.A.T).min(axis=1) >= 0
    assert feasible.sum() > 100
    values = np.array([smooth.objective(point) for point in trial[feasible]])
    assert values.min() >= ours - float(result.gap_bound) - 1e-12


@pytest.mark.slow
def test_folds_and_maps():
    X, y = sample(dtype=np.float32)
    weights = np.random.default_rng(1).uniform(0.5, 2, size=(3, N)).astype(np.float32)
    weights[0, 30:] = 0

    @jax.jit
    @jax.vmap
    def mapped(w):
        return fit(X, jnp.asarray(y), weights=w, crossing="box")

    results = mapped(weights)
    assert results.status.tolist() == [0, 0, 0]
    for i in range(3):
        one = fit(X, y, weights=weights[i], crossing="box")
        assert_close(results.objective[i], one.objective, rtol=1e-5)
        # By default the box is that of the rows that count.
        assert signed(one, corners(X[weights[i] > 0])).min() >= 0
    chosen = ordinal.cross_validate(
        X, y, num_classes=K, crossing="box", criterion="logloss", num_regularizations=5,
        ratio=0.05, folds=np.arange(N) % 4,
    )  # fmt: skip
    # Held-out rows lie in the box: no probability is negative, no loss infinite.
    assert np.all(np.isfinite(np.asarray(chosen.mean_scores)))


@pytest.mark.slow
def test_nothing_to_keep_in_order():
    X, y = sample(dtype=np.float32)
    parallel = ordinal.Parallel()
    one = fit(X, y, penalty=parallel, crossing="box")
    np.testing.assert_array_equal(
        one.coefficients, fit(X, y, penalty=parallel).coefficients
    )
    two = ordinal.fit(X, y > 1, num_classes=2, regularization=0.02, crossing="train")
    usual = ordinal.fit(X, y > 1, num_classes=2, regularization=0.02)
    np.testing.assert_array_equal(two.coefficients, usual.coefficients)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("crossing", ["box", "train"])
@pytest.mark.parametrize("name", ["presto", "nonparallel"])
def test_derivatives_are_those_of_the_solution(name, crossing):
    X, y = sample()
    where, ones = jnp.asarray(corners(X)), jnp.ones(N)

    @jax.jit
    def rare(strength, weights):
        result = fit(
            X, jnp.asarray(y), strength, weights=weights, penalty=PENALTIES[name],
            crossing=crossing, rtol=1e-11,
        )  # fmt: skip
        probs = ordinal.predict_proba(result, where, repair="none")
        return jnp.sum(probs * jnp.arange(4.0) ** 2), result.status

    (_, status), slopes = jax.value_and_grad(rare, argnums=(0, 1), has_aux=True)(
        0.01, ones
    )
    assert int(status) == 0
    h = 1e-5
    step = (rare(0.01 + h, ones)[0] - rare(0.01 - h, ones)[0]) / (2 * h)
    assert_close(slopes[0], float(step), rtol=1e-4)
    for i in (0, 3, 17):
        up, down = rare(0.01, ones.at[i].add(h)), rare(0.01, ones.at[i].add(-h))
        assert_close(slopes[1][i], float(up[0] - down[0]) / (2 * h), rtol=1e-3)


def test_groups_have_no_constraints():
    X, y = sample(dtype=np.float32)
    with pytest.raises(ValueError, match="not available with Group"):
        fit(X, y, penalty=Group(), crossing="train")
