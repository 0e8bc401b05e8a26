"""Debiased intervals for the probability of the last class."""

from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxcur import ordinal

if TYPE_CHECKING:
    from jaxcur.frames._ordinal_result import OrdinalFrameResult

NOTE = "intervals: debiased"
_DIVERGING = 2  # a key of `ordinal.STATUS`


def rare_interval(
    fitted: "OrdinalFrameResult", points: np.ndarray, confidence_level: float
) -> tuple[np.ndarray, str]:
    """Debiased probability and its interval at rows of columns, and a note.

    Returns:
        shape (m, 3): debiased probability, lower and upper end; NaN where there are
        none, and then the note says why.
    """
    exact = fitted.exact
    options = {
        "num_classes": len(fitted.fitted_labels),
        "penalty": fitted.penalty,
        "family": exact.family,
        "link": exact.link,
        "weights": fitted.weights,
    }
    with jax.enable_x64(True):
        # Steps towards a solution at infinity end anywhere, with tiny errors.
        free = ordinal.fit(fitted.X, fitted.codes, regularization=0.0, **options)
        if int(free.status) == _DIVERGING:
            none = np.full((len(points), 3), np.nan)
            return none, "no intervals: without a penalty there is no finite fit"
        found = ordinal.debiased_intervals(
            fitted.X,
            fitted.codes,
            regularization=exact.regularization,
            points=points,
            confidence_level=confidence_level,
            **options,
        )
        table = np.column_stack([found.rare_probability, found.rare_interval])
    if int(found.status):
        return np.full_like(table, np.nan), "no intervals: the information is singular"
    return table, NOTE
