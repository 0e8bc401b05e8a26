"""Probability of the last class on the logit scale, and its interval."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp, ndtri

from jaxcur._base import check_unit_interval, is_concrete
from jaxcur.ordinal._design import HIGHEST
from jaxcur.ordinal._links import log1mexp, log_cdf, log_survival


def rare_logit(family: str, link: str, eta: Array) -> Array:
    """Log odds of the last class against all others, (n,), from predictors (n, m)."""
    if family == "cumulative":
        last = eta[:, -1]
        if link == "logit":
            return -last
        return log_survival(link, last) - log_cdf(link, last)
    if family == "acat":
        scores = jnp.pad(jnp.cumsum(eta, axis=1), ((0, 0), (1, 0)))
        return scores[:, -1] - logsumexp(scores[:, :-1], axis=1)
    passed = log_survival(link, eta) if family == "sratio" else log_cdf(link, eta)
    log_prob = jnp.sum(passed, axis=1)
    # A probability that rounds to one has the largest odds that can be written.
    gap = jnp.maximum(-log_prob, jnp.finfo(eta.dtype).tiny)
    return log_prob - log1mexp(gap)


def rare_logit_jacobian(
    family: str, link: str, eta: Array, points: Array
) -> tuple[Array, Array]:
    """The logit (n,), and its derivative in (alpha, B boundary by boundary)."""

    def total(eta: Array) -> tuple[Array, Array]:
        value = rare_logit(family, link, eta)
        return jnp.sum(value), value

    slope, value = jax.grad(total, has_aux=True)(eta)
    by_coefficient = slope[:, :, None] * points[:, None, :]
    flat = by_coefficient.reshape(points.shape[0], -1)
    return value, jnp.concatenate([slope, flat], axis=1)


def spread_of(covariance: Array, jacobian: Array) -> Array:
    """Standard errors (n,) of the rows of `jacobian` times the parameters."""
    moved = jnp.matmul(jacobian, covariance, precision=HIGHEST)
    return jnp.sqrt(jnp.maximum(jnp.sum(moved * jacobian, axis=1), 0))


def normal_quantile(confidence_level: Any, dtype: Any) -> Array:
    """Half width of a standard normal interval."""
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    return ndtri((1 + jnp.asarray(confidence_level, dtype)) / 2)


def check_points(points: Any, p: int, dtype: Any) -> Array:
    """Rows of features at which something is wanted, (q, p)."""
    array = jnp.asarray(points, dtype)
    if array.ndim != 2 or array.shape[1] != p:
        raise ValueError(f"`points` must have shape (q, {p}), got {array.shape}")
    if is_concrete(array) and not np.isfinite(np.asarray(array)).all():
        raise ValueError("`points` must be finite")
    return array
