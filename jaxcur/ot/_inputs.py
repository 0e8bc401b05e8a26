"""What a transport problem is made of, checked and in one dtype."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from jaxcur._base import as_float, check_rank, is_concrete
from jaxcur.ot._stream import Layout, choose_keep, choose_tile

# Sums of float32 weights that were normalised in float32 are off by 1e-6 or less.
MASS_RTOL = 1e-4


class Problem(NamedTuple):
    """Arrays of a transport problem, one dtype."""

    x: Array
    y: Array
    a: Array
    b: Array
    epsilon: Array
    rho_a: Array | None
    rho_b: Array | None
    cost: Any


def prepare_points(x: Any, y: Any) -> tuple[Array, Array]:
    """Both clouds as arrays (n, d) and (m, d)."""
    x, y = as_float(x=x, y=y)
    check_rank("x", x, 2, "(n, d)")
    check_rank("y", y, 2, "(m, d)")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"`x` and `y` must have the same columns, got {x.shape} and {y.shape}"
        )
    if 0 in x.shape or 0 in y.shape:
        raise ValueError(
            "`x` and `y` must have at least one row and one column, "
            f"got {x.shape} and {y.shape}"
        )
    return x, y


def prepare_weights(name: str, weights: Any, n: int, dtype: Any) -> Array:
    """Weights (n,), uniform where none are given."""
    if weights is None:
        return jnp.full(n, 1 / n, dtype)
    (array,) = as_float(**{name: weights})
    if array.shape != (n,):
        raise ValueError(f"`{name}` must have shape ({n},), got {array.shape}")
    if is_concrete(array):
        host = np.asarray(array)
        bad = ~(np.isfinite(host) & (host >= 0))
        if bad.any():
            raise ValueError(
                f"`{name}` must be finite and nonnegative, got {host[bad][0]} and "
                f"{bad.sum()} such of {n}"
            )
        if not host.any():
            raise ValueError(f"`{name}` must not be all zero")
    return array.astype(dtype)


def balance(name: str, weights: Array) -> Array:
    """Weights that sum to 1 exactly, NaN where they did not nearly.

    The derivative is that of the problem on the simplex: centred.
    """
    if is_concrete(weights):
        total = float(np.asarray(weights).astype(np.float64).sum())
        if abs(total - 1) > MASS_RTOL:
            raise ValueError(
                f"`{name}` must sum to 1 within {MASS_RTOL}, got {total}; divide by "
                "the sum, or give rho_a and rho_b for measures of unequal mass"
            )
    total = jnp.sum(weights)
    near = jnp.abs(total - 1) <= 2 * MASS_RTOL
    return jnp.where(near, weights / jnp.where(near, total, 1), jnp.nan)


def prepare_positive(name: str, value: Any, dtype: Any) -> Array:
    """A positive scalar."""
    if np.ndim(value) != 0:
        raise ValueError(
            f"`{name}` must be a scalar, got shape {np.shape(value)}; "
            "map over several with jax.vmap"
        )
    if is_concrete(value) and not 0 < float(value) < math.inf:
        raise ValueError(f"`{name}` must be positive and finite, got {value}")
    return jnp.asarray(value, dtype)


def prepare_rho(name: str, value: Any, dtype: Any) -> Array | None:
    """A penalty of the marginals; None, or infinity, for none allowed to differ."""
    if value is None or (is_concrete(value) and np.asarray(value) == math.inf):
        return None
    return prepare_positive(name, value, dtype)


def prepare_layout(tile: Any, x: Array, y: Array, mesh: Mesh | None) -> Layout:
    """Rows in a panel, devices, and whether costs are kept: not with a tile given."""
    n, m = x.shape[0], y.shape[0]
    keep = tile is None and choose_keep(n, m, x.dtype, mesh)
    if tile is None:
        tile = choose_tile(m, keep)
    if isinstance(tile, bool) or not isinstance(tile, (int, np.integer)) or tile < 1:
        raise ValueError(f"`tile` must be a positive integer, got {tile!r}")
    if mesh is not None and len(mesh.axis_names) != 1:
        raise ValueError(f"`mesh` must have one axis, got {mesh.axis_names}")
    return Layout(int(tile), mesh, keep)


def prepare_steps(max_steps: Any) -> int:
    """A number of iterations."""
    whole = isinstance(max_steps, (int, np.integer)) and not isinstance(max_steps, bool)
    if not whole or max_steps < 0:
        raise ValueError(
            f"`max_steps` must be a nonnegative integer, got {max_steps!r}"
        )
    return int(max_steps)


def default_rtol(rtol: Any, dtype: Any) -> Array:
    """Tolerance on the marginals."""
    if rtol is None:
        rtol = 1e-4 if jnp.finfo(dtype).bits == 32 else 1e-6
    if np.ndim(rtol) != 0:
        raise ValueError(f"`rtol` must be a scalar, got shape {np.shape(rtol)}")
    if is_concrete(rtol) and not float(rtol) >= 0:
        raise ValueError(f"`rtol` must not be negative, got {rtol}")
    return jnp.asarray(rtol, dtype)


def has_absent(*weights: Any) -> bool:
    """Whether some weight is, or under tracing might be, zero."""
    given = [w for w in weights if w is not None]
    if not is_concrete(*given):
        return True
    return any(bool((np.asarray(w) == 0).any()) for w in given)
