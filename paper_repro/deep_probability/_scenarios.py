"""Outcomes drawn with known probabilities from something like the age of a face."""

import dataclasses
from collections.abc import Callable

import numpy as np

ROWS = {"train": 2000, "validation": 1000, "test": 5000}
_NUM_FEATURES = 30
_NOISE = 0.4


def _linear(u):
    return u


def _sigmoid(u):
    return 1 - 1 / (1 + np.exp(-25 * (u - 0.29)))


def _skewed(u):
    return u / 2.5


def _centered(u):
    return u / 3 + 0.35


def _discrete(u):
    return 0.1 + 0.2 * sum((u >= t).astype(float) for t in (0.2, 0.4, 0.6, 0.8))


SCENARIOS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": _linear,
    "sigmoid": _sigmoid,
    "skewed": _skewed,
    "centered": _centered,
    "discrete": _discrete,
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """Features, outcomes and the probabilities these were drawn with."""

    x: np.ndarray
    y: np.ndarray
    p: np.ndarray


def draw(scenario: str, seed: int) -> dict[str, Rows]:
    """Training, validation and test rows; the features show the age through noise."""
    rng = np.random.default_rng([seed, sorted(SCENARIOS).index(scenario)])
    direction = rng.normal(size=_NUM_FEATURES)
    shift = rng.normal(size=_NUM_FEATURES)
    parts = {}
    for name, n in ROWS.items():
        # Ages pile up around thirty and have a long tail, cut at a hundred.
        age = np.minimum(rng.gamma(3.0, 11.0, size=n) + 1, 116)
        u = np.minimum(age / 100, 1)
        p = SCENARIOS[scenario](u)
        signal = np.tanh(3 * (u[:, None] - 0.35) * direction + shift)
        noise = _NOISE * rng.normal(size=(n, _NUM_FEATURES))
        y = (rng.uniform(size=n) < p).astype(np.int32)
        parts[name] = Rows((signal + noise).astype(np.float32), y, p)
    return parts
