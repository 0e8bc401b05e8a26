"""Scores split by the best repair: what recalibration gains, and what it leaves."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import check_choice
from jaxcur.calibration._calibrator import clip_probs, clipped_logit
from jaxcur.calibration._cross_fit import cross_fit, fit_one_vs_rest
from jaxcur.calibration._isotonic import fit_isotonic
from jaxcur.calibration._kernel import check_forecasts
from jaxcur.calibration._mixture import blend_with_prior
from jaxcur.calibration._scores import brier_score, log_loss
from jaxcur.calibration._temperature import fit_temperature


class RefinementDecompositionResult(NamedTuple):
    """score = calibration + refinement, each a scalar.

    Attributes:
        calibration: what the cross-fitted repair gains; below 0 where it makes things
            worse.
        refinement: score of the repaired forecasts.
        score: score of the forecasts.
        probs: the repaired forecasts, each row by a map that has not seen it.
    """

    calibration: Array
    refinement: Array
    score: Array
    probs: Array


def _isotonic(scores: Any, labels: Any, *, weights: Any, blend: bool) -> Any:
    """Isotonic regression, of rows by class; blended so that no log is infinite."""
    if scores.ndim == 2:
        found = fit_one_vs_rest(fit_isotonic, scores, labels, weights=weights)
    else:
        found = fit_isotonic(scores, labels, weights=weights)
    if not blend:
        return found
    prior = 0.5 if scores.ndim == 1 else 1 / scores.shape[1]
    return blend_with_prior(found, share=1 / (jnp.sum(weights) + 1), prior=prior)


_ISOTONIC = {
    blend: functools.partial(_isotonic, blend=blend) for blend in (False, True)
}


def refinement_decomposition(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    score: Literal["brier", "log"] = "brier",
    method: Literal["isotonic", "temperature"] | Callable[..., Any] = "isotonic",
    num_folds: int = 5,
    folds: Int[ArrayLike, " n"] | None = None,
    key: Array | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> RefinementDecompositionResult:
    """Score as calibration error plus refinement error, by a cross-fitted repair T.

    S(f) = [S(f) - S(T(f))] + S(T(f)): the first term is what recalibration gains, the
    second what it cannot repair. Each row is repaired by a map fitted on the other
    folds, so noise that a map would learn by heart counts as what it is; unlike
    `corp_decomposition`, which fits and scores on the same rows, the first term can be
    negative.

    Heuristic: no finite-sample guarantee; the identity is exact. The calibration term
    is, up to noise, at most what the best map of this kind would gain.

    Args:
        probs: shape (n,), forecasts of a binary event; or (n, k), rows that sum to 1.
        labels: shape (n,), outcomes 0 or 1, or classes 0..k-1 for rows.
        score: "brier", or "log" (probabilities clipped as `log_loss` does). Static.
        method: "isotonic" (each class by itself for rows; for the log score blended
            with a constant of weight 1 / (1 + rows of the fit), see
            `blend_with_prior`), "temperature" (of the log-probabilities), or a fit
            (probs, labels, weights=...) that gives a calibrator of probabilities.
            Static.
        num_folds: at least 2. Static.
        folds: shape (n,), integers 0..num_folds-1, the fold of each row.
        key: PRNG key for random folds; either this or `folds`.
        weights: shape (n,), at least 0; ones when missing.

    Returns:
        `RefinementDecompositionResult`.

    Raises:
        ValueError: as `cross_fit`; values outside their range, or an unknown score or
            method.

    Transformations: jit, vmap.
    Cost: `num_folds` fits.

    Source: Berta, Holzmueller, Jordan and Bach, "Rethinking early stopping: refine,
    then calibrate", 2025.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.tile(jnp.array([0.75, 0.25]), 20)
        >>> labels = jnp.tile(jnp.array([1, 0]), 20)
        >>> found = calibration.refinement_decomposition(
        ...     probs, labels, key=jax.random.key(0)
        ... )
        >>> found.calibration, found.refinement
        (Array(0.0625, dtype=float32), Array(0., dtype=float32))
    """
    check_choice("score", score, ("brier", "log"))
    if not callable(method):
        check_choice("method", method, ("isotonic", "temperature"))
    p, c, w = check_forecasts(probs, labels, weights)
    table = p
    if callable(method):
        fit: Callable[..., Any] = method
    elif method == "isotonic":
        fit = _ISOTONIC[score == "log"]
    else:
        fit = fit_temperature
        table = clipped_logit(p) if p.ndim == 1 else jnp.log(clip_probs(p))
    found = cross_fit(
        fit, table, c, weights=w, num_folds=num_folds, folds=folds, key=key
    )
    loss = brier_score if score == "brier" else log_loss
    given = loss(p, c, weights=w)
    repaired = found.probs.astype(p.dtype)
    refinement = loss(repaired, c, weights=w)
    return RefinementDecompositionResult(
        given - refinement, refinement, given, repaired
    )
