"""How sure a fit is: coefficients, and probabilities of the last class."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from scipy.stats import norm

from jaxcur import ordinal

if TYPE_CHECKING:
    from jaxcur.frames._ordinal_result import OrdinalFrameResult

NOTE = "intervals: debiased"
_NONE = {
    2: "no intervals: without a penalty there is no finite fit",
    4: "no intervals: the information is singular",
}


def debiased(
    fitted: "OrdinalFrameResult", points: np.ndarray, confidence_level: float
) -> tuple[ordinal.DebiasedIntervals, str]:
    """Debiased estimates on the host, NaN where there are none, and a note."""
    exact = fitted.exact
    with jax.enable_x64(True):
        found = ordinal.debiased_intervals(
            fitted.X,
            fitted.codes,
            num_classes=len(fitted.fitted_labels),
            penalty=fitted.penalty,
            family=exact.family,
            link=exact.link,
            weights=fitted.weights,
            regularization=exact.regularization,
            points=points,
            confidence_level=confidence_level,
        )
        found = jax.tree.map(np.asarray, found)
    status = int(found.status)
    note = _NONE.get(status, f"no intervals: {ordinal.STATUS[status]}")
    return found, note if status else NOTE


def rare_interval(
    fitted: "OrdinalFrameResult", points: np.ndarray, confidence_level: float
) -> tuple[np.ndarray, str]:
    """Debiased probability and its interval at rows of columns, and a note.

    Returns:
        shape (m, 3): debiased probability, lower and upper end; NaN where there are
        none, and then the note says why.
    """
    found, note = debiased(fitted, points, confidence_level)
    return np.column_stack([found.rare_probability, found.rare_interval]), note


def coefficient_inference(
    fitted: "OrdinalFrameResult", confidence_level: float
) -> tuple[dict[str, np.ndarray], str]:
    """Estimate, standard error, z, p-value and interval, each (p, k-1).

    Returns:
        the table, and which estimates these are: "maximum likelihood" for a fit without
        a penalty, else "debiased".
    """
    exact = fitted.exact
    p, m = exact.coefficients.shape
    if float(exact.regularization) == 0:
        kind = "maximum likelihood"
        with jax.enable_x64(True):
            errors = ordinal.standard_errors(
                exact, fitted.X, fitted.codes, weights=fitted.weights
            )
        estimate, error = exact.coefficients, np.asarray(errors.coefficients)
    else:
        kind = "debiased"
        found: Any = debiased(fitted, fitted.X[:1], confidence_level)[0]
        spread = np.sqrt(np.maximum(np.diagonal(found.covariance), 0))
        estimate, error = found.coefficients, spread[m:].reshape(m, p).T
    # A constant column has no information, nor has a fit that ran to infinity.
    known = error > 0
    estimate = np.where(known, estimate, np.nan)
    error = np.where(known, error, np.nan)
    z = estimate / error
    half = norm.isf((1 - confidence_level) / 2) * error
    table = {
        "estimate": estimate,
        "std_error": error,
        "z": z,
        "p_value": 2 * norm.sf(np.abs(z)),
        "lower": estimate - half,
        "upper": estimate + half,
    }
    return table, kind
