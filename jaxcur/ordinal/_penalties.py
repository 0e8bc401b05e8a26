"""Penalties: which blocks are shrunk, and how coefficients are made of them.

Coefficients of boundary k are a sum of blocks,  beta_k = sum_l T[k, l] psi_l,  and the
penalty of strength lambda is

    lambda sum_l sum_j c_lj ( a |psi_lj| + (1 - a)/2 psi_lj^2 ).

A penalty is a matrix T, weights c and the blocks that may differ from zero.
"""

import dataclasses
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcur._base import is_concrete


class Blocks(NamedTuple):
    """What a penalty means for m boundaries and p features.

    Attributes:
        matrix: (m, L), the map T from blocks to boundaries. NumPy.
        weights: (L, p), the factors c, at least 0.
        free: (L, p) bool; False keeps an entry at zero. NumPy.
        l1_ratio: scalar a, share of the absolute values.
        grouped: the entries of a feature in all blocks but the first are penalised by
            their norm; their factors agree.
        positive: (L, p) bool, True keeps an entry at or above zero. NumPy, or None.
    """

    matrix: np.ndarray
    weights: Array
    free: np.ndarray
    l1_ratio: Array
    grouped: bool = False
    positive: np.ndarray | None = None


class Penalty(Protocol):
    """Anything that turns into `Blocks`."""

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """Matrix, weights and free entries for m boundaries and p features."""
        ...


def check_nonnegative(name: str, value: Any) -> None:
    if is_concrete(value):
        host = np.asarray(value)
        if not (np.isfinite(host) & (host >= 0)).all():
            raise ValueError(f"`{name}` must be finite and at least 0, got {value}")


def _check_ratio(value: Any) -> None:
    if is_concrete(value) and not 0 <= float(value) <= 1:
        raise ValueError(f"`l1_ratio` must lie in [0, 1], got {value}")


def _weights(weights: Any, m: int, p: int, dtype: Any) -> Array:
    if weights is None:
        return jnp.ones((m, p), dtype)
    array = jnp.asarray(weights, dtype)
    if array.shape not in ((p,), (m, p)):
        raise ValueError(
            f"`weights` of the penalty must have shape ({p},) or ({m}, {p}), "
            f"got {array.shape}"
        )
    return jnp.broadcast_to(array, (m, p))


@dataclasses.dataclass(frozen=True, eq=False)
class Presto:
    """Shrink every boundary towards its neighbour: towards proportional odds.

    Blocks are  psi_1 = beta_1  and the differences  psi_k = beta_k - beta_{k-1}.

    Heuristic: no finite-sample guarantee on the predictions; the fit is certified by
    the residual and the gap that come with it.

    Args:
        first: multiplier of the penalty of beta_1. 1 is the published method; 0
            shrinks differences only.
        l1_ratio: share of absolute values; 0 is a ridge on the differences.
        weights: shape (p,), or (k-1, p) for each boundary, factors of the penalty; 0
            leaves an entry unpenalised. None means 1.
        positive: shape (p,), or (k-1, p), booleans; True keeps psi at or above zero: of
            beta_1, and of the differences. None means nowhere. Static.

    Raises:
        ValueError: a negative or infinite factor, or `l1_ratio` outside [0, 1].
        TypeError: `positive` is not boolean.

    Source: Faletto and Bien, "Predicting rare events by shrinking towards proportional
    odds", ICML 2023.

    Example:
        >>> from jaxcur import ordinal
        >>> ordinal.Presto(first=0.0).l1_ratio
        1.0
    """

    first: Any = 1.0
    l1_ratio: Any = 1.0
    weights: ArrayLike | None = None
    positive: Any = None

    def __post_init__(self) -> None:
        check_nonnegative("first", self.first)
        _check_ratio(self.l1_ratio)
        if self.weights is not None:
            check_nonnegative("weights", self.weights)
        if self.positive is not None:
            if np.asarray(self.positive).dtype != np.bool_:
                raise TypeError(
                    "`positive` must hold booleans, "
                    f"got dtype {np.asarray(self.positive).dtype}"
                )

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """Lower triangle of ones."""
        weights = _weights(self.weights, m, p, dtype)
        weights = weights.at[0].multiply(jnp.asarray(self.first, dtype))
        matrix = np.tril(np.ones((m, m)))
        ratio = jnp.asarray(self.l1_ratio, dtype)
        free = np.ones((m, p), bool)
        positive = None
        if self.positive is not None:
            positive = np.asarray(self.positive)
            if positive.shape not in ((p,), (m, p)):
                raise ValueError(
                    f"`positive` must have shape ({p},) or ({m}, {p}), "
                    f"got {positive.shape}"
                )
            positive = np.broadcast_to(positive, (m, p))
        return Blocks(matrix, weights, free, ratio, positive=positive)


