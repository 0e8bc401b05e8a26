"""Information on the parameters: standardised blocks, boundaries, original scale.

theta = (alpha, psi row by row) are the parameters of the solver on standardised
columns, (alpha, B boundary by boundary) those of a reader. Maps between them are
matrices, so that a covariance is carried by multiplication.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import is_concrete
from jaxcur.ordinal._design import HIGHEST, Standardised
from jaxcur.ordinal._families import row_terms
from jaxcur.ordinal._result import OrdinalResult
from jaxcur.ordinal._solve import Rows, Setting, loss_hessian


def boundary_setting(family: str, link: str, num_classes: int) -> Setting:
    """A coefficient vector of its own for every boundary."""
    eye = np.eye(num_classes - 1)
    matrix = tuple(tuple(row) for row in eye.tolist())
    return Setting(family, link, matrix, num_classes, True, 1)


def identified(matrix: Array, free: Array) -> tuple[Array, Array]:
    """Blocks that are no more than the boundaries; of more only sums are known."""
    m, num_blocks = matrix.shape
    if num_blocks <= m:
        return matrix, free
    return jnp.eye(m, dtype=matrix.dtype), jnp.ones((m, free.shape[1]), bool)


def active_coordinates(free: Array, m: int, columns: Array) -> Array:
    """(m + L p,): intercepts always vary, coefficients of constant columns never."""
    varies = jnp.any(columns != 0, axis=0)
    return jnp.concatenate([jnp.ones(m, bool), (free & varies).reshape(-1)])


def blocks_to_boundaries(matrix: Array, p: int) -> Array:
    """Map from (alpha, psi) to (alpha, B): (m + m p, m + L p)."""
    m, num_blocks = matrix.shape
    corner = jnp.kron(matrix, jnp.eye(p, dtype=matrix.dtype))
    top = jnp.eye(m, m + num_blocks * p, dtype=matrix.dtype)
    return jnp.concatenate([top, jnp.pad(corner, ((0, 0), (m, 0)))])


def boundaries_to_original(scaled: Standardised, m: int) -> Array:
    """Map from (alpha, B) on standardised columns to that of the columns given."""
    dtype = scaled.mean.dtype
    slopes = jnp.kron(jnp.eye(m, dtype=dtype), jnp.diag(1 / scaled.scale))
    means = jnp.kron(jnp.eye(m, dtype=dtype), scaled.mean[None, :] / scaled.scale)
    top = jnp.concatenate([jnp.eye(m, dtype=dtype), -means], axis=1)
    return jnp.concatenate([top, jnp.pad(slopes, ((0, 0), (m, 0)))])


def free_inverse(information: Array, active: Array) -> Array:
    """Inverse on the active coordinates, zero elsewhere; NaN where singular."""
    both = active[:, None] & active[None, :]
    matrix = jnp.where(both, information, 0)
    diagonal = jnp.where(active, jnp.diagonal(matrix), 1)
    # A coordinate without information leaves a zero pivot, not a division by zero.
    root = jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1))
    matrix = matrix / root[:, None] / root[None, :]
    factor = jnp.linalg.cholesky(matrix + jnp.diag(jnp.where(active, 0.0, 1.0)))
    pivot = jnp.min(jnp.diagonal(factor))
    singular = ~(pivot > 10 * active.size * jnp.finfo(matrix.dtype).eps)
    identity = jnp.eye(active.size, dtype=matrix.dtype)
    inverse = jax.scipy.linalg.cho_solve((factor, True), identity)
    inverse = jnp.where(both, inverse / root[:, None] / root[None, :], 0)
    return jnp.where(both & singular, jnp.nan, inverse)


def cluster_codes(clusters: Any, n: int) -> Array:
    """Codes 0, 1, ... of clusters, (n,)."""
    if np.shape(clusters) != (n,):
        raise ValueError(f"`clusters` must have shape ({n},), got {np.shape(clusters)}")
    if is_concrete(clusters):
        # Names of clusters are as good as numbers.
        return jnp.asarray(np.unique(np.asarray(clusters), return_inverse=True)[1])
    return jnp.unique(jnp.asarray(clusters), return_inverse=True, size=n)[1]


def boundary_scores(columns: Array, gradient: Array) -> Array:
    """Derivative of each row's log-likelihood in (alpha, B): (n, m + m p)."""
    slopes = gradient[:, :, None] * columns[:, None, :]
    return jnp.concatenate([gradient, slopes.reshape(columns.shape[0], -1)], axis=1)


def sandwich(inverse: Array, meat: Array) -> Array:
    """Information^-1 meat information^-1."""
    half = jnp.matmul(inverse, meat, precision=HIGHEST)
    return jnp.matmul(half, inverse, precision=HIGHEST)


def meat(setting: Setting, rows: Rows, eta: Array, clusters: Array | None) -> Array:
    """Sum over rows, or over clusters, of outer products of scores in (alpha, B)."""
    gradient = row_terms(setting.family, setting.link, eta, rows.y).gradient
    scores = boundary_scores(rows.columns, gradient)
    weights = rows.share[:, None]
    scores = jnp.where(weights > 0, weights * scores, 0)
    if clusters is not None:
        n = rows.columns.shape[0]
        scores = jax.ops.segment_sum(scores, clusters, num_segments=n)
    return jnp.matmul(scores.T, scores, precision=HIGHEST)


def theta_covariance(
    setting: Setting,
    kind: str,
    rows: Rows,
    eta: Array,
    matrix: Array,
    active: Array,
    clusters: Array | None,
) -> Array:
    """Covariance of (alpha, psi) for rows that carry weights; `setting` by boundary."""
    to_boundaries = blocks_to_boundaries(matrix, rows.columns.shape[1])

    def to_blocks(form: Array) -> Array:
        half = jnp.matmul(form, to_boundaries, precision=HIGHEST)
        return jnp.matmul(to_boundaries.T, half, precision=HIGHEST)

    expected = kind == "expected"
    information = loss_hessian(setting, rows, eta, expected=expected)
    inverse = free_inverse(to_blocks(information), active)
    if kind in ("observed", "expected"):
        return inverse
    return sandwich(inverse, to_blocks(meat(setting, rows, eta, clusters)))


def carry(covariance: Array, jacobian: Array) -> Array:
    """Covariance of jacobian @ parameters."""
    half = jnp.matmul(jacobian, covariance, precision=HIGHEST)
    return jnp.matmul(half, jacobian.T, precision=HIGHEST)


def flatten(intercepts: Array, coefficients: Array) -> Array:
    """(alpha, B boundary by boundary) in one vector, (m + m p,)."""
    return jnp.concatenate([intercepts, coefficients.T.reshape(-1)])


def unflatten(parameters: Array, m: int) -> tuple[Array, Array]:
    """(m,) and (p, m) of the vector, along the last axis of which they lie."""
    alpha, slopes = parameters[..., :m], parameters[..., m:]
    slopes = slopes.reshape(*slopes.shape[:-1], m, -1)
    return alpha, jnp.swapaxes(slopes, -1, -2)


def on_standardised(result: OrdinalResult, scaled: Standardised) -> Array:
    """(alpha, B) of a fit, as parameters of standardised columns."""
    alpha = result.intercepts + jnp.matmul(
        scaled.mean, result.coefficients, precision=HIGHEST
    )
    return flatten(alpha, result.coefficients * scaled.scale[:, None])
