"""Worlds with known truth, shared by the claims on selection."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.stats import norm


class World(NamedTuple):
    """Labels, predictions of K models, and the threshold to exceed.

    Attributes:
        labels: shape (n,), calibration.
        predictions: shape (K, n).
        test_labels: shape (m,), hidden from the procedure.
        test_predictions: shape (K, m).
        threshold: scalar; a candidate is null when its label is at most this.
    """

    labels: Array
    predictions: Array
    test_labels: Array
    test_predictions: Array
    threshold: Array

    @property
    def is_null(self) -> Array:
        """Which candidates are null, shape (m,)."""
        return self.test_labels <= self.threshold


def gaussian_world(
    key: Array,
    n: int,
    m: int,
    *,
    null_share: float,
    noise: float,
    num_models: int = 1,
    grid: float | None = None,
    signal: float = 1.0,
) -> World:
    """Standard normal labels; each model sees signal * label plus its own noise.

    `grid` rounds the predictions to multiples of it, which makes ties.
    """
    key_labels, key_noise = jax.random.split(key)
    labels = jax.random.normal(key_labels, (n + m,))
    errors = jax.random.normal(key_noise, (num_models, n + m))
    predictions = signal * labels + noise * errors
    if grid is not None:
        predictions = jnp.round(predictions / grid) * grid
    threshold = norm.ppf(jnp.float32(null_share))
    return World(
        labels[:n],
        predictions[:, :n],
        labels[n:],
        predictions[:, n:],
        threshold,
    )


def false_discovery_proportion(selected: Array, is_null: Array) -> Array:
    """Share of null candidates among the selected, 0 when none is selected."""
    false = jnp.sum(selected & is_null, dtype=jnp.int32)
    return false / jnp.maximum(jnp.sum(selected, dtype=jnp.int32), 1)


def power(selected: Array, is_null: Array) -> Array:
    """Share of the non-null candidates that are selected, 0 when there is none."""
    found = jnp.sum(selected & ~is_null, dtype=jnp.int32)
    return found / jnp.maximum(jnp.sum(~is_null, dtype=jnp.int32), 1)


def outcomes(selected: Array, is_null: Array) -> dict[str, Array]:
    """Both metrics of a selection."""
    return {
        "fdp": false_discovery_proportion(selected, is_null),
        "power": power(selected, is_null),
    }
