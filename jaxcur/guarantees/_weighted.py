"""The false discovery rate of weighted selection under covariate shift."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, stats, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant
from jaxcur.guarantees._worlds import outcomes

LEVEL, N, M, SHIFT = 0.2, 200, 20, 1.0
_PRUNINGS = ("homogeneous", "heterogeneous", "deterministic")
_ASSUMPTIONS = "candidates differ by a covariate shift with exact density ratio"


def _world(key: Array) -> tuple[Array, ...]:
    """A covariate z spoils the predictions, and candidates have more of it."""
    key_z, key_y, key_noise = jax.random.split(key, 3)
    shift = jnp.where(jnp.arange(N + M) < N, 0.0, SHIFT)
    z = jax.random.normal(key_z, (N + M,)) + shift
    labels = jax.random.normal(key_y, (N + M,))
    noise = jax.random.normal(key_noise, (N + M,))
    predictions = labels + 0.3 * jnp.exp(z) * noise
    # The constant in front must not matter.
    weights = 0.3 * jnp.exp(SHIFT * z)
    return labels, predictions, weights


def _replicate(method: str, **options: Any) -> Replicate:
    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        labels, predictions, w = _world(key_data)
        score, threshold = conformal.ClipScore(), 0.5
        scores = score.calibration(predictions[:N], labels[:N], threshold)
        tests = score.test(predictions[N:], threshold)
        if method == "ours":
            selected = conformal.select(
                scores,
                tests,
                level=LEVEL,
                calibration_weights=w[:N],
                test_weights=w[N:],
                key=key_run if options["pruning"] != "deterministic" else None,
                **options,
            ).selected
        elif method == "ignored":
            selected = conformal.select(scores, tests, level=LEVEL).selected
        else:
            below = jnp.where(scores <= tests[:, None], w[:N], 0.0)
            p = (jnp.sum(below, axis=1) + w[N:]) / (N + 1)
            selected = stats.benjamini_hochberg(jnp.minimum(p, 1.0), LEVEL)
        return outcomes(selected, labels[N:] <= threshold)

    return replicate


def _merged(key: Array) -> dict[str, Array]:
    """All three prunings on the same data."""
    out = {}
    for pruning in _PRUNINGS:
        metrics = _replicate("ours", pruning=pruning)(key)
        out[f"fdp_{pruning}"] = metrics["fdp"]
        out[f"power_{pruning}"] = metrics["power"]
    return out


GUARANTEES = (
    Guarantee(
        "select/weighted",
        f"FDR <= {LEVEL:g} under covariate shift, every pruning",
        _ASSUMPTIONS,
        _merged,
        (
            *(Part(p, verify.at_most(f"fdp_{p}", LEVEL)) for p in _PRUNINGS),
            floor(verify.at_least("power_homogeneous", 0.8 * POWER["select/weighted"])),
            mutant(
                "unnormalised-weights",
                "weights divided by n + 1 instead of their sum",
                verify.at_most("fdp", LEVEL),
                _replicate("unnormalised"),
            ),
            mutant(
                "weights-ignored",
                "the shift ignored",
                verify.at_most("fdp", LEVEL),
                _replicate("ignored"),
            ),
        ),
    ),
)
