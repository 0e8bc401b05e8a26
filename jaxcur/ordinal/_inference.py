"""Standard errors of unpenalised fits."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import check_choice, is_concrete, register_dataclass
from jaxcur.ordinal._design import HIGHEST, standardise, varying
from jaxcur.ordinal._inputs import check_features, check_response, check_weights
from jaxcur.ordinal._parameters import (
    active_coordinates,
    blocks_to_boundaries,
    boundaries_to_original,
    boundary_setting,
    carry,
    cluster_codes,
    identified,
    theta_covariance,
)
from jaxcur.ordinal._predict import predictors
from jaxcur.ordinal._result import DIVERGING, IMPRECISE, OrdinalResult
from jaxcur.ordinal._solve import Rows, Setting

KINDS = ("observed", "expected", "sandwich", "cluster")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class StandardErrors:
    """Standard errors on the original scale.

    Attributes:
        intercepts: shape (k-1,).
        coefficients: shape (p, k-1); equal along a row where one coefficient serves all
            boundaries. NaN for a column that is constant.
        covariance: shape (s, s), s = (k-1)(1 + p): the intercepts, then the
            coefficients of the first boundary, of the second, and so on. Zero for a
            column that is constant, whose coefficient is exactly zero.

    All are NaN where the fit has status 2, 3 or 5, or the information has no inverse.
    """

    intercepts: Array
    coefficients: Array
    covariance: Array


@functools.partial(jax.jit, static_argnames=("setting", "kind"))
def _covariance(
    setting: Setting,
    kind: str,
    features: Array,
    y: Array,
    weights: Array,
    eta: Array,
    matrix: Array,
    free: Array,
    clusters: Array | None,
) -> Array:
    """Covariance of (alpha, B boundary by boundary) on the original scale."""
    m = setting.num_classes - 1
    scaled = standardise(features, weights, True)
    rows = Rows(scaled.columns, y, weights)
    active = active_coordinates(free, m, rows.columns)
    covariance = theta_covariance(setting, kind, rows, eta, matrix, active, clusters)
    jacobian = jnp.matmul(
        boundaries_to_original(scaled, m),
        blocks_to_boundaries(matrix, features.shape[1]),
        precision=HIGHEST,
    )
    return carry(covariance, jacobian)


def standard_errors(
    result: OrdinalResult,
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    kind: str = "observed",
    clusters: Int[ArrayLike, " n"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> StandardErrors:
    """Standard errors of an unpenalised fit.

    Guarantee: asymptotic, as rows grow with the number of parameters fixed. `observed`
    and `expected` assume the model; `sandwich` (rows independent) and `cluster`
    (clusters independent, many of them) do not. Verified by: the standard errors of R
    clm (observed) and VGAM (expected).

    Args:
        result: a fit with `regularization` 0 to these rows.
        X: shape (n, p).
        y: shape (n,).
        kind: "observed" information (as R polr and clm), "expected" information (as
            VGAM), "sandwich" (HC0) or "cluster". Static.
        clusters: shape (n,), integer codes, with `kind="cluster"`.
        weights: as in the fit. For `observed` and `expected` they count as numbers of
            rows.

    Raises:
        ValueError: a penalised fit, a path, `clusters` without `kind="cluster"` or the
            reverse, an unknown kind.

    Transformations: jit, vmap.
    Cost: one Hessian and one inverse.

    Source: McCullagh 1980; White 1980; Liang and Zeger 1986.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, penalty=ordinal.Parallel())
        >>> ordinal.standard_errors(result, x, y).coefficients.round(2)
        Array([[0.63, 0.63]], dtype=float32)
    """
    check_choice("kind", kind, KINDS)
    features = check_features(X)
    n, p = features.shape
    num_classes = result.intercepts.shape[-1] + 1
    response = check_response(y, num_classes, n)
    mass = check_weights(weights, n, features.dtype)
    if is_concrete(result.regularization) and np.any(
        np.asarray(result.regularization) > 0
    ):
        raise ValueError(
            "standard errors are those of an unpenalised fit, got one with "
            f"regularization {np.asarray(result.regularization)}"
        )
    if (clusters is not None) != (kind == "cluster"):
        raise ValueError("`clusters` and `kind='cluster'` belong together")
    codes = None if clusters is None else cluster_codes(clusters, n)
    matrix, free = identified(result.matrix, result.free)
    setting = boundary_setting(result.family, result.link, num_classes)
    eta = predictors(result, features)
    known = (result.status != DIVERGING) & (result.status != IMPRECISE)
    covariance = _covariance(
        setting, kind, features, response, mass, eta, matrix, free, codes
    )
    covariance = jnp.where(known, covariance, jnp.nan)
    errors = jnp.sqrt(jnp.maximum(jnp.diagonal(covariance), 0))
    m = num_classes - 1
    slopes = errors[m:].reshape(m, p).T
    # A coefficient that the rows say nothing about was not estimated.
    slopes = jnp.where(varying(features, mass)[:, None], slopes, jnp.nan)
    return StandardErrors(errors[:m], slopes, covariance)
