"""Checks of what a fit is given."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import as_float, check_choice, check_rank, is_concrete
from jaxcur.ordinal._crossing import column_ranges
from jaxcur.ordinal._families import FAMILIES
from jaxcur.ordinal._links import LINKS
from jaxcur.ordinal._penalties import check_nonnegative


def check_features(features: Any) -> Array:
    """X as floats, (n, p), without NaN where that can be seen."""
    (array,) = as_float(X=features)
    check_rank("X", array, 2, "(n, p)")
    if array.shape[0] == 0:
        raise ValueError("`X` has no rows")
    if array.shape[1] == 0:
        raise ValueError("`X` has no columns; an intercept is always fitted")
    if is_concrete(array):
        bad = ~np.isfinite(np.asarray(array)).all(axis=0)
        if bad.any():
            raise ValueError(
                f"`X` must be finite, column {int(np.argmax(bad))} holds NaN or inf"
            )
    return array


def check_response(y: Any, num_classes: int, n: int) -> Array:
    """Classes 0..num_classes-1 as int32, (n,)."""
    if not isinstance(num_classes, (int, np.integer)) or num_classes < 2:
        raise ValueError(
            f"`num_classes` must be an integer of at least 2, got {num_classes!r}"
        )
    if hasattr(y, "cat") or hasattr(y, "codes") or hasattr(y, "categories"):
        raise TypeError(
            "`y` must hold codes 0..num_classes-1, got a pandas categorical: pass its "
            "codes, y.cat.codes, or use jaxcur.frames.fit_ordinal, which keeps labels"
        )
    if is_concrete(y) and np.asarray(y).dtype.kind not in "biuf":
        raise TypeError(
            "`y` must hold codes 0..num_classes-1, "
            f"got dtype {np.asarray(y).dtype}; for labels see "
            "jaxcur.frames.fit_ordinal, or code them with the lowest class as 0"
        )
    array = jnp.asarray(y)
    check_rank("y", array, 1)
    if array.shape != (n,):
        raise ValueError(
            f"`X` and `y` must have the same length, got {n} and {array.shape[0]}"
        )
    if is_concrete(array):
        host = np.asarray(array)
        if not np.isfinite(host.astype(float)).all():
            raise ValueError("`y` must not hold NaN or inf")
        if (host != np.floor(host)).any() or host.size == 0:
            raise ValueError("`y` must hold integers 0..num_classes-1, one per row")
        if host.min() < 0 or host.max() >= num_classes:
            raise ValueError(
                f"`y` must lie in 0..{num_classes - 1}, "
                f"got values from {host.min()} to {host.max()}"
            )
    elif not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"`y` must hold integers, got dtype {array.dtype}")
    return array.astype(jnp.int32)


def check_weights(weights: Any, n: int, dtype: Any) -> Array:
    """Weights (n,), ones when not given."""
    if weights is None:
        return jnp.ones(n, dtype)
    array = jnp.asarray(weights, dtype)
    if array.shape != (n,):
        raise ValueError(f"`weights` must have shape ({n},), got {array.shape}")
    if is_concrete(array):
        host = np.asarray(array)
        if not (np.isfinite(host) & (host >= 0)).all():
            raise ValueError("`weights` must be finite and at least 0")
        if host.sum() <= 0:
            raise ValueError("`weights` must not all be 0")
    return array


def check_strength(regularization: Any, dtype: Any, several: str = "") -> Array:
    """One strength, as a scalar; `several` says what to do with more."""
    if regularization is None or isinstance(regularization, str):
        raise TypeError(
            "`regularization` must be a number of at least 0, "
            f"got {regularization!r}; `cross_validate` chooses one"
        )
    strength = jnp.asarray(regularization, dtype)
    if strength.ndim != 0:
        raise ValueError(
            f"`regularization` must be a scalar, got shape {strength.shape}{several}"
        )
    check_nonnegative("regularization", strength)
    return strength


def check_key(key: Any) -> Any:
    """A PRNG key of JAX, new or old style."""
    if key is None or isinstance(key, Array):
        return key
    if not np.issubdtype(getattr(key, "dtype", type(None)), np.uint32):
        raise TypeError(f"`key` must be a PRNG key, jax.random.key(...), got {key!r}")
    return key


def check_classes_present(y: Array, weights: Array, num_classes: int) -> None:
    """Raise where a concrete response misses a class."""
    if not is_concrete(y, weights):
        return
    present = np.unique(np.asarray(y)[np.asarray(weights) > 0])
    if present.size == 1:
        raise ValueError(f"`y` holds a single class, {present[0]}: nothing to fit")
    missing = sorted(set(range(num_classes)) - set(present.tolist()))
    if missing:
        raise ValueError(
            f"`y` never takes class {missing[0]} (of weight above 0): its boundaries "
            "cannot be told apart. Merge it with a neighbour and lower `num_classes`"
        )


def check_options(family: str, link: str, crossing: str, max_steps: int) -> None:
    """Closed choices of a fit."""
    check_choice("family", family, FAMILIES)
    check_choice("link", link, LINKS)
    check_choice("crossing", crossing, ("own", "train", "box"))
    if crossing != "own" and family != "cumulative":
        raise ValueError(
            f"crossing={crossing!r} is for family='cumulative'; 'sratio', 'cratio' and "
            "'acat' never cross, leave crossing='own'"
        )
    if family == "acat" and link != "logit":
        raise ValueError(f"the family 'acat' has link 'logit' only, got {link!r}")
    if not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"`max_steps` must be a positive integer, got {max_steps!r}")


def check_box(
    box: Any, crossing: str, features: Array, weights: Array
) -> tuple[Array, Array] | None:
    """(lower, upper), each (p,); the ranges of the columns where none is given."""
    if crossing != "box":
        if box is not None:
            raise ValueError(f"`box` needs crossing='box', got crossing={crossing!r}")
        return None
    if box is None:
        return column_ranges(features, weights)
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        raise ValueError("`box` must be a pair (lower, upper)")
    p = features.shape[1]
    ends = []
    for end in box:
        array = jnp.asarray(end, features.dtype)
        if array.shape not in ((), (p,)):
            raise ValueError(
                f"the ends of `box` must have shape () or ({p},), got {array.shape}"
            )
        ends.append(jnp.broadcast_to(array, (p,)))
    if is_concrete(*ends):
        lower, upper = np.asarray(ends[0]), np.asarray(ends[1])
        if not (np.isfinite(lower) & np.isfinite(upper) & (lower <= upper)).all():
            raise ValueError("`box` must be finite, with lower <= upper")
    return ends[0], ends[1]


def default_rtol(rtol: Any, dtype: Any) -> Array:
    """1e-9 in float64, 1e-4 in float32."""
    if rtol is None:
        rtol = 1e-9 if jnp.finfo(dtype).bits == 64 else 1e-4
    elif is_concrete(rtol) and not float(rtol) > 0:
        raise ValueError(f"`rtol` must be positive, got {rtol}")
    return jnp.asarray(rtol, dtype)
