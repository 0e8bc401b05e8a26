"""Ridge regression with every leave-one-out prediction from one factorisation."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.learners import _ridge_dual, _ridge_primal
from jaxcur.learners._protocol import (
    LinearParams,
    check_nonnegative,
    is_surely_positive,
    predict_linear,
    prepare,
    prepare_new,
)


@partial(
    register_dataclass,
    data_fields=["regularization"],
    meta_fields=["intercept"],
)
@dataclasses.dataclass(frozen=True)
class Ridge:
    """Linear regression with a squared penalty and an unpenalised intercept.

    Minimises  sum_i w_i (y_i - a - x_i'b)^2 + regularization |b|^2  over a and b. The
    scale of `regularization` is that of scikit-learn's `alpha`.

    All leave-one-out predictions follow from one Cholesky factorisation. With x and y
    centred at their weighted means, S = sum_i w_i x_i x_i' + regularization I,
    W = sum_i w_i and c_i = w_i W / (W - w_i), leaving row i out changes the fit by

        b_(-i) = b - S^-1 x_i c_i (y_i - x_i'b) / (1 - c_i x_i'S^-1 x_i)

    which is the downdate of the matrix and of both means at once.

    With `regularization = 0` the fit is least squares, and of minimal norm where the
    columns are collinear or the rows too few; leave-one-out then equals refitting in
    the same sense. A row that is alone in the data leaves nothing to learn the
    intercept from: its prediction is NaN.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows, which is what conformal selection needs of it.

    Args:
        regularization: penalty, at least 0. Traced: a sweep is one program.
        intercept: whether to fit an intercept. Static.

    Raises:
        ValueError: `regularization` is negative.

    Transformations: jit, vmap and grad, over the data and over the learner itself.
    Cost: O(n d^2 + d^3) time for the fit or for all n leave-one-out predictions;
    memory O(d^2) beside the data, rows are visited in blocks. With fewer rows than
    columns and a penalty known to be positive, the n x n system is used instead:
    O(n^2 d + n^3) time, O(n d) memory.

    Source: downdating formulas for linear least squares; Allen, "The relationship
    between variable selection and data augmentation", Technometrics 1974.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
        >>> y = jnp.array([0.0, 1.0, 2.0, 6.0])
        >>> params = learners.Ridge(0.0).fit(x, y)
        >>> learners.Ridge(0.0).predict(params, jnp.array([[4.0]])).round(3)
        Array([7.], dtype=float32)
        >>> learners.Ridge(0.0).leave_one_out(x, y)[3].round(3)  # 2, 1, 0 go on to 3
        Array(3., dtype=float32)
    """

    regularization: Any
    _: dataclasses.KW_ONLY
    intercept: bool = True

    def __post_init__(self) -> None:
        check_nonnegative("regularization", self.regularization)

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> LinearParams:
        """Coefficients and intercept; `key` is not used.

        Raises:
            ValueError: shapes disagree, no row, or values not finite.
        """
        features, target, weights = prepare(features, target, weights)
        return _fit(
            features, target, weights, self._penalty(features.dtype), **self._options()
        )

    def predict(
        self, params: LinearParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """Predictions at the rows of `features`."""
        coefficients = params.coefficients
        features = prepare_new(features, coefficients.shape[0], coefficients.dtype)
        return predict_linear(params, features)

    def leave_one_out(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """For each row, the prediction by the fit that left it out.

        A row of weight 0 is in no fit: it gets the prediction of the full one.
        """
        features, target, weights = prepare(features, target, weights)
        return _leave_one_out(
            features, target, weights, self._penalty(features.dtype), **self._options()
        )

    def mean_leave_one_out_fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> LinearParams:
        """The mean of the coefficients of the fits that leave one row out.

        Predicting with it equals the mean prediction over those fits. Rows of weight 0
        do not count.
        """
        features, target, weights = prepare(features, target, weights)
        return _mean_fit(
            features, target, weights, self._penalty(features.dtype), **self._options()
        )

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

    def _penalty(self, dtype: Any) -> Array:
        penalty = jnp.asarray(self.regularization, dtype)
        if penalty.ndim:
            raise ValueError(
                f"`regularization` must be a scalar, got shape {penalty.shape}; "
                "see learners.ridge_path for several at once"
            )
        return penalty

    def _options(self) -> dict[str, bool]:
        return {
            "intercept": self.intercept,
            "singular": not is_surely_positive(self.regularization),
        }


def _by_shape(name: str, data: tuple[Array, ...], intercept: bool, singular: bool):
    """The d x d system, or the n x n one for fewer rows than columns.

    The latter has no inverse without a penalty.
    """
    features, penalty = data[0], data[-1]
    primal = partial(
        getattr(_ridge_primal, name), *data, intercept=intercept, singular=singular
    )
    dual = partial(getattr(_ridge_dual, name), *data, intercept=intercept)
    if features.shape[0] >= features.shape[1]:
        return primal()
    if not singular:
        return dual()
    return jax.lax.cond(penalty > 0, dual, primal)


_jit = partial(jax.jit, static_argnames=("intercept", "singular"))


@_jit
def _fit(features, target, weights, penalty, *, intercept, singular):
    data = (features, target, weights, penalty)
    return _by_shape("fit", data, intercept, singular)


@_jit
def _leave_one_out(features, target, weights, penalty, *, intercept, singular):
    data = (features, target, weights, penalty)
    return _by_shape("leave_one_out", data, intercept, singular)


@_jit
def _mean_fit(features, target, weights, penalty, *, intercept, singular):
    data = (features, target, weights, penalty)
    return _by_shape("mean_fit", data, intercept, singular)
