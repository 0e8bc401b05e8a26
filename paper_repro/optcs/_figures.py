"""FDR and power over the level, with 95 % intervals; one figure for a group."""

from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.optcs._report import display, shown
from paper_repro.optcs._summary import interval

# Colours that stay apart for colour-blind readers (Okabe and Ito).
COLOURS = {
    "naive": "#D55E00",
    "random": "#999999",
    "fixed": "#000000",
    "split": "#56B4E9",
    "split_training": "#0072B2",
    "optcs_dtm": "#CC79A7",
    "optcs_hete": "#E69F00",
    "optcs_homo": "#009E73",
    "split_oracle": "#999999",
}
# Splits of different proportions, which differ from group to group.
SPARE = ("#332288", "#B8A23A", "#661100", "#6699CC")
FULL = "#882255"
MARKERS = {"naive": "x", "optcs_homo": "o", "optcs_hete": "s", "optcs_dtm": "^"}


def _style(rule: str) -> str:
    if rule == "naive":
        return "--"
    return "-." if rule.startswith("split_") and rule not in COLOURS else "-"


def _heading(study: str) -> str:
    name = study.partition("/")[2]
    return f"setting {name}" if name.isdigit() else name.replace("_", " ")


def _curves(rules: list[str]) -> list[str]:
    """At most nine curves: of many split fractions the first, middle and last."""
    fractions = [rule for rule in rules if rule.startswith("split_0")]
    if len(fractions) > 3:
        keep = {fractions[0], fractions[len(fractions) // 2], fractions[-1]}
        rules = [rule for rule in rules if rule not in fractions or rule in keep]
    return rules


def draw(path: Path, title: str, results: dict[str, Any]) -> None:
    """Draw a group: settings across, FDR above power."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = len(results)
    width = max(3.1 * count + 0.6, 7.0)
    figure, axes = plt.subplots(
        2, count, figsize=(width, 6.6), sharex=True, sharey="row", squeeze=False
    )
    handles: dict[str, Any] = {}
    for column, (study, result) in enumerate(results.items()):
        levels = np.array(result["levels"])
        spare = iter(SPARE)
        rules = _curves(shown(list(result["rules"])))
        colours = {
            rule: FULL if rule.startswith("full_") else COLOURS.get(rule) or next(spare)
            for rule in rules
        }
        for row, rate in enumerate(("fdr", "power")):
            axis = axes[row, column]
            for rule in rules:
                values = result["rules"][rule]
                low, high = interval(values[rate], values[f"{rate}_se"])
                axis.fill_between(
                    levels, low, high, color=colours[rule], alpha=0.13, lw=0
                )
                name = display(rule, several="naive" in result["rules"])
                (handles[name],) = axis.plot(
                    levels,
                    values[rate],
                    color=colours[rule],
                    marker=MARKERS.get(rule, "."),
                    markersize=4,
                    linewidth=1.4,
                    linestyle=_style(rule),
                )
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0, column].plot(
            levels, levels, color="black", linewidth=0.8, linestyle=":"
        )
        axes[0, column].set_title(
            f"{_heading(study)}  ({result['replications']} replications)",
            fontsize=9,
        )
        axes[1, column].set_xlabel("level (target FDR)", fontsize=9)
    top = max(axis.dataLim.y1 for axis in axes[0])
    axes[0, 0].set_ylim(0, min(1.02, max(0.55, top + 0.02)))
    axes[1, 0].set_ylim(-0.02, 1.02)
    axes[0, 0].set_ylabel("FDR (dotted: the level)", fontsize=9)
    axes[1, 0].set_ylabel("power", fontsize=9)
    columns = min(len(handles), 6)
    rows = -(-len(handles) // columns)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(rect=(0, 0.035 * rows + 0.02, 1, 0.98))
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="lower center",
        ncols=columns,
        fontsize=8,
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
