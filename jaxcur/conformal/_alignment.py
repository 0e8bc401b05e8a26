"""The prediction above which outputs can be trusted to be aligned."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    is_concrete,
    register_dataclass,
)
from jaxcur.conformal._selection import select


@register_dataclass
@dataclasses.dataclass(frozen=True)
class AlignmentResult:
    """Outputs certified as aligned.

    Attributes:
        selected: shape (m,), bool: test_predictions >= threshold.
        threshold: scalar, the smallest accepted test prediction, +inf when none is.
        fdr_estimate: scalar, the estimated share of unaligned outputs above the
            threshold, at most `level` when something is selected; 0 otherwise.
        status: scalar int; index into `conformal.STATUS`, 0 = ok.
        level: scalar, target FDR.
    """

    selected: Array
    threshold: Array
    fdr_estimate: Array
    status: Array
    level: Array

    @property
    def num_selected(self) -> Array:
        """Number selected, over the last axis."""
        return jnp.sum(self.selected, axis=-1, dtype=jnp.int32)


def align(
    calibration_predictions: Real[ArrayLike, " n"],
    calibration_aligned: Real[ArrayLike, " n"],
    test_predictions: Real[ArrayLike, " m"],
    *,
    level: float | Array,
) -> AlignmentResult:
    """Outputs of a model to trust, from predictions of whether they are aligned.

    g predicts whether an output meets its standard (A = 1). The threshold is the
    smallest tau among the test predictions with

        (1 + #{calibration: A = 0, g >= tau}) / (n + 1) * m / max(1, #{test: g >= tau})
            <= level,

    and test rows with g >= tau are selected. This is conformal selection with the
    binary score (+inf if A = 1, else -g) and the same rows are selected.

    Guarantee: if calibration and test rows are i.i.d., or exchangeable, given the
    predictor, the expected share of selected test outputs that are not aligned is at
    most `level`. Verified by: `jaxcur verify select`.

    Args:
        calibration_predictions: shape (n,), larger means more likely aligned. NaN
            counts as +inf, which only makes selection harder.
        calibration_aligned: shape (n,), bool or 0/1.
        test_predictions: shape (m,). NaN is never selected.
        level: scalar in [0, 1], target FDR.

    Returns:
        An `AlignmentResult`.

    Raises:
        ValueError: level out of range, unequal lengths, wrong rank, a label that is
            neither 0 nor 1 (traced: it counts as not aligned).

    Transformations: jit, vmap; level may be traced. Not differentiable.
    Cost: O((n + m) log n) time, O(n + m) memory.

    Source: Gui, Jin and Ren, "Conformal Alignment: Knowing When to Trust Foundation
    Models with Guarantees", NeurIPS 2024.

    Example:
        >>> from jaxcur import conformal
        >>> result = conformal.align(
        ...     [0.9, 0.8, 0.4, 0.2], [1, 1, 0, 0], [0.95, 0.6, 0.3], level=0.35
        ... )
        >>> result.selected
        Array([ True,  True, False], dtype=bool)
        >>> print(f"{result.threshold:.1f}")
        0.6
    """
    g, g_test = as_float(
        calibration_predictions=calibration_predictions,
        test_predictions=test_predictions,
    )
    (aligned,) = as_float(calibration_aligned=calibration_aligned)
    check_rank("calibration_predictions", g, 1, "(n,)")
    check_rank("calibration_aligned", aligned, 1, "(n,)")
    check_rank("test_predictions", g_test, 1, "(m,)")
    check_same_length("calibration_aligned", aligned, "calibration_predictions", g)
    if is_concrete(aligned) and aligned.size:
        host = np.asarray(aligned)
        bad = ~np.isin(host, (0, 1))
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                "`calibration_aligned` must hold 0 and 1 only, "
                f"got {float(host[row])} at row {row}"
            )
    result = select(jnp.where(aligned == 1, jnp.inf, -g), -g_test, level=level)
    threshold = jnp.min(jnp.where(result.selected, g_test, jnp.inf), initial=jnp.inf)
    # threshold of `select` is (1 + #{A = 0, g >= tau}) / (n + 1) at the threshold here.
    count = jnp.maximum(result.num_selected, 1).astype(g_test.dtype)
    estimate = result.threshold * g_test.shape[0] / count
    return AlignmentResult(
        result.selected, threshold, estimate, result.status, result.level
    )
