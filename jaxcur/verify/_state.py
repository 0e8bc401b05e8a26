"""What has been seen so far: init, update, merge."""

import functools
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.verify._claims import Claim, Claims, Observation, as_claims
from jaxcur.verify._closed_forms import NUM_BETS
from jaxcur.verify._numerics import (
    add_pairs,
    constant_pair,
    default_float,
    default_int,
    namespace,
    pair_sum,
)
from jaxcur.verify._processes import log_increments, table_of


class Accumulator(NamedTuple):
    """Sums over replications for one claim; any two of them add.

    Attributes:
        replications: scalar int, replications seen.
        failures: scalar int, of these with a metric that is not finite.
        outside: scalar int, of these with a metric out of its range.
        ones: shape (k,), int. Metrics equal to 1 on the unit scale.
        zeros: shape (k,), int. Metrics equal to 0.
        logs: shape (2, s, k, 18). Sums of log factors of all other metrics, for the
            processes that refute and certify, per side, component and bet.
        logs_low: the low part of these sums.
        moments: shape (2, k). Sums of numerator and denominator of the other metrics;
            for a metric without a range, of its difference from the bound and of the
            square.
        moments_low: the low part of these sums.
    """

    replications: Any
    failures: Any
    outside: Any
    ones: Any
    zeros: Any
    logs: Any
    logs_low: Any
    moments: Any
    moments_low: Any


class State(NamedTuple):
    """The state of a study: its claims, and one accumulator per claim."""

    claims: Claims
    accumulators: tuple[Accumulator, ...]


def init(claims: Claim | tuple[Claim, ...]) -> State:
    """The state before the first replication.

    Args:
        claims: one claim or several, with different names.

    Returns:
        A pytree of zeros in JAX's default float and integer; float sums are kept as
        unevaluated pairs, so float32 loses nothing that matters (`update`).

    Raises:
        ValueError: no claims, or two of one name.
        TypeError: something that is not a claim.

    Example:
        >>> from jaxcur import verify
        >>> state = verify.init(verify.at_most("fdp", 0.1))
        >>> int(state.accumulators[0].replications)
        0
    """
    return init_in(jnp, as_claims(claims))


def init_in(xp: ModuleType, claims: Claims) -> State:
    """A zero state in the given namespace; NumPy gives float64 whatever JAX's mode."""
    return State(claims, tuple(_zero(xp, claim) for claim in claims))


def _zero(xp: ModuleType, claim: Claim) -> Accumulator:
    whole, real = default_int(xp), default_float(xp)
    k = len(claim.bounds)
    shape = (2, len(claim.sides) if claim.bounded else 0, k, NUM_BETS)

    def zeros(shape: tuple[int, ...], dtype: Any) -> Any:
        return xp.zeros(shape, dtype)

    return Accumulator(
        replications=zeros((), whole),
        failures=zeros((), whole),
        outside=zeros((), whole),
        ones=zeros((k,), whole),
        zeros=zeros((k,), whole),
        logs=zeros(shape, real),
        logs_low=zeros(shape, real),
        moments=zeros((2, k), real),
        moments_low=zeros((2, k), real),
    )


def update(
    state: State,
    metrics: Mapping[str, Any],
    *,
    mask: Any = None,
    axis_name: Any = None,
) -> State:
    """Add a batch of replications.

    The evidence depends on sums only: batches may come in any order and size, from any
    device. Metrics equal to 0 or 1 are counted as integers, the others go through
    log1p, summed by a tree of exact additions.

    Args:
        state: from `init`, `update` or `merge`.
        metrics: by name, arrays of shape (b,), or (b, k) for claims on vectors. A
            boolean metric called "failed" marks replications that failed.
        mask: shape (b,), bool. False rows are not replications; None counts all.
        axis_name: inside `jax.shard_map`, the mesh axis (or axes) over which the
            batch is split: the increments are summed over it, and all devices hold
            the same state.

    Returns:
        The new state. Counts are exact up to 2^31 replications without 64-bit mode.

    Raises:
        ValueError: a metric a claim needs is missing or has another shape.

    Transformations: jit, vmap over states and metrics. Not differentiable.
    Cost: O(b) for each of the 18 bets and each process of a claim.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import verify
        >>> state = verify.init(verify.at_most("miss", 0.1))
        >>> state = verify.update(state, {"miss": jnp.ones(5)})
        >>> int(state.accumulators[0].ones[0])
        5
    """
    if namespace(state.accumulators) is np:
        host = {name: np.asarray(value) for name, value in metrics.items()}
        return update_host(state, observe(np, state.claims, host), mask)
    arrays = {name: jnp.asarray(value) for name, value in metrics.items()}
    return _update(state, arrays, mask, axis_name=axis_name)


@jax.jit(static_argnames=("axis_name",))
def _update(
    state: State, metrics: dict[str, Array], mask: Array | None, axis_name: Any
) -> State:
    observations = observe(jnp, state.claims, metrics)
    added = _increments(jnp, state.claims, observations, mask)
    if axis_name is not None:
        added = jax.lax.psum(added, axis_name)
    return State(state.claims, _add(state.accumulators, added))


