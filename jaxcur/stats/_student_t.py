"""Student's t distribution: upper tail and quantile, to the last digits of float64."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtri
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, exact_fraction, is_concrete
from jaxcur.stats._incomplete_beta import bisect_bits, incomplete_beta_from

# From here on the expansions around the normal distribution are exact to rounding, and
# the continued fraction would need hundreds of terms.
_NEARLY_NORMAL = 1e5
_LARGEST = float(np.finfo(np.float64).max)
_LOG_BETA_HALF = 0.5723649429247001  # log Gamma(1/2)


def student_t_tail(
    t: Real[ArrayLike, "..."], degrees_of_freedom: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Upper tail P(T > t) of Student's t distribution.

    A two-sided p-value is 2 * student_t_tail(|t|, nu).

    Guarantee: relative error below 1e-10 before rounding to the dtype, for tails down
    to 1e-100. Verified by: tests/unit/stats/test_student_t.py, against SciPy.

    Args:
        t: any shape; infinities are legal.
        degrees_of_freedom: shape broadcasting with `t`, nu > 0; infinity is the normal
            distribution.

    Returns:
        The broadcast shape, in [0, 1], the common float dtype of the arguments.
        Computed in float64 whatever the setting. NaN where t is NaN, and for
        nonpositive degrees of freedom under tracing.

    Raises:
        ValueError: degrees of freedom that are not positive, or shapes that do not
            broadcast.

    Transformations: jit, vmap. Not differentiable (a loop until convergence).
    Cost: one continued fraction per entry, at most a few hundred terms.

    Source: NIST Handbook of Mathematical Functions, 8.17; for many degrees of freedom
    Johnson, Kotz and Balakrishnan, Continuous Univariate Distributions, volume 2, 28.

    Example:
        >>> from jaxcur import stats
        >>> print(f"{stats.student_t_tail(2.0, 5):.6f}")
        0.050970
    """
    value, nu = as_float(t=t, degrees_of_freedom=degrees_of_freedom)
    shape = _common_shape("t", value, nu)
    _check_degrees(degrees_of_freedom)
    with jax.enable_x64(True):
        tail = _tail(
            jnp.broadcast_to(_double(t), shape),
            jnp.broadcast_to(_double(degrees_of_freedom), shape),
        )
        return tail.astype(value.dtype)


