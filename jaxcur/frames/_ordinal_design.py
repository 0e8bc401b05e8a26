"""The columns that predict an ordered outcome: of the fit, and of new rows."""

import dataclasses
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxcur.data import TableError, numeric_column
from jaxcur.frames._columns import (
    as_names,
    is_missing,
    read_variable,
    require,
    series,
    suggestion,
)
from jaxcur.frames._design import encode_side
from jaxcur.frames._formula import Parsed, parse
from jaxcur.frames._rows import complete_rows


@dataclasses.dataclass(frozen=True)
class Columns:
    """What predicts the outcome: a list of numeric columns, or a formula.

    Attributes:
        outcome: the outcome's column.
        variables: columns that are needed.
        parsed: the formula, None for a plain list.
    """

    outcome: str
    variables: tuple[str, ...]
    parsed: Parsed | None


def choose(
    frame: pd.DataFrame,
    outcome: str | None,
    features: Any,
    formula: str | None,
    others: Sequence[str],
) -> Columns:
    """Settle the outcome and what predicts it.

    Args:
        frame: the table.
        outcome: its column, or None where the formula names it.
        features: names of numeric columns, or None.
        formula: "y ~ x1 + C(x2)", or the right side alone; None.
        others: columns that are neither, such as weights.
    """
    if features is not None and formula is not None:
        raise ValueError("give `features` or `formula`, not both")
    if formula is not None:
        return _by_formula(frame, outcome, formula)
    if outcome is None:
        raise ValueError("`outcome` must name a column, or `formula` have a left side")
    require(frame, [outcome], "`outcome`")
    if features is None:
        names = [name for name in frame.columns if name not in (outcome, *others)]
    else:
        names = as_names("features", features)
        require(frame, names, "`features`")
    if outcome in names:
        raise TableError(f"`features` lists the outcome '{outcome}'")
    if not names:
        raise TableError("there is no column left to predict the outcome with")
    return Columns(outcome, tuple(names), None)


def _by_formula(frame: pd.DataFrame, outcome: str | None, formula: str) -> Columns:
    if not isinstance(formula, str):
        raise TypeError(f"`formula` must be text such as 'y ~ x', got {formula!r}")
    left, tilde, _ = formula.partition("~")
    if not tilde or not left.strip():
        if outcome is None:
            raise ValueError(
                f"formula '{formula}' has no left side: name the column as `outcome`"
            )
        require(frame, [outcome], "`outcome`")
        right = formula.replace("~", "", 1)
        quoted = outcome if outcome.isidentifier() else f"`{outcome}`"
        formula = f"{quoted} ~ {right}"
    parsed = parse(formula, "ordered", list(frame.columns))
    name = str(parsed.outcome[0])
    if outcome is not None and outcome != name:
        raise ValueError(f"the formula's outcome is '{name}', `outcome` is '{outcome}'")
    if not parsed.covariate_variables:
        raise TableError(f"formula '{parsed.text}' has no covariates")
    if name in parsed.covariate_variables:
        raise TableError(f"formula '{parsed.text}' has the outcome on both sides")
    return Columns(name, tuple(sorted(parsed.covariate_variables)), parsed)


