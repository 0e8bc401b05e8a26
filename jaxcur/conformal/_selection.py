"""Conformal selection with the false discovery rate under control."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import (
    check_choice,
    check_unit_interval,
    decimal_float64,
    register_dataclass,
)
from jaxcur._base import resolve_uniforms as resolve
from jaxcur.conformal._auxiliary import SLACK, weighted_sizes
from jaxcur.conformal._prune import PRUNINGS, Pruning, pruned, resolve_xi
from jaxcur.conformal._pvalues import (
    Weights,
    are_bad_weights,
    checked_scores,
    checked_weights,
    grid_ranks,
    randomised,
    weighted,
    weighted_sums,
)
from jaxcur.conformal._status import (
    BAD_LEVEL,
    BAD_WEIGHTS,
    NAN_CALIBRATION,
    NAN_TEST,
    STATUS,
    UNREACHABLE,
    first_status,
    is_bad_level,
)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SelectionResult:
    """Outcome of one conformal selection.

    Attributes:
        selected: shape (m,), bool. True where the candidate is selected.
        p_values: shape (m,), in (0, 1].
        threshold: scalar; the largest selected p-value, 0 when nothing is selected.
            Without weights, selected = p_values <= threshold.
        status: scalar int; index into `conformal.STATUS`, 0 = ok.
        level: scalar, target FDR.
        method: "bh" or "weighted" (static).
    """

    selected: Array
    p_values: Array
    threshold: Array
    status: Array
    level: Array
    method: str = dataclasses.field(metadata=dict(static=True))

    @property
    def num_selected(self) -> Array:
        """Number of selected candidates, summed over the last axis."""
        return jnp.sum(self.selected, axis=-1, dtype=jnp.int32)

    @property
    def message(self) -> str:
        """The status in words. Host side, for one (unbatched) result."""
        return STATUS[int(self.status)]


def _result(
    selected: Array, p_values: Array, status: Array, level: Array, method: str
) -> SelectionResult:
    threshold = jnp.max(jnp.where(selected, p_values, 0.0), initial=0.0)
    return SelectionResult(
        selected=selected,
        p_values=p_values,
        threshold=threshold,
        status=status,
        level=level,
        method=method,
    )


def _nan_flags(calibration: Array, test: Array) -> tuple[tuple[Array, int], ...]:
    return (
        (jnp.isnan(calibration).any(), NAN_CALIBRATION),
        (jnp.isnan(test).any(), NAN_TEST),
    )


@jax.jit
def _select_on_grid(
    calibration: Array, test: Array, level: Array, thresholds: Array
) -> SelectionResult:
    n = calibration.shape[0]
    ranks = grid_ranks(calibration, test)
    cutoff = stats.grid_cutoff(ranks, thresholds, n)
    bad_level = is_bad_level(level)
    selected = (ranks <= cutoff) & ~jnp.isnan(test) & ~bad_level
    unreachable = thresholds[-1] < 1 if test.shape[0] else False
    status = first_status(
        (bad_level, BAD_LEVEL),
        *_nan_flags(calibration, test),
        (unreachable, UNREACHABLE),
    )
    p = ranks.astype(test.dtype) / (n + 1)
    return _result(selected, p, status, level, "bh")


@jax.jit
def _select_randomised(
    calibration: Array, test: Array, level: Array, uniforms: Array
) -> SelectionResult:
    p = randomised(calibration, test, uniforms)
    bad_level = is_bad_level(level)
    target = jnp.where(bad_level, 0.0, level)
    selected = stats.step_up(p, target / max(test.shape[0], 1)) & ~jnp.isnan(test)
    status = first_status((bad_level, BAD_LEVEL), *_nan_flags(calibration, test))
    return _result(selected, p, status, level, "bh")


@jax.jit
def _select_weighted(
    calibration: Array,
    test: Array,
    weights: Weights,
    level: Array,
    uniforms: Array | None,
    xi: Array,
) -> SelectionResult:
    m = test.shape[0]
    sums = weighted_sums(calibration, test, weights)
    is_random = uniforms is not None
    sizes = weighted_sizes(test, sums, weights, level, strict=is_random)
    bad_level, bad_weights = is_bad_level(level), are_bad_weights(weights)
    with jax.enable_x64(True):
        p = weighted(sums, weights, test, uniforms)
        bound = level * sizes.astype(jnp.float64) / max(m, 1) * (1 + SLACK)
        first = (p <= bound) & (level > 0) & ~jnp.isnan(test)
        one = jnp.ones((), jnp.float64)
        selected = pruned(first & ~bad_level & ~bad_weights, sizes, one, xi)
        status = first_status(
            (bad_level, BAD_LEVEL),
            (bad_weights, BAD_WEIGHTS),
            *_nan_flags(calibration, test),
        )
        p, level = p.astype(test.dtype), level.astype(test.dtype)
        return _result(selected, p, status, level, "weighted")


def select(
    calibration_scores: Real[ArrayLike, " n"],
    test_scores: Real[ArrayLike, " m"],
    *,
    level: float | Array,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
    randomize_p_values: bool = False,
    pruning: Pruning = "homogeneous",
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
) -> SelectionResult:
    """Select candidates whose unseen label exceeds its threshold, with FDR control.

    Score calibration rows with their label and candidates with their threshold (see
    `ClipScore`); smaller scores are stronger evidence for selecting. Without weights
    this is Benjamini-Hochberg on conformal p-values. With weights it selects by
    weighted p-values, auxiliary sizes and pruning, because BH on weighted p-values has
    no proof.

    Guarantee: if calibration rows and candidates are i.i.d., or exchangeable, given the
    model behind the scores, and the score does not decrease in the label, then the
    expected share of selected candidates that do not exceed their threshold is at most
    `level`, for every sample size and model. With weights: the same when candidates
    differ from calibration rows by a covariate shift whose density ratio, up to a
    constant, is the weight; with randomised weighted p-values use `ClipScore` or
    `BinaryScore`. Verified by: `jaxcur verify select`.

    Args:
        calibration_scores: shape (n,). +inf is legal; NaN counts as -inf, which can
            only raise p-values.
        test_scores: shape (m,). A NaN score has p-value 1 and is never selected.
        level: scalar in [0, 1], target FDR. A concrete level is read as the decimal it
            prints as and compared exactly, in integers, with p-values on their grid; a
            traced one likewise when it is a multiple of 1e-6.
        calibration_weights: shape (n,), finite, >= 0, not all zero.
        test_weights: shape (m,), on the same scale.
        randomize_p_values: use randomised p-values, drawn from `key`.
        pruning: weighted selection only: "homogeneous" (most powerful as a rule),
            "heterogeneous" or "deterministic".
        key: random key for whatever is drawn: p-value uniforms, pruning.
        uniforms: the draw of the p-values itself, in (0, 1], scalar or (m,); its
            presence asks for randomised p-values.
        xi: the draw of the pruning itself, scalar or (m,).

    Returns:
        SelectionResult; `status` tells when the level is out of reach with n rows, or
        when scores, level or weights were unusable.

    Raises:
        ValueError: level outside [0, 1] or NaN (traced: status, nothing selected);
            wrong shapes; unusable weights; a draw is needed and neither key nor draw is
            given; both are given.

    Transformations: jit, vmap (also over `level`). Not differentiable.
    Cost: O((n + m) log n) time and O(n + m) memory without weights: one integer sort of
        the calibration scores, one search, one count. O((n + m) log(n + m)) with.

    Source: Jin and Candes, "Selection by Prediction with Conformal p-values", JMLR
    2023; weighted: Jin and Candes, Biometrika 2025.

    Example:
        >>> from jaxcur import conformal
        >>> result = conformal.select([1.0, 2.0, 3.0, 4.0], [0.5, 3.5], level=0.5)
        >>> result.selected
        Array([ True, False], dtype=bool)
        >>> float(result.threshold)
        0.20000000298023224
    """
    check_unit_interval("level", level)
    check_choice("pruning", pruning, PRUNINGS)
    calibration, test = checked_scores(calibration_scores, test_scores)
    weights = checked_weights(calibration, test, calibration_weights, test_weights)
    n, m = calibration.shape[0], test.shape[0]
    needs_uniforms = randomize_p_values and uniforms is None
    needs_xi = weights is not None and pruning != "deterministic" and xi is None
    given = uniforms is not None or (weights is not None and xi is not None)
    if key is not None and given and not (needs_uniforms or needs_xi):
        raise ValueError("pass either `key` or the draws (`uniforms`, `xi`), not both")
    key_uniforms, key_xi = (None, None) if key is None else jax.random.split(key)

    if uniforms is not None or randomize_p_values:
        uniforms = resolve(
            "uniforms",
            uniforms,
            key_uniforms if needs_uniforms else None,
            (m,),
            test.dtype,
            purpose="selection with randomised p-values",
        )
    if weights is not None:
        draw = resolve_xi(pruning, xi, key_xi, m, test.dtype)
        with jax.enable_x64(True):
            target = decimal_float64(level)
            return _select_weighted(calibration, test, weights, target, uniforms, draw)
    target = as_level(level, test.dtype)
    if uniforms is not None:
        return _select_randomised(calibration, test, target, uniforms)
    thresholds = stats.grid_thresholds(level, n, m)
    return _select_on_grid(calibration, test, target, thresholds)


def as_level(level: Any, dtype: Any) -> Array:
    """A level as a scalar array of `dtype`, rounded once."""
    with jax.enable_x64(True):
        return decimal_float64(level).astype(dtype)
