"""Exact selection over a stream of candidates in O(n) memory.

Deterministic p-values take n + 1 values, so what Benjamini-Hochberg needs to know of
any number of candidates is how many fall between neighbouring calibration scores.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_rank,
    check_unit_interval,
    is_concrete,
    register_dataclass,
)
from jaxcur.conformal._pvalues import conservative

_MAX_ROWS = 2**53


@register_dataclass
@dataclasses.dataclass(frozen=True)
class RankHistogram:
    """Counts of candidates between calibration scores; selects like `select`, streamed.

    Feed candidates in chunks of any size, on any number of devices or machines, merge
    the states, and read off the cut-off: the selected rows are bit for bit those that
    `conformal.select(calibration_scores, all_test_scores, level=level)` selects
    (deterministic p-values, no weights). Keep one chunk size: a new one compiles anew.

    Guarantee: that of `conformal.select`. Verified by: `jaxcur verify select`.

    Attributes:
        calibration_scores: shape (n,), sorted; NaN replaced by -inf.
        low: shape (n + 1,), uint32, low words of the counts.
        high: shape (n + 1,), uint32, high words.

    Transformations: `update` and `merge` work under jit, vmap and shard_map; reading
        the cut-off is a host-side step in exact arithmetic.

    Cost: O(n) memory; `update` with b rows O(b log n).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import conformal
        >>> state = conformal.RankHistogram.init(jnp.arange(1.0, 10.0))
        >>> state = state.update(jnp.array([0.5, 7.5])).update(jnp.array([0.1]))
        >>> float(state.score_cutoff(0.2))
        0.9999999403953552
    """

    calibration_scores: Array
    low: Array
    high: Array

    @classmethod
    def init(cls, calibration_scores: Real[ArrayLike, " n"]) -> "RankHistogram":
        """State of an empty stream; calibration_scores has shape (n,)."""
        (scores,) = as_float(calibration_scores=calibration_scores)
        check_rank("calibration_scores", scores, 1, "(n,)")
        zeros = jnp.zeros(scores.shape[0] + 1, jnp.uint32)
        return cls(stats.sort(conservative(scores)), zeros, zeros)

    def update(
        self, test_scores: Real[ArrayLike, " b"], *, axis_name: str | None = None
    ) -> "RankHistogram":
        """State after b more candidates, shape (b,), fewer than 2^31 at a time.

        With `axis_name`, inside `shard_map`, every device passes its own rows and all
        return the state of the whole chunk. A NaN score counts as a candidate with
        p-value 1, as in `select`.
        """
        (scores,) = as_float(test_scores=test_scores)
        check_rank("test_scores", scores, 1, "(b,)")
        if scores.dtype != self.calibration_scores.dtype:
            if jnp.finfo(scores.dtype).bits > jnp.finfo(self._dtype).bits:
                raise TypeError(
                    f"`test_scores` are {scores.dtype}, the calibration scores "
                    f"{self._dtype}: rounding would change the order; start from "
                    f"calibration scores of dtype {scores.dtype}"
                )
            scores = scores.astype(self._dtype)
        return _update(self, scores, axis_name)

    def merge(self, other: "RankHistogram") -> "RankHistogram":
        """State of both streams together.

        Raises:
            ValueError: `other` counts against another calibration set.
        """
        mine, theirs = self.calibration_scores, other.calibration_scores
        same = mine.shape == theirs.shape and mine.dtype == theirs.dtype
        if same and is_concrete(mine, theirs):
            same = bool((np.asarray(mine) == np.asarray(theirs)).all())
        if not same:
            raise ValueError(
                "cannot merge histograms of different calibration scores, got "
                f"{_describe(mine)} and {_describe(theirs)}"
            )
        low, carry = _add(self.low, other.low)
        return RankHistogram(mine, low, self.high + other.high + carry)

    def counts(self) -> np.ndarray:
        """Candidates with 0, 1, ..., n calibration scores at or below, (n + 1,)."""
        high = np.asarray(self.high).astype(np.int64)
        return (high << 32) + np.asarray(self.low).astype(np.int64)

    def num_rows(self) -> int:
        """Number of candidates seen so far."""
        total = int(self.counts().sum())
        if total > _MAX_ROWS:
            raise OverflowError(f"{total} rows exceed the documented limit of 2^53")
        return total

    def score_cutoff(self, level: float) -> Array:
        """Largest score that is selected; -inf when nothing is.

        Rows with a score at or below it are selected. Host side: `level` is concrete
        and read as the decimal it prints as; the comparison is exact for any counts.

        Args:
            level: scalar in [0, 1], target FDR.

        Returns:
            scalar in the dtype of the scores. Next to a calibration score of 0 it is
            minus the smallest normal number, so candidates that are negative subnormal
            numbers (below 1.2e-38 in float32) are left out. -inf means "none", so ask
            `select` about candidates whose score is -inf.

        Raises:
            ValueError: level outside [0, 1] or NaN.
        """
        rank = self._cutoff_rank(level)
        scores = np.asarray(self.calibration_scores)
        if rank == 0:
            return jnp.asarray(-np.inf, self._dtype)
        if rank > scores.shape[0]:
            return jnp.asarray(np.inf, self._dtype)
        bar = scores[rank - 1]
        below = np.nextafter(bar, -np.inf, dtype=scores.dtype)
        tiny = np.finfo(scores.dtype).tiny
        if -tiny < below < 0:
            # XLA reads subnormal numbers as 0, and 0 must stay above this cut-off.
            below = -tiny
        return jnp.asarray(below, self._dtype)

    def select(
        self, test_scores: Real[ArrayLike, " b"], level: float
    ) -> Bool[Array, " b"]:
        """Which of these candidates, shape (b,), the whole stream selects."""
        (scores,) = as_float(test_scores=test_scores)
        ranks = stats.count_at_most(self.calibration_scores, scores) + 1
        return (ranks <= self._cutoff_rank(level)) & ~jnp.isnan(scores)

    def p_values(self, test_scores: Real[ArrayLike, " b"]) -> Array:
        """Deterministic p-values of candidates, shape (b,)."""
        (scores,) = as_float(test_scores=test_scores)
        ranks = stats.count_at_most(self.calibration_scores, scores) + 1
        return ranks.astype(scores.dtype) / (self.calibration_scores.shape[0] + 1)

    @property
    def _dtype(self) -> Any:
        return self.calibration_scores.dtype

    def _cutoff_rank(self, level: float) -> int:
        check_unit_interval("level", level)
        self.num_rows()
        return stats.grid_cutoff_exact(self.counts(), level)


@jax.jit(static_argnames=("axis_name",))
def _update(
    state: RankHistogram, scores: Array, axis_name: str | None
) -> RankHistogram:
    places = stats.count_at_most(state.calibration_scores, scores)
    new = jnp.zeros(state.low.shape, jnp.uint32).at[places].add(jnp.uint32(1))
    if axis_name is not None:
        new = jax.lax.psum(new, axis_name)
    low, carry = _add(state.low, new)
    return RankHistogram(state.calibration_scores, low, state.high + carry)


def _add(left: Array, right: Array) -> tuple[Array, Array]:
    """Sum modulo 2^32 and the carry."""
    total = left + right
    return total, (total < left).astype(jnp.uint32)


def _describe(scores: Array) -> str:
    if not is_concrete(scores):
        return f"{scores.shape[0]} scores"
    return f"{scores.shape[0]} scores summing to {float(np.sum(np.asarray(scores)))}"
