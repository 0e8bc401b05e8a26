"""A Gaussian for each class, robust to wrong labels, and rows drawn from it."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real
from scipy import special

from jaxcur._base import as_float, check_rank, is_concrete, register_dataclass
from jaxcur.calibration._inputs import check_classes, check_weights

# Numbers of the products of rows held at once.
_CHUNK = 1 << 22
# The median absolute deviation of a standard normal number is 1 / this.
_MAD = 1.4826022185056018


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassGaussians:
    """Mean and covariance of the features of each class.

    Attributes:
        mean: shape (k, d); NaN for a class without rows.
        covariance: shape (k, d, d).
        count: shape (k,), weight of the rows of each class, before trimming.
        is_head: shape (k,) bool, False for a class that has borrowed.
        kept: shape (n,) bool, False for a row that was trimmed.
    """

    mean: Array
    covariance: Array
    count: Array
    is_head: Array
    kept: Array

    @property
    def deficit(self) -> Array:
        """Rows that each class lacks beside the largest, (k,)."""
        return jnp.max(self.count, axis=-1, keepdims=True) - self.count

    def sample(
        self, labels: Int[ArrayLike, " m"], *, key: Array
    ) -> Float[Array, "m d"]:
        """One row of features (m, d) for each label (m,), from its class's Gaussian.

        Balanced classes:  labels = np.repeat(np.arange(k), np.asarray(deficit, int)).
        """
        k, d = self.mean.shape
        c, legal = check_classes("labels", labels, k, jnp.asarray(labels), "labels")
        # A covariance without full rank has a root, though no Cholesky factor.
        values, vectors = jnp.linalg.eigh(self.covariance)
        root = vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None, :]
        noise = jax.random.normal(key, (c.shape[0], d), self.mean.dtype)
        drawn = self.mean[c] + jax.vmap(jnp.matmul)(root[c], noise)
        return jnp.where(legal[:, None], drawn, jnp.nan)


def _class_quantile(values: Array, c: Array, w: Array, share: float, k: int) -> Array:
    """Smallest value of each class whose weight share reaches `share`, (k,)."""
    c_sorted, ordered, w = jax.lax.sort((c, values, w), num_keys=2)
    reached = _weight_before(c_sorted, w, k) + w
    total = jax.ops.segment_sum(w, c_sorted, k)
    enough = reached >= share * total[c_sorted] * (1 - 1e-6)
    return jax.ops.segment_min(jnp.where(enough, ordered, jnp.inf), c_sorted, k)


def _weight_before(c_sorted: Array, w: Array, k: int) -> Array:
    """Weight of the rows of the same class that come before, rows sorted by class."""
    total = jax.ops.segment_sum(w, c_sorted, k)
    start = jnp.cumsum(total) - total
    return jnp.cumsum(w) - w - start[c_sorted]


def _smallest(distance: Array, c: Array, w: Array, share: float, k: int) -> Array:
    """True for the rows of each class with the smallest distances, (n,)."""
    place = jnp.arange(c.shape[0], dtype=jnp.int32)
    c_sorted, _, w, place = jax.lax.sort((c, distance, w, place), num_keys=2)
    total = jax.ops.segment_sum(w, c_sorted, k)
    before = _weight_before(c_sorted, w, k)
    kept = before < share * total[c_sorted] * (1 - 1e-6)
    return jnp.zeros_like(kept).at[place].set(kept)


def _moments(x: Array, c: Array, w: Array, k: int) -> tuple[Array, Array]:
    """Weighted mean (k, d) and covariance (k, d, d) of each class."""
    n, d = x.shape
    total = jax.ops.segment_sum(w, c, k)
    total = jnp.where(total > 0, total, jnp.nan)
    mean = jax.ops.segment_sum(w[:, None] * x, c, k) / total[:, None]
    rows = max(min(_CHUNK // (d * d), n), 1)
    pad = -n % rows
    parts = (
        jnp.pad(jnp.where(w[:, None] > 0, x - mean[c], 0), ((0, pad), (0, 0))),
        jnp.pad(c, (0, pad)),
        jnp.pad(w, (0, pad)),
    )
    parts = jax.tree.map(lambda a: a.reshape(-1, rows, *a.shape[1:]), parts)

    def add(sums: Array, part: tuple[Array, Array, Array]) -> tuple[Array, None]:
        r, classes, mass = part
        product = (mass[:, None] * r)[:, :, None] * r[:, None, :]
        return sums + jax.ops.segment_sum(product, classes, k), None

    sums, _ = jax.lax.scan(add, jnp.zeros((k, d, d), x.dtype), parts)
    return mean, sums / total[:, None, None]


def _shrunk(covariance: Array, shrinkage: Array) -> Array:
    """Towards the multiple of the identity with the same trace."""
    d = covariance.shape[-1]
    level = jnp.trace(covariance, axis1=-2, axis2=-1) / d
    eye = jnp.eye(d, dtype=covariance.dtype)
    return (1 - shrinkage) * covariance + shrinkage * level[:, None, None] * eye[None]


def _distances(x: Array, c: Array, mean: Array, covariance: Array) -> Array:
    """Squared Mahalanobis distance of each row to its class, (n,)."""
    d = x.shape[1]
    flat = jnp.trace(covariance, axis1=-2, axis2=-1) <= 0
    eye = jnp.eye(d, dtype=x.dtype)
    precision = jnp.linalg.inv(jnp.where(flat[:, None, None], eye, covariance))

    def one(row: tuple[Array, Array]) -> Array:
        r = row[0] - mean[row[1]]
        return r @ precision[row[1]] @ r

    return jax.lax.map(one, (x, c), batch_size=max(_CHUNK // (d * d), 1))


def _borrowed(own: Array, others: Array, share: Array) -> Array:
    """(1 - share) own + share others, classes along the first axis."""
    share = share.reshape(-1, *(1,) * (own.ndim - 1))
    mixed = (1 - share) * own + share * jnp.where(share > 0, others, 0)
    return jnp.where(share > 0, mixed, own)


@functools.partial(jax.jit, static_argnames=("k", "trim", "num_steps", "num_neighbors"))
def _fit(
    x: Array,
    c: Array,
    w: Array,
    shrinkage: Array,
    head_count: Array | None,
    borrowing: Array,
    *,
    k: int,
    trim: float,
    num_steps: int,
    num_neighbors: int,
) -> ClassGaussians:
    d = x.shape[1]
    share = 1 - trim
    count = jax.ops.segment_sum(w, c, k)
    quantile = functools.partial(_class_quantile, c=c, w=w, share=0.5, k=k)
    middle = jax.vmap(quantile, 1, 1)(x)
    spread = _MAD * jax.vmap(quantile, 1, 1)(jnp.abs(x - middle[c]))
    spread = jnp.where(spread > 0, spread, 1)
    distance = jnp.sum(((x - middle[c]) / spread[c]) ** 2, axis=1)
    # The covariance of a Gaussian cut at this share is smaller by this factor.
    inner = special.gammainc(d / 2 + 1, special.gammaincinv(d / 2, share)) / share

    def estimate(distance: Array) -> tuple[Array, Array, Array]:
        kept = _smallest(distance, c, w, share, k) & (w > 0)
        mean, covariance = _moments(x, c, jnp.where(kept, w, 0), k)
        return kept, mean, _shrunk(covariance / float(inner), shrinkage)

    def again(_: Array, distance: Array) -> Array:
        _, mean, covariance = estimate(distance)
        return _distances(x, c, mean, covariance)

    distance = jax.lax.fori_loop(1, num_steps, again, distance)
    kept, mean, covariance = estimate(distance)
    # Trimming must not hide a row that is not a number.
    bad = jnp.isnan(jnp.sum(x, axis=1)) & (w > 0)
    poison = jax.ops.segment_sum(jnp.where(bad, jnp.nan, 0), c, k).astype(x.dtype)
    mean, covariance = mean + poison[:, None], covariance + poison[:, None, None]
    least = jnp.mean(count) if head_count is None else head_count
    present = count > 0
    head = present & (count >= least * (1 - 1e-6))
    gap = jnp.sum((mean[:, None] - mean[None]) ** 2, axis=-1)
    usable = head[None, :] & ~jnp.eye(k, dtype=bool)
    order = jnp.argsort(jnp.where(usable, gap, jnp.inf), axis=1)[:, :num_neighbors]
    near = jnp.take_along_axis(usable, order, axis=1)
    mass = jnp.where(near, count[order], 0)
    total = jnp.sum(mass, axis=1)
    mass = mass / jnp.where(total > 0, total, 1)[:, None]
    tail = present & ~head & (total > 0)
    # What is borrowed rises from 0 at the size of a head.
    lent = jnp.where(tail, borrowing * (1 - count / jnp.where(tail, least, 1)), 0)
    # The values of classes without rows are NaN and have mass 0.
    safe_mean = jnp.where(present[:, None], mean, 0)
    safe_covariance = jnp.where(present[:, None, None], covariance, 0)
    near_mean = jnp.einsum("kj,kjd->kd", mass, safe_mean[order])
    near_covariance = jnp.einsum("kj,kjde->kde", mass, safe_covariance[order])
    return ClassGaussians(
        mean=_borrowed(mean, near_mean, lent),
        covariance=_borrowed(covariance, near_covariance, lent),
        count=count,
        is_head=head,
        kept=kept,
    )


def _share(name: str, value: Any, *, positive: bool = False) -> None:
    if is_concrete(value):
        low = float(value) > 0 if positive else float(value) >= 0
        if not (low and float(value) <= 1):
            interval = "(0, 1]" if positive else "[0, 1]"
            raise ValueError(f"`{name}` must lie in {interval}, got {value}")


def fit_class_gaussians(
    features: Real[ArrayLike, "n d"],
    labels: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    trim: float = 0.1,
    shrinkage: float | Real[ArrayLike, ""] = 0.1,
    head_count: float | Real[ArrayLike, ""] | None = None,
    num_neighbors: int = 2,
    borrowing: float | Real[ArrayLike, ""] = 0.5,
    num_steps: int = 5,
    weights: Real[ArrayLike, " n"] | None = None,
) -> ClassGaussians:
    """Robust Gaussians of classes whose labels are noisy and whose sizes differ.

    Rows drawn from them balance the classes before a classifier is trained on features
    (of a contrastive representation, say).

    Each class starts at its coordinatewise median and absolute deviation, and then
    `num_steps` times keeps the share 1 - trim of its rows with the smallest Mahalanobis
    distance and takes mean and covariance of those. The covariance is divided by what
    trimming takes off that of a Gaussian, and shrunk towards a multiple of the
    identity. A class of n rows fewer than `head_count` takes the share
    borrowing (1 - n / head_count) of its mean and covariance from the nearest classes
    that have as many.

    Heuristic: no guarantee. Noise of labels up to the share `trim` of a class, far from
    its rows, does not move its mean; without noise the estimates are consistent for
    Gaussian features as shrinkage goes to 0.

    Args:
        features: shape (n, d), finite.
        labels: shape (n,), integers 0..num_classes-1, some of them wrong.
        num_classes: number k of classes. Static.
        trim: share of the rows of each class that is left out, in [0, 1). Static.
        shrinkage: weight of the multiple of the identity, in (0, 1].
        head_count: rows from which on a class stands for itself; None for the mean.
        num_neighbors: nearest head classes that a smaller one borrows from, by distance
            of means, each in proportion to its rows. Static.
        borrowing: most that a smaller class borrows, in [0, 1].
        num_steps: trimming steps, at least 1. Static.
        weights: shape (n,), at least 0; ones when missing. A weight counts rows.

    Returns:
        `ClassGaussians`, with `sample` and the `deficit` of each class.

    Raises:
        ValueError: no rows, unequal lengths, features that are not finite, labels that
            are no class, or an option outside its range.

    Transformations: jit, vmap.
    Cost: O(n d log n + n d^2) for each step, and k inverses.

    Source: after Zhang et al., "When noisy labels meet long tail dilemmas: a
    representation calibration method", ICCV 2023. Details that its abstract does not
    state are ours: the trimming is that of Rousseeuw and Van Driessen, Technometrics
    1999.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> rows = jax.random.normal(jax.random.key(0), (100, 2))
        >>> labels = (jnp.arange(100) >= 80).astype(int)
        >>> found = calibration.fit_class_gaussians(rows, labels, num_classes=2)
        >>> found.deficit
        Array([ 0., 60.], dtype=float32)
        >>> more = found.sample(jnp.ones(60, int), key=jax.random.key(1))
        >>> more.shape
        (60, 2)
    """
    (x,) = as_float(features=features)
    check_rank("features", x, 2, "(n, d)")
    if x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"`features` must hold at least one row, got {x.shape}")
    if is_concrete(x) and not np.isfinite(np.asarray(x)).all():
        raise ValueError("`features` must be finite")
    for name, value in (
        ("num_classes", num_classes),
        ("num_neighbors", num_neighbors),
        ("num_steps", num_steps),
    ):
        if not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"`{name}` must be an integer from 1 on, got {value!r}")
    if not 0 <= trim < 1:
        raise ValueError(f"`trim` must lie in [0, 1), got {trim}")
    _share("shrinkage", shrinkage, positive=True)
    _share("borrowing", borrowing)
    c, legal = check_classes("labels", labels, int(num_classes), x, "features")
    w = check_weights(weights, x, "features")
    if not is_concrete(x, c):
        x = jnp.where(legal[:, None] & jnp.isfinite(x), x, jnp.nan)
    least = None if head_count is None else jnp.asarray(head_count, x.dtype)
    return _fit(
        x,
        c,
        w,
        jnp.asarray(shrinkage, x.dtype),
        least,
        jnp.asarray(borrowing, x.dtype),
        k=int(num_classes),
        trim=float(trim),
        num_steps=int(num_steps),
        num_neighbors=min(int(num_neighbors), int(num_classes)),
    )
