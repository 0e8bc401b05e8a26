"""What both studies fit, and the choice of the strength, right and as released.

The released code of the paper undoes the centring of feature columns with differences
of coefficients where the coefficients themselves belong, and predicts inside
cross-validation with those differences too. Both are here under the name "as
published", next to the right ones, and nowhere else in the project.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur import ordinal
from jaxcur.ordinal._solve import Setting, make_setting, solve_path

MAX_STEPS = 100


class Path(NamedTuple):
    """Fits along a path, with the intercepts that the released code returns.

    Attributes:
        intercepts: (l, m).
        returned: (l, m), what the released code returns in their place.
        coefficients: (l, p, m).
        differences: (l, p, m), the first coefficients, then their increments.
        strengths: (l,).
        status: (l,).
        crossing: (l,), rows with a negative probability.
    """

    intercepts: Array
    returned: Array
    coefficients: Array
    differences: Array
    strengths: Array
    status: Array
    crossing: Array


def _solver(penalty, num_classes: int, p: int, dtype) -> tuple[Setting, tuple]:
    blocks = penalty.blocks(num_classes - 1, p, dtype)
    setting = make_setting(
        blocks.matrix,
        family="cumulative",
        link="logit",
        num_classes=num_classes,
        standardize=True,
        max_steps=MAX_STEPS,
    )
    return setting, (blocks.weights, jnp.asarray(blocks.free), blocks.l1_ratio)


def _path(penalty, x: Array, y: Array, num_classes: int, strengths, relative, rtol):
    setting, terms = _solver(penalty, num_classes, x.shape[1], x.dtype)
    ones = jnp.ones(x.shape[0], x.dtype)
    flag, tolerance = jnp.asarray(relative), jnp.asarray(rtol, x.dtype)
    return solve_path(setting, x, y, ones, *terms, strengths, flag, tolerance)


def grid(count: int, ratio: float, dtype) -> Array:
    """Strengths as shares of the largest."""
    return jnp.asarray(np.geomspace(1, ratio, count), dtype)


def presto_path(
    x: Array,
    y: Array,
    strengths: Array,
    *,
    num_classes: int,
    relative: bool,
    rtol: float,
    l1_ratio: float = 1.0,
) -> Path:
    """PRESTO at these strengths; a share `l1_ratio` of 0 is its ridge version."""
    penalty = ordinal.Presto(l1_ratio=l1_ratio)
    fits = _path(penalty, x, y, num_classes, strengths, relative, rtol)
    beta = fits.coefficients
    psi = jnp.diff(jnp.pad(beta, ((0, 0), (0, 0), (1, 0))), axis=2)
    mean = jnp.mean(x, axis=0)
    returned = fits.intercepts + jnp.einsum("j,ljm->lm", mean, beta - psi)
    return Path(
        fits.intercepts,
        returned,
        beta,
        psi,
        fits.regularization,
        fits.status,
        fits.num_crossing,
    )


def rare_from(intercepts: Array, coefficients: Array, x: Array) -> Array:
    """Probability of the last class from the last boundary, (..., n)."""
    return jax.nn.sigmoid(-(intercepts[..., -1:] + coefficients[..., -1] @ x.T))


def logit_rare(x: Array, y: Array, new: Array, *, num_classes: int, rtol: float):
    """Last class against all others by unpenalised logistic regression, at `new`."""
    rare = (y == num_classes - 1).astype(jnp.int32)
    zero = jnp.zeros(1, x.dtype)
    fit = _path(ordinal.Parallel(), x, rare, 2, zero, False, rtol)
    return rare_from(fit.intercepts[0], fit.coefficients[0], new), fit.status[0]


def odds_rare(x: Array, y: Array, new: Array, *, num_classes: int, rtol: float):
    """The last class by unpenalised proportional odds, at `new`."""
    zero = jnp.zeros(1, x.dtype)
    fit = _path(ordinal.Parallel(), x, y, num_classes, zero, False, rtol)
    return rare_from(fit.intercepts[0], fit.coefficients[0], new), fit.status[0]


def brier(intercepts: Array, coefficients: Array, x: Array, y: Array) -> Array:
    """Mean over rows of the squared distance, (l,); crossing boundaries as they are."""
    m = intercepts.shape[1]
    truth = (jnp.arange(m + 1) == y[:, None]).astype(x.dtype)

    def one(alpha: Array, beta: Array) -> Array:
        below = jax.nn.sigmoid(alpha + x @ beta)
        edges = jnp.pad(below, ((0, 0), (0, 1)), constant_values=1)
        probs = jnp.diff(jnp.pad(edges, ((0, 0), (1, 0))), axis=1)
        return jnp.mean(jnp.sum((probs - truth) ** 2, axis=1))

    return jax.lax.map(lambda pair: one(*pair), (intercepts, coefficients))


def fold_scores(
    x: Array,
    y: Array,
    order: Array,
    strengths: Array,
    *,
    num_folds: int,
    num_classes: int,
    rtol: float,
    l1_ratio: float = 1.0,
) -> tuple[Array, Array]:
    """Mean Brier scores (2, l), right and as published, and the worst status.

    Both score the same fits to the same folds, which are a plain random split as in the
    released code: `order` is a permutation of the rows, dealt out in turn. A fold whose
    training rows lack a class is left out of the mean.
    """
    n = x.shape[0]
    size = n // num_folds
    # Rows beyond a multiple of the number of folds are always trained on.
    held = order[: size * num_folds].reshape(num_folds, size)
    rest = order[size * num_folds :]

    def one(fold: Array) -> tuple[Array, Array]:
        others = (fold + 1 + jnp.arange(num_folds - 1)) % num_folds
        train = jnp.concatenate([held[others].reshape(-1), rest])
        test = held[fold]
        fits = presto_path(
            x[train],
            y[train],
            strengths,
            num_classes=num_classes,
            relative=False,
            rtol=rtol,
            l1_ratio=l1_ratio,
        )
        right = brier(fits.intercepts, fits.coefficients, x[test], y[test])
        released = brier(fits.returned, fits.differences, x[test], y[test])
        return jnp.stack([right, released]), jnp.max(fits.status)

    scores, status = jax.lax.map(one, jnp.arange(num_folds))
    return jnp.nanmean(scores, axis=0), jnp.max(status)


def largest_minimiser(scores: Array) -> Array:
    """Position of the smallest score; strengths decrease, so the first is largest."""
    return jnp.argmin(jnp.where(jnp.isnan(scores), jnp.inf, scores), axis=-1)
