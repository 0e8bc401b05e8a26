"""Tests of calibration by moments, cumulative sums and bins of fixed width or mass."""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import check_choice, is_concrete
from jaxcur.calibration._bins import bin_index, check_bins
from jaxcur.calibration._cumulative import (
    largest_absolute,
    largest_range,
    partial_sums,
)
from jaxcur.calibration._inputs import check_scored
from jaxcur.calibration._null import (
    TestResult,
    check_draw,
    choose_method,
    null_statistics,
    rank_p_value,
)
from jaxcur.calibration._sums import segment_totals, sort_by_forecast

Method = Literal["asymptotic", "monte_carlo"]


def check_hard(labels: Array) -> Array:
    """Outcomes that are exactly 0 or 1; NaN where one is not, under tracing."""
    legal = (labels == 0) | (labels == 1)
    if is_concrete(labels):
        if not np.asarray(legal).all():
            raise ValueError("`labels` of a test must be 0 or 1, got a number between")
        return labels
    return jnp.where(legal, labels, jnp.nan)


def check_tested(probs: Any, labels: Any, weights: Any) -> tuple[Array, Array, Array]:
    """Forecasts, outcomes 0 or 1, and weights of a test, each (n,)."""
    f, y, w = check_scored(probs, labels, weights)
    return f, check_hard(y), jnp.ones_like(f) if w is None else w


def poisoned(p_value: Array, *arrays: Array) -> Array:
    """The p-value, NaN where an input holds one."""
    total = sum(jnp.sum(array) for array in arrays)
    return jnp.where(jnp.isnan(total), jnp.nan, p_value)


class Draw(NamedTuple):
    """How a p-value is found: static method, and what Monte Carlo draws from."""

    method: str
    uniforms: Array | None
    key: Array | None
    num_resamples: int


def resolve_draw(
    method: Any, f: Array, num_resamples: Any, key: Any, uniforms: Any
) -> Draw:
    """Check the options that all tests share."""
    n = f.shape[0]
    method = choose_method(method, n, key, uniforms)
    return Draw(
        method, check_draw(uniforms, num_resamples, n, f.dtype), key, num_resamples
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
    defined = context.scale > 0
    z = total / jnp.where(defined, context.scale, 1)
    return jnp.where(defined, z, 0 * total)


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
    defined = context.scale > 0
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
        `TestResult(statistic, p_value)` with statistic Z: NaN, with p-value 1, where
        all forecasts are 0, 1/2 or 1.

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


class _Cells(NamedTuple):
    index: Array
    forecasts: Array
    weights: Array
    variance: Array


def _chi_square(context: _Cells, y: Array) -> Array:
    r = context.weights * (y - context.forecasts)
    m = context.variance.shape[0]
    square = segment_totals(r, context.index, m) ** 2
    noisy = context.variance > 0
    # A bin without noise agrees exactly or the hypothesis is impossible.
    sure = jnp.where(square > 0, jnp.inf, square)
    terms = jnp.where(noisy, square / jnp.where(noisy, context.variance, 1), sure)
    return jnp.sum(terms)


@functools.partial(
    jax.jit,
    static_argnames=("num_bins", "binning", "closed", "method", "num_resamples"),
)
def _hosmer_lemeshow(
    f: Array,
    y: Array,
    w: Array,
    uniforms: Array | None,
    key: Array | None,
    *,
    num_bins: int,
    binning: str,
    closed: str,
    method: str,
    num_resamples: int,
) -> TestResult:
    index, m = bin_index(f, None, num_bins=num_bins, binning=binning, closed=closed)
    variance = segment_totals(w**2 * f * (1 - f), index, m)
    context = _Cells(index, f, w, variance)
    value = _chi_square(context, y)
    if method == "monte_carlo":
        values = null_statistics(
            _chi_square, context, f, y, uniforms, key, num_resamples=num_resamples
        )
        p = rank_p_value(values)
    else:
        freedom = jnp.sum(variance > 0).astype(f.dtype)
        half = jnp.where(freedom > 0, freedom / 2, 1)
        finite = jnp.where(jnp.isinf(value), 0, value)
        p = jax.scipy.special.gammaincc(half, finite / 2)
        p = jnp.where(freedom > 0, p, 1)
        p = jnp.where(jnp.isinf(value), 0, p)
    return TestResult(value, poisoned(p, f, y, w))


def hosmer_lemeshow_test(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 10,
    binning: Literal["width", "mass"] = "mass",
    closed: Literal["left", "right"] = "left",
    method: Method | None = None,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> TestResult:
    """Chi-square test of calibration over bins, for forecasts made beforehand.

    sum_j (sum_{i in j} r_i)^2 / sum_{i in j} f_i (1 - f_i). The forecasts were not
    fitted to these labels, so that every bin with any noise gives one degree of
    freedom.

    Guarantee: with independent rows, E[y | f] = f and method "monte_carlo",
    P(p <= a) <= a for every n and a. "asymptotic" uses the chi-square limit.
    Verified by: `jaxcur verify calibration/levels`.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), tested at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        num_bins: number of bins. Static.
        binning: "mass" or "width". Static.
        closed: "left" or "right". Static.
        method: "monte_carlo" draws labels from the forecasts; "asymptotic"; None takes
            Monte Carlo below 500 rows or where a `key` is given. Static.
        num_resamples: draws of the labels. Static.
        key: PRNG key for Monte Carlo.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself.
        weights: shape (n,), fixed factors of the residuals.

    Returns:
        `TestResult(statistic, p_value)`.

    Raises:
        ValueError: as `spiegelhalter_test`.

    Transformations: jit, vmap.
    Cost: one pass (a sort more for "mass"), O(n num_resamples) for Monte Carlo.

    Source: Hosmer and Lemeshow 1980, in its form for external forecasts.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(20, 0.9), jnp.arange(20) % 2
        >>> key = jax.random.key(0)
        >>> result = calibration.hosmer_lemeshow_test(probs, labels, key=key)
        >>> print(f"{result.statistic:.2f} {result.p_value:.3f}")
        35.56 0.001
    """
    check_bins(num_bins, binning, closed)
    f, y, w = check_tested(probs, labels, weights)
    draw = resolve_draw(method, f, num_resamples, key, uniforms)
    return _hosmer_lemeshow(
        f,
        y,
        w,
        draw.uniforms,
        draw.key,
        num_bins=num_bins,
        binning=binning,
        closed=closed,
        method=draw.method,
        num_resamples=num_resamples,
    )
