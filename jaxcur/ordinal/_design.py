"""Standardised columns, and sums over rows arranged by blocks of coefficients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

HIGHEST = jax.lax.Precision.HIGHEST
# Products of columns are kept where each row has no more than this many, and all of
# them together are no more than this.
_PRODUCTS, _TABLE = 100, 2**21


class Standardised(NamedTuple):
    """Columns z = (x - mean) / scale, by the weights of the rows."""

    columns: Array
    mean: Array
    scale: Array


def varying(features: Array, weights: Array) -> Array:
    """(p,), the columns that are not constant where the weight is positive."""
    origin = features[jnp.argmax(weights > 0)]
    return jnp.any((features != origin) & (weights > 0)[:, None], axis=0)


def standardise(features: Array, weights: Array, scaled: bool) -> Standardised:
    """Centre, and divide by the population deviation where `scaled`.

    A column that is constant where the weight is positive becomes exactly zero.
    """
    present = (weights > 0)[:, None]
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    # Differences from a row are exact where columns are far from zero; sums are not.
    origin = features[jnp.argmax(weights > 0)]
    moved = jnp.where(present, features - origin, 0)
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(moved), axis=0))
    constant = largest == 0
    # Squares of very large or small numbers are not numbers.
    unit = jnp.where(constant, 1, largest)
    moved = moved / unit
    shift = jnp.matmul(share, moved, precision=HIGHEST)
    centred = jnp.where(present, moved - shift, 0)
    variance = jnp.matmul(share, centred * centred, precision=HIGHEST)
    spread = jnp.sqrt(jnp.where(constant, 1, variance))
    divisor = spread if scaled else 1 / unit
    columns = jnp.where(constant, 0, centred / divisor)
    scale = unit * spread if scaled else jnp.ones_like(unit)
    return Standardised(columns, origin + unit * shift, jnp.where(constant, 1, scale))


def linear_predictor(
    columns: Array, theta: Array, matrix: np.ndarray
) -> tuple[Array, Array]:
    """(eta (n, m), blocks (L, p)) of  theta = (alpha, psi row by row)."""
    m, num_blocks = matrix.shape
    alpha, psi = theta[:m], theta[m:].reshape(num_blocks, -1)
    beta = jnp.matmul(jnp.asarray(matrix, theta.dtype), psi, precision=HIGHEST)
    return alpha + jnp.matmul(columns, beta.T, precision=HIGHEST), psi


def block_gradient(columns: Array, rows: Array, matrix: np.ndarray) -> Array:
    """Derivative in theta of sum_i rows_i' eta_i, for rows (n, m)."""
    alpha = jnp.sum(rows, axis=0)
    beta = jnp.matmul(rows.T, columns, precision=HIGHEST)
    psi = jnp.matmul(jnp.asarray(matrix.T, rows.dtype), beta, precision=HIGHEST)
    return jnp.concatenate([alpha, psi.reshape(-1)])


def _with_intercept(columns: Array) -> Array:
    ones = jnp.ones((columns.shape[0], 1), columns.dtype)
    return jnp.concatenate([ones, columns], axis=1)


def column_products(columns: Array) -> Array | None:
    """Products of the columns (1, x), (n, (p+1)(p+2)/2), for many Hessians of them.

    None where they take too much space.
    """
    n, p = columns.shape
    count = (p + 1) * (p + 2) // 2
    if count > _PRODUCTS or count * n > _TABLE:
        return None
    design = _with_intercept(columns)
    first, second = np.triu_indices(p + 1)
    return design[:, first] * design[:, second]


def _grams(columns: Array, entries: Array, products: Array | None) -> Array:
    """sum_i entries_ki (1, x_i)'(1, x_i) for every k, (num_pairs, p+1, p+1)."""
    p = columns.shape[1]
    if products is not None:
        sums = jnp.matmul(entries, products, precision=HIGHEST)
        first, second = np.triu_indices(p + 1)
        position = np.zeros((p + 1, p + 1), int)
        position[first, second] = position[second, first] = np.arange(first.size)
        return sums[:, position]
    design = _with_intercept(columns)
    across = design.T
    return jax.lax.map(
        lambda entry: jnp.matmul(across * entry, design, precision=HIGHEST), entries
    )


def block_hessian(
    columns: Array,
    entries: Array,
    index: np.ndarray,
    matrix: np.ndarray,
    products: Array | None = None,
) -> Array:
    """sum_i J_i' W_i J_i for J_i = d eta_i / d theta, W_i given by its entries.

    Args:
        columns: (n, p).
        entries: (num_pairs, n), weights included.
        index: (num_pairs, 2), positions (k, l), k <= l, of the entries in W_i.
        matrix: (m, L).
        products: `column_products(columns)`, or None.
    """
    p, dtype = columns.shape[1], columns.dtype
    m, num_blocks = matrix.shape
    grams = _grams(columns, entries, products)
    position = np.full((m, m), len(index))
    position[index[:, 0], index[:, 1]] = np.arange(len(index))
    position[index[:, 1], index[:, 0]] = np.arange(len(index))
    zero = jnp.zeros((1, p + 1, p + 1), dtype)
    full = jnp.concatenate([grams, zero])[position]
    t = jnp.asarray(matrix, dtype)
    mixed = jnp.einsum("klj,lb->kbj", full[:, :, 0, 1:], t, precision=HIGHEST)
    inner = jnp.einsum("ka,klij,lb->aibj", t, full[:, :, 1:, 1:], t, precision=HIGHEST)
    size = num_blocks * p
    mixed = mixed.reshape(m, size)
    top = jnp.concatenate([full[:, :, 0, 0], mixed], axis=1)
    bottom = jnp.concatenate([mixed.T, inner.reshape(size, size)], axis=1)
    return jnp.concatenate([top, bottom])
