"""Optimal potentials and value, with derivatives that need no more memory than they.

The value is differentiated by the envelope theorem: at optimal potentials only the
explicit dependence of the dual on the data counts. Potentials are differentiated
implicitly, through the marginal equations they solve.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero

from jaxcur.ot._costs import HIGHEST, GivenMatrix, find_centre
from jaxcur.ot._inputs import Problem
from jaxcur.ot._loop import (
    Measures,
    Solution,
    log_weights,
    soft_min,
    soft_min_columns,
    solve,
)
from jaxcur.ot._stream import Geometry, Layout, gibbs, stream

# A linear solve that stopped further off than this gives no derivative at all.
_WORST_RESIDUAL = 1e-2


@dataclasses.dataclass(frozen=True)
class ImplicitOptions:
    """How derivatives of potentials and plans are solved for: static.

    Only these need it; the derivative of the value does not.

    Args:
        rtol: the residual of the linear system over its right side, at the end; None
            for 1e-5 in float32 and 1e-9 in float64.
        ridge: added to the diagonal, relative to it. A positive one biases the
            derivative and helps where epsilon is tiny.
        max_steps: largest number of conjugate gradient steps. A solve that ends with a
            residual above 1e-2 gives NaN.

    Example:
        >>> from jaxcur import ot
        >>> ot.ImplicitOptions(max_steps=50).ridge
        0.0
    """

    rtol: float | None = None
    ridge: float = 0.0
    max_steps: int = 500


@dataclasses.dataclass(frozen=True)
class Options:
    """Static part of a solve.

    `some_absent` is false where every weight is known to be positive.
    """

    layout: Layout
    symmetric: bool
    anneal: bool
    max_steps: int
    implicit: ImplicitOptions
    some_absent: bool = True


def geometry_of(problem: Problem) -> Geometry:
    """Both clouds prepared."""
    centre = jnp.zeros(problem.x.shape[1], problem.x.dtype)
    # A given matrix has no points.
    if not isinstance(problem.cost, GivenMatrix):
        centre = find_centre(problem.x, problem.y, problem.a, problem.b)
    rows, columns = problem.cost.prepare(problem.x, problem.y, centre)
    return Geometry(rows, columns, problem.cost)


def measures_of(problem: Problem) -> Measures:
    """Weights and penalties."""
    return Measures(problem.a, problem.b, problem.epsilon, problem.rho_a, problem.rho_b)


def inner_sum(
    problem: Problem, f: Array, g: Array, alpha: Array, gamma: Array, layout: Layout
) -> Array:
    """Sum of exp((f_i + g_j - C_ij) / epsilon) (alpha_i b_j + a_i gamma_j)."""
    geometry = geometry_of(problem)
    phi = (f - geometry.u) / problem.epsilon
    psi = (g - geometry.v) / problem.epsilon

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        side, phi = rows
        a, alpha = weights
        columns, psi, both, epsilon, cost = shared
        kernel = gibbs(cost, side, columns, phi, psi, epsilon)
        sums = jnp.matmul(kernel, both, precision=HIGHEST)
        return jnp.sum(alpha * sums[:, 0] + a * sums[:, 1]), ()

    rows = (geometry.rows, phi)
    both = jnp.stack([problem.b, gamma], axis=1)
    shared = (geometry.columns, psi, both, problem.epsilon, problem.cost)
    return stream(body, rows, (problem.a, alpha), shared, layout)[0]


def _marginal_value(weights: Array, potential: Array, rho: Array | None) -> Array:
    if rho is None:
        return jnp.sum(weights * potential)
    return -rho * jnp.sum(weights * jnp.expm1(-potential / rho))


def dual_value(problem: Problem, f: Array, g: Array, mass: Array) -> Array:
    """Dual objective of potentials whose plan has the given mass."""
    product = jnp.sum(problem.a) * jnp.sum(problem.b)
    return (
        _marginal_value(problem.a, f, problem.rho_a)
        + _marginal_value(problem.b, g, problem.rho_b)
        - problem.epsilon * (mass - product)
    )


def _dual(problem: Problem, f: Array, g: Array, layout: Layout) -> Array:
    nothing = jnp.zeros_like(problem.b)
    mass = inner_sum(problem, f, g, problem.a, nothing, layout)
    return dual_value(problem, f, g, mass)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def envelope_value(
    layout: Layout, problem: Problem, f: Array, g: Array, mass: Array
) -> Array:
    """The dual value, differentiated as if f and g did not depend on the problem."""
    return dual_value(problem, f, g, mass)


def _envelope_forward(
    layout: Layout, problem: Problem, f: Array, g: Array, mass: Array
) -> tuple[Array, Any]:
    return dual_value(problem, f, g, mass), (problem, f, g)


def _envelope_backward(layout: Layout, residuals: Any, slope: Array) -> Any:
    problem, f, g = residuals
    # A and alpha are both the weights: the sum is linear in each, and only one counts.
    _, pull = jax.vjp(lambda p: _dual(p, f, g, layout), problem)
    (moved,) = pull(slope)
    return moved, None, None, None


envelope_value.defvjp(_envelope_forward, _envelope_backward)


def _solve(options: Options, problem: Problem, start: Any, rtol: Array) -> Solution:
    geometry, measures = geometry_of(problem), measures_of(problem)
    layout = options.layout
    found = solve(
        geometry,
        measures,
        start,
        rtol,
        symmetric=options.symmetric,
        anneal=options.anneal,
        layout=layout,
        max_steps=options.max_steps,
    )
    # Points without weight influence nothing, but their potentials are derivatives.
    epsilon = measures.epsilon

    def complete(potentials: tuple[Array, Array]) -> tuple[Array, Array]:
        phi, psi = potentials
        from_rows = soft_min(geometry, psi + log_weights(measures.b), epsilon, layout)
        from_columns = soft_min_columns(
            geometry, phi + log_weights(measures.a), epsilon, layout
        )
        return (
            jnp.where(measures.a > 0, phi, _damp(-from_rows, geometry.u, problem, "a")),
            jnp.where(
                measures.b > 0, psi, _damp(-from_columns, geometry.v, problem, "b")
            ),
        )

    phi, psi = found.phi, found.psi
    if options.max_steps > 0 and options.some_absent:
        some = jnp.any(measures.a == 0) | jnp.any(measures.b == 0)
        phi, psi = jax.lax.cond(some, complete, lambda both: both, (phi, psi))
    f, g = geometry.u + epsilon * phi, geometry.v + epsilon * psi
    return found._replace(phi=f, psi=g)


def _damp(phi: Array, offset: Array, problem: Problem, side: str) -> Array:
    rho = problem.rho_a if side == "a" else problem.rho_b
    if rho is None:
        return phi
    share = rho / (rho + problem.epsilon)
    return share * phi - (1 - share) * offset / problem.epsilon


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def potentials(
    options: Options, problem: Problem, start: Any, rtol: Array
) -> tuple[Array, Array, Solution]:
    """f, g (up to a shift), and what else the solve found."""
    found = _solve(options, problem, start, rtol)
    return found.phi, found.psi, found


def _potentials_forward(
    options: Options, problem: Any, start: Any, rtol: Any
) -> tuple[Any, Any]:
    # With symbolic zeros the arguments come wrapped.
    problem, start, rtol = jax.tree.map(
        lambda leaf: leaf.value,
        (problem, start, rtol),
        is_leaf=lambda leaf: isinstance(leaf, CustomVJPPrimal),
    )
    # The decorated function is called, so that second derivatives find its rule.
    out: Any = potentials(options, problem, start, rtol)
    return out, (problem, out[0], out[1])


def _potentials_backward(options: Options, residuals: Any, cotangents: Any) -> Any:
    problem, f, g = residuals
    slope_f, slope_g, _ = cotangents
    unused = [isinstance(slope, SymbolicZero) for slope in (slope_f, slope_g)]
    if all(unused):
        # Only the value is differentiated: nothing is solved, and what there is can be
        # differentiated again.
        return jax.tree.map(jnp.zeros_like, problem), None, None
    slope_f, slope_g = (
        jnp.zeros_like(potential) if isinstance(slope, SymbolicZero) else slope
        for slope, potential in ((slope_f, f), (slope_g, g))
    )
    return _implicit(options, problem, f, g, slope_f, slope_g), None, None


potentials.defvjp(_potentials_forward, _potentials_backward, symbolic_zeros=True)


def _implicit(
    options: Options,
    problem: Problem,
    f: Array,
    g: Array,
    slope_f: Array,
    slope_g: Array,
) -> Problem:
    """Pull cotangents of the potentials back to the problem.

    With K_ij = exp((f_i + g_j - C_ij) / epsilon) the potentials solve K b = e^{-f/rho}
    and K'a = e^{-g/rho} (ones when balanced). The transposed linearisation is solved
    through its Schur complement in the columns; equations are divided by the weights,
    so that points without weight take part.
    """
    layout, epsilon = options.layout, problem.epsilon
    a, b = problem.a, problem.b
    geometry = geometry_of(problem)
    phi, psi = (f - geometry.u) / epsilon, (g - geometry.v) / epsilon
    shared = (geometry.columns, psi, epsilon, problem.cost)

    def kernel_of(side: Any, phi: Array, shared: Any) -> Array:
        columns, psi, epsilon, cost = shared
        return gibbs(cost, side, columns, phi, psi, epsilon)

    def product(vector: Array, weights: Array) -> tuple[Array, Array]:
        """K times the vector, and K' times the weights."""

        def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
            side, phi = rows
            common, vector = shared
            kernel = kernel_of(side, phi, common)
            return (
                jnp.matmul(weights, kernel, precision=HIGHEST),
                jnp.matmul(kernel, vector, precision=HIGHEST),
            )

        rows = (geometry.rows, phi)
        columns, along = stream(body, rows, weights, (shared, vector), layout)
        return along, columns

    def there_and_back(vector: Array, factors: Array) -> Array:
        """K' (factors * (K vector)) in one pass."""

        def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
            side, phi = rows
            common, vector = shared
            kernel = kernel_of(side, phi, common)
            along = weights * jnp.matmul(kernel, vector, precision=HIGHEST)
            return jnp.matmul(along, kernel, precision=HIGHEST), ()

        rows = (geometry.rows, phi)
        return stream(body, rows, factors, (shared, vector), layout)[0]

    along_b, along_a = product(b, a)
    diagonal_a, diagonal_b = along_b, along_a
    if problem.rho_a is not None:
        diagonal_a = diagonal_a * (1 + epsilon / problem.rho_a)
    if problem.rho_b is not None:
        diagonal_b = diagonal_b * (1 + epsilon / problem.rho_b)
    present = b > 0
    absent = jnp.where(present, 0, epsilon * slope_g / diagonal_b)
    right_a = epsilon * slope_f - a * product(absent, jnp.zeros_like(a))[0]
    back = product(jnp.zeros_like(b), right_a / diagonal_a)[1]
    right = jnp.where(present, epsilon * slope_g - b * back, 0)
    if problem.rho_a is None and problem.rho_b is None:
        # The equations are consistent only on the complement of constant shifts.
        right = right - b * jnp.sum(right) / jnp.sum(b)
    diagonal = b * diagonal_b

    def schur(vector: Array) -> Array:
        full = diagonal * (1 + options.implicit.ridge) * vector
        return full - b * there_and_back(b * vector, a / diagonal_a)

    solution, residual = _conjugate_gradient(
        schur, right, jnp.where(present, diagonal, 1), options.implicit
    )
    gamma = absent + b * solution
    alpha = (right_a - a * product(b * solution, jnp.zeros_like(a))[0]) / diagonal_a
    usable = residual <= _WORST_RESIDUAL
    alpha, gamma = (jnp.where(usable, v, jnp.nan) for v in (alpha, gamma))

    def equations(problem: Problem) -> Array:
        total = inner_sum(problem, f, g, alpha, gamma, layout)
        if problem.rho_a is not None:
            total = total - jnp.sum(alpha * jnp.exp(-f / problem.rho_a))
        if problem.rho_b is not None:
            total = total - jnp.sum(gamma * jnp.exp(-g / problem.rho_b))
        return -total

    return jax.grad(equations)(problem)


