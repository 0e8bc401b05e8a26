"""Nearest neighbours and kernel averages; leave-one-out masks the row itself."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import register_dataclass
from jaxcur.learners._distances import exact_squared_distances, over_tiles
from jaxcur.learners._protocol import check_callable, prepare, prepare_new
from jaxcur.learners._tree import kernel_learner


class MemoryParams(NamedTuple):
    """The training rows themselves.

    Attributes:
        features: shape (n, d).
        target: shape (n,).
        weights: shape (n,).
    """

    features: Array
    target: Array
    weights: Array


@register_dataclass
@dataclasses.dataclass(frozen=True)
class KNN:
    """Mean target of the k nearest rows in Euclidean distance.

    Ties at the k-th distance share what is left of the k places equally, so that the
    prediction does not depend on the order of the rows. Without ties this is the usual
    rule. A row of weight w fills w places; where all rows together fill fewer than k,
    all of them are used.

    Features are compared as they are: bring them to a common scale first.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows, which is what conformal selection needs of it.

    Args:
        k: number of neighbours, a positive integer. Static.

    Raises:
        ValueError: `k` is not a positive integer.

    Transformations: jit, vmap over the data. grad only with respect to the target.
    Cost: O(n m d) time for m predictions (m = n for leave-one-out); rows are visited in
    tiles, so memory is O(n d) and not O(n m).

    Source: Stone, "Consistent nonparametric regression", Annals of Statistics 1977, for
    the sharing of ties.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0], [5.0]])
        >>> learners.KNN(1).leave_one_out(x, jnp.array([1.0, 2.0, 4.0, 8.0]))
        Array([2. , 2.5, 2. , 4. ], dtype=float32)
    """

    k: int = dataclasses.field(metadata={"static": True})

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"`k` must be a positive integer, got {self.k!r}")

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> MemoryParams:
        """Keep the rows; `key` is not used."""
        return MemoryParams(*prepare(features, target, weights))

    def predict(
        self, params: MemoryParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """Predictions at the rows of `features`."""
        rows = params.features
        features = prepare_new(features, rows.shape[1], rows.dtype)
        return _nearest(params, features, k=self.k, leave_out=False)

    def leave_one_out(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """For each row, the mean target of its k nearest other rows."""
        params = self.fit(features, target, weights)
        return _nearest(params, params.features, k=self.k, leave_out=True)


def _tile_weights(weights: Array, index: Array, leave_out: bool) -> Array:
    """Weights (tile, n), with each tile row's own entry removed."""
    if not leave_out:
        return jnp.broadcast_to(weights, (index.shape[0], weights.shape[0]))
    own = index[:, None] == jnp.arange(weights.shape[0])[None, :]
    return jnp.where(own, 0, weights)


def _smallest_reaching(distances: Array, weights: Array, mass: Array) -> Array:
    """Per row, the smallest distance t with weight of {distance <= t} at least `mass`.

    Bisection on the bit pattern, which orders nonnegative floats: 31 counting passes
    over a tile cost a tenth of sorting it on a CPU, and weights need nothing more.
    """
    dtype = distances.dtype
    bits = jnp.finfo(dtype).bits
    integer = jnp.int32 if bits == 32 else jnp.int64
    codes = jax.lax.bitcast_convert_type(distances, integer)
    low = jnp.full(distances.shape[:1], -1, integer)
    high = jnp.max(codes, axis=1)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        reached = jnp.sum(jnp.where(codes <= middle[:, None], weights, 0), axis=1)
        enough = reached >= mass
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    _, high = jax.lax.fori_loop(0, bits, halve, (low, high))
    return jax.lax.bitcast_convert_type(high, dtype)


@jax.jit(static_argnames=("k", "leave_out"))
def _nearest(params, queries, *, k, leave_out):
    rows, target, weights = params
    dtype = queries.dtype
    rows = rows.astype(dtype)

    def tile(part: Array, index: Array) -> Array:
        distances = exact_squared_distances(part, rows)
        counted = _tile_weights(weights, index, leave_out)
        total = jnp.sum(counted, axis=1)
        # The slack keeps sums such as 1/3 + 1/3 + 1/3 from missing a whole place.
        places = jnp.minimum(k, total) * (1 - 16 * jnp.finfo(dtype).eps)
        edge = _smallest_reaching(distances, counted, places)[:, None]
        near = jnp.where(distances < edge, counted, 0)
        tied = jnp.where(distances == edge, counted, 0)
        near_mass = jnp.sum(near, axis=1)
        tied_mass = jnp.sum(tied, axis=1)
        share = jnp.minimum(k - near_mass, tied_mass)
        labels = target[None, :]
        tied_sum = jnp.sum(tied * labels, axis=1)
        summed = jnp.sum(near * labels, axis=1) + tied_sum * share / tied_mass
        return summed / (near_mass + share)

    return over_tiles(tile, queries, rows.shape[0])


@kernel_learner("kernel")
@dataclasses.dataclass(frozen=True)
class NadarayaWatson:
    """Kernel-weighted mean of the target.

    Predicts  sum_i w_i kernel(x, x_i) y_i / sum_i w_i kernel(x, x_i). Where every
    kernel value underflows to 0, the overall weighted mean is predicted.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows, which is what conformal selection needs of it.

    Args:
        kernel: callable `kernel(a, b) -> matrix` with nonnegative entries, for example
            `learners.RBF(1.0)`. Traced where it is a pytree, static otherwise.

    Raises:
        TypeError: `kernel` is not callable.

    Transformations: jit, vmap and grad, over the data and over the learner itself.
    Cost: O(n m d) time; rows are visited in tiles, so memory is O(n d).

    Source: Nadaraya, "On estimating regression", 1964; Watson, "Smooth regression
    analysis", 1964.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> learner = learners.NadarayaWatson(learners.RBF(1.0))
        >>> x = jnp.array([[0.0], [1.0], [2.0]])
        >>> learner.leave_one_out(x, jnp.array([0.0, 1.0, 4.0])).round(2)
        Array([1.14, 2.  , 0.95], dtype=float32)
    """

    kernel: Callable[[Any, Any], Any]

    def __post_init__(self) -> None:
        check_callable("kernel", self.kernel)

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> MemoryParams:
        """Keep the rows; `key` is not used."""
        return MemoryParams(*prepare(features, target, weights))

    def predict(
        self, params: MemoryParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """Predictions at the rows of `features`."""
        rows = params.features
        features = prepare_new(features, rows.shape[1], rows.dtype)
        return _average(self, params, features, leave_out=False)

    def leave_one_out(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """For each row, the kernel average over the other rows."""
        params = self.fit(features, target, weights)
        return _average(self, params, params.features, leave_out=True)


@jax.jit(static_argnames=("leave_out",))
def _average(learner, params, queries, *, leave_out):
    rows, target, weights = params
    total = jnp.sum(weights)
    weighted = jnp.sum(weights * target)

    def tile(part: Array, index: Array) -> Array:
        values = learner.kernel(part, rows)
        values = values * _tile_weights(weights, index, leave_out)
        mass = jnp.sum(values, axis=1)
        summed = jnp.sum(values * target[None, :], axis=1)
        if leave_out:
            left = total - weights[index]
            mean = jnp.where(
                left > 0, weighted - weights[index] * target[index], jnp.nan
            ) / jnp.where(left > 0, left, 1)
        else:
            mean = weighted / total
        # A mass of NaN is not 0 and stays NaN.
        empty = mass == 0
        return jnp.where(empty, mean, summed / jnp.where(empty, 1, mass))

    return over_tiles(tile, queries, rows.shape[0])
