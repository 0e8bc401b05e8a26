"""Checks of what the functions of this package are given.

Values are looked at only where they are concrete. A value that cannot be looked at is
checked inside the program: an illegal one turns into NaN, which every sum carries on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import as_float, check_rank, check_same_length, is_concrete

# How far outside [0, 1] a probability may lie by rounding; it is then clipped.
_SLACK = {32: 1e-5, 64: 1e-9}
# How far the sum of a row of probabilities may be from 1.
_ROW_SUM = {32: 1e-3, 64: 1e-6}


def _bits(array: Array) -> int:
    return int(jnp.finfo(array.dtype).bits)


def _source_bits(value: Any, array: Array) -> int:
    """Precision of the numbers as given: half precision is computed in float32."""
    given = getattr(value, "dtype", array.dtype)
    if jnp.issubdtype(given, jnp.floating):
        return min(int(jnp.finfo(given).bits), _bits(array))
    return _bits(array)


def as_numbers(name: str, value: Any) -> Array:
    """Whole numbers and booleans as they are, all others as floats.

    Raises:
        TypeError: words, or anything else that is no real number.
    """
    # Dtypes of other libraries need not have a kind.
    if getattr(getattr(value, "dtype", None), "kind", "") in ("i", "u", "b"):
        return jnp.asarray(value)
    return as_float(**{name: value})[0]


def check_probabilities(
    name: str, value: Any, rank: int = 1, shape: str = "(n,)"
) -> Array:
    """Probabilities as floats, at least one row, in [0, 1]; NaN where one is not.

    Rounding noise outside [0, 1] is clipped.

    Raises:
        ValueError: another rank, no rows, NaN, or a number outside [0, 1].
    """
    (array,) = as_float(**{name: value})
    check_rank(name, array, rank, shape)
    if array.shape[0] == 0:
        raise ValueError(f"`{name}` must hold at least one row, got {array.shape}")
    bits = _source_bits(value, array)
    slack = _SLACK.get(bits, 1e-2)
    if is_concrete(array):
        host = np.asarray(array)
        low, high = host.min(), host.max()
        if np.isnan(low) or np.isnan(high):
            count = int(np.isnan(host).sum())
            raise ValueError(f"`{name}` must not hold NaN, got {count} of {host.size}")
        if low < -slack or high > 1 + slack:
            worst = low if low < -slack else high
            hint = "; are these logits?" if worst < 0 or worst > 2 else ""
            raise ValueError(f"`{name}` must lie in [0, 1], got {worst}{hint}")
        # A pass over the rows costs as much as a metric: only where it changes one.
        return array if low >= 0 and high <= 1 else jnp.clip(array, 0, 1)
    legal = (array >= -slack) & (array <= 1 + slack)
    return jnp.where(legal, jnp.clip(array, 0, 1), jnp.nan)


def check_outcomes(
    name: str, value: Any, like: Array, like_name: str, *, convert: bool = True
) -> Array:
    """Outcomes in [0, 1] as floats of the dtype of `like`; NaN where one is not.

    0 and 1 in most uses; anything between them is the mean of several outcomes. Without
    `convert`, integers that can be looked at stay integers, for the caller's program to
    convert in passing.

    Raises:
        ValueError: another length than `like`, NaN, or a number outside [0, 1].
    """
    if convert or not is_concrete(value):
        (array,) = as_float(**{name: value})
    else:
        array = as_numbers(name, value)
    check_rank(name, array, 1)
    check_same_length(like_name, like, name, array)
    if is_concrete(array):
        host = np.asarray(array)
        low, high = host.min(), host.max()
        if not (low >= 0 and high <= 1):
            bad = host[~((host >= 0) & (host <= 1))][0]
            raise ValueError(f"`{name}` must be 0 or 1 (or between), got {bad}")
        return array.astype(like.dtype) if convert else array
    array = array.astype(like.dtype)
    return jnp.where((array >= 0) & (array <= 1), array, jnp.nan)


def check_classes(
    name: str, value: Any, num_classes: int, like: Array, like_name: str
) -> tuple[Array, Array]:
    """Classes 0..num_classes-1 as int32 (n,), and where they are legal, bool (n,).

    Raises:
        ValueError: another length than `like`, or a number that is no class.
        TypeError: traced labels that are not integers.
    """
    array = as_numbers(name, value)
    check_rank(name, array, 1)
    check_same_length(like_name, like, name, array)
    if is_concrete(array):
        host = np.asarray(array)
        legal = (host >= 0) & (host < num_classes) & (host == np.floor(host))
        if not legal.all():
            raise ValueError(
                f"`{name}` must hold integers 0..{num_classes - 1}, "
                f"got {host[~legal][0]}"
            )
    elif not (
        jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == jnp.dtype(bool)
    ):
        raise TypeError(f"`{name}` must hold integers, got dtype {array.dtype}")
    array = array.astype(jnp.int32)
    legal = (array >= 0) & (array < num_classes)
    return jnp.clip(array, 0, num_classes - 1), legal


def check_weights(value: Any, like: Array, like_name: str) -> Array:
    """Weights (n,) in the dtype of `like`, ones when None; NaN where one is illegal.

    Raises:
        ValueError: another length, a negative, infinite or NaN weight, or all zero.
    """
    if value is None:
        return jnp.ones(like.shape[:1], like.dtype)
    (array,) = as_float(weights=value)
    check_rank("weights", array, 1)
    check_same_length(like_name, like, "weights", array)
    if is_concrete(array):
        host = np.asarray(array)
        bad = ~(np.isfinite(host) & (host >= 0))
        if bad.any():
            raise ValueError(
                f"`weights` must be finite and at least 0, got {host[bad][0]}"
            )
        if not host.any():
            raise ValueError("`weights` must not all be 0")
        return array.astype(like.dtype)
    array = array.astype(like.dtype)
    return jnp.where((array >= 0) & jnp.isfinite(array), array, jnp.nan)


def check_binary(
    probs: Any, labels: Any, weights: Any = None
) -> tuple[Array, Array, Array]:
    """Forecasts, outcomes and weights of a binary event, each (n,), one float dtype.

    Args:
        probs: shape (n,), in [0, 1].
        labels: shape (n,), 0 or 1 (booleans too; means of outcomes between them).
        weights: shape (n,), at least 0; None for ones.

    Returns:
        (f, y, w). Under tracing a row with an illegal value holds NaN.

    Raises:
        ValueError: n = 0, unequal lengths, NaN, or values outside their range.
    """
    f = check_probabilities("probs", probs)
    y = check_outcomes("labels", labels, f, "probs")
    return f, y, check_weights(weights, f, "probs")


def check_multiclass(
    probs: Any, labels: Any, weights: Any = None, *, normalize: bool = False
) -> tuple[Array, Array, Array]:
    """Rows of probabilities (n, k), classes int32 (n,) and weights (n,).

    Args:
        probs: shape (n, k), k >= 2, rows that sum to 1 (within 1e-3, in float64 1e-6).
        labels: shape (n,), integers 0..k-1.
        weights: shape (n,), at least 0; None for ones.
        normalize: divide each row by its sum instead of asking that it be 1.

    Returns:
        (P, c, w). Under tracing an illegal row of P holds NaN throughout.

    Raises:
        ValueError: n = 0, k < 2, unequal lengths, NaN, values outside their range, or
            rows that do not sum to 1.
    """
    if normalize:
        (p,) = as_float(probs=probs)
        check_rank("probs", p, 2, "(n, k)")
        total = jnp.sum(p, axis=1, keepdims=True)
        probs = p / jnp.where(total > 0, total, jnp.nan)
    p = check_probabilities("probs", probs, 2, "(n, k)")
    _check_num_classes("probs", p)
    total = jnp.sum(p, axis=1)
    slack = _ROW_SUM.get(_source_bits(probs, p), 1e-2)
    if is_concrete(p):
        host = np.asarray(total)
        worst = int(np.argmax(np.abs(host - 1)))
        if abs(host[worst] - 1) > slack:
            raise ValueError(
                f"the rows of `probs` must sum to 1, row {worst} sums to "
                f"{host[worst]}; divide by the sums, or pass normalize=True where the "
                "function has it"
            )
    c, legal = check_classes("labels", labels, p.shape[1], p, "probs")
    w = check_weights(weights, p, "probs")
    if is_concrete(p, c):
        return p, c, w
    legal &= jnp.abs(total - 1) <= slack
    return jnp.where(legal[:, None], p, jnp.nan), c, w


def check_scored(
    probs: Any, labels: Any, weights: Any = None, *, convert: bool = True
) -> tuple[Array, Array, Array | None]:
    """Binary forecasts as they are; rows of probabilities as their top label.

    Args:
        probs: shape (n,) or (n, k).
        labels: shape (n,), outcomes in [0, 1], or classes 0..k-1 for rows.
        weights: shape (n,), or None.
        convert: False leaves integer labels of binary forecasts as they are.

    Returns:
        (f, y, w), each (n,): for rows, f is the largest probability and y whether the
        label is its class (the lowest one of a tie). w is None where none were given.

    Raises:
        ValueError: as `check_binary` and `check_multiclass`.
    """
    if np.ndim(probs) == 2:
        p, c, w = check_multiclass(probs, labels, weights)
        f, y = top_label_of(p, c)
    else:
        f = check_probabilities("probs", probs)
        y = check_outcomes("labels", labels, f, "probs", convert=convert)
        w = None if weights is None else check_weights(weights, f, "probs")
    return f, y, None if weights is None else w


def top_label_of(p: Array, c: Array) -> tuple[Array, Array]:
    """Largest probability of each row, and 1.0 where it is that of the label."""
    return _top_label(p, c)


@jax.jit
def _top_label(p: Array, c: Array) -> tuple[Array, Array]:
    # Plain maxima and minima: the argmax of XLA is several times slower on a CPU.
    largest = jnp.max(p, axis=1)
    k = p.shape[1]
    column = jnp.arange(k, dtype=jnp.int32)
    first = jnp.min(jnp.where(p == largest[:, None], column, k), axis=1)
    return largest, (first == c).astype(p.dtype)


def is_hard(labels: Any) -> bool:
    """Whether outcomes are seen to be exactly 0 or 1 without looking into a trace."""
    if not is_concrete(labels):
        return False
    host = np.asarray(labels)
    return host.dtype.kind in "iub" or bool(((host == 0) | (host == 1)).all())


def check_logits(
    logits: Any, labels: Any, weights: Any = None
) -> tuple[Array, Array, Array]:
    """Logits (n, k) or (n,), labels and weights.

    Args:
        logits: shape (n, k) with k >= 2, or (n,) for the log-odds of a binary event;
            finite.
        labels: shape (n,): integers 0..k-1, or outcomes in [0, 1] for logits (n,).
        weights: shape (n,), at least 0; None for ones.

    Returns:
        (L, c, w); c is int32 for logits (n, k) and float for logits (n,). Under
        tracing an illegal row of L holds NaN.

    Raises:
        ValueError: n = 0, another rank, k < 2, unequal lengths, a logit that is not
            finite, or labels outside their range.
    """
    (array,) = as_float(logits=logits)
    if array.ndim not in (1, 2):
        raise ValueError(f"`logits` must have shape (n,) or (n, k), got {array.shape}")
    if array.shape[0] == 0:
        raise ValueError(f"`logits` must hold at least one row, got {array.shape}")
    if is_concrete(array):
        finite = np.isfinite(np.asarray(array))
        if not finite.all():
            raise ValueError(
                f"`logits` must be finite, got {int((~finite).sum())} that are not; "
                "clip probabilities away from 0 and 1 before taking logits"
            )
    array = jnp.where(jnp.isfinite(array), array, jnp.nan)
    w = check_weights(weights, array, "logits")
    if array.ndim == 1:
        return array, check_outcomes("labels", labels, array, "logits"), w
    _check_num_classes("logits", array)
    c, legal = check_classes("labels", labels, array.shape[1], array, "logits")
    return jnp.where(legal[:, None], array, jnp.nan), c, w


def _check_num_classes(name: str, array: Array) -> None:
    if array.shape[1] < 2:
        raise ValueError(
            f"`{name}` must have at least 2 columns, got shape {array.shape}"
            + (f"; drop the axis with `{name}[:, 0]`" if array.shape[1] == 1 else "")
        )
