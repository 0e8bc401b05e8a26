"""The smooth part of a fit: the mean loss, its derivatives and its domain."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur.ordinal._design import block_gradient, block_hessian, linear_predictor
from jaxcur.ordinal._families import (
    expected_information,
    own_class_gap,
    pairs,
    row_terms,
    start_intercepts,
)
from jaxcur.solvers import SmoothModel


class Setting(NamedTuple):
    """What is known while tracing; hashable."""

    family: str
    link: str
    matrix: tuple[tuple[float, ...], ...]
    num_classes: int
    scaled: bool
    max_steps: int
    crossing: str = "own"
    grouped: bool = False
    positive: tuple[tuple[bool, ...], ...] | None = None

    @property
    def map(self) -> np.ndarray:
        """(m, L)."""
        return np.asarray(self.matrix)


class Rows(NamedTuple):
    """Standardised columns (n, p), response (n,) and shares of weight (n,).

    `products` are those of `column_products`, where many Hessians are wanted.
    """

    columns: Array
    y: Array
    share: Array
    products: Array | None = None


class Terms(NamedTuple):
    """The penalty by coordinates of theta = (alpha, psi): (m + L p,) and a scalar.

    `weights` are the factors c, zero for intercepts; `mask` says which coordinates may
    differ from zero; `ratio` is the share of absolute values.
    """

    weights: Array
    mask: Array
    ratio: Array


def _terms(setting: Setting, rows: Rows, eta: Array):
    return row_terms(setting.family, setting.link, eta, rows.y)


def mean_loss(setting: Setting, rows: Rows, eta: Array) -> Array:
    """-sum_i share_i log p_i; rows without weight do not count, whatever they hold."""
    log_prob = _terms(setting, rows, eta).log_prob
    return -jnp.sum(jnp.where(rows.share > 0, rows.share * log_prob, 0))


def loss_gradient(setting: Setting, rows: Rows, eta: Array) -> Array:
    """Gradient in theta of `mean_loss`."""
    gradient = _terms(setting, rows, eta).gradient
    weighted = jnp.where(rows.share[:, None] > 0, rows.share[:, None] * gradient, 0)
    return -block_gradient(rows.columns, weighted, setting.map)


def loss_hessian(
    setting: Setting, rows: Rows, eta: Array, *, expected: bool | None = None
) -> Array:
    """Second derivative in theta of `mean_loss`, or its expectation.

    The Cauchy link is not log-concave: its solver uses the expectation.
    """
    if expected is None:
        expected = setting.link == "cauchit" and setting.family != "acat"
    if expected:
        information = expected_information(setting.family, setting.link, eta)
    else:
        information = _terms(setting, rows, eta).information
    entries = jnp.where(rows.share > 0, rows.share * information, 0)
    index = pairs(setting.family, setting.num_classes - 1)
    return block_hessian(rows.columns, entries, index, setting.map, rows.products)


def smooth_model(setting: Setting, rows: Rows, ridge: Array) -> SmoothModel:
    """Loss plus a ridge, with the edge of its domain."""

    def limit(eta: Array, change: Array) -> Array:
        gap = own_class_gap(setting.family, eta, rows.y)
        narrowing = -own_class_gap(setting.family, change, rows.y)
        closes = (narrowing > 0) & (rows.share > 0) & jnp.isfinite(gap)
        ratio = gap / jnp.where(closes, narrowing, 1)
        return jnp.min(jnp.where(closes, ratio, jnp.inf))

    return SmoothModel(
        predict=lambda theta: linear_predictor(rows.columns, theta, setting.map)[0],
        value=lambda eta, theta: (
            mean_loss(setting, rows, eta) + jnp.sum(ridge * theta * theta) / 2
        ),
        gradient=lambda eta, theta: loss_gradient(setting, rows, eta) + ridge * theta,
        hessian=lambda eta, theta: loss_hessian(setting, rows, eta) + jnp.diag(ridge),
        limit=limit,
    )


def null_start(setting: Setting, rows: Rows) -> Array:
    """Intercepts from the frequencies, blocks zero."""
    m = setting.num_classes - 1
    counts = jnp.zeros(m + 1, rows.share.dtype).at[rows.y].add(rows.share)
    # A class without weight gets a little, so that the start is finite.
    floor = jnp.sqrt(jnp.finfo(counts.dtype).eps)
    counts = jnp.maximum(counts, floor)
    alpha = start_intercepts(setting.family, setting.link, counts / jnp.sum(counts))
    size = m + setting.map.shape[1] * rows.columns.shape[1]
    return jnp.zeros(size, counts.dtype).at[:m].set(alpha)
