"""Scaling-binning: the mean of a fitted curve in each bin."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Real

from jaxcur._base import check_rank, check_same_length, register_dataclass
from jaxcur.calibration._bins import check_bins, edge_index, mass_edges
from jaxcur.calibration._calibrator import clipped_logit, new_input, with_rows
from jaxcur.calibration._inputs import check_binary
from jaxcur.calibration._platt import PlattCalibrator, _fit_platt


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ScalingBinningCalibrator:
    """The mean of a Platt curve in the bin of the curve's value.

    Attributes:
        scaling: the curve, a calibrator of logits.
        edges: shape (num_bins + 1,), of the values of the curve.
        values: shape (num_bins,), all the probabilities it can give.
    """

    scaling: PlattCalibrator
    edges: Array
    values: Array

    def __call__(self, probs: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at forecasts (m,)."""
        f = new_input("probs", probs, self.values)
        scaled = self.scaling(clipped_logit(f))
        index = edge_index(scaled, self.edges, "right")
        return jnp.where(jnp.isnan(f), jnp.nan, self.values[index])

    @property
    def converged(self) -> Array:
        """Whether the curve has a finite optimum."""
        return self.scaling.converged


def fit_scaling_binning(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int,
    weights: Real[ArrayLike, " n"] | None = None,
    scaling_mask: Bool[ArrayLike, " n"] | None = None,
    smoothing: bool = False,
    max_steps: int = 100,
) -> ScalingBinningCalibrator:
    """Fit a Platt curve, cut it into bins, and give the mean of the curve in each.

    The output takes `num_bins` values only, so its calibration error can be measured;
    the outcomes enter through two parameters only, so it varies less than a histogram.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        probs: shape (n,), in [0, 1]; the curve is fitted to their logits.
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        num_bins: number of bins of equal mass (static).
        weights: shape (n,), at least 0; ones when missing.
        scaling_mask: shape (n,), True for the rows that fit the curve, the others being
            binned; both use all rows when missing. The published analysis separates
            them.
        smoothing: Platt's targets (static).
        max_steps: largest number of Newton steps (static).

    Returns:
        A calibrator of probabilities.

    Raises:
        ValueError: unequal lengths, n = 0, values outside [0, 1], illegal weights.

    Transformations: jit, vmap.
    Cost: as `fit_platt`, one sort, and O(n log num_bins).

    Source: Kumar, Liang and Ma, "Verified uncertainty calibration", NeurIPS 2019.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
        >>> y = jnp.array([0, 1, 0, 0, 1, 1])
        >>> calibrator = calibration.fit_scaling_binning(f, y, num_bins=2)
        >>> [round(float(p), 2) for p in calibrator(jnp.array([0.2, 0.9]))]
        [0.28, 0.72]
    """
    check_bins(num_bins, "mass", "right")
    f, y, w = check_binary(probs, labels, weights)
    if scaling_mask is None:
        fit_weights = bin_weights = w
    else:
        mask = jnp.asarray(scaling_mask, bool)
        check_rank("scaling_mask", mask, 1)
        check_same_length("probs", f, "scaling_mask", mask)
        fit_weights, bin_weights = jnp.where(mask, w, 0), jnp.where(mask, 0, w)
    return _fit(
        f,
        y,
        fit_weights,
        bin_weights,
        num_bins=int(num_bins),
        smoothing=bool(smoothing),
        max_steps=max_steps,
    )


@jax.jit(static_argnames=("num_bins", "smoothing", "max_steps"))
def _fit(f, y, fit_weights, bin_weights, *, num_bins, smoothing, max_steps):
    logits = clipped_logit(f)
    scaling = _fit_platt(
        logits, y, fit_weights, smoothing=smoothing, max_steps=max_steps
    )
    scaled = scaling(logits)
    (scaled,) = with_rows(bin_weights, scaled)
    edges = mass_edges(scaled, bin_weights, num_bins)
    index = edge_index(scaled, edges, "right")
    mass = jax.ops.segment_sum(bin_weights, index, num_bins)
    total = jax.ops.segment_sum(bin_weights * scaled, index, num_bins)
    middle = (edges[:-1] + edges[1:]) / 2
    values = jnp.where(mass == 0, middle, total / jnp.where(mass == 0, 1, mass))
    return ScalingBinningCalibrator(scaling=scaling, edges=edges, values=values)
