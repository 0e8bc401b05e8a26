"""Real data carried by scikit-learn, split at random many times.

Rows are permuted at random and dealt to training, calibration and candidates, so the
calibration rows and candidates are exchangeable by construction: the mean of the false
discovery proportion over splits is the quantity the guarantee bounds, for these rows
and without any assumption on where they came from.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_breast_cancer

from jaxcur import data, learners

NUM_MODELS = 40


@dataclasses.dataclass(frozen=True)
class BundledStudy:
    """One data set and how it is dealt."""

    simulate: Callable[[Any, np.random.Generator], dict[str, np.ndarray]]
    rules: str
    config: dict[str, Any]


@functools.cache
def _patients() -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, and who progressed more than 200 (about a quarter)."""
    patients = data.load_diabetes()
    x = patients.features
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x.astype(np.float32), patients.progression > 200


@functools.cache
def _tumours() -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, and which tumours are malignant (37 %)."""
    bunch = load_breast_cancer()
    x = np.asarray(bunch.data)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x.astype(np.float32), np.asarray(bunch.target) == 0


@jax.jit
def _ridges(x: jax.Array, b: jax.Array, masks: jax.Array, new: jax.Array) -> jax.Array:
    """Ridge fits on each model's own columns, (K, rows of `new`)."""
    learner = learners.Ridge(1.0)

    def one(mask: jax.Array) -> jax.Array:
        return learner.predict(learner.fit(x * mask, b), new * mask)

    return jax.vmap(one)(masks)


def _deal(
    rows: tuple[np.ndarray, np.ndarray], sizes: tuple[int, ...], rng: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    x, good = rows
    order = rng.permutation(len(good))[: sum(sizes)]
    parts = np.split(order, np.cumsum(sizes)[:-1])
    return [(x[part], good[part]) for part in parts]


def _column_models(
    rows: tuple[np.ndarray, np.ndarray],
    sizes: tuple[int, int, int],
    most_columns: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Many small models, each a ridge on a few columns drawn for it."""
    (x, b), (x_calibration, interesting), (x_test, good) = _deal(rows, sizes, rng)
    d = x.shape[1]
    masks = np.zeros((NUM_MODELS, d), np.float32)
    for mask in masks:
        count = rng.integers(1, most_columns + 1)
        mask[rng.choice(d, count, replace=False)] = 1.0
    masks[0] = 1.0
    fit = functools.partial(_ridges, x, b.astype(np.float32), masks)
    half = len(b) // 2
    part = functools.partial(_ridges, x[:half], b[:half].astype(np.float32), masks)
    return {
        "calibration": np.asarray(fit(x_calibration)),
        "test": np.asarray(fit(x_test)),
        "interesting": interesting,
        "good": good,
        "fixed": np.asarray(0, np.int32),
        "half_select": np.asarray(part(x[half:])),
        "half_interesting": b[half:],
        "half_calibration": np.asarray(part(x_calibration)),
        "half_test": np.asarray(part(x_test)),
    }


def patients_msel(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return _column_models(_patients(), (100, 100, 100), 4, rng)


def tumours_msel(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return _column_models(_tumours(), (40, 100, 100), 1, rng)


LEARNERS = (
    *(learners.Ridge(penalty) for penalty in (1.0, 30.0, 300.0)),
    *(
        learners.KernelRidge(learners.RBF(width), penalty)
        for width in (0.02, 0.1)
        for penalty in (1.0, 10.0)
    ),
    learners.KNN(15),
)


@jax.jit
def _pooled(pool: jax.Array, target: jax.Array) -> jax.Array:
    """Leave-one-out predictions of eight learners, (8, N)."""
    return jnp.stack([learners.leave_one_out(a, pool, target) for a in LEARNERS])


@jax.jit
def _ridge(x: jax.Array, b: jax.Array, new: jax.Array) -> jax.Array:
    learner = learners.Ridge(1.0)
    return learner.predict(learner.fit(x, b), new)


def patients_full(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Eight learners on the pool; a ridge by splits beside them."""
    (x, b), (x_test, good) = _deal(_patients(), (120, 100), rng)
    target = np.concatenate([b, np.zeros(len(good))]).astype(np.float32)
    mu = np.asarray(_pooled(np.concatenate([x, x_test]), target))
    out = {
        "calibration": mu[:, : len(b)],
        "test": mu[:, len(b) :],
        "interesting": b,
        "good": good,
    }
    for fraction in (0.25, 0.5, 0.75):
        cut = round(fraction * len(b))
        labels = b[:cut].astype(np.float32)
        name = f"split_{fraction}"
        out[f"{name}_calibration"] = np.asarray(_ridge(x[:cut], labels, x[cut:]))
        out[f"{name}_interesting"] = b[cut:]
        out[f"{name}_test"] = np.asarray(_ridge(x[:cut], labels, x_test))
    return out


STUDIES = {
    "diabetes": BundledStudy(
        patients_msel,
        "among_models",
        {
            "data": "442 diabetes patients; progression > 200",
            "n_train": 100,
            "n_calibration": 100,
            "m": 100,
            "models": "40 ridges: all ten columns, and 1 to 4 drawn columns",
        },
    ),
    "tumours": BundledStudy(
        tumours_msel,
        "among_models",
        {
            "data": "569 breast tumours; malignant",
            "n_train": 40,
            "n_calibration": 100,
            "m": 100,
            "models": "40 ridges: all 30 columns, and one drawn column each",
        },
    ),
    "diabetes_full": BundledStudy(
        patients_full,
        "without_split",
        {
            "data": "442 diabetes patients; progression > 200",
            "n": 120,
            "m": 100,
            "models": "3 ridges, 4 kernel ridges, 15 nearest neighbours",
            "predictions": "exact leave-one-out on the pool",
        },
    ),
}
