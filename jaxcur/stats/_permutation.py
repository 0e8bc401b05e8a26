"""Permutation tests: exact under exchangeability, whatever the statistic."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int

from jaxcur._base import is_concrete, register_dataclass

# Two divisions that differ in the order of rows alone have one statistic on paper.
_TIE_ULP = 64


@register_dataclass
@dataclasses.dataclass(frozen=True)
class PermutationTestResult:
    """Outcome of a permutation test.

    Attributes:
        statistic: scalar, of the data as observed.
        p_value: scalar in (0, 1].
        null: shape (B,), statistics of the permuted data.
    """

    statistic: Array
    p_value: Array
    null: Array


def permutation_test(
    statistic: Callable[[Any], Array],
    data: Any,
    *,
    num_resamples: int | None = None,
    key: Array | None = None,
    permutations: Int[ArrayLike, "B n"] | None = None,
    batch_size: int | None = None,
    tie_rtol: float | None = None,
) -> PermutationTestResult:
    """Compare a statistic with its values on permuted rows; large is significant.

    p = (1 + #{permuted statistics >= the observed one}) / (1 + B).

    Guarantee: if the rows are exchangeable and the permutations uniform and independent
    of them, P(p <= u) <= u for every u, with equality for u = k / (B + 1) where
    statistics do not tie. Verified by: tests/unit/stats/test_permutation.py.

    Args:
        statistic: maps permuted data to a scalar; traceable.
        data: array or pytree with leading axis n; the rows of every leaf are permuted
            together. What must stay in place belongs into `statistic`.
        num_resamples: number of permutations to draw with `key`. Static.
        key: PRNG key.
        permutations: shape (B, n), the permutations themselves.
        batch_size: statistics computed side by side; None for one at a time. Static.
        tie_rtol: permuted statistics this close below the observed one, relative to
            it, count as equal: rounding must not break a tie; None for 64 ulps. A
            larger value never invalidates the test.

    Returns:
        `PermutationTestResult`. A permuted statistic that is NaN counts as large; with
        an observed one the p-value is NaN.

    Raises:
        ValueError: neither or both of `key` and `permutations`, wrong shapes, rows
            of concrete `permutations` that are none.

    Transformations: jit, vmap. Not differentiable.
    Cost: B + 1 evaluations of the statistic.

    Source: Phipson and Smyth, "Permutation p-values should never be zero", 2010.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import stats
        >>> values = jnp.concatenate([jnp.zeros(6), jnp.ones(6)])
        >>> shift = lambda v: jnp.mean(v[6:]) - jnp.mean(v[:6])
        >>> key = jax.random.key(0)
        >>> test = stats.permutation_test(shift, values, num_resamples=19, key=key)
        >>> round(float(test.p_value), 3)
        0.05
    """
    leaves = jax.tree.leaves(data)
    if not leaves or any(np.ndim(leaf) == 0 for leaf in leaves):
        raise ValueError("`data` must hold arrays with a leading axis of rows")
    lengths = {np.shape(leaf)[0] for leaf in leaves}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"`data` must have one number of rows, not 0, got {sorted(lengths)}"
        )
    (n,) = lengths
    orders = _orders(num_resamples, key, permutations, n)
    data = jax.tree.map(jnp.asarray, data)

    def permuted(order: Array) -> Array:
        return statistic(jax.tree.map(lambda leaf: leaf[order], data))

    # The observed order goes through the same program: equal data, equal result.
    identity = jnp.arange(n, dtype=orders.dtype)[None]
    values = jax.lax.map(
        permuted, jnp.concatenate([identity, orders]), batch_size=batch_size
    )
    if values.ndim != 1:
        raise ValueError(
            f"`statistic` must return a scalar, got shape {values.shape[1:]}"
        )
    observed, null = values[0], values[1:]
    if tie_rtol is None:
        tie_rtol = _TIE_ULP * float(jnp.finfo(values.dtype).eps)
    cut = observed - tie_rtol * jnp.abs(observed)
    # Written so that a NaN counts.
    count = jnp.sum(~(null < cut))
    p_value = ((1 + count) / (1 + null.shape[0])).astype(values.dtype)
    p_value = jnp.where(jnp.isnan(observed), jnp.nan, p_value)
    return PermutationTestResult(statistic=observed, p_value=p_value, null=null)


def _orders(num_resamples: Any, key: Any, permutations: Any, n: int) -> Array:
    if (permutations is None) == (key is None):
        raise ValueError(
            "pass either `key` or `permutations`: "
            f"got {'neither' if key is None else 'both'}"
        )
    if permutations is not None:
        orders = jnp.asarray(permutations)
        if orders.ndim != 2 or orders.shape[1] != n or orders.shape[0] == 0:
            raise ValueError(
                f"`permutations` must have shape (B, {n}), got {orders.shape}"
            )
        if not jnp.issubdtype(orders.dtype, jnp.integer):
            raise ValueError(f"`permutations` must be integers, got {orders.dtype}")
        if is_concrete(orders):
            host = np.asarray(orders)
            if not (np.sort(host, axis=1) == np.arange(n)).all():
                raise ValueError(
                    f"each row of `permutations` must hold 0..{n - 1} once"
                )
        return orders
    whole = isinstance(num_resamples, (int, np.integer))
    if not whole or isinstance(num_resamples, bool) or num_resamples < 1:
        raise ValueError(
            f"`num_resamples` must be a positive integer, got {num_resamples!r}"
        )
    rows = jnp.broadcast_to(jnp.arange(n, dtype=jnp.int32), (int(num_resamples), n))
    return jax.random.permutation(key, rows, axis=1, independent=True)
