"""From sums to evidence, and from evidence to verdicts."""

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur.verify._asymptotic import sequence_evidence
from jaxcur.verify._claims import Claim, RankUniform
from jaxcur.verify._closed_forms import dirichlet_evidence, mixture_of_counts
from jaxcur.verify._numerics import default_float, log_mean_exp, namespace
from jaxcur.verify._processes import CERTIFY, REFUTE, table_of
from jaxcur.verify._state import Accumulator, State
from jaxcur.verify._verdicts import Verdict

DELTA_REFUTE = 1e-6
DELTA_CERTIFY = 1e-3


class Evidence(NamedTuple):
    """Log evidence per claim.

    Attributes:
        refute: shape (c,), that the claim is false.
        certify: shape (c,), that it holds up to its margin.
    """

    refute: Any
    certify: Any


def evidence(
    state: State,
    *,
    delta_refute: float = DELTA_REFUTE,
    delta_certify: float = DELTA_CERTIFY,
) -> Evidence:
    """Log evidence against and for every claim.

    Args:
        state: from `init`, `update` or `merge`.
        delta_refute: error rate of refutations; only asymptotic sequences depend on it.
        delta_certify: likewise for certificates.

    Returns:
        Two arrays with one entry per claim, in the order of the claims.

    Transformations: jit, vmap over states.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import verify
        >>> state = verify.init(verify.at_most("miss", 0.1))
        >>> state = verify.update(state, {"miss": jnp.arange(1000) < 150})
        >>> round(float(verify.evidence(state).refute[0]), 4)
        9.4143
    """
    if namespace(state.accumulators) is np:
        return _evidence(np, state, delta_refute, delta_certify)
    return _device_evidence(
        state, delta_refute=float(delta_refute), delta_certify=float(delta_certify)
    )


@jax.jit(static_argnames=("delta_refute", "delta_certify"))
def _device_evidence(
    state: State, *, delta_refute: float, delta_certify: float
) -> Evidence:
    return _evidence(jnp, state, delta_refute, delta_certify)


def _evidence(
    xp: ModuleType, state: State, delta_refute: float, delta_certify: float
) -> Evidence:
    pairs = [
        combined(xp, claim, accumulator, delta_refute, delta_certify)
        for claim, accumulator in zip(state.claims, state.accumulators, strict=True)
    ]
    return Evidence(
        xp.stack([refute for refute, _ in pairs]),
        xp.stack([certify for _, certify in pairs]),
    )


def verdict(
    state: State,
    *,
    delta_refute: float = DELTA_REFUTE,
    delta_certify: float | None = DELTA_CERTIFY,
    max_failure_share: float = 0.0,
) -> Any:
    """The verdict the evidence at hand supports, one small integer per claim.

    Guarantee: for any rule of when to look, a true claim is REFUTED with probability at
    most `delta_refute`, and a claim false by more than its margin is CERTIFIED with
    probability at most `delta_certify`. Verified by: tests/guarantees/test_harness.py.

    The evidence may fall again after a crossing. A loop that looks many times keeps the
    first crossing, as `check` does; a claim whose refutation ever crossed is REFUTED.

    Args:
        state: from `init`, `update` or `merge`.
        delta_refute: REFUTED when the evidence reaches log(1 / delta_refute).
        delta_certify: CERTIFIED when it reaches log(1 / delta_certify); None never
            certifies.
        max_failure_share: INVALID when the share of failed replications exceeds it. A
            claim whose failures cannot be counted against it tolerates none.

    Returns:
        Integers with the values of `Verdict`, shape (c,).

    Raises:
        ValueError: an error rate outside (0, 1), or a share outside [0, 1].

    Transformations: jit, vmap over states.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import verify
        >>> state = verify.init(verify.at_most("miss", 0.1))
        >>> state = verify.update(state, {"miss": jnp.ones(50)})
        >>> verify.Verdict(int(verify.verdict(state)[0]))
        <Verdict.REFUTED: 2>
    """
    check_deltas(delta_refute, delta_certify, max_failure_share)
    xp = namespace(state.accumulators)
    log_refute, log_certify = evidence(
        state,
        delta_refute=delta_refute,
        delta_certify=DELTA_CERTIFY if delta_certify is None else delta_certify,
    )
    invalid = xp.stack(
        [
            is_invalid(claim, accumulator, max_failure_share)
            for claim, accumulator in zip(state.claims, state.accumulators, strict=True)
        ]
    )
    result = xp.zeros(log_refute.shape, np.int32)
    if delta_certify is not None:
        certified = log_certify >= -np.log(delta_certify).item()
        result = xp.where(certified, int(Verdict.CERTIFIED), result)
    refuted = log_refute >= -np.log(delta_refute).item()
    result = xp.where(refuted, int(Verdict.REFUTED), result)
    return xp.where(invalid, int(Verdict.INVALID), result).astype(np.int32)


