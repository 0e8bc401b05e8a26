"""Debiased models of a categorical outcome."""

from typing import Any, Unpack

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import is_concrete
from jaxcur.debiased._assemble import review, run
from jaxcur.debiased._models import MEAN, MULTINOMIAL, ORDERED_LOGIT, MultiIndex
from jaxcur.debiased._options import Options
from jaxcur.debiased._records import as_records
from jaxcur.debiased._result import EstimateResult


def as_indicators(name: str, y: Any, num_classes: int, labeled: Any = None) -> Array:
    """Class labels 0..num_classes-1 as indicators (N, num_classes).

    Probabilities (N, num_classes) pass through: the moments are linear in them. Labels
    of rows outside `labeled` may be anything.
    """
    if num_classes < 2:
        raise ValueError(f"`num_classes` must be at least 2, got {num_classes}")
    array = jnp.asarray(y)
    if array.ndim == 2:
        if array.shape[1] != num_classes:
            raise ValueError(
                f"`{name}` must have num_classes = {num_classes} columns of "
                f"probabilities, got shape {array.shape}"
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            array = array.astype(jnp.result_type(float))
        return array
    if array.ndim != 1:
        raise ValueError(
            f"`{name}` must have shape (N,), class labels, or (N, {num_classes}), "
            f"probabilities; got {array.shape}"
        )
    if is_concrete(array, labeled):
        host = np.asarray(array)
        if labeled is not None:
            host = host[np.asarray(labeled).astype(bool)]
        legal = np.isin(host, np.arange(num_classes))
        if not legal.all():
            raise ValueError(
                f"`{name}` must hold class labels 0..{num_classes - 1}, "
                f"{int((~legal).sum())} rows do not, for example {host[~legal][0]}"
            )
    dtype = array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else None
    classes = jnp.arange(num_classes, dtype=array.dtype)
    hit = array[:, None] == classes[None, :]
    legal = jnp.any(hit, axis=1, keepdims=True)
    dtype = jnp.result_type(float) if dtype is None else dtype
    return jnp.where(legal, hit.astype(dtype), jnp.nan)


def _fit(
    model: MultiIndex,
    X: Any,
    y: Any,
    init: Any,
    *,
    num_classes: int,
    labeled: Any,
    X_predicted: Any,
    y_predicted: Any,
    options: Any,
) -> EstimateResult:
    every = None if y_predicted is None else labeled
    seen = as_indicators("y", y, num_classes, every)
    guess = None
    if y_predicted is not None:
        guess = as_indicators("y_predicted", y_predicted, num_classes)
    observed, predicted = as_records(
        {"X": ("X", X, X_predicted), "y": ("y", seen, guess)}, {"X": 2, "y": 2}
    )
    start = jnp.asarray(init(predicted["X"].shape[1]), predicted["X"].dtype)
    result = run(
        model,
        observed,
        predicted,
        init=start,
        num_moments=start.shape[0],
        labeled=labeled,
        **options,
    )
    hint = "a class may be absent among the labels, or a covariate separates classes"
    review(
        result,
        predicted,
        design_matrix="X",
        hint=hint,
        predicted_covariates=X_predicted is not None,
    )
    return result


def multinomial(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, "N ..."],
    *,
    labeled: Bool[ArrayLike, " N"],
    num_classes: int,
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, "N ..."] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased multinomial logit.

    log P(y = k) / P(y = last) = x'b_k.  The moments are linear in the class indicators,
    so predicted class probabilities can be given as they are: they are then used as
    expected moments, which wastes less than their most likely class.

    Guarantee: as `ols`, asymptotically. Verified by: `jaxcur verify
    debiased/multinomial`.

    Args:
        X: shape (N, p), with its own column of ones.
        y: shape (N,), labels 0..num_classes-1; the last class is the base. Entries of
            unlabeled rows may be anything.
        labeled: shape (N,), True where every predicted variable has its gold label.
        num_classes: number of classes.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,), labels, or (N, num_classes), probabilities; or None.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult; (num_classes - 1) p coordinates, class after class.

    Raises:
        ValueError: as `ols`; labels outside 0..num_classes-1.

    Transformations: jit (num_classes static), vmap. Rows shard over `axis_name`.
    Cost: O(N p^2 K^2) per Newton step.

    Source: as `mean`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([0, 1, 2, 2] * 20)
        >>> result = debiased.multinomial(
        ...     jnp.ones((80, 1)), y, y_predicted=y, labeled=jnp.arange(80) < 40,
        ...     num_classes=3)
        >>> jnp.exp(result.estimate).round(3)  # odds against class 2
        Array([0.5, 0.5], dtype=float32)
    """
    return _fit(
        MULTINOMIAL,
        X,
        y,
        lambda p: jnp.zeros((num_classes - 1) * p),
        num_classes=num_classes,
        labeled=labeled,
        X_predicted=X_predicted,
        y_predicted=y_predicted,
        options=options,
    )


def ordered_logit(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, "N ..."],
    *,
    labeled: Bool[ArrayLike, " N"],
    num_classes: int,
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, "N ..."] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased ordered logit (proportional odds).

    P(y <= k) = expit(c_k - x'b)  with cutpoints  c_0 < ... < c_(K-2).  As in
    `multinomial`, predicted class probabilities can be given as they are.

    Guarantee: as `ols`, asymptotically. Verified by: `jaxcur verify
    debiased/ordered-logit`.

    Args:
        X: shape (N, p), without a column of ones: the cutpoints take its place.
        y: shape (N,), labels 0..num_classes-1 in their order.
        labeled: shape (N,), True where every predicted variable has its gold label.
        num_classes: number of classes.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,), labels, or (N, num_classes), probabilities; or None.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult; p slopes, then num_classes - 1 cutpoints.

    Raises:
        ValueError: as `multinomial`.

    Transformations: jit (num_classes static), vmap. Rows shard over `axis_name`.
    Cost: O(N (p + K)^2) per Newton step.

    Source: as `mean`; McCullagh, "Regression models for ordinal data", JRSS B 1980.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([0, 1, 1, 2, 2, 0] * 20)
        >>> x = jnp.array([-1.0, 1.0, -1.0, 1.0, -1.0, 1.0] * 20)[:, None]
        >>> result = debiased.ordered_logit(
        ...     x, y, y_predicted=y, labeled=jnp.arange(120) < 60, num_classes=3)
        >>> result.estimate.shape
        (3,)
    """
    return _fit(
        ORDERED_LOGIT,
        X,
        y,
        lambda p: jnp.concatenate(
            [jnp.zeros(p), jnp.linspace(-1, 1, num_classes - 1)]
            if num_classes > 2
            else [jnp.zeros(p + 1)]
        ),
        num_classes=num_classes,
        labeled=labeled,
        X_predicted=X_predicted,
        y_predicted=y_predicted,
        options=options,
    )


