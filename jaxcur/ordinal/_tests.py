"""Tests of proportional odds, feature by feature."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaincc
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import check_choice, register_dataclass
from jaxcur.ordinal._design import linear_predictor, standardise, varying
from jaxcur.ordinal._fit import prepare
from jaxcur.ordinal._parameters import active_coordinates, free_inverse
from jaxcur.ordinal._penalties import Partial
from jaxcur.ordinal._result import DIVERGING, INVALID, SINGULAR
from jaxcur.ordinal._solve import (
    Rows,
    Setting,
    loss_gradient,
    loss_hessian,
    solve_path,
)

METHODS = ("lr", "score", "wald")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class NominalTestResult:
    """Tests of proportional odds, one per feature.

    Attributes:
        statistic: shape (p,), chi-square under proportional odds.
        p_value: shape (p,).
        degrees: scalar int, k - 2.
        status: shape (p,), a key of `ordinal.STATUS`: of the fits with the feature set
            free, or of the proportional fit for the score test; 4 where the information
            has no inverse, or the column is constant.
    """

    statistic: Array
    p_value: Array
    degrees: Array
    status: Array


def chi_square_tail(statistic: Array, degrees: int) -> Array:
    """P(chi-square with `degrees` > statistic)."""
    half = jnp.asarray(degrees / 2, statistic.dtype)
    return gammaincc(half, statistic / 2)


def quadratic_form(vector: Array, covariance: Array) -> Array:
    """Squared length in units of the covariance; NaN where that is not definite."""
    root = jnp.sqrt(jnp.diagonal(covariance))
    factor = jnp.linalg.cholesky(covariance / root[:, None] / root[None, :])
    whitened = jax.scipy.linalg.solve_triangular(
        factor, (vector / root)[:, None], lower=True
    )
    return jnp.sum(whitened * whitened)


@functools.partial(jax.jit, static_argnames=("setting", "method"))
def _statistics(
    setting: Setting,
    method: str,
    features: Array,
    y: Array,
    weights: Array,
    rtol: Array,
) -> tuple[Array, Array]:
    """Statistic and status of every feature."""
    p = features.shape[1]
    m = setting.num_classes - 1
    dtype = features.dtype
    scaled = standardise(features, weights, True)
    rows = Rows(scaled.columns, y, weights)

    def freed(index: Array) -> Array:
        # The first block is common; the differences of one feature may move.
        return (jnp.arange(m)[:, None] == 0) | (jnp.arange(p)[None, :] == index)

    def moving(index: Array) -> Array:
        return active_coordinates(freed(index), m, rows.columns)

    def solve(free: Array):
        fits = solve_path(
            setting,
            features,
            y,
            weights,
            jnp.ones((m, p), dtype),
            free,
            jnp.ones((), dtype),
            jnp.zeros(1, dtype),
            jnp.asarray(False),
            rtol,
        )
        fit = fits.at(0)
        alpha = fit.intercepts + scaled.mean @ fit.coefficients
        theta = jnp.concatenate([alpha, fit.blocks.reshape(-1)])
        return fit.loglik, fit.status, theta

    def differences(index: Array) -> Array:
        """Positions in theta of the differences of one feature, (m - 1,)."""
        return m + jnp.arange(1, m) * p + index

    everything = jnp.arange(p)
    if method == "lr":
        loglik, status, _ = jax.lax.map(
            lambda index: solve(freed(index)), jnp.arange(-1, p)
        )
        lost = (status[0] == DIVERGING) | (status[0] == INVALID)
        status = jnp.where(lost, status[0], status[1:])
        return jnp.maximum(2 * (loglik[1:] - loglik[0]), 0), status
    if method == "wald":

        def wald(index: Array) -> tuple[Array, Array]:
            _, status, theta = solve(freed(index))
            eta = linear_predictor(rows.columns, theta, setting.map)[0]
            information = loss_hessian(setting, rows, eta, expected=False)
            inverse = free_inverse(information, moving(index))
            at = differences(index)
            part = inverse[at[:, None], at[None, :]]
            return quadratic_form(theta[at], part), status

        return jax.lax.map(wald, everything)
    _, status, theta = solve(freed(jnp.asarray(-1)))
    eta = linear_predictor(rows.columns, theta, setting.map)[0]
    information = loss_hessian(setting, rows, eta, expected=True)
    score = -loss_gradient(setting, rows, eta)

    def rao(index: Array) -> Array:
        inverse = free_inverse(information, moving(index))
        at = differences(index)
        return score[at] @ inverse[at[:, None], at[None, :]] @ score[at]

    return jax.lax.map(rao, everything), jnp.broadcast_to(status, (p,))


def nominal_test(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    method: str = "lr",
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> NominalTestResult:
    """Does a feature break proportional odds? One test per feature.

    The proportional model is compared with the one in which this feature alone has a
    coefficient at every boundary: by their likelihoods ("lr"), by the slope of the
    likelihood at the proportional fit ("score", expected information), or by the
    differences of the freed fit over their standard errors ("wald").

    Guarantee: asymptotic size, under the proportional model and as rows grow; a small
    class makes it inexact, "wald" most. A test whose freed fit diverges (status 2) has
    no p-value; the score test needs no freed fit and has one. Verified by: R
    `ordinal::nominal_test` ("lr"), `jaxcur verify ordinal/nominal`.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes, at least 3. Static.
        method: "lr", "score" or "wald". Static.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`; they count as numbers of rows.
        rtol: as in `fit`.
        max_steps: as in `fit`.

    Raises:
        ValueError: two classes, an unknown method, or what `fit` raises.

    Transformations: jit, vmap.
    Cost: p + 1 unpenalised fits in one program; for "score" one fit, and p inverses of
    a matrix with (p + 1)(k - 1) rows.

    Source: Christensen, R package ordinal; Peterson and Harrell 1990 (score).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jax.random.normal(jax.random.key(0), (90, 2))
        >>> noise = jax.random.logistic(jax.random.key(1), (90,))
        >>> y = jnp.digitize(x[:, 0] + noise, jnp.array([0.0, 1.5]))
        >>> ordinal.nominal_test(x, y, num_classes=3).p_value.shape
        (2,)
    """
    check_choice("method", method, METHODS)
    _check_boundaries(num_classes)
    p = np.shape(X)[1] if np.ndim(X) == 2 else 1
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=Partial(np.ones(p, bool)),
        family=family,
        link=link,
        weights=weights,
        standardize=True,
        crossing="own",
        rtol=rtol,
        max_steps=max_steps,
    )
    statistic, status = _statistics(
        problem.setting,
        method,
        problem.features,
        problem.y,
        problem.weights,
        problem.rtol,
    )
    degrees = num_classes - 2
    # A constant column moves no boundary: there is nothing to test.
    varies = varying(problem.features, problem.weights)
    statistic = jnp.where(varies, statistic, jnp.nan)
    lost = (status == DIVERGING) | (status == INVALID)
    status = jnp.where(~lost & jnp.isnan(statistic), SINGULAR, status)
    return NominalTestResult(
        statistic,
        jnp.where(lost, jnp.nan, chi_square_tail(statistic, degrees)),
        jnp.int32(degrees),
        status,
    )


def _check_boundaries(num_classes: int) -> None:
    if num_classes < 3:
        raise ValueError(
            "two classes have one boundary, which nothing can break: "
            f"`num_classes` must be at least 3, got {num_classes}"
        )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BrantTestResult:
    """Brant's test of proportional odds.

    Attributes:
        statistic: shape (p,), chi-square for each feature.
        p_value: shape (p,).
        degrees: scalar int, k - 2.
        overall_statistic: scalar, for all features together.
        overall_p_value: scalar.
        overall_degrees: scalar int, p (k - 2).
        coefficients: shape (p, k-1), of the separate logistic regressions of
            y <= boundary, in the sign of `fit`.
        status: shape (k-1,), of these regressions, a key of `ordinal.STATUS`.
    """

    statistic: Array
    p_value: Array
    degrees: Array
    overall_statistic: Array
    overall_p_value: Array
    overall_degrees: Array
    coefficients: Array
    status: Array


@functools.partial(jax.jit, static_argnames=("setting", "m"))
def _brant(
    setting: Setting, m: int, features: Array, y: Array, weights: Array, rtol: Array
):
    """Statistics per feature and overall, coefficients (p, m) and statuses (m,)."""
    n, p = features.shape
    dtype = features.dtype
    scaled = standardise(features, weights, True)

    def split(boundary: Array):
        fit = solve_path(
            setting,
            features,
            (y > boundary).astype(jnp.int32),
            weights,
            jnp.ones((1, p), dtype),
            jnp.ones((1, p), bool),
            jnp.ones((), dtype),
            jnp.zeros(1, dtype),
            jnp.asarray(False),
            rtol,
        ).at(0)
        alpha = fit.intercepts + scaled.mean @ fit.coefficients
        eta = alpha + scaled.columns @ (fit.coefficients[:, 0] * scaled.scale)
        return fit.coefficients[:, 0], jax.nn.sigmoid(eta), fit.status

    coefficients, below, status = jax.lax.map(split, jnp.arange(m))
    design = jnp.concatenate([jnp.ones((n, 1), dtype), scaled.columns], axis=1)
    present = weights > 0

    def gram(row: Array) -> Array:
        row = jnp.where(present, weights * row, 0)
        return jnp.matmul((design * row[:, None]).T, design, precision="highest")

    # P(y <= k) (1 - P(y <= l)) for k <= l: the covariance of two nested indicators.
    low, high = np.triu_indices(m)
    grams = jax.lax.map(
        lambda pair: gram(below[pair[0]] * (1 - below[pair[1]])),
        jnp.stack([jnp.asarray(low), jnp.asarray(high)], axis=1),
    )
    position = np.zeros((m, m), int)
    position[low, high] = position[high, low] = np.arange(low.size)
    active = jnp.ones(p + 1, bool)
    inverses = jax.vmap(lambda k: free_inverse(grams[k], active))(
        jnp.asarray(np.diagonal(position))
    )
    blocks = jnp.einsum(
        "kab,klbc,lcd->klad",
        inverses,
        grams[position],
        inverses,
        precision="highest",
    )[:, :, 1:, 1:]
    beta = coefficients * scaled.scale
    contrast = jnp.concatenate(
        [jnp.ones((m - 1, 1), dtype), -jnp.eye(m - 1, dtype=dtype)], axis=1
    )
    gaps = contrast @ beta
    spread = jnp.einsum("rk,klab,sl->rsab", contrast, blocks, contrast)
    each = jax.vmap(
        lambda j: quadratic_form(gaps[:, j], spread[:, :, j, j]), out_axes=0
    )(jnp.arange(p))
    size = (m - 1) * p
    whole = spread.transpose(0, 2, 1, 3).reshape(size, size)
    overall = quadratic_form(gaps.reshape(size), whole)
    return each, overall, coefficients.T, status


def brant_test(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    weights: Real[ArrayLike, " n"] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> BrantTestResult:
    """Brant's test: do separate logistic regressions agree on a feature?

    For every boundary a logistic regression of  y <= k;  their coefficients of one
    feature are compared by a Wald statistic with their joint covariance. It needs no
    ordinal fit, but every split needs a finite one.

    Guarantee: asymptotic size, under proportional odds and as rows grow; a rare class
    makes it reject too often or too rarely. Verified by: an independent computation in
    NumPy and statsmodels.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes, at least 3. Static.
        weights: as in `fit`; they count as numbers of rows.
        rtol: as in `fit`.
        max_steps: as in `fit`.

    Raises:
        ValueError: two classes, or what `fit` raises.

    Transformations: jit, vmap.
    Cost: k - 1 logistic regressions.

    Source: Brant, "Assessing proportionality in the proportional odds model for ordinal
    logistic regression", Biometrics 1990.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jax.random.normal(jax.random.key(0), (90, 2))
        >>> noise = jax.random.logistic(jax.random.key(1), (90,))
        >>> y = jnp.digitize(x[:, 0] + noise, jnp.array([0.0, 1.5]))
        >>> ordinal.brant_test(x, y, num_classes=3).overall_degrees
        Array(2, dtype=int32)
    """
    _check_boundaries(num_classes)
    p = np.shape(X)[1] if np.ndim(X) == 2 else 1
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=Partial(np.ones(p, bool)),
        family="cumulative",
        link="logit",
        weights=weights,
        standardize=True,
        crossing="own",
        rtol=rtol,
        max_steps=max_steps,
    )
    m = num_classes - 1
    setting = Setting("cumulative", "logit", ((1.0,),), 2, True, max_steps)
    each, overall, coefficients, status = _brant(
        setting, m, problem.features, problem.y, problem.weights, problem.rtol
    )
    lost = jnp.any((status == DIVERGING) | (status == INVALID))
    status = jnp.where(~lost & jnp.isnan(overall), SINGULAR, status)
    degrees = m - 1

    def tail(statistic: Array, degrees: int) -> Array:
        return jnp.where(lost, jnp.nan, chi_square_tail(statistic, degrees))

    return BrantTestResult(
        each,
        tail(each, degrees),
        jnp.int32(degrees),
        overall,
        tail(overall, degrees * p),
        jnp.int32(degrees * p),
        coefficients,
        status,
    )