def observe(
    xp: ModuleType, claims: Claims, metrics: Mapping[str, Any]
) -> tuple[Observation, ...]:
    """The columns of every claim."""
    return tuple(claim.observe(xp, metrics) for claim in claims)


def update_host(
    state: State, observations: tuple[Observation, ...], mask: np.ndarray | None = None
) -> State:
    """`update` in float64 on the host, from columns already made."""
    added = _increments(np, state.claims, observations, mask)
    return State(state.claims, _add(state.accumulators, added))


def merge(state: State, other: State) -> State:
    """The state of both sets of replications, which must be disjoint.

    Args:
        state: one state.
        other: another one, of the same claims, from replications with other keys.

    Returns:
        The sum; the order does not matter.

    Raises:
        ValueError: the claims differ.

    Transformations: jit, vmap.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import verify
        >>> empty = verify.init(verify.at_most("miss", 0.1))
        >>> one = verify.update(empty, {"miss": jnp.ones(5)})
        >>> two = verify.update(empty, {"miss": jnp.zeros(7)})
        >>> int(verify.merge(one, two).accumulators[0].replications)
        12
    """
    if state.claims != other.claims:
        raise ValueError(
            "only states of the same claims can be merged, got "
            f"{[claim.name for claim in state.claims]} and "
            f"{[claim.name for claim in other.claims]} (or other bounds or margins)"
        )
    return State(state.claims, _add(state.accumulators, other.accumulators))


def _add(
    ours: tuple[Accumulator, ...], theirs: tuple[Accumulator, ...]
) -> tuple[Accumulator, ...]:
    return tuple(_add_one(a, b) for a, b in zip(ours, theirs, strict=True))


def _add_one(a: Accumulator, b: Accumulator) -> Accumulator:
    logs, logs_low = add_pairs(a.logs, a.logs_low, b.logs, b.logs_low)
    moments, moments_low = add_pairs(a.moments, a.moments_low, b.moments, b.moments_low)
    return Accumulator(
        replications=a.replications + b.replications,
        failures=a.failures + b.failures,
        outside=a.outside + b.outside,
        ones=a.ones + b.ones,
        zeros=a.zeros + b.zeros,
        logs=logs,
        logs_low=logs_low,
        moments=moments,
        moments_low=moments_low,
    )


def _increments(
    xp: ModuleType,
    claims: Claims,
    observations: tuple[Observation, ...],
    mask: Any,
) -> tuple[Accumulator, ...]:
    return tuple(
        _increment(xp, claim, observation, mask)
        for claim, observation in zip(claims, observations, strict=True)
    )


def _increment(
    xp: ModuleType, claim: Claim, observation: Observation, mask: Any
) -> Accumulator:
    numerator, denominator, failed, outside, binary = observation
    whole = default_int(xp)
    counted = xp.ones_like(failed) if mask is None else xp.asarray(mask).astype(bool)
    if counted.shape != failed.shape:
        raise ValueError(
            f"`mask` must have shape {failed.shape} like the metrics, "
            f"got {counted.shape}"
        )
    live = (counted & ~failed & ~outside)[:, None]
    k = len(claim.bounds)
    if claim.bounded and binary:
        dtype = default_float(xp)
        hit = (numerator == 1) & (denominator == 1)
        ones = live & hit
        zeros = live & ~hit & (denominator == 1)
        logs = logs_low = xp.zeros((*table_of(claim).edges.shape, NUM_BETS), dtype)
        moments = moments_low = xp.zeros((2, k), dtype)
    elif claim.bounded:
        used = live & ~((numerator == 0) & (denominator == 0))
        ones = used & (numerator == 1) & (denominator == 1)
        zeros = used & (numerator == 0) & (denominator == 1)
        rest = used & ~ones & ~zeros
        logs, logs_low = log_increments(xp, table_of(claim), observation, rest)
        columns = xp.stack([numerator, denominator], axis=1)
        columns = xp.where(rest[:, None, :], columns, xp.zeros_like(columns))
        moments, moments_low = pair_sum(xp, columns)
    else:
        ones = zeros = xp.zeros_like(live)
        dtype = default_float(xp)
        logs = logs_low = xp.zeros((2, 0, k, NUM_BETS), dtype)
        high, low = constant_pair(xp, claim.unit_bounds[None])
        gap = xp.where(live, numerator, high) - high - low
        columns = xp.stack([gap, gap * gap], axis=1)
        columns = xp.where(live[:, None, :], columns, xp.zeros_like(columns))
        moments, moments_low = pair_sum(xp, columns)
    return Accumulator(
        replications=counted.sum().astype(whole),
        failures=(counted & failed).sum().astype(whole),
        outside=(counted & outside).sum().astype(whole),
        ones=ones.sum(axis=0).astype(whole),
        zeros=zeros.sum(axis=0).astype(whole),
        logs=logs,
        logs_low=logs_low,
        moments=moments,
        moments_low=moments_low,
    )


def replications_of(state: State) -> int:
    """Number of replications, the same for every claim."""
    return int(functools.reduce(max, (int(a.replications) for a in state.accumulators)))
