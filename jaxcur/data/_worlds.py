"""Synthetic worlds in which the truth is known."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class NoisyPredictions(NamedTuple):
    """Labels and what several models predict for them.

    Attributes:
        labels: shape (n,), standard normal.
        predictions: shape (k, n); row j is the prediction of model j.
    """

    labels: Array
    predictions: Array


def noisy_predictions(
    n: int, *, num_models: int = 1, noise: float | Array = 1.0, key: Array
) -> NoisyPredictions:
    """Standard normal labels, seen by each model through its own normal noise.

    Model j predicts `labels + noise * e_j` with independent standard normal `e_j`. The
    correlation of prediction and label is 1 / sqrt(1 + noise^2): 0.71 at the default,
    and practically 0 for a useless model at `noise=1e9`. All rows are independent and
    identically distributed, so any split of them is exchangeable.

    Args:
        n: rows.
        num_models: models k.
        noise: scale of the noise, one number or shape (k,).
        key: PRNG key.

    Returns:
        Labels of shape (n,) and predictions of shape (k, n).

    Transformations: jit with `n` and `num_models` static; vmap over `key`.

    Example:
        >>> import jax
        >>> from jaxcur import data
        >>> world = data.noisy_predictions(5, num_models=3, key=jax.random.key(0))
        >>> world.labels.shape, world.predictions.shape
        ((5,), (3, 5))
    """
    if n < 0 or num_models < 1:
        raise ValueError(
            f"`n` must be at least 0 and `num_models` at least 1, got {n}, {num_models}"
        )
    key_labels, key_noise = jax.random.split(key)
    labels = jax.random.normal(key_labels, (n,))
    scale = jnp.asarray(noise, labels.dtype)
    if scale.shape not in ((), (num_models,)):
        raise ValueError(
            f"`noise` must be a scalar or have shape ({num_models},), got {scale.shape}"
        )
    scale = jnp.broadcast_to(scale, (num_models,))[:, None]
    errors = jax.random.normal(key_noise, (num_models, n))
    return NoisyPredictions(labels, labels[None, :] + scale * errors)
