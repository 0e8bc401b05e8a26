"""Leave-one-out predictions of any learner: by its formula, or by refitting."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.learners._compile import run_compiled
from jaxcur.learners._protocol import Learner, prepare, prepare_new
from jaxcur.learners._ridge import Ridge

_BATCH_ENTRIES = 2**24
# Closed forms fast enough for a second look at all values to be felt.
_CHECKS_VALUES = (Ridge,)


def check_learner(learner: Any) -> None:
    """Raise unless `learner` follows the protocol."""
    if isinstance(learner, type) or not isinstance(learner, Learner):
        raise TypeError(
            "`learner` must be an object with methods fit(features, target, weights, "
            "*, key=None) and predict(params, features), for example "
            f"learners.Ridge(1.0); got {learner!r}"
        )


def is_on_host(learner: Any) -> bool:
    """Whether the learner computes outside JAX and cannot be traced."""
    return bool(getattr(learner, "on_host", False))


def _batch(batch_size: int | None, n: int, d: int) -> int:
    if batch_size is None:
        return max(1, min(n, _BATCH_ENTRIES // (n * (d + 16))))
    if isinstance(batch_size, bool) or not isinstance(batch_size, int):
        raise TypeError(f"`batch_size` must be an integer, got {batch_size!r}")
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive, got {batch_size}")
    return min(batch_size, n)


def leave_one_out(
    learner: Learner,
    features: Real[ArrayLike, "n d"],
    target: Real[ArrayLike, " n"],
    weights: Real[ArrayLike, " n"] | None = None,
    *,
    key: Any = None,
    batch_size: int | None = None,
) -> Float[Array, " n"]:
    """For each row, the prediction by the fit that left the row out.

    Uses the learner's own `leave_one_out` where it has one. Otherwise refits n times in
    one program, each time with the weight of one row set to 0, so that all fits have
    the same shape. Every refit gets the same `key`: a key for each row would tie the
    randomness to the position of the row, and the result would not be symmetric.

    A row of weight 0 is in no fit; it gets the prediction of the full one.

    Guarantee: none on the predictions. They are a symmetric function of the rows
    whenever the learner's fit is one, which `learners.check_symmetric` tests.

    Args:
        learner: any object with `fit` and `predict`; static unless it is a pytree.
        features: shape (n, d).
        target: shape (n,).
        weights: shape (n,), row counts; ones when missing.
        key: PRNG key for learners whose fit is randomised.
        batch_size: fits that run at once when refitting; by default as many as keep a
            batch near 2^24 numbers. A closed form that takes no batch size ignores it.
            Static.

    Returns:
        shape (n,), out-of-sample predictions.

    Raises:
        ValueError: shapes disagree, values not finite, or `batch_size` < 1.
        TypeError: `learner` does not follow the protocol.

    Transformations: jit and vmap over the data, except for learners on the host.
    Cost: the closed form's, or n fits; memory that of `batch_size` fits.

    Source: the definition.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
        >>> y = jnp.array([0.0, 1.0, 2.0, 6.0])
        >>> learners.leave_one_out(learners.Ridge(0.0), x, y)[3].round(3)
        Array(3., dtype=float32)
    """
    check_learner(learner)
    own = getattr(learner, "leave_one_out", None)
    features, target, weights = prepare(
        features, target, weights, values=not isinstance(learner, _CHECKS_VALUES)
    )
    n, d = features.shape
    if own is not None:
        _batch(batch_size, n, d)
        extra: dict[str, Any] = {}
        accepted = inspect.signature(own).parameters
        if key is not None and "key" in accepted:
            extra["key"] = key
        if batch_size is not None and "batch_size" in accepted:
            extra["batch_size"] = batch_size
        return jnp.asarray(own(features, target, weights, **extra))
    if is_on_host(learner):
        return _on_host(learner, features, target, weights, key, None)
    return run_compiled(
        _refit,
        learner,
        features,
        target,
        weights,
        key,
        batch_size=_batch(batch_size, n, d),
    )


def mean_leave_one_out_predict(
    learner: Learner,
    features: Real[ArrayLike, "n d"],
    target: Real[ArrayLike, " n"],
    new_features: Real[ArrayLike, "m d"],
    weights: Real[ArrayLike, " n"] | None = None,
    *,
    key: Any = None,
    batch_size: int | None = None,
) -> Float[Array, " m"]:
    """At each new row, the mean prediction over the fits that leave one row out.

    This is a symmetric predictor for rows outside the data that uses the same fits as
    `leave_one_out`. Uses the learner's own method where it has one (ridge and kernel
    ridge: the mean of the coefficients), and refits otherwise. Rows of weight 0 are not
    left out, so they do not count in the mean.

    Guarantee: none on the predictions; symmetric in the rows whenever the fit is.

    Args:
        learner: any object with `fit` and `predict`; static unless it is a pytree.
        features: shape (n, d).
        target: shape (n,).
        new_features: shape (m, d).
        weights: shape (n,), row counts; ones when missing.
        key: PRNG key for learners whose fit is randomised; the same for every fit.
        batch_size: fits that run at once when refitting. Static.

    Returns:
        shape (m,).

    Raises:
        ValueError: shapes disagree, values not finite, or `batch_size` < 1.
        TypeError: `learner` does not follow the protocol.

    Transformations: jit and vmap over the data, except for learners on the host.
    Cost: one more solve than a fit with the closed form; n fits and n predictions of m
    rows otherwise.

    Source: the definition.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> y = jnp.array([0.0, 1.0, 2.0])
        >>> new = jnp.array([[5.0]])
        >>> learners.mean_leave_one_out_predict(learners.Ridge(0.0), x, y, new).round(3)
        Array([5.], dtype=float32)
    """
    check_learner(learner)
    features, target, weights = prepare(features, target, weights)
    n, d = features.shape
    new_features = prepare_new(new_features, d, features.dtype)
    size = _batch(batch_size, n, d)
    own = getattr(learner, "mean_leave_one_out_predict", None)
    if own is not None:
        return jnp.asarray(own(features, target, new_features, weights))
    if is_on_host(learner):
        return _on_host(learner, features, target, weights, key, new_features)
    return run_compiled(
        _refit_mean,
        learner,
        features,
        target,
        weights,
        new_features,
        key,
        batch_size=size,
    )


def _without(
    learner: Any, features: Array, target: Array, weights: Array, key: Any, index: Array
) -> Any:
    return learner.fit(features, target, weights.at[index].set(0), key=key)


def _refit(learner, features, target, weights, key, *, batch_size):
    def one(index: Array) -> Array:
        params = _without(learner, features, target, weights, key, index)
        row = jax.lax.dynamic_slice_in_dim(features, index, 1)
        return learner.predict(params, row)[0]

    index = jnp.arange(features.shape[0])
    return jax.lax.map(one, index, batch_size=batch_size)


def _refit_mean(learner, features, target, weights, new_features, key, *, batch_size):
    n = features.shape[0]

    # Sums over the fits of a batch, added up batch by batch: n fits of m predictions
    # are never held at once.
    def batch(total: Array, index: Array) -> tuple[Array, None]:
        def one(i: Array) -> Array:
            params = _without(learner, features, target, weights, key, i)
            return learner.predict(params, new_features)

        predictions = jax.vmap(one)(jnp.minimum(index, n - 1))
        counted = (index < n) & (weights[jnp.minimum(index, n - 1)] > 0)
        part = jnp.sum(jnp.where(counted[:, None], predictions, 0), axis=0)
        return total + part, None

    count = -(-n // batch_size)
    index = jnp.arange(count * batch_size).reshape(count, batch_size)
    zero = jnp.zeros(new_features.shape[0], new_features.dtype)
    total, _ = jax.lax.scan(batch, zero, index)
    return total / jnp.sum(weights > 0, dtype=total.dtype)


def _on_host(
    learner: Any,
    features: Array,
    target: Array,
    weights: Array,
    key: Any,
    new_features: Array | None,
) -> Array:
    """Refit in a Python loop, for learners that JAX cannot trace."""
    rows, labels, counts = (np.asarray(x) for x in (features, target, weights))
    if new_features is None:
        values = np.zeros(len(rows), rows.dtype)
        for i in range(len(rows)):
            kept = np.where(np.arange(len(rows)) == i, 0, counts)
            params = learner.fit(rows, labels, kept, key=key)
            values[i] = np.asarray(learner.predict(params, rows[i : i + 1]))[0]
        return jnp.asarray(values)
    present = np.flatnonzero(counts > 0)
    total = np.zeros(new_features.shape[0])
    for i in present:
        kept = np.where(np.arange(len(rows)) == i, 0, counts)
        params = learner.fit(rows, labels, kept, key=key)
        total += np.asarray(learner.predict(params, np.asarray(new_features)))
    return jnp.asarray(total / len(present), features.dtype)
