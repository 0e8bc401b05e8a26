"""Tests of calibration by cumulative sums of residuals."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur.calibration._cumulative import (
    largest_absolute,
    largest_range,
    partial_sums,
)
from jaxcur.calibration._null import (
    TestResult,
    null_statistics,
    rank_p_value,
)
from jaxcur.calibration._sums import sort_by_forecast
from jaxcur.calibration._test_inputs import (
    Method,
    check_tested,
    poisoned,
    resolve_draw,
)


class _Cumulative(NamedTuple):
    order: Array
    forecasts: Array
    weights: Array
    scale: Array


def _normalised(value: Array, scale: Array) -> Array:
    """Value / scale; without noise any difference at all is infinite."""
    noise_free = jnp.where(value > 0, jnp.inf, value)
    return jnp.where(scale > 0, value / jnp.where(scale > 0, scale, 1), noise_free)


def _ks_statistic(context: _Cumulative, y: Array) -> Array:
    sums = partial_sums(context.forecasts, y[context.order], context.weights)
    return _normalised(largest_absolute(sums), context.scale)


def _kuiper_statistic(context: _Cumulative, y: Array) -> Array:
    sums = partial_sums(context.forecasts, y[context.order], context.weights)
    return _normalised(largest_range(sums), context.scale)


_CUMULATIVE = {
    "ks": (_ks_statistic, stats.brownian_maximum_tail),
    "kuiper": (_kuiper_statistic, stats.brownian_range_tail),
}


@functools.partial(jax.jit, static_argnames=("kind", "method", "num_resamples"))
def _cumulative(
    f: Array,
    y: Array,
    w: Array,
    uniforms: Array | None,
    key: Array | None,
    *,
    kind: str,
    method: str,
    num_resamples: int,
) -> TestResult:
    statistic, tail = _CUMULATIVE[kind]
    places = jnp.arange(f.shape[0], dtype=jnp.int32)
    forecasts, mass, order = sort_by_forecast(f, w, places)
    scale = jnp.sqrt(jnp.sum(mass**2 * forecasts * (1 - forecasts))) / jnp.sum(mass)
    context = _Cumulative(order, forecasts, mass, scale)
    value = statistic(context, y)
    if method == "monte_carlo":
        values = null_statistics(
            statistic, context, f, y, uniforms, key, num_resamples=num_resamples
        )
        p = rank_p_value(values)
    else:
        p = tail(value)
    return TestResult(value, poisoned(p, f, y, w))


def _cumulative_test(
    kind: str,
    probs: Any,
    labels: Any,
    method: Any,
    num_resamples: int,
    key: Any,
    uniforms: Any,
    weights: Any,
) -> TestResult:
    f, y, w = check_tested(probs, labels, weights)
    draw = resolve_draw(method, f, num_resamples, key, uniforms)
    return _cumulative(
        f,
        y,
        w,
        draw.uniforms,
        draw.key,
        kind=kind,
        method=draw.method,
        num_resamples=num_resamples,
    )


def ks_test(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    method: Method | None = None,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> TestResult:
    """Test of calibration by the largest absolute partial sum of residuals.

    The statistic is `ks_error` divided by sqrt(sum f (1 - f)) / n, which under
    calibration tends to the largest absolute value of Brownian motion on [0, 1].

    Guarantee: with independent rows, E[y | f] = f and method "monte_carlo",
    P(p <= a) <= a for every n and a. "asymptotic" uses the Brownian limit.
    Verified by: `jaxcur verify calibration/levels`.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), tested at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        method: "monte_carlo" draws labels from the forecasts; "asymptotic"; None takes
            Monte Carlo below 500 rows or where a `key` is given. Static.
        num_resamples: draws of the labels. Static.
        key: PRNG key for Monte Carlo.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself.
        weights: shape (n,), fixed factors of the residuals.

    Returns:
        `TestResult(statistic, p_value)`; where all forecasts are 0 or 1 the statistic
        is 0 if every label agrees and +inf otherwise.

    Raises:
        ValueError: as `spiegelhalter_test`.

    Transformations: jit, vmap.
    Cost: one sort, and O(n num_resamples) for Monte Carlo.

    Source: Arrieta-Ibarra et al., "Metrics of Calibration for Probabilistic
    Predictions", 2022; Tygert 2022.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(20, 0.9), jnp.arange(20) % 2
        >>> key = jax.random.key(0)
        >>> result = calibration.ks_test(probs, labels, key=key)
        >>> print(f"{result.statistic:.2f} {result.p_value:.3f}")
        5.96 0.001
    """
    return _cumulative_test(
        "ks", probs, labels, method, num_resamples, key, uniforms, weights
    )


def kuiper_test(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    method: Method | None = None,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> TestResult:
    """Test of calibration by the range of the partial sums of residuals.

    The statistic is `kuiper_error` divided by sqrt(sum f (1 - f)) / n, which under
    calibration tends to the range of Brownian motion on [0, 1].

    Guarantee: with independent rows, E[y | f] = f and method "monte_carlo",
    P(p <= a) <= a for every n and a. "asymptotic" uses the Brownian limit.
    Verified by: `jaxcur verify calibration/levels`.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), tested at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        method: "monte_carlo" draws labels from the forecasts; "asymptotic"; None takes
            Monte Carlo below 500 rows or where a `key` is given. Static.
        num_resamples: draws of the labels. Static.
        key: PRNG key for Monte Carlo.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself.
        weights: shape (n,), fixed factors of the residuals.

    Returns:
        `TestResult(statistic, p_value)`; where all forecasts are 0 or 1 the statistic
        is 0 if every label agrees and +inf otherwise.

    Raises:
        ValueError: as `spiegelhalter_test`.

    Transformations: jit, vmap.
    Cost: one sort, and O(n num_resamples) for Monte Carlo.

    Source: Arrieta-Ibarra et al., "Metrics of Calibration for Probabilistic
    Predictions", 2022; Tygert 2022.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(20, 0.9), jnp.arange(20) % 2
        >>> key = jax.random.key(0)
        >>> result = calibration.kuiper_test(probs, labels, key=key)
        >>> print(f"{result.statistic:.2f} {result.p_value:.3f}")
        5.96 0.001
    """
    return _cumulative_test(
        "kuiper", probs, labels, method, num_resamples, key, uniforms, weights
    )
