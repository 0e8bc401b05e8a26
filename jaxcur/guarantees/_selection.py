"""The false discovery rate of `conformal.select`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, stats, verify
from jaxcur.guarantees._floors import POWER
from jaxcur.guarantees._p_values import no_plus_one, strict_count
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant
from jaxcur.guarantees._worlds import World, gaussian_world, outcomes

Select = Callable[[Array, Array, float, Array], Array]

_CLIP = conformal.ClipScore()
_ASSUMPTIONS = "calibration rows and candidates i.i.d. given the model"


def _ours(scores: Array, tests: Array, level: float, key: Array) -> Array:
    return conformal.select(scores, tests, level=level).selected


def _randomised(scores: Array, tests: Array, level: float, key: Array) -> Array:
    result = conformal.select(
        scores, tests, level=level, randomize_p_values=True, key=key
    )
    return result.selected


def _without_plus_one(scores: Array, tests: Array, level: float, key: Array) -> Array:
    return stats.benjamini_hochberg(no_plus_one(scores, tests), level)


def _with_strict_count(scores: Array, tests: Array, level: float, key: Array) -> Array:
    return stats.benjamini_hochberg(strict_count(scores, tests), level)


def _unsorted_bh(scores: Array, tests: Array, level: float, key: Array) -> Array:
    """BH that compares the k-th p-value in the given order with level * k / m."""
    p = conformal.p_values(scores, tests)
    k = jnp.arange(1, p.shape[0] + 1)
    largest = jnp.max(jnp.where(p <= level * k / p.shape[0], k, 0))
    return (p <= level * largest / p.shape[0]) & (largest > 0)


def _exchangeable(select: Select, n: int, m: int, level: float) -> Replicate:
    """All candidates null, continuous scores."""

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        scores = jax.random.normal(key_data, (n + m,))
        selected = select(scores[:n], scores[n:], level, key_run)
        return outcomes(selected, jnp.ones(m, bool))

    return replicate


def _tied(select: Select, n: int, m: int, level: float) -> Replicate:
    """All candidates null, scores 0 or 1."""

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        scores = jax.random.randint(key_data, (n + m,), 0, 2).astype(jnp.float32)
        selected = select(scores[:n], scores[n:], level, key_run)
        return outcomes(selected, jnp.ones(m, bool))

    return replicate


def _gaussian(
    select: Select,
    n: int,
    m: int,
    level: float,
    score: Any = _CLIP,
    **world: Any,
) -> Replicate:
    """Labels seen through noise; see `gaussian_world`."""

    def replicate(key: Array) -> dict[str, Array]:
        key_data, key_run = (jax.random.fold_in(key, i) for i in range(2))
        drawn: World = gaussian_world(key_data, n, m, **world)
        scores = score.calibration(drawn.predictions[0], drawn.labels, drawn.threshold)
        tests = score.test(drawn.test_predictions[0], drawn.threshold)
        return outcomes(select(scores, tests, level, key_run), drawn.is_null)

    return replicate


def _fdr(level: float) -> verify.Claim:
    return verify.at_most("fdp", level)


def _power(name: str) -> Part:
    # At least 80 % of the power of an independent NumPy implementation.
    return floor(verify.at_least("power", 0.8 * POWER[name]))


# Worlds by name, as data, so that the NumPy study of power runs the same ones.
WORLDS: dict[str, dict[str, Any]] = {
    "select/n50": dict(n=50, m=20, level=0.2, null_share=0.7, noise=0.5),
    "select/n1000": dict(n=1000, m=100, level=0.1, null_share=0.7, noise=0.5),
    "select/few-nulls": dict(n=200, m=100, level=0.1, null_share=0.01, noise=0.5),
    "select/many-nulls": dict(n=200, m=100, level=0.2, null_share=0.99, noise=0.1),
    "select/coarse": dict(n=50, m=20, level=0.2, null_share=0.7, noise=0.5, grid=1.0),
}


def _world_guarantee(name: str) -> Guarantee:
    level = WORLDS[name]["level"]
    return Guarantee(
        name,
        f"FDR <= {level:g}",
        _ASSUMPTIONS,
        _gaussian(_ours, **WORLDS[name]),
        (Part("", _fdr(level)), _power(name)),
    )


_N50 = {k: v for k, v in WORLDS["select/n50"].items()}

GUARANTEES = (
    Guarantee(
        "select/one-candidate",
        "FDR <= 0.1, attained: one null candidate, nine calibration rows",
        _ASSUMPTIONS,
        _exchangeable(_ours, 9, 1, 0.1),
        (
            Part("", verify.equals("fdp", 0.1)),
            mutant(
                "no-plus-one",
                "p-value without the +1",
                _fdr(0.1),
                _exchangeable(_without_plus_one, 9, 1, 0.1),
            ),
        ),
    ),
    Guarantee(
        "select/all-null",
        "FDR <= 0.2 when no candidate is interesting",
        _ASSUMPTIONS,
        _exchangeable(_ours, 50, 20, 0.2),
        (
            Part("", _fdr(0.2)),
            mutant(
                "unsorted-bh",
                "Benjamini-Hochberg without sorting",
                _fdr(0.2),
                _exchangeable(_unsorted_bh, 50, 20, 0.2),
            ),
        ),
    ),
    Guarantee(
        "select/ties",
        "FDR <= 0.2 with scores that take two values",
        _ASSUMPTIONS,
        _tied(_ours, 20, 10, 0.2),
        (
            Part("", _fdr(0.2)),
            mutant(
                "strict-count",
                "strict instead of weak inequality",
                _fdr(0.2),
                _tied(_with_strict_count, 20, 10, 0.2),
            ),
        ),
    ),
    *(_world_guarantee(name) for name in WORLDS),
    Guarantee(
        "select/random-score",
        "FDR <= 0.2 with a model that knows nothing",
        _ASSUMPTIONS,
        _gaussian(_ours, 50, 20, 0.2, null_share=0.7, noise=1.0, signal=0.0),
        (Part("", _fdr(0.2)),),
    ),
    Guarantee(
        "select/residual",
        "FDR <= 0.2 with residual scores",
        _ASSUMPTIONS,
        _gaussian(_ours, score=conformal.ResidualScore(), **_N50),
        (Part("", _fdr(0.2)),),
    ),
    Guarantee(
        "select/randomised",
        "FDR <= 0.2 with randomised p-values",
        _ASSUMPTIONS,
        _gaussian(_randomised, **_N50),
        (Part("", _fdr(0.2)),),
    ),
)
