"""Ridge regression through the d x d system, a block of rows at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.learners._protocol import LinearParams
from jaxcur.learners._scatter import Scatter, over_blocks, removal, scatter
from jaxcur.learners._triangular import inverse_of_lower

_HIGHEST = jax.lax.Precision.HIGHEST


class _Fit(NamedTuple):
    total: Scatter
    penalty: Array
    root: Array
    coefficients: Array


def _whitener(matrix: Array, penalty: Array, singular: bool) -> Array:
    """A square T with T T' = (matrix + penalty I)^-1, or the pseudo-inverse."""
    d = matrix.shape[0]
    dtype = matrix.dtype
    epsilon = jnp.finfo(dtype).eps
    penalised = matrix + penalty * jnp.eye(d, dtype=dtype)
    factor = jnp.linalg.cholesky(penalised)

    def by_cholesky() -> Array:
        return inverse_of_lower(factor).T

    if not singular:
        return by_cholesky()

    def by_spectrum() -> Array:
        values, vectors = jnp.linalg.eigh(penalised)
        kept = values > 8 * d * epsilon * values[-1]
        safe = jnp.where(kept, values, 1)
        return vectors * jnp.where(kept, jax.lax.rsqrt(safe), 0)[None, :]

    # A squared pivot over its diagonal entry is the share of a column that the columns
    # before it do not explain: small means collinear, whatever the units.
    pivot = jnp.diagonal(factor) ** 2
    regular = jnp.all(pivot > 8 * d * epsilon * jnp.diagonal(penalised))
    return jax.lax.cond(regular, by_cholesky, by_spectrum)


def _solve(
    features: Array,
    target: Array,
    weights: Array,
    penalty: Array,
    intercept: bool,
    singular: bool,
) -> _Fit:
    total = scatter(features, target, weights, intercept)
    root = _whitener(total.gram, penalty, singular)
    return _Fit(total, penalty, root, _apply_inverse(root, total.moment))


def _apply_inverse(root: Array, vector: Array) -> Array:
    inner = jnp.matmul(root.T, vector, precision=_HIGHEST)
    return jnp.matmul(root, inner, precision=_HIGHEST)


def _as_params(total: Scatter, coefficients: Array) -> LinearParams:
    shift = jnp.matmul(total.center, coefficients, precision=_HIGHEST)
    return LinearParams(coefficients, total.target_center - shift)


def fit(features, target, weights, penalty, *, intercept, singular):
    """Coefficients and intercept."""
    full = _solve(features, target, weights, penalty, intercept, singular)
    return _as_params(full.total, full.coefficients)


def _downdate(
    full: _Fit,
    features: Array,
    target: Array,
    weights: Array,
    intercept: bool,
    singular: bool,
) -> tuple[Array, Array, Array]:
    """For each row: k, q and x_i'b_(-i), with features and target centred.

    The coefficients without row i are  b_(-i) = b - k_i S^-1 x_i;  the means move by
    the share q_i = w_i / (W - w_i).
    """
    whitened = jnp.matmul(features, full.root, precision=_HIGHEST)
    leverage = jnp.sum(whitened * whitened, axis=1)
    fitted = jnp.matmul(features, full.coefficients, precision=_HIGHEST)
    share, effective = removal(full.total, weights, intercept)
    gap = 1 - effective * leverage
    slope = effective * (target - fitted)
    if not singular:
        step = slope / gap
        return step, share, fitted - leverage * step

    # A row with gap 0 is alone in one direction. Without it the rank falls by one, and
    # the pseudo-inverse loses that direction u = S^+ x: Meyer's formula (SIAM J. Appl.
    # Math. 1973) gives  b - u (u'b) / (u'u).  With a penalty there is no such row, only
    # rounding that may look like one.
    epsilon = jnp.finfo(features.dtype).eps
    alone = gap < jnp.where(full.penalty > 0, 4 * epsilon, jnp.sqrt(epsilon))

    def with_alone() -> Array:
        direction = jnp.matmul(whitened, full.root.T, precision=_HIGHEST)
        along = jnp.matmul(direction, full.coefficients, precision=_HIGHEST)
        return along / jnp.where(alone, jnp.sum(direction * direction, axis=1), 1)

    lost = jax.lax.cond(jnp.any(alone), with_alone, lambda: jnp.zeros_like(slope))
    step = jnp.where(alone, lost, slope / jnp.where(alone, 1, gap))
    return step, share, fitted - leverage * step


def leave_one_out(features, target, weights, penalty, *, intercept, singular):
    """Leave-one-out predictions (n,)."""
    full = _solve(features, target, weights, penalty, intercept, singular)
    center, target_center = full.total.center, full.total.target_center

    def block(carry, rows, targets, weight):
        targets = targets - target_center
        _, share, own = _downdate(
            full, rows - center[None, :], targets, weight, intercept, singular
        )
        return carry, target_center - share * targets + (1 + share) * own

    return over_blocks(block, (), features, target, weights)[1]


def mean_fit(features, target, weights, penalty, *, intercept, singular):
    """Mean of the fits that leave one row out."""
    full = _solve(features, target, weights, penalty, intercept, singular)
    center, target_center = full.total.center, full.total.target_center

    def block(carry, rows, targets, weight):
        direction, moved, count = carry
        rows, targets = rows - center[None, :], targets - target_center
        step, share, own = _downdate(full, rows, targets, weight, intercept, singular)
        present = weight > 0
        direction += jnp.sum(jnp.where(present, step, 0)[:, None] * rows, axis=0)
        moved += jnp.sum(jnp.where(present, share * (own - targets), 0))
        count += jnp.sum(present, dtype=rows.dtype)
        return (direction, moved, count), jnp.zeros_like(targets)

    zero = jnp.zeros((), features.dtype)
    start = (jnp.zeros(features.shape[1], features.dtype), zero, zero)
    (direction, moved, count), _ = over_blocks(block, start, features, target, weights)
    mean = full.coefficients - _apply_inverse(full.root, direction / count)
    # The intercept without row i is  ybar_(-i) - xbar_(-i)'b_(-i), with
    # ybar_(-i) = ybar - q_i y_i  and  xbar_(-i) = xbar - q_i x_i  (x, y centred).
    params = _as_params(full.total, mean)
    return LinearParams(mean, params.intercept + moved / count)
