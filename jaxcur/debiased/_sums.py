"""The sums over rows from which estimates and covariances follow.

They are additive: over blocks, chunks of a file, devices and machines.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.debiased._blocks import LabeledRows, Rows, sum_over_blocks
from jaxcur.debiased._models import Model

_HIGHEST = jax.lax.Precision.HIGHEST


class Totals(NamedTuple):
    """Sums of moments and Jacobians, of predicted and observed records.

    Attributes:
        everyone: (q,), sum of a m_p over all rows.
        everyone_jacobian: (q, p).
        everyone_squares: (q,), sum of (a m_p)^2.
        observed: (q,), sum of a w m_o over labelled rows, w = 1 / prob.
        observed_jacobian: (q, p).
        predicted: (q,), sum of a w m_p over labelled rows.
        predicted_jacobian: (q, p).
        observed_squares: (q,), sum of (a w m_o)^2.
    """

    everyone: Array
    everyone_jacobian: Array
    everyone_squares: Array
    observed: Array
    observed_jacobian: Array
    predicted: Array
    predicted_jacobian: Array
    observed_squares: Array


class Spread(NamedTuple):
    """Second moments of all rows (p: predicted) and labelled rows (z: both, 2q).

    Attributes:
        gram: (q, q), sum of a^2 m_p m_p'.
        labeled_gram: (2q, 2q), sum of a^2 w z z' with z = (m_o, m_p).
        labeled_gram_squared: (2q, 2q), sum of a^2 w^2 z z'.
        counts: (H,), rows per stratum.
        sums: (H, q), sum of a m_p per stratum.
        grams: (H, q, q).
        labeled_counts: (H,).
        labeled_sums: (H, 2q), sum of a z, not weighted by w.
        labeled_grams: (H, 2q, 2q).
        cluster_sums: one (G, q) per cluster term, sum of a m_p.
        cluster_excess: one (G, H) per cluster term, sum of `excess`.
        labeled_cluster_sums: one (G, 2q) per cluster term, sum of a w z.
    """

    gram: Array
    labeled_gram: Array
    labeled_gram_squared: Array
    counts: Array
    sums: Array
    grams: Array
    labeled_counts: Array
    labeled_sums: Array
    labeled_grams: Array
    cluster_sums: tuple[Array, ...]
    cluster_excess: tuple[Array, ...]
    labeled_cluster_sums: tuple[Array, ...]


class Sizes(NamedTuple):
    """What is known of the design while tracing.

    Attributes:
        strata: their number; 0: the design needs none.
        clusters: their number, for each term.
        equal: all rows have the same sampling probability.
    """

    strata: int = 0
    clusters: tuple[int, ...] = ()
    equal: bool = False


def _gram(left: Array, right: Array) -> Array:
    return jnp.matmul(left.T, right, precision=_HIGHEST)


def _by(ids: Array, values: Array, count: int) -> Array:
    if count == 1:
        return jnp.sum(values, axis=0, keepdims=True)
    return jax.ops.segment_sum(values, ids, num_segments=count)


def _grams_by(ids: Array, values: Array, count: int) -> Array:
    if count == 1:
        return _gram(values, values)[None]
    return _by(ids, values[:, :, None] * values[:, None, :], count)


def everyone_totals(model: Model, theta: Array, rows: Rows) -> tuple[Array, ...]:
    """Sum, Jacobian and squares of the predicted moments."""

    def block(part: Rows) -> tuple[Array, ...]:
        return tuple(model.total(theta, part.record, part.weight))

    return sum_over_blocks(block, rows)


def labeled_totals(model: Model, theta: Array, rows: LabeledRows) -> tuple[Array, ...]:
    """Weighted sums and Jacobians of both moments over labelled rows."""

    def block(part: LabeledRows) -> tuple[Array, ...]:
        weight = part.weight / part.prob
        observed = model.total(theta, part.observed, weight)
        predicted = model.total(theta, part.predicted, weight)
        return (
            observed.value,
            observed.jacobian,
            predicted.value,
            predicted.jacobian,
            observed.squares,
        )

    return sum_over_blocks(block, rows)


def everyone_spread(
    model: Model, theta: Array, rows: Rows, sizes: Sizes
) -> dict[str, Any]:
    """The part of `Spread` that comes from all rows."""

    def block(part: Rows) -> dict[str, Any]:
        scaled = model.moments(theta, part.record) * part.weight[:, None]
        out: dict[str, Any] = {"gram": _gram(scaled, scaled)}
        h = sizes.strata
        if h:
            present = (part.weight > 0).astype(scaled.dtype)
            out["counts"] = _by(part.strata, present, h)
            out["sums"] = _by(part.strata, scaled, h)
            # One stratum needs no second copy of the same matrix.
            out["grams"] = (
                out["gram"][None] if h == 1 else _grams_by(part.strata, scaled, h)
            )
        else:
            out["counts"], out["sums"], out["grams"] = _no_strata(scaled)
        cells = max(h, 1)
        out["cluster_sums"] = tuple(
            _by(ids, scaled, g) for ids, g in zip(part.clusters, sizes.clusters)
        )
        out["cluster_excess"] = tuple(
            _by(ids * cells + part.strata, part.excess, g * cells).reshape(g, cells)
            for ids, g in zip(part.clusters, sizes.clusters)
        )
        return out

    return sum_over_blocks(block, rows)


def _no_strata(values: Array) -> tuple[Array, Array, Array]:
    width, dtype = values.shape[1], values.dtype
    shapes = ((0,), (0, width), (0, width, width))
    first, second, third = (jnp.zeros(shape, dtype) for shape in shapes)
    return first, second, third


def labeled_spread(
    model: Model, theta: Array, rows: LabeledRows, sizes: Sizes
) -> dict[str, Any]:
    """The part of `Spread` that comes from labelled rows."""

    def block(part: LabeledRows) -> dict[str, Any]:
        observed = model.moments(theta, part.observed)
        predicted = model.moments(theta, part.predicted)
        z = jnp.concatenate([observed, predicted], axis=1) * part.weight[:, None]
        inverse = 1 / part.prob
        weighted = z * inverse[:, None]
        gram = _gram(z, z)
        if sizes.equal:
            # Rows that are not there have weight 0, whatever their probability.
            factor = jnp.max(jnp.where(part.weight > 0, inverse, 1))
            out: dict[str, Any] = {
                "labeled_gram": factor * gram,
                "labeled_gram_squared": factor * factor * gram,
            }
        else:
            out = {
                "labeled_gram": _gram(weighted, z),
                "labeled_gram_squared": _gram(weighted, weighted),
            }
        names = ("labeled_counts", "labeled_sums", "labeled_grams")
        h = sizes.strata
        if h:
            present = (part.weight > 0).astype(z.dtype)
            values = (
                _by(part.strata, present, h),
                _by(part.strata, z, h),
                gram[None] if sizes.equal and h == 1 else _grams_by(part.strata, z, h),
            )
        else:
            values = _no_strata(z)
        out.update(zip(names, values))
        out["labeled_cluster_sums"] = tuple(
            _by(ids, weighted, g) for ids, g in zip(part.clusters, sizes.clusters)
        )
        return out

    return sum_over_blocks(block, rows)
