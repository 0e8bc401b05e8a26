"""The path of solutions: one scan over strengths, from the null model downwards."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.ordinal import _penalise
from jaxcur.ordinal._crossing import Limits, can_cross, constrain, make_limits
from jaxcur.ordinal._design import column_products, linear_predictor, standardise
from jaxcur.ordinal._implicit import Inputs, Point, implicit_change
from jaxcur.ordinal._model import (
    Rows,
    Setting,
    Terms,
    loss_gradient,
    loss_hessian,
    mean_loss,
    null_start,
    smooth_model,
)
from jaxcur.ordinal._result import (
    DIVERGING,
    IMPRECISE,
    INVALID,
    MAX_STEPS,
    OK,
    OrdinalPath,
)
from jaxcur.solvers import Multipliers, proximal_newton

__all__ = [
    "Rows",
    "Setting",
    "Terms",
    "loss_gradient",
    "loss_hessian",
    "make_setting",
    "mean_loss",
    "solve_path",
]


# A rounding error of predictors that is no longer small.
_LOST = 0.01


class _Solved(NamedTuple):
    theta: Array
    regularization: Array
    ceiling: Array
    residual: Array
    last_step: Array
    num_steps: Array
    # What constraints add to the gradient, and their multipliers; None without.
    tilt: Array | None
    multipliers: Multipliers | None


def _iterate(
    setting: Setting,
    rows: Rows,
    terms: Terms,
    regularizations: Array,
    relative: Array,
    rtol: Array,
    limits: Limits | None,
) -> _Solved:
    """Solve at every strength, each from the one before; the first is the null fit."""
    dtype = rows.columns.dtype
    weights, mask, ratio = terms
    start = null_start(setting, rows)
    floor = 10 * jnp.finfo(dtype).eps
    eta = smooth_model(setting, rows, 0 * weights).predict(start)
    gradient = loss_gradient(setting, rows, eta)
    size = jnp.max(jnp.where(mask, jnp.abs(gradient), 0))
    top = _penalise.ceiling(setting, terms, gradient)
    scale = jnp.maximum(jnp.maximum(top, size), floor)
    held = _penalise.nonnegative(setting)

    def one(carry, inputs):
        theta, ceiling, last_step = carry
        value, first = inputs
        regularization = jnp.where(relative, value * ceiling, value)
        regularization = jnp.where(first, 0, regularization)
        ridge = regularization * (1 - ratio) * weights
        free = mask & jnp.where(first, weights == 0, True)
        reference = jnp.where(first | (ceiling == 0), scale, ceiling)
        tolerance = jnp.maximum(rtol * reference, floor)
        penalties, groups = _penalise.at_strength(setting, terms, regularization)
        model = smooth_model(setting, rows, ridge)
        found = proximal_newton(
            model,
            theta,
            penalties,
            free,
            tolerance=tolerance,
            max_steps=setting.max_steps,
            positive=None if held is None else jnp.asarray(held),
            groups=groups,
        )
        # The next strength starts from the fit without constraints.
        theta, slope = found.solution, found.gradient
        tilt, multipliers = None, None
        if limits is not None:
            found, tilt, multipliers = constrain(
                setting,
                rows,
                limits,
                model,
                found,
                penalties,
                free,
                tolerance=tolerance,
            )
            slope = found.gradient + tilt
        top = _penalise.ceiling(setting, terms, slope)
        ceiling = jnp.where(first, top, ceiling)
        # Where nothing was left to do, the fit before ended as this one does.
        last_step = jnp.where(found.num_steps == 0, last_step, found.last_step)
        solved = _Solved(
            found.solution,
            regularization,
            ceiling,
            found.residual,
            last_step,
            found.num_steps,
            tilt,
            multipliers,
        )
        return (theta, ceiling, last_step), solved

    values = jnp.concatenate([jnp.zeros(1, dtype), regularizations])
    first = jnp.arange(values.size) == 0
    zero = jnp.zeros((), dtype)
    _, solved = jax.lax.scan(one, (start, zero, zero), (values, first))
    # The null fit's steps are part of the cost of the first strength.
    steps = solved.num_steps[1:].at[0].add(solved.num_steps[0])
    solved = jax.tree.map(lambda leaf: leaf[1:], solved)
    return solved._replace(num_steps=steps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solutions(setting: Setting, columns, share, weights, ratio, regs, limits, extra):
    """`_iterate`, differentiable through the optimality conditions."""
    y, mask, relative, rtol = extra
    rows = Rows(columns, y, share, column_products(columns))
    terms = Terms(weights, mask, ratio)
    return _iterate(setting, rows, terms, regs, relative, rtol, limits)


@_solutions.defjvp
def _solutions_jvp(setting, primals, tangents):
    columns, share, weights, ratio, regs, limits, extra = primals
    solved = _solutions(setting, columns, share, weights, ratio, regs, limits, extra)
    y, mask, relative, _ = extra
    d_columns, d_share, d_weights, d_ratio, moved_regs, d_limits, _ = tangents
    # Strengths given as shares of the largest one count as constants.
    moved_regs = jnp.where(relative, 0, moved_regs)

    def one(solved: _Solved, moved_regularization: Array) -> Array:
        point = Point(solved.theta, mask, y, solved.multipliers)
        inputs = Inputs(columns, share, weights, ratio, solved.regularization, limits)
        changes = Inputs(
            d_columns, d_share, d_weights, d_ratio, moved_regularization, d_limits
        )
        return implicit_change(setting, point, inputs, changes)

    change = jax.vmap(one)(solved, moved_regs)
    zeros = jax.tree.map(jnp.zeros_like, solved)
    steps = np.zeros(solved.num_steps.shape, jax.dtypes.float0)
    return solved, zeros._replace(
        theta=change, regularization=moved_regs, num_steps=steps
    )


def _gap_bound(
    setting: Setting, solved: _Solved, gradient: Array, terms: Terms, objective: Array
) -> Array:
    """Bound on the objective above its minimum, from the smallest subgradient."""
    weights, mask, ratio = terms
    regularization, theta = solved.regularization, solved.theta
    penalties, groups = _penalise.at_strength(setting, terms, regularization)
    slack = _penalise.subgradient(setting, penalties, groups, gradient, theta, mask)
    slack = _penalise.by_unit(setting, slack)
    penalised = regularization * weights > 0
    factor = jnp.where(penalised, weights, 1)
    worst = jnp.max(jnp.where(penalised, slack / factor, 0), initial=0)
    radius = jnp.sum(weights * _penalise.by_unit(setting, theta))
    # The loss is not negative: that bounds the size of a minimiser.
    strength = regularization * ratio
    radius = radius + objective / jnp.where(strength > 0, strength, 1)
    by_size = jnp.where(strength > 0, worst * radius, jnp.inf)
    curvature = regularization * (1 - ratio) * factor
    by_curvature = jnp.sum(
        jnp.where(penalised & (curvature > 0), slack**2 / (2 * curvature), 0)
    )
    by_curvature = jnp.where(ratio < 1, by_curvature, jnp.inf)
    bound = jnp.where(jnp.any(penalised), jnp.minimum(by_size, by_curvature), 0)
    rest = jnp.sum(jnp.where(penalised, 0, slack)) * (1 + solved.last_step)
    if solved.tilt is not None:
        # Multipliers times slacks: what the Lagrangian lacks of the objective.
        rest = rest + jnp.maximum(-solved.tilt @ theta, 0)
    return bound + rest


@functools.partial(jax.jit, static_argnames=("setting",))
def solve_path(
    setting: Setting,
    features: Array,
    y: Array,
    weights: Array,
    factors: Array,
    free: Array,
    ratio: Array,
    regularizations: Array,
    relative: Array,
    rtol: Array,
    box: tuple[Array, Array] | None = None,
) -> OrdinalPath:
    """Fits at every strength. `factors`, `free` (L, p) and `ratio` are the penalty.

    `box` (lower, upper), each (p,), is used where the setting is that of the box; None
    for the ranges of the columns.
    """
    m = setting.num_classes - 1
    dtype = features.dtype
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    held = weights > 0
    scaled = standardise(features, weights, setting.scaled)
    coordinates = jnp.concatenate([jnp.zeros(m, dtype), factors.reshape(-1)])
    mask = jnp.concatenate([jnp.ones(m, bool), free.reshape(-1)])
    terms = Terms(coordinates, mask, ratio)
    limits = None
    if setting.crossing != "own" and can_cross(setting):
        given = box if setting.crossing == "box" else None
        limits = make_limits(features, weights, scaled, given)
    solved = _solutions(
        setting,
        scaled.columns,
        share,
        coordinates,
        ratio,
        regularizations,
        limits,
        (y, mask, relative, rtol),
    )
    rows = Rows(scaled.columns, y, share)
    counts = jnp.zeros(m + 1, dtype).at[y].add(share)
    valid = jnp.all(counts > 0) & jnp.all(jnp.isfinite(scaled.columns))

    def one(solved: _Solved) -> OrdinalPath:
        theta, strength = solved.theta, solved.regularization
        eta, psi = linear_predictor(rows.columns, theta, setting.map)
        loss = mean_loss(setting, rows, eta)
        ridge = strength * (1 - ratio) * coordinates
        objective = loss + jnp.sum(ridge * theta * theta) / 2
        factors = _penalise.at_strength(setting, terms, strength)
        objective = objective + _penalise.value(*factors, theta)
        gradient = loss_gradient(setting, rows, eta) + ridge * theta
        if solved.tilt is not None:
            gradient = gradient + solved.tilt
        beta = jnp.asarray(setting.map, dtype) @ psi
        beta = beta / scaled.scale
        crossing = jnp.zeros(y.shape, bool)
        if setting.family == "cumulative" and m > 1:
            crossing = jnp.any(eta[:, 1:] < eta[:, :-1], axis=1) & held
        reference = jnp.where(solved.ceiling > 0, solved.ceiling, 1)
        floor = 10 * jnp.finfo(dtype).eps
        settled = solved.residual <= jnp.maximum(rtol * reference, floor)
        settled = settled | ((solved.ceiling == 0) & (solved.residual <= rtol))
        # Nothing left in the gradient, and still far steps: a run to infinity.
        escaping = jnp.where(solved.last_step > 0.3, DIVERGING, OK)
        status = jnp.where(settled, escaping, MAX_STEPS)
        finite = jnp.isfinite(loss) & jnp.isfinite(solved.residual)
        # What the intercepts on the original scale lose, and with them predictions.
        lost = jnp.max(jnp.abs(beta) @ jnp.abs(scaled.mean)) * jnp.finfo(dtype).eps
        status = jnp.where((lost > _LOST) & (status == OK), IMPRECISE, status)
        status = jnp.where(valid & finite, status, INVALID)
        gap = _gap_bound(setting, solved, gradient, terms, objective)
        known = status != DIVERGING
        if setting.link == "cauchit" and setting.family != "acat":
            known = jnp.zeros_like(known)
        gap = jnp.where(known, gap, jnp.inf)

        def shown(value: Array) -> Array:
            return jnp.where(status == INVALID, jnp.nan, value)

        return OrdinalPath(
            intercepts=shown(theta[:m] - beta @ scaled.mean),
            coefficients=shown(beta.T),
            loglik=shown(-total * loss),
            objective=shown(objective),
            kkt_residual=shown(solved.residual),
            gap_bound=shown(gap),
            num_crossing=jnp.sum(crossing),
            status=status.astype(jnp.int32),
            num_steps=solved.num_steps,
            regularization=strength,
            max_regularization=shown(solved.ceiling),
            blocks=shown(psi),
            free=free,
            matrix=jnp.asarray(setting.map, dtype),
            family=setting.family,
            link=setting.link,
        )

    return jax.vmap(one)(solved)


def make_setting(
    matrix: np.ndarray,
    *,
    family: str,
    link: str,
    num_classes: int,
    standardize: bool,
    max_steps: int,
    crossing: str = "own",
    grouped: bool = False,
    positive: np.ndarray | None = None,
) -> Setting:
    """The hashable part of a problem."""
    if positive is not None and not positive.any():
        positive = None
    return Setting(
        family,
        link,
        tuple(tuple(row) for row in matrix.tolist()),
        num_classes,
        bool(standardize),
        max_steps,
        crossing,
        grouped,
        None if positive is None else tuple(tuple(r) for r in positive.tolist()),
    )
