"""Conformal risk control: the least cautious setting whose expected loss is bounded."""

import dataclasses
from fractions import Fraction
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_no_nan,
    check_rank,
    exact_fraction,
    is_concrete,
    register_dataclass,
)

RISK_CONTROL_STATUS = (
    "ok",
    "no setting attains the level: more calibration rows or a larger level are needed",
    "losses are NaN, above the bound, or rise with the setting: nothing is promised",
    "level is not in [0, bound], or the bound is not finite: nothing is chosen",
)
_OK, _UNATTAINED, _BAD_LOSSES, _BAD_LEVEL = range(len(RISK_CONTROL_STATUS))


@register_dataclass
@dataclasses.dataclass(frozen=True)
class RiskControlResult:
    """Setting chosen by conformal risk control.

    Attributes:
        index: scalar int32, the smallest attaining setting; -1 when there is none.
            As a Python index -1 is the most cautious setting, but nothing is promised.
        risk_bound: scalar, the corrected risk of the chosen setting; NaN without one.
        risk_bounds: shape (num_settings,), (sum of losses + bound) / (n + 1) for each.
        level: scalar, the target expected loss.
        status: scalar int32, an index into `conformal.RISK_CONTROL_STATUS`; 0 is ok.
    """

    index: Array
    risk_bound: Array
    risk_bounds: Array
    level: Array
    status: Array


def risk_control(
    losses: Real[ArrayLike, "n num_settings"],
    *,
    level: float | Float[ArrayLike, ""],
    bound: float | Float[ArrayLike, ""],
    monotone: Literal["check", "envelope"] = "check",
) -> RiskControlResult:
    """Smallest index whose corrected empirical risk is at most `level`.

    The settings (thresholds, set sizes) are ordered from bold to cautious, so every
    row of losses is nonincreasing. Setting j is accepted when

        (losses[:, j].sum() + bound) / (n + 1) <= level,

    the loss of the unseen row being replaced by the largest it can be.

    Guarantee: if the n rows and a new row are exchangeable and losses are nonincreasing
    in the setting and in [0, bound], the expected loss of a new row at the chosen
    setting is at most `level`, on average over calibration sets; where no setting is
    accepted the loss counts as zero. Verified by: `jaxcur verify risk_control`.

    Args:
        losses: shape (n, num_settings), num_settings >= 1. n = 0 is legal.
        level: scalar in [0, bound]. Concrete: sums of whole losses are compared
            exactly (up to 2^24 in float32), others to the nearest float. Traced: a
            guard of four ulp keeps ties.
        bound: scalar, the largest possible loss.
        monotone: "check" refuses losses that rise by more than rounding; "envelope"
            replaces each loss by the largest at this or a more cautious setting, which
            keeps the promise for any losses.

    Returns:
        The chosen index with its status.

    Raises:
        ValueError: wrong shape, NaN, a loss above `bound`, losses that rise under
            "check", or a level outside [0, bound]; under tracing the status says so.

    Transformations: jit, vmap over losses or levels. Not differentiable.
    Cost: O(n num_settings).

    Source: Angelopoulos et al., "Conformal risk control", 2024.

    Example:
        >>> from jaxcur import conformal
        >>> losses = [[1, 0, 0], [1, 1, 0], [1, 0, 0]]
        >>> result = conformal.risk_control(losses, level=0.5, bound=1)
        >>> print(result.index, result.risk_bounds)
        1 [1.   0.5  0.25]
    """
    check_choice("monotone", monotone, ("check", "envelope"))
    (table,) = as_float(losses=losses)
    check_rank("losses", table, 2, "(n, num_settings)")
    if table.shape[1] == 0:
        raise ValueError("`losses` must have at least one column, got shape (n, 0)")
    _check_level(level, bound)
    check_no_nan("losses", table)
    _check_losses(table, bound, monotone)
    dtype = table.dtype
    limit = _largest_sum(level, bound, table.shape[0], dtype)
    level, bound = jnp.asarray(level, dtype), jnp.asarray(bound, dtype)
    if limit is None:
        limit = _traced_limit(level, bound, table.shape[0])
    return _risk_control(table, limit, level, bound, monotone)


