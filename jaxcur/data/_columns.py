"""Columns of a table: what a field means, and what is wrong with it."""

import difflib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

_MISSING = frozenset({"", "na", "n/a", "nan", "<na>", "null", "none", "#n/a"})


class TableError(ValueError):
    """A table cannot be used; the message is one line and says what to do."""

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))


def infer(column: "pd.Series") -> "pd.Series":
    """A column of text as numbers, where that loses nothing."""
    import pandas as pd

    values = np.empty(len(column))
    for index, entry in enumerate(column):
        word = entry.strip()
        padded = len(word.lstrip("+-")) > 1 and word.lstrip("+-")[0] == "0"
        number = _as_number(word)
        if number is None or (padded and word.lstrip("+-")[1].isdigit()):
            return column
        values[index] = number
    if len(values) and np.isnan(values).all():
        return column
    whole = np.isfinite(values) & (values == np.rint(values)) & (abs(values) < 2**53)
    if whole.all() and not column.str.contains(r"[.eE]").any():
        values = values.astype(np.int64)
    return pd.Series(values, index=column.index, name=column.name)


def _as_number(entry: Any) -> float | None:
    """The number a field holds, NaN when it says missing, None when it is a word."""
    word = str(entry).strip()
    if word.lower() in _MISSING:
        return float("nan")
    if "_" in word:  # Python reads 1_000 as a number; a table means a name
        return None
    try:
        return float(word)
    except ValueError:
        return None


def require_columns(frame: "pd.DataFrame", names: Sequence[str]) -> None:
    """Raise `TableError` unless the frame has every column in `names`.

    Example:
        >>> import pandas as pd
        >>> from jaxcur import data
        >>> data.require_columns(pd.DataFrame({"score": [1.0]}), ["scores"])
        Traceback (most recent call last):
        ...
        jaxcur.data._columns.TableError: there is no column 'scores' (the table has: \
score); did you mean 'score'?
    """
    present = [str(name) for name in frame.columns]
    for name in names:
        if name in present:
            continue
        close = difflib.get_close_matches(name, present, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        listed = ", ".join(present[:12]) + (", ..." if len(present) > 12 else "")
        if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
            hint = "; the fields look separated by another mark: give the delimiter"
        raise TableError(f"there is no column '{name}' (the table has: {listed}){hint}")


def numeric_column(
    frame: "pd.DataFrame", name: str, *, allow_missing: bool = False
) -> np.ndarray:
    """One column as float64, refusing words, infinities and (by default) gaps.

    Args:
        frame: any data frame; text entries are read as numbers where they are numbers.
        name: the column.
        allow_missing: return NaN for a missing entry (empty, NA, NaN, null, None)
            instead of raising.

    Returns:
        numpy array, shape (rows,), float64.

    Raises:
        TableError: the column is absent, or an entry is not a finite number; the
            message names the first such row, counted from 1 after the header.

    Example:
        >>> import pandas as pd
        >>> from jaxcur import data
        >>> data.numeric_column(pd.DataFrame({"y": ["1.5", "2"]}), "y").tolist()
        [1.5, 2.0]
    """
    require_columns(frame, [name])
    column = frame[name]
    if column.dtype.kind in "iufb":
        try:
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise TableError(f"column '{name}' is not numeric: {error}") from error
    else:
        values = np.empty(len(column))
        absent = column.isna().to_numpy()
        for index, entry in enumerate(column):
            number = float("nan") if absent[index] else _as_number(entry)
            if number is None:
                raise TableError(
                    f"column '{name}' holds {str(entry)[:40]!r} in row {index + 1}, "
                    "which is not a number; correct it"
                    + (" or leave it empty" if allow_missing else "")
                )
            values[index] = number
    if np.isinf(values).any():
        row = int(np.isinf(values).argmax()) + 1
        raise TableError(
            f"column '{name}' is infinite in row {row}; give a finite number"
        )
    if not allow_missing and np.isnan(values).any():
        row, count = int(np.isnan(values).argmax()) + 1, int(np.isnan(values).sum())
        raise TableError(
            f"column '{name}' is missing in {count} of {len(values)} rows (first: row "
            f"{row}); fill them in or drop these rows"
        )
    return values


def is_text(column: "pd.Series") -> bool:
    return column.dtype.kind not in "iufbmM" and bool(
        column.map(lambda entry: isinstance(entry, str)).all()
    )


def each_column(
    frame: "pd.DataFrame", change: Callable[["pd.Series"], "pd.Series"]
) -> "pd.DataFrame":
    import pandas as pd

    columns = {name: change(column) for name, column in frame.items()}
    return pd.DataFrame(columns, index=frame.index)
