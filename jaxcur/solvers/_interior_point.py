"""Interior-point method for a smooth loss, absolute values and linear constraints."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from jaxcur.solvers._constraints import (
    Bounds,
    Constraints,
    Multipliers,
    certify,
    polish,
)
from jaxcur.solvers._proximal_newton import SmoothModel

# Share of the way to the boundary that a step may go.
_TO_BOUNDARY = 0.995
# Products of multipliers and slacks stay above this share of their mean.
_CENTRED = 1e-3
_NUM_HALVINGS = 30
_REFINEMENTS = 3
# Where the slack of a coordinate at or above zero starts at least.
_AWAY = 0.1
# Steps without a better residual before rounding is declared the limit.
_PATIENCE = 4


class InteriorPointResult(NamedTuple):
    """Where the iteration ended.

    Attributes:
        solution: shape (q,); zeros of penalised coordinates are exact.
        tilt: shape (q,), the multipliers' part of the gradient, y'E - A'nu: f plus
            penalties plus  tilt'x  is stationary at the solution, and for every
            feasible x  tilt'x <= 0  where the margin is not counted.
        multipliers: `nu` (c,) of the constraints, and `lean` (r,) of E x, within the
            bounds M'nu and inside them where E x is zero; None without kinks.
        residual: scalar, largest of the stationarity residual, of the products of
            multipliers and slacks, and of the violation of the constraints.
        last_step: scalar, largest change of the predictor by the last step.
        num_steps: scalar int.
    """

    solution: Float[Array, " q"]
    tilt: Float[Array, " q"]
    multipliers: Multipliers
    residual: Float[Array, ""]
    last_step: Float[Array, ""]
    num_steps: Int[Array, ""]


class _Point(NamedTuple):
    """Parameters, bounds of absolute values, slacks and multipliers.

    `v` bounds |x| and |E x|, `above` = v - (x, E x) and `below` = v + (x, E x) are its
    slacks, kept as numbers of their own: a difference of the two large ones would lose
    all digits. The same goes for `slack`, of the constraints.
    """

    x: Array
    v: Array
    above: Array
    below: Array
    slack: Array
    dual_above: Array
    dual_below: Array
    nu: Array


class _State(NamedTuple):
    point: _Point
    eta: Array
    gradient: Array
    curvature: Array
    error: Array
    barrier: Array
    last_step: Array
    idle: Array
    num_steps: Array


def _ratio(numerator: Array, denominator: Array, mask: Array) -> Array:
    return jnp.where(mask, numerator / jnp.where(mask, denominator, 1), 0)


def interior_point(
    model: SmoothModel,
    constraints: Constraints,
    start: Float[Array, " q"],
    penalties: Float[Array, " q"],
    free: Bool[Array, " q"],
    *,
    tolerance: Any,
    max_steps: int,
    positive: Bool[Array, " q"] | None = None,
    skip: Any = False,
) -> InteriorPointResult:
    """Minimise  f(x) + sum_j penalties_j |x_j|  under  A x - M |E x| >= margin.

    Every absolute value gets an upper bound with two slacks, which makes the problem
    smooth with linear constraints; a primal-dual method follows its central path, each
    step one Cholesky factorisation of a (q, q) matrix. Steps are halved until the
    residual of the perturbed optimality conditions decreases. Near the end the method
    of multipliers, with the absolute values treated exactly, takes over: penalised
    coordinates become exact zeros and the residual drops to rounding.

    Guarantee: for a convex f, `residual` 0 means a minimiser. Verified by: SLSQP on the
    split problem, random feasible directions.

    Args:
        model: the smooth part.
        constraints: the constraints.
        start: shape (q,), strictly feasible and inside the domain of f.
        penalties: shape (q,), at least 0.
        free: shape (q,); False holds a coordinate at its start.
        tolerance: stop at this residual.
        max_steps: largest number of steps. Static.
        positive: shape (q,); True keeps a coordinate at or above zero.
        skip: True returns the start (under vmap, to wait for the others).

    Transformations: jit, vmap.
    Cost: per step a Hessian, `gram` of the constraints and one factorisation; 15 to 40
    steps.
    Source: Boyd and Vandenberghe, "Convex optimization", 2004, section 11.7; the choice
    of the barrier after Mehrotra 1992.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import solvers
        >>> model = solvers.SmoothModel(
        ...     predict=lambda x: x,
        ...     value=lambda eta, x: jnp.sum((x - 2) ** 2) / 2,
        ...     gradient=lambda eta, x: x - 2,
        ...     hessian=lambda eta, x: jnp.eye(2),
        ...     limit=lambda eta, change: jnp.inf,
        ... )
        >>> half_space = solvers.Constraints(
        ...     value=lambda x: 1 - jnp.sum(x, keepdims=True) + 0,
        ...     pull=lambda nu: -nu * jnp.ones(2),
        ...     gram=lambda w: w[0] * jnp.ones((2, 2)),
        ...     margin=jnp.zeros(1),
        ...     present=jnp.ones(1, bool),
        ... )
    """
    q, dtype = start.size, start.dtype
    epsilon = jnp.finfo(dtype).eps
    tolerance, skip = jnp.asarray(tolerance, dtype), jnp.asarray(skip)
    # The path is followed until zeros can be told; the polish does the rest.
    rough = jnp.maximum(tolerance, jnp.minimum(300 * tolerance, 1e-6))
    goal = jnp.maximum(1e-3 * rough, 0.5 * epsilon)
    kinks, cone, present = constraints.kinks, constraints.cone, constraints.present
    signed = jnp.zeros(q, bool) if positive is None else positive & free
    split = free & (penalties > 0) & ~signed
    cost = jnp.where(free, penalties, 0)
    if kinks is not None and cone is not None:
        bent = jnp.any(cone > 0, axis=0)
        above_on = jnp.concatenate([split, bent])
        below_on = jnp.concatenate([split | signed, bent])
        cost = jnp.concatenate([cost, jnp.zeros(kinks.shape[0], dtype)])
    else:
        above_on, below_on = split, split | signed

    def spread(x: Array) -> Array:
        """(x, E x)."""
        return x if kinks is None else jnp.concatenate([x, kinks @ x])

    def gather(values: Array) -> Array:
        """Transpose of `spread`."""
        return values if kinks is None else values[:q] + values[q:] @ kinks

    def widen(nu: Array) -> Array:
        """M'nu, zeros for the coordinates themselves."""
        if cone is None:
            return jnp.zeros(q, dtype)
        return jnp.concatenate([jnp.zeros(q, dtype), nu @ cone])

    def narrow(values: Array) -> Array:
        """M values."""
        if cone is None:
            return jnp.zeros(present.shape, dtype)
        return cone @ values[q:]

    def errors(point: _Point, gradient: Array) -> tuple[Array, Array]:
        """Residuals of stationarity in x and in v."""
        pull = gather(point.dual_above - point.dual_below)
        x = gradient + jnp.where(signed, cost[:q], 0) + pull
        x = jnp.where(free, x - constraints.pull(point.nu), 0)
        v = cost - point.dual_above - point.dual_below + widen(point.nu)
        return x, jnp.where(above_on, v, 0)

    def gap(point: _Point) -> Array:
        """Of a coordinate at or above zero to its slack, which starts too large."""
        return jnp.where(signed, point.x - point.below[:q], 0)

    def products(point: _Point) -> tuple[Array, Array, Array]:
        return (
            point.above * point.dual_above,
            point.below * point.dual_below,
            jnp.where(present, point.slack * point.nu, 0),
        )

    def merit(point: _Point, gradient: Array, barrier: Array) -> Array:
        x, v = errors(point, gradient)
        one, two, three = products(point)
        masks = (above_on, below_on, present)
        total = jnp.sum(x * x) + jnp.sum(v * v) + jnp.sum(gap(point) ** 2)
        for product, mask in zip((one, two, three), masks, strict=True):
            total = total + jnp.sum(jnp.where(mask, (product - barrier) ** 2, 0))
        return jnp.sqrt(total)

    def sides(point: _Point, curvature: Array) -> tuple[Array, Array]:
        """Residual of a coordinate if it is called a zero, and if it is not."""
        least = jnp.minimum(point.dual_above[:q], point.dual_below[:q])
        if_zero = curvature * jnp.where(signed, point.below[:q], point.v[:q])
        return if_zero, jnp.where(signed, point.dual_below[:q], 2 * least)

    def measure(point: _Point, gradient: Array, curvature: Array) -> Array:
        """Residual of stationarity, with what zeros called zeros will add."""
        x, v = errors(point, gradient)
        error = jnp.maximum(jnp.max(jnp.abs(x)), jnp.max(jnp.abs(v), initial=0))
        blur = jnp.minimum(*sides(point, curvature))
        return jnp.maximum(error, jnp.max(jnp.where(split | signed, blur, 0)))

    count = jnp.sum(above_on) + jnp.sum(below_on) + jnp.sum(present)
    count = jnp.maximum(count, 1).astype(dtype)

    def centred(point: _Point, mean: Array) -> Array:
        """No product far below the mean: such a constraint would block the way."""
        inside = jnp.ones((), bool)
        masks = (above_on, below_on, present)
        for product, mask in zip(products(point), masks, strict=True):
            inside = inside & jnp.all(~mask | (product >= _CENTRED * mean))
        return inside

    def mean_product(point: _Point) -> Array:
        return sum(jnp.sum(product) for product in products(point)) / count

    def step(state: _State) -> _State:
        point = state.point
        above = _ratio(point.dual_above, point.above, above_on)
        below = _ratio(point.dual_below, point.below, below_on)
        both = above + below
        skew = below - above
        tilt = _ratio(skew, both, above_on)
        inverse = _ratio(jnp.ones_like(both), both, above_on)
        curvature = jnp.where(above_on, 4 * above * below * inverse, below)
        weight = _ratio(point.nu, point.slack, present)
        spread_gap = jnp.zeros_like(point.below).at[:q].set(gap(point))
        smooth = model.hessian(state.eta, point.x)
        matrix = smooth + jnp.diag(curvature[:q])
        if kinks is None or cone is None:
            matrix = matrix + constraints.gram(weight)
            coupling, root = None, None
        else:
            matrix = matrix + (kinks.T * curvature[q:]) @ kinks
            coupling = jax.vmap(constraints.pull)(jnp.eye(present.size, dtype=dtype))
            coupling = coupling + (cone * tilt[q:]) @ kinks
            inner = (cone * inverse[q:]) @ cone.T
            inner = inner + jnp.diag(_ratio(point.slack, point.nu, present))
            inner = jnp.where(present[:, None] & present, inner, 0)
            inner = inner + jnp.diag(jnp.where(present, 0.0, 1.0).astype(dtype))
            root = jnp.linalg.cholesky(inner)
            half = jax.scipy.linalg.solve_triangular(root, coupling, lower=True)
            matrix = matrix + half.T @ half
        matrix = jnp.where(free[:, None] & free, matrix, 0)
        diagonal = jnp.diagonal(matrix)
        # Relative to the loss: the rest grows without bound in a few directions.
        jitter = 10 * q * epsilon * jnp.diagonal(smooth) + epsilon * diagonal
        jitter = jnp.where(diagonal > 0, jitter, 1)
        factor = jnp.linalg.cholesky(matrix + jnp.diag(jitter))
        factor = jax.lax.cond(
            jnp.all(jnp.isfinite(factor)),
            lambda: factor,
            lambda: jnp.linalg.cholesky(
                matrix + jnp.diag(jitter + 100 * q * epsilon * diagonal)
            ),
        )

        def direction(barrier: Array) -> _Point:
            one = _ratio(barrier + jnp.zeros_like(both), point.above, above_on)
            two = _ratio(barrier + jnp.zeros_like(both), point.below, below_on)
            two = two - jnp.where(below_on, below * spread_gap, 0)
            lift = jnp.where(above_on, one + two - cost, 0)
            flat = jnp.where(above_on, one - two + tilt * lift, -two)
            right = jnp.where(signed, cost[:q], 0) + state.gradient + gather(flat)
            bound = _ratio(barrier + jnp.zeros_like(point.nu), point.nu, present)
            bound = jnp.where(present, bound + narrow(inverse * lift), 0)
            if coupling is None or root is None:
                right = right - constraints.pull(weight * bound)
            else:
                solved = jax.scipy.linalg.cho_solve((root, True), bound)
                right = right - solved @ coupling
            right = jnp.where(free, right, 0)

            # Refined, because of the jitter: collinear columns are singular.
            def refine(_, dx: Array) -> Array:
                rest = -right - matrix @ dx
                return dx + jax.scipy.linalg.cho_solve((factor, True), rest)

            dx = jax.lax.fori_loop(0, _REFINEMENTS, refine, jnp.zeros_like(right))
            if coupling is None or root is None:
                nu = weight * (bound - constraints.value(dx))
            else:
                nu = jax.scipy.linalg.cho_solve((root, True), bound - coupling @ dx)
            nu = jnp.where(present, nu, 0)
            along = spread(dx)
            dv = inverse * (lift - widen(nu) - skew * along)
            dv = jnp.where(above_on, dv, 0)
            d_above = jnp.where(above_on, dv - along, 0)
            d_below = jnp.where(below_on, dv + along + spread_gap, 0)
            return _Point(
                dx,
                dv,
                d_above,
                d_below,
                jnp.where(present, constraints.value(dx) - narrow(dv), 0),
                jnp.where(above_on, one - above * d_above - point.dual_above, 0),
                jnp.where(below_on, two - below * (dv + along) - point.dual_below, 0),
                jnp.where(present, nu - point.nu, 0),
            )

        def longest(change: _Point) -> Array:
            sizes = [jnp.ones((), dtype)]
            for old, new in zip(point[2:], change[2:], strict=True):
                shrinks = new < 0
                limit = -old / jnp.where(shrinks, new, 1)
                limit = jnp.min(jnp.where(shrinks, limit, jnp.inf), initial=jnp.inf)
                sizes.append(_TO_BOUNDARY * limit)
            return jnp.min(jnp.stack(sizes))

        def moved(change: _Point, size: Array) -> _Point:
            return jax.tree.map(lambda old, new: old + size * new, point, change)

        now = mean_product(point)

        def aim(i: Array, carry: tuple[Array, _Point]) -> tuple[Array, _Point]:
            """First towards the boundary, which suggests a barrier; then with it."""
            barrier, _ = carry
            change = direction(barrier)
            after = mean_product(moved(change, longest(change)))
            centring = jnp.clip(after / now, 0.01, 1) ** 3
            suggested = jnp.maximum(centring * now, 0.03 * goal)
            return jnp.where(i == 0, suggested, barrier), change

        barrier, change = jax.lax.fori_loop(0, 2, aim, (jnp.zeros((), dtype), point))
        eta_change = model.predict(point.x + change.x) - model.predict(point.x)
        limit = jnp.minimum(0.99 * model.limit(state.eta, eta_change), 1).astype(dtype)
        before = merit(point, state.gradient, barrier)
        # What rounding leaves in the gradient hides the decrease of the products.
        noise = 4 * epsilon * jnp.sqrt(jnp.asarray(q, dtype))

        def attempt(carry):
            size, _, tries, _, _, _ = carry
            trial = moved(change, size)
            eta = model.predict(trial.x)
            gradient = model.gradient(eta, trial.x)
            after = merit(trial, gradient, barrier)
            enough = after <= (1 - 0.01 * size) * before + noise
            enough = enough & centred(trial, mean_product(trial))
            return (
                jnp.where(enough, size, size / 2),
                enough,
                tries + 1,
                trial,
                eta,
                gradient,
            )

        carry = (
            jnp.minimum(limit, longest(change)),
            jnp.zeros_like(state.idle, bool),
            jnp.zeros_like(state.idle),
            point,
            state.eta,
            state.gradient,
        )
        carry = jax.lax.while_loop(
            lambda c: ~c[1] & (c[2] < _NUM_HALVINGS), attempt, carry
        )
        size, accepted, _, trial, eta, gradient = carry
        trial, eta, gradient = jax.tree.map(
            lambda new, old: jnp.where(accepted, new, old),
            (trial, eta, gradient),
            (point, state.eta, state.gradient),
        )
        error = measure(trial, gradient, jnp.diagonal(smooth))
        mean = mean_product(trial)
        improved = (error < 0.9 * state.error) | (mean < 0.9 * state.barrier)
        return _State(
            trial,
            eta,
            gradient,
            jnp.diagonal(smooth),
            error,
            mean,
            jnp.where(accepted, size * jnp.max(jnp.abs(eta_change)), state.last_step),
            jnp.where(accepted & improved, 0, state.idle + 1),
            state.num_steps + 1,
        )

    def proceed(state: _State) -> Array:
        wanted = (state.error > 0.1 * rough) | (state.barrier > goal)
        allowed = (state.num_steps < max_steps) & (state.idle < _PATIENCE)
        return wanted & allowed & ~skip

    eta = model.predict(start)
    gradient = model.gradient(eta, start)
    room = constraints.slack(start) - constraints.margin
    # A centre of about a tenth of the objective, shared among the constraints.
    barrier = jnp.maximum(0.1 * jnp.abs(model.value(eta, start)) / count, goal)
    along = spread(start)
    width = jnp.where(split, barrier / jnp.where(split, penalties, 1), 0)
    v = jnp.where(split, width + jnp.sqrt(width**2 + start**2), 0)
    slack = jnp.where(present, room, 1)
    if cone is not None:
        # Half of the room of a constraint goes to the bounds it is made of.
        part = jnp.maximum(jnp.sum(cone > 0, axis=1), 1)[:, None] * cone
        share = jnp.where(
            (cone > 0) & present[:, None],
            room[:, None] / jnp.where(cone > 0, part, 1),
            jnp.inf,
        )
        extra = jnp.where(bent, 0.5 * jnp.min(share, axis=0), 0)
        v = jnp.concatenate([v, jnp.abs(along[q:]) + extra])
        slack = jnp.where(present, room - cone @ extra, 1)
    above = jnp.where(above_on, v - along, 1)
    below = jnp.where(below_on, v + along, 1)
    if positive is not None:
        away = jnp.where(signed, jnp.maximum(start, _AWAY), below[:q])
        below = below.at[:q].set(away)
    point = _Point(
        start,
        v,
        above,
        below,
        slack,
        jnp.where(above_on, barrier / above, 0),
        jnp.where(below_on, barrier / below, 0),
        jnp.where(present, barrier / slack, 0),
    )
    zero = jnp.zeros((), jnp.int32)
    state = _State(
        point,
        eta,
        gradient,
        jnp.ones(q, dtype),
        measure(point, gradient, jnp.ones(q, dtype)),
        jnp.maximum(mean_product(point), 2 * goal),
        jnp.zeros((), dtype),
        zero,
        zero,
    )
    state = jax.lax.while_loop(proceed, step, state)
    point = state.point
    if_zero, if_not = sides(point, state.curvature)
    vanishes = (split | signed) & (if_zero < if_not)
    x = jnp.where(vanishes | signed & (point.x < 0), 0, point.x)
    bounds = Bounds(penalties, free, None if positive is None else signed)
    lean, fused = None, None
    if kinks is not None:
        lean = (point.dual_above - point.dual_below)[q:]
        least = jnp.minimum(point.dual_above, point.dual_below)[q:]
        fused = bent & (least > point.v[q:])
    multipliers = Multipliers(point.nu, lean)
    reached = certify(model, constraints, bounds, x, multipliers)
    best, last_step, num_steps = polish(
        model,
        constraints,
        bounds,
        reached,
        multipliers,
        fused,
        state.last_step,
        tolerance=tolerance,
        max_steps=max_steps,
        skip=skip,
    )
    return InteriorPointResult(
        best.x,
        best.tilt,
        best.multipliers,
        best.residual,
        last_step,
        state.num_steps + num_steps,
    )
