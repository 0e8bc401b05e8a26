import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ordinal
from tests.helpers import assert_close

N, P, K = 60, 3, 4


def sample(dtype=np.float32):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, P))
    latent = X @ np.array([1.0, -0.5, 0.0]) + rng.logistic(size=N)
    y = np.digitize(latent, np.quantile(latent, [0.4, 0.7, 0.9]))
    return X.astype(dtype), y


def fit(X, y, weights, strength):
    return ordinal.fit(X, y, num_classes=K, weights=weights, regularization=strength)


def test_jit_and_vmap_over_weights():
    X, y = sample()
    weights = np.random.default_rng(1).uniform(0.5, 2, size=(3, N)).astype(np.float32)
    mapped = jax.jit(jax.vmap(lambda w: fit(X, jnp.asarray(y), w, 0.02)))(weights)
    assert mapped.coefficients.shape == (3, P, K - 1)
    for i in range(3):
        one = fit(X, y, weights[i], 0.02)
        assert_close(mapped.coefficients[i], one.coefficients, rtol=0, atol=2e-3)
        assert_close(mapped.objective[i], one.objective, rtol=1e-5)
    # Under a trace an absent class is a status, and no number.
    masked = jnp.where(jnp.asarray(y) == 2, 0.0, 1.0)
    lost = jax.jit(jax.vmap(lambda w: fit(X, jnp.asarray(y), w, 0.02)))(
        jnp.stack([masked, masked, jnp.asarray(weights[0])])
    )
    assert lost.status.tolist()[:2] == [3, 3] and int(lost.status[2]) == 0
    assert np.isnan(np.asarray(lost.coefficients[0])).all()
    assert np.isfinite(np.asarray(lost.coefficients[2])).all()


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_derivatives_are_those_of_the_solution():
    X, y = sample(np.float64)
    weights = np.ones(N)

    def rare(strength, weights):
        result = fit(X, y, weights, strength)
        return ordinal.predict_proba(result, X[:5], repair="none")[:, -1].sum()

    strength, h = 0.02, 1e-5
    by_strength, by_weight = jax.grad(rare, argnums=(0, 1))(strength, weights)
    up, down = rare(strength + h, weights), rare(strength - h, weights)
    assert_close(by_strength, (up - down) / (2 * h), rtol=1e-4)
    rare_row, common_row = int(np.argmax(y)), int(np.argmin(y))
    for i in (rare_row, common_row):
        step = h * (np.arange(N) == i)
        up, down = rare(strength, weights + step), rare(strength, weights - step)
        assert_close(by_weight[i], (up - down) / (2 * h), rtol=1e-3, atol=1e-8)
    # One more rare row makes rare events likelier.
    assert float(by_weight[rare_row]) > 0


@pytest.mark.usefixtures("x64")
def test_the_objective_moves_with_the_penalty_by_the_envelope_theorem():
    X, y = sample(np.float64)
    value, slope = jax.value_and_grad(
        lambda strength: fit(X, y, None, strength).objective
    )(0.02)
    norm = np.abs(np.asarray(fit(X, y, None, 0.02).blocks)).sum()
    assert_close(slope, norm, rtol=1e-6)
    assert np.isfinite(float(value))
