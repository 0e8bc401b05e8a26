"""Exact comparisons of p-values on the grid 1/(n+1), ..., 1 with BH thresholds.

A conformal p-value is rank / (n + 1), so `p <= level * k / m` is the integer statement
`rank <= floor(level * k * (n + 1) / m)`. Exact equality is the normal case here and
floating point misses it; integers do not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Int

from jaxcur._base import DECIMALS, decimal_float64, exact_fraction, is_concrete

_INT64_MAX = 2**63 - 1


def grid_thresholds(level: Any, n: int, m: int) -> Int[Array, " m"]:
    """Largest accepted rank for every k: floor(level * k * (n + 1) / m), k = 1..m.

    Args:
        level: scalar. Concrete: read as the decimal number it prints as, and the
            thresholds are exact. Traced: exact when `level` is a multiple of 1e-6 and
            n * m stays below 9e12; otherwise float64 with a guard of four ulp.
        n: number of calibration scores.
        m: number of tests.

    Returns:
        shape (m,), int32, between 0 and n + 1; all zero for a level that is NaN.

    Transformations: jit, vmap over `level`.
    Cost: O(m).

    Example:
        >>> from jaxcur import stats
        >>> stats.grid_thresholds(0.5, n=3, m=2)
        Array([1, 2], dtype=int32)
    """
    if is_concrete(level):
        return jnp.asarray(_host_thresholds(level, n, m))
    return _traced_thresholds(level, n, m)


def _host_thresholds(level: Any, n: int, m: int) -> np.ndarray:
    if m == 0 or np.isnan(float(level)):
        return np.zeros(m, np.int32)
    fraction = exact_fraction(level)
    numerator = fraction.numerator * (n + 1)
    denominator = fraction.denominator * m
    whole, rest = divmod(numerator, denominator)
    k = np.arange(1, m + 1, dtype=np.int64)
    if rest * m <= _INT64_MAX and denominator <= _INT64_MAX and whole * m <= _INT64_MAX:
        thresholds = k * whole + (k * rest) // denominator
    else:
        # Levels with many digits leave 64 bits; Python integers never overflow.
        exact = (i * numerator // denominator for i in range(1, m + 1))
        thresholds = np.fromiter((min(max(t, 0), n + 1) for t in exact), np.int64, m)
    return np.clip(thresholds, 0, n + 1).astype(np.int32)


def _traced_thresholds(level: Any, n: int, m: int) -> Array:
    with jax.enable_x64(True):
        number = decimal_float64(level)
        number = jnp.where(jnp.isnan(number), 0.0, number)
        k = jnp.arange(1, m + 1, dtype=jnp.int64)
        guarded = number * (1 + 4 * float(np.finfo(np.float64).eps))
        thresholds = jnp.floor(guarded * k * (n + 1) / m)
        if m * (n + 1) * DECIMALS <= _INT64_MAX:
            numerator = jnp.round(jnp.clip(number, 0, 1) * DECIMALS).astype(jnp.int64)
            is_decimal = number == numerator / DECIMALS
            exact = numerator * (k * (n + 1)) // (DECIMALS * max(m, 1))
            thresholds = jnp.where(is_decimal, exact.astype(jnp.float64), thresholds)
        return jnp.clip(thresholds, 0, n + 1).astype(jnp.int32)


def grid_cutoff(ranks: Int[Array, " m"], thresholds: Int[Array, " m"], n: int) -> Array:
    """Largest rank that Benjamini-Hochberg rejects; 0 when it rejects nothing.

    The p-values take n + 1 values, so counting replaces sorting: with N(r) the number
    of ranks <= r, rank r is rejected when some r' >= r has r' <= thresholds[N(r')].

    Args:
        ranks: shape (m,), int, 1..n+1.
        thresholds: shape (m,), from `grid_thresholds`.
        n: number of calibration scores.

    Returns:
        int32 scalar.

    Transformations: jit, vmap.
    Cost: O(n + m), no sort.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.grid_cutoff(jnp.array([1, 3]), stats.grid_thresholds(0.5, 3, 2), 3)
        Array(1, dtype=int32)
    """
    if ranks.shape[0] == 0:
        return jnp.zeros((), jnp.int32)
    counts = jnp.zeros(n + 2, jnp.int32).at[ranks].add(1)
    at_most = jnp.cumsum(counts)
    rank = jnp.arange(n + 2, dtype=jnp.int32)
    allowed = thresholds[jnp.maximum(at_most - 1, 0)]
    accepted = (at_most > 0) & (rank <= allowed) & (rank > 0)
    return jnp.max(jnp.where(accepted, rank, 0))


def grid_cutoff_exact(counts: np.ndarray, level: Any) -> int:
    """`grid_cutoff` on the host from counts that may exceed 32 bits.

    Args:
        counts: shape (n + 1,), int64; counts[i] tests have rank i + 1.
        level: concrete scalar.

    Returns:
        The largest rejected rank, 0 when there is none; exact for any counts.
    """
    at_most = np.cumsum(counts)
    total = int(at_most[-1])
    n_plus_1 = counts.shape[0]
    fraction = exact_fraction(level)
    rank = np.arange(1, n_plus_1 + 1)
    # Floats settle all but the near ties, which exact integers then decide.
    gap = float(fraction) * n_plus_1 * at_most.astype(float) - rank * float(total)
    unsure = np.abs(gap) <= 1e-12 * rank * max(total, 1)
    accepted = (gap > 0) & ~unsure & (at_most > 0)
    for i in np.flatnonzero(unsure & (at_most > 0)):
        left = (int(i) + 1) * total * fraction.denominator
        accepted[i] = left <= fraction.numerator * n_plus_1 * int(at_most[i])
    accepted &= fraction > 0
    return int(np.flatnonzero(accepted)[-1]) + 1 if accepted.any() else 0
