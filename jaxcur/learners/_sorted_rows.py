"""Any learner made a function of the set of rows."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import is_concrete, register_dataclass
from jaxcur.learners._leave_one_out import check_learner, is_on_host
from jaxcur.learners._protocol import prepare


@register_dataclass
@dataclasses.dataclass(frozen=True)
class SortedRows:
    """A learner that sees the rows in an order fixed by their values.

    Rows are sorted by their first feature, ties by the second and so on, then by target
    and weight, before every fit. Equal rows are interchangeable, so whatever the inner
    learner does with row positions (minibatches, a bootstrap, dropout), the result is a
    function of the set of rows and of the key: exactly symmetric.

    Guarantee: the fit is the same for every order of the rows, to the last bit, if the
    inner learner is reproducible for a given key.
    Verified by: `jaxcur.learners.check_symmetric`.

    Args:
        learner: any learner.

    Raises:
        TypeError: `fit` is called and `learner` does not follow the protocol.

    Transformations: those of the inner learner, without its closed forms.
    Cost: the inner learner's, and a sort by d + 2 keys for each fit.

    Source: the definition of a function of a set.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> class FirstRow:
        ...     def fit(self, features, target, weights, *, key=None):
        ...         return target[0]
        ...     def predict(self, params, features):
        ...         return jnp.full(features.shape[0], params)
        >>> x, y = jnp.array([[2.0], [1.0], [3.0]]), jnp.array([5.0, 6.0, 7.0])
        >>> learners.SortedRows(FirstRow()).fit(x, y).item()
        6.0
        >>> report = learners.check_symmetric(
        ...     learners.SortedRows(FirstRow()), x, y, key=jax.random.key(0))
    """

    learner: Any

    @property
    def on_host(self) -> bool:
        """Whether the inner learner runs outside JAX."""
        return is_on_host(self.learner)

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> Any:
        """Fit the inner learner on the sorted rows."""
        check_learner(self.learner)
        features, target, weights = prepare(features, target, weights)
        # -0.0 and 0.0 are equal numbers and must not be told apart by the sort.
        columns = (weights + 0.0, target + 0.0, *(features.T[::-1] + 0.0))
        if self.on_host and is_concrete(features, target, weights):
            host = [np.asarray(value) for value in (features, target, weights)]
            order = np.lexsort([np.asarray(column) for column in columns])
            rows, labels, counts = (value[order] for value in host)
        else:
            order = jnp.lexsort(columns)
            rows, labels, counts = features[order], target[order], weights[order]
        return self.learner.fit(rows, labels, counts, key=key)

    def predict(self, params: Any, features: Real[ArrayLike, "m d"]) -> Any:
        """Predictions of the inner learner."""
        return self.learner.predict(params, features)
