"""The chi-square test of Hosmer and Lemeshow, with forecasts that were not fitted."""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur.calibration._bins import bin_index, check_bins
from jaxcur.calibration._null import (
    TestResult,
    null_statistics,
    rank_p_value,
)
from jaxcur.calibration._sums import segment_totals
from jaxcur.calibration._test_inputs import (
    Method,
    check_tested,
    poisoned,
    resolve_draw,
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
