"""Tables as CSV (everything) and Markdown (the rules a reader compares)."""

import csv
from pathlib import Path
from typing import Any

NAMES = {
    "random": "random model",
    "fixed": "one fixed model",
    "split": "split of calibration",
    "split_training": "split of training",
    "naive": "naive best of K",
    "one_model": "one model",
    "optcs_dtm": "OptCS deterministic",
    "optcs_hete": "OptCS heterogeneous",
    "optcs_homo": "OptCS homogeneous",
    "split_oracle": "oracle, twice the data",
    "full": "OptCS-Full",
}


def display(rule: str, *, several: bool = True) -> str:
    """A rule's name for readers; of several models or of one."""
    if rule == "full_0" and not several:
        return NAMES["full"]
    if rule in NAMES:
        return NAMES[rule]
    if rule.startswith("full_"):
        return f"OptCS-Full, model {int(rule.removeprefix('full_')) + 1}"
    if rule.startswith("split_"):
        share = rule.removeprefix("split_")
        if ":" in share:
            return f"split {share}"
        return f"split, {float(share):.0%} for training"
    stem, _, beta = rule.rpartition("_")
    return f"{NAMES[stem]}, beta = {beta}"


def shown(rules: list[str]) -> list[str]:
    """The rules of a Markdown table or a figure, in order.

    With several models the fit of each alone is left to the CSV, except the one model
    that is also shown with splits; so are the variants with beta = 0.9.
    """
    several = "naive" in rules
    keep = []
    for rule in rules:
        if rule.endswith("_0.9") and rule.startswith("optcs"):
            continue
        if rule.startswith("full_") and several and rule != one_model(rules):
            continue
        keep.append(rule)
    first = ["naive", "random", "fixed", "split", "split_training"]
    return sorted(keep, key=lambda r: (first + keep).index(r))


def one_model(rules: list[str]) -> str | None:
    """Which `full_k` is the model that splits are shown of, if any."""
    count = sum(rule.startswith("full_") for rule in rules)
    has_splits = any(r.startswith("split_0") for r in rules)
    if not has_splits:
        return None
    return "full_2" if count == 6 else "full_0"


def _cell(mean: float, error: float) -> str:
    return f"{mean:.3f} ({error:.3f})"


def write_csv(path: Path, results: dict[str, Any]) -> None:
    """One line for each study, rule and level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ["study", "rule", "level", "fdr", "fdr_se", "power", "power_se"]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*columns, "replications"])
        for study, result in results.items():
            for rule, values in result["rules"].items():
                rows = zip(result["levels"], *(values[name] for name in columns[3:]))
                for row in rows:
                    writer.writerow([study, rule, *row, result["replications"]])


def write_markdown(path: Path, title: str, results: dict[str, Any]) -> None:
    """One table for each study: rules down, levels across, FDR above power."""
    lines = [
        f"# {title}",
        "",
        "Mean over replications (standard error). The column is the target FDR.",
    ]
    for study, result in results.items():
        setup = ", ".join(f"{k}: {v}" for k, v in result["config"].items())
        levels = result["levels"]
        lines += [
            "",
            f"## {study}",
            "",
            f"{setup}; {result['replications']} times.",
            "",
        ]
        lines.append("| rule | rate | " + " | ".join(f"{q:g}" for q in levels) + " |")
        lines.append("|" + "---|" * (len(levels) + 2))
        for rule in shown(list(result["rules"])):
            values = result["rules"][rule]
            for rate, word in (("fdr", "FDR"), ("power", "power")):
                cells = map(_cell, values[rate], values[f"{rate}_se"])
                several = "naive" in result["rules"]
                name = display(rule, several=several) if rate == "fdr" else ""
                lines.append(f"| {name} | {word} | " + " | ".join(cells) + " |")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_gaussian(path: Path, table: dict[str, Any], rows: list[dict]) -> None:
    """The four worlds: FDR and power of each rule, the independent figure beside it."""
    other = {(row["study"], row["rule"], row["rate"]): row for row in rows}
    lines = [
        "# Four worlds in which nothing is fitted",
        "",
        "Ours (standard error) / an independent figure, where there is one.",
        "",
        "| world | level | rule | FDR | power |",
        "|---|---|---|---|---|",
    ]
    for name, world in table.items():
        for rule, values in world["rules"].items():
            cells = []
            for rate in ("fdr", "power"):
                cell = _cell(values[rate], values[f"{rate}_se"])
                row = other.get((f"gaussian/{name}", rule, rate))
                cells.append(cell + (f" / {row['expected']:.3f}" if row else ""))
            level = world["config"]["level"]
            lines.append(
                f"| {name} | {level:g} | {display(rule)} | " + " | ".join(cells) + " |"
            )
    lines += ["", *(f"* {k}: {v['config']['world']}" for k, v in table.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_comparison(path: Path, rows: list[dict[str, Any]], width: float) -> None:
    """Every independent figure beside ours, farthest first."""
    far = sum(row["distance"] > width for row in rows)
    lines = [
        "# Independent figures beside ours",
        "",
        f"{len(rows)} figures, {far} of them more than {width:g} combined standard "
        "errors away. Distance is in combined standard errors; where a figure came "
        "without one, ours stands for both.",
        "",
        "| study | rule | level | rate | ours | expected | distance |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row["distance"]):
        other = row["expected_se"]
        expected = f"{row['expected']:.3f}" + (
            "" if other is None else f" ({other:.3f})"
        )
        lines.append(
            f"| {row['study']} | {display(row['rule'])} | {row['level']:g} | "
            f"{row['rate']} | {_cell(row['ours'], row['ours_se'])} | {expected} | "
            f"{row['distance']:.1f} |"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
