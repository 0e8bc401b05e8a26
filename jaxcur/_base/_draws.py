"""One rule for randomness: a key, or the draw itself, never both."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base._checks import is_concrete


def resolve_uniforms(
    name: str,
    draw: Any,
    key: Any,
    shape: tuple[int, ...],
    dtype: Any,
    *,
    purpose: str,
) -> Array:
    """The draw given, or uniforms on (0, 1] from `key`.

    `jax.random.uniform` can return exactly 0, which no p-value may be: use 1 - u.
    """
    if draw is None and key is None:
        raise ValueError(
            f"{purpose} is randomised: pass `key=jax.random.key(...)`, "
            f"or the draw itself as `{name}`"
        )
    if draw is not None and key is not None:
        raise ValueError(f"pass either `key` or `{name}`, not both")
    if key is None:
        array = jnp.asarray(draw, dtype)
        if array.shape not in ((), shape):
            raise ValueError(
                f"`{name}` must be a scalar or have shape {shape}, got {array.shape}"
            )
        host = np.asarray(array) if is_concrete(array) else np.zeros(0)
        if not ((host >= 0) & (host <= 1)).all():
            raise ValueError(f"`{name}` must lie in [0, 1], got {draw}")
        return array
    return 1 - jax.random.uniform(key, shape, dtype)
