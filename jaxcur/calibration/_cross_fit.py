"""Cross-fitted recalibration, and one-against-the-rest for several classes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    is_concrete,
    register_dataclass,
)
from jaxcur.calibration._calibrator import new_input
from jaxcur.calibration._inputs import check_classes, check_weights


@register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossFitResult:
    """Out-of-fold probabilities and the maps that gave them.

    It is itself a calibrator: on new input it gives the mean of the maps.

    Attributes:
        probs: shape (n,) or (n, k), each row by the map that was fitted without it.
        calibrators: the maps, stacked along a leading axis of num_folds.
        folds: shape (n,) int32.
    """

    probs: Array
    calibrators: Any
    folds: Array

    def __call__(self, scores: Real[ArrayLike, "m ..."]) -> Float[Array, "m ..."]:
        """The mean of the maps at new input."""
        found = jax.vmap(lambda calibrator: calibrator(scores))(self.calibrators)
        return jnp.mean(found, axis=0)


def cross_fit(
    fit: Callable[..., Any],
    scores: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    num_folds: int = 5,
    folds: Int[ArrayLike, " n"] | None = None,
    key: Array | None = None,
) -> CrossFitResult:
    """Recalibrate each row by a map fitted on the other folds.

    The fits are one mapped program: a row has weight 0 in the fit that must not see it.

    Heuristic: no finite-sample guarantee on the probabilities; but no row has been
    seen by the map that gave its probability.

    Args:
        fit: a function (scores, labels, weights=...) that gives a calibrator, such as
            `fit_platt`, or a `functools.partial` of one with options.
        scores: what `fit` takes, n rows.
        labels: shape (n,).
        weights: shape (n,), at least 0; ones when missing.
        num_folds: at least 2 (static).
        folds: shape (n,), integers 0..num_folds-1, the fold of each row.
        key: PRNG key for random folds of nearly equal size; either this or `folds`.

    Returns:
        The probabilities and the maps, which together are a calibrator.

    Raises:
        ValueError: neither or both of `key` and `folds`, fewer than 2 folds, folds out
            of range, or unequal lengths.

    Transformations: jit, vmap.
    Cost: `num_folds` fits.

    Source: Platt 1999, section 2.1; Kull et al. 2019 for the mean of the maps.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> s = jnp.array([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
        >>> y = jnp.array([0, 0, 1, 0, 1, 1])
        >>> folds = jnp.array([0, 1, 0, 1, 0, 1])
        >>> result = calibration.cross_fit(
        ...     calibration.fit_platt, s, y, num_folds=2, folds=folds
        ... )
        >>> result.probs.shape
        (6,)
    """
    if not isinstance(num_folds, int) or num_folds < 2:
        raise ValueError(f"`num_folds` must be an integer from 2 on, got {num_folds!r}")
    if (key is None) == (folds is None):
        raise ValueError("exactly one of `key` and `folds` is needed")
    (table,) = as_float(scores=scores)
    w = check_weights(weights, table, "scores")
    n = table.shape[0]
    if folds is None:
        assert key is not None
        place = jnp.arange(n, dtype=jnp.int32) % num_folds
        fold = jax.random.permutation(key, place)
    else:
        fold = jnp.asarray(folds)
        check_rank("folds", fold, 1)
        check_same_length("scores", table, "folds", fold)
        if is_concrete(fold):
            host = np.asarray(fold)
            if host.min() < 0 or host.max() >= num_folds:
                raise ValueError(
                    f"`folds` must lie in 0..{num_folds - 1}, "
                    f"got values from {host.min()} to {host.max()}"
                )
        fold = fold.astype(jnp.int32)

    def one(number: Array) -> tuple[Any, Array]:
        calibrator = fit(table, labels, weights=jnp.where(fold == number, 0, w))
        return calibrator, calibrator(table)

    calibrators, found = jax.vmap(one)(jnp.arange(num_folds, dtype=jnp.int32))
    probs = found[fold, jnp.arange(n)]
    return CrossFitResult(probs=probs, calibrators=calibrators, folds=fold)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class OneVsRestCalibrator:
    """A binary calibrator for each class, the results divided by their sum.

    Attributes:
        calibrators: the binary maps, stacked along a leading axis of k.
    """

    calibrators: Any

    def __call__(self, scores: Real[ArrayLike, "m k"]) -> Float[Array, "m k"]:
        """Probabilities (m, k): rows that sum to 1, uniform where all maps give 0."""
        first = jax.tree.leaves(self.calibrators)[0]
        table = new_input("scores", scores, first, 2, first.shape[0])
        found = jax.vmap(lambda one, column: one(column), in_axes=(0, 1), out_axes=1)(
            self.calibrators, table
        )
        total = jnp.sum(found, axis=1, keepdims=True)
        uniform = 1 / found.shape[1]
        return jnp.where(total == 0, uniform, found / jnp.where(total == 0, 1, total))


def fit_one_vs_rest(
    fit: Callable[..., Any],
    scores: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> OneVsRestCalibrator:
    """Recalibrate several classes by one binary map for each.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        fit: a binary fit (scores, labels, weights=...), such as `fit_isotonic`.
        scores: shape (n, k): the kind of input of `fit` in each column.
        labels: shape (n,), integers 0..k-1.
        weights: shape (n,), at least 0; ones when missing.

    Returns:
        A calibrator of scores (m, k).

    Raises:
        ValueError: unequal lengths, labels out of range, or illegal weights.

    Transformations: jit, vmap.
    Cost: k fits, in one mapped program.

    Source: Zadrozny and Elkan, KDD 2002.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([[0.8, 0.2], [0.6, 0.4], [0.3, 0.7], [0.1, 0.9]])
        >>> labels = jnp.array([0, 0, 1, 1])
        >>> calibrator = calibration.fit_one_vs_rest(
        ...     calibration.fit_isotonic, probs, labels
        ... )
        >>> calibrator(probs[:1])
        Array([[1., 0.]], dtype=float32)
    """
    (table,) = as_float(scores=scores)
    check_rank("scores", table, 2, "(n, k)")
    k = table.shape[1]
    classes, legal = check_classes("labels", labels, k, table, "scores")
    w = check_weights(weights, table, "scores")
    numbers = jnp.arange(k, dtype=jnp.int32)

    def one(number: Array, column: Array) -> Any:
        own = (classes == number).astype(table.dtype)
        # An illegal label must not pass for one of the rest.
        own = jnp.where(legal, own, jnp.nan)
        return fit(column, own, weights=w)

    return OneVsRestCalibrator(jax.vmap(one, in_axes=(0, 1))(numbers, table))