def _check_level(level: Any, bound: Any) -> None:
    for name, value in (("level", level), ("bound", bound)):
        if np.ndim(value) != 0:
            raise ValueError(
                f"`{name}` must be a scalar, got shape {np.shape(value)}; "
                "map over several with jax.vmap"
            )
    if is_concrete(bound) and not np.isfinite(float(bound)):
        raise ValueError(f"`bound` must be finite, got {float(bound)}")
    if is_concrete(level) and not float(level) >= 0:
        raise ValueError(f"`level` must be >= 0, got {float(level)}")
    if is_concrete(level, bound) and not float(level) <= float(bound):
        raise ValueError(
            f"`level` must lie in [0, bound] = [0, {float(bound)}], got {float(level)}"
        )


def _check_losses(table: Array, bound: Any, monotone: str) -> None:
    if not is_concrete(table, bound) or not table.size:
        return
    highest = float(table.max())
    if highest > float(jnp.asarray(bound, table.dtype)):
        raise ValueError(
            f"`losses` must be at most `bound` = {float(bound)}, got {highest}"
        )
    if monotone == "check" and bool(_rises(table, jnp.asarray(bound, table.dtype))):
        raise ValueError(
            "`losses` must not rise along the settings; order them from bold to "
            'cautious, or pass monotone="envelope"'
        )


def _rises(table: Array, bound: Array) -> Array:
    slack = 4 * float(jnp.finfo(table.dtype).eps) * jnp.abs(bound)
    return jnp.any(jnp.diff(table, axis=1) > slack)


def _largest_sum(level: Any, bound: Any, n: int, dtype: Any) -> Array | None:
    """The float nearest to level (n + 1) - bound, but no whole number above it.

    Sums of whole losses are then compared exactly, and a sum of 0.1 + 0.2 still ties
    with a level that asks for 0.3.
    """
    if not is_concrete(level, bound):
        return None
    exact = exact_fraction(level) * (n + 1) - exact_fraction(bound)
    nearest = np.asarray(float(exact), dtype)
    rounded = Fraction(float(nearest))
    if rounded.denominator == 1 and rounded > exact:
        nearest = np.nextafter(nearest, np.asarray(-np.inf, dtype))
    return jnp.asarray(nearest)


def _traced_limit(level: Array, bound: Array, n: int) -> Array:
    eps = float(jnp.finfo(level.dtype).eps)
    return level * (n + 1) * (1 + 4 * eps) - bound


@jax.jit(static_argnames=("monotone",))
def _risk_control(
    table: Array, limit: Array, level: Array, bound: Array, monotone: str
) -> RiskControlResult:
    n = table.shape[0]
    rises = _rises(table, bound) if monotone == "check" else jnp.array(False)
    bad_losses = jnp.any(jnp.isnan(table)) | jnp.any(table > bound) | rises
    bad_level = ~((level >= 0) & (level <= bound) & jnp.isfinite(bound))
    # Also under "check": rises within rounding are levelled on the safe side.
    table = jax.lax.cummax(table, axis=1, reverse=True)
    sums = jnp.sum(table, axis=0)
    accepted = (sums <= limit) & ~bad_losses & ~bad_level
    found = jnp.any(accepted)
    index = jnp.where(found, jnp.argmax(accepted), -1).astype(jnp.int32)
    status = jnp.where(found, _OK, _UNATTAINED)
    status = jnp.where(bad_losses, _BAD_LOSSES, status)
    status = jnp.where(bad_level, _BAD_LEVEL, status).astype(jnp.int32)
    bounds = (sums + bound) / (n + 1)
    chosen = jnp.where(found, bounds[index], jnp.nan)
    return RiskControlResult(index, chosen, bounds, level, status)
