"""Twenty small models on random splits of the diabetes patients, and who may choose."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import conformal, learners
from jaxcur.cli.demo.chapters._patients_study import THRESHOLD, Patients
from jaxcur.cli.demo.chapters._rates import Rates, outcome_rates

LEVEL = 0.1
LEVELS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
NUM_TRAIN, NUM_CALIBRATION, NUM_CANDIDATES = 142, 100, 200
NUM_MODELS = 20
COUNTS = (1, 2, 5, 10, 20)
NUM_PATIENTS_EACH, NUM_MEASURED = 30, 3

# Rule, and its level (a float) or the number of models it chooses among (an integer).
Place = tuple[str, float | int]

_BATCH = 250
_PENALTY = 1.0


class Split(NamedTuple):
    """One split after fitting.

    Attributes:
        calibration: scores (models, n) by each of the small models.
        test: scores (models, m).
        own_error: error of each small model on its own patients, each predicted by the
            fit without them, in units of their variance, (models,).
        whole_calibration: scores (n,) by one model of all training patients.
        whole_test: its scores (m,).
        interesting: candidates beyond the threshold, (m,), which no rule sees.
        xi: the draw of the pruning.
    """

    calibration: Array
    test: Array
    own_error: Array
    whole_calibration: Array
    whole_test: Array
    interesting: Array
    xi: Array


class _Deal(NamedTuple):
    """Everything random about a split: who goes where, who knows what, and the draw."""

    order: Array
    rows: Array
    columns: Array
    xi: Array


def _deal(key: Array, num_patients: int, num_columns: int) -> _Deal:
    # Sorting random integers is a random order. One stream of bits for all of them
    # keeps the program small: every call of the generator is compiled anew.
    sizes = (num_patients, NUM_MODELS * NUM_TRAIN, NUM_MODELS * num_columns, 1)
    bits = jax.random.bits(key, (sum(sizes),), jnp.uint32)
    patients, rows, columns, last = jnp.split(bits, np.cumsum(sizes)[:-1])
    rows = jnp.argsort(rows.reshape(NUM_MODELS, NUM_TRAIN))
    columns = jnp.argsort(columns.reshape(NUM_MODELS, num_columns))
    return _Deal(
        jnp.argsort(patients),
        rows[:, :NUM_PATIENTS_EACH],
        columns[:, :NUM_MEASURED],
        ((last[0] >> 8).astype(jnp.float32) + 1) / 2**24,
    )


def _small_model(
    rows: Array, columns: Array, features: Array, target: Array
) -> tuple[Array, Array]:
    """Predictions for everybody from few patients and few measurements, and its error.

    `features` (442, d) and `target` (442,) start with the training patients.
    """
    ridge = learners.Ridge(_PENALTY)
    x, y = features[rows][:, columns], target[rows]
    error = y - ridge.leave_one_out(x, y)
    predicted = ridge.predict(ridge.fit(x, y), features[:, columns])
    return predicted, jnp.mean(error**2) / jnp.var(y)


def draw_split(key: Array, patients: Patients) -> Split:
    """Deal the patients at random and fit every model on its share of the training."""
    deal = _deal(key, *patients.features.shape)
    features = patients.features[deal.order]
    target = patients.progression[deal.order]
    known = features[:NUM_TRAIN]
    features = (features - known.mean(axis=0)) / known.std(axis=0)
    small, own_error = jax.vmap(_small_model, in_axes=(0, 0, None, None))(
        deal.rows, deal.columns, features, target
    )
    ridge = learners.Ridge(_PENALTY)
    whole = ridge.fit(features[:NUM_TRAIN], target[:NUM_TRAIN])
    predictions = jnp.concatenate([small, ridge.predict(whole, features)[None]])

    score, last = conformal.ClipScore(), NUM_TRAIN + NUM_CALIBRATION
    labels = target[NUM_TRAIN:last]
    calibration = jax.vmap(lambda mu: score.calibration(mu, labels, THRESHOLD))(
        predictions[:, NUM_TRAIN:last]
    )
    test = jax.vmap(lambda mu: score.test(mu, THRESHOLD))(predictions[:, last:])
    return Split(
        calibration[:-1],
        test[:-1],
        own_error,
        calibration[-1],
        test[-1],
        target[last:] > THRESHOLD,
        deal.xi,
    )


def _plain(calibration: Array, test: Array, level: Array) -> Array:
    return conformal.select(calibration, test, level=level).selected


def _choose_on_half(split: Split, level: Array) -> Array:
    """The model that selects most with one half of the rows, calibrated on the other.

    Valid, because the rows that choose are not those that calibrate.
    """
    half = NUM_CALIBRATION // 2
    counts = jax.vmap(lambda v, t: _plain(v, t, level).sum())(
        split.calibration[:, :half], split.test
    )
    best = jnp.argmax(counts)
    return _plain(split.calibration[best, half:], split.test[best], level)


def masks(split: Split, level: Array) -> dict[str, Array]:
    """What every rule selects at a level, shape (candidates,) each."""
    calibration, test = split.calibration, split.test
    likely = jnp.argmin(split.own_error)
    drawn = conformal.optcs_msel(calibration, test, level=level, xi=split.xi)
    unpruned = conformal.prune(
        drawn.p_values, drawn.auxiliary_sizes, level=level, pruning="deterministic"
    )
    return {
        "naive": conformal.naive_best_of_k(calibration, test, level=level),
        "optcs": drawn.selected,
        "optcs, deterministic": unpruned,
        "one model": _plain(calibration[0], test[0], level),
        "likeliest model": _plain(calibration[likely], test[likely], level),
        "half": _choose_on_half(split, level),
        "whole": _plain(split.whole_calibration, split.whole_test, level),
    }


def _first_models(split: Split, count: Array) -> dict[str, Array]:
    """The two rules that choose, with only the first `count` models to choose from.

    The scores of the others become infinite: such a model selects nobody, and neither
    rule prefers it to the first. One program thus serves every count.
    """
    absent = jnp.arange(NUM_MODELS)[:, None] >= count
    test = jnp.where(absent, jnp.inf, split.test)
    return {
        "naive": conformal.naive_best_of_k(split.calibration, test, level=LEVEL),
        "optcs": conformal.optcs_msel(
            split.calibration, test, level=LEVEL, xi=split.xi
        ).selected,
    }


@jax.jit
def _study(keys: Array, patients: Patients) -> tuple[dict[str, Array], ...]:
    def one(key: Array) -> tuple[dict[str, Array], ...]:
        split = draw_split(key, patients)
        found = (
            jax.vmap(masks, in_axes=(None, 0))(split, jnp.asarray(LEVELS)),
            jax.vmap(_first_models, in_axes=(None, 0))(split, jnp.asarray(COUNTS)),
        )
        rates = jax.vmap(outcome_rates, in_axes=(0, None))
        return jax.tree.map(lambda mask: rates(mask, split.interesting), found)

    return jax.lax.map(one, keys, batch_size=_BATCH)


def study(keys: Array, patients: Patients) -> dict[Place, Rates]:
    """Rates of every rule on the split drawn from each key.

    A rule with a float is at that level and, where it chooses, has all models; a rule
    with an integer chooses among so many models at `LEVEL`.
    """
    found: dict[Place, Rates] = {}
    for grid, by_rule in zip((LEVELS, COUNTS), _study(keys, patients), strict=True):
        for rule, table in by_rule.items():
            for place, part in zip(grid, np.moveaxis(np.asarray(table), 1, 0)):
                found[rule, place] = Rates(*part.T)
    return found
