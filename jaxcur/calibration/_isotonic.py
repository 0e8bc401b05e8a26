"""Isotonic recalibration: the monotone curve through the outcomes."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, is_concrete, register_dataclass
from jaxcur.calibration._calibrator import check_scores, new_input
from jaxcur.stats import count_at_most, isotonic_regression, sort_with_order
from jaxcur.stats._isotonic import host_isotonic, scipy_pav

_KINDS = ("linear", "step", "centred")
_METHODS = ("auto", "sequential", "parallel", "host")
# Below this many rows the compiled program is as fast as NumPy and SciPy.
_HOST_ROWS = 20_000


@register_dataclass
@dataclasses.dataclass(frozen=True)
class IsotonicCalibrator:
    """A monotone curve, given by its values at ascending thresholds.

    Attributes:
        thresholds: shape (t,), ascending; the last one may be repeated.
        values: shape (t,), monotone.
        kind: "linear" or "centred" interpolates between thresholds, "step" continues
            the value of the threshold below. Static.
    """

    thresholds: Array
    values: Array
    kind: str = dataclasses.field(default="linear", metadata={"static": True})

    def __call__(self, scores: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at scores (m,)."""
        points = new_input("scores", scores, self.thresholds)
        return evaluate_curve(
            self.thresholds, self.values, points, step=self.kind == "step"
        )


@jax.jit(static_argnames=("step",))
def evaluate_curve(
    thresholds: Array, values: Array, points: Array, *, step: bool = False
) -> Array:
    """A curve through (thresholds, values), constant beyond its ends; NaN at NaN."""
    place = count_at_most(thresholds, points)
    low = jnp.maximum(place - 1, 0)
    if step:
        return jnp.where(jnp.isnan(points), jnp.nan, values[low])
    high = jnp.minimum(place, thresholds.shape[0] - 1)
    gap = thresholds[high] - thresholds[low]
    share = (points - thresholds[low]) / jnp.where(gap > 0, gap, 1)
    share = jnp.where(gap > 0, share, 0)
    found = values[low] + share * (values[high] - values[low])
    # Rounding must not carry a point beyond the ends of its segment.
    ends = values[low], values[high]
    found = jnp.clip(found, min=jnp.minimum(*ends), max=jnp.maximum(*ends))
    return jnp.where(jnp.isnan(points), jnp.nan, found)


def fit_isotonic(
    scores: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    kind: Literal["linear", "step", "centred"] = "linear",
    method: Literal["auto", "sequential", "parallel", "host"] = "auto",
) -> IsotonicCalibrator:
    """The nondecreasing function of the score nearest to the outcomes.

    Rows of equal score are pooled, then adjacent violators. The fitted values minimise
    the weighted Brier score and the log loss among all monotone functions. "linear"
    interpolates between neighbouring scores and is constant beyond them, as
    scikit-learn's IsotonicRegression(out_of_bounds="clip"); "step" continues the value
    of the score below. "centred" takes each block of equal values at its mean score
    only and interpolates between these, so that the curve increases strictly; blocks
    at the smallest and the largest possible value keep their ends.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        scores: shape (n,), finite; a larger score means a larger probability.
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing. Rows of weight 0 are absent.
        kind: how the curve continues between the scores (static).
        method: how it is computed, with answers equal up to rounding (static); see
            `stats.isotonic_regression`. "host" sorts with NumPy and pools with SciPy.

    Returns:
        A calibrator of scores. With one class it is constant. The host path keeps the
        ends of blocks only, their number filled up to a power of 2.

    Raises:
        ValueError: unequal lengths, n = 0, scores that are not finite, labels outside
            [0, 1], illegal weights, an unknown option, or "host" under tracing.

    Transformations: jit, vmap.
    Cost: one sort and O(n); a prediction O(log n).

    Source: Zadrozny and Elkan, KDD 2002; Oron and Flournoy, "Centered isotonic
    regression", 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> s = jnp.array([1.0, 2.0, 3.0, 4.0])
        >>> calibrator = calibration.fit_isotonic(s, jnp.array([0, 1, 0, 1]))
        >>> calibrator(jnp.array([0.0, 1.5, 2.0, 9.0]))
        Array([0.  , 0.25, 0.5 , 1.  ], dtype=float32)
    """
    check_choice("kind", kind, _KINDS)
    check_choice("method", method, _METHODS)
    s, y, w = check_scores(scores, labels, weights)
    concrete = is_concrete(s, y, w)
    if method == "host" and not concrete:
        raise ValueError(
            '`method="host"` needs values that are not traced; '
            'use method="auto" under jit or vmap'
        )
    on_cpu = concrete and all(device.platform == "cpu" for device in s.devices())
    large = s.shape[0] >= _HOST_ROWS
    wanted = method == "host" or (method == "auto" and on_cpu and large)
    if wanted and scipy_pav() is not None:
        curve = _fit_on_host(s, y, w, weights is None, kind)
    else:
        inner = "auto" if method == "host" else method
        curve = fit_curve(s, y, w, kind=kind, method=inner)
    return IsotonicCalibrator(*curve, kind=kind)


