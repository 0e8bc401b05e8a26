"""Matrix scaling and Dirichlet calibration, with a penalty off the diagonal."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import is_concrete, register_dataclass
from jaxcur.calibration._calibrator import (
    Fitted,
    check_class_logits,
    clip_probs,
    new_input,
    normalised,
    with_rows,
)
from jaxcur.calibration._inputs import check_multiclass
from jaxcur.calibration._newton import Minimum, minimise
from jaxcur.calibration._vector_scaling import class_loss

_HIGHEST = jax.lax.Precision.HIGHEST


@register_dataclass
@dataclasses.dataclass(frozen=True)
class MatrixScalingCalibrator(Fitted):
    """q = softmax(L @ matrix + intercepts).

    Attributes:
        matrix: shape (k, k); column c holds the coefficients of class c.
        intercepts: shape (k,), with sum 0.
        gradient_norm: scalar, largest entry of the gradient of the objective.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, Newton steps.
    """

    matrix: Array
    intercepts: Array
    gradient_norm: Array
    status: Array
    num_steps: Array

    def __call__(self, logits: Real[ArrayLike, "m k"]) -> Float[Array, "m k"]:
        """Probabilities at logits (m, k)."""
        table = new_input("logits", logits, self.matrix, 2, self.matrix.shape[-1])
        scaled = jnp.matmul(table, self.matrix, precision=_HIGHEST) + self.intercepts
        return jax.nn.softmax(scaled, axis=-1)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DirichletCalibrator(MatrixScalingCalibrator):
    """q = softmax(log P @ matrix + intercepts): matrix scaling of log probabilities."""

    def __call__(self, probs: Real[ArrayLike, "m k"]) -> Float[Array, "m k"]:
        """Probabilities at rows of probabilities (m, k)."""
        table = new_input("probs", probs, self.matrix, 2, self.matrix.shape[-1])
        return super().__call__(log_probs(table))


def log_probs(probs: Array) -> Array:
    """Logarithms of probabilities kept away from 0."""
    return jnp.log(clip_probs(probs))


def check_strength(name: str, value: Any, dtype: Any) -> Array:
    """A penalty strength, at least 0."""
    if jnp.ndim(value) != 0:
        raise ValueError(f"`{name}` must be a scalar, got shape {jnp.shape(value)}")
    if is_concrete(value) and not float(value) >= 0:
        raise ValueError(f"`{name}` must be at least 0, got {value}")
    return jnp.asarray(value, dtype)


def fit_matrix_scaling(
    logits: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    regularization: Real[ArrayLike, ""] = 0.0,
    intercept_regularization: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> MatrixScalingCalibrator:
    """Fit q = softmax(L M + b) by penalised maximum likelihood, with sum(b) = 0.

    Minimises the mean negative log-likelihood plus  r mean_{i != j} M_ij^2
    + s mean_j b_j^2  (off-diagonal and intercept regularisation). The problem is
    convex. With k (k + 1) parameters and no penalty it overfits unless n is large:
    `fit_structured_scaling` chooses its penalties by n and k.

    Heuristic: no finite-sample guarantee on the probabilities. Without penalty the loss
    on the rows of the fit is at most that of vector scaling.

    Args:
        logits: shape (n, k), finite.
        labels: shape (n,), integers 0..k-1.
        weights: shape (n,), at least 0; ones when missing.
        regularization: r, at least 0. Traced.
        intercept_regularization: s; that of `regularization` when missing. Traced.
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of logits (m, k). Separated classes or an absent one leave no
        finite optimum: `converged` is then False.

    Raises:
        ValueError: unequal lengths, n = 0, logits that are not finite, labels out of
            range, illegal weights, or a negative strength.

    Transformations: jit, vmap, over strengths too. Not differentiable in reverse mode.
    Cost: O(n k^4) for each Newton step up to k = 12; above, O(n k^2) for each of the
    inner conjugate gradient steps.

    Source: Guo et al., ICML 2017; the penalty: Kull et al., "Beyond temperature
    scaling", NeurIPS 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> logits = jnp.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
        >>> labels = jnp.array([0, 1, 1, 0])
        >>> calibrator = calibration.fit_matrix_scaling(logits, labels)
        >>> calibrator(logits[:1]).round(2)
        Array([[0.5, 0.5]], dtype=float32)
    """
    table, y, w = check_class_logits(logits, labels, weights)
    found = _fit(table, y, w, regularization, intercept_regularization, max_steps)
    return _result(MatrixScalingCalibrator, found, table.shape[1])


def fit_dirichlet(
    probs: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    regularization: Real[ArrayLike, ""] = 0.0,
    intercept_regularization: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> DirichletCalibrator:
    """Fit q = softmax(log P M + b): Dirichlet calibration.

    Matrix scaling of the logarithms of the probabilities, with the same penalties; see
    `fit_matrix_scaling`. It is the map that recalibrates forecasts whose distribution
    in each class is a Dirichlet distribution.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        probs: shape (n, k), rows that sum to 1; clipped away from 0.
        labels: shape (n,), integers 0..k-1.
        weights: shape (n,), at least 0; ones when missing.
        regularization: strength off the diagonal, at least 0. Traced.
        intercept_regularization: strength on the intercepts; that of `regularization`
            when missing. Traced.
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of probabilities (m, k).

    Raises:
        ValueError: unequal lengths, n = 0, illegal probabilities, labels or weights, or
            a negative strength.

    Transformations: jit, vmap, over strengths too. Not differentiable in reverse mode.
    Cost: as `fit_matrix_scaling`.

    Source: Kull et al., "Beyond temperature scaling: obtaining well-calibrated
    multiclass probabilities with Dirichlet calibration", NeurIPS 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.1, 0.9]])
        >>> labels = jnp.array([0, 1, 1, 0])
        >>> calibrator = calibration.fit_dirichlet(probs, labels, regularization=0.01)
        >>> calibrator(probs[:1]).round(2)
        Array([[0.5, 0.5]], dtype=float32)
    """
    p, y, w = check_multiclass(probs, labels, weights)
    # The penalty refers to log P: it is the given coordinates that are shrunk.
    table = log_probs(p)
    found = _fit(table, y, w, regularization, intercept_regularization, max_steps)
    return _result(DirichletCalibrator, found, table.shape[1])


def _fit(table, y, w, regularization, intercept_regularization, max_steps) -> Minimum:
    off = check_strength("regularization", regularization, table.dtype)
    if intercept_regularization is None:
        bias = off
    else:
        bias = check_strength(
            "intercept_regularization", intercept_regularization, table.dtype
        )
    k = table.shape[1]
    penalties = (jnp.zeros_like(off), off / (k * (k - 1)), bias / k)
    return _fit_matrix(table, y, w, penalties, max_steps=max_steps)


def _result(kind: type, found: Minimum, k: int) -> Any:
    matrix, intercepts = _split(found.solution, k)
    return kind(
        matrix=matrix,
        intercepts=intercepts - jnp.mean(intercepts),
        gradient_norm=found.gradient_norm,
        status=found.status,
        num_steps=found.num_steps,
    )


def _split(theta: Array, k: int) -> tuple[Array, Array]:
    return theta[: k * k].reshape(k, k), theta[k * k :]


@jax.jit(static_argnames=("max_steps",))
def _fit_matrix(table, y, w, penalties, *, max_steps) -> Minimum:
    return solve_matrix(table, y, w, penalties, max_steps)


def solve_matrix(table, y, w, penalties, max_steps) -> Minimum:
    """Minimise the loss plus ridges about the identity map.

    `penalties` are the factors of the sums of squares of the diagonal less 1, of the
    entries off the diagonal and of the intercepts.
    """
    table, y = with_rows(w, table, y)
    share = normalised(w)
    k = table.shape[1]
    dtype = table.dtype
    identity = jnp.eye(k, dtype=dtype)
    diagonal, off, bias = penalties
    factors = identity * diagonal + (1 - identity) * off

    def loss(theta: Array) -> Array:
        matrix, intercepts = _split(theta, k)
        change = matrix - identity
        scaled = jnp.matmul(table, matrix, precision=_HIGHEST) + intercepts
        penalty = jnp.sum(factors * change**2) + bias * jnp.sum(intercepts**2)
        # The softmax sees neither a common intercept nor a common column.
        # What they have in common is held at its start unless a penalty decides it.
        gauge = jnp.mean(intercepts) ** 2
        common = jnp.sum(jnp.mean(change, axis=1) ** 2)
        gauge += jnp.where(off > 0, 0, common)
        return class_loss(scaled, y, share) + penalty + gauge

    def scale(theta: Array) -> Array:
        matrix, intercepts = _split(theta, k)
        scaled = jnp.matmul(table, matrix, precision=_HIGHEST) + intercepts
        q = jax.nn.softmax(scaled, axis=1)
        curvature = share[:, None] * q * (1 - q)
        entries = jnp.matmul((table * table).T, curvature, precision=_HIGHEST)
        entries = entries + 2 * factors
        biases = jnp.sum(curvature, axis=0) + 2 * bias
        return jnp.concatenate([entries.reshape(-1), biases]) + 2 / k**2

    start = jnp.concatenate([identity.reshape(-1), jnp.zeros(k, dtype)])
    return minimise(loss, start, scale=scale, max_steps=max_steps)
