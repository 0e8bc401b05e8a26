"""The recalibrators of `jaxcur calibrate`, and their cross-fitted probabilities."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxcur import calibration


@dataclasses.dataclass(frozen=True)
class Recalibrator:
    """One way to repair probabilities.

    Attributes:
        fit: of `jaxcur.calibration`.
        takes_logits: whether it is fitted to logits rather than to probabilities.
        reaches_ends: whether it can answer exactly 0 or 1. It is then mixed with the
            base rate by one part in n + 1, or a single surprise costs an infinite log
            loss.
    """

    fit: Callable[..., Any]
    takes_logits: bool = False
    reaches_ends: bool = False


# Simplest first: of several that do equally well, the first is advised.
RECALIBRATORS = {
    "temperature": Recalibrator(calibration.fit_temperature, takes_logits=True),
    "platt": Recalibrator(calibration.fit_platt, takes_logits=True),
    "beta": Recalibrator(calibration.fit_beta),
    "isotonic": Recalibrator(calibration.fit_isotonic, reaches_ends=True),
    "centred": Recalibrator(
        functools.partial(calibration.fit_isotonic, kind="centred"), reaches_ends=True
    ),
    "histogram": Recalibrator(
        functools.partial(calibration.fit_histogram, num_bins=10), reaches_ends=True
    ),
    "scaling-binning": Recalibrator(
        functools.partial(calibration.fit_scaling_binning, num_bins=10)
    ),
    "bbq": Recalibrator(calibration.fit_bbq),
    "spline": Recalibrator(calibration.fit_spline, reaches_ends=True),
    "venn-abers": Recalibrator(calibration.fit_venn_abers),
}
COMPARED = ("temperature", "platt", "beta", "isotonic")


def logits_of(probs: np.ndarray) -> np.ndarray:
    """Log-odds, with probabilities kept 1e-12 away from 0 and 1."""
    clipped = np.clip(probs, 1e-12, 1 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)


def fit_map(
    name: str, probs: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from probabilities to recalibrated ones.

    Args:
        name: in `RECALIBRATORS`.
        probs: shape (n,).
        labels: shape (n,), 0 or 1.
        weights: shape (n,); rows of weight 0 are absent.
    """
    method = RECALIBRATORS[name]
    prepare = logits_of if method.takes_logits else np.asarray
    calibrator = method.fit(prepare(probs), labels, weights=weights)
    if method.reaches_ends:
        calibrator = calibration.blend_with_prior(
            calibrator,
            share=1 / (1 + np.count_nonzero(weights)),
            prior=np.average(labels, weights=weights),
        )
    return lambda new: np.asarray(calibrator(prepare(new)))


def deal_folds(labels: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Folds (n,), rows of each class dealt out in turn, in random order."""
    order = np.lexsort((np.random.default_rng(seed).random(len(labels)), labels))
    folds = np.empty(len(labels), int)
    folds[order] = np.arange(len(labels)) % num_folds
    return folds


def cross_fitted(
    name: str,
    probs: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    folds: np.ndarray,
) -> np.ndarray:
    """Probabilities (n,), each by the map that was fitted without its fold."""
    found = np.empty(len(probs))
    for fold in range(folds.max() + 1):
        held = folds == fold
        # A held-out row has weight 0: one shape, and so one program for all folds.
        apply = fit_map(name, probs, labels, np.where(held, 0.0, weights))
        found[held] = apply(probs)[held]
    return found
