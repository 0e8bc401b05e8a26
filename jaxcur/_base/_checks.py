"""Checks at the boundary: what was expected, what came, what to do.

Shapes and options are known while tracing and are always checked. Values are checked
only where they are concrete; under `jit` the caller reports through a status instead.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer


def is_concrete(*values: Any) -> bool:
    """Whether every value can be looked at now, that is, none is being traced."""
    return not any(isinstance(value, Tracer) for value in values)


def _as_array(name: str, value: Any) -> Array:
    if isinstance(value, Array):
        return value
    try:
        host = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"`{name}` must be a rectangular array of numbers") from error
    if host.dtype.kind not in "fiub" and not jnp.issubdtype(host.dtype, jnp.floating):
        raise TypeError(
            f"`{name}` must hold real numbers, got dtype {host.dtype}; "
            f"convert it first, for example with numpy.asarray({name}, dtype=float)"
        )
    return jnp.asarray(host)


def as_float(**named: Any) -> tuple[Array, ...]:
    """Convert the named values to arrays of their common float dtype.

    Integers and booleans become the default float; half precision is computed in
    float32, because ranks need exact comparison and sums need the range.
    """
    arrays = [_as_array(name, value) for name, value in named.items()]
    for name, array in zip(named, arrays, strict=True):
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            raise TypeError(f"`{name}` must hold real numbers, got dtype {array.dtype}")
    floats = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    # promote_types, unlike result_type, also answers under strict promotion.
    dtype = functools.reduce(jnp.promote_types, floats or [jnp.result_type(float)])
    if jnp.finfo(dtype).bits < 32:
        dtype = jnp.dtype(jnp.float32)
    return tuple(array.astype(dtype) for array in arrays)


def check_rank(name: str, array: Array, rank: int, shape: str = "(n,)") -> None:
    """Raise unless `array` has `rank` axes."""
    if array.ndim != rank:
        hint = ""
        if rank == 1 and array.ndim == 2 and array.shape[1] == 1:
            hint = f"; drop the last axis with `{name}[:, 0]`"
        elif rank == 1 and array.ndim == 2:
            hint = "; map over a leading axis with jax.vmap"
        raise ValueError(f"`{name}` must have shape {shape}, got {array.shape}{hint}")


def check_same_length(name: str, array: Array, other_name: str, other: Array) -> None:
    """Raise unless the leading axes agree."""
    if array.shape[:1] != other.shape[:1]:
        raise ValueError(
            f"`{name}` and `{other_name}` must have the same length, "
            f"got shapes {array.shape} and {other.shape}"
        )


def check_choice(name: str, value: Any, options: Sequence[str]) -> None:
    """Raise unless `value` is one of the closed set of `options`."""
    if value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"`{name}` must be one of {listed}, got {value!r}")


def check_unit_interval(
    name: str, value: Any, *, open_low: bool = False, open_high: bool = False
) -> None:
    """Raise unless a concrete scalar lies between 0 and 1; skipped while tracing."""
    if np.ndim(value) != 0:
        raise ValueError(
            f"`{name}` must be a scalar, got shape {np.shape(value)}; "
            "map over several with jax.vmap"
        )
    if not is_concrete(value):
        return
    number = float(value)
    low_ok = number > 0 if open_low else number >= 0
    high_ok = number < 1 if open_high else number <= 1
    if not (low_ok and high_ok):
        left, right = "(" if open_low else "[", ")" if open_high else "]"
        raise ValueError(f"`{name}` must lie in {left}0, 1{right}, got {number}")


def check_no_nan(name: str, array: Array) -> None:
    """Raise if a concrete array holds NaN; skipped while tracing."""
    if not is_concrete(array):
        return
    # NumPy, not jnp: inside a trace, jnp makes tracers even of constants.
    count = int(np.isnan(np.asarray(array)).sum())
    if count:
        raise ValueError(f"`{name}` must not hold NaN, got {count} of {array.size}")
