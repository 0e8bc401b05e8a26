import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import ordinal
from tests.helpers import assert_close
from tests.unit.ordinal.problem import K, N, P, sample

pytestmark = pytest.mark.usefixtures("x64")


def firth_in_numpy(X, event):
    """Firth's logistic regression of `event`: modified scores with hat values."""
    design = np.column_stack([np.ones(len(X)), X])
    beta = np.zeros(design.shape[1])
    for _ in range(500):
        prob = 1 / (1 + np.exp(-design @ beta))
        weight = prob * (1 - prob)
        information = design.T @ (design * weight[:, None])
        half = design * np.sqrt(weight)[:, None]
        hat = np.einsum("ij,jk,ik->i", half, np.linalg.inv(information), half)
        score = design.T @ (event - prob + hat * (0.5 - prob))
        step = np.linalg.solve(information, score)
        beta = beta + step * min(1, 2 / np.max(np.abs(step)))
    return beta


@pytest.mark.parametrize("separated", [False, True])
def test_two_classes_are_firths_logistic_regression(separated):
    X, y = sample()
    event = X[:, 0] > 1.0 if separated else y > 0
    found = ordinal.firth_fit(X, event.astype(int), num_classes=2)
    beta = firth_in_numpy(X, event)
    assert int(found.status) == 0
    # P(y <= 0) has the sign of the complement.
    assert_close(found.intercepts, -beta[:1], rtol=1e-6)
    assert_close(found.coefficients[:, 0], -beta[1:], rtol=1e-6)


def jeffreys(theta, X, y, parallel):
    """-loglik - log det(information) / 2: cumulative logit, or adjacent categories."""
    m = K - 1

    def log_probs(theta):
        alpha, beta = theta[:m], theta[m:].reshape(-1, P)
        eta = alpha + X @ (jnp.tile(beta, (m, 1)) if parallel else beta).T
        if not parallel:
            return jax.nn.log_softmax(jnp.pad(jnp.cumsum(eta, 1), ((0, 0), (1, 0))))
        below = jnp.pad(jax.nn.sigmoid(eta), ((0, 0), (1, 0)))
        below = jnp.pad(below, ((0, 0), (0, 1)), constant_values=1.0)
        return jnp.log(jnp.diff(below, axis=1))

    slopes = jax.jacfwd(log_probs)(theta)
    probs = jnp.exp(log_probs(theta))
    information = jnp.einsum("nka,nkb,nk->ab", slopes, slopes, probs)
    loglik = jnp.sum(log_probs(theta)[jnp.arange(len(y)), y])
    return -loglik - jnp.linalg.slogdet(information)[1] / 2


@pytest.mark.parametrize("parallel", [True, False])
def test_the_point_is_stationary_for_jeffreys_penalty(parallel):
    X, y = sample()
    penalty = ordinal.Parallel() if parallel else ordinal.NonParallel()
    family = "cumulative" if parallel else "acat"
    found = ordinal.firth_fit(X, y, num_classes=K, penalty=penalty, family=family)
    assert int(found.status) == 0
    beta = np.asarray(found.coefficients).T[: 1 if parallel else None]
    theta = np.concatenate([found.intercepts, beta.ravel()])
    slope = jax.grad(jeffreys)(jnp.asarray(theta), X, y, parallel)
    assert np.max(np.abs(slope)) < 1e-6 * N
    errors = ordinal.standard_errors(found, X, y, kind="expected")
    assert np.all(np.isfinite(errors.coefficients))


def test_weights_count_rows_and_a_constant_column_is_nothing():
    X, y = sample()
    once = ordinal.firth_fit(X, y, num_classes=K, weights=np.arange(N) < 30)
    head = np.tile(np.arange(30), 2)
    half = ordinal.firth_fit(X[head], y[head], num_classes=K, weights=np.full(N, 0.5))
    assert_close(once.coefficients, half.coefficients, rtol=1e-6)
    flat = X.copy()
    flat[:, 1] = 5.0
    found = ordinal.firth_fit(flat, y, num_classes=K)
    assert int(found.status) == 0
    assert np.all(np.asarray(found.coefficients)[1] == 0)
    with pytest.raises(ValueError, match="share every coefficient"):
        ordinal.firth_fit(X, y, num_classes=K, penalty=ordinal.NonParallel())
    with pytest.raises(ValueError, match="more blocks"):
        ordinal.firth_fit(X, y, num_classes=K, penalty=ordinal.SemiParallel())


def test_neighbouring_odds_follow_bayes_rule():
    X, y = sample()
    fit = ordinal.fit(X, y, num_classes=K, family="acat", regularization=0.01)
    sample_share, population = np.array([0.5, 0.3, 0.2]), np.array([0.9, 0.09, 0.01])
    moved = ordinal.correct_prevalence(fit, 10 * sample_share, population)
    probs = np.asarray(ordinal.predict_proba(fit, X)) * population / sample_share
    probs = probs / probs.sum(axis=1, keepdims=True)
    assert_close(ordinal.predict_proba(moved, X), probs, rtol=1e-10)


@pytest.mark.parametrize("family", ["cumulative", "sratio", "cratio", "acat"])
def test_two_classes_follow_bayes_rule(family):
    X, y = sample()
    fit = ordinal.fit(X, (y > 0).astype(int), num_classes=2, regularization=0.01)
    # The sign of the predictor depends on the family; the rule does not.
    sign = 1 if family in ("cumulative", "sratio") else -1
    fit = ordinal.OrdinalResult(
        **{
            **{name: getattr(fit, name) for name in fit.__dataclass_fields__},
            "intercepts": sign * fit.intercepts,
            "coefficients": sign * fit.coefficients,
            "family": family,
        }
    )
    ratio = np.array([0.98 / 0.5, 0.02 / 0.5])
    probs = np.asarray(ordinal.predict_proba(fit, X)) * ratio
    moved = ordinal.correct_prevalence(fit, [0.5, 0.5], [0.98, 0.02])
    expected = probs / probs.sum(axis=1, keepdims=True)
    assert_close(ordinal.predict_proba(moved, X), expected, rtol=1e-10)


def test_the_cumulative_family_is_told_to_weight():
    X, y = sample()
    fit = ordinal.fit(X, y, num_classes=K, regularization=0.02)
    with pytest.raises(ValueError, match="prevalence_weights"):
        ordinal.correct_prevalence(fit, [0.5, 0.3, 0.2], [0.9, 0.09, 0.01])
    weights = np.asarray(ordinal.prevalence_weights(y, [0.9, 0.09, 0.01]))
    shares = np.bincount(y, weights) / weights.sum()
    assert_close(shares, np.array([0.9, 0.09, 0.01]), rtol=1e-10)
    assert_close(weights.mean(), 1.0, rtol=1e-12)
    with pytest.raises(ValueError, match="never takes class 3"):
        ordinal.prevalence_weights(y, [0.9, 0.08, 0.01, 0.01])
    with pytest.raises(ValueError, match="must be positive"):
        ordinal.prevalence_weights(y, [0.9, 0.1, 0.0])
