"""A whole path of penalties from one eigendecomposition."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import as_float, check_rank, is_concrete, register_dataclass
from jaxcur.learners._kernel_ridge import KernelParams
from jaxcur.learners._protocol import LinearParams, check_callable, prepare
from jaxcur.learners._scatter import over_blocks, removal, scatter

_HIGHEST = jax.lax.Precision.HIGHEST


@register_dataclass
@dataclasses.dataclass(frozen=True)
class RidgePathResult:
    """Ridge fits along a path of penalties.

    Attributes:
        regularizations: shape (r,).
        coefficients: shape (r, d).
        intercepts: shape (r,).
        leave_one_out: shape (r, n), out-of-sample predictions of the training rows.
    """

    regularizations: Array
    coefficients: Array
    intercepts: Array
    leave_one_out: Array

    def params(self, index: Any) -> LinearParams:
        """The fit at one position of the path, for `Ridge.predict`."""
        return LinearParams(self.coefficients[index], self.intercepts[index])


@register_dataclass
@dataclasses.dataclass(frozen=True)
class KernelRidgePathResult:
    """Kernel ridge fits along a path of penalties.

    Attributes:
        regularizations: shape (r,).
        features: shape (n, d), the training rows.
        coefficients: shape (r, n).
        leave_one_out: shape (r, n), out-of-sample predictions of the training rows.
    """

    regularizations: Array
    features: Array
    coefficients: Array
    leave_one_out: Array

    def params(self, index: Any) -> KernelParams:
        """The fit at one position of the path, for `KernelRidge.predict`."""
        return KernelParams(self.features, self.coefficients[index])


def _check_path(regularizations: Any, dtype: Any) -> Array:
    (path,) = as_float(regularizations=regularizations)
    check_rank("regularizations", path, 1, "(r,)")
    if is_concrete(path) and not (np.asarray(path) > 0).all():
        raise ValueError(
            "`regularizations` must be positive; for least squares use "
            "learners.Ridge(0.0)"
        )
    return path.astype(dtype)


def ridge_path(
    features: Real[ArrayLike, "n d"],
    target: Real[ArrayLike, " n"],
    regularizations: Real[ArrayLike, " r"],
    weights: Real[ArrayLike, " n"] | None = None,
    *,
    intercept: bool = True,
) -> RidgePathResult:
    """Ridge fits and leave-one-out predictions for several penalties at once.

    The centred second-moment matrix is decomposed once; every penalty then costs
    O(n d) instead of O(n d^2). Equal to `Ridge(r)` for each r.

    Heuristic: no finite-sample guarantee. Choosing the penalty by the errors of the
    returned predictions is a symmetric function of the rows only when no row plays a
    special part in the choice.

    Args:
        features: shape (n, d).
        target: shape (n,).
        regularizations: shape (r,), positive.
        weights: shape (n,), row counts; ones when missing.
        intercept: whether to fit an unpenalised intercept. Static.

    Returns:
        Coefficients, intercepts and leave-one-out predictions, one row per penalty.

    Raises:
        ValueError: shapes disagree, values not finite, or a penalty not positive.

    Transformations: jit, vmap. grad where the eigenvalues are distinct.
    Cost: O(n d (d + r) + d^3) time, O(r n) memory for the result.

    Source: as `Ridge`, in the eigenbasis.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
        >>> y = jnp.array([0.0, 1.0, 2.0, 3.0])
        >>> path = learners.ridge_path(x, y, jnp.array([0.01, 5.0]))
        >>> path.coefficients[:, 0].round(2)
        Array([1. , 0.5], dtype=float32)
    """
    features, target, weights = prepare(features, target, weights)
    path = _check_path(regularizations, features.dtype)
    return _ridge_path(features, target, weights, path, intercept=intercept)


@jax.jit(static_argnames=("intercept",))
def _ridge_path(features, target, weights, path, *, intercept):
    total = scatter(features, target, weights, intercept)
    values, vectors = jnp.linalg.eigh(total.gram)
    # (d, r): the inverse in the eigenbasis, for every penalty. Rounding can push an
    # eigenvalue of a singular matrix below zero.
    inverse = 1 / (jnp.maximum(values, 0)[:, None] + path[None, :])
    rotated = inverse * jnp.matmul(vectors.T, total.moment, precision=_HIGHEST)[:, None]
    coefficients = jnp.matmul(vectors, rotated, precision=_HIGHEST).T
    shifts = jnp.matmul(coefficients, total.center, precision=_HIGHEST)

    def block(carry, rows, targets, weight):
        turned = jnp.matmul(rows - total.center[None, :], vectors, precision=_HIGHEST)
        fitted = jnp.matmul(turned, rotated, precision=_HIGHEST)
        leverage = jnp.matmul(turned * turned, inverse, precision=_HIGHEST)
        targets = (targets - total.target_center)[:, None]
        weight = weight[:, None]
        share, effective = removal(total, weight, intercept)
        step = effective * (targets - fitted) / (1 - effective * leverage)
        own = fitted - leverage * step
        return carry, total.target_center - share * targets + (1 + share) * own

    _, predictions = over_blocks(
        block, (), features, target, weights, trailing=path.shape
    )
    return RidgePathResult(
        regularizations=path,
        coefficients=coefficients,
        intercepts=total.target_center - shifts,
        leave_one_out=predictions.T,
    )


def kernel_ridge_path(
    kernel: Callable[[Any, Any], Any],
    features: Real[ArrayLike, "n d"],
    target: Real[ArrayLike, " n"],
    regularizations: Real[ArrayLike, " r"],
    weights: Real[ArrayLike, " n"] | None = None,
) -> KernelRidgePathResult:
    """Kernel ridge fits and leave-one-out predictions for several penalties at once.

    With the decomposition  K = U diag(s) U'  every penalty costs O(n^2) instead of
    O(n^3):  G_ii = sum_r U_ir^2 / (s_r + regularization). Equal to `KernelRidge`.

    Heuristic: no finite-sample guarantee.

    Args:
        kernel: callable `kernel(a, b) -> matrix`, for example `learners.RBF(1.0)`.
        features: shape (n, d).
        target: shape (n,).
        regularizations: shape (r,), positive.
        weights: shape (n,), row counts; ones when missing.

    Returns:
        Expansions and leave-one-out predictions, one row per penalty.

    Raises:
        ValueError: shapes disagree, values not finite, or a penalty not positive.
        TypeError: `kernel` is not callable.

    Transformations: jit, vmap. grad where the eigenvalues are distinct.
    Cost: O(n^3 + r n^2) time, O(n (n + r)) memory.

    Source: as `KernelRidge`, in the eigenbasis.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [0.5], [1.0]])
        >>> path = learners.kernel_ridge_path(
        ...     learners.RBF(1.0), x, jnp.array([0.0, 1.0, 2.0]), jnp.array([0.1, 1.0]))
        >>> path.leave_one_out.round(2)
        Array([[0.28, 1.06, 0.94],
               [0.45, 0.66, 0.37]], dtype=float32)
    """
    check_callable("kernel", kernel)
    features, target, weights = prepare(features, target, weights)
    path = _check_path(regularizations, features.dtype)
    matrix = kernel(features, features)
    coefficients, predictions = _kernel_path(matrix, target, weights, path)
    return KernelRidgePathResult(path, features, coefficients, predictions)


@jax.jit
def _kernel_path(matrix, target, weights, path):
    root = jnp.sqrt(weights)
    values, vectors = jnp.linalg.eigh(root[:, None] * matrix * root[None, :])
    inverse = 1 / (jnp.maximum(values, 0)[None, :] + path[:, None])
    rotated = jnp.matmul(root * target, vectors, precision=_HIGHEST)
    dual = jnp.matmul(inverse * rotated[None, :], vectors.T, precision=_HIGHEST)
    diagonal = jnp.matmul(inverse, (vectors * vectors).T, precision=_HIGHEST)
    coefficients = root[None, :] * dual
    present = root > 0
    scale = jnp.where(present[None, :], root[None, :] * diagonal, 1)
    full = jnp.matmul(coefficients, matrix.T, precision=_HIGHEST)
    left_out = target[None, :] - dual / scale
    return coefficients, jnp.where(present[None, :], left_out, full)
