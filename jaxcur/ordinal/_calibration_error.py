"""Squared distance of predicted probabilities from observed rates in bins."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_same_length,
    is_concrete,
)

# Probabilities are sums of others, and round.
_EDGE = 1e-5
VARIANTS = ("plain", "debiased", "bin_mean")


def _check_ranges(probs: Array, events: Array) -> None:
    if is_concrete(probs):
        host = np.asarray(probs)
        if not ((host >= -_EDGE) & (host <= 1 + _EDGE)).all():
            raise ValueError(
                "`probs` must lie in [0, 1], "
                f"got values from {host.min():g} to {host.max():g}"
            )
    if is_concrete(events):
        host = np.asarray(events)
        if not ((host == 0) | (host == 1)).all():
            odd = host[(host != 0) & (host != 1)][0]
            raise ValueError(f"`events` must hold 0 and 1 only, got {odd:g}")


def binned_squared_calibration_error(
    probs: Real[ArrayLike, " n"],
    events: Real[ArrayLike, " n"],
    *,
    num_bins: int | None = None,
    variant: str = "plain",
) -> Float[Array, ""]:
    """Mean squared difference of predictions and the event rate of their bin.

    Rows are put in order of their prediction and cut into bins of equal size (the first
    ones hold one row more where n is not divisible). With  o_b  the rate of events in
    bin b of n_b rows, `plain` is the mean over rows of  (p_i - o_b(i))^2.  It contains
    noise of the rates, which `debiased` removes by subtracting the mean over rows of
    o_b (1 - o_b) / (n_b - 1), and the spread of the predictions inside a bin, which
    `bin_mean` removes by putting the bin's mean prediction in place of p_i.

    Heuristic: no finite-sample guarantee. The expectation of `debiased` is free of the
    noise of the rates where rows are independent.

    Args:
        probs: shape (n,), predicted probabilities.
        events: shape (n,), 0 or 1 (booleans too).
        num_bins: number of bins; None for  max(round(n / 100), 10). Static.
        variant: "plain", "debiased" or "bin_mean". Static.

    Raises:
        ValueError: probabilities outside [0, 1] or events other than 0 and 1 (NaN under
            jit), fewer rows than bins (twice as many for "debiased"), shapes that
            disagree, an unknown variant.

    Transformations: jit, vmap; grad in `probs` where no ties change.
    Cost: one sort.

    Source: Faletto and Bien 2023, as described there; their code pairs sorted bins with
    unsorted predictions, which measures something else.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> probs = jnp.array([0.9, 0.2, 0.1, 0.8])
        >>> events = jnp.array([1, 0, 0, 0])
        >>> error = ordinal.binned_squared_calibration_error(probs, events, num_bins=2)
        >>> error.round(4)
        Array(0.075, dtype=float32)
    """
    check_choice("variant", variant, VARIANTS)
    probs_, events_ = as_float(probs=probs, events=events)
    check_rank("probs", probs_, 1)
    check_same_length("probs", probs_, "events", events_)
    check_rank("events", events_, 1)
    _check_ranges(probs_, events_)
    n = probs_.shape[0]
    if num_bins is None:
        num_bins = max(round(n / 100), 10)
    needed = 2 * num_bins if variant == "debiased" else num_bins
    if num_bins < 1 or n < needed:
        raise ValueError(
            f"`num_bins` = {num_bins} needs at least {needed} rows for "
            f"{variant!r}, got {n}"
        )
    sizes = np.full(num_bins, n // num_bins) + (np.arange(num_bins) < n % num_bins)
    bins = np.repeat(np.arange(num_bins), sizes)
    sound = jnp.all((probs_ >= -_EDGE) & (probs_ <= 1 + _EDGE))
    sound = sound & jnp.all((events_ == 0) | (events_ == 1))
    probs_ = jnp.where(sound, probs_, jnp.nan)
    order = jnp.argsort(probs_)
    ordered, hits = probs_[order], events_[order]
    size = jnp.asarray(sizes, probs_.dtype)

    def bin_mean(values: Array) -> Array:
        return jnp.zeros(num_bins, values.dtype).at[bins].add(values) / size

    rates = bin_mean(hits)
    if variant == "bin_mean":
        return jnp.sum(size * (bin_mean(ordered) - rates) ** 2) / n
    error = jnp.mean((ordered - rates[bins]) ** 2)
    if variant == "debiased":
        noise = rates * (1 - rates) / jnp.maximum(size - 1, 1)
        error = error - jnp.sum(size * noise) / n
    return error
