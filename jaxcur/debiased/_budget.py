"""Spending a budget: clipped proportional shares by bisection, in float64."""

import jax
import jax.numpy as jnp
from jax import Array

_STEPS = 60
_SMALLEST, _LARGEST = 1e-300, 1e300


def spend_budget(
    rates: Array, costs: Array, low: Array, high: Array, budget: Array
) -> Array:
    """Shares clip(kappa * rates, low, high) whose costs sum to the budget.

    This minimises sum(costs * rates**2 / shares) under the budget and the bounds.
    Where even kappa = infinity leaves money over, rows of rate zero share it: they move
    from `low` towards `high` together, which is the limit of equal vanishing rates.

    Args:
        rates: shape (n,), float64, nonnegative.
        costs: shape (n,), float64, positive.
        low: shape (n,), float64, smallest shares.
        high: shape (n,), float64, largest shares.
        budget: scalar, float64, between sum(costs * low) and sum(costs * high).

    Returns:
        shape (n,), float64. Call under `jax.enable_x64(True)`.

    Transformations: jit, vmap, grad: the bisection only finds which rows are at a
    bound, and kappa then has a closed form.
    """
    largest = jnp.max(rates)
    rates = rates / jnp.where(largest > 0, largest, 1.0)
    wants = rates > 0
    fixed_rates, fixed_costs = jax.lax.stop_gradient((rates, costs))
    log_kappa = _log_kappa(fixed_rates, fixed_costs, low, high, budget)
    rough = jnp.exp(log_kappa) * fixed_rates
    at_low, at_high = rough <= low, rough >= high
    between = wants & ~at_low & ~at_high
    fixed = jnp.where(at_high & wants, high, low)
    left = budget - jnp.sum(jnp.where(between, 0.0, costs * fixed))
    demand = jnp.sum(jnp.where(between, costs * rates, 0.0))
    kappa = left / jnp.where(demand > 0, demand, 1.0)
    shares = jnp.where(between, jnp.clip(kappa * rates, low, high), fixed)
    spare = budget - jnp.sum(costs * jnp.where(wants, high, low))
    room = jnp.sum(jnp.where(wants, 0.0, costs * (high - low)))
    part = jnp.clip(spare / jnp.where(room > 0, room, 1.0), 0.0, 1.0)
    filled = jnp.where(wants, high, low + part * (high - low))
    return jnp.where(spare > 0, filled, shares)


def _log_kappa(
    rates: Array, costs: Array, low: Array, high: Array, budget: Array
) -> Array:
    """Root of the spending in log kappa, to the last bits of float64."""
    low, high, budget = jax.lax.stop_gradient((low, high, budget))
    wants = rates > 0
    safe = jnp.where(wants, rates, 1.0)
    # Spending is at most sum(costs * low) + kappa * sum(costs * rates).
    needed = budget - jnp.sum(costs * low)
    least = needed / jnp.maximum(jnp.sum(costs * rates), _SMALLEST)
    most = jnp.max(jnp.where(wants, high / safe, 0.0))
    ends = (
        jnp.log(jnp.clip(least, _SMALLEST, _LARGEST)),
        jnp.log(jnp.clip(most, _SMALLEST, _LARGEST)),
    )

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low_end, high_end = ends
        middle = (low_end + high_end) / 2
        spent = jnp.sum(costs * jnp.clip(jnp.exp(middle) * rates, low, high))
        is_short = spent < budget
        return (
            jnp.where(is_short, middle, low_end),
            jnp.where(is_short, high_end, middle),
        )

    _, high_end = jax.lax.fori_loop(jnp.int64(0), jnp.int64(_STEPS), halve, ends)
    return high_end
