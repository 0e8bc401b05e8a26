"""Tables of the studies, as CSV with every digit and as Markdown for readers."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paper_repro.presto import _real
from paper_repro.presto._summary import ALLOWANCE, METHODS, RIDGE, expected


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _csv(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _box(figures: dict[str, float]) -> str:
    return f"{figures['median']:.3g} [{figures['lower']:.3g}, {figures['upper']:.3g}]"


def _published_box(values: Sequence[float]) -> str:
    return f"{values[0]:.3g} [{values[1]:.3g}, {values[2]:.3g}]"


def write_simulation(
    folder: Path, summaries: dict[str, Any], compared: list[dict[str, Any]]
) -> None:
    """`errors.csv`, `ratios.csv` and `simulation.md`."""
    published = expected()["simulation"]["settings"]
    rows = [
        {"setting": world, "method": method, **figures}
        for world, summary in summaries.items()
        for method, figures in summary["errors"].items()
    ]
    _csv(folder / "errors.csv", rows)
    _csv(folder / "ratios.csv", compared)
    found = {(row["setting"], row["ratio"]): row for row in compared}
    ratios = []
    for world in summaries:
        cells = []
        for bottom in ("Logit", "PO"):
            right = found[world, f"PRESTO/{bottom}"]
            same = found[world, f"PRESTO as published/{bottom}"]
            cells.append(f"{right['published']:.3f}")
            for row in (same, right):
                mark = "" if row["held"] else " **missed**"
                cell = f"{row['ours']:.3f} ({row['low']:.3f}, {row['high']:.3f}){mark}"
                cells.append(cell)
        ratios.append([world, *cells])
    header = ["setting"]
    for bottom in ("Logit", "PO"):
        header += [f"PRESTO/{bottom}, published", "tuned as published", "tuned right"]
    held = sum(row["held"] for row in compared)
    counts = sorted({summary["replications"] for summary in summaries.values()})
    parts = [
        "# Ten simulations: error of the rare probability\n\n",
        f"{', '.join(map(str, counts))} replications of each setting. Medians of "
        "ratios, in parentheses 95 % intervals from order statistics. Asked: tuned as "
        f"published, within {ALLOWANCE} of the published ratio; tuned right, at most "
        f"that much above it. {held} of {len(compared)} hold, those of the ridge "
        "version below included.\n\n",
        _markdown(header, ratios),
        "\n## Errors\n\nMean over the 2500 rows of the squared error of P(last "
        "class), in units of 1e-5: median [quartiles]; published in italics. `best` "
        "is the best strength of the path, known to nobody.\n\n",
    ]
    table = []
    for world, summary in summaries.items():
        cells = []
        for method in METHODS:
            cell = _box(summary["errors"][method])
            name = "PRESTO" if method == "PRESTO as published" else method
            if name in published[world] and method != "PRESTO":
                cell += f"<br>*{_published_box(published[world][name])}*"
            cells.append(cell)
        rare = f"{summary['rare_percent']:.3g}<br>*{published[world]['rare_percent']}*"
        table.append([world, rare, *cells])
    parts.append(_markdown(["setting", "rare, %", *METHODS], table))
    table = []
    for world, summary in summaries.items():
        if RIDGE[0] not in summary["errors"]:
            continue
        theirs = published[world]
        for method, top in zip(RIDGE, ("PRESTO", "PRESTO as published")):
            row = found[world, f"{top}/{method}"]
            table.append(
                [
                    world,
                    method,
                    _box(summary["errors"][method]),
                    _published_box(theirs["PRESTO_L2"]),
                    f"{row['ours']:.3f} ({row['low']:.3f}, {row['high']:.3f})",
                    f"{row['published']:.3f}",
                ]
            )
    if table:
        parts.append(
            "\n## The ridge version\n\nThe last two columns are the median ratio of "
            "PRESTO, tuned in the same way, to it.\n\n"
        )
        header = ["setting", "method", "error", "published", "ratio", "published"]
        parts.append(_markdown(header, table))
    table = [
        [
            world,
            summary["replications"],
            f"{summary['draws']:.2f}",
            summary["crossing"],
            summary["unsettled"],
            summary["separated_logit"],
        ]
        for world, summary in summaries.items()
    ]
    header = ["setting", "replications", "draws for one", "a path crosses"]
    header += ["a fit of PRESTO not settled", "logistic regression separated"]
    parts += ["\n## What happened on the way\n\n", _markdown(header, table)]
    _write(folder / "simulation.md", "".join(parts))


def _difference(figures: dict[str, float]) -> str:
    return f"{figures['mean']:+.4f} ({figures['std_error']:.4f})"


def write_real(folder: Path, tables: dict[str, Any]) -> None:
    """`real.csv` and `real.md`."""
    rows = [
        {"data": name, "method": method, "metric": metric, **figures}
        for name, summary in tables.items()
        for method, by_metric in summary["metrics"].items()
        for metric, figures in by_metric.items()
    ]
    _csv(folder / "real.csv", rows)
    parts = ["# Soup and prediabetes\n\n"]
    theirs = expected()
    if "soup" in tables:
        summary = tables["soup"]
        parts.append(
            f"## Soup, {summary['splits']} splits\n\nMedian [quartiles] over splits; "
            "published figures, where there are any, in italics under the metric as "
            "coded.\n\n"
        )
        lines = []
        for method in _real.METHODS:
            cells = [_box(summary["metrics"][method][m]) for m in _real.METRICS]
            name = "PRESTO" if method == "PRESTO as published" else method
            if method != "PRESTO":
                cells[0] += f"<br>*{_published_box(theirs['soup'][name])}*"
            lines.append([method, *cells])
        parts.append(_markdown(["method", *_real.METRICS], lines))
        ratios = summary["as_coded_ratios"]
        same = [
            f"{ratios[f'PRESTO as published/{bottom}']['median']:.3f} "
            f"(published {theirs['soup'][f'PRESTO/{bottom}']:.3f}) to {bottom}"
            for bottom in ("Logit", "PO")
        ]
        parts.append(
            "\nMedian ratio of PRESTO as published by the metric as coded: "
            f"{', '.join(same)}.\n"
        )
    cutoffs = [c for c in _real.CUTOFFS if f"prediabetes {c}" in tables]
    if cutoffs:
        count = tables[f"prediabetes {cutoffs[0]}"]["splits"]
        parts.append(
            f"\n## Prediabetes, {count} splits at each cutoff\n\nMeans over splits; "
            "published ones in italics.\n"
        )
        for metric in _real.METRICS:
            lines = []
            for method in _real.METHODS:
                cells = []
                name = "PRESTO" if method == "PRESTO as published" else method
                for cutoff in cutoffs:
                    figures = tables[f"prediabetes {cutoff}"]["metrics"][method]
                    cell = f"{figures[metric]['mean']:.4f}"
                    if metric == "as coded" and method != "PRESTO":
                        value = theirs["prediabetes"][name][str(cutoff)]
                        cell += f"<br>*{value:.4f}*"
                    cells.append(cell)
                lines.append([method, *cells])
            parts.append(f"\n### {metric}\n\n")
            parts.append(_markdown(["method", *map(str, cutoffs)], lines))
    parts.append(
        "\n## PRESTO tuned right, minus another method\n\nMean over splits, in "
        "parentheses its standard error over splits (they overlap: it says how stable "
        "the figure is, not how another sample would come out). Negative: PRESTO is "
        "better.\n\n"
    )
    lines = []
    for name, summary in tables.items():
        for other in ("Logit", "PO"):
            gaps = summary["differences"][other]
            cells = [_difference(gaps[m]) for m in _real.METRICS]
            lines.append([name, other, *cells])
    parts.append(_markdown(["data", "minus", *_real.METRICS], lines))
    lines = [
        [
            name,
            s["unsettled"],
            s["chosen_unsettled"],
            s["chosen_crossing"],
            s["separated_logit"],
            f"{s['last_selected'] + 1} of {s['num_strengths']}",
        ]
        for name, s in tables.items()
    ]
    header = ["data", "splits where some fit did not settle", "where the chosen one"]
    header += ["where the chosen one crosses", "logistic regression separated"]
    header += ["smallest strength selected"]
    parts += ["\n## What happened on the way\n\n", _markdown(header, lines)]
    _write(folder / "real.md", "".join(parts))
