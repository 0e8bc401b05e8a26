"""Bayesian binning into quantiles: an average over numbers of bins."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaln, xlogy
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, is_concrete, register_dataclass
from jaxcur.calibration._calibrator import new_input, with_rows
from jaxcur.calibration._inputs import check_binary
from jaxcur.stats import count_at_most, count_below, sort_with_order


@register_dataclass
@dataclasses.dataclass(frozen=True)
class BBQCalibrator:
    """A step function: the average of many histograms.

    Attributes:
        edges: shape (e,), ascending: where some histogram has an edge. A forecast on
            an edge belongs to the step below.
        values: shape (e + 1,), the steps.
        num_bins: shape (c,) int, the numbers of bins averaged over.
        model_weights: shape (c,), their posterior weights, with sum 1.
    """

    edges: Array
    values: Array
    num_bins: Array
    model_weights: Array

    def __call__(self, probs: Real[ArrayLike, " m"]) -> Float[Array, " m"]:
        """Probabilities of class 1 at forecasts (m,)."""
        f = new_input("probs", probs, self.values)
        place = count_below(self.edges, f)
        return jnp.where(jnp.isnan(f), jnp.nan, self.values[place])


def fit_bbq(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    binning: Literal["mass", "width"] = "mass",
    score: Literal["marginal", "bic"] = "marginal",
    spread: float = 10.0,
    prior_strength: Real[ArrayLike, ""] = 2.0,
) -> BBQCalibrator:
    """Average histograms, weighted by their marginal likelihood.

    Histograms of m = n^(1/3) / spread, ..., spread n^(1/3) bins (at most n / 5, at
    least 1) are compared. In each, the rate of bin b has a Beta prior with parameters
    (N'/m) p_b and (N'/m) (1 - p_b), p_b being the middle of the bin and N' the
    `prior_strength`; its posterior mean is the value of the bin, and the marginal
    likelihood of the outcomes the weight of the histogram. With `score="bic"` the value
    is the mean outcome and the weight exp(-BIC / 2) with m parameters.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        probs: shape (n,), in [0, 1].
        labels: shape (n,), 0 or 1, or means of outcomes between them.
        weights: shape (n,), at least 0; ones when missing. A weight counts rows, except
            that the numbers of bins to average over follow from n.
        binning: bins of equal numbers of rows, or of equal width (static).
        score: what weighs the histograms (static).
        spread: at least 1 (static).
        prior_strength: N', positive. Traced.

    Returns:
        A calibrator of probabilities.

    Raises:
        ValueError: unequal lengths, n = 0, values outside [0, 1], illegal weights or
            options, or `spread` below 1.

    Transformations: jit, vmap.
    Cost: one sort, and O(m log n) for each number of bins m.

    Source: Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities
    using Bayesian binning", AAAI 2015.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
        >>> y = jnp.array([0, 0, 0, 1, 1, 1])
        >>> found = calibration.fit_bbq(f, y)(jnp.array([0.1, 0.9]))
        >>> [round(float(p), 2) for p in found]
        [0.06, 0.92]
    """
    check_choice("binning", binning, ("mass", "width"))
    check_choice("score", score, ("marginal", "bic"))
    if not spread >= 1:
        raise ValueError(f"`spread` must be at least 1, got {spread}")
    if is_concrete(prior_strength) and not np.asarray(prior_strength) > 0:
        raise ValueError(f"`prior_strength` must be positive, got {prior_strength}")
    f, y, w = check_binary(probs, labels, weights)
    n = f.shape[0]
    root = n ** (1 / 3)
    least = max(1, math.floor(root / spread))
    most = max(least, min(math.ceil(n / 5), math.ceil(root * spread)))
    strength = jnp.asarray(prior_strength, f.dtype)
    return _fit(f, y, w, strength, least=least, most=most, binning=binning, score=score)


@jax.jit(static_argnames=("least", "most", "binning", "score"))
def _fit(f, y, w, strength, *, least, most, binning, score):
    dtype = f.dtype
    legal = ~jnp.any(jnp.isnan(w))
    f, y = with_rows(w, f, y)
    legal &= ~jnp.any(jnp.isnan(f)) & ~jnp.any(jnp.isnan(y))
    ordered, order = sort_with_order(f)
    weight, outcome = w[order], y[order]
    zero = jnp.zeros(1, dtype)
    # Integers as long as the weights are: exact in float32 up to 2^24 rows.
    mass = jnp.concatenate([zero, jnp.cumsum(weight)])
    ones = jnp.concatenate([zero, jnp.cumsum(weight * outcome)])
    present = weight > 0
    n = f.shape[0]
    rows = jnp.cumsum(present, dtype=jnp.int32)
    count = rows[-1]
    # The k-th row of positive weight, k = 1..count, is at this place.
    place_of = jnp.zeros(n + 1, jnp.int32)
    place_of = place_of.at[jnp.where(present, rows, n + 1)].set(
        jnp.arange(n, dtype=jnp.int32), mode="drop"
    )
    cuts = jnp.arange(1, most, dtype=jnp.int32)

    def model(m):
        if binning == "width":
            inner = cuts.astype(dtype) / m.astype(dtype)
        else:
            share, rest = count // m, count % m
            last = jnp.clip(cuts * share + jnp.minimum(cuts, rest), 1, count)
            first = jnp.minimum(last + 1, count)
            inner = (ordered[place_of[last]] + ordered[place_of[first]]) / 2
        used = cuts < m
        inner = jnp.where(used, inner, 1)
        edges = jnp.concatenate([zero, inner, jnp.ones(1, dtype)])
        # A forecast on an edge belongs to the bin below it.
        below = jnp.where(used, count_at_most(ordered, inner), n)
        ends = jnp.concatenate([zero.astype(jnp.int32), below, jnp.full(1, n)])
        total = mass[ends[1:]] - mass[ends[:-1]]
        positive = ones[ends[1:]] - ones[ends[:-1]]
        middle = jnp.clip((edges[1:] + edges[:-1]) / 2, 1e-6, 1 - 1e-6)
        if score == "bic":
            filled = jnp.where(total > 0, total, 1)
            value = jnp.where(total > 0, positive / filled, middle)
            log_share = xlogy(positive, value) + xlogy(total - positive, 1 - value)
            cost = m.astype(dtype) * jnp.log(mass[-1]) / 2
        else:
            prior = strength / m.astype(dtype)
            alpha, beta = prior * middle, prior * (1 - middle)
            value = (positive + alpha) / (total + prior)
            log_share = (
                gammaln(prior)
                - gammaln(total + prior)
                + gammaln(positive + alpha)
                - gammaln(alpha)
                + gammaln(total - positive + beta)
                - gammaln(beta)
            )
            cost = jnp.zeros((), dtype)
        # Bins beyond the m-th lie at 1 and hold nothing: their terms cancel.
        live = jnp.arange(most) < m
        evidence = jnp.sum(jnp.where(live & (total > 0), log_share, 0)) - cost
        last_value = value[m - 1]
        return inner, jnp.where(live, value, last_value), evidence

    numbers = jnp.arange(least, most + 1, dtype=jnp.int32)
    inner, value, evidence = jax.lax.map(model, numbers)
    shares = jax.nn.softmax(evidence)
    # The average is a step function with a step at each edge of each histogram.
    edges, order = sort_with_order(inner.reshape(-1))
    steps = (shares[:, None] * jnp.diff(value, axis=1)).reshape(-1)[order]
    base = jnp.sum(shares * value[:, 0])
    values = jnp.concatenate([base[None], base + jnp.cumsum(steps)])
    values = jnp.where(legal, jnp.clip(values, 0, 1), jnp.nan)
    return BBQCalibrator(
        edges=edges, values=values, num_bins=numbers, model_weights=shares
    )
