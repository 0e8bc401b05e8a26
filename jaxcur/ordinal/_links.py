"""Probability of an interval under a link, and its derivatives, safe in the tails.

Each function takes the ends a < b of an interval on the latent scale, and flags for the
ends that are infinite (`low`: a = -inf, `high`: b = +inf; never both). It returns, with
p = F(b) - F(a),

    log p,   A = f(b)/p,   C = f(a)/p,   and the three second derivatives
    -d2/db2 = A (A - s(b)),   -d2/da2 = C (C + s(a)),   -d2/dadb = -A C,   s = f'/f,

all zero where the end is infinite. No probability is obtained by subtraction of two
that are nearly equal.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

LINKS = ("logit", "probit", "cloglog", "loglog", "cauchit")


class Interval(NamedTuple):
    """Log-probability of an interval and derivatives with respect to its ends."""

    log_prob: Array
    slope_b: Array
    slope_a: Array
    info_bb: Array
    info_aa: Array
    info_ab: Array


def log1mexp(t: Array) -> Array:
    """Logarithm of 1 - e^-t for t > 0; -inf at 0."""
    small = t < math.log(2.0)
    # Both branches see arguments at which they and their derivatives are finite.
    left = jnp.where(small, t, 0.5)
    right = jnp.where(small, 1.0, t)
    return jnp.where(small, jnp.log(-jnp.expm1(-left)), jnp.log1p(-jnp.exp(-right)))


def _log_expm1(g: Array) -> Array:
    """Logarithm of e^g - 1 for g > 0."""
    return g + log1mexp(g)


def _assemble(
    log_prob: Array,
    log_a: Array,
    log_c: Array,
    score_a: Array,
    score_b: Array,
    low: Array,
    high: Array,
) -> Interval:
    upper = jnp.where(high, 0, jnp.exp(log_a))
    lower = jnp.where(low, 0, jnp.exp(log_c))
    # A slope of zero meets an infinite score far outside the bulk: the product is zero.
    info_bb = jnp.where(high | (upper == 0), 0, upper * (upper - score_b))
    info_aa = jnp.where(low | (lower == 0), 0, lower * (lower + score_a))
    return Interval(log_prob, upper, -lower, info_bb, info_aa, -upper * lower)


def _logit(a: Array, b: Array, low: Array, high: Array) -> Interval:
    inner = ~(low | high)
    gap = jnp.where(inner, b - a, 1)
    log_prob = jnp.where(high, 0, jax.nn.log_sigmoid(b))
    log_prob = log_prob + jnp.where(low, 0, jax.nn.log_sigmoid(-a))
    log_prob = log_prob + jnp.where(inner, log1mexp(gap), 0)
    odds = jnp.where(inner, 1 / jnp.expm1(gap), 0)
    # e^g / (e^g - 1)^2, without overflow.
    cross = odds * (1 + odds)
    up_b, down_b = jax.nn.sigmoid(b), jax.nn.sigmoid(-b)
    up_a, down_a = jax.nn.sigmoid(a), jax.nn.sigmoid(-a)
    return Interval(
        log_prob,
        jnp.where(high, 0, down_b + odds),
        -jnp.where(low, 0, up_a + odds),
        jnp.where(high, 0, up_b * down_b + cross),
        jnp.where(low, 0, up_a * down_a + cross),
        -cross,
    )


def _probit(a: Array, b: Array, low: Array, high: Array) -> Interval:
    # In the right tail, where F rounds to one, the mirrored interval is measured.
    flip = high | (~low & (a > 0))
    upper = jnp.where(flip, -a, b)
    lower = jnp.where(flip, -b, a)
    inner = ~(low | high)
    log_upper = jax.scipy.special.log_ndtr(upper)
    log_lower = jax.scipy.special.log_ndtr(jnp.where(inner, lower, upper - 1))
    log_prob = log_upper + jnp.where(inner, log1mexp(log_upper - log_lower), 0)
    constant = -0.5 * math.log(2 * math.pi)
    log_a = constant - b * b / 2 - log_prob
    log_c = constant - a * a / 2 - log_prob
    return _assemble(log_prob, log_a, log_c, -a, -b, low, high)


def _cloglog(a: Array, b: Array, low: Array, high: Array) -> Interval:
    inner = ~(low | high)
    gap = jnp.where(inner, b - a, 1)
    # p = e^{-e^a} (1 - e^{-t}) with t = e^b - e^a, and t kept as a logarithm.
    log_t = jnp.where(low, b, a + _log_expm1(gap))
    faint = log_t < math.log(float(jnp.finfo(b.dtype).eps))
    t = jnp.exp(jnp.where(faint, 0, log_t))
    log_inner = jnp.where(faint, log_t, log1mexp(t))
    log_inner = jnp.where(high, 0, log_inner)
    growth = jnp.where(low, 0, jnp.exp(a))
    log_prob = log_inner - growth
    t = jnp.where(faint, jnp.exp(log_t), t)
    log_a = jnp.where(high, 0, b - t - log_inner)
    log_c = jnp.where(low, 0, a - log_inner)
    score_a, score_b = 1 - jnp.exp(a), 1 - jnp.exp(b)
    return _assemble(log_prob, log_a, log_c, score_a, score_b, low, high)


def _loglog(a: Array, b: Array, low: Array, high: Array) -> Interval:
    mirrored = _cloglog(-b, -a, high, low)
    return Interval(
        mirrored.log_prob,
        -mirrored.slope_a,
        -mirrored.slope_b,
        mirrored.info_aa,
        mirrored.info_bb,
        mirrored.info_ab,
    )


def _cauchit(a: Array, b: Array, low: Array, high: Array) -> Interval:
    angle = jnp.where(low, jnp.arctan2(1.0, -b), jnp.arctan2(b - a, 1 + a * b))
    angle = jnp.where(high, jnp.arctan2(1.0, a), angle)
    # Ends in the wrong order would wrap to a positive angle.
    log_angle = jnp.log(jnp.where(low | high | (b > a), angle, 0))
    log_a = -jnp.log1p(b * b) - log_angle
    log_c = -jnp.log1p(a * a) - log_angle
    score_a, score_b = -2 * a / (1 + a * a), -2 * b / (1 + b * b)
    return _assemble(
        log_angle - math.log(math.pi), log_a, log_c, score_a, score_b, low, high
    )


_INTERVALS: dict[str, Callable[[Array, Array, Array, Array], Interval]] = {
    "logit": _logit,
    "probit": _probit,
    "cloglog": _cloglog,
    "loglog": _loglog,
    "cauchit": _cauchit,
}


def interval(link: str, a: Array, b: Array, low: Array, high: Array) -> Interval:
    """Derivatives of log(F(b) - F(a)); -inf and zeros where b <= a."""
    # Where an end is infinite, or the ends are in the wrong order, any other finite
    # interval stands in: its value is replaced, and nothing turns into NaN.
    inside = low | high | (b > a)
    a = jnp.where(low, b - 1, jnp.where(inside, a, b - 1))
    b = jnp.where(high, a + 1, b)
    parts = _INTERVALS[link](a, b, low, high)
    log_prob = jnp.where(inside, parts.log_prob, -jnp.inf)
    rest = [jnp.where(inside, part, 0) for part in parts[1:]]
    # Rounding may leave a trace below zero on the diagonal.
    if link != "cauchit":
        rest[2], rest[3] = jnp.maximum(rest[2], 0), jnp.maximum(rest[3], 0)
    return Interval(log_prob, *rest)


def log_cdf(link: str, z: Array) -> Array:
    """Logarithm of F(z)."""
    yes = jnp.ones_like(z, bool)
    return interval(link, z - 1, z, yes, ~yes).log_prob


def log_survival(link: str, z: Array) -> Array:
    """Logarithm of 1 - F(z)."""
    yes = jnp.ones_like(z, bool)
    return interval(link, z, z + 1, ~yes, yes).log_prob


def quantile(link: str, p: Array) -> Array:
    """F^{-1}(p)."""
    if link == "logit":
        return jnp.log(p) - jnp.log1p(-p)
    if link == "probit":
        return jax.scipy.special.ndtri(p)
    if link == "cloglog":
        return jnp.log(-jnp.log1p(-p))
    if link == "loglog":
        return -jnp.log(-jnp.log(p))
    return jnp.tan(jnp.pi * (p - 0.5))
