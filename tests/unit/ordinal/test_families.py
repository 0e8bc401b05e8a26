import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxcur.ordinal._families import (
    FAMILIES,
    class_probabilities,
    expected_information,
    pairs,
    row_terms,
    start_intercepts,
)
from jaxcur.ordinal._links import LINKS, interval, log1mexp, quantile
from tests.helpers import assert_close

CDF = {
    "logit": stats.logistic,
    "probit": stats.norm,
    "cloglog": stats.gumbel_l,
    "loglog": stats.gumbel_r,
    "cauchit": stats.cauchy,
}
CASES = [(f, k) for f in FAMILIES for k in LINKS if f != "acat" or k == "logit"]


def predictors(family, n=6, m=3, seed=0):
    eta = np.random.default_rng(seed).normal(size=(n, m))
    return np.sort(eta, axis=1) if family == "cumulative" else eta


def dense(family, information, m):
    out = np.zeros((information.shape[1], m, m))
    for (k, j), entry in zip(pairs(family, m), np.asarray(information), strict=True):
        out[:, k, j] = out[:, j, k] = entry
    return out


def by_definition(family, link, eta):
    """Probabilities from the table of families, by plain arithmetic."""
    F = CDF[link].cdf(eta)
    n, m = eta.shape
    if family == "cumulative":
        return np.diff(np.column_stack([np.zeros(n), F, np.ones(n)]), axis=1)
    if family == "acat":
        score = np.column_stack([np.zeros(n), np.cumsum(eta, axis=1)])
        return np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    stop = F if family == "sratio" else 1 - F
    passed = np.cumprod(np.column_stack([np.ones(n), 1 - stop]), axis=1)
    return passed * np.column_stack([stop, np.ones(n)])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("family", "link"), CASES)
def test_probabilities_gradient_and_information(family, link):
    eta = predictors(family)
    probs = by_definition(family, link, eta)
    assert_close(class_probabilities(family, link, eta), probs, rtol=1e-9)
    y = np.arange(6) % 4
    terms = row_terms(family, link, jnp.asarray(eta), jnp.asarray(y))
    assert_close(terms.log_prob, np.log(probs[np.arange(6), y]), rtol=1e-9)
    h = 1e-5

    def shifted(k, step):
        moved = eta.copy()
        moved[:, k] += step
        return row_terms(family, link, jnp.asarray(moved), jnp.asarray(y))

    ups = [shifted(k, h) for k in range(3)]
    downs = [shifted(k, -h) for k in range(3)]
    for k in range(3):
        slope = (ups[k].log_prob - downs[k].log_prob) / (2 * h)
        assert_close(terms.gradient[:, k], slope, rtol=1e-5, atol=1e-7)
        curve = -(ups[k].gradient - downs[k].gradient) / (2 * h)
        ours = dense(family, terms.information, 3)[:, :, k]
        assert_close(ours, curve, rtol=1e-5, atol=1e-6)
    # The expectation is the variance of the score.
    expected = dense(family, expected_information(family, link, jnp.asarray(eta)), 3)
    variance = 0
    for c in range(4):
        g = np.asarray(
            row_terms(family, link, jnp.asarray(eta), jnp.full(6, c)).gradient
        )
        variance = variance + probs[:, c, None, None] * g[:, :, None] * g[:, None, :]
    assert_close(expected, variance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("link", LINKS)
def test_nothing_breaks_in_the_tails(link, dtype):
    far = 80.0 if dtype == "float32" else 600.0
    points = np.array([-far, -far / 4, -10.0, -1.0, 0.0, 3.0, 20.0, far / 4, far])
    b = jnp.asarray(points, dtype)
    no = jnp.zeros(b.shape, bool)
    for width in (1e-3, 1.0, 30.0):
        for low, high in ((no, no), (~no, no), (no, ~no)):
            parts = interval(link, b - width, b, low, high)
            # log p itself may be so far below zero that it is minus infinity.
            log_prob = np.asarray(parts.log_prob)
            assert not np.isnan(log_prob).any() and (log_prob <= 0).all()
            usable = log_prob > -1e30
            for part in parts[1:]:
                assert np.isfinite(np.asarray(part)[usable]).all()


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog", "loglog", "cauchit"])
def test_the_tail_probability_keeps_its_digits(link, dtype):
    # A thin interval in the right tail, where F is 1 to working precision.
    a, b = 2.0 if link == "cloglog" else 12.0, 2.5 if link == "cloglog" else 12.5
    no = jnp.zeros((), bool)
    ours = interval(link, jnp.asarray(a, dtype), jnp.asarray(b, dtype), no, no)
    law = CDF[link]
    truth = np.log(law.sf(a) - law.sf(b))
    assert_close(ours.log_prob, truth, rtol=1e-5 if dtype == "float32" else 1e-11)


def test_log1mexp(dtype):
    t = np.array([1e-8, 1e-3, 0.5, 1.0, 20.0])
    exact = np.log(-np.expm1(-t))
    assert_close(log1mexp(jnp.asarray(t, dtype)), exact, rtol=1e-6)
    assert np.isneginf(float(log1mexp(jnp.zeros((), dtype))))
    slope = jax.grad(lambda x: log1mexp(x))(jnp.asarray(20.0, dtype))
    assert np.isfinite(float(slope))


@pytest.mark.parametrize(("family", "link"), CASES)
def test_the_start_has_the_frequencies_of_the_classes(family, link):
    frequencies = np.array([0.4, 0.3, 0.25, 0.05])
    alpha = start_intercepts(family, link, jnp.asarray(frequencies, jnp.float32))
    probs = class_probabilities(family, link, alpha[None, :])
    assert_close(probs[0], frequencies, rtol=2e-5)


@pytest.mark.parametrize("link", LINKS)
def test_quantile_inverts_the_link(link):
    p = np.array([0.01, 0.5, 0.99])
    z = np.asarray(quantile(link, jnp.asarray(p, jnp.float32)))
    assert_close(CDF[link].cdf(z), p, rtol=1e-5)


def test_an_interval_of_no_length_has_probability_zero():
    no = jnp.zeros((), bool)
    parts = interval("logit", jnp.asarray(1.0), jnp.asarray(1.0), no, no)
    assert np.isneginf(float(parts.log_prob))
    assert all(float(part) == 0 for part in parts[1:])
