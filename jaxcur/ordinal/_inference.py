"""Standard errors of unpenalised fits, and the test of proportional odds by feature."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import check_choice, is_concrete
from jaxcur.ordinal._design import HIGHEST, standardise
from jaxcur.ordinal._families import row_terms
from jaxcur.ordinal._fit import prepare
from jaxcur.ordinal._inputs import check_features, check_response, check_weights
from jaxcur.ordinal._penalties import Partial
from jaxcur.ordinal._predict import predictors
from jaxcur.ordinal._result import DIVERGING, INVALID, OrdinalResult
from jaxcur.ordinal._solve import Rows, Setting, loss_hessian, solve_path

KINDS = ("observed", "expected", "sandwich", "cluster")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class StandardErrors:
    """Standard errors on the original scale.

    Attributes:
        intercepts: shape (k-1,).
        coefficients: shape (p, k-1); equal along a row where one coefficient serves all
            boundaries.
        covariance: shape (q, q), q = (k-1)(1 + p): the intercepts, then the
            coefficients of the first boundary, of the second, and so on.
    """

    intercepts: Array
    coefficients: Array
    covariance: Array


def _free_inverse(information: Array, active: Array) -> Array:
    """Inverse on the active coordinates, zero elsewhere; NaN where singular."""
    both = active[:, None] & active[None, :]
    matrix = jnp.where(both, information, 0) + jnp.diag(jnp.where(active, 0.0, 1.0))
    root = jnp.sqrt(jnp.diagonal(matrix))
    factor = jnp.linalg.cholesky(matrix / root[:, None] / root[None, :])
    pivot = jnp.min(jnp.diagonal(factor))
    singular = ~(pivot > 10 * active.size * jnp.finfo(matrix.dtype).eps)
    identity = jnp.eye(active.size, dtype=matrix.dtype)
    inverse = jax.scipy.linalg.cho_solve((factor, True), identity)
    inverse = jnp.where(both, inverse / root[:, None] / root[None, :], 0)
    return jnp.where(both & singular, jnp.nan, inverse)


def _row_scores(columns: Array, gradient: Array, matrix: np.ndarray) -> Array:
    """Derivative of each row's log-likelihood in theta, (n, m + L p)."""
    n = columns.shape[0]
    by_block = jnp.matmul(gradient, jnp.asarray(matrix, gradient.dtype))
    psi = by_block[:, :, None] * columns[:, None, :]
    return jnp.concatenate([gradient, psi.reshape(n, -1)], axis=1)


@functools.partial(jax.jit, static_argnames=("setting", "kind"))
def _covariance(
    setting: Setting,
    kind: str,
    features: Array,
    y: Array,
    weights: Array,
    eta: Array,
    free: Array,
    clusters: Array,
) -> Array:
    """Covariance of (alpha, B boundary by boundary) on the original scale."""
    m = setting.num_classes - 1
    n, p = features.shape
    matrix = setting.map
    scaled = standardise(features, weights, True)
    rows = Rows(scaled.columns, y, weights)
    active = jnp.concatenate([jnp.ones(m, bool), free.reshape(-1)])
    information = loss_hessian(setting, rows, eta, expected=kind == "expected")
    covariance = _free_inverse(information, active)
    if kind in ("sandwich", "cluster"):
        gradient = row_terms(setting.family, setting.link, eta, y).gradient
        scores = _row_scores(scaled.columns, gradient, matrix)
        scores = jnp.where(weights[:, None] > 0, weights[:, None] * scores, 0)
        if kind == "cluster":
            scores = jax.ops.segment_sum(scores, clusters, num_segments=n)
        meat = jnp.matmul(scores.T, scores, precision=HIGHEST)
        covariance = covariance @ meat @ covariance
    # From standardised blocks to boundaries, then to the original scale.
    to_beta = jnp.kron(jnp.asarray(matrix, features.dtype), jnp.diag(1 / scaled.scale))
    shift = jnp.kron(jnp.eye(m, dtype=features.dtype), scaled.mean[None, :])
    top = jnp.concatenate([jnp.eye(m, dtype=features.dtype), -shift @ to_beta], axis=1)
    bottom = jnp.pad(to_beta, ((0, 0), (m, 0)))
    jacobian = jnp.concatenate([top, bottom])
    return jacobian @ covariance @ jacobian.T


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
    codes = jnp.zeros(n, jnp.int32)
    if clusters is not None:
        given = jnp.asarray(clusters)
        if given.shape != (n,):
            raise ValueError(f"`clusters` must have shape ({n},), got {given.shape}")
        if is_concrete(given):
            codes = jnp.asarray(np.unique(np.asarray(given), return_inverse=True)[1])
        else:
            codes = jnp.unique(given, return_inverse=True, size=n)[1]
    matrix, free = np.asarray(result.matrix), result.free
    if matrix.shape[1] > matrix.shape[0]:
        # More blocks than boundaries: only their sums are identified.
        matrix = np.eye(num_classes - 1)
        free = jnp.ones((num_classes - 1, p), bool)
    setting = Setting(
        result.family,
        result.link,
        tuple(tuple(row) for row in matrix.tolist()),
        num_classes,
        True,
        1,
    )
    eta = predictors(result, features)
    covariance = _covariance(setting, kind, features, response, mass, eta, free, codes)
    errors = jnp.sqrt(jnp.diagonal(covariance))
    m = num_classes - 1
    return StandardErrors(errors[:m], errors[m:].reshape(m, p).T, covariance)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NominalTestResult:
    """Likelihood-ratio tests of proportional odds, one per feature.

    Attributes:
        statistic: shape (p,), twice the gain in log-likelihood.
        p_value: shape (p,).
        degrees: scalar int, k - 2.
        status: shape (p,), of the fits with the feature set free.
    """

    statistic: Array
    p_value: Array
    degrees: Array
    status: Array