@jax.jit(static_argnames=("kind", "method"))
def fit_curve(
    s: Array, y: Array, w: Array, *, kind: str = "linear", method: str = "auto"
) -> tuple[Array, Array]:
    """Thresholds and values, each (n,)."""
    present = w > 0
    groups, mass, total = pooled_ties(s, y, w)
    means = total / jnp.where(mass > 0, mass, 1)
    values = isotonic_regression(means, mass, method=method)  # pyright: ignore
    last = jnp.max(jnp.where(present, s, -jnp.inf))
    # Groups without weight follow all others and repeat the last of them.
    thresholds = jnp.where(mass > 0, groups, last)
    if kind == "centred":
        thresholds = _centres(thresholds, values, mass)
    legal = ~jnp.any(jnp.isnan(w)) & jnp.all(jnp.isfinite(jnp.where(present, s, 0)))
    return thresholds, jnp.where(legal, values, jnp.nan)


def pooled_ties(s: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """Distinct scores, ascending, with the weight and weighted outcomes of each.

    Each (n,): places beyond the number of distinct scores of positive weight have
    weight 0 and the score +inf.
    """
    n = s.shape[0]
    present = w > 0
    ordered, order = sort_with_order(jnp.where(present, s, jnp.inf))
    weight = jnp.where(present, w, 0)[order]
    outcome = jnp.where(present, y, 0)[order]
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    group = jnp.cumsum(is_new, dtype=jnp.int32)
    mass = jax.ops.segment_sum(weight, group, n, indices_are_sorted=True)
    total = jax.ops.segment_sum(weight * outcome, group, n, indices_are_sorted=True)
    groups = jnp.full(n, jnp.inf, s.dtype).at[group].min(ordered)
    return groups, mass, total


def _centres(thresholds: Array, values: Array, mass: Array) -> Array:
    """Each threshold of a block moved to the mean score of the block."""
    n = values.shape[0]
    is_new = jnp.concatenate([jnp.zeros(1, bool), values[1:] != values[:-1]])
    block = jnp.cumsum(is_new, dtype=jnp.int32)
    weight = jax.ops.segment_sum(mass, block, n, indices_are_sorted=True)
    # About the first score of the block, so that a common offset costs no digits.
    first = jnp.full(n, jnp.inf, thresholds.dtype).at[block].min(thresholds)
    beyond = mass * (thresholds - first[block])
    total = jax.ops.segment_sum(beyond, block, n, indices_are_sorted=True)
    centre = (first + total / jnp.where(weight > 0, weight, 1))[block]
    # A share of exactly 0 or 1 cannot grow towards the outside: it keeps its ends.
    extreme = (values <= 0) | (values >= 1)
    return jax.lax.cummax(jnp.where(extreme, thresholds, centre))


def _sorted_on_host(
    s: np.ndarray, y: np.ndarray, w: np.ndarray, uniform: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scores in order, with their outcomes and weights (None for all ones)."""
    # Adding 0 makes one zero of the two.
    s = s + np.zeros((), s.dtype)
    is_single = s.itemsize == 4
    bits = s.view(np.int32 if is_single else np.int64)
    binary = uniform and bool(((y == 0) | (y == 1)).all())
    # A number in [0, 2) leaves a bit of its sign and exponent unused: there is room
    # for the outcome in the key, and one sort of integers does it all.
    if binary and s.min() >= 0 and s.max() < 2:
        keys = (bits << 1) | y.astype(bits.dtype)
        keys.sort()
        return (keys >> 1).view(s.dtype), (keys & 1).astype(np.float64), None
    if is_single:
        # Negative numbers are mirrored; what is to follow goes in the lower half.
        wide = bits.astype(np.int64)
        wide = np.where(wide < 0, -(2**31) - wide, wide) << 32
        keys = wide | (y.astype(np.int64) if binary else np.arange(s.size))
        keys.sort()
        below = keys & (2**32 - 1)
        if binary:
            ordered = (keys >> 32).astype(np.int32)
            ordered = np.where(ordered < 0, np.int32(-(2**31)) - ordered, ordered)
            return ordered.view(s.dtype), below.astype(np.float64), None
        order = below
    else:
        order = np.argsort(s)
    return s[order], y[order].astype(np.float64), None if uniform else w[order]


def _fit_on_host(
    s: Array, y: Array, w: Array, uniform: bool, kind: str
) -> tuple[Array, Array]:
    dtype = s.dtype
    host_s, host_y, host_w = np.asarray(s), np.asarray(y), np.asarray(w)
    if not uniform and not (host_w > 0).all():
        kept = host_w > 0
        host_s, host_y, host_w = host_s[kept], host_y[kept], host_w[kept]
    points, outcome, weight = _sorted_on_host(host_s, host_y, host_w, uniform)
    is_new = points[1:] != points[:-1]
    mass = np.ones(1) if weight is None else weight.astype(np.float64)
    if not is_new.all():
        starts = np.concatenate([[0], np.flatnonzero(is_new) + 1])
        if weight is None:
            mass = np.diff(np.append(starts, points.size)).astype(np.float64)
            total = np.add.reduceat(outcome, starts)
        else:
            total = np.add.reduceat(outcome * mass, starts)
            mass = np.add.reduceat(mass, starts)
        points, outcome = points[starts], total / mass
    elif weight is None:
        mass = np.ones(points.size)
    values = host_isotonic(outcome, mass)
    change = np.flatnonzero(values[1:] != values[:-1])
    firsts = np.concatenate([[0], change + 1])
    lasts = np.concatenate([change, [values.size - 1]])
    if kind == "centred":
        block = values[firsts]
        offset = points[firsts].astype(np.float64)
        size = np.add.reduceat(mass, firsts)
        beyond = mass * (points - np.repeat(offset, lasts - firsts + 1))
        centre = offset + np.add.reduceat(beyond, firsts) / size
        extreme = (block <= 0) | (block >= 1)
        ends = np.stack(
            [
                np.where(extreme, points[firsts], centre),
                np.where(extreme, points[lasts], centre),
            ],
            axis=1,
        )
        corners = np.maximum.accumulate(ends.reshape(-1))
    else:
        corners = np.stack([points[firsts], points[lasts]], axis=1).reshape(-1)
    heights = np.repeat(values[firsts], 2)
    # A ladder of sizes: each new one would compile a new prediction.
    size = 1 << (corners.size - 1).bit_length()
    pad = (0, size - corners.size)
    return (
        jnp.asarray(np.pad(corners, pad, mode="edge"), dtype),
        jnp.asarray(np.pad(heights, pad, mode="edge"), dtype),
    )
