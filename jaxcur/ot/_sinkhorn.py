"""Entropic optimal transport between weighted point clouds, streamed."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import as_float, check_rank, register_dataclass
from jaxcur.ot._costs import GivenMatrix, SquaredEuclidean, as_cost
from jaxcur.ot._inputs import (
    Problem,
    balance,
    default_rtol,
    has_absent,
    prepare_layout,
    prepare_points,
    prepare_positive,
    prepare_rho,
    prepare_steps,
    prepare_weights,
)
from jaxcur.ot._potentials import (
    ImplicitOptions,
    Options,
    envelope_value,
    potentials,
)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SinkhornResult:
    """Potentials of an entropic transport problem, and what they were found for.

    The plan is P_ij = a_i b_j exp((f_i + g_j - C_ij) / epsilon); it is never stored.

    Attributes:
        f: shape (n,), potential on x. Where a_i = 0 it is what a weight there would
            meet: the derivative of the value.
        g: shape (m,), potential on y. Balanced problems leave a shift between f and g
            free; it is chosen so that sum a f = sum b g.
        value: scalar, `ot_eps` = <P, C> + epsilon KL(P | a b'), from the dual: a lower
            bound of it at any potentials, with an error of second order in `error`.
            Unbalanced: plus the penalties of the marginals.
        error: scalar, L1 distance of both marginals of P from where they should be,
            over the mass.
        converged: scalar, bool; error <= rtol.
        num_steps: scalar, full iterations, those of the annealing included, but the
            first of each epsilon.
        epsilon: scalar.
        a: shape (n,), weights as used.
        b: shape (m,), weights as used.
        cost: the cost.
        rho_a: scalar, penalty of the first marginal; None when it is kept.
        rho_b: the same for the second.
        tile: rows in a tile (static).
        mesh: devices (static), or None.
    """

    f: Array
    g: Array
    value: Array
    error: Array
    converged: Array
    num_steps: Array
    epsilon: Array
    a: Array
    b: Array
    cost: Any
    rho_a: Array | None
    rho_b: Array | None
    tile: int = dataclasses.field(metadata={"static": True})
    mesh: Mesh | None = dataclasses.field(metadata={"static": True})


@functools.partial(jax.jit, static_argnames=("options",))
def run(
    problem: Problem, start: tuple[Array, Array], rtol: Array, *, options: Options
) -> SinkhornResult:
    """Solve a checked problem."""
    solved: Any = potentials(options, problem, start, rtol)
    f, g, found = solved
    found = jax.tree.map(jax.lax.stop_gradient, found)
    value: Any = envelope_value(options.layout, problem, f, g, found.mass)
    if problem.rho_a is None and problem.rho_b is None and not options.symmetric:
        half = (jnp.sum(problem.b * g) - jnp.sum(problem.a * f)) / (
            jnp.sum(problem.a) + jnp.sum(problem.b)
        )
        if options.max_steps > 0:
            f, g = f + half, g - half
    return SinkhornResult(
        f=f,
        g=g,
        value=value,
        error=found.error,
        converged=found.converged,
        num_steps=found.num_steps,
        epsilon=problem.epsilon,
        a=problem.a,
        b=problem.b,
        cost=problem.cost,
        rho_a=problem.rho_a,
        rho_b=problem.rho_b,
        tile=options.layout.tile,
        mesh=options.layout.mesh,
    )


def prepare(
    x: Array,
    y: Array,
    a: Any,
    b: Any,
    *,
    epsilon: Any,
    cost: Any,
    rho_a: Any,
    rho_b: Any,
) -> Problem:
    """Weights, penalties and cost of a problem between two arrays of points."""
    dtype = x.dtype
    weights_a = prepare_weights("a", a, x.shape[0], dtype)
    weights_b = prepare_weights("b", b, y.shape[0], dtype)
    penalty_a = prepare_rho("rho_a", rho_a, dtype)
    penalty_b = prepare_rho("rho_b", rho_b, dtype)
    if penalty_a is None and penalty_b is None:
        weights_a, weights_b = balance("a", weights_a), balance("b", weights_b)
    return Problem(
        x=x,
        y=y,
        a=weights_a,
        b=weights_b,
        epsilon=prepare_positive("epsilon", epsilon, dtype),
        rho_a=penalty_a,
        rho_b=penalty_b,
        cost=as_cost(cost, x, y),
    )


def prepare_start(init: Any, n: int, m: int, dtype: Any) -> tuple[Array, Array]:
    """Potentials to begin with."""
    if init is None:
        return jnp.zeros(n, dtype), jnp.zeros(m, dtype)
    f, g = (init.f, init.g) if isinstance(init, SinkhornResult) else init
    f, g = jnp.asarray(f, dtype), jnp.asarray(g, dtype)
    if f.shape != (n,) or g.shape != (m,):
        raise ValueError(
            f"`init` must hold potentials of shapes ({n},) and ({m},), "
            f"got {f.shape} and {g.shape}"
        )
    return jax.lax.stop_gradient(f), jax.lax.stop_gradient(g)


def sinkhorn(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"],
    *,
    epsilon: Real[ArrayLike, ""],
    a: Real[ArrayLike, " n"] | None = None,
    b: Real[ArrayLike, " m"] | None = None,
    cost: Any = SquaredEuclidean(),  # noqa: B008
    rho_a: Real[ArrayLike, ""] | None = None,
    rho_b: Real[ArrayLike, ""] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 2000,
    tile: int | None = None,
    init: Any = None,
    mesh: Mesh | None = None,
    implicit: ImplicitOptions = ImplicitOptions(),  # noqa: B008
) -> SinkhornResult:
    """Entropic optimal transport:  min <P, C> + epsilon KL(P | a b')  over plans P.

    P has marginals a and b; with `rho_a` (`rho_b`) finite, the first (second) marginal
    may differ at the price rho KL(P 1 | a). The value of the result is the whole
    objective (`ot_eps`); `ot.transport_cost` gives <P, C> alone. The matrix C is not
    stored, but for the length of a solve on a CPU where it takes at most 400 MB:
    reading it is three times faster than computing it again.

    Guarantee: with `converged` true both marginals of the plan are within `rtol` in L1,
    relative to the mass, and the value is that of the dual at feasible potentials,
    hence never above the optimum beyond rounding. `ot.certified_bounds` encloses the
    unregularised cost. Verified by: tests/property/test_ot.py and stored results of
    two other packages.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        epsilon: strength of the entropy, in units of the cost.
        a: shape (n,), weights of x; None for uniform. Zeros influence nothing. The sum
            must be 1 within 1e-4 (and is then divided by) unless the problem is
            unbalanced.
        b: shape (m,), weights of y.
        cost: `SquaredEuclidean()` (not halved), `Euclidean()`, `Cosine()`,
            `LabelAugmented(...)`, or a function that maps blocks (r, d) and (c, d) to
            costs (r, c). A new function is a new compilation.
        rho_a: penalty of the first marginal; None or infinity to keep it.
        rho_b: penalty of the second marginal.
        rtol: tolerance of `error`; None for 1e-4 in float32, 1e-6 in float64.
        max_steps: largest number of iterations. Static. With 0 the initial potentials
            come back, evaluated.
        tile: rows of x in a tile; None chooses. Static; changes nothing but time and
            memory: with a tile given no matrix is stored, however small.
        init: potentials (f, g), or a result, to begin from; annealing of epsilon is
            then left out.
        mesh: devices with one axis, over which rows of x are divided; None for one.
        implicit: solver for derivatives of f, g and plans.

    Returns:
        `SinkhornResult`. NaN values and `converged` false where points are not finite,
        or where weights under tracing are negative or do not sum to 1.

    Raises:
        ValueError: wrong shapes, no points, weights that are negative or do not sum to
            1, a parameter that is not positive.

    Transformations: jit, vmap (a batch runs until its slowest problem ends), reverse
    mode: `value` by the envelope theorem in one more pass, f and g implicitly; `value`
    twice by grad of grad (for Hessian-vector products differentiate the product of the
    gradient with a vector). No forward mode.
    Cost: n m exponentials and, where costs are not kept, 2 n m d multiplications an
    iteration; memory O((n + m) d + tile m), for derivatives too, or 400 MB.

    Source: Cuturi, "Sinkhorn distances", 2013; Feydy, "Geometric data analysis, beyond
    convolutions", 2020 (annealing, symmetric problems); Anderson, "Iterative
    procedures for nonlinear integral equations", 1965; Sejourne et al., "Faster
    unbalanced optimal transport", 2022 (translation-invariant updates).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x, y = jnp.array([[0.0], [1.0]]), jnp.array([[1.0], [3.0]])
        >>> result = ot.sinkhorn(x, y, epsilon=0.01)
        >>> bool(result.converged), float(ot.transport_cost(result, x, y).round(2))
        (True, 2.5)
    """
    x, y = prepare_points(x, y)
    problem = prepare(x, y, a, b, epsilon=epsilon, cost=cost, rho_a=rho_a, rho_b=rho_b)
    n, m, dtype = x.shape[0], y.shape[0], x.dtype
    options = Options(
        layout=prepare_layout(tile, x, y, mesh),
        symmetric=False,
        anneal=init is None,
        max_steps=prepare_steps(max_steps),
        implicit=implicit,
        some_absent=has_absent(a, b),
    )
    start = prepare_start(init, n, m, dtype)
    return run(problem, start, default_rtol(rtol, dtype), options=options)


def sinkhorn_matrix(
    cost: Real[ArrayLike, "n m"],
    *,
    epsilon: Real[ArrayLike, ""],
    a: Real[ArrayLike, " n"] | None = None,
    b: Real[ArrayLike, " m"] | None = None,
    rho_a: Real[ArrayLike, ""] | None = None,
    rho_b: Real[ArrayLike, ""] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 2000,
    tile: int | None = None,
    init: Any = None,
    mesh: Mesh | None = None,
    implicit: ImplicitOptions = ImplicitOptions(),  # noqa: B008
) -> SinkhornResult:
    """Entropic optimal transport for a given cost matrix.

    Args:
        cost: shape (n, m), finite.
        epsilon: as in `sinkhorn`, and so are the other arguments.
        a: shape (n,).
        b: shape (m,).
        rho_a: penalty of the first marginal.
        rho_b: penalty of the second marginal.
        rtol: tolerance of `error`.
        max_steps: largest number of iterations. Static.
        tile: rows in a tile. Static.
        init: potentials to begin from.
        mesh: devices over which rows are divided.
        implicit: solver for derivatives of f, g and plans.

    Returns:
        `SinkhornResult`. What takes `(result, x, y)` takes `(result, cost)` here.

    Guarantee: as `sinkhorn`. Verified by: the same.

    Raises:
        ValueError: as `sinkhorn`.

    Transformations: as `sinkhorn`; the derivative of `value` in the cost is the plan.
    Cost: n m exponentials an iteration and no product; O(n m) memory.

    Source: as `sinkhorn`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> cost = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> ot.plan(ot.sinkhorn_matrix(cost, epsilon=1.0), cost).round(2)
        Array([[0.37, 0.13],
               [0.13, 0.37]], dtype=float32)
    """
    (matrix,) = as_float(cost=cost)
    check_rank("cost", matrix, 2, "(n, m)")
    if 0 in matrix.shape:
        raise ValueError(f"`cost` must not be empty, got shape {matrix.shape}")
    n, m = matrix.shape
    nothing = jnp.zeros((m, 0), matrix.dtype)
    problem = prepare(
        matrix,
        nothing,
        a,
        b,
        epsilon=epsilon,
        cost=GivenMatrix(),
        rho_a=rho_a,
        rho_b=rho_b,
    )
    options = Options(
        layout=prepare_layout(tile, matrix, nothing, mesh),
        symmetric=False,
        anneal=init is None,
        max_steps=prepare_steps(max_steps),
        implicit=implicit,
        some_absent=has_absent(a, b),
    )
    start = prepare_start(init, n, m, matrix.dtype)
    return run(problem, start, default_rtol(rtol, matrix.dtype), options=options)
