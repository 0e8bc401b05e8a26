"""Means, standard errors and intervals; comparison with independent figures."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
# Reference figures are compared at this many combined standard errors.
WIDTH = 3.0
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))


def summarise(rates: np.ndarray) -> dict[str, list]:
    """Mean and standard error over replications of an array (replications, ..., 2)."""
    count = len(rates)
    mean = rates.mean(axis=0)
    spread = rates.std(axis=0, ddof=1) if count > 1 else np.full(mean.shape, np.nan)
    error = spread / np.sqrt(count)
    return {
        "fdr": np.round(mean[..., 0], 4).tolist(),
        "fdr_se": np.round(error[..., 0], 4).tolist(),
        "power": np.round(mean[..., 1], 4).tolist(),
        "power_se": np.round(error[..., 1], 4).tolist(),
    }


def interval(mean: Any, error: Any) -> tuple[np.ndarray, np.ndarray]:
    """95 % normal interval, cut to [0, 1]."""
    mean, half = np.asarray(mean), 1.96 * np.asarray(error)
    return np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


def distance(
    ours: float, our_error: float, theirs: float, their_error: float | None
) -> float:
    """Difference in combined standard errors; figures have three or four decimals.

    Where the reference gives no standard error, ours stands for both.
    """
    other = our_error if their_error is None else their_error
    # Half a unit of the third decimal, the rounding of the reference figures.
    scale = np.sqrt(our_error**2 + other**2 + 0.0005**2)
    return float(abs(ours - theirs) / scale)


def comparisons(results: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Each independent figure beside ours.

    Args:
        results: study name -> {"levels": [...], "rules": {rule: summary}}.
    """
    for study, rules in EXPECTED["simulations"].items():
        if study not in results:
            continue
        levels = results[study]["levels"]
        for rule, by_level in rules.items():
            name = EXPECTED["rule_names"].get(rule, rule)
            ours = results[study]["rules"].get(name)
            if ours is None:
                continue
            for level, figures in by_level.items():
                if float(level) not in levels:
                    continue
                place = levels.index(float(level))
                for rate in ("fdr", "power"):
                    if figures.get(rate) is None:
                        continue
                    pair = (ours[rate][place], ours[f"{rate}_se"][place])
                    other = figures.get(f"{rate}_se")
                    yield {
                        "study": study,
                        "rule": name,
                        "level": float(level),
                        "rate": rate,
                        "ours": pair[0],
                        "ours_se": pair[1],
                        "expected": figures[rate],
                        "expected_se": other,
                        "distance": round(distance(*pair, figures[rate], other), 2),
                    }


def violations(results: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Where the FDR of a guaranteed rule exceeds the level by three standard errors."""
    for study, result in results.items():
        for rule, summary in result["rules"].items():
            if rule in ("naive", "bh"):
                continue
            rows = zip(result["levels"], summary["fdr"], summary["fdr_se"])
            for level, fdr, error in rows:
                if fdr > level + WIDTH * error:
                    yield {
                        "study": study,
                        "rule": rule,
                        "level": level,
                        "fdr": fdr,
                        "fdr_se": error,
                    }
