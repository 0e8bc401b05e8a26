"""Nonnegative least squares in a few unknowns."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class _State(NamedTuple):
    solution: Array
    passive: Array
    num_steps: Array
    done: Array


def nonnegative_least_squares(
    columns: Array, target: Array, weights: Array, *, sum_to_one: bool = False
) -> Array:
    """The x >= 0 that minimises  sum_i w_i (target_i - columns_i'x)^2.

    The active-set method of Lawson and Hanson (1974) on the triangular factor, which
    has only p + 1 rows. With `sum_to_one` the solution is also held to  1'x = 1.

    Args:
        columns: shape (n, p).
        target: shape (n,).
        weights: shape (n,), nonnegative.
        sum_to_one: whether the solution sums to one. Static.

    Returns:
        shape (p,). NaN where an input is not finite.
    """
    root = jnp.sqrt(weights)
    joined = jnp.concatenate([columns, target[:, None]], axis=1) * root[:, None]
    factor = _triangle(joined)
    matrix, right = factor[:, :-1], factor[:, -1]
    if sum_to_one:
        # On the simplex the residual is (R - r 1')x, which is homogeneous in x. For
        # z = t x the least of  |(R - r 1')z|^2 + s^2 (1'z - 1)^2  over t is an
        # increasing function of the least residual, so z is x up to scale. s is the
        # scale of the matrix and matters only to rounding.
        matrix = matrix - right[:, None]
        scale = jnp.max(jnp.sqrt(jnp.sum(matrix * matrix, axis=0)))
        scale = jnp.where(scale > 0, scale, 1)
        row = jnp.full((1, matrix.shape[1]), 1, matrix.dtype) * scale
        matrix = jnp.concatenate([matrix, row])
        right = jnp.concatenate([jnp.zeros_like(right), scale[None]])
    found = _lawson_hanson(matrix, right)
    return found / jnp.sum(found) if sum_to_one else found


def _triangle(joined: Array) -> Array:
    n, width = joined.shape
    if n <= width:
        return joined
    return jnp.linalg.qr(joined, mode="r")


def _lawson_hanson(matrix: Array, right: Array) -> Array:
    p = matrix.shape[1]
    dtype = matrix.dtype
    epsilon = jnp.finfo(dtype).eps
    sizes = jnp.sqrt(jnp.sum(matrix * matrix, axis=0))
    # Unit columns: a gradient is then a length, and one tolerance serves all of them.
    safe = jnp.where(sizes > 0, sizes, 1)
    unit = matrix / safe[None, :]
    noise = 8 * (p + 1) * epsilon * jnp.sqrt(jnp.sum(right * right))

    def step(state: _State) -> _State:
        active = jnp.where(state.passive[None, :], unit, 0)
        # Columns of zeros get the coefficient 0, collinear ones share.
        trial = jnp.linalg.lstsq(active, right[:, None])[0][:, 0]
        trial = jnp.where(state.passive, trial, 0)
        negative = state.passive & (trial <= 0)
        gap = state.solution - trial
        lengths = state.solution / jnp.where(gap > 0, gap, 1)
        length = jnp.min(jnp.where(negative, jnp.where(gap > 0, lengths, 0), jnp.inf))
        blocked = jnp.any(negative)
        # On the way to the trial point: stop where the first unknown reaches zero.
        length = jnp.where(blocked, length, 1)
        moved = jnp.maximum(state.solution - length * gap, 0)
        moved = jnp.where(blocked, moved, trial)
        kept = state.passive & (moved > 0) & ~(negative & (lengths <= length))
        moved = jnp.where(blocked & ~kept, 0, moved)

        residual = right - jnp.sum(unit * moved[None, :], axis=1)
        gradient = jnp.sum(unit * residual[:, None], axis=0)
        wanted = ~state.passive & (gradient > noise)
        best = jnp.argmax(jnp.where(wanted, gradient, -jnp.inf))
        grown = state.passive | (wanted & (jnp.arange(p) == best))
        # The unknown taken in last moves upwards, except by rounding: no length to go
        # means that the gradient was noise.
        done = jnp.where(blocked, length <= 0, ~jnp.any(wanted))
        return _State(
            solution=moved,
            passive=jnp.where(blocked, kept, grown),
            num_steps=state.num_steps + 1,
            done=done | ~jnp.all(jnp.isfinite(moved)),
        )

    def proceed(state: _State) -> Array:
        return ~state.done & (state.num_steps < 10 * (p + 1))

    zero = unit[0] * 0 + right[0] * 0
    start = _State(
        solution=zero,
        passive=zero > 1,
        num_steps=zero[0].astype(jnp.int32),
        done=zero[0] > 1,
    )
    found = jax.lax.while_loop(proceed, step, start).solution / safe
    legal = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(right))
    return jnp.where(legal, found, jnp.nan)