def category_shares(
    y: Real[ArrayLike, "N ..."],
    *,
    y_predicted: Real[ArrayLike, "N ..."],
    labeled: Bool[ArrayLike, " N"],
    num_classes: int,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased share of every category.

    `mean` of the class indicators. For shares by group or period, call it once per
    group with `weights` that are zero outside, or map over such weights with jax.vmap.

    Guarantee: as `mean`; without tuning or with one number the shares add to one.
    Verified by: `jaxcur verify debiased/shares`.

    Args:
        y: shape (N,), labels 0..num_classes-1; anything in unlabeled rows.
        y_predicted: shape (N,), labels, or (N, num_classes), probabilities.
        labeled: shape (N,).
        num_classes: number of classes.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult with num_classes coordinates.

    Raises:
        ValueError: as `mean`; labels outside 0..num_classes-1.

    Transformations: jit (num_classes static), vmap. Rows shard over `axis_name`.
    Cost: O(N K^2).

    Source: as `mean`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([0, 1, 2, 2] * 20)
        >>> debiased.category_shares(y, y_predicted=y, labeled=jnp.arange(80) < 40,
        ...                          num_classes=3).estimate.round(3)
        Array([0.25, 0.25, 0.5 ], dtype=float32)
    """
    seen = as_indicators("y", y, num_classes, labeled)
    guess = as_indicators("y_predicted", y_predicted, num_classes)
    observed, predicted = as_records({"y": ("y", seen, guess)}, {"y": 2})
    result = run(
        MEAN,
        observed["y"],
        predicted["y"],
        init=jnp.zeros(num_classes, predicted["y"].dtype),
        num_moments=num_classes,
        labeled=labeled,
        **options,
    )
    review(result, predicted)
    return result
