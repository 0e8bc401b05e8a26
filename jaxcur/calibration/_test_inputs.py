"""What the tests of calibration share: checks, and how a p-value is found."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import is_concrete
from jaxcur.calibration._inputs import check_scored
from jaxcur.calibration._null import METHODS, check_draw, choose_method

Method = Literal["asymptotic", "monte_carlo"]


def check_hard(labels: Array) -> Array:
    """Outcomes that are exactly 0 or 1; NaN where one is not, under tracing."""
    legal = (labels == 0) | (labels == 1)
    if is_concrete(labels):
        if not np.asarray(legal).all():
            raise ValueError("`labels` of a test must be 0 or 1, got a number between")
        return labels
    return jnp.where(legal, labels, jnp.nan)


def check_tested(probs: Any, labels: Any, weights: Any) -> tuple[Array, Array, Array]:
    """Forecasts, outcomes 0 or 1, and weights of a test, each (n,)."""
    f, y, w = check_scored(probs, labels, weights)
    return f, check_hard(y), jnp.ones_like(f) if w is None else w


def poisoned(p_value: Array, *arrays: Array) -> Array:
    """The p-value, NaN where an input holds one."""
    total = sum(jnp.sum(array) for array in arrays)
    return jnp.where(jnp.isnan(total), jnp.nan, p_value)


class Draw(NamedTuple):
    """How a p-value is found: static method, and what Monte Carlo draws from."""

    method: str
    uniforms: Array | None
    key: Array | None
    num_resamples: int


def resolve_draw(
    method: Any,
    f: Array,
    num_resamples: Any,
    key: Any,
    uniforms: Any,
    methods: tuple[str, ...] = METHODS,
) -> Draw:
    """Check the options that all tests share."""
    n = f.shape[0]
    method = choose_method(method, n, key, uniforms, methods)
    return Draw(
        method, check_draw(uniforms, num_resamples, n, f.dtype), key, num_resamples
    )
