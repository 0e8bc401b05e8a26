"""Cross-fitted ridge regression from the moments of each fold.

Rows are brought into the order of their folds once; every fold then contributes its
moments to the fits of all the others. One pass over the data replaces `num_folds`,
which is what a study of many small replications spends its time on.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.debiased._folds import fold_sizes
from jaxcur.learners import Ridge
from jaxcur.learners._protocol import is_surely_positive
from jaxcur.learners._ridge_primal import _apply_inverse, _whitener

_HIGHEST = jax.lax.Precision.HIGHEST
# Beyond, the d x d matrices of all folds outweigh the rows.
_MOST_COLUMNS = 64


def is_suited(learner: object, num_columns: int) -> bool:
    """Whether the moments of the folds are all that the learner needs."""
    return type(learner) is Ridge and num_columns <= _MOST_COLUMNS


def predict_by_moments(
    learner: Ridge,
    features: Array,
    target: Array,
    weights: Array,
    order: Array,
    *,
    num_folds: int,
    least: int,
) -> Array:
    """Predictions (n,) of one partition: blocks of rows along the permutation `order`.

    Equal to fitting `learner` outside each fold, up to rounding. No number of the fit
    for a fold is computed from a label of that fold.
    """
    n, d = features.shape
    dtype = features.dtype
    sizes = fold_sizes(n, num_folds)
    width = int(sizes.max())
    # Folds that are one row short are filled up with a row of weight 0.
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    places = starts[:, None] + np.minimum(np.arange(width), sizes[:, None] - 1)
    real = np.arange(width)[None, :] < sizes[:, None]

    if learner.intercept:
        # Any common point will do that is known without labels: it keeps digits.
        everything = jnp.sum(weights)
        center = jnp.einsum("n,ni->i", weights, features, precision=_HIGHEST)
        center = center / jnp.where(everything > 0, everything, 1)
    else:
        center = jnp.zeros(d, dtype)
    joined = jnp.concatenate(
        [features - center[None, :], target[:, None], weights[:, None]], axis=1
    )
    index = order if n == num_folds * width else order[places.reshape(-1)]
    blocks = joined[index].reshape(num_folds, width, d + 2)
    rows, targets, weight = blocks[..., :d], blocks[..., d], blocks[..., d + 1]
    if n != num_folds * width:
        weight = jnp.where(real, weight, 0)

    def total(values: Array) -> Array:
        return jnp.einsum("kw,kwi->ki", values, rows, precision=_HIGHEST)

    mass = jnp.sum(weight, axis=1)
    level = jnp.zeros_like(mass)
    if learner.intercept:
        level = jnp.sum(weight * targets, axis=1) / jnp.where(mass > 0, mass, 1)
    scaled = rows * jnp.sqrt(weight)[..., None]
    gram = jnp.einsum("kwi,kwj->kij", scaled, scaled, precision=_HIGHEST)
    shift = total(weight)
    moment = total(weight * (targets - level[:, None]))
    count = jnp.sum(weight > 0, axis=1)

    # Sums over the other folds, not total minus own: nothing cancels, and a column that
    # is constant outside a fold stays so.
    others = 1 - jnp.eye(num_folds, dtype=dtype)

    def outside(values: Array) -> Array:
        flat = values.reshape(num_folds, -1)
        return jnp.matmul(others, flat, precision=_HIGHEST).reshape(values.shape)

    mass_out = outside(mass)
    safe = jnp.where(mass_out > 0, mass_out, 1)
    level_out = outside(mass * level) / safe
    square = outside(gram)
    # Targets were centred at the mean of their own fold; move them to that of the fit.
    steps = others * (level[None, :] - level_out[:, None])
    moment = outside(moment) + jnp.matmul(steps, shift, precision=_HIGHEST)
    center_out = jnp.zeros((num_folds, d), dtype)
    if learner.intercept:
        center_out = outside(shift) / safe[:, None]
    gram = square - safe[:, None, None] * (
        center_out[:, :, None] * center_out[:, None, :]
    )
    # What is left of a column that is constant in a training part is rounding.
    diagonal = jnp.diagonal(square, axis1=1, axis2=2)
    own = jnp.diagonal(gram, axis1=1, axis2=2)
    varies = own > 64 * jnp.finfo(dtype).eps * diagonal
    gram = jnp.where(varies[:, :, None] & varies[:, None, :], gram, 0)
    moment = jnp.where(varies, moment, 0)

    penalty = jnp.asarray(learner.regularization, dtype)
    singular = not is_surely_positive(learner.regularization)

    def solve(gram: Array, moment: Array) -> Array:
        return _apply_inverse(_whitener(gram, penalty, singular), moment)

    coefficients = jax.vmap(solve)(gram, moment)
    intercept = level_out - jnp.sum(center_out * coefficients, axis=1)
    found = jnp.einsum("kwi,ki->kw", rows, coefficients, precision=_HIGHEST)
    found = found + intercept[:, None]
    enough = jnp.sum(count) - count >= least
    enough &= ~jnp.isnan(mass_out)
    found = jnp.where(enough[:, None], found, jnp.nan)
    flat = found.reshape(-1) if n == num_folds * width else found[real]
    return jnp.zeros(n, dtype).at[order].set(flat, unique_indices=True)
