"""Benjamini-Hochberg and its relatives for p-values and e-values."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_no_nan,
    check_rank,
    check_same_length,
    check_unit_interval,
    exact_fraction,
    is_concrete,
)
from jaxcur.stats._sort import count_at_most, sort


def _checked(name: str, values: ArrayLike, *, high: float | None) -> Array:
    (array,) = as_float(**{name: values})
    check_rank(name, array, 1, "(m,)")
    check_no_nan(name, array)
    if is_concrete(array) and array.size:
        host = np.asarray(array)
        if (host < 0).any() or (high is not None and (host > high).any()):
            span = "[0, 1]" if high is not None else "[0, inf]"
            found = f"[{host.min()}, {host.max()}]"
            raise ValueError(f"`{name}` must lie in {span}, got values in {found}")
    return array


def _as_level(level: Any, dtype: Any) -> Array:
    if is_concrete(level) and not np.isnan(float(level)):
        level = float(exact_fraction(level))
    return jnp.asarray(level, dtype)


def tie_guard(dtype: Any) -> float:
    """Factor that keeps an exact tie on the accepting side after rounding."""
    return 1 + 4 * float(jnp.finfo(dtype).eps)


def step_up(p_values: Array, slope: Array, mask: Array | None = None) -> Array:
    """Reject p <= slope * k for the largest k with at least k such p-values.

    Args:
        p_values: shape (m,).
        slope: scalar, level / m for Benjamini-Hochberg.
        mask: shape (m,), or None; False takes a p-value out.

    Returns:
        shape (m,), bool.
    """
    if p_values.shape[0] == 0:
        return jnp.zeros(0, bool)
    present = p_values if mask is None else jnp.where(mask, p_values, jnp.nan)
    k = jnp.arange(1, p_values.shape[0] + 1, dtype=p_values.dtype)
    accepted = sort(present) <= slope * k * tie_guard(p_values.dtype)
    largest = jnp.max(jnp.where(accepted, k, 0.0))
    limit = slope * largest * tie_guard(p_values.dtype)
    # `largest > 0` also keeps a p-value of exactly 0 out when the level is 0.
    return (present <= limit) & (largest > 0) & (slope > 0)


def benjamini_hochberg(
    p_values: Real[ArrayLike, " m"],
    level: float | Array,
    *,
    mask: Bool[ArrayLike, " m"] | None = None,
) -> Bool[Array, " m"]:
    """Hypotheses rejected by the Benjamini-Hochberg step-up procedure.

    Rejects the k* smallest p-values, k* = max{k : #{j : p_j <= level * k / m} >= k}.

    Guarantee: if the null p-values are super-uniform and independent, or positively
    dependent (PRDS) on each null, then FDR <= level * (number of true nulls) / m.
    Verified by: `jaxcur verify select`.

    Args:
        p_values: shape (m,), in [0, 1].
        level: scalar in [0, 1], target FDR; 0 rejects nothing.
        mask: shape (m,), True where a p-value counts. The others are neither tested
            nor counted in m. Padding a batch this way changes no decision.

    Returns:
        shape (m,), True where rejected. A tie p_j = level * k / m is rejected: the
        comparison allows four ulp, which repairs the rounding of p-values on a grid
        j / (n + 1) up to about n * m = 1e7 in float32. `conformal.select` compares
        integers instead and has no such limit.

    Raises:
        ValueError: level outside [0, 1] or NaN; a p-value outside [0, 1] or NaN (while
            tracing, NaN is never rejected and still counts in m); unequal lengths.

    Transformations: jit, vmap, `level` may be traced. Not differentiable.
    Cost: one integer sort, O(m log m) time, O(m) memory.

    Source: Benjamini and Hochberg, JRSS-B 1995; dependence: Benjamini and Yekutieli,
    Annals of Statistics 2001.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.benjamini_hochberg(jnp.array([0.01, 0.5, 0.04]), 0.1)
        Array([ True, False,  True], dtype=bool)
    """
    check_unit_interval("level", level)
    array = _checked("p_values", p_values, high=1.0)
    target = _as_level(level, array.dtype)
    if mask is None:
        return step_up(array, target / max(array.shape[0], 1))
    present = jnp.asarray(mask, bool)
    check_same_length("mask", present, "p_values", array)
    m = jnp.maximum(jnp.sum(present), 1).astype(array.dtype)
    return step_up(array, target / m, present)


def adjust_p_values(
    p_values: Real[ArrayLike, " m"],
    *,
    method: Literal["bh", "by", "bonferroni", "holm", "hochberg"] = "bh",
) -> Float[Array, " m"]:
    """Smallest level at which each hypothesis would be rejected.

    Args:
        p_values: shape (m,), in [0, 1].
        method: "bh" and "by" control the FDR (the second under any dependence);
            "bonferroni" and "holm" control the family-wise error rate under any
            dependence, "hochberg" under positive dependence.

    Returns:
        shape (m,), in [0, 1]; `adjust_p_values(p) <= level` is the rejection set of the
        method at `level` up to rounding.

    Raises:
        ValueError: a p-value outside [0, 1] or NaN (while tracing, NaN poisons the
            result), unknown method.

    Transformations: jit, vmap. Not differentiable at ties.
    Cost: one integer sort and one search, O(m log m).

    Source: Wright, Biometrics 1992; Benjamini and Yekutieli 2001; Holm 1979.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.adjust_p_values(jnp.array([0.0, 0.5, 1.0]))
        Array([0.  , 0.75, 1.  ], dtype=float32)
    """
    check_choice("method", method, ("bh", "by", "bonferroni", "holm", "hochberg"))
    array = _checked("p_values", p_values, high=1.0)
    m = array.shape[0]
    if m == 0:
        return array
    if method == "bonferroni":
        return jnp.minimum(array * m, 1.0)
    ordered = sort(array)
    k = jnp.arange(1, m + 1, dtype=array.dtype)
    if method == "holm":
        adjusted = jax.lax.cummax(ordered * (m - k + 1))
    elif method == "hochberg":
        adjusted = jax.lax.cummin(ordered * (m - k + 1), reverse=True)
    else:
        factor = float(np.sum(1.0 / np.arange(1, m + 1))) if method == "by" else 1.0
        adjusted = jax.lax.cummin(ordered * (m / k) * factor, reverse=True)
    # Equal p-values share one adjusted value, so a search replaces the inverse sort.
    place = jnp.clip(count_at_most(ordered, array) - 1, 0, m - 1)
    return jnp.minimum(adjusted[place], 1.0)


def storey_bh(
    p_values: Real[ArrayLike, " m"], level: float | Array, *, cutoff: float = 0.5
) -> Bool[Array, " m"]:
    """Benjamini-Hochberg at level / pi0 with Storey's estimate of the null share.

    pi0 = (1 + #{p_j >= cutoff}) / (m * (1 - cutoff)), not capped at 1.

    Guarantee: independent super-uniform null p-values give FDR <= level. Conformal
    p-values share a calibration set; for them the bound holds as shown for outlier
    detection by Marandon et al. (AdaDetect), Annals of Statistics 2024. Verified by:
    `jaxcur verify outliers/adaptive`.

    Args:
        p_values: shape (m,), in [0, 1].
        level: scalar in [0, 1], target FDR.
        cutoff: scalar in (0, 1); p-values at or above it are taken to be null.

    Returns:
        shape (m,), True where rejected.

    Raises:
        ValueError: level or cutoff out of range, a p-value outside [0, 1] or NaN.

    Transformations: jit, vmap; level and cutoff may be traced.
    Cost: O(m log m).

    Source: Storey, JRSS-B 2002; Storey, Taylor and Siegmund, JRSS-B 2004.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.storey_bh(jnp.array([0.01, 0.04, 0.07, 0.7]), 0.1)
        Array([ True,  True,  True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    check_unit_interval("cutoff", cutoff, open_low=True, open_high=True)
    array = _checked("p_values", p_values, high=1.0)
    bar = jnp.asarray(cutoff, array.dtype)
    # A p-value that rounding left just under the cutoff still counts as null.
    guard = tie_guard(array.dtype)
    above = jnp.sum(array * guard >= bar, dtype=jnp.int32).astype(array.dtype)
    slope = _as_level(level, array.dtype) * (1 - bar) / (1 + above)
    return step_up(array, slope)


def quantile_bh(
    p_values: Real[ArrayLike, " m"], level: float | Array
) -> Bool[Array, " m"]:
    """Benjamini-Hochberg at level / pi0 with the null share read off the median.

    pi0 = (m - k0 + 1) / (m * (1 - p_(k0+1))), k0 = floor(m / 2).

    Guarantee: as `storey_bh`.

    Args:
        p_values: shape (m,), in [0, 1].
        level: scalar in [0, 1], target FDR.

    Returns:
        shape (m,), True where rejected.

    Raises:
        ValueError: level out of range, a p-value outside [0, 1] or NaN.

    Transformations: jit, vmap; level may be traced.
    Cost: O(m log m).

    Source: Benjamini, Krieger and Yekutieli, Biometrika 2006.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.quantile_bh(jnp.array([0.01, 0.02, 0.03, 0.7]), 0.1)
        Array([ True,  True,  True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    array = _checked("p_values", p_values, high=1.0)
    m = array.shape[0]
    if m == 0:
        return jnp.zeros(0, bool)
    k0 = m // 2
    slope = _as_level(level, array.dtype) * (1 - sort(array)[k0]) / (m - k0 + 1)
    return step_up(array, slope)


def e_bh(e_values: Real[ArrayLike, " m"], level: float | Array) -> Bool[Array, " m"]:
    """Hypotheses rejected by the e-BH procedure.

    Rejects the k* largest e-values, k* = max{k : #{j : e_j >= m / (level * k)} >= k}.

    Guarantee: if E[e_j] <= 1 for every true null j, FDR <= level under any dependence.
    Verified by: `jaxcur verify select/weighted`.

    Args:
        e_values: shape (m,), nonnegative, +inf allowed.
        level: scalar in [0, 1], target FDR; 0 rejects nothing.

    Returns:
        shape (m,), True where rejected. A tie e_j = m / (level * k) is rejected
        (compared with four ulp of slack).

    Raises:
        ValueError: level out of range; an e-value negative or NaN.

    Transformations: jit, vmap; level may be traced.
    Cost: O(m log m).

    Source: Wang and Ramdas, JRSS-B 2022.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.e_bh(jnp.array([40.0, 1.0, 15.0]), 0.1)
        Array([ True, False,  True], dtype=bool)
    """
    check_unit_interval("level", level)
    array = _checked("e_values", e_values, high=None)
    m = array.shape[0]
    if m == 0:
        return jnp.zeros(0, bool)
    target = _as_level(level, array.dtype)
    k = jnp.arange(1, m + 1, dtype=array.dtype)
    # Minus the values sorts them in descending order; NaN stays last.
    descending = -sort(-array)
    least = m / (target * k) / tie_guard(array.dtype)
    accepted = descending >= least
    largest = jnp.max(jnp.where(accepted, k, 0.0))
    bar = m / (target * jnp.maximum(largest, 1.0)) / tie_guard(array.dtype)
    return (array >= bar) & (largest > 0) & (target > 0)
