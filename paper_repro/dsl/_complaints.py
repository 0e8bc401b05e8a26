"""Which complaints are reported upward? The re-analysis of Pan and Chen (2018)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcur import data, debiased, learners

FOLDS = Path(__file__).parents[2] / "tests/reference/data/dsl" / "cross_fit_PanChen.csv"
NUM_SPLITS = 10


def _row(result: debiased.EstimateResult) -> dict[str, list[float]]:
    return {
        "estimate": np.asarray(result.estimate, float).tolist(),
        "std_error": np.asarray(result.std_error, float).tolist(),
        "p_value": np.asarray(result.p_value(), float).tolist(),
    }


def published_folds(complaints: data.ComplaintData) -> np.ndarray:
    """Predictions of the R package by least squares in its own folds, (n,).

    Raises:
        ValueError: the rows are not those of the data.
    """
    frame = data.read_table(FOLDS)
    label = np.where(frame["labeled"] == 1, frame["label"], np.nan)
    same = np.array_equal(label, complaints.accuses, equal_nan=True)
    if not same or not np.array_equal(frame["predicted"], complaints.accuses_predicted):
        raise ValueError(f"the rows of '{FOLDS.name}' are not those of the complaints")
    return frame["cross_fitted"].to_numpy(float)


def analyse(complaints: data.ComplaintData) -> dict[str, dict[str, list[float]]]:
    """Every analysis of the table; each with estimate, standard error, p-value."""
    with jax.enable_x64(True):
        return _analyse(complaints)


def _analyse(complaints: data.ComplaintData) -> dict[str, dict[str, list[float]]]:
    labeled, y = complaints.labeled, complaints.reported
    machine = complaints.accuses_predicted

    def columns(accuses: np.ndarray) -> np.ndarray:
        parts = [np.ones(len(y)), accuses, *complaints.covariates.T]
        return np.stack(parts, axis=1)

    observed = columns(complaints.accuses)

    def fit(guess: Any, **options: Any) -> debiased.EstimateResult:
        return debiased.logistic(
            observed, y, X_predicted=columns(guess), labeled=labeled, **options
        )

    # The package takes labels as independent draws with the realised fraction.
    coins = {"sampling_prob": float(labeled.mean()), "power_tuning": None}
    given = published_folds(complaints)
    trusted = columns(machine)
    everything = debiased.logistic(
        trusted,
        y,
        X_predicted=trusted,
        labeled=np.ones(len(y), bool),
        sampling_prob=1.0,
    )
    splits = debiased.cross_fit(
        learners.Ridge(0.0),
        machine[:, None],
        complaints.accuses,
        labeled=labeled,
        num_splits=NUM_SPLITS,
        key=jax.random.key(0),
    )
    each = [fit(np.asarray(guess), **coins) for guess in splits]
    estimate, covariance = debiased.aggregate_splits(
        np.stack([one.estimate for one in each]),
        np.stack([one.covariance for one in each]),
    )
    error = np.sqrt(np.diagonal(covariance))
    z = np.abs(np.asarray(estimate)) / error
    return {
        "surrogate only": _row(everything),
        "gold only": _row(fit(machine, power_tuning=0.0)),
        "DSL, raw surrogate": _row(fit(machine, power_tuning=None)),
        "given folds": _row(fit(given, **coins)),
        "given folds, design srs": _row(fit(given, power_tuning=None)),
        "given folds, tuned": _row(fit(given)),
        "own folds, ten splits": {
            "estimate": np.asarray(estimate).tolist(),
            "std_error": error.tolist(),
            "p_value": (2 * jax.scipy.stats.norm.sf(z)).tolist(),
        },
    }
