"""Selection rules on random splits of the diabetes patients, all splits at once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import conformal, data, learners
from jaxcur.cli.demo.chapters._rates import Rates, outcome_rates

THRESHOLD = 140.0
LEVEL = 0.1
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
NUM_TRAIN, NUM_CALIBRATION, NUM_CANDIDATES = 142, 150, 150
CALIBRATION_SIZES = (20, 50, 100, 150)
SHIFT = 40.0

Rule = tuple[str, float | None]

_BATCH = 500
_PENALTY = 10.0


class Patients(NamedTuple):
    """Features (442, 10) and progression (442,) as arrays."""

    features: Array
    progression: Array


class Split(NamedTuple):
    """One split after fitting: predictions and truth on both sides."""

    calibration_predictions: Array
    calibration_labels: Array
    predictions: Array
    labels: Array


def load() -> Patients:
    """The bundled patients."""
    patients = data.load_diabetes()
    return Patients(
        jnp.asarray(patients.features, jnp.float32),
        jnp.asarray(patients.progression, jnp.float32),
    )


def draw_split(key: Array, patients: Patients) -> Split:
    """Deal the patients at random, fit ridge on the training rows, predict the rest."""
    order = jax.random.permutation(key, patients.progression.shape[0])
    train = order[:NUM_TRAIN]
    calibration = order[NUM_TRAIN : NUM_TRAIN + NUM_CALIBRATION]
    test = order[NUM_TRAIN + NUM_CALIBRATION :]
    known = patients.features[train]
    center, scale = known.mean(axis=0), known.std(axis=0)
    features = (patients.features - center) / scale
    ridge = learners.Ridge(_PENALTY)
    params = ridge.fit(features[train], patients.progression[train])
    predicted = ridge.predict(params, features)
    return Split(
        predicted[calibration],
        patients.progression[calibration],
        predicted[test],
        patients.progression[test],
    )


def select(split: Split, level: float) -> conformal.SelectionResult:
    """Conformal selection of candidates beyond the threshold."""
    score = conformal.ClipScore()
    return conformal.select(
        score.calibration(
            split.calibration_predictions, split.calibration_labels, THRESHOLD
        ),
        score.test(split.predictions, THRESHOLD),
        level=level,
    )


def tuned_cut(split: Split, level: float) -> Array:
    """Lowest cut whose share of errors among the calibration rows is at most `level`.

    What one would do by eye. It has no guarantee: the cut is chosen on the same rows
    that say how good it is. Infinite when no cut does it.
    """
    cuts = split.calibration_predictions
    # A table of a few hundred squared entries: nothing beside the rest of a split.
    selected = cuts[None, :] >= cuts[:, None]
    wrong = selected & (split.calibration_labels <= THRESHOLD)[None, :]
    good_enough = wrong.sum(axis=1) <= level * selected.sum(axis=1)
    return jnp.min(jnp.where(good_enough, cuts, jnp.inf))


def _first(split: Split, size: int) -> Split:
    """The same split with fewer calibration rows."""
    return split._replace(
        calibration_predictions=split.calibration_predictions[:size],
        calibration_labels=split.calibration_labels[:size],
    )


def _useless(split: Split) -> Split:
    """The predictions dealt to the wrong patients, each to the next in random order."""
    pool = jnp.concatenate([split.calibration_predictions, split.predictions])
    pool = jnp.roll(pool, 1)
    size = split.calibration_labels.shape[0]
    return split._replace(calibration_predictions=pool[:size], predictions=pool[size:])


def _masks(split: Split) -> dict[Rule, Array]:
    """What every rule selects, shape (candidates,) each."""
    masks: dict[Rule, Array] = {
        ("conformal", q): select(split, q).selected for q in LEVELS
    }
    masks["naive", None] = split.predictions > THRESHOLD
    masks["naive, shifted", None] = split.predictions + SHIFT > THRESHOLD
    masks["conformal, useless model", LEVEL] = select(_useless(split), LEVEL).selected
    for size in CALIBRATION_SIZES:
        fewer = _first(split, size)
        masks["conformal", size] = select(fewer, LEVEL).selected
        masks["tuned", size] = split.predictions >= tuned_cut(fewer, LEVEL)
    return masks


@jax.jit
def _study(keys: Array, patients: Patients) -> dict[Rule, Array]:
    def one(key: Array) -> dict[Rule, Array]:
        split = draw_split(key, patients)
        masks = _masks(split)
        return {
            rule: outcome_rates(mask, split.labels > THRESHOLD)
            for rule, mask in masks.items()
        }

    return jax.lax.map(one, keys, batch_size=_BATCH)


def study(keys: Array, patients: Patients) -> dict[Rule, Rates]:
    """Rates of every rule on the split drawn from each key.

    A rule is a name with the level (a float), the number of calibration rows (an
    integer; the level is then `LEVEL`), or None where neither applies.
    """
    found = _study(keys, patients)
    return {rule: Rates(*np.asarray(table).T) for rule, table in found.items()}
