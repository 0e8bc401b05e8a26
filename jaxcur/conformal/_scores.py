"""Conformity scores for selection: small means evidence for a large label.

A score V(x, y) must not decrease in y. Calibration rows use their true label, test rows
the threshold c they are to exceed, so the two sides are two methods.
"""

import dataclasses
import math

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float


def _broadcast(reference: str, **named: ArrayLike) -> tuple[Array, ...]:
    arrays = dict(zip(named, as_float(**named), strict=True))
    shape = arrays[reference].shape
    for name, array in arrays.items():
        if array.shape not in ((), shape):
            raise ValueError(
                f"`{name}` must be a scalar or have the shape {shape} of "
                f"`{reference}`, got {array.shape}"
            )
    return tuple(jnp.broadcast_to(array, shape) for array in arrays.values())


def _check_bound(bound: float) -> None:
    if not bound > 0:
        raise ValueError(f"`bound` must be positive, got {bound}")


@dataclasses.dataclass(frozen=True)
class ClipScore:
    """Clipped residual: `bound` if y > c, else c - prediction.

    A calibration row above its threshold can then never count against a test row, which
    gives the most powerful of the valid scores built on a point prediction. With the
    null true, test and calibration scores are exchangeable exactly; selection after
    model search and the weighted, randomised form need that.

    Attributes:
        bound: score added for y > c. inf (default) is exact; a finite value such as
            1000 reproduces published code: bound - prediction.

    Example:
        >>> from jaxcur import conformal
        >>> score = conformal.ClipScore()
        >>> score.calibration([0.5, 0.2], [1.0, 0.0], 0.0)
        Array([ inf, -0.2], dtype=float32)
        >>> score.test([0.5, 0.2], 0.0)
        Array([-0.5, -0.2], dtype=float32)
    """

    bound: float = math.inf

    def __post_init__(self) -> None:
        _check_bound(self.bound)

    def calibration(
        self,
        predictions: Real[ArrayLike, " n"],
        labels: Real[ArrayLike, " n"],
        thresholds: Real[ArrayLike, "..."],
    ) -> Float[Array, " n"]:
        """Scores of labelled rows: predictions, labels (n,), thresholds () or (n,)."""
        mu, y, c = _broadcast(
            "predictions", predictions=predictions, labels=labels, thresholds=thresholds
        )
        return jnp.where(y > c, self.bound, c) - mu

    def test(
        self, predictions: Real[ArrayLike, " m"], thresholds: Real[ArrayLike, "..."]
    ) -> Float[Array, " m"]:
        """Scores of candidates: predictions (m,), thresholds () or (m,)."""
        mu, c = _broadcast(
            "predictions", predictions=predictions, thresholds=thresholds
        )
        return c - mu


@dataclasses.dataclass(frozen=True)
class BinaryScore:
    """Score on predictions of the event itself: `bound` if y > c, else -prediction.

    The prediction may be a probability of y > c, a regression, a quantile, or a ratio
    of a mean to a scale: only its order matters.

    Attributes:
        bound: score added for y > c; inf is exact.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.BinaryScore().calibration([0.9, 0.3], [1, 0], 0)
        Array([ inf, -0.3], dtype=float32)
    """

    bound: float = math.inf

    def __post_init__(self) -> None:
        _check_bound(self.bound)

    def calibration(
        self,
        predictions: Real[ArrayLike, " n"],
        labels: Real[ArrayLike, " n"],
        thresholds: Real[ArrayLike, "..."],
    ) -> Float[Array, " n"]:
        """Scores of labelled rows: predictions, labels (n,), thresholds () or (n,)."""
        mu, y, c = _broadcast(
            "predictions", predictions=predictions, labels=labels, thresholds=thresholds
        )
        return jnp.where(y > c, self.bound, 0.0) - mu

    def test(
        self, predictions: Real[ArrayLike, " m"], thresholds: Real[ArrayLike, "..."]
    ) -> Float[Array, " m"]:
        """Scores of candidates: predictions (m,); thresholds do not enter."""
        mu, _ = _broadcast(
            "predictions", predictions=predictions, thresholds=thresholds
        )
        return -mu


