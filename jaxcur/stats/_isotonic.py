"""Least squares under an order: pool adjacent violators, in three equal forms.

A loop over rows is best on a CPU, merging of halves on an accelerator, and SciPy's
compiled loop wherever the numbers are at hand.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_same_length,
    is_concrete,
)
from jaxcur.stats._isotonic_merge import merged_blocks

_METHODS = ("auto", "sequential", "parallel", "host")
# Below this many rows a call of a compiled program costs less than the way to SciPy.
_HOST_ROWS = 20_000


def isotonic_regression(
    values: Real[ArrayLike, " n"],
    weights: Real[ArrayLike, " n"] | None = None,
    *,
    increasing: bool = True,
    method: Literal["auto", "sequential", "parallel", "host"] = "auto",
) -> Float[Array, " n"]:
    """The monotone sequence nearest to `values` in weighted least squares.

    Minimises  sum_i w_i (v_i - f_i)^2  over  f_1 <= f_2 <= ... <= f_n. The solution is
    constant on blocks of consecutive rows and equals the weighted mean of each.

    Heuristic: no finite-sample guarantee; this is the exact solution of the problem
    above, up to rounding.

    Args:
        values: shape (n,), in the order along which they should not decrease. NaN is
            legal only in rows of weight zero.
        weights: shape (n,), finite and nonnegative, not all zero; ones when missing.
            A row of weight zero changes nothing: it gets the fitted value of the last
            row of positive weight before it, or of the first one.
        increasing: False fits a sequence that does not increase. Static.
        method: how it is computed; the answers agree up to rounding. "sequential" is
            one compiled loop over the rows, "parallel" merges the fits of halves in
            log2(n) rounds, "host" calls SciPy and needs values that are not traced.
            "auto" takes "host" for many rows on a CPU outside of a trace, otherwise
            "sequential" on a CPU and "parallel" elsewhere. Static.

    Returns:
        shape (n,), monotone, the common float dtype of the inputs. NaN for invalid
        input under tracing, where values cannot be looked at.

    Raises:
        ValueError: unequal lengths, n = 0, a negative, infinite or NaN weight, weights
            that are all zero, a value of positive weight that is not finite, or
            `method="host"` inside a transformation.

    Transformations: jit, vmap, and grad in `values` and `weights` (where no block is
    about to merge or to split).
    Cost: 2 n steps of constant work ("parallel": O(n) work in each of log2(n) rounds),
    O(n) memory.

    Source: Barlow, Bartholomew, Bremner and Brunk, "Statistical Inference under Order
    Restrictions", 1972: the pool adjacent violators algorithm.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.isotonic_regression(jnp.array([1.0, 3.0, 2.0, 5.0, 4.0, 0.0]))
        Array([1. , 2.5, 2.5, 3. , 3. , 3. ], dtype=float32)
    """
    if weights is None:
        (values,) = as_float(values=values)
        weights = jnp.ones_like(values)
    else:
        values, weights = as_float(values=values, weights=weights)
    check_rank("values", values, 1)
    check_rank("weights", weights, 1)
    check_same_length("values", values, "weights", weights)
    if values.shape[0] == 0:
        raise ValueError("`values` must hold at least one row, got shape (0,)")
    check_choice("method", method, _METHODS)
    _check_values(values, weights)
    if method == "host" or (method == "auto" and _is_for_host(values, weights)):
        return _on_host(values, weights, increasing=bool(increasing))
    return pool_adjacent_violators(
        values, weights, increasing=bool(increasing), method=method
    )


@functools.cache
def scipy_pav():
    """SciPy's loop, or None before SciPy 1.12."""
    try:
        from scipy.optimize import isotonic_regression as by_scipy
    except ImportError:
        return None
    return by_scipy


def _is_for_host(values: Array, weights: Array) -> bool:
    if values.shape[0] < _HOST_ROWS or not is_concrete(values, weights):
        return False
    on_cpu = all(device.platform == "cpu" for device in values.devices())
    return on_cpu and scipy_pav() is not None


def _on_host(values: Array, weights: Array, *, increasing: bool) -> Array:
    if not is_concrete(values, weights):
        raise ValueError(
            '`method="host"` needs values that are not traced; '
            'use method="auto" under jit, vmap or grad'
        )
    if scipy_pav() is None:
        return pool_adjacent_violators(values, weights, increasing=increasing)
    fitted = host_isotonic(
        np.asarray(values), np.asarray(weights), increasing=increasing
    )
    return jnp.asarray(fitted, values.dtype)


def host_isotonic(
    values: np.ndarray, weights: np.ndarray, *, increasing: bool = True
) -> np.ndarray:
    """`isotonic_regression` of checked NumPy arrays, in float64.

    Needs SciPy 1.12.
    """
    by_scipy = scipy_pav()
    assert by_scipy is not None
    values = np.asarray(values, np.float64)
    present = weights > 0
    if present.all():
        uniform = (weights == weights[0]).all()
        heavy = None if uniform else np.asarray(weights, np.float64)
        return by_scipy(values, weights=heavy, increasing=increasing).x
    heavy = np.asarray(weights[present], np.float64)
    fitted = by_scipy(values[present], weights=heavy, increasing=increasing).x
    return fitted[np.maximum(np.cumsum(present) - 1, 0)]


