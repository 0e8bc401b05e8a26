"""Summaries as text and as HTML."""

import dataclasses
import html as _html
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxcur._base import aligned, number, p_value

TITLES = ("surrogate only", "gold only", "debiased")
# Below this the surrogate is said to be biased; above it, nothing is said to hold.
_SMALL = 0.05


@dataclasses.dataclass(frozen=True)
class Document:
    """What a summary says.

    Attributes:
        head: (name, value) pairs.
        terms: names of coefficients.
        tables: of surrogate-only, gold-only and debiased fit.
        confidence_level: of the intervals.
        reference: distribution of the intervals.
        remarks: (name, sentence) pairs.
    """

    head: tuple[tuple[str, str], ...]
    terms: tuple[str, ...]
    tables: tuple[dict[str, np.ndarray], ...]
    confidence_level: float
    reference: str
    remarks: tuple[tuple[str, str], ...]


def _compared(document: Document) -> list[list[str]]:
    rows = [["", *TITLES]]
    for i, term in enumerate(document.terms):
        cells = []
        for table in document.tables:
            estimate, error = table["estimate"][i], table["std_error"][i]
            cells.append(f"{number(estimate)} ({number(error)})")
        rows.append([term, *(c.replace("n/a (n/a)", "n/a") for c in cells)])
    return rows


def _inference(document: Document) -> list[list[str]]:
    level = f"{100 * document.confidence_level:g} % interval"
    letter = "z" if document.reference == "normal" else "t"
    rows = [["debiased", "coefficient", "std error", letter, "p", level]]
    table = document.tables[2]
    for i, term in enumerate(document.terms):
        low, high = table["lower"][i], table["upper"][i]
        interval = f"{number(low)} to {number(high)}"
        rows.append(
            [
                term,
                number(table["estimate"][i]),
                number(table["std_error"][i]),
                "n/a" if np.isnan(table["z"][i]) else f"{table['z'][i]:.2f}",
                p_value(table["p_value"][i]),
                "n/a" if np.isnan(low) else interval,
            ]
        )
    return rows


def plain(document: Document) -> str:
    """The summary as text."""
    width = max(len(name) for name, _ in (*document.head, *document.remarks))
    pairs = [
        [f"{name:<{width}}  {value}" for name, value in part]
        for part in (document.head, document.remarks)
    ]
    blocks = [
        pairs[0],
        [*aligned(_compared(document)), "(standard errors in parentheses)"],
        aligned(_inference(document)),
        pairs[1],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def html(document: Document) -> str:
    """The summary as a fragment of HTML, without style of its own."""

    def pairs(part: Sequence[tuple[str, str]]) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{_html.escape(name)}</th>"
            f"<td style='text-align:left'>{_html.escape(value)}</td></tr>"
            for name, value in part
        )
        return f"<table>{rows}</table>"

    def grid(rows: Sequence[Sequence[str]], caption: str) -> str:
        head = "".join(f"<th>{_html.escape(cell)}</th>" for cell in rows[0])
        body = "".join(
            "<tr>"
            + f"<th style='text-align:left'>{_html.escape(row[0])}</th>"
            + "".join(f"<td>{_html.escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows[1:]
        )
        return (
            f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table>"
        )

    return "".join(
        (
            "<div>",
            pairs(document.head),
            grid(_compared(document), "Estimates, with standard errors in parentheses"),
            grid(_inference(document), "Inference from the debiased fit"),
            pairs(document.remarks),
            "</div>",
        )
    )


def _range(values: np.ndarray, form: str) -> str:
    low, high = (format(float(v), form) for v in (np.min(values), np.max(values)))
    return low if low == high else f"{low} to {high}"


def remarks(result: Any) -> tuple[tuple[str, str], ...]:
    """Diagnostics of the debiased fit in words."""
    debiased = result.exact[2]
    d = debiased.diagnostics
    found: list[tuple[str, str]] = []
    for name, reason in result.notes.items():
        found.append((name.replace("_", " "), f"n/a: {reason}"))
    if not bool(debiased.converged):
        return (*found, ("debiased", "n/a: no solution was found"))
    found.append(
        (
            "effective labels",
            f"{float(d.effective_labels):.1f} of {int(d.num_labeled)} (what unequal "
            "probabilities leave of them)",
        )
    )
    bias = float(d.bias_p_value)
    if bias < _SMALL:
        text = (
            f"p = {p_value(bias)}: predictions err systematically, which the "
            "surrogate-only column ignores"
        )
    elif np.isfinite(bias):
        text = f"p = {p_value(bias)}: labels do not show any, which is no proof"
    else:
        text = "n/a"
    found.append(("surrogate bias", text.replace("p = <", "p < ")))
    efficiency, extra = d.relative_efficiency, d.extra_labels
    if np.isfinite(efficiency).all() and "gold_only" not in result.notes:
        text = f"{_range(efficiency, '.2f')} (variance of gold only over debiased); "
        if np.max(extra) < 1:
            text += "predictions are worth no further labels"
        else:
            text += (
                f"predictions are worth {_range(np.maximum(extra, 0), '.0f')} labels"
            )
        found.append(("relative efficiency", text))
    found.append(
        (
            "assumed",
            "rows were labelled with these probabilities, whatever their labels, and "
            "no prediction was made with the row's own label",
        )
    )
    return tuple(found)
