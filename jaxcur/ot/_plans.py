"""What a plan is asked for, without storing it."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float
from jaxcur.ot._costs import HIGHEST, GivenMatrix
from jaxcur.ot._inputs import Problem
from jaxcur.ot._potentials import geometry_of
from jaxcur.ot._sinkhorn import SinkhornResult
from jaxcur.ot._stream import Geometry, Layout, cut_off, gibbs, log_gibbs, stream, swap


def problem_of(result: SinkhornResult, x: Any, y: Any) -> Problem:
    """The problem a result was found for, its points given again."""
    dtype = result.f.dtype
    (left,) = as_float(x=x)
    n, m = result.f.shape[0], result.g.shape[0]
    if isinstance(result.cost, GivenMatrix):
        if y is not None:
            raise ValueError("a result of sinkhorn_matrix takes the cost matrix alone")
        if left.shape != (n, m):
            raise ValueError(f"`x` must be the ({n}, {m}) costs, got {left.shape}")
        right = jnp.zeros((m, 0), dtype)
    else:
        if y is None:
            raise ValueError("`y` must be given: the points the result was found for")
        (right,) = as_float(y=y)
        bad = left.ndim != 2 or right.ndim != 2 or left.shape[1:] != right.shape[1:]
        if bad or left.shape[0] != n or right.shape[0] != m:
            raise ValueError(
                f"`x` and `y` must be the points of the result, of shapes ({n}, d) and "
                f"({m}, d), got {left.shape} and {right.shape}"
            )
    return Problem(
        left.astype(dtype),
        right.astype(dtype),
        result.a,
        result.b,
        result.epsilon,
        result.rho_a,
        result.rho_b,
        result.cost,
    )


def layout_of(result: SinkhornResult) -> Layout:
    """How its rows were cut."""
    return Layout(result.tile, result.mesh)


def scaled_potentials(
    result: SinkhornResult, geometry: Geometry
) -> tuple[Array, Array]:
    """(f - u) / epsilon and (g - v) / epsilon."""
    epsilon = result.epsilon
    return (result.f - geometry.u) / epsilon, (result.g - geometry.v) / epsilon


def transport_cost(
    result: SinkhornResult,
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"] | None = None,
) -> Float[Array, ""]:
    """<P, C>: what the entropic plan costs, the entropy not counted.

    Args:
        result: of `sinkhorn` or `sinkhorn_matrix`.
        x: shape (n, d), the points, or the cost matrix of `sinkhorn_matrix`.
        y: shape (m, d); None with a cost matrix.

    Returns:
        scalar. At least the unregularised optimum for a plan with exact marginals.

    Raises:
        ValueError: points that are not those of the result.

    Transformations: jit, vmap, reverse mode (through f and g, implicitly).
    Cost: one pass.

    Source: `transport_cost` of Cuturi 2013; POT `sinkhorn2`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[0.0]]), jnp.array([[1.0], [3.0]])
        >>> float(ot.transport_cost(ot.sinkhorn(x, y, epsilon=1.0), x, y))
        5.0
    """
    problem = problem_of(result, x, y)
    geometry = geometry_of(problem)
    phi, psi = scaled_potentials(result, geometry)

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi = rows
        columns, psi, b, epsilon, cost = shared
        kernel = gibbs(cost, side, columns, phi, psi, epsilon)
        costs = cost.panel(side, columns)
        sums = jnp.matmul(kernel * costs, b, precision=HIGHEST)
        return jnp.sum(weights * sums), ()

    shared = (geometry.columns, psi, problem.b, problem.epsilon, problem.cost)
    rows = (geometry.rows, phi)
    return stream(body, rows, problem.a, shared, layout_of(result))[0]


def plan(
    result: SinkhornResult,
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"] | None = None,
) -> Float[Array, "n m"]:
    """The plan as a matrix, for small problems.

    Args:
        result: of `sinkhorn` or `sinkhorn_matrix`.
        x: shape (n, d), the points, or the cost matrix of `sinkhorn_matrix`.
        y: shape (m, d); None with a cost matrix.

    Returns:
        shape (n, m), nonnegative; marginals a and b within `result.error`.

    Raises:
        ValueError: points that are not those of the result.

    Transformations: jit, vmap, reverse mode (implicitly).
    Cost: O(n m) memory; `apply_plan` needs none of it.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[0.0]]), jnp.array([[1.0], [3.0]])
        >>> ot.plan(ot.sinkhorn(x, y, epsilon=1.0), x, y)
        Array([[0.5, 0.5]], dtype=float32)
    """
    problem = problem_of(result, x, y)
    geometry = geometry_of(problem)
    phi, psi = scaled_potentials(result, geometry)
    kernel = gibbs(
        problem.cost,
        geometry.rows,
        geometry.columns,
        phi,
        psi,
        problem.epsilon,
    )
    return problem.a[:, None] * kernel * problem.b[None, :]


def _weighted_rows(
    problem: Problem,
    geometry: Geometry,
    potentials: tuple[Array, Array],
    vectors: Array,
    layout: Layout,
) -> Array:
    """Sum_j exp((f_i + g_j - C_ij) / epsilon) vectors_j, (n, k)."""
    phi, psi = potentials

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi = rows
        columns, psi, vectors, epsilon, cost = shared
        logs = log_gibbs(cost, geometry.swapped, side, columns, phi, psi, epsilon)
        return (), jnp.matmul(jnp.exp(cut_off(logs)), vectors, precision=HIGHEST)

    shared = (geometry.columns, psi, vectors, problem.epsilon, problem.cost)
    return stream(body, (geometry.rows, phi), (), shared, layout)[1]


def apply_plan(
    result: SinkhornResult,
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"] | None = None,
    vectors: Real[ArrayLike, "m ..."] | None = None,
    *,
    transpose: bool = False,
) -> Float[Array, "n ..."]:
    """P v, or P' v, without the plan.

    Args:
        result: of `sinkhorn` or `sinkhorn_matrix`.
        x: shape (n, d), the points, or the cost matrix of `sinkhorn_matrix`.
        y: shape (m, d); None with a cost matrix.
        vectors: shape (m,) or (m, k); with `transpose` (n,) or (n, k).
        transpose: apply P'. Static.

    Returns:
        shape (n,) or (n, k); with `transpose` (m,) or (m, k).

    Raises:
        ValueError: points that are not those of the result, vectors of another length.

    Transformations: jit, vmap, reverse mode (implicitly).
    Cost: one pass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[0.0]]), jnp.array([[1.0], [3.0]])
        >>> ot.apply_plan(ot.sinkhorn(x, y, epsilon=1.0), x, y, jnp.array([2.0, 4.0]))
        Array([3.], dtype=float32)
    """
    problem = problem_of(result, x, y)
    geometry = geometry_of(problem)
    potentials = scaled_potentials(result, geometry)
    inner, outer = problem.b, problem.a
    if transpose:
        geometry, potentials = swap(geometry), (potentials[1], potentials[0])
        inner, outer = outer, inner
    if vectors is None:
        raise ValueError("`vectors` must be given")
    (array,) = as_float(vectors=vectors)
    if array.ndim not in (1, 2) or array.shape[0] != inner.shape[0]:
        raise ValueError(
            f"`vectors` must have shape ({inner.shape[0]},) or ({inner.shape[0]}, k), "
            f"got {array.shape}"
        )
    array = array.astype(inner.dtype)
    flat = array.reshape(array.shape[0], -1)
    weighted = inner[:, None] * flat
    sums = _weighted_rows(problem, geometry, potentials, weighted, layout_of(result))
    return (outer[:, None] * sums).reshape(outer.shape[0], *array.shape[1:])


def barycentric_map(
    result: SinkhornResult, x: Real[ArrayLike, "n d"], y: Real[ArrayLike, "m d"]
) -> Float[Array, "n d"]:
    """Where the plan sends each point of x on average: sum_j P_ij y_j / sum_j P_ij.

    Args:
        result: of `sinkhorn`.
        x: shape (n, d).
        y: shape (m, d).

    Returns:
        shape (n, d). A point without weight goes where a small weight there would.

    Raises:
        ValueError: points that are not those of the result.

    Transformations: jit, vmap, reverse mode (implicitly).
    Cost: one pass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[0.0]]), jnp.array([[1.0], [3.0]])
        >>> ot.barycentric_map(ot.sinkhorn(x, y, epsilon=1.0), x, y)
        Array([[2.]], dtype=float32)
    """
    if isinstance(result.cost, GivenMatrix):
        raise ValueError("a result of sinkhorn_matrix has no points to map to")
    problem = problem_of(result, x, y)
    geometry = geometry_of(problem)
    potentials = scaled_potentials(result, geometry)
    # Means of numbers far from 0 are taken about one of them.
    anchor = problem.y[0]
    points = jnp.concatenate(
        [problem.y - anchor, jnp.ones((problem.y.shape[0], 1), problem.y.dtype)], 1
    )
    weighted = problem.b[:, None] * points
    sums = _weighted_rows(problem, geometry, potentials, weighted, layout_of(result))
    return anchor + sums[:, :-1] / sums[:, -1:]
