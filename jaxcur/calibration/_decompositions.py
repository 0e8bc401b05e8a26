"""Scores split into miscalibration, discrimination and uncertainty."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import check_choice, register_dataclass
from jaxcur.calibration._bins import bin_index, bin_sums, check_bins
from jaxcur.calibration._inputs import check_binary
from jaxcur.calibration._scores import binary_log_loss
from jaxcur.calibration._sums import ends_of_ties, mean, ratio, sort_by_forecast


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BrierDecompositionResult:
    """Five terms of the Brier score over bins, each a scalar.

    Attributes:
        reliability: sum of share * (mean forecast - rate)^2.
        resolution: sum of share * (rate - overall rate)^2.
        uncertainty: rate * (1 - rate) of all rows.
        within_bin_variance: variance of forecasts within bins.
        within_bin_covariance: covariance of forecasts and outcomes within bins.
        score: the Brier score.
    """

    reliability: Array
    resolution: Array
    uncertainty: Array
    within_bin_variance: Array
    within_bin_covariance: Array
    score: Array


@functools.partial(jax.jit, static_argnames=("num_bins", "binning", "closed", "debias"))
def _brier(
    f: Array,
    y: Array,
    w: Array,
    *,
    num_bins: int,
    binning: str,
    closed: str,
    debias: bool,
) -> BrierDecompositionResult:
    index, m = bin_index(f, w, num_bins=num_bins, binning=binning, closed=closed)
    sums = bin_sums(f, y, w, index, m)
    total = sums.total
    share = sums.weight / total
    overall = mean(y, w)
    reliability = jnp.sum(share * sums.gap**2)
    resolution = jnp.sum(share * (sums.rate - overall) ** 2)
    uncertainty = overall * (1 - overall)
    if debias:
        usable = sums.weight >= 2
        spread = sums.rate * (1 - sums.rate)
        noise = spread / jnp.where(usable, sums.weight - 1, 1)
        noise = jnp.sum(jnp.where(usable, share * noise, 0))
        reliability = reliability - noise
        resolution = resolution - noise + uncertainty / (total - 1)
        uncertainty = uncertainty * total / (total - 1)
    # Deviations from the means of the bin: no cancellation of large sums.
    df, dy = f - sums.mean_forecast[index], y - sums.rate[index]
    return BrierDecompositionResult(
        reliability=reliability,
        resolution=resolution,
        uncertainty=uncertainty,
        within_bin_variance=mean(df**2, w),
        within_bin_covariance=mean(df * dy, w),
        score=mean((f - y) ** 2, w),
    )


def brier_decomposition(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    binning: Literal["width", "mass"] = "width",
    closed: Literal["left", "right"] = "left",
    debias: bool = False,
    weights: Real[ArrayLike, " n"] | None = None,
) -> BrierDecompositionResult:
    """Brier score as reliability, resolution, uncertainty and two terms within bins.

    score = reliability - resolution + uncertainty + within_bin_variance
    - 2 within_bin_covariance, exactly where labels are 0 or 1. The last two vanish
    where forecasts are constant within bins, which is Murphy's three-term form.

    Guarantee: the identity holds to rounding (with `debias` too).
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,).
        labels: shape (n,), 0 or 1.
        num_bins: number of bins. Static.
        binning: "width" or "mass". Static.
        closed: "left" or "right". Static.
        debias: subtract the noise of the rates from reliability and resolution; n = 1
            then gives NaN. Static.
        weights: shape (n,), numbers of rows.

    Returns:
        `BrierDecompositionResult` of scalars.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, an unknown
            option.

    Transformations: jit, vmap, grad in `probs` and `weights`.
    Cost: two passes, a sort more for "mass".

    Source: Murphy 1973; Stephenson, Coelho and Jolliffe 2008 (within bins); Broecker
    2012, Ferro and Fricker 2012 (debiased).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.25, 0.75, 0.75]), jnp.array([0, 1, 1, 1])
        >>> terms = calibration.brier_decomposition(probs, labels)
        >>> print(terms.reliability, terms.resolution, terms.uncertainty)
        0.0625 0.0625 0.1875
    """
    check_bins(num_bins, binning, closed)
    f, y, w = check_binary(probs, labels, weights)
    return _brier(
        f,
        y,
        w,
        num_bins=num_bins,
        binning=binning,
        closed=closed,
        debias=bool(debias),
    )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class CorpDecompositionResult:
    """score = miscalibration - discrimination + uncertainty, each a scalar.

    Attributes:
        miscalibration: what isotonic recalibration on the same rows would gain, >= 0.
        discrimination: what the recalibrated forecasts gain on the overall rate, >= 0.
        uncertainty: score of the overall rate.
        score: score of the forecasts.
    """

    miscalibration: Array
    discrimination: Array
    uncertainty: Array
    score: Array


def isotonic_by_ties(f: Array, y: Array, w: Array) -> Array:
    """Isotonic fit of y on f with equal forecasts merged; rows sorted by f.

    The rows of a run of ties are put at its last row, whose weight is theirs together;
    the others have weight 0 and take the value of that row.
    """
    n = f.shape[0]
    ends = ends_of_ties(f)
    run = jnp.cumsum(ends.astype(jnp.int32)) - ends.astype(jnp.int32)
    weight = jax.ops.segment_sum(w, run, n, indices_are_sorted=True)
    total = jax.ops.segment_sum(w * y, run, n, indices_are_sorted=True)
    fitted = stats.isotonic_regression(ratio(total, weight), weight)
    return fitted[run]


# A score of each row: (probs, labels) -> (n,), the smaller the better.
Score = Callable[[Array, Array], Array]


@functools.partial(jax.jit, static_argnames=("score",))
def _corp(
    f: Array, y: Array, w: Array, *, score: str | Score
) -> CorpDecompositionResult:
    f, y, w = sort_by_forecast(f, y, w)
    fitted = isotonic_by_ties(f, y, w)
    overall = mean(y, w)
    base = jnp.broadcast_to(overall, y.shape)

    def average(forecast: Array) -> Array:
        if score == "brier":
            return mean((forecast - y) ** 2, w)
        if score == "log":
            return mean(binary_log_loss(forecast, y, 0.0), w)
        assert callable(score)
        values = jnp.asarray(score(forecast, y))
        if values.shape != y.shape:
            raise ValueError(
                f"`score` must give one number a row, shape {y.shape}, "
                f"got {values.shape}"
            )
        return mean(values.astype(y.dtype), w)

    given, best, constant = average(f), average(fitted), average(base)
    return CorpDecompositionResult(
        miscalibration=given - best,
        discrimination=constant - best,
        uncertainty=constant,
        score=given,
    )


def corp_decomposition(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    score: Literal["brier", "log"] | Score = "brier",
    weights: Real[ArrayLike, " n"] | None = None,
) -> CorpDecompositionResult:
    """Score as miscalibration - discrimination + uncertainty, without bins.

    The forecasts are recalibrated by the isotonic fit of the outcomes on them (equal
    forecasts merged). Miscalibration is what the score gains by that, discrimination
    what the recalibrated forecasts gain over the overall rate, and uncertainty the
    score of the overall rate.

    Guarantee: the identity is exact; miscalibration and discrimination are nonnegative
    up to rounding; discrimination and uncertainty do not change under strictly
    increasing transforms of the forecasts. The signs need a score that is consistent
    for the mean (a proper score of the event probability).
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,).
        labels: shape (n,), outcomes 0 or 1.
        score: "brier", "log", or a function (probs, labels) -> (n,) that jax can trace,
            smaller where the forecast is better. A forecast of exactly 0 or 1 with the
            other outcome has a log score of +inf, and miscalibration is then +inf too.
            Static: each function is compiled once.
        weights: shape (n,).

    Returns:
        `CorpDecompositionResult` of scalars.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, an unknown
            score, or a function that does not give one number a row.

    Transformations: jit, vmap, grad in `probs` (the order kept) and `weights`.
    Cost: one sort and one isotonic fit.

    Source: Dimitriadis, Gneiting and Jordan, "Stable reliability diagrams for
    probabilistic classifiers", PNAS 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.5, 0.75]), jnp.array([0, 1, 1])
        >>> terms = calibration.corp_decomposition(probs, labels)
        >>> print(f"{terms.miscalibration:.4f} {terms.discrimination:.4f}")
        0.1250 0.2222
    """
    if not callable(score):
        check_choice("score", score, ("brier", "log"))
    f, y, w = check_binary(probs, labels, weights)
    return _corp(f, y, w, score=score)