def check_deltas(
    delta_refute: float, delta_certify: float | None, max_failure_share: float
) -> None:
    """Raise for an error rate outside (0, 1) or a share outside [0, 1]."""
    for name, value in (
        ("delta_refute", delta_refute),
        ("delta_certify", delta_certify),
    ):
        if value is not None and not 0 < value < 1:
            raise ValueError(f"`{name}` must lie in (0, 1), got {value}")
    if not 0 <= max_failure_share <= 1:
        raise ValueError(
            f"`max_failure_share` must lie in [0, 1], got {max_failure_share}"
        )


def is_invalid(claim: Claim, accumulator: Accumulator, max_failure_share: float) -> Any:
    """Whether too many replications failed, or any metric left its range."""
    if claim.no_worst_value or not claim.bounded:
        broken = accumulator.failures > 0
    else:
        real = default_float(namespace(accumulator))
        allowed = accumulator.replications.astype(real) * max_failure_share
        broken = accumulator.failures.astype(real) > allowed
    return broken | (accumulator.outside > 0)


def combined(
    xp: ModuleType,
    claim: Claim,
    accumulator: Accumulator,
    delta_refute: float,
    delta_certify: float,
) -> tuple[Any, Any]:
    """Refute with the average of the processes, certify with the smallest."""
    parts = components(xp, claim, accumulator, delta_refute, delta_certify)
    if isinstance(claim, RankUniform):
        law = np.asarray(claim.bounds, np.float64)
        refute = dirichlet_evidence(xp, accumulator.ones, law)
    else:
        refute = log_mean_exp(xp, parts[REFUTE].reshape(-1), axis=0)
    return refute, parts[CERTIFY].min()


def components(
    xp: ModuleType,
    claim: Claim,
    accumulator: Accumulator,
    delta_refute: float,
    delta_certify: float,
) -> Any:
    """Log evidence of every process, shape (2, s, k)."""
    if not claim.bounded:
        return _unbounded(xp, claim, accumulator, delta_refute, delta_certify)
    table = table_of(claim)
    # A failed replication counts as the worst value for the side that is tested.
    worst = accumulator.failures + accumulator.outside
    upper = np.array([side == "upper" for side in claim.sides])[:, None]
    ones = accumulator.ones[None] + xp.where(upper, worst, xp.zeros_like(worst))
    zeros = accumulator.zeros[None] + xp.where(upper, xp.zeros_like(worst), worst)
    value = mixture_of_counts(
        xp,
        ones[None, ..., None],
        zeros[None, ..., None],
        table.log_one,
        table.log_zero,
        rest=(accumulator.logs, accumulator.logs_low),
    )
    return xp.where(table.trivial, xp.full_like(value, np.inf), value)


def _unbounded(
    xp: ModuleType,
    claim: Claim,
    accumulator: Accumulator,
    delta_refute: float,
    delta_certify: float,
) -> Any:
    dtype = default_float(xp)
    live = accumulator.replications - accumulator.failures - accumulator.outside
    total, squares = accumulator.moments + accumulator.moments_low
    count = xp.broadcast_to(live.astype(dtype), total.shape)
    margin = xp.asarray(claim.unit_margins.astype(dtype))
    rows = []
    for role, delta in ((REFUTE, delta_refute), (CERTIFY, delta_certify)):
        row = []
        for side in claim.sides:
            # To refute is to show the mean beyond the bound on this side; to certify
            # is to show it on the inner side of the margin's edge.
            outward = 1 if side == "upper" else -1
            sign = outward if role == REFUTE else -outward
            edge = xp.zeros_like(margin) if role == REFUTE else -margin
            row.append(sequence_evidence(xp, count, sign * total, squares, edge, delta))
        rows.append(xp.stack(row))
    return xp.stack(rows)
