"""Distribution of the largest absolute value and of the range of Brownian motion."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float

# Where the theta series of the distribution function hands over to the sum of normal
# tails: both converge in a few terms there.
_MAXIMUM_SPLIT = 1.0
_RANGE_SPLIT = 1.5
_NUM_TERMS = 12


def _normal_tail(x: Array) -> Array:
    """P(N > x), accurate relative to itself."""
    return jax.scipy.special.erfc(x / jnp.sqrt(2).astype(x.dtype)) / 2


def _series_maximum_cdf(x: Array) -> Array:
    k = jnp.arange(_NUM_TERMS, dtype=x.dtype)
    odd = 2 * k + 1
    terms = jnp.where(k % 2 == 0, 1, -1) / odd
    decay = jnp.exp(-((odd * jnp.pi) ** 2).astype(x.dtype) / (8 * x[..., None] ** 2))
    return (4 / jnp.pi) * jnp.sum(terms * decay, axis=-1)


def _series_maximum_tail(x: Array) -> Array:
    k = jnp.arange(_NUM_TERMS, dtype=x.dtype)
    sign = jnp.where(k % 2 == 0, 1, -1).astype(x.dtype)
    return 4 * jnp.sum(sign * _normal_tail((2 * k + 1) * x[..., None]), axis=-1)


def _series_range_cdf(x: Array) -> Array:
    half = jnp.arange(_NUM_TERMS, dtype=x.dtype) + 0.5
    frequency = (half * jnp.pi).astype(x.dtype) ** 2
    square = x[..., None] ** 2
    terms = (8 / square + 2 / frequency) * jnp.exp(-2 * frequency / square)
    return jnp.sum(terms, axis=-1)


def _series_range_tail(x: Array) -> Array:
    k = jnp.arange(1, _NUM_TERMS + 1, dtype=x.dtype)
    sign = jnp.where(k % 2 == 1, 1, -1).astype(x.dtype)
    return 8 * jnp.sum(sign * k * _normal_tail(k * x[..., None]), axis=-1)


def _two_series(x: Array, split: float, small: Array, large: Array) -> Array:
    """`small` below the split, `large` above it, NaN where x is NaN."""
    return jnp.where(jnp.isnan(x), x, jnp.where(x < split, small, large))


def _parts(x: ArrayLike, split: float) -> tuple[Array, Array, Array]:
    """x, and x moved into the range in which each of the two series is used."""
    (array,) = as_float(x=x)
    low = jnp.clip(array, 0.05, split)
    return array, low, jnp.maximum(array, split)


def brownian_maximum_cdf(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """P(max |B_t| <= x) for Brownian motion B on [0, 1].

    (4 / pi) sum_k (-1)^k / (2k + 1) exp(-(2k + 1)^2 pi^2 / (8 x^2)).

    Guarantee: relative error below 1e-12 in float64 where the value is above 1e-200.
    Verified by: tests/unit/stats/test_brownian.py.

    Args:
        x: any shape; 0 and below give 0, +inf gives 1, NaN gives NaN.

    Returns:
        shape of `x`.

    Transformations: jit, vmap, grad.
    Cost: 24 terms a number.

    Source: Feller, "An Introduction to Probability Theory and Its Applications" II,
    chapter X.

    Example:
        >>> from jaxcur import stats
        >>> stats.brownian_maximum_cdf(2.2414).round(4)
        Array(0.95, dtype=float32)
    """
    array, low, high = _parts(x, _MAXIMUM_SPLIT)
    small = jnp.where(array > 0.05, _series_maximum_cdf(low), 0)
    return _two_series(array, _MAXIMUM_SPLIT, small, 1 - _series_maximum_tail(high))


def brownian_maximum_tail(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """P(max |B_t| > x) for Brownian motion B on [0, 1], accurate in the tail.

    4 sum_k (-1)^k P(N > (2k + 1) x) with N standard normal, for x >= 1.

    Guarantee: relative error below 1e-12 in float64, at any size above underflow.
    Verified by: tests/unit/stats/test_brownian.py.

    Args:
        x: any shape; 0 and below give 1, +inf gives 0, NaN gives NaN.

    Returns:
        shape of `x`.

    Transformations: jit, vmap, grad.
    Cost: 24 terms a number.

    Source: Feller, "An Introduction to Probability Theory and Its Applications" II,
    chapter X.

    Example:
        >>> from jaxcur import stats
        >>> stats.brownian_maximum_tail(2.2414).round(4)
        Array(0.05, dtype=float32)
    """
    array, low, high = _parts(x, _MAXIMUM_SPLIT)
    small = jnp.where(array > 0.05, 1 - _series_maximum_cdf(low), 1)
    return _two_series(array, _MAXIMUM_SPLIT, small, _series_maximum_tail(high))


def brownian_range_cdf(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """P(max B_t - min B_t <= x) for Brownian motion B on [0, 1].

    sum_k [8 / x^2 + 2 / ((k - 1/2)^2 pi^2)] exp(-2 (k - 1/2)^2 pi^2 / x^2).

    Guarantee: relative error below 1e-12 in float64 where the value is above 1e-200.
    Verified by: tests/unit/stats/test_brownian.py.

    Args:
        x: any shape; 0 and below give 0, +inf gives 1, NaN gives NaN.

    Returns:
        shape of `x`.

    Transformations: jit, vmap, grad.
    Cost: 24 terms a number.

    Source: Feller, "The asymptotic distribution of the range of sums of independent
    random variables", 1951.

    Example:
        >>> from jaxcur import stats
        >>> stats.brownian_range_cdf(2.5).round(4)
        Array(0.9503, dtype=float32)
    """
    array, low, high = _parts(x, _RANGE_SPLIT)
    small = jnp.where(array > 0.05, _series_range_cdf(low), 0)
    return _two_series(array, _RANGE_SPLIT, small, 1 - _series_range_tail(high))


def brownian_range_tail(x: Real[ArrayLike, "..."]) -> Float[Array, "..."]:
    """P(max B_t - min B_t > x) for Brownian motion B on [0, 1], accurate in the tail.

    8 sum_k (-1)^(k-1) k P(N > k x) with N standard normal, for x >= 1.5.

    Guarantee: relative error below 1e-12 in float64, at any size above underflow.
    Verified by: tests/unit/stats/test_brownian.py.

    Args:
        x: any shape; 0 and below give 1, +inf gives 0, NaN gives NaN.

    Returns:
        shape of `x`.

    Transformations: jit, vmap, grad.
    Cost: 24 terms a number.

    Source: Feller, "The asymptotic distribution of the range of sums of independent
    random variables", 1951.

    Example:
        >>> from jaxcur import stats
        >>> stats.brownian_range_tail(2.5).round(4)
        Array(0.0497, dtype=float32)
    """
    array, low, high = _parts(x, _RANGE_SPLIT)
    small = jnp.where(array > 0.05, 1 - _series_range_cdf(low), 1)
    return _two_series(array, _RANGE_SPLIT, small, _series_range_tail(high))
