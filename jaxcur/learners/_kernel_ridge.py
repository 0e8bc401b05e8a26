"""Kernel ridge regression, with all leave-one-out predictions from one factor."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.learners._protocol import (
    check_callable,
    check_nonnegative,
    prepare,
    prepare_new,
)
from jaxcur.learners._tree import kernel_learner
from jaxcur.learners._triangular import inverse_of_lower

_HIGHEST = jax.lax.Precision.HIGHEST


class KernelParams(NamedTuple):
    """A fitted kernel expansion  f(x) = sum_i coefficients_i kernel(x, features_i).

    Attributes:
        features: shape (n, d), the training rows.
        coefficients: shape (n,); 0 for rows of weight 0.
    """

    features: Array
    coefficients: Array


@kernel_learner("kernel", "regularization")
@dataclasses.dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression without intercept.

    Minimises  sum_i w_i (y_i - f(x_i))^2 + regularization |f|^2  over the functions of
    the kernel's space. With unit weights and G = (K + regularization I)^-1 the
    leave-one-out prediction of row i is  y_i - (G y)_i / G_ii.

    A Gaussian process with fixed hyper-parameters and noise variance `regularization`
    has the same mean.

    `regularization = 0` interpolates and needs a positive definite kernel matrix:
    with repeated rows the factorisation fails and the predictions are NaN.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows, which is what conformal selection needs of it.

    Args:
        kernel: callable `kernel(a, b) -> matrix` on rows a (n, d) and b (m, d), for
            example `learners.RBF(1.0)`. Its own parameters are traced where it is a
            pytree; any other callable is static.
        regularization: penalty, at least 0, on scikit-learn's scale. Traced.

    Raises:
        ValueError: `regularization` is negative.
        TypeError: `kernel` is not callable.

    Transformations: jit, vmap and grad, over the data and over the learner itself.
    Cost: O(n^3 + n^2 d) time, O(n^2) memory.

    Source: the downdating formula for regularised least squares; Rifkin and Lippert,
    "Notes on regularized least squares", 2007.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> learner = learners.KernelRidge(learners.RBF(1.0), 0.1)
        >>> x = jnp.array([[0.0], [0.5], [1.0]])
        >>> learner.leave_one_out(x, jnp.array([0.0, 1.0, 2.0])).round(2)
        Array([0.28, 1.06, 0.94], dtype=float32)
    """

    kernel: Callable[[Any, Any], Any]
    regularization: Any

    def __post_init__(self) -> None:
        check_callable("kernel", self.kernel)
        check_nonnegative("regularization", self.regularization)

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> KernelParams:
        """The coefficients of the expansion; `key` is not used."""
        features, target, weights = prepare(features, target, weights)
        return _fit(self, features, target, weights)

    def predict(
        self, params: KernelParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """Predictions at the rows of `features`."""
        rows = params.features
        features = prepare_new(features, rows.shape[1], rows.dtype)
        return _expand(self.kernel(features, rows), params.coefficients)

    def leave_one_out(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """For each row, the prediction by the fit that left it out."""
        features, target, weights = prepare(features, target, weights)
        return _leave_one_out(self, features, target, weights)

    def mean_leave_one_out_fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> KernelParams:
        """The mean of the expansions of the fits that leave one row out.

        Rows of weight 0 do not count.
        """
        features, target, weights = prepare(features, target, weights)
        return _mean_fit(self, features, target, weights)

    def mean_leave_one_out_predict(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        new_features: Real[ArrayLike, "m d"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> Float[Array, " m"]:
        """The mean prediction at new rows over the fits that leave one row out."""
        params = self.mean_leave_one_out_fit(features, target, weights)
        return self.predict(params, new_features)


def _expand(matrix: Array, coefficients: Array) -> Array:
    return jnp.matmul(matrix, coefficients, precision=_HIGHEST)


class _System(NamedTuple):
    matrix: Array
    factor: Array
    root: Array
    dual: Array


def _solve(
    learner: KernelRidge, features: Array, target: Array, weights: Array
) -> _System:
    """With s = sqrt(w): the factor of  M = s K s + regularization I, and M^-1 (s y)."""
    matrix = learner.kernel(features, features)
    root = jnp.sqrt(weights)
    penalty = jnp.asarray(learner.regularization, features.dtype)
    scaled = root[:, None] * matrix * root[None, :]
    factor = jnp.linalg.cholesky(
        scaled + penalty * jnp.eye(features.shape[0], dtype=features.dtype)
    )
    dual = jax.scipy.linalg.cho_solve((factor, True), root * target)
    return _System(matrix, factor, root, dual)


@jax.jit
def _fit(learner, features, target, weights):
    system = _solve(learner, features, target, weights)
    return KernelParams(features, system.root * system.dual)


def _inverse_diagonal(factor: Array) -> Array:
    inverse = inverse_of_lower(factor)
    return jnp.sum(inverse * inverse, axis=0)


@jax.jit
def _leave_one_out(learner, features, target, weights):
    system = _solve(learner, features, target, weights)
    diagonal = _inverse_diagonal(system.factor)
    present = system.root > 0
    scale = jnp.where(present, system.root * diagonal, 1)
    full = _expand(system.matrix, system.root * system.dual)
    return jnp.where(present, target - system.dual / scale, full)


@jax.jit
def _mean_fit(learner, features, target, weights):
    system = _solve(learner, features, target, weights)
    present = system.root > 0
    # Without row i the dual vector is  dual - G_(.i) dual_i / G_ii, G = M^-1; absent
    # rows have dual 0 and are not averaged over.
    ratio = jnp.where(present, system.dual / _inverse_diagonal(system.factor), 0)
    count = jnp.sum(present, dtype=ratio.dtype)
    change = jax.scipy.linalg.cho_solve((system.factor, True), ratio / count)
    return KernelParams(features, system.root * (system.dual - change))
