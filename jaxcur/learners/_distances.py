"""Distances that do not depend on where a row stands, and tiles of rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

_TILE_ENTRIES = 2**20


def exact_squared_distances(a: Array, b: Array) -> Array:
    """Squared Euclidean distances (n, m), the same bits for the same pair of rows.

    The differences are squared and added column by column, always in the same order. A
    matrix product would be faster, but it rounds the last columns of a tile differently
    from the others: equal rows could then differ in the last bit, ties would be broken
    by position, and the neighbours would depend on the order of the rows.
    """

    def add(total: Array, columns: tuple[Array, Array]) -> tuple[Array, None]:
        left, right = columns
        difference = left[:, None] - right[None, :]
        return total + difference * difference, None

    zero = jnp.zeros((a.shape[0], b.shape[0]), a.dtype)
    return jax.lax.scan(add, zero, (a.T, b.T))[0]


def over_tiles(function: Callable[[Array, Array], Any], rows: Array, width: int) -> Any:
    """Map `function(tile of rows, their indices)` over tiles of rows.

    `width` is how many numbers one row needs; a tile needs about 2^20 in all.
    """
    n = rows.shape[0]
    size = max(1, min(n, _TILE_ENTRIES // max(width, 1)))
    index = jnp.arange(n)
    if size >= n:
        return function(rows, index)
    count = n // size

    def body(start: Array) -> Any:
        tile = jax.lax.dynamic_slice_in_dim(rows, start, size)
        return function(tile, start + jnp.arange(size))

    out = jax.lax.map(body, jnp.arange(count) * size)
    out = jax.tree.map(lambda x: x.reshape(count * size, *x.shape[2:]), out)
    done = count * size
    if done == n:
        return out
    rest = function(rows[done:], index[done:])
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y]), out, rest)
