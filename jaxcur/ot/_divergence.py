"""Sinkhorn divergence: entropic transport without its bias."""

from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.ot._costs import SquaredEuclidean
from jaxcur.ot._inputs import (
    default_rtol,
    has_absent,
    prepare_layout,
    prepare_points,
    prepare_steps,
)
from jaxcur.ot._potentials import ImplicitOptions, Options
from jaxcur.ot._sinkhorn import SinkhornResult, prepare, prepare_start, run


def self_transport(
    x: Array,
    weights: Any,
    *,
    epsilon: Any,
    cost: Any,
    rho: Any,
    rtol: Any,
    max_steps: Any,
    tile: Any,
    mesh: Mesh | None,
    implicit: ImplicitOptions,
) -> SinkhornResult:
    """Transport of a measure to itself: one potential, a few passes."""
    problem = prepare(
        x, x, weights, weights, epsilon=epsilon, cost=cost, rho_a=rho, rho_b=rho
    )
    options = Options(
        layout=prepare_layout(tile, x, x, mesh),
        symmetric=True,
        anneal=True,
        max_steps=prepare_steps(max_steps),
        implicit=implicit,
        some_absent=has_absent(weights),
    )
    start = prepare_start(None, x.shape[0], x.shape[0], x.dtype)
    return run(problem, start, default_rtol(rtol, x.dtype), options=options)


def cross_transport(
    x: Array,
    y: Array,
    a: Any,
    b: Any,
    *,
    epsilon: Any,
    cost: Any,
    rho: Any,
    rtol: Any,
    max_steps: Any,
    tile: Any,
    mesh: Mesh | None,
    implicit: ImplicitOptions,
) -> SinkhornResult:
    """Transport between two measures, both marginals treated alike."""
    problem = prepare(x, y, a, b, epsilon=epsilon, cost=cost, rho_a=rho, rho_b=rho)
    n, m = x.shape[0], y.shape[0]
    options = Options(
        layout=prepare_layout(tile, x, y, mesh),
        symmetric=False,
        anneal=True,
        max_steps=prepare_steps(max_steps),
        implicit=implicit,
        some_absent=has_absent(a, b),
    )
    start = prepare_start(None, n, m, x.dtype)
    return run(problem, start, default_rtol(rtol, x.dtype), options=options)


def sinkhorn_divergence(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"],
    *,
    epsilon: Real[ArrayLike, ""],
    a: Real[ArrayLike, " n"] | None = None,
    b: Real[ArrayLike, " m"] | None = None,
    cost: Any = SquaredEuclidean(),  # noqa: B008
    rho: Real[ArrayLike, ""] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 2000,
    tile: int | None = None,
    mesh: Mesh | None = None,
    implicit: ImplicitOptions = ImplicitOptions(),  # noqa: B008
) -> Float[Array, ""]:
    """S = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2, with OT the entropic value.

    Guarantee: for squared Euclidean and Euclidean costs S >= 0, with equality exactly
    for equal measures, up to the error of the three solves (second order in `rtol`). A
    solve that has not converged gives NaN. Verified by: tests/property/test_ot.py and
    tests/reference/test_ot.py.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        epsilon: strength of the entropy, in units of the cost. Small values tend to the
            transport cost, large ones to a maximum mean discrepancy.
        a: shape (n,), weights of x; None for uniform.
        b: shape (m,), weights of y.
        cost: a symmetric cost, as in `sinkhorn`.
        rho: penalty of both marginals; None for measures of mass 1. Unequal masses add
            epsilon (|a| - |b|)^2 / 2.
        rtol: tolerance of the marginals, as in `sinkhorn`.
        max_steps: largest number of iterations of each solve. Static.
        tile: rows in a tile. Static.
        mesh: devices over which rows are divided.
        implicit: solver for second derivatives.

    Returns:
        scalar.

    Raises:
        ValueError: as `sinkhorn`.

    Transformations: jit, vmap, reverse mode in x, y, a, b and the cost, twice by grad
    of grad.
    Cost: a cross solve, and two symmetric ones that need few passes.

    Source: Feydy et al., "Interpolating between optimal transport and MMD using
    Sinkhorn divergences", 2019; Sejourne et al. 2019 for unequal masses.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x = jnp.array([[0.0], [1.0]])
        >>> float(ot.sinkhorn_divergence(x, x + 2.0, epsilon=0.5).round(3))
        4.0
    """
    x, y = prepare_points(x, y)
    shared = {
        "epsilon": epsilon,
        "cost": cost,
        "rho": rho,
        "rtol": rtol,
        "max_steps": max_steps,
        "tile": tile,
        "mesh": mesh,
        "implicit": implicit,
    }
    cross = cross_transport(x, y, a, b, **shared)
    first = self_transport(x, a, **shared)
    second = self_transport(y, b, **shared)
    value = cross.value - (first.value + second.value) / 2
    if cross.rho_a is not None:
        gap = jnp.sum(cross.a) - jnp.sum(cross.b)
        value = value + cross.epsilon * gap**2 / 2
    converged = cross.converged & first.converged & second.converged
    return jnp.where(converged, value, jnp.nan)
