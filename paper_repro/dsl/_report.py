"""Tables of the two studies, as CSV with every digit and as Markdown for readers."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from paper_repro.dsl._study import COEFFICIENTS, ESTIMATORS
from paper_repro.dsl._summary import FIGURES, expected


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


def write_simulation(
    folder: Path, summary: dict[str, dict], compared: list[dict[str, Any]]
) -> None:
    """`dgp_a.csv` and `dgp_a.md`."""
    rows = []
    for accuracy, estimators in summary.items():
        for name, found in estimators.items():
            row = {"accuracy": accuracy, "estimator": name}
            for key, value in found.items():
                if isinstance(value, list):
                    short = key.removesuffix("_by_coefficient")
                    row |= {f"{short} {c}": v for c, v in zip(COEFFICIENTS, value)}
                else:
                    row[key] = round(value, 5) if isinstance(value, float) else value
            rows.append(row)
    _csv(folder / "dgp_a.csv", rows)

    count = next(iter(summary["0.5"].values()))["replications"]
    parts = [
        "# DGP-A: 5000 rows, 500 gold labels, a surrogate of given accuracy\n\n",
        f"{count} replications, the same rows for every accuracy. Bias (relative, "
        "absolute) / coverage of 95 % intervals / RMSE, averaged over the four slopes; "
        "in parentheses the Monte Carlo standard error. Below it, in italics, the "
        "independent NumPy figures (300 replications) where there are any.\n\n",
    ]
    other = expected()["independent"]["rows"]
    table = []
    for name in ESTIMATORS:
        cells = []
        for accuracy, estimators in summary.items():
            found = estimators[name]
            cell = " / ".join(
                f"{found[f]:.3f} ({found[f'{f}_se']:.3f})" for f in FIGURES
            )
            theirs = other[accuracy].get(name)
            if theirs:
                numbers = " / ".join(f"{theirs[f]:.3f}" for f in FIGURES)
                cell += f"<br>*{numbers}*"
            cells.append(cell)
        table.append([name, *cells])
    parts.append(_markdown(["estimator", *(f"P = {a}" for a in summary)], table))
    far = max(row["distance"] for row in compared)
    parts.append(
        f"\n{len(compared)} figures compared; the largest distance is {far:.2f} "
        "combined standard errors.\n\n## Published, for the surrogate alone\n\n"
    )
    published = expected()["published"]["surrogate_only"]
    independent = expected()["independent"]
    lines = []
    for accuracy, figures in published.items():
        found = summary[accuracy]["surrogate only"]
        slopes = ", ".join(f"{value:+.2f}" for value in found["bias_by_coefficient"])
        lines.append(
            [
                accuracy,
                f"{figures['coverage']:.0%}",
                f"{found['coverage_with_intercept']:.1%}",
                f"{independent['coverage_with_intercept'][accuracy]:.1%}",
                f"{figures['bias']:.0%}",
                slopes,
            ]
        )
    header = ["P", "coverage, published", "here, all five", "independent, all five"]
    header += ["bias, published", f"bias here: {', '.join(COEFFICIENTS)}"]
    parts.append(_markdown(header, lines))
    parts.append("\n## Standard errors: mean over standard deviation of estimates\n\n")
    ratios = [
        [name, *(f"{s[name]['se_over_sd']:.3f}" for s in summary.values())]
        for name in ESTIMATORS
    ]
    parts.append(_markdown(["estimator", *(f"P = {a}" for a in summary)], ratios))
    _write(folder / "dgp_a.md", "".join(parts))


def write_complaints(folder: Path, found: dict[str, dict[str, list[float]]]) -> None:
    """`complaints.csv` and `complaints.md`."""
    package = expected()["r_package"]
    theirs = {
        "R dsl, forest, published": package["published"],
        "R dsl, forest, run again": package["forest"],
        "R dsl, least squares, as returned": package["least_squares"],
        "R dsl, least squares, at the root": package["least_squares_root"],
    }
    ours = {f"jaxcur, {name}": values for name, values in found.items()}
    rows = []
    for analysis, values in (theirs | ours).items():
        for i, name in enumerate(package["names"]):
            row = {"analysis": analysis, "coefficient": name}
            for key in ("estimate", "std_error", "p_value"):
                row[key] = values[key][i] if key in values else ""
            rows.append(row)
    _csv(folder / "complaints.csv", rows)
    table = [
        [
            analysis,
            *(
                f"{b:.4f} ({s:.4f})"
                for b, s in zip(values["estimate"], values["std_error"])
            ),
        ]
        for analysis, values in (theirs | ours).items()
    ]
    root, given = package["least_squares_root"], found["given folds"]
    shipped, published = package["least_squares"], package["published"]
    far = {
        key: max(abs(a / b - 1) for a, b in zip(given[key], root[key]))
        for key in ("estimate", "std_error")
    }
    early = max(abs(a - b) for a, b in zip(shipped["estimate"], root["estimate"]))
    again = found["own folds, ten splits"]
    off = max(
        abs(a - b) / s
        for a, b, s in zip(
            again["estimate"], package["forest"]["estimate"], again["std_error"]
        )
    )
    text = (
        "# Complaints reported upward: 1412 complaints, 500 read by an expert\n\n"
        "Logistic regression of `SendOrNot`; `countyWrong` is predicted. Estimate "
        "(standard error).\n\n"
        + _markdown(["analysis", *package["names"]], table)
        + "\nGiven the predictions of the R package in its own folds, the largest "
        f"relative difference from the root is {far['estimate']:.1e} in estimates and "
        f"{far['std_error']:.1e} in standard errors. What the package returns is up to "
        f"{early:.1e} away from that root, because its optimiser stops early. With our "
        "own folds, ten splits of least squares instead of its forest, no estimate is "
        f"more than {off:.3f} standard errors from the forest's.\n\n"
        "## P-values\n\nThe package prints one-sided values: half the two-sided "
        "ones.\n\n"
        + _markdown(
            ["", *package["names"]],
            [
                ["R dsl, printed", *(f"{p:.4f}" for p in published["p_value"])],
                [
                    "twice that",
                    *(f"{2 * p:.4f}" for p in published["p_value"]),
                ],
                ["jaxcur, given folds", *(f"{p:.4f}" for p in given["p_value"])],
            ],
        )
    )
    _write(folder / "complaints.md", text)
