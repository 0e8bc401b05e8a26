"""Derivatives of a solution, by the implicit function theorem.

At a solution the optimality conditions hold, in the coordinates in which the objective
is smooth and with the constraints that bind as equations. Their derivative is a linear
system for the change of the solution; zeros, and which constraints bind, stay.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.ordinal import _penalise
from jaxcur.ordinal._crossing import Limits, constraints_of
from jaxcur.ordinal._design import linear_predictor
from jaxcur.ordinal._model import Rows, Setting, Terms, loss_gradient, loss_hessian
from jaxcur.solvers import Constraints, Multipliers, on_face

# Stiffness of the equations, and rounds that make them exact.
_STIFFNESS = 1e3
_NUM_ROUNDS = 4


class Inputs(NamedTuple):
    """What a solution depends on."""

    columns: Array
    share: Array
    weights: Array
    ratio: Array
    regularization: Array
    limits: Limits | None


class Point(NamedTuple):
    """A solution, the coordinates that may move, the response, the multipliers."""

    theta: Array
    mask: Array
    y: Array
    multipliers: Multipliers | None


def _built(setting: Setting, point: Point, inputs: Inputs) -> Constraints:
    assert inputs.limits is not None
    rows = Rows(inputs.columns, point.y, inputs.share)
    zero = jnp.zeros((), point.theta.dtype)
    return constraints_of(setting, rows, inputs.limits, zero)


def _binding(built: Constraints, point: Point) -> tuple[Array, Array | None]:
    """Which constraints bind, and signs of E theta; 0 ties a row.

    Of a multiplier and its slack one is far the smaller.
    """
    assert point.multipliers is not None
    nu, lean = point.multipliers
    binds = nu > built.slack(point.theta)
    if built.cone is None or built.kinks is None or lean is None:
        return binds, None
    height = jnp.where(binds, nu, 0) @ built.cone
    inside = jnp.abs(lean) < (1 - 1e-6) * height
    bends = jnp.sign(built.kinks @ point.theta)
    leaning = jnp.where(inside, 0, jnp.sign(lean))
    return binds, jnp.where(height > 0, leaning, bends)


def implicit_change(
    setting: Setting, point: Point, inputs: Inputs, changes: Inputs
) -> Array:
    """Change of theta (q,) for changes of the inputs; linear in them."""
    theta, mask, y, multipliers = point
    terms = Terms(inputs.weights, mask, inputs.ratio)
    strength = inputs.regularization
    penalties, groups = _penalise.at_strength(setting, terms, strength)
    active = _penalise.active_set(setting, penalties, groups, theta, mask)
    binds, signs = None, None
    if multipliers is not None:
        binds, signs = _binding(_built(setting, point, inputs), point)

    def conditions(inputs: Inputs) -> tuple[Array, Array]:
        """Gradient on the smooth coordinates, and slacks of the constraints."""
        rows = Rows(inputs.columns, y, inputs.share)
        eta = linear_predictor(inputs.columns, theta, setting.map)[0]
        slope = loss_gradient(setting, rows, eta)
        ridge = inputs.regularization * (1 - inputs.ratio) * inputs.weights
        terms = Terms(inputs.weights, mask, inputs.ratio)
        factors = _penalise.at_strength(setting, terms, inputs.regularization)
        slope = slope + ridge * theta + _penalise.slope(*factors, theta)
        if multipliers is None:
            return slope, jnp.zeros(0, theta.dtype)
        face = on_face(_built(setting, point, inputs), signs)
        return slope - face.pull(multipliers.nu), face.linear(theta)

    _, (bent, opened) = jax.jvp(conditions, (inputs,), (changes,))
    rows = Rows(inputs.columns, y, inputs.share)
    eta = linear_predictor(inputs.columns, theta, setting.map)[0]
    ridge = strength * (1 - inputs.ratio) * inputs.weights
    hessian = loss_hessian(setting, rows, eta, expected=False) + jnp.diag(ridge)
    if groups is not None:
        hessian = hessian + _penalise.curvature(groups, theta)
    both = active[:, None] & active[None, :]
    diagonal = jnp.diagonal(hessian)
    jitter = 10 * theta.size * jnp.finfo(theta.dtype).eps * diagonal
    jitter = jnp.where(active & (diagonal > 0), jitter, 1)
    right = jnp.where(active, -bent, 0)
    if binds is None:
        matrix = jnp.where(both, hessian, 0) + jnp.diag(jitter)
        factor = jax.lax.stop_gradient(jnp.linalg.cholesky(matrix))
        return jax.scipy.linalg.cho_solve((factor, True), right)
    face = on_face(_built(setting, point, inputs), signs)
    stiff = jnp.where(binds, _STIFFNESS, 0).astype(theta.dtype)
    matrix = hessian + face.gram(stiff)
    if face.tied is not None:
        matrix = matrix + _STIFFNESS * face.tied.T @ face.tied
    matrix = jnp.where(both, matrix, 0) + jnp.diag(jitter)
    factor = jax.lax.stop_gradient(jnp.linalg.cholesky(matrix))
    change = jnp.zeros_like(right)
    push, hold = jnp.zeros_like(opened), jnp.zeros_like(right)
    # The method of multipliers for the equations: slacks of zero stay zero.
    for _ in range(_NUM_ROUNDS):
        force = face.pull(push - stiff * opened) + hold
        force = jnp.where(active, right + force, 0)
        change = jax.scipy.linalg.cho_solve((factor, True), force)
        push = push - stiff * (face.linear(change) + opened)
        if face.tied is not None:
            hold = hold - _STIFFNESS * (face.tied @ change) @ face.tied
    return change
