"""Confidence intervals of any metric: bootstrap, bias-corrected, analytic."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import (
    check_choice,
    check_unit_interval,
    is_concrete,
    register_dataclass,
)
from jaxcur.calibration._binned import debiased_squared_error
from jaxcur.calibration._inputs import as_numbers, check_scored, check_weights, is_hard
from jaxcur.calibration._kernel import kernel_calibration_error
from jaxcur.calibration._resample import (
    Metric,
    as_metric,
    binned_options,
    error_of,
    influence,
    product_sums,
    replicates,
    resampled_sums,
)
from jaxcur.calibration._t_cal import t_cal_statistic

METHODS = ("bootstrap", "basic", "bca", "analytic")
# Rows times resamples from which bins are resampled instead of rows.
_MANY = 20_000_000


@register_dataclass
@dataclasses.dataclass(frozen=True)
class IntervalResult:
    """A metric and its confidence interval, each a scalar.

    Attributes:
        estimate: the metric of the rows as given.
        lower: lower end.
        upper: upper end.
        std_error: standard deviation over resamples, or the analytic one.
        confidence_level: as given.
    """

    estimate: Array
    lower: Array
    upper: Array
    std_error: Array
    confidence_level: Array


def _percentile(values: Array, confidence_level: Array) -> tuple[Array, Array]:
    tail = (1 - confidence_level) / 2
    low, high = jnp.quantile(values, jnp.stack([tail, 1 - tail]))
    return low, high


def _bca(
    values: Array, estimate: Array, pull: Array, confidence_level: Array
) -> tuple[Array, Array]:
    """Percentiles shifted for the bias and the skewness of the metric."""
    norm = jax.scipy.stats.norm
    below = (values < estimate).astype(values.dtype)
    below = jnp.mean(below + 0.5 * (values == estimate).astype(values.dtype))
    # All resamples on one side: the shift is as large as their number can show.
    edge = 0.5 / values.shape[0]
    bias = norm.ppf(jnp.clip(below, edge, 1 - edge))
    square = jnp.sum(pull**2)
    cube = jnp.sum(pull**3)
    skew = jnp.where(square > 0, cube / jnp.where(square > 0, square, 1) ** 1.5, 0) / 6
    tail = (1 - confidence_level) / 2
    z = norm.ppf(jnp.stack([tail, 1 - tail])) + bias
    level = norm.cdf(bias + z / (1 - skew * z))
    low, high = jnp.quantile(values, jnp.clip(level, 0, 1))
    return low, high


@functools.partial(jax.jit, static_argnames=("method",))
def _ends(
    values: Array,
    estimate: Array,
    pull: Array | None,
    confidence_level: Array,
    *,
    method: str,
) -> IntervalResult:
    if method == "bca":
        assert pull is not None
        low, high = _bca(values, estimate, pull, confidence_level)
    else:
        low, high = _percentile(values, confidence_level)
        if method == "basic":
            low, high = 2 * estimate - high, 2 * estimate - low
    return IntervalResult(
        estimate=estimate,
        lower=low,
        upper=high,
        std_error=jnp.std(values, ddof=min(1, values.shape[0] - 1)),
        confidence_level=confidence_level,
    )


def _replicate(
    metric: Metric,
    probs: Any,
    labels: Any,
    weights: Array,
    given: bool,
    resample_weights: Array | None,
    key: Any,
    num_resamples: int,
) -> Array:
    """Replicates of the metric, by bins where that is possible and worth it."""
    options = binned_options(metric)
    n = weights.shape[0]
    fixed = options is not None and not given and is_concrete(probs, labels)
    if fixed and options is not None:
        f, y, _ = check_scored(probs, labels, None)
        bins = {"num_bins": options["num_bins"], "closed": options["closed"]}
        sums = None
        if resample_weights is not None:
            sums = product_sums(f, y, resample_weights, **bins)
        elif n * num_resamples >= _MANY and is_hard(y):
            sums = resampled_sums(f, y, key, num_resamples=num_resamples, **bins)
        if sums is not None:
            return jax.vmap(functools.partial(error_of, metric, options))(sums)
    return replicates(
        metric,
        probs,
        labels,
        weights,
        resample_weights,
        key,
        num_resamples=num_resamples,
    )


def _is_unbiased(metric: Metric) -> bool:
    """Whether the metric has no bias, so that replicates away from it are off."""
    if metric.function is kernel_calibration_error:
        return dict(metric.options).get("estimator", "unbiased") == "unbiased"
    return metric.function in (debiased_squared_error, t_cal_statistic)


def _check_draw(
    method: str, key: Any, resample_weights: Any, num_resamples: Any, like: Array
) -> tuple[Array | None, int]:
    if not isinstance(num_resamples, (int, np.integer)) or num_resamples < 1:
        raise ValueError(
            f"`num_resamples` must be a positive integer, got {num_resamples!r}"
        )
    if method == "analytic":
        if key is not None or resample_weights is not None:
            raise ValueError(
                "method='analytic' draws nothing: drop `key` and `resample_weights`"
            )
        return None, int(num_resamples)
    if key is None and resample_weights is None:
        raise ValueError(
            f"method={method!r} is randomised: pass `key=jax.random.key(...)`, or the "
            "draw itself as `resample_weights`"
        )
    if key is not None and resample_weights is not None:
        raise ValueError("pass either `key` or `resample_weights`, not both")
    if resample_weights is None:
        return None, int(num_resamples)
    array = jnp.asarray(resample_weights, like.dtype)
    if array.ndim != 2 or array.shape[1] != like.shape[0] or array.shape[0] < 1:
        raise ValueError(
            "`resample_weights` must have shape (num_resamples, n) with "
            f"n = {like.shape[0]}, got {array.shape}"
        )
    return array, array.shape[0]


def _rows(probs: Any, labels: Any) -> tuple[Array, Array]:
    """Inputs as arrays; classes of rows as integers, which a trace asks for."""
    p, c = as_numbers("probs", probs), as_numbers("labels", labels)
    if not jnp.issubdtype(p.dtype, jnp.floating):
        p = p.astype(jnp.result_type(float))
    if p.ndim == 0 or c.ndim == 0 or p.shape[0] == 0 or p.shape[0] != c.shape[0]:
        raise ValueError(
            "`probs` and `labels` must have the same length of at least 1, got shapes "
            f"{p.shape} and {c.shape}"
        )
    if p.ndim == 2 and c.ndim == 1 and is_concrete(c):
        host = np.asarray(c)
        if host.dtype.kind == "f" and (host == np.floor(host)).all():
            c = c.astype(jnp.int32)
    return p, c


def confidence_interval(
    metric: Any,
    probs: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, "n ..."],
    *,
    confidence_level: float | Real[ArrayLike, ""] = 0.95,
    method: Literal["bootstrap", "basic", "bca", "analytic"] = "bootstrap",
    num_resamples: int = 1000,
    key: Array | None = None,
    resample_weights: Real[ArrayLike, "b n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> IntervalResult:
    """Confidence interval of a metric over independent rows.

    "bootstrap" takes percentiles of the metric over resamples of the rows, "basic"
    reflects them about the estimate, "bca" shifts them for bias and skewness, and
    "analytic" is the normal interval with the infinitesimal jackknife's standard error.
    The metric sees a resample as weights: n draws with replacement make row i count as
    often as it is drawn. The derivatives of the metric in the weights, by automatic
    differentiation, take the place of n evaluations with a row left out.

    For `expected_calibration_error` and `debiased_squared_error` over bins of equal
    width without weights, resamples act on the sums of the bins. With
    `resample_weights` they are one matrix product. With a `key`, from 2e7 rows times
    resamples on, the numbers of draws in each bin and outcome are drawn (multinomial:
    exactly what drawing rows gives), and the sum of the forecasts of each such cell
    comes from a normal with its exact mean and variance.

    Replicates of a metric known to be unbiased (`debiased_squared_error`,
    `t_cal_statistic`, the unbiased kernel error) are moved: their mean is the estimate.

    Guarantee: as n grows, coverage tends to `confidence_level` for a metric that is
    smooth in the distribution, such as `debiased_squared_error` where the truth is
    miscalibrated. No finite-sample guarantee. The plain binned error is biased upwards
    and has a kink at 0: under calibration its intervals miss the true value 0.
    Verified by: `jaxcur verify calibration/interval`.

    Args:
        metric: a function (probs, labels, weights) to a scalar; `functools.partial`
            sets its options. `weights` is passed by name where it has that name.
        probs: shape (n,) or (n, k), what the metric takes first.
        labels: shape (n, ...), what the metric takes second.
        confidence_level: in (0, 1).
        method: "bootstrap", "basic", "bca" or "analytic"; the last two need a metric
            that is differentiable in its weights. Static.
        num_resamples: number of resamples; that of the rows of `resample_weights` where
            they are given. Static.
        key: PRNG key of the resamples.
        resample_weights: shape (num_resamples, n), the draw itself: how often each row
            counts.
        weights: shape (n,), of the metric; resampling multiplies them.

    Returns:
        `IntervalResult` of scalars.

    Raises:
        TypeError: `metric` is not callable.
        ValueError: unequal lengths, a level outside (0, 1), no draw or two of them, and
            what the metric raises.

    Transformations: jit, vmap, where the metric allows.
    Cost: num_resamples evaluations in chunks; O(n + num_resamples num_bins) for bins.

    Source: Efron 1987 (bca); Efron 1982 (infinitesimal jackknife).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.full(100, 0.25), jnp.arange(100) % 2
        >>> metric = calibration.brier_score
        >>> result = calibration.confidence_interval(
        ...     metric, probs, labels, method="analytic"
        ... )
        >>> print(f"{result.estimate:.4f} {result.lower:.4f} {result.upper:.4f}")
        0.3125 0.2635 0.3615
    """
    check_choice("method", method, METHODS)
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    called = as_metric(metric)
    p, c = _rows(probs, labels)
    w = check_weights(weights, p if p.ndim == 1 else p[:, 0], "probs")
    draw, num_resamples = _check_draw(method, key, resample_weights, num_resamples, w)
    estimate = called(p, c, None if weights is None and called.by_name else w)
    estimate = jnp.asarray(estimate)
    if estimate.ndim:
        raise ValueError(f"`metric` must return a scalar, got shape {estimate.shape}")
    level = jnp.asarray(confidence_level, estimate.dtype)
    pull = None
    if method in ("bca", "analytic"):
        pull = influence(called, p, c, w)
    if method == "analytic":
        assert pull is not None
        error = jnp.sqrt(jnp.sum(pull**2))
        reach = jax.scipy.stats.norm.ppf((1 + level) / 2) * error
        return IntervalResult(
            estimate, estimate - reach, estimate + reach, error, level
        )
    values = _replicate(called, p, c, w, weights is not None, draw, key, num_resamples)
    if _is_unbiased(called):
        # A resample repeats rows, which adds to a square what was just taken from it.
        values = values - (jnp.mean(values) - estimate)
    return _ends(values, estimate, pull, level, method=method)
