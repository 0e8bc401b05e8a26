"""Prediction sets of class labels: LAC, APS and RAPS."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    is_concrete,
    resolve_uniforms,
)
from jaxcur.conformal._quantile import (
    Groups,
    Strata,
    checked_calibration,
    checked_groups,
    checked_labels,
    checked_set_weights,
    thresholds,
)


def lac_scores(
    probs: Real[ArrayLike, "n k"], labels: Int[ArrayLike, " n"]
) -> Float[Array, " n"]:
    """One minus the probability given to the true class.

    Heuristic: no finite-sample guarantee of its own; see `lac_set`.

    Args:
        probs: shape (n, k), class probabilities in [0, 1].
        labels: shape (n,), integers 0..k-1.

    Returns:
        shape (n,); larger is stranger. NaN where the probability is NaN.

    Raises:
        ValueError: wrong shapes, probabilities outside [0, 1], labels outside 0..k-1
            (traced: NaN).
        TypeError: labels that are not integers.

    Transformations: jit, vmap, grad in `probs`.
    Cost: O(n).

    Source: Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers", 2019.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.lac_scores([[0.75, 0.25], [0.5, 0.5]], [0, 1])
        Array([0.25, 0.5 ], dtype=float32)
    """
    table = _checked_probs(probs)
    return _of_label(1 - table, _checked_classes(labels, table))


def lac_set(
    calibration_scores: Real[ArrayLike, " n"],
    probs: Real[ArrayLike, "m k"],
    *,
    coverage: float | Float[ArrayLike, ""],
    groups: Groups | None = None,
    calibration_labels: Int[ArrayLike, " n"] | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
) -> Bool[Array, "m k"]:
    """All classes whose probability is large enough: 1 - p_y <= q.

    The smallest sets on average when the probabilities are right. Sets can be empty.

    Guarantee: if the n calibration rows and a test row are exchangeable and the model
    did not see them, the set holds the true class with probability at least `coverage`,
    on average over calibration sets, and at most coverage + 1/(n + 1) without ties.
    With `groups` this holds inside each group, with `calibration_labels` inside each
    true class, with weights under covariate shift with exact likelihood ratios.
    Verified by: `jaxcur verify sets`.

    Args:
        calibration_scores: shape (n,), from `lac_scores`. NaN counts as +inf, which can
            only enlarge the sets.
        probs: shape (m, k), class probabilities in [0, 1]. A row that holds NaN gets
            every class.
        coverage: scalar in [0, 1]. 0 gives empty sets, more than n/(n + 1) every class.
        groups: (calibration_groups (n,), test_groups (m,)), integers; a group without
            calibration rows gets every class.
        calibration_labels: shape (n,), the true classes of the calibration rows. Given:
            class-conditional, each class has its own threshold from its own rows.
            Excludes `groups`.
        calibration_weights: shape (n,), finite, >= 0, not all zero, up to a constant
            the ratio of test to calibration density.
        test_weights: shape (m,), on the same scale.

    Returns:
        shape (m, k), True where the class is in the set. Invalid values under tracing
        give every class.

    Raises:
        ValueError: wrong shapes, probabilities or coverage outside [0, 1], bad weights,
            both `groups` and `calibration_labels`.
        TypeError: labels or groups that are not integers.

    Transformations: jit, vmap. Not differentiable.
    Cost: O(n log n + m k) time; with groups or weights O((n + m) log n + m k).

    Source: Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers", 2019.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.lac_set([0.1, 0.5, 0.3], [[0.6, 0.3, 0.1]], coverage=0.75)
        Array([[ True, False, False]], dtype=bool)
    """
    table = _checked_probs(probs)
    limits = _set_thresholds(
        calibration_scores,
        table,
        coverage,
        groups,
        calibration_labels,
        (calibration_weights, test_weights),
    )
    return _members(_with_missing_rows(1 - table), limits)


def aps_scores(
    probs: Real[ArrayLike, "n k"],
    labels: Int[ArrayLike, " n"],
    *,
    randomize: bool = True,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """Probability of the classes ranked before the true one, plus a share of its own.

    With the classes in order of falling probability (ties in order of the class
    number), the score of class y is the probability of the classes before y, plus
    (1 - U) p_y with U uniform. If the probabilities are right the score is uniform.

    Heuristic: no finite-sample guarantee of its own; see `aps_set`.

    Args:
        probs: shape (n, k), class probabilities in [0, 1].
        labels: shape (n,), integers 0..k-1.
        randomize: False puts U = 0, the whole of p_y; no key is needed then.
        key: random key.
        uniforms: the draw U itself, in [0, 1], shape (n,), or a scalar.

    Returns:
        shape (n,); larger is stranger. NaN where a probability of the row is NaN.

    Raises:
        ValueError: wrong shapes, probabilities outside [0, 1], labels outside 0..k-1
            (traced: NaN); neither or both of `key` and `uniforms`.
        TypeError: labels that are not integers.

    Transformations: jit, vmap over keys or uniforms. Not differentiable (ranks).
    Cost: O(n k log k) time, O(n k) memory.

    Source: Romano, Sesia and Candes, "Classification with valid and adaptive coverage",
    2020.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.aps_scores([[0.25, 0.75]], [0], randomize=False)
        Array([1.], dtype=float32)
    """
    table = _checked_probs(probs)
    classes = _checked_classes(labels, table)
    draw = _draw(randomize, key, uniforms, table, "an APS score")
    return _of_label(_cumulative_scores(table, draw, *_no_penalty(table)), classes)


def aps_set(
    calibration_scores: Real[ArrayLike, " n"],
    probs: Real[ArrayLike, "m k"],
    *,
    coverage: float | Float[ArrayLike, ""],
    randomize: bool = True,
    groups: Groups | None = None,
    calibration_labels: Int[ArrayLike, " n"] | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
) -> Bool[Array, "m k"]:
    """Classes in order of falling probability, until the mass reaches q.

    Adapts the size of the set to how hard the row is. Randomised sets can be empty.

    Guarantee: as `lac_set`, if the scores were made with the same `randomize` and an
    independent draw. With the right probabilities the randomised form also covers at
    every row. Verified by: `jaxcur verify sets`.

    Args:
        calibration_scores: shape (n,), from `aps_scores`. NaN counts as +inf.
        probs: shape (m, k), class probabilities in [0, 1]. A row that holds NaN gets
            every class.
        coverage: scalar in [0, 1]. 0 gives empty sets, more than n/(n + 1) every class.
        randomize: as in `aps_scores`.
        groups: (calibration_groups (n,), test_groups (m,)), integers.
        calibration_labels: shape (n,); given: class-conditional. Excludes `groups`.
        calibration_weights: shape (n,), finite, >= 0, not all zero.
        test_weights: shape (m,), on the same scale.
        key: random key, not one that made the calibration scores.
        uniforms: the draw U itself, in [0, 1], shape (m,), one a row; or a scalar.

    Returns:
        shape (m, k), True where the class is in the set. Invalid values under tracing
        give every class.

    Raises:
        ValueError: wrong shapes, probabilities or coverage outside [0, 1], bad weights,
            both `groups` and `calibration_labels`, neither or both of `key` and
            `uniforms`.
        TypeError: labels or groups that are not integers.

    Transformations: jit, vmap. Not differentiable.
    Cost: O(n log n + m k log k) time, O(n + m k) memory.

    Source: Romano, Sesia and Candes, "Classification with valid and adaptive coverage",
    2020.

    Example:
        >>> from jaxcur import conformal
        >>> scores = [0.5, 0.95, 0.7]
        >>> conformal.aps_set(scores, [[0.6, 0.3, 0.1]], coverage=0.75, randomize=False)
        Array([[ True,  True, False]], dtype=bool)
    """
    table = _checked_probs(probs)
    draw = _draw(randomize, key, uniforms, table, "an APS set")
    limits = _set_thresholds(
        calibration_scores,
        table,
        coverage,
        groups,
        calibration_labels,
        (calibration_weights, test_weights),
    )
    return _members(_cumulative_scores(table, draw, *_no_penalty(table)), limits)


def raps_scores(
    probs: Real[ArrayLike, "n k"],
    labels: Int[ArrayLike, " n"],
    *,
    penalty: float | Float[ArrayLike, ""] = 0.01,
    k_reg: int | Float[ArrayLike, ""] = 1,
    randomize: bool = True,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, " n"]:
    """APS scores plus `penalty` for each rank of the true class beyond `k_reg`.

    Heuristic: no finite-sample guarantee of its own; see `raps_set`.

    Args:
        probs: shape (n, k), class probabilities in [0, 1].
        labels: shape (n,), integers 0..k-1.
        penalty: scalar >= 0; 0 gives APS.
        k_reg: scalar >= 0, how many classes a set may hold for free; the most probable
            class has rank 1.
        randomize: as in `aps_scores`; the penalty is never randomised.
        key: random key.
        uniforms: the draw U itself, in [0, 1], shape (n,), or a scalar.

    Returns:
        shape (n,); larger is stranger. NaN where a probability of the row is NaN.

    Raises:
        ValueError: as `aps_scores`, and a negative `penalty` or `k_reg`.
        TypeError: labels that are not integers.

    Transformations: jit, vmap. Not differentiable in `probs` (ranks).
    Cost: O(n k log k) time, O(n k) memory.

    Source: Angelopoulos et al., "Uncertainty sets for image classifiers using conformal
    prediction", 2021.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.raps_scores([[0.25, 0.75]], [0], penalty=0.5, randomize=False)
        Array([1.5], dtype=float32)
    """
    table = _checked_probs(probs)
    classes = _checked_classes(labels, table)
    draw = _draw(randomize, key, uniforms, table, "a RAPS score")
    steps = _checked_regularization(penalty, k_reg, table)
    return _of_label(_cumulative_scores(table, draw, *steps), classes)


def raps_set(
    calibration_scores: Real[ArrayLike, " n"],
    probs: Real[ArrayLike, "m k"],
    *,
    coverage: float | Float[ArrayLike, ""],
    penalty: float | Float[ArrayLike, ""] = 0.01,
    k_reg: int | Float[ArrayLike, ""] = 1,
    randomize: bool = True,
    groups: Groups | None = None,
    calibration_labels: Int[ArrayLike, " n"] | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
) -> Bool[Array, "m k"]:
    """APS sets with a price on every class beyond the first `k_reg`.

    Keeps sets small where a long tail of improbable classes would enter.

    Guarantee: as `aps_set`, for any `penalty` and `k_reg` that were fixed without the
    calibration rows and are those of the scores. Verified by: `jaxcur verify sets`.

    Args:
        calibration_scores: shape (n,), from `raps_scores`. NaN counts as +inf.
        probs: shape (m, k), class probabilities in [0, 1]. A row that holds NaN gets
            every class.
        coverage: scalar in [0, 1]. 0 gives empty sets, more than n/(n + 1) every class.
        penalty: scalar >= 0, as in the scores.
        k_reg: scalar >= 0, as in the scores.
        randomize: as in the scores.
        groups: (calibration_groups (n,), test_groups (m,)), integers.
        calibration_labels: shape (n,); given: class-conditional. Excludes `groups`.
        calibration_weights: shape (n,), finite, >= 0, not all zero.
        test_weights: shape (m,), on the same scale.
        key: random key, not one that made the calibration scores.
        uniforms: the draw U itself, in [0, 1], shape (m,), one a row; or a scalar.

    Returns:
        shape (m, k), True where the class is in the set. Invalid values under tracing
        give every class.

    Raises:
        ValueError: as `aps_set`, and a negative `penalty` or `k_reg`.
        TypeError: labels or groups that are not integers.

    Transformations: jit, vmap. Not differentiable.
    Cost: O(n log n + m k log k) time, O(n + m k) memory.

    Source: Angelopoulos et al., "Uncertainty sets for image classifiers using conformal
    prediction", 2021.

    Example:
        >>> from jaxcur import conformal
        >>> scores = [0.5, 0.9, 0.7]
        >>> conformal.raps_set(
        ...     scores, [[0.6, 0.3, 0.1]], coverage=0.75, penalty=0.2, randomize=False
        ... )
        Array([[ True, False, False]], dtype=bool)
    """
    table = _checked_probs(probs)
    draw = _draw(randomize, key, uniforms, table, "a RAPS set")
    steps = _checked_regularization(penalty, k_reg, table)
    limits = _set_thresholds(
        calibration_scores,
        table,
        coverage,
        groups,
        calibration_labels,
        (calibration_weights, test_weights),
    )
    return _members(_cumulative_scores(table, draw, *steps), limits)


def _checked_probs(probs: Any) -> Array:
    (table,) = as_float(probs=probs)
    check_rank("probs", table, 2, "(rows, k)")
    if is_concrete(table):
        host = np.asarray(table)
        slack = 4 * np.finfo(host.dtype).eps
        bad = (host < -slack) | (host > 1 + slack)
        if bad.any():
            raise ValueError(
                f"`probs` must lie in [0, 1], got {host[bad][0]}; "
                "turn logits into probabilities with jax.nn.softmax"
            )
    return table


def _checked_classes(labels: Any, table: Array) -> Array:
    classes = checked_labels("labels", labels)
    check_rank("labels", classes, 1)
    check_same_length("labels", classes, "probs", table)
    if is_concrete(classes) and classes.size:
        low, high = int(classes.min()), int(classes.max())
        if low < 0 or high >= table.shape[1]:
            raise ValueError(
                f"`labels` must lie in 0..{table.shape[1] - 1}, got {low} to {high}"
            )
    return classes


def _draw(
    randomize: bool, key: Any, uniforms: Any, table: Array, purpose: str
) -> Array:
    rows = table.shape[:1]
    if not randomize:
        if key is not None or uniforms is not None:
            raise ValueError("`randomize=False` takes neither `key` nor `uniforms`")
        return jnp.zeros(rows, table.dtype)
    draw = resolve_uniforms(
        "uniforms", uniforms, key, rows, table.dtype, purpose=purpose
    )
    if uniforms is not None and is_concrete(draw):
        host = np.asarray(draw)
        if not ((host >= 0) & (host <= 1)).all():
            raise ValueError("`uniforms` must lie in [0, 1]")
    return jnp.broadcast_to(draw, rows)


def _checked_regularization(
    penalty: Any, k_reg: Any, table: Array
) -> tuple[Array, ...]:
    for name, value in (("penalty", penalty), ("k_reg", k_reg)):
        if np.ndim(value) != 0:
            raise ValueError(f"`{name}` must be a scalar, got shape {np.shape(value)}")
        if is_concrete(value) and not 0 <= float(value) < np.inf:
            raise ValueError(f"`{name}` must be finite and >= 0, got {value}")
    pair = (jnp.asarray(value, table.dtype) for value in (penalty, k_reg))
    return tuple(jnp.where(value >= 0, value, jnp.nan) for value in pair)


def _no_penalty(table: Array) -> tuple[Array, Array]:
    return jnp.zeros((), table.dtype), jnp.zeros((), table.dtype)


def _set_thresholds(
    calibration_scores: Any,
    table: Array,
    coverage: Any,
    groups: Any,
    calibration_labels: Any,
    weights: tuple[Any, Any],
) -> Array:
    """Thresholds that broadcast against (m, k)."""
    scores = checked_calibration(calibration_scores, coverage)
    m, k = table.shape
    strata = checked_groups(groups, scores, m)
    masses = checked_set_weights(*weights, scores, m)
    if masses is not None:
        masses = masses._replace(test=masses.test[:, None])
    if strata is not None:
        strata = strata._replace(query=strata.query[:, None])
    if calibration_labels is not None:
        if strata is not None:
            raise ValueError("pass either `groups` or `calibration_labels`, not both")
        labels = checked_labels("calibration_labels", calibration_labels)
        check_rank("calibration_labels", labels, 1)
        check_same_length("calibration_labels", labels, "calibration_scores", scores)
        classes = jnp.arange(k, dtype=jnp.int32)[None, :]
        strata = Strata(labels, classes)
        if masses is not None:
            strata = strata._replace(query=jnp.broadcast_to(classes, (m, k)))
            masses = masses._replace(test=jnp.broadcast_to(masses.test, (m, k)))
    return thresholds(scores, coverage, strata, masses)


def _of_label(table: Array, classes: Array) -> Array:
    """Entry of the true class in each row; NaN for a class that does not exist."""
    legal = (classes >= 0) & (classes < table.shape[1])
    if table.shape[1] == 0:
        return jnp.full(classes.shape, jnp.nan, table.dtype)
    column = jnp.where(legal, classes, 0)[:, None]
    found = jnp.take_along_axis(table, column, axis=1)[:, 0]
    return jnp.where(legal, found, jnp.nan)


@jax.jit
def _cumulative_scores(
    table: Array, uniforms: Array, penalty: Any, k_reg: Any
) -> Array:
    """RAPS scores of every class, (rows, k); APS for a penalty of zero.

    Calibration and test rows both come through here: the same sums in the same order,
    so that equal rows have equal scores to the last bit.
    """
    order = stats.argsort(-table)
    ordered = jnp.take_along_axis(table, order, axis=1)
    before = jnp.cumsum(ordered, axis=1)
    before = jnp.concatenate([jnp.zeros_like(before[:, :1]), before[:, :-1]], axis=1)
    rank = jnp.arange(1, table.shape[1] + 1, dtype=table.dtype)
    extra = penalty * jnp.maximum(rank - k_reg, 0)
    scores = before + (1 - uniforms)[:, None] * ordered + extra[None, :]
    placed = jax.vmap(lambda where, row: jnp.zeros_like(row).at[where].set(row))(
        order, scores
    )
    missing = jnp.isnan(table).any(axis=1) | jnp.isnan(uniforms)
    return jnp.where(missing[:, None], jnp.nan, placed)


def _with_missing_rows(scores: Array) -> Array:
    return jnp.where(jnp.isnan(scores).any(axis=1)[:, None], jnp.nan, scores)


@jax.jit
def _members(scores: Array, limits: Array) -> Array:
    # Written so that NaN on either side keeps the class: unknown means not excluded.
    dtype = jnp.result_type(scores, limits)
    limits = jnp.broadcast_to(limits.astype(dtype), scores.shape)
    return ~(scores.astype(dtype) > limits)
