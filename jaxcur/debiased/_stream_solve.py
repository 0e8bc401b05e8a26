"""The steps of a fit, with the sums of each taken from a pass over the chunks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.debiased._blocks import LabeledRows
from jaxcur.debiased._fit import (
    Fit,
    Plan,
    combine,
    conclude,
    gold_equation,
    needs_spread,
    shifted,
    tune,
)
from jaxcur.debiased._models import Model
from jaxcur.debiased._newton import (
    Equation,
    NewtonState,
    direction,
    influence,
    newton,
    newton_init,
    newton_propose,
    newton_update,
)
from jaxcur.debiased._passes import Passes
from jaxcur.debiased._sums import Spread, Totals, labeled_totals


def _to(dtype: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def _totals(sums: dict[str, Any]) -> Totals:
    return Totals(*sums["everyone"], *sums["labeled"])


def _spread(sums: dict[str, Any], dtype: Any) -> Spread:
    both = sums["everyone_spread"] | sums["labeled_spread"]
    return Spread(**_to(dtype, both))


def _equation(totals: Totals, tuning: Array) -> Equation:
    """The adjusted equation; its differences are taken in float64 on the host."""
    return _to(tuning.dtype, combine(totals, _host(tuning)))


def _host(array: Array) -> Any:
    return np.asarray(array, np.float64)


_direction = jax.jit(direction)
_influence = jax.jit(influence)
_init = jax.jit(newton_init)
_update = jax.jit(newton_update)


def solve_affine(
    passes: Passes,
    model: Model,
    plan: Plan,
    init: Array,
    tuning: Array,
    metric: Array | None,
) -> Fit:
    """Solve moments that are affine in theta: one pass gives any root.

    Arguments as in `fit`; `metric` is None for an exactly identified equation.
    """
    dtype = init.dtype
    identity = jnp.eye(tuning.shape[0], dtype=dtype)
    origin = _totals(passes.sums(("totals",), init))
    if needs_spread(plan, metric is not None):
        gold = init + _direction(_equation(origin, 0 * identity), metric)
        plain = init + _direction(_equation(origin, identity), metric)
        is_sound = jnp.all(jnp.isfinite(gold))
        is_sound &= bool(passes.survey.labels.sum() > 2 * tuning.shape[0])
        first = jnp.where(is_sound, gold, plain)
        spread = _spread(passes.sums(("spread",), first), dtype)
        tuning, metric = tune(
            plan,
            _to(dtype, origin.observed_jacobian),
            spread,
            tuning,
            metric,
            is_sound,
        )
    theta = init + _direction(_equation(origin, tuning), metric)
    totals = shifted(origin, _host(theta - init))
    if dtype == jnp.float32:
        # As in memory: residuals computed afresh bring back what rounding took.
        totals = _totals(passes.sums(("totals",), theta))
        step = _direction(_equation(totals, tuning), metric)
        theta, totals = theta + step, shifted(totals, _host(step))
    gain = _influence(_equation(totals, tuning).jacobian, metric)
    sums = passes.sums(("spread",), theta, gain, tuning)
    return conclude(
        plan,
        theta=theta,
        totals=_to(dtype, totals),
        spread=_spread(sums, dtype),
        tuning=tuning,
        metric=metric,
        num_labeled=jnp.asarray(passes.survey.labels.sum(), dtype),
        converged=jnp.all(jnp.isfinite(theta)),
        num_steps=jnp.ones((), jnp.int32),
    )._replace(max_influence=jnp.asarray(sums["largest"], dtype))


@partial(jax.jit, static_argnames=("model", "max_steps"))
def _solve_labeled(
    model: Model,
    max_steps: int,
    labeled: LabeledRows,
    init: Array,
    metric: Array | None,
    num_rows: Array,
) -> NewtonState:
    """The first step over labelled rows in memory, as one program."""
    return newton(
        lambda theta: gold_equation(labeled_totals(model, theta, labeled)),
        init,
        metric=metric,
        num_rows=num_rows,
        max_steps=max_steps,
    )


def _iterate(
    evaluate: Callable[[Array], Equation],
    theta: Array,
    equation: Equation,
    metric: Array | None,
    num_rows: Array,
    max_steps: int,
) -> NewtonState:
    """`newton` with the loop on the host."""
    state = _init(theta, equation, metric)
    reference = equation.jacobian
    for _ in range(max_steps):
        if bool(state.converged | state.failed):
            break
        proposal = newton_propose(state)
        state = _update(
            state, proposal, evaluate(proposal), metric, num_rows, reference
        )
    return state


def solve_newton(
    passes: Passes,
    model: Model,
    plan: Plan,
    init: Array,
    tuning: Array,
    metric: Array | None,
) -> Fit:
    """Solve by Newton steps, one pass each; arguments as in `solve_affine`."""
    dtype = init.dtype
    num_rows = jnp.asarray(passes.survey.counts.sum(), dtype)

    def gold_at(theta: Array) -> Equation:
        return _to(dtype, gold_equation(passes.sums(("gold",), theta)["labeled"]))

    if passes.labeled is not None:
        gold = _solve_labeled(
            model, plan.max_steps, passes.labeled, init, metric, num_rows
        )
    else:
        gold = _iterate(gold_at, init, gold_at(init), metric, num_rows, plan.max_steps)
    first = jnp.where(gold.converged, gold.theta + gold.step, init)
    wanted = needs_spread(plan, metric is not None)
    sums = passes.sums(("totals", "spread") if wanted else ("totals",), first)
    totals = _totals(sums)
    if wanted:
        slope = _to(dtype, totals.observed_jacobian)
        tuning, metric = tune(
            plan,
            slope,
            _spread(sums, dtype),
            tuning,
            metric,
            gold.converged & bool(passes.survey.labels.sum() > 2 * tuning.shape[0]),
        )

    def evaluate(theta: Array) -> Equation:
        return _equation(_totals(passes.sums(("totals",), theta)), tuning)

    state = _iterate(
        evaluate, first, _equation(totals, tuning), metric, num_rows, plan.max_steps
    )
    # One more step than the tolerance asks for costs no pass over the rows.
    theta = jnp.where(state.converged, state.theta + state.step, state.theta)
    gain = _influence(state.equation.jacobian, metric)
    sums = passes.sums(("totals", "spread"), theta, gain, tuning)
    return conclude(
        plan,
        theta=theta,
        totals=_to(dtype, _totals(sums)),
        spread=_spread(sums, dtype),
        tuning=tuning,
        metric=metric,
        num_labeled=jnp.asarray(passes.survey.labels.sum(), dtype),
        converged=state.converged,
        num_steps=state.num_steps + gold.num_steps,
    )._replace(max_influence=jnp.asarray(sums["largest"], dtype))
