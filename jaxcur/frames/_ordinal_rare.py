"""Debiased intervals for the probability of the last class."""

from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxcur.ordinal._debiased import debiased_intervals

if TYPE_CHECKING:
    from jaxcur.frames._ordinal_result import OrdinalFrameResult

NOTE = "intervals: debiased"


def rare_interval(
    fitted: "OrdinalFrameResult", points: np.ndarray, confidence_level: float
) -> tuple[np.ndarray, str]:
    """Debiased probability and its interval at rows of columns, and a note.

    Returns:
        shape (m, 3): debiased probability, lower and upper end; NaN where there are
        none, and then the note says why.
    """
    exact = fitted.exact
    with jax.enable_x64(True):
        found = debiased_intervals(
            fitted.X,
            fitted.codes,
            num_classes=len(fitted.fitted_labels),
            penalty=fitted.penalty,
            regularization=exact.regularization,
            family=exact.family,
            link=exact.link,
            weights=fitted.weights,
            points=points,
            confidence_level=confidence_level,
        )
        table = np.column_stack([found.rare_probability, found.rare_interval])
    if int(found.status):
        return np.full_like(table, np.nan), "no intervals: the information is singular"
    return table, NOTE
