"""The Bayesian model: its density, its posterior, and its calibration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ordinal, verify
from jaxcur.ordinal import _bayes
from jaxcur.ordinal._families import class_probabilities
from tests.helpers import assert_close

N, P, K = 80, 2, 3


def sample(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, P)) * [1.0, 5.0] + [0.0, 40.0]
    latent = X[:, 0] + rng.logistic(size=N)
    return X, np.digitize(latent, [0.0, 2.0])


def test_the_density_is_the_objective_of_the_penalised_fit(x64):
    from numpyro.infer.util import log_density

    X, y = sample()
    columns = (X - X.mean(axis=0)) / X.std(axis=0)
    scale, common = 0.2, 0.5
    strength = 1 / (N * scale)
    penalty = ordinal.Presto(first=scale / common)
    fit = ordinal.fit(X, y, num_classes=K, regularization=strength, penalty=penalty)
    alpha = fit.intercepts + fit.coefficients.T @ X.mean(axis=0)
    frequencies = jnp.diff(jax.nn.sigmoid(alpha), prepend=0.0, append=1.0)
    weights = jnp.ones(N)
    prior = _bayes.Prior(*map(jnp.asarray, (common, scale, 1.0)))

    def at(blocks):
        sites = {
            "frequencies": frequencies,
            "common": blocks[0] / common,
            "step": blocks[1:] / scale,
        }
        fixed = {"family": "cumulative", "link": "logit", "num_classes": K}
        arguments = (jnp.asarray(columns), jnp.asarray(y), weights, prior)
        model = _bayes.ordinal_model
        return log_density(model, arguments, {**fixed, "how": "laplace"}, sites)[0]

    def objective(blocks):
        beta = jnp.cumsum(blocks, axis=0)
        eta = alpha + columns @ beta.T
        rows = _bayes.row_logliks("cumulative", "logit", eta, jnp.asarray(y))
        factors = jnp.array([[scale / common], [1.0]])
        return -jnp.mean(rows) + strength * jnp.sum(factors * jnp.abs(blocks))

    assert_close(objective(fit.blocks), float(fit.objective), rtol=1e-8)
    rng = np.random.default_rng(1)
    best = float(at(fit.blocks))
    for _ in range(5):
        other = fit.blocks + 0.05 * rng.normal(size=fit.blocks.shape)
        change = float(objective(other) - objective(fit.blocks))
        assert_close(best - float(at(other)), N * change, rtol=1e-6)
        assert float(at(other)) < best


def test_rows_have_the_derivative_of_the_logarithm(x64):
    rng = np.random.default_rng(2)
    eta = jnp.asarray(np.sort(rng.normal(size=(6, 2)), axis=1))
    y = jnp.array([0, 1, 2, 0, 1, 2])
    for family in ("cumulative", "acat"):

        def plain(eta, family=family):
            probs = class_probabilities(family, "logit", eta)
            return jnp.log(jnp.take_along_axis(probs, y[:, None], axis=1)).sum()

        def ours(eta, family=family):
            return _bayes.row_logliks(family, "logit", eta, y).sum()

        value, slope = jax.jit(jax.value_and_grad(ours))(eta)
        expected, derivative = jax.jit(jax.value_and_grad(plain))(eta)
        assert_close(value, float(expected), rtol=1e-12)
        assert_close(slope, derivative, rtol=1e-9, atol=1e-12)


def test_crossing_rows_are_outside_the_support():
    columns, y = jnp.array([[-3.0], [3.0]]), jnp.array([0, 2])
    theta = jnp.array([-1.0, 1.0, 0.0, 1.0])
    args = ("cumulative", "logit", columns, y)
    assert np.isneginf(_bayes.log_likelihood(*args, jnp.ones(2), theta))
    # The row that crosses is not there.
    assert np.isfinite(_bayes.log_likelihood(*args, jnp.array([0.0, 1.0]), theta))


RUN = {"num_warmup": 150, "num_samples": 150, "num_chains": 2}


def test_the_posterior_lies_around_the_truth_and_shrinks_to_proportional_odds():
    rng = np.random.default_rng(3)
    n = 400
    X = rng.normal(size=(n, 2)).astype(np.float32)
    y = np.digitize(X[:, 0] + rng.logistic(size=n), [0.0, 2.0])
    points = np.array([[1.0, 0.0], [-1.0, 0.0]], np.float32)
    result = ordinal.bayesian_model(
        X,
        y,
        num_classes=K,
        family="acat",
        points=points,
        key=jax.random.key(0),
        **RUN,
    )
    assert result.coefficients.shape == (2, 150, 2, 2)
    assert result.row_logliks.shape == (2, 150, n)
    interval = np.asarray(result.interval(0.99))
    assert interval.shape == (2, 2) and (interval[:, 0] < interval[:, 1]).all()
    # The truth is cumulative; adjacent categories come close in the last class.
    rare = 1 / (1 + np.exp(-(points[:, 0] - 2)))
    assert (interval[:, 0] - 0.03 < rare).all() and (rare < interval[:, 1] + 0.03).all()
    assert float(result.r_hat) < 1.1
    parallel = np.asarray(result.prob_parallel(0.3))
    assert (parallel > 0.5).all()


ERRORS = [
    ({"prior": "spike"}, "'laplace', 'horseshoe'"),
    ({"common_scale": 0.0}, "`common_scale` must be positive"),
    ({"key": None}, "pass `key"),
    ({"num_samples": 2}, "at least 4"),
    ({"points": np.zeros((1, 3))}, "must have 2 columns"),
    ({"y": np.zeros(N, int)}, "single class"),
]


@pytest.mark.parametrize(("changed", "match"), ERRORS)
def test_wrong_input_is_named(changed, match):
    X, y = sample()
    options = {"y": y, "num_classes": K, "key": jax.random.key(0), **changed}
    with pytest.raises(ValueError, match=match):
        ordinal.bayesian_model(X, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "prior"),
    [("acat", "laplace"), ("acat", "horseshoe"), ("cumulative", "laplace")],
)
def test_simulation_based_calibration(family, prior):
    """Ranks of the true value among posterior draws are uniform: 200 data sets."""
    n, p, reps, cells = 50, 1, 200, 8
    common, difference = 1.0, 0.4
    columns = np.random.default_rng(4).normal(size=(n, p))
    columns = jnp.asarray((columns - columns.mean(0)) / columns.std(0), jnp.float32)

    def prior_draw(key):
        keys = jax.random.split(key, 6)
        freq = jax.random.dirichlet(keys[0], jnp.ones(K))
        first = common * jax.random.laplace(keys[1], (p,))
        if prior == "laplace":
            step = difference * jax.random.laplace(keys[2], (K - 2, p))
        else:
            overall = jnp.abs(jax.random.cauchy(keys[3]))
            local = jnp.abs(jax.random.cauchy(keys[4], (K - 2, p)))
            scale = difference * overall * local
            scale = scale / jnp.sqrt(1 + scale**2)
            step = scale * jax.random.normal(keys[2], (K - 2, p))
        alpha = _bayes.start_intercepts(family, "logit", freq)
        beta = jnp.cumsum(jnp.concatenate([first[None], step]), axis=0)
        eta = alpha + columns @ beta.T
        valid = jnp.all(eta[:, 1:] > eta[:, :-1]) | (family != "cumulative")
        return first, step, eta, valid

    def one(key):
        key_prior, key_data, key_run = jax.random.split(key, 3)
        # The first valid draw of many is a draw from the prior given validity.
        many = jax.vmap(prior_draw)(jax.random.split(key_prior, 50))
        first, step, eta, _ = jax.tree.map(lambda v: v[jnp.argmax(many[3])], many)
        probs = class_probabilities(family, "logit", eta)
        y = jax.random.categorical(key_data, jnp.log(probs))
        result = _bayes._sample(
            columns,
            y.astype(jnp.int32),
            jnp.ones(n),
            columns[:1],
            _bayes.Prior(*map(jnp.asarray, (common, difference, 1.0))),
            key_run,
            family=family,
            link="logit",
            num_classes=K,
            how=prior,
            num_warmup=400,
            num_samples=700,
            num_chains=1,
        )
        # Every hundredth draw: nearly independent; seven of them give eight ranks.
        blocks, rare = result.blocks[0, ::100], result.rare_probs[0, ::100]
        truth = jnp.array([first[0], step[0, 0], probs[0, -1]])
        draws = jnp.stack([blocks[:, 0, 0], blocks[:, 1, 0], rare[:, 0]], axis=1)
        return jnp.sum(draws < truth, axis=0)

    keys = jax.random.split(jax.random.key(5), reps)
    ranks = jax.jit(lambda k: jax.lax.map(one, k, batch_size=50))(keys)
    for column in np.asarray(ranks).T:
        counts = np.bincount(column, minlength=cells)
        # Evidence of 20 to 1 against uniform ranks would be a finding.
        assert verify.rank_log_evidence(counts) < np.log(20), counts
