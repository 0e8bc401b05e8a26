"""Inverses of the small triangular factors of ridge systems."""

import jax
import jax.numpy as jnp
from jax import Array

# Up to this many columns forward substitution row by row takes a tenth of a
# millisecond. The library call is no faster there, and where the linear algebra has
# threads of its own they wait for those of the compiled program: eight milliseconds.
_FEW = 128


def inverse_of_lower(factor: Array) -> Array:
    """The inverse of a lower triangular matrix (d, d)."""
    d = factor.shape[0]
    identity = jnp.eye(d, dtype=factor.dtype)
    if d > _FEW:
        return jax.scipy.linalg.solve_triangular(factor, identity, lower=True)

    def substitute(i: Array, inverse: Array) -> Array:
        # Rows from i on are still zero, so the whole row of the factor may be used.
        known = jnp.matmul(factor[i], inverse, precision="highest")
        return inverse.at[i].set((identity[i] - known) / factor[i, i])

    return jax.lax.fori_loop(0, d, substitute, jnp.zeros_like(factor))
