"""All fits of a cross-fit: in one program, or one after the other on the host."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import is_concrete
from jaxcur.debiased._cross_fit_ridge import predict_by_moments

# Labelled rows a fit needs to be a fit at all.
LEAST_LABELED = 2
# Numbers held at once by the fits that run together.
_BATCH_ENTRIES = 2**24


def training_rows(marked: np.ndarray) -> Array:
    """Indices of the labelled rows, filled up with n to one of a few lengths.

    Each length is one more program; a step of an eighth wastes little.
    """
    rows = np.flatnonzero(marked)
    step = max(8, 2 ** (len(rows).bit_length() - 4))
    filled = np.full(-(-len(rows) // step) * step, len(marked))
    filled[: len(rows)] = rows
    return jnp.asarray(filled[: len(marked)], jnp.int32)


def fit_all(
    learner: Any,
    features: Array,
    target: Array,
    weights: Array,
    places: Array,
    rows: Array | None,
    key: Any,
    *,
    num_folds: int,
) -> Array:
    """Predictions (num_splits, n, ...) from one program."""
    n, d = features.shape
    num_splits = places.shape[0]
    trained, train_places = features, places
    if rows is not None:
        # The fits need not see rows that are known to have no label.
        real = rows < n
        rows = jnp.minimum(rows, n - 1)
        trained, train_places = features[rows], places[:, rows]
        target = target[rows]
        weights = jnp.where(real, weights[rows], 0)
    at_once = max(1, _BATCH_ENTRIES // (trained.shape[0] * (d + 16) + 4 * n + 1))

    def one(split: Array, fold: Array) -> Array:
        inside = train_places[split] == fold
        kept = jnp.where(inside, 0, weights)
        shown = jnp.where(inside, 0, target)
        own = None
        if key is not None:
            own = jax.random.fold_in(jax.random.fold_in(key, split), fold)
        params = learner.fit(trained, shown, kept, key=own)
        found = jnp.asarray(learner.predict(params, features))
        _check_predictions(learner, found.shape, n)
        enough = jnp.sum(kept > 0) >= LEAST_LABELED
        # A weight that is no number is a bad probability, not an absent row.
        enough &= ~jnp.any(jnp.isnan(kept))
        return jnp.where(enough, found, jnp.nan)

    def choose(split: Array, fold: Array, found: Array, otherwise: Array) -> Array:
        inside = places[split] == fold
        inside = inside.reshape(inside.shape + (1,) * (found.ndim - 1))
        return jnp.where(inside, found, otherwise)

    shape = jax.eval_shape(one, jnp.int32(0), jnp.int32(0))
    # Rows whose fold is none of those expected keep the NaN.
    missing = jnp.full(shape.shape, jnp.nan, shape.dtype)
    indices = jnp.arange(num_folds, dtype=jnp.int32)

    def together(split: Array) -> Array:
        found = jax.vmap(lambda fold: one(split, fold))(indices)
        result = missing
        for fold in range(num_folds):
            result = choose(split, indices[fold], found[fold], result)
        return result

    def in_turn(split: Array) -> Array:
        def body(fold: Array, result: Array) -> Array:
            return choose(split, fold, one(split, fold), result)

        return jax.lax.fori_loop(0, num_folds, body, missing)

    splits = jnp.arange(num_splits, dtype=jnp.int32)
    if at_once < num_folds:
        return jax.lax.map(in_turn, splits)
    if num_splits == 1:
        return together(splits[0])[None]
    if at_once >= num_folds * num_splits:
        return jax.vmap(together)(splits)
    return jax.lax.map(together, splits, batch_size=at_once // num_folds)


def fit_ridge(
    learner: Any,
    features: Array,
    target: Array,
    weights: Array,
    orders: Array,
    *,
    num_folds: int,
) -> Array:
    """`fit_all` for ridge regression on partitions that are blocks of `orders`."""
    n, d = features.shape

    def one(order: Array) -> Array:
        return predict_by_moments(
            learner,
            features,
            target,
            weights,
            order,
            num_folds=num_folds,
            least=LEAST_LABELED,
        )

    at_once = max(1, _BATCH_ENTRIES // (n * (d + 16) + 1))
    if orders.shape[0] == 1:
        # An axis of length one would cost the gather of rows its fast layout.
        return one(orders[0])[None]
    if at_once >= orders.shape[0]:
        return jax.vmap(one)(orders)
    return jax.lax.map(one, orders, batch_size=at_once)


def _check_predictions(learner: Any, shape: tuple[int, ...], n: int) -> None:
    if shape[:1] != (n,) or len(shape) > 2:
        raise ValueError(
            f"`learner` must predict shape ({n},) or ({n}, k) for {n} rows; "
            f"{type(learner).__name__} gives {shape}"
        )


def fit_on_host(
    learner: Any,
    features: Array,
    target: Array,
    weights: Array,
    places: Array,
    key: Any,
) -> Array:
    """Fits in a Python loop, for learners that JAX cannot trace."""
    if not is_concrete(features, target, weights, places):
        raise TypeError(
            f"`learner` {type(learner).__name__} runs on the host and cannot be traced "
            "by jit or vmap; call cross_fit outside, or use a learner written in JAX"
        )
    rows, labels, counts = (np.asarray(x) for x in (features, target, weights))
    results = []
    for split, place in enumerate(np.asarray(places)):
        result = None
        for fold in np.unique(place):
            inside = place == fold
            own = None
            if key is not None:
                own = jax.random.fold_in(jax.random.fold_in(key, split), int(fold))
            params = learner.fit(
                rows, np.where(inside, 0, labels), np.where(inside, 0, counts), key=own
            )
            found = np.asarray(learner.predict(params, rows[inside]))
            _check_predictions(learner, found.shape, int(inside.sum()))
            if result is None:
                result = np.full((len(rows), *found.shape[1:]), np.nan, rows.dtype)
            result[inside] = found
        results.append(result)
    return jnp.asarray(np.stack(results))
