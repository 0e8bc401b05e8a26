"""Exact assignment: shortest augmenting paths."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import as_float, check_rank, is_concrete


class _Matching(NamedTuple):
    u: Array
    v: Array
    row_of: Array


class _Search(NamedTuple):
    row: Array
    reached: Array
    distance: Array
    parent: Array
    done: Array
    sink: Array


def _augment(cost: Array, matching: _Matching, start: Array) -> _Matching:
    """Match one more row along the shortest path of reduced costs."""
    m = cost.shape[1]
    dtype = cost.dtype
    u, v, row_of = matching

    def step(state: _Search) -> _Search:
        reduced = cost[state.row] - u[state.row] - v + state.reached
        closer = ~state.done & (reduced < state.distance)
        distance = jnp.where(closer, reduced, state.distance)
        parent = jnp.where(closer, state.row, state.parent)
        open_distance = jnp.where(state.done, jnp.inf, distance)
        nearest = jnp.min(open_distance)
        # Among ties a free column ends the search.
        tied = open_distance == nearest
        free = tied & (row_of < 0)
        column = jnp.where(jnp.any(free), jnp.argmax(free), jnp.argmax(tied))
        column = column.astype(jnp.int32)
        ends = row_of[column] < 0
        return _Search(
            row=jnp.where(ends, state.row, row_of[column]),
            reached=nearest,
            distance=distance,
            parent=parent,
            done=state.done.at[column].set(True),
            sink=jnp.where(ends, column, -1).astype(jnp.int32),
        )

    search = jax.lax.while_loop(
        lambda s: (s.sink < 0) & ~jnp.all(s.done),
        step,
        _Search(
            row=start,
            reached=jnp.zeros((), dtype),
            distance=jnp.full(m, jnp.inf, dtype),
            parent=jnp.full(m, -1, jnp.int32),
            done=jnp.zeros(m, bool),
            sink=jnp.asarray(-1, jnp.int32),
        ),
    )
    # Potentials: what was settled moves by how much nearer than the end it was.
    slack = jnp.where(search.done, search.reached - search.distance, 0)
    owners = jnp.where(search.done & (row_of >= 0), row_of, u.shape[0])
    u = u.at[owners].add(slack, mode="drop").at[start].add(search.reached)
    v = v - slack

    def shift(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        column, column_of, row_of = state
        row = search.parent[column]
        before = column_of[row]
        return before, column_of.at[row].set(column), row_of.at[column].set(row)

    # Columns of rows, from rows of columns.
    places = jnp.where(row_of >= 0, row_of, u.shape[0])
    columns = jnp.arange(m, dtype=jnp.int32)
    column_of = jnp.full(u.shape[0], -1, jnp.int32)
    column_of = column_of.at[places].set(columns, mode="drop")
    _, _, row_of = jax.lax.while_loop(
        lambda state: state[0] >= 0, shift, (search.sink, column_of, row_of)
    )
    return _Matching(u, v, row_of)


@jax.jit
def _solve(cost: Array) -> Array:
    """Column of each row, for at most as many rows as columns."""
    n, m = cost.shape
    # The v of the first rows: column minima leave fewer conflicts when square.
    v = jnp.min(cost, axis=0) if n == m else jnp.zeros(m, cost.dtype)
    start = _Matching(jnp.zeros(n, cost.dtype), v, jnp.full(m, -1, jnp.int32))
    rows = jnp.arange(n, dtype=jnp.int32)
    matching, _ = jax.lax.scan(
        lambda state, row: (_augment(cost, state, row), None), start, rows
    )
    places = jnp.where(matching.row_of >= 0, matching.row_of, n)
    columns = jnp.arange(m, dtype=jnp.int32)
    return jnp.full(n, -1, jnp.int32).at[places].set(columns, mode="drop")


def _on_host(cost: Array) -> Array:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(np.asarray(cost))
    found = np.full(cost.shape[0], -1, np.int32)
    found[rows] = columns
    return jnp.asarray(found)


def assignment(
    cost: Real[ArrayLike, "n m"], *, method: str = "auto"
) -> tuple[Int[Array, " n"], Float[Array, ""]]:
    """Each row gets a column of its own, at the least sum of costs.

    Guarantee: optimal up to rounding of sums in the dtype of `cost`. Verified by: SciPy
    in tests/unit/ot/test_assignment.py.

    Args:
        cost: shape (n, m), finite. With more rows than columns some rows stay without.
        method: "auto" uses SciPy on the host where the costs are concrete and the JAX
            loop under tracing; "jax" and "host" force one. Static.

    Returns:
        (row_to_col, value): shape (n,), int32, -1 for a row without a column; and the
        sum of the chosen costs. Under tracing a cost that is not finite gives -1
        everywhere and NaN.

    Raises:
        ValueError: wrong shape, empty, concrete costs that are not finite, "host" under
            tracing.

    Transformations: jit, vmap; grad of the value.
    Cost: O(n^2 m) at worst; about half a second for n = m = 1000 in JAX.

    Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and
    sparse linear assignment problems", 1987; Crouse 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> ot.assignment(jnp.array([[4.0, 1.0], [2.0, 0.0]]))
        (Array([1, 0], dtype=int32), Array(3., dtype=float32))
    """
    (array,) = as_float(cost=cost)
    check_rank("cost", array, 2, "(n, m)")
    if 0 in array.shape:
        raise ValueError(f"`cost` must not be empty, got shape {array.shape}")
    if method not in ("auto", "jax", "host"):
        raise ValueError(
            f"`method` must be one of 'auto', 'jax', 'host', got {method!r}"
        )
    concrete = is_concrete(array)
    if method == "host" and not concrete:
        raise ValueError("`method` must not be 'host' under tracing")
    if concrete and not np.isfinite(np.asarray(array)).all():
        raise ValueError("`cost` must be finite")
    if concrete and method != "jax":
        return _value(array, _on_host(array))
    fixed = jax.lax.stop_gradient(array)
    legal = jnp.all(jnp.isfinite(fixed))
    fixed = jnp.where(legal, fixed, 0)
    n, m = array.shape
    if n <= m:
        columns = _solve(fixed)
    else:
        rows = _solve(fixed.T)
        columns = jnp.full(n, -1, jnp.int32)
        columns = columns.at[rows].set(jnp.arange(m, dtype=jnp.int32))
    columns = jnp.where(legal, columns, -1)
    columns, value = _value(array, columns)
    return columns, jnp.where(legal, value, jnp.nan)


def _value(cost: Array, columns: Array) -> tuple[Any, Any]:
    chosen = jnp.take_along_axis(cost, jnp.maximum(columns, 0)[:, None], axis=1)[:, 0]
    return columns, jnp.sum(jnp.where(columns >= 0, chosen, 0))
