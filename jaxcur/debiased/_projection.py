"""Projection on the dummies of any number of groupings, without forming a dummy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import is_concrete
from jaxcur.debiased._prepare import as_ids


class Effects(NamedTuple):
    """Fitted group effects.

    Attributes:
        fitted: (N, k), the sum of a row's effects, of each column.
        converged: scalar bool.
        num_steps: scalar int, steps of conjugate gradients.
    """

    fitted: Array
    converged: Array
    num_steps: Array


def _inverse(sums: Array) -> Array:
    return jnp.where(sums > 0, 1 / jnp.where(sums > 0, sums, 1), 0)


def fitted_effects(
    totals: Array,
    weight: Array,
    ids: tuple[Array, ...],
    sizes: tuple[int, ...],
    max_steps: Array | int,
) -> Effects:
    """Solve  D'U D g = D' totals  for every column and return D g.

    D holds the dummies of all groupings and U = diag(weight). With `totals` = U v this
    is the projection of v on the span of D in the metric U; rows in groups that have no
    weight get 0.

    The grouping listed first is eliminated exactly: alone it is a matter of means.
    What remains, on the coefficients of the others, is solved by conjugate gradients
    scaled by the diagonal. Its eigenvalues are 1 minus squared correlations between
    groupings, so that rows which connect the groups well need few steps. The system is
    singular, because the groupings share the constant, yet consistent, and the fitted
    values are unique.

    Args:
        totals: (N, k).
        weight: (N,), nonnegative.
        ids: one int array (N,) per grouping, in 0..size-1; the largest grouping first.
        sizes: number of groups of each (static).
        max_steps: most steps.
    """
    by_group = [_summer(i, size) for i, size in zip(ids, sizes, strict=True)]
    scales = [_inverse(total(weight[:, None])) for total in by_group]
    first = ids[0]
    dtype = totals.dtype
    double = jnp.finfo(dtype).eps < 1e-10
    target, promise = (1e-13, 1e-10) if double else (1e-7, 1e-5)
    # In the metric U; the columns themselves, so that one which lies in the first
    # grouping is not iterated on for its rounding errors.
    inverse = _inverse(weight)[:, None]
    norms = jnp.sqrt(jnp.sum(totals * totals * inverse, axis=0))

    def without_first(values: Array) -> Array:
        means = by_group[0](values) * scales[0]
        return values - weight[:, None] * means[first]

    def spread(parts: list[Array]) -> Array:
        out = jnp.zeros_like(totals)
        for own, part in zip(ids[1:], parts, strict=True):
            out = out + part[own]
        return out

    def collect(values: Array) -> list[Array]:
        return [total(values) for total in by_group[1:]]

    def size(residual: list[Array]) -> Array:
        terms = [jnp.sum(r * r * s, 0) for r, s in zip(residual, scales[1:])]
        return sum(terms, jnp.zeros_like(norms))

    def solve(values: Array) -> tuple[Array, Array]:
        """Effects of the other groupings for the given totals, and the steps taken."""
        residual = collect(without_first(values))
        solution = [jnp.zeros_like(r) for r in residual]
        step = [r * s for r, s in zip(residual, scales[1:])]
        start = (solution, residual, step, size(residual), jnp.zeros((), jnp.int32))

        def unfinished(state: tuple) -> Array:
            return jnp.any(jnp.sqrt(state[3]) > target * norms) & (state[4] < max_steps)

        def advance(state: tuple) -> tuple:
            solution, residual, step, square, count = state
            moved = collect(without_first(weight[:, None] * spread(step)))
            curvature = sum(
                (jnp.sum(d * m, 0) for d, m in zip(step, moved)), jnp.zeros_like(norms)
            )
            active = (curvature > 0) & (jnp.sqrt(square) > target * norms)
            length = jnp.where(active, square / jnp.where(active, curvature, 1), 0)
            solution = [x + length * d for x, d in zip(solution, step)]
            residual = [r - length * m for r, m in zip(residual, moved)]
            after = jnp.where(active, size(residual), square)
            # A direction without curvature lies in the null space: nothing is left.
            after = jnp.where(curvature > 0, after, 0)
            ratio = jnp.where(active, after / jnp.where(active, square, 1), 0)
            step = [r * s + ratio * d for r, s, d in zip(residual, scales[1:], step)]
            return solution, residual, step, after, count + 1

        solution, _, _, _, count = jax.lax.while_loop(unfinished, advance, start)
        return spread(solution), count

    def once(values: Array) -> tuple[Array, Array]:
        if len(ids) == 1:
            return (by_group[0](values) * scales[0])[first], jnp.zeros((), jnp.int32)
        others, count = solve(values)
        means = by_group[0](values - weight[:, None] * others) * scales[0]
        return others + means[first], count

    fitted, count = once(totals)
    # The same again on what is left takes back what rounding cost the first time.
    more, extra = once(totals - weight[:, None] * fitted)
    fitted = fitted + more
    left = totals - weight[:, None] * fitted
    squares = sum(
        (jnp.sum(t * t * s, 0) for t, s in zip((f(left) for f in by_group), scales)),
        jnp.zeros_like(norms),
    )
    converged = jnp.all(jnp.sqrt(squares) <= promise * norms)
    return Effects(fitted, converged, count + extra)


def _summer(ids: Array, size: int) -> Callable[[Array], Array]:
    return lambda values: jax.ops.segment_sum(values, ids, num_segments=size)


def keep_repeated(
    present: Array, ids: tuple[Array, ...], sizes: tuple[int, ...]
) -> Array:
    """Drop rows that are alone in a group until none is, (N,) bool.

    Args:
        present: (N,), bool, the rows to start from.
        ids: as in `fitted_effects`.
        sizes: as in `fitted_effects`.
    """

    def alone(kept: Array) -> Array:
        single = jnp.zeros_like(kept)
        for own, size in zip(ids, sizes, strict=True):
            counts = jax.ops.segment_sum(kept.astype(jnp.int32), own, num_segments=size)
            single = single | (counts[own] == 1)
        return single & kept

    return jax.lax.while_loop(
        lambda kept: jnp.any(alone(kept)), lambda kept: kept & ~alone(kept), present
    )


def count_effects(
    present: Array, ids: tuple[Array, ...], sizes: tuple[int, ...]
) -> Array:
    """Number of groups in use less one for every grouping after the first."""
    counts = [
        jnp.sum(jax.ops.segment_max(present.astype(jnp.int32), own, size) > 0)
        for own, size in zip(ids, sizes, strict=True)
    ]
    return sum(counts[1:], counts[0]) - (len(ids) - 1)


def as_groupings(
    groups: Any, n: int
) -> tuple[tuple[Array, ...], tuple[int, ...], Array]:
    """Compact ids with the largest grouping first, their counts, and legality."""
    array = groups if isinstance(groups, jax.Array) else np.asarray(groups)
    if array.ndim not in (1, 2) or array.shape[0] != n or 0 in array.shape[1:]:
        raise ValueError(
            f"`groups` must have shape ({n},) or ({n}, ways), got {array.shape}"
        )
    array = array.reshape(n, -1)
    is_legal = jnp.ones((), bool)
    if not is_concrete(array):
        is_legal = jnp.all((array >= 0) & (array < n))
    ways = [as_ids("groups", array[:, w], n) for w in range(array.shape[1])]
    ways.sort(key=lambda way: -way[1])
    return tuple(way[0] for way in ways), tuple(way[1] for way in ways), is_legal
