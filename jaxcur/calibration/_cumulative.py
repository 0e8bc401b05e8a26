"""Cumulative errors: how far partial sums of residuals stray from 0."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import is_concrete
from jaxcur.calibration._inputs import check_scored, is_hard
from jaxcur.calibration._sums import (
    block_cumsum,
    ends_of_ties,
    sort_by_forecast,
    sort_hard,
    total_weight,
    weighted,
)


def partial_sums(f: Array, y: Array, w: Array | None) -> Array:
    """S_k at the end of each run of tied forecasts, 0 at the other rows; rows sorted.

    A 0 between them changes neither extreme, because S_0 = 0 is one of the values.
    """
    sums = block_cumsum(weighted(y - f, w)) / total_weight(w, f)
    # NaN is told here: a row of NaN is its own tie block and ends the sums.
    return jnp.where(ends_of_ties(f), sums, 0)


def largest_absolute(sums: Array) -> Array:
    """Max |S_k|, along the last axis."""
    return jnp.max(jnp.abs(sums), axis=-1)


def largest_range(sums: Array) -> Array:
    """Max S_k - min S_k with S_0 = 0 among them, along the last axis."""
    high = jnp.maximum(jnp.max(sums, axis=-1), 0)
    return high - jnp.minimum(jnp.min(sums, axis=-1), 0)


@jax.jit
def _sums(f: Array, y: Array, w: Array | None) -> Array:
    columns = (f, y) if w is None else (f, y, w)
    f, y, *rest = sort_by_forecast(*columns)
    return partial_sums(f, y, rest[0] if rest else None)


@jax.jit
def _ks(f: Array, y: Array, w: Array | None) -> Array:
    return largest_absolute(_sums(f, y, w))


@jax.jit
def _kuiper(f: Array, y: Array, w: Array | None) -> Array:
    return largest_range(_sums(f, y, w))


@jax.jit
def _ks_hard(f: Array, y: Array) -> Array:
    return largest_absolute(partial_sums(*sort_hard(f, y), None))


@jax.jit
def _kuiper_hard(f: Array, y: Array) -> Array:
    return largest_range(partial_sums(*sort_hard(f, y), None))


def _can_pack(f: Array, y: Array, w: Array | None) -> bool:
    """Whether rows may be sorted as single integers, which has no derivative."""
    return w is None and is_concrete(f) and is_hard(y)


def ks_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Largest absolute partial sum of residuals in order of the forecast.

    S_k = (1/n) sum_{i <= k} (y_(i) - f_(i)) over rows in order of f, read at the end
    of each run of equal forecasts, so that the order of ties does not matter. The
    result is max_k |S_k|: no bins and no bandwidth.

    Heuristic: no finite-sample guarantee as an estimate; `ks_test` gives its p-value.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), scored at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        weights: shape (n,); a row of weight 2 counts as two rows.

    Returns:
        scalar in [0, 1]. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap, grad in `probs` (the order kept) and `weights`.
    Cost: one sort.

    Source: K. Gupta et al., "Calibration of Neural Networks using Splines", ICLR 2021;
    Arrieta-Ibarra et al., "Metrics of Calibration for Probabilistic Predictions", 2022.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.5, 0.75]), jnp.array([0, 0, 0])
        >>> calibration.ks_error(probs, labels)
        Array(0.5, dtype=float32)
    """
    f, y, w = check_scored(probs, labels, weights)
    return _ks_hard(f, y) if _can_pack(f, y, w) else _ks(f, y, w)


def kuiper_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Range of the partial sums of residuals in order of the forecast.

    max_k S_k - min_k S_k over k = 0..n with S_0 = 0, S as in `ks_error`: the largest
    absolute sum of residuals over an interval of forecasts. ks <= kuiper <= 2 ks.

    Heuristic: no finite-sample guarantee as an estimate; `kuiper_test` gives its
    p-value.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), scored at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        weights: shape (n,); a row of weight 2 counts as two rows.

    Returns:
        scalar in [0, 1]. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap, grad in `probs` (the order kept) and `weights`.
    Cost: one sort.

    Source: Arrieta-Ibarra et al., "Metrics of Calibration for Probabilistic
    Predictions", 2022; Tygert 2022.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.75]), jnp.array([1, 0])
        >>> calibration.kuiper_error(probs, labels)
        Array(0.375, dtype=float32)
    """
    f, y, w = check_scored(probs, labels, weights)
    return _kuiper_hard(f, y) if _can_pack(f, y, w) else _kuiper(f, y, w)
