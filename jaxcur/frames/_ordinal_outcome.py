"""An ordered outcome: labels in their order, and back."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from jaxcur.data import TableError
from jaxcur.frames._columns import as_label, is_missing, series

Unobserved = Literal["raise", "drop"]

# More distinct numbers than this are a measurement, not classes.
_MOST_CLASSES = 50


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An ordered outcome as integers, and what the integers stand for.

    Attributes:
        name: of the column.
        labels: all declared classes, lowest first.
        codes: shape (n,), position in `labels`; -1 where there is no entry.
        dtype: dtype of the column it was read from.
    """

    name: str
    labels: tuple[Any, ...]
    codes: np.ndarray
    dtype: Any

    def column(self, codes: np.ndarray, index: pd.Index) -> pd.Series:
        """Positions in `labels` as a column of the kind that was read."""
        if isinstance(self.dtype, pd.CategoricalDtype):
            # An order given by hand holds for predictions too.
            kind = pd.CategoricalDtype(list(self.labels), ordered=True)
            values: Any = pd.Categorical.from_codes(codes.tolist(), dtype=kind)
        else:
            values = [self.labels[code] for code in codes]
        found = pd.Series(values, index=index, name=self.name)
        if not isinstance(self.dtype, pd.CategoricalDtype):
            found = found.astype(self.dtype)
        return found


def listed(labels: Sequence[Any]) -> str:
    """Labels in words, not too many of them."""
    words = [str(label) for label in labels]
    return ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")


def read_outcome(
    frame: pd.DataFrame, name: str, order: Sequence[Any] | None
) -> Outcome:
    """Read the column and settle the order of its classes.

    Args:
        frame: the table.
        name: the column.
        order: classes, lowest first; None takes the order of an ordered categorical, or
            of numbers.

    Raises:
        TableError: words without an order, an entry that the order lacks, a class
            listed twice, one class only, dates, a measurement.
    """
    column = series(frame, name)
    if column.dtype.kind in "mM":
        raise TableError(f"column '{name}' holds dates; make classes of them")
    kind = column.dtype
    gaps = is_missing(column)
    # Categories are labels already; elsewhere padding and the .0 of a column of numbers
    # with gaps are none.
    label = _as_it_is if isinstance(kind, pd.CategoricalDtype) else as_label
    cells = [
        None if gap else label(cell) for cell, gap in zip(column, gaps, strict=True)
    ]
    _refuse_infinite(name, cells)
    found = list(dict.fromkeys(cell for cell in cells if cell is not None))
    if not found:
        raise TableError(f"column '{name}' has no entry at all; it is the outcome")
    if order is not None:
        labels = _given(name, order, cells, found)
    elif isinstance(kind, pd.CategoricalDtype) and kind.ordered:
        labels = [_as_it_is(category) for category in kind.categories]
    elif any(isinstance(label, str) for label in found):
        labels = _numbers_as_text(name, found)
        if labels is None:
            words = listed(sorted(map(str, found)))
            raise TableError(
                f"the classes of '{name}' are words ({words}): give their order, "
                "lowest first, as `order`"
            )
    else:
        labels = sorted(found)
        if len(labels) > _MOST_CLASSES:
            raise TableError(
                f"column '{name}' holds {len(labels)} different numbers, a measurement "
                "rather than classes; cut it into classes first"
            )
    if len(found) == 1:
        raise TableError(
            f"column '{name}' holds one class only, '{found[0]}': nothing to fit"
        )
    place = {label: code for code, label in enumerate(labels)}
    codes = np.array([-1 if cell is None else place[cell] for cell in cells], np.int32)
    return Outcome(name, tuple(labels), codes, kind)


def _refuse_infinite(name: str, cells: list[Any]) -> None:
    for row, cell in enumerate(cells):
        if cell in ("inf", "-inf"):
            raise TableError(f"column '{name}' is infinite in row {row + 1}")


def _as_it_is(entry: Any) -> Any:
    return entry.item() if isinstance(entry, np.generic) else entry


def _numbers_as_text(name: str, found: list[Any]) -> list[Any] | None:
    """Text that is numbers throughout has the order of the numbers."""
    try:
        labels = sorted(found, key=float)
    except ValueError:
        return None
    for one, other in zip(labels[:-1], labels[1:], strict=True):
        if float(one) == float(other):
            raise TableError(
                f"column '{name}' holds '{one}' and '{other}', which are one number; "
                "write it in one way"
            )
    return labels


def _given(
    name: str, order: Sequence[Any], cells: list[Any], found: list[Any]
) -> list[Any]:
    """The order that was given, in the labels of the column.

    Classes are compared by their text, so that an order typed in a shell fits numbers.
    """
    if isinstance(order, str):
        raise TableError(f"`order` must be a list of classes, got the text {order!r}")
    by_text = {str(label): label for label in found}
    labels = [by_text.get(str(as_label(c)), _as_it_is(c)) for c in order]
    texts = [str(label) for label in labels]
    twice = [text for text in texts if texts.count(text) > 1]
    if twice:
        raise TableError(f"`order` lists '{twice[0]}' twice; list it once")
    for row, cell in enumerate(cells):
        if cell is not None and str(cell) not in texts:
            raise TableError(
                f"column '{name}' holds '{cell}' in row {row + 1}, which `order` does "
                f"not list ({listed(labels)})"
            )
    return labels


def settle(
    outcome: Outcome,
    weights: np.ndarray | None,
    unobserved: Unobserved,
    kept: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Classes that occur, shape (declared,) bool, and the rows' codes among them.

    Args:
        outcome: the column.
        weights: of the rows kept, or None.
        unobserved: "raise" or "drop".
        kept: shape (n,) bool, rows without a gap.

    Raises:
        TableError: a declared class never occurs and `unobserved` is "raise", or a
            single class is left.
    """
    codes = outcome.codes[kept]
    counted = codes if weights is None else codes[weights > 0]
    occurs = np.bincount(counted, minlength=len(outcome.labels)) > 0
    some = [label for label, there in zip(outcome.labels, occurs, strict=True) if there]
    if len(some) == 1:
        raise TableError(
            f"column '{outcome.name}' holds one class only, '{some[0]}': nothing to fit"
        )
    if not occurs.all() and unobserved == "raise":
        absent = outcome.labels[int(np.argmin(occurs))]
        raise TableError(
            f"no row has the class '{absent}' of '{outcome.name}': drop it, with "
            "predicted probability 0 (unobserved='drop', --unobserved drop), or merge "
            "it with a neighbour"
        )
    # A row of weight zero may hold a class that does not occur: any code will do.
    renumbered = np.maximum(np.cumsum(occurs) - 1, 0)
    return occurs, renumbered[codes].astype(np.int32)
