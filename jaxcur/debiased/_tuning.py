"""Power tuning: how much of the predicted moments to use.

With any matrix Lambda the adjusted moment  w m_o - (w - 1) Lambda m_p  has the mean of
m_o. Lambda = I is the plain estimator, Lambda = 0 uses labelled rows only.
"""

from typing import Literal

import jax.numpy as jnp
from jax import Array

from jaxcur.debiased._variance import Noise

TuningName = Literal["optimal", "scalar", "per_coordinate"]
TUNINGS = ("optimal", "scalar", "per_coordinate")


def optimal_matrix(noise: Noise) -> Array:
    """Lambda = E[A B'] E[B B']^-1, least variance for every coordinate at once.

    A is the label part of the moment and B the correction, which has mean zero. Scaled
    to unit diagonal, directions with less than 1e-8 of the variance are left out: a
    constant surrogate has some.
    """
    both, own = noise.observed_predicted, noise.predicted_predicted
    scale = jnp.sqrt(jnp.maximum(jnp.diagonal(own), 0))
    inverse = jnp.where(scale > 0, 1 / jnp.where(scale > 0, scale, 1), 0)
    inverse = inverse.astype(own.dtype)
    correlation = own * inverse[:, None] * inverse[None, :]
    values, vectors = jnp.linalg.eigh((correlation + correlation.T) / 2)
    floor = jnp.maximum(1e-8, 32 * jnp.finfo(own.dtype).eps) * values[-1]
    kept = values > floor
    weights = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0).astype(own.dtype)
    solved = ((both * inverse[None, :]) @ vectors) * weights[None, :]
    return (solved @ vectors.T) * inverse[None, :]


def tuning_matrix(
    how: TuningName, noise: Noise, influence: Array, jacobian: Array
) -> Array:
    """The matrix Lambda that a rule of `TUNINGS` asks for.

    Args:
        how: "optimal"; "scalar" for Lambda = lambda I with the least total variance of
            theta; "per_coordinate" for the best lambda of each coordinate of theta.
        noise: second moments at a first, consistent theta.
        influence: H (p, q), theta moves by H times a moment.
        jacobian: J (q, p) of the summed moments.
    """
    if how == "optimal":
        return optimal_matrix(noise)
    q = jacobian.shape[0]
    gain = jnp.einsum("ik,kl,il->i", influence, noise.observed_predicted, influence)
    cost = jnp.einsum("ik,kl,il->i", influence, noise.predicted_predicted, influence)
    if how == "scalar":
        gain, cost = jnp.sum(gain), jnp.sum(cost)
    ratio = jnp.where(cost > 0, gain / jnp.where(cost > 0, cost, 1), 0)
    if how == "scalar":
        return ratio * jnp.eye(q, dtype=jacobian.dtype)
    # H Lambda = diag(lambda) H with H = -J^-1.
    return (jacobian * ratio[None, :]) @ (-influence)
