"""The findings of `jaxcur calibrate` as text and as JSON."""

import math
from typing import Any

import numpy as np

from jaxcur._base import aligned, number, p_value
from jaxcur.cli._calibrate_report import EPS, Estimate, Report

_METRICS = {
    "ece_debiased": "ECE, debiased",
    "smooth_ece": "smooth ECE",
    "ks": "KS error",
    "brier": "Brier score",
    "log_loss": "log loss",
    "auc": "AUC",
}
_TESTS = {"spiegelhalter": "Spiegelhalter", "ks": "KS", "kuiper": "Kuiper"}


def _span(value: Estimate) -> str:
    if math.isnan(value.lower):
        return ""
    return f"{number(value.lower)} to {number(value.upper)}"


def plain(report: Report) -> str:
    """The report as text."""
    rows, level = report.rows, f"{100 * report.confidence_level:g} % interval"
    rate = np.average(rows.labels, weights=rows.mass)
    mean = np.average(rows.probs, weights=rows.mass)
    head = [("rows", f"{len(rows.probs)}")]
    if rows.num_dropped:
        head.append(("rows dropped", f"{rows.num_dropped} (a missing entry)"))
    count = int(rows.labels.sum())
    head.append(("event", f"{rows.column} = {rows.event}, {count} rows"))
    head.append(("base rate", f"{number(rate)}"))
    head.append(("mean forecast", f"{number(mean)}"))
    named = {f"ECE, {report.num_bins} bins": report.metrics["ece"]}
    named |= {word: report.metrics[name] for name, word in _METRICS.items()}
    metrics = [["", "estimate", level]]
    metrics += [[word, number(v.estimate), _span(v)] for word, v in named.items()]
    low, high = report.by_chance
    parts = zip(
        ("miscalibration", "- discrimination", "+ uncertainty"),
        report.corp,
        strict=True,
    )
    corp = " ".join(f"{name} {number(value)}" for name, value in parts)
    notes = [
        "(calibrated forecasts like these would show an ECE of "
        f"{number(low)} to {number(high)} by chance alone)",
        f"(Brier score = {corp})",
    ]
    if report.num_impossible:
        notes.append(
            f"({report.num_impossible} forecasts of exactly 0 or 1 were wrong: the log "
            f"loss, which is infinite, counts each as {-math.log(EPS):.1f})"
        )
    tests = [["test", "statistic", "p"]]
    tests += [
        [_TESTS[name], f"{test.statistic:.2f}", p_value(test.p_value)]
        for name, test in report.tests.items()
    ]
    how = "exact, by simulation" if report.exact else "asymptotic"
    compared = [["recalibration", "log loss", "gain", level]]
    compared.append(
        ["as they are", number(report.metrics["log_loss"].estimate), "", ""]
    )
    compared += [
        [name, number(c.log_loss), f"{c.gain.estimate:.5f}", _gain(c.gain)]
        for name, c in report.candidates.items()
    ]
    blocks = [
        _pairs(head),
        [
            *aligned(metrics),
            *notes,
        ],
        [*aligned(tests), f"(p-values of calibrated forecasts: {how})"],
        [
            *aligned(compared),
            f"(each row by maps fitted to the others, {report.num_folds} folds; the "
            "intervals leave out what the choice of folds adds)",
        ],
        _pairs([("in words", report.verdict), ("what to do", report.reason)]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _gain(gain: Estimate) -> str:
    return f"{gain.lower:.5f} to {gain.upper:.5f}"


def _pairs(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{name:<14} {value}" for name, value in pairs]


def document(report: Report, value: Any) -> dict[str, Any]:
    """The report as plain JSON values, numbers by `value`."""
    rows = report.rows

    def span(found: Estimate) -> dict[str, Any]:
        ends = (
            {}
            if math.isnan(found.lower)
            else {
                "lower": value(found.lower),
                "upper": value(found.upper),
            }
        )
        return {"estimate": value(found.estimate)} | ends

    return {
        "label": rows.column,
        "event": rows.event,
        "num_rows": len(rows.probs),
        "num_dropped": rows.num_dropped,
        "num_events": int(rows.labels.sum()),
        "base_rate": value(np.average(rows.labels, weights=rows.mass)),
        "mean_forecast": value(np.average(rows.probs, weights=rows.mass)),
        "confidence_level": report.confidence_level,
        "num_bins": report.num_bins,
        "metrics": {name: span(found) for name, found in report.metrics.items()},
        "num_impossible": report.num_impossible,
        "ece_by_chance": [value(end) for end in report.by_chance],
        "brier_decomposition": dict(
            zip(
                ("miscalibration", "discrimination", "uncertainty"),
                map(value, report.corp),
                strict=True,
            )
        ),
        "tests": {
            name: {"statistic": value(t.statistic), "p_value": value(t.p_value)}
            for name, t in report.tests.items()
        },
        "p_values": "monte_carlo" if report.exact else "asymptotic",
        "num_folds": report.num_folds,
        "recalibration": {
            name: {"log_loss": value(c.log_loss), "gain": span(c.gain)}
            for name, c in report.candidates.items()
        },
        "advice": report.advice,
        "in_words": report.verdict,
        "what_to_do": report.reason,
    }
