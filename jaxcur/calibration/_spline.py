"""Spline recalibration: the slope of the cumulative error against the rank."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.calibration._calibrator import new_input, normalised
from jaxcur.calibration._inputs import check_binary
from jaxcur.calibration._isotonic import evaluate_curve, pooled_ties

_HIGHEST = jax.lax.Precision.HIGHEST


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SplineCalibrator:
    """A curve through (thresholds, values), constant beyond its ends.

    Attributes:
        thresholds: shape (n,), the distinct forecasts, ascending; the last repeated.
        values: shape (n,), not monotone in general; the curve is cut at 0 and 1.
    """

    thresholds: Array
    values: Array

    def __call__(self, probs: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at forecasts (m,)."""
        points = new_input("probs", probs, self.thresholds)
        return jnp.clip(evaluate_curve(self.thresholds, self.values, points), 0, 1)


def fit_spline(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    num_knots: int = 6,
) -> SplineCalibrator:
    """Correct each forecast by the slope of the cumulative error at its rank.

    In the order of the forecasts, the mean of the residuals y - f up to a row is a
    function of its rank t in [0, 1]. A natural cubic spline with equally spaced knots
    is fitted to it by least squares, and the forecast becomes f plus the slope of the
    spline, within [0, 1]. Equal forecasts share their ranks evenly: along them the
    cumulative error is a straight line, and they get the mean slope of the spline.

    Heuristic: no finite-sample guarantee on the probabilities; the curve need not be
    monotone.

    Args:
        probs: shape (n,), in [0, 1].
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing.
        num_knots: at least 2, from rank 0 to 1 (static).

    Returns:
        A calibrator of probabilities: linear between the forecasts of the fit.

    Raises:
        ValueError: unequal lengths, n = 0, values outside [0, 1], illegal weights, or
            fewer than 2 knots.

    Transformations: jit, vmap.
    Cost: one sort and O(n num_knots).

    Source: Gupta, Rahimi, Ajanthan, Mensink, Sminchisescu and Hartley, "Calibration of
    neural networks using splines", ICLR 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.linspace(0.05, 0.95, 10)
        >>> y = jnp.array([0, 0, 1, 0, 1, 0, 1, 1, 1, 1])
        >>> calibrator = calibration.fit_spline(f, y, num_knots=3)
        >>> [round(float(p), 1) for p in calibrator(jnp.array([0.05, 0.95]))]
        [0.2, 1.0]
    """
    if not isinstance(num_knots, int) or num_knots < 2:
        raise ValueError(f"`num_knots` must be an integer from 2 on, got {num_knots!r}")
    f, y, w = check_binary(probs, labels, weights)
    return _fit(f, y, w, num_knots=num_knots)


def _basis(t: Array, knots: Array) -> tuple[Array, Array]:
    """Natural cubic splines (n, knots) at t, and their slopes: truncated powers."""
    one = jnp.ones_like(t)
    if knots.shape[0] == 2:
        return jnp.stack([one, t], 1), jnp.stack([0 * t, one], 1)
    high = knots[-1]

    def pieces(k: Array) -> tuple[Array, Array]:
        left, right = jnp.maximum(t - k, 0), jnp.maximum(t - high, 0)
        gap = high - k
        value = (left**3 - right**3) / gap
        return value, 3 * (left**2 - right**2) / gap

    values, slopes = jax.vmap(pieces, out_axes=1)(knots[:-1])
    columns = [jnp.stack([one, t], 1), values[:, :-1] - values[:, -1:]]
    derived = [jnp.stack([0 * t, one], 1), slopes[:, :-1] - slopes[:, -1:]]
    return jnp.concatenate(columns, 1), jnp.concatenate(derived, 1)


@jax.jit(static_argnames=("num_knots",))
def _fit(f, y, w, *, num_knots) -> Any:
    present = w > 0
    groups, mass, total = pooled_ties(f, y, w)
    share = normalised(mass)
    last = jnp.max(jnp.where(present, f, -jnp.inf))
    thresholds = jnp.where(mass > 0, groups, last)
    rate = total / jnp.where(mass > 0, mass, 1)
    residual = jnp.where(mass > 0, share * (rate - thresholds), 0)
    height = jnp.cumsum(residual)
    # Ranks run from 0 at the first row to 1 at the last: (i - 1) / (n - 1). A group of
    # equal forecasts is a run of rows as light as the lightest; its first, its middle
    # and its last rank stand for the run as in Simpson's rule, and are one point where
    # the group is one row.
    unit = jnp.min(jnp.where(present, w, jnp.inf)) / jnp.sum(mass)
    unit = jnp.minimum(unit, jnp.min(jnp.where(mass > 0, share, jnp.inf)))
    extent = jnp.where(unit < 1, 1 - unit, 1)
    length = jnp.maximum(share - unit, 0)
    place = jnp.array([0.0, 0.5, 1.0], f.dtype)[:, None]
    before = 1 - place
    t = jnp.clip((jnp.cumsum(share) - unit - before * length) / extent, 0, 1)
    climb = residual * length / jnp.where(mass > 0, share, 1)
    curve = height - before * climb
    knots = jnp.linspace(0, 1, num_knots, dtype=f.dtype)
    values, slopes = jax.vmap(_basis, in_axes=(0, None))(t, knots)
    # An orthonormal basis: the truncated powers are nearly collinear.
    simpson = jnp.array([1 / 6, 4 / 6, 1 / 6], f.dtype)[:, None]
    root = jnp.sqrt(simpson * share).ravel()
    table = values.reshape(-1, num_knots) * root[:, None]
    left, sizes, right = jnp.linalg.svd(table, full_matrices=False)
    small = sizes <= 10 * jnp.finfo(f.dtype).eps * sizes[0] * num_knots
    inverse = jnp.where(small, 0, 1 / jnp.where(small, 1, sizes))
    part = jnp.matmul(left.T, root * curve.ravel(), precision=_HIGHEST)
    coefficients = jnp.matmul(right.T, inverse * part, precision=_HIGHEST)
    level = jnp.matmul(values, coefficients, precision=_HIGHEST)
    slope = jnp.matmul(slopes, coefficients, precision=_HIGHEST)
    # The difference is exact across knots, but of near points mostly rounding.
    width = t[2] - t[0]
    wide = width > 0.01
    mean = (level[2] - level[0]) / jnp.where(wide, width, 1)
    mean = jnp.where(wide, mean, jnp.sum(simpson * slope, axis=0))
    corrected = thresholds + mean
    # Places beyond the last group repeat it.
    count = jnp.sum(mass > 0)
    corrected = jnp.where(mass > 0, corrected, corrected[jnp.maximum(count - 1, 0)])
    legal = jnp.all(jnp.isfinite(jnp.where(present, f + y, 0))) & ~jnp.any(jnp.isnan(w))
    return SplineCalibrator(
        thresholds=thresholds, values=jnp.where(legal, corrected, jnp.nan)
    )
