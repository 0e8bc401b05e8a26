"""Selections as e-values: boosting by a draw, and averaging the draw away."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

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
    register_dataclass,
)
from jaxcur.conformal._prune import resolve_xi


@jax.jit
def _e_values(
    p_values: Array, sizes: Array, level: Array, beta: Array
) -> tuple[Array, Array]:
    guard = stats.tie_guard(p_values.dtype)
    m = max(p_values.shape[0], 1)
    with jax.enable_x64(True):
        rate = beta * level * sizes.astype(jnp.float64)
        first = (p_values.astype(jnp.float64) <= rate / m * guard) & (level > 0)
        return first, jnp.where(first, m / jnp.where(rate > 0, rate, 1.0), 0.0)


def e_values(
    p_values: Real[ArrayLike, " m"],
    auxiliary_sizes: Int[ArrayLike, " m"],
    level: float | Array,
    beta: float | Array = 1.0,
) -> Float[Array, " m"]:
    """E-values of a selection: 1{p_j <= beta level R_j / m} m / (beta level R_j).

    e-BH on them at `level` is deterministic pruning; on them divided by a uniform draw
    it is randomised pruning.

    Guarantee: E[e_j 1{row j is null}] <= 1 when p_j is super-uniform and R_j fixed,
    given the unordered bag of calibration rows and candidate j and given the other
    candidates, as holds for `auxiliary_sizes` and for procedures that choose a model.
    Verified by: `jaxcur verify optcs`.

    Args:
        p_values: shape (m,), in [0, 1].
        auxiliary_sizes: shape (m,), int, at least 1.
        level: scalar in [0, 1], the level the sizes were computed at.
        beta: scalar in (0, 1].

    Returns:
        shape (m,), >= 0. A p-value equal to its bound on paper passes (four ulp of
        slack). NaN p-values (traced) give 0.

    Raises:
        ValueError: level or beta out of range, a size below 1, unequal lengths, NaN.
        TypeError: sizes that are not integers.

    Transformations: jit, vmap; level and beta may be traced. Not differentiable.
    Cost: O(m).

    Source: Jin and Candes, Biometrika 2025.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.e_values([0.05, 0.2, 0.9], [2, 2, 3], 0.3)
        Array([5., 5., 0.], dtype=float32)
    """
    check_unit_interval("level", level)
    check_unit_interval("beta", beta, open_low=True)
    (p,) = as_float(p_values=p_values)
    check_rank("p_values", p, 1, "(m,)")
    check_no_nan("p_values", p)
    sizes = jnp.asarray(auxiliary_sizes)
    if sizes.size and not jnp.issubdtype(sizes.dtype, jnp.integer):
        raise TypeError(f"`auxiliary_sizes` must be integers, got dtype {sizes.dtype}")
    check_rank("auxiliary_sizes", sizes, 1, "(m,)")
    check_same_length("auxiliary_sizes", sizes, "p_values", p)
    if is_concrete(sizes) and sizes.size and int(sizes.min()) < 1:
        raise ValueError(
            f"`auxiliary_sizes` must be at least 1, got {int(sizes.min())}"
        )
    with jax.enable_x64(True):
        _, e = _e_values(p, sizes, decimal_float64(level), decimal_float64(beta))
        return e.astype(p.dtype)


def _checked_e_values(name: str, values: ArrayLike, rank: int, shape: str) -> Array:
    (array,) = as_float(**{name: values})
    check_rank(name, array, rank, shape)
    check_no_nan(name, array)
    if is_concrete(array) and array.size and (np.asarray(array) < 0).any():
        least = float(np.asarray(array).min())
        raise ValueError(f"`{name}` must be nonnegative, got {least}")
    return array


def boost_e_values(
    e_values: Real[ArrayLike, " m"],
    *,
    pruning: Literal["homogeneous", "heterogeneous"] = "homogeneous",
    key: Array | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, " m"]:
    """E-values divided by a uniform draw, for one e-BH that selects more.

    Guarantee: e-BH on the result keeps its FDR bound under any dependence, though the
    result itself is no e-value: do not average it. Verified by: `jaxcur verify optcs`.

    Args:
        e_values: shape (m,), >= 0.
        pruning: one draw for all ("homogeneous") or one each ("heterogeneous").
        key: random key for the draw.
        xi: the draw itself, in (0, 1], scalar or (m,).

    Returns:
        shape (m,), at least `e_values`.

    Raises:
        ValueError: neither key nor xi, or both; a negative or NaN e-value; unknown
            pruning.

    Transformations: jit, vmap. Differentiable in `e_values`.
    Cost: O(m).

    Source: Jin and Candes, Biometrika 2025; Xu and Ramdas, "More powerful multiple
    testing under dependence via randomization", 2023.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.boost_e_values([5.0, 0.0], xi=0.5)
        Array([10.,  0.], dtype=float32)
    """
    check_choice("pruning", pruning, ("homogeneous", "heterogeneous"))
    array = _checked_e_values("e_values", e_values, 1, "(m,)")
    if key is not None and xi is not None:
        raise ValueError("pass either `key` or `xi`, not both")
    return array / resolve_xi(pruning, xi, key, array.shape[0], array.dtype)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class DerandomizedResult:
    """Outcome of `derandomize`.

    Attributes:
        selected: shape (m,), bool.
        e_values: shape (m,), the averages.
        level: scalar, target FDR.
    """

    selected: Array
    e_values: Array
    level: Array

    @property
    def num_selected(self) -> Array:
        """Number selected, over the last axis."""
        return jnp.sum(self.selected, axis=-1, dtype=jnp.int32)


@jax.jit
def _select(e_values: Array, level: Array) -> Array:
    return stats.e_bh(e_values, level)


@jax.jit
def _average(values: Array, weights: Array) -> Array:
    # A weight of zero switches a run off even where its e-value is infinite.
    column = weights[:, None]
    parts = jnp.where(column > 0, column * values, 0.0)
    return jnp.sum(parts, axis=0) / jnp.sum(weights)


def derandomize(
    e_values: Real[ArrayLike, "b m"],
    *,
    level: float | Array,
    weights: Real[ArrayLike, " b"] | None = None,
) -> DerandomizedResult:
    """One selection from the e-values of several runs, by averaging them.

    Runs may differ in their seed, in how they split the data, or in the model, and may
    use the same candidates and calibration rows. A selection that hung on one lucky
    split is averaged away. Runs do best at a level below the final one (often half of
    it): a run's e-values are then larger where it selects.

    Guarantee: if every run's e-values satisfy E[e_j 1{row j is null}] <= 1, so do their
    averages with weights fixed in advance, and e-BH gives FDR <= `level` for any number
    of runs and any dependence between them. Verified by: `jaxcur verify derandomize`.

    Args:
        e_values: shape (b, m), >= 0: one row a run, before any division by a draw.
        level: scalar in [0, 1], target FDR.
        weights: shape (b,), >= 0, not all zero, chosen without looking at the e-values;
            equal when None.

    Returns:
        A `DerandomizedResult`. For traced weights that are unusable, e-values are NaN
        and nothing is selected.

    Raises:
        ValueError: no run, a negative or NaN e-value, level out of range, weights that
            are negative, not finite, all zero, or of another length.

    Transformations: jit, vmap; level may be traced. Not differentiable.
    Cost: O(b m + m log m). Averages are taken in float64 whatever the setting.

    Source: Ren and Barber, "Derandomised knockoffs", JRSS-B 2024; for novelty detection
    Bashari, Epstein, Romano and Sesia, NeurIPS 2023.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.derandomize([[20.0, 0.0], [30.0, 8.0]], level=0.1).selected
        Array([ True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    array = _checked_e_values("e_values", e_values, 2, "(b, m)")
    b = array.shape[0]
    if b == 0:
        raise ValueError(f"`e_values` must hold at least one run, got {array.shape}")
    w = jnp.ones(b, array.dtype) if weights is None else as_float(weights=weights)[0]
    check_rank("weights", w, 1, "(b,)")
    check_same_length("weights", w, "e_values", array)
    usable = jnp.all(jnp.isfinite(w) & (w >= 0)) & jnp.any(w > 0)
    host = np.asarray(w) if is_concrete(w) else np.ones(1)
    if not (np.isfinite(host) & (host >= 0)).all() or not (host > 0).any():
        raise ValueError("`weights` must be finite, nonnegative and not all zero")
    with jax.enable_x64(True):
        mean = _average(array.astype(jnp.float64), w.astype(jnp.float64))
        mean = jnp.where(usable, mean, jnp.nan).astype(array.dtype)
        target = decimal_float64(level).astype(array.dtype)
        # In the dtype that came in, whose rounding the tie guard of e-BH allows for.
        return DerandomizedResult(_select(mean, target), mean, target)
