"""Smooth calibration error: residuals smoothed by a reflected Gaussian kernel."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import is_concrete
from jaxcur.calibration._inputs import check_scored
from jaxcur.calibration._sums import segment_totals, total_weight, weighted

NUM_GRID = 4096
_NUM_BISECTIONS = 30
# Rows added to one table of the grid: several short sums round less than a long one.
_BLOCK = 65536


def grid_masses(f: Array, values: Array, num_grid: int = NUM_GRID) -> Array:
    """Values split linearly between the two nearest centres of a grid, (num_grid,).

    Centres are (k + 1/2) / num_grid; beyond the first and the last one the mirror image
    of the mass falls on the same centre.
    """
    position = f * num_grid - 0.5
    low = jnp.floor(position)
    share = position - low
    index = jnp.where(jnp.isnan(low), 0, low).astype(jnp.int32)
    top = num_grid - 1

    def add(part: Array, place: Array) -> Array:
        place = jnp.clip(place, 0, top)
        return segment_totals(part, place, num_grid, block=_BLOCK)

    upper = values * share
    return add(values - upper, index) + add(upper, index + 1)


def spectrum(masses: Array) -> Array:
    """Cosine coefficients of the masses (DCT-II), in which reflection is built in."""
    return jax.scipy.fft.dct(masses, type=2)


def smooth(coefficients: Array, bandwidth: Array) -> Array:
    """Masses smoothed by the reflected Gaussian kernel of this width."""
    k = jnp.arange(coefficients.shape[-1], dtype=coefficients.dtype)
    damping = jnp.exp(-((jnp.pi * k * bandwidth) ** 2) / 2)
    return jax.scipy.fft.idct(coefficients * damping.astype(coefficients.dtype), type=2)


def _error_at(coefficients: Array, bandwidth: Array) -> Array:
    return jnp.sum(jnp.abs(smooth(coefficients, bandwidth)))


def fixed_point(coefficients: Array) -> Array:
    """The bandwidth s at which the error smoothed at s equals s."""
    fixed = jax.lax.stop_gradient(coefficients)
    zero = jnp.zeros((), fixed.dtype) * fixed[0]

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = _error_at(fixed, middle) > middle
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = jax.lax.fori_loop(0, _NUM_BISECTIONS, halve, (zero, zero + 1))
    s = (low + high) / 2
    # One Newton step: it polishes the root and carries the gradient of the implicit
    # equation, d s = d error / (1 - d error / d s). The error falls in s, so the
    # denominator is at least 1.
    slope = jax.jvp(lambda b: _error_at(fixed, b), (s,), (jnp.ones_like(s),))[1]
    step = (_error_at(coefficients, s) - s) / (1 - jnp.minimum(slope, 0))
    return jnp.clip(s + step, 0, 1)


def regression_bandwidth(
    f: Array, y: Array, w: Array, bandwidth: Array | None
) -> Array:
    """The bandwidth given, or that of `smooth_ece`, at least one step of the grid."""
    if bandwidth is not None:
        return bandwidth
    residual = w * (f - y) / jnp.sum(w)
    # Perfect forecasts ask for no smoothing at all.
    return jnp.maximum(fixed_point(spectrum(grid_masses(f, residual))), 1 / NUM_GRID)


@functools.partial(jax.jit, static_argnames=("num_grid",))
def _smooth_ece(
    f: Array, y: Array, w: Array | None, bandwidth: Array | None, *, num_grid: int
) -> Array:
    masses = grid_masses(f, weighted(f - y, w) / total_weight(w, f), num_grid)
    coefficients = spectrum(masses)
    if bandwidth is None:
        return fixed_point(coefficients)
    legal = bandwidth > 0
    return jnp.where(legal, _error_at(coefficients, bandwidth), jnp.nan)


def check_bandwidth(bandwidth: Any, dtype: Any) -> Array | None:
    """A positive scalar, or None."""
    if bandwidth is None:
        return None
    array = jnp.asarray(bandwidth, dtype)
    if array.ndim:
        raise ValueError(
            f"`bandwidth` must be a scalar, got shape {array.shape}; "
            "map over several with jax.vmap"
        )
    if is_concrete(bandwidth) and not 0 < float(bandwidth) < float("inf"):
        raise ValueError(f"`bandwidth` must be positive and finite, got {bandwidth}")
    return array


def smooth_ece(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    bandwidth: Real[ArrayLike, ""] | float | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
    num_grid: int = NUM_GRID,
) -> Float[Array, ""]:
    """Calibration error of residuals smoothed over forecasts, without bins.

    With  g_s(t) = (1/n) sum_i (f_i - y_i) K_s(t, f_i),  K_s the Gaussian density of
    width s reflected at 0 and 1,  smECE_s = integral_0^1 |g_s(t)| dt. Without a
    `bandwidth` the result is the s at which smECE_s = s. Unlike a binned error it is
    continuous in the forecasts.

    Residuals are split linearly onto a grid and transformed once to cosines, in which
    reflection is built in and smoothing is a product; each of the 30 bisection steps
    then costs one transform of the grid, whatever n is.

    Heuristic: no finite-sample guarantee as an estimate of the population value.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), scored at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        bandwidth: width s of the kernel, positive; None solves for it.
        weights: shape (n,); a row of weight 2 counts as two rows.
        num_grid: points of the grid. Static.

    Returns:
        scalar in [0, 1], at least |mean residual|. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, or a bandwidth
            that is not positive.

    Transformations: jit, vmap, grad in `probs`, `labels`, `weights`, `bandwidth` (by
    the implicit function theorem where the bandwidth is solved for).
    Cost: one pass over the rows and 31 transforms of the grid.

    Source: Blasiok and Nakkiran, "Smooth ECE: Principled Reliability Diagrams via
    Kernel Smoothing", ICLR 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.1, 0.4, 0.8]), jnp.array([0, 1, 0])
        >>> print(f"{calibration.smooth_ece(probs, labels):.3f}")
        0.244
    """
    if not isinstance(num_grid, int) or num_grid < 2:
        raise ValueError(
            f"`num_grid` must be an integer of at least 2, got {num_grid!r}"
        )
    f, y, w = check_scored(probs, labels, weights)
    return _smooth_ece(f, y, w, check_bandwidth(bandwidth, f.dtype), num_grid=num_grid)
