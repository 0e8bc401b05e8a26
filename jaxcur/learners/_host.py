"""Estimators of other libraries as learners."""

import copy
import dataclasses
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import check_choice, is_concrete
from jaxcur.learners._protocol import prepare, prepare_new

Method = Literal["predict", "predict_proba", "decision_function"]
_METHODS = ("predict", "predict_proba", "decision_function")


@dataclasses.dataclass(frozen=True)
class HostLearner:
    """An estimator with scikit-learn's `fit` and `predict`, run by NumPy on the host.

    It cannot be traced: no jit, no vmap; leave-one-out refits in a Python loop.

    Rows of weight 0 are removed before fitting. `sample_weight` is passed on only when
    the remaining weights are not all 1, since not every estimator takes it. The
    estimator given is copied and never changed.

    With a `key`, an estimator that has a `random_state` gets one derived from the key,
    the same for every fit. That makes it reproducible, not symmetric: a random forest
    draws its bootstrap by row position. Wrap it as
    `learners.SortedRows(learners.HostLearner(forest))` to make it so.

    Heuristic: no finite-sample guarantee on the predictions. Whether the fit depends on
    the order of the rows is up to the estimator: ask `learners.check_symmetric`.

    Args:
        estimator: an object with `fit(X, y)` and the method named.
        method: "predict", "predict_proba" (the last class's column) or
            "decision_function".

    Raises:
        TypeError: the estimator lacks `fit` or the method.

    Transformations: none.
    Cost: the estimator's.

    Source: the scikit-learn estimator interface.

    Example:
        >>> import numpy as np
        >>> from jaxcur import learners
        >>> class Mean:
        ...     def fit(self, X, y):
        ...         self.mean_ = y.mean()
        ...     def predict(self, X):
        ...         return np.full(len(X), self.mean_)
        >>> learner = learners.HostLearner(Mean())
        >>> x = np.zeros((3, 1))
        >>> learners.leave_one_out(learner, x, np.array([0.0, 1.0, 5.0]))
        Array([3. , 2.5, 0.5], dtype=float32)
    """

    estimator: Any
    method: Method = "predict"
    on_host: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choice("method", self.method, _METHODS)
        for name in ("fit", self.method):
            if not callable(getattr(self.estimator, name, None)):
                raise TypeError(
                    f"`estimator` must have a method {name}, got {self.estimator!r}"
                )

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> Any:
        """A fitted copy of the estimator.

        Raises:
            TypeError: called under a transformation of JAX.
        """
        if not is_concrete(features, target, weights):
            raise TypeError(
                "a HostLearner runs NumPy code and cannot be traced by jit or vmap; "
                "call it outside, or use a learner written in JAX"
            )
        prepared = prepare(features, target, weights)
        rows, labels, counts = (np.asarray(value) for value in prepared)
        kept = counts > 0
        rows, labels, counts = rows[kept], labels[kept], counts[kept]
        estimator = copy.deepcopy(self.estimator)
        if key is not None and "random_state" in _options(estimator):
            seed = int(jax.random.bits(key, dtype="uint32")) % 2**31
            estimator.set_params(random_state=seed)
        extra = {} if np.all(counts == 1) else {"sample_weight": counts}
        estimator.fit(rows, labels, **extra)
        return estimator

    def predict(self, params: Any, features: Real[ArrayLike, "m d"]) -> np.ndarray:
        """Predictions of the fitted copy, shape (m,)."""
        rows = np.asarray(features)
        rows = np.asarray(prepare_new(rows, rows.shape[-1], np.float32))
        values = np.asarray(getattr(params, self.method)(rows))
        if self.method == "predict_proba" and values.ndim == 2:
            # One class seen in training: the only column is its probability, 1.
            only_zero = values.shape[1] == 1 and not np.any(params.classes_)
            return np.zeros(len(values)) if only_zero else values[:, -1]
        return values.reshape(len(rows))


def _options(estimator: Any) -> dict[str, Any]:
    get = getattr(estimator, "get_params", None)
    return get() if get is not None and hasattr(estimator, "set_params") else {}
