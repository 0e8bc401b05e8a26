"""Refuse a learner whose output depends on the order of the rows."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur.learners._compile import compiled
from jaxcur.learners._leave_one_out import check_learner, is_on_host
from jaxcur.learners._protocol import Learner, prepare

_NUM_LEFT_OUT = 3
_REMEDY = (
    "What is fitted must be a function of the set of rows: use full-batch updates, "
    "draw nothing by row position, or wrap the learner in learners.SortedRows"
)


@dataclasses.dataclass(frozen=True)
class SymmetryReport:
    """What `check_symmetric` compared, when it found no difference.

    Attributes:
        max_difference: largest difference seen, relative to the size of the
            predictions.
        tolerance: the largest that was allowed.
        num_permutations: orders of the rows tried.
        checked: the outputs compared.
    """

    max_difference: float
    tolerance: float
    num_permutations: int
    checked: tuple[str, ...]


def check_symmetric(
    learner: Learner,
    features: Real[ArrayLike, "n d"],
    target: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    key: Any,
    num_permutations: int = 4,
    rtol: float | None = None,
) -> SymmetryReport:
    """Compare a learner's output between orders of the rows; refuse one that changes.

    Conformal selection that fits on the data it selects from is valid because
    exchanging a labelled row with a candidate changes nothing. A learner that shuffles
    by row index, takes minibatches in file order, draws a bootstrap or dropout by row
    position, or splits folds by index, breaks this silently.

    Compared are predictions of the full fit and of a few fits that leave a row out, at
    the rows and at points between them, and the learner's own closed forms where it has
    them. The learner gets the same key every time. Everything is computed in float64,
    where the order of a sum changes results by about 1e-15: what remains above the
    tolerance is a dependence on the order, however small.

    Guarantee: a learner that is refused gave different answers for the same set of
    rows. One that passes did not on the orders tried, on this data; that is evidence,
    not proof.

    Args:
        learner: any object with `fit` and `predict`.
        features: shape (n, d), at least two rows; a few dozen are enough.
        target: shape (n,).
        weights: shape (n,), row counts; ones when missing.
        key: PRNG key, for the orders and for the learner.
        num_permutations: orders tried: the reversed one, the one moved by one place,
            then random ones.
        rtol: largest difference allowed, relative to the largest prediction or to the
            spread of the target, whichever is larger. By default 1e-6 where the
            predictions are float64, and 1e-3 where the learner gives float32 anyway.

    Returns:
        A report of what was compared.

    Raises:
        ValueError: the output depends on the order of the rows, differs between two
            identical calls, or is NaN; or fewer than two rows.
        TypeError: `learner` does not follow the protocol.

    Transformations: none; a check on the host.
    Cost: `num_permutations + 2` times a few fits.

    Source: the exchangeability argument of conformal selection.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> class LastRow:
        ...     def fit(self, features, target, weights, *, key=None):
        ...         return target[-1]
        ...     def predict(self, params, features):
        ...         return jnp.full(features.shape[0], params)
        >>> x, y = jnp.arange(8.0)[:, None], jnp.arange(8.0)
        >>> report = learners.check_symmetric(
        ...     learners.Ridge(1.0), x, y, key=jax.random.key(0))
        >>> report.max_difference < 1e-12
        True
        >>> try:
        ...     learners.check_symmetric(LastRow(), x, y, key=jax.random.key(0))
        ... except ValueError as error:
        ...     print(str(error)[:47])
        `learner` depends on the order of the rows: its
    """
    check_learner(learner)
    if isinstance(num_permutations, bool) or num_permutations < 1:
        raise ValueError(
            f"`num_permutations` must be at least 1, got {num_permutations}"
        )
    key_learner, key_order = jax.random.split(key)
    with jax.enable_x64(True):
        data = prepare(
            np.asarray(features, np.float64),
            np.asarray(target, np.float64),
            None if weights is None else np.asarray(weights, np.float64),
        )
        host = tuple(np.asarray(value) for value in data)
        n = len(host[0])
        if n < 2:
            raise ValueError(f"`features` must have at least two rows, got {n}")
        orders = _orders(n, num_permutations, key_order)
        points = _points(host[0], orders[-1])
        left_out = np.unique(np.linspace(0, n - 1, _NUM_LEFT_OUT).astype(int))

        def outputs(order: np.ndarray, probe: Any) -> dict[str, np.ndarray]:
            return _outputs(learner, probe, host, order, points, left_out, key_learner)

        identity = np.arange(n)
        spread = float(np.std(host[1]))
        # Two programs for the two calls: randomness drawn while tracing, from NumPy
        # say, is frozen into a program and would look reproducible in one.
        again = outputs(identity, compiled(_probe, learner))
        probe = compiled(_probe, learner)
        reference = outputs(identity, probe)
        largest, tolerance = _compare(
            reference,
            again,
            spread,
            rtol,
            "`learner` gives different output on two identical calls: its {name} "
            "differs by {difference:.3g} relative to its size. Take all randomness "
            "from `key`",
        )
        for i, order in enumerate(orders):
            found, _ = _compare(
                reference,
                outputs(order, probe),
                spread,
                rtol,
                "`learner` depends on the order of the rows: its {name} changes by "
                "{difference:.3g} relative to its size when the same rows come in "
                f"another order (number {i + 1} of {num_permutations}; allowed is "
                "{tolerance:.1g}). " + _REMEDY,
            )
            largest = max(largest, found)
    return SymmetryReport(largest, tolerance, num_permutations, tuple(reference))


def _orders(n: int, count: int, key: Any) -> list[np.ndarray]:
    """Reversed, moved by one place, then random orders."""
    simple = [np.arange(n)[::-1], np.roll(np.arange(n), 1)]
    random = [
        np.asarray(jax.random.permutation(jax.random.fold_in(key, i), n))
        for i in range(count)
    ]
    return (simple + random)[:count]


def _points(rows: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The rows and points off them: a learner may reproduce its training rows exactly.

    Uneven weights keep the points from being equally far from both ends.
    """
    return np.concatenate([rows, 0.62 * rows + 0.38 * rows[order]])


