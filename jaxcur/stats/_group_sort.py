"""Sorting inside groups, in one pass and without a table of groups."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int

from jaxcur.stats._sort import sort_with_order

_LOW_BITS = 32


def group_sort(
    groups: Int[Array, " n"], values: Float[Array, " n"]
) -> tuple[Int[Array, " n"], Float[Array, " n"], Int[Array, " n"]]:
    """Rows ordered by group, and by value inside each group.

    Args:
        groups: shape (n,), int32 labels; any integers, no number of groups is needed.
        values: shape (n,). NaN goes last in its group; -0.0 equals 0.0.

    Returns:
        Sorted groups, the values in that order, and the int32 row indices, each (n,).
        Ties keep the order of the rows.

    Transformations: jit, vmap. Not differentiable.
    Cost: two sorts, O(n log n) time, O(n) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> labels = jnp.array([1, 0, 1])
        >>> groups, values, _ = stats.group_sort(labels, jnp.array([3.0, 2.0, 1.0]))
        >>> print(groups, values)
        [0 1 1] [2. 1. 3.]
    """
    _, by_value = sort_with_order(values)
    # Stable: group in the high half of a 64-bit key, place among the values in the low.
    with jax.enable_x64(True):
        place = jnp.arange(values.shape[0], dtype=jnp.int64)
        key = (groups[by_value].astype(jnp.int64) << _LOW_BITS) | place
        key = jax.lax.sort(key, is_stable=False)
        order = by_value[(key & ((1 << _LOW_BITS) - 1)).astype(jnp.int32)]
        return (key >> _LOW_BITS).astype(jnp.int32), values[order], order
