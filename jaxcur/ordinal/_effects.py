"""What a fit says about probabilities: intervals, marginal effects, influence."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import expit
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import is_concrete, register_dataclass
from jaxcur.ordinal._design import HIGHEST
from jaxcur.ordinal._families import class_probabilities
from jaxcur.ordinal._fit import prepare
from jaxcur.ordinal._inference import StandardErrors
from jaxcur.ordinal._inputs import check_features, check_strength, check_weights
from jaxcur.ordinal._parameters import flatten, unflatten
from jaxcur.ordinal._penalties import Penalty
from jaxcur.ordinal._predict import predictors
from jaxcur.ordinal._rare import (
    check_points,
    normal_quantile,
    rare_logit,
    rare_logit_jacobian,
    spread_of,
)
from jaxcur.ordinal._result import OrdinalResult


@register_dataclass
@dataclasses.dataclass(frozen=True)
class RareProbability:
    """Probability of the last class, with an interval.

    Attributes:
        estimate: shape (n,).
        interval: shape (n, 2), lower and upper end, inside [0, 1].
        logit_std_error: shape (n,), standard error of the log odds.
    """

    estimate: Array
    interval: Array
    logit_std_error: Array


@register_dataclass
@dataclasses.dataclass(frozen=True)
class MarginalEffects:
    """Average change of class probabilities per unit of a feature.

    Attributes:
        estimate: shape (p, k); the classes of a feature sum to zero.
        std_error: shape (p, k); NaN without a covariance.
    """

    estimate: Array
    std_error: Array


def _covariance_of(covariance: object, result: OrdinalResult) -> Array:
    """The matrix of a `StandardErrors`, or of an array of the right shape."""
    if isinstance(covariance, StandardErrors):
        covariance = covariance.covariance
    p, m = result.coefficients.shape
    array = jnp.asarray(covariance, result.intercepts.dtype)
    size = m * (1 + p)
    if array.shape != (size, size):
        raise ValueError(
            f"`covariance` must have shape ({size}, {size}), got {array.shape}; take "
            "that of `standard_errors` or `debiased_intervals`"
        )
    return array


def rare_probability_interval(
    result: OrdinalResult,
    X: Real[ArrayLike, "n p"],
    covariance: StandardErrors | Real[ArrayLike, "s s"],
    *,
    confidence_level: Real[ArrayLike, ""] = 0.95,
) -> RareProbability:
    """Interval for P(y = last class | x), by the delta method on the logit scale.

    For the cumulative family the probability is that above the last boundary, whatever
    other boundaries do; where these cross, `predict_proba` may rearrange it.

    Guarantee: asymptotic, at each x, for an unpenalised fit. Verified by: `jaxcur
    verify ordinal/rare`, whose intervals these are without a penalty.

    Args:
        result: an unpenalised fit.
        X: shape (n, p), where the probability is wanted.
        covariance: what `standard_errors` returned, or its `covariance`.
        confidence_level: of the interval.

    Returns:
        `RareProbability`.

    Raises:
        ValueError: a penalised fit, shapes that disagree.

    Transformations: jit, vmap, grad.
    Cost: O(n (p m)^2).

    Source: the delta method.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, penalty=ordinal.Parallel())
        >>> errors = ordinal.standard_errors(result, x, y)
        >>> ordinal.rare_probability_interval(result, x[-1:], errors).interval.round(1)
        Array([[0.2, 1. ]], dtype=float32)
    """
    _check_unpenalised(result)
    points = check_features(X).astype(result.intercepts.dtype)
    eta = predictors(result, points)
    matrix = _covariance_of(covariance, result)
    quantile = normal_quantile(confidence_level, eta.dtype)
    logit, jacobian = rare_logit_jacobian(result.family, result.link, eta, points)
    error = spread_of(matrix, jacobian)
    half = quantile * error
    interval = jnp.stack([logit - half, logit + half], axis=1)
    return RareProbability(expit(logit), expit(interval), error)


def _check_unpenalised(result: OrdinalResult) -> None:
    strength = result.regularization
    if is_concrete(strength) and np.any(np.asarray(strength) > 0):
        raise ValueError(
            "the interval is that of an unpenalised fit, got one with regularization "
            f"{np.asarray(strength)}; see `debiased_intervals`"
        )


@functools.partial(jax.jit, static_argnames=("family", "link"))
def _effects(
    family: str,
    link: str,
    parameters: Array,
    points: Array,
    share: Array,
    covariance: Array,
) -> tuple[Array, Array]:
    p = points.shape[1]
    m = parameters.shape[0] // (p + 1)

    def average(parameters: Array) -> Array:
        alpha, beta = unflatten(parameters, m)
        eta = alpha + jnp.matmul(points, beta, precision=HIGHEST)

        def slope(direction: Array) -> Array:
            _, moved = jax.jvp(
                lambda eta: class_probabilities(family, link, eta),
                (eta,),
                (jnp.broadcast_to(direction, eta.shape),),
            )
            return jnp.matmul(share, moved, precision=HIGHEST)

        by_boundary = jax.vmap(slope)(jnp.eye(m, dtype=eta.dtype))
        return jnp.matmul(beta, by_boundary, precision=HIGHEST)

    # One parameter at a time: (rows, classes) of memory, not times the parameters.
    jacobian = jax.lax.map(
        lambda direction: jax.jvp(average, (parameters,), (direction,))[1],
        jnp.eye(parameters.size, dtype=parameters.dtype),
    ).reshape(parameters.size, -1)
    estimate = average(parameters)
    return estimate, spread_of(covariance, jacobian.T).reshape(estimate.shape)


def average_marginal_effects(
    result: OrdinalResult,
    X: Real[ArrayLike, "n p"],
    *,
    covariance: StandardErrors | Real[ArrayLike, "s s"] | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> MarginalEffects:
    """Mean over rows of the derivative of each class probability in each feature.

    Unlike coefficients these have one sign convention: positive means that the class
    gets likelier. Derivatives are taken for indicator columns too; signed probabilities
    of crossing boundaries enter as they are.

    Guarantee: `std_error` is asymptotic, for an unpenalised fit with its covariance,
    the rows of `X` taken as fixed. Verified by: finite differences in the unit
    tests.

    Args:
        result: a fit.
        X: shape (n, p), the rows to average over.
        covariance: what `standard_errors` returned, or its `covariance`; None for
            estimates alone.
        weights: shape (n,), of the average.

    Returns:
        `MarginalEffects`.

    Raises:
        ValueError: shapes that disagree.

    Transformations: jit, vmap, grad.
    Cost: O(n m^2 (m + p)) per parameter.

    Source: the delta method; Long and Freese 2014.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> result = ordinal.fit(x, y, num_classes=3, penalty=ordinal.Parallel())
        >>> ordinal.average_marginal_effects(result, x).estimate.round(2)
        Array([[-0.12,  0.01,  0.11]], dtype=float32)
    """
    points = check_features(X).astype(result.intercepts.dtype)
    predictors(result, points)
    mass = check_weights(weights, points.shape[0], points.dtype)
    parameters = flatten(result.intercepts, result.coefficients)
    if covariance is None:
        matrix = jnp.full((parameters.size,) * 2, jnp.nan, parameters.dtype)
    else:
        matrix = _covariance_of(covariance, result)
    estimate, error = _effects(
        result.family, result.link, parameters, points, mass / jnp.sum(mass), matrix
    )
    return MarginalEffects(
        estimate, jnp.full_like(error, jnp.nan) if covariance is None else error
    )


def influence(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    points: Real[ArrayLike, "q p"],
    penalty: Penalty | None = None,
    regularization: Real[ArrayLike, ""] = 0.0,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    standardize: bool = True,
    crossing: str = "own",
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> Float[Array, "q n"]:
    """Derivative of P(y = last class | point) in the weight of every row.

    By the implicit function theorem, at the fit: no refits. Leaving row i out changes
    the probability at a point by about  -weight_i * influence_i. The penalty and the
    standardisation are differentiated with the rest; the set of zeros is held.

    Guarantee: exact derivative where the set of zeros does not change. Verified by:
    refits in the unit tests.

    Args:
        X: shape (n, p).
        y: shape (n,).
        num_classes: number of classes. Static.
        points: shape (q, p), where the probability is taken.
        penalty: as in `fit`.
        regularization: as in `fit`.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`.
        standardize: as in `fit`.
        crossing: as in `fit`; constraints that bind are held too.
        rtol: as in `fit`.
        max_steps: as in `fit`.

    Returns:
        shape (q, n). A row of it times the weights sums to zero.

    Raises:
        ValueError: as `fit`; `points` of another shape.

    Transformations: jit, vmap.
    Cost: one fit, and per point one linear system and O(n p m).

    Source: the implicit function theorem; Cook 1977.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(8.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 0, 1, 2, 1, 2])
        >>> effect = ordinal.influence(
        ...     x, y, num_classes=3, points=x[-1:], regularization=0.05
        ... )
        >>> effect.shape, int(effect[0].argmax())
        ((1, 8), 5)
    """
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=standardize,
        crossing=crossing,
        rtol=rtol,
        max_steps=max_steps,
    )
    dtype = problem.features.dtype
    at = check_points(points, problem.features.shape[1], dtype)
    strength = check_strength(regularization, dtype)

    def probability(mass: Array) -> Array:
        fit = problem.solve(strength[None], relative=False, weights=mass).at(0)
        eta = fit.intercepts + jnp.matmul(at, fit.coefficients, precision=HIGHEST)
        return expit(rare_logit(family, link, eta))

    _, pull = jax.vjp(probability, problem.weights)
    return jax.lax.map(
        lambda direction: pull(direction)[0], jnp.eye(at.shape[0], dtype=dtype)
    )
