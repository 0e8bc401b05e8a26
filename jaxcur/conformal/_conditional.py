"""P-values that stay valid given the calibration set at hand."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    check_unit_interval,
    exact_fraction,
    is_concrete,
)

Method = Literal["dkwm", "simes", "asymptotic", "monte_carlo"]
METHODS = ("dkwm", "simes", "asymptotic", "monte_carlo")
_TILE = 2**22


def _check_n(n: Any, method: str) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(
            "`n` must be a Python integer, the number of calibration scores "
            f"(static under jit), got {type(n).__name__}"
        )
    least = 3 if method in ("asymptotic", "monte_carlo") else 1
    if n < least:
        raise ValueError(
            f"`n` must be at least {least} for method={method!r}, got {n}"
            + ("; use 'dkwm' or 'simes'" if least > 1 else "")
        )
    return int(n)


def _half(n: int) -> int:
    return max(1, n // 2)


def _simes_logs(n: int) -> np.ndarray:
    """sum_{l < k} log((i - l)/(n - l)) for i = 1..n with k = n // 2; -inf for i < k."""
    k = _half(n)
    factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    i = np.arange(1, n + 1)
    rising = factorial[i] - factorial[np.maximum(i - k, 0)]
    whole = factorial[n] - factorial[n - k]
    return np.where(i >= k, rising - whole, -np.inf)


def _iterated_logs(n: int) -> tuple[float, float]:
    """Shift and scale of c_n = (shift - log(-log(1 - delta))) / scale."""
    two = float(np.log(np.log(n)))
    three = float(np.log(two))
    shift = 2 * two + three / 2 - float(np.log(np.pi)) / 2
    return shift, float(np.sqrt(2 * two))


def _half_widths(n: int, *, linear: bool) -> np.ndarray:
    """sqrt(i (n - i)) / n^1.5 for i = 1..n; beyond n / 2 a line, if asked."""
    i = np.arange(1, n + 1)
    width = np.sqrt(i * (n - i)) / (n * np.sqrt(n))
    if linear:
        h = _half(n)
        before = width[h - 2] if h > 1 else 0.0
        width[h:] = width[h - 1] + (width[h - 1] - before) * (i[h:] - h)
    return width


@functools.partial(jax.jit, static_argnames="n")
def _simes(n: int, delta: Array) -> Array:
    """1 - a_i for i = 1..n."""
    logs = jnp.asarray(_simes_logs(n), delta.dtype)
    return -jnp.expm1((jnp.log(delta) + logs) / _half(n))


@functools.partial(jax.jit, static_argnames=("n", "linear"))
def _asymptotic(n: int, delta: Array, *, linear: bool) -> Array:
    """1 - a_i = min(1, b_{n+1-i}) for i = 1..n."""
    shift, scale = _iterated_logs(n)
    c_n = (shift - jnp.log(-jnp.log1p(-delta))) / scale
    share = jnp.asarray(np.arange(1, n + 1) / n, delta.dtype)
    width = jnp.asarray(_half_widths(n, linear=linear), delta.dtype)
    return jnp.minimum(1.0, share + c_n * width)[::-1]


@functools.partial(jax.jit, static_argnames="n")
def _crossing_levels(n: int, ordered: Array, complement: Array) -> Array:
    """Smallest level whose envelope each row of uniform order statistics crosses.

    The i-th order statistic U_(i) crosses a bound b_i when U_(i) > b_i. Both families
    of bounds fall as their level grows, so each row has one critical level, in closed
    form.
    """
    dtype = ordered.dtype
    logs = jnp.asarray(_simes_logs(n)[::-1].copy(), dtype)
    # Simes: 1 - U_(i) < (level * exp(logs))^(1/k).
    tails = jnp.log(jnp.maximum(complement, jnp.finfo(dtype).tiny))
    gaps = _half(n) * tails - logs[None, :]
    simes = jnp.exp(jnp.min(gaps, axis=-1))
    # Asymptotic: U_(i) > i/n + c width_i, and c falls with the level. The last bound
    # is capped at 1, which no uniform exceeds.
    shift, scale = _iterated_logs(n)
    share = jnp.asarray(np.arange(1, n + 1) / n, dtype)
    width = jnp.asarray(_half_widths(n, linear=True), dtype)
    needed = jnp.max((ordered - share[None, :]) / width[None, :], axis=-1)
    asymptotic = -jnp.expm1(-jnp.exp(shift - scale * needed))
    return jnp.minimum(simes, asymptotic)


