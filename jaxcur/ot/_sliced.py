"""Transport averaged over, or maximised over, projections to the line."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import is_concrete
from jaxcur.ot._costs import HIGHEST, find_centre
from jaxcur.ot._inputs import balance, prepare_points, prepare_weights
from jaxcur.ot._one_d import check_order, equal_power_cost, power_cost, root_of

_BATCH = 16


def _directions(
    projections: Any, key: Any, num_projections: Any, d: int, dtype: Any
) -> Array:
    """Unit rows (L, d)."""
    if (projections is None) == (key is None):
        raise ValueError(
            "pass either `key` or `projections`: "
            f"got {'neither' if key is None else 'both'}"
        )
    if projections is not None:
        rows = jnp.asarray(projections, dtype)
        if rows.ndim != 2 or rows.shape[1] != d or rows.shape[0] == 0:
            raise ValueError(
                f"`projections` must have shape (L, {d}), one direction a row, "
                f"got {rows.shape}"
            )
        if num_projections is not None and num_projections != rows.shape[0]:
            raise ValueError(
                f"`num_projections` is {num_projections}, but `projections` has "
                f"{rows.shape[0]} rows"
            )
        if is_concrete(rows) and (np.linalg.norm(np.asarray(rows), axis=1) == 0).any():
            raise ValueError("`projections` must not hold a zero row")
    else:
        whole = isinstance(num_projections, (int, np.integer))
        if not whole or isinstance(num_projections, bool) or num_projections < 1:
            raise ValueError(
                f"`num_projections` must be a positive integer, got {num_projections!r}"
            )
        rows = jax.random.normal(key, (int(num_projections), d), dtype)
    return rows / jnp.sqrt(jnp.sum(rows * rows, axis=1, keepdims=True))


def _prepared(
    x: Any, y: Any, a: Any, b: Any
) -> tuple[Array, Array, tuple[Array, Array] | None]:
    x, y = prepare_points(x, y)
    weights_a = balance("a", prepare_weights("a", a, x.shape[0], x.dtype))
    weights_b = balance("b", prepare_weights("b", b, y.shape[0], x.dtype))
    centre = find_centre(x, y, weights_a, weights_b)
    plain = a is None and b is None and x.shape[0] == y.shape[0]
    weights = None if plain else (weights_a, weights_b)
    return x - centre, y - centre, weights


def _along(
    x: Array, y: Array, weights: tuple[Array, Array] | None, p: float, direction: Array
) -> Array:
    left = jnp.matmul(x, direction, precision=HIGHEST)
    right = jnp.matmul(y, direction, precision=HIGHEST)
    if weights is None:
        return equal_power_cost(left, right, p)
    return power_cost(left, right, *weights, p)


def sliced_wasserstein(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"],
    *,
    p: float = 2,
    num_projections: int | None = None,
    key: Array | None = None,
    projections: Real[ArrayLike, "L d"] | None = None,
    a: Real[ArrayLike, " n"] | None = None,
    b: Real[ArrayLike, " m"] | None = None,
    root: bool = False,
    std_error: bool = False,
) -> Any:
    """Mean of W_p^p over random directions, with its Monte Carlo standard error.

    Guarantee: unbiased for the mean over all directions of W_p^p between the two
    samples (not for its root, nor for the populations). Verified by: the exact value
    |t|^2 / d for a translation t, in tests/property/test_ot.py.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        p: order, at least 1. Static.
        num_projections: how many directions to draw with `key`. Static.
        key: PRNG key for the directions.
        projections: shape (L, d), the directions themselves, of any length.
        a: shape (n,), weights of x; None for uniform.
        b: shape (m,), weights of y.
        root: return the p-th root. Static.
        std_error: also return the standard error over directions, by the delta method
            with `root`; NaN with one direction. Static.

    Returns:
        scalar, or (scalar, standard error).

    Raises:
        ValueError: neither or both of `key` and `projections`, wrong shapes, weights.

    Transformations: jit, vmap, grad in x, y and weights as `wasserstein_1d`.
    Cost: L sorts of n + m; memory of a few at a time.

    Source: Rabin et al., "Wasserstein barycenter and its application to texture
    mixing", 2011; Bonneel et al. 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0]])
        >>> ot.sliced_wasserstein(x, x + 1.0, projections=jnp.eye(2))
        Array(1., dtype=float32)
    """
    p = check_order(p)
    x, y, weights = _prepared(x, y, a, b)
    rows = _directions(projections, key, num_projections, x.shape[1], x.dtype)

    # Recomputed when differentiated: sorted copies of every projection are not kept.
    @jax.checkpoint
    def along(direction: Array) -> Array:
        return _along(x, y, weights, p, direction)

    # Whole batches: a remainder would be compiled as a program of its own.
    count = rows.shape[0]
    batch = min(_BATCH, count)
    filled = jnp.concatenate([rows, rows[: -count % batch]])
    powers = jax.lax.map(along, filled, batch_size=batch)[:count]
    value = jnp.mean(powers)
    shown = root_of(value, p) if root else value
    if not std_error:
        return shown
    spread = jnp.sum((powers - value) ** 2)
    error = jnp.sqrt(spread / (count - 1) / count) if count > 1 else value * jnp.nan
    if root:
        safe = jnp.where(value > 0, value, 1)
        error = jnp.where(value > 0, error * safe ** (1 / p - 1) / p, 0)
    return shown, error


def max_sliced_wasserstein(
    x: Real[ArrayLike, "n d"],
    y: Real[ArrayLike, "m d"],
    *,
    p: float = 2,
    num_starts: int | None = None,
    key: Array | None = None,
    projections: Real[ArrayLike, "L d"] | None = None,
    a: Real[ArrayLike, " n"] | None = None,
    b: Real[ArrayLike, " m"] | None = None,
    num_steps: int = 100,
    root: bool = False,
) -> tuple[Float[Array, ""], Float[Array, " d"]]:
    """Largest W_p^p over directions that gradient ascent on the sphere finds.

    Heuristic: no finite-sample guarantee; the ascent may end in a local maximum, and
    the value is a lower bound of the true maximum.

    Args:
        x: shape (n, d).
        y: shape (m, d).
        p: order, at least 1. Static.
        num_starts: how many directions to begin from, drawn with `key`; the difference
            of the means is always one more. Static.
        key: PRNG key.
        projections: shape (L, d), directions to begin from.
        a: shape (n,), weights of x; None for uniform.
        b: shape (m,), weights of y.
        num_steps: steps of the ascent; the best direction seen is kept. Static.
        root: return the p-th root. Static.

    Returns:
        (value, direction of length 1, shape (d,)).

    Raises:
        ValueError: as `sliced_wasserstein`.

    Transformations: jit, vmap, grad of the value in x and y (at the direction found).
    Cost: (L + 1) num_steps sorts.

    Source: Deshpande et al., "Max-sliced Wasserstein distance and its use for GANs",
    2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ot
        >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0]])
        >>> shifted = x + jnp.array([3.0, 4.0])
        >>> value, _ = ot.max_sliced_wasserstein(x, shifted, projections=jnp.eye(2))
        >>> round(float(value), 3)
        25.0
    """
    p = check_order(p)
    x, y, weights = _prepared(x, y, a, b)
    rows = _directions(projections, key, num_starts, x.shape[1], x.dtype)
    fixed_x, fixed_y, fixed = jax.lax.stop_gradient((x, y, weights))
    if weights is None:
        gap = jnp.mean(fixed_x, 0) - jnp.mean(fixed_y, 0)
    else:
        gap = weights[0] @ fixed_x - weights[1] @ fixed_y
    length = jnp.sqrt(jnp.sum(gap * gap))
    toward = jnp.where(length > 0, gap / jnp.where(length > 0, length, 1), rows[0])
    starts = jnp.concatenate([rows, jax.lax.stop_gradient(toward)[None]])
    slope_of = jax.value_and_grad(lambda v: _along(fixed_x, fixed_y, fixed, p, v))

    def unit(vector: Array) -> Array:
        size = jnp.sqrt(jnp.sum(vector * vector))
        return vector / jnp.where(size > 0, size, 1)

    def ascend(start: Array) -> tuple[Array, Array]:
        def step(state: Any, count: Array) -> tuple[Any, None]:
            direction, best, where = state
            value, slope = slope_of(direction)
            better = value > best
            best = jnp.where(better, value, best)
            where = jnp.where(better, direction, where)
            # Convex in the direction for p = 2 between given pairs: following the
            # gradient all the way never lowers the value; later steps are shorter, so
            # that other orders settle too.
            size = jnp.sqrt(jnp.sum(slope * slope))
            share = 1 / (1 + count / 10).astype(value.dtype)
            toward = slope / jnp.where(size > 0, size, 1)
            return (unit(direction + share * (toward - direction)), best, where), None

        first = (start, jnp.full((), -jnp.inf, start.dtype), start)
        (_, best, where), _ = jax.lax.scan(step, first, jnp.arange(num_steps))
        return best, where

    values, found = jax.lax.map(ascend, starts)
    direction = jax.lax.stop_gradient(found[jnp.argmax(values)])
    value = _along(x, y, weights, p, direction)
    return (root_of(value, p) if root else value), direction
