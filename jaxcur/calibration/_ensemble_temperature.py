"""Ensemble temperature scaling: a mixture of three softmaxes."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, register_dataclass
from jaxcur.calibration._calibrator import (
    Fitted,
    check_class_logits,
    new_input,
    normalised,
    with_rows,
)
from jaxcur.calibration._simplex import minimise_on_simplex, mixture_loss
from jaxcur.calibration._temperature import solve_temperature


@register_dataclass
@dataclasses.dataclass(frozen=True)
class EnsembleTemperatureCalibrator(Fitted):
    """q = w_1 softmax(beta L) + w_2 softmax(L) + w_3 / k.

    Attributes:
        inverse_temperature: scalar, beta.
        shares: shape (3,), nonnegative with sum 1.
        gap: scalar: the loss exceeds its minimum over the shares by at most this.
        status: scalar int, a key of `calibration.STATUS`.
        num_steps: scalar int, Newton steps for the shares.
    """

    inverse_temperature: Array
    shares: Array
    gap: Array
    status: Array
    num_steps: Array

    def __call__(self, logits: Real[ArrayLike, "m k"]) -> Float[Array, "m k"]:
        """Probabilities at logits (m, k)."""
        table = new_input("logits", logits, self.shares, 2)
        scaled = jax.nn.softmax(self.inverse_temperature * table, axis=-1)
        plain = jax.nn.softmax(table, axis=-1)
        uniform = 1 / table.shape[1]
        first, second, third = self.shares
        return first * scaled + second * plain + third * uniform


def fit_ensemble_temperature(
    logits: Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
    loss: Literal["nll", "mse"] = "nll",
) -> EnsembleTemperatureCalibrator:
    """Fit a temperature, then the best mixture of it, the forecast and the uniform one.

    The second problem is convex in the shares; it is solved to a certified gap.

    Guarantee: the largest probability of a row stays the largest (where w_1 + w_2 > 0);
    the loss on the rows of the fit is at most that of temperature scaling, plus `gap`.
    Verified by: tests/unit/calibration/test_ensemble_temperature.py.

    Args:
        logits: shape (n, k), finite.
        labels: shape (n,), integers 0..k-1.
        weights: shape (n,), at least 0; ones when missing.
        loss: what both steps minimise: the negative log-likelihood, or the squared
            distance from the one-hot label (static).

    Returns:
        A calibrator of logits (m, k).

    Raises:
        ValueError: unequal lengths, n = 0, logits that are not finite, labels out of
            range, or illegal weights.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: as `fit_temperature`, and O(n) for each of about 30 steps ("mse": O(n k)
    once).

    Source: Zhang, Kailkhura and Han, "Mix-n-match", ICML 2020.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> logits = jnp.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
        >>> labels = jnp.array([0, 0, 1, 1])
        >>> calibrator = calibration.fit_ensemble_temperature(logits, labels)
        >>> calibrator(logits)[0].round(2)
        Array([0.75, 0.25], dtype=float32)
    """
    check_choice("loss", loss, ("nll", "mse"))
    table, y, w = check_class_logits(logits, labels, weights)
    return _fit(table, y, w, loss=loss)


@jax.jit(static_argnames=("loss",))
def _fit(table, y, w, *, loss):
    table, y = with_rows(w, table, y)
    k = table.shape[1]
    dtype = table.dtype
    share = normalised(w)
    pseudo = jnp.zeros((), dtype)
    u, _, _, _ = solve_temperature(table, y, w, pseudo=pseudo, loss=loss)
    beta = jnp.exp(u)
    scaled = jax.nn.softmax(beta * table, axis=1)
    plain = jax.nn.softmax(table, axis=1)

    def own(q: Array) -> Array:
        return jnp.take_along_axis(q, y[:, None], axis=1)[:, 0]

    uniform = jnp.full(table.shape[0], 1 / k, dtype)
    chosen = jnp.stack([own(scaled), own(plain), uniform], axis=1)
    if loss == "nll":
        found = minimise_on_simplex(mixture_loss(chosen, share), 3, dtype)
    else:
        parts = (scaled, plain, jnp.full_like(table, 1 / k))
        gram = jnp.stack(
            [jnp.stack([jnp.sum(share[:, None] * a * b) for a in parts]) for b in parts]
        )
        cross = jnp.sum(share[:, None] * chosen, axis=0)

        def squared(shares: Array) -> Array:
            return shares @ gram @ shares - 2 * jnp.sum(cross * shares) + 1

        found = minimise_on_simplex(squared, 3, dtype)
    return EnsembleTemperatureCalibrator(
        inverse_temperature=beta,
        shares=found.shares,
        gap=found.gap,
        status=found.status,
        num_steps=found.num_steps,
    )
