"""Regression on machine labels, gold labels, and both, over many draws of patients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import data, debiased

NUM_ROWS = 3_000
NUM_GOLD = 300
CONFIDENCE = 0.95
THRESHOLD = 140.0
# What is asked for, and how the columns are called in the bundled data.
COVARIATES = {"bmi": "body mass", "bp": "blood pressure", "s5": "blood fat"}
COEFFICIENTS = ("intercept", *COVARIATES.values())
RULES = ("machine labels", "gold labels", "debiased")

# The machine errs in one patient in eight. A heavy patient whose disease stood still it
# takes for progressed, a light one whose disease progressed for not progressed.
_ERROR, _BODY = -1.9, 0.8


class Population(NamedTuple):
    """All patients there are.

    Attributes:
        X: shape (442, 4): ones and three standardised measurements.
        y: shape (442,), 1 where the disease progressed beyond the threshold.
        mistake: shape (442,), chance that the machine gets the patient wrong.
        truth: shape (4,), the logistic regression over all of them.
    """

    X: Array
    y: Array
    mistake: Array
    truth: Array

    @property
    def accuracy(self) -> float:
        """How often the machine is right."""
        return 1 - float(self.mistake.mean())


class Draw(NamedTuple):
    """One study: patients, machine labels for all, gold labels for the first rows."""

    X: Array
    y: Array
    machine: Array
    labeled: Array


class Found(NamedTuple):
    """What each rule says, over all draws.

    Attributes:
        estimate: shape (draws, rules, 4).
        interval: shape (draws, rules, 4, 2).
        truth: shape (4,).
    """

    estimate: np.ndarray
    interval: np.ndarray
    truth: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        """Whether the interval holds the truth, shape (draws, rules, 4)."""
        low, high = self.interval[..., 0], self.interval[..., 1]
        return (low <= self.truth) & (self.truth <= high)

    @property
    def width(self) -> np.ndarray:
        """Shape (draws, rules, 4)."""
        return self.interval[..., 1] - self.interval[..., 0]


def load() -> Population:
    """The bundled patients, a machine that misreads some, and the truth about them."""
    patients = data.load_diabetes()
    places = [patients.feature_names.index(name) for name in COVARIATES]
    chosen = patients.features[:, places]
    chosen = (chosen - chosen.mean(axis=0)) / chosen.std(axis=0)
    X = np.concatenate([np.ones((len(chosen), 1)), chosen], axis=1)
    y = (patients.progression > THRESHOLD).astype(float)
    leaning = np.where(y == 1, -_BODY, _BODY) * chosen[:, 0]
    mistake = 1 / (1 + np.exp(-(_ERROR + leaning)))
    return Population(
        jnp.asarray(X, jnp.float32),
        jnp.asarray(y, jnp.float32),
        jnp.asarray(mistake, jnp.float32),
        jnp.asarray(_whole_fit(X, y), jnp.float32),
    )


def _whole_fit(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coefficients over all patients, by Newton steps in float64."""
    theta = np.zeros(X.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-(X @ theta)))
        theta += np.linalg.solve((X * (p * (1 - p))[:, None]).T @ X, X.T @ (y - p))
    return theta


def draw(key: Array, population: Population) -> Draw:
    """Patients drawn with replacement, read by the machine; 300 of them by an expert.

    The rows are independent, so the first ones are a random sample of them.
    """
    uniforms = jax.random.uniform(key, (2, NUM_ROWS))
    size = population.y.shape[0]
    rows = jnp.minimum((uniforms[0] * size).astype(jnp.int32), size - 1)
    y = population.y[rows]
    wrong = uniforms[1] < population.mistake[rows]
    machine = jnp.where(wrong, 1 - y, y)
    return Draw(population.X[rows], y, machine, jnp.arange(NUM_ROWS) < NUM_GOLD)


def _fits(one: Draw) -> tuple[Array, Array]:
    """Estimates (rules, 4) and intervals (rules, 4, 2).

    One program serves the three rules. Trusting the machine is taking its labels for
    gold everywhere; leaving it out is giving the other rows no weight.
    """
    everywhere = jnp.ones_like(one.labeled)
    ones = jnp.ones_like(one.y)

    def fit(gold: Array, predicted: Array, labeled: Array, weights: Array):
        result = debiased.logistic(
            one.X,
            gold,
            y_predicted=predicted,
            labeled=labeled,
            weights=weights,
            design="srs",
        )
        return result.estimate, result.conf_int(CONFIDENCE)

    # One fit after the other: that compiles in half the time of a batch of them.
    return jax.lax.map(
        lambda arguments: fit(*arguments),
        (
            jnp.stack([one.machine, one.y, one.y]),
            jnp.stack([one.machine, one.y, one.machine]),
            jnp.stack([everywhere, everywhere, one.labeled]),
            jnp.stack([ones, one.labeled.astype(ones.dtype), ones]),
        ),
    )


@jax.jit
def _study(keys: Array, population: Population) -> tuple[Array, Array]:
    def one(key: Array) -> tuple[Array, Array]:
        return _fits(draw(key, population))

    return jax.lax.map(one, keys)


def study(keys: Array, population: Population) -> Found:
    """Every rule on the draw of each key."""
    estimate, interval = _study(keys, population)
    return Found(
        np.asarray(estimate), np.asarray(interval), np.asarray(population.truth)
    )
