"""Comparisons that are regressions: two groups, two periods, two sides of a cutoff."""

from typing import Any, Literal, Unpack

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_same_length,
    is_concrete,
)
from jaxcur.debiased._options import Options
from jaxcur.debiased._regression import ols
from jaxcur.debiased._result import EstimateResult

Kernel = Literal["triangular", "uniform", "epanechnikov"]
KERNELS = ("triangular", "uniform", "epanechnikov")


def difference_in_means(
    y: Real[ArrayLike, " N"],
    treated: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    y_predicted: Real[ArrayLike, " N"] | None = None,
    treated_predicted: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased difference between the means of two groups.

    The slope of the regression of y on (1, treated). In a randomised experiment it
    estimates the average effect of treatment.

    Guarantee: as `ols`: the difference that gold labels of all rows would show is
    estimated consistently, with intervals that cover asymptotically, for any predictor.
    Verified by: `jaxcur verify debiased/ols`.

    Args:
        y: shape (N,); may be NaN in unlabeled rows if predicted.
        treated: shape (N,), 0 or 1; may be NaN in unlabeled rows if predicted.
        labeled: shape (N,), True where every predicted variable has its gold label.
        y_predicted: shape (N,); None: y is known for all rows.
        treated_predicted: shape (N,), groups or probabilities; None: known for all.
        **options: design, weights, clusters, tuning: see `Options`. Matrices of
            `power_tuning` are for the moments of (1, treated).

    Returns:
        EstimateResult with one coordinate: treated minus untreated.

    Raises:
        ValueError: as `ols`; `treated` is not 0 or 1, or all of one group.

    Transformations: jit, vmap, grad. Rows shard over `axis_name`.
    Cost: that of `ols` with two columns.

    Source: as `ols`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> treated = jnp.array([0, 1] * 40)
        >>> y = 1.0 + 2.0 * treated + jnp.tile(jnp.array([0.1, 0.1, -0.1, -0.1]), 20)
        >>> result = debiased.difference_in_means(
        ...     y, treated, y_predicted=0.7 * y, labeled=jnp.arange(80) < 40)
        >>> round(float(result.estimate[0]), 3)
        2.0
    """
    group, guess = _as_groups("treated", treated, treated_predicted, y, labeled)
    one = jnp.ones_like(group)
    result = ols(
        jnp.stack([one, group], axis=1),
        y,
        X_predicted=None if guess is None else jnp.stack([one, guess], axis=1),
        y_predicted=y_predicted,
        labeled=labeled,
        **options,
    )
    return result.take([1])


def difference_in_differences(
    y: Real[ArrayLike, " N"],
    treated: Real[ArrayLike, " N"],
    post: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    y_predicted: Real[ArrayLike, " N"] | None = None,
    treated_predicted: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased difference in differences of two groups in two periods.

    The coefficient of the interaction in the regression of y on (1, treated, post,
    treated * post): the change of the treated less the change of the others. Rows are
    unit-periods; pass the unit as `clusters`. For many periods or units, put the
    interaction into `fixed_effects`.

    Guarantee: as `ols`. That the number is an effect of treatment is another matter: it
    takes parallel trends. Verified by: `jaxcur verify debiased/ols`.

    Args:
        y: shape (N,); may be NaN in unlabeled rows if predicted.
        treated: shape (N,), 0 or 1; may be NaN in unlabeled rows if predicted.
        post: shape (N,), 0 before and 1 after; known for all rows.
        labeled: shape (N,), True where every predicted variable has its gold label.
        y_predicted: shape (N,); None: y is known for all rows.
        treated_predicted: shape (N,), groups or probabilities; None: known for all.
        **options: design, weights, clusters, tuning: see `Options`. Matrices of
            `power_tuning` are for the moments of (1, treated, post, treated * post).

    Returns:
        EstimateResult with one coordinate: the interaction.

    Raises:
        ValueError: as `ols`; `treated` or `post` is not 0 or 1, or a cell is empty.

    Transformations: jit, vmap, grad. Rows shard over `axis_name`.
    Cost: that of `ols` with four columns.

    Source: as `ols`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> unit = jnp.repeat(jnp.arange(60), 2)
        >>> treated, post = unit % 2, jnp.tile(jnp.arange(2), 60)
        >>> noise = 0.2 * jnp.cos(2.0 * jnp.arange(120))
        >>> y = 0.1 * (unit // 2 % 5) + post + 3.0 * treated * post + noise
        >>> result = debiased.difference_in_differences(
        ...     y, treated, post, y_predicted=y + 1, labeled=unit < 30, clusters=unit)
        >>> round(float(result.estimate[0]), 1)
        3.0
    """
    group, guess = _as_groups("treated", treated, treated_predicted, y, labeled)
    period, _ = _as_groups("post", post, None, y, labeled)
    period = period.astype(group.dtype)

    def columns(values: Array) -> Array:
        one = jnp.ones_like(values)
        return jnp.stack([one, values, period, values * period], axis=1)

    result = ols(
        columns(group),
        y,
        X_predicted=None if guess is None else columns(guess),
        y_predicted=y_predicted,
        labeled=labeled,
        **options,
    )
    return result.take([3])


def regression_discontinuity(
    y: Real[ArrayLike, " N"],
    running: Real[ArrayLike, " N"],
    *,
    cutoff: float | Array,
    bandwidth: float | Array,
    labeled: Bool[ArrayLike, " N"],
    y_predicted: Real[ArrayLike, " N"] | None = None,
    kernel: Kernel = "triangular",
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased jump of a regression at a cutoff, by local linear fits on both sides.

    One weighted regression on (1, above, u, above * u) with u = (running - cutoff) /
    bandwidth, so that both sides enter one covariance. Rows with |u| < 1 have the
    weight of the kernel, times `weights`; the others are not there.

    Without `sampling_prob` labels count as a simple random sample of the rows within
    the bandwidth, at the fraction realised there: given how many of its labels fell
    into the bandwidth, a simple random sample of all rows is one of these. The same
    holds within `strata`. Probabilities given are used as they are.

    Guarantee: as `ols`, for the jump of the local linear fit to gold labels of all rows
    within the bandwidth. The bias of that fit for the jump of the regression function,
    of the order bandwidth^2, is not in the interval: choose the bandwidth smaller than
    the one best for the error of the estimate.
    Verified by: tests/unit/debiased/test_designs.py, against two separate fits.

    Args:
        y: shape (N,); may be NaN in unlabeled rows if predicted.
        running: shape (N,), known for all rows; units at the cutoff are above it.
        cutoff: scalar.
        bandwidth: positive scalar, in units of `running`.
        labeled: shape (N,), True where y has its gold label.
        y_predicted: shape (N,); None: y is known for all rows.
        kernel: "triangular" (1 - |u|), "uniform" or "epanechnikov" (1 - u^2).
        **options: design, weights, clusters, tuning: see `Options`. Counts in the
            diagnostics are of rows within the bandwidth.

    Returns:
        EstimateResult with one coordinate: above minus below at the cutoff.

    Raises:
        ValueError: as `ols`; a bandwidth that is not positive, `running` with NaN, or a
            side without labelled rows in the bandwidth.

    Transformations: jit, vmap (over cutoffs and bandwidths too), grad. Rows shard over
    `axis_name`.
    Cost: that of `ols` with four columns.

    Source: Hahn, Todd and van der Klaauw, "Identification and estimation of treatment
    effects with a regression-discontinuity design", Econometrica 2001; debiasing as
    `ols`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> score = jnp.linspace(-1.0, 1.0, 400)
        >>> y = score + jnp.where(score >= 0, 1.5, 0.0)
        >>> result = debiased.regression_discontinuity(
        ...     y, score, cutoff=0.0, bandwidth=0.5, y_predicted=2 * y,
        ...     labeled=jnp.arange(400) % 4 == 0)
        >>> round(float(result.estimate[0]), 3)
        1.5
    """
    check_choice("kernel", kernel, KERNELS)
    (score,) = as_float(running=running)
    check_rank("running", score, 1, "(N,)")
    check_same_length("running", score, "y", jnp.asarray(y))
    if is_concrete(bandwidth) and not float(bandwidth) > 0:
        raise ValueError(f"`bandwidth` must be positive, got {bandwidth}")
    rest: dict[str, Any] = {**options}
    survey = rest.pop("weights", None)
    # Design vectors are small work, done by NumPy where they are concrete.
    xp: Any = np if is_concrete(score, cutoff, bandwidth, survey) else jnp
    centre, width = (xp.asarray(v).astype(score.dtype) for v in (cutoff, bandwidth))
    u = (xp.asarray(score) - centre) / width
    if xp is np and not np.isfinite(u).all():
        raise ValueError(
            f"`running` must be finite in every row, {int((~np.isfinite(u)).sum())} "
            "are not"
        )
    above = (u >= 0).astype(score.dtype)
    inside = _kernel_weight(xp, kernel, u)
    if survey is not None:
        if np.shape(survey) != score.shape:
            raise ValueError(
                f"`weights` must have shape {score.shape} like `running`, got "
                f"{np.shape(survey)}"
            )
        inside = inside * xp.asarray(survey).astype(score.dtype)
    if is_concrete(inside, above, labeled) and options.get("axis_name") is None:
        _check_sides(np.asarray(inside), np.asarray(above), np.asarray(labeled))
    X = jnp.asarray(xp.stack([xp.ones_like(u), above, u, above * u], axis=1))
    result = ols(X, y, y_predicted=y_predicted, labeled=labeled, weights=inside, **rest)
    return result.take([1])


def _kernel_weight(xp: Any, kernel: str, u: Any) -> Any:
    """Weight of a row at distance u, up to a constant; 0 from |u| = 1 on."""
    distance = xp.abs(u)
    heights = {
        "triangular": 1 - distance,
        "uniform": xp.ones_like(u),
        "epanechnikov": 1 - u * u,
    }
    return xp.where(distance < 1, heights[kernel], 0).astype(u.dtype)


def _check_sides(inside: np.ndarray, above: np.ndarray, labeled: np.ndarray) -> None:
    for name, side in (("below", 0), ("above", 1)):
        rows = (inside > 0) & (above == side)
        known = rows & (labeled != 0) if labeled.shape == rows.shape else rows
        if not known.any():
            raise ValueError(
                f"no labelled rows {name} the cutoff within `bandwidth`: {rows.sum()} "
                "rows lie there; widen it or label some"
            )


def _as_groups(
    name: str, values: Any, guess: Any, y: Any, labeled: Any
) -> tuple[Array, Array | None]:
    """Indicators of two groups, checked where they can be looked at."""
    both = {name: values}
    if guess is not None:
        both[f"{name}_predicted"] = guess
    group, *predicted = as_float(**both)
    check_rank(name, group, 1, "(N,)")
    check_same_length(name, group, "y", jnp.asarray(y))
    if predicted and predicted[0].shape != group.shape:
        raise ValueError(
            f"`{name}_predicted` must have the shape of `{name}`, {group.shape}, got "
            f"{predicted[0].shape}"
        )
    if is_concrete(group, labeled):
        known = np.asarray(group)
        if predicted and np.shape(labeled) == known.shape:
            known = known[np.asarray(labeled) != 0]
        if not np.isin(known, (0, 1)).all():
            raise ValueError(
                f"`{name}` must be 0 or 1, got values from {np.min(known)} to "
                f"{np.max(known)}"
            )
    return group, predicted[0] if predicted else None
