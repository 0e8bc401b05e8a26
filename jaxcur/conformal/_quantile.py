"""The order statistic behind every conformal set."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    check_unit_interval,
    decimal_float64,
    exact_fraction,
    is_concrete,
)
from jaxcur.conformal._pvalues import Weights, are_bad_weights
from jaxcur.stats._group_sort import group_sort

# A coverage with more digits is a rounded float, not a decimal that somebody wrote.
_MAX_DENOMINATOR = 10**12
_INT64_MAX = 2**63 - 1
_GUARD = 1 - 4 * float(np.finfo(np.float64).eps)
# A sum of 2^32 weights adds in 32 stages.
_SUM_GUARD = 1 - 32 * float(np.finfo(np.float64).eps)

Groups = tuple[Int[ArrayLike, " n"], Int[ArrayLike, " m"]]


class Strata(NamedTuple):
    """Group labels of the calibration rows (n,) and of the queries (any shape)."""

    calibration: Array
    query: Array


class Coverage(NamedTuple):
    """A coverage as a ratio of integers where that is exact, and as a float64."""

    number: Array
    numerator: Array
    denominator: Array  # 0: use `number`
    is_bad: Array


def read_coverage(coverage: Any, n: int) -> Coverage:
    """`coverage` for at most `n` scores; made, and to be used, in 64 bits.

    A concrete decimal of at most 12 digits becomes a ratio of integers. Everything else
    is a float64, a traced float32 within one ulp of a multiple of 1e-6 being read as
    that multiple.
    """
    with jax.enable_x64(True):
        number = decimal_float64(coverage)
        is_bad = ~((number >= 0) & (number <= 1))
        numerator, denominator = 0, 0
        if is_concrete(coverage):
            fraction = exact_fraction(coverage)
            top = fraction.numerator * (n + 1) + fraction.denominator
            if fraction.denominator <= _MAX_DENOMINATOR and top <= _INT64_MAX:
                numerator, denominator = fraction.numerator, fraction.denominator
        return Coverage(
            jnp.where(is_bad, 0.0, number),
            jnp.asarray(numerator, jnp.int64),
            jnp.asarray(denominator, jnp.int64),
            is_bad,
        )


def quantile_rank(coverage: Coverage, counts: Any) -> Array:
    """Which of n calibration scores is the threshold: k = ceil(coverage (n + 1)).

    Exact in integers; otherwise in float64 with a guard of four ulp, so that a product
    that is whole on paper is not rounded up.

    Args:
        coverage: from `read_coverage`.
        counts: n, an int or an integer array of any shape.

    Returns:
        int32, shape of `counts`, between 0 and n + 1.
    """
    with jax.enable_x64(True):
        slots = jnp.asarray(counts).astype(jnp.int64) + 1
        divisor = jnp.maximum(coverage.denominator, 1)
        exact = -((-coverage.numerator * slots) // divisor)
        rounded = jnp.ceil(coverage.number * slots.astype(jnp.float64) * _GUARD)
        is_exact = coverage.denominator > 0
        rank = jnp.where(is_exact, exact, rounded.astype(jnp.int64))
        return rank.astype(jnp.int32)


def checked_calibration(calibration_scores: Any, coverage: Any) -> Array:
    """Calibration scores in their float dtype, with the coverage checked."""
    (scores,) = as_float(calibration_scores=calibration_scores)
    check_rank("calibration_scores", scores, 1)
    check_unit_interval("coverage", coverage)
    return scores


def checked_labels(name: str, labels: Any) -> Array:
    """Integer labels as int32, refusing what does not fit."""
    if is_concrete(labels):
        labels = np.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != bool:
        raise TypeError(
            f"`{name}` must hold integers, got dtype {labels.dtype}; "
            "number the labels first, with numpy.unique(return_inverse=True)"
        )
    if isinstance(labels, np.ndarray) and labels.size:
        bounds = np.iinfo(np.int32)
        if labels.min() < bounds.min or labels.max() > bounds.max:
            raise ValueError(
                f"`{name}` must fit 32-bit integers, got {labels.min()} to "
                f"{labels.max()}; number the labels with "
                "numpy.unique(return_inverse=True)"
            )
    return jnp.asarray(labels, jnp.int32)


def checked_groups(groups: Any, scores: Array, num_rows: int | None) -> Strata | None:
    """The pair of group labels, checked against both lengths."""
    if groups is None:
        return None
    if not isinstance(groups, (tuple, list)) or len(groups) != 2:
        raise ValueError(
            "`groups` must be a pair (calibration_groups, test_groups), "
            f"got {type(groups).__name__}"
        )
    calibration = checked_labels("groups[0]", groups[0])
    query = checked_labels("groups[1]", groups[1])
    check_rank("groups[0]", calibration, 1)
    check_same_length("groups[0]", calibration, "calibration_scores", scores)
    if num_rows is not None and query.shape != (num_rows,):
        raise ValueError(
            f"`groups[1]` must have one label for each of the {num_rows} test rows, "
            f"got shape {query.shape}"
        )
    return Strata(calibration, query)


def checked_set_weights(
    calibration_weights: Any, test_weights: Any, scores: Array, num_rows: int | None
) -> Weights | None:
    """Both weight vectors, or None when there are none."""
    if calibration_weights is None and test_weights is None:
        return None
    if calibration_weights is None or test_weights is None:
        missing = "calibration" if calibration_weights is None else "test"
        raise ValueError(
            f"`{missing}_weights` is missing: pass both weights or neither"
        )
    pair = as_float(calibration_weights=calibration_weights, test_weights=test_weights)
    weights = Weights(*pair)
    check_rank("calibration_weights", weights.calibration, 1)
    check_same_length(
        "calibration_weights", weights.calibration, "calibration_scores", scores
    )
    if num_rows is not None and weights.test.shape != (num_rows,):
        raise ValueError(
            f"`test_weights` must have one entry for each of the {num_rows} test rows, "
            f"got shape {weights.test.shape}"
        )
    for name, array in zip(("calibration_weights", "test_weights"), weights):
        if is_concrete(array) and array.size:
            host = np.asarray(array)
            bad = ~(np.isfinite(host) & (host >= 0))
            if bad.any():
                raise ValueError(
                    f"`{name}` must be finite and nonnegative, got {host[bad].flat[0]}"
                )
    host_zero = is_concrete(weights.calibration) and weights.calibration.size
    if host_zero and not bool((weights.calibration > 0).any()):
        raise ValueError("`calibration_weights` must not all be zero")
    return weights


def thresholds(
    scores: Array,
    coverage: Any,
    strata: Strata | None = None,
    weights: Weights | None = None,
) -> Array:
    """Score thresholds: a scalar, or one for each query where queries differ.

    NaN scores count as +inf; the answer is +inf where too few scores are left, -inf
    where the coverage asks for none, and NaN for invalid traced input.
    """
    with jax.enable_x64(True):
        ratio = read_coverage(coverage, scores.shape[0])
        if weights is None:
            return _plain_thresholds(scores, ratio, strata)
        return _weighted_thresholds(scores, ratio, strata, weights)


@jax.jit
def _plain_thresholds(
    scores: Array, coverage: Coverage, strata: Strata | None
) -> Array:
    scores = jnp.where(jnp.isnan(scores), jnp.inf, scores)
    n = scores.shape[0]
    if strata is None:
        ordered = stats.sort(scores)
        start, count = jnp.int32(0), jnp.int32(n)
    else:
        groups, ordered, _ = group_sort(strata.calibration, scores)
        start, count = _segments(groups, strata.query)
    rank = quantile_rank(coverage, count)
    # The sentinel serves n = 0, where there is nothing to gather from.
    ordered = jnp.concatenate([ordered, jnp.full(1, jnp.inf, ordered.dtype)])
    index = jnp.where(rank <= count, jnp.maximum(start + rank - 1, 0), jnp.int32(n))
    found = jnp.where(rank >= 1, ordered[index], -jnp.inf)
    return jnp.where(coverage.is_bad, jnp.nan, found)


def _segments(groups: Array, query: Array) -> tuple[Array, Array]:
    """Where each queried group starts among the sorted groups, and its size."""
    if groups.shape[0] == 0:
        return jnp.zeros(query.shape, jnp.int32), jnp.zeros(query.shape, jnp.int32)
    start = jnp.searchsorted(groups, query, side="left").astype(jnp.int32)
    stop = jnp.searchsorted(groups, query, side="right").astype(jnp.int32)
    return start, stop - start


@jax.jit
def _weighted_thresholds(
    scores: Array, coverage: Coverage, strata: Strata | None, weights: Weights
) -> Array:
    scores = jnp.where(jnp.isnan(scores), jnp.inf, scores)
    n = scores.shape[0]
    own = weights.test.astype(jnp.float64)
    if strata is None:
        ordered, order = stats.sort_with_order(scores)
        start, stop = jnp.int32(0), jnp.int32(n)
    else:
        groups, ordered, order = group_sort(strata.calibration, scores)
        start, count = _segments(groups, strata.query)
        stop = start + count
    ordered = jnp.concatenate([ordered, jnp.full(1, jnp.inf, ordered.dtype)])
    mass = jax.lax.cummax(jnp.cumsum(weights.calibration[order].astype(jnp.float64)))
    sums = jnp.concatenate([jnp.zeros(1, jnp.float64), mass])
    total = sums[stop] - sums[start] + own
    # The guard scales with the running total, as the rounding of the sums does.
    target = (sums[start] + coverage.number * total) * _SUM_GUARD
    index = jnp.maximum(jnp.searchsorted(mass, target, side="left"), start)
    # A row of weight zero that only rounding makes first cannot be told apart from the
    # row before it, whose score is smaller or equal: the error is on the wide side.
    found = jnp.where(index < stop, ordered[jnp.minimum(index, n)], jnp.inf)
    found = jnp.where(coverage.number > 0, found, -jnp.inf)
    # No weight at all says nothing about the row: the whole line.
    found = jnp.where(total > 0, found, jnp.inf)
    is_bad = coverage.is_bad | are_bad_weights(weights)
    return jnp.where(is_bad, jnp.nan, found).astype(scores.dtype)


def conformal_quantile(
    calibration_scores: Real[ArrayLike, " n"],
    *,
    coverage: float | Float[ArrayLike, ""],
    groups: Groups | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
) -> Float[Array, "..."]:
    """The score below which a new row falls with probability `coverage`.

    The k-th smallest of the n calibration scores with k = ceil(coverage (n + 1)); +inf
    when k > n, -inf when k = 0. Larger scores are stranger. With `groups` the rule is
    applied inside the group of each test row. With weights the threshold of test row j
    is the smallest score whose share of the weight, its own weight counted at +inf,
    reaches `coverage`.

    Guarantee: if the n + 1 scores (of one group) are exchangeable, a new score is at
    most the threshold with probability at least `coverage`, and at most coverage +
    1/(n + 1) when there are no ties; weighted, the same under covariate shift with
    exact likelihood ratios. Verified by: `jaxcur verify sets`.

    Args:
        calibration_scores: shape (n,). NaN counts as +inf, which can only widen.
        coverage: scalar in [0, 1], read as the decimal number it prints as, so that
            k is exact: 0.9 of 10 is 9.
        groups: (calibration_groups (n,), test_groups (m,)), integers. A test group
            without calibration rows gets +inf.
        calibration_weights: shape (n,), finite, >= 0, not all zero, up to a constant
            the ratio of test to calibration density.
        test_weights: shape (m,), on the same scale.

    Returns:
        A scalar, or shape (m,) with groups or weights; dtype of the scores.

    Raises:
        ValueError: wrong shapes, a coverage outside [0, 1], bad weights (traced: NaN).
        TypeError: group labels that are not integers.

    Transformations: jit, vmap. Not differentiable (an order statistic).
    Cost: O((n + m) log n) time, O(n + m) memory.

    Source: Papadopoulos et al. 2002 (split form); Vovk et al. 2003 (Mondrian);
    Tibshirani et al. 2019 (weighted).

    Example:
        >>> from jaxcur import conformal
        >>> conformal.conformal_quantile([3.0, 1.0, 2.0], coverage=0.75)
        Array(3., dtype=float32)
    """
    scores = checked_calibration(calibration_scores, coverage)
    strata = checked_groups(groups, scores, None)
    rows = None if strata is None else strata.query.shape[0]
    weights = checked_set_weights(calibration_weights, test_weights, scores, rows)
    return thresholds(scores, coverage, strata, weights)
