"""Sums that stay accurate in float32 at a million rows, and sums by bin."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import stats

# Rows summed one after another before their totals are: error grows with this number.
_BLOCK = 8192
_SCAN_BLOCK = 1024


def block_cumsum(values: Array) -> Array:
    """Cumulative sums along the last axis, within blocks first.

    The rounding error grows with the length of a block plus the number of blocks, not
    with the number of rows.
    """
    n = values.shape[-1]
    if n <= _SCAN_BLOCK:
        return jnp.cumsum(values, axis=-1)
    pad = [(0, 0)] * (values.ndim - 1) + [(0, -n % _SCAN_BLOCK)]
    blocks = jnp.pad(values, pad).reshape(*values.shape[:-1], -1, _SCAN_BLOCK)
    inner = jnp.cumsum(blocks, axis=-1)
    totals = block_cumsum(inner[..., -1])
    before = jnp.concatenate([jnp.zeros_like(totals[..., :1]), totals[..., :-1]], -1)
    return (inner + before[..., None]).reshape(*values.shape[:-1], -1)[..., :n]


def segment_totals(
    values: Array, index: Array, num_segments: int, block: int | None = None
) -> Array:
    """Sum of the values of each segment, (num_segments,).

    Args:
        values: shape (n,).
        index: shape (n,), the segment of each row.
        num_segments: static.
        block: rows added one after another; static.
    """
    n = values.shape[0]
    if block is None:
        # A table of partial sums larger than the rows themselves would cost more.
        block = max(_BLOCK, 4 * num_segments)
    if n <= block:
        return jax.ops.segment_sum(values, index, num_segments)
    num_blocks = -(-n // block)
    part = jnp.arange(n, dtype=jnp.int32) // block
    totals = jax.ops.segment_sum(
        values, part * num_segments + index, num_blocks * num_segments
    )
    return jnp.sum(totals.reshape(num_blocks, num_segments), axis=0)


def safe_sqrt(value: Array) -> Array:
    """Square root of max(value, 0), with gradient 0 where it is 0; NaN stays."""
    positive = value > 0
    root = jnp.sqrt(jnp.where(positive, value, 1))
    return jnp.where(positive, root, jnp.where(jnp.isnan(value), value, 0))


def ratio(numerator: Array, denominator: Array) -> Array:
    """Numerator / denominator, 0 where the denominator is 0."""
    present = denominator != 0
    return jnp.where(present, numerator / jnp.where(present, denominator, 1), 0)


def total_weight(w: Array | None, f: Array) -> Array:
    """Sum of the weights, the number of rows where there are none."""
    return jnp.asarray(f.shape[0], f.dtype) if w is None else jnp.sum(w)


def weighted(values: Array, w: Array | None) -> Array:
    """Values * weights."""
    return values if w is None else values * w


def mean(values: Array, w: Array | None) -> Array:
    """Weighted mean; rows of weight 0 do not count, whatever they hold."""
    if w is None:
        return jnp.mean(values)
    return jnp.sum(jnp.where(w == 0, 0, values * w)) / jnp.sum(w)


def sort_by_forecast(f: Array, *columns: Array) -> tuple[Array, ...]:
    """Rows in ascending order of f; differentiable in all of them."""
    order = stats.argsort(jax.lax.stop_gradient(f))
    return tuple(column[order] for column in (f, *columns))


def sort_hard(f: Array, y: Array) -> tuple[Array, Array]:
    """Forecasts in [0, 1] and outcomes 0 or 1 in ascending order: one integer sort.

    The bits of a number in [0, 1] leave the last place of an integer free for the
    outcome, so that no index has to be carried along.
    """
    keys = stats.order_keys(f)
    packed = jax.lax.sort(2 * keys + y.astype(keys.dtype), is_stable=False)
    forecasts = jax.lax.bitcast_convert_type(packed >> 1, f.dtype)
    return forecasts, (packed & 1).astype(f.dtype)


def ends_of_ties(sorted_values: Array) -> Array:
    """True at the last row of each run of equal values."""
    last = jnp.ones(1, bool)
    return jnp.concatenate([sorted_values[1:] != sorted_values[:-1], last])


def decayed_sums(values: Array, decay: Array) -> Array:
    """a_i = values_i + decay_i a_(i-1) along the last axis, with decay in [0, 1].

    Blocks are run side by side and joined after: square root of n steps in a row.

    Args:
        values: shape (..., n).
        decay: shape (n,).
    """
    n = values.shape[-1]
    size = max(int(n**0.5), 1)
    pad = -n % size
    a = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, pad)])
    d = jnp.pad(decay, (0, pad), constant_values=1)
    # The step runs along the first axis, blocks lie side by side on the last one.
    a = jnp.moveaxis(a.reshape(*values.shape[:-1], -1, size), -1, 0)
    d = d.reshape(-1, size).T

    def within(carry: tuple, row: tuple) -> tuple:
        left, sums = carry
        wide = row[0].reshape(*(1,) * (sums.ndim - 1), -1)
        here = row[0] * left, wide * sums + row[1]
        return here, here

    one = jnp.ones_like(d[0])
    last, inner = jax.lax.scan(within, (one, jnp.zeros_like(a[0])), (d, a))

    def across(carry: Array, row: tuple) -> tuple:
        return row[0] * carry + row[1], carry

    ends = last[0], jnp.moveaxis(last[1], -1, 0)
    _, before = jax.lax.scan(across, jnp.zeros_like(ends[1][0]), ends)
    # inner[0] has shape (size, blocks) and before (blocks, ...).
    left = inner[0].reshape(size, *(1,) * (values.ndim - 1), -1)
    sums = inner[1] + left * jnp.moveaxis(before, 0, -1)[None]
    sums = jnp.moveaxis(sums, 0, -1)
    return sums.reshape(*values.shape[:-1], -1)[..., :n]
