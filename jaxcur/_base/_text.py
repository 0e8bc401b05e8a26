"""Numbers and columns of a report in plain text."""

import math
from collections.abc import Sequence


def number(value: float) -> str:
    """Four digits that matter, or n/a."""
    if not math.isfinite(value):
        return "n/a" if math.isnan(value) else str(value)
    return f"{value:#.4g}".removesuffix(".")


def p_value(value: float) -> str:
    """Four decimals."""
    if math.isnan(value):
        return "n/a"
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
