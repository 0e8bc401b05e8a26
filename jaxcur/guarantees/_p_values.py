"""Conformal p-values are super-uniform, jointly with the null."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import conformal, verify
from jaxcur.guarantees._registry import Guarantee, Part, mutant

PValues = Callable[[Array, Array], Array]

_PROMISE = "P(p <= u and the candidate is null) <= u for every u"
_ASSUMPTIONS = "calibration rows and the candidate exchangeable given the model"
# Multiples of 1/10, where p-values of nine calibration rows sit, and some between.
_THRESHOLDS = (0.05, 0.1, 0.2, 0.5, 0.9)


def _claim() -> verify.Claim:
    return verify.super_uniform("p", _THRESHOLDS)


def no_plus_one(calibration: Array, test: Array) -> Array:
    """The p-value without the candidate's own place among the n + 1."""
    below = jnp.sum(calibration <= test[:, None], axis=1, dtype=jnp.int32)
    return below / (calibration.shape[0] + 1)


def strict_count(calibration: Array, test: Array) -> Array:
    """The p-value that counts only calibration scores strictly below."""
    below = jnp.sum(calibration < test[:, None], axis=1, dtype=jnp.int32)
    return (1 + below) / (calibration.shape[0] + 1)


def _normal_scores(method: PValues, n: int) -> Callable[[Array], dict[str, Array]]:
    def replicate(key: Array) -> dict[str, Array]:
        scores = jax.random.normal(key, (n + 1,))
        return {"p": method(scores[:n], scores[n:])[0]}

    return replicate


def _tied_scores(method: PValues, n: int) -> Callable[[Array], dict[str, Array]]:
    def replicate(key: Array) -> dict[str, Array]:
        scores = jax.random.randint(key, (n + 1,), 0, 2).astype(jnp.float32)
        return {"p": method(scores[:n], scores[n:])[0]}

    return replicate


def _randomised(key: Array) -> dict[str, Array]:
    key_scores, key_ties = jax.random.split(key)
    scores = jax.random.randint(key_scores, (10,), 0, 4).astype(jnp.float32)
    p = conformal.p_values(scores[:9], scores[9:], key=key_ties)
    return {"p": p[0]}


def _shifted(n: int, normalise: bool) -> Callable[[Array], dict[str, Array]]:
    """Calibration from N(0, 1), the candidate from N(1, 1), exact density ratio.

    The weights carry an arbitrary constant, as estimated density ratios do.
    """

    def replicate(key: Array) -> dict[str, Array]:
        x = jax.random.normal(key, (n + 1,)) + jnp.where(jnp.arange(n + 1) < n, 0, 1)
        w = 0.2 * jnp.exp(x)
        if normalise:
            p = conformal.p_values(
                -x[:n], -x[n:], calibration_weights=w[:n], test_weights=w[n:]
            )
            return {"p": p[0]}
        mass = jnp.sum(jnp.where(-x[:n] <= -x[n], w[:n], 0.0)) + w[n]
        return {"p": jnp.minimum(mass / (n + 1), 1.0)}

    return replicate


GUARANTEES = (
    Guarantee(
        "p_values/n9",
        _PROMISE,
        _ASSUMPTIONS,
        _normal_scores(conformal.p_values, 9),
        (
            Part("", _claim()),
            mutant(
                "no-plus-one",
                "p-value a/(n + 1) without the +1",
                _claim(),
                _normal_scores(no_plus_one, 9),
            ),
        ),
    ),
    Guarantee(
        "p_values/ties",
        _PROMISE,
        _ASSUMPTIONS,
        _tied_scores(conformal.p_values, 9),
        (
            Part("", _claim()),
            mutant(
                "strict-count",
                "strict instead of weak inequality",
                _claim(),
                _tied_scores(strict_count, 9),
            ),
        ),
    ),
    Guarantee(
        "p_values/randomised",
        "randomised p-values are super-uniform with ties too",
        _ASSUMPTIONS,
        _randomised,
        (Part("", _claim()),),
    ),
    Guarantee(
        "p_values/weighted",
        "weighted p-values are super-uniform under covariate shift",
        "exact density ratio up to a constant",
        _shifted(20, normalise=True),
        (
            Part("", _claim()),
            mutant(
                "unnormalised-weights",
                "weights divided by n + 1 instead of their sum",
                _claim(),
                _shifted(20, normalise=False),
            ),
        ),
    ),
)
