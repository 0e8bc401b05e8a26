"""From rows to an estimate: first step, tuning, solution, covariance."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.debiased._blocks import LabeledRows, Rows, sum_over_blocks
from jaxcur.debiased._models import Model
from jaxcur.debiased._newton import (
    Equation,
    NewtonState,
    condition_number,
    direction,
    influence,
    newton,
)
from jaxcur.debiased._sums import (
    Sizes,
    Spread,
    Totals,
    everyone_spread,
    everyone_totals,
    labeled_spread,
    labeled_totals,
)
from jaxcur.debiased._tuning import TUNINGS, TuningName, tuning_matrix
from jaxcur.debiased._variance import Noise, Target, clip_eigenvalues, noise

Sum = Callable[[Any], Any]


class Plan(NamedTuple):
    """Static choices of a fit.

    Attributes:
        tuning: a name of `TUNINGS`, or "fixed" with the matrix given.
        sizes: strata and clusters.
        signs: sign of each cluster term.
        target: population of the inference.
        max_steps: most Newton steps.
        two_step: over-identified equations: re-weight by the inverse variance.
        axis_name: mapped axis over which rows are sharded.
    """

    tuning: str
    sizes: Sizes
    signs: tuple[int, ...] = ()
    target: Target = "superpopulation"
    max_steps: int = 100
    two_step: bool = True
    axis_name: str | None = None


class Fit(NamedTuple):
    """What a fit returns; sums are over rows, not means.

    Attributes:
        theta: (p,).
        covariance: (p, p).
        label_covariance: (p, p), the part that shrinks with more labels.
        gold_covariance: (p, p), of the estimator that uses labelled rows only.
        plain_covariance: (p, p), of the estimator without tuning.
        tuning: (q, q), the matrix Lambda.
        influence: (p, q).
        jacobian: (q, p).
        metric: (q, q).
        value: (q,), remaining moment.
        totals: at theta.
        variance: (q, q), of the summed moments.
        converged: scalar bool.
        num_steps: scalar int.
        bias_z: (q,), see `Diagnostics`.
        bias_statistic: scalar, joint chi-square of no surrogate bias.
        bias_freedom: scalar, its degrees of freedom.
        max_influence: (p,), largest move of theta by one labelled row.
        condition: scalar; NaN for over-identified equations.
        min_eigenvalue: scalar.
    """

    theta: Array
    covariance: Array
    label_covariance: Array
    gold_covariance: Array
    plain_covariance: Array
    tuning: Array
    influence: Array
    jacobian: Array
    metric: Array
    value: Array
    totals: Totals
    variance: Array
    converged: Array
    num_steps: Array
    bias_z: Array
    bias_statistic: Array
    bias_freedom: Array
    max_influence: Array
    condition: Array
    min_eigenvalue: Array


def reducer(axis_name: str | None) -> Sum:
    """Sum over the devices of a mapped axis, or nothing."""
    if axis_name is None:
        return lambda sums: sums
    return lambda sums: jax.lax.psum(sums, axis_name)


def combine(totals: Totals, tuning: Array) -> Equation:
    """The adjusted equation  A - Lambda B  from its parts."""
    correction = totals.predicted - totals.everyone
    slope = totals.predicted_jacobian - totals.everyone_jacobian
    value = totals.observed - tuning @ correction
    jacobian = totals.observed_jacobian - tuning @ slope
    squares = totals.observed_squares + (tuning * tuning) @ totals.everyone_squares
    return Equation(value, jacobian, jnp.sqrt(squares))


def gold_equation(labeled: tuple[Array, ...]) -> Equation:
    """The equation of labelled rows alone."""
    value, jacobian, _, _, squares = labeled
    return Equation(value, jacobian, jnp.sqrt(squares))


def make_totals(everyone: tuple[Array, ...], labeled: tuple[Array, ...]) -> Totals:
    """Put the two passes together."""
    return Totals(*everyone, *labeled)


@partial(jax.jit, static_argnames=("model", "axis_name"))
def _totals_at(
    model: Model, axis_name: str | None, theta: Array, rows: Rows, labeled: LabeledRows
) -> Totals:
    sums = everyone_totals(model, theta, rows), labeled_totals(model, theta, labeled)
    return make_totals(*reducer(axis_name)(sums))


@partial(jax.jit, static_argnames=("model", "axis_name", "sizes"))
def _spread_at(
    model: Model,
    axis_name: str | None,
    sizes: Sizes,
    theta: Array,
    rows: Rows,
    labeled: LabeledRows,
) -> Spread:
    parts = everyone_spread(model, theta, rows, sizes)
    parts |= labeled_spread(model, theta, labeled, sizes)
    return Spread(**reducer(axis_name)(parts))


@partial(jax.jit, static_argnames=("model", "plan"))
def _solve_gold(
    model: Model,
    plan: Plan,
    labeled: LabeledRows,
    init: Array,
    metric: Array | None,
    num_rows: Array,
) -> NewtonState:
    reduce = reducer(plan.axis_name)
    return newton(
        lambda theta: gold_equation(reduce(labeled_totals(model, theta, labeled))),
        init,
        metric=metric,
        num_rows=num_rows,
        max_steps=plan.max_steps,
    )


@partial(jax.jit, static_argnames=("model", "plan"))
def _solve_adjusted(
    model: Model,
    plan: Plan,
    rows: Rows,
    labeled: LabeledRows,
    init: Array,
    tuning: Array,
    metric: Array | None,
    num_rows: Array,
) -> NewtonState:
    def evaluate(theta: Array) -> Equation:
        return combine(_totals_at(model, plan.axis_name, theta, rows, labeled), tuning)

    return newton(
        evaluate, init, metric=metric, num_rows=num_rows, max_steps=plan.max_steps
    )


@jax.jit
def affine_first(
    origin: Totals, init: Array, metric: Array | None
) -> tuple[Array, Array]:
    """First step of affine moments, and whether labelled rows determined it."""
    identity = jnp.eye(origin.observed.shape[0], dtype=init.dtype)
    gold = init + direction(combine(origin, 0 * identity), metric)
    plain = init + direction(combine(origin, identity), metric)
    is_sound = jnp.all(jnp.isfinite(gold))
    return jnp.where(is_sound, gold, plain), is_sound


@jax.jit
def affine_step(
    totals: Totals, theta: Array, tuning: Array, metric: Array | None
) -> tuple[Array, Totals]:
    """Solution of affine moments from their sums at any theta, and the sums there."""
    step = direction(combine(totals, tuning), metric)
    return theta + step, shifted(totals, step)


def fit(
    model: Model,
    plan: Plan,
    rows: Rows,
    labeled: LabeledRows,
    init: Array,
    tuning: Array,
    metric: Array,
    basis: Array | None = None,
) -> Fit:
    """Solve the adjusted estimating equation.

    Passes over the rows and the algebra between them are programs of their own: the
    algebra depends on the number of moments only, and is compiled once for all sizes.

    Args:
        model: the estimating equation (static).
        plan: choices (static).
        rows: all rows.
        labeled: labelled rows.
        init: (p,), starting point of the first step.
        tuning: (q, q), Lambda; with a tuning rule it is ignored.
        metric: (q, q), weight matrix of the first step of over-identified equations.
        basis: (p, p), the parameters reported are `basis` times those solved for.
    """
    axis = plan.axis_name
    over = metric.shape[0] != init.shape[0]
    weighting = metric if over else None
    wanted = needs_spread(plan, over)
    num_rows, num_labeled = count_rows(axis, rows, labeled)

    # First step: labelled rows only, which is consistent whatever the predictions.
    # Where they cannot determine theta, all rows have to.
    if model.is_affine:
        totals = _totals_at(model, axis, init, rows, labeled)
        if wanted:
            first, is_sound = affine_first(totals, init, weighting)
            is_sound &= num_labeled > 2 * metric.shape[0]
            spread = _spread_at(model, axis, plan.sizes, first, rows, labeled)
            slope = totals.observed_jacobian
            tuning, weighting = tune(plan, slope, spread, tuning, weighting, is_sound)
        theta, totals = affine_step(totals, init, tuning, weighting)
        if init.dtype == jnp.float32:
            # Residuals at the solution, computed afresh, refine it: what the solve lost
            # to rounding comes back.
            totals = _totals_at(model, axis, theta, rows, labeled)
            theta, totals = affine_step(totals, theta, tuning, weighting)
        converged, steps = jnp.isfinite(theta).all(), jnp.ones((), jnp.int32)
    else:
        gold = _solve_gold(model, plan, labeled, init, weighting, num_rows)
        first = jnp.where(gold.converged, gold.theta + gold.step, init)
        if wanted:
            spread = _spread_at(model, axis, plan.sizes, first, rows, labeled)
            slope = gold.equation.jacobian
            is_sound = gold.converged & (num_labeled > 2 * metric.shape[0])
            tuning, weighting = tune(plan, slope, spread, tuning, weighting, is_sound)
        state = _solve_adjusted(
            model, plan, rows, labeled, first, tuning, weighting, num_rows
        )
        # One more step than the tolerance asks for costs no pass over the rows.
        theta = jnp.where(state.converged, state.theta + state.step, state.theta)
        converged, steps = state.converged, state.num_steps + gold.num_steps
        totals = _totals_at(model, axis, theta, rows, labeled)

    spread = _spread_at(model, axis, plan.sizes, theta, rows, labeled)
    concluded = conclude(
        plan,
        theta=theta,
        totals=totals,
        spread=spread,
        tuning=tuning,
        metric=weighting,
        num_labeled=num_labeled,
        converged=converged,
        num_steps=steps,
        basis=basis,
    )
    largest = _largest_at(model, axis, theta, labeled, concluded.influence, tuning)
    return concluded._replace(max_influence=largest)


@partial(jax.jit, static_argnames=("axis_name",))
def count_rows(
    axis_name: str | None, rows: Rows, labeled: LabeledRows
) -> tuple[Array, Array]:
    """Number of rows and of labelled rows with positive weight, as floats."""
    counts = tuple(
        jnp.sum(part.weight > 0, dtype=part.weight.dtype) for part in (rows, labeled)
    )
    return reducer(axis_name)(counts)


def needs_spread(plan: Plan, over: bool) -> bool:
    """Whether the second moments at the first step are needed."""
    return plan.tuning in TUNINGS or (over and plan.two_step)


@partial(jax.jit, static_argnames=("plan",))
def tune(
    plan: Plan,
    slope: Array,
    spread: Spread,
    tuning: Array,
    metric: Array | None,
    gold_is_sound: Array,
) -> tuple[Array, Array | None]:
    """Lambda and the weight matrix of the final step, from the sums at a first one.

    Args:
        plan: choices (static).
        slope: (q, p), Jacobian of the moments of labelled rows at the first step.
        spread: there.
        tuning: (q, q), kept unless a rule is asked for.
        metric: (q, q) of the first step; None for an exactly identified equation.
        gold_is_sound: scalar bool, labelled rows alone determine theta.
    """
    identity = jnp.eye(tuning.shape[0], dtype=tuning.dtype)

    def noise_at(matrix: Array) -> Noise:
        return noise(spread, matrix, signs=plan.signs, target=plan.target)

    if plan.tuning in TUNINGS:
        how: TuningName = plan.tuning  # pyright: ignore[reportAssignmentType]
        if metric is not None and how == "per_coordinate":
            raise ValueError(
                "an over-identified equation takes power_tuning 'optimal', 'scalar', "
                f"None or a number, got {how!r}"
            )
        gain = influence(slope, metric)
        tuning = tuning_matrix(how, noise_at(identity), gain, slope)
        # Too few labels to tell: the plain estimator may still be defined.
        usable = jnp.all(jnp.isfinite(tuning)) & gold_is_sound
        tuning = jnp.where(usable, tuning, identity)
    if metric is not None and plan.two_step:
        metric = jnp.linalg.inv(noise_at(tuning).total)
    return tuning, metric


@partial(jax.jit, static_argnames=("plan",))
def conclude(
    plan: Plan,
    *,
    theta: Array,
    totals: Totals,
    spread: Spread,
    tuning: Array,
    metric: Array | None,
    num_labeled: Array,
    converged: Array,
    num_steps: Array,
    basis: Array | None = None,
) -> Fit:
    """Covariances and diagnostics from the sums at the solution.

    `max_influence` is left at NaN: it takes a pass over the labelled rows.

    Args:
        plan: choices (static).
        theta: (p,).
        totals: at theta.
        spread: at theta.
        tuning: (q, q).
        metric: (q, q); None for an exactly identified equation.
        num_labeled: scalar.
        converged: scalar bool.
        num_steps: scalar int.
        basis: (p, p), see `fit`.
    """
    identity = jnp.eye(tuning.shape[0], dtype=tuning.dtype)
    equation = combine(totals, tuning)
    # The estimator as tuned, from labelled rows alone, and without tuning.
    choices = jnp.stack([tuning, 0 * identity, identity])
    slopes = jax.vmap(lambda matrix: combine(totals, matrix).jacobian)(choices)
    gains = jax.vmap(lambda slope: influence(slope, metric))(slopes)
    solved = gains[0]
    if basis is not None:
        theta, gains = basis @ theta, basis @ gains
    noises = jax.vmap(
        lambda matrix: noise(spread, matrix, signs=plan.signs, target=plan.target)
    )(choices)
    own, gold, plain = jnp.einsum(
        "cpq,cqr,csr->cps", gains, noises.total, gains, precision="highest"
    )
    if len(plan.signs) > 1:
        own = clip_eigenvalues(own)
    gain = gains[0]
    label = gain @ noises.labels[0] @ gain.T
    sound = converged & jnp.all(jnp.isfinite(theta))
    bias_z, bias_statistic, bias_freedom = surrogate_bias(
        totals, spread.labeled_gram_squared, num_labeled
    )
    p = theta.shape[0]
    condition = jnp.asarray(jnp.nan, theta.dtype)
    if metric is None:
        condition = condition_number(equation.jacobian, -solved)
    return Fit(
        theta=theta,
        covariance=jnp.where(sound, own, jnp.nan),
        label_covariance=jnp.where(sound, label, jnp.nan),
        gold_covariance=jnp.where(sound, gold, jnp.nan),
        plain_covariance=jnp.where(sound, plain, jnp.nan),
        tuning=tuning,
        influence=gain,
        jacobian=equation.jacobian,
        metric=identity if metric is None else metric,
        value=equation.value,
        totals=totals,
        variance=noises.total[0],
        converged=sound,
        num_steps=num_steps,
        bias_z=bias_z,
        bias_statistic=bias_statistic,
        bias_freedom=bias_freedom,
        max_influence=jnp.full((p,), jnp.nan, theta.dtype),
        condition=condition,
        min_eigenvalue=_min_eigenvalue(equation.jacobian, metric),
    )


def shifted(totals: Totals, step: Array) -> Totals:
    """Totals of affine moments after theta has moved by `step`."""
    return totals._replace(
        everyone=totals.everyone + totals.everyone_jacobian @ step,
        observed=totals.observed + totals.observed_jacobian @ step,
        predicted=totals.predicted + totals.predicted_jacobian @ step,
    )


def surrogate_bias(
    totals: Totals, gram: Array, num_labeled: Array
) -> tuple[Array, Array, Array]:
    """Z statistics of no surrogate bias, their joint chi-square and its freedom."""
    q = totals.observed.shape[0]
    d = jnp.concatenate(
        [jnp.eye(q, dtype=gram.dtype), -jnp.eye(q, dtype=gram.dtype)], 1
    )
    gap = totals.observed - totals.predicted
    variance = d @ gram @ d.T - jnp.outer(gap, gap) / jnp.maximum(num_labeled, 1)
    own = jnp.diagonal(variance)
    # A surrogate that equals the label leaves rounding noise over rounding noise.
    exact = own <= 1e3 * jnp.finfo(gram.dtype).eps ** 2 * jnp.diagonal(gram)[:q]
    z = jnp.where(exact, 0, gap / jnp.sqrt(jnp.where(exact, 1, own)))
    scale = jnp.where(exact, 0, 1 / jnp.sqrt(jnp.where(exact, 1, own)))
    correlation = variance * scale[:, None] * scale[None, :]
    statistic = z @ jnp.linalg.pinv(correlation, hermitian=True) @ z
    freedom = jnp.maximum(jnp.sum(~exact), 1).astype(gram.dtype)
    return z, statistic, freedom


@partial(jax.jit, static_argnames=("model", "axis_name"))
def _largest_at(
    model: Model,
    axis_name: str | None,
    theta: Array,
    labeled: LabeledRows,
    gain: Array,
    tuning: Array,
) -> Array:
    largest = largest_influence(model, theta, labeled, gain, tuning)
    return largest if axis_name is None else jax.lax.pmax(largest, axis_name)


def largest_influence(
    model: Model, theta: Array, labeled: LabeledRows, gain: Array, tuning: Array
) -> Array:
    """Largest move of theta by one labelled row, (p,)."""

    def block(part: LabeledRows) -> Array:
        observed = model.moments(theta, part.observed)
        predicted = model.moments(theta, part.predicted)
        moved = (observed - predicted @ tuning.T) @ gain.T
        moved = moved * (part.weight / part.prob)[:, None]
        return jnp.max(jnp.abs(moved), axis=0)

    return sum_over_blocks(block, labeled, jnp.maximum)


def _min_eigenvalue(jacobian: Array, metric: Array | None) -> Array:
    curvature = -jacobian if metric is None else jacobian.T @ metric @ jacobian
    return jnp.linalg.eigvalsh((curvature + curvature.T) / 2)[0]
