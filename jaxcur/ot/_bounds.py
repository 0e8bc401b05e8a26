"""An interval that must hold the unregularised cost, from any potentials."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.ot._costs import HIGHEST, GivenMatrix
from jaxcur.ot._inputs import Problem
from jaxcur.ot._plans import layout_of, problem_of, scaled_potentials
from jaxcur.ot._potentials import geometry_of
from jaxcur.ot._sinkhorn import SinkhornResult
from jaxcur.ot._stream import Geometry, Layout, log_gibbs, scores, stream, swap

# Ulps of the largest cost by which rounding may displace a bound: products of d terms
# and sums of n add in blocks, so that a few dozen is generous.
_ROUNDING = 32


def c_transform(geometry: Geometry, potential: Array, layout: Layout) -> Array:
    """min_j C_ij - potential_j, (n,)."""

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        columns, bias, cost = shared
        terms = scores(cost, geometry.swapped, rows, columns) + bias
        return (), -jnp.max(terms, axis=1)

    bias = potential - geometry.v
    shared = (geometry.columns, bias, geometry.cost)
    return geometry.u + stream(body, geometry.rows, (), shared, layout)[1]


def _upper(
    problem: Problem,
    geometry: Geometry,
    phi: Array,
    psi: Array,
    layout: Layout,
) -> Array:
    """Cost of the plan rounded to its marginals."""
    a, b = problem.a, problem.b

    def kernel_of(side: Any, phi: Array, common: Any) -> Array:
        columns, psi, b, epsilon, cost = common
        logs = log_gibbs(cost, False, side, columns, phi, psi, epsilon)
        # Each row relative to its largest entry, so that none overflows.
        logs = logs - jnp.max(logs, axis=1, keepdims=True)
        return jnp.exp(logs) * b

    def scaled_row(side: Any, phi: Array, weights: Array, common: Any) -> Array:
        kernel = kernel_of(side, phi, common)
        sums = jnp.sum(kernel, axis=1)
        # Rows are made exact: any plan may be rounded, and this one is nearest.
        return kernel * (weights / jnp.where(sums > 0, sums, 1))[:, None]

    common = (geometry.columns, psi, b, problem.epsilon, problem.cost)

    def columns_body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi = rows
        return jnp.sum(scaled_row(side, phi, weights, shared), axis=0), ()

    rows = (geometry.rows, phi)
    columns = stream(columns_body, rows, a, common, layout)[0]
    shrink = jnp.where(columns > b, b / jnp.where(columns > 0, columns, 1), 1)
    lacking_b = jnp.maximum(b - shrink * columns, 0)

    def cost_body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        common, shrink, lacking_b = shared
        side, phi = rows
        kernel = scaled_row(side, phi, weights, common) * shrink
        costs = common[-1].panel(side, common[0])
        lacking_a = jnp.maximum(weights - jnp.sum(kernel, axis=1), 0)
        to_lacking = jnp.matmul(costs, lacking_b, precision=HIGHEST)
        kept = jnp.sum(kernel * costs)
        return (kept, jnp.sum(lacking_a * to_lacking)), ()

    shared = (common, shrink, lacking_b)
    (kept, moved), _ = stream(cost_body, rows, a, shared, layout)
    lacking = jnp.sum(lacking_b)
    return kept + jnp.where(lacking > 0, moved / jnp.where(lacking > 0, lacking, 1), 0)


def certified_bounds(
    result: SinkhornResult,
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Lower and upper bound of the unregularised optimal transport cost.

    Upper: the plan of the potentials is scaled to its rows, then down to its columns,
    and what is lacking is added as a rank-one plan: it is feasible. Lower: potentials
    made feasible by two hard c-transforms, f = min_j C_ij - g_j, then g from f.

    Guarantee: lower <= min over plans of <P, C> <= upper, whether the iteration has
    converged or not; the gap is of order epsilon log n at convergence. Rounding is
    allowed for with 32 ulps of the largest cost. Verified by: exact assignments in
    tests/unit/ot/test_bounds.py.

    Args:
        result: of a balanced `sinkhorn` or `sinkhorn_matrix`.
        x: shape (n, d), the points, or the cost matrix of `sinkhorn_matrix`.
        y: shape (m, d); None with a cost matrix.

    Returns:
        (lower, upper), scalars. NaN where the result holds NaN.

    Raises:
        ValueError: an unbalanced result, points that are not those of the result.

    Transformations: jit, vmap. Constants for a derivative: `jax.grad` gives 0.
    Cost: four passes.

    Source: Altschuler, Weed and Rigollet, "Near-linear time approximation algorithms
    for optimal transport via Sinkhorn iteration", 2017, algorithm 2 (rounding).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[0.0], [2.0]]), jnp.array([[1.0], [3.0]])
        >>> result = ot.sinkhorn(x, y, epsilon=0.1)
        >>> [round(float(bound), 2) for bound in ot.certified_bounds(result, x, y)]
        [1.0, 1.0]
    """
    if result.rho_a is not None or result.rho_b is not None:
        raise ValueError("`result` must be balanced: no rho_a and no rho_b")
    problem = problem_of(result, x, y)
    geometry = geometry_of(problem)
    layout = layout_of(result)
    phi, psi = scaled_potentials(result, geometry)
    # Points without weight take no part: their potentials are no constraint.
    g = jnp.where(problem.b > 0, result.g, -jnp.inf)
    f = c_transform(geometry, g, layout)
    g = c_transform(swap(geometry), jnp.where(problem.a > 0, f, -jnp.inf), layout)
    lower = _inner(problem.a, f) + _inner(problem.b, g)
    upper = _upper(problem, geometry, phi, psi, layout)
    scale = jnp.max(jnp.abs(jnp.where(problem.a > 0, f, 0)))
    scale = scale + jnp.max(jnp.abs(jnp.where(problem.b > 0, g, 0)))
    scale = scale + jnp.max(jnp.where(problem.a > 0, geometry.u, 0))
    scale = scale + jnp.max(jnp.where(problem.b > 0, geometry.v, 0))
    if isinstance(problem.cost, GivenMatrix):
        scale = scale + jnp.max(jnp.abs(problem.x))
    slack = _ROUNDING * float(jnp.finfo(lower.dtype).eps) * scale
    return jax.lax.stop_gradient((lower - slack, upper + slack))


def _inner(weights: Array, potential: Array) -> Array:
    return jnp.sum(jnp.where(weights > 0, weights * potential, 0))
