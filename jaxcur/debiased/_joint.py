"""Several coordinates at once: joint tests, simultaneous bands, adjusted p-values."""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaincc, ndtri
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    exact_fraction,
    is_concrete,
    register_dataclass,
)
from jaxcur.debiased._contrasts import (
    ContrastResult,
    check_level,
    check_pair,
    contrast_rows,
    sandwich,
    tail_probability,
)
from jaxcur.debiased._result import Alternative, std_error


@register_dataclass
@dataclasses.dataclass(frozen=True)
class WaldResult:
    """A joint test.

    Attributes:
        statistic: scalar.
        degrees_of_freedom: scalar int, rank of the covariance of what is tested.
        p_value: scalar, from the chi-square distribution.
    """

    statistic: Array
    degrees_of_freedom: Array
    p_value: Array


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BandsResult:
    """Intervals that cover together.

    Attributes:
        bands: shape (p, 2), lower and upper ends.
        critical_value: scalar, half width in standard errors.
        method: how it was found (static).
    """

    bands: Array
    critical_value: Array
    method: str = dataclasses.field(metadata={"static": True})


def wald_test(
    estimate: Real[ArrayLike, " p"],
    covariance: Real[ArrayLike, "p p"],
    matrix: Real[ArrayLike, "..."] | None = None,
    null: Real[ArrayLike, "..."] = 0.0,
) -> WaldResult:
    """Joint test of R theta = r.

    W = (R theta - r)' (R V R')^-1 (R theta - r), compared with chi-square. Rows that
    repeat others are counted once: the inverse is the generalised one and the degrees
    of freedom are the rank.

    Guarantee: under the hypothesis the p-value is asymptotically uniform, when
    `covariance` is consistent. Verified by: tests/unit/debiased/test_contrasts.py.

    Args:
        estimate: shape (p,).
        covariance: shape (p, p).
        matrix: R, shape (r, p) or (p,); None tests all coordinates.
        null: r, scalar or shape (r,).

    Returns:
        A `WaldResult`. Statistic and p-value are NaN where rows of R repeat others but
        ask for another value, and where the covariance is NaN.

    Raises:
        ValueError: shapes that do not fit.

    Transformations: jit, vmap.
    Cost: O(r^3).

    Source: Wald, Transactions of the American Mathematical Society 1943; Moore, JASA
    1977, for the generalised inverse.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> test = debiased.wald_test(
        ...     jnp.array([2.0, 1.0]), jnp.diag(jnp.array([1.0, 0.25]))
        ... )
        >>> print(f"{test.statistic:.1f} {test.degrees_of_freedom} {test.p_value:.4f}")
        8.0 2 0.0183
    """
    theta, cov = as_float(estimate=estimate, covariance=covariance)
    check_pair(theta, cov)
    identity = jnp.eye(theta.shape[0], dtype=theta.dtype)
    rows = identity if matrix is None else jnp.asarray(matrix, theta.dtype)
    rows = contrast_rows(rows, theta.shape[0])
    target = _null(null, rows.shape[0], theta.dtype)
    gap = jnp.matmul(rows, theta, precision="highest") - target
    return _wald(gap, sandwich(rows, cov))


