"""The betting processes of a claim: which edges, and how a batch moves them."""

import dataclasses
import functools
from types import ModuleType
from typing import Any

import numpy as np

from jaxcur.verify._claims import Claim, Observation
from jaxcur.verify._closed_forms import BETS, NUM_BETS, log_atoms
from jaxcur.verify._numerics import (
    CERTAIN,
    constant_pair,
    default_float,
    pair_sum,
)

REFUTE, CERTIFY = 0, 1
_HOST_ROWS = 4096


@dataclasses.dataclass(frozen=True)
class Table:
    """Processes of one claim, axes (role, side, component), then bets.

    An up-process at edge m bets on the numerator; a down-process is the up-process of
    denominator - numerator at edge 1 - m. So each process is one edge and a choice of
    what it bets on:  factor = 1 + c * (won / edge - denominator).

    Attributes:
        on_numerator: shape (2, s), which of the two it bets on.
        edges: shape (2, s, k), in [0, 1].
        trivial: shape (2, s, k), certificates that hold for every metric in range.
        log_one: shape (2, s, k, 18), log factor where the metric is 1.
        log_zero: shape (2, s, k, 18), log factor where it is 0.
    """

    on_numerator: np.ndarray
    edges: np.ndarray
    trivial: np.ndarray
    log_one: np.ndarray
    log_zero: np.ndarray


@functools.lru_cache(maxsize=4096)
def table_of(claim: Claim) -> Table:
    """The processes of a claim with a finite range."""
    bounds, margins = claim.unit_bounds, claim.unit_margins
    sides = claim.sides if claim.bounded else ()
    shape = (2, len(sides), len(bounds))
    edges = np.zeros(shape)
    on_numerator = np.zeros(shape[:2], bool)
    for index, side in enumerate(sides):
        if side == "upper":
            on_numerator[REFUTE, index] = True
            edges[REFUTE, index] = bounds
            edges[CERTIFY, index] = 1 - (bounds + margins)
        else:
            on_numerator[CERTIFY, index] = True
            edges[REFUTE, index] = 1 - bounds
            edges[CERTIFY, index] = bounds - margins
    trivial = edges <= 0
    trivial[REFUTE] = False
    edges = np.where(trivial, 0.5, edges)
    log_up, log_down = log_atoms(edges)
    favourable = on_numerator[:, :, None, None]
    return Table(
        on_numerator=on_numerator,
        edges=edges,
        trivial=trivial,
        log_one=np.where(favourable, log_up, log_down),
        log_zero=np.where(favourable, log_down, log_up),
    )


def log_increments(
    xp: ModuleType, table: Table, observation: Observation, rows: Any
) -> tuple[Any, Any]:
    """Sums of log factors over the rows that count, as a pair.

    Args:
        xp: array namespace.
        table: processes of the claim.
        observation: columns of shape (b, k).
        rows: shape (b, k), bool. Metrics of exactly 0 or 1 are counted elsewhere.

    Returns:
        Two arrays of shape (2, s, k, 18): high and low part.
    """
    if xp is np:
        return _host_increments(table, observation, rows)
    numerator = xp.where(rows, observation.numerator, 0.5)
    denominator = xp.where(rows, observation.denominator, 1.0)
    logs = _log_factors(xp, table, numerator, denominator)
    logs = xp.where(rows[:, None, None, :, None], logs, xp.zeros_like(logs))
    return pair_sum(xp, logs)


def _host_increments(
    table: Table, observation: Observation, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    total = np.zeros((*table.edges.shape, NUM_BETS))
    used = rows.any(axis=1)
    numerator, denominator = observation.numerator[used], observation.denominator[used]
    rows = rows[used]
    # In blocks: 16 384 rows of a claim with ten components would take 100 MB.
    for start in range(0, rows.shape[0], _HOST_ROWS):
        block = slice(start, start + _HOST_ROWS)
        keep = rows[block]
        logs = _log_factors(
            np,
            table,
            np.where(keep, numerator[block], 0.5),
            np.where(keep, denominator[block], 1.0),
        )
        total += np.where(keep[:, None, None, :, None], logs, 0.0).sum(axis=0)
    return total, np.zeros_like(total)


def _log_factors(xp: ModuleType, table: Table, numerator: Any, denominator: Any) -> Any:
    """log(1 + c (won / edge - denominator)), shape (b, 2, s, k, 18).

    Computed from won - edge * denominator with the edge as an unevaluated pair: the
    difference has mean zero at the edge, so its rounding does not add up. With the
    edge rounded to float32, a million replications drift by 0.013 nats.
    """
    dtype = default_float(xp)
    bottom = denominator[:, None, None, :]
    top = numerator[:, None, None, :]
    won = xp.where(table.on_numerator[None, :, :, None], top, bottom - top)
    high, low = constant_pair(xp, table.edges[None])
    gap = (won - high * bottom) - low * bottom
    impossible = table.edges <= 0
    safe = np.where(impossible, 1.0, table.edges)
    slope = xp.asarray((BETS / safe[..., None])[None].astype(dtype))
    logs = xp.log1p(slope * gap[..., None])
    if impossible.any():
        # At the edge 0 anything won contradicts the claim outright.
        lost = xp.log1p(
            -xp.asarray(BETS.astype(dtype))[None, None, None, None]
            * (xp.broadcast_to(bottom, won.shape)[..., None])
        )
        certain = xp.where((won > 0)[..., None], xp.full_like(lost, CERTAIN), lost)
        logs = xp.where(impossible[None, ..., None], certain, logs)
    return logs
