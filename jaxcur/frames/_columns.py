"""What the columns of a table hold: numbers, categories, gaps."""

import difflib
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd

from jaxcur.data import TableError, numeric_column, require_columns

# A word that may be the name of a category ("none") is no gap here: a gold label taken
# for a gap would leave the sample for what it says.
_GAPS = frozenset({"", "na", "n/a", "nan", "<na>", "#n/a"})
_MOST_LEVELS = 200


def as_frame(data_frame: Any) -> pd.DataFrame:
    """A pandas frame with distinct text names and a plain index."""
    if not isinstance(data_frame, pd.DataFrame) and hasattr(data_frame, "to_pandas"):
        data_frame = data_frame.to_pandas()
    if not isinstance(data_frame, pd.DataFrame):
        raise TypeError(
            f"`data_frame` must be a pandas data frame, got {type(data_frame).__name__}"
        )
    frame = data_frame.reset_index(drop=True)
    frame.columns = pd.Index([str(name) for name in frame.columns])
    twice = frame.columns[frame.columns.duplicated()]
    if len(twice):
        raise TableError(f"there are several columns named '{twice[0]}'; rename them")
    if not len(frame):
        raise TableError("the table has no rows")
    return frame


def series(frame: pd.DataFrame, name: str) -> pd.Series:
    """One column; names are distinct."""
    return cast(pd.Series, frame[name])


def as_names(argument: str, names: Any) -> list[str]:
    """One column name or several as a list."""
    if names is None:
        return []
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"`{argument}` must hold names of columns, got {name!r}")
        if listed.count(name) > 1:
            raise ValueError(f"`{argument}` lists '{name}' twice; list it once")
    return listed


def require(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    """Raise unless the columns exist, saying who asked for them."""
    try:
        require_columns(frame, names)
    except TableError as error:
        raise TableError(f"{where}: {error}") from error


def is_missing(column: pd.Series) -> np.ndarray:
    """Where a column has no entry, shape (rows,)."""
    gaps = column.isna().to_numpy(dtype=bool)
    if column.dtype.kind not in "iufbmM":
        gaps = gaps | np.fromiter(
            (isinstance(e, str) and e.strip().lower() in _GAPS for e in column),
            dtype=bool,
            count=len(column),
        )
    return gaps


def _without_words_for_truth(column: pd.Series) -> pd.Series:
    """True and False, as objects or as text, as numbers."""
    if column.dtype.kind in "iufbmM" or isinstance(column.dtype, pd.CategoricalDtype):
        return column
    gaps = is_missing(column)
    words = np.array([str(entry).strip().lower() for entry in column])
    if gaps.all() or not np.isin(words[~gaps], ("true", "false")).all():
        return column
    values = np.where(gaps, np.nan, words == "true")
    return pd.Series(values, name=column.name)


def _words(column: pd.Series) -> tuple[int, int]:
    """How many entries are words, and how many are numbers."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return len(column), 0
    if column.dtype.kind in "iufb":
        return 0, len(column)
    present = [
        str(entry).strip()
        for entry, gap in zip(column, is_missing(column), strict=True)
        if not gap
    ]
    numbers = ~np.isnan(
        np.asarray(pd.to_numeric(pd.Series(present, dtype=str), errors="coerce"), float)
    )
    if numbers.any():  # then these are gaps between numbers, not categories
        numbers |= np.isin(np.char.lower(present), ("null", "none"))
    return int((~numbers).sum()), int(numbers.sum())


def read_variable(
    frame: pd.DataFrame, names: Sequence[str], *, as_category: bool
) -> list[pd.Series]:
    """The columns of one variable (gold and predicted), on one scale.

    Numbers become float64; words become categories with the levels of all columns
    together, so that gold and predicted labels are coded alike.

    Args:
        frame: the table.
        names: columns that hold the variable.
        as_category: take numbers for the names of categories.

    Raises:
        TableError: numbers and words in one variable, dates, infinities, or more
            categories than a regression can have meant.
    """
    columns = [_without_words_for_truth(series(frame, name)) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind in "mM":
            raise TableError(f"column '{name}' holds dates; make numbers of them")
    counts = [_words(column) for column in columns]
    if not as_category and any(words for words, _ in counts):
        # A categorical column says of itself that it is one.
        if any(numbers for _, numbers in counts):
            at = next(i for i, (words, _) in enumerate(counts) if words)
            numeric_column(
                pd.DataFrame({names[at]: columns[at]}), names[at], allow_missing=True
            )
            other = next(i for i, (_, numbers) in enumerate(counts) if numbers)
            raise TableError(
                f"column '{names[at]}' holds categories and '{names[other]}' numbers; "
                "both must hold the same variable"
            )
        as_category = True
    if not as_category:
        return [
            pd.Series(
                numeric_column(pd.DataFrame({n: c}), n, allow_missing=True), name=n
            )
            for n, c in zip(names, columns, strict=True)
        ]
    return _categories(names, columns)


def _categories(names: Sequence[str], columns: list[pd.Series]) -> list[pd.Series]:
    values, declared = [], []
    ordered = False
    for column in columns:
        gaps = is_missing(column)
        cells = np.array([as_label(entry) for entry in column], dtype=object)
        cells[gaps] = None
        values.append(cells)
        if isinstance(column.dtype, pd.CategoricalDtype):
            declared += [as_label(c) for c in column.cat.categories]
            ordered |= bool(column.cat.ordered)
    found = {cell for cells in values for cell in cells if cell is not None}
    kinds = {isinstance(level, str) for level in found}
    if len(kinds) > 1:
        found = {str(level) for level in found}
        values = [
            np.array([None if c is None else str(c) for c in v], dtype=object)
            for v in values
        ]
    levels = [level for level in dict.fromkeys(declared) if level in found]
    levels += sorted(found - set(levels))
    if len(levels) > _MOST_LEVELS:
        raise TableError(
            f"column '{names[0]}' has {len(levels)} different categories; an "
            "identifier is no variable of a formula, but may be a fixed effect or a "
            "cluster"
        )
    return [
        pd.Series(pd.Categorical(cells, categories=levels, ordered=ordered), name=name)
        for name, cells in zip(names, values, strict=True)
    ]


def as_label(entry: Any) -> Any:
    """The name of a category: text without padding, whole numbers as integers."""
    if isinstance(entry, str):
        return entry.strip()
    if isinstance(entry, (bool, np.bool_)):
        return bool(entry)
    if isinstance(entry, (int, float, np.number)) and np.isfinite(entry):
        return int(entry) if float(entry).is_integer() else float(entry)
    return str(entry)


def read_mask(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of yes and no, as bool."""
    column = _without_words_for_truth(series(frame, name))
    values = numeric_column(pd.DataFrame({name: column}), name)
    bad = ~np.isin(values, (0, 1))
    if bad.any():
        raise TableError(
            f"column '{name}' says which rows are labelled and must hold 0 and 1 (or "
            f"False and True), got {values[bad][0]:g} in row {int(bad.argmax()) + 1}"
        )
    return values == 1


def read_ids(frame: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Columns of any labels as integers, shape (rows, len(names))."""
    return np.stack(
        [pd.factorize(frame[name])[0].astype(np.int32) for name in names], axis=1
    )


def suggestion(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