def simultaneous_bands(
    estimate: Real[ArrayLike, " p"],
    covariance: Real[ArrayLike, "p p"],
    *,
    confidence_level: float | Array = 0.95,
    method: Literal["sup_t", "bonferroni", "sidak"] = "sup_t",
    num_resamples: int = 10_000,
    key: Array | None = None,
    draws: Real[ArrayLike, "b p"] | None = None,
) -> BandsResult:
    """Intervals theta_j +- c se_j that cover all coordinates together.

    "sup_t" takes for c the quantile of max_j |Z_j|, Z normal with the correlations of
    the estimate, from simulated draws: the order statistic ceil(level (b + 1)), and
    never more than Sidak's value. "sidak" and "bonferroni" need no draws and are wider.

    Guarantee: for a normal estimate with known covariance all p intervals cover at once
    with probability at least `confidence_level`; for "sup_t" over the simulated draws
    as well, and on average exactly as b grows.
    Verified by: tests/unit/debiased/test_contrasts.py.

    Args:
        estimate: shape (p,).
        covariance: shape (p, p). Coordinates of variance zero get an interval of width
            zero and do not widen the others.
        confidence_level: scalar in (0, 1).
        method: "sup_t", "sidak" or "bonferroni".
        num_resamples: static, number b of draws for "sup_t".
        key: random key for "sup_t".
        draws: shape (b, p), independent standard normals instead of the key.

    Returns:
        A `BandsResult`; NaN where the covariance is NaN.

    Raises:
        ValueError: shapes that do not fit, a level out of range, for "sup_t" both or
            neither of `key` and `draws`, for the others any of them.

    Transformations: jit, vmap; the level may be traced.
    Cost: O(b p^2 + b log b + p^3) for "sup_t", O(p) otherwise.

    Source: Montiel Olea and Plagborg-Moller, "Simultaneous confidence bands", Journal
    of Applied Econometrics 2019; Sidak, JASA 1967.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
        >>> joint = debiased.simultaneous_bands(
        ...     jnp.zeros(2), covariance, key=jax.random.key(0)
        ... )
        >>> bool(1.96 < joint.critical_value < 2.24)
        True
    """
    check_choice("method", method, ("sup_t", "bonferroni", "sidak"))
    check_level(confidence_level)
    theta, cov = as_float(estimate=estimate, covariance=covariance)
    check_pair(theta, cov)
    normals = None
    if method == "sup_t":
        normals = _normals(draws, key, num_resamples, theta.shape[0], theta.dtype)
    elif key is not None or draws is not None:
        raise ValueError(f'`key` and `draws` are for method="sup_t", not {method!r}')
    miss = tail_probability(confidence_level, 1, theta.dtype)
    rank = None if normals is None else _rank(confidence_level, normals.shape[0])
    return _bands(theta, cov, miss, normals, rank, method)


def adjusted_p_values(
    estimate: Real[ArrayLike, " p"],
    covariance: Real[ArrayLike, "p p"],
    *,
    null: Real[ArrayLike, "..."] = 0.0,
    alternative: Alternative = "two-sided",
    method: Literal["holm", "hochberg", "bonferroni", "bh", "by"] = "holm",
) -> Float[Array, " p"]:
    """P-values of all coordinates, adjusted for testing them together.

    Guarantee: with "holm" the probability of any false rejection at level alpha is
    asymptotically at most alpha, whatever the correlations; for the other methods see
    `stats.adjust_p_values`. Verified by: tests/unit/debiased/test_contrasts.py.

    Args:
        estimate: shape (p,).
        covariance: shape (p, p).
        null: scalar or shape (p,).
        alternative: "two-sided", "larger" or "smaller".
        method: of `stats.adjust_p_values`.

    Returns:
        shape (p,), in [0, 1].

    Raises:
        ValueError: shapes that do not fit, an unknown option, a standard error that is
            NaN or zero with the estimate at `null`.

    Transformations: jit, vmap.
    Cost: O(p log p).

    Source: Holm, Scandinavian Journal of Statistics 1979.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> debiased.adjusted_p_values(jnp.array([3.0, 2.0, 0.0]), jnp.eye(3)).round(4)
        Array([0.0081, 0.091 , 1.    ], dtype=float32)
    """
    theta, cov = as_float(estimate=estimate, covariance=covariance)
    check_pair(theta, cov)
    target = _null(null, theta.shape[0], theta.dtype)
    p_values = ContrastResult(theta, cov).p_value(alternative, null=target)
    return stats.adjust_p_values(p_values, method=method)


def _null(null: Any, r: int, dtype: Any) -> Array:
    target = jnp.asarray(null, dtype)
    if target.shape not in ((), (r,)):
        raise ValueError(
            f"`null` must be a scalar or have shape {(r,)}, got {target.shape}"
        )
    return target


