"""The debiased plug-in statistic of T-Cal."""

import functools

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur.calibration._bins import check_bins, width_index
from jaxcur.calibration._inputs import check_scored
from jaxcur.calibration._sums import ratio, segment_totals, weighted


@functools.partial(jax.jit, static_argnames=("num_bins",))
def _statistic(f: Array, y: Array, w: Array | None, *, num_bins: int) -> Array:
    index = width_index(f, num_bins, "left")
    r = f - y
    mass = jnp.ones_like(f) if w is None else w
    count = segment_totals(mass, index, num_bins)
    total = segment_totals(weighted(r, w), index, num_bins)
    own = segment_totals(weighted(r**2, w), index, num_bins)
    return jnp.sum(ratio(total**2 - own, count)) / jnp.sum(count)


def t_cal_statistic(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Debiased squared calibration error over bins of equal width.

    D_m = (1/n) sum_j (1/n_j) [ (sum_{i in j} r_i)^2 - sum_{i in j} r_i^2 ]  with
    r = f - y and bins closed on the left: only pairs of different rows count.

    Guarantee: E D_m = 0 under calibration, given the forecasts, for every number of
    bins and unit weights.
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), scored at the top
            label.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        num_bins: number of bins. Static.
        weights: shape (n,), numbers of rows.

    Returns:
        scalar; may be negative.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range.

    Transformations: jit, vmap, grad in `probs` and `weights`.
    Cost: one pass.

    Source: Lee, Huang, Hassani and Dobriban, "T-Cal: An optimal test for the
    calibration of predictive models", JMLR 2023. Their code puts f = 1 into a bin of
    its own; here it is in the last one.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, labels = jnp.array([0.25, 0.25, 0.75]), jnp.array([1, 1, 1])
        >>> calibration.t_cal_statistic(probs, labels, num_bins=2)
        Array(0.1875, dtype=float32)
    """
    check_bins(num_bins, "width", "left")
    f, y, w = check_scored(probs, labels, weights)
    return _statistic(f, y, w, num_bins=num_bins)
