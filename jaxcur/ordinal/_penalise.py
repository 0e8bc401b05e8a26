"""The penalty at one strength: its value, slope and smallest subgradient.

Absolute values by coordinate of theta = (alpha, psi), or, in a grouped setting, for
psi_2 and later the norm over boundaries of each feature; some coordinates may be held
at or above zero.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.ordinal._model import Setting, Terms
from jaxcur.solvers import Groups, group_stationarity, stationarity

# Share of absolute values below which the largest useful strength is not followed.
_MIN_RATIO = 0.01


def group_index(setting: Setting, size: int) -> np.ndarray:
    """(p, m-1), the coordinates of the differences of each feature."""
    m, num_blocks = setting.map.shape
    p = (size - m) // num_blocks
    return m + np.arange(1, num_blocks) * p + np.arange(p)[:, None]


def nonnegative(setting: Setting) -> np.ndarray | None:
    """(q,), the coordinates that may not go below zero; None where all may."""
    if setting.positive is None:
        return None
    intercepts = np.zeros(setting.num_classes - 1, bool)
    return np.concatenate([intercepts, np.asarray(setting.positive).reshape(-1)])


def at_strength(
    setting: Setting, terms: Terms, strength: Array
) -> tuple[Array, Groups | None]:
    """Factors of the absolute values (q,), and the groups with theirs."""
    penalties = strength * terms.ratio * terms.weights
    if not setting.grouped:
        return penalties, None
    index = group_index(setting, penalties.size)
    factors = penalties[index[:, 0]]
    return penalties.at[index].set(0), Groups(index, factors)


def value(penalties: Array, groups: Groups | None, theta: Array) -> Array:
    """The penalty at theta."""
    size = penalties @ jnp.abs(theta)
    return size if groups is None else size + groups.norm(theta)


def _units(groups: Groups, theta: Array) -> tuple[Array, Array]:
    inside = theta[groups.index]
    size = jnp.linalg.norm(jnp.where(inside == 0, 0, inside), axis=1)
    return inside / jnp.where(size > 0, size, 1)[:, None], size


def slope(penalties: Array, groups: Groups | None, theta: Array) -> Array:
    """Gradient where theta is not zero; zero elsewhere. Linear in the factors."""
    straight = penalties * jnp.sign(theta)
    if groups is None:
        return straight
    unit, _ = _units(groups, theta)
    return straight.at[groups.index].add(groups.factors[:, None] * unit)


def curvature(groups: Groups | None, theta: Array) -> Array:
    """Second derivative (q, q) where theta is not zero."""
    zero = jnp.zeros((theta.size, theta.size), theta.dtype)
    if groups is None:
        return zero
    unit, size = _units(groups, theta)
    bend = groups.factors / jnp.where(size > 0, size, 1)
    bend = jnp.where(size > 0, bend, 0)[:, None, None]
    eye = jnp.eye(groups.index.shape[1], dtype=theta.dtype)
    outer = bend * (eye - unit[:, :, None] * unit[:, None, :])
    return zero.at[groups.index[:, :, None], groups.index[:, None, :]].add(outer)


def active_set(
    setting: Setting,
    penalties: Array,
    groups: Groups | None,
    theta: Array,
    mask: Array,
) -> Array:
    """Coordinates in which the objective is smooth at theta."""
    bent = penalties > 0
    if groups is not None:
        bent = bent.at[groups.index].set(groups.factors[:, None] > 0)
    held = nonnegative(setting)
    if held is not None:
        bent = bent | held
    return mask & ((theta != 0) | ~bent)


def subgradient(
    setting: Setting,
    penalties: Array,
    groups: Groups | None,
    gradient: Array,
    theta: Array,
    mask: Array,
) -> Array:
    """The smallest one, (q,); `gradient` is that of the smooth part."""
    if groups is not None:
        return group_stationarity(gradient, theta, penalties, mask, groups)
    held = nonnegative(setting)
    held = None if held is None else jnp.asarray(held)
    return stationarity(gradient, theta, penalties, mask, held)


def by_unit(setting: Setting, values: Array) -> Array:
    """Sizes by unit of the penalty, (q,): a group's norm stands at its first place."""
    sizes = jnp.abs(values)
    if not setting.grouped:
        return sizes
    index = group_index(setting, values.size)
    norms = jnp.linalg.norm(values[index], axis=1)
    return sizes.at[index].set(0).at[index[:, 0]].set(norms)


def ceiling(setting: Setting, terms: Terms, gradient: Array) -> Array:
    """Smallest strength that keeps all penalised entries at zero."""
    penalised = terms.mask & (terms.weights > 0)
    scale = jnp.where(penalised, terms.weights, 1)
    scale = scale * jnp.maximum(terms.ratio, _MIN_RATIO)
    sizes = by_unit(setting, jnp.where(terms.mask, gradient, 0))
    held = nonnegative(setting)
    if held is not None:
        sizes = jnp.where(held, jnp.maximum(-gradient, 0), sizes)
    return jnp.max(jnp.where(penalised, sizes / scale, 0), initial=0)
