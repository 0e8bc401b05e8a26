"""The one place that sorts.

Floats are compared as integers: the bit pattern of an IEEE number, with negative ones
mirrored (minimum - bits), orders as the number does, and -0.0 gets the key of 0.0.
XLA's float comparison on a CPU checks for NaN at every step and is several times slower
than NumPy's; integer keys are level with NumPy. The keys also fix the order everywhere:
-0.0 equals 0.0 and NaN comes after +inf.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import as_float, check_choice

_INTEGER = {4: jnp.int32, 8: jnp.int64}
_INDEX_BITS = 32


def order_keys(values: Array) -> Array:
    """Integers that order as the floats do (int32 for float32, int64 for float64).

    Args:
        values: any shape, float32 or float64.

    Returns:
        shape of `values`; equal exactly where the floats are equal or both NaN.
    """
    integer = _INTEGER[values.dtype.itemsize]
    # A NaN of either sign becomes the one positive NaN.
    canonical = jnp.where(jnp.isnan(values), jnp.nan, values)
    bits = jax.lax.bitcast_convert_type(canonical, integer)
    return jnp.where(bits < 0, jnp.iinfo(integer).min - bits, bits)


def _values_of(keys: Array, dtype: jnp.dtype) -> Array:
    bits = jnp.where(keys < 0, jnp.iinfo(keys.dtype).min - keys, keys)
    return jax.lax.bitcast_convert_type(bits, dtype)


def sort(values: Real[ArrayLike, "... n"]) -> Array:
    """Values in ascending order along the last axis.

    Args:
        values: shape (..., n). NaN goes last; -0.0 counts as (and becomes) 0.0.

    Returns:
        shape (..., n), the float dtype of `values`.

    Transformations: jit, vmap. Not differentiable.
    Cost: one integer sort, O(n log n) time, O(n) memory.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.sort(jnp.array([2.0, -1.0, 0.5]))
        Array([-1. ,  0.5,  2. ], dtype=float32)
    """
    (array,) = as_float(values=values)
    return _values_of(jax.lax.sort(order_keys(array), is_stable=False), array.dtype)


def argsort(values: Real[ArrayLike, "... n"]) -> Int[Array, "... n"]:
    """Indices that sort along the last axis, ties in order of position.

    Args:
        values: shape (..., n). NaN goes last; -0.0 equals 0.0.

    Returns:
        shape (..., n), int32.

    Transformations: jit, vmap.
    Cost: float32 packs key and index into one 64-bit integer and sorts once; float64
    sorts pairs, about five times slower on a CPU.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.argsort(jnp.array([2.0, -1.0, 0.5]))
        Array([1, 2, 0], dtype=int32)
    """
    return sort_with_order(values)[1]


def sort_with_order(
    values: Real[ArrayLike, "... n"],
) -> tuple[Array, Int[Array, "... n"]]:
    """`sort` and `argsort` from one sort.

    Args:
        values: shape (..., n). NaN goes last; -0.0 equals 0.0.

    Returns:
        Sorted values and int32 indices, both of shape (..., n).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.sort_with_order(jnp.array([2.0, 1.0]))
        (Array([1., 2.], dtype=float32), Array([1, 0], dtype=int32))
    """
    (array,) = as_float(values=values)
    keys = order_keys(array)
    index = jax.lax.broadcasted_iota(jnp.int32, keys.shape, keys.ndim - 1)
    if keys.dtype == jnp.int64:
        keys, order = jax.lax.sort((keys, index), num_keys=1, is_stable=True)
        return _values_of(keys, array.dtype), order
    # 64-bit integers are needed for this one sort, whatever the user's setting.
    with jax.enable_x64(True):
        packed = (keys.astype(jnp.int64) << _INDEX_BITS) | index.astype(jnp.int64)
        packed = jax.lax.sort(packed, is_stable=False)
        order = (packed & ((1 << _INDEX_BITS) - 1)).astype(jnp.int32)
        keys = (packed >> _INDEX_BITS).astype(jnp.int32)
    return _values_of(keys, array.dtype), order


def count_at_most(
    sorted_values: Real[ArrayLike, " n"], queries: Real[ArrayLike, "..."]
) -> Int[Array, "..."]:
    """How many of the sorted values are <= each query.

    Args:
        sorted_values: shape (n,), ascending (as `sort` returns them).
        queries: any shape. A NaN query is above every number, so it counts all n.

    Returns:
        shape of `queries`, int32.

    Transformations: jit, vmap.
    Cost: O(log n) a query.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.count_at_most(jnp.array([1.0, 2.0, 2.0]), jnp.array([0.0, 2.0]))
        Array([0, 3], dtype=int32)
    """
    return _count(sorted_values, queries, strict=False)


def count_below(
    sorted_values: Real[ArrayLike, " n"], queries: Real[ArrayLike, "..."]
) -> Int[Array, "..."]:
    """How many of the sorted values are < each query.

    Args:
        sorted_values: shape (n,), ascending (as `sort` returns them).
        queries: any shape. A NaN query is above every number.

    Returns:
        shape of `queries`, int32.

    Transformations: jit, vmap.
    Cost: O(log n) a query.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.count_below(jnp.array([1.0, 2.0, 2.0]), jnp.array([0.0, 2.0]))
        Array([0, 1], dtype=int32)
    """
    return _count(sorted_values, queries, strict=True)


def _count(sorted_values: ArrayLike, queries: ArrayLike, *, strict: bool) -> Array:
    """Branchless binary search: one array of positions, one gather per step.

    Half the memory traffic of `jnp.searchsorted`, which carries both ends.
    """
    values, points = as_float(sorted_values=sorted_values, queries=queries)
    n = values.shape[0]
    if n == 0:
        return jnp.zeros(points.shape, jnp.int32)
    keys, wanted = order_keys(values), order_keys(points)
    num_steps = n.bit_length()

    def step(i: Array, position: Array) -> Array:
        jump = jnp.left_shift(jnp.int32(1), num_steps - 1 - i.astype(jnp.int32))
        further = position + jump
        probe = keys.at[jnp.minimum(further, n) - 1].get(mode="promise_in_bounds")
        counts = probe < wanted if strict else probe <= wanted
        return jnp.where((further <= n) & counts, further, position)

    # Zeros computed from both inputs, so that inside shard_map they vary over the same
    # devices as what the loop makes of them.
    start = (wanted * 0 + keys[0] * 0).astype(jnp.int32)
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(num_steps), step, start)


def ranks(
    values: Real[ArrayLike, " n"],
    *,
    ties: Literal["max", "min", "ordinal"] = "max",
) -> Int[Array, " n"]:
    """Integer ranks 1..n.

    Args:
        values: shape (n,). NaN ranks last.
        ties: "max" counts the values <= each one, "min" is one plus the count below,
            "ordinal" breaks ties by position.

    Returns:
        shape (n,), int32.

    Transformations: jit, vmap.
    Cost: O(n log n) time, O(n) memory; no table of comparisons.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.ranks(jnp.array([3.0, 1.0, 3.0]), ties="min")
        Array([2, 1, 2], dtype=int32)
    """
    check_choice("ties", ties, ("max", "min", "ordinal"))
    if ties == "ordinal":
        order = argsort(values)
        places = jnp.arange(1, order.shape[0] + 1, dtype=jnp.int32)
        return jnp.zeros_like(order).at[order].set(places)
    ordered = sort(values)
    if ties == "max":
        return count_at_most(ordered, values)
    return count_below(ordered, values) + 1
