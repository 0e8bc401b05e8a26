"""The measurement model: its density, and the posterior where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased, solvers
from jaxcur.debiased import _bayes
from jaxcur.debiased._bayes import bayesian_measurement_model
from tests.helpers import assert_close

N = 300
RNG = np.random.default_rng(41)
X = np.column_stack([np.ones(N), 3 + 2 * RNG.normal(size=N)])
BETA = np.array([-1.5, 0.5])
Y = (RNG.uniform(size=N) < 1 / (1 + np.exp(-X @ BETA))).astype(int)
SAYS_ONE = np.where(Y == 1, 0.9, 0.2)
GUESS = (RNG.uniform(size=N) < SAYS_ONE).astype(int)
LABELED = np.arange(N) < 90
SEEN = np.where(LABELED, Y, -1)
# One size of run: the sampler is compiled once.
RUN = dict(num_warmup=200, num_samples=200, key=jax.random.key(0))


def test_density_sums_out_unknown_labels(x64):
    beta, alpha = np.array([0.3, -0.7]), np.array([[-1.0, 0.4], [2.0, -0.2]])
    z = X / 2

    def bernoulli(p, value):
        return p if value else 1 - p

    expected = []
    for i in range(N):
        p = 1 / (1 + np.exp(-X[i] @ beta))
        says = 1 / (1 + np.exp(-alpha @ z[i]))
        joint = [bernoulli(p, c) * bernoulli(says[c], GUESS[i]) for c in (0, 1)]
        expected.append(np.log(joint[Y[i]] if LABELED[i] else sum(joint)))
    actual = _bayes.row_log_density(
        jnp.asarray(beta),
        jnp.asarray(alpha),
        jnp.asarray(X),
        jnp.asarray(SEEN, float),
        jnp.asarray(GUESS, float),
        jnp.asarray(LABELED),
        jnp.asarray(z),
    )
    assert_close(actual, expected, rtol=1e-12)


def test_covariates_are_standardised_and_coefficients_brought_back(x64):
    back, constant = map(np.asarray, _bayes._standardisation(jnp.asarray(4 * X)))
    assert constant.tolist() == [True, False]
    scaled = 4 * X @ back
    assert_close(scaled[:, 0], np.ones(N), rtol=1e-12)
    assert_close(scaled[:, 1].mean(), 0.0, rtol=0, atol=1e-12)
    assert_close(scaled[:, 1].std(), 1.0, rtol=1e-12)
    b = np.array([0.4, -1.1])
    assert_close(4 * X @ (back @ b), scaled @ b, rtol=1e-12)
    alone, _ = _bayes._standardisation(jnp.asarray(X[:, 1:]))
    assert_close(alone, [[1 / X[:, 1].std()]], rtol=1e-12)


def mode(x, y, prior_scale):
    """Maximum of the posterior of a logistic regression, and its curvature."""
    b = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ b))
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.eye(len(b)) / prior_scale**2
        b = b + np.linalg.solve(curvature, x.T @ (y - p) - b / prior_scale**2)
    return b, np.linalg.inv(curvature)


def test_with_all_labels_the_machine_does_not_matter():
    result = bayesian_measurement_model(
        X, Y, y_predicted=GUESS, labeled=np.ones(N, bool), **RUN
    )
    assert result.draws.shape == (2, 200, 2)
    assert result.measurement.shape == (2, 200, 2, 1)
    back = np.asarray(_bayes._standardisation(jnp.asarray(X))[0])
    b, covariance = mode(X @ back, Y, 2.5)
    expected = back @ b
    spread = np.sqrt(np.diag(back @ covariance @ back.T))
    # 400 draws worth at least 100 independent ones: Monte Carlo error sd / 10, and a
    # posterior of 300 rows is within some sd / 10 of its normal approximation.
    gap = np.abs(np.asarray(result.estimate) - expected) / spread
    assert (gap < 0.5).all()
    assert_close(result.std_error, spread, rtol=0.25)
    low, high = np.asarray(result.interval(0.9)).T
    assert_close((high - low) / 2, 1.645 * spread, rtol=0.3)
    says = 1 / (1 + np.exp(-np.asarray(result.measurement).mean(axis=(0, 1))[:, 0]))
    # Binomial errors of about 150 rows a class: 0.03, four of them.
    shares = [GUESS[Y == 0].mean(), GUESS[Y == 1].mean()]
    assert_close(says, shares, rtol=0, atol=0.03)


def test_unlabeled_rows_add_information():
    result = bayesian_measurement_model(
        X, SEEN, y_predicted=GUESS, labeled=LABELED, **RUN
    )
    assert int(result.num_divergences) == 0
    assert float(jnp.max(result.r_hat)) < 1.05
    _, covariance = mode(X[LABELED], Y[LABELED], 2.5)
    # 210 rows with labels of 85 percent accuracy beside 90 gold ones.
    shrunk = np.asarray(result.std_error) / np.sqrt(np.diag(covariance))
    assert (shrunk < 0.9).all()
    # Wrong for one in ten thousand seeds.
    gap = np.abs(np.asarray(result.estimate) - BETA) / np.asarray(result.std_error)
    assert (gap < 4).all()


BAD = {
    "model": (dict(model="linear"), "`model` must be one of 'logistic'"),
    "gold": (dict(labeled=np.ones(N, bool)), "`y` must be 0 or 1 where `labeled`"),
    "machine": (dict(y_predicted=0.5 * GUESS), "`y_predicted` must be 0 or 1"),
    "labels": (dict(labeled=np.zeros(N, bool)), "no labelled rows"),
    "mask": (dict(labeled=LABELED[:4]), r"`labeled` must have shape \(300,\)"),
    "key": (dict(key=None), "pass `key=jax.random.key"),
    "prior": (dict(prior_scale=0.0), "`prior_scale` must be positive"),
    "draws": (dict(num_samples=2), "`num_samples` must be an integer of at least 4"),
}


@pytest.mark.parametrize("changes, message", list(BAD.values()), ids=list(BAD))
def test_bad_arguments_are_named(changes, message):
    options = dict(y_predicted=GUESS, labeled=LABELED, **RUN) | changes
    with pytest.raises(ValueError, match=message):
        bayesian_measurement_model(X, SEEN, **options)


def test_covariates_must_be_finite_and_not_zero():
    options = dict(y_predicted=GUESS, labeled=LABELED, **RUN)
    with pytest.raises(ValueError, match="`X` must be finite"):
        bayesian_measurement_model(np.where(X > 6, np.nan, X), SEEN, **options)
    with pytest.raises(ValueError, match="column of zeros"):
        bayesian_measurement_model(X * [1, 0], SEEN, **options)


def test_split_r_hat_by_hand(x64):
    draws = RNG.normal(size=(2, 11, 3)) + np.array([0.0, 1.0])[:, None, None]
    halves = draws[:, :10].reshape(4, 5, 3)
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    expected = np.sqrt((4 / 5 * within + between) / within)
    assert_close(solvers.split_r_hat(jnp.asarray(draws)), expected, rtol=1e-12)


def test_chains_that_disagree_are_reported():
    far = _bayes.BayesianResult(
        draws=jnp.zeros((2, 4, 1)),
        measurement=jnp.zeros((2, 4, 2, 1)),
        r_hat=jnp.array([1.4]),
        num_divergences=jnp.array(7),
    )
    with pytest.warns(debiased.InferenceWarning) as caught:
        _bayes._review(far)
    messages = " ".join(str(w.message) for w in caught)
    assert "7 of 8 transitions diverged" in messages and "r_hat 1.40" in messages
