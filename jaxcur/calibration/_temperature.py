"""Temperature scaling, over tiles of rows that stay in cache."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, check_choice, check_rank, register_dataclass
from jaxcur.calibration._calibrator import (
    DIVERGING,
    INVALID,
    MAX_STEPS,
    OK,
    Fitted,
    check_any_logits,
    normalised,
    with_rows,
)

# log of the largest inverse temperature: beyond it every row is decided.
_CAP = 16.0
# Entries of one tile: a quarter of a megabyte in float32.
_TILE = 65536
# A first guess is found on every 16th row of data of this many entries.
_LARGE = 2**21
_STRIDE = 16


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TemperatureCalibrator(Fitted):
    """q = softmax(inverse_temperature * L), or the sigmoid for binary logits.

    Attributes:
        inverse_temperature: scalar, positive.
        gradient_norm: scalar, size of the derivative of the mean loss in the logarithm
            of the inverse temperature.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, passes over all rows.
        is_binary: whether it takes logits (m,) rather than (m, k). Static.
    """

    inverse_temperature: Array
    gradient_norm: Array
    status: Array
    num_steps: Array
    is_binary: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def temperature(self) -> Array:
        """1 / inverse_temperature."""
        return 1 / self.inverse_temperature

    def __call__(self, logits: Real[ArrayLike, "m ..."]) -> Float[Array, "m ..."]:
        """Probabilities at logits: (m, k) at (m, k), or (m,) at (m,)."""
        (scaled,) = as_float(logits=logits)
        check_rank(
            "logits",
            scaled,
            1 if self.is_binary else 2,
            "(m,)" if self.is_binary else "(m, k)",
        )
        scaled = scaled.astype(self.inverse_temperature.dtype)
        scaled = scaled * self.inverse_temperature
        return jax.nn.sigmoid(scaled) if self.is_binary else jax.nn.softmax(scaled, -1)


def fit_temperature(
    logits: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    loss: Literal["nll", "mse"] = "nll",
    pseudo_rows: Real[ArrayLike, ""] = 0.0,
    max_steps: int = 60,
) -> TemperatureCalibrator:
    """Fit one inverse temperature beta > 0: q = softmax(beta L).

    The negative log-likelihood is convex in beta; its derivative, the mean of
    E_q[L] - L_y, increases. A Newton iteration in log beta, kept within a bracket of
    [-16, 16], finds the zero. "mse" minimises the squared distance from the one-hot
    label instead, which is not convex: the best of 33 values in [-4, 4] is refined.

    Guarantee: the largest probability of a row stays the largest, so accuracy does not
    change; the loss on the rows of the fit is at most that without scaling.
    Verified by: tests/unit/calibration/test_temperature.py.

    Args:
        logits: shape (n, k), or (n,) for the log-odds of a binary event; finite.
        labels: shape (n,): integers 0..k-1, or outcomes in [0, 1] for logits (n,).
        weights: shape (n,), at least 0; ones when missing.
        loss: "nll" or "mse" (static).
        pseudo_rows: weight of one additional row for each class (a Laplace
            correction). Its logits are the size of the data for one and the same class
            and 0 for the others, so all but one of these rows are wrong, which keeps
            beta finite when every row of the data is right. Traced.
        max_steps: largest number of passes over the rows (static).

    Returns:
        A calibrator of logits of the same rank. Where every row is right, beta goes to
        its cap e^16 (where labels and logits disagree, to e^-16) and `converged` is
        False.

    Raises:
        ValueError: unequal lengths, n = 0, logits that are not finite, labels out of
            range, or illegal weights.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: 3 to 4 passes over the logits for large data, where a first guess comes from
    every 16th row; O(65536) memory besides the input.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks",
    ICML 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> logits = jnp.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        >>> labels = jnp.array([0, 0, 1, 1])
        >>> calibrator = calibration.fit_temperature(logits, labels)
        >>> calibrator(logits)[0].round(2)
        Array([0.75, 0.25], dtype=float32)
    """
    check_choice("loss", loss, ("nll", "mse"))
    table, y, w = check_any_logits(logits, labels, weights)
    pseudo = jnp.asarray(pseudo_rows, table.dtype)
    return _fit_temperature(table, y, w, pseudo, loss=loss, max_steps=max_steps)


@jax.jit(static_argnames=("loss", "max_steps"))
def _fit_temperature(table, y, w, pseudo, *, loss, max_steps):
    found = solve_temperature(
        table, y, w, pseudo=pseudo, loss=loss, max_steps=max_steps
    )
    log_beta, slope, status, num_steps = found
    return TemperatureCalibrator(
        inverse_temperature=jnp.exp(log_beta),
        gradient_norm=jnp.abs(slope),
        status=status,
        num_steps=num_steps,
        is_binary=table.ndim == 1,
    )


def _tiles(table: Array) -> tuple[int, int]:
    """Number of tiles and rows of each; the last is filled up by repeated rows."""
    n = table.shape[0]
    columns = table.shape[1] if table.ndim == 2 else 1
    rows = max(1, min(n, _TILE // columns))
    return -(-n // rows), rows


def _binary_terms(s, y, beta):
    """Loss-free derivatives of softplus(beta s) - beta s y in beta."""
    q = jax.nn.sigmoid(beta * s)
    down = jax.nn.sigmoid(-beta * s)
    return ((1 - y) * q - y * down) * s, q * down * s * s


def _class_terms(table, y, beta):
    top = jnp.max(table, axis=1, keepdims=True)
    below = table - top
    e = jnp.exp(beta * below)
    mass = jnp.sum(e, axis=1)
    first = jnp.sum(e * below, axis=1) / mass
    second = jnp.sum(e * below * below, axis=1) / mass
    own = jnp.take_along_axis(below, y[:, None], axis=1)[:, 0]
    return first - own, jnp.maximum(second - first * first, 0)


def _derivatives(table, y, share, beta):
    """First and second derivative of the mean loss in beta, tile by tile."""
    terms = _binary_terms if table.ndim == 1 else _class_terms
    count, rows = _tiles(table)
    n = table.shape[0]

    def one(i):
        # The last tile is moved back to end with the data, and rows that an earlier
        # one has counted get no weight.
        start = jnp.minimum(i * rows, n - rows)
        part = jax.lax.dynamic_slice_in_dim(table, start, rows)
        label = jax.lax.dynamic_slice_in_dim(y, start, rows)
        weight = jax.lax.dynamic_slice_in_dim(share, start, rows)
        fresh = start + jnp.arange(rows, dtype=start.dtype) >= i * rows
        weight = jnp.where(fresh, weight, 0)
        part, label = with_rows(weight, part, label)
        slope, curvature = terms(part, label, beta)
        return jnp.stack([jnp.sum(weight * slope), jnp.sum(weight * curvature)])

    if count == 1:
        return one(jnp.int32(0))
    return jnp.sum(jax.lax.map(one, jnp.arange(count, dtype=jnp.int32)), axis=0)


def _newton(slope_at, start, max_steps, dtype):
    """Zero of an increasing function of log beta, given it and its derivative."""
    # One more Newton step squares an error of this size.
    close = 1e-5 if dtype == jnp.float64 else 1e-3
    eps = jnp.finfo(dtype).eps

    def proceed(state):
        return ~state[5] & (state[4] < max_steps)

    def step(state):
        u, low, high, _, count, _ = state
        beta = jnp.exp(u)
        first, second = slope_at(beta)
        low = jnp.where(first < 0, u, low)
        high = jnp.where(first > 0, u, high)
        length = -first / jnp.maximum(beta * second, eps * eps)
        new = u + length
        inside = (new > low) & (new < high)
        settled = inside & (jnp.abs(length) <= close)
        # Far off, the derivative in beta is a poor guide to log beta: at most factor e.
        new = jnp.where(inside, jnp.clip(new, u - 1, u + 1), (low + high) / 2)
        new = jnp.where(first == 0, u, new)
        narrow = high - low <= 16 * eps * (1 + jnp.abs(u))
        # Nothing is left to gain where every row is decided and right.
        spent = (first < 0) & (beta * beta * second < eps * eps)
        done = settled | (first == 0) | narrow | spent | jnp.isnan(first)
        new = jnp.where(jnp.isnan(first), jnp.nan, new)
        return new, low, high, first * beta, count + 1, done

    cap = jnp.asarray(_CAP, dtype)
    zero = start * 0
    state = (start, zero - cap, zero + cap, zero, jnp.int32(0), jnp.isnan(start))
    return jax.lax.while_loop(proceed, step, state)


def _size(table, share):
    """Root mean square of the logits, about the largest of each row if several."""
    (table,) = with_rows(share, table)
    if table.ndim == 1:
        return jnp.sqrt(jnp.sum(share * table**2))
    below = table - jnp.max(table, axis=1, keepdims=True)
    return jnp.sqrt(jnp.sum(share * jnp.mean(below**2, axis=1)))


def solve_temperature(table, y, w, *, pseudo, loss="nll", max_steps=60):
    """Log beta, the slope there, status, and the number of passes."""
    dtype = table.dtype
    total = jnp.sum(w)
    if loss == "mse":
        return _solve_squared(table, y, normalised(w), max_steps)
    num_classes = 2 if table.ndim == 1 else table.shape[1]
    share = w / jnp.where(total > 0, total + num_classes * pseudo, jnp.nan)
    portion = num_classes * pseudo / (total + num_classes * pseudo)
    size = jax.lax.cond(pseudo > 0, _size, lambda *_: share[0] * 0, table, share)

    def slope_at(part, label, weight):
        def at(beta):
            found = _derivatives(part, label, weight, beta)
            z = beta * size
            e = jnp.exp(-z) * (num_classes - 1)
            top = 1 / (1 + e)
            extra = size * (top - 1 / num_classes), size**2 * top * (1 - top)
            return found[0] + portion * extra[0], found[1] + portion * extra[1]

        return at

    start = jnp.sum(share) * 0
    if table.size >= _LARGE:
        few = slice(None, None, _STRIDE)
        part_share = share[few] / jnp.maximum(jnp.sum(share[few]), 1e-30)
        part_share = part_share * jnp.sum(share)
        guess = _newton(
            slope_at(table[few], y[few], part_share), start, max_steps, dtype
        )
        start = jnp.where(jnp.abs(guess[0]) < _CAP / 2, guess[0], start)
    u, low, high, _, count, done = _newton(
        slope_at(table, y, share), start, max_steps, dtype
    )
    slope = slope_at(table, y, share)(jnp.exp(u))[0] * jnp.exp(u)
    edge = _CAP - 0.01
    status = jnp.where(done, OK, MAX_STEPS)
    status = jnp.where(jnp.abs(u) >= edge, DIVERGING, status)
    # With every row right, and no pseudo row, the loss falls for ever.
    doubtful = (~done | (u > 2)) & (pseudo == 0)
    endless = jax.lax.cond(doubtful, _all_right, lambda *_: False, table, y, share)
    u = jnp.where(endless, jnp.asarray(_CAP, dtype), u)
    status = jnp.where(endless, DIVERGING, status)
    status = jnp.where(jnp.isnan(slope), INVALID, status).astype(jnp.int32)
    return u, slope, status, count + 1


def _all_right(table, y, share):
    """Whether no row of positive weight has a logit above that of its label."""
    table, y = with_rows(share, table, y)
    if table.ndim == 1:
        right = ((y >= 1) | (table <= 0)) & ((y <= 0) | (table >= 0))
    else:
        own = jnp.take_along_axis(table, y[:, None], axis=1)[:, 0]
        right = own >= jnp.max(table, axis=1)
    return jnp.all(right | (share == 0))


def _solve_squared(table, y, share, max_steps):
    dtype = table.dtype
    table, y = with_rows(share, table, y)

    def loss(u):
        beta = jnp.exp(u)
        if table.ndim == 1:
            return 2 * jnp.sum(share * (jax.nn.sigmoid(beta * table) - y) ** 2)
        q = jax.nn.softmax(beta * table, axis=1)
        own = jnp.take_along_axis(q, y[:, None], axis=1)[:, 0]
        return jnp.sum(share * (jnp.sum(q * q, axis=1) - 2 * own + 1))

    grid = jnp.linspace(-4, 4, 33, dtype=dtype)
    values = jax.lax.map(loss, grid)
    best = jnp.argmin(values)
    low = grid[jnp.maximum(best - 1, 0)]
    high = grid[jnp.minimum(best + 1, 32)]
    slope_at = jax.grad(loss)
    steps = min(max_steps, 60 if dtype == jnp.float64 else 30)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        rising = slope_at(middle) > 0
        return jnp.where(rising, low, middle), jnp.where(rising, middle, high)

    low, high = jax.lax.fori_loop(0, steps, halve, (low, high))
    u = (low + high) / 2
    value, slope = jax.value_and_grad(loss)(u)
    edge = (best == 0) | (best == 32)
    status = jnp.where(edge, DIVERGING, OK)
    bad = jnp.isnan(value)
    u = jnp.where(bad, jnp.nan, u)
    status = jnp.where(bad, INVALID, status).astype(jnp.int32)
    return u, slope, status, jnp.asarray(33 + steps, jnp.int32)
