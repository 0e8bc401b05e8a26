"""Spiegelhalter's test: the first moment of residuals, away from one half."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import check_choice
from jaxcur.calibration._null import (
    TestResult,
    null_statistics,
    rank_p_value,
)
from jaxcur.calibration._test_inputs import (
    Method,
    check_tested,
    poisoned,
    resolve_draw,
)


class _Moment(NamedTuple):
    slope: Array
    offset: Array
    scale: Array
    sign: Array


def _moment(f: Array, w: Array) -> _Moment:
    slope = w * (1 - 2 * f)
    scale = jnp.sqrt(jnp.sum(slope**2 * f * (1 - f)))
    return _Moment(slope, f, scale, jnp.ones((), f.dtype))


def _moment_z(context: _Moment, y: Array) -> Array:
    total = jnp.sum((y - context.offset) * context.slope)
    # Where no outcome is in doubt, one that was called impossible is infinitely far.
    certain = jnp.where(total == 0, 0 * total, total * jnp.inf)
    z = total / jnp.where(context.scale > 0, context.scale, 1)
    return jnp.where(context.scale > 0, z, certain)


def _moment_sided(context: _Moment, y: Array) -> Array:
    """|z| for sign 0, z times the sign otherwise."""
    z = _moment_z(context, y)
    return jnp.where(context.sign == 0, jnp.abs(z), context.sign * z)


@functools.partial(jax.jit, static_argnames=("alternative", "method", "num_resamples"))
def _spiegelhalter(
    f: Array,
    y: Array,
    w: Array,
    uniforms: Array | None,
    key: Array | None,
    *,
    alternative: str,
    method: str,
    num_resamples: int,
) -> TestResult:
    sign = {"two-sided": 0, "greater": 1, "less": -1}[alternative]
    context = _moment(f, w)._replace(sign=jnp.asarray(sign, f.dtype))
    z = _moment_z(context, y)
    if method == "monte_carlo":
        values = null_statistics(
            _moment_sided, context, f, y, uniforms, key, num_resamples=num_resamples
        )
        p = rank_p_value(values)
    else:
        tail = _moment_sided(context, y)
        factor = 1 if sign else 2
        p = factor * jax.scipy.special.erfc(tail / jnp.sqrt(2).astype(f.dtype)) / 2
    defined = (context.scale > 0) | jnp.isinf(z)
    p = poisoned(jnp.where(defined, p, 1), f, y, w)
    return TestResult(jnp.where(defined, z, jnp.nan), p)


def spiegelhalter_test(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
    method: Method | None = None,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> TestResult:
    """Test of calibration by the Brier score: is it what the forecasts say it will be?

    Z = sum (y - f)(1 - 2 f) / sqrt( sum (1 - 2 f)^2 f (1 - f) ). Over-confident
    forecasts make Z large, under-confident ones make it small; the two-sided form sees
    both.

    Guarantee: with independent rows, E[y | f] = f and method "monte_carlo",
    P(p <= a) <= a for every n and a. "asymptotic" uses the normal limit of Z.
    Verified by: `jaxcur verify calibration/levels`.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), tested at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        alternative: "two-sided", "greater" (over-confidence) or "less". Static.
        method: "monte_carlo" draws labels from the forecasts; "asymptotic"; None takes
            Monte Carlo below 500 rows or where a `key` is given. Static.
        num_resamples: draws of the labels. Static.
        key: PRNG key for Monte Carlo.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself: label i of draw b
            is 1 where uniforms[b, i] < probs[i].
        weights: shape (n,), fixed factors of the residuals.

    Returns:
        `TestResult(statistic, p_value)` with statistic Z. Where all forecasts are 0,
        1/2 or 1, it is infinite if one that is certain did not come true, and NaN, with
        p-value 1, if all did.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, labels other
            than 0 and 1, Monte Carlo without a key, or an unknown option.

    Transformations: jit, vmap.
    Cost: O(n) asymptotic, O(n num_resamples) Monte Carlo.

    Source: Spiegelhalter 1986.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(20, 0.9), jnp.arange(20) % 2
        >>> key = jax.random.key(0)
        >>> result = calibration.spiegelhalter_test(probs, labels, key=key)
        >>> print(f"{result.statistic:.2f} {result.p_value:.3f}")
        5.96 0.001
    """
    check_choice("alternative", alternative, ("two-sided", "greater", "less"))
    f, y, w = check_tested(probs, labels, weights)
    draw = resolve_draw(method, f, num_resamples, key, uniforms)
    return _spiegelhalter(
        f,
        y,
        w,
        draw.uniforms,
        draw.key,
        alternative=alternative,
        method=draw.method,
        num_resamples=num_resamples,
    )
