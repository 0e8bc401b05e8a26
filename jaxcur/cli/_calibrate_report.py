"""What `jaxcur calibrate` finds: numbers, a verdict, and an advice."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur import calibration
from jaxcur._base import p_value
from jaxcur.cli._calibrate_methods import COMPARED, cross_fitted

# Up to here p-values are exact, by simulation; beyond, by the limit distribution.
_EXACT_ROWS = 5_000
_NUM_RESAMPLES = 1_000
# Draws of labels that show what an error looks like where nothing is wrong.
_NUM_NULL = 200
_SMALL = 0.05
# What the log loss puts in place of a probability of 0.
EPS = float(np.finfo(float).eps)


@dataclasses.dataclass(frozen=True)
class Rows:
    """The table, checked.

    Attributes:
        probs: shape (n,), forecasts in [0, 1].
        labels: shape (n,), 0 or 1.
        weights: shape (n,), or None.
        event: the value of the label column that counts as 1.
        column: the name of the label column.
        num_dropped: rows left out for a missing entry.
    """

    probs: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None
    event: str
    column: str
    num_dropped: int

    @property
    def mass(self) -> np.ndarray:
        """Weights, ones where none are given."""
        return np.ones(len(self.probs)) if self.weights is None else self.weights


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with an interval (NaN where there is none)."""

    estimate: float
    lower: float = math.nan
    upper: float = math.nan


@dataclasses.dataclass(frozen=True)
class Test:
    """A test of calibration."""

    statistic: float
    p_value: float


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A recalibrator, scored on rows it was not fitted to.

    Attributes:
        probs: shape (n,).
        log_loss: mean over rows.
        gain: log loss of the forecasts as they are less this one, with its interval.
        behind: this log loss less that of the best candidate, with its interval.
    """

    probs: np.ndarray
    log_loss: float
    gain: Estimate
    behind: Estimate


@dataclasses.dataclass(frozen=True)
class Report:
    """All that is printed.

    Attributes:
        by_chance: ends of the central 95 % of the ECE of calibrated forecasts.
        num_impossible: rows that were forecast with 0 or 1, and came out otherwise.
        corp: miscalibration, discrimination and uncertainty of the Brier score.
        advice: the name of a recalibrator, or None: leave them as they are.
        reason: the advice in a sentence.
        verdict: the tests in a sentence.
    """

    rows: Rows
    confidence_level: float
    num_bins: int
    metrics: dict[str, Estimate]
    by_chance: tuple[float, float]
    num_impossible: int
    corp: tuple[float, float, float]
    tests: dict[str, Test]
    exact: bool
    num_folds: int
    candidates: dict[str, Candidate]
    advice: str | None
    reason: str
    verdict: str


def make_report(
    rows: Rows,
    folds: np.ndarray,
    *,
    more: tuple[str, ...],
    num_bins: int,
    confidence_level: float,
    seed: int,
) -> Report:
    """Measure, test, and compare recalibrators. Call it with float64 enabled.

    Args:
        rows: the table.
        folds: shape (n,), of the cross-fitting.
        more: recalibrators to compare beside the usual ones.
        num_bins: bins of the binned error.
        confidence_level: of the intervals.
        seed: of resamples and simulations.
    """
    keys = jax.random.split(jax.random.key(seed), 3)
    metrics = _metrics(rows, num_bins, confidence_level, keys[0])
    exact = len(rows.probs) <= _EXACT_ROWS
    tests = _tests(rows, exact, keys[1])
    names = (*COMPARED, *(name for name in more if name not in COMPARED))
    candidates = _candidates(rows, folds, names, confidence_level)
    advice, reason = _advise(candidates, confidence_level)
    corp = calibration.corp_decomposition(rows.probs, rows.labels, weights=rows.weights)
    return Report(
        rows=rows,
        confidence_level=confidence_level,
        num_bins=num_bins,
        metrics=metrics,
        by_chance=_by_chance(rows, num_bins, keys[2]),
        num_impossible=int((rows.probs == 1 - rows.labels).sum()),
        corp=(
            float(corp.miscalibration),
            float(corp.discrimination),
            float(corp.uncertainty),
        ),
        tests=tests,
        exact=exact,
        num_folds=int(folds.max()) + 1,
        candidates=candidates,
        advice=advice,
        reason=reason,
        verdict=_verdict(rows, tests),
    )


def _ece(num_bins: int, **options: Any) -> Any:
    return functools.partial(
        calibration.expected_calibration_error, num_bins=num_bins, **options
    )


def _metrics(
    rows: Rows, num_bins: int, confidence_level: float, key: Any
) -> dict[str, Estimate]:
    given = rows.probs, rows.labels

    def interval(metric: Any, **options: Any) -> Estimate:
        found = calibration.confidence_interval(
            metric,
            *given,
            confidence_level=confidence_level,
            weights=rows.weights,
            **options,
        )
        return Estimate(float(found.estimate), float(found.lower), float(found.upper))

    def plain(metric: Any) -> Estimate:
        return Estimate(float(metric(*given, weights=rows.weights)))

    return {
        "ece": interval(_ece(num_bins), num_resamples=_NUM_RESAMPLES, key=key),
        "ece_debiased": plain(_ece(num_bins, debias=True)),
        "smooth_ece": plain(calibration.smooth_ece),
        "ks": plain(calibration.ks_error),
        "brier": interval(calibration.brier_score, method="analytic"),
        "log_loss": interval(calibration.log_loss, method="analytic"),
        "auc": plain(calibration.auc),
    }


def _by_chance(rows: Rows, num_bins: int, key: Any) -> tuple[float, float]:
    """Where the binned error of calibrated forecasts like these would lie."""
    probs, mass = jnp.asarray(rows.probs), jnp.asarray(rows.mass)
    metric = _ece(num_bins)

    def one(key: Any) -> Any:
        drawn = jax.random.uniform(key, probs.shape) < probs
        return metric(probs, drawn.astype(probs.dtype), weights=mass)

    values = jax.lax.map(one, jax.random.split(key, _NUM_NULL))
    low, high = np.quantile(np.asarray(values), [0.025, 0.975])
    return float(low), float(high)


def _tests(rows: Rows, exact: bool, key: Any) -> dict[str, Test]:
    how: dict[str, Any] = {"key": key} if exact else {"method": "asymptotic"}
    found = {}
    for name, test in (
        ("spiegelhalter", calibration.spiegelhalter_test),
        ("ks", calibration.ks_test),
        ("kuiper", calibration.kuiper_test),
    ):
        result = test(rows.probs, rows.labels, weights=rows.weights, **how)
        found[name] = Test(float(result.statistic), float(result.p_value))
    return found


def _verdict(rows: Rows, tests: dict[str, Test]) -> str:
    smallest = min(test.p_value for test in tests.values()) * len(tests)
    if not smallest < _SMALL:
        return (
            "no test speaks against calibration; that is no proof of it, because "
            "small errors escape few rows"
        )
    gap = np.average(rows.probs - rows.labels, weights=rows.mass)
    spread = math.sqrt(float(np.sum(rows.mass**2 * rows.probs * (1 - rows.probs))))
    signs = []
    if abs(gap) * rows.mass.sum() > 1.96 * spread:
        signs.append(f"too {'high' if gap > 0 else 'low'} on average by {abs(gap):.3g}")
    z = tests["spiegelhalter"].statistic
    if tests["spiegelhalter"].p_value < _SMALL:
        signs.append("over-confident" if z > 0 else "under-confident")
    found = f"; they are {' and '.join(signs)}" if signs else ""
    return (
        f"the forecasts are not calibrated (smallest p-value times {len(tests)}, for "
        f"{len(tests)} tests: {p_value(min(smallest, 1.0))}){found}"
    )


def _log_losses(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log loss of each row, as `calibration.log_loss` averages it."""
    of_label = np.where(labels == 1, probs, 1 - probs)
    return -np.log(np.maximum(of_label, EPS))


