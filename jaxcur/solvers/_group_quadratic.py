"""Exact minimiser of a convex quadratic plus norms of groups and absolute values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from jaxcur.solvers._l1_quadratic import L1QuadraticResult, stationarity

# Shares of a step that are tried.
_SIZES = tuple(2.0**-i for i in range(12))
_NEWTON_STEPS = 30


class Groups(NamedTuple):
    """Disjoint groups of coordinates, all of one size.

    Attributes:
        index: (num_groups, size), NumPy, the coordinates.
        factors: (num_groups,), factors of the norms, at least 0.
    """

    index: np.ndarray
    factors: Array

    def norm(self, x: Array) -> Array:
        """sum_g factors_g ||x_g||, of (..., q)."""
        return jnp.linalg.norm(x[..., self.index], axis=-1) @ self.factors


class _State(NamedTuple):
    x: Array
    gradient: Array
    residual: Array
    idle: Array
    num_steps: Array


def group_stationarity(
    gradient: Float[Array, " q"],
    x: Float[Array, " q"],
    penalties: Float[Array, " q"],
    free: Bool[Array, " q"],
    groups: Groups,
) -> Float[Array, " q"]:
    """Smallest subgradient of f + sum_j penalties_j |x_j| + sum_g factors_g ||x_g||.

    Verified by: automatic differentiation in the unit tests.

    Transformations: jit, vmap.
    Cost: O(q).
    Source: the optimality conditions of the group lasso.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxcur import solvers
        >>> groups = solvers.Groups(np.array([[0, 1]]), jnp.ones(1))
        >>> g, zero = jnp.array([3.0, 4.0]), jnp.zeros(2)
        >>> solvers.group_stationarity(g, zero, zero, zero == 0, groups)
        Array([2.4, 3.2], dtype=float32)
    """
    single = stationarity(gradient, x, penalties, free)
    slope = jnp.where(free, gradient, 0)[groups.index]
    inside = x[groups.index]
    size = jnp.linalg.norm(inside, axis=1, keepdims=True)
    steep = jnp.linalg.norm(slope, axis=1, keepdims=True)
    factor = groups.factors[:, None]
    excess = jnp.maximum(1 - factor / jnp.where(steep > 0, steep, 1), 0)
    at_zero = jnp.where(steep > 0, slope * excess, 0)
    moved = slope + factor * inside / jnp.where(size > 0, size, 1)
    part = jnp.where(size > 0, moved, at_zero)
    part = jnp.where(free[groups.index], part, 0)
    return single.at[groups.index].set(part)


def _block_minimiser(values: Array, vectors: Array, right: Array, factor: Array):
    """Minimiser of  x'Qx/2 - right'x + factor ||x||, Q = vectors values vectors'.

    It is zero where ||right|| <= factor, else (Q + factor/t)^{-1} right with t = ||x||,
    and t solves  phi(t) = sum_i r_i^2 / (t q_i + factor)^2 = 1,  r in the eigenbasis.
    phi^{-1/2} is concave and increases, so that Newton's method climbs to its value 1
    from t = 0 without passing it.
    """
    r = right @ vectors
    steep = jnp.linalg.norm(right)
    shrinks = factor > 0
    values = jnp.maximum(values, jnp.finfo(values.dtype).tiny)

    def climb(_, t):
        base = jnp.where(shrinks, t * values + factor, 1)
        phi = jnp.sum((r / base) ** 2)
        slope = jnp.sum(r**2 * values / base**3)
        # (1 - phi^{-1/2}) over its derivative, slope phi^{-3/2}.
        step = (jnp.sqrt(phi) - 1) * phi / jnp.where(slope > 0, slope, 1)
        return jnp.maximum(t + jnp.where(slope > 0, step, 0), 0)

    t = jax.lax.fori_loop(0, _NEWTON_STEPS, climb, jnp.zeros_like(steep))
    base = jnp.where(shrinks, t * values + factor, values)
    x = vectors @ (jnp.where(shrinks, t, 1) * r / base)
    return jnp.where((steep <= factor) | (steep == 0), 0, x)


def group_quadratic(
    gradient: Float[Array, " q"],
    hessian: Float[Array, "q q"],
    start: Float[Array, " q"],
    penalties: Float[Array, " q"],
    free: Bool[Array, " q"],
    groups: Groups,
    *,
    tolerance: Float[Array, ""] | float,
    max_steps: int = 200,
) -> L1QuadraticResult:
    """Minimise a quadratic plus sum_j penalties_j |x_j| + sum_g factors_g ||x_g||.

    The quadratic is  g'(x - s) + (x - s)'H (x - s)/2.  Each step is one sweep of exact
    minimisations by coordinate and by group, which lets groups enter and leave, and
    one Newton step in what is not zero, where the norms are smooth, along which the
    best of several sizes is taken. Both only lower the objective; with the zeros of
    the solution convergence is quadratic.

    Guarantee: `residual` bounds the largest coordinate of the smallest subgradient.
    Verified by: the equivalent lasso for groups of one, unit tests.

    Args:
        gradient: shape (q,), of the smooth part at `start`.
        hessian: shape (q, q), positive definite on the free coordinates.
        start: shape (q,); zeros outside `free`.
        penalties: shape (q,), at least 0; zero for coordinates in groups.
        free: shape (q,); False holds a coordinate at zero, or a whole group.
        groups: the groups.
        tolerance: stop at this residual.
        max_steps: largest number of steps. Static.

    Transformations: jit, vmap.
    Cost: per step a factorisation of a (q, q) matrix and q small updates in sequence.
    Source: Qin, Scheinberg and Goldfarb, "Efficient block-coordinate descent algorithms
    for the group lasso", 2013; Newton steps on the active groups.

    Example:
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxcur import solvers
        >>> groups = solvers.Groups(np.array([[0, 1]]), jnp.ones(1))
        >>> g, zero = jnp.array([-3.0, -4.0]), jnp.zeros(2)
        >>> solvers.group_quadratic(
        ...     g, jnp.eye(2), zero, zero, zero == 0, groups, tolerance=1e-6
        ... ).solution
        Array([2.4, 3.2], dtype=float32)
    """
    q, dtype = start.size, hessian.dtype
    index = groups.index
    singles = np.setdiff1d(np.arange(q), index.reshape(-1))
    blocks = hessian[index[:, :, None], index[:, None, :]]
    values, vectors = jnp.linalg.eigh(blocks)
    live = jnp.all(free[index], axis=1)
    diagonal = jnp.diagonal(hessian)
    diagonal = jnp.where(diagonal > 0, diagonal, 1)
    tiny = jnp.finfo(dtype).tiny

    def residual_at(x: Array, slope: Array) -> Array:
        part = group_stationarity(slope, x, penalties, free, groups)
        return jnp.max(jnp.abs(part))

    def slope_at(x: Array) -> Array:
        return gradient + hessian @ (x - start)

    def visit_single(i, carry):
        x, slope = carry
        j = jnp.asarray(singles)[i]
        wish = x[j] - slope[j] / diagonal[j]
        cut = jnp.maximum(jnp.abs(wish) - penalties[j] / diagonal[j], 0)
        new = jnp.where(free[j], jnp.sign(wish) * cut, x[j])
        return x.at[j].set(new), slope + hessian[:, j] * (new - x[j])

    def visit_group(g, carry):
        x, slope = carry
        place = jnp.asarray(index)[g]
        old = x[place]
        right = blocks[g] @ old - slope[place]
        new = _block_minimiser(values[g], vectors[g], right, groups.factors[g])
        new = jnp.where(live[g] & jnp.all(jnp.isfinite(new)), new, old)
        return x.at[place].set(new), slope + hessian[:, place] @ (new - old)

    def newton(x: Array, slope: Array) -> Array:
        """The best point along the Newton step in what is not zero."""
        inside = x[index]
        size = jnp.linalg.norm(inside, axis=1)
        on = (size > 0) & live
        unit = inside / jnp.where(size > 0, size, 1)[:, None]
        active = free & ((x != 0) | (penalties == 0))
        active = active.at[index].set(on[:, None] & free[index])
        right = slope + penalties * jnp.sign(x)
        right = right.at[index].add(groups.factors[:, None] * unit)
        right = jnp.where(active, right, 0)
        bend = jnp.where(on, groups.factors / jnp.where(on, size, 1), 0)
        eye = jnp.eye(index.shape[1], dtype=dtype)
        outer = bend[:, None, None] * (eye - unit[:, :, None] * unit[:, None, :])
        matrix = hessian.at[index[:, :, None], index[:, None, :]].add(outer)
        matrix = jnp.where(active[:, None] & active, matrix, 0)
        matrix = matrix + jnp.diag(jnp.where(active, 0.0, 1.0).astype(dtype))
        factor = jnp.linalg.cholesky(matrix)
        direction = -jax.scipy.linalg.cho_solve((factor, True), right)
        direction = jnp.where(active & jnp.isfinite(direction), direction, 0)
        sizes = jnp.asarray(_SIZES, dtype)[:, None]
        straight = x + sizes * direction
        # The same with single coordinates that change sign put to zero.
        bent = jnp.where((penalties > 0) & (straight * x <= 0), 0, straight)
        points = jnp.concatenate([straight, bent])
        change = points - x
        costs = change @ slope + jnp.sum((change @ hessian) * change, axis=1) / 2
        costs = costs + (jnp.abs(points) - jnp.abs(x)) @ penalties
        costs = costs + groups.norm(points) - groups.norm(x)
        best = jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf))
        moved = points[best]
        # Near the solution the decrease drowns in rounding: the residual decides.
        full = residual_at(straight[0], slope_at(straight[0]))
        here = residual_at(x, slope)
        moved = jnp.where(costs[best] < -tiny, moved, x)
        return jnp.where(full < 0.1 * here, straight[0], moved)

    def step(state: _State) -> _State:
        carry = (state.x, state.gradient)
        if singles.size:
            carry = jax.lax.fori_loop(0, singles.size, visit_single, carry)
        x, _ = jax.lax.fori_loop(0, index.shape[0], visit_group, carry)
        x = newton(x, slope_at(x))
        slope = slope_at(x)
        residual = residual_at(x, slope)
        better = residual < state.residual
        idle = jnp.where(better, 0, state.idle + 1)
        return _State(x, slope, residual, idle, state.num_steps + 1)

    def proceed(state: _State) -> Array:
        running = (state.residual > tolerance) & (state.num_steps < max_steps)
        return running & (state.idle < 20)

    residual = residual_at(start, gradient)
    zero = jnp.zeros_like(residual, jnp.int32)
    state = jax.lax.while_loop(
        proceed, step, _State(start, gradient, residual, zero, zero)
    )
    return L1QuadraticResult(state.x, state.residual, state.num_steps)
