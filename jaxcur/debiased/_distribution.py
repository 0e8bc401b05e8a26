"""The debiased distribution function at every value in the data, with its error.

At a value t the estimate is the debiased mean of 1{y <= t}. All of them together come
from one sort and cumulative sums: every sum over rows that the mean or its variance
needs jumps where t passes the prediction of a row, its label, or the later of the two.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.debiased._blocks import LabeledRows, Rows
from jaxcur.debiased._distribution_variance import (
    Events,
    clustered,
    fixed_size,
    independent,
    steps,
)
from jaxcur.debiased._sums import Sizes
from jaxcur.stats import sort_with_order


class Curve(NamedTuple):
    """Distribution function F and its standard error, in the dtype of the values.

    Attributes:
        distribution: (M,).
        std_error: (M,).
    """

    distribution: Array
    std_error: Array


def make_events(rows: Rows, labeled: LabeledRows) -> Events:
    """Sort the predictions and labels; records are {"y": (n,), "row": (n,)}."""
    predicted = jnp.where(rows.weight > 0, rows.record["y"], jnp.inf)
    there = labeled.weight > 0
    observed = jnp.where(there, labeled.observed["y"], jnp.inf)
    values, order = sort_with_order(jnp.concatenate([predicted, observed]))
    m, n = values.shape[0], predicted.shape[0]
    index = jnp.arange(m, dtype=jnp.int32)
    place = jnp.zeros((m,), jnp.int32).at[order].set(index)
    ends = jnp.concatenate([values[1:] != values[:-1], jnp.ones((1,), bool)])
    last = jax.lax.cummin(jnp.where(ends, index, m - 1), reverse=True)
    row = labeled.observed["row"]
    with jax.enable_x64(True):
        wide = jnp.float64
        inverse = there.astype(wide) / labeled.prob.astype(wide)
        ratio = jnp.zeros((n,), wide).at[row].add(inverse)
        return Events(
            values=values,
            last=last,
            place=place[:n],
            place_observed=place[n:],
            place_both=jnp.maximum(place[n:], place[:n][row]),
            row=row,
            weight=rows.weight.astype(wide),
            ratio=ratio,
            present=there.astype(wide),
            strata=rows.strata,
            clusters=rows.clusters,
            excess=rows.excess.astype(wide),
        )


def curves(
    events: Events,
    tunings: Array,
    sizes: Sizes,
    signs: tuple[int, ...],
    target: str,
) -> Curve:
    """The curve of every lambda, (J, M); sums are in float64.

    Args:
        events: sorted rows.
        tunings: (J,), lambda.
        sizes: strata and clusters (static).
        signs: of the cluster terms (static).
        target: population of the inference (static).
    """
    with jax.enable_x64(True):
        a, w = events.weight, events.ratio
        first = jnp.cumsum(
            steps(events, [None, a * (1 - w)], [a * w, None], [None, None]), axis=0
        )
        if signs:
            variance = clustered(events, sizes, signs)
        elif sizes.strata:
            variance = fixed_size(events, sizes.strata, target)
        else:
            variance = independent(events, target)

        def one(tuning: Array) -> Curve:
            scale = jnp.sum(a * (tuning + w * (1 - tuning)))
            share = (first[:, 0] + tuning * first[:, 1]) / scale
            error = jnp.sqrt(jnp.maximum(variance(tuning, share), 0)) / scale
            dtype = events.values.dtype
            return Curve(
                share[events.last].astype(dtype), error[events.last].astype(dtype)
            )

        return jax.lax.map(one, tunings.astype(jnp.float64))
