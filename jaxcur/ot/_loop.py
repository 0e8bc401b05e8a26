"""The Sinkhorn iteration: one matrix product and one exponential for both updates.

Potentials are kept as phi = (f - u) / epsilon and psi = (g - v) / epsilon, u and v
being what a bilinear cost adds to them. With

    E_ij = b_j exp((f_i + g_j - C_ij) / epsilon)

at the potentials at hand, row sums r give the new phi = phi - log r, and the same E
with rows rescaled gives the column sums that the new psi needs. No maximum is
subtracted: near the solution r is near 1. Where it is not (a new epsilon, a first
guess), a slower step with maxima comes first, and whenever a sum overflows or vanishes
it comes again. The fixed point is approached with Anderson's extrapolation of psi.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.ot._anderson import Memory, extrapolate, forgotten
from jaxcur.ot._costs import HIGHEST, GivenMatrix
from jaxcur.ot._stream import (
    Geometry,
    Layout,
    keep_costs,
    log_gibbs,
    scores,
    stream,
    swap,
)

# Each level of annealing divides epsilon by this, after so many iterations.
_LEVEL_FACTOR = 4.0
_LEVEL_STEPS = 2


def _tiny(dtype: Any) -> float:
    """Sums below this are taken for lost, and so are those above its inverse."""
    return 1e-35 if jnp.finfo(dtype).bits == 32 else 1e-280


class Measures(NamedTuple):
    """Weights and what their marginals may cost."""

    a: Array
    b: Array
    epsilon: Array
    rho_a: Array | None
    rho_b: Array | None


class Solution(NamedTuple):
    """Potentials over epsilon, mass of their plan, L1 error of its marginals."""

    phi: Array
    psi: Array
    mass: Array
    error: Array
    converged: Array
    num_steps: Array


class _Sums(NamedTuple):
    rows: Array
    phi: Array
    columns: Array


class _State(NamedTuple):
    phi: Array
    psi: Array
    shown_phi: Array
    shown_psi: Array
    epsilon: Array
    mass: Array
    error: Array
    memory: Memory
    level_steps: Array
    intact: Array
    steps: Array


def log_weights(weights: Array) -> Array:
    """Logarithm, -inf at weight zero, with finite derivatives."""
    positive = weights > 0
    return jnp.where(positive, jnp.log(jnp.where(positive, weights, 1)), -jnp.inf)


def _damped(to: Array, offset: Array, epsilon: Array, rho: Array | None) -> Array:
    """The update `to`, damped where unbalanced."""
    if rho is None:
        return to
    damping = rho / (rho + epsilon)
    return damping * to - (1 - damping) * offset / epsilon


def soft_min(geometry: Geometry, psi: Array, epsilon: Array, layout: Layout) -> Array:
    """Log sum_j exp(psi_j + (u_i + v_j - C_ij) / epsilon), with maxima, (n,)."""

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        columns, psi, epsilon, cost = shared
        zero = jnp.zeros(rows.vectors.shape[0], psi.dtype)
        terms = log_gibbs(cost, geometry.swapped, rows, columns, zero, psi, epsilon)
        top = jnp.max(terms, axis=1)
        top = jnp.where(jnp.isfinite(top), top, 0)
        return (), top + jnp.log(jnp.sum(jnp.exp(terms - top[:, None]), axis=1))

    shared = (geometry.columns, psi, epsilon, geometry.cost)
    return stream(body, geometry.rows, (), shared, layout)[1]


def soft_min_columns(
    geometry: Geometry, phi: Array, epsilon: Array, layout: Layout
) -> Array:
    """Log sum_i exp(phi_i + (u_i + v_j - C_ij) / epsilon), with maxima, (m,)."""
    if not isinstance(geometry.cost, GivenMatrix) or layout.mesh is not None:
        return soft_min(swap(geometry), phi, epsilon, layout)
    # Down the columns of a matrix as it lies: no second, transposed one.
    matrix = geometry.rows.vectors
    top = jnp.max(phi[:, None] - matrix / epsilon, axis=0)
    top = jnp.where(jnp.isfinite(top), top, 0)
    # The compiler would store terms that it sees used twice.
    phi, epsilon = jax.lax.optimization_barrier((phi, epsilon))
    terms = phi[:, None] - matrix / epsilon
    return top + jnp.log(jnp.sum(jnp.exp(terms - top), axis=0))


def _fused(
    geometry: Geometry,
    measures: Measures,
    phi: Array,
    psi: Array,
    epsilon: Array,
    move: bool,
    layout: Layout,
) -> _Sums:
    """Row sums at the given potentials, new phi, column sums at new phi and old psi.

    Without `move` phi is left as it is.
    """

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi, offset = rows
        columns, beta, epsilon, rho, cost = shared
        kernel = jnp.exp(log_gibbs(cost, False, side, columns, phi, beta, epsilon))
        # A product with ones: faster than a reduction on a CPU.
        ones = jnp.ones(kernel.shape[1], kernel.dtype)
        sums = jnp.matmul(kernel, ones, precision=HIGHEST)
        moved = phi
        if move:
            moved = _damped(phi - jnp.log(sums), offset, epsilon, rho)
        scale = jnp.where(weights > 0, weights * jnp.exp(moved - phi), 0)
        return jnp.matmul(scale, kernel, precision=HIGHEST), (sums, moved)

    beta = psi + log_weights(measures.b)
    rows = (geometry.rows, phi, geometry.u)
    shared = (geometry.columns, beta, epsilon, measures.rho_a, geometry.cost)
    columns, (sums, moved) = stream(body, rows, measures.a, shared, layout)
    return _Sums(sums, moved, columns)


def _row_sums(
    geometry: Geometry,
    measures: Measures,
    phi: Array,
    epsilon: Array,
    layout: Layout,
) -> Array:
    """Row sums of a problem between a measure and itself: phi on both sides."""

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi = rows
        columns, beta, epsilon, cost = shared
        kernel = jnp.exp(log_gibbs(cost, False, side, columns, phi, beta, epsilon))
        ones = jnp.ones(kernel.shape[1], kernel.dtype)
        return (), jnp.matmul(kernel, ones, precision=HIGHEST)

    beta = phi + log_weights(measures.b)
    shared = (geometry.columns, beta, epsilon, geometry.cost)
    return stream(body, (geometry.rows, phi), (), shared, layout)[1]


def largest_cost(geometry: Geometry, measures: Measures, layout: Layout) -> Array:
    """Largest cost between points of positive weight, and of either sign."""

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, offset = rows
        columns, b, other, cost = shared
        costs = offset[:, None] + other[None, :] - scores(cost, False, side, columns)
        present = (weights[:, None] > 0) & (b[None, :] > 0)
        return (), jnp.max(jnp.where(present, jnp.abs(costs), 0), axis=1)

    rows = (geometry.rows, geometry.u)
    shared = (geometry.columns, measures.b, geometry.v, geometry.cost)
    return jnp.max(stream(body, rows, measures.a, shared, layout)[1])


def _target(weights: Array, potential: Array, rho: Array | None) -> Array:
    """Marginal that the plan of optimal potentials has."""
    return weights if rho is None else weights * jnp.exp(-potential / rho)


def _shift(measures: Measures, f: Array, g: Array) -> Array:
    """The t for which f + t and g - t have the largest dual value."""
    rho_a, rho_b = measures.rho_a, measures.rho_b

    def log_mass(weights: Array, potential: Array, rho: Array | None) -> Array:
        scaled = jnp.zeros_like(potential) if rho is None else -potential / rho
        return jax.scipy.special.logsumexp(scaled, b=weights)

    gap = log_mass(measures.a, f, rho_a) - log_mass(measures.b, g, rho_b)
    # 1 / rho is 0 where a marginal is kept.
    inverse = sum(1 / rho for rho in (rho_a, rho_b) if rho is not None)
    t = gap / inverse
    return jnp.where(jnp.isfinite(t), t, 0)


class _Problem(NamedTuple):
    geometry: Geometry
    measures: Measures
    rtol: Array


def _total(measures: Measures) -> Array:
    return (jnp.sum(measures.a) + jnp.sum(measures.b)) / 2


def _is_unbalanced(measures: Measures) -> bool:
    return measures.rho_a is not None or measures.rho_b is not None


def _error(
    problem: _Problem, phi: Array, psi: Array, epsilon: Array, row: Array, column: Array
) -> Array:
    geometry, measures = problem.geometry, problem.measures
    wanted_a = _target(measures.a, geometry.u + epsilon * phi, measures.rho_a)
    wanted_b = _target(measures.b, geometry.v + epsilon * psi, measures.rho_b)
    gap = jnp.sum(jnp.abs(wanted_a - row)) + jnp.sum(jnp.abs(wanted_b - column))
    return gap / _total(measures)


def _measure(
    problem: _Problem, state: _State, move: bool, layout: Layout
) -> tuple[_Sums, Array, Array]:
    """The fused pass, its error and mass."""
    geometry, measures = problem.geometry, problem.measures
    sums = _fused(geometry, measures, state.phi, state.psi, state.epsilon, move, layout)
    row = jnp.where(
        measures.a > 0, measures.a * jnp.exp(sums.phi - state.phi) * sums.rows, 0
    )
    error = _error(problem, sums.phi, state.psi, state.epsilon, row, sums.columns)
    return sums, error, jnp.sum(sums.columns)


def _step(problem: _Problem, layout: Layout, state: _State) -> _State:
    """One full iteration; a lost sum leaves the potentials and says so."""
    geometry, measures = problem.geometry, problem.measures
    epsilon = state.epsilon
    sums, error, mass = _measure(problem, state, True, layout)
    present = measures.b > 0
    columns = jnp.where(present, sums.columns, 1)
    tiny = _tiny(epsilon.dtype)
    if measures.rho_b is not None:
        # Where mass is given up, a column may rightly be as small as this.
        columns = jnp.maximum(columns, tiny)
    intact = (
        jnp.all((sums.rows > 0) & (sums.rows < 1 / tiny))
        & jnp.all((columns >= tiny) & jnp.isfinite(columns))
        & jnp.isfinite(error)
    )
    log_ratio = log_weights(measures.b) - jnp.log(columns)
    to = state.psi + jnp.where(present, log_ratio, 0)
    psi = _damped(to, geometry.v, epsilon, measures.rho_b)
    psi = jnp.where(present, psi, state.psi)
    after = _shifted(problem, state._replace(phi=sums.phi, psi=psi))
    phi, psi = after.phi, after.psi
    psi, memory = extrapolate(measures.b, state.memory, state.psi, psi, error)
    better = error < state.error
    moved = state._replace(
        phi=phi,
        psi=psi,
        shown_phi=jnp.where(better, sums.phi, state.shown_phi),
        shown_psi=jnp.where(better, state.psi, state.shown_psi),
        mass=jnp.where(better, mass, state.mass),
        error=jnp.where(better, error, state.error),
        memory=memory,
    )
    # What an extrapolation spoiled is taken up again where the error was least.
    known = jnp.isfinite(state.memory.best)
    back = jnp.where(known, state.memory.fallback, state.psi)
    return _keep(intact, moved, state._replace(psi=back))


def _step_symmetric(problem: _Problem, layout: Layout, state: _State) -> _State:
    """One step between a measure and itself: the mean of old and new potential."""
    geometry, measures = problem.geometry, problem.measures
    epsilon, phi = state.epsilon, state.phi
    rows = _row_sums(geometry, measures, phi, epsilon, layout)
    row = jnp.where(measures.a > 0, measures.a * rows, 0)
    error = _error(problem, phi, phi, epsilon, row, row)
    intact = jnp.all((rows > 0) & (rows < 1 / _tiny(phi.dtype))) & jnp.isfinite(error)
    to = _damped(phi - jnp.log(rows), geometry.u, epsilon, measures.rho_a)
    moved = (phi + to) / 2
    better = error < state.error
    shown = jnp.where(better, phi, state.shown_phi)
    after = state._replace(
        phi=moved,
        psi=moved,
        shown_phi=shown,
        shown_psi=shown,
        mass=jnp.where(better, jnp.sum(row), state.mass),
        error=jnp.where(better, error, state.error),
    )
    return _keep(intact, after, state)


def _keep(intact: Array, moved: _State, state: _State) -> _State:
    """`moved` where every sum could be represented."""
    kept = jax.tree.map(lambda new, old: jnp.where(intact, new, old), moved, state)
    return kept._replace(
        intact=intact, steps=state.steps + 1, level_steps=state.level_steps + 1
    )


def _settle(
    problem: _Problem, layout: Layout, symmetric: bool, state: _State
) -> _State:
    """Both updates one after the other, with maxima: from any potentials."""
    if symmetric:
        geometry, measures = problem.geometry, problem.measures
        epsilon = state.epsilon
        beta = state.psi + log_weights(measures.b)
        lse = soft_min(geometry, beta, epsilon, layout)
        phi = (state.phi + _damped(-lse, geometry.u, epsilon, measures.rho_a)) / 2
        return state._replace(phi=phi, psi=phi)
    return _shifted(problem, _settle_both(problem, layout, state))


def _settle_both(problem: _Problem, layout: Layout, state: _State) -> _State:
    """Both updates from one exponential with the maxima of rows.

    A column that vanishes beside the maxima takes a second one, with its own.
    """
    geometry, measures = problem.geometry, problem.measures
    epsilon = state.epsilon

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi, offset = rows
        columns, beta, epsilon, rho, cost = shared
        zero = jnp.zeros_like(phi)
        terms = log_gibbs(cost, False, side, columns, zero, beta, epsilon)
        top = jnp.max(terms, axis=1)
        top = jnp.where(jnp.isfinite(top), top, 0)
        kernel = jnp.exp(terms - top[:, None])
        ones = jnp.ones(kernel.shape[1], kernel.dtype)
        lse = top + jnp.log(jnp.matmul(kernel, ones, precision=HIGHEST))
        moved = _damped(-lse, offset, epsilon, rho)
        scale = jnp.where(weights > 0, weights * jnp.exp(moved + top), 0)
        return jnp.matmul(scale, kernel, precision=HIGHEST), moved

    present = measures.b > 0
    beta = state.psi + log_weights(measures.b)
    rows = (geometry.rows, state.phi, geometry.u)
    shared = (geometry.columns, beta, epsilon, measures.rho_a, geometry.cost)
    columns, phi = stream(body, rows, measures.a, shared, layout)
    represented = (columns > _tiny(epsilon.dtype)) & jnp.isfinite(columns)
    columns = jnp.where(represented & present, columns, 1)
    log_ratio = jnp.where(present, log_weights(measures.b) - jnp.log(columns), 0)
    to = state.psi + log_ratio

    def again(found: tuple[Array, Array]) -> tuple[Array, Array]:
        lse = soft_min_columns(geometry, phi + log_weights(measures.a), epsilon, layout)
        return -lse, jnp.asarray(True)

    # A loop of no or one step: mapped over a batch it runs where one of them needs it.
    good = jnp.all(represented | ~present)
    to, _ = jax.lax.while_loop(lambda found: ~found[1], again, (to, good))
    psi = _damped(to, geometry.v, epsilon, measures.rho_b)
    psi = jnp.where(present, psi, state.psi)
    return state._replace(phi=phi, psi=psi)


def _shifted(problem: _Problem, state: _State) -> _State:
    """Unbalanced potentials with the shift between them that is best."""
    geometry, measures = problem.geometry, problem.measures
    if not _is_unbalanced(measures):
        return state
    epsilon = state.epsilon
    f, g = geometry.u + epsilon * state.phi, geometry.v + epsilon * state.psi
    t = _shift(measures, f, g) / epsilon
    return state._replace(phi=state.phi + t, psi=state.psi - t)


@functools.partial(
    jax.jit, static_argnames=("symmetric", "anneal", "layout", "max_steps")
)
def solve(
    geometry: Geometry,
    measures: Measures,
    start: tuple[Array, Array],
    rtol: Array,
    *,
    symmetric: bool,
    anneal: bool,
    layout: Layout,
    max_steps: int,
) -> Solution:
    """Iterate until the marginals are right within `rtol` of the mass."""
    if layout.keep:
        geometry = keep_costs(geometry, layout)
    problem = _Problem(geometry, measures, rtol)
    target = measures.epsilon
    dtype = target.dtype
    f, g = start
    first = target
    if anneal:
        largest = largest_cost(geometry, measures, layout)
        first = jnp.maximum(target, jnp.where(jnp.isfinite(largest), largest / 4, 0))
    phi, psi = (f - geometry.u) / first, (g - geometry.v) / first
    infinite = jnp.asarray(math.inf, dtype)
    zero = jnp.zeros((), jnp.int32)
    state = _State(
        phi=phi,
        psi=psi,
        shown_phi=phi,
        shown_psi=psi,
        epsilon=first,
        mass=infinite,
        error=infinite,
        memory=forgotten(psi),
        level_steps=zero,
        intact=jnp.asarray(True),
        steps=zero,
    )

    def arrived(state: _State) -> Array:
        return (state.epsilon <= target) & (state.error <= rtol) & state.intact

    def possible(state: _State) -> Array:
        finite = jnp.all(jnp.isfinite(state.phi)) & jnp.all(jnp.isfinite(state.psi))
        return finite & (state.steps < max_steps)

    def level_goes_on(state: _State) -> Array:
        coarse = state.epsilon > target
        last = coarse & (state.level_steps >= _LEVEL_STEPS)
        return (state.steps < max_steps) & state.intact & ~last & ~arrived(state)

    step = _step_symmetric if symmetric else _step

    def level(state: _State) -> _State:
        state = _settle(problem, layout, symmetric, state)
        state = state._replace(
            memory=forgotten(state.psi),
            level_steps=zero,
            intact=jnp.asarray(True),
        )
        state = jax.lax.while_loop(
            level_goes_on, functools.partial(step, problem, layout), state
        )
        # A level that broke off is settled again; one that ended gives way to the next.
        proceed = state.intact & (state.epsilon > target) & (state.steps < max_steps)
        lower = jnp.maximum(target, state.epsilon / _LEVEL_FACTOR)
        return _rescaled(
            geometry, state, jnp.where(proceed, lower, state.epsilon), proceed
        )

    valid = jnp.all(measures.a >= 0) & jnp.all(measures.b >= 0) & (target > 0)
    valid = valid & jnp.isfinite(target)
    state = jax.lax.while_loop(
        lambda s: possible(s) & ~arrived(s) & valid, level, state
    )
    state = _evaluated(problem, layout, symmetric, state)
    converged = (state.error <= rtol) & valid

    def shown(value: Array) -> Array:
        return jnp.where(valid, value, jnp.nan)

    return Solution(
        phi=shown(state.shown_phi),
        psi=shown(state.shown_psi),
        mass=shown(state.mass),
        error=shown(state.error),
        converged=converged,
        num_steps=state.steps,
    )


def _rescaled(
    geometry: Geometry, state: _State, epsilon: Array, proceed: Array
) -> _State:
    """The same potentials over another epsilon."""
    ratio = state.epsilon / epsilon

    def over(potential: Array) -> Array:
        return jnp.where(proceed, potential * ratio, potential)

    return state._replace(
        phi=over(state.phi),
        psi=over(state.psi),
        shown_phi=over(state.shown_phi),
        shown_psi=over(state.shown_psi),
        epsilon=epsilon,
        error=jnp.where(proceed, math.inf, state.error),
    )


def _evaluated(
    problem: _Problem, layout: Layout, symmetric: bool, state: _State
) -> _State:
    """Mass and error at the target epsilon, where the loop ended before it.

    Potentials of a coarser epsilon are settled first: as they are, their plan at the
    target may have any mass.
    """
    target = problem.measures.epsilon
    coarse = (state.epsilon > target) & (state.steps > 0)
    state = _rescaled(problem.geometry, state, target, jnp.asarray(True))._replace(
        error=jnp.where(state.epsilon > target, math.inf, state.error)
    )

    def evaluate(state: _State) -> _State:
        state = state._replace(phi=state.shown_phi, psi=state.shown_psi)
        settle = functools.partial(_settle, problem, layout, symmetric)
        state = jax.lax.cond(coarse, settle, lambda state: state, state)
        _, error, mass = _measure(problem, state, False, layout)
        return state._replace(
            error=error, mass=mass, shown_phi=state.phi, shown_psi=state.psi
        )

    return jax.lax.cond(jnp.isinf(state.error), evaluate, lambda state: state, state)
