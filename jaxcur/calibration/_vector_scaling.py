"""Vector scaling: a slope and an intercept for each class."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.calibration._calibrator import (
    Fitted,
    check_class_logits,
    new_input,
    normalised,
    with_rows,
)
from jaxcur.calibration._newton import minimise


@register_dataclass
@dataclasses.dataclass(frozen=True)
class VectorScalingCalibrator(Fitted):
    """q = softmax(slopes * L + intercepts).

    Attributes:
        slopes: shape (k,).
        intercepts: shape (k,), with sum 0.
        gradient_norm: scalar, largest entry of the gradient of the mean loss.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, Newton steps.
    """

    slopes: Array
    intercepts: Array
    gradient_norm: Array
    status: Array
    num_steps: Array

    def __call__(self, logits: Real[ArrayLike, "m k"]) -> Float[Array, "m k"]:
        """Probabilities at logits (m, k)."""
        table = new_input("logits", logits, self.slopes, 2, self.intercepts.shape[-1])
        return jax.nn.softmax(table * self.slopes + self.intercepts, axis=-1)


def class_loss(logits: Array, labels: Array, share: Array) -> Array:
    """Mean negative log-likelihood of classes under logits."""
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    return jnp.sum(share * (jax.nn.logsumexp(logits, axis=1) - own))


def fit_vector_scaling(
    logits: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    shared_slope: bool = False,
    max_steps: int = 100,
) -> VectorScalingCalibrator:
    """Fit q = softmax(v * L + b) by maximum likelihood, with sum(b) = 0.

    The problem is convex. `shared_slope=True` fits one slope for all classes:
    temperature scaling with corrected biases.

    Heuristic: no finite-sample guarantee on the probabilities. The loss on the rows of
    the fit is at most that of temperature scaling, and at least that of matrix scaling.

    Args:
        logits: shape (n, k), finite. A constant added to a row changes the fit unless
            the slopes are equal; subtract the row means to fix the choice.
        labels: shape (n,), integers 0..k-1.
        weights: shape (n,), at least 0; ones when missing.
        shared_slope: one slope instead of k (static).
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of logits (m, k). An absent class, or separated classes, leave no
        finite optimum: `converged` is then False.

    Raises:
        ValueError: unequal lengths, n = 0, logits that are not finite, labels out of
            range, or illegal weights.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: O(n k) for each Newton step and unknown up to 80 classes; above, O(n k) for
    each of the inner conjugate gradient steps.

    Source: Guo, Pleiss, Sun and Weinberger, ICML 2017; the shared slope: Alexandari,
    Kundaje and Shrikumar, ICML 2020.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
        >>> labels = jnp.array([0, 1, 1, 0])
        >>> calibrator = calibration.fit_vector_scaling(logits, labels)
        >>> calibrator(logits[:1]).round(2)
        Array([[0.5, 0.5]], dtype=float32)
    """
    table, y, w = check_class_logits(logits, labels, weights)
    return _fit_vector(table, y, w, shared=bool(shared_slope), max_steps=max_steps)


@jax.jit(static_argnames=("shared", "max_steps"))
def _fit_vector(table, y, w, *, shared, max_steps):
    table, y = with_rows(w, table, y)
    share = normalised(w)
    k = table.shape[1]
    num_slopes = 1 if shared else k

    def loss(theta: Array) -> Array:
        slopes, intercepts = theta[:num_slopes], theta[num_slopes:]
        # The softmax does not see a common intercept: hold its mean at 0.
        gauge = jnp.mean(intercepts) ** 2
        return class_loss(table * slopes + intercepts, y, share) + gauge

    def scale(theta: Array) -> Array:
        q = jax.nn.softmax(table * theta[:num_slopes] + theta[num_slopes:], axis=1)
        curvature = share[:, None] * q * (1 - q)
        slopes = jnp.sum(curvature * table * table, axis=0)
        slopes = jnp.sum(slopes, keepdims=True) if shared else slopes
        return jnp.concatenate([slopes, jnp.sum(curvature, axis=0) + 2 / k**2])

    start = jnp.concatenate(
        [jnp.ones(num_slopes, table.dtype), jnp.zeros(k, table.dtype)]
    )
    found = minimise(loss, start, scale=scale, max_steps=max_steps)
    slopes, intercepts = found.solution[:num_slopes], found.solution[num_slopes:]
    return VectorScalingCalibrator(
        slopes=jnp.broadcast_to(slopes, (k,)),
        intercepts=intercepts - jnp.mean(intercepts),
        gradient_norm=found.gradient_norm,
        status=found.status,
        num_steps=found.num_steps,
    )
