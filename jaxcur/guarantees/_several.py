"""Several conditions at once, and several runs averaged into one selection."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, stats, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant
from jaxcur.guarantees._worlds import gaussian_world, outcomes

_IID = "calibration rows and candidates i.i.d. given the models"

CONDITION_WORLDS: dict[str, dict[str, Any]] = {
    "multi_condition/all": dict(n=29, m=10, level=0.3, cut=-0.2, noise=0.4, how="all"),
    "multi_condition/any": dict(n=29, m=10, level=0.3, cut=0.5, noise=0.4, how="any"),
}
PAIR_WORLD: dict[str, Any] = dict(n=39, m=5, level=0.3, cut=0.5, noise=0.4)


def _conditions(key: Array, spec: dict[str, Any]) -> tuple[Array, Array]:
    """Scores and truth of two independent conditions, (2, n + m)."""
    key_labels, key_noise = jax.random.split(key)
    shape = 2, spec["n"] + spec["m"]
    labels = jax.random.normal(key_labels, shape)
    seen = labels + spec["noise"] * jax.random.normal(key_noise, shape)
    return spec["cut"] - seen, labels > spec["cut"]


def _combined(scores: Array, holds: Array, n: int, level: float, how: Any) -> Array:
    pair = conformal.combine_conditions(
        scores[:, :n], holds[:, :n], scores[:, n:], how=how
    )
    return conformal.select(pair.calibration, pair.test, level=level).selected


def _extreme_p_value(
    scores: Array, holds: Array, n: int, level: float, how: Any
) -> Array:
    """BH on the largest ("all") or smallest ("any") of the conditions' p-values."""
    clipped = jnp.where(holds[:, :n], jnp.inf, scores[:, :n])
    p = jnp.stack([conformal.p_values(clipped[k], scores[k, n:]) for k in range(2)])
    extreme = jnp.max(p, axis=0) if how == "all" else jnp.min(p, axis=0)
    return stats.benjamini_hochberg(extreme, level)


def _gaussian(name: str) -> Replicate:
    spec = CONDITION_WORLDS[name]

    def replicate(key: Array) -> dict[str, Array]:
        scores, holds = _conditions(key, spec)
        selected = _combined(scores, holds, spec["n"], spec["level"], spec["how"])
        good = holds.all(axis=0) if spec["how"] == "all" else holds.any(axis=0)
        return outcomes(selected, ~good[spec["n"] :])

    return replicate


def _one_null(method: Callable[..., Array], how: str) -> Replicate:
    """One candidate that is not interesting, nine calibration rows, level 0.1.

    "all": one of two conditions fails in every row, and the other one is certain to
    hold. "any": none holds anywhere.
    """
    n = 9

    def replicate(key: Array) -> dict[str, Array]:
        key_which, key_noise = jax.random.split(key)
        noise = jax.random.uniform(key_noise, (2, n + 1))
        if how == "all":
            fails = jax.random.bernoulli(key_which, 0.5, (n + 1,))
            holds = jnp.stack([fails, ~fails])
        else:
            holds = jnp.zeros((2, n + 1), bool)
        scores = jnp.where(holds, -1.0, noise)
        return outcomes(method(scores, holds, n, 0.1, how), jnp.ones(1, bool))

    return replicate


def _pairs(key: Array) -> dict[str, Array]:
    n = PAIR_WORLD["n"]
    scores, holds = _conditions(key, PAIR_WORLD)
    clipped = jnp.where(holds[:, :n], jnp.inf, scores[:, :n])
    result = conformal.select_pairs(
        clipped, scores[:, n:], level=PAIR_WORLD["level"], dependence="any"
    )
    return outcomes(result.selected_pairs.ravel(), ~holds[:, n:].ravel())


def _opposed_pairs(dependence: Any) -> Replicate:
    """Two conditions that never hold, scored so that their p-values avoid each other.

    The second score exchanges the best 0.15 of the first with its third 0.15: when one
    p-value is below half the level, the other is above the level. It is the worst case
    of two p-values under arbitrary dependence.
    """
    n, level = 59, 0.3
    half = level / 2

    def replicate(key: Array) -> dict[str, Array]:
        first = jax.random.uniform(key, (n + 1,))
        third = (first >= level) & (first < level + half)
        second = jnp.where(first < half, first + level, first)
        second = jnp.where(third, first - level, second)
        scores = jnp.stack([first, second])
        result = conformal.select_pairs(
            scores[:, :n], scores[:, n:], level=level, dependence=dependence
        )
        return outcomes(result.selected_pairs.ravel(), jnp.ones(2, bool))

    return replicate


def _power(metric: str, name: str) -> Part:
    return floor(verify.at_least(metric, 0.8 * POWER[name]))


