"""Radii within which a smoothed classifier provably keeps its answer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtri
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, is_concrete


def _probability(name: str, value: Any) -> Array:
    (array,) = as_float(**{name: value})
    if is_concrete(array):
        host = np.asarray(array)
        if not ((host >= 0) & (host <= 1)).all():
            raise ValueError(
                f"`{name}` must hold probabilities in [0, 1], got "
                f"{host.min()} to {host.max()}"
            )
        # A lower bound stays one: rounding 1 - 1e-9 to 1 would certify everything.
        if is_concrete(value):
            above = host > np.asarray(value).astype(np.float64)
            if above.any():
                array = jnp.asarray(np.where(above, np.nextafter(host, 0 * host), host))
    return jnp.where((array >= 0) & (array <= 1), array, jnp.nan)


def _width(sigma: Any, dtype: Any) -> Array:
    array = jnp.asarray(sigma, dtype)
    if is_concrete(array):
        host = np.asarray(array)
        if not (np.isfinite(host) & (host > 0)).all():
            raise ValueError(f"`sigma` must be positive and finite, got {sigma}")
    return jnp.where(jnp.isfinite(array) & (array > 0), array, jnp.nan)


@jax.jit
def _single(p: Array, sigma: Array) -> Array:
    return sigma * jnp.maximum(ndtri(p), 0)


@jax.jit
def _dual(left: Array, right: Array, sigma_left: Array, sigma_right: Array) -> Array:
    total = ndtri(left) + ndtri(right)
    # One bound 1 and the other 0 promise nothing: infinity minus infinity.
    unknown = jnp.isnan(left) | jnp.isnan(right)
    total = jnp.where(jnp.isnan(total) & ~unknown, 0, total)
    scale = jax.lax.rsqrt(sigma_left**-2 + sigma_right**-2)
    return scale * jnp.maximum(total, 0)


def certified_radius(
    p_lower: Real[ArrayLike, "..."], *, sigma: Real[ArrayLike, "..."]
) -> Float[Array, "..."]:
    """Euclidean radius of a prediction smoothed by Gaussian noise.

    The smoothed classifier answers with the class that the base classifier gives most
    often to x + sigma * noise. With p_lower at most the probability of that class, the
    radius is  sigma * Phi^-1(p_lower);  0, an abstention, unless p_lower > 1/2.

    Guarantee: no change of x of Euclidean norm below the radius changes the answer.
    Where `p_lower` is the lower end of `stats.clopper_pearson` on noise other than the
    noise that chose the class, this fails at most as often as the bound does. Exact
    for linear classifiers.
    Verified by: tests/unit/calibration/test_certificates.py.

    Args:
        p_lower: any shape, lower bounds on the probability of the answer, in [0, 1].
        sigma: positive, standard deviation of the noise per coordinate; broadcasts.

    Returns:
        Radii in the units of `sigma`; infinite where p_lower = 1.

    Raises:
        ValueError: a probability outside [0, 1] or `sigma` not positive; NaN under jit.

    Transformations: jit, vmap, grad.
    Cost: one normal quantile each.

    Source: Cohen, Rosenfeld and Kolter, "Certified adversarial robustness via
    randomized smoothing", 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> radii = calibration.certified_radius(jnp.array([0.99, 0.4]), sigma=0.5)
        >>> [round(float(radius), 3) for radius in radii]
        [1.163, 0.0]
    """
    p = _probability("p_lower", p_lower)
    return _single(p, _width(sigma, p.dtype))


def dual_certified_radius(
    p_left: Real[ArrayLike, "..."],
    p_right: Real[ArrayLike, "..."],
    *,
    sigma: Real[ArrayLike, "..."] | tuple[Any, Any],
) -> Float[Array, "..."]:
    """Euclidean radius when two disjoint halves of the input are smoothed separately.

    Each half has its own base classifier and its own noise, and the answer is the class
    of the largest sum of both smoothed probabilities. A change moves the two normal
    quantiles by u and v; the answer stays while u + v < a + b with a, b the quantiles
    of the two bounds, and the shortest change that spends a + b has the length

        (a + b) / sqrt(1 / sigma_left^2 + 1 / sigma_right^2),

    which for equal sigma is  sigma (a + b) / sqrt(2).  The radius printed with the
    released code, sqrt(r_left^2 + r_right^2), is up to sqrt(2) times too long.

    Guarantee: no change of norm below the radius changes the answer, where the
    probabilities are true lower bounds for the same class. Bounds estimated at error
    alpha / 2 each fail together with probability at most alpha. Exact for half-spaces.
    Verified by: `jaxcur verify calibration/dual-radius`.

    Args:
        p_left: any shape, lower bounds on the class's probability from the left half.
        p_right: the same from the right half; broadcasts.
        sigma: positive; a number, or a pair for the left and the right half.

    Returns:
        Radii; 0 where the two bounds promise nothing, an abstention.

    Raises:
        ValueError: a probability outside [0, 1] or `sigma` not positive; NaN under jit.

    Transformations: jit, vmap, grad.
    Cost: two normal quantiles each.

    Source: dual randomized smoothing, with the radius derived anew.

    Example:
        >>> from jaxcur import calibration
        >>> calibration.dual_certified_radius(0.9, 0.8, sigma=1.0).round(3)
        Array(1.501, dtype=float32)
    """
    left, right = _probability("p_left", p_left), _probability("p_right", p_right)
    pair = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    if len(pair) != 2:
        raise ValueError(f"`sigma` must be a number or a pair, got {len(pair)} entries")
    widths = [_width(value, left.dtype) for value in pair]
    return _dual(left, right, *widths)
