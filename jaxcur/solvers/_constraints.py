"""Linear constraints with kinks, their certificate, and the exact polish of a point."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.solvers._l1_quadratic import stationarity
from jaxcur.solvers._proximal_newton import SmoothModel, proximal_newton

# Rounds of multipliers; each makes the constraints about a thousand times as exact.
_NUM_ROUNDS = 8


class Constraints(NamedTuple):
    """A x - M |E x| >= margin, row by row, with M >= 0.

    Attributes:
        value: maps parameters (q,) to A x, (c,).
        pull: maps multipliers (c,) to A'nu, (q,).
        gram: maps weights (c,) to A' diag(w) A, (q, q). Used where there are no kinks.
        margin: scalar or (c,).
        present: (c,), False where a constraint does not count.
        kinks: E, (r, q), or None.
        cone: M, (c, r), or None.
    """

    value: Callable[[Array], Array]
    pull: Callable[[Array], Array]
    gram: Callable[[Array], Array]
    margin: Array
    present: Array
    kinks: Array | None = None
    cone: Array | None = None

    def slack(self, x: Array) -> Array:
        """Distance to the boundary, without the margin; infinite where absent."""
        value = self.value(x)
        if self.kinks is not None and self.cone is not None:
            value = value - self.cone @ jnp.abs(self.kinks @ x)
        return jnp.where(self.present, value, jnp.inf)


class Multipliers(NamedTuple):
    """Of the constraints, (c,), and of the rows of E x, (r,) or None."""

    nu: Array
    lean: Array | None


class Certified(NamedTuple):
    """A point, the part of the gradient due to multipliers, and the residual.

    `residual` is the largest of the smallest subgradient with those multipliers, of
    their products with slacks, and of the violation of the constraints.
    """

    x: Array
    tilt: Array
    residual: Array
    multipliers: Multipliers


class Bounds(NamedTuple):
    """Absolute values of the coordinates: (q,) each, `positive` also None."""

    penalties: Array
    free: Array
    positive: Array | None


def certify(
    model: SmoothModel,
    constraints: Constraints,
    bounds: Bounds,
    x: Array,
    multipliers: Multipliers,
) -> Certified:
    """How far a point with multipliers is from optimal."""
    nu = jnp.where(constraints.present, jnp.maximum(multipliers.nu, 0), 0)
    tilt, loose = -constraints.pull(nu), jnp.zeros((), x.dtype)
    kinks, cone, lean = constraints.kinks, constraints.cone, multipliers.lean
    if kinks is not None and cone is not None and lean is not None:
        height = nu @ cone
        lean = jnp.clip(lean, -height, height)
        tilt = tilt + lean @ kinks
        bends = kinks @ x
        loose = jnp.max(height * jnp.abs(bends) - lean * bends, initial=0)
    gradient = model.gradient(model.predict(x), x)
    penalties, free, positive = bounds
    slope = stationarity(gradient + tilt, x, penalties, free, positive)
    distance = constraints.slack(x) - constraints.margin
    distance = jnp.where(constraints.present, distance, 0)
    parts = [jnp.max(jnp.abs(slope)), loose, jnp.max(nu * jnp.abs(distance))]
    parts.append(jnp.max(-distance))
    return Certified(x, tilt, jnp.max(jnp.stack(parts)), Multipliers(nu, lean))


class _Round(NamedTuple):
    best: Certified
    x: Array
    multipliers: Multipliers
    signs: Array | None
    last_step: Array
    num_steps: Array
    count: Array
    idle: Array


class Face(NamedTuple):
    """The constraints where E x has given signs; zeros are tied to zero.

    Attributes:
        linear: maps parameters (q,) to the slacks on the face, (c,).
        pull: its transpose.
        gram: maps weights (c,) to linear' diag(w) linear, (q, q).
        tied: (r, q), rows of E that are zero on the face, other rows zero; or None.
    """

    linear: Callable[[Array], Array]
    pull: Callable[[Array], Array]
    gram: Callable[[Array], Array]
    tied: Array | None


def on_face(constraints: Constraints, signs: Array | None) -> Face:
    """The constraints with the signs (r,) of E x; 0 ties a row."""
    kinks, cone = constraints.kinks, constraints.cone
    if kinks is None or cone is None or signs is None:
        return Face(constraints.value, constraints.pull, constraints.gram, None)
    count = constraints.present.size
    rows = jax.vmap(constraints.pull)(jnp.eye(count, dtype=kinks.dtype))
    rows = rows - (cone * signs) @ kinks
    return Face(
        lambda x: rows @ x,
        lambda nu: nu @ rows,
        lambda weights: (rows.T * weights) @ rows,
        jnp.where(signs[:, None] == 0, kinks, 0),
    )


def polish(
    model: SmoothModel,
    constraints: Constraints,
    bounds: Bounds,
    start: Certified,
    multipliers: Multipliers,
    fused: Array | None,
    last_step: Array,
    *,
    tolerance: Array,
    max_steps: int,
    skip: Array,
) -> tuple[Certified, Array, Array]:
    """The method of multipliers from a good point; zeros become exact.

    `fused` (r,) says which rows of E x are zero; the signs of the others are taken from
    the point, and both are corrected from round to round. Returns the best point found,
    the last step and the number of steps.
    """
    dtype = start.x.dtype
    penalties, free, positive = bounds
    kinks, cone, present = constraints.kinks, constraints.cone, constraints.present
    stiffness = 1e4 if jnp.finfo(dtype).bits == 64 else 3e2

    def pressure(face: Face, nu: Array, x: Array) -> Array:
        """The next multipliers."""
        push = nu - stiffness * (face.linear(x) - constraints.margin)
        return jnp.where(present, jnp.maximum(push, 0), 0)

    def augmented(face: Face, multipliers: Multipliers) -> SmoothModel:
        nu, lean = multipliers

        def value(eta: Array, x: Array) -> Array:
            total = model.value(eta, x)
            total = total + jnp.sum(pressure(face, nu, x) ** 2) / (2 * stiffness)
            if face.tied is not None and lean is not None:
                gap = face.tied @ x
                total = total + lean @ gap + stiffness * (gap @ gap) / 2
            return total

        def gradient(eta: Array, x: Array) -> Array:
            slope = model.gradient(eta, x) - face.pull(pressure(face, nu, x))
            if face.tied is not None and lean is not None:
                slope = slope + (lean + stiffness * (face.tied @ x)) @ face.tied
            return slope

        def hessian(eta: Array, x: Array) -> Array:
            pushes = jnp.where(pressure(face, nu, x) > 0, stiffness, 0)
            matrix = model.hessian(eta, x) + face.gram(pushes.astype(dtype))
            if face.tied is not None:
                matrix = matrix + stiffness * face.tied.T @ face.tied
            return matrix

        return SmoothModel(model.predict, value, gradient, hessian, model.limit)

    def step(state: _Round) -> _Round:
        face = on_face(constraints, state.signs)
        found = proximal_newton(
            augmented(face, state.multipliers),
            state.x,
            penalties,
            free,
            tolerance=0.3 * tolerance,
            max_steps=max_steps,
            positive=positive,
        )
        x = found.solution
        nu, lean = state.multipliers
        nu = pressure(face, nu, x)
        shown, signs = lean, state.signs
        if (
            kinks is not None
            and cone is not None
            and face.tied is not None
            and lean is not None
            and signs is not None
        ):
            lean = lean + stiffness * (face.tied @ x)
            height = nu @ cone
            shown = jnp.where(signs == 0, lean, signs * height)
            # Too strong a pull frees a tied row; a change of sign ties a free one.
            freed = jnp.where(jnp.abs(lean) > 1.001 * height, jnp.sign(lean), 0)
            same = jnp.where(jnp.sign(kinks @ x) == signs, signs, 0)
            signs = jnp.where(signs == 0, freed, same)
        reached = certify(model, constraints, bounds, x, Multipliers(nu, shown))
        better = reached.residual < state.best.residual
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), reached, state.best
        )
        return _Round(
            best,
            x,
            Multipliers(nu, lean),
            signs,
            jnp.where(better | (state.count == 0), found.last_step, state.last_step),
            state.num_steps + found.num_steps,
            state.count + 1,
            jnp.where(better, 0, state.idle + 1),
        )

    def proceed(state: _Round) -> Array:
        # One round in any case: its last step tells a run to infinity.
        wanted = (state.best.residual > tolerance) | (state.count == 0)
        return wanted & ~skip & (state.count < _NUM_ROUNDS) & (state.idle < 3)

    zero = jnp.zeros((), jnp.int32)
    signs = None
    if kinks is not None and fused is not None:
        signs = jnp.where(fused, 0, jnp.sign(kinks @ start.x))
    state = _Round(start, start.x, multipliers, signs, last_step, zero, zero, zero)
    state = jax.lax.while_loop(proceed, step, state)
    return state.best, state.last_step, state.num_steps
