"""Venn-Abers predictors: two isotonic fits for each test score, by two hulls."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.calibration._calibrator import check_scores, new_input
from jaxcur.calibration._isotonic import pooled_ties
from jaxcur.stats import count_at_most, count_below


@register_dataclass
@dataclasses.dataclass(frozen=True)
class VennAbersCalibrator:
    """The pair of isotonic fits with a test score added as a 0 and as a 1.

    Attributes:
        thresholds: shape (n,), the distinct scores, ascending, then +inf.
        lower: shape (n + 1,), p0 by the number of thresholds <= the score.
        upper: shape (n + 1,), p1 by the number of thresholds < the score.
    """

    thresholds: Array
    lower: Array
    upper: Array

    def interval(
        self, scores: Real[ArrayLike, " m"]
    ) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        """(p0, p1), each (m,): the fits at the score with label 0 and with label 1."""
        s = new_input("scores", scores, self.thresholds)
        bad = jnp.isnan(s)
        # An infinite score must not count the filling.
        s = jnp.minimum(s, jnp.finfo(s.dtype).max)
        low = self.lower[count_at_most(self.thresholds, s)]
        high = self.upper[count_below(self.thresholds, s)]
        return jnp.where(bad, jnp.nan, low), jnp.where(bad, jnp.nan, high)

    def __call__(self, scores: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """One probability for each score: p1 / (1 - p0 + p1), the minimax choice."""
        low, high = self.interval(scores)
        return high / (1 - low + high)


def fit_venn_abers(
    scores: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> VennAbersCalibrator:
    """Inductive Venn-Abers prediction.

    For a test score s, p1 is the isotonic fit at s of the sample with (s, 1) added, and
    p0 that with (s, 0) added. Both depend on s only through its place among the scores
    of the sample, so all of them are computed once, from the lower hull of the
    cumulative sums as the added row moves through them.

    Guarantee: if the rows and the test row are exchangeable, the one of p0 and p1 that
    belongs to the true label of the test row is calibrated: E[Y | p_Y] = p_Y. Always
    p0 <= p1.
    Verified by: `jaxcur verify calibration/venn-abers`.

    Args:
        scores: shape (n,), finite; a larger score means a larger probability.
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing. The added row has weight 1.

    Returns:
        A calibrator of scores with `interval(scores)` for (p0, p1). Scores are compared
        exactly: one that exceeds a score of the sample by an ulp lies to its right.

    Raises:
        ValueError: unequal lengths, n = 0, scores that are not finite, labels outside
            [0, 1], or illegal weights.

    Transformations: jit, vmap.
    Cost: O(n log n) for the fit, O(log n) for a score; O(n) memory.

    Source: Vovk and Petej, "Venn-Abers predictors", UAI 2014, algorithms 1 to 4.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> s = jnp.array([1.0, 2.0, 3.0, 4.0])
        >>> calibrator = calibration.fit_venn_abers(s, jnp.array([0, 1, 0, 1]))
        >>> low, high = calibrator.interval(jnp.array([2.0]))
        >>> round(float(low[0]), 2), round(float(high[0]), 2)
        (0.33, 0.67)
    """
    s, y, w = check_scores(scores, labels, weights)
    return _fit(s, y, w)


@jax.jit
def _fit(s, y, w) -> VennAbersCalibrator:
    dtype = s.dtype
    groups, mass, total = pooled_ties(s, y, w)
    n = s.shape[0]
    index = jnp.arange(n, dtype=jnp.int32)
    count = jnp.sum(mass > 0, dtype=jnp.int32)
    # Products of counts decide which corners stay: float32 would blur them.
    with jax.enable_x64(True):
        weight, outcome = mass.astype(jnp.float64), total.astype(jnp.float64)
        upper = _moving_fits(weight, outcome, count)
        # Labels and order reversed: a 0 added here is a 1 added there.
        turned = jnp.where(index < count, count - 1 - index, index)
        mirror = _moving_fits(weight[turned], (weight - outcome)[turned], count)
        lower = 1 - mirror[turned]
        upper = jnp.clip(upper, 0, 1).astype(dtype)
        lower = jnp.clip(lower, 0, 1).astype(dtype)
    legal = jnp.all(jnp.isfinite(jnp.where(w > 0, s + y, 0))) & ~jnp.any(jnp.isnan(w))
    one, zero = jnp.ones(1, dtype), jnp.zeros(1, dtype)
    # Above all scores an added 1 stands alone, and so does a 0 below them.
    upper = jnp.concatenate([jnp.where(index < count, upper, 1), one])
    lower = jnp.concatenate([zero, lower])
    bad = jnp.where(legal & (count > 0), 0, jnp.nan).astype(dtype)
    return VennAbersCalibrator(thresholds=groups, lower=lower + bad, upper=upper + bad)


class _Hull(NamedTuple):
    """A stack of corners, leftmost on top: `depth` is the place of the top.

    The two upper corners are held in scalars too. Each step writes one place of the
    arrays and then reads one, so that no step copies an array.
    """

    x: Array
    y: Array
    depth: Array
    top: tuple[Array, Array]
    second: tuple[Array, Array]


def _stored(hull: _Hull) -> tuple[_Hull, tuple[Array, Array]]:
    """The hull with its top written to the arrays, and the third corner."""
    at = jnp.maximum(hull.depth, 0)
    x, y = hull.x.at[at].set(hull.top[0]), hull.y.at[at].set(hull.top[1])
    third = jnp.maximum(hull.depth - 2, 0)
    return hull._replace(x=x, y=y), (x[third], y[third])


def _moved(hull: _Hull, third, point, push: Array, drop: Array) -> _Hull:
    """Push the point, or drop the top, or neither."""

    def choose(if_push, if_drop, otherwise):
        return tuple(
            jnp.where(push, a, jnp.where(drop, b, c))
            for a, b, c in zip(if_push, if_drop, otherwise, strict=True)
        )

    return hull._replace(
        depth=hull.depth + push.astype(jnp.int32) - drop.astype(jnp.int32),
        top=choose(point, hull.second, hull.top),
        second=choose(hull.top, third, hull.second),
    )


def _is_blocked(hull: _Hull, point) -> Array:
    """Whether the top lies on or above the line from the point to the second corner."""
    (ax, ay), (bx, by), (cx, cy) = point, hull.top, hull.second
    return (hull.depth >= 1) & ((bx - ax) * (cy - by) <= (by - ay) * (cx - bx))


def _moving_fits(weight: Array, outcome: Array, count: Array) -> Array:
    """The fit at each group with a row of label 1 added to it, (n,).

    The corners of the cumulative sums right of the added row are those of the sample,
    P_i = (W_i, Y_i); those left of it are moved by (-1, -1). The fit is the slope of
    the lower hull of both between them. The hull is built from the right and then
    amended as points change sides.
    """
    n = weight.shape[0]
    zero = weight[:1] * 0
    px = jnp.concatenate([zero, jnp.cumsum(weight)])
    py = jnp.concatenate([zero, jnp.cumsum(outcome)])
    stack = jnp.zeros(n + 3, weight.dtype) + zero
    none = zero[0].astype(jnp.int32)

    def build(_, state):
        # From P_count down to P_0, and then (-1, -1): i counts down to -1.
        hull, i = state
        hull, third = _stored(hull)
        at = jnp.maximum(i, 0)
        point = jnp.where(i < 0, -1.0, px[at]), jnp.where(i < 0, -1.0, py[at])
        live = i >= -1
        blocked = _is_blocked(hull, point)
        push = live & ~blocked
        return _moved(hull, third, point, push, live & blocked), i - push.astype(
            jnp.int32
        )

    origin = (zero[0], zero[0])
    hull = _Hull(stack, stack, none - 1, origin, origin)
    hull, _ = jax.lax.fori_loop(0, 2 * n + 4, build, (hull, count))

    def move(_, state):
        # Each step evaluates group i, or drops a corner for the point that changes
        # sides, or puts that point on top.
        hull, i, pending, fits = state
        hull, third = _stored(hull)
        (tx, ty), (sx, sy) = hull.top, hull.second
        at = jnp.minimum(i, n)
        live = i <= count
        run = sx - tx
        evaluate = live & ~pending
        slope = (sy - ty) / jnp.where(run != 0, run, 1)
        fits = fits.at[jnp.where(evaluate, at - 1, n)].set(slope)
        point = px[at] - 1, py[at] - 1
        above = (point[1] - ty) * run >= (sy - ty) * (point[0] - tx)
        # Below the line, the old top is replaced: it goes at once.
        blocked = _is_blocked(hull, point)
        push = pending & ~blocked
        drop = (evaluate & ~above) | (pending & blocked)
        done = (evaluate & above) | push
        hull = _moved(hull, third, point, push, drop)
        return hull, i + done.astype(jnp.int32), live & ~done, fits

    fits = jnp.zeros(n + 1, weight.dtype) + zero
    state = (hull, none + 1, none > 0, fits)
    return jax.lax.fori_loop(0, 4 * n + 4, move, state)[3][:n]
