"""Selection after choosing among models on the very data that calibrates (OptCS-MSel).

For candidate j every model is judged by its auxiliary size, in which j plays the role
of a calibration row. The judgement, and so the chosen model, is then a symmetric
function of the calibration rows and j, and a p-value computed with that model stays
valid.
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
    decimal_float64,
    exact_fraction,
    is_concrete,
    register_dataclass,
)
from jaxcur.conformal._auxiliary import unweighted_sizes
from jaxcur.conformal._prune import Pruning, pruned, resolve_xi
from jaxcur.conformal._selection import as_level, select
from jaxcur.conformal._status import (
    BAD_LEVEL,
    NAN_CALIBRATION,
    NAN_TEST,
    STATUS,
    UNREACHABLE,
    first_status,
    is_bad_level,
)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class OptCSResult:
    """Outcome of one selection after optimisation.

    Attributes:
        selected: shape (m,), bool. True where the candidate is selected.
        p_values: shape (m,), in (0, 1], each by the model chosen for the candidate.
        chosen_model: shape (m,), int, index of that model.
        auxiliary_sizes: shape (m,), int, largest auxiliary size over the models.
        first_step: shape (m,), bool, candidates that pass before pruning.
        e_values: shape (m,), 1{first step} m / (beta * level * size).
        status: scalar int, index into `conformal.STATUS`.
        level: scalar, target FDR.
        method: which rule produced it (static).
    """

    selected: Array
    p_values: Array
    chosen_model: Array
    auxiliary_sizes: Array
    first_step: Array
    e_values: Array
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


def checked_models(
    calibration_scores: ArrayLike, test_scores: ArrayLike
) -> tuple[Array, Array]:
    """Scores of K >= 1 models, (K, n) and (K, m), in their common float dtype."""
    calibration, test = as_float(
        calibration_scores=calibration_scores, test_scores=test_scores
    )
    check_rank("calibration_scores", calibration, 2, "(K, n), one row per model")
    check_rank("test_scores", test, 2, "(K, m), one row per model")
    if calibration.shape[0] != test.shape[0] or calibration.shape[0] == 0:
        raise ValueError(
            "`calibration_scores` and `test_scores` must have one row per model, got "
            f"{calibration.shape[0]} and {test.shape[0]} models"
        )
    return calibration, test


def _first_step_thresholds(level: Any, beta: Any, n: int, m: int) -> Array:
    """Largest rank that passes the first step with size R = 1..m."""
    if is_concrete(level, beta) and np.isfinite(float(level)):
        return stats.grid_thresholds(exact_fraction(level) * exact_fraction(beta), n, m)
    with jax.enable_x64(True):
        product = decimal_float64(level) * decimal_float64(beta)
        return stats.grid_thresholds(product, n, m)


@jax.jit
def _optcs_msel(
    calibration: Array,
    test: Array,
    thresholds: Array,
    first_thresholds: Array,
    level: Array,
    beta: Array,
    xi: Array,
) -> OptCSResult:
    n, m = calibration.shape[1], test.shape[1]

    def one(v: Array, t: Array) -> tuple[Array, Array]:
        return unweighted_sizes(v, t, thresholds, strict=False)

    all_sizes, counts = jax.vmap(one)(calibration, test)
    # argmax takes the first of equal sizes: ties go to the lowest index.
    chosen = jnp.argmax(all_sizes, axis=0).astype(jnp.int32)
    column = chosen[None]
    sizes = jnp.take_along_axis(all_sizes, column, axis=0)[0]
    ranks = jnp.take_along_axis(counts, column, axis=0)[0] + 1
    own = jnp.take_along_axis(test, column, axis=0)[0]
    bad_level = is_bad_level(level)
    if m:
        first = (ranks <= first_thresholds[sizes - 1]) & ~jnp.isnan(own) & ~bad_level
        unreachable = thresholds[-1] < 1
    else:
        first, unreachable = jnp.zeros(0, bool), False
    selected = pruned(first, sizes, beta, xi)
    scale = beta * level * sizes.astype(level.dtype)
    e_values = jnp.where(first, m / jnp.where(first, scale, 1.0), 0.0)
    status = first_status(
        (bad_level, BAD_LEVEL),
        (jnp.isnan(calibration).any(), NAN_CALIBRATION),
        (jnp.isnan(test).any(), NAN_TEST),
        (unreachable, UNREACHABLE),
    )
    return OptCSResult(
        selected=selected,
        p_values=ranks.astype(test.dtype) / (n + 1),
        chosen_model=chosen,
        auxiliary_sizes=sizes,
        first_step=first,
        e_values=e_values,
        status=status,
        level=level,
        method="optcs",
    )


def optcs_msel(
    calibration_scores: Real[ArrayLike, "K n"],
    test_scores: Real[ArrayLike, "K m"],
    *,
    level: float | Array,
    pruning: Pruning = "homogeneous",
    beta: float | Array = 1.0,
    key: Array | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
) -> OptCSResult:
    """Select candidates with the best of K models for each, with FDR control.

    Candidate j uses the model with the largest auxiliary size R_j (`auxiliary_sizes`),
    ties to the lowest index; its p-value is the deterministic one of that model; the
    first step keeps p_j <= beta * level * R_j / m, and pruning makes the selection.

    Guarantee: calibration rows and candidates i.i.d. (or each candidate exchangeable
    with the calibration rows given the others), the K models fitted on other data, and
    scores that do not decrease in the label: then FDR <= level for any K, n and m, any
    models and all three prunings. Choosing the model by its number of selections
    instead, as is usual, breaks this. Verified by: `jaxcur verify optcs`.

    Args:
        calibration_scores: shape (K, n), one row per model; smaller is stronger
            evidence for selecting. NaN counts as -inf.
        test_scores: shape (K, m). A candidate whose chosen model gives NaN has p-value
            1 and is never selected.
        level: scalar in [0, 1], target FDR, compared exactly as in `select`.
        pruning: "homogeneous" (one uniform; most powerful as a rule), "heterogeneous"
            (one per candidate) or "deterministic" (none; may lose everything where
            sizes vary, and an empty result with a full first step is no error).
        beta: scalar in (0, 1]; shrinks the first step and the pruning alike.
        key: random key; required, or `xi`, unless deterministic.
        xi: the draw itself in (0, 1], scalar or shape (m,), used as it is.

    Returns:
        OptCSResult.

    Raises:
        ValueError: level or beta out of range; not two axes or different K; no key and
            no xi unless deterministic; both.

    Transformations: jit, vmap (over levels too: the sorts do not depend on the level
        and are done once). Not differentiable.
    Cost: O(K (n + m) log(n + m)) time, O(K (n + m)) memory.

    Source: the OptCS paper (Optimized Conformal Selection); sizes by the formulas in
    docs/math/selection.md. Published code counts calibration scores strictly below a
    candidate, which is invalid with ties; here ties count.

    Example:
        >>> import jax
        >>> from jaxcur import conformal
        >>> calibration = [[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]
        >>> test = [[0.5, 2.5], [0.4, 0.3]]
        >>> result = conformal.optcs_msel(
        ...     calibration, test, level=0.5, key=jax.random.key(0)
        ... )
        >>> result.chosen_model
        Array([1, 0], dtype=int32)
        >>> result.selected
        Array([ True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    check_unit_interval("beta", beta, open_low=True)
    calibration, test = checked_models(calibration_scores, test_scores)
    n, m = calibration.shape[1], test.shape[1]
    if pruning != "deterministic" and key is not None and xi is not None:
        raise ValueError("pass either `key` or `xi`, not both")
    draw = resolve_xi(pruning, xi, key, m, test.dtype)
    return _optcs_msel(
        calibration,
        test,
        stats.grid_thresholds(level, n, m),
        _first_step_thresholds(level, beta, n, m),
        as_level(level, test.dtype),
        as_level(beta, test.dtype),
        draw,
    )


def naive_best_of_k(
    calibration_scores: Real[ArrayLike, "K n"],
    test_scores: Real[ArrayLike, "K m"],
    *,
    level: float | Array,
) -> Bool[Array, " m"]:
    """The selection of whichever model selects most. For contrast only.

    Heuristic: no finite-sample guarantee. Picking the model by what it selects reuses
    the calibration data; with many useless models the FDR comes near 1 (the claims
    named `optcs/...` refute it). Use `optcs_msel`.

    Args:
        calibration_scores: shape (K, n), one row per model.
        test_scores: shape (K, m).
        level: scalar in [0, 1], nominal.

    Returns:
        shape (m,), True where selected; ties between models go to the lowest index.

    Raises:
        ValueError: level outside [0, 1], not two axes, different K.

    Transformations: jit, vmap.
    Cost: K selections.

    Example:
        >>> from jaxcur import conformal
        >>> scores = [[1.0, 2.0], [2.0, 1.0]]
        >>> conformal.naive_best_of_k(scores, [[0.5], [3.0]], level=0.5)
        Array([ True], dtype=bool)
    """
    calibration, test = checked_models(calibration_scores, test_scores)
    selected = jax.vmap(lambda v, t: select(v, t, level=level).selected)(
        calibration, test
    )
    best = jnp.argmax(jnp.sum(selected, axis=1, dtype=jnp.int32))
    return selected[best]


def bh_after_optcs(result: OptCSResult) -> Bool[Array, " m"]:
    """Benjamini-Hochberg on the p-values of `optcs_msel`. For contrast only.

    Heuristic: no finite-sample guarantee. Each p-value is valid alone, but nothing is
    known about their joint law; `result.selected` is the selection with the guarantee.

    Args:
        result: an unbatched OptCSResult with m candidates.

    Returns:
        shape (m,), True where selected at `result.level`.

    Transformations: jit, vmap.
    Cost: O(m log m).

    Example:
        >>> from jaxcur import conformal
        >>> result = conformal.optcs_msel(
        ...     [[1.0, 2.0, 3.0]], [[0.5]], level=0.5, pruning="deterministic"
        ... )
        >>> conformal.bh_after_optcs(result)
        Array([ True], dtype=bool)
    """
    return stats.benjamini_hochberg(result.p_values, result.level)
