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


def chance_of_mean(mean: float, level: float, replications: int) -> float:
    """Bound on the chance of such a mean if the expectation is at most the level.

    Chernoff's bound for means of independent variables in [0, 1], valid for any number
    of them. Standard errors mislead here: a proportion that is usually 0.6 and now and
    then 0 (nothing selected) shows no spread in fifteen replications without a 0.
    """
    if mean <= level:
        return 1.0
    gap = mean * np.log(mean / level)
    if mean < 1:
        gap += (1 - mean) * np.log((1 - mean) / (1 - level))
    return float(np.exp(-replications * gap))


def exceedances(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Where the FDR is above the level beyond chance (0.001), by kind of rule."""
    out: dict[str, list[dict[str, Any]]] = {"guaranteed": [], "naive": []}
    for study, result in results.items():
        for rule, summary in result["rules"].items():
            for level, fdr in zip(result["levels"], summary["fdr"]):
                bound = chance_of_mean(fdr, level, result["replications"])
                if bound < 1e-3:
                    row = {"study": study, "rule": rule, "level": level, "fdr": fdr}
                    kind = "naive" if rule == "naive" else "guaranteed"
                    out[kind].append(row | {"chance": float(f"{bound:.1e}")})
    return out
