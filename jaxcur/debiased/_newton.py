"""Damped Newton iteration on summed moments, as pure steps.

The same steps run inside a compiled loop and over the chunks of a file.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Equation(NamedTuple):
    """Summed moments at one theta.

    Attributes:
        value: (q,).
        jacobian: (q, p).
        scale: (q,), root of the sum of squares of the moments.
    """

    value: Array
    jacobian: Array
    scale: Array


class NewtonState(NamedTuple):
    """Where the iteration stands.

    Attributes:
        theta: (p,), best point so far.
        equation: at `theta`.
        gain: (p, q), `influence` there.
        step: (p,), the full Newton step from there.
        damping: scalar in (0, 1], share of the next step.
        num_steps: scalar int, evaluations so far.
        converged: scalar bool.
        failed: scalar bool; no further step can help.
    """

    theta: Array
    equation: Equation
    gain: Array
    step: Array
    damping: Array
    num_steps: Array
    converged: Array
    failed: Array


def influence(jacobian: Array, metric: Array | None) -> Array:
    """H (p, q): theta moves by H times a change of the summed moments.

    Rows and columns are brought to size one first, so that units do not matter; a
    singular equation gives NaN, not large numbers.
    """
    q, p = jacobian.shape
    if q != p:
        if metric is None:
            raise ValueError("an over-identified equation needs a metric")
        weighted = jacobian.T @ metric
        return -jnp.matmul(_inverse(weighted @ jacobian), weighted)
    return -_inverse(jacobian)


def _equilibrated(matrix: Array) -> tuple[Array, Array, Array]:
    """S with entries of size one, and r, c with  matrix = r S c'."""
    rows = jnp.max(jnp.abs(matrix), axis=1, keepdims=True)
    rows = jnp.where(rows > 0, rows, 1)
    columns = jnp.max(jnp.abs(matrix / rows), axis=0, keepdims=True)
    columns = jnp.where(columns > 0, columns, 1)
    return matrix / rows / columns, rows, columns


def _inverse(matrix: Array) -> Array:
    scaled, rows, columns = _equilibrated(matrix)
    inverse = jnp.linalg.inv(scaled)
    condition = _row_norm(scaled) * _row_norm(inverse)
    regular = condition < 1 / (8 * matrix.shape[0] * jnp.finfo(matrix.dtype).eps)
    return jnp.where(regular, inverse, jnp.nan) / columns.T / rows.T


def _row_norm(matrix: Array) -> Array:
    return jnp.max(jnp.sum(jnp.abs(matrix), axis=1))


def condition_number(matrix: Array, inverse: Array) -> Array:
    """Condition number in the row-sum norm, units of rows and columns taken out."""
    scaled, rows, columns = _equilibrated(matrix)
    return _row_norm(scaled) * _row_norm(inverse * columns.T * rows.T)


def direction(equation: Equation, metric: Array | None) -> Array:
    """The Newton step (p,)."""
    return influence(equation.jacobian, metric) @ equation.value


def newton_init(theta: Array, equation: Equation, metric: Array | None) -> NewtonState:
    """State at a starting point with the equation evaluated there."""
    gain = influence(equation.jacobian, metric)
    return NewtonState(
        theta=theta,
        equation=equation,
        gain=gain,
        step=gain @ equation.value,
        damping=jnp.ones((), theta.dtype),
        num_steps=jnp.zeros((), jnp.int32),
        converged=jnp.zeros((), bool),
        failed=~jnp.all(jnp.isfinite(equation.value)),
    )


def newton_propose(state: NewtonState) -> Array:
    """The point to evaluate next."""
    return state.theta + state.damping * state.step


