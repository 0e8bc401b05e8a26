"""The incomplete beta function in float64, and inversion of monotone functions."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# More continued-fraction terms than a tail of 1e9 trials asks for (about sqrt(n)).
_MAX_TERMS = 50_000
_TINY = 1e-300


def bisect_bits(
    too_low: Callable[[Array], Array], like: Array, *, largest: float = 1.0
) -> Array:
    """First double in [0, largest] that is not too low.

    Doubles of one sign order as their bit patterns do, so halving the range of patterns
    finds the root to the last bit, however small it is: in 62 steps for `largest` = 1,
    and 63 for any other.
    """
    low = jnp.zeros(like.shape, jnp.int64)
    high = jnp.full(like.shape, np.float64(largest).view(np.int64), jnp.int64)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) // 2
        up = too_low(jax.lax.bitcast_convert_type(middle, jnp.float64))
        return jnp.where(up, middle, low), jnp.where(up, high, middle)

    steps = jnp.int64(62 if largest == 1.0 else 63)
    _, high = jax.lax.fori_loop(jnp.int64(0), steps, halve, (low, high))
    return jax.lax.bitcast_convert_type(high, jnp.float64)


def incomplete_beta(a: Array, b: Array, x: Array) -> tuple[Array, Array]:
    """I_x(a, b) and 1 - I_x(a, b) in float64, each accurate when it is the small one.

    `jax.scipy.special.betainc` cannot be used here: its lowering reads the global
    64-bit setting and fails inside a float32 program.
    """
    x_safe = jnp.clip(x, _TINY, 1.0)
    log_front = a * jnp.log(x_safe) + b * jnp.log1p(-x_safe)
    log_front += jax.lax.lgamma(a + b) - jax.lax.lgamma(a) - jax.lax.lgamma(b)
    return incomplete_beta_from(log_front, a, b, x, 1 - x)


def incomplete_beta_from(
    log_front: Array, a: Array, b: Array, x: Array, y: Array
) -> tuple[Array, Array]:
    """`incomplete_beta`, given y = 1 - x and the log of x^a y^b / B(a, b).

    For callers that know these two without the cancellation of the general formulas.
    The continued fraction is that of the NIST handbook, 8.17.22, by Lentz's method.
    """
    tiny = jnp.float64(_TINY)
    swap = x > (a + 1) / (a + b + 2)
    p, q = jnp.where(swap, b, a), jnp.where(swap, a, b)
    z = jnp.where(swap, y, x)

    def away(value: Array) -> Array:
        return jnp.where(jnp.abs(value) < tiny, tiny, value)

    def term(state: tuple[Array, ...]) -> tuple[Array, ...]:
        m, c, d, value, _ = state
        even = m * (q - m) * z / ((p + 2 * m - 1) * (p + 2 * m))
        d = 1 / away(1 + even * d)
        c = away(1 + even / c)
        value = value * c * d
        odd = -(p + m) * (p + q + m) * z / ((p + 2 * m) * (p + 2 * m + 1))
        d = 1 / away(1 + odd * d)
        c = away(1 + odd / c)
        return m + 1, c, d, value * c * d, jnp.abs(c * d - 1)

    def unfinished(state: tuple[Array, ...]) -> Array:
        return (state[0] < _MAX_TERMS) & jnp.any(state[4] > 1e-15)

    one = jnp.ones_like(z)
    first = 1 / away(one - (p + q) * z / (p + 1))
    state = (jnp.float64(1.0), one, first, first, one)
    fraction = jax.lax.while_loop(unfinished, term, state)[3]
    small = jnp.clip(jnp.exp(log_front - jnp.log(p)) * fraction, 0.0, 1.0)
    return jnp.where(swap, 1 - small, small), jnp.where(swap, small, 1 - small)
