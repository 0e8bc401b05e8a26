"""The path of solutions: one scan over strengths, from the null model downwards."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.ordinal._design import (
    block_gradient,
    block_hessian,
    linear_predictor,
    standardise,
)
from jaxcur.ordinal._families import (
    expected_information,
    own_class_gap,
    pairs,
    row_terms,
    start_intercepts,
)
from jaxcur.ordinal._result import DIVERGING, INVALID, MAX_STEPS, OK, OrdinalPath
from jaxcur.solvers import SmoothModel, proximal_newton, stationarity

# Share of absolute values below which the largest useful strength is not followed.
_MIN_RATIO = 0.01


class Setting(NamedTuple):
    """What is known while tracing; hashable."""

    family: str
    link: str
    matrix: tuple[tuple[float, ...], ...]
    num_classes: int
    scaled: bool
    max_steps: int

    @property
    def map(self) -> np.ndarray:
        """(m, L)."""
        return np.asarray(self.matrix)


class Rows(NamedTuple):
    """Standardised columns (n, p), response (n,) and shares of weight (n,)."""

    columns: Array
    y: Array
    share: Array


class Terms(NamedTuple):
    """The penalty by coordinates of theta = (alpha, psi): (m + L p,) and a scalar.

    `weights` are the factors c, zero for intercepts; `mask` says which coordinates may
    differ from zero; `ratio` is the share of absolute values.
    """

    weights: Array
    mask: Array
    ratio: Array


class _Solved(NamedTuple):
    theta: Array
    regularization: Array
    ceiling: Array
    residual: Array
    last_step: Array
    num_steps: Array


def _terms(setting: Setting, rows: Rows, eta: Array):
    return row_terms(setting.family, setting.link, eta, rows.y)


def mean_loss(setting: Setting, rows: Rows, eta: Array) -> Array:
    """-sum_i share_i log p_i; rows without weight do not count, whatever they hold."""
    log_prob = _terms(setting, rows, eta).log_prob
    return -jnp.sum(jnp.where(rows.share > 0, rows.share * log_prob, 0))


def loss_gradient(setting: Setting, rows: Rows, eta: Array) -> Array:
    """Gradient in theta of `mean_loss`."""
    gradient = _terms(setting, rows, eta).gradient
    weighted = jnp.where(rows.share[:, None] > 0, rows.share[:, None] * gradient, 0)
    return -block_gradient(rows.columns, weighted, setting.map)


def loss_hessian(
    setting: Setting, rows: Rows, eta: Array, *, expected: bool | None = None
) -> Array:
    """Second derivative in theta of `mean_loss`, or its expectation.

    The Cauchy link is not log-concave: its solver uses the expectation.
    """
    if expected is None:
        expected = setting.link == "cauchit" and setting.family != "acat"
    if expected:
        information = expected_information(setting.family, setting.link, eta)
    else:
        information = _terms(setting, rows, eta).information
    entries = jnp.where(rows.share > 0, rows.share * information, 0)
    index = pairs(setting.family, setting.num_classes - 1)
    return block_hessian(rows.columns, entries, index, setting.map)


def _model(setting: Setting, rows: Rows, ridge: Array) -> SmoothModel:
    def limit(eta: Array, change: Array) -> Array:
        gap = own_class_gap(setting.family, eta, rows.y)
        narrowing = -own_class_gap(setting.family, change, rows.y)
        closes = (narrowing > 0) & (rows.share > 0) & jnp.isfinite(gap)
        ratio = gap / jnp.where(closes, narrowing, 1)
        return jnp.min(jnp.where(closes, ratio, jnp.inf))

    return SmoothModel(
        predict=lambda theta: linear_predictor(rows.columns, theta, setting.map)[0],
        value=lambda eta, theta: (
            mean_loss(setting, rows, eta) + jnp.sum(ridge * theta * theta) / 2
        ),
        gradient=lambda eta, theta: loss_gradient(setting, rows, eta) + ridge * theta,
        hessian=lambda eta, theta: loss_hessian(setting, rows, eta) + jnp.diag(ridge),
        limit=limit,
    )


def _start(setting: Setting, rows: Rows) -> Array:
    m = setting.num_classes - 1
    counts = jnp.zeros(m + 1, rows.share.dtype).at[rows.y].add(rows.share)
    # A class without weight gets a little, so that the start is finite.
    floor = jnp.sqrt(jnp.finfo(counts.dtype).eps)
    counts = jnp.maximum(counts, floor)
    alpha = start_intercepts(setting.family, setting.link, counts / jnp.sum(counts))
    size = m + setting.map.shape[1] * rows.columns.shape[1]
    return jnp.zeros(size, counts.dtype).at[:m].set(alpha)


def _ceiling(gradient: Array, terms: Terms) -> Array:
    """Smallest strength that keeps all penalised entries at zero."""
    held = terms.mask & (terms.weights > 0)
    scale = jnp.where(held, terms.weights, 1) * jnp.maximum(terms.ratio, _MIN_RATIO)
    return jnp.max(jnp.where(held, jnp.abs(gradient) / scale, 0), initial=0)


def _iterate(
    setting: Setting,
    rows: Rows,
    terms: Terms,
    regularizations: Array,
    relative: Array,
    rtol: Array,
) -> _Solved:
    """Solve at every strength, each from the one before; the first is the null fit."""
    dtype = rows.columns.dtype
    weights, mask, ratio = terms
    start = _start(setting, rows)
    floor = 10 * jnp.finfo(dtype).eps
    eta = _model(setting, rows, 0 * weights).predict(start)
    gradient = loss_gradient(setting, rows, eta)
    size = jnp.max(jnp.where(mask, jnp.abs(gradient), 0))
    scale = jnp.maximum(jnp.maximum(_ceiling(gradient, terms), size), floor)

    def one(carry, inputs):
        theta, ceiling, last_step = carry
        value, first = inputs
        regularization = jnp.where(relative, value * ceiling, value)
        regularization = jnp.where(first, 0, regularization)
        ridge = regularization * (1 - ratio) * weights
        free = mask & jnp.where(first, weights == 0, True)
        reference = jnp.where(first | (ceiling == 0), scale, ceiling)
        found = proximal_newton(
            _model(setting, rows, ridge),
            theta,
            regularization * ratio * weights,
            free,
            tolerance=jnp.maximum(rtol * reference, floor),
            max_steps=setting.max_steps,
        )
        ceiling = jnp.where(first, _ceiling(found.gradient, terms), ceiling)
        # Where nothing was left to do, the fit before ended as this one does.
        last_step = jnp.where(found.num_steps == 0, last_step, found.last_step)
        solved = _Solved(
            found.solution,
            regularization,
            ceiling,
            found.residual,
            last_step,
            found.num_steps,
        )
        return (found.solution, ceiling, last_step), solved

    values = jnp.concatenate([jnp.zeros(1, dtype), regularizations])
    first = jnp.arange(values.size) == 0
    zero = jnp.zeros((), dtype)
    _, solved = jax.lax.scan(one, (start, zero, zero), (values, first))
    # The null fit's steps are part of the cost of the first strength.
    steps = solved.num_steps[1:].at[0].add(solved.num_steps[0])
    solved = jax.tree.map(lambda leaf: leaf[1:], solved)
    return solved._replace(num_steps=steps)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solutions(setting: Setting, columns, share, weights, ratio, regs, extra):
    """`_iterate`, differentiable through the optimality conditions."""
    y, mask, relative, rtol = extra
    rows, terms = Rows(columns, y, share), Terms(weights, mask, ratio)
    return _iterate(setting, rows, terms, regs, relative, rtol)


@_solutions.defjvp
def _solutions_jvp(setting, primals, tangents):
    columns, share, weights, ratio, regs, extra = primals
    solved = _solutions(setting, columns, share, weights, ratio, regs, extra)
    y, mask, relative, _ = extra
    moved_columns, moved_share, moved_weights, moved_ratio, moved_regs, _ = tangents
    # Strengths given as shares of the largest one count as constants.
    moved_regs = jnp.where(relative, 0, moved_regs)

    def one(theta, regularization, moved_regularization):
        rows = Rows(columns, y, share)
        ridge = regularization * (1 - ratio) * weights
        penalties = regularization * ratio * weights
        active = mask & ((theta != 0) | (penalties == 0))

        def optimality(columns, share, weights, ratio, regularization):
            local = Rows(columns, y, share)
            eta = linear_predictor(columns, theta, setting.map)[0]
            slope = loss_gradient(setting, local, eta)
            slope = slope + regularization * (1 - ratio) * weights * theta
            return slope + regularization * ratio * weights * jnp.sign(theta)

        _, change = jax.jvp(
            optimality,
            (columns, share, weights, ratio, regularization),
            (
                moved_columns,
                moved_share,
                moved_weights,
                moved_ratio,
                moved_regularization,
            ),
        )
        eta = linear_predictor(columns, theta, setting.map)[0]
        hessian = loss_hessian(setting, rows, eta, expected=False) + jnp.diag(ridge)
        both = active[:, None] & active[None, :]
        diagonal = jnp.diagonal(hessian)
        jitter = 10 * theta.size * jnp.finfo(theta.dtype).eps * diagonal
        jitter = jnp.where(active & (diagonal > 0), jitter, 1)
        matrix = jnp.where(both, hessian, 0) + jnp.diag(jitter)
        factor = jax.lax.stop_gradient(jnp.linalg.cholesky(matrix))
        right = jnp.where(active, -change, 0)
        return jax.scipy.linalg.cho_solve((factor, True), right)

    moved = jax.vmap(one)(solved.theta, solved.regularization, moved_regs)
    zeros = jax.tree.map(jnp.zeros_like, solved)
    steps = np.zeros(solved.num_steps.shape, jax.dtypes.float0)
    return solved, zeros._replace(
        theta=moved, regularization=moved_regs, num_steps=steps
    )


def _gap_bound(solved: _Solved, gradient: Array, terms: Terms, objective: Array):
    """Bound on the objective above its minimum, from the smallest subgradient."""
    weights, mask, ratio = terms
    regularization, theta = solved.regularization, solved.theta
    penalties = regularization * ratio * weights
    slack = stationarity(gradient, theta, penalties, mask)
    slack = jnp.abs(slack)
    penalised = regularization * weights > 0
    factor = jnp.where(penalised, weights, 1)
    worst = jnp.max(jnp.where(penalised, slack / factor, 0), initial=0)
    radius = jnp.sum(weights * jnp.abs(theta))
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
) -> OrdinalPath:
    """Fits at every strength. `factors`, `free` (L, p) and `ratio` are the penalty."""
    m = setting.num_classes - 1
    dtype = features.dtype
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    held = weights > 0
    scaled = standardise(features, weights, setting.scaled)
    coordinates = jnp.concatenate([jnp.zeros(m, dtype), factors.reshape(-1)])
    mask = jnp.concatenate([jnp.ones(m, bool), free.reshape(-1)])
    terms = Terms(coordinates, mask, ratio)
    extra = (y, mask, relative, rtol)
    solved = _solutions(
        setting, scaled.columns, share, coordinates, ratio, regularizations, extra
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
        objective = objective + strength * ratio * (coordinates @ jnp.abs(theta))
        gradient = loss_gradient(setting, rows, eta) + ridge * theta
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
        status = jnp.where(valid & finite, status, INVALID)
        gap = _gap_bound(solved, gradient, terms, objective)
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
) -> Setting:
    """The hashable part of a problem."""
    return Setting(
        family,
        link,
        tuple(tuple(row) for row in matrix.tolist()),
        num_classes,
        bool(standardize),
        max_steps,
    )
