"""Predictions of every row by a learner that has not seen the row's label."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from jaxcur._base import as_float, check_rank, is_concrete
from jaxcur.debiased._cross_fit_ridge import is_suited
from jaxcur.debiased._cross_fit_runs import (
    LEAST_LABELED,
    fit_all,
    fit_on_host,
    fit_ridge,
    training_rows,
)
from jaxcur.debiased._folds import (
    as_clusters,
    check_enough_units,
    check_num_folds,
    count_units,
    draw_folds,
    draw_order,
    order_to_folds,
)
from jaxcur.learners import Learner, Logistic
from jaxcur.learners._compile import run_compiled
from jaxcur.learners._leave_one_out import check_learner, is_on_host


def cross_fit(
    learner: Learner,
    features: Real[ArrayLike, "n d"],
    target: Real[ArrayLike, " n"],
    *,
    labeled: Bool[ArrayLike, " n"],
    sampling_prob: Real[ArrayLike, "..."] | None = None,
    num_folds: int = 5,
    num_splits: int = 1,
    clusters: Int[ArrayLike, " n"] | None = None,
    key: Any = None,
    folds: Int[ArrayLike, "..."] | None = None,
) -> Float[Array, "s n"] | Float[Array, "s n k"]:
    """Cross-fitted predictions of all rows, labelled or not.

    Rows, or whole clusters, are partitioned at random into folds whose sizes differ by
    at most one. The rows of a fold are predicted by the learner fitted to the labelled
    rows of the other folds. `num_splits` repeats this with partitions drawn
    independently; `aggregate_splits` combines the estimates made from each.

    Every fit is handed the labelled rows (all rows while `labeled` is traced); those
    outside its training part have weight 0 and target 0. No prediction can therefore
    depend on the label of its own row or cluster, whatever the learner does with
    weights. A learner whose randomness is tied to places of rows draws differently
    under tracing.

    Guarantee: given the partition, the prediction of a row is a function of the labels
    of other folds alone, so under a known design of labelling, with rows labelled
    independently, the design-adjusted moment built from it is unbiased.
    Verified by: tests/unit/debiased/test_cross_fit.py, by perturbing labels.

    There are fewer folds than asked for where labelled rows or clusters are few: at
    most half the number of labelled rows. A partition that leaves a training part with
    fewer than 2 labelled rows is drawn again, stratified on `labeled`.

    Args:
        learner: any object of the `learners` protocol, on the host or not. One that
            predicts (n, k), probabilities of classes say, gives (num_splits, n, k).
        features: shape (n, d), of all rows.
        target: shape (n,). Entries of unlabeled rows are never read and may be NaN.
        labeled: shape (n,), bool; True where `target` is known.
        sampling_prob: scalar or shape (n,), in (0, 1]. When given, training rows have
            the weight 1 / sampling_prob, and penalties are relative to these weights;
            ones when missing.
        num_folds: at least 2. Static.
        num_splits: number of partitions. Static.
        clusters: shape (n,), integer labels; a cluster is never divided.
        key: PRNG key; draws the partitions and is passed on to the learner. Not needed
            with `folds` unless the learner's fit is randomised.
        folds: shape (num_splits, n) or (n,), integers; the partitions themselves. With
            them `num_splits` is their number. Traced folds lie between 0 and
            `num_folds` - 1.

    Returns:
        shape (num_splits, n), or (num_splits, n, k). Under tracing, NaN where the
        training part has fewer than 2 labelled rows.

    Raises:
        ValueError: shapes disagree, features that are not finite, no labelled row, too
            few to train on, a target of a labelled row that is not finite (for
            `Logistic`, outside [0, 1]), a probability outside (0, 1], neither key nor
            folds, or folds that divide a cluster.
        TypeError: `learner` does not follow the protocol, or one on the host is called
            under a transformation.

    Transformations: jit and vmap over the data and the key, except for learners on the
    host. Under tracing folds are not drawn again, and their number is not reduced.
    Cost: num_splits * num_folds fits, each on the labelled rows, and as many
    predictions of n rows, in one program; memory for as many at once as keep it near
    2^24 numbers. Ridge regression with up to 64 columns makes one pass over the data
    for all fits of a split, except with `folds` or `clusters`.

    Source: Chernozhukov et al., "Double/debiased machine learning", Econometrics
    Journal 2018; Egami, Hinck, Stewart and Wei, "Using Imperfect Surrogates for
    Downstream Inference", NeurIPS 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased, learners
        >>> x = jnp.arange(6.0)[:, None]
        >>> y = jnp.array([0.0, 1.0, 2.0, 3.0, jnp.nan, jnp.nan])
        >>> debiased.cross_fit(
        ...     learners.Ridge(0.0), x, y, labeled=jnp.isfinite(y),
        ...     folds=jnp.array([0, 1, 0, 1, 0, 1])).round(2) + 0.0
        Array([[0., 1., 2., 3., 4., 5.]], dtype=float32)
    """
    check_learner(learner)
    features, target, weights = _prepare(features, target, labeled, sampling_prob)
    if isinstance(learner, Logistic) and is_concrete(target):
        # The fits are traced, where a learner cannot look at its target.
        host = np.asarray(target)
        if not ((host >= 0) & (host <= 1)).all():
            raise ValueError(
                "`target` must lie in [0, 1] for logistic regression where `labeled` "
                f"is True, got values from {host.min()} to {host.max()}"
            )
    n = features.shape[0]
    # What is known of the labels decides on the folds: as NumPy arrays, because inside
    # a trace jnp makes tracers even of constants.
    marked = np.asarray(labeled) != 0 if is_concrete(labeled) else None
    if clusters is not None:
        clusters = as_clusters(clusters, n)
    check_num_folds(num_folds)
    if isinstance(num_splits, bool) or not isinstance(num_splits, int):
        raise TypeError(f"`num_splits` must be an integer, got {num_splits!r}")
    if num_splits < 1:
        raise ValueError(f"`num_splits` must be positive, got {num_splits}")
    if folds is None:
        if key is None:
            raise ValueError(
                "cross-fitting draws folds: pass `key=jax.random.key(...)`, "
                "or the draw itself as `folds`"
            )
        key_folds, key_fit = jax.random.split(key)
        places, orders, count = _draw(
            key_folds, marked, clusters, int(num_folds), num_splits, n
        )
    else:
        key_fit, orders = key, None
        places, count = _given(folds, marked, clusters, int(num_folds), num_splits, n)

    if is_on_host(learner):
        return fit_on_host(learner, features, target, weights, places, key_fit)
    function: Any = fit_all
    arrays: tuple[Any, ...]
    if orders is not None and is_suited(learner, features.shape[1]):
        function, arrays = fit_ridge, (features, target, weights, orders)
    else:
        rows = None if marked is None else training_rows(marked)
        arrays = (features, target, weights, places, rows, key_fit)
    if not is_concrete(features, target, weights, places):
        # Part of the caller's program, where the learner's numbers may be constants.
        return function(learner, *arrays, num_folds=count)
    return run_compiled(function, learner, *arrays, num_folds=count)


def _prepare(
    features: Any, target: Any, labeled: Any, sampling_prob: Any
) -> tuple[Array, Array, Array]:
    """Features, targets with 0 where unknown, and training weights."""
    features, target = as_float(features=features, target=target)
    check_rank("features", features, 2, "(n, d)")
    check_rank("target", target, 1)
    n = features.shape[0]
    for name, value in (("target", target), ("labeled", labeled)):
        if np.shape(value) != (n,):
            raise ValueError(
                f"`{name}` must have shape ({n},), one entry for each row of "
                f"`features`, got {np.shape(value)}"
            )
    if is_concrete(features) and not np.isfinite(np.asarray(features)).all():
        count = int((~np.isfinite(np.asarray(features)).all(axis=1)).sum())
        raise ValueError(
            f"`features` must be finite in all rows, got {count} rows that are not; "
            "every row is predicted, labelled or not"
        )
    if is_concrete(labeled):
        _check_labeled(np.asarray(labeled), target)
    marked = jnp.asarray(labeled).astype(bool)
    target = jnp.where(marked, target, 0)
    if sampling_prob is None:
        return features, target, marked.astype(features.dtype)
    (probability,) = as_float(sampling_prob=sampling_prob)
    if probability.shape not in ((), (n,)):
        raise ValueError(
            f"`sampling_prob` must be a scalar or have shape ({n},), got "
            f"{probability.shape}"
        )
    if is_concrete(probability):
        host = np.asarray(probability)
        bad = int((~((host > 0) & (host <= 1))).sum())
        if bad:
            raise ValueError(
                f"`sampling_prob` must lie in (0, 1], got {bad} of {host.size} that do "
                "not"
            )
    legal = (probability > 0) & (probability <= 1)
    inverse = jnp.where(legal, 1 / jnp.where(legal, probability, 1), jnp.nan)
    weights = jnp.where(marked, inverse.astype(features.dtype), 0)
    return features, target, weights


def _check_labeled(labeled: np.ndarray, target: Array) -> None:
    if not np.isin(labeled, (0, 1)).all():
        raise ValueError("`labeled` must hold True and False (or 1 and 0) only")
    if not labeled.any():
        raise ValueError(
            "no labelled rows: `labeled` is False everywhere, so there is nothing to "
            "learn from"
        )
    if is_concrete(target):
        known = np.asarray(target)[labeled != 0]
        bad = int((~np.isfinite(known)).sum())
        if bad:
            raise ValueError(
                f"`target` must be finite where `labeled` is True, got {bad} of "
                f"{known.size} that are not"
            )


def _labeled_outside(places: np.ndarray, marked: np.ndarray) -> np.ndarray:
    """How many labelled rows lie outside each fold."""
    inside = np.bincount(places, weights=marked)
    return inside.sum() - inside


def _draw(
    key: Any,
    marked: np.ndarray | None,
    clusters: Array | None,
    num_folds: int,
    num_splits: int,
    n: int,
) -> tuple[Array, Array | None, int]:
    """Partitions (num_splits, n), the permutations behind them, the number of folds."""
    if marked is not None:
        # At least two labelled rows in each fold, on average.
        num_folds = min(num_folds, max(2, int(marked.sum()) // 2))
    units = count_units(n, clusters)
    if units is not None:
        num_folds = min(num_folds, max(2, units))
    check_enough_units(num_folds, n, clusters)
    index = jnp.arange(num_splits)
    places, orders = _draw_all(key, index, clusters, num_rows=n, num_folds=num_folds)
    if marked is None or not is_concrete(places):
        return places, orders, num_folds
    rows = np.array(places)
    for s in range(num_splits):
        if _labeled_outside(rows[s], marked).min() >= LEAST_LABELED:
            continue
        own = jax.random.fold_in(key, s)
        strata = jnp.asarray(marked)
        rows[s] = np.asarray(
            draw_folds(own, clusters, strata, num_rows=n, num_folds=num_folds)
        )
        orders = None
        left = int(_labeled_outside(rows[s], marked).min())
        if left < LEAST_LABELED:
            raise ValueError(_too_few(left, marked, clusters))
    return jnp.asarray(rows), orders, num_folds


@jax.jit(static_argnames=("num_rows", "num_folds"))
def _draw_all(key, index, clusters, *, num_rows, num_folds):
    def one(split: Array) -> tuple[Array, Array | None]:
        own = jax.random.fold_in(key, split)
        if clusters is None:
            order = draw_order(own, num_rows)
            return order_to_folds(order, num_folds), order
        places = draw_folds(own, clusters, None, num_rows=num_rows, num_folds=num_folds)
        return places, None

    if index.shape == (1,):
        return jax.tree.map(lambda leaf: leaf[None], one(index[0]))
    return jax.vmap(one)(index)


def _too_few(left: int, marked: np.ndarray, clusters: Array | None) -> str:
    total = int(marked.sum())
    where = ""
    if clusters is not None:
        count = len(np.unique(np.asarray(clusters)[marked]))
        where = f" in {count} cluster{'s' * (count != 1)}"
    return (
        f"`labeled` marks {total} labelled row{'s' * (total != 1)}{where}; however "
        f"they are divided, some fold is left with {left} to train on, and at least "
        f"{LEAST_LABELED} are needed"
    )


def _given(
    folds: Any,
    marked: np.ndarray | None,
    clusters: Array | None,
    num_folds: int,
    num_splits: int,
    n: int,
) -> tuple[Array, int]:
    """The partitions given, numbered from 0, and the number of folds."""
    places = np.asarray(folds) if is_concrete(folds) else folds
    if not jnp.issubdtype(places.dtype, jnp.integer):
        raise TypeError(f"`folds` must hold integers, got dtype {places.dtype}")
    if places.ndim == 1:
        places = places[None]
    if places.ndim != 2 or places.shape[1] != n or places.shape[0] == 0:
        raise ValueError(
            f"`folds` must have shape (num_splits, {n}), got {jnp.shape(folds)}"
        )
    if num_splits not in (1, places.shape[0]):
        raise ValueError(
            f"`num_splits` is {num_splits}, but `folds` holds {places.shape[0]}"
        )
    if not is_concrete(places):
        return jnp.asarray(places, jnp.int32), num_folds
    if places.min(initial=0) < 0:
        raise ValueError(f"`folds` must not be negative, got {places.min()}")
    names, numbered = np.unique(places, return_inverse=True)
    numbered = numbered.reshape(places.shape).astype(np.int32)
    if is_concrete(clusters):
        for row in numbered:
            _check_whole(row, clusters)
    if marked is not None:
        for row in numbered:
            left = _labeled_outside(row, marked)[np.unique(row)]
            if left.min() < LEAST_LABELED:
                fold = names[np.unique(row)[left.argmin()]]
                raise ValueError(
                    f"`folds` leave {int(left.min())} labelled rows outside fold "
                    f"{fold} to train on, and at least {LEAST_LABELED} are needed"
                )
    return jnp.asarray(numbered), len(names)


def _check_whole(places: np.ndarray, clusters: Array | None) -> None:
    if clusters is None:
        return
    labels = np.asarray(clusters)
    _, first, number = np.unique(labels, return_index=True, return_inverse=True)
    divided = places != places[first][number]
    if divided.any():
        raise ValueError(
            f"`folds` must keep clusters together, but divide cluster "
            f"{labels[divided][0]}"
        )