def student_t_quantile(
    q: Real[ArrayLike, "..."], degrees_of_freedom: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Quantile of Student's t distribution: the t with P(T <= t) = q.

    Guarantee: relative error below 1e-10 before rounding to the dtype, absolute where
    the quantile is near 0. In an array q near 1 is known only to its own rounding: ask
    for 1 - q and change the sign. Verified by: tests/unit/stats/test_student_t.py,
    against SciPy and the asymptote of far tails.

    Args:
        q: any shape, in [0, 1]. A concrete scalar is read as the decimal number it
            prints as.
        degrees_of_freedom: shape broadcasting with `q`, nu > 0; infinity is the normal
            distribution.

    Returns:
        The broadcast shape, the common float dtype of the arguments; -inf at q = 0 and
        inf at q = 1. Computed in float64 whatever the setting. NaN for invalid input
        under tracing.

    Raises:
        ValueError: q outside [0, 1], degrees of freedom that are not positive, or
            shapes that do not broadcast.

    Transformations: jit, vmap. Not differentiable (bisection on the bits of t).
    Cost: 63 evaluations of the tail.

    Source: inversion of `student_t_tail`; from 1e5 degrees of freedom on, the
    Cornish-Fisher expansion of Johnson, Kotz and Balakrishnan, volume 2, chapter 28.

    Example:
        >>> from jaxcur import stats
        >>> print(f"{stats.student_t_quantile(0.975, 10):.6f}")
        2.228139
    """
    order, nu = as_float(q=q, degrees_of_freedom=degrees_of_freedom)
    shape = _common_shape("q", order, nu)
    _check_degrees(degrees_of_freedom)
    if is_concrete(q):
        host = np.asarray(q, np.float64)
        bad = ~((host >= 0) & (host <= 1))
        if bad.any():
            raise ValueError(f"`q` must lie in [0, 1], got {host[bad].flat[0]}")
    with jax.enable_x64(True):
        lower, upper = _both_sides(q)
        found = _quantile(
            jnp.broadcast_to(lower, shape),
            jnp.broadcast_to(upper, shape),
            jnp.broadcast_to(_double(degrees_of_freedom), shape),
        )
        return found.astype(order.dtype)


def _common_shape(name: str, value: Array, nu: Array) -> tuple[int, ...]:
    try:
        return jnp.broadcast_shapes(value.shape, nu.shape)
    except ValueError as error:
        raise ValueError(
            f"`{name}` and `degrees_of_freedom` must broadcast, "
            f"got shapes {value.shape} and {nu.shape}"
        ) from error


def _check_degrees(nu: Any) -> None:
    if not is_concrete(nu):
        return
    host = np.asarray(nu, np.float64)
    bad = ~(host > 0)
    if bad.any():
        raise ValueError(
            f"`degrees_of_freedom` must be positive, got {host[bad].flat[0]}"
        )


def _double(value: Any) -> Array:
    if is_concrete(value):
        value = np.asarray(value, np.float64)
    return jnp.asarray(value, jnp.float64)


def _both_sides(q: Any) -> tuple[Array, Array]:
    """The probabilities q and 1 - q."""
    if is_concrete(q) and np.ndim(q) == 0:
        exact = exact_fraction(q)
        return _double(float(exact)), _double(float(1 - exact))
    value = _double(q)
    return value, 1 - value


@jax.jit
def _tail(t: Array, nu: Array) -> Array:
    legal = (nu > 0) & ~jnp.isnan(t)
    size = jnp.abs(jnp.where(legal, t, 0.0))
    safe = jnp.where(legal, nu, 1.0)
    many = safe >= _NEARLY_NORMAL
    upper = jnp.where(
        many,
        _nearly_normal_tail(size, jnp.maximum(safe, _NEARLY_NORMAL)),
        _beta_tail(size, jnp.minimum(safe, _NEARLY_NORMAL)),
    )
    return jnp.where(legal, jnp.where(t >= 0, upper, 1 - upper), jnp.nan)


@jax.jit
def _quantile(lower: Array, upper: Array, nu: Array) -> Array:
    legal = (lower >= 0) & (lower <= 1) & (nu > 0)
    tail = jnp.where(legal, jnp.minimum(lower, upper), 0.25)
    inside = tail > 0
    safe_tail = jnp.where(inside, tail, 0.25)
    safe = jnp.where(legal, nu, 1.0)
    many = safe >= _NEARLY_NORMAL
    few = jnp.minimum(safe, _NEARLY_NORMAL)
    found = bisect_bits(
        lambda t: _beta_tail(t, few) > safe_tail, safe_tail, largest=_LARGEST
    )
    expanded = _nearly_normal_quantile(safe_tail, jnp.maximum(safe, _NEARLY_NORMAL))
    size = jnp.where(many, expanded, found)
    # The largest double means that no double has a tail this small.
    size = jnp.where(inside & (size < _LARGEST), size, jnp.inf)
    size = jnp.where(tail == 0.5, 0.0, size)
    return jnp.where(legal, jnp.where(lower < upper, -size, size), jnp.nan)


def _beta_tail(t: Array, nu: Array) -> Array:
    """P(T > t) for t >= 0 as half an incomplete beta function."""
    ratio = t / jnp.sqrt(nu)
    is_far = ratio > 1
    # The square of the smaller of the ratio and its inverse cannot overflow.
    square = jnp.where(is_far, 1 / jnp.where(is_far, ratio, 1.0), ratio) ** 2
    large, small = 1 / (1 + square), square / (1 + square)
    x, y = jnp.where(is_far, small, large), jnp.where(is_far, large, small)
    log_ratio = jnp.log(jnp.where(ratio > 0, ratio, 1.0))
    log_large = -jnp.log1p(square)
    far_log = 2 * jnp.where(is_far, log_ratio, 0.0)
    near_log = 2 * jnp.where(is_far, 0.0, log_ratio)
    half = nu / 2
    log_front = half * (log_large - far_log) + (log_large + near_log) / 2
    log_front += _log_gamma_ratio(half) - _LOG_BETA_HALF
    tail, _ = incomplete_beta_from(log_front, half, jnp.full_like(half, 0.5), x, y)
    return jnp.where(ratio > 0, jnp.where(jnp.isinf(ratio), 0.0, tail / 2), 0.5)


def _log_gamma_ratio(a: Array) -> Array:
    """Log Gamma(a + 1/2) - log Gamma(a), without cancellation for large a."""
    safe = jnp.maximum(a, 1.0)
    inverse = 1 / safe**2
    series = -1 / 8 + inverse * (
        1 / 192 + inverse * (-1 / 640 + inverse * (17 / 14336 - inverse * 31 / 18432))
    )
    expanded = jnp.log(safe) / 2 + series / safe
    direct = jax.lax.lgamma(a + 0.5) - jax.lax.lgamma(a)
    return jnp.where(a > 20, expanded, direct)


def _nearly_normal_tail(t: Array, nu: Array) -> Array:
    # Beyond 45 the tail is zero in float64, and the expansion would diverge.
    t = jnp.minimum(t, 45.0)
    u, v = t**2, 1 / nu
    first = -(u + 1) / 4
    second = (3 + u * (8 + 13 * u)) / 96
    third = (15 - u * (1 + u * (19 + 35 * u))) / 384
    fourth = (-945 + u * (-1680 + u * (-102 + u * (3224 + 6271 * u)))) / 92160
    z = t * (1 + v * (first + v * (second + v * (third + v * fourth))))
    return jax.lax.erfc(z / np.sqrt(2.0)) / 2


def _nearly_normal_quantile(tail: Array, nu: Array) -> Array:
    z = -ndtri(tail)
    u, v = z**2, 1 / nu
    first = (u + 1) / 4
    second = (3 + u * (16 + 5 * u)) / 96
    third = (-15 + u * (17 + u * (19 + 3 * u))) / 384
    fourth = (-945 + u * (-1920 + u * (1482 + u * (776 + 79 * u)))) / 92160
    return z * (1 + v * (first + v * (second + v * (third + v * fourth))))