def _probe(learner, features, target, weights, points, key):
    def one(counts: Array) -> Array:
        params = learner.fit(features, target, counts, key=key)
        return learner.predict(params, points)

    return jax.lax.map(one, weights)


def _outputs(
    learner: Any,
    probe: Any,
    data: tuple[np.ndarray, ...],
    order: np.ndarray,
    points: np.ndarray,
    left_out: np.ndarray,
    key: Any,
) -> dict[str, np.ndarray]:
    """Outputs on reordered rows, brought back to the original order."""
    features, target, weights = (value[order] for value in data)
    masks = np.repeat(data[2][None, :], len(left_out) + 1, axis=0)
    for i, row in enumerate(left_out):
        # A row that is the only one with weight stays: nothing else could be fitted.
        if np.count_nonzero(np.delete(data[2], row)):
            masks[i + 1, row] = 0
    masks = masks[:, order]
    if is_on_host(learner):
        predictions = []
        for mask in masks:
            params = learner.fit(features, target, mask, key=key)
            predictions.append(np.asarray(learner.predict(params, points)))
        values = np.stack(predictions)
    else:
        arrays = [jnp.asarray(x) for x in (features, target, masks, points)]
        values = np.asarray(probe(*arrays, key))
    found = {
        "prediction": values[0],
        "prediction with a row left out": values[1:],
    }
    own = getattr(learner, "leave_one_out", None)
    if own is not None:
        value = np.asarray(own(*(jnp.asarray(x) for x in (features, target, weights))))
        back = np.zeros_like(value)
        back[order] = value
        found["leave_one_out"] = back
    mean = getattr(learner, "mean_leave_one_out_predict", None)
    if mean is not None:
        arrays = [jnp.asarray(x) for x in (features, target, points, weights)]
        found["mean_leave_one_out_predict"] = np.asarray(mean(*arrays))
    return found


def _compare(
    reference: dict[str, np.ndarray],
    other: dict[str, np.ndarray],
    spread: float,
    rtol: float | None,
    message: str,
) -> tuple[float, float]:
    largest, widest = 0.0, 0.0
    for name, left in reference.items():
        right = other[name]
        tolerance = rtol
        if tolerance is None:
            tolerance = 1e-6 if left.dtype == np.float64 else 1e-3
        if np.isnan(left).any() or np.isnan(right).any():
            raise ValueError(
                f"`learner` gives NaN in its {name} on this data, so there is nothing "
                "to compare; check it on data it can be fitted to"
            )
        size = max(float(np.max(np.abs(left))), spread)
        gap = float(np.max(np.abs(left - right)))
        difference = gap / size if size > 0 else gap
        if difference > tolerance:
            raise ValueError(
                message.format(name=name, difference=difference, tolerance=tolerance)
            )
        largest, widest = max(largest, difference), max(widest, tolerance)
    return largest, widest
