"""Bootstrap weights of rows or clusters, and intervals from replicates."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import ndtr, ndtri

from jaxcur._base import (
    check_choice,
    check_unit_interval,
    is_concrete,
    register_dataclass,
)
from jaxcur.debiased._prepare import as_ids
from jaxcur.debiased._result import ALTERNATIVES, Alternative, std_error

Resampling = Literal["multinomial", "exponential"]
RESAMPLINGS = ("multinomial", "exponential")
IntervalName = Literal["normal", "percentile", "basic", "studentized"]
INTERVALS = ("normal", "percentile", "basic", "studentized")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BootstrapResult:
    """An estimate whose uncertainty comes from resampling.

    Attributes:
        estimate: shape (p,).
        covariance: shape (p, p), of the replicates.
        replicates: shape (num_resamples, p); NaN where a replicate failed.
        replicate_std_error: shape (num_resamples, p), or None where replicates have no
            standard errors of their own.
        power_tuning: shape (p, p) or (q, q), the matrix Lambda.
        gold_std_error: shape (p,), standard error of labelled rows alone.
        num_failed: scalar, replicates that are not finite. They are left out, and the
            covariance is NaN when they are more than one in twenty.
    """

    estimate: Array
    covariance: Array
    replicates: Array
    replicate_std_error: Array | None
    power_tuning: Array
    gold_std_error: Array
    num_failed: Array

    @property
    def std_error(self) -> Array:
        """Standard errors, shape (p,)."""
        return std_error(self.covariance)

    def conf_int(
        self,
        confidence_level: float | Array = 0.95,
        *,
        method: IntervalName = "normal",
        alternative: Alternative = "two-sided",
    ) -> Array:
        """Confidence intervals, shape (p, 2).

        Args:
            confidence_level: scalar in (0, 1).
            method: "normal"; "percentile", quantiles of the replicates; "basic", the
                estimate minus quantiles of (replicate - estimate); "studentized", the
                same with both divided by their standard errors, the most accurate
                where replicates have them.
            alternative: "larger" gives [lower, inf), "smaller" (-inf, upper].
        """
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        check_choice("method", method, INTERVALS)
        check_choice("alternative", alternative, ALTERNATIVES)
        tail = 1 - jnp.asarray(confidence_level, self.estimate.dtype)
        if alternative == "two-sided":
            tail = tail / 2
        low, high = self._bounds(tail, method)
        sound = jnp.isfinite(self.std_error)
        low, high = (jnp.where(sound, bound, jnp.nan) for bound in (low, high))
        if alternative == "larger":
            high = jnp.full_like(high, jnp.inf)
        if alternative == "smaller":
            low = jnp.full_like(low, -jnp.inf)
        return jnp.stack([low, high], axis=-1)

    def p_value(
        self, alternative: Alternative = "two-sided", *, null: Any = 0.0
    ) -> Array:
        """Normal p-values of the hypotheses that a coordinate equals `null`, (p,)."""
        check_choice("alternative", alternative, ALTERNATIVES)
        z = (self.estimate - jnp.asarray(null, self.estimate.dtype)) / self.std_error
        if alternative == "two-sided":
            return 2 * ndtr(-jnp.abs(z))
        return ndtr(-z if alternative == "larger" else z)

    def _bounds(self, tail: Array, method: str) -> tuple[Array, Array]:
        if method == "normal":
            half = -ndtri(tail) * self.std_error
            return self.estimate - half, self.estimate + half
        shifts = self.replicates - self.estimate[..., None, :]
        scale = jnp.ones_like(self.estimate)
        if method == "studentized":
            if self.replicate_std_error is None:
                raise ValueError(
                    "method='studentized' needs standard errors of the replicates, "
                    "which a black-box estimator does not give; use 'basic'"
                )
            shifts, scale = shifts / self.replicate_std_error, self.std_error
        low, high = (jnp.nanquantile(shifts, q, axis=-2) for q in (tail, 1 - tail))
        if method == "percentile":
            return self.estimate + low, self.estimate + high
        return self.estimate - high * scale, self.estimate - low * scale


def replicate_covariance(values: Array) -> tuple[Array, Array]:
    """Covariance (k, k) of the finite rows of values (b, k), and how many are not."""
    sound = jnp.all(jnp.isfinite(values), axis=1)
    count = jnp.sum(sound, dtype=jnp.int32)
    kept = jnp.where(sound[:, None], values, 0)
    size = count.astype(values.dtype)
    centred = kept - jnp.sum(kept, axis=0) / jnp.maximum(size, 1)
    centred = jnp.where(sound[:, None], centred, 0)
    products = jnp.matmul(centred.T, centred, precision="highest")
    failed = values.shape[0] - count
    usable = (count > 1) & (20 * failed <= values.shape[0])
    return jnp.where(usable, products / jnp.maximum(size - 1, 1), jnp.nan), failed


def draw_weights(
    key: Any, how: str, ids: Array | None, num_units: int, dtype: Any
) -> Array:
    """Multiplicities of every row in one resample of units, mean one.

    Args:
        key: PRNG key.
        how: of `RESAMPLINGS`: counts of drawing as many units with replacement, or
            independent standard exponentials.
        ids: shape (N,), the unit of each row, 0..num_units-1; None: each its own.
        num_units: number of units.
        dtype: of the result.
    """
    if how == "exponential":
        weights = jax.random.exponential(key, (num_units,), dtype)
    else:
        drawn = jax.random.randint(key, (num_units,), 0, num_units)
        weights = jnp.zeros(num_units, dtype).at[drawn].add(1)
    return weights if ids is None else weights[ids]


def as_units(clusters: Any, n: int) -> tuple[Array | None, int]:
    """The unit of each row and the number of units that are resampled."""
    if clusters is None:
        return None, n
    if not is_concrete(clusters):
        raise ValueError("`clusters` must be concrete: their number is a shape")
    if np.ndim(clusters) != 1:
        raise ValueError(
            f"`clusters` must have shape ({n},): the bootstrap takes one way, got "
            f"{np.shape(clusters)}"
        )
    ids, count = as_ids("clusters", clusters, n)
    if count == 1:
        raise ValueError("`clusters` has a single cluster: nothing to resample")
    return jnp.asarray(ids), count


def check_draw(
    key: Any, resample_weights: Any, num_resamples: int, how: str, n: int, dtype: Any
) -> tuple[Array | None, int]:
    """The weights given, if any, and the number of resamples."""
    check_choice("resampling", how, RESAMPLINGS)
    if resample_weights is None:
        if key is None:
            raise ValueError(
                "the bootstrap is randomised: pass `key=jax.random.key(...)`, or the "
                "draw itself as `resample_weights`"
            )
        if num_resamples < 2:
            raise ValueError(f"`num_resamples` must be at least 2, got {num_resamples}")
        return None, num_resamples
    if key is not None:
        raise ValueError("pass either `key` or `resample_weights`, not both")
    given = jnp.asarray(resample_weights).astype(dtype)
    if given.ndim != 2 or given.shape[1] != n or given.shape[0] < 2:
        raise ValueError(
            f"`resample_weights` must have shape (num_resamples, {n}) with at least 2 "
            f"rows, got {given.shape}"
        )
    if is_concrete(given) and not (np.asarray(given) >= 0).all():
        raise ValueError("`resample_weights` must be nonnegative")
    return given, given.shape[0]
