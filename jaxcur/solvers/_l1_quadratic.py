"""Exact minimiser of a convex quadratic plus weighted absolute values."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

# Shares of a step that are tried with sign changes cut off.
_BENT = (1.0, 0.5, 0.25, 0.125)


class L1QuadraticResult(NamedTuple):
    """Where the active-set iteration ended.

    Attributes:
        solution: shape (q,); zeros are exact.
        residual: scalar, largest violation of the optimality conditions.
        num_steps: scalar int, linear systems solved.
    """

    solution: Float[Array, " q"]
    residual: Float[Array, ""]
    num_steps: Int[Array, ""]


class _State(NamedTuple):
    x: Array
    gradient: Array
    residual: Array
    greedy: Array
    num_steps: Array
    stuck: Array


def stationarity(
    gradient: Float[Array, " q"],
    x: Float[Array, " q"],
    penalties: Float[Array, " q"],
    free: Bool[Array, " q"],
    positive: Bool[Array, " q"] | None = None,
) -> Float[Array, " q"]:
    """Smallest subgradient of  f(x) + sum_j penalties_j |x_j|, by coordinate.

    `gradient` is that of f. The subgradient is zero exactly at a minimiser of a convex
    f; coordinates that are not `free` are held at zero and count as zero, those that
    are `positive` may not go below it.

    Verified by: comparison with the definition in the unit tests.

    Transformations: jit, vmap, grad (away from the kinks).
    Cost: O(q).
    Source: the optimality conditions of the lasso.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import solvers
        >>> g = jnp.array([-1.0, 0.5, 3.0])
        >>> x = jnp.array([2.0, 0.0, 0.0])
        >>> solvers.stationarity(g, x, jnp.ones(3), jnp.ones(3, bool))
        Array([0., 0., 2.], dtype=float32)
    """
    at_zero = jnp.sign(gradient) * jnp.maximum(jnp.abs(gradient) - penalties, 0)
    if positive is not None:
        inward = jnp.minimum(gradient + penalties, 0)
        at_zero = jnp.where(positive, inward, at_zero)
    moved = gradient + penalties * jnp.sign(x)
    return jnp.where(free, jnp.where(x == 0, at_zero, moved), 0)


def l1_quadratic(
    gradient: Float[Array, " q"],
    hessian: Float[Array, "q q"],
    start: Float[Array, " q"],
    penalties: Float[Array, " q"],
    free: Bool[Array, " q"],
    *,
    tolerance: Float[Array, ""] | float,
    max_steps: int = 500,
    positive: Bool[Array, " q"] | None = None,
) -> L1QuadraticResult:
    """Minimise  g'(x - s) + (x - s)'H (x - s)/2 + sum_j penalties_j |x_j|.

    Signs are guessed, the linear system of the coordinates that are not zero is solved,
    and the point moves along the segment to the best of its sign changes. Every step
    lowers the objective, and with the signs of the solution one more step gives it to
    rounding: no step size, no rate that depends on conditioning. All violating zeros
    enter at once; where that does not lower the objective, one at a time
    (feature-sign search).

    Guarantee: `residual` bounds the distance of the returned point's subgradient from
    zero in the largest coordinate. Verified by: brute force over signs, unit tests.

    Args:
        gradient: shape (q,), of the smooth part at `start`.
        hessian: shape (q, q), positive definite on the free coordinates.
        start: shape (q,); zeros outside `free`.
        penalties: shape (q,), at least 0.
        free: shape (q,); False holds a coordinate at zero.
        tolerance: stop at this residual.
        max_steps: largest number of linear systems. Static.
        positive: shape (q,); True keeps a coordinate at or above zero, where it starts.

    Transformations: jit, vmap.
    Cost: one Cholesky factorisation of a (q, q) matrix per step.
    Source: Lee, Battle, Raina and Ng, "Efficient sparse coding algorithms", 2006.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import solvers
        >>> g, h = jnp.array([-3.0, 0.5]), jnp.eye(2)
        >>> zero, one = jnp.zeros(2), jnp.ones(2)
        >>> solvers.l1_quadratic(g, h, zero, one, one > 0, tolerance=1e-6).solution
        Array([2., 0.], dtype=float32)
    """
    tiny = jnp.finfo(hessian.dtype).tiny
    # Coordinates at which the objective has a kink, or a wall, at zero.
    bent_at_zero = penalties > 0
    if positive is not None:
        bent_at_zero = bent_at_zero | positive

    def residual_at(x: Array, slope: Array) -> Array:
        return jnp.max(jnp.abs(stationarity(slope, x, penalties, free, positive)))

    def step(state: _State) -> _State:
        x, slope = state.x, state.gradient
        violation = stationarity(slope, x, penalties, free, positive)
        inside = free & ((x != 0) | ~bent_at_zero)
        size = jnp.where(inside, 0, jnp.abs(violation))
        # One at a time: first settle the coordinates already in, then the worst zero.
        settled = jnp.max(jnp.where(inside, jnp.abs(violation), 0)) <= tolerance
        worst = (jnp.arange(x.size) == jnp.argmax(size)) & settled
        entering = (size > 0) & (state.greedy | worst)
        active = inside | entering
        right = jnp.where(active, violation, 0)
        both = active[:, None] & active[None, :]
        matrix = jnp.where(both, hessian, 0) + jnp.diag(jnp.where(active, 0.0, 1.0))
        factor = jnp.linalg.cholesky(matrix)
        direction = -jax.scipy.linalg.cho_solve((factor, True), right)
        direction = jnp.where(active, direction, 0)
        along = hessian @ direction
        curvature = direction @ along
        # Sign changes on the way, the full step, and the minimiser of the first piece.
        crosses = (x * direction < 0) & bent_at_zero
        ratio = jnp.where(crosses, -x / jnp.where(crosses, direction, 1), 1)
        kinks = jnp.where(x == 0, jnp.abs(direction), jnp.sign(x) * direction)
        descent = slope @ direction + penalties @ kinks
        first = jnp.clip(-descent / jnp.maximum(curvature, tiny), 0, 1)
        sizes = jnp.concatenate(
            [jnp.ones(1, x.dtype), jnp.minimum(ratio, 1), first[None]]
        )
        straight = x + sizes[:, None] * direction
        sizes_bent = jnp.asarray(_BENT, x.dtype)
        # The same with every coordinate that changes sign, or enters with the wrong
        # one, put to zero: many leave at once.
        sign = jnp.where(entering, -jnp.sign(violation), jnp.sign(x))
        bent = x + sizes_bent[:, None] * direction
        bent = jnp.where(bent_at_zero & (bent * sign <= 0), 0, bent)
        bent_change = bent - x
        bent_slope = bent_change @ hessian
        values = jnp.concatenate(
            [
                sizes * (slope @ direction) + sizes**2 * curvature / 2,
                bent_change @ slope + jnp.sum(bent_slope * bent_change, axis=1) / 2,
            ]
        )
        points = jnp.concatenate([straight, bent])
        values = values + (jnp.abs(points) - jnp.abs(x)) @ penalties
        values = jnp.where(jnp.isfinite(values), values, jnp.inf)
        if positive is not None:
            # Straight steps end at the first wall.
            wall = jnp.where(positive & crosses, ratio, jnp.inf)
            wall = jnp.where(positive & (x == 0) & (direction < 0), 0, wall)
            walled = jnp.arange(values.size) < sizes.size
            sized = jnp.pad(sizes, (0, values.size - sizes.size))
            values = jnp.where(walled & (sized > jnp.min(wall)), jnp.inf, values)
        best = jnp.argmin(values)
        moved = points[best]
        reached = jnp.where(best < sizes.size, ratio == sizes[best % sizes.size], False)
        moved = jnp.where(crosses & reached & (ratio < 1), 0, moved)
        if positive is not None:
            moved = jnp.where(positive, jnp.maximum(moved, 0), moved)
        slope_moved = slope + hessian @ (moved - x)
        residual = residual_at(moved, slope_moved)
        # Near the solution the decrease drowns in rounding: the residual decides.
        better = (values[best] < 0) | (residual < state.residual)
        return _State(
            jnp.where(better, moved, x),
            jnp.where(better, slope_moved, slope),
            jnp.where(better, residual, state.residual),
            better,
            state.num_steps + 1,
            ~better & ~state.greedy,
        )

    def proceed(state: _State) -> Array:
        running = (state.residual > tolerance) & (state.num_steps < max_steps)
        return running & ~state.stuck

    residual = residual_at(start, gradient)
    state = _State(
        start,
        gradient,
        residual,
        jnp.ones_like(residual, bool),
        jnp.zeros_like(residual, jnp.int32),
        jnp.zeros_like(residual, bool),
    )
    state = jax.lax.while_loop(proceed, step, state)
    return L1QuadraticResult(state.x, state.residual, state.num_steps)
