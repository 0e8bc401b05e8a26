"""Optimal transport: the level and the power of the two-sample test."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur import ot, verify
from jaxcur.guarantees._registry import Guarantee, Part, Replicate, floor, mutant

_RESAMPLES = 19
# Between 1/19 and 2/20: where leaving out the observed statistic shows.
_THRESHOLDS = (0.05, 0.06, 0.1, 0.2, 0.5, 0.9)


def _test(key: Array, shift: float) -> Array:
    key_x, key_y, key_test = jax.random.split(key, 3)
    x = jax.random.normal(key_x, (8, 2))
    y = shift + jax.random.normal(key_y, (6, 2))
    found = ot.two_sample_test(
        x, y, epsilon=4.0, num_resamples=_RESAMPLES, key=key_test, batch_size=20
    )
    return found.p_value


def _run(shift: float) -> Replicate:
    def run(key: Array) -> dict[str, Array]:
        key_null, key_far = jax.random.split(key)
        p = _test(key_null, 0.0)
        power = _test(key_far, shift) <= 0.05
        return {"p": p, "rejects": p <= 0.05, "power": power}

    return run


def _no_plus_one(key: Array) -> dict[str, Array]:
    p = _test(key, 0.0)
    return {"p": jnp.maximum((_RESAMPLES + 1) * p - 1, 0) / _RESAMPLES}


_LEVEL = verify.super_uniform("p", _THRESHOLDS)

GUARANTEES: tuple[Guarantee, ...] = (
    Guarantee(
        "ot/two-sample",
        "p-values of the two-sample test on the Sinkhorn divergence with 19 "
        "permutations are super-uniform; 0.05 is attained (exact); samples of 8 and 6",
        "points independent and of one law",
        _run(2.0),
        (
            Part("", _LEVEL),
            Part("exact", verify.equals("rejects", 0.05)),
            floor(verify.at_least("power", 0.6)),
            mutant(
                "no-plus-one",
                "the observed statistic left out of its own null",
                _LEVEL,
                _no_plus_one,
            ),
        ),
    ),
)
