"""Sums over pairs as statistics of labels or of signs, and tails they have."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.calibration._kernel import (
    block_means,
    residuals,
    sorted_pair_sum,
    tiled_pair_sum,
)


def pair_tail(value: Array, mean: Array, variance: Array) -> Array:
    """P(Q > value + mean) for a quadratic form Q >= 0 of this mean and variance.

    A weighted sum of chi-squares is matched by a multiple of one with the same two
    moments.
    """
    noisy = (variance > 0) & (mean > 0)
    safe_mean, safe_variance = jnp.where(noisy, mean, 1), jnp.where(noisy, variance, 1)
    shape, scale = safe_mean**2 / safe_variance, safe_variance / safe_mean
    p = jax.scipy.special.gammaincc(shape, jnp.maximum(value + mean, 0) / scale)
    return jnp.where(noisy, p, jnp.where(value > 0, 0, 1).astype(p.dtype))


class Pairs(NamedTuple):
    """What the statistic of binary forecasts needs, rows sorted by forecast."""

    order: Array
    forecasts: Array
    weights: Array
    decay: Array
    pairs: Array
    with_own: Array


def _sorted_mean(context: Pairs, q: Array) -> Array:
    own = jnp.sum(q**2)
    total = sorted_pair_sum(q, context.decay)
    total = jnp.where(context.with_own, jnp.maximum(total, 0), total - own)
    return total / context.pairs


def binary_pairs(context: Pairs, y: Array) -> Array:
    """Mean over pairs of binary forecasts, from one scan."""
    q = context.weights * (y[context.order] - context.forecasts)
    return _sorted_mean(context, q)


class Rows(NamedTuple):
    """What the statistic of rows, and of blocks, needs."""

    probs: Array
    weights: Array
    bandwidth: Array
    pairs: Array
    with_own: Array


def _tiled_mean(context: Rows, q: Array) -> Array:
    total = tiled_pair_sum(context.probs, q, context.bandwidth)
    total = jnp.where(context.with_own, jnp.maximum(total, 0), total - jnp.sum(q**2))
    return total / context.pairs


def row_pairs(context: Rows, labels: Array) -> Array:
    """Mean over pairs of rows of probabilities, in tiles."""
    q = residuals(context.probs, labels) * context.weights[:, None]
    return _tiled_mean(context, q)


def block_values(context: Rows, labels: Array, size: int) -> tuple[Array, Array]:
    """Sum and weight of the pairs of each block of rows."""
    r = residuals(context.probs, labels)
    return block_means(context.probs, r, context.weights, context.bandwidth, size)


def _block_statistic(size: int, context: Rows, labels: Array) -> Array:
    sums, pairs = block_values(context, labels, size)
    return jnp.sum(sums) / jnp.sum(pairs)


class Signed(NamedTuple):
    """What the wild bootstrap needs: the context and the observed residuals."""

    context: Any
    residuals: Array


def _sign(e: Array) -> Array:
    """Signs -1 and 1 of the outcomes 0 and 1 of a fair coin."""
    return 2 * e - 1


def signed_binary(signed: Signed, e: Array) -> Array:
    """`binary_pairs` with each residual times its sign."""
    context = signed.context
    q = context.weights * signed.residuals[context.order]
    return _sorted_mean(context, q * _sign(e)[context.order])


def signed_rows(signed: Signed, e: Array) -> Array:
    """`row_pairs` with the residuals of each row times its sign."""
    context = signed.context
    mass = context.weights * _sign(e)
    return _tiled_mean(context, signed.residuals * mass[:, None])


def _signed_blocks(size: int, signed: Signed, e: Array) -> Array:
    p, w, nu = signed.context[:3]
    sign = _sign(e).reshape(-1, *(1,) * (p.ndim - 1))
    sums, pairs = block_means(p, signed.residuals * sign, w, nu, size)
    return jnp.sum(sums) / jnp.sum(pairs)


@functools.cache
def signed_of_blocks(size: int) -> Callable[[Any, Array], Array]:
    """`statistic_of_blocks` with the residuals of each row times its sign."""
    return functools.partial(_signed_blocks, size)


@functools.cache
def statistic_of_blocks(size: int) -> Callable[[Any, Array], Array]:
    """One function a block size, so that programs are found again."""
    return functools.partial(_block_statistic, size)


def matched_tail(context: Pairs, value: Array, biased: bool) -> Array:
    """Tail of the sum over pairs from its exact first two moments given forecasts."""
    f, w = context.forecasts, context.weights
    v = w**2 * f * (1 - f)
    # The square of the kernel is the kernel of half the bandwidth.
    squares = sorted_pair_sum(v, context.decay**2)
    variance = 2 * (squares - jnp.sum(v**2))
    mean = jnp.sum(v)
    total = value * context.pairs
    if biased:
        variance = variance + jnp.sum(w**2 * v * (1 - 2 * f) ** 2)
        total = total - mean
    return pair_tail(total, mean, variance)


def hoeffding_tail(
    context: Any, value: Array, pairs: Array, blocks: tuple[int, int] | None
) -> Array:
    """Bound on P(U >= value) that holds for every n and every forecast.

    A mean over pairs is a mean over orders of the rows of means over pairs that share
    no row. Those are independent, have expectation 0, and lie in [-bound, bound].

    Args:
        context: `Pairs` or `Rows`.
        value: the statistic.
        pairs: weight of all pairs.
        blocks: number of blocks and rows of each; None for a mean over all pairs.
    """
    w = context.weights
    # <Y - P, Y' - P'> lies in [-2, 2] for rows, (y - f)(y' - f') in [-1, 1].
    bound = 2.0 if isinstance(context, Rows) and context.probs.ndim == 2 else 1.0
    if blocks is None:
        n = jnp.sum(w > 0, dtype=w.dtype)
        number, apart = n * (n - 1), jnp.floor(n / 2)
    else:
        count, size = blocks
        number, apart = 1.0 * count * size * (size - 1), 1.0 * count * (size // 2)
    # Weights make some pairs count for more: the heaviest possible one bounds them.
    bound = bound * jnp.max(w) ** 2 * number / pairs
    tail = jnp.exp(-apart * value**2 / (2 * bound**2))
    return jnp.where(value > 0, tail, 1)
