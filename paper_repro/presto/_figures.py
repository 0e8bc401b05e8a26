"""Median ratios of the simulations beside the published ones."""

from pathlib import Path
from typing import Any

# Colours that stay apart for colour-blind readers (Okabe and Ito).
_KINDS = (
    ("PRESTO as published", "tuned as published", "#D55E00", 0.18),
    ("PRESTO", "tuned right", "#0072B2", -0.18),
)


def draw(path: Path, compared: list[dict[str, Any]]) -> None:
    """One panel for each method compared with; 95 % intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    worlds = list(dict.fromkeys(row["setting"] for row in compared))
    found = {(row["setting"], row["ratio"]): row for row in compared}
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.6), sharey=True)
    places = range(len(worlds), 0, -1)
    for axis, bottom in zip(axes, ("Logit", "PO")):
        for top, label, colour, shift in _KINDS:
            rows = [found[world, f"{top}/{bottom}"] for world in worlds]
            middle = [row["ours"] for row in rows]
            below = [row["ours"] - row["low"] for row in rows]
            above = [row["high"] - row["ours"] for row in rows]
            axis.errorbar(
                middle,
                [place + shift for place in places],
                xerr=[below, above],
                fmt="o",
                markersize=4,
                color=colour,
                label=label,
            )
        theirs = [found[world, f"PRESTO/{bottom}"]["published"] for world in worlds]
        axis.plot(
            theirs, list(places), "kx", markersize=7, label="published", linestyle=""
        )
        axis.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set_xlabel(f"error of PRESTO / error of {bottom}, median", fontsize=9)
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(list(places), worlds, fontsize=8)
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
