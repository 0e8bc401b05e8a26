"""Targets of calibrated probability estimation: labels averaged along the forecasts."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Integer, Real

from jaxcur._base import check_choice
from jaxcur.calibration._inputs import check_binary, check_multiclass
from jaxcur.calibration._isotonic import fit_isotonic
from jaxcur.stats import sort_with_order

Kind = Literal["bin", "kernel", "isotonic"]
KINDS = ("bin", "kernel", "isotonic")


def cape_targets(
    probs: Real[ArrayLike, "n ..."],
    labels: Integer[ArrayLike, " n"],
    *,
    kind: Kind = "bin",
    num_bins: int = 10,
    window: int = 500,
    bandwidth: Real[ArrayLike, ""] = 0.1,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, "n ..."]:
    """Empirical frequencies near each forecast, to train on instead of the labels.

    "bin" sorts the rows by forecast, cuts them into `num_bins` slices of equal size and
    takes the mean label of each. "kernel" takes, for each row, the mean label of its
    neighbours at the sorted positions from -window to window - 1 with normal weights of
    width `bandwidth` in the forecast. "isotonic" takes the monotone regression of the
    labels, which needs no parameter. With K columns each class is treated alone and the
    rows are normalised.

    Rows with equal forecasts share their labels and their targets, so that the order of
    the rows does not matter; the released code lets the sort decide.

    Heuristic: no finite-sample guarantee. Targets of a forecast that ranks rows rightly
    approach their true probabilities as rows grow and slices shrink.

    Args:
        probs: shape (n,) or (n, K), forecasts.
        labels: shape (n,), 0/1 or 0..K-1.
        kind: "bin", "kernel" or "isotonic". Static.
        num_bins: slices of "bin". Static.
        window: neighbours of "kernel" on each side. Static.
        bandwidth: width of "kernel" on the scale of the forecasts.
        weights: shape (n,), at least 0. With weights a row belongs to the slice in
            which its cumulative weight ends.

    Returns:
        Targets in [0, 1], the shape of `probs`.

    Raises:
        ValueError: what the metrics raise for `probs`, `labels` and `weights`; a count
            that is not positive; a bandwidth that is not positive.

    Transformations: jit, vmap. Not differentiable: targets are constants.
    Cost: one sort; "kernel" O(n window) time and O(n) memory.

    Source: Liu et al., "Deep probability estimation", 2022.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.cape_targets(
        ...     jnp.array([0.1, 0.9, 0.2, 0.8]), jnp.array([0, 1, 1, 1]), num_bins=2
        ... )
        Array([0.5, 1. , 0.5, 1. ], dtype=float32)
    """
    check_choice("kind", kind, KINDS)
    for name, count in (("num_bins", num_bins), ("window", window)):
        if not isinstance(count, (int, np.integer)) or count < 1:
            raise ValueError(f"`{name}` must be a positive integer, got {count!r}")
    options = {"kind": kind, "num_bins": int(num_bins), "window": int(window)}

    def one(f: Array, y: Array, w: Array) -> Array:
        if kind == "isotonic":
            return fit_isotonic(f, y, weights=w)(f)
        width = jnp.asarray(bandwidth, f.dtype)
        return _targets(f, y, w, width, is_weighted=weights is not None, **options)

    if np.ndim(probs) == 1:
        return one(*check_binary(probs, labels, weights))
    p, y, w = check_multiclass(probs, labels, weights)
    hot = (y[:, None] == jnp.arange(p.shape[1])[None, :]).astype(p.dtype)
    found = jax.vmap(one, in_axes=(1, 1, None), out_axes=1)(p, hot, w)
    total = jnp.sum(found, axis=1, keepdims=True)
    found = found / jnp.where(total > 0, total, 1)
    return jnp.where(total == 0, 1 / p.shape[1], found)


@partial(jax.jit, static_argnames=("kind", "num_bins", "window", "is_weighted"))
def _targets(f, y, w, width, *, kind, num_bins, window, is_weighted):
    f_sorted, order = sort_with_order(f)
    y, w = y.astype(f.dtype)[order], w[order]
    new = jnp.concatenate([jnp.ones(1, bool), f_sorted[1:] != f_sorted[:-1]])
    block = jnp.cumsum(new) - 1
    y = _block_means(y, w, block)
    if kind == "bin":
        found = _slice_means(y, w, num_bins, is_weighted)
    else:
        width = jnp.where(width > 0, width, jnp.nan)
        found = _kernel_means(f_sorted, y, w, window, width)
    # A NaN anywhere has no place in the order: it spoils every target.
    found = _block_means(found, w, block) + 0 * jnp.sum(f)
    return jnp.zeros_like(f).at[order].set(found, unique_indices=True)


def _block_sums(values: Array, block: Array) -> Array:
    return jax.ops.segment_sum(
        values, block, num_segments=values.shape[0], indices_are_sorted=True
    )


def _block_means(values: Array, w: Array, block: Array) -> Array:
    """Weighted means over rows with equal forecasts; plain ones where weights are 0."""
    mass = _block_sums(w, block)[block]
    w = jnp.where(mass > 0, w, 1)
    return _block_sums(w * values, block)[block] / _block_sums(w, block)[block]


def _slice_means(y: Array, w: Array, num_bins: int, is_weighted: bool) -> Array:
    n = y.shape[0]
    if is_weighted:
        end = jnp.cumsum(w)
        place = jnp.ceil(end * (num_bins / end[-1])).astype(jnp.int32) - 1
        place = jnp.clip(place, 0, num_bins - 1)
    else:
        starts = np.array([i * n // num_bins for i in range(num_bins)])
        place = jnp.asarray(np.searchsorted(starts, np.arange(n), side="right") - 1)
    sums = partial(
        jax.ops.segment_sum,
        segment_ids=place,
        num_segments=num_bins,
        indices_are_sorted=True,
    )
    mass = sums(w)
    return (sums(w * y) / jnp.where(mass > 0, mass, 1))[place]


def _kernel_means(f: Array, y: Array, w: Array, window: int, width: Array) -> Array:
    """Sums over the window one offset at a time: no (n, 2 window) table."""
    n = f.shape[0]
    reach = min(window, n)
    pad = partial(jnp.pad, pad_width=(reach, reach))
    padded = [pad(array) for array in (f, w * y, w)]

    def add(i: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        above, below = sums
        other, wy, mass = (
            jax.lax.dynamic_slice_in_dim(array, i, n) for array in padded
        )
        weight = jnp.exp(-0.5 * ((other - f) / width) ** 2)
        return above + weight * wy, below + weight * mass

    zero = jnp.zeros_like(f)
    above, below = jax.lax.fori_loop(0, 2 * reach, add, (zero, zero))
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), y)
