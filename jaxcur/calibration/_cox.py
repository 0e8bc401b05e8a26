"""Calibration slope and intercepts: a logistic regression on the log-odds."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import register_dataclass
from jaxcur.calibration._calibrator import (
    DIVERGING,
    INVALID,
    Fitted,
    normalised,
    with_rows,
)
from jaxcur.calibration._inputs import check_binary
from jaxcur.calibration._newton import minimise
from jaxcur.calibration._platt import fit_platt, standardisation


@register_dataclass
@dataclasses.dataclass(frozen=True)
class CalibrationSlopeResult(Fitted):
    """logit P(y = 1) = slope * logit f + intercept, and the same with slope 1.

    Attributes:
        slope: scalar; 1 under calibration, below 1 for forecasts that are too sure.
        intercept: scalar; 0 under calibration.
        intercept_at_slope_one: scalar, calibration in the large: above 0 for forecasts
            that are too low on the whole.
        covariance: shape (2, 2), of slope and intercept.
        intercept_at_slope_one_std_error: scalar.
        status: scalar int, a key of `calibration.STATUS`, of the fit of both.
    """

    slope: Array
    intercept: Array
    intercept_at_slope_one: Array
    covariance: Array
    intercept_at_slope_one_std_error: Array
    status: Array

    @property
    def slope_std_error(self) -> Array:
        """Standard error of the slope."""
        return jnp.sqrt(self.covariance[..., 0, 0])

    @property
    def intercept_std_error(self) -> Array:
        """Standard error of the intercept."""
        return jnp.sqrt(self.covariance[..., 1, 1])


def _at_slope_one(s: Array, y: Array, w: Array) -> tuple[Array, Array]:
    """The intercept beside a fixed slope of 1, and its standard error."""
    share = normalised(w)

    def loss(theta: Array) -> Array:
        z = s + theta[0]
        return jnp.sum(share * (jax.nn.softplus(z) - y * z))

    found = minimise(loss, jnp.zeros(1, s.dtype)).solution[0]
    events, total = jnp.sum(w * y), jnp.sum(w)
    # With one outcome only the intercept runs away.
    found = jnp.where((events > 0) & (events < total), found, jnp.nan)
    q = jax.nn.sigmoid(s + found)
    return found, 1 / jnp.sqrt(jnp.sum(w * q * jax.nn.sigmoid(-s - found)))


def _covariance(s: Array, w: Array, slope: Array, intercept: Array) -> Array:
    """Inverse information of slope and intercept."""
    z = slope * s + intercept
    v = w * jax.nn.sigmoid(z) * jax.nn.sigmoid(-z)
    total = jnp.sum(v)
    # About the mean of the log-odds the two are uncorrelated.
    middle = jnp.sum(v * s) / total
    of_slope = 1 / jnp.sum(v * (s - middle) ** 2)
    cross = -middle * of_slope
    of_intercept = 1 / total + middle**2 * of_slope
    return jnp.stack([jnp.stack([of_slope, cross]), jnp.stack([cross, of_intercept])])


@jax.jit
def _slope(f: Array, y: Array, w: Array) -> CalibrationSlopeResult:
    f, y = with_rows(w, f, y)
    certain = (f == 0) | (f == 1)
    present = w > 0
    contradicted = jnp.any(present & certain & (f != y))
    # In the limit of infinite log-odds a row that comes true has likelihood 1.
    w = jnp.where(certain, 0, w)
    s = jnp.where(certain, 0, jnp.log(f) - jnp.log1p(-f))
    s, y = with_rows(w, s, y)
    fit = fit_platt(s, y, weights=w, smoothing=False)
    constant, error = _at_slope_one(s, y, w)
    flat = standardisation(s, normalised(w))[1] == 0
    finite = (fit.status != DIVERGING) & (fit.status != INVALID) & ~contradicted
    status = jnp.where(contradicted | flat, DIVERGING, fit.status)
    invalid = jnp.isnan(jnp.sum(s) + jnp.sum(y) + jnp.sum(w))
    slope = jnp.where(finite & ~flat, fit.slope, jnp.nan)
    intercept = jnp.where(finite & ~flat, fit.intercept, jnp.nan)
    return CalibrationSlopeResult(
        slope=slope,
        intercept=intercept,
        intercept_at_slope_one=jnp.where(contradicted, jnp.nan, constant),
        covariance=_covariance(s, w, slope, intercept),
        intercept_at_slope_one_std_error=jnp.where(contradicted, jnp.nan, error),
        status=jnp.where(invalid, INVALID, status).astype(jnp.int32),
    )


def calibration_slope(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> CalibrationSlopeResult:
    """Cox's calibration slope and intercept, and calibration in the large.

    The logistic regression  logit P(y = 1) = slope * logit f + intercept  by maximum
    likelihood, and once more with the slope held at 1. Standard errors are those of the
    inverse information.

    A forecast of exactly 0 or 1 has infinite log-odds. Where it comes true its
    likelihood is 1 in the limit, whatever the curve: it changes nothing. Where it does
    not, no curve of positive slope is possible, and all numbers are NaN. So the result
    does not hang on how close to 0 a forecast is clipped. For a number nevertheless,
    clip the forecasts yourself.

    Heuristic: no finite-sample guarantee; estimates and standard errors are those of
    maximum likelihood for large n.

    Args:
        probs: shape (n,), forecasts of a binary event.
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing. A weight counts rows.

    Returns:
        `CalibrationSlopeResult`. NaN, with status 2, where there is no finite optimum:
        the forecasts separate the outcomes, only one outcome occurs, or (for the slope
        and its intercept) all forecasts are equal.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: O(n) for each of usually 5 to 8 Newton steps, twice.

    Source: Cox, "Two further applications of a model for binary regression",
    Biometrika 1958.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([0.1, 0.1, 0.3, 0.7, 0.9, 0.9])
        >>> labels = jnp.array([0, 1, 0, 1, 0, 1])
        >>> found = calibration.calibration_slope(probs, labels)
        >>> print(f"{found.slope:.3f} {found.slope_std_error:.3f}")
        0.165 0.446
    """
    return _slope(*check_binary(probs, labels, weights))
