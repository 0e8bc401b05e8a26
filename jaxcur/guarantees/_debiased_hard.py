"""Worlds that strain the promise: hostile predictions, uneven designs, clusters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import debiased
from jaxcur.guarantees._debiased_problem import Problem, Size, draw_labels, first_rows
from jaxcur.guarantees._debiased_worlds import (
    LINEAR,
    LOGISTIC,
    MEAN,
    binary_mean,
    binary_regression,
    covariates,
    flipped,
    split_keys,
)

ADVERSARIES = ("reversed", "one-sided", "constant", "noise", "heavy-shift")
CLUSTER_SIZE = 10
LEAST_PROB = 0.03


def adversaries(key: Array, y: Array, x: Array) -> Array:
    """Predictions of each of ADVERSARIES, (5, rows).

    The opposite; the label where x > 0 and 0 elsewhere; one number; a coin; the label
    plus a shift with a tail of Student's t with three degrees of freedom.
    """
    first, second = jax.random.split(key)
    coin = (jax.random.uniform(first, y.shape) < 0.5).astype(y.dtype)
    z = jax.random.normal(second, (4, *y.shape))
    student = z[0] / jnp.sqrt(jnp.mean(z[1:] ** 2, axis=0))
    one_sided = jnp.where(x > 0, y, 0)
    return jnp.stack([1 - y, one_sided, jnp.full_like(y, 0.4), coin, y + 2 + student])


def hostile_mean(key: Array, size: Size) -> Problem:
    """A mean with every adversary; predictions have a leading axis."""
    data, machine = split_keys(key, 2)
    x, y = binary_mean(data, size.rows)
    guess = {"y": adversaries(machine, y, x)}
    return Problem(debiased.mean, {"y": y}, guess, first_rows(size), np.array([MEAN]))


def hostile_logistic(key: Array, size: Size) -> Problem:
    """A logistic regression with every adversary."""
    data, machine = split_keys(key, 2)
    X, y = binary_regression(data, size.rows)
    guess = {"y": adversaries(machine, y, X[:, 1])}
    return Problem(
        debiased.logistic, {"X": X, "y": y}, guess, first_rows(size), LOGISTIC
    )


def rare_labels(key: Array, x: Array, size: Size) -> dict[str, Any]:
    """Probabilities from LEAST_PROB upwards, by a covariate known beforehand."""
    top = 2 * size.share - LEAST_PROB
    prob = LEAST_PROB + (top - LEAST_PROB) * jax.scipy.special.ndtr(x)
    return draw_labels(key, prob, x.shape[0])


def rare_mean(key: Array, size: Size) -> Problem:
    """A mean where some rows have three chances in a hundred of a label."""
    keys = split_keys(key, 3)
    x, y = binary_mean(keys[0], size.rows)
    guess = {"y": flipped(keys[1], y, x)}
    design = rare_labels(keys[2], x, size)
    return Problem(debiased.mean, {"y": y}, guess, design, np.array([MEAN]))


def rare_logistic(key: Array, size: Size) -> Problem:
    """A logistic regression with the same design."""
    keys = split_keys(key, 3)
    X, y = binary_regression(keys[0], size.rows)
    guess = {"y": flipped(keys[1], y, X[:, 1])}
    extra = jax.random.normal(jax.random.fold_in(keys[2], 1), y.shape)
    design = rare_labels(keys[2], 0.5 * X[:, 1] + np.sqrt(0.75) * extra, size)
    return Problem(debiased.logistic, {"X": X, "y": y}, guess, design, LOGISTIC)


def clusters(key: Array, size: Size) -> Problem:
    """Groups of ten rows share a covariate and part of the noise."""
    keys = split_keys(key, 4)
    groups = size.rows // CLUSTER_SIZE
    group = np.arange(size.rows) // CLUSTER_SIZE
    X = covariates(keys[0], groups)[group]
    shared, own, noise = jax.random.normal(keys[1], (3, size.rows))
    shared = shared[:groups][group]
    y = X @ LINEAR.astype(X.dtype) + 0.8 * shared + 0.8 * own
    guess = {"y": 0.9 * y + 0.2 * X[:, 1] + 0.5 * noise}
    design = draw_labels(keys[2], size.share, size.rows) | {"clusters": group}
    return Problem(debiased.ols, {"X": X, "y": y}, guess, design, LINEAR)


def shifted_mean(key: Array, size: Size) -> Problem:
    """A raw machine with a large bias, a fixed number of labels, no tuning."""
    e, noise = jax.random.normal(key, (2, size.rows))
    y = 1 + e
    guess = {"y": 0.9 * y + 3 + 0.4 * noise}
    design = first_rows(size) | {"power_tuning": None}
    return Problem(debiased.mean, {"y": y}, guess, design, np.array([1.0]))


def strata(key: Array, size: Size) -> Problem:
    """Two strata, fixed numbers of labels in each: more in the one with fewer y = 1."""
    keys = split_keys(key, 3)
    rows = np.arange(size.rows)
    # Exchangeable rows, so that the strata may as well be sorted.
    cut = jnp.sum(jax.random.uniform(keys[0], (size.rows,)) < 0.5, dtype=jnp.int32)
    second = rows >= cut
    rate = jnp.where(second, MEAN + 0.2, MEAN - 0.2)
    u, x = jax.random.uniform(keys[1], (2, size.rows))
    y = (u < rate).astype(u.dtype)
    guess = {"y": flipped(keys[2], y, x - 0.5)}
    early, late = 7 * size.labels // 10, 3 * size.labels // 10
    labeled = (rows < early) | (rows >= size.rows - late)
    design = {"labeled": labeled, "strata": second.astype(jnp.int32)}
    return Problem(debiased.mean, {"y": y}, guess, design, np.array([MEAN]))


UNBIASED_ROWS, UNBIASED_RANGE = 60, (-3.0, 4.0)


def unbiased_mean(key: Array) -> Problem:
    """Sixty rows, a machine that says the opposite, labels likelier where it says 1.

    Probabilities are at least a quarter, so the estimate lies in UNBIASED_RANGE.
    """
    data, labels = split_keys(key, 2)
    _, y = binary_mean(data, UNBIASED_ROWS)
    guess = 1 - y
    prob = jnp.where(guess > 0.5, 0.75, 0.25)
    design = draw_labels(labels, prob, UNBIASED_ROWS) | {"power_tuning": None}
    return Problem(debiased.mean, {"y": y}, {"y": guess}, design, np.array([MEAN]))


MACHINES = ("useless", "medium", "good")
_TRUST = np.array([[0.0, 1.4], [0.7, 1.0], [1.0, 0.5]])
"""Weights of the outcome and of noise in each machine's prediction."""


def tuned(key: Array, size: Size) -> Problem:
    """Linear regression by three machines; probabilities graded from .05 to .30.

    Predictions and probabilities have a leading axis, one machine each.
    """
    keys = split_keys(key, 4)
    X = covariates(keys[0], size.rows)
    e, noise = jax.random.normal(keys[1], (2, size.rows))
    y = X @ LINEAR.astype(X.dtype) + e
    trust = jnp.asarray(_TRUST, X.dtype)
    guess = 1 + trust[:, :1] * (y - 1) + trust[:, 1:] * noise
    prob = 0.05 + 0.25 * jax.scipy.special.expit(1.5 * (guess - 1))
    design = draw_labels(keys[2], prob, size.rows)
    return Problem(debiased.ols, {"X": X, "y": y}, {"y": guess}, design, LINEAR)


TUNED, TUNED_LARGE = Size(2900, 507), Size(11500, 2012)
