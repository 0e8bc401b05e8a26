"""Mixtures of calibrators, and a blend with the prior that bounds the log loss."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_unit_interval, register_dataclass
from jaxcur.calibration._calibrator import Fitted, normalised, with_rows
from jaxcur.calibration._inputs import check_classes, check_outcomes, check_weights
from jaxcur.calibration._simplex import minimise_on_simplex, mixture_loss


@register_dataclass
@dataclasses.dataclass(frozen=True)
class MixtureCalibrator(Fitted):
    """The mean of several calibrators, with convex weights.

    Attributes:
        calibrators: tuple of m calibrators of the same input.
        shares: shape (m,), nonnegative with sum 1.
        gap: scalar: the loss exceeds its minimum over the shares by at most this.
        status: scalar int, a key of `calibration.STATUS`.
    """

    calibrators: tuple[Any, ...]
    shares: Array
    gap: Array
    status: Array

    def __call__(self, scores: Real[ArrayLike, "m ..."]) -> Float[Array, "m ..."]:
        """Probabilities at new input of the calibrators."""
        parts = jnp.stack([calibrator(scores) for calibrator in self.calibrators])
        return jnp.tensordot(self.shares, parts, axes=1)


def fit_mixture(
    calibrators: Sequence[Any],
    scores: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> MixtureCalibrator:
    """The convex mixture of fitted calibrators with the smallest log loss.

    The problem is convex and solved to a certified gap. Use rows on which the
    calibrators were not fitted: otherwise the most flexible one wins.

    Heuristic: no finite-sample guarantee on the probabilities. The loss on these rows
    is at most that of each calibrator, plus `gap`.

    Args:
        calibrators: m of them, which take the same input.
        scores: that input, n rows.
        labels: shape (n,), 0 or 1; integers 0..k-1 where the calibrators give (n, k).
        weights: shape (n,), at least 0; ones when missing.

    Returns:
        A calibrator of the same input.

    Raises:
        ValueError: no calibrators, unequal lengths, or illegal labels or weights.

    Transformations: jit, vmap. Not differentiable in reverse mode.
    Cost: one prediction of each calibrator, and O(n m^2) for each of about 30 steps.

    Source: Zhang, Kailkhura and Han, "Mix-n-match", ICML 2020, for the convex problem.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> f = jnp.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
        >>> y = jnp.array([0, 0, 1, 0, 1, 1])
        >>> parts = [
        ...     calibration.fit_isotonic(f, y),
        ...     calibration.fit_histogram(f, y, num_bins=1),
        ... ]
        >>> calibration.fit_mixture(parts, f, y).shares.round(2)
        Array([1., 0.], dtype=float32)
    """
    parts = tuple(calibrators)
    if not parts:
        raise ValueError("`calibrators` must hold at least one calibrator, got none")
    tables = [calibrator(scores) for calibrator in parts]
    table = jnp.stack(tables)
    like = table[0]
    w = check_weights(weights, like, "scores")
    if like.ndim == 2:
        classes, _ = check_classes("labels", labels, like.shape[1], like, "scores")
        chosen = jnp.take_along_axis(table, classes[None, :, None], axis=2)[..., 0]
        return _fit(parts, chosen.T, None, w)
    y = check_outcomes("labels", labels, like, "scores")
    return _fit(parts, table.T, y, w)


@jax.jit
def _fit(parts, columns, y, w):
    share = normalised(w)
    if y is None:
        (columns,) = with_rows(w, columns)
        columns = jnp.where((w > 0)[:, None], columns, 1)
    else:
        columns, y = with_rows(w, columns, y)
        # An outcome between 0 and 1 counts as a part of either.
        share = jnp.concatenate([share * y, share * (1 - y)])
        columns = jnp.concatenate([columns, 1 - columns])
        columns = jnp.where((share > 0)[:, None], columns, 1)
    function = mixture_loss(columns, share)
    found = minimise_on_simplex(function, columns.shape[1], columns.dtype)
    return MixtureCalibrator(
        calibrators=parts, shares=found.shares, gap=found.gap, status=found.status
    )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class PriorBlend:
    """q = (1 - share) * calibrator(scores) + share * prior.

    Attributes:
        calibrator: the calibrator that is blended.
        prior: scalar, or shape (k,).
        share: scalar, in [0, 1].
    """

    calibrator: Any
    prior: Array
    share: Array

    def __call__(self, scores: Real[ArrayLike, "m ..."]) -> Float[Array, "m ..."]:
        """Probabilities at new input of the calibrator."""
        found = self.calibrator(scores)
        share = self.share.astype(found.dtype)
        return (1 - share) * found + share * self.prior.astype(found.dtype)


def blend_with_prior(
    calibrator: Any,
    *,
    share: Real[ArrayLike, ""],
    prior: Real[ArrayLike, "..."] = 0.5,
) -> PriorBlend:
    """Mix a calibrator with a constant, so that no outcome has probability 0.

    With share = 1 / (n + 1), n rows having been used for the fit, the log loss of an
    outcome is at most log((n + 1) / prior), where an isotonic fit alone gives +inf.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        calibrator: any calibrator.
        share: the weight of the prior, in [0, 1].
        prior: the constant: a probability, or shape (k,) for k classes.

    Returns:
        A calibrator of the same input.

    Raises:
        ValueError: `share` outside [0, 1].

    Transformations: jit, vmap, grad.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> isotonic = calibration.fit_isotonic(jnp.arange(3.0), jnp.array([0, 0, 1]))
        >>> calibration.blend_with_prior(isotonic, share=0.25)(jnp.array([0.0, 2.0]))
        Array([0.125, 0.875], dtype=float32)
    """
    check_unit_interval("share", share)
    dtype = jnp.result_type(float)
    return PriorBlend(
        calibrator=calibrator,
        prior=jnp.asarray(prior, dtype),
        share=jnp.asarray(share, dtype),
    )