@dataclasses.dataclass(frozen=True)
class ResidualScore:
    """Signed residual: y - prediction for calibration, c - prediction for test.

    The prediction may be a conditional mean or a conditional quantile. Valid for
    deterministic p-values; prefer `ClipScore` for power.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.ResidualScore().calibration([0.5], [1.0], 0.0)
        Array([0.5], dtype=float32)
    """

    def calibration(
        self,
        predictions: Real[ArrayLike, " n"],
        labels: Real[ArrayLike, " n"],
        thresholds: Real[ArrayLike, "..."],
    ) -> Float[Array, " n"]:
        """Scores of rows with a label: predictions, labels (n,); thresholds unused."""
        mu, y, _ = _broadcast(
            "predictions", predictions=predictions, labels=labels, thresholds=thresholds
        )
        return y - mu

    def test(
        self, predictions: Real[ArrayLike, " m"], thresholds: Real[ArrayLike, "..."]
    ) -> Float[Array, " m"]:
        """Scores of candidates: predictions (m,), thresholds () or (m,)."""
        mu, c = _broadcast(
            "predictions", predictions=predictions, thresholds=thresholds
        )
        return c - mu


@dataclasses.dataclass(frozen=True)
class ScaledResidualScore:
    """Signed residual in units of a predicted scale, (y - mean) / scale.

    Its methods take the scale as one more argument.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.ScaledResidualScore().test([0.5], 1.5, [2.0])
        Array([0.5], dtype=float32)
    """

    def calibration(
        self,
        predictions: Real[ArrayLike, " n"],
        labels: Real[ArrayLike, " n"],
        thresholds: Real[ArrayLike, "..."],
        scales: Real[ArrayLike, "..."],
    ) -> Float[Array, " n"]:
        """Scores of rows with a label; all arguments (n,) or scalar, scales > 0."""
        mu, y, _, sigma = _broadcast(
            "predictions",
            predictions=predictions,
            labels=labels,
            thresholds=thresholds,
            scales=scales,
        )
        return (y - mu) / sigma

    def test(
        self,
        predictions: Real[ArrayLike, " m"],
        thresholds: Real[ArrayLike, "..."],
        scales: Real[ArrayLike, "..."],
    ) -> Float[Array, " m"]:
        """Scores of candidates; all arguments (m,) or scalar, scales > 0."""
        mu, c, sigma = _broadcast(
            "predictions", predictions=predictions, thresholds=thresholds, scales=scales
        )
        return (c - mu) / sigma


@dataclasses.dataclass(frozen=True)
class RelevantScore:
    """-prediction, calibrated on the rows with y <= c only.

    Keeping only the calibration rows that satisfy the null changes their number, so
    `calibration` returns n0 <= n scores and cannot be traced. Its guarantee is stronger
    for one threshold and i.i.d. data: given which candidates are null, FDR <= level *
    (number of null candidates) / m.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.RelevantScore().calibration([0.9, 0.3], [1, 0], 0)
        Array([-0.3], dtype=float32)
    """

    def calibration(
        self,
        predictions: Real[ArrayLike, " n"],
        labels: Real[ArrayLike, " n"],
        thresholds: Real[ArrayLike, "..."],
    ) -> Float[Array, " n0"]:
        """Scores (n0,) of the rows with y <= c; predictions, labels (n,)."""
        mu, y, c = _broadcast(
            "predictions", predictions=predictions, labels=labels, thresholds=thresholds
        )
        return -mu[y <= c]

    def test(
        self, predictions: Real[ArrayLike, " m"], thresholds: Real[ArrayLike, "..."]
    ) -> Float[Array, " m"]:
        """Scores of candidates: predictions (m,); thresholds do not enter."""
        mu, _ = _broadcast(
            "predictions", predictions=predictions, thresholds=thresholds
        )
        return -mu
