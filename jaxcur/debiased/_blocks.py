"""Rows in the two roles they play, and sums over them a block at a time."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# A block of 4096 rows and ten columns stays in the cache of one core.
_BLOCK = 4096


class Rows(NamedTuple):
    """All rows with their predicted records.

    Attributes:
        record: pytree with leading axis N, the record with predicted entries.
        weight: shape (N,), analysis weight; 0 for a row that is not there.
        prob: shape (N,), sampling probability.
        excess: shape (N,), (R - prob) / mean prob of the stratum: mean zero when the
            number of labels is fixed by the design.
        strata: shape (N,), int.
        clusters: one int array (N,) per term of the clustered variance.
    """

    record: Any
    weight: Array
    prob: Array
    excess: Array
    strata: Array
    clusters: tuple[Array, ...]


class LabeledRows(NamedTuple):
    """The labelled rows, or all rows with weight 0 where there is no label.

    Attributes:
        observed: pytree with leading axis L, finite everywhere.
        predicted: pytree with leading axis L.
        weight: shape (L,), analysis weight; 0 for a row without label.
        prob: shape (L,), sampling probability.
        strata: shape (L,), int.
        clusters: one int array (L,) per term of the clustered variance.
    """

    observed: Any
    predicted: Any
    weight: Array
    prob: Array
    strata: Array
    clusters: tuple[Array, ...]


def sum_over_blocks(
    function: Callable[[Any], Any],
    rows: Any,
    combine: Callable[[Array, Array], Array] = jnp.add,
) -> Any:
    """Sum `function` over blocks of rows; equal to `function(rows)` up to rounding.

    `function` maps a pytree of rows to a pytree of sums (or maxima, with the matching
    `combine`). Blocks keep what lies between the rows and their sums in the cache, and
    memory at that of the rows themselves.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    if n <= 2 * _BLOCK:
        return function(rows)
    count, rest = divmod(n, _BLOCK)

    def block(start: Any, size: int) -> Any:
        return function(
            jax.tree.map(
                lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), rows
            )
        )

    def step(i: Array, total: Any) -> Any:
        return jax.tree.map(combine, total, block(i * _BLOCK, _BLOCK))

    total = block(0, _BLOCK)
    total = jax.lax.fori_loop(1, count, step, total)
    if rest:
        total = jax.tree.map(combine, total, block(count * _BLOCK, rest))
    return total
