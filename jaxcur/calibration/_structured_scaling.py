"""Structured scaling: shrink vector and matrix scaling towards a temperature."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, register_dataclass
from jaxcur.calibration._calibrator import (
    INVALID,
    OK,
    Fitted,
    check_class_logits,
    new_input,
    normalised,
    with_rows,
)
from jaxcur.calibration._matrix_scaling import check_strength, solve_matrix
from jaxcur.calibration._newton import minimise
from jaxcur.calibration._temperature import solve_temperature
from jaxcur.calibration._vector_scaling import class_loss

_HIGHEST = jax.lax.Precision.HIGHEST


@register_dataclass
@dataclasses.dataclass(frozen=True)
class StructuredScalingCalibrator(Fitted):
    """q = softmax(log_softmax(inverse_temperature * L) @ matrix + intercepts).

    Attributes:
        inverse_temperature: scalar, fitted first.
        matrix: shape (k, k), the identity where nothing but the temperature is changed.
        intercepts: shape (k,), with sum 0.
        gradient_norm: scalar, largest entry of the gradient of the second objective.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, Newton steps of the second fit.
    """

    inverse_temperature: Array
    matrix: Array
    intercepts: Array
    gradient_norm: Array
    status: Array
    num_steps: Array

    def __call__(self, logits: Real[ArrayLike, "m k"]) -> Float[Array, "m k"]:
        """Probabilities at logits (m, k)."""
        table = new_input("logits", logits, self.matrix, 2, self.matrix.shape[-1])
        scaled = jax.nn.log_softmax(table * self.inverse_temperature, axis=-1)
        scaled = jnp.matmul(scaled, self.matrix, precision=_HIGHEST) + self.intercepts
        return jax.nn.softmax(scaled, axis=-1)


def fit_structured_scaling(
    logits: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    structure: Literal["matrix", "vector"] = "matrix",
    regularization: Real[ArrayLike, ""] = 1.0,
    max_steps: int = 100,
) -> StructuredScalingCalibrator:
    """Matrix (or vector) scaling shrunk towards temperature scaling.

    First the temperature is fitted, with one pseudo row for each class. Then, with
    Z = log_softmax(beta L), the map q = softmax(Z M + b) minimises the mean negative
    log-likelihood plus

        r / W [ k |b|^2 + k sum_j (M_jj - 1)^2 + k (k - 1) sum_{i != j} M_ij^2 ]

    with W the sum of the weights: the more parameters a group has the harder it is
    shrunk, and all penalties fade as the rows grow. Hence no strength needs to be
    tuned; r = 0 is matrix scaling and r -> infinity temperature scaling.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        logits: shape (n, k), finite.
        labels: shape (n,), integers 0..k-1. Classes may be absent.
        weights: shape (n,), at least 0; ones when missing. Their scale matters: a
            weight counts rows.
        structure: "matrix", or "vector" for a diagonal M (static).
        regularization: r, at least 0. Traced.
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of logits (m, k).

    Raises:
        ValueError: unequal lengths, n = 0, logits that are not finite, labels out of
            range, illegal weights, or a negative strength.

    Transformations: jit, vmap, over strengths too. Not differentiable in reverse mode.
    Cost: as `fit_temperature` and then `fit_matrix_scaling` or `fit_vector_scaling`.

    Source: Berta, Holzmueller, Jordan and Bach, "Structured matrix scaling for
    multi-class calibration", 2025.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> logits = jnp.array([[3.0, 0.0], [3.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
        >>> labels = jnp.array([0, 1, 0, 1])
        >>> calibrator = calibration.fit_structured_scaling(logits, labels)
        >>> [round(float(p), 1) for p in calibrator(logits[:1])[0]]
        [0.7, 0.3]
    """
    check_choice("structure", structure, ("matrix", "vector"))
    table, y, w = check_class_logits(logits, labels, weights)
    strength = check_strength("regularization", regularization, table.dtype)
    return _fit_structured(table, y, w, strength, structure, max_steps)


@jax.jit(static_argnums=(4, 5))
def _fit_structured(table, y, w, strength, structure, max_steps):
    table, y = with_rows(w, table, y)
    k = table.shape[1]
    pseudo = jnp.ones((), table.dtype)
    u, _, first, _ = solve_temperature(table, y, w, pseudo=pseudo)
    beta = jnp.exp(u)
    z = jax.nn.log_softmax(table * beta, axis=1)
    unit = strength / jnp.maximum(jnp.sum(w), jnp.finfo(w.dtype).tiny)
    if structure == "matrix":
        penalties = (k * unit, k * (k - 1) * unit, k * unit)
        found = solve_matrix(z, y, w, penalties, max_steps)
        matrix = found.solution[: k * k].reshape(k, k)
        intercepts = found.solution[k * k :]
    else:
        found = _solve_vector(z, y, w, k * unit, max_steps)
        matrix = jnp.diag(found.solution[:k])
        intercepts = found.solution[k:]
    status = jnp.where(
        found.status == OK, jnp.where(first == INVALID, first, OK), found.status
    )
    return StructuredScalingCalibrator(
        inverse_temperature=beta,
        matrix=matrix,
        intercepts=intercepts - jnp.mean(intercepts),
        gradient_norm=found.gradient_norm,
        status=status,
        num_steps=found.num_steps,
    )


def _solve_vector(z, y, w, factor, max_steps):
    share = normalised(w)
    k = z.shape[1]

    def loss(theta: Array) -> Array:
        slopes, intercepts = theta[:k], theta[k:]
        penalty = factor * (jnp.sum((slopes - 1) ** 2) + jnp.sum(intercepts**2))
        gauge = jnp.mean(intercepts) ** 2
        return class_loss(z * slopes + intercepts, y, share) + penalty + gauge

    def scale(theta: Array) -> Array:
        q = jax.nn.softmax(z * theta[:k] + theta[k:], axis=1)
        curvature = share[:, None] * q * (1 - q)
        slopes = jnp.sum(curvature * z * z, axis=0)
        both = jnp.concatenate([slopes, jnp.sum(curvature, axis=0)])
        return both + 2 * factor + 2 / k**2

    start = jnp.concatenate([jnp.ones(k, z.dtype), jnp.zeros(k, z.dtype)])
    return minimise(loss, start, scale=scale, max_steps=max_steps)
