"""Timing and tables shared by the benchmarks."""

import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

RESULTS = Path(__file__).parent / "results"


def measure(call: Callable[[], Any], *, repeats: int = 7) -> dict[str, float]:
    """First call (it compiles), median and spread of the steady state, in seconds."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    first = time.perf_counter() - start
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    low, median, high = np.quantile(times, [0.25, 0.5, 0.75])
    return {"first": first, "median": median, "spread": high - low}


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    device = jax.devices()[0]
    return {
        "platform": platform.machine(),
        "cores": os.cpu_count(),
        "device": f"{device.platform}: {device.device_kind}",
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "numpy")},
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def write(name: str, question: str, rows: list[dict[str, Any]]) -> None:
    """Print the table and store it as JSON and Markdown under benchmarks/results."""
    RESULTS.mkdir(exist_ok=True)
    suffix = "" if jax.default_backend() == "cpu" else f"_{jax.default_backend()}"
    payload = {"question": question, "environment": environment(), "rows": rows}
    path = RESULTS / f"{name}{suffix}.json"
    path.write_text(json.dumps(payload, indent=1) + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [
        f"# {question}",
        "",
        ", ".join(f"{k} {v}" for k, v in payload["environment"].items()),
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
    ]
    for row in rows:
        lines.append("| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |")
    text = "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(text)
    print(text)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