def read_variables(
    frame: pd.DataFrame, columns: Columns, *, na: str, gaps: Mapping[str, np.ndarray]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Numbers and categories of the rows that are complete, and which these are.

    Args:
        frame: the table.
        columns: what is needed.
        na: "error" or "drop", for rows that lack an entry.
        gaps: where other columns lack one, by name.
    """
    found: dict[str, pd.Series] = {}
    lacking = dict(gaps)
    for name in columns.variables:
        if columns.parsed is None:
            found[name] = pd.Series(_number(frame, name), name=name)
        else:
            as_category = name in columns.parsed.categories
            found[name] = read_variable(frame, [name], as_category=as_category)[0]
        lacking[name] = found[name].isna().to_numpy()
    kept: Any = complete_rows(lacking, na)
    table = pd.DataFrame(found).loc[kept].reset_index(drop=True)
    return table, kept


def _number(frame: pd.DataFrame, name: str) -> np.ndarray:
    """A column of numbers; words are sent to the formula."""
    column = series(frame, name)
    categorical = isinstance(column.dtype, pd.CategoricalDtype)
    words = categorical or column.dtype.kind in "mM"
    if not words and column.dtype.kind not in "iufb":
        entries = column[~is_missing(column)]
        numbers = np.asarray(pd.to_numeric(entries.astype(str), errors="coerce"), float)
        words = len(numbers) > 0 and bool(np.isnan(numbers).all())
    if words:
        raise TableError(
            f"column '{name}' does not hold numbers: leave it out of `features`, or "
            f"write it as a category, C({name}), in `formula`"
        )
    return numeric_column(frame, name, allow_missing=True)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Turns rows of any table into the columns of the fit.

    Attributes:
        columns: what is needed.
        kinds: dtype of each variable, with its levels.
        spec: formulaic's memory of levels, centres and knots; None for a plain list.
        kept: columns of its matrix that are not the intercept.
        terms: names of the columns of the matrix.
    """

    columns: Columns
    kinds: Mapping[str, Any]
    spec: Any
    kept: np.ndarray
    terms: tuple[str, ...]

    def new_rows(self, frame: pd.DataFrame) -> np.ndarray:
        """Rows of a new table, which need no outcome."""
        require(frame, self.columns.variables, "the table")
        table, _ = read_variables(frame, self.columns, na="error", gaps={})
        for name in self.columns.variables:
            kind = self.kinds[name]
            if isinstance(kind, pd.CategoricalDtype):
                table[name] = _known(series(table, name), kind)
            elif isinstance(table[name].dtype, pd.CategoricalDtype):
                raise TableError(f"column '{name}' held numbers in the fit, words here")
        matrix = self._matrix(table)
        _refuse_infinite(matrix, self.terms)
        return matrix

    def _matrix(self, table: pd.DataFrame) -> np.ndarray:
        if self.spec is None:
            return table.to_numpy(np.float64)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = self.spec.get_model_matrix(table, context={})
        except Exception as error:  # whatever its expressions may raise
            message = " ".join(str(error.__cause__ or error).split())
            raise TableError(
                f"the formula cannot be evaluated on these rows: {message}"
            ) from error
        return np.asarray(found, np.float64)[:, self.kept]


def learn(columns: Columns, table: pd.DataFrame) -> tuple[Encoder, np.ndarray]:
    """The encoder of these rows, and their matrix."""
    if columns.parsed is None:
        names, kept, spec = list(columns.variables), np.arange(table.shape[1]), None
        matrix = table.to_numpy(np.float64)
    else:
        for name in columns.variables:
            column = series(table, name)
            if isinstance(column.dtype, pd.CategoricalDtype) and column.nunique() < 2:
                raise TableError(
                    f"column '{name}' has one category only, '{column.iloc[0]}'; "
                    "remove it from the formula"
                )
        side = columns.parsed.covariates
        # Its complaints about a formula are words; the second reading keeps the levels.
        [matrix, _], names = encode_side(columns.parsed, side, (table, table), table)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            learnt = side.get_model_matrix(table, context={}, na_action="ignore")
        spec = learnt.model_spec
        kept = np.array([i for i, name in enumerate(names) if name != "Intercept"])
        matrix, names = matrix[:, kept], [names[i] for i in kept]
    _refuse_infinite(matrix, names)
    kinds = {name: table[name].dtype for name in columns.variables}
    return Encoder(columns, kinds, spec, kept, tuple(names)), matrix


def _known(column: pd.Series, kind: pd.CategoricalDtype) -> pd.Series:
    """A column in the levels of the fit."""
    levels = {str(level): level for level in kind.categories}
    for row, entry in enumerate(column):
        if str(entry) not in levels:
            near = suggestion(str(entry), list(levels))
            raise TableError(
                f"column '{column.name}' holds '{entry}' in row {row + 1}, which no "
                f"row of the fit held{near}"
            )
    values = pd.Categorical([levels[str(entry)] for entry in column], dtype=kind)
    return pd.Series(values, name=column.name)


def _refuse_infinite(matrix: np.ndarray, names: Sequence[str]) -> None:
    bad = ~np.isfinite(matrix)
    if bad.any():
        column = int(bad.any(axis=0).argmax())
        rows = bad[:, column]
        raise TableError(
            f"term '{names[column]}' is not finite in {int(rows.sum())} of {len(rows)} "
            f"rows (first: row {int(rows.argmax()) + 1})"
        )


def in_words(message: str, terms: Sequence[str], labels: Sequence[Any]) -> str:
    """A message about columns and classes by number, told by name."""
    for word, names in (("column", terms), ("class", labels)):

        def name(match: re.Match[str], names: Sequence[Any] = names) -> str:
            return f"{match.group(1)} '{names[int(match.group(2))]}'"

        message = re.sub(rf"\b({word}) (\d+)\b", name, message)
    return message
