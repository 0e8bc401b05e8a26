"""Which rows to annotate: sampling probabilities under a budget."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_same_length,
    check_unit_interval,
    is_concrete,
)
from jaxcur.debiased._budget import spend_budget

# Budgets this close to a bound count as on it: float32 sums of costs are no closer.
_SLACK = 1e-6
_GRID = np.arange(1, 101) / 100
# Share of the uniform probability that is the default floor.
_FLOOR = 0.1


def annotation_probabilities(
    importance: Real[ArrayLike, " n"],
    *,
    budget: float | Array,
    costs: Real[ArrayLike, " n"] | None = None,
    min_prob: float | Array | None = None,
    mixing: float | Array = 0.0,
) -> Float[Array, " n"]:
    """Sampling probabilities that make a debiased estimate most precise.

    Minimises sum_i psi_i^2 / pi_i, the part of the variance that the choice of labeled
    rows causes, subject to sum_i c_i pi_i = budget and min_prob <= pi_i <= 1:

        pi_i = clip(kappa psi_i / sqrt(c_i), min_prob, 1),

    kappa by bisection and then in closed form; then pi <- (1 - tau) pi + tau budget /
    sum(c) with tau = `mixing`. The importance psi_i is the standard deviation, given
    what is known before labeling, of the row's influence on the estimate: for a mean
    sd(Y - prediction), sqrt(p (1 - p)) for a binary label of probability p; for the
    slope u'theta of a regression |u' J^-1 x_i| times that.

    Guarantee: with tau = 0 no design within the bounds and the budget has a smaller
    sum psi_i^2 / pi_i; the budget is met and the bounds hold for every tau. A wrong
    importance costs precision, never validity: the estimate stays unbiased for every
    positive pi. Verified by: tests/property/test_annotation.py.

    Args:
        importance: shape (n,), finite and nonnegative. A common factor changes nothing;
            all zero means that nothing is known, and the answer is uniform.
        budget: scalar, expected cost of the labels: their expected number when `costs`
            is None.
        costs: shape (n,), positive and finite, cost of labeling each row; None is 1.
        min_prob: scalar in [0, 1], smallest probability. None is a tenth of
            budget / sum(c), the probability under uniform sampling: no weight 1 / pi is
            then above ten times the uniform one, whatever the importance says. With 0,
            rows of importance 0 are never labeled and the estimators refuse them.
        mixing: scalar in [0, 1], share tau of uniform sampling mixed in; guards against
            an importance that is wrong. `choose_mixing` picks one from pilot labels.

    Returns:
        shape (n,), pi in [min_prob, 1] with sum c pi = budget, computed in float64 and
        rounded. Where every row of positive importance is at 1 and money is left over,
        the rows of importance zero share it. NaN for invalid input under tracing.

    Raises:
        ValueError: a budget below min_prob * sum(c) or above sum(c); an importance that
            is negative, NaN or infinite; costs that are not positive; n = 0;
            `min_prob` or `mixing` outside [0, 1].

    Transformations: jit, vmap; budget, min_prob and mixing may be traced.
    Differentiable in importance, costs and budget where no row is just at a bound.
    Cost: 60 passes over the rows.

    Source: Neyman's allocation with one row per stratum; Zrnic and Candes, "Active
    statistical inference", ICML 2024, for the mixture.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> importance = jnp.array([0.1, 0.4, 0.5, 5.0])
        >>> debiased.annotation_probabilities(importance, budget=2.0, min_prob=0.05)
        Array([0.1, 0.4, 0.5, 1. ], dtype=float32)
    """
    psi, price = _rows("importance", importance, costs)
    for name, value in (("min_prob", min_prob), ("mixing", mixing)):
        if value is not None:
            check_unit_interval(name, value)
    _check_budget(budget, price, 0.0 if min_prob is None else min_prob)
    floor = jnp.nan if min_prob is None else min_prob
    with jax.enable_x64(True):
        found = _probabilities(*map(_double, (psi, price, budget, floor, mixing)))
        return found.astype(psi.dtype)


def uncertainty_probabilities(
    uncertainty: Real[ArrayLike, " n"],
    *,
    budget: float | Array,
    mixing: float | Array = 0.0,
) -> Float[Array, " n"]:
    """Sampling probabilities proportional to a model's uncertainty.

    pi_i = clip((1 - tau) eta u_i + tau b, 0, 1) with b = budget / n, eta = b / mean(u)
    and tau = `mixing`: the rule of active inference, which needs no search and spends
    what clipping at 1 cuts off on no other row. `annotation_probabilities` spends it.

    Guarantee: sum pi <= budget, with equality when no row is clipped, and
    pi >= tau b. Verified by: tests/property/test_annotation.py.

    Args:
        uncertainty: shape (n,), finite and nonnegative: min(p, 1 - p) for a predicted
            class probability p, a predicted |residual| for regression. All zero gives
            uniform probabilities.
        budget: scalar in [0, n], expected number of labels.
        mixing: scalar in [0, 1], share of uniform sampling mixed in. With 0, rows of
            uncertainty zero are never labeled and the estimators refuse them.

    Returns:
        shape (n,), in [0, 1]. NaN for invalid input under tracing.

    Raises:
        ValueError: an uncertainty that is negative, NaN or infinite, a budget outside
            [0, n], `mixing` outside [0, 1], or n = 0.

    Transformations: jit, vmap, grad off the bounds; budget and mixing may be traced.
    Cost: O(n).

    Source: Zrnic and Candes, "Active statistical inference", ICML 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> uncertainty = jnp.array([0.0, 0.2, 0.2, 0.4])
        >>> debiased.uncertainty_probabilities(uncertainty, budget=1.0, mixing=0.2)
        Array([0.05, 0.25, 0.25, 0.45], dtype=float32)
    """
    u, price = _rows("uncertainty", uncertainty, None)
    check_unit_interval("mixing", mixing)
    _check_budget(budget, price, 0.0)
    with jax.enable_x64(True):
        found = _proportional(*map(_double, (u, budget, mixing)))
        return found.astype(u.dtype)


def choose_mixing(
    importance: Real[ArrayLike, " n"],
    residuals: Real[ArrayLike, " n"],
    *,
    budget: float | Array,
    costs: Real[ArrayLike, " n"] | None = None,
    min_prob: float | Array | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
    rule: Literal["optimal", "proportional"] = "optimal",
) -> Float[Array, ""]:
    """Share of uniform sampling that pilot labels ask for.

    The tau in {0.01, 0.02, ..., 1} with the smallest mean of residual_i^2 / pi_i(tau)
    over labeled pilot rows, pi(tau) being the probabilities that `importance` gives
    these rows under `budget` and mixing tau. tau = 1 is uniform sampling, so on the
    pilot rows the choice is never worse than that; a useless importance ends there.

    Heuristic: no finite-sample guarantee on the precision of the next sample. Its
    validity does not depend on tau.

    Args:
        importance: shape (n,), importance of the pilot rows, from a model that was not
            fitted to their labels.
        residuals: shape (n,), label minus prediction of the pilot rows, out of sample;
            for a regression slope the row's influence u' J^-1 x_i times that.
        budget: scalar, what annotating these n rows alone may cost: the whole budget
            times the pilot's share of the whole cost.
        costs: as in `annotation_probabilities`.
        min_prob: as there; only for `rule="optimal"`.
        weights: shape (n,), nonnegative: 1 / (probability that a row entered the
            pilot), when the pilot was not a uniform sample.
        rule: "optimal" for `annotation_probabilities`, "proportional" for
            `uncertainty_probabilities`.

    Returns:
        scalar in [0.01, 1], the float dtype of the arguments. Of equal values the
        largest tau, the safest. NaN for invalid input under tracing.

    Raises:
        ValueError: as the function of the chosen rule; residuals or weights that are
            not finite, negative weights; unequal lengths; `costs` or `min_prob` with
            `rule="proportional"`.

    Transformations: jit, vmap. Not differentiable (a choice from a grid).
    Cost: 160 passes over the pilot rows.

    Source: Zrnic and Candes, "Active statistical inference", ICML 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> residuals = jnp.array([0.1, 1.0, -2.0, 0.1])
        >>> useful = debiased.choose_mixing(abs(residuals), residuals, budget=1.0)
        >>> print(f"{useful:.2f}")
        0.01
        >>> useless = debiased.choose_mixing(1 / abs(residuals), residuals, budget=1.0)
        >>> print(f"{useless:.2f}")
        1.00
    """
    check_choice("rule", rule, ("optimal", "proportional"))
    if rule == "proportional" and not (costs is None and min_prob is None):
        raise ValueError('`costs` and `min_prob` need rule="optimal"')
    psi, price = _rows("importance", importance, costs)
    ones = np.ones(psi.shape, np.float32) if weights is None else weights
    error, mass = as_float(residuals=residuals, weights=ones)
    for name, array in (("residuals", error), ("weights", mass)):
        check_rank(name, array, 1)
        check_same_length(name, array, "importance", psi)
    _check_rows("residuals", abs(error))
    _check_rows("weights", mass)
    if min_prob is not None:
        check_unit_interval("min_prob", min_prob)
    _check_budget(budget, price, 0.0 if min_prob is None else min_prob)
    floor = jnp.nan if min_prob is None else min_prob
    with jax.enable_x64(True):
        values = map(_double, (psi, price, budget, floor, error, mass))
        return _best_mixing(*values, rule=rule).astype(psi.dtype)


def _double(value: Any) -> Array:
    if is_concrete(value):
        value = np.asarray(value, np.float64)
    return jnp.asarray(value, jnp.float64)


def _rows(name: str, values: Any, costs: Any) -> tuple[Array, Array]:
    """Values and costs as arrays of one dtype, checked."""
    if costs is None:
        (psi,) = as_float(**{name: values})
        price = jnp.ones_like(psi)
    else:
        psi, price = as_float(**{name: values, "costs": costs})
    check_rank(name, psi, 1)
    check_rank("costs", price, 1)
    check_same_length("costs", price, name, psi)
    if psi.shape[0] == 0:
        raise ValueError(f"`{name}` must hold at least one row, got shape (0,)")
    _check_rows(name, psi)
    _check_rows("costs", price, positive=True)
    return psi, price


def _check_rows(name: str, array: Array, *, positive: bool = False) -> None:
    if not is_concrete(array):
        return
    host = np.asarray(array)
    bad = ~(np.isfinite(host) & ((host > 0) if positive else (host >= 0)))
    if bad.any():
        sign = "positive" if positive else "nonnegative"
        raise ValueError(
            f"`{name}` must be finite and {sign}, "
            f"got {host[bad][0]} and {bad.sum()} such of {host.size}"
        )


def _check_budget(budget: Any, costs: Array, min_prob: Any) -> None:
    if np.ndim(budget) != 0:
        raise ValueError(
            f"`budget` must be a scalar, got shape {np.shape(budget)}; "
            "map over several with jax.vmap"
        )
    if not is_concrete(budget, costs, min_prob):
        return
    number = float(budget)
    total = float(np.sum(np.asarray(costs, np.float64)))
    least = float(min_prob) * total
    if not least * (1 - _SLACK) <= number <= total * (1 + _SLACK):
        raise ValueError(
            f"`budget` must lie between min_prob * sum(costs) = {least:g} and "
            f"sum(costs) = {total:g}, got {number:g}; "
            f"costs are 1 a row when not given"
        )


@jax.jit
def _probabilities(
    psi: Array, costs: Array, budget: Array, floor: Array, mixing: Array
) -> Array:
    total = jnp.sum(costs)
    floor = jnp.where(jnp.isnan(floor), _FLOOR * budget / total, floor)
    legal = _are_legal(psi, costs, budget, floor, mixing)
    rates = jnp.where(legal, psi / jnp.sqrt(jnp.where(costs > 0, costs, 1.0)), 1.0)
    found = spend_budget(
        rates,
        jnp.where(legal, costs, 1.0),
        jnp.broadcast_to(jnp.where(legal, floor, 0.0), psi.shape),
        jnp.ones_like(psi),
        jnp.where(legal, budget, 0.0),
    )
    uniform = budget / total
    mixed = jnp.clip((1 - mixing) * found + mixing * uniform, floor, 1.0)
    return jnp.where(legal, mixed, jnp.nan)


def _are_legal(
    psi: Array, costs: Array, budget: Array, floor: Array, mixing: Array
) -> Array:
    total = jnp.sum(costs)
    legal = jnp.all(jnp.isfinite(psi) & (psi >= 0) & jnp.isfinite(costs) & (costs > 0))
    legal &= (budget >= floor * total * (1 - _SLACK)) & (budget <= total * (1 + _SLACK))
    return legal & (floor >= 0) & (floor <= 1) & (mixing >= 0) & (mixing <= 1)


@jax.jit
def _proportional(u: Array, budget: Array, mixing: Array) -> Array:
    n = u.shape[0]
    share = budget / n
    # Dividing by the largest first keeps the mean of tiny uncertainties from vanishing.
    largest = jnp.max(u)
    scaled = jnp.where(largest > 0, u / jnp.where(largest > 0, largest, 1.0), 1.0)
    relative = scaled / jnp.mean(scaled)
    found = jnp.clip((1 - mixing) * share * relative + mixing * share, 0.0, 1.0)
    nothing = jnp.zeros_like(share)
    return jnp.where(
        _are_legal(u, jnp.ones_like(u), budget, nothing, mixing), found, jnp.nan
    )


@functools.partial(jax.jit, static_argnames="rule")
def _best_mixing(
    psi: Array,
    costs: Array,
    budget: Array,
    floor: Array,
    residuals: Array,
    weights: Array,
    *,
    rule: str,
) -> Array:
    grid = jnp.asarray(_GRID, jnp.float64)
    plain = _probabilities(psi, costs, budget, floor, jnp.zeros_like(budget))
    uniform = budget / jnp.sum(costs)

    def variance(tau: Array) -> Array:
        if rule == "optimal":
            prob = (1 - tau) * plain + tau * uniform
        else:
            prob = _proportional(psi, budget, tau)
        term = jnp.where(residuals == 0, 0.0, residuals**2 / prob)
        return jnp.sum(jnp.where(weights > 0, weights * term, 0.0))

    values = jax.vmap(variance)(grid)
    smallest = jnp.min(values)
    # Equal on paper, apart from rounding: the largest. (An argmax would ask for 64-bit
    # indices, which a float32 program around this one refuses.)
    found = jnp.max(jnp.where(values <= smallest * (1 + 1e-12), grid, 0.0))
    legal = jnp.all(jnp.isfinite(residuals) & jnp.isfinite(weights) & (weights >= 0))
    legal &= ~jnp.any(jnp.isnan(plain)) & jnp.isfinite(smallest)
    return jnp.where(legal, found, jnp.nan)
