"""Tables in Markdown and one JSON file."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from paper_repro.deep_probability import _scores

_SHOWN = ("MSE_p", "KL_p", "ECE", "KS", "Brier", "AUC")


def _cell(found: list[float], factor: float = 1.0) -> str:
    mean, low, high = (factor * value for value in found)
    return f"{mean:.4f} [{low:.4f}, {high:.4f}]"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _verdict(found: list[float]) -> str:
    _, low, high = found
    if high < 0:
        return "better"
    return "worse" if low > 0 else "not told apart"


def simulated(summary: dict[str, Any]) -> str:
    """Means, differences from early stopping, and CaPE against its control."""
    parts = ["# Five scenarios with known probabilities\n"]
    for name, found in summary.items():
        parts.append(f"\n## {name}, {found['seeds']} draws: mean [95 % interval]\n\n")
        rows = [
            [method, *(_cell(values[k]) for k in _SHOWN)]
            for method, values in found["mean"].items()
        ]
        parts.append(_table(["method", *_SHOWN], rows))
        parts.append(
            "\nMSE_p, 1000 x difference on the same draws; negative is better.\n\n"
        )
        rows = []
        for method in found["minus_control"]:
            line = [method]
            for key in ("minus_baseline", "minus_control"):
                values = found[key].get(method)
                known = values is not None
                line.append(_cell(values["MSE_p"], 1e3) if known else "")
                line.append(_verdict(values["MSE_p"]) if known else "")
            rows.append(line)
        head = ["method", "minus early stop", "", "minus continued", ""]
        parts.append(_table(head, rows))
    return "".join(parts)


def real(released: dict[str, Any], bundled: dict[str, Any]) -> str:
    """The released forecasts and the bundled data."""
    parts = ["# Real data\n"]
    if released:
        parts.append("\n## The released forecasts of the authors, scored here\n\n")
        rows = [
            [name, *(f"{values[k]:.4f}" for k in _scores.METRICS)]
            for name, values in released.items()
        ]
        parts.append(_table(["forecast", *_scores.METRICS], rows))
    parts.append(
        "\n## Naive Bayes on breast cancer, 20 splits: mean [95 % interval]\n\n"
    )
    metrics = list(next(iter(bundled.values())))
    rows = [[n, *(_cell(v[k]) for k in metrics)] for n, v in bundled.items()]
    parts.append(_table(["repair", *metrics], rows))
    return "".join(parts)


def write(out: Path, summary: Any, released: Any, bundled: Any) -> None:
    """result.json and the tables."""
    tables = out / "tables"
    tables.mkdir(parents=True, exist_ok=True)
    (tables / "simulation.md").write_text(simulated(summary), encoding="utf-8")
    (tables / "real.md").write_text(real(released, bundled), encoding="utf-8")
    environment = {
        "platform": platform.machine(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "optax", "numpy")},
    }
    payload = {
        "environment": environment,
        "simulation": summary,
        "released": released,
        "bundled": bundled,
    }
    path = out / "result.json"
    path.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path} and tables")