def newton_update(
    state: NewtonState,
    proposal: Array,
    equation: Equation,
    metric: Array | None,
    num_rows: Array,
    reference: Array,
) -> NewtonState:
    """Accept or reject the proposal, and decide whether to go on.

    Converged: the next full step is below 1e-6 (float32: 1e-5) of the standard
    deviation of one row's influence, per coordinate; the caller takes it, and what
    then remains is of the order of its square. Failed: the step has been halved
    to nothing, or the Jacobian has lost all but 1e-6 of its size at the start in some
    direction, which is how a separated logit or a diverging pseudo-likelihood shows.

    Args:
        state: before.
        proposal: (p,), from `newton_propose`.
        equation: at the proposal.
        metric: (q, q) for over-identified equations.
        num_rows: scalar, number of rows.
        reference: (q, p), the Jacobian that counts as full size.
    """
    eps = jnp.finfo(proposal.dtype).eps
    # Deuflhard's natural test: has the step that remains become shorter, measured with
    # the Jacobian of before? It does not depend on the units of moments or parameters.
    remaining = state.gain @ equation.value
    unit = _spread(state.gain, state.equation)
    floor = 16 * eps * (jnp.abs(state.theta) + jnp.sqrt(num_rows) * unit)
    size = jnp.abs(state.step) + unit
    size = jnp.where(size > 0, size, 1)
    before = jnp.sum((state.step / size) ** 2)
    after = jnp.sum((remaining / size) ** 2)
    # Near the root both are rounding noise: an equal step is no reason to stop.
    better = (after < before) | jnp.all(jnp.abs(remaining) <= floor)
    better &= jnp.all(jnp.isfinite(equation.value)) & jnp.all(jnp.isfinite(proposal))
    theta = jnp.where(better, proposal, state.theta)
    equation = jax.tree.map(
        lambda new, old: jnp.where(better, new, old), equation, state.equation
    )
    damping = jnp.where(better, jnp.minimum(2 * state.damping, 1), state.damping / 4)

    gain = influence(equation.jacobian, metric)
    step = gain @ equation.value
    spread = _spread(gain, equation)
    rtol = 1e-6 if eps < 1e-10 else 1e-5
    floor = 16 * eps * (jnp.abs(theta) + jnp.sqrt(num_rows) * spread)
    small = jnp.abs(step) <= rtol * jnp.sqrt(num_rows) * spread + floor
    converged = jnp.all(small) & jnp.all(jnp.isfinite(theta))
    vanished = _has_vanished(gain, reference)
    # Nothing left to gain: the damped steps no longer lower the residual.
    exhausted = damping < 1e-6
    failed = exhausted | vanished | ~jnp.all(jnp.isfinite(step))
    return NewtonState(
        theta=theta,
        equation=equation,
        gain=gain,
        step=step,
        damping=damping.astype(proposal.dtype),
        num_steps=state.num_steps + 1,
        converged=converged & ~vanished,
        failed=failed & ~(converged & ~vanished),
    )


def _spread(gain: Array, equation: Equation) -> Array:
    """Root of the summed squares of the rows' influences, per parameter."""
    return jnp.sqrt((gain * gain) @ (equation.scale * equation.scale))


def _has_vanished(gain: Array, reference: Array) -> Array:
    """Whether the Jacobian has become tiny in a direction where it was not."""
    if reference.shape[0] != reference.shape[1]:
        return jnp.zeros((), bool)
    # J^-1 J_0 is large where J is small against J_0, whatever the units.
    return ~(_row_norm(jnp.matmul(gain, reference)) < 1e6)


def newton(
    evaluate: Callable[[Array], Equation],
    theta: Array,
    *,
    metric: Array | None,
    num_rows: Array,
    max_steps: int,
) -> NewtonState:
    """Iterate from `theta` until converged, failed or out of steps."""
    start = newton_init(theta, evaluate(theta), metric)
    reference = start.equation.jacobian

    def unfinished(state: NewtonState) -> Array:
        return ~state.converged & ~state.failed & (state.num_steps < max_steps)

    def step(state: NewtonState) -> NewtonState:
        proposal = newton_propose(state)
        return newton_update(
            state, proposal, evaluate(proposal), metric, num_rows, reference
        )

    return jax.lax.while_loop(unfinished, step, start)
