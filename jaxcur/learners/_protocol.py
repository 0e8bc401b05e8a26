"""The protocol every fitted predictor follows, and the checks they share."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import as_float, check_rank, check_same_length, is_concrete


@runtime_checkable
class Learner(Protocol):
    """A method that learns to predict a target from features.

    A learner is an immutable description (its options); what it learned is in the
    `params` that `fit` returns. Any object with these two methods is a learner.

    Two optional methods replace refitting by a formula where there is one:

    * `leave_one_out(features, target, weights)`, shape (n,): for each row, the
      prediction by the fit that left the row out;
    * `mean_leave_one_out_predict(features, target, new_features, weights)`, shape (m,):
      at each new row, the mean prediction over the n fits that left one row out.

    `weights` count rows: a row of weight 2 acts as two equal rows, a row of weight 0 as
    an absent one (it still gets a prediction). A learner that calls NumPy or another
    library, and so cannot be traced by JAX, sets `on_host = True`.

    Validity of conformal selection after fitting on the data it selects from rests on
    one property: the fit must be a function of the *set* of rows, not of their order.
    `learners.check_symmetric` tests it.
    """

    def fit(
        self, features: Any, target: Any, weights: Any = None, *, key: Any = None
    ) -> Any:
        """Learn from features (n, d), target (n,), weights (n,); returns the params."""
        ...

    def predict(self, params: Any, features: Any) -> Any:
        """Predictions (m,) at features (m, d)."""
        ...


class LinearParams(NamedTuple):
    """A fitted linear predictor.

    Attributes:
        coefficients: shape (d,).
        intercept: scalar.
    """

    coefficients: Array
    intercept: Array


def predict_linear(params: LinearParams, features: Array) -> Array:
    """The linear predictor of `params` at features (m, d)."""
    product = jnp.matmul(features, params.coefficients, precision="highest")
    return product + params.intercept


@jax.jit
def _first_problem(features: Array, target: Array, weights: Array) -> Array:
    # One pass over each array and one transfer to the host. A sum of zeros is NaN as
    # soon as one entry is not finite, and several times faster than a reduction of
    # booleans.
    return jnp.stack(
        [
            jnp.isnan(jnp.sum(features * 0)),
            jnp.isnan(jnp.sum(target * 0)),
            ~(jnp.isfinite(weights) & (weights >= 0)).all(),
            ~(weights > 0).any(),
        ]
    )


def prepare(
    features: Any, target: Any, weights: Any, *, values: bool = True
) -> tuple[Array, Array, Array]:
    """Check the training data and convert it to one float dtype.

    Missing weights become ones. Values are checked only where they are concrete, and
    not with `values=False`, for callers whose callee checks them.
    """
    if weights is None:
        features, target = as_float(features=features, target=target)
        weights = jnp.ones(features.shape[:1], features.dtype)
    else:
        features, target, weights = as_float(
            features=features, target=target, weights=weights
        )
    check_rank("features", features, 2, "(n, d)")
    check_rank("target", target, 1)
    check_rank("weights", weights, 1)
    check_same_length("target", target, "features", features)
    check_same_length("weights", weights, "features", features)
    if features.shape[0] == 0 or features.shape[1] == 0:
        raise ValueError(
            "`features` must have at least one row and one column, "
            f"got shape {features.shape}"
        )
    if values and is_concrete(features, target, weights):
        problems = np.asarray(_first_problem(features, target, weights))
        if problems.any():
            raise ValueError(
                (
                    "`features` must be finite; remove or impute the rows that are not",
                    "`target` must be finite; remove the rows that are not",
                    "`weights` must be finite and nonnegative",
                    "`weights` must not all be zero: nothing is left to learn from",
                )[int(problems.argmax())]
            )
    return features, target, weights


def prepare_new(features: Any, num_columns: int, dtype: Any) -> Array:
    """Check features to predict at against what was fitted."""
    (features,) = as_float(features=features)
    check_rank("features", features, 2, "(m, d)")
    if features.shape[1] != num_columns:
        raise ValueError(
            f"`features` must have the {num_columns} columns of the fit, "
            f"got shape {features.shape}"
        )
    return features.astype(jnp.promote_types(features.dtype, dtype))


def check_nonnegative(name: str, value: Any) -> None:
    """Raise on a negative or NaN scalar; skipped for what is no number yet.

    Arrays of JAX are let through: gradients and vmapped axes pass through the same
    constructors and may be anything.
    """
    if isinstance(value, (int, float, np.number)) and not float(value) >= 0:
        raise ValueError(f"`{name}` must be nonnegative, got {value}")


def check_callable(name: str, value: Any) -> None:
    """Raise unless `value` is a kernel-like callable."""
    if not callable(value):
        raise TypeError(
            f"`{name}` must be a callable of two arrays of rows, got {value!r}; "
            "for example learners.RBF(1.0)"
        )


def is_surely_positive(value: Any) -> bool:
    """Whether a concrete scalar is positive; False while it is traced."""
    return is_concrete(value) and np.ndim(value) == 0 and float(value) > 0
