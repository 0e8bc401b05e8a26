"""Isotonic fits by merging halves: few steps, each over all rows at once.

The fit of two neighbouring stretches of rows, each fitted before, pools the end of the
left one with the beginning of the right one at a level l, where

    sum over left fits a above l of w (a - l)  =  sum over right fits b below l of
    w (l - b).

The left side less the right one decreases in l, so one bisection over the rows of each
stretch finds what is pooled.
"""

import jax
import jax.numpy as jnp
from jax import Array


def _first_true(holds, low: Array, high: Array, num_steps: int) -> Array:
    """Smallest place in [low, high) from which on `holds` is true; high if nowhere."""

    def step(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) // 2
        found = holds(middle) | (low >= high)
        return jnp.where(found, low, middle + 1), jnp.where(found, middle, high)

    # Where low == high the middle is the end itself, and stays.
    return jax.lax.fori_loop(0, num_steps, step, (low, high))[1]


def _merge(fits: Array, joined: Array, values: Array, weights: Array, half: int):
    """Merge each pair of neighbouring stretches of `half` rows."""
    pairs = fits.shape[0] // (2 * half)
    num_steps = half.bit_length()
    shape = (pairs, 2 * half)
    zeros = jnp.zeros((pairs, 1), fits.dtype)
    sums = jnp.cumsum((weights * values).reshape(shape), axis=1)
    sums = jnp.concatenate([zeros, sums], axis=1)
    mass = jnp.cumsum(weights.reshape(shape), axis=1)
    mass = jnp.concatenate([zeros, mass], axis=1)
    fits = fits.reshape(shape)
    rows = jnp.arange(pairs, dtype=jnp.int32)
    left = jnp.zeros(pairs, jnp.int32)
    middle = left + half
    right = left + 2 * half

    def fit_at(place: Array) -> Array:
        return fits[rows, jnp.minimum(place, 2 * half - 1)]

    def excess(level: Array) -> Array:
        """What the left stretch holds above the level less what the right lacks."""
        start = _first_true(lambda i: fit_at(i) > level, left, middle, num_steps)
        stop = _first_true(lambda i: fit_at(i) >= level, middle, right, num_steps)
        total = sums[rows, stop] - sums[rows, start]
        return total - level * (mass[rows, stop] - mass[rows, start])

    start = _first_true(lambda i: excess(fit_at(i)) < 0, left, middle, num_steps)
    stop = _first_true(lambda i: excess(fit_at(i)) <= 0, middle, right, num_steps)
    total = sums[rows, stop] - sums[rows, start]
    weight = mass[rows, stop] - mass[rows, start]
    pooled = (fits[:, half - 1] > fits[:, half]) & (weight > 0)
    level = total / jnp.where(weight > 0, weight, 1)
    place = jnp.arange(2 * half, dtype=jnp.int32)[None, :]
    inside = pooled[:, None] & (place >= start[:, None]) & (place < stop[:, None])
    fits = jnp.where(inside, level[:, None], fits)
    joined = joined.reshape(shape) | (inside & (place > start[:, None]))
    return fits.reshape(-1), joined.reshape(-1)


def merged_blocks(values: Array, weights: Array) -> Array:
    """The block each row belongs to, int32 (n,); rows of weight 0 join a neighbour."""
    n = values.shape[0]
    present = weights > 0
    # Rows with weight move to the front; the others follow the row before them.
    place = jnp.cumsum(present, dtype=jnp.int32) - 1
    size = 1 << (n - 1).bit_length()
    target = jnp.where(present, place, size)
    # Differences of cumulative sums decide: float32 would blur them.
    with jax.enable_x64(True):
        highest = jnp.max(jnp.where(present, values, -jnp.inf)).astype(jnp.float64)
        data = jnp.full(size, highest)
        data = data.at[target].set(values.astype(jnp.float64), mode="drop")
        mass = jnp.zeros(size, jnp.float64)
        mass = mass.at[target].set(weights.astype(jnp.float64), mode="drop")
        fits, joined = data, jnp.zeros(size, bool)
        half = 1
        while half < size:
            fits, joined = _merge(fits, joined, data, mass, half)
            half *= 2
    block = jnp.cumsum(~joined, dtype=jnp.int32) - 1
    return block[jnp.maximum(place, 0)]
