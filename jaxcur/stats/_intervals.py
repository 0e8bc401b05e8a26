"""Exact confidence intervals for a rate."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, exact_fraction, is_concrete
from jaxcur.stats._incomplete_beta import bisect_bits, incomplete_beta


def clopper_pearson(
    successes: Real[ArrayLike, "..."],
    trials: Real[ArrayLike, "..."],
    confidence_level: Real[ArrayLike, "..."],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Exact two-sided confidence interval for a success probability.

    With delta = (1 - confidence_level) / 2, the lower end solves P(X >= k; p) = delta
    and the upper end P(X <= k; p) = delta for X binomial(n, p); lower is 0 at k = 0 and
    upper is 1 at k = n. For a one-sided bound at level delta ask for
    confidence_level = 1 - 2 delta and use one end.

    Guarantee: for independent trials with one success probability and a number of
    trials fixed beforehand, each end misses it with probability at most delta, for
    every n and p. Verified by: exact binomial sums over a grid of p in
    tests/unit/stats/test_intervals.py.

    Args:
        successes: any shape, whole numbers k with 0 <= k <= n.
        trials: shape broadcasting with `successes`, whole numbers n >= 0.
        confidence_level: shape broadcasting with the others, in [0, 1]. A concrete
            scalar is read as the decimal number it prints as.

    Returns:
        (lower, upper), each of the broadcast shape; (0, 1) where n = 0. The float dtype
        of the counts, the default float for integer counts. Both are computed in
        float64 whatever the setting, because a float32 incomplete beta function is
        wrong from about 1e4 trials, and then rounded. NaN for invalid input under
        tracing.

    Raises:
        ValueError: counts that are negative, not whole, NaN or infinite,
            successes > trials, a confidence level outside [0, 1], or shapes that do
            not broadcast.

    Transformations: jit, vmap. Not differentiable (bisection on the bits of p).
    Cost: 62 evaluations of an incomplete beta function, each about sqrt(n) terms.

    Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated
    in the case of the binomial", Biometrika 1934.

    Example:
        >>> from jaxcur import stats
        >>> lower, upper = stats.clopper_pearson(5, 20, 0.95)
        >>> print(f"{lower:.4f} {upper:.4f}")
        0.0866 0.4910
    """
    k, n = as_float(successes=successes, trials=trials)
    (level,) = as_float(confidence_level=confidence_level)
    try:
        shape = jnp.broadcast_shapes(k.shape, n.shape, level.shape)
    except ValueError as error:
        raise ValueError(
            "`successes`, `trials` and `confidence_level` must broadcast, "
            f"got shapes {k.shape}, {n.shape} and {level.shape}"
        ) from error
    _check_counts(successes, trials)
    _check_confidence(confidence_level)
    with jax.enable_x64(True):
        # Counts go in unrounded: float32 cannot hold those above 2^24.
        lower, upper = _clopper_pearson(
            *(
                jnp.broadcast_to(_double(value), shape)
                for value in (successes, trials, _tail(confidence_level))
            )
        )
        return lower.astype(k.dtype), upper.astype(k.dtype)


def _check_counts(successes: Any, trials: Any) -> None:
    for name, value in (("successes", successes), ("trials", trials)):
        if not is_concrete(value):
            continue
        host = np.asarray(value, np.float64)
        bad = ~((host >= 0) & (host == np.floor(host)) & np.isfinite(host))
        if bad.any():
            raise ValueError(
                f"`{name}` must hold whole numbers >= 0, got {host[bad].flat[0]}"
            )
    if is_concrete(successes, trials):
        k, n = np.broadcast_arrays(successes, trials)
        if (k > n).any():
            raise ValueError(
                "`successes` must not exceed `trials`, "
                f"got {k[k > n].flat[0]} of {n[k > n].flat[0]}"
            )


def _check_confidence(level: Any) -> None:
    if not is_concrete(level):
        return
    host = np.asarray(level, np.float64)
    bad = ~((host >= 0) & (host <= 1))
    if bad.any():
        raise ValueError(
            f"`confidence_level` must lie in [0, 1], got {host[bad].flat[0]}"
        )


def _double(value: Any) -> Array:
    if is_concrete(value):
        value = np.asarray(value, np.float64)
    return jnp.asarray(value, jnp.float64)


def _tail(level: Any) -> Any:
    """Probability left on each side."""
    if is_concrete(level) and np.ndim(level) == 0:
        return float((1 - exact_fraction(level)) / 2)
    return (1 - _double(level)) / 2


@jax.jit
def _clopper_pearson(k: Array, n: Array, delta: Array) -> tuple[Array, Array]:
    one = jnp.ones_like(k)
    legal = (k >= 0) & (k <= n) & (k == jnp.floor(k)) & (n == jnp.floor(n))
    legal &= jnp.isfinite(n) & (delta >= 0) & (delta <= 0.5)
    inside = legal & (k > 0) & (k < n)
    k_in, n_in = jnp.where(inside, k, one), jnp.where(inside, n, 2 * one)
    delta_in = jnp.where(inside, delta, 0.25 * one)
    # Both ends in one bisection: P(X >= k; p) rises with p, P(X <= k; p) falls.
    a = jnp.stack([k_in, k_in + 1])
    b = jnp.stack([n_in - k_in + 1, n_in - k_in])
    tail = jnp.stack([delta_in, delta_in])
    is_upper = jnp.broadcast_to(
        jnp.array([False, True]).reshape((2,) + (1,) * k.ndim), a.shape
    )

    def too_low(p: Array) -> Array:
        below, above = incomplete_beta(a, b, p)
        return jnp.where(is_upper, above > tail, below < tail)

    lower, upper = bisect_bits(too_low, a)
    # Closed forms where all trials agree: exact, and no precision is lost near 0 or 1.
    n_safe = jnp.where(legal & (n > 0), n, one)
    delta_safe = jnp.where(legal, delta, 0.25 * one)
    root = jnp.log(delta_safe) / n_safe
    lower = jnp.where(k == 0, 0.0, jnp.where(k == n, jnp.exp(root), lower))
    upper = jnp.where(k == n, 1.0, jnp.where(k == 0, -jnp.expm1(root), upper))
    lower = jnp.where(delta == 0, 0.0, lower)
    upper = jnp.where(delta == 0, 1.0, upper)
    return jnp.where(legal, lower, jnp.nan), jnp.where(legal, upper, jnp.nan)