@functools.partial(jax.jit, static_argnames=("setting",))
def _freed(
    setting: Setting, features: Array, y: Array, weights: Array, rtol: Array
) -> tuple[Array, Array]:
    """Log-likelihood and status: all proportional, then each feature set free."""
    p = features.shape[1]
    m = setting.num_classes - 1
    dtype = features.dtype

    def one(index: Array) -> tuple[Array, Array]:
        free = (jnp.arange(m)[:, None] == 0) | (jnp.arange(p)[None, :] == index)
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
        return fits.loglik[0], fits.status[0]

    return jax.lax.map(one, jnp.arange(-1, p))


def nominal_test(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> NominalTestResult:
    """Does a feature break proportional odds? One likelihood-ratio test per feature.

    The proportional model is compared with the one in which this feature alone has a
    coefficient at every boundary.

    Guarantee: asymptotic size, under the proportional model and as rows grow; a small
    class makes it inexact. A test whose freed fit diverges (status 2) has no p-value.
    Verified by: R `ordinal::nominal_test`.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes, at least 3. Static.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`; they count as numbers of rows.
        rtol: as in `fit`.
        max_steps: as in `fit`.

    Raises:
        ValueError: two classes, or what `fit` raises.

    Transformations: jit, vmap.
    Cost: p + 1 unpenalised fits in one program.

    Source: Christensen, R package ordinal; Brant 1990.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jax.random.normal(jax.random.key(0), (90, 2))
        >>> noise = jax.random.logistic(jax.random.key(1), (90,))
        >>> y = jnp.digitize(x[:, 0] + noise, jnp.array([0.0, 1.5]))
        >>> ordinal.nominal_test(x, y, num_classes=3).p_value.shape
        (2,)
    """
    if num_classes < 3:
        raise ValueError(
            "two classes have one boundary, which nothing can break: "
            f"`num_classes` must be at least 3, got {num_classes}"
        )
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
    loglik, status = _freed(
        problem.setting, problem.features, problem.y, problem.weights, problem.rtol
    )
    statistic = jnp.maximum(2 * (loglik[1:] - loglik[0]), 0)
    degrees = num_classes - 2
    tail = jax.scipy.special.gammaincc(
        jnp.asarray(degrees / 2, statistic.dtype), statistic / 2
    )
    lost = (status == DIVERGING) | (status == INVALID)
    return NominalTestResult(
        statistic,
        jnp.where(lost[1:] | lost[0], jnp.nan, tail),
        jnp.asarray(degrees),
        status[1:],
    )


__all__ = ["NominalTestResult", "StandardErrors", "nominal_test", "standard_errors"]
