"""Tests of calibration by sums over pairs of rows: kernel, bins of many widths."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import check_choice
from jaxcur.calibration._bins import width_index
from jaxcur.calibration._inputs import check_multiclass
from jaxcur.calibration._kernel import (
    ESTIMATORS,
    block_size_of,
    check_forecasts,
    kernel_decay,
    median_distance,
    residuals,
)
from jaxcur.calibration._kernel_statistics import (
    Pairs,
    Rows,
    Signed,
    binary_pairs,
    block_values,
    hoeffding_tail,
    matched_tail,
    pair_tail,
    row_pairs,
    signed_binary,
    signed_of_blocks,
    signed_rows,
    statistic_of_blocks,
)
from jaxcur.calibration._null import TestResult, null_statistics, rank_p_value
from jaxcur.calibration._smooth import check_bandwidth
from jaxcur.calibration._sums import ratio, segment_totals, sort_by_forecast
from jaxcur.calibration._test_inputs import (
    Method,
    check_hard,
    check_tested,
    poisoned,
    resolve_draw,
)

# Bins of the finest scale beyond which nearly no two rows share one.
_MAX_SCALES = 14
KERNEL_METHODS = ("asymptotic", "monte_carlo", "wild_bootstrap", "hoeffding")


@functools.partial(
    jax.jit, static_argnames=("estimator", "size", "method", "num_resamples")
)
def _kernel_test(
    p: Array,
    labels: Array,
    w: Array,
    bandwidth: Array | None,
    uniforms: Array | None,
    key: Array | None,
    *,
    estimator: str,
    size: int,
    method: str,
    num_resamples: int,
) -> TestResult:
    nu = median_distance(p) if bandwidth is None else bandwidth
    total = jnp.sum(w)
    biased = estimator == "biased"
    pairs = total**2 if biased else total**2 - jnp.sum(w**2)
    pairs = jnp.where(pairs > 0, pairs, jnp.nan)
    with_own = jnp.asarray(biased)
    blocks = estimator in ("linear", "block")
    if blocks or p.ndim == 2:
        context: Any = Rows(p, w, nu, pairs, with_own)
        statistic = statistic_of_blocks(size) if blocks else row_pairs
        signed = signed_of_blocks(size) if blocks else signed_rows
    else:
        places = jnp.arange(p.shape[0], dtype=jnp.int32)
        f, mass, order = sort_by_forecast(p, w, places)
        context = Pairs(order, f, mass, kernel_decay(f, nu), pairs, with_own)
        statistic, signed = binary_pairs, signed_binary
    value = statistic(context, labels)
    if method == "monte_carlo":
        values = null_statistics(
            statistic, context, p, labels, uniforms, key, num_resamples=num_resamples
        )
        p_value = rank_p_value(values)
    elif method == "wild_bootstrap":
        # Signs are drawn as fair outcomes; those observed are all 1.
        ones = jnp.ones_like(w)
        values = null_statistics(
            signed,
            Signed(context, residuals(p, labels)),
            ones / 2,
            ones,
            uniforms,
            key,
            num_resamples=num_resamples,
        )
        p_value = rank_p_value(values)
    elif method == "hoeffding":
        shape = (p.shape[0] // size, size) if blocks else None
        weight = block_values(context, labels, size)[1] if blocks else pairs
        p_value = hoeffding_tail(context, value, jnp.sum(weight), shape)
    elif blocks:
        sums, weight = block_values(context, labels, size)
        scale = jnp.sqrt(jnp.sum(sums**2) - jnp.sum(sums) ** 2 / sums.shape[0])
        z = jnp.sum(sums) / jnp.where(scale > 0, scale, 1)
        z = jnp.where(jnp.isnan(jnp.sum(weight)), jnp.nan, z)
        p_value = jax.scipy.stats.norm.sf(z)
        p_value = jnp.where(scale > 0, p_value, 1 + 0 * z)
    else:
        p_value = matched_tail(context, value, biased)
    p_value = poisoned(p_value, p, labels.astype(p.dtype), w)
    # A single row has no pair: nothing speaks against calibration.
    p_value = jnp.where(jnp.isnan(value) & ~jnp.isnan(p_value), 1, p_value)
    none = jnp.isnan(pairs) & ~jnp.isnan(jnp.sum(p) + total)
    return TestResult(value, jnp.where(none, 1, p_value))


def kernel_test(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    estimator: Literal["unbiased", "biased", "linear", "block"] = "unbiased",
    bandwidth: Real[ArrayLike, ""] | float | None = None,
    block_size: int | None = None,
    method: Literal["asymptotic", "monte_carlo", "wild_bootstrap", "hoeffding"]
    | None = None,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> TestResult:
    """Test of calibration of the whole forecast by the kernel calibration error.

    For rows of probabilities it tests that the label has the distribution the row says
    (calibration in the strong sense), not only at the top label.

    Guarantee: with independent rows, labels drawn from the forecasts under the
    hypothesis, a bandwidth chosen without the labels and method "monte_carlo",
    P(p <= a) <= a for every n and a. "asymptotic" matches the sum over pairs of binary
    forecasts by a multiple of a chi-square with its exact mean and variance, and uses
    the normal limit of the mean over blocks for "linear" and "block".
    "wild_bootstrap" gives the residuals random signs instead of drawing labels: right
    for many rows, and for any n where all forecasts are 1/2. The p-value of "hoeffding"
    is a bound, P(p <= a) <= a for every n without any draw, and far from sharp.
    Verified by: `jaxcur verify calibration/levels` ("monte_carlo", "asymptotic"),
    tests/unit/calibration/test_kernel_methods.py (the others).

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), rows that sum to 1.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        estimator: as in `kernel_calibration_error`. Static.
        bandwidth: scale of distances, positive; None for the median distance.
        block_size: rows of a block for "block"; None for sqrt(n). Static.
        method: "monte_carlo" draws labels from the forecasts; "wild_bootstrap" draws
            signs of the residuals; "asymptotic" (for rows with "linear" and "block"
            only) and "hoeffding" (not for "biased") draw nothing; None takes Monte
            Carlo below 500 rows or where a `key` is given. Static.
        num_resamples: draws of the labels, or of the signs. Static.
        key: PRNG key for the draws.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself.
        weights: shape (n,), fixed factors of the residuals.

    Returns:
        `TestResult(statistic, p_value)`: the mean over pairs of different rows (over
        all pairs for "biased"); NaN with p-value 1 where there is no pair.

    Raises:
        ValueError: as `spiegelhalter_test`; "asymptotic" for rows with "unbiased" or
            "biased"; "hoeffding" with "biased".

    Transformations: jit, vmap.
    Cost: O(n log n + n num_resamples) for binary forecasts; O(n^2 k num_resamples) for
    rows.

    Source: Widmann, Lindsten and Zachariah, "Calibration tests in multi-class
    classification", NeurIPS 2019; Dehling and Mikosch, "Random quadratic forms and the
    bootstrap for U-statistics", Journal of Multivariate Analysis 1994; Hoeffding,
    "Probability inequalities for sums of bounded random variables", JASA 1963.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(20, 0.9), jnp.arange(20) % 2
        >>> result = calibration.kernel_test(probs, labels, key=jax.random.key(0))
        >>> result.statistic.round(3), result.p_value.round(3)
        (Array(0.147, dtype=float32), Array(0.001, dtype=float32))
    """
    check_choice("estimator", estimator, ESTIMATORS)
    p, c, w = check_forecasts(probs, labels, weights)
    if p.ndim == 1:
        c = check_hard(c)
    draw = resolve_draw(method, p, num_resamples, key, uniforms, KERNEL_METHODS)
    if draw.method == "hoeffding" and estimator == "biased":
        raise ValueError(
            "method='hoeffding' bounds a mean over pairs of different rows: "
            "estimator='biased' has no such bound"
        )
    if draw.method == "asymptotic" and p.ndim == 2 and estimator[-3:] == "sed":
        raise ValueError(
            f"estimator={estimator!r} has no asymptotic form for `probs` of shape "
            "(n, k): pass a `key` for Monte Carlo, or estimator='block'"
        )
    size = min(block_size_of(estimator, block_size, p.shape[0]), p.shape[0])
    return _kernel_test(
        p,
        c,
        w,
        check_bandwidth(bandwidth, p.dtype),
        draw.uniforms,
        draw.key,
        estimator=estimator,
        size=size,
        method=draw.method,
        num_resamples=num_resamples,
    )


class _Scales(NamedTuple):
    index: Array
    forecasts: Array
    weights: Array
    counts: Array
    scale: Array


def _halve(sums: Array) -> Array:
    """Bins of the next coarser scale: neighbours together."""
    return sums[0::2] + sums[1::2]


def _pyramid(sums: Array) -> list[Array]:
    """Sums of the finest scale, then of each coarser one down to two bins."""
    levels = [sums]
    while levels[-1].shape[0] > 2:
        levels.append(_halve(levels[-1]))
    return levels


def _scale_values(context: _Scales, y: Array) -> Array:
    """N D_m at each scale, finest first."""
    m = context.counts.shape[0]
    r = context.weights * (y - context.forecasts)
    totals = _pyramid(segment_totals(r, context.index, m))
    squares = _pyramid(segment_totals(r**2, context.index, m))
    counts = _pyramid(context.counts)
    values = [
        jnp.sum(ratio(total**2 - square, count))
        for total, square, count in zip(totals, squares, counts, strict=True)
    ]
    return jnp.stack(values)


def _largest_scale(context: _Scales, y: Array) -> Array:
    values = _scale_values(context, y)
    usable = context.scale > 0
    z = jnp.max(
        jnp.where(usable, values / jnp.where(usable, context.scale, 1), -jnp.inf)
    )
    z = jnp.where(jnp.any(usable), z, 0 * jnp.sum(values))
    # Where no pair has any noise, a value beyond rounding is impossible.
    r = context.weights * (y - context.forecasts)
    rounding = 64 * float(jnp.finfo(r.dtype).eps) * jnp.sum(r**2)
    sure = jnp.any(~usable & (values > rounding))
    return jnp.where(sure, jnp.inf, z)


@functools.partial(jax.jit, static_argnames=("num_scales", "method", "num_resamples"))
def _t_cal(
    f: Array,
    y: Array,
    w: Array,
    uniforms: Array | None,
    key: Array | None,
    *,
    num_scales: int,
    method: str,
    num_resamples: int,
) -> TestResult:
    m = 2**num_scales
    index = width_index(f, m, "left")
    counts = segment_totals(w, index, m)
    v = w**2 * f * (1 - f)
    spread = _pyramid(segment_totals(v, index, m))
    own = _pyramid(segment_totals(v**2, index, m))
    mean, variance = [], []
    for total, square, count in zip(spread, own, _pyramid(counts), strict=True):
        mean.append(jnp.sum(ratio(total, count)))
        # Rounding may leave a bin of one row a variance of its own.
        pairs = total**2 - square
        pairs = jnp.where(pairs > 1e-5 * square, pairs, 0)
        variance.append(2 * jnp.sum(ratio(pairs, count**2)))
    scale = jnp.sqrt(jnp.stack(variance))
    context = _Scales(index, f, w, counts, scale)
    value = _largest_scale(context, y)
    if method == "monte_carlo":
        values = null_statistics(
            _largest_scale, context, f, y, uniforms, key, num_resamples=num_resamples
        )
        p = rank_p_value(values)
    else:
        tails = pair_tail(_scale_values(context, y), jnp.stack(mean), scale**2)
        tails = jnp.where(scale > 0, tails, 1)
        p = jnp.minimum(1, jnp.sum(scale > 0, dtype=f.dtype) * jnp.min(tails))
        p = jnp.where(jnp.any(scale > 0), p, 1)
        p = jnp.where(jnp.isinf(value), 0, p)
    return TestResult(value, poisoned(p, f, y, w))


def default_num_scales(n: int) -> int:
    """floor(2 log2(n / sqrt(log n))), at most one more than log2(n)."""
    if n < 3:
        return 1
    published = int(2 * np.log2(n / np.sqrt(np.log(n))))
    return int(np.clip(published, 1, min(n.bit_length() + 1, _MAX_SCALES)))


def t_cal_test(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_scales: int | None = None,
    method: Method | None = None,
    num_resamples: int = 999,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> TestResult:
    """Test of calibration that adapts to the smoothness of the miscalibration.

    The statistic is the largest over scales b = 1..B of  D_m / sd(D_m)  with m = 2^b
    bins, where D_m is `t_cal_statistic` and sd its standard deviation under calibration
    given the forecasts, in closed form. Monte Carlo calibrates the maximum itself, so
    that no correction for the number of scales is lost.

    Guarantee: with independent rows, E[y | f] = f and method "monte_carlo",
    P(p <= a) <= a for every n and a. "asymptotic" matches each D_m by a multiple of a
    chi-square and corrects by Bonferroni.
    Verified by: `jaxcur verify calibration/levels`.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), tested at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        num_scales: B; None for floor(2 log2(n / sqrt(log n))), but at most 14 and at
            most 1 + log2(n), beyond which nearly no two rows share a bin. Static.
        method: "monte_carlo" draws labels from the forecasts; "asymptotic"; None takes
            Monte Carlo below 500 rows or where a `key` is given. Static.
        num_resamples: draws of the labels. Static.
        key: PRNG key for Monte Carlo.
        uniforms: shape (num_resamples, n) in [0, 1), the draw itself.
        weights: shape (n,), fixed factors of the residuals.

    Returns:
        `TestResult(statistic, p_value)`; 0 and 1 where no bin holds two rows.

    Raises:
        ValueError: as `spiegelhalter_test`.

    Transformations: jit, vmap.
    Cost: O(n + 2^B), times num_resamples for Monte Carlo.

    Source: Lee, Huang, Hassani and Dobriban, "T-Cal: An optimal test for the
    calibration of predictive models", JMLR 2023; they take the smallest p-value of the
    scales and correct by Bonferroni.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(20, 0.9), jnp.arange(20) % 2
        >>> result = calibration.t_cal_test(probs, labels, key=jax.random.key(0))
        >>> result.p_value.round(3)
        Array(0.001, dtype=float32)
    """
    f, y, w = check_tested(probs, labels, weights)
    draw = resolve_draw(method, f, num_resamples, key, uniforms)
    if num_scales is None:
        num_scales = default_num_scales(f.shape[0])
    elif not isinstance(num_scales, (int, np.integer)) or not 1 <= num_scales <= 24:
        raise ValueError(
            f"`num_scales` must be an integer in 1..24, got {num_scales!r}"
        )
    return _t_cal(
        f,
        y,
        w,
        draw.uniforms,
        draw.key,
        num_scales=int(num_scales),
        method=draw.method,
        num_resamples=num_resamples,
    )


def classwise_test(
    test: Callable[..., TestResult],
    probs: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    adjust: Literal["holm", "hochberg", "bonferroni", "bh", "by"] = "holm",
    key: Array | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
    **options: Any,
) -> TestResult:
    """A binary test of each class of its own, with p-values adjusted for their number.

    Guarantee: with a valid `test` and "holm", "hochberg" excepted, the probability that
    any calibrated class has an adjusted p-value at or below a is at most a.
    Verified by: tests/property/test_calibration.py.

    Args:
        test: one of the tests of this package for binary forecasts.
        probs: shape (n, k), rows that sum to 1.
        labels: shape (n,), classes 0..k-1.
        adjust: method of `stats.adjust_p_values`; "bh" and "by" control the false
            discovery rate instead. Static.
        key: PRNG key, where the test needs one; each class gets its own.
        weights: shape (n,).
        **options: further options of the test.

    Returns:
        `TestResult` of two arrays of shape (k,): statistics, adjusted p-values.

    Raises:
        ValueError: `probs` that are no rows, and what the test raises.

    Transformations: jit, vmap.
    Cost: k tests.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.tile(jnp.array([0.8, 0.1, 0.1]), (30, 1))
        >>> labels = jnp.arange(30) % 3
        >>> test, key = calibration.spiegelhalter_test, jax.random.key(0)
        >>> result = calibration.classwise_test(test, probs, labels, key=key)
        >>> bool((result.p_value < 0.01).all())
        True
    """
    p, c, w = check_multiclass(probs, labels, weights)
    k = p.shape[1]
    keys = None if key is None else jax.random.split(key, k)
    results = []
    for label in range(k):
        own = None if keys is None else keys[label]
        hit = (c == label).astype(p.dtype)
        results.append(test(p[:, label], hit, key=own, weights=w, **options))
    statistics = jnp.stack([result.statistic for result in results])
    p_values = jnp.stack([result.p_value for result in results])
    return TestResult(statistics, stats.adjust_p_values(p_values, method=adjust))
