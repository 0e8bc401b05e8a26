"""Smooth convex minimisation in few or many unknowns, by damped Newton steps."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.calibration._calibrator import DIVERGING, INVALID, MAX_STEPS, OK

# Unknowns up to which the Hessian is formed and factorised.
_DENSE = 160
_NUM_HALVINGS = 30
# A last Newton step longer than this share of the solution means that there is no
# finite one: with separated classes each step adds a constant to the solution.
_RUNAWAY = 5e-3


class Minimum(NamedTuple):
    """Where the iteration ended.

    Attributes:
        solution: shape (d,).
        value: scalar.
        gradient_norm: scalar, largest entry of the gradient at the solution.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int.
    """

    solution: Array
    value: Array
    gradient_norm: Array
    status: Array
    num_steps: Array


class _State(NamedTuple):
    theta: Array
    value: Array
    gradient: Array
    step: Array
    num_steps: Array
    done: Array


def _dense_direction(product, gradient, scale):
    hessian = jax.vmap(product)(jnp.eye(gradient.size, dtype=gradient.dtype))
    eps = jnp.finfo(gradient.dtype).eps
    diagonal = jnp.maximum(jnp.diagonal(hessian), eps * eps)
    shrink = 1 / jnp.sqrt(diagonal)
    unit = hessian * shrink[:, None] * shrink[None, :]
    # A trace of the diagonal keeps the factorisation defined where unknowns are
    # collinear. It changes steps, not solutions.
    unit = unit + 10 * gradient.size * eps * jnp.eye(gradient.size, dtype=unit.dtype)
    factor = jnp.linalg.cholesky((unit + unit.T) / 2)
    right = (shrink * gradient)[:, None]
    return -shrink * jax.scipy.linalg.cho_solve((factor, True), right)[:, 0]


def _iterative_direction(product, gradient, scale):
    """Conjugate gradients, preconditioned by the diagonal `scale` of the Hessian."""
    eps = jnp.finfo(gradient.dtype).eps
    scale = jnp.maximum(scale, eps * jnp.max(scale)) + eps * eps
    size = jnp.sqrt(jnp.sum(gradient * gradient / scale))
    # Sharper near the solution, for the fast convergence of Newton's method.
    goal = size * jnp.clip(jnp.sqrt(size), 1e-4, 0.3)

    def proceed(state):
        _, residual, _, inner, count = state
        return (count < 250) & (jnp.sqrt(inner) > goal)

    def step(state):
        x, residual, along, inner, count = state
        image = product(along) + eps * scale * along
        length = inner / jnp.maximum(jnp.sum(along * image), eps * eps * eps)
        x, residual = x + length * along, residual - length * image
        shrunk = residual / scale
        new = jnp.sum(residual * shrunk)
        along = shrunk + new / jnp.where(inner > 0, inner, 1) * along
        return x, residual, along, new, count + 1

    start = -gradient
    shrunk = start / scale
    state = (gradient * 0, start, shrunk, jnp.sum(start * shrunk), 0)
    return jax.lax.while_loop(proceed, step, state)[0]


def minimise(
    function: Callable[[Array], Array],
    start: Array,
    *,
    scale: Callable[[Array], Array] | None = None,
    max_steps: int = 100,
) -> Minimum:
    """Minimise a smooth convex function.

    Args:
        function: (d,) to scalar, of order 1 (a mean loss).
        start: shape (d,).
        scale: the diagonal of the Hessian at a point, which conditions the iterative
            solves; needed above 160 unknowns only.
        max_steps: largest number of Newton steps.

    Returns:
        The minimum. The gradient is the certificate: it vanishes at the optimum of a
        convex function and nowhere else.
    """
    dtype = start.dtype
    eps = jnp.finfo(dtype).eps
    slope = jax.value_and_grad(function)
    dense = start.size <= _DENSE or scale is None

    def proceed(state: _State) -> Array:
        return ~state.done & (state.num_steps < max_steps)

    def step(state: _State) -> _State:
        theta, value, gradient = state.theta, state.value, state.gradient

        def product(vector: Array) -> Array:
            return jax.jvp(jax.grad(function), (theta,), (vector,))[1]

        solve = _dense_direction if dense else _iterative_direction
        diagonal = theta if scale is None or dense else scale(theta)
        direction = solve(product, gradient, diagonal)
        usable = jnp.all(jnp.isfinite(direction))
        direction = jnp.where(usable, direction, -gradient)
        decrease = jnp.sum(gradient * direction)
        # A step shorter than rounding can see is right, and the last, since it
        # squares the error.
        last = -decrease <= 4 * eps * jnp.maximum(jnp.abs(value), 1e-3)

        def too_long(trial):
            size, count = trial
            new = function(theta + size * direction)
            enough = new <= value + 1e-4 * size * decrease + 2 * eps * jnp.abs(value)
            return ~enough & (count < _NUM_HALVINGS) & ~last

        def halve(trial):
            return trial[0] / 2, trial[1] + 1

        one = jnp.ones((), dtype)
        size, count = jax.lax.while_loop(too_long, halve, (one, 0))
        stuck = count >= _NUM_HALVINGS
        taken = jnp.where(stuck, 0, size * direction)
        new = theta + taken
        new_value, new_gradient = slope(new)
        return _State(
            new, new_value, new_gradient, direction, state.num_steps + 1, last | stuck
        )

    value, gradient = slope(start)
    first = _State(
        start,
        value,
        gradient,
        start * 0,
        jnp.zeros((), jnp.int32),
        gradient[0] != gradient[0],
    )
    end = jax.lax.while_loop(proceed, step, first)
    norm = jnp.max(jnp.abs(end.gradient))
    size = 1 + jnp.max(jnp.abs(end.theta))
    runaway = jnp.max(jnp.abs(end.step)) > _RUNAWAY * size
    # Float32 gradients of a mean are rounded at about 1e-7.
    small = norm <= (1e-8 if dtype == jnp.float64 else 3e-4)
    status = jnp.where(end.done & small, OK, MAX_STEPS)
    status = jnp.where(small & runaway, DIVERGING, status)
    finite = jnp.isfinite(end.value) & jnp.all(jnp.isfinite(end.theta))
    status = jnp.where(finite, status, INVALID).astype(jnp.int32)
    solution = jnp.where(finite, end.theta, jnp.nan)
    return Minimum(solution, end.value, norm, status, end.num_steps)
