"""Functions of an estimate: linear contrasts and the delta method."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    check_unit_interval,
    exact_fraction,
    is_concrete,
    register_dataclass,
)
from jaxcur.debiased._result import ALTERNATIVES, Alternative, std_error


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ContrastResult:
    """A function of an estimate with its uncertainty.

    Attributes:
        estimate: shape (r,).
        covariance: shape (r, r).
    """

    estimate: Array
    covariance: Array

    @property
    def std_error(self) -> Array:
        """Standard errors, shape (r,)."""
        return std_error(self.covariance)

    def conf_int(
        self,
        confidence_level: float | Array = 0.95,
        *,
        alternative: Alternative = "two-sided",
        degrees_of_freedom: float | Array = math.inf,
    ) -> Array:
        """Confidence intervals one at a time, shape (r, 2).

        Args:
            confidence_level: scalar in (0, 1).
            alternative: "larger" gives [lower, inf), "smaller" (-inf, upper].
            degrees_of_freedom: scalar, of Student's t; infinity is the normal.
        """
        check_level(confidence_level)
        check_choice("alternative", alternative, ALTERNATIVES)
        sides = 2 if alternative == "two-sided" else 1
        tail = tail_probability(confidence_level, sides, self.estimate.dtype)
        quantile = _upper_quantile(tail, degrees_of_freedom)
        half = quantile[..., None] * self.std_error
        inf = jnp.full_like(half, jnp.inf)
        low = -inf if alternative == "smaller" else self.estimate - half
        high = inf if alternative == "larger" else self.estimate + half
        return jnp.stack([low, high], axis=-1)

    def p_value(
        self,
        alternative: Alternative = "two-sided",
        *,
        null: Any = 0.0,
        degrees_of_freedom: float | Array = math.inf,
    ) -> Array:
        """P-values one at a time, shape (r,).

        Args:
            alternative: "larger" is evidence for values above `null`.
            null: scalar or (r,).
            degrees_of_freedom: as in `conf_int`.
        """
        check_choice("alternative", alternative, ALTERNATIVES)
        z = (self.estimate - jnp.asarray(null, self.estimate.dtype)) / self.std_error
        if alternative == "two-sided":
            return jnp.minimum(2 * _upper_tail(jnp.abs(z), degrees_of_freedom), 1.0)
        return _upper_tail(z if alternative == "larger" else -z, degrees_of_freedom)


def linear_contrast(
    estimate: Real[ArrayLike, " p"],
    covariance: Real[ArrayLike, "p p"],
    matrix: Real[ArrayLike, "..."],
) -> ContrastResult:
    """Linear combinations R theta with covariance R V R'.

    Guarantee: exact moments; the intervals of the result cover asymptotically when
    those of the estimate do. Verified by: tests/unit/debiased/test_contrasts.py.

    Args:
        estimate: shape (p,).
        covariance: shape (p, p).
        matrix: R, shape (r, p), one combination a row; shape (p,) is one row.

    Returns:
        A `ContrastResult` with r entries.

    Raises:
        ValueError: shapes that do not fit.

    Transformations: jit, vmap, grad.
    Cost: O(r p (p + r)).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> difference = debiased.linear_contrast(
        ...     jnp.array([3.0, 1.0]), jnp.diag(jnp.array([9.0, 16.0])), [1.0, -1.0]
        ... )
        >>> print(difference.estimate, difference.std_error)
        [2.] [5.]
    """
    theta, cov = as_float(estimate=estimate, covariance=covariance)
    check_pair(theta, cov)
    rows = contrast_rows(jnp.asarray(matrix, theta.dtype), theta.shape[0])
    return ContrastResult(
        jnp.matmul(rows, theta, precision="highest"), sandwich(rows, cov)
    )


def delta_method(
    function: Callable[[Array], Array],
    estimate: Real[ArrayLike, " p"],
    covariance: Real[ArrayLike, "p p"],
) -> ContrastResult:
    """A smooth function h(theta) with covariance H V H', H = dh/dtheta by autodiff.

    The function sees theta alone. An average over the sample, such as an average
    marginal effect, has sampling noise of its own, which its own moment has to carry:
    stack it in `debiased.estimate`.

    Guarantee: intervals cover asymptotically when those of the estimate do, h is
    differentiable at the truth and H has no zero row there.
    Verified by: tests/unit/debiased/test_contrasts.py.

    Args:
        function: maps (p,) to an array of any shape, which is flattened; traceable.
        estimate: shape (p,).
        covariance: shape (p, p).

    Returns:
        A `ContrastResult` with one entry per entry of h(theta).

    Raises:
        ValueError: shapes that do not fit.

    Transformations: jit, vmap, grad.
    Cost: p forward passes through the function, which may hold loops.

    Source: van der Vaart, Asymptotic Statistics, 1998, chapter 3.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> ratio = debiased.delta_method(
        ...     lambda theta: theta[0] / theta[1],
        ...     jnp.array([6.0, 2.0]), jnp.diag(jnp.array([4.0, 1.0])),
        ... )
        >>> print(ratio.estimate, ratio.covariance)
        [3.] [[3.25]]
    """
    theta, cov = as_float(estimate=estimate, covariance=covariance)
    check_pair(theta, cov)

    def flat(theta: Array) -> Array:
        return jnp.ravel(function(theta))

    # Forward mode: it also passes through while loops, and p is small.
    return ContrastResult(flat(theta), sandwich(jax.jacfwd(flat)(theta), cov))


def _upper_quantile(tail: Array, degrees_of_freedom: Any) -> Array:
    if _is_normal(degrees_of_freedom):
        return -ndtri(tail)
    return -stats.student_t_quantile(tail, degrees_of_freedom).astype(tail.dtype)


def _upper_tail(z: Array, degrees_of_freedom: Any) -> Array:
    if _is_normal(degrees_of_freedom):
        return ndtr(-z)
    nu = jnp.asarray(degrees_of_freedom)[..., None]
    return stats.student_t_tail(z, nu).astype(z.dtype)


def _is_normal(degrees_of_freedom: Any) -> bool:
    """Whether the normal serves without the search that Student's t needs."""
    if np.ndim(degrees_of_freedom) or not is_concrete(degrees_of_freedom):
        return False
    return float(degrees_of_freedom) == math.inf


def tail_probability(confidence_level: Any, sides: int, dtype: Any) -> Array:
    """(1 - level) / sides; a concrete level is the decimal it prints as."""
    if is_concrete(confidence_level):
        return jnp.asarray(float((1 - exact_fraction(confidence_level)) / sides), dtype)
    return (1 - jnp.asarray(confidence_level, dtype)) / sides


def check_level(value: Any) -> None:
    check_unit_interval("confidence_level", value, open_low=True, open_high=True)


def check_pair(theta: Array, cov: Array) -> None:
    if theta.ndim != 1:
        raise ValueError(f"`estimate` must have shape (p,), got {theta.shape}")
    if cov.shape != (theta.shape[0],) * 2:
        raise ValueError(
            f"`covariance` must have shape {(theta.shape[0],) * 2}, got {cov.shape}"
        )


def contrast_rows(rows: Array, p: int) -> Array:
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != p:
        raise ValueError(f"`matrix` must have shape (r, {p}), got {rows.shape}")
    return rows


def sandwich(rows: Array, cov: Array) -> Array:
    half = jnp.matmul(rows, cov, precision="highest")
    full = jnp.matmul(half, rows.T, precision="highest")
    return (full + full.T) / 2
