"""A level as the decimal number the user wrote."""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base._checks import is_concrete

DECIMALS = 10**6


def exact_fraction(value: Any) -> Fraction:
    """The rational a person means by `value`: 0.1 is 1/10 in every float dtype.

    The shortest decimal that reads back as the same float is taken, in the value's own
    precision, so `np.float32(0.1)` and `0.1` agree.
    """
    if isinstance(value, Fraction):
        return value
    scalar = np.asarray(value)[()]
    return Fraction(str(scalar))


def decimal_float64(value: Any) -> Array:
    """`value` as float64, undoing the rounding that float32 did to a short decimal.

    Traced values within one ulp of a multiple of 1e-6 become that multiple. NaN stays.
    Call it, and use the result, under `jax.enable_x64(True)`.
    """
    if is_concrete(value):
        number = float(value)
        exact = number if not np.isfinite(number) else float(exact_fraction(value))
        return jnp.asarray(exact, jnp.float64)
    traced = jnp.asarray(value)
    if not jnp.issubdtype(traced.dtype, jnp.floating):
        return traced.astype(jnp.float64)
    ulp = float(jnp.finfo(traced.dtype).eps)
    scaled = traced.astype(jnp.float64) * DECIMALS
    nearest = jnp.round(scaled)
    is_decimal = jnp.abs(scaled - nearest) <= ulp * jnp.abs(scaled)
    return jnp.where(is_decimal, nearest, scaled) / DECIMALS