def _conjugate_gradient(
    apply: Any, right: Array, diagonal: Array, options: ImplicitOptions
) -> tuple[Array, Array]:
    """Preconditioned conjugate gradients, and the relative residual at the end."""
    dtype = right.dtype
    rtol = options.rtol
    if rtol is None:
        rtol = 1e-5 if jnp.finfo(dtype).bits == 32 else 1e-9
    size = jnp.sqrt(jnp.sum(right * right / diagonal))
    size = jnp.where(size > 0, size, 1)

    def inner(residual: Array) -> Array:
        return jnp.sum(residual * residual / diagonal)

    def proceed(state: Any) -> Array:
        _, _, _, energy, count = state
        far = jnp.sqrt(energy) > rtol * size
        return far & (count < options.max_steps)

    def step(state: Any) -> Any:
        solution, residual, direction, energy, count = state
        image = apply(direction)
        curvature = jnp.sum(direction * image)
        length = jnp.where(
            curvature > 0, energy / jnp.where(curvature > 0, curvature, 1), 0
        )
        solution = solution + length * direction
        residual = residual - length * image
        after = inner(residual)
        direction = residual / diagonal + after / energy * direction
        # Without curvature there is nowhere to go: ends with the residual it has.
        count = jnp.where(curvature > 0, count + 1, options.max_steps)
        return solution, residual, direction, after, count

    start = (
        jnp.zeros_like(right),
        right,
        right / diagonal,
        inner(right),
        jnp.zeros((), jnp.int32),
    )
    solution, _, _, energy, _ = jax.lax.while_loop(proceed, step, start)
    return solution, jnp.sqrt(energy) / size