def _check_values(values: Array, weights: Array) -> None:
    if not is_concrete(values, weights):
        return
    host = np.asarray(weights)
    bad = ~(np.isfinite(host) & (host >= 0))
    if bad.any():
        raise ValueError(
            "`weights` must be finite and nonnegative, "
            f"got {host[bad][0]} and {bad.sum()} such of {host.size}"
        )
    if not host.any():
        raise ValueError("`weights` must not all be zero")
    count = int((~np.isfinite(np.asarray(values)) & (host > 0)).sum())
    if count:
        raise ValueError(
            f"`values` must be finite, got {count} that are not; "
            "give a missing row the weight zero"
        )


class _Stack(NamedTuple):
    """Blocks of the rows read so far.

    The last block is held in scalars and the ones before it in arrays; `depth` is its
    place in them, -1 before the first row.
    """

    row: Array
    depth: Array
    mean: Array
    weight: Array
    start: Array
    means: Array
    weights: Array
    starts: Array


def _blocks(values: Array, weights: Array) -> tuple[Array, Array]:
    """The block each row belongs to, and a first value of the mean of each block."""
    n = values.shape[0]
    # Zeros computed from the input, so that inside shard_map they vary over the same
    # devices as what the loop makes of them.
    zeros = values * 0 + weights * 0
    zero, none = zeros[0], zeros[0].astype(jnp.int32)
    places = zeros.astype(jnp.int32)
    first = _Stack(none, none - 1, zero, zero, none, zeros, zeros, places)

    def step(_: Array, stack: _Stack) -> _Stack:
        # Either the last two blocks are merged or the next row is read: n readings and
        # at most n - 1 merges. The number of steps is fixed, and each writes one place
        # and then reads one, so that no step copies an array, under vmap neither.
        at = jnp.maximum(stack.depth, 0)
        means = stack.means.at[at].set(stack.mean)
        masses = stack.weights.at[at].set(stack.weight)
        starts = stack.starts.at[at].set(stack.start)
        before = jnp.maximum(at - 1, 0)
        mean, weight, start = means[before], masses[before], starts[before]
        merge = (stack.depth >= 1) & (mean >= stack.mean)
        place = jnp.minimum(stack.row, n - 1)
        read = ~merge & (stack.row < n)
        push = read & (weights[place] > 0)
        both = weight + stack.weight
        share = stack.weight / jnp.where(both > 0, both, 1)
        merged = mean + share * (stack.mean - mean)

        def choose(if_merge: Array, if_push: Array, otherwise: Array) -> Array:
            return jnp.where(merge, if_merge, jnp.where(push, if_push, otherwise))

        return _Stack(
            row=stack.row + read.astype(jnp.int32),
            depth=choose(before, stack.depth + 1, stack.depth),
            mean=choose(merged, values[place], stack.mean),
            weight=choose(both, weights[place], stack.weight),
            start=choose(start, stack.row, stack.start),
            means=means,
            weights=masses,
            starts=starts,
        )

    # One more step writes the last block back.
    stack = jax.lax.fori_loop(0, 2 * n + 1, step, first)
    used = jnp.arange(n, dtype=jnp.int32) <= stack.depth
    starts = jnp.where(used, stack.starts, n)
    opened = jnp.zeros(n, jnp.int32).at[starts].add(1, mode="drop")
    # Rows without weight before the first block are counted to it.
    return jnp.maximum(jnp.cumsum(opened) - 1, 0), stack.means


def _loop_blocks(values: Array, weights: Array) -> Array:
    return _blocks(values, weights)[0]


@jax.jit(static_argnames=("increasing", "method"))
def pool_adjacent_violators(
    values: Array,
    weights: Array,
    *,
    increasing: bool = True,
    method: str = "sequential",
) -> Array:
    """`isotonic_regression` without the checks."""
    n = values.shape[0]
    present = weights > 0
    legal = jnp.all(jnp.isfinite(weights) & (weights >= 0)) & jnp.any(present)
    legal &= jnp.all(jnp.isfinite(values) | ~present)
    signed = jnp.where(present, values if increasing else -values, 0)
    # Which rows are pooled is decided by means: a common offset must not blur them.
    mass = jnp.sum(weights)
    center = jnp.sum(weights * signed) / jnp.where(mass > 0, mass, 1)
    center = jax.lax.stop_gradient(center)
    signed = jnp.where(present, signed - center, 0)
    held = jax.lax.stop_gradient((signed, weights))
    if method == "sequential":
        block = _loop_blocks(*held)
    elif method == "parallel":
        block = merged_blocks(*held)
    else:
        block = jax.lax.platform_dependent(
            *held, cpu=_loop_blocks, default=merged_blocks
        )
    # The loop only decides which rows are pooled. The means are taken from the rows,
    # and once more about that value: fewer roundings, and a gradient.
    mass = jax.ops.segment_sum(weights, block, n, indices_are_sorted=True)
    mass = jnp.where(mass > 0, mass, 1)
    total = jax.ops.segment_sum(weights * signed, block, n, indices_are_sorted=True)
    means = jax.lax.stop_gradient(total / mass)
    deviation = weights * (signed - means[block])
    total = jax.ops.segment_sum(deviation, block, n, indices_are_sorted=True)
    fitted = means + total / mass
    # Rounding may leave neighbouring blocks of equal mean an ulp out of order.
    fitted = jax.lax.cummax(fitted[block]) + center
    return jnp.where(legal, fitted if increasing else -fitted, jnp.nan)
