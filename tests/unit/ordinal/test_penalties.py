"""Groups, signs and adaptive factors: optimality by independent means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from jaxcur import ordinal
from jaxcur.ordinal._adaptive import adaptive_weights
from jaxcur.ordinal._families import row_terms
from jaxcur.ordinal._group import Group
from tests.helpers import assert_close

N, P, K = 60, 3, 4
M = K - 1
GRID = np.geomspace(0.3, 0.003, 6)


def sample(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, P)) * [1.0, 5.0, 0.2] + 3
    latent = (X - 3) @ np.array([1.0, -0.1, 0.0]) + rng.logistic(size=N)
    return X, np.digitize(latent, np.quantile(latent, [0.4, 0.7, 0.9]))


def path(X, y, penalty, **options):
    return ordinal.path(
        X, y, num_classes=K, penalty=penalty, regularizations=GRID, **options
    )


@jax.jit
@jax.value_and_grad
def loss(theta, X, y):
    """Mean loss of (alpha, psi) on the standardised scale."""
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    psi = theta[M:].reshape(M, P)
    eta = theta[:M] + Z @ jnp.cumsum(psi, axis=0).T
    return -jnp.mean(row_terms("cumulative", "logit", eta, y).log_prob)


def theta_of(fits, i, X):
    beta = np.asarray(fits.coefficients[i])
    alpha = np.asarray(fits.intercepts[i]) + beta.T @ X.mean(axis=0)
    return alpha, np.asarray(fits.blocks[i])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("first", [1.0, 0.0])
def test_the_group_optimum_satisfies_its_conditions(first):
    X, y = sample()
    fits = path(X, y, Group(first=first))
    assert np.all(np.asarray(fits.status) == 0)
    kinds = set()
    for i, strength in enumerate(GRID):
        alpha, psi = theta_of(fits, i, X)
        value, slope = loss(np.concatenate([alpha, psi.ravel()]), X, y)
        slope = np.asarray(slope)
        common, rest = slope[M:].reshape(M, P)[0], slope[M:].reshape(M, P)[1:]
        residual = [np.abs(slope[:M]).max()]
        size = np.linalg.norm(psi[1:], axis=0)
        for j in range(P):
            kinds.add(size[j] > 0)
            if size[j] > 0:
                residual.append(
                    np.abs(rest[:, j] + strength * psi[1:, j] / size[j]).max()
                )
            else:
                assert np.all(psi[1:, j] == 0)
                residual.append(max(np.linalg.norm(rest[:, j]) - strength, 0))
            if psi[0, j] != 0 or first == 0:
                pull = first * strength * np.sign(psi[0, j])
                residual.append(abs(common[j] + pull))
            else:
                residual.append(max(abs(common[j]) - first * strength, 0))
        assert max(residual) < 1e-9
        penalty = strength * (size.sum() + first * np.abs(psi[0]).sum())
        assert_close(fits.objective[i], float(value) + penalty, rtol=0, atol=1e-12)
        assert float(fits.gap_bound[i]) < 1e-7
    # Both kinds of group were seen.
    assert kinds == {True, False}
    # No point nearby is better by more than the bound.
    alpha, psi = theta_of(fits, -1, X)
    theta = np.concatenate([alpha, psi.ravel()])
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-6, -1, size=(1000, 1))
    trial = theta + size * rng.normal(size=(1000, theta.size))
    values = np.asarray(jax.vmap(lambda t: loss(t, X, y)[0])(jnp.asarray(trial)))
    blocks = trial[:, M:].reshape(-1, M, P)
    values = values + GRID[-1] * np.linalg.norm(blocks[:, 1:], axis=1).sum(axis=1)
    values = values + GRID[-1] * first * np.abs(blocks[:, 0]).sum(axis=1)
    best = float(fits.objective[-1]) - float(fits.gap_bound[-1]) - 1e-12
    assert np.nanmin(values) >= best


@pytest.mark.usefixtures("x64")
def test_large_strengths_of_the_group_give_proportional_odds():
    X, y = sample()
    fits = path(X, y, Group(first=0.0))
    largest = float(fits.max_regularization[0])
    assert GRID[1] < largest < GRID[0]
    usual = ordinal.fit(X, y, num_classes=K, penalty=ordinal.Parallel())
    assert_close(fits.coefficients[0], usual.coefficients, rtol=0, atol=1e-8)
    # The largest strength is sharp.
    ends = np.geomspace(largest * 1.001, largest * 0.98, 6)
    near = ordinal.path(
        X, y, num_classes=K, penalty=Group(first=0.0), regularizations=ends
    )
    assert not np.any(np.asarray(near.blocks[0, 1:]))
    assert np.any(np.asarray(near.blocks[-1, 1:]))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_groups_of_one_are_the_lasso():
    X, y = sample()
    for classes, k in ((np.minimum(y, 2), 3), (np.minimum(y, 1), 2)):
        options = {"num_classes": k, "regularizations": GRID}
        group = ordinal.path(X, classes, penalty=Group(), **options)
        lasso = ordinal.path(X, classes, **options)
        assert_close(group.coefficients, lasso.coefficients, rtol=0, atol=1e-9)
        assert_close(group.gap_bound < 1e-7, lasso.gap_bound < 1e-7, rtol=0)


@pytest.mark.slow
def test_groups_under_transformations():
    X, y = sample()
    X = X.astype(np.float32)

    def one(weights, strength):
        return ordinal.fit(
            X, jnp.asarray(y), num_classes=K, penalty=Group(weights=[1.0, 0.0, 20.0]),
            regularization=strength, weights=weights,
        )  # fmt: skip

    weights = np.random.default_rng(1).uniform(0.5, 2, size=(3, N)).astype(np.float32)
    mapped = jax.jit(jax.vmap(one, in_axes=(0, None)))(weights, 0.05)
    assert mapped.status.tolist() == [0, 0, 0]
    # A factor of zero leaves a feature free at every boundary.
    assert np.all(np.asarray(mapped.blocks[:, :, 1]) != 0)
    assert not np.any(np.asarray(mapped.blocks[:, 1:, 2]))
    for i in range(3):
        single = one(weights[i], 0.05)
        assert_close(mapped.objective[i], single.objective, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_derivatives_with_groups_are_those_of_the_solution():
    X, y = sample()

    def total(strength, weights):
        result = ordinal.fit(
            X, jnp.asarray(y), num_classes=K, penalty=Group(), weights=weights,
            regularization=strength, rtol=1e-11,
        )  # fmt: skip
        return jnp.sum(result.coefficients[:, -1] * jnp.arange(1.0, 4.0))

    ones, h = jnp.ones(N), 1e-5
    by_strength, by_weight = jax.grad(total, argnums=(0, 1))(0.01, ones)
    slope = (total(0.01 + h, ones) - total(0.01 - h, ones)) / (2 * h)
    assert_close(by_strength, float(slope), rtol=1e-4)
    up, down = total(0.01, ones.at[3].add(h)), total(0.01, ones.at[3].add(-h))
    assert_close(by_weight[3], float((up - down) / (2 * h)), rtol=1e-3, atol=1e-8)


POSITIVE = np.array([[False, True, False], [True, True, True], [True, False, True]])


@pytest.mark.usefixtures("x64")
def test_signs_hold_and_the_optimum_is_that_of_a_bounded_search():
    X, y = sample()
    fits = path(X, y, ordinal.Presto(positive=POSITIVE))
    assert np.all(np.asarray(fits.status) == 0)
    assert np.asarray(fits.blocks)[:, POSITIVE].min() == 0
    flat = POSITIVE.ravel()
    for i in (2, 4, 5):
        strength = GRID[i]

        def split(v, strength=strength):
            q = M * P
            value, slope = loss(
                np.concatenate([v[:M], v[M : M + q] - v[M + q :]]), X, y
            )
            slope = np.asarray(slope)
            if not np.isfinite(value):
                return 1e3, np.zeros_like(v)
            parts = [slope[:M], slope[M:] + strength, strength - slope[M:]]
            return float(value) + strength * v[M:].sum(), np.concatenate(parts)

        bounds = [(None, None)] * M + [(0, None)] * flat.size
        bounds += [(0, 0 if held else None) for held in flat]
        start = np.concatenate([[-0.4, 0.8, 2.2], np.zeros(2 * flat.size)])
        found = minimize(
            split, start, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 5000, "maxfun": 20000, "ftol": 1e-15, "gtol": 1e-9},
        )  # fmt: skip
        assert_close(fits.objective[i], found.fun, rtol=0, atol=1e-8)
        assert float(fits.gap_bound[i]) < 1e-7
        # The conditions, with multipliers of one sign only.
        alpha, psi = theta_of(fits, i, X)
        slope = np.asarray(loss(np.concatenate([alpha, psi.ravel()]), X, y)[1])[M:]
        zero, psi = psi.ravel() == 0, psi.ravel()
        assert np.abs(slope + strength * np.sign(psi))[~zero].max() < 1e-9
        assert (slope + strength)[zero].min() > -1e-9
        assert (slope - strength)[zero & ~flat].max(initial=-1) < 1e-9


@pytest.mark.usefixtures("x64")
def test_the_largest_strength_under_signs_counts_one_side_only():
    X, y = sample()
    everywhere = np.ones((M, P), bool)
    usual = path(X, y, ordinal.Presto(positive=~everywhere))
    held = path(X, y, ordinal.Presto(positive=everywhere))
    alpha, _ = theta_of(usual, 0, X)
    slope = np.asarray(loss(np.concatenate([alpha, np.zeros(M * P)]), X, y)[1])[M:]
    assert GRID[0] > np.abs(slope).max()
    assert_close(usual.max_regularization[0], np.abs(slope).max(), rtol=1e-8)
    assert_close(held.max_regularization[0], max(0, -slope.min()), rtol=1e-8)
    assert np.asarray(held.blocks).min() >= 0


@pytest.mark.usefixtures("x64")
def test_adaptive_factors():
    X, y = sample()
    first = path(X, y, ordinal.Presto()).at(-2)
    factors = adaptive_weights(first, gamma=2.0, floor=0.01)
    size = np.maximum(np.abs(np.asarray(first.blocks)), 0.01)
    assert_close(factors, size**-2.0, rtol=1e-12)
    assert float(factors.max()) <= 0.01**-2 * 1.0001
    # A factor is a change of scale of its block: the largest strength knows.
    second = path(X, y, ordinal.Presto(weights=factors))
    assert np.all(np.asarray(second.status) == 0)
    null, _ = theta_of(path(X, y, ordinal.Presto()), 0, X)
    slope = np.asarray(loss(np.concatenate([null, np.zeros(M * P)]), X, y)[1])[M:]
    largest = np.max(np.abs(slope) / np.asarray(factors).ravel())
    assert_close(second.max_regularization[0], largest, rtol=1e-7)
    with pytest.raises(ValueError, match="`gamma`"):
        adaptive_weights(first, gamma=-1.0)
    with pytest.raises(ValueError, match="`floor`"):
        adaptive_weights(first, floor=0.0)