@jax.jit
def _wald(gap: Array, cov: Array) -> WaldResult:
    r = gap.shape[0]
    # On the scale of correlations, so that the rank does not depend on units.
    scale = jnp.sqrt(jnp.diagonal(cov))
    safe = jnp.where(scale > 0, scale, 1.0)
    correlation = cov / safe[:, None] / safe[None, :]
    bad = ~jnp.all(jnp.isfinite(correlation)) | ~jnp.all(jnp.isfinite(gap))
    values, vectors = jnp.linalg.eigh(jnp.where(bad, jnp.eye(r), correlation))
    eps = float(jnp.finfo(gap.dtype).eps)
    kept = values > 10 * r * eps * jnp.max(values)
    z = jnp.matmul(vectors.T, gap / safe, precision="highest")
    statistic = jnp.sum(jnp.where(kept, z**2 / jnp.where(kept, values, 1.0), 0.0))
    rank = jnp.sum(kept, dtype=jnp.int32)
    # Left over along a direction without variance: the rows contradict one another.
    size = jnp.max(jnp.abs(gap / safe), initial=0.0)
    left = jnp.max(jnp.where(kept, 0.0, jnp.abs(z)), initial=0.0)
    bad |= left > np.sqrt(eps) * jnp.maximum(size, 1.0)
    half_rank = jnp.maximum(rank, 1).astype(gap.dtype) / 2
    p_value = jnp.where(rank > 0, gammaincc(half_rank, statistic / 2), 1.0)
    nan = jnp.full((), jnp.nan, gap.dtype)
    return WaldResult(
        jnp.where(bad, nan, statistic), rank, jnp.where(bad, nan, p_value)
    )


def _normals(draws: Any, key: Any, num: int, p: int, dtype: Any) -> Array:
    if (draws is None) == (key is None):
        raise ValueError(
            "pass either `key` or `draws`, not both"
            if key is not None
            else "sup-t bands are simulated: pass `key=jax.random.key(...)`, or the "
            "standard normals themselves as `draws`"
        )
    if key is not None:
        if num < 1:
            raise ValueError(f"`num_resamples` must be at least 1, got {num}")
        return jax.random.normal(key, (num, p), dtype)
    array = jnp.asarray(draws, dtype)
    if array.ndim != 2 or array.shape[1] != p or array.shape[0] == 0:
        raise ValueError(f"`draws` must have shape (b, {p}), got {array.shape}")
    return array


def _rank(level: Any, num: int) -> Array:
    """Which order statistic of `num` draws exceeds a new one with this probability."""
    if is_concrete(level):
        return jnp.int32(math.ceil(exact_fraction(level) * (num + 1)))
    return jnp.ceil(jnp.asarray(level) * (num + 1)).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames="method")
def _bands(
    theta: Array,
    cov: Array,
    miss: Array,
    normals: Array | None,
    rank: Array | None,
    method: str,
) -> BandsResult:
    error = std_error(cov)
    count = jnp.maximum(jnp.sum(~(error == 0), dtype=jnp.int32), 1).astype(theta.dtype)
    if method == "bonferroni":
        critical = -ndtri(miss / (2 * count))
    else:
        # 1 - (1 - miss)^(1/p) without cancellation.
        critical = -ndtri(-jnp.expm1(jnp.log1p(-miss) / count) / 2)
    if normals is not None and rank is not None:
        critical = jnp.minimum(critical, _sup_t(normals, cov, error, rank))
    half = critical * error
    bands = jnp.stack([theta - half, theta + half], axis=-1)
    return BandsResult(bands, critical, method)


def _sup_t(normals: Array, cov: Array, error: Array, rank: Array) -> Array:
    """Order statistic of the largest |Z_j| over the draws."""
    b = normals.shape[0]
    moving = error > 0
    safe = jnp.where(moving, error, 1.0)
    correlation = jnp.where(
        moving[:, None] & moving[None, :], cov / safe[:, None] / safe[None, :], 0.0
    )
    bad = ~jnp.all(jnp.isfinite(cov))
    p = cov.shape[0]
    values, vectors = jnp.linalg.eigh(jnp.where(bad, jnp.eye(p), correlation))
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]
    z = jnp.matmul(normals, root.T, precision="highest")
    largest = stats.sort(jnp.max(jnp.abs(z), axis=1, initial=0.0))
    found = jnp.where(rank <= b, largest[jnp.clip(rank, 1, b) - 1], jnp.inf)
    return jnp.where(bad, jnp.nan, found)
