"""Target regions of a vector of outcomes, and the scores they give."""

import dataclasses
from typing import Literal, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, check_choice, is_concrete


class Region(Protocol):
    """A set of outcome vectors, known through a signed distance to its boundary.

    Any object with this method is a region: positive inside, zero or negative on the
    boundary and outside. It need not be a Euclidean distance; only its order matters.
    """

    def distance(self, outcomes: Real[ArrayLike, "... k"]) -> Float[Array, "..."]:
        """Signed distance of outcomes (..., k), shape (...)."""
        ...


def _check_positive(name: str, value: ArrayLike) -> None:
    (array,) = as_float(**{name: value})
    if is_concrete(array) and not (np.asarray(array) > 0).all():
        raise ValueError(f"`{name}` must be positive, got {array}")


@dataclasses.dataclass(frozen=True)
class Orthant:
    """Every outcome above its threshold: y_k > lower_k for all k.

    Attributes:
        lower: thresholds, scalar or (k,).
        scale: units in which excesses are compared, scalar or (k,), positive.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.Orthant([0.0, 1.0]).distance([[2.0, 1.5], [2.0, 0.0]])
        Array([ 0.5, -1. ], dtype=float32)
    """

    lower: ArrayLike
    scale: ArrayLike = 1.0

    def __post_init__(self) -> None:
        _check_positive("scale", self.scale)

    def distance(self, outcomes: Real[ArrayLike, "... k"]) -> Float[Array, "..."]:
        """Smallest scaled excess of outcomes (..., k) over the thresholds."""
        y, lower, scale = as_float(
            outcomes=outcomes, lower=self.lower, scale=self.scale
        )
        lower = jnp.broadcast_to(lower, y.shape)
        return jnp.min((y - lower) / jnp.broadcast_to(scale, y.shape), axis=-1)


@dataclasses.dataclass(frozen=True)
class Ball:
    """Outcomes closer to `center` than `radius`, in Euclidean distance.

    Attributes:
        center: shape (k,).
        radius: positive scalar.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.Ball([0.0, 0.0], 2.0).distance([[1.0, 0.0], [3.0, 4.0]])
        Array([ 1., -3.], dtype=float32)
    """

    center: ArrayLike
    radius: ArrayLike

    def __post_init__(self) -> None:
        _check_positive("radius", self.radius)

    def distance(self, outcomes: Real[ArrayLike, "... k"]) -> Float[Array, "..."]:
        """Radius minus the distance of outcomes (..., k) to the center."""
        y, center, radius = as_float(
            outcomes=outcomes, center=self.center, radius=self.radius
        )
        away = jnp.sum((y - jnp.broadcast_to(center, y.shape)) ** 2, axis=-1)
        return radius - jnp.sqrt(away)


@dataclasses.dataclass(frozen=True)
class AllOf:
    """Intersection of regions.

    Attributes:
        regions: a tuple of regions.

    Example:
        >>> from jaxcur import conformal
        >>> both = conformal.AllOf((conformal.Orthant(0.0), conformal.Ball([0.0], 3.0)))
        >>> both.distance([[1.0], [5.0]])
        Array([ 1., -2.], dtype=float32)
    """

    regions: tuple[Region, ...]

    def distance(self, outcomes: Real[ArrayLike, "... k"]) -> Float[Array, "..."]:
        """Smallest of the distances."""
        parts = [region.distance(outcomes) for region in self.regions]
        return jnp.min(jnp.stack(parts), axis=0)


@dataclasses.dataclass(frozen=True)
class AnyOf:
    """Union of regions.

    Attributes:
        regions: a tuple of regions.

    Example:
        >>> from jaxcur import conformal
        >>> far, near = conformal.Orthant(4.0), conformal.Ball([0.0], 1.0)
        >>> either = conformal.AnyOf((far, near))
        >>> either.distance([[5.0], [2.0]])
        Array([ 1., -1.], dtype=float32)
    """

    regions: tuple[Region, ...]

    def distance(self, outcomes: Real[ArrayLike, "... k"]) -> Float[Array, "..."]:
        """Largest of the distances."""
        parts = [region.distance(outcomes) for region in self.regions]
        return jnp.max(jnp.stack(parts), axis=0)


@dataclasses.dataclass(frozen=True)
class RegionScore:
    """Score for selecting candidates whose outcome vector lies in a region.

    With d the signed distance of the region, mu a predicted outcome vector and y the
    true one: test score -d(mu); calibration score +inf if d(y) > 0 else -d(mu)
    ("clip"), or max(d(y), 0) - d(mu) ("distance"). Both are regionally monotone: for
    the same mu, an outcome outside the region never scores above one inside.

    Attributes:
        region: the target region.
        form: "clip" (the more powerful) or "distance" (deterministic p-values only).

    Example:
        >>> from jaxcur import conformal
        >>> score = conformal.RegionScore(conformal.Orthant(0.0))
        >>> score.calibration([[1.0, 2.0], [1.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]])
        Array([inf, -1.], dtype=float32)
        >>> score.test([[1.0, 2.0]])
        Array([-1.], dtype=float32)
    """

    region: Region
    form: Literal["clip", "distance"] = "clip"

    def __post_init__(self) -> None:
        check_choice("form", self.form, ("clip", "distance"))

    def calibration(
        self, predictions: Real[ArrayLike, "n k"], labels: Real[ArrayLike, "n k"]
    ) -> Float[Array, " n"]:
        """Scores of rows with known outcomes: predictions and labels (n, k)."""
        mu, y = as_float(predictions=predictions, labels=labels)
        if mu.shape != y.shape:
            raise ValueError(
                f"`labels` must have the shape {mu.shape} of `predictions`, "
                f"got {y.shape}"
            )
        predicted = self.region.distance(mu)
        inside = self.region.distance(y)
        if self.form == "clip":
            return jnp.where(inside > 0, jnp.inf, -predicted)
        return jnp.maximum(inside, 0.0) - predicted

    def test(self, predictions: Real[ArrayLike, "m k"]) -> Float[Array, " m"]:
        """Scores of candidates: predictions (m, k)."""
        return -self.region.distance(predictions)
