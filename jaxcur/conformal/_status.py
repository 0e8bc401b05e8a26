"""What a status code of a selection means."""

import jax.numpy as jnp
from jax import Array

STATUS = (
    "ok",
    "level is below 1/(n + 1): no deterministic p-value can reach it",
    "some test scores are NaN: their p-value is 1 and they are never selected",
    "some calibration scores are NaN: they count as -inf, which only raises p-values",
    "level is not in [0, 1]: nothing is selected",
    "weights are negative, infinite, NaN or all zero: p-values are NaN, none selected",
)
OK, UNREACHABLE, NAN_TEST, NAN_CALIBRATION, BAD_LEVEL, BAD_WEIGHTS = range(len(STATUS))


def first_status(*flags: tuple[Array | bool, int]) -> Array:
    """Code of the first flag that is true, 0 when none is."""
    status = jnp.zeros((), jnp.int32)
    for flag, code in reversed(flags):
        status = jnp.where(flag, jnp.int32(code), status)
    return status


def is_bad_level(level: Array) -> Array:
    """Whether a scalar level is NaN or outside [0, 1]."""
    return ~((level >= 0) & (level <= 1))