def _one_null_guarantee(name: str, how: str, text: str) -> Guarantee:
    return Guarantee(
        name,
        "FDR = 0.1, attained: one candidate that is not interesting",
        _IID,
        _one_null(_combined, how),
        (
            Part("", verify.equals("fdp", 0.1)),
            mutant(
                "p-values-combined",
                text,
                verify.at_most("fdp", 0.1),
                _one_null(_extreme_p_value, how),
            ),
        ),
    )


MULTI_CONDITION = (
    *(
        Guarantee(
            name,
            f"FDR <= {spec['level']:g} where {spec['how']} of two conditions must hold",
            _IID,
            _gaussian(name),
            (Part("", verify.at_most("fdp", spec["level"])), _power("power", name)),
        )
        for name, spec in CONDITION_WORLDS.items()
    ),
    _one_null_guarantee(
        "multi_condition/all-exclusive",
        "all",
        "the largest p-value of the conditions instead of one of their largest score",
    ),
    _one_null_guarantee(
        "multi_condition/any-null",
        "any",
        "the smallest p-value of the conditions instead of one of their smallest score",
    ),
    Guarantee(
        "multi_condition/pairs",
        "FDR over pairs <= 0.3",
        _IID,
        _pairs,
        (
            Part("", verify.at_most("fdp", 0.3)),
            _power("power", "multi_condition/pairs"),
        ),
    ),
    Guarantee(
        "multi_condition/pairs-opposed",
        "FDR over pairs <= 0.3 with p-values that avoid each other",
        _IID,
        _opposed_pairs("any"),
        (
            Part("", verify.at_most("fdp", 0.3)),
            mutant(
                "positive-dependence",
                "Benjamini-Hochberg without the harmonic factor",
                verify.at_most("fdp", 0.3),
                _opposed_pairs("positive"),
            ),
        ),
    ),
)


SPLIT_WORLD: dict[str, Any] = dict(
    n=60, m=10, level=0.3, run_level=0.15, num_runs=5, noise=0.4
)


def _run_e_values(scores: Array, tests: Array, level: float) -> Array:
    p = conformal.p_values(scores, tests)
    sizes = conformal.auxiliary_sizes(scores, tests, level=level)
    return conformal.e_values(p, sizes, level)


def _halves(key: Array, n: int, num_runs: int) -> Array:
    """Row numbers of random halves, (num_runs, n // 2)."""
    keys = jax.random.split(key, num_runs)
    return jax.vmap(lambda k: jax.random.permutation(k, n)[: n // 2])(keys)


def _averaged(key: Array) -> dict[str, Array]:
    spec = SPLIT_WORLD
    n, m, level = spec["n"], spec["m"], spec["level"]
    key_data, key_halves = (jax.random.fold_in(key, i) for i in range(2))
    world = gaussian_world(key_data, n, m, null_share=0.5, noise=spec["noise"])
    score = conformal.ClipScore()
    scores = score.calibration(world.predictions[0], world.labels, world.threshold)
    tests = score.test(world.test_predictions[0], world.threshold)
    e = jax.vmap(lambda half: _run_e_values(scores[half], tests, spec["run_level"]))(
        _halves(key_halves, n, spec["num_runs"])
    )
    result = conformal.derandomize(e, level=level)
    return outcomes(result.selected, world.is_null)


def _one_null_averaged(method: str) -> Replicate:
    """One null candidate, twenty random halves of 18 rows, every run at the level."""
    n, num_runs, level = 18, 20, 0.3

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_halves, key_xi = (jax.random.fold_in(key, i) for i in range(3))
        scores = jax.random.normal(key_data, (n + 1,))
        halves = _halves(key_halves, n, num_runs)
        e = jax.vmap(lambda half: _run_e_values(scores[half], scores[n:], level))(
            halves
        )
        if method == "union":
            selected = (e > 0).any(axis=0)
        else:
            if method == "boosted":
                e = e / (1 - jax.random.uniform(key_xi, e.shape))
            selected = conformal.derandomize(e, level=level).selected
        return outcomes(selected, jnp.ones(1, bool))

    return replicate


_SPLITS = "labelled rows and candidates i.i.d. given the model, splits drawn beforehand"

DERANDOMIZE = (
    Guarantee(
        "derandomize/n60",
        "FDR <= 0.3 after averaging the e-values of five splits",
        _SPLITS,
        _averaged,
        (
            Part("", verify.at_most("fdp", 0.3)),
            _power("power", "derandomize/n60"),
        ),
    ),
    Guarantee(
        "derandomize/one-null",
        "FDR <= 0.3 after averaging the e-values of 20 splits, one null candidate",
        _SPLITS,
        _one_null_averaged("mean"),
        (
            Part("", verify.at_most("fdp", 0.3)),
            mutant(
                "boosted",
                "e-values averaged after their division by a draw",
                verify.at_most("fdp", 0.3),
                _one_null_averaged("boosted"),
            ),
            mutant(
                "union",
                "selected when any run selects",
                verify.at_most("fdp", 0.3),
                _one_null_averaged("union"),
            ),
        ),
    ),
)
