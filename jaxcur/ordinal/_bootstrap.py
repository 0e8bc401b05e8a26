"""Bootstrap by weights: many weighted fits in one program."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import expit
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import (
    check_choice,
    check_unit_interval,
    is_concrete,
    register_dataclass,
)
from jaxcur.ordinal._families import pairs
from jaxcur.ordinal._fit import prepare
from jaxcur.ordinal._inputs import check_key, check_strength
from jaxcur.ordinal._penalties import Penalty
from jaxcur.ordinal._rare import check_points, rare_logit
from jaxcur.ordinal._result import DIVERGING, INVALID, OrdinalResult
from jaxcur.ordinal._solve import Setting, solve_path

KINDS = ("bayesian", "pairs")
# Numbers that the fits and the points in flight may hold in one intermediate table.
_TABLE = 2**22


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BootstrapResult:
    """Fits to reweighted rows, and intervals from their quantiles.

    The last axis of every interval holds its lower and upper end. "Percentile" ends are
    quantiles of the resamples, the order statistics at (count + 1) times the tail;
    "basic" ends reflect them at the estimate, those of a probability on the logit
    scale.

    Attributes:
        intercepts: shape (num_resamples, k-1), NaN in a resample without some class.
        coefficients: shape (num_resamples, p, k-1), likewise.
        status: shape (num_resamples,), keys of `ordinal.STATUS`.
        num_left_out: scalar int, resamples that are NaN (status 3) and left out of the
            quantiles.
        num_diverging: scalar int, resamples of status 2: classes separate there, their
            coefficients are arbitrarily large, and they do count in the quantiles.
        intercepts_interval: shape (k-1, 2), percentile.
        coefficients_interval: shape (p, k-1, 2), percentile.
        coefficients_basic: shape (p, k-1, 2).
        rare_probability: shape (q,), P(y = k-1 | x), the last class, at the points, by
            the fit to the rows themselves.
        rare_interval: shape (q, 2), percentile.
        rare_basic: shape (q, 2).
        result: the fit to the rows themselves.
    """

    intercepts: Array
    coefficients: Array
    status: Array
    num_left_out: Array
    num_diverging: Array
    intercepts_interval: Array
    coefficients_interval: Array
    coefficients_basic: Array
    rare_probability: Array
    rare_interval: Array
    rare_basic: Array
    result: OrdinalResult


def _draw(kind: str, key: Array, n: int, dtype: Any) -> Array:
    """One vector of weights with mean 1."""
    if kind == "bayesian":
        raw = jax.random.exponential(key, (n,), dtype)
        return raw / jnp.mean(raw)
    rows = jax.random.randint(key, (n,), 0, n)
    return jnp.zeros(n, dtype).at[rows].add(1)


@functools.partial(jax.jit, static_argnames=("setting", "kind", "num_resamples"))
def _resampled(
    setting: Setting,
    kind: str,
    num_resamples: int,
    features: Array,
    y: Array,
    weights: Array,
    penalty: tuple[Array, Array, Array],
    regularization: Array,
    rtol: Array,
    box: tuple[Array, Array] | None,
    key: Array | None,
    resample_weights: Array | None,
) -> tuple[Array, Array, Array]:
    """Intercepts (B, m), coefficients (B, p, m) and statuses (B,)."""
    n, p = features.shape

    def one(drawn: Array) -> tuple[Array, Array, Array]:
        if resample_weights is None:
            assert key is not None
            drawn = _draw(kind, jax.random.fold_in(key, drawn), n, features.dtype)
        fits = solve_path(
            setting,
            features,
            y,
            weights * drawn,
            *penalty,
            regularization[None],
            jnp.asarray(False),
            rtol,
            box,
        )
        return fits.intercepts[0], fits.coefficients[0], fits.status[0]

    entries = len(pairs(setting.family, setting.num_classes - 1))
    widest = max(entries * (p + 1), (p + 1) * (p + 2) // 2)
    batch = max(1, min(num_resamples, _TABLE // (widest * n), 128))
    inputs = jnp.arange(num_resamples) if resample_weights is None else resample_weights
    return jax.lax.map(one, inputs, batch_size=batch)


def _fewest(tail: Any) -> Any:
    """Resamples below which both ends of an interval are not among them."""
    # One over the tail, less what rounding may have added to it.
    return 1 / tail - 1 - 1e-3


def _quantiles(values: Array, tail: Array) -> Array:
    """Both ends (..., 2) of resamples along the first axis, NaN left out."""
    # The order statistics at (count + 1) tail: with exchangeable draws each end is then
    # passed with probability tail, however few draws there are.
    lost = jnp.any(jnp.isnan(values).reshape(values.shape[0], -1), axis=1)
    count = jnp.sum(~lost)
    enough = count >= _fewest(tail)
    count = jnp.maximum(count, 2).astype(tail.dtype)
    low = jnp.clip(((count + 1) * tail - 1) / (count - 1), 0, 1)
    ends = jnp.stack([low, 1 - low])
    found = jnp.moveaxis(jnp.nanquantile(values, ends, axis=0), 0, -1)
    return jnp.where(enough, found, jnp.nan)


def _basic(estimate: Array, interval: Array) -> Array:
    return 2 * estimate[..., None] - jnp.flip(interval, axis=-1)


@functools.partial(jax.jit, static_argnames=("family", "link"))
def _summary(
    family: str,
    link: str,
    intercepts: Array,
    coefficients: Array,
    status: Array,
    result: OrdinalResult,
    points: Array,
    tail: Array,
) -> BootstrapResult:
    def at_point(point: Array) -> Array:
        eta = intercepts + jnp.einsum("j,bjk->bk", point, coefficients)
        return _quantiles(rare_logit(family, link, eta), tail)

    batch = max(1, min(points.shape[0], _TABLE // max(intercepts.size, 1)))
    logits = jax.lax.map(at_point, points, batch_size=batch)
    slopes = _quantiles(coefficients, tail)
    eta = result.intercepts + jnp.matmul(
        points, result.coefficients, precision="highest"
    )
    logit = rare_logit(family, link, eta)
    return BootstrapResult(
        intercepts,
        coefficients,
        status,
        jnp.sum(status == INVALID),
        jnp.sum(status == DIVERGING),
        _quantiles(intercepts, tail),
        slopes,
        _basic(result.coefficients, slopes),
        expit(logit),
        expit(logits),
        expit(_basic(logit, logits)),
        result,
    )


def _check_resample_weights(given: Any, n: int, dtype: Any) -> Array:
    array = jnp.asarray(given, dtype)
    if array.ndim != 2 or array.shape[1] != n or array.shape[0] == 0:
        raise ValueError(
            f"`resample_weights` must have shape (num_resamples, {n}), "
            f"got {array.shape}"
        )
    if is_concrete(array):
        host = np.asarray(array)
        if not (np.isfinite(host) & (host >= 0)).all():
            raise ValueError("`resample_weights` must be finite and at least 0")
    return array


def bootstrap(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    penalty: Penalty | None = None,
    regularization: Real[ArrayLike, ""] = 0.0,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    standardize: bool = True,
    crossing: str = "own",
    box: tuple[Any, Any] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
    num_resamples: int = 1000,
    key: Any = None,
    resample_weights: Real[ArrayLike, "b n"] | None = None,
    kind: str = "bayesian",
    points: Real[ArrayLike, "q p"] | None = None,
    confidence_level: Real[ArrayLike, ""] = 0.95,
) -> BootstrapResult:
    """Refit with random weights on the rows, and take quantiles.

    The default weights every row by an exponential draw of its own (the Bayesian
    bootstrap), so that no resample loses a class, however rare. "pairs" draws rows with
    replacement: a resample without some class has no fit, and is left out and counted.
    The strength is that given, in every resample.

    Guarantee: for an unpenalised fit, intervals cover as rows grow with the number of
    parameters fixed; rows are independent. Maximum likelihood exaggerates where few
    rows hold the last class: basic intervals then undo that, percentile ones repeat
    it. With a penalty they describe the spread of a shrunken estimate, not its bias,
    without a guarantee (`debiased_intervals` has one), and basic ones are off. Verified
    by: `jaxcur verify ordinal/bootstrap`.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes. Static.
        penalty: as in `fit`.
        regularization: as in `fit`.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`; each resample multiplies them.
        standardize: as in `fit`; by the weights of each resample.
        crossing: as in `fit`.
        box: as in `fit`; the same in every resample.
        rtol: as in `fit`.
        max_steps: as in `fit`.
        num_resamples: number of resamples, unless `resample_weights` says it; at least
            2 / (1 - confidence_level) - 1. Static.
        key: draws the weights; resample i sees `fold_in(key, i)`.
        resample_weights: shape (num_resamples, n), the weights themselves, at least 0;
            for clusters repeat a draw within each cluster. With too few of them for
            the level the ends of intervals are NaN.
        kind: "bayesian" or "pairs". Static.
        points: shape (q, p), where the probability of the last class is wanted; None
            for the rows of `X`.
        confidence_level: of the intervals.

    Returns:
        `BootstrapResult`.

    Raises:
        ValueError: too few resamples for the level, neither or both of `key` and
            `resample_weights`, an unknown kind, or what `fit` raises.

    Transformations: jit, vmap.
    Cost: num_resamples + 1 fits, in batches whose tables stay below 16 MiB in float32.

    Source: Rubin, "The Bayesian bootstrap", 1981; Efron and Tibshirani 1993.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jax.random.normal(jax.random.key(0), (90, 2))
        >>> noise = jax.random.logistic(jax.random.key(1), (90,))
        >>> y = jnp.digitize(x[:, 0] + noise, jnp.array([0.0, 1.5]))
        >>> found = ordinal.bootstrap(
        ...     x, y, num_classes=3, key=jax.random.key(2), num_resamples=50
        ... )
        >>> found.rare_interval.shape
        (90, 2)
    """
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=standardize,
        crossing=crossing,
        box=box,
        rtol=rtol,
        max_steps=max_steps,
    )
    check_choice("kind", kind, KINDS)
    features = problem.features
    n, p = features.shape
    dtype = features.dtype
    check_unit_interval(
        "confidence_level", confidence_level, open_low=True, open_high=True
    )
    if (key is None) == (resample_weights is None):
        raise ValueError(
            "resamples are drawn at random: pass `key=jax.random.key(...)`, or "
            "`resample_weights`, and not both"
        )
    check_key(key)
    given = None
    if resample_weights is not None:
        given = _check_resample_weights(resample_weights, n, dtype)
        num_resamples = given.shape[0]
    if not isinstance(num_resamples, int) or num_resamples < 1:
        raise ValueError(
            f"`num_resamples` must be a positive integer, got {num_resamples!r}"
        )
    if given is None and is_concrete(confidence_level):
        fewest = math.ceil(_fewest((1 - float(confidence_level)) / 2))  # pyright: ignore
        if num_resamples < fewest:
            raise ValueError(
                f"`num_resamples` must be at least {fewest} for intervals of "
                f"confidence_level {float(confidence_level):g}, "  # pyright: ignore
                f"got {num_resamples}"
            )
    at = features if points is None else check_points(points, p, dtype)
    strength = check_strength(regularization, dtype)
    result = problem.solve(strength[None], relative=False).at(0)
    blocks = problem.blocks
    intercepts, coefficients, status = _resampled(
        problem.setting,
        kind,
        num_resamples,
        features,
        problem.y,
        problem.weights,
        (blocks.weights, jnp.asarray(blocks.free), blocks.l1_ratio),
        strength,
        problem.rtol,
        problem.box,
        key,
        given,
    )
    tail = (1 - jnp.asarray(confidence_level, dtype)) / 2
    return _summary(family, link, intercepts, coefficients, status, result, at, tail)
