"""What holds exactly, not on average: enumeration, full labels, perfect surrogates."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from tests.helpers import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::jaxcur.debiased.InferenceWarning")

N = 8


def world(n: int = N, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = X @ [0.5, 1.0] + rng.normal(size=n)
    return X, y, 3 - 2 * y + rng.normal(size=n)


@pytest.mark.parametrize("varying", [False, True])
def test_mean_and_ols_are_unbiased_over_all_label_patterns(varying, x64):
    X, y, guess = world()
    pi = np.linspace(0.2, 0.9, N) if varying else np.full(N, 0.35)
    patterns = np.array(list(itertools.product([False, True], repeat=N)))
    probs = np.prod(np.where(patterns, pi, 1 - pi), axis=1)

    # The pattern without labels is refused; its estimate is that of the predictions.
    @jax.jit
    @jax.vmap
    def fits(labeled):
        options = {"labeled": labeled, "sampling_prob": jnp.asarray(pi)}
        options["power_tuning"] = None
        average = debiased.mean(y, y_predicted=guess, **options).estimate
        slope = debiased.ols(X, y, y_predicted=guess, **options).estimate
        return jnp.concatenate([average, slope])

    values = np.array(fits(jnp.asarray(patterns)))
    assert np.isnan(values[0]).all(), "no labels under jit is NaN"
    values[0] = [guess.mean(), *np.linalg.lstsq(X, guess)[0]]
    expected = [y.mean(), *np.linalg.lstsq(X, y)[0]]
    assert_close(probs @ values, np.array(expected), rtol=1e-12)


def test_unbiased_over_all_samples_of_fixed_size(x64):
    X, y, guess = world()
    places = list(itertools.combinations(range(N), 4))
    masks = np.zeros((len(places), N), bool)
    for row, chosen in enumerate(places):
        masks[row, list(chosen)] = True

    @jax.jit
    @jax.vmap
    def fits(labeled):
        options = {"labeled": labeled, "power_tuning": 1.0}
        result = debiased.mean(y, y_predicted=guess, target="finite", **options)
        slope = debiased.ols(X, y, y_predicted=guess, **options).estimate
        return jnp.concatenate([result.estimate, slope, result.covariance[0]])

    values = np.array(fits(jnp.asarray(masks)))
    assert_close(
        values[:, :3].mean(axis=0),
        np.array([y.mean(), *np.linalg.lstsq(X, y)[0]]),
        rtol=1e-12,
    )
    # The variance estimate is unbiased as well: that is what ddof = 1 is for.
    assert_close(values[:, 3].mean(), values[:, 0].var(), rtol=1e-12)


def full_data(n: int = 60):
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    linear = X @ [0.3, 0.8, -0.4]
    return X, {
        "ols": linear + rng.normal(size=n),
        "logistic": (rng.random(n) < 1 / (1 + np.exp(-linear))).astype(float),
        "poisson": rng.poisson(np.exp(linear)).astype(float),
    }


MEANS = {
    "ols": (lambda e: e, lambda e: np.ones_like(e)),
    "logistic": (lambda e: 1 / (1 + np.exp(-e)), None),
    "poisson": (np.exp, np.exp),
}


def ordinary(model, X, y, clusters=None):
    """Maximum likelihood and its sandwich, in NumPy."""
    mean, slope = MEANS[model]
    slope = slope or (lambda e: mean(e) * (1 - mean(e)))
    beta = np.zeros(X.shape[1])
    for _ in range(60):
        eta = X @ beta
        hessian = (X * slope(eta)[:, None]).T @ X
        beta = beta + np.linalg.solve(hessian, X.T @ (y - mean(eta)))
    scores = X * (y - mean(X @ beta))[:, None]
    if clusters is not None:
        scores = np.stack([scores[clusters == c].sum(0) for c in np.unique(clusters)])
    bread = np.linalg.inv((X * slope(X @ beta)[:, None]).T @ X)
    return beta, bread @ (scores.T @ scores) @ bread


@pytest.mark.parametrize("tuning", [None, "optimal"])
@pytest.mark.parametrize("prob", [None, 1.0])
@pytest.mark.parametrize("model", list(MEANS))
def test_all_labeled_is_the_ordinary_estimator_with_hc0(model, prob, tuning, x64):
    X, outcomes = full_data()
    y = outcomes[model]
    result = getattr(debiased, model)(
        X,
        y,
        y_predicted=0 * y + 5,
        labeled=np.ones(len(y), bool),
        sampling_prob=prob,
        power_tuning=tuning,
    )
    beta, covariance = ordinary(model, X, y)
    assert_close(result.estimate, beta, rtol=1e-12)
    assert_close(result.covariance, covariance, rtol=1e-12)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("model", list(MEANS))
def test_a_perfect_surrogate_gives_full_data_for_any_labels(model, clustered, x64):
    X, outcomes = full_data()
    y = outcomes[model]
    clusters = np.arange(len(y)) % 7
    labeled = np.random.default_rng(5).random(len(y)) < 0.4
    result = getattr(debiased, model)(
        X,
        np.where(labeled, y, np.nan),
        y_predicted=y,
        labeled=labeled,
        sampling_prob=0.4,
        power_tuning=None,
        clusters=clusters if clustered else None,
    )
    beta, covariance = ordinary(model, X, y, clusters if clustered else None)
    assert_close(result.estimate, beta, rtol=1e-12)
    assert_close(result.covariance, covariance, rtol=1e-11)
    assert_close(result.diagnostics.bias_z, np.zeros(3), rtol=0, atol=1e-6)


def test_two_ways_of_clusters_are_inclusion_and_exclusion(x64):
    X, outcomes = full_data()
    y = outcomes["ols"]
    ways = np.column_stack([np.arange(60) % 7, np.arange(60) // 12])
    result = debiased.ols(
        X, y, labeled=np.ones(60, bool), sampling_prob=1.0, clusters=ways
    )
    joint = ways[:, 0] * 10 + ways[:, 1]
    parts = [ordinary("ols", X, y, ids)[1] for ids in (*ways.T, joint)]
    expected = parts[0] + parts[1] - parts[2]
    values, vectors = np.linalg.eigh(expected)
    expected = (vectors * np.maximum(values, 0)) @ vectors.T
    assert_close(result.covariance, expected, rtol=1e-10, atol=1e-14)


def test_small_sample_factors(x64):
    X, outcomes = full_data()
    clusters = np.arange(60) % 7
    options = {"labeled": np.ones(60, bool), "sampling_prob": 1.0}
    plain = debiased.ols(X, outcomes["ols"], **options)
    hc1 = debiased.ols(X, outcomes["ols"], small_sample="hc1", **options)
    assert_close(hc1.covariance, plain.covariance * (60 / 57), rtol=1e-12)
    options["clusters"] = clusters
    plain = debiased.ols(X, outcomes["ols"], **options)
    cr1 = debiased.ols(X, outcomes["ols"], small_sample="cr1", **options)
    assert_close(cr1.covariance, plain.covariance * (7 / 6 * 59 / 57), rtol=1e-12)
    assert float(cr1.degrees_of_freedom) == 6


def test_a_number_of_zero_is_the_weighted_estimator_of_labeled_rows(x64):
    X, y, guess = world(40)
    rng = np.random.default_rng(1)
    labeled, pi = rng.random(40) < 0.5, np.linspace(0.3, 0.7, 40)
    result = debiased.ols(
        X, y, y_predicted=guess, labeled=labeled, sampling_prob=pi, power_tuning=0.0
    )
    w = labeled / pi
    expected = np.linalg.solve((X * w[:, None]).T @ X, X.T @ (w * y))
    assert_close(result.estimate, expected, rtol=1e-12)
    assert_close(result.std_error, result.diagnostics.gold_std_error, rtol=1e-12)


def test_duplicated_rows_equal_weights_of_two(x64):
    X, y, guess = world(30)
    labeled = np.arange(30) % 3 == 0
    options = {"sampling_prob": 0.3, "power_tuning": None}
    weighted = debiased.ols(
        X, y, y_predicted=guess, labeled=labeled, weights=np.full(30, 2.0), **options
    )
    twice = [np.concatenate([a, a]) for a in (X, y, guess, labeled)]
    doubled = debiased.ols(
        twice[0], twice[1], y_predicted=twice[2], labeled=twice[3], **options
    )
    assert_close(weighted.estimate, doubled.estimate, rtol=1e-12)
    assert_close(weighted.covariance, 2 * doubled.covariance, rtol=1e-12)


@pytest.mark.parametrize("design", ["bernoulli", "srs", "stratified"])
def test_padding_with_weight_zero_changes_nothing(design, x64):
    X, y, guess = world(40)
    labeled, strata = np.arange(40) % 3 == 0, np.arange(40) % 2
    options = {"design": design}
    if design == "bernoulli":
        options["sampling_prob"] = 0.3
    if design == "stratified":
        options["strata"] = strata
    plain = debiased.ols(X, y, y_predicted=guess, labeled=labeled, **options)
    pad = 9
    if design == "stratified":
        options["strata"] = np.concatenate([strata, np.zeros(pad, int)])
    padded = debiased.ols(
        np.concatenate([X, np.full((pad, 2), np.nan)]),
        np.concatenate([y, np.full(pad, np.nan)]),
        y_predicted=np.concatenate([guess, np.full(pad, np.nan)]),
        labeled=np.concatenate([labeled, np.ones(pad, bool)]),
        weights=np.concatenate([np.ones(40), np.zeros(pad)]),
        **options,
    )
    assert_close(padded.estimate, plain.estimate, rtol=1e-12)
    assert_close(padded.covariance, plain.covariance, rtol=1e-11)
    assert float(padded.diagnostics.num_rows) == 40


def test_normalised_probabilities_count_the_rescaling(x64):
    # A surrogate far off: with unequal probabilities, dividing the realised number of
    # labels out removes most of the variance, and the standard error has to know.
    n, count = 1000, 400

    def one(key):
        keys = jax.random.split(key, 2)
        x, e, noise = jax.random.normal(keys[0], (3, n))
        y = 1 + x + e
        pi = jnp.clip(0.1 * jnp.exp(0.5 * x), 0.02, 0.9)
        result = debiased.mean(
            y,
            y_predicted=0.9 * y + 3 + 0.3 * noise,
            labeled=jax.random.bernoulli(keys[1], pi),
            sampling_prob=pi,
            power_tuning=None,
            normalize_prob=True,
        )
        return (result.estimate[0] - 1) / result.std_error[0]

    keys = jax.random.split(jax.random.key(0), count)
    t = np.asarray(jax.jit(lambda k: jax.lax.map(one, k, batch_size=50))(keys))
    # Without the term the standard deviation of t is 0.3; sampling noise is 4 %.
    assert 0.88 < t.std() < 1.15
