"""Log-likelihood of one response, its gradient and information in the predictors.

Everything is evaluated at eta of shape (n, m), m = num_classes - 1, and y of shape (n,)
in 0..m. The information of a row is a symmetric (m, m) matrix, of which only the
entries that can differ from zero are formed: `pairs` lists them, upper triangle.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.ordinal._links import interval, log_cdf, log_survival, quantile

FAMILIES = ("cumulative", "sratio", "cratio", "acat")


class RowTerms(NamedTuple):
    """Per row: log-likelihood (n,), gradient (n, m), information (num_pairs, n)."""

    log_prob: Array
    gradient: Array
    information: Array


def pairs(family: str, m: int) -> np.ndarray:
    """Entries (k, l), k <= l, of the information that the family can fill."""
    diagonal = [(k, k) for k in range(m)]
    if family == "cumulative":
        diagonal += [(k, k + 1) for k in range(m - 1)]
    if family == "acat":
        diagonal += [(k, j) for k in range(m) for j in range(k + 1, m)]
    return np.asarray(diagonal)


def _cumulative(link: str, eta: Array, y: Array) -> RowTerms:
    m = eta.shape[1]
    low, high = y == 0, y == m
    b = jnp.take_along_axis(eta, jnp.minimum(y, m - 1)[:, None], axis=1)[:, 0]
    a = jnp.take_along_axis(eta, jnp.maximum(y - 1, 0)[:, None], axis=1)[:, 0]
    part = interval(link, a, b, low, high)
    boundary = jnp.arange(m)
    is_b = boundary == y[:, None]
    is_a = boundary == y[:, None] - 1
    gradient = jnp.where(is_b, part.slope_b[:, None], 0)
    gradient = gradient + jnp.where(is_a, part.slope_a[:, None], 0)
    diagonal = jnp.where(is_b, part.info_bb[:, None], 0)
    diagonal = diagonal + jnp.where(is_a, part.info_aa[:, None], 0)
    # Row of class k + 1 couples its two ends k and k + 1.
    off = jnp.where(is_b[:, 1:], part.info_ab[:, None], 0)
    return RowTerms(part.log_prob, gradient, jnp.concatenate([diagonal, off], 1).T)


def _sequential(link: str, eta: Array, stops: Array, goes: Array) -> RowTerms:
    """`stops` where the decision at a boundary counts F, `goes` where 1 - F."""
    part = interval(link, eta, eta, stops, goes)
    counts = stops | goes
    log_prob = jnp.sum(jnp.where(counts, part.log_prob, 0), axis=1)
    gradient = jnp.where(counts, part.slope_b + part.slope_a, 0)
    information = jnp.where(counts, part.info_bb + part.info_aa, 0)
    return RowTerms(log_prob, gradient, information.T)


def _adjacent(eta: Array, y: Array) -> RowTerms:
    m = eta.shape[1]
    scores = jnp.pad(jnp.cumsum(eta, axis=1), ((0, 0), (1, 0)))
    log_probs = jax.nn.log_softmax(scores, axis=1)
    log_prob = jnp.take_along_axis(log_probs, y[:, None], axis=1)[:, 0]
    probs = jnp.exp(log_probs)
    above = jnp.flip(jnp.cumsum(jnp.flip(probs[:, 1:], 1), 1), 1)
    below = jnp.cumsum(probs[:, :-1], axis=1)
    beyond = jnp.arange(m) < y[:, None]
    gradient = jnp.where(beyond, below, -above)
    k, j = pairs("acat", m).T
    # P(y > max) - P(y > k) P(y > l) = P(y > l) P(y <= k), without cancellation.
    return RowTerms(log_prob, gradient, (above[:, j] * below[:, k]).T)


def row_terms(family: str, link: str, eta: Array, y: Array) -> RowTerms:
    """Log-likelihood, gradient and observed information of every row."""
    if family == "cumulative":
        return _cumulative(link, eta, y)
    if family == "acat":
        return _adjacent(eta, y)
    here = jnp.arange(eta.shape[1]) == y[:, None]
    past = jnp.arange(eta.shape[1]) < y[:, None]
    if family == "sratio":
        return _sequential(link, eta, here, past)
    return _sequential(link, eta, past, here)


def expected_information(family: str, link: str, eta: Array) -> Array:
    """Information of every row averaged over its own response: (num_pairs, n)."""
    n, m = eta.shape

    def one(k: Array) -> Array:
        terms = row_terms(family, link, eta, jnp.full(n, k, jnp.int32))
        return jnp.exp(terms.log_prob) * terms.information

    return jnp.sum(jax.lax.map(one, jnp.arange(m + 1)), axis=0)


def own_class_gap(family: str, eta: Array, y: Array) -> Array:
    """Distance to the edge of the domain of the likelihood: eta_y - eta_{y-1}."""
    m = eta.shape[1]
    if family != "cumulative" or m == 1:
        return jnp.full(y.shape, jnp.inf, eta.dtype)
    gaps = jnp.pad(eta[:, 1:] - eta[:, :-1], ((0, 0), (1, 1)), constant_values=jnp.inf)
    return jnp.take_along_axis(gaps, y[:, None], axis=1)[:, 0]


def class_probabilities(family: str, link: str, eta: Array) -> Array:
    """Probabilities (n, m + 1); of the cumulative family signed where it crosses."""
    n, m = eta.shape
    if family == "acat":
        scores = jnp.pad(jnp.cumsum(eta, axis=1), ((0, 0), (1, 0)))
        return jax.nn.softmax(scores, axis=1)
    if family == "cumulative":
        first = jnp.exp(log_cdf(link, eta[:, :1]))
        last = jnp.exp(log_survival(link, eta[:, -1:]))
        a, b = eta[:, :-1], eta[:, 1:]
        no = jnp.zeros(a.shape, bool)
        up = interval(link, jnp.minimum(a, b), jnp.maximum(a, b), no, no)
        middle = jnp.sign(b - a) * jnp.exp(up.log_prob)
        return jnp.concatenate([first, middle, last], axis=1)
    stop, go = log_cdf(link, eta), log_survival(link, eta)
    if family == "cratio":
        stop, go = go, stop
    zero = jnp.zeros((n, 1), eta.dtype)
    survived = jnp.concatenate([zero, jnp.cumsum(go, axis=1)], axis=1)
    return jnp.exp(survived + jnp.concatenate([stop, zero], axis=1))


def start_intercepts(family: str, link: str, frequencies: Array) -> Array:
    """Intercepts that give the class frequencies (m + 1,) at the mean of the rows."""
    tail = jnp.flip(jnp.cumsum(jnp.flip(frequencies)))
    if family == "acat":
        alpha = jnp.log(frequencies[1:]) - jnp.log(frequencies[:-1])
    elif family == "cumulative":
        alpha = quantile(link, jnp.cumsum(frequencies)[:-1] / tail[0])
    elif family == "sratio":
        alpha = quantile(link, frequencies[:-1] / tail[:-1])
    else:
        alpha = quantile(link, tail[1:] / tail[:-1])
    return jnp.clip(alpha, -30, 30)
