"""Factors of the penalty from a first fit."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import is_concrete
from jaxcur.ordinal._result import OrdinalResult


def adaptive_weights(
    result: OrdinalResult,
    *,
    gamma: Real[ArrayLike, ""] = 1.0,
    floor: Real[ArrayLike, ""] = 1e-3,
) -> Float[Array, "l p"]:
    """Factors  c = 1 / max(|psi|, floor)^gamma  for a second, adaptive fit.

    What the first fit found large is penalised little, what it found small much. Pass
    the factors as `Presto(weights=...)`. Blocks are on the standardised scale, so that
    the factors do not depend on units.

    Heuristic: no finite-sample guarantee here; with a root-n consistent first fit and
    suitable strengths the adaptive lasso selects the right blocks asymptotically.

    Args:
        result: a first fit with `Presto`, unpenalised or lightly penalised.
        gamma: exponent, at least 0.
        floor: smallest size, positive: an entry that is zero gets the finite factor
            floor^-gamma.

    Raises:
        ValueError: `gamma` negative, or `floor` not positive.

    Transformations: jit, vmap.
    Cost: O(p m).

    Source: Zou, "The adaptive lasso and its oracle properties", JASA 2006.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0]])
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> first = ordinal.fit(x, y, num_classes=3, regularization=0.05)
        >>> ordinal.adaptive_weights(first, floor=0.1).round(1)
        Array([[ 0.5],
               [10. ]], dtype=float32)
    """
    if is_concrete(gamma) and not np.asarray(gamma) >= 0:
        raise ValueError(f"`gamma` must be at least 0, got {gamma}")
    if is_concrete(floor) and not np.asarray(floor) > 0:
        raise ValueError(f"`floor` must be positive, got {floor}")
    dtype = result.blocks.dtype
    size = jnp.maximum(jnp.abs(result.blocks), jnp.asarray(floor, dtype))
    return size ** -jnp.asarray(gamma, dtype)
