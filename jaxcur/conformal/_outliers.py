"""Outliers among new rows, by conformal p-values and by a learned score."""

import dataclasses
import functools
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_unit_interval,
    decimal_float64,
    register_dataclass,
)
from jaxcur.conformal._pvalues import grid_ranks
from jaxcur.conformal._selection import select

NullShare = Literal["one", "storey", "quantile"]
NULL_SHARES = ("one", "storey", "quantile")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class OutlierResult:
    """Rows declared outliers.

    Attributes:
        selected: shape (m,), bool. True where the row is declared an outlier.
        p_values: shape (m,), in (0, 1]; small for rows unlike the null rows.
        null_share: scalar, the estimated share of inliers that the level was divided
            by; 1 for plain Benjamini-Hochberg. Not capped: it can exceed 1.
        status: scalar int; index into `conformal.STATUS`, 0 = ok.
        level: scalar, target FDR.
        method: "one", "storey" or "quantile" (static).
    """

    selected: Array
    p_values: Array
    null_share: Array
    status: Array
    level: Array
    method: str = dataclasses.field(metadata={"static": True})

    @property
    def num_selected(self) -> Array:
        """Number declared outliers, over the last axis."""
        return jnp.sum(self.selected, axis=-1, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames="method")
def _adaptive(
    null: Array, test: Array, level: Array, cutoff: Array, grid: Array, method: str
) -> tuple[Array, Array]:
    """Selected rows and estimated null share, from float64 p-values."""
    m = test.shape[0]
    p = grid[grid_ranks(-null, -test)]
    if method == "storey":
        above = jnp.sum(p >= cutoff, dtype=jnp.int32).astype(p.dtype)
        share = (1 + above) / (m * (1 - cutoff))
        selected = stats.storey_bh(p, level, cutoff=cast(Any, cutoff))
    else:
        k0 = m // 2
        gap = 1 - stats.sort(p)[k0]
        share = (m - k0 + 1) / (m * jnp.where(gap > 0, gap, 1.0))
        share = jnp.where(gap > 0, share, jnp.inf)
        selected = stats.quantile_bh(p, level)
    return selected & ~jnp.isnan(test), share.astype(test.dtype)


def detect_outliers(
    null_scores: Real[ArrayLike, " n"],
    test_scores: Real[ArrayLike, " m"],
    *,
    level: float | Array,
    null_share: NullShare = "one",
    cutoff: float | Array = 0.5,
) -> OutlierResult:
    """Rows whose score is too large to come from the null, with FDR control.

    p_j = (1 + #{null scores >= score_j}) / (n + 1), then Benjamini-Hochberg at `level`
    divided by the null share: 1 ("one"), (1 + #{p_j >= cutoff}) / (m (1 - cutoff))
    ("storey"), or (m - k0 + 1) / (m (1 - p_(k0+1))) with k0 = floor(m / 2)
    ("quantile"). It is conformal selection with every calibration row in the null and
    scores with their sign changed.

    Guarantee: if the null rows and the inliers among the test rows are exchangeable
    given the outliers (i.i.d. inliers suffice), and the score was fixed independently
    of them, the expected share of inliers among the selected is at most `level` times
    the share of inliers ("one") or at most `level` ("storey", "quantile").
    Verified by: `jaxcur verify outliers`.

    Args:
        null_scores: shape (n,), scores of rows known to be inliers. Larger is more
            outlying. NaN counts as +inf, which only raises p-values.
        test_scores: shape (m,). NaN is never selected.
        level: scalar in [0, 1], target FDR.
        null_share: how the share of inliers is estimated.
        cutoff: scalar in (0, 1), for "storey".

    Returns:
        An `OutlierResult`.

    Raises:
        ValueError: level or cutoff out of range, wrong rank, unknown `null_share`.

    Transformations: jit, vmap; level and cutoff may be traced. Not differentiable.
    Cost: O((n + m) log(n + m)) time, O(n + m) memory.

    Source: Bates et al., Annals of Statistics 2023; the adaptive forms: Marandon,
    Lei, Mary and Roquain, "Adaptive novelty detection with false discovery rate
    guarantee", Annals of Statistics 2024.

    Example:
        >>> from jaxcur import conformal
        >>> result = conformal.detect_outliers(
        ...     [0, 1, 2, 3, 4, 5, 6, 7, 8], [20.0, 3.5, 15.0], level=0.2
        ... )
        >>> result.selected
        Array([ True, False,  True], dtype=bool)
    """
    check_choice("null_share", null_share, NULL_SHARES)
    check_unit_interval("cutoff", cutoff, open_low=True, open_high=True)
    null, test = as_float(null_scores=null_scores, test_scores=test_scores)
    check_rank("null_scores", null, 1, "(n,)")
    check_rank("test_scores", test, 1, "(m,)")
    plain = select(-null, -test, level=level)
    selected, share = plain.selected, jnp.ones((), test.dtype)
    if null_share != "one" and test.shape[0]:
        # Divided on the host: XLA divides by a scalar with a product that can be one
        # ulp off, and a p-value equal to the cutoff has to be counted.
        grid = np.arange(null.shape[0] + 2) / (null.shape[0] + 1)
        with jax.enable_x64(True):
            target, bar = decimal_float64(level), decimal_float64(cutoff)
            selected, share = _adaptive(
                null, test, target, bar, jnp.asarray(grid), null_share
            )
    return OutlierResult(
        selected, plain.p_values, share, plain.status, plain.level, null_share
    )


