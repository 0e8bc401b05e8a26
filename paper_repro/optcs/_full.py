"""Replications without a sample split: pooled predictions, and splits beside them.

The pool holds the n labelled rows and then the m candidates, these with label 0.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur import learners
from paper_repro.optcs import _models, _worlds

N, M, FOLDS = 200, 100, 5
FRACTIONS = (0.1, 0.25, 0.5, 0.75, 0.9)
# select : train : calibrate, of the labelled rows.
RATIOS = ((1, 1, 2), (1, 2, 1), (2, 1, 1), (1, 1, 1))
GAMMAS, PENALTIES = (0.02, 0.1, 0.5), (0.3, 3.0)
# Gamma .1 with penalty .3: the one model of "full" and of the splits.
ONE_KERNEL = 2
Draw = Callable[[int], tuple[np.ndarray, np.ndarray]]


def _jin(setting: str, rng: np.random.Generator) -> Draw:
    return lambda size: _worlds.jin(int(setting), size, 0.5, rng, full=True)


def _parts(draw: Draw) -> tuple[np.ndarray, ...]:
    """Labelled rows, as many again for the oracle, and candidates."""
    x, y = draw(N)
    extra_x, extra_y = draw(N)
    x_test, y_test = draw(M)
    return x, y > 0, extra_x, extra_y > 0, x_test, y_test > 0


def _pool(x: np.ndarray, b: np.ndarray, x_test: np.ndarray):
    target = np.concatenate([b, np.zeros(len(x_test))])
    return np.concatenate([x, x_test]), target.astype(float)


def _base(mu: np.ndarray, b: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "calibration": mu[:, : len(b)],
        "test": mu[:, len(b) :],
        "interesting": b,
        "good": good,
    }


def _one_model_splits(
    family: _models.Family,
    parts: tuple[np.ndarray, ...],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """One model trained on a fraction of the rows, and on twice the data."""
    x, b, extra_x, extra_b, x_test, _ = parts
    out = {}
    for fraction in FRACTIONS:
        cut = round(fraction * N)
        model = family(x[:cut], b[:cut].astype(float), rng)
        name = f"split_{fraction}"
        out[f"{name}_calibration"] = model(x[cut:])
        out[f"{name}_interesting"] = b[cut:]
        out[f"{name}_test"] = model(x_test)
    model = family(extra_x, extra_b.astype(float), rng)
    out["split_oracle_calibration"] = model(x)
    out["split_oracle_interesting"] = b
    out["split_oracle_test"] = model(x_test)
    return out


def _model_choice_splits(
    family: _models.Family,
    parts: tuple[np.ndarray, ...],
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """K models trained, chosen and calibrated on three parts of the rows."""
    x, b, _, _, x_test, _ = parts
    out = {}
    for ratio in RATIOS:
        cuts = np.round(np.cumsum(ratio) / sum(ratio) * N).astype(int)
        select, train, rest = np.split(np.arange(N), cuts[:2])
        model = family(x[train], b[train].astype(float), rng)
        name = "split_" + ":".join(str(r) for r in ratio)
        out[f"{name}_select"] = model(x[select])
        out[f"{name}_select_interesting"] = b[select]
        out[f"{name}_calibration"] = model(x[rest])
        out[f"{name}_interesting"] = b[rest]
        out[f"{name}_test"] = model(x_test)
    return out


@jax.jit
def _leave_one_out(features: jax.Array, target: jax.Array) -> jax.Array:
    """Pooled leave-one-out predictions of the six kernel ridges, (6, N)."""
    models = [
        learners.KernelRidge(learners.RBF(gamma), penalty)
        for gamma in GAMMAS
        for penalty in PENALTIES
    ]
    return jnp.stack([learners.leave_one_out(a, features, target) for a in models])


@jax.jit
def _kernel_fit(x: jax.Array, b: jax.Array, new: jax.Array) -> jax.Array:
    learner = learners.KernelRidge(learners.RBF(0.1), 0.3)
    return learner.predict(learner.fit(x, b), new)


def _kernel_family(
    x: np.ndarray, b: np.ndarray, rng: np.random.Generator
) -> _models.Predictor:
    """One kernel ridge; new rows are padded to one shape, so programs are few."""

    def predict(new: np.ndarray) -> np.ndarray:
        padded = np.zeros((N, new.shape[1]), np.float32)
        padded[: len(new)] = new
        values = _kernel_fit(x.astype(np.float32), b.astype(np.float32), padded)
        return np.asarray(values)[None, : len(new)]

    return predict


def kernel_ridge(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Six kernel ridges by exact leave-one-out, and one of them by splits."""
    parts = _parts(_jin(setting, rng))
    x, b, _, _, x_test, good = parts
    pool, target = (part.astype(np.float32) for part in _pool(x, b, x_test))
    mu = np.asarray(_leave_one_out(pool, target))
    return _base(mu, b, good) | _one_model_splits(_kernel_family, parts, rng)


def _cross_fitted(
    setting: str, family: _models.Family, num_folds: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    parts = _parts(_jin(setting, rng))
    x, b, _, _, x_test, good = parts
    mu = _models.cross_fit(family, *_pool(x, b, x_test), num_folds, rng)
    return _base(mu, b, good) | _one_model_splits(family, parts, rng)


def support_vectors(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Support vector regression, refitted without each row of the pool."""
    return _cross_fitted(setting, _models.support_vectors, N + M, rng)


def boosting(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Gradient boosting, cross-fitted over random folds of the pool."""
    return _cross_fitted(setting, _models.boosted, FOLDS, rng)


def forest(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random forest, cross-fitted over random folds of the pool."""
    return _cross_fitted(setting, _models.grown, FOLDS, rng)


def full_msel_jin(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Nine models, cross-fitted; splits in three parts beside them."""
    parts = _parts(_jin(setting, rng))
    x, b, _, _, x_test, good = parts
    mu = _models.cross_fit(_models.full_jin_9, *_pool(x, b, x_test), FOLDS, rng)
    return _base(mu, b, good) | _model_choice_splits(_models.full_jin_9, parts, rng)


def full_msel_liang(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Seven linear models, cross-fitted; splits in three parts beside them."""
    parts = _parts(lambda size: _worlds.liang(int(setting), size, 1.0, rng))
    x, b, _, _, x_test, good = parts
    d = _worlds.LIANG_DIMENSION
    family = _models.full_liang_7(
        [rng.integers(0, d, size) for size in (30, 30, 30, 30, 60)]
    )
    mu = _models.cross_fit(family, *_pool(x, b, x_test), FOLDS, rng)
    return _base(mu, b, good) | _model_choice_splits(family, parts, rng)