def _order_statistics(key: Array, rows: int, n: int, dtype: Any) -> tuple[Array, Array]:
    """Rows of n uniform order statistics, and one minus them, by spacings: no sort."""
    spacings = jax.random.exponential(key, (rows, n + 1), dtype)
    total = jnp.sum(spacings, axis=-1, keepdims=True)
    ordered = jnp.cumsum(spacings, axis=-1)[:, :-1] / total
    complement = jnp.cumsum(spacings[:, ::-1], axis=-1)[:, ::-1][:, 1:] / total
    return ordered, complement


@functools.partial(jax.jit, static_argnames=("n", "num_resamples", "dtype"))
def _simulated_levels(n: int, key: Array, num_resamples: int, dtype: Any) -> Array:
    tiles = min(num_resamples, -(-num_resamples * (n + 1) // _TILE))
    rows = -(-num_resamples // tiles)

    def tile(i: Array) -> Array:
        drawn = _order_statistics(jax.random.fold_in(key, i), rows, n, dtype)
        return _crossing_levels(n, *drawn)

    return jax.lax.map(tile, jnp.arange(tiles)).reshape(-1)[:num_resamples]


def _place(delta: Any, value: Array, count: int) -> Array:
    """floor(delta (B + 1)), int32; exact for a concrete delta."""
    if not is_concrete(delta):
        guard = stats.tie_guard(value.dtype)
        return jnp.floor(value * (count + 1) * guard).astype(jnp.int32)
    place = int(exact_fraction(delta) * (count + 1))
    if place < 1:
        raise ValueError(
            f"`delta` = {delta} needs at least {int(1 / float(delta))} simulated "
            f"rows, got {count}; raise `num_resamples`"
        )
    return jnp.asarray(place, jnp.int32)


@functools.partial(jax.jit, static_argnames="n")
def _envelope(levels: Array, value: Array, place: Array, n: int) -> Array:
    """Both bounds at the place-th smallest critical level, never above delta."""
    ordered = stats.sort(levels)
    level = ordered[jnp.clip(place - 1, 0, levels.shape[0] - 1)]
    # Too few rows for a traced delta: an envelope that nothing crosses.
    level = jnp.minimum(jnp.where(place < 1, 0.0, level), value)
    return jnp.minimum(_simes(n, level), _asymptotic(n, level, linear=True))


def _table(
    n: int,
    method: str,
    delta: Any,
    value: Array,
    key: Array | None,
    uniforms: ArrayLike | None,
    num_resamples: int,
) -> Array:
    """1 - a_i for i = 1..n, the bound given to a p-value with floor((n+1)(1-p)) = i."""
    if method == "simes":
        return _simes(n, value)
    if method == "asymptotic":
        return _asymptotic(n, value, linear=False)
    levels = _critical_levels(n, key, uniforms, num_resamples, value.dtype)
    return _envelope(levels, value, _place(delta, value, levels.shape[0]), n)


def _critical_levels(
    n: int,
    key: Array | None,
    uniforms: ArrayLike | None,
    num_resamples: int,
    dtype: Any,
) -> Array:
    if (key is None) == (uniforms is None):
        problem = "not both" if key is not None else "one is required"
        raise ValueError(
            "method='monte_carlo' simulates: pass `key=jax.random.key(...)` or the "
            f"draw itself as `uniforms`, {problem}"
        )
    if uniforms is None:
        assert key is not None
        return _simulated_levels(n, key, num_resamples, dtype)
    (drawn,) = as_float(uniforms=uniforms)
    if drawn.ndim != 2 or drawn.shape[1] != n or drawn.shape[0] < 1:
        raise ValueError(
            f"`uniforms` must have shape (num_resamples, {n}), got {drawn.shape}"
        )
    ordered = stats.sort(drawn.astype(dtype))
    return _crossing_levels(n, ordered, 1 - ordered)


def _checked_delta(delta: Any, dtype: Any) -> Array:
    check_unit_interval("delta", delta, open_low=True, open_high=True)
    if is_concrete(delta):
        return jnp.asarray(float(exact_fraction(delta)), dtype)
    value = jnp.asarray(delta, dtype)
    return jnp.where((value > 0) & (value < 1), value, jnp.nan)


@functools.partial(jax.jit, static_argnames="n")
def _look_up(p: Array, bounds: Array, n: int) -> Array:
    """The bound at max(1, floor((n + 1)(1 - p))), for every p-value.

    A p-value rounded to float32 is first put back on the grid j / (n + 1) where it came
    from there, so that both precisions take the same floor.
    """
    # Divided on the host: XLA turns division by a scalar into a product, which can be
    # one ulp off and miss the floor.
    grid = np.arange(n + 2) / (n + 1)
    ulp = float(jnp.finfo(p.dtype).eps)
    with jax.enable_x64(True):
        exact = jnp.nan_to_num(p.astype(jnp.float64))
        if p.dtype != jnp.float64:
            rank = jnp.round(exact * (n + 1))
            on_grid = jnp.abs(exact * (n + 1) - rank) <= ulp * rank
            nearest = jnp.asarray(grid)[jnp.clip(rank, 0, n + 1).astype(jnp.int32)]
            exact = jnp.where(on_grid, nearest, exact)
        place = jnp.clip(jnp.floor((n + 1) * (1 - exact)), 1, n).astype(jnp.int32)
    # P(p <= 1) = 1 always: below n = 4 the table's first entry would promise less.
    found = jnp.where(p >= 1, 1.0, bounds[place - 1])
    return jnp.where(jnp.isnan(p), jnp.nan, found)


def conditional_p_values(
    p_values: Real[ArrayLike, "..."],
    n: int,
    *,
    method: Method = "dkwm",
    delta: float | Array,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    num_resamples: int = 10_000,
) -> Float[Array, "..."]:
    """Conformal p-values adjusted to hold given the calibration set.

    A conformal p-value is super-uniform on average over calibration sets. The adjusted
    one, h(p), is super-uniform given the calibration set, except for unlucky sets of
    probability at most delta. Test rows are independent given the calibration set, so
    any method for independent p-values then applies to h(p).

    * "dkwm": h(p) = min(1, p + sqrt(log(2 / delta) / (2 n))).
    * the others: h(p) = 1 - a_i with i = max(1, floor((n + 1)(1 - p))), where

      - "simes", k = floor(n / 2): a_i = 0 for i < k, otherwise
        (delta prod_{l < k} (i - l) / (n - l))^(1 / k);
      - "asymptotic": a_i = 1 - min(1, b_{n+1-i}),
        b_i = i / n + c_n sqrt(i (n - i)) / (n sqrt(n));
      - "monte_carlo": the smaller of the Simes bound and the asymptotic bound
        (continued as a line beyond n / 2), both at one level delta - gamma. The Simes
        bound alone already uses up delta, so gamma >= 0 is what the second bound costs;
        simulated uniform order statistics set it.

    Guarantee: for i.i.d. calibration scores and null test scores from the same
    distribution, with probability at least 1 - delta over the calibration set,
    P(h(p) <= u given calibration) <= u for all u at once. "dkwm" and "simes": every n.
    "monte_carlo": every n, on average over the simulation, because the level is the
    floor(delta (B + 1))-th smallest of B simulated critical levels and the calibration
    set is one more draw of the same kind. "asymptotic": Heuristic: no finite-sample
    guarantee. Verified by: `jaxcur verify conditional_p_values`.

    Args:
        p_values: any shape, in [0, 1]: (1 + #{calibration scores >= score}) / (n + 1).
        n: number of calibration scores, static. At least 1; at least 3 for "asymptotic"
            and "monte_carlo".
        method: which bound.
        delta: scalar in (0, 1), probability of an unlucky calibration set.
        key: random key, for "monte_carlo" (otherwise unused).
        uniforms: the draw itself, shape (B, n), instead of a key.
        num_resamples: simulated calibration sets B, static.

    Returns:
        shape of `p_values`, in (0, 1], at least `p_values` up to the step of the grid.
        NaN for a traced delta outside (0, 1) and for a NaN p-value. The floor is taken
        in floating point: a p-value j / (n + 1) whose product with n + 1 rounds below
        the integer gets the next larger bound. `conditional_bounds` is indexed by the
        integer j and has no such step.

    Raises:
        TypeError: n is not a Python integer.
        ValueError: n too small, delta outside (0, 1), a p-value outside [0, 1] or NaN,
            "monte_carlo" without key or uniforms, or with so few rows that
            delta (B + 1) < 1.

    Transformations: jit with n, method and num_resamples static; vmap over p-values and
    delta. Not differentiable in p.
    Cost: O(n + m); "monte_carlo" O(B n) time in tiles of 4 million numbers.

    Source: Bates, Candes, Lei, Romano and Sesia, "Testing for outliers with conformal
    p-values", Annals of Statistics 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import conformal
        >>> p = jnp.array([0.01, 0.5])
        >>> adjusted = conformal.conditional_p_values(p, 99, method="simes", delta=0.1)
        >>> print([f"{x:.3f}" for x in adjusted])
        ['0.046', '0.732']
    """
    check_choice("method", method, METHODS)
    (p,) = as_float(p_values=p_values)
    n = _check_n(n, method)
    value = _checked_delta(delta, p.dtype)
    host = np.asarray(p) if is_concrete(p) else np.zeros(0)
    if not ((host >= 0) & (host <= 1)).all():
        raise ValueError(
            "`p_values` must lie in [0, 1] and not be NaN, got values in "
            f"[{host.min()}, {host.max()}]"
        )
    if method == "dkwm":
        return jnp.minimum(1.0, p + jnp.sqrt(jnp.log(2 / value) / (2 * n)))
    bounds = _table(n, method, delta, value, key, uniforms, num_resamples)
    return _look_up(p, bounds, n)


def conditional_bounds(
    n: int,
    *,
    method: Method = "dkwm",
    delta: float | Array,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "b n"] | None = None,
    num_resamples: int = 10_000,
) -> Float[Array, " n+1"]:
    """The adjusted value of every attainable p-value j / (n + 1), j = 1, ..., n + 1.

    Indexing by an integer rank, `conditional_bounds(...)[rank - 1]`, avoids the floor
    of `conditional_p_values`.

    Guarantee: as `conditional_p_values`.

    Args:
        n: number of calibration scores, static.
        method: which bound.
        delta: scalar in (0, 1).
        key: random key, for "monte_carlo".
        uniforms: the draw itself, shape (B, n).
        num_resamples: simulated calibration sets B, static.

    Returns:
        shape (n + 1,), nondecreasing, the default float dtype or that of `delta`.

    Raises:
        TypeError: n is not a Python integer.
        ValueError: as `conditional_p_values`.

    Transformations: jit with n, method and num_resamples static; vmap over delta.
    Cost: O(n); "monte_carlo" O(B n).

    Source: as `conditional_p_values`.

    Example:
        >>> from jaxcur import conformal
        >>> bounds = conformal.conditional_bounds(9, method="simes", delta=0.1)
        >>> print([f"{x:.2f}" for x in bounds[:3]])
        ['0.44', '0.51', '0.59']
    """
    check_choice("method", method, METHODS)
    n = _check_n(n, method)
    (probe,) = as_float(delta=delta)
    value = _checked_delta(delta, probe.dtype)
    if method == "dkwm":
        grid = jnp.asarray(np.arange(1, n + 2) / (n + 1), value.dtype)
        return jnp.minimum(1.0, grid + jnp.sqrt(jnp.log(2 / value) / (2 * n)))
    bounds = _table(n, method, delta, value, key, uniforms, num_resamples)
    # Rank j has i = n + 1 - j; rank n + 1 is p = 1, which bounds nothing.
    return jnp.concatenate([bounds[::-1], jnp.ones(1, bounds.dtype)])