def ada_detect(
    learner: Any,
    null_features: Real[ArrayLike, "n d"],
    test_features: Real[ArrayLike, "m d"],
    *,
    level: float | Array,
    num_train: int | None = None,
    null_share: NullShare = "one",
    cutoff: float | Array = 0.5,
    key: Array | None = None,
) -> OutlierResult:
    """Outliers found with a score learned from the test rows themselves.

    The first `num_train` null rows are class 0; the other null rows and all test rows,
    mixed, are class 1. The learner is fitted to tell the classes apart, and its
    prediction is the score of `detect_outliers`, with the mixed null rows as the null.
    A classifier trained this way approaches the best possible score, the density ratio.

    Guarantee: if the null rows and the inliers among the test rows are exchangeable
    given the outliers, and the fit does not depend on the order of the mixed rows, the
    expected share of inliers among the selected is at most `level`.
    Verified by: `jaxcur verify outliers`.

    Args:
        learner: an object with `fit(features, target, weights, *, key)` and
            `predict(params, features)`, for example `learners.Logistic`. Larger
            predictions mean class 1. `learners.check_symmetric` tests the order.
        null_features: shape (n, d), rows known to be inliers.
        test_features: shape (m, d).
        level: scalar in [0, 1], target FDR.
        num_train: null rows that serve as class 0, static, 1 <= num_train <= n; None is
            n // 2. The other n - num_train rows calibrate.
        null_share: as in `detect_outliers`.
        cutoff: as in `detect_outliers`.
        key: random key for a learner that draws.

    Returns:
        An `OutlierResult`.

    Raises:
        ValueError: wrong shapes, num_train out of range, level or cutoff out of range.

    Transformations: jit and vmap where the learner allows them.
    Cost: one fit on n + m rows, one prediction on n - num_train + m, then
    O((n + m) log(n + m)).

    Source: Marandon, Lei, Mary and Roquain, "Adaptive novelty detection with false
    discovery rate guarantee", Annals of Statistics 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import conformal
        >>> class Mean:  # distance from the mean of class 0
        ...     def fit(self, x, y, weights=None, *, key=None):
        ...         return jnp.sum(x * (1 - y)[:, None], axis=0) / jnp.sum(1 - y)
        ...     def predict(self, params, x):
        ...         return jnp.sum((x - params) ** 2, axis=1)
        >>> null = jnp.linspace(-1.0, 1.0, 19)[:, None]
        >>> test = jnp.array([[9.0], [0.1], [-8.0]])
        >>> conformal.ada_detect(Mean(), null, test, level=0.2, num_train=9).selected
        Array([ True, False,  True], dtype=bool)
    """
    null, test = as_float(null_features=null_features, test_features=test_features)
    check_rank("null_features", null, 2, "(n, d)")
    check_rank("test_features", test, 2, "(m, d)")
    if null.shape[1] != test.shape[1]:
        raise ValueError(
            "`null_features` and `test_features` must have the same columns, "
            f"got shapes {null.shape} and {test.shape}"
        )
    n = null.shape[0]
    num_train = n // 2 if num_train is None else num_train
    if not 1 <= num_train <= n:
        raise ValueError(
            f"`num_train` must lie in [1, {n}], n being the null rows, got {num_train}"
        )
    mixed = jnp.concatenate([null[num_train:], test])
    features = jnp.concatenate([null[:num_train], mixed])
    target = (jnp.arange(features.shape[0]) >= num_train).astype(features.dtype)
    params = learner.fit(features, target, None, key=key)
    (scores,) = as_float(predictions=learner.predict(params, mixed))
    if scores.shape != (mixed.shape[0],):
        raise ValueError(
            "`learner.predict` must return one number a row, shape "
            f"({mixed.shape[0]},), got {scores.shape}"
        )
    held = n - num_train
    return detect_outliers(
        scores[:held], scores[held:], level=level, null_share=null_share, cutoff=cutoff
    )
