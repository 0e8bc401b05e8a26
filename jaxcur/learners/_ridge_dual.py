"""Ridge regression through the n x n system, for fewer rows than columns.

With s = sqrt(w), B the rows of s (x - xbar) and b the entries s (y - ybar), the
coefficients are  B'a,  a = (B B' + regularization I)^-1 b.  Besides costing
O(n^2 d + n^3) instead of O(n d^2 + d^3), this avoids 1 - leverage: with more columns
than rows the leverages are close to 1, and the difference would lose the digits that
float32 has.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.learners._protocol import LinearParams
from jaxcur.learners._triangular import inverse_of_lower

_HIGHEST = jax.lax.Precision.HIGHEST


class _Dual(NamedTuple):
    rows: Array
    scaled: Array
    root: Array
    labels: Array
    center: Array
    target_center: Array
    factor: Array
    dual: Array
    unit: Array
    constant: Array

    @property
    def coefficients(self) -> Array:
        return jnp.matmul(self.scaled.T, self.dual, precision=_HIGHEST)


def _solve(
    features: Array, target: Array, weights: Array, penalty: Array, intercept: bool
) -> _Dual:
    n, d = features.shape
    dtype = features.dtype
    total = jnp.sum(weights)
    root = jnp.sqrt(weights)
    if intercept:
        center = jnp.sum(weights[:, None] * features, axis=0) / total
        target_center = jnp.sum(weights * target) / total
        unit = root / jnp.sqrt(total)
    else:
        center = jnp.zeros(d, dtype)
        target_center = jnp.zeros((), dtype)
        unit = jnp.zeros(n, dtype)
    rows = features - center[None, :]
    labels = target - target_center
    scaled = root[:, None] * rows
    gram = jnp.matmul(scaled, scaled.T, precision=_HIGHEST)
    # Centring makes s a null vector of B B', where the inverse would be as large as
    # 1 / regularization and have to be subtracted again. A term of the size of the
    # other eigenvalues in that direction changes nothing else.
    extra = penalty + jnp.trace(gram) / n
    factor = jnp.linalg.cholesky(
        gram + penalty * jnp.eye(n, dtype=dtype) + extra * jnp.outer(unit, unit)
    )
    dual = jax.scipy.linalg.cho_solve((factor, True), root * labels)
    constant = penalty + extra
    return _Dual(
        rows,
        scaled,
        root,
        labels,
        center,
        target_center,
        factor,
        dual,
        unit,
        constant,
    )


def _as_params(system: _Dual, coefficients: Array) -> LinearParams:
    shift = jnp.matmul(system.center, coefficients, precision=_HIGHEST)
    return LinearParams(coefficients, system.target_center - shift)


def fit(features, target, weights, penalty, *, intercept):
    """Coefficients and intercept."""
    system = _solve(features, target, weights, penalty, intercept)
    return _as_params(system, system.coefficients)


def _residuals(system: _Dual, weights: Array, intercept: bool) -> Array:
    """Leave-one-out residuals  y_i - prediction_i."""
    inverse = inverse_of_lower(system.factor)
    diagonal = jnp.sum(inverse * inverse, axis=0)
    diagonal = diagonal - system.unit**2 / system.constant
    present = weights > 0
    scale = jnp.where(present, system.root * diagonal, 1)
    fitted = jnp.matmul(system.rows, system.coefficients, precision=_HIGHEST)
    residual = jnp.where(present, system.dual / scale, system.labels - fitted)
    if intercept:
        alone = jnp.sum(weights) - weights <= 0
        residual = jnp.where(alone, jnp.nan, residual)
    return residual


def leave_one_out(features, target, weights, penalty, *, intercept):
    """Leave-one-out predictions (n,)."""
    system = _solve(features, target, weights, penalty, intercept)
    return target - _residuals(system, weights, intercept)


def mean_fit(features, target, weights, penalty, *, intercept):
    """Mean of the fits that leave one row out."""
    system = _solve(features, target, weights, penalty, intercept)
    residual = _residuals(system, weights, intercept)
    present = weights > 0
    residual = jnp.where(present, residual, 0)
    count = jnp.sum(present, dtype=features.dtype)
    # Without row i the coefficients are  b - w_i e_i S^-1 x_i, e_i its residual.
    change = jax.scipy.linalg.cho_solve(
        (system.factor, True), system.root * residual / count
    )
    mean = system.coefficients - jnp.matmul(system.scaled.T, change, precision=_HIGHEST)
    params = _as_params(system, mean)
    if not intercept:
        return params
    # As in the primal form: ybar and xbar move by the share q = w / (W - w).
    share = weights / (jnp.sum(weights) - weights)
    own = (system.labels - residual + share * system.labels) / (1 + share)
    moved = jnp.sum(jnp.where(present, share * (own - system.labels), 0)) / count
    return LinearParams(mean, params.intercept + moved)
