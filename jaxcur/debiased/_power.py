"""Planning a study: what precision and how many labels a question needs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_unit_interval,
    is_concrete,
)
from jaxcur.debiased._result import ALTERNATIVES, Alternative


def target_std_error(
    effect: Real[ArrayLike, "..."],
    *,
    level: float | Array = 0.05,
    power: float | Array = 0.8,
    alternative: Alternative = "two-sided",
) -> Float[Array, "..."]:
    """Largest standard error with which an effect is found with the power asked for.

    |effect| / (z_(1 - level/2) + z_power); `level` itself for a one-sided test.

    Guarantee: for a normal estimate with this standard error the test at `level`
    rejects with probability at least `power`. Verified by:
    tests/unit/debiased/test_power.py.

    Args:
        effect: any shape, difference from the null value that should be found.
        level: scalar in (0, 1), size of the test.
        power: scalar in (0, 1), above level / 2 (two-sided) or `level`.
        alternative: "two-sided", or "larger" / "smaller" for a one-sided test.

    Returns:
        shape of `effect`, nonnegative. NaN for invalid input under tracing.

    Raises:
        ValueError: level or power out of range, unknown alternative.

    Transformations: jit, vmap, grad.
    Cost: O(1) an entry.

    Source: the usual normal approximation, for example Cohen, Statistical Power
    Analysis, 1988; the far tail of a two-sided test is left out, on the safe side.

    Example:
        >>> from jaxcur import debiased
        >>> print(f"{debiased.target_std_error(0.1):.4f}")
        0.0357
    """
    check_choice("alternative", alternative, ALTERNATIVES)
    for name, value in (("level", level), ("power", power)):
        check_unit_interval(name, value, open_low=True, open_high=True)
    size, alpha, goal = as_float(effect=effect, level=level, power=power)
    tail = alpha / 2 if alternative == "two-sided" else alpha
    if is_concrete(level, power):
        least = float(level) / (2 if alternative == "two-sided" else 1)
        if float(power) <= least:
            raise ValueError(
                f"`power` must exceed {least:g}, the power without any effect, "
                f"got {power}"
            )
    width = -ndtri(tail) + ndtri(goal)
    legal = (tail > 0) & (alpha < 1) & (goal < 1) & (width > 0)
    return jnp.where(legal, jnp.abs(size) / jnp.where(legal, width, 1.0), jnp.nan)


def wald_power(
    effect: Real[ArrayLike, "..."],
    std_error: Real[ArrayLike, "..."],
    *,
    level: float | Array = 0.05,
    alternative: Alternative = "two-sided",
) -> Float[Array, "..."]:
    """Probability that a Wald test finds an effect, given the standard error.

    Two-sided: Phi(d - z) + Phi(-d - z) with d = effect / std_error, z = z_(1-level/2).

    Guarantee: exact for a normal estimate with known standard error.
    Verified by: tests/unit/debiased/test_power.py.

    Args:
        effect: any shape; its sign counts for a one-sided test.
        std_error: shape broadcasting with `effect`, positive.
        level: scalar in (0, 1), size of the test.
        alternative: "two-sided", "larger" or "smaller".

    Returns:
        The broadcast shape, in [0, 1]. NaN where std_error is not positive.

    Raises:
        ValueError: level out of range, unknown alternative.

    Transformations: jit, vmap, grad.
    Cost: O(1) an entry.

    Example:
        >>> from jaxcur import debiased
        >>> print(f"{debiased.wald_power(0.1, 0.0357):.3f}")
        0.800
    """
    check_choice("alternative", alternative, ALTERNATIVES)
    check_unit_interval("level", level, open_low=True, open_high=True)
    size, spread, alpha = as_float(effect=effect, std_error=std_error, level=level)
    d = size / jnp.where(spread > 0, spread, jnp.nan)
    if alternative == "two-sided":
        z = -ndtri(alpha / 2)
        return ndtr(d - z) + ndtr(-d - z)
    z = -ndtri(alpha)
    return ndtr((d if alternative == "larger" else -d) - z)


def binary_correlation(
    prevalence: Real[ArrayLike, "..."],
    *,
    accuracy: Real[ArrayLike, "..."] | None = None,
    sensitivity: Real[ArrayLike, "..."] | None = None,
    specificity: Real[ArrayLike, "..."] | None = None,
    auc: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, "..."]:
    """Correlation between a binary label and its prediction, from what is reported.

    With prevalence p, sensitivity a, specificity b and q = p a + (1 - p)(1 - b):
    rho = (a + b - 1) sqrt(p (1 - p) / (q (1 - q))). `accuracy` is both a and b. `auc`
    is the area under the curve of a score that is normal in each class with one
    variance: d = sqrt(2) Phi^-1(auc), rho = d sqrt(p (1-p) / (1 + d^2 p (1-p))).

    Args:
        prevalence: any shape, share of ones among the labels, in (0, 1).
        accuracy: in [0, 1], the same in both classes. Give one of `accuracy`, `auc` and
            the pair of `sensitivity` and `specificity`; shapes broadcast.
        sensitivity: in [0, 1], P(predicted 1 | label 1).
        specificity: in [0, 1], P(predicted 0 | label 0).
        auc: in (0, 1).

    Returns:
        The broadcast shape, in [-1, 1]; 0 for a constant prediction. NaN for invalid
        input under tracing.

    Raises:
        ValueError: none or several of the three descriptions, values out of range.

    Transformations: jit, vmap, grad.
    Cost: O(1) an entry.

    Example:
        >>> from jaxcur import debiased
        >>> print(f"{debiased.binary_correlation(0.5, accuracy=0.9):.2f}")
        0.80
        >>> print(f"{debiased.binary_correlation(0.1, accuracy=0.9):.2f}")
        0.62
    """
    pair = (sensitivity is not None, specificity is not None)
    if pair[0] != pair[1] or (accuracy is not None) + pair[0] + (auc is not None) != 1:
        raise ValueError(
            "give exactly one of `accuracy`, `auc`, and `sensitivity` together with "
            "`specificity`"
        )
    _check_range("prevalence", prevalence, 0, 1, open_ends=True)
    if auc is not None:
        _check_range("auc", auc, 0, 1, open_ends=True)
        p, area = as_float(prevalence=prevalence, auc=auc)
        d = np.sqrt(2.0) * ndtri(area)
        spread = _inside(p, 0, 1) * (1 - p)
        return d * jnp.sqrt(spread / (1 + d**2 * spread))
    if accuracy is not None:
        sensitivity = specificity = accuracy
    _check_range("sensitivity" if pair[0] else "accuracy", sensitivity, 0, 1)
    _check_range("specificity" if pair[0] else "accuracy", specificity, 0, 1)
    p, a, b = as_float(
        prevalence=prevalence, sensitivity=sensitivity, specificity=specificity
    )
    p, a, b = (_inside(value, 0, 1) for value in (p, a, b))
    q = p * a + (1 - p) * (1 - b)
    constant = (q == 0) | (q == 1)
    other = jnp.where(constant, 1.0, q * (1 - q))
    return jnp.where(constant, 0.0, (a + b - 1) * jnp.sqrt(p * (1 - p) / other))


def planned_mean_std_error(
    *,
    num_rows: Real[ArrayLike, "..."],
    num_labeled: Real[ArrayLike, "..."],
    variance: Real[ArrayLike, "..."],
    correlation: Real[ArrayLike, "..."] | None = None,
    accuracy: Real[ArrayLike, "..."] | None = None,
    finite_population: bool = False,
) -> Float[Array, "..."]:
    """Standard error of a mean to expect, before any row is labeled.

    With n of N rows labeled by simple random sampling, label variance sigma^2,
    correlation rho between label and prediction, and optimal power tuning:

        se^2 = sigma^2 / n * (1 - rho^2 (1 - n / N)),
        se^2 = sigma^2 / n * (1 - rho^2) (1 - n / N)      (finite population).

    Guarantee: the standard deviation of `mean(..., power_tuning="optimal")` as n grows;
    exact for the tuning with the true rho. Verified by:
    tests/unit/debiased/test_power.py, by simulation.

    Args:
        num_rows: N, any shape; the shapes of all arguments broadcast.
        num_labeled: n, in (0, N].
        variance: sigma^2, nonnegative; p (1 - p) for a binary label.
        correlation: rho, in [-1, 1]. Neither this nor `accuracy` means no prediction.
        accuracy: of a binary prediction, the same in both classes, in [0, 1]; needs
            variance <= 1/4. `binary_correlation` takes other descriptions.
        finite_population: static; True when the target is the mean of these N rows,
            False for the population they are drawn from.

    Returns:
        The broadcast shape. NaN for invalid input under tracing.

    Raises:
        ValueError: values out of range, both `correlation` and `accuracy`.

    Transformations: jit, vmap, grad.
    Cost: O(1) an entry.

    Source: Angelopoulos, Duchi and Zrnic, "PPI++", 2023, at the optimal lambda;
    Cochran, Sampling Techniques, 1977, section 7.3, for the regression estimator.

    Example:
        >>> from jaxcur import debiased
        >>> plan = dict(num_rows=10_000, num_labeled=500, variance=0.25)
        >>> print(f"{debiased.planned_mean_std_error(**plan):.4f}")
        0.0224
        >>> print(f"{debiased.planned_mean_std_error(**plan, accuracy=0.9):.4f}")
        0.0140
    """
    total, labels, spread, square = _plan(
        num_rows, num_labeled, variance, correlation, accuracy
    )
    _check_range("num_labeled", num_labeled, 0, None, open_ends=True)
    if is_concrete(num_rows, num_labeled):
        if (np.asarray(num_labeled) > np.asarray(num_rows)).any():
            raise ValueError(
                "`num_labeled` must not exceed `num_rows`, "
                f"got {num_labeled} of {num_rows}"
            )
    legal = (labels > 0) & (labels <= total) & (spread >= 0)
    found = _variance(total, labels, spread, square, finite_population)
    return jnp.where(legal, jnp.sqrt(found), jnp.nan)


def required_labeled(
    std_error: Real[ArrayLike, "..."],
    *,
    num_rows: Real[ArrayLike, "..."],
    variance: Real[ArrayLike, "..."],
    correlation: Real[ArrayLike, "..."] | None = None,
    accuracy: Real[ArrayLike, "..."] | None = None,
    finite_population: bool = False,
) -> Int[Array, "..."]:
    """Fewest labels with which the mean reaches a standard error.

    The smallest n with `planned_mean_std_error(num_labeled=n, ...) <= std_error`, from
    the closed form sigma^2 (1 - rho^2) / (std_error^2 - rho^2 sigma^2 / N) or, for a
    finite population, its counterpart.

    Guarantee: as `planned_mean_std_error`. At least 2, because a standard error needs
    two labels. Verified by: tests/unit/debiased/test_power.py, by search.

    Args:
        std_error: any shape, positive; for a given effect from `target_std_error`.
        num_rows: N, as in `planned_mean_std_error`, like the rest.
        variance: sigma^2.
        correlation: rho.
        accuracy: of a binary prediction.
        finite_population: static.

    Returns:
        The broadcast shape, int32. -1 where labeling every row is not enough and the
        input is traced, and for invalid input under tracing.

    Raises:
        ValueError: a standard error that labeling all rows does not reach, values out
            of range, both `correlation` and `accuracy`.

    Transformations: jit, vmap. Not differentiable (a count).
    Cost: O(1) an entry, in float64 whatever the setting.

    Example:
        >>> from jaxcur import debiased
        >>> plan = dict(num_rows=10_000, variance=0.25)
        >>> print(debiased.required_labeled(0.02, **plan))
        625
        >>> print(debiased.required_labeled(0.02, **plan, accuracy=0.9))
        235
    """
    _check_range("std_error", std_error, 0, None, open_ends=True)
    slack = _rounding(std_error, variance, correlation, accuracy)
    with jax.enable_x64(True):
        total, _, spread, square = _plan(
            num_rows, None, variance, correlation, accuracy, jnp.float64
        )
        goal = jnp.asarray(_host(std_error), jnp.float64) ** 2
        # What no number of labels removes; the rest falls as 1 / n.
        if finite_population:
            falls = spread * (1 - square)
            stays = -falls / total
        else:
            falls, stays = spread * (1 - square), spread * square / total
        gap = goal * (1 + slack) - stays
        legal = (goal > 0) & (spread >= 0) & (total >= 1)
        count = jnp.ceil(falls / jnp.where(gap > 0, gap, 1.0) * (1 - slack))
        full = _variance(total, total, spread, square, finite_population)
        reached = (gap > 0) & (full <= goal * (1 + slack))
        count = jnp.minimum(jnp.maximum(count, jnp.minimum(2.0, total)), total)
        found = jnp.where(legal & reached, count, -1.0).astype(jnp.int32)
    given = (std_error, num_rows, variance, correlation, accuracy)
    if is_concrete(*given) and is_concrete(found) and (np.asarray(found) < 0).any():
        least = float(np.sqrt(np.max(np.asarray(full))))
        raise ValueError(
            f"`std_error` {std_error} is out of reach: labeling all rows gives "
            f"{least:g}; more rows are needed"
        )
    return found


def _plan(
    num_rows: Any,
    num_labeled: Any,
    variance: Any,
    correlation: Any,
    accuracy: Any,
    dtype: Any = None,
) -> tuple[Array, Array, Array, Array]:
    """Rows, labels, variance and squared correlation, checked and broadcast."""
    if correlation is not None and accuracy is not None:
        raise ValueError("give either `correlation` or `accuracy`, not both")
    _check_range("num_rows", num_rows, 1, None)
    _check_range("variance", variance, 0, None if accuracy is None else 0.25)
    _check_range("correlation", correlation, -1, 1)
    _check_range("accuracy", accuracy, 0, 1)
    rho = 0.0 if correlation is None else correlation
    hits = 0.5 if accuracy is None else accuracy
    labels = num_rows if num_labeled is None else num_labeled
    named = dict(
        num_rows=num_rows,
        num_labeled=labels,
        variance=variance,
        correlation=rho,
        accuracy=hits,
    )
    if dtype is None:
        arrays = as_float(**named)
    else:
        arrays = tuple(jnp.asarray(_host(value), dtype) for value in named.values())
    total, labels, spread, rho, hits = jnp.broadcast_arrays(*arrays)
    if accuracy is None:
        return total, labels, spread, _inside(rho, -1, 1) ** 2
    # The prevalence enters through p (1 - p) = variance alone: q (1 - q) of the
    # prediction is 1/4 - t^2 (1/4 - variance), with t = 2 accuracy - 1.
    square = (2 * _inside(hits, 0, 1) - 1) ** 2
    spread = jnp.where(spread <= 0.25 * (1 + 1e-6), spread, jnp.nan)
    other = 0.25 - square * (0.25 - spread)
    return total, labels, spread, spread * square / jnp.where(other > 0, other, 1.0)


def _variance(
    total: Array, labels: Array, spread: Array, square: Array, finite: bool
) -> Array:
    fraction = labels / total
    if finite:
        return spread / labels * (1 - square) * (1 - fraction)
    return spread / labels * (1 - square * (1 - fraction))


def _rounding(*values: Any) -> float:
    """Relative rounding of the inputs: a count that is whole on paper stays that."""
    dtypes = [getattr(value, "dtype", np.float64) for value in values]
    floats = [d for d in dtypes if jnp.issubdtype(d, jnp.floating)]
    return max([1e-9, *(4 * float(jnp.finfo(d).eps) for d in floats)])


def _host(value: Any) -> Any:
    return np.asarray(value, np.float64) if is_concrete(value) else value


def _inside(array: Array, low: float, high: float) -> Array:
    return jnp.where((array >= low) & (array <= high), array, jnp.nan)


def _check_range(
    name: str, value: Any, low: float, high: float | None, *, open_ends: bool = False
) -> None:
    if value is None or not is_concrete(value):
        return
    host = np.asarray(value, np.float64)
    top = np.inf if high is None else high
    slack = top * (1 + 1e-6) if np.isfinite(top) else top
    good = (host > low) & (host < top) if open_ends else (host >= low) & (host <= slack)
    good &= np.isfinite(host)
    if not good.all():
        left, right = ("(", ")") if open_ends else ("[", ")" if high is None else "]")
        raise ValueError(
            f"`{name}` must lie in {left}{low:g}, {top:g}{right}, "
            f"got {host[~good].flat[0]:g}"
        )
