"""Asymptotic confidence sequences, for metrics with a variance but no range."""

import math
from types import ModuleType
from typing import Any

import numpy as np

T_OPT = 5000
"""The number of replications at which the sequence is tightest."""
T_MIN = 100
"""No verdict before: the formula has error rate 1 when used from the start."""


def rho_squared(delta: float) -> float:
    """The tuning constant of the sequence for error rate `delta`."""
    nats = -2 * math.log(delta)
    return (nats + math.log(nats + 1)) / T_OPT


def sequence_evidence(
    xp: ModuleType, count: Any, total: Any, squares: Any, shift: Any, delta: float
) -> Any:
    """Log evidence that the mean exceeds the bound by more than `shift`.

    Solves the sequence's radius for delta, so that reaching log(1 / delta) and the
    interval's lower end reaching the edge are the same event.

    Args:
        xp: array namespace.
        count: replications, at least 1 where used.
        total: sum of (metric - bound).
        squares: sum of its square.
        shift: edge minus bound.
        delta: error rate that the constant rho is tuned to.

    Returns:
        Log evidence, shaped as `total`. Negative when the mean lies on the claim's
        side, before `T_MIN` replications, or when the variance is zero.
    """
    rho = rho_squared(delta)
    safe = xp.maximum(count, xp.ones_like(count))
    mean = total / safe
    variance = squares / safe - mean * mean
    usable = (variance > 0) & (count >= T_MIN)
    spread = xp.where(usable, variance, xp.ones_like(variance))
    gap = mean - shift
    growth = safe * rho + 1
    gain = gap * gap * safe * (safe * rho / growth) / (2 * spread)
    price = 0.5 * xp.log(growth)
    return xp.where(usable & (gap > 0), gain, xp.zeros_like(gain)) - price


def sequence_radius(count: float, variance: float, delta: float) -> float:
    """Half width of the sequence at one time; infinite before `T_MIN`."""
    if count < T_MIN or not variance > 0:
        return math.inf
    rho = rho_squared(delta)
    growth = count * rho + 1
    scale = 2 * growth / (count**2 * rho) * math.log(math.sqrt(growth) / delta)
    return float(np.sqrt(variance * scale))
