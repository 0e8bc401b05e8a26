"""Standardised columns, and sums over rows arranged by blocks of coefficients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

HIGHEST = jax.lax.Precision.HIGHEST
# A table of this many numbers may be formed to have one batched product.
_TABLE = 2**21


class Standardised(NamedTuple):
    """Columns z = (x - mean) / scale, by the weights of the rows."""

    columns: Array
    mean: Array
    scale: Array


def standardise(features: Array, weights: Array, scaled: bool) -> Standardised:
    """Centre, and divide by the population deviation where `scaled`.

    A column that is constant where the weight is positive becomes exactly zero.
    """
    present = (weights > 0)[:, None]
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1)
    mean = jnp.matmul(share, jnp.where(present, features, 0), precision=HIGHEST)
    centred = jnp.where(present, features - mean, 0)
    variance = jnp.matmul(share, centred * centred, precision=HIGHEST)
    largest = jnp.max(jnp.where(present, jnp.abs(features), 0), axis=0)
    floor = 20 * jnp.finfo(features.dtype).eps * largest
    constant = variance <= floor * floor
    scale = jnp.sqrt(jnp.where(constant, 1, variance))
    scale = jnp.where(constant | (not scaled), 1, scale)
    return Standardised(jnp.where(constant, 0, centred / scale), mean, scale)


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


def block_hessian(
    columns: Array, entries: Array, index: np.ndarray, matrix: np.ndarray
) -> Array:
    """sum_i J_i' W_i J_i for J_i = d eta_i / d theta, W_i given by its entries.

    Args:
        columns: (n, p).
        entries: (num_pairs, n), weights included.
        index: (num_pairs, 2), positions (k, l), k <= l, of the entries in W_i.
        matrix: (m, L).
    """
    n, p = columns.shape
    m, num_blocks = matrix.shape
    dtype = columns.dtype
    design = jnp.concatenate([jnp.ones((n, 1), dtype), columns], axis=1)

    def gram(entry: Array) -> Array:
        return jnp.matmul((design * entry[:, None]).T, design, precision=HIGHEST)

    if entries.shape[0] * n * (p + 1) <= _TABLE:
        grams = jax.vmap(gram)(entries)
    else:
        grams = jax.lax.map(gram, entries)
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