def _paired(values: np.ndarray, mass: np.ndarray, confidence_level: float) -> Estimate:
    """A mean over rows and its normal interval."""
    mean = float(np.average(values, weights=mass))
    error = math.sqrt(float(np.sum((mass * (values - mean)) ** 2))) / mass.sum()
    reach = float(jax.scipy.stats.norm.ppf((1 + confidence_level) / 2)) * error
    return Estimate(mean, mean - reach, mean + reach)


def _candidates(
    rows: Rows, folds: np.ndarray, names: tuple[str, ...], confidence_level: float
) -> dict[str, Candidate]:
    mass = rows.mass
    probs = {
        name: cross_fitted(name, rows.probs, rows.labels, mass, folds) for name in names
    }
    losses = {name: _log_losses(found, rows.labels) for name, found in probs.items()}
    means = {name: float(np.average(x, weights=mass)) for name, x in losses.items()}
    best = losses[min(means, key=lambda name: means[name])]
    before = _log_losses(rows.probs, rows.labels)
    return {
        name: Candidate(
            probs=probs[name],
            log_loss=means[name],
            gain=_paired(before - losses[name], mass, confidence_level),
            behind=_paired(losses[name] - best, mass, confidence_level),
        )
        for name in names
    }


def _advise(
    candidates: dict[str, Candidate], confidence_level: float
) -> tuple[str | None, str]:
    """The simplest recalibrator that is not seen to be worse than the best."""
    level = f"{100 * confidence_level:g} %"
    best = min(candidates, key=lambda name: candidates[name].log_loss)
    chosen = next(n for n, found in candidates.items() if found.behind.lower <= 0)
    gain = candidates[chosen].gain
    if gain.lower <= 0:
        return None, (
            "leave them as they are: no recalibration is seen to lower the log loss "
            f"({chosen}: by {gain.estimate:.3g}, {level} interval {gain.lower:.3g} to "
            f"{gain.upper:.3g})"
        )
    why = "" if chosen == best else f"; {best} is not seen to be better still"
    return chosen, (
        f"{chosen}: it lowers the log loss by {gain.estimate:.3g} "
        f"({level} interval {gain.lower:.3g} to {gain.upper:.3g}){why}"
    )
