"""The metrics of the paper's tables, and what they come to over seeds."""

from functools import partial
from typing import Any

import jax
import numpy as np
from scipy import stats as law

from jaxcur import calibration

_BINS = {"num_bins": 15, "binning": "mass", "weighting": "uniform"}


def _off_ends(f: np.ndarray) -> np.ndarray:
    """Kept off 0 and 1 by 1e-10, as in the published code.

    A single sure row that is wrong would make every mean infinite.
    """
    return np.clip(f, 1e-10, 1 - 1e-10)


METRICS = {
    "MSE_p": lambda f, y, p: calibration.mean_squared_probability_error(f, p),
    "KL_p": lambda f, y, p: calibration.kl_probability_error(_off_ends(f), p),
    "ECE": lambda f, y, p: calibration.expected_calibration_error(f, y, **_BINS),
    "MCE": lambda f, y, p: calibration.expected_calibration_error(
        f, y, num_bins=15, binning="mass", norm="max"
    ),
    "KS": lambda f, y, p: calibration.ks_error(f, y),
    "Brier": lambda f, y, p: calibration.brier_score(f, y),
    "log loss": lambda f, y, p: calibration.log_loss(_off_ends(f), y),
    "AUC": lambda f, y, p: calibration.auc(f, y),
}
BASELINE, CONTROL = "early stop", "continued"


def score(f: np.ndarray, y: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Every metric of one set of forecasts, in float64."""
    with jax.enable_x64(True):
        return {name: float(metric(f, y, p)) for name, metric in METRICS.items()}


def interval(values: np.ndarray) -> list[float]:
    """Mean and 95 % interval by Student's t over the seeds."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return [mean, float("nan"), float("nan")]
    reach = law.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return [mean, mean - reach, mean + reach]


def summarise(runs: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """For each method and metric: mean, and differences on the same draws."""
    methods = list(runs[0])

    def column(method: str, metric: str) -> np.ndarray:
        return np.array([run[method][metric] for run in runs])

    against = partial(_differences, column)
    return {
        "seeds": len(runs),
        "mean": {m: {k: interval(column(m, k)) for k in METRICS} for m in methods},
        "minus_baseline": {m: against(m, BASELINE) for m in methods if m != BASELINE},
        "minus_control": {m: against(m, CONTROL) for m in methods if m != CONTROL},
    }


def _differences(column: Any, method: str, other: str) -> dict[str, list[float]]:
    return {k: interval(column(method, k) - column(other, k)) for k in METRICS}
