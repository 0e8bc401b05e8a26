import jax
import numpy as np
import pytest

from jaxcur import ordinal
from jaxcur.ordinal._families import class_probabilities
from jaxcur.ordinal._rare import rare_logit, rare_logit_jacobian
from tests.helpers import assert_close
from tests.unit.ordinal.problem import (
    K,
    N,
    P,
    numeric_jacobian,
    probabilities,
    sample,
)

pytestmark = pytest.mark.usefixtures("x64")
MODELS = [
    ("cumulative", "logit"),
    ("cumulative", "cloglog"),
    ("cumulative", "probit"),
    ("sratio", "logit"),
    ("cratio", "loglog"),
    ("acat", "logit"),
]


@pytest.mark.parametrize(("family", "link"), MODELS)
def test_the_logit_of_the_last_class(family, link):
    rng = np.random.default_rng(0)
    eta = np.sort(rng.normal(size=(5, 3)), axis=1)
    points = rng.normal(size=(5, 2))
    every = jax.jit(lambda eta: class_probabilities(family, link, eta))
    probs = np.asarray(every(eta))[:, -1]
    both = jax.jit(lambda eta: rare_logit_jacobian(family, link, eta, points))
    value, jacobian = both(eta)
    assert_close(value, np.log(probs / (1 - probs)), rtol=1e-10)

    logit = jax.jit(lambda eta: rare_logit(family, link, eta))

    def from_parameters(theta):
        beta = theta[3:].reshape(3, 2).T
        return np.asarray(logit(eta + theta[:3] + points @ beta))

    numeric = numeric_jacobian(from_parameters, np.zeros(9))
    assert_close(jacobian, numeric, rtol=1e-6, atol=1e-8)


def parallel_fit():
    X, y = sample()
    fit = ordinal.fit(X, y, num_classes=K, penalty=ordinal.Parallel())
    return X, y, fit, ordinal.standard_errors(fit, X, y)


def test_marginal_effects_are_derivatives_with_delta_method_errors():
    X, _, fit, errors = parallel_fit()
    found = ordinal.average_marginal_effects(fit, X, covariance=errors)
    theta = np.concatenate([fit.intercepts, np.asarray(fit.coefficients).T.ravel()])

    def effects(theta):
        alpha, beta = theta[: K - 1], theta[K - 1 :].reshape(K - 1, P).T
        rows = []
        for j in range(P):
            move = np.zeros(P)
            move[j] = 1e-4
            gap = probabilities(alpha, beta, X + move)
            gap = gap - probabilities(alpha, beta, X - move)
            rows.append(gap.mean(0) / 2e-4)
        return np.array(rows)

    assert_close(found.estimate, effects(theta), rtol=1e-6)
    assert_close(np.sum(found.estimate, axis=1), np.zeros(P), rtol=0, atol=1e-12)
    jacobian = numeric_jacobian(effects, theta, 1e-5)
    variance = np.einsum(
        "jka,ab,jkb->jk", jacobian, np.asarray(errors.covariance), jacobian
    )
    assert_close(found.std_error, np.sqrt(variance), rtol=1e-4)
    alone = ordinal.average_marginal_effects(fit, X)
    assert np.all(np.isnan(alone.std_error))
    heavy = ordinal.average_marginal_effects(fit, X, weights=np.arange(N) < 30)
    head = ordinal.average_marginal_effects(fit, np.concatenate([X[:30], X[:30]]))
    assert_close(heavy.estimate, head.estimate, rtol=1e-10)


def test_a_rare_interval_is_the_mirrored_last_boundary():
    X, _, fit, errors = parallel_fit()
    found = ordinal.rare_probability_interval(fit, X[:3], errors, confidence_level=0.8)
    last = np.r_[1, 4, 5]
    part = np.asarray(errors.covariance)[np.ix_(last, last)]
    rows = np.column_stack([np.ones(3), X[:3]])
    eta = fit.intercepts[1] + X[:3] @ np.asarray(fit.coefficients)[:, 1]
    half = 1.2815515655446004 * np.sqrt(np.einsum("ij,jk,ik->i", rows, part, rows))
    ends = np.stack([eta + half, eta - half], axis=1)
    assert_close(found.interval, 1 / (1 + np.exp(ends)), rtol=1e-9)
    penalised = ordinal.fit(X, sample()[1], num_classes=K, regularization=0.02)
    with pytest.raises(ValueError, match="debiased_intervals"):
        ordinal.rare_probability_interval(penalised, X, errors)
    with pytest.raises(ValueError, match=r"shape \(6, 6\)"):
        ordinal.rare_probability_interval(fit, X, np.eye(5))


def test_influence_is_the_derivative_of_refits():
    X, y = sample()
    points = np.array([[1.0, -3.0], [2.0, -1.0]])
    kept = {"num_classes": K, "regularization": 0.02}
    found = np.asarray(ordinal.influence(X, y, points=points, **kept))
    assert found.shape == (2, N)

    @jax.jit
    def refit(weights):
        fit = ordinal.fit(X, y, weights=weights, rtol=1e-12, **kept)
        return ordinal.predict_proba(fit, points, repair="none")[:, -1]

    for row in (0, 7, int(np.argmax(y))):
        move = np.zeros(N)
        move[row] = 1e-4
        numeric = (refit(1.0 + move) - refit(1.0 - move)) / 2e-4
        assert_close(found[:, row], np.asarray(numeric), rtol=1e-4, atol=1e-8)
    # The scale of all weights together is of no consequence.
    assert_close(found.sum(axis=1), np.zeros(2), rtol=0, atol=1e-8)
