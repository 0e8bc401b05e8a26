"""Quantiles with the distribution they come from."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri

from jaxcur._base import check_choice, check_unit_interval, register_dataclass
from jaxcur.debiased._result import ALTERNATIVES, Alternative


@register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantileResult:
    """Quantiles with the distribution they come from.

    Attributes:
        estimate: shape (k,).
        q: shape (k,), their orders.
        values: shape (M,), predictions and gold labels in ascending order; +inf in
            place of rows that are not there.
        distribution: shape (k, M), or (1, M) when lambda is the same for all orders:
            debiased share of rows with y <= value. It need not be monotone.
        distribution_std_error: the same shape.
        converged: scalar bool; False for values that an eager call refuses, and then
            estimates and intervals are NaN.
        power_tuning: shape (k,), lambda.
        num_rows: scalar, rows with positive weight.
        num_labeled: scalar, labelled rows among them.
    """

    estimate: Array
    q: Array
    values: Array
    distribution: Array
    distribution_std_error: Array
    converged: Array
    power_tuning: Array
    num_rows: Array
    num_labeled: Array

    def conf_int(
        self,
        confidence_level: float | Array = 0.95,
        *,
        alternative: Alternative = "two-sided",
    ) -> Array:
        """Confidence intervals by inversion, shape (k, 2).

        From the first value with F(t) >= q - z se(t) to the one after the last with
        F(t) <= q + z se(t): the hull of all t at which |F(t) - q| <= z se(t), and the
        jumps across that band. No density is estimated.

        Args:
            confidence_level: scalar in (0, 1).
            alternative: "larger" gives [lower, inf), "smaller" (-inf, upper].
        """
        check_unit_interval(
            "confidence_level", confidence_level, open_low=True, open_high=True
        )
        check_choice("alternative", alternative, ALTERNATIVES)
        tail = 1 - jnp.asarray(confidence_level, self.distribution.dtype)
        if alternative == "two-sided":
            tail = tail / 2
        reach = -ndtri(tail)[..., None, None] * self.distribution_std_error
        reach = reach + guard_of(self.distribution.dtype)
        q = self.q[..., None]
        m = self.values.shape[-1]
        first = jnp.argmax(self.distribution >= q - reach, axis=-1)
        below = self.distribution <= q + reach
        # Counted from the end; with none below, the first value is the bound.
        after = m - jnp.argmax(below[..., ::-1], axis=-1)
        after = jnp.where(jnp.any(below, axis=-1), jnp.minimum(after, m - 1), 0)
        low = jnp.take_along_axis(self.values, first, axis=-1)
        high = jnp.take_along_axis(self.values, after, axis=-1)
        inf = jnp.full_like(low, jnp.inf)
        low = -inf if alternative == "smaller" else low
        high = inf if alternative == "larger" else high
        both = jnp.stack([low, high], axis=-1)
        return jnp.where(self.converged[..., None, None], both, jnp.nan)

    @property
    def std_error(self) -> Array:
        """Length of the 95 % interval over 2 x 1.96, shape (k,): a convention."""
        interval = self.conf_int(0.95)
        length = interval[..., 1] - interval[..., 0]
        return length / (2 * ndtri(jnp.asarray(0.975, length.dtype)))


def guard_of(dtype: Any) -> float:
    """What a share can be off on paper: inputs are rounded, sums in float64 are not."""
    eps = float(jnp.finfo(dtype).eps)
    return 4 * eps if eps > 1e-10 else 32 * eps
