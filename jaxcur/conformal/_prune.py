"""First step and pruning: from auxiliary sizes to a selection with FDR control."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Int, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    check_no_nan,
    check_rank,
    check_same_length,
    check_unit_interval,
    decimal_float64,
    is_concrete,
    resolve_uniforms,
)

Pruning = Literal["homogeneous", "heterogeneous", "deterministic"]
PRUNINGS = ("homogeneous", "heterogeneous", "deterministic")


def resolve_xi(
    pruning: str, xi: ArrayLike | None, key: Array | None, m: int, dtype: Any
) -> Array:
    """The pruning draw: ones, one shared uniform, or one uniform per candidate."""
    check_choice("pruning", pruning, PRUNINGS)
    if pruning == "deterministic":
        return jnp.ones((), dtype)
    if xi is not None:
        # Given draws are used as they are, whichever way they were made.
        draw = resolve_uniforms("xi", xi, None, (m,), dtype, purpose="pruning")
        if is_concrete(draw) and (np.asarray(draw) == 0).any():
            raise ValueError("`xi` must lie in (0, 1], got 0: it would prune nothing")
        return draw
    shape = () if pruning == "homogeneous" else (m,)
    purpose = f"{pruning} pruning"
    return resolve_uniforms("xi", None, key, shape, dtype, purpose=purpose)


def pruned(first: Array, sizes: Array, beta: Array, xi: Array) -> Array:
    """Largest r with at least r first-step candidates at beta * xi * R <= r; (m,).

    The comparison is with integers r, so counting ceilings replaces a sort.
    """
    m = first.shape[0]
    if m == 0:
        return first
    with jax.enable_x64(True):
        # beta as a decimal: in float32 exact ties of beta * R would be lost.
        value = (
            decimal_float64(beta) * xi.astype(jnp.float64) * sizes.astype(jnp.float64)
        )
        value = value / stats.tie_guard(jnp.float64)
        # A draw that is no draw (NaN, or out of range while tracing) selects nothing.
        value = jnp.where((xi > 0) & (xi <= 1), value, jnp.inf)
        place = jnp.clip(jnp.ceil(value), 1, m + 1).astype(jnp.int32)
    counts = jnp.zeros(m + 2, jnp.int32).at[place].add(first.astype(jnp.int32))
    r = jnp.arange(m + 2, dtype=jnp.int32)
    enough = (jnp.cumsum(counts) >= r) & (r <= m)
    cutoff = jnp.max(jnp.where(enough, r, 0))
    return first & (place <= cutoff)


@jax.jit
def _prune(
    p_values: Array, sizes: Array, level: Array, beta: Array, xi: Array
) -> Array:
    guard = stats.tie_guard(p_values.dtype)
    with jax.enable_x64(True):
        bound = beta * level * sizes.astype(jnp.float64) / max(p_values.shape[0], 1)
        first = p_values.astype(jnp.float64) <= bound * guard
        first &= level > 0
    return pruned(first, sizes, beta, xi)


def prune(
    p_values: Real[ArrayLike, " m"],
    auxiliary_sizes: Int[ArrayLike, " m"],
    *,
    level: float | Array,
    pruning: Pruning,
    beta: float = 1.0,
    key: Array | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
) -> Bool[Array, " m"]:
    """Selection from p-values and auxiliary sizes.

    First step S1 = {j : p_j <= beta * level * R_j / m}; then the largest r* with
    #{j in S1 : beta * xi_j * R_j <= r*} >= r*, and {j in S1 : beta * xi_j * R_j <= r*}
    is selected. The same as e-BH on e_j / xi_j with e_j = 1{j in S1} m / (beta level
    R_j).

    Guarantee: FDR <= level when, for every null j, p_j is super-uniform and R_j fixed
    given the unordered bag of calibration rows and candidate j and given the other
    candidates. Verified by: `jaxcur verify optcs`.

    Args:
        p_values: shape (m,), in [0, 1].
        auxiliary_sizes: shape (m,), int, at least 1.
        level: scalar in [0, 1], target FDR.
        pruning: "homogeneous" (one uniform for all; usually the most powerful),
            "heterogeneous" (one each) or "deterministic" (none; can lose much power,
            and an empty result with a full first step is the procedure, not an error).
        beta: scalar in (0, 1].
        key: random key for the draw.
        xi: the draw itself, scalar or (m,), used as it is; ignored when deterministic.

    Returns:
        shape (m,), True where selected; a subset of the first step.

    Raises:
        ValueError: no key and no xi unless deterministic, both given, level or beta out
            of range, a size below 1, unequal lengths, NaN.

    Transformations: jit, vmap; level and beta may be traced.
    Cost: O(m), no sort.

    Source: Jin and Candes, Biometrika 2025.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.prune(
        ...     [0.1, 0.2, 0.9], [2, 2, 2], level=0.3, pruning="deterministic"
        ... )
        Array([ True,  True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    check_unit_interval("beta", beta, open_low=True)
    (p,) = as_float(p_values=p_values)
    check_rank("p_values", p, 1, "(m,)")
    check_no_nan("p_values", p)
    sizes = jnp.asarray(auxiliary_sizes)
    if not jnp.issubdtype(sizes.dtype, jnp.integer):
        raise TypeError(f"`auxiliary_sizes` must be integers, got dtype {sizes.dtype}")
    check_same_length("auxiliary_sizes", sizes, "p_values", p)
    if is_concrete(sizes) and sizes.size and int(sizes.min()) < 1:
        raise ValueError(
            f"`auxiliary_sizes` must be at least 1, got {int(sizes.min())}"
        )
    if pruning != "deterministic" and key is not None and xi is not None:
        raise ValueError("pass either `key` or `xi`, not both")
    draw = resolve_xi(pruning, xi, key, p.shape[0], p.dtype)
    with jax.enable_x64(True):
        return _prune(p, sizes, decimal_float64(level), decimal_float64(beta), draw)
