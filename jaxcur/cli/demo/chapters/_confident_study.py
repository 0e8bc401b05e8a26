"""A classifier that is too sure of itself, over many splits of the same images."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import calibration
from jaxcur._base import import_extra

METHODS = ("as it is", "temperature", "isotonic")
AS_IS, TEMPERATURE, ISOTONIC = range(3)
# Rows that fit the classifier, and rows that teach it to doubt; the rest judge.
NUM_TRAIN, NUM_REPAIR = 300, 700
NUM_RESAMPLES = 999


class Judged(NamedTuple):
    """What the rows of one split that were not used say about a forecast.

    Attributes:
        confidence: mean probability of the answer that is likelier.
        accuracy: how often that answer is right.
        error: calibration error, 10 bins.
        log_loss: mean over rows.
        p_value: of Spiegelhalter's test, exact.
        null_p_value: the same where outcomes are drawn from the forecast itself.
    """

    confidence: Array
    accuracy: Array
    error: Array
    log_loss: Array
    p_value: Array
    null_p_value: Array


class Splits(NamedTuple):
    """Forecasts of rows that judge, and what they are worth.

    Attributes:
        probs: shape (splits, 3, rows), of an odd digit, by method.
        labels: shape (splits, rows).
        temperature: shape (splits,).
        judged: a `Judged` of NumPy arrays of shape (splits, 3).
    """

    probs: np.ndarray
    labels: np.ndarray
    temperature: np.ndarray
    judged: Any


def images() -> tuple[np.ndarray, np.ndarray]:
    """The 1797 digits that scikit-learn carries: pixels in [0, 1], and odd or not."""
    datasets = import_extra("sklearn.datasets", "sklearn")
    X, y = datasets.load_digits(return_X_y=True)
    return np.asarray(X, float) / 16, np.asarray(y) % 2


@jax.jit
def _repair(logits: Array, labels: Array, new: Array) -> tuple[Array, Array]:
    """New forecasts (3, rows), as they are and repaired, and the temperature."""
    scaled = calibration.fit_temperature(logits, labels)
    monotone = calibration.fit_isotonic(logits, labels)
    probs = jnp.stack([jax.nn.sigmoid(new), scaled(new), monotone(new)])
    return probs, scaled.temperature


@jax.jit
def judge(probs: Array, labels: Array, key: Array) -> Judged:
    """Scores of forecasts (rows,) against labels (rows,)."""
    key_test, key_null, key_labels = jax.random.split(key, 3)
    drawn = jax.random.uniform(key_labels, probs.shape) < probs

    def p_value(outcomes: Array, key: Array) -> Array:
        return calibration.spiegelhalter_test(
            probs,
            outcomes,
            method="monte_carlo",
            num_resamples=NUM_RESAMPLES,
            key=key,
        ).p_value

    labels = labels.astype(probs.dtype)
    return Judged(
        jnp.maximum(probs, 1 - probs).mean(),
        ((probs > 0.5) == (labels > 0.5)).mean(dtype=probs.dtype),
        calibration.expected_calibration_error(probs, labels, num_bins=10),
        calibration.log_loss(probs, labels),
        p_value(labels, key_test),
        p_value(drawn.astype(probs.dtype), key_null),
    )


def study(seed: int, num_splits: int) -> Splits:
    """Fit, repair and judge on random splits of the images."""
    linear_model = import_extra("sklearn.linear_model", "sklearn")
    X, y = images()
    rng = np.random.default_rng(seed)
    keys = jax.random.split(jax.random.key(seed), num_splits)
    found: list[tuple[np.ndarray, ...]] = []
    judged: list[Judged] = []
    for key in keys:
        order = rng.permutation(len(y))
        train, repair, judging = np.split(order, [NUM_TRAIN, NUM_TRAIN + NUM_REPAIR])
        model = linear_model.LogisticRegression(C=100.0, max_iter=1000)
        model.fit(X[train], y[train])
        logits = model.decision_function(X).astype(np.float32)
        probs, temperature = _repair(logits[repair], y[repair], logits[judging])
        found.append((np.asarray(probs), y[judging], np.asarray(temperature)))
        # The same draws for every method.
        scores = [judge(part, y[judging], key) for part in probs]
        judged.append(jax.tree.map(lambda *parts: np.stack(parts), *scores))
    probs, labels, temperature = (np.stack(part) for part in zip(*found, strict=True))
    return Splits(
        probs, labels, temperature, jax.tree.map(lambda *p: np.stack(p), *judged)
    )
