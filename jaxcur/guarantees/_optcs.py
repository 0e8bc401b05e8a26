"""The false discovery rate of selection after model optimisation."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, learners, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant
from jaxcur.guarantees._worlds import gaussian_world, outcomes

PRUNINGS = ("homogeneous", "heterogeneous", "deterministic")

# The four worlds of the simulated table in paper_repro/optcs: models that see the label
# through noise `sd` times as large; at 1e9 they are useless.
WORLDS: dict[str, dict[str, Any]] = {
    "optcs/useless-models": dict(n=50, m=20, k=100, level=0.3, sd=1e9, null_share=0.7),
    "optcs/weak-models": dict(n=100, m=50, k=50, level=0.2, sd=3.0, null_share=0.7),
    "optcs/good-models": dict(n=200, m=100, k=20, level=0.1, sd=1.0, null_share=0.5),
    "optcs/one-candidate": dict(n=30, m=1, k=100, level=0.2, sd=1e9, null_share=0.7),
}


def _scores(key: Array, spec: dict[str, Any]) -> tuple[Array, Array, Array]:
    world = gaussian_world(
        key,
        spec["n"],
        spec["m"],
        null_share=spec["null_share"],
        noise=1.0,
        signal=1 / spec["sd"],
        num_models=spec["k"],
    )
    score = conformal.BinaryScore()
    labels = jnp.broadcast_to(world.labels, world.predictions.shape)
    scores = score.calibration(world.predictions, labels, world.threshold)
    return scores, score.test(world.test_predictions, world.threshold), world.is_null


def _msel(spec: dict[str, Any]) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        scores, tests, is_null = _scores(key_data, spec)
        out = {}
        for pruning in PRUNINGS:
            result = conformal.optcs_msel(
                scores,
                tests,
                level=spec["level"],
                pruning=pruning,
                key=None if pruning == "deterministic" else key_run,
            )
            for name, value in outcomes(result.selected, is_null).items():
                out[f"{name}_{pruning}"] = value
        return out

    return replicate


def _naive(spec: dict[str, Any]) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        scores, tests, is_null = _scores(jax.random.fold_in(key, 0), spec)
        selected = conformal.naive_best_of_k(scores, tests, level=spec["level"])
        return outcomes(selected, is_null)

    return replicate


def _msel_guarantee(name: str) -> Guarantee:
    spec = WORLDS[name]
    level = spec["level"]
    floors = ()
    if spec["sd"] < 100:  # useless models have no power to speak of
        least = 0.8 * POWER[name]
        floors = (floor(verify.at_least("power_homogeneous", least)),)
    return Guarantee(
        name,
        f"FDR <= {level:g} after choosing among {spec['k']} models, every pruning",
        "calibration rows and candidates i.i.d., models fitted on other data",
        _msel(spec),
        (
            *(Part(p, verify.at_most(f"fdp_{p}", level)) for p in PRUNINGS),
            *floors,
            mutant(
                "naive-best-of-k",
                "the model that selects most, without OptCS",
                verify.at_most("fdp", level),
                _naive(spec),
            ),
        ),
    )


FULL_N, FULL_M, FULL_LEVEL = 60, 30, 0.2


def _pool(key: Array, setting: int) -> tuple[Array, Array]:
    """Features (n + m, 20) and interesting-or-not, settings 1 and 4 of the study."""
    key_x, key_noise = jax.random.split(key)
    x = jax.random.uniform(key_x, (FULL_N + FULL_M, 20), minval=-1.0, maxval=1.0)
    noise = 0.5 * jax.random.normal(key_noise, (FULL_N + FULL_M,))
    first, second, third, fourth = x[:, 0], x[:, 1], x[:, 2], x[:, 3]
    same_sign = first * second > 0
    if setting == 1:
        mean = jnp.where(same_sign, 0.5 + fourth, 1.0 + fourth)
        y = mean + 2 * noise
    else:
        mean = 2 * (first * second + third**2 + jnp.exp(fourth - 1) - 1)
        y = mean + (5.5 - jnp.abs(mean)) / 3 * noise
    return x, y > 0


_RIDGES = tuple(learners.Ridge(value) for value in (0.1, 10.0, 1000.0))


class _PositionLearner:
    """Ridge that trusts the rows at the front: its fit depends on row order."""

    def fit(self, features: Any, target: Any, weights: Any = None, *, key: Any = None):
        """Ridge with weights that fall with the position of the row."""
        position = jnp.arange(features.shape[0])
        trust = jnp.where(position < FULL_N, 1.0, 0.0)
        ones = jnp.ones(features.shape[0]) if weights is None else weights
        return learners.Ridge(1.0).fit(features, target, trust * ones)

    def predict(self, params: Any, features: Any) -> Any:
        """Predictions (m,)."""
        return learners.Ridge(1.0).predict(params, features)

    def leave_one_out(self, features: Any, target: Any, weights: Any = None) -> Any:
        """In-sample for the trusted rows, out-of-sample for the others: (n,)."""
        params = self.fit(features, target)
        return self.predict(params, features)


def _full(method: str, setting: int) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        x, interesting = _pool(key_data, setting)
        parts = x[:FULL_N], interesting[:FULL_N].astype(x.dtype), x[FULL_N:]
        if method == "msel":
            result = conformal.optcs_full_msel(
                _RIDGES, *parts, level=FULL_LEVEL, key=key_run
            )
        elif method == "order":
            result = conformal.optcs_full(_PositionLearner(), *parts, level=FULL_LEVEL)
        else:
            result = conformal.optcs_full(learners.Ridge(1.0), *parts, level=FULL_LEVEL)
        return outcomes(result.selected, ~interesting[FULL_N:])

    return replicate


def _full_guarantee(name: str, method: str, setting: int, *parts: Part) -> Guarantee:
    claim = verify.at_most("fdp", FULL_LEVEL)
    return Guarantee(
        name,
        f"FDR <= {FULL_LEVEL:g} without splitting the labelled rows",
        "labelled rows and candidates i.i.d., fits that ignore row order",
        _full(method, setting),
        (Part("", claim), *parts),
    )


_ORDER = mutant(
    "row-order",
    "a learner whose fit depends on row order",
    verify.at_most("fdp", FULL_LEVEL),
    _full("order", 4),
)

GUARANTEES = (
    *(_msel_guarantee(name) for name in WORLDS),
    _full_guarantee("optcs/full-1", "ridge", 1),
    _full_guarantee("optcs/full-4", "ridge", 4, _ORDER),
    _full_guarantee("optcs/full-msel-1", "msel", 1),
    _full_guarantee("optcs/full-msel-4", "msel", 4),
)
