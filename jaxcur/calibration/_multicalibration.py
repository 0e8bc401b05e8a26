"""Multicalibration: no group has a bin that is off on average."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxcur._base import check_rank, is_concrete, register_dataclass
from jaxcur.calibration._bins import width_index
from jaxcur.calibration._calibrator import INVALID, MAX_STEPS, OK, Fitted, with_rows
from jaxcur.calibration._inputs import as_numbers, check_binary, check_probabilities


@register_dataclass
@dataclasses.dataclass(frozen=True)
class MulticalibrationCalibrator(Fitted):
    """A list of shifts, each of the forecasts of one group in one bin.

    Attributes:
        groups: shape (max_steps,) int32, the group that a round shifts.
        bins: shape (max_steps,) int32, the bin of the forecast as it is then.
        shifts: shape (max_steps,), 0 after the last round.
        num_steps: scalar int, rounds made.
        max_cell_error: scalar, the certificate: no group and bin has a larger
            |sum of weight * (forecast - outcome)| / (sum of all weights) on the rows
            of the fit.
        status: scalar int, a key of `calibration.STATUS`.
        num_bins: static.
    """

    groups: Array
    bins: Array
    shifts: Array
    num_steps: Array
    max_cell_error: Array
    status: Array
    num_bins: int = dataclasses.field(metadata={"static": True})

    def __call__(
        self, probs: Real[ArrayLike, " m"], groups: Bool[ArrayLike, "m g"]
    ) -> Float[Array, " m"]:
        """Probabilities at forecasts (m,) of rows with memberships (m, g)."""
        f = check_probabilities("probs", probs).astype(self.shifts.dtype)
        member = _memberships(groups, f)
        if is_concrete(member, self.groups):
            # An index beyond the last column would be taken for the last.
            needed = int(np.max(np.asarray(self.groups), initial=0)) + 1
            if member.shape[1] < needed:
                raise ValueError(
                    "`groups` must have the columns of the fit, at least "
                    f"{needed}, got shape {member.shape}"
                )
        rounds = (self.groups, self.bins, self.shifts)

        def apply(i: Array, f: Array) -> Array:
            group, cell, shift = (part[i] for part in rounds)
            inside = member[:, group] & (width_index(f, self.num_bins, "left") == cell)
            return jnp.where(inside, jnp.clip(f + shift, 0, 1), f)

        return jax.lax.fori_loop(0, self.num_steps, apply, f)


def _memberships(groups: ArrayLike, f: Array) -> Array:
    member = as_numbers("groups", groups)
    check_rank("groups", member, 2, "(n, g)")
    if member.shape[0] != f.shape[0]:
        raise ValueError(
            f"`groups` must have {f.shape[0]} rows, one for each forecast, "
            f"got shape {member.shape}"
        )
    if is_concrete(member):
        host = np.asarray(member)
        legal = (host == 0) | (host == 1)
        if not legal.all():
            raise ValueError(
                "`groups` must hold memberships, True or False (one column for each "
                f"group, not codes), got {host[~legal][0]}"
            )
    return member.astype(bool)


def fit_multicalibration(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    groups: Bool[ArrayLike, "n g"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    num_bins: int = 10,
    atol: Real[ArrayLike, ""] = 0.01,
    max_steps: int = 1000,
) -> MulticalibrationCalibrator:
    """Shift forecasts until no group is off in any bin.

    Each round takes the cell (group, bin of the present forecast) with the largest
    |sum of w (f - y)| / W and shifts its forecasts by the mean residual, within [0, 1].
    A round lowers the Brier score by at least the square of that error over the share
    of the cell; so there are at most 1 / atol^2 rounds.

    Guarantee: with status 0 no cell of the rows of the fit has an error above `atol`
    (`max_cell_error` is the largest one), and their Brier score has not risen. On new
    rows there is no guarantee. The error counts the share of the cell, too: a cell of
    4 % of the rows that is off by 0.15 has an error of 0.006 and is left by the default
    `atol`. Many groups and bins ask for a smaller one.
    Verified by: tests/unit/calibration/test_multicalibration.py.

    Args:
        probs: shape (n,), in [0, 1].
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        groups: shape (n, g), True where a row belongs to a group; groups may overlap.
            A column of ones adds all rows as a group.
        weights: shape (n,), at least 0; ones when missing.
        num_bins: bins of equal width (static).
        atol: the error at which to stop, positive. Traced.
        max_steps: largest number of rounds (static).

    Returns:
        A map called with forecasts and memberships.

    Raises:
        ValueError: unequal lengths, n = 0, values outside [0, 1], illegal weights, or
            `atol` not positive.

    Transformations: jit, vmap.
    Cost: O(n g) for each round.

    Source: Hebert-Johnson, Kim, Reingold and Rothblum, "Multicalibration", ICML 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.full(4, 0.5)
        >>> groups = jnp.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool)
        >>> y = jnp.array([0, 0, 1, 1])
        >>> calibrator = calibration.fit_multicalibration(f, y, groups)
        >>> calibrator(f, groups)
        Array([0., 0., 1., 1.], dtype=float32)
    """
    f, y, w = check_binary(probs, labels, weights)
    member = _memberships(groups, f)
    if member.shape[1] == 0:
        raise ValueError("`groups` must have at least one column, got none")
    if is_concrete(atol) and not np.asarray(atol) > 0:
        raise ValueError(f"`atol` must be positive, got {atol}")
    if not isinstance(num_bins, int) or num_bins < 1:
        raise ValueError(f"`num_bins` must be a positive integer, got {num_bins!r}")
    limit = jnp.asarray(atol, f.dtype)
    return _fit(f, y, w, member, limit, num_bins=num_bins, max_steps=max_steps)


@jax.jit(static_argnames=("num_bins", "max_steps"))
def _fit(f, y, w, member, limit, *, num_bins, max_steps):
    f, y = with_rows(w, f, y)
    total = jnp.sum(w)
    share = w / jnp.where(total > 0, total, jnp.nan)

    def cells(f: Array) -> tuple[Array, Array]:
        """Sums of residuals and of shares in each group and bin, each (g, bins)."""
        index = width_index(f, num_bins, "left")

        def one(inside: Array) -> tuple[Array, Array]:
            held = jnp.where(inside, share, 0)
            residual = jax.ops.segment_sum(held * (y - f), index, num_bins)
            return residual, jax.ops.segment_sum(held, index, num_bins)

        return jax.vmap(one, in_axes=1)(member)

    def worst(residual: Array) -> Array:
        return jnp.max(jnp.abs(residual))

    def proceed(state) -> Array:
        return (worst(state[1]) > limit) & (state[3] < max_steps)

    def step(state):
        f, residual, mass, count, trace = state
        place = jnp.argmax(jnp.abs(residual)).astype(jnp.int32)
        group, cell = place // num_bins, place % num_bins
        shift = residual[group, cell] / mass[group, cell]
        inside = member[:, group] & (width_index(f, num_bins, "left") == cell)
        f = jnp.where(inside, jnp.clip(f + shift, 0, 1), f)
        new = (group, cell, shift)
        trace = tuple(a.at[count].set(b) for a, b in zip(trace, new, strict=True))
        return f, *cells(f), count + 1, trace

    none = jnp.zeros(max_steps, jnp.int32)
    trace = (none, none, jnp.zeros(max_steps, f.dtype))
    state = (f, *cells(f), jnp.int32(0), trace)
    f, residual, _, count, trace = jax.lax.while_loop(proceed, step, state)
    error = worst(residual)
    status = jnp.where(error <= limit, OK, MAX_STEPS)
    bad = jnp.isnan(error)
    status = jnp.where(bad, INVALID, status).astype(jnp.int32)
    return MulticalibrationCalibrator(
        groups=trace[0],
        bins=trace[1],
        # An illegal fit must not pass its input on unchanged.
        shifts=jnp.where(bad, jnp.nan, trace[2]),
        num_steps=jnp.where(bad, max_steps, count),
        max_cell_error=error,
        status=status,
        num_bins=num_bins,
    )
