"""The simulation of the follow-up paper (DGP-A) and every estimator run on it.

Five accuracies of the surrogate share the rows of a replication: what differs between
them is how many labels are flipped, not which rows were drawn.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import debiased, learners

NUM_ROWS, NUM_LABELED, NUM_VARIABLES = 5000, 500, 10
CORRELATION = 0.3
# X2 marks the upper fifth of a standard normal variable.
CUT = 0.8416212
ACCURACIES = (0.5, 0.7, 0.8, 0.9, 0.95)
COEFFICIENTS = ("1", "X1", "X1^2", "X2", "X4")
FIXED = ("surrogate only", "gold only", "DSL, raw surrogate", "DSL, cross-fitted")
TUNED = ("DSL, raw surrogate, tuned", "DSL, cross-fitted, tuned")
ESTIMATORS = FIXED + TUNED


def draw_rows(key: Array, uniforms: Array) -> tuple[Array, Array]:
    """Variables (n, 10) and gold labels (n,), drawn by `uniforms` (n,)."""
    normals = jax.random.normal(key, (uniforms.shape[0], NUM_VARIABLES + 1))
    common, own = normals[:, :1], normals[:, 1:]
    x = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own
    x = x.at[:, 1].set((x[:, 1] > CUT).astype(x.dtype))
    x1, x2, x3, x4, x6 = x[:, 0], x[:, 1], x[:, 2], x[:, 3], x[:, 5]
    eta = (
        0.1 * jax.nn.sigmoid(0.5 * x2 - 0.5 * x3)
        + 1.3 * x4 * jax.nn.sigmoid(0.1 * x2)
        + 1.5 * x4 * x6
        + 0.5 * x1 * x2
        + 1.3 * x1
        + x2
    )
    return x, (uniforms < jax.nn.sigmoid(eta)).astype(x.dtype)


def design_matrix(x: Array) -> Array:
    """Columns of the analysis: 1, X1, X1 squared, X2, X4."""
    ones = jnp.ones(x.shape[0], x.dtype)
    return jnp.stack([ones, x[:, 0], x[:, 0] ** 2, x[:, 1], x[:, 3]], axis=1)


def _features(x: Array, surrogate: Array) -> Array:
    """What the cross-fitted predictions see: surrogate, variables, three products."""
    products = [x[:, 3] * x[:, 5], x[:, 0] * x[:, 1], x[:, 0] ** 2]
    return jnp.concatenate([jnp.stack([surrogate, *products], axis=1), x], axis=1)


def _kept(result: debiased.EstimateResult) -> Array:
    """Estimates and standard errors, shape (2, 5).

    The standard errors of a fit that did not converge are NaN.
    """
    return jnp.stack([result.estimate, result.std_error])


def _one_accuracy(
    accuracy: Array, x: Array, y: Array, uniforms: Array, key: Array
) -> Array:
    """Every estimator on one surrogate, shape (2, estimators, 5)."""
    surrogate = jnp.where(uniforms < 1 - accuracy, 1 - y, y)
    # The rows are independent draws, so the first 500 are a simple random sample.
    labeled = jnp.arange(y.shape[0]) < y.shape[0] // (NUM_ROWS // NUM_LABELED)
    # A mask that is traced, so that nothing is decided by looking at it.
    labeled = labeled & (y >= 0)
    features = _features(x, surrogate)
    ridge = learners.Ridge(1.0)
    fitted = debiased.cross_fit(ridge, features, y, labeled=labeled, key=key)[0]
    everywhere = jnp.ones_like(labeled)
    X = design_matrix(x)

    def fixed(gold: Array, predicted: Array, seen: Array, tuning: Array) -> Array:
        result = debiased.logistic(
            X,
            gold,
            y_predicted=predicted,
            labeled=seen,
            design="srs",
            power_tuning=tuning,
        )
        return _kept(result)

    def tuned(predicted: Array) -> Array:
        result = debiased.logistic(X, y, y_predicted=predicted, labeled=labeled)
        return _kept(result)

    # The surrogate in the place of the gold label, known everywhere, is the regression
    # that trusts it; a multiple of 0 of the predictions leaves the gold labels alone.
    # One fit after the other: its rows stay in the cache, and the program compiles in
    # half the time that a batched one takes.
    plain = jax.lax.map(
        lambda arguments: fixed(*arguments),
        (
            jnp.stack([surrogate, y, y, y]),
            jnp.stack([surrogate, surrogate, surrogate, fitted]),
            jnp.stack([everywhere, labeled, labeled, labeled]),
            jnp.array([1.0, 0.0, 1.0, 1.0], y.dtype),
        ),
    )
    best = jax.lax.map(tuned, jnp.stack([surrogate, fitted]))
    return jnp.concatenate([plain, best]).swapaxes(0, 1)


def _one_replication(key: Array, accuracies: Array, num_rows: int) -> Array:
    key_rows, key_uniforms, key_folds = jax.random.split(key, 3)
    for_labels, for_flips = jax.random.uniform(key_uniforms, (2, num_rows))
    x, y = draw_rows(key_rows, for_labels)
    return jax.lax.map(
        lambda accuracy: _one_accuracy(accuracy, x, y, for_flips, key_folds),
        accuracies,
    )


@jax.jit(static_argnames=("num_rows",))
def _replications(keys: Array, accuracies: Array, *, num_rows: int) -> Array:
    def one(key: Array) -> Array:
        return _one_replication(key, accuracies, num_rows)

    return jax.lax.map(one, keys)


def replications(
    indices: Any,
    *,
    seed: int = 0,
    num_rows: int = NUM_ROWS,
    accuracies: Any = ACCURACIES,
) -> np.ndarray:
    """Estimates and standard errors of the replications with these numbers.

    A replication depends on the seed and its number alone.

    Args:
        indices: numbers of the replications, (r,).
        seed: of the whole study.
        num_rows: rows of each; a tenth of them is labelled.
        accuracies: of the surrogates, (a,).

    Returns:
        shape (r, a, 2, estimators, 5): estimates, then standard errors.
    """
    root = jax.random.key(seed)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(
        jnp.asarray(indices, jnp.uint32)
    )
    found = _replications(keys, jnp.asarray(accuracies, jnp.float32), num_rows=num_rows)
    return np.asarray(found, np.float64)
