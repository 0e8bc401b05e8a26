"""Minimisation of a convex function over the weights of a mixture."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.calibration._calibrator import INVALID, MAX_STEPS, OK


class SimplexMinimum(NamedTuple):
    """Where the iteration ended.

    Attributes:
        shares: shape (m,), nonnegative with sum 1.
        gap: scalar, max_k g'(w - e_k): the value exceeds the minimum by at most this.
        status: scalar int.
        num_steps: scalar int.
    """

    shares: Array
    gap: Array
    status: Array
    num_steps: Array


def minimise_on_simplex(
    function: Callable[[Array], Array], m: int, dtype, *, max_steps: int = 200
) -> SimplexMinimum:
    """Follow the logarithmic barrier down to the optimum, with Newton steps.

    The linear bound at the end, max_k g'(w - e_k), is a certificate for any convex
    function.
    """
    eps = float(jnp.finfo(dtype).eps)
    goal = 1e-12 if dtype == jnp.float64 else 1e-7
    slope = jax.grad(function)
    curve = jax.hessian(function)
    ones = jnp.ones(m, dtype)

    def gap_at(shares: Array) -> Array:
        gradient = slope(shares)
        return jnp.sum(gradient * shares) - jnp.min(gradient)

    def step(state):
        shares, barrier, count, _ = state
        gradient = slope(shares) - barrier / shares
        # In units of the shares the barrier has the identity as Hessian.
        hessian = shares[:, None] * curve(shares) * shares[None, :]
        hessian = hessian + barrier * jnp.eye(m, dtype=dtype)
        size = jnp.trace(hessian) / m
        hessian = hessian + 4 * eps * size * jnp.eye(m, dtype=dtype)
        factor = jnp.linalg.cholesky(hessian)
        right = jnp.stack([shares * gradient, shares * ones], axis=1)
        solved = jax.scipy.linalg.cho_solve((factor, True), right)
        level = jnp.sum(shares * solved[:, 0]) / jnp.sum(shares * solved[:, 1])
        relative = -(solved[:, 0] - level * solved[:, 1])
        longest = jnp.max(-relative)
        length = jnp.minimum(1, 0.9 / jnp.maximum(longest, eps))
        shares = shares * (1 + length * relative)
        shares = shares / jnp.sum(shares)
        # A step well inside the region means that this barrier is followed closely.
        near = jnp.max(jnp.abs(relative)) < 0.5
        barrier = jnp.where(near, barrier * 0.2, barrier)
        return shares, jnp.maximum(barrier, goal / (10 * m)), count + 1, gap_at(shares)

    def proceed(state):
        return (state[3] > goal) & (state[2] < max_steps)

    start = ones / m
    state = (start, jnp.asarray(0.1, dtype), jnp.int32(0), gap_at(start))
    shares, _, count, gap = jax.lax.while_loop(proceed, step, state)
    status = jnp.where(gap <= 30 * goal, OK, MAX_STEPS)
    status = jnp.where(jnp.isfinite(gap), status, INVALID).astype(jnp.int32)
    shares = jnp.where(status == INVALID, jnp.nan, shares)
    return SimplexMinimum(shares, gap, status, count)


def mixture_loss(columns: Array, share: Array) -> Callable[[Array], Array]:
    """Mean of -log(columns @ w), the columns being probabilities of the outcome."""
    tiny = jnp.finfo(columns.dtype).tiny

    def loss(shares: Array) -> Array:
        mixed = jnp.maximum(columns @ shares, tiny)
        return -jnp.sum(share * jnp.log(mixed))

    return loss
