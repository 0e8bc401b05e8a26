"""Quantiles of weighted samples, with ties of the cumulative share kept."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, check_rank, check_same_length, is_concrete
from jaxcur.stats._sort import argsort, count_below

# What a tie of the share can suffer, in ulp of the data: each weight, their sum, the
# order q, its product with the total and this guard, half an ulp each.
_GUARD_ULP = 4
# Float64 data has no wider type to be summed in: a sum of 2^32 terms adds in 32 stages.
_GUARD_ULP_FLOAT64 = 32


def weighted_quantile(
    values: Real[ArrayLike, " n"],
    weights: Real[ArrayLike, " n"],
    q: Real[ArrayLike, "..."],
) -> Float[Array, "..."]:
    """Smallest value whose cumulative weight share reaches `q`.

    With the values sorted, C_i the sum of the first i weights and W the sum of all, the
    answer is the first value of positive weight with C_i >= q W. Equal weights give
    `numpy.quantile(values, q, method="inverted_cdf")`.

    A share that equals `q` on paper counts as reached: sums are taken in float64, and
    C_i is compared with q W (1 - 4 eps), eps being the spacing of float32 at 1 (with
    float64 data, 32 times the spacing of float64). Hence q = 0.3 of ten weights of 0.1
    is the third value. A share that falls short of `q` by less than that counts too,
    which matters only between rows whose shares differ by less than 5e-7.

    Heuristic: no finite-sample guarantee; this is a descriptive statistic.

    Args:
        values: shape (n,), any order; infinities are legal. NaN is legal only in rows
            of weight zero.
        weights: shape (n,), finite and nonnegative, not all zero. Rows of weight zero
            change nothing and are never returned. A common factor changes nothing.
        q: any shape, in [0, 1]. 0 is the smallest and 1 the largest value of positive
            weight.

    Returns:
        shape of `q`, the common float dtype of `values` and `weights`. NaN for invalid
        input under tracing, where values cannot be looked at.

    Raises:
        ValueError: unequal lengths, n = 0, a negative, infinite or NaN weight, weights
            that are all zero, a NaN value of positive weight, or `q` outside [0, 1].

    Transformations: jit, vmap. Differentiable in `values` where they are distinct (the
    gradient selects one row); not in `weights` or `q`.
    Cost: O((n + |q|) log n) time, O(n) memory.

    Source: the left-continuous inverse of the weighted empirical distribution function,
    definition 1 of Hyndman and Fan (1996) for equal weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import stats
        >>> stats.weighted_quantile(jnp.array([3.0, 1.0, 2.0]), jnp.ones(3), 0.5)
        Array(2., dtype=float32)
    """
    values, weights = as_float(values=values, weights=weights)
    check_rank("values", values, 1)
    check_rank("weights", weights, 1)
    check_same_length("values", values, "weights", weights)
    if values.shape[0] == 0:
        raise ValueError("`values` must hold at least one row, got shape (0,)")
    (order,) = as_float(q=q)
    _check_weights(values, weights)
    _check_orders(order)
    return _weighted_quantile(values, weights, order.astype(values.dtype))


def _check_weights(values: Array, weights: Array) -> None:
    if not is_concrete(values, weights):
        return
    host = np.asarray(weights)
    bad = ~(np.isfinite(host) & (host >= 0))
    if bad.any():
        raise ValueError(
            "`weights` must be finite and nonnegative, "
            f"got {host[bad][0]} and {bad.sum()} such of {host.size}"
        )
    if not host.any():
        raise ValueError("`weights` must not all be zero")
    if (np.isnan(np.asarray(values)) & (host > 0)).any():
        raise ValueError(
            "`values` must not hold NaN; give a missing row the weight zero"
        )


def _check_orders(order: Array) -> None:
    if not is_concrete(order):
        return
    host = np.asarray(order)
    bad = ~((host >= 0) & (host <= 1))
    if bad.any():
        raise ValueError(f"`q` must lie in [0, 1], got {host[bad].flat[0]}")


@jax.jit
def _weighted_quantile(values: Array, weights: Array, q: Array) -> Array:
    n = values.shape[0]
    order = argsort(jax.lax.stop_gradient(values))
    values, weights = values[order], weights[order]
    present = weights > 0
    index = _first_reaching(weights, q)
    rows = jnp.arange(n, dtype=jnp.int32)
    last = jnp.max(jnp.where(present, rows, 0))
    # The guard must not let q = 1 stop before a last row of tiny weight.
    index = jnp.where(q < 1, jnp.minimum(index, last), last)
    # The first row of positive weight serves q = 0, whose target is no weight at all.
    index = jnp.maximum(index, jnp.argmax(present).astype(jnp.int32))
    # Rounding may raise a sum by an ulp at a row of weight zero: step back from it.
    nearest = jax.lax.cummax(jnp.where(present, rows, 0))
    found = values[nearest[index]]
    legal = jnp.all(jnp.isfinite(weights) & (weights >= 0)) & jnp.any(present)
    legal &= ~jnp.any(jnp.isnan(values) & present)
    legal = legal & (q >= 0) & (q <= 1)
    return jnp.where(legal, found, jnp.nan)


def _first_reaching(weights: Array, q: Array) -> Array:
    """Index of the first row whose share of the weight reaches each q."""
    eps = float(jnp.finfo(weights.dtype).eps)
    is_double = weights.dtype == jnp.float64
    guard = 1 - eps * (_GUARD_ULP_FLOAT64 if is_double else _GUARD_ULP)
    with jax.enable_x64(True):
        masses = weights.astype(jnp.float64)
        # A power of two changes no digit and keeps the largest sums finite.
        # It is read off the bits: jax 0.12 expands frexp outside the 64-bit mode.
        bits = jax.lax.bitcast_convert_type(jnp.max(masses), jnp.int64)
        inverse = jnp.clip(2045 - ((bits >> 52) & 0x7FF), 1, 2046) << 52
        sums = jnp.cumsum(masses * jax.lax.bitcast_convert_type(inverse, jnp.float64))
        targets = q.astype(jnp.float64) * sums[-1] * guard
        return count_below(jax.lax.cummax(sums), targets)
