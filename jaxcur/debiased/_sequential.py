"""Labeling while learning: probabilities that depend on the labels seen so far."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    check_unit_interval,
    is_concrete,
    register_dataclass,
)
from jaxcur.debiased._label_sampling import sample_labels


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SequentialState:
    """What sequential labeling remembers; all leaves are scalars.

    Attributes:
        num_rows: int, rows planned in all.
        num_seen: int, rows offered so far.
        num_labeled: int, rows labeled so far.
        budget: what all labels may cost.
        spent: what the labels so far cost.
        demand: sum of importance * sqrt(cost) over the rows seen.
        cost_seen: sum of the costs of the rows seen.
        min_prob: smallest probability.
        mixing: share of uniform sampling.
    """

    num_rows: Array
    num_seen: Array
    num_labeled: Array
    budget: Array
    spent: Array
    demand: Array
    cost_seen: Array
    min_prob: Array
    mixing: Array


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SequentialDraw:
    """The rows of one batch that are to be labeled.

    Attributes:
        labeled: shape (b,), bool.
        sampling_prob: shape (b,), probability each row was labeled with; keep it for
            the estimators.
    """

    labeled: Array
    sampling_prob: Array


def sequential_init(
    num_rows: int | Array,
    *,
    budget: float | Array,
    min_prob: float | Array,
    mixing: float | Array = 0.1,
) -> SequentialState:
    """Start labeling rows that arrive, or are worked through, in batches.

    Args:
        num_rows: scalar, rows that will be offered in all.
        budget: scalar, expected cost of all labels: their number without costs.
        min_prob: scalar in (0, 1], smallest probability of any row. The valid
            inference needs it; min_prob = budget / (10 num_rows) is a mild choice.
        mixing: scalar in [0, 1], share of uniform sampling in every batch.

    Returns:
        A `SequentialState` for `sequential_step`.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from jaxcur import debiased
        >>> state = debiased.sequential_init(1000, budget=100, min_prob=0.01)
        >>> int(state.num_seen)
        0
    """
    check_unit_interval("min_prob", min_prob, open_low=True)
    check_unit_interval("mixing", mixing)
    for name, value in (("num_rows", num_rows), ("budget", budget)):
        if np.ndim(value) != 0:
            raise ValueError(f"`{name}` must be a scalar, got shape {np.shape(value)}")
        if is_concrete(value) and not (float(value) > 0 and np.isfinite(float(value))):
            raise ValueError(f"`{name}` must be positive and finite, got {value}")
    money, floor, share = as_float(budget=budget, min_prob=min_prob, mixing=mixing)
    zero, none = jnp.zeros_like(money), jnp.zeros((), jnp.int32)
    rows = jnp.asarray(num_rows, jnp.int32)
    return SequentialState(rows, none, none, money, zero, zero, zero, floor, share)


def sequential_step(
    state: SequentialState,
    importance: Real[ArrayLike, " b"],
    *,
    costs: Real[ArrayLike, " b"] | None = None,
    mask: Bool[ArrayLike, " b"] | None = None,
    key: Array | None = None,
    uniforms: Real[ArrayLike, " b"] | None = None,
) -> tuple[SequentialState, SequentialDraw]:
    """Draw the labels of the next batch of rows.

    With rho = (budget - spent) / (rows left) the money per row, and D and C the means
    of psi sqrt(c) and of c over all rows seen, this batch included:

        pi = clip((1 - tau) rho psi / (D sqrt(c)) + tau rho / C, min_prob, 1).

    The importance may come from a model trained on the labels of earlier batches; so
    may the predictions that enter the estimate.

    Guarantee: given everything seen before the batch, row i is labeled with probability
    pi_i >= min_prob, independently of the others. The terms of the estimating equation
    are then martingale differences, and the estimators of this package with these
    `sampling_prob` stay unbiased and their intervals asymptotically valid. That the
    budget is met is a heuristic: each batch corrects what earlier ones over- or
    underspent, down to `min_prob`.
    Verified by: tests/unit/debiased/test_sequential.py, by enumeration of all labels.

    Args:
        state: from `sequential_init` or the step before.
        importance: shape (b,), finite and nonnegative, as in
            `annotation_probabilities`; must not depend on labels of this batch.
        costs: shape (b,), positive; None is 1.
        mask: shape (b,), True for real rows; the others are padding, neither seen nor
            labeled, with probability 0.
        key: random key, a new one for every batch.
        uniforms: shape (b,), the draw instead of a key, in [0, 1]; a row is labeled
            when its number is at most pi.

    Returns:
        The next state and a `SequentialDraw`. Probabilities are NaN, and nothing is
        labeled, for an invalid batch under tracing.

    Raises:
        ValueError: importance or costs out of range, unequal lengths, both or neither
            of `key` and `uniforms`.

    Transformations: jit, vmap, scan over batches of one size.
    Cost: O(b).

    Source: Zrnic and Candes, "Active statistical inference", ICML 2024, the sequential
    form.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> state = debiased.sequential_init(100, budget=20, min_prob=0.05, mixing=0.0)
        >>> state, draw = debiased.sequential_step(
        ...     state, jnp.array([1.0, 2.0, 0.0]), key=jax.random.key(0)
        ... )
        >>> draw.sampling_prob
        Array([0.2 , 0.4 , 0.05], dtype=float32)
    """
    (psi,) = as_float(importance=importance)
    check_rank("importance", psi, 1, "(b,)")
    price = jnp.ones_like(psi) if costs is None else as_float(costs=costs)[0]
    present = jnp.ones(psi.shape, bool) if mask is None else jnp.asarray(mask, bool)
    for name, array in (("costs", price), ("mask", present)):
        check_rank(name, array, 1, "(b,)")
        check_same_length(name, array, "importance", psi)
    _check_batch("importance", psi, present, positive=False)
    _check_batch("costs", price, present, positive=True)
    prob, seen = _propose(state, psi, price, present)
    labeled = sample_labels(prob, key=key, uniforms=uniforms) & present
    return _record(seen, price, labeled), SequentialDraw(labeled, prob)


@jax.jit
def _propose(
    state: SequentialState, psi: Array, price: Array, present: Array
) -> tuple[Array, SequentialState]:
    """Probabilities of a batch, and the state that has seen but not labeled it."""
    dtype = state.budget.dtype
    fine = jnp.isfinite(psi) & (psi >= 0) & jnp.isfinite(price) & (price > 0)
    legal = jnp.all(fine | ~present)
    psi = jnp.where(present & fine, psi, 0.0).astype(dtype)
    price = jnp.where(present & fine, price, 1.0).astype(dtype)
    num_seen = state.num_seen + jnp.sum(present, dtype=jnp.int32)
    demand = state.demand + jnp.sum(psi * jnp.sqrt(price))
    cost_seen = state.cost_seen + jnp.sum(jnp.where(present, price, 0.0))
    rows_left = jnp.maximum(state.num_rows - state.num_seen, 1).astype(dtype)
    money = jnp.maximum(state.budget - state.spent, 0.0) / rows_left
    count = jnp.maximum(num_seen, 1).astype(dtype)
    uniform = money * count / jnp.where(cost_seen > 0, cost_seen, 1.0)
    kappa = money * count / jnp.where(demand > 0, demand, 1.0)
    wanted = jnp.where(demand > 0, kappa * psi / jnp.sqrt(price), uniform)
    mixed = (1 - state.mixing) * wanted + state.mixing * uniform
    prob = jnp.clip(mixed, state.min_prob, 1.0)
    prob = jnp.where(legal, jnp.where(present, prob, 0.0), jnp.nan)
    after = dataclasses.replace(
        state, num_seen=num_seen, demand=demand, cost_seen=cost_seen
    )
    return prob, after


@jax.jit
def _record(state: SequentialState, price: Array, labeled: Array) -> SequentialState:
    spent = jnp.sum(jnp.where(labeled, price, 0.0)).astype(state.spent.dtype)
    return dataclasses.replace(
        state,
        num_labeled=state.num_labeled + jnp.sum(labeled, dtype=jnp.int32),
        spent=state.spent + spent,
    )


def pool_probabilities(
    *phases: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """Probability of being labeled in at least one of several phases.

    1 - prod over phases of (1 - pi_phase), for phases that drew independently given
    what was known when each began.

    Args:
        phases: arrays that broadcast, in [0, 1]; 0 where a phase did not offer the row.

    Returns:
        The broadcast shape, in [0, 1]. NaN for values out of range under tracing.

    Raises:
        ValueError: no phase, values outside [0, 1], shapes that do not broadcast.

    Transformations: jit, vmap, grad below 1.
    Cost: one pass a phase. Small probabilities keep their digits (sums of log1p).

    Example:
        >>> from jaxcur import debiased
        >>> print(f"{debiased.pool_probabilities(0.1, 0.2):.2f}")
        0.28
    """
    if not phases:
        raise ValueError("`phases` must hold at least one array of probabilities")
    arrays = as_float(**{f"phases[{i}]": phase for i, phase in enumerate(phases)})
    total = jnp.zeros((), arrays[0].dtype)
    for i, array in enumerate(arrays):
        _check_unit(f"phases[{i}]", array)
        try:
            jnp.broadcast_shapes(total.shape, array.shape)
        except ValueError as error:
            raise ValueError(
                f"`phases` must broadcast, got shapes {[a.shape for a in arrays]}"
            ) from error
        shape = jnp.broadcast_shapes(total.shape, array.shape)
        total = jnp.broadcast_to(total, shape)
        total = total + jnp.broadcast_to(_log_miss(array), shape)
    return -jnp.expm1(total)


def group_probability(
    sampling_prob: Real[ArrayLike, " n"],
    groups: Int[ArrayLike, " n"],
    num_groups: int,
) -> Float[Array, " g"]:
    """Probability that at least one member of each group is labeled.

    1 - prod over members of (1 - pi_j), for members labeled independently: the
    `sampling_prob` of a unit that aggregates several documents and counts as labeled
    when one of them is.

    Args:
        sampling_prob: shape (n,), in [0, 1].
        groups: shape (n,), whole numbers in [0, num_groups).
        num_groups: static, number of groups g.

    Returns:
        shape (g,), in [0, 1]; 0 for a group without members. NaN everywhere for invalid
        input under tracing.

    Raises:
        ValueError: probabilities outside [0, 1], groups out of range, unequal lengths.

    Transformations: jit, vmap, grad below 1.
    Cost: O(n).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> prob = jnp.array([0.1, 0.2, 0.5])
        >>> debiased.group_probability(prob, jnp.array([0, 0, 1]), 2).round(4)
        Array([0.28, 0.5 ], dtype=float32)
    """
    (prob,) = as_float(sampling_prob=sampling_prob)
    check_rank("sampling_prob", prob, 1)
    _check_unit("sampling_prob", prob)
    index = jnp.asarray(groups)
    check_rank("groups", index, 1)
    check_same_length("groups", index, "sampling_prob", prob)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise ValueError(f"`groups` must hold whole numbers, got dtype {index.dtype}")
    if is_concrete(index):
        host = np.asarray(index)
        if ((host < 0) | (host >= num_groups)).any():
            raise ValueError(
                f"`groups` must lie in [0, {num_groups}), "
                f"got values in [{host.min()}, {host.max()}]"
            )
    total = jax.ops.segment_sum(_log_miss(prob), index, num_groups)
    legal = jnp.all((index >= 0) & (index < num_groups))
    return jnp.where(legal & ~jnp.any(jnp.isnan(prob)), -jnp.expm1(total), jnp.nan)


def _log_miss(prob: Array) -> Array:
    """log(1 - pi), NaN outside [0, 1]."""
    return jnp.where((prob >= 0) & (prob <= 1), jnp.log1p(-prob), jnp.nan)


def _check_unit(name: str, array: Array) -> None:
    if not is_concrete(array):
        return
    host = np.asarray(array)
    bad = ~((host >= 0) & (host <= 1))
    if bad.any():
        raise ValueError(
            f"`{name}` must lie in [0, 1], "
            f"got {host[bad].flat[0]} and {bad.sum()} such of {host.size}"
        )


def _check_batch(name: str, array: Any, present: Any, *, positive: bool) -> None:
    if not is_concrete(array, present):
        return
    host = np.asarray(array)[np.asarray(present)]
    bad = ~(np.isfinite(host) & ((host > 0) if positive else (host >= 0)))
    if bad.any():
        sign = "positive" if positive else "nonnegative"
        raise ValueError(f"`{name}` must be finite and {sign}, got {host[bad][0]}")
