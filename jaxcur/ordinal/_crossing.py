"""Boundaries kept from crossing: at the rows, or in a box of features.

With d_k = beta_k - beta_{k-1} the boundaries k-1 and k keep their order in the box of
centre c and half-widths h exactly where

    alpha_k - alpha_{k-1} + c'd_k - sum_j h_j |d_kj| >= 0.

Constraints hold with a margin that covers rounding, in the conversion to the original
scale and in every product of a row with the coefficients.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.ordinal._design import (
    Standardised,
    block_gradient,
    block_hessian,
    linear_predictor,
)
from jaxcur.ordinal._families import pairs
from jaxcur.ordinal._model import Rows, Setting, null_start
from jaxcur.ordinal._penalise import nonnegative
from jaxcur.solvers import (
    Constraints,
    Multipliers,
    ProximalNewtonResult,
    SmoothModel,
    interior_point,
    stationarity,
)


class Limits(NamedTuple):
    """Where the boundaries may not cross, and how large numbers are there.

    Attributes:
        lower: (p,), lower ends of the box, standardised.
        upper: (p,).
        reach: (p,), largest |x| plus the mean, original scale.
        scale: (p,), of the standardisation.
    """

    lower: Array
    upper: Array
    reach: Array
    scale: Array


class Constrained(NamedTuple):
    """A fit, and what its constraints add to the gradient."""

    found: ProximalNewtonResult
    tilt: Array
    multipliers: Multipliers


def column_ranges(features: Array, weights: Array) -> tuple[Array, Array]:
    """Smallest and largest value of each column over rows of positive weight."""
    present = (weights > 0)[:, None]
    lower = jnp.min(jnp.where(present, features, jnp.inf), axis=0)
    return lower, jnp.max(jnp.where(present, features, -jnp.inf), axis=0)


def make_limits(
    features: Array,
    weights: Array,
    scaled: Standardised,
    box: tuple[Array, Array] | None,
) -> Limits:
    """Standardised box; the ranges of the columns where none is given."""
    lower, upper = column_ranges(features, weights) if box is None else box
    reach = jnp.maximum(jnp.abs(lower), jnp.abs(upper)) + jnp.abs(scaled.mean)
    return Limits(
        (lower - scaled.mean) / scaled.scale,
        (upper - scaled.mean) / scaled.scale,
        reach,
        scaled.scale,
    )


def _margin(setting: Setting, limits: Limits, theta: Array) -> Array:
    """Bound on the rounding error of a difference of two predictors."""
    m, num_blocks = setting.map.shape
    psi = theta[m:].reshape(num_blocks, -1)
    beta = jnp.asarray(setting.map, theta.dtype) @ psi / limits.scale
    size = jnp.max(jnp.abs(theta[:m])) + jnp.max(jnp.abs(beta) @ limits.reach)
    return 2 * (limits.scale.size + 3) * jnp.finfo(theta.dtype).eps * size


def _differences(setting: Setting) -> np.ndarray:
    """(m-1, L), the blocks that make up beta_k - beta_{k-1}."""
    return np.diff(setting.map, axis=0)


def _box(setting: Setting, limits: Limits, margin: Array) -> Constraints:
    dtype = limits.lower.dtype
    m, p = setting.num_classes - 1, limits.lower.size
    blocks = _differences(setting)
    centre, half = (limits.lower + limits.upper) / 2, (limits.upper - limits.lower) / 2
    order = np.eye(m)[1:] - np.eye(m)[:-1]
    part = jnp.asarray(blocks, dtype)[:, :, None] * centre
    matrix = jnp.concatenate([jnp.asarray(order, dtype), part.reshape(m - 1, -1)], 1)
    kinks = np.pad(np.kron(blocks, np.eye(p)), ((0, 0), (m, 0)))
    cone = jnp.kron(jnp.eye(m - 1, dtype=dtype), half[None, :])
    cone = cone * jnp.asarray(np.any(kinks != 0, axis=1), dtype)
    return Constraints(
        value=lambda theta: matrix @ theta,
        pull=lambda nu: nu @ matrix,
        gram=lambda weights: (matrix.T * weights) @ matrix,
        margin=margin,
        present=jnp.ones(m - 1, bool),
        kinks=jnp.asarray(kinks, dtype),
        cone=cone,
    )


def _train(setting: Setting, rows: Rows, margin: Array) -> Constraints:
    n, m = rows.columns.shape[0], setting.num_classes - 1
    index = pairs("cumulative", m)

    def value(theta: Array) -> Array:
        eta = linear_predictor(rows.columns, theta, setting.map)[0]
        return jnp.diff(eta, axis=1).reshape(-1)

    def pull(nu: Array) -> Array:
        nu = nu.reshape(n, m - 1)
        up = jnp.pad(nu, ((0, 0), (1, 0))) - jnp.pad(nu, ((0, 0), (0, 1)))
        return block_gradient(rows.columns, up, setting.map)

    def gram(weights: Array) -> Array:
        weights = weights.reshape(n, m - 1)
        diagonal = jnp.pad(weights, ((0, 0), (1, 0))) + jnp.pad(
            weights, ((0, 0), (0, 1))
        )
        entries = jnp.concatenate([diagonal, -weights], axis=1).T
        return block_hessian(rows.columns, entries, index, setting.map, rows.products)

    present = jnp.repeat(rows.share > 0, m - 1)
    return Constraints(value, pull, gram, margin, present)


def can_cross(setting: Setting) -> bool:
    """Whether two boundaries have coefficients of their own."""
    return setting.num_classes > 2 and bool(_differences(setting).any())


def constraints_of(
    setting: Setting, rows: Rows, limits: Limits, margin: Array
) -> Constraints:
    """Neighbouring boundaries in order, at the rows or in the box."""
    if setting.crossing == "box":
        return _box(setting, limits, margin)
    return _train(setting, rows, margin)


def _by_boundary(setting: Setting, slack: Array) -> Array:
    """Smallest slack of each pair of neighbouring boundaries, (m-1,)."""
    return jnp.min(slack.reshape(-1, setting.num_classes - 2), axis=0)


def constrain(
    setting: Setting,
    rows: Rows,
    limits: Limits,
    model: SmoothModel,
    found: ProximalNewtonResult,
    penalties: Array,
    free: Array,
    *,
    tolerance: Array,
) -> Constrained:
    """The optimum under the constraints, with its multipliers.

    `found` is the optimum without them, and is returned where it satisfies them.
    """
    own = found.solution
    null = null_start(setting, rows)
    zero = jnp.zeros((), own.dtype)
    bare = constraints_of(setting, rows, limits, zero)
    room, slack = bare.slack(null), bare.slack(own)
    needed = _margin(setting, limits, own)
    margin = jnp.minimum(1.5 * needed, 0.1 * jnp.min(room))
    margin = jnp.where(jnp.isfinite(margin), margin, 0)
    fits = jnp.all(slack >= needed)
    # Slacks are concave in the parameters: this far they are known to be positive.
    closing = bare.present & (slack < margin)
    span = jnp.where(closing, room - slack, 1)
    share = jnp.min(
        jnp.where(closing, (room - margin) / span, jnp.inf), initial=jnp.inf
    )
    share = jnp.minimum(0.9 * share, 0.99)
    start = null + share * (own - null)
    start = jnp.where(jnp.all(jnp.isfinite(start)), start, null)
    start = jnp.where(free, start, own)
    positive = nonnegative(setting)
    positive = None if positive is None else jnp.asarray(positive)
    inner = interior_point(
        model,
        constraints_of(setting, rows, limits, margin),
        start,
        penalties,
        free,
        tolerance=tolerance,
        max_steps=setting.max_steps,
        positive=positive,
        skip=fits,
    )
    theta = inner.solution
    slack = _by_boundary(setting, bare.slack(theta))
    short = jnp.maximum(_margin(setting, limits, theta) - slack, 0)
    m = setting.num_classes - 1
    lift = jnp.concatenate([zero[None], jnp.cumsum(short)])
    theta = theta.at[:m].add(lift)
    gradient = model.gradient(model.predict(theta), theta)
    rest = stationarity(gradient + inner.tilt, theta, penalties, free, positive)
    residual = jnp.maximum(inner.residual, jnp.max(jnp.abs(rest)))
    constrained = ProximalNewtonResult(
        theta, gradient, residual, inner.last_step, found.num_steps + inner.num_steps
    )
    result = jax.tree.map(
        lambda one, two: jnp.where(fits, one, two), found, constrained
    )
    tilt, multipliers = jax.tree.map(
        lambda leaf: jnp.where(fits, 0, leaf), (inner.tilt, inner.multipliers)
    )
    return Constrained(result, tilt, multipliers)
