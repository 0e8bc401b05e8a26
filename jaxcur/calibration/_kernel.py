"""Kernel calibration error: sums over pairs, exact in one sort for binary forecasts."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur import stats
from jaxcur._base import check_choice
from jaxcur.calibration._inputs import check_binary, check_multiclass
from jaxcur.calibration._smooth import check_bandwidth
from jaxcur.calibration._sums import decayed_sums, sort_by_forecast

ESTIMATORS = ("unbiased", "biased", "linear", "block")
# Rows of the kernel matrix held at once, and rows that the median of distances is
# taken over.
_TILE = 256
_MEDIAN_ROWS = 512
# Up to here distances are summed by class, without the cancellation of a Gram matrix.
_FEW_CLASSES = 32


def kernel_decay(sorted_f: Array, bandwidth: Array) -> Array:
    """exp(-(f_i - f_(i-1)) / bandwidth) of sorted forecasts, (n,); 1 at the first."""
    step = jnp.concatenate([jnp.zeros_like(sorted_f[:1]), jnp.diff(sorted_f)])
    return jnp.exp(-step / bandwidth)


def sorted_pair_sum(q: Array, decay: Array) -> Array:
    """sum_ij q_i q_j exp(-|f_i - f_j| / bandwidth) along the last axis; rows sorted.

    Every pair passes through the gaps between its two rows, and the kernel of the sum
    of gaps is the product of their kernels: one scan from the left sums over all j < i.
    """
    sums = decayed_sums(q, decay)
    return jnp.sum(q * (2 * sums - q), axis=-1)


def _distances(a: Array, b: Array) -> Array:
    """Euclidean distances between rows (n, k) and (m, k)."""
    if a.shape[1] <= _FEW_CLASSES:
        square = jnp.zeros((a.shape[0], b.shape[0]), a.dtype)
        for j in range(a.shape[1]):
            square = square + (a[:, j, None] - b[None, :, j]) ** 2
    else:
        product = jnp.matmul(a, b.T, precision="highest")
        square = jnp.sum(a**2, 1)[:, None] + jnp.sum(b**2, 1)[None, :] - 2 * product
    positive = square > 0
    root = jnp.sqrt(jnp.where(positive, square, 1))
    return jnp.where(positive, root, jnp.where(jnp.isnan(square), square, 0))


def tiled_pair_sum(p: Array, q: Array, bandwidth: Array) -> Array:
    """sum_ij <q_i, q_j> exp(-||p_i - p_j|| / bandwidth), rows of the matrix in tiles.

    Args:
        p: shape (n, k).
        q: shape (n, ..., k): several sums at once for axes in between.
        bandwidth: scalar.

    Returns:
        the shape of the axes in between.
    """
    n = p.shape[0]
    tile = min(_TILE, n)
    pad = -n % tile

    def padded(x: Array) -> Array:
        widths = [(0, pad)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, widths).reshape(-1, tile, *x.shape[1:])

    places = jnp.arange(n, dtype=jnp.int32)

    def part(rows: tuple[Array, Array, Array]) -> Array:
        # The distance of a row to itself is 0, which a Gram matrix misses by rounding.
        own = rows[2][:, None] == places[None, :]
        distance = jnp.where(own, 0, _distances(rows[0], p))
        kernel = jnp.exp(-distance / bandwidth)
        reached = jnp.tensordot(kernel, q, axes=1, precision="highest")
        return jnp.sum(rows[1] * reached, axis=(0, -1))

    return jnp.sum(jax.lax.map(part, (padded(p), padded(q), padded(places))), axis=0)


def _thinned(p: Array) -> Array:
    """At most `_MEDIAN_ROWS` rows, evenly spaced by their largest probability."""
    n = p.shape[0]
    if n <= _MEDIAN_ROWS:
        return p
    place = np.linspace(0, n - 1, _MEDIAN_ROWS).round().astype(int)
    if p.ndim == 1:
        return stats.sort(p)[place]
    return p[stats.argsort(jnp.max(p, axis=1))[place]]


def median_distance(p: Array) -> Array:
    """Median distance between two forecasts, (n,) or (n, k); 1 where it is 0.

    Over 512 forecasts evenly spaced in their order where there are more.
    """
    rows = jax.lax.stop_gradient(_thinned(p))
    n = rows.shape[0]
    if n == 1:
        return jnp.ones((), p.dtype) + 0 * jnp.sum(rows)
    first, second = np.triu_indices(n, 1)
    if p.ndim == 1:
        table = jnp.abs(rows[:, None] - rows[None, :])
    else:
        table = _distances(rows, rows)
    ordered = stats.sort(table[first, second])
    count = ordered.shape[0]
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return jnp.where(middle == 0, 1, middle)


def residuals(p: Array, labels: Array) -> Array:
    """Y - P: (n,) for outcomes, (n, k) for classes."""
    if p.ndim == 1:
        return labels - p
    return jax.nn.one_hot(labels, p.shape[1], dtype=p.dtype) - p


def full_pair_sum(p: Array, q: Array, bandwidth: Array) -> Array:
    """sum_ij k_ij <q_i, q_j> over all pairs, each row with itself too."""
    if p.ndim == 2:
        return tiled_pair_sum(p, q, bandwidth)
    f, q = sort_by_forecast(p, q)
    return sorted_pair_sum(q, kernel_decay(f, bandwidth))


def _square_norm(r: Array) -> Array:
    return r**2 if r.ndim == 1 else jnp.sum(r**2, axis=-1)


def block_means(
    p: Array, r: Array, w: Array, bandwidth: Array, size: int
) -> tuple[Array, Array]:
    """Sum over the pairs of each block of consecutive rows, and the pairs' weight."""
    count = p.shape[0] // size
    used = count * size

    def split(x: Array) -> Array:
        return x[:used].reshape(count, size, *x.shape[1:])

    def one(block: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        rows, rest, mass = block
        q = rest * mass.reshape(-1, *(1,) * (rest.ndim - 1))
        pairs = jnp.sum(mass) ** 2 - jnp.sum(mass**2)
        if size == 2:
            gap = rows[:1] - rows[1:]
            square = jnp.sum(gap**2)
            distance = jnp.sqrt(jnp.where(square > 0, square, 1))
            kernel = jnp.exp(-jnp.where(square == 0, 0, distance) / bandwidth)
            return 2 * kernel * jnp.sum(q[0] * q[1]), pairs
        return full_pair_sum(rows, q, bandwidth) - jnp.sum(q**2), pairs

    blocks = split(p), split(r), split(w)
    if p.ndim == 1 or size == 2:
        return jax.vmap(one)(blocks)
    return jax.lax.map(one, blocks)


@functools.partial(jax.jit, static_argnames=("estimator", "size"))
def _estimate(
    p: Array,
    labels: Array,
    w: Array,
    bandwidth: Array | None,
    *,
    estimator: str,
    size: int,
) -> Array:
    nu = median_distance(p) if bandwidth is None else bandwidth
    r = residuals(p, labels)
    if estimator in ("linear", "block"):
        sums, pairs = block_means(p, r, w, nu, size)
        value = jnp.sum(sums) / jnp.where(jnp.sum(pairs) > 0, jnp.sum(pairs), jnp.nan)
    else:
        q = r * w.reshape(-1, *(1,) * (r.ndim - 1))
        both, total = full_pair_sum(p, q, nu), jnp.sum(w)
        if estimator == "biased":
            value = jnp.maximum(both, 0) / total**2
        else:
            # A row of weight 2 is two rows, which form a pair of their own.
            pairs = total * (total - 1)
            own = jnp.sum(w * _square_norm(r))
            value = (both - own) / jnp.where(pairs > 0, pairs, jnp.nan)
    return jnp.where(nu > 0, value, jnp.nan)


def block_size_of(estimator: str, block_size: Any, n: int) -> int:
    """Rows of a block: 2 for "linear", about sqrt(n) for "block" unless given."""
    if block_size is not None and estimator != "block":
        raise ValueError("`block_size` needs estimator='block'")
    if estimator == "linear":
        return 2
    if block_size is None:
        return max(int(n**0.5), 2)
    if not isinstance(block_size, (int, np.integer)) or block_size < 2:
        raise ValueError(
            f"`block_size` must be an integer of at least 2, got {block_size!r}"
        )
    return int(block_size)


def check_forecasts(
    probs: Any, labels: Any, weights: Any
) -> tuple[Array, Array, Array]:
    """`check_binary`, or `check_multiclass` for rows."""
    if np.ndim(probs) == 2:
        return check_multiclass(probs, labels, weights)
    return check_binary(probs, labels, weights)


def kernel_calibration_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    estimator: Literal["unbiased", "biased", "linear", "block"] = "unbiased",
    bandwidth: Real[ArrayLike, ""] | float | None = None,
    block_size: int | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Squared kernel calibration error of the whole forecast.

    With  h_ij = exp(-||p_i - p_j|| / bandwidth) <Y_i - p_i, Y_j - p_j>,  where Y is the
    outcome (binary) or the one-hot label (rows): "unbiased" is the mean of h over pairs
    of different rows, "biased" over all pairs (>= 0), "block" the mean of "unbiased"
    over blocks of consecutive rows (an incomplete last one is left out), "linear" the
    same with blocks of two. For binary forecasts the sums over all pairs come exactly
    from one sort and one scan. The two-class form of rows with bandwidth
    sqrt(2) b is twice the binary one with bandwidth b.

    Guarantee: for a bandwidth chosen without looking at the labels (the default is),
    "unbiased", "linear" and "block" have expectation 0 under calibration.
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), rows that sum to 1.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        estimator: which mean of h. Static.
        bandwidth: scale of distances, positive; None for the median distance of two
            forecasts (over 512 of them, evenly spaced in their order, where n is
            larger).
        block_size: rows of a block for "block"; None for sqrt(n). Static.
        weights: shape (n,). A row of weight 2 counts as two rows in "unbiased" and
            "biased"; in "linear" and "block" pairs are weighted by the product.

    Returns:
        scalar; may be negative unless "biased". NaN for "unbiased" with n = 1, and for
        illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, an unknown
            estimator, or a bandwidth that is not positive.

    Transformations: jit, vmap, grad in `probs`, `weights`, `bandwidth` (the default
    bandwidth is taken as constant).
    Cost: O(n log n) for binary forecasts; O(n^2 k) time in tiles of 256 rows for rows
    of probabilities, O(n k) for "linear".

    Source: Widmann, Lindsten and Zachariah, "Calibration tests in multi-class
    classification", NeurIPS 2019. The sorted form for binary forecasts is ours.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.5, 0.5, 0.5]), jnp.array([1, 1, 0])
        >>> error = calibration.kernel_calibration_error(probs, labels, bandwidth=0.2)
        >>> print(f"{error:.4f}")
        -0.0833
    """
    check_choice("estimator", estimator, ESTIMATORS)
    p, c, w = check_forecasts(probs, labels, weights)
    size = block_size_of(estimator, block_size, p.shape[0])
    nu = check_bandwidth(bandwidth, p.dtype)
    if p.shape[0] < size and estimator == "block":
        size = p.shape[0]
    return _estimate(p, c, w, nu, estimator=estimator, size=size)
