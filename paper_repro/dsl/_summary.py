"""Bias, coverage and RMSE of the simulation, each with its Monte Carlo error."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.dsl._study import ACCURACIES, ESTIMATORS

_HERE = Path(__file__).parent
_NORMAL = 1.959963984540054
FIGURES = ("bias", "coverage", "rmse")


@functools.cache
def expected() -> dict[str, Any]:
    """Published and independent figures, with where each comes from."""
    return json.loads((_HERE / "expected.json").read_text(encoding="utf-8"))


def _one(estimates: np.ndarray, errors: np.ndarray, truth: np.ndarray) -> dict:
    """Figures of one estimator; estimates and standard errors (replications, 5).

    Averages over the four slopes, as in the independent figures. Bias is the absolute
    mean error over the absolute coefficient; its average over slopes is above 0 by
    chance alone, by about its standard error.
    """
    sound = np.isfinite(np.concatenate([estimates, errors], axis=1)).all(axis=1)
    gaps = estimates[sound] - truth
    covered = np.abs(gaps) <= _NORMAL * errors[sound]
    count = len(gaps)
    mean, mse = gaps.mean(axis=0), (gaps**2).mean(axis=0)
    sizes = np.abs(truth)
    slopes = slice(1, None)
    # What a replication adds to each average, to first order.
    bias = (np.sign(mean) * (gaps - mean) / sizes)[:, slopes].mean(axis=1)
    safe = np.where(mse > 0, mse, 1)
    rmse = ((gaps**2 - mse) / (2 * np.sqrt(safe)))[:, slopes].mean(axis=1)
    hit = covered[:, slopes].mean(axis=1)

    def spread(values: np.ndarray) -> float:
        return float(values.std(ddof=1) / count**0.5) if count > 1 else float("nan")

    deviation = gaps.std(axis=0, ddof=1) if count > 1 else np.full(len(truth), np.nan)
    ratio = errors[sound].mean(axis=0) / np.where(deviation > 0, deviation, np.nan)
    return {
        "replications": count,
        "failed": len(estimates) - count,
        "bias": float((np.abs(mean) / sizes)[slopes].mean()),
        "bias_se": spread(bias),
        "coverage": float(hit.mean()),
        "coverage_se": spread(hit),
        "coverage_with_intercept": float(covered.mean()),
        "rmse": float(np.sqrt(mse)[slopes].mean()),
        "rmse_se": spread(rmse),
        "se_over_sd": float(ratio[slopes].mean()),
        "bias_by_coefficient": (mean / sizes).round(4).tolist(),
        "coverage_by_coefficient": covered.mean(axis=0).round(4).tolist(),
    }


def summarise(found: np.ndarray, accuracies: Any = ACCURACIES) -> dict[str, dict]:
    """Accuracy -> estimator -> figures; `found` as `_study.replications` gives it."""
    truth = np.array(expected()["truth"]["coefficients"])
    return {
        str(accuracy): {
            name: _one(found[:, a, 0, e], found[:, a, 1, e], truth)
            for e, name in enumerate(ESTIMATORS)
        }
        for a, accuracy in enumerate(accuracies)
    }


def compare(summary: dict[str, dict]) -> list[dict[str, Any]]:
    """Every figure that the independent implementation has too, with the distance.

    The distance is in combined standard errors; those of the independent figures are
    ours, for their number of replications.
    """
    other = expected()["independent"]
    rows = []
    for accuracy, estimators in other["rows"].items():
        for name, figures in estimators.items():
            ours = summary[accuracy][name]
            for figure in FIGURES:
                error = ours[f"{figure}_se"]
                theirs = error * (ours["replications"] / other["replications"]) ** 0.5
                gap = ours[figure] - figures[figure]
                # Printed to three digits.
                rounding = 0.0005
                combined = float(np.hypot(np.hypot(error, theirs), rounding))
                rows.append(
                    {
                        "accuracy": accuracy,
                        "estimator": name,
                        "figure": figure,
                        "ours": ours[figure],
                        "ours_se": error,
                        "independent": figures[figure],
                        "distance": round(abs(gap) / combined, 2),
                    }
                )
    return rows
