"""Partitions of rows or clusters into folds."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Int

from jaxcur._base import is_concrete
from jaxcur.stats import argsort, ranks


def make_folds(
    key: Any,
    num_rows: int,
    *,
    num_folds: int,
    clusters: Int[ArrayLike, " n"] | None = None,
    labeled: Bool[ArrayLike, " n"] | None = None,
) -> Int[Array, " n"]:
    """A random partition of rows, or of whole clusters, into folds.

    Heuristic: no finite-sample guarantee by itself. The numbers of rows (of clusters,
    where given) in two folds differ by at most one. With `labeled` the same holds for
    the labelled rows (the clusters with a labelled row).

    A partition that uses `labeled` depends on which rows were drawn for labelling. Use
    it where a plain one leaves some fold without enough labels to train on.

    Args:
        key: PRNG key.
        num_rows: n. Static.
        num_folds: at least 2, and at most the number of rows or clusters. Static.
        clusters: shape (n,), integer labels; rows of one label share a fold.
        labeled: shape (n,), True where the row has gold labels.

    Returns:
        shape (n,), int32, the fold of each row from 0 to num_folds - 1.

    Raises:
        ValueError: a shape disagrees with `num_rows`, `num_folds` is below 2, or there
            are fewer rows or clusters than folds.
        TypeError: `clusters` does not hold integers.

    Transformations: jit, vmap over everything but the two numbers.
    Cost: O(n log n) time, one sort without clusters and three with them.

    Source: the definition.

    Example:
        >>> import jax
        >>> from jaxcur import debiased
        >>> folds = debiased.make_folds(jax.random.key(0), 7, num_folds=3)
        >>> sorted(folds.tolist())
        [0, 0, 0, 1, 1, 2, 2]
    """
    check_num_folds(num_folds)
    if clusters is not None:
        clusters = as_clusters(clusters, num_rows)
    if labeled is not None:
        labeled = jnp.asarray(labeled)
        if labeled.shape != (num_rows,):
            raise ValueError(
                f"`labeled` must have shape ({num_rows},), got {labeled.shape}"
            )
        labeled = labeled.astype(bool)
    check_enough_units(num_folds, num_rows, clusters)
    return draw_folds(key, clusters, labeled, num_rows=num_rows, num_folds=num_folds)


def check_num_folds(num_folds: Any) -> None:
    """Raise unless the number of folds is an integer of at least 2."""
    is_integer = isinstance(num_folds, (int, np.integer))
    if isinstance(num_folds, bool) or not is_integer or num_folds < 2:
        raise ValueError(
            f"`num_folds` must be an integer of at least 2, got {num_folds!r}"
        )


def as_clusters(clusters: Any, num_rows: int) -> Array:
    """Cluster labels as an integer array (n,)."""
    labels = jnp.asarray(clusters)
    if labels.shape != (num_rows,):
        raise ValueError(
            f"`clusters` must have shape ({num_rows},), got {labels.shape}"
        )
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"`clusters` must hold integers, got dtype {labels.dtype}; number the "
            "labels first, for example with numpy.unique(..., return_inverse=True)"
        )
    return labels


def count_units(num_rows: int, clusters: Array | None) -> int | None:
    """The number of rows or clusters; None where it cannot be known yet."""
    if clusters is None:
        return num_rows
    return len(np.unique(np.asarray(clusters))) if is_concrete(clusters) else None


def check_enough_units(num_folds: int, num_rows: int, clusters: Array | None) -> None:
    """Raise if some fold would be empty."""
    count = count_units(num_rows, clusters)
    if count is not None and count < num_folds:
        units = "rows" if clusters is None else "clusters"
        raise ValueError(
            f"`num_folds` is {num_folds}, but there are only {count} {units} to divide"
        )


def _dense_labels(clusters: Array) -> tuple[Array, Array]:
    """Clusters numbered from 0 in the order of their labels, and how many there are."""
    order = jnp.argsort(clusters)
    ordered = clusters[order]
    is_new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    number = jnp.cumsum(is_new.astype(jnp.int32))
    return jnp.zeros_like(number).at[order].set(number), number[-1] + 1


@jax.jit(static_argnames=("num_rows", "num_folds"))
def draw_folds(
    key: Any,
    clusters: Array | None,
    labeled: Array | None,
    *,
    num_rows: int,
    num_folds: int,
) -> Array:
    """`make_folds` without the checks."""
    if clusters is None and labeled is None:
        return order_to_folds(draw_order(key, num_rows), num_folds)
    draws = jax.random.uniform(key, (num_rows,), jnp.float32)
    numbers, present = None, labeled
    if clusters is not None:
        numbers, count = _dense_labels(clusters)
        # Units beyond the last cluster are no units: they come after all others.
        draws = jnp.where(jnp.arange(num_rows) < count, draws, 4)
        if labeled is not None:
            present = jax.ops.segment_max(labeled.astype(jnp.int32), numbers, num_rows)
            present = present > 0
    if present is not None:
        # Labelled units first: dealt out in turn, they differ by at most one, and so do
        # all units together.
        draws = jnp.where(present, draws, draws + 2)
    fold = (ranks(draws, ties="ordinal") - 1) % num_folds
    return fold if numbers is None else fold[numbers]


def draw_order(key: Any, num_rows: int) -> Array:
    """A random permutation of the rows, int32 (n,)."""
    # Equal float32 draws, a few among many rows, are taken in order of position, which
    # says nothing about the data.
    return argsort(jax.random.uniform(key, (num_rows,), jnp.float32))


def fold_sizes(num_rows: int, num_folds: int) -> np.ndarray:
    """Sizes that differ by at most one, the larger ones first."""
    size, rest = divmod(num_rows, num_folds)
    return size + (np.arange(num_folds) < rest)


def order_to_folds(order: Array, num_folds: int) -> Array:
    """The fold of each row where folds are consecutive blocks along `order`."""
    n = order.shape[0]
    blocks = np.repeat(np.arange(num_folds), fold_sizes(n, num_folds))
    blocks = jnp.asarray(blocks, jnp.int32)
    return jnp.zeros(n, jnp.int32).at[order].set(blocks, unique_indices=True)
