"""Platt scaling: a logistic curve through the log-odds."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.calibration._calibrator import (
    DIVERGING,
    INVALID,
    Fitted,
    check_binary_logits,
    new_input,
    normalised,
    with_rows,
)
from jaxcur.calibration._newton import Minimum, minimise


@register_dataclass
@dataclasses.dataclass(frozen=True)
class PlattCalibrator(Fitted):
    """q = sigmoid(slope * s + intercept) of a logit s.

    Attributes:
        slope: scalar.
        intercept: scalar.
        gradient_norm: scalar, largest entry of the gradient of the mean loss in the
            slope (of standardised logits) and the intercept.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, Newton steps.
    """

    slope: Array
    intercept: Array
    gradient_norm: Array
    status: Array
    num_steps: Array

    def __call__(self, logits: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at logits (m,)."""
        s = new_input("logits", logits, self.slope)
        return jax.nn.sigmoid(self.slope * s + self.intercept)


def fit_platt(
    logits: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    smoothing: bool = True,
    max_steps: int = 100,
) -> PlattCalibrator:
    """Fit q = sigmoid(a s + b) to binary outcomes.

    With `smoothing` the targets are (N1 + 1) / (N1 + 2) for the outcome 1 and
    1 / (N0 + 2) for 0, N1 and N0 being the weights of the two outcomes: the maximum is
    then finite whatever the data. Without it this is logistic regression of the
    outcome on the logit.

    Heuristic: no finite-sample guarantee on the probabilities. The optimum is the
    global one, certified by `gradient_norm`.

    Args:
        logits: shape (n,), finite log-odds of class 1 (or any score on that scale).
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing. A weight counts rows.
        smoothing: Platt's targets (static).
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of logits. Without smoothing, separated or single classes have no
        finite optimum: `converged` is then False and the parameters are finite.

    Raises:
        ValueError: unequal lengths, n = 0, logits that are not finite, labels outside
            [0, 1], or illegal weights.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: O(n) for each of usually 5 to 8 steps.

    Source: Platt, "Probabilistic outputs for support vector machines", 1999.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> s = jnp.array([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0])
        >>> y = jnp.array([0, 1, 0, 0, 1, 1])
        >>> found = calibration.fit_platt(s, y)(jnp.array([-2.0, 0.0, 2.0]))
        >>> [round(float(p), 2) for p in found]
        [0.37, 0.5, 0.63]
    """
    s, y, w = check_binary_logits(logits, labels, weights)
    return _fit_platt(s, y, w, smoothing=bool(smoothing), max_steps=max_steps)


@jax.jit(static_argnames=("smoothing", "max_steps"))
def _fit_platt(s, y, w, *, smoothing, max_steps):
    s, y = with_rows(w, s, y)
    if smoothing:
        positive, negative = jnp.sum(w * y), jnp.sum(w * (1 - y))
        high = (positive + 1) / (positive + 2)
        low = 1 / (negative + 2)
        target = y * high + (1 - y) * low
    else:
        target = y
    share = normalised(w)
    mean, deviation = standardisation(s, share)
    # Equal scores differ from their mean by rounding only: their slope stays 0.
    flat = deviation == 0
    deviation = jnp.where(flat, 1, deviation)
    u = jnp.where(flat, 0, (s - mean) / deviation)
    found = logistic_fit((u,), target, share, max_steps=max_steps)
    if not smoothing:
        found = found._replace(status=mark_separable(found, s, y, w))
    slope = found.solution[0] / deviation
    return PlattCalibrator(
        slope=slope,
        intercept=found.solution[1] - slope * mean,
        gradient_norm=found.gradient_norm,
        status=found.status,
        num_steps=found.num_steps,
    )


def standardisation(s: Array, share: Array) -> tuple[Array, Array]:
    """Mean and standard deviation, the latter 0 where all values are equal."""
    mean = jnp.sum(share * s)
    deviation = jnp.sqrt(jnp.sum(share * (s - mean) ** 2))
    negligible = deviation <= 8 * jnp.finfo(s.dtype).eps * jnp.abs(mean)
    return mean, jnp.where(negligible, 0, deviation)


def logistic_fit(
    columns: tuple[Array, ...],
    target: Array,
    share: Array,
    *,
    intercept: bool = True,
    max_steps: int = 100,
) -> Minimum:
    """Logistic regression on a few columns, with an intercept last.

    Columns are kept apart rather than stacked: each is read once per step.
    """

    def loss(theta: Array) -> Array:
        z = theta[-1] * jnp.ones_like(target) if intercept else 0 * target
        for column, slope in zip(columns, theta):
            z = z + slope * column
        return jnp.sum(share * (jax.nn.softplus(z) - target * z))

    start = jnp.zeros(len(columns) + int(intercept), target.dtype)
    return minimise(loss, start, max_steps=max_steps)


def mark_separable(found: Minimum, s: Array, y: Array, w: Array) -> Any:
    """The status, knowing that the maximum runs away where s orders the outcomes."""
    present = w > 0
    one, zero = present & (y > 0), present & (y < 1)

    def ordered(s: Array) -> Array:
        highest = jnp.max(jnp.where(zero, s, -jnp.inf))
        lowest = jnp.min(jnp.where(one, s, jnp.inf))
        both = jnp.any(zero) & jnp.any(one)
        # Where every score is the same the slope is free and the fit is finite.
        varies = jnp.max(jnp.where(present, s, -jnp.inf)) > jnp.min(
            jnp.where(present, s, jnp.inf)
        )
        return (highest <= lowest) & (varies | ~both)

    separable = (ordered(s) | ordered(-s)) & (found.status != INVALID)
    return jnp.where(separable, DIVERGING, found.status).astype(jnp.int32)