@dataclasses.dataclass(frozen=True)
class Parallel:
    """One coefficient vector for all boundaries, shrunk to zero.

    Heuristic: no finite-sample guarantee on the predictions. At strength 0 it is the
    proportional odds model.

    Args:
        l1_ratio: share of absolute values.

    Example:
        >>> from jaxcur import ordinal
        >>> ordinal.Parallel()
        Parallel(l1_ratio=1.0)
    """

    l1_ratio: Any = 1.0

    def __post_init__(self) -> None:
        _check_ratio(self.l1_ratio)

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """One block that every boundary shares."""
        ratio = jnp.asarray(self.l1_ratio, dtype)
        ones = jnp.ones((1, p), dtype)
        return Blocks(np.ones((m, 1)), ones, np.ones((1, p), bool), ratio)


@dataclasses.dataclass(frozen=True)
class NonParallel:
    """A coefficient vector for each boundary, each shrunk to zero on its own.

    Heuristic: no finite-sample guarantee on the predictions.

    Args:
        l1_ratio: share of absolute values.

    Example:
        >>> from jaxcur import ordinal
        >>> ordinal.NonParallel()
        NonParallel(l1_ratio=1.0)
    """

    l1_ratio: Any = 1.0

    def __post_init__(self) -> None:
        _check_ratio(self.l1_ratio)

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """The identity."""
        ratio = jnp.asarray(self.l1_ratio, dtype)
        return Blocks(np.eye(m), jnp.ones((m, p), dtype), np.ones((m, p), bool), ratio)


@dataclasses.dataclass(frozen=True)
class SemiParallel:
    """A common vector plus a deviation for each boundary, all shrunk to zero.

    beta_k = b + d_k  with penalty  rho |b| + sum_k |d_k|. More parameters than
    coefficients: the split between b and d_k is that of least penalty.

    Heuristic: no finite-sample guarantee on the predictions.

    Args:
        rho: multiplier of the penalty of the common vector.
        l1_ratio: share of absolute values.

    Source: Wurm, Rathouz and Hanlon, "Regularized ordinal regression and the ordinalNet
    R package", JSS 2021.

    Example:
        >>> from jaxcur import ordinal
        >>> ordinal.SemiParallel(0.5).rho
        0.5
    """

    rho: Any = 1.0
    l1_ratio: Any = 1.0

    def __post_init__(self) -> None:
        check_nonnegative("rho", self.rho)
        _check_ratio(self.l1_ratio)

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """A column of ones beside the identity."""
        matrix = np.concatenate([np.ones((m, 1)), np.eye(m)], axis=1)
        weights = jnp.ones((m + 1, p), dtype)
        weights = weights.at[0].multiply(jnp.asarray(self.rho, dtype))
        ratio = jnp.asarray(self.l1_ratio, dtype)
        return Blocks(matrix, weights, np.ones((m + 1, p), bool), ratio)


@dataclasses.dataclass(frozen=True, eq=False)
class Partial:
    """Chosen features proportional, the others free at every boundary.

    The common coefficient of a proportional feature is penalised, those of the other
    features are not; at strength 0 it is the partial proportional odds model.

    Heuristic: no finite-sample guarantee on the predictions.

    Args:
        parallel_mask: shape (p,), True where one coefficient serves all boundaries.

    Raises:
        ValueError: the mask has the wrong length.
        TypeError: the mask is not boolean.

    Source: Peterson and Harrell, "Partial proportional odds models for ordinal response
    variables", 1990.

    Example:
        >>> from jaxcur import ordinal
        >>> ordinal.Partial([True, False]).parallel_mask
        [True, False]
    """

    parallel_mask: Any

    def __post_init__(self) -> None:
        if np.asarray(self.parallel_mask).dtype != np.bool_:
            raise TypeError(
                "`parallel_mask` must hold booleans, "
                f"got dtype {np.asarray(self.parallel_mask).dtype}"
            )

    def blocks(self, m: int, p: int, dtype: Any) -> Blocks:
        """Differences, those of proportional features held at zero."""
        mask = np.asarray(self.parallel_mask)
        if mask.shape != (p,):
            raise ValueError(
                f"`parallel_mask` must have shape ({p},), got {mask.shape}"
            )
        free = np.ones((m, p), bool)
        free[1:, mask] = False
        weights = jnp.broadcast_to(jnp.asarray(mask, dtype), (m, p))
        ratio = jnp.ones((), dtype)
        return Blocks(np.tril(np.ones((m, m))), weights, free, ratio)
