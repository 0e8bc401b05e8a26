"""The rows of a table as an analysis sees them: labels, design, groups."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxcur.data import TableError, numeric_column
from jaxcur.frames._columns import (
    as_names,
    is_missing,
    read_ids,
    read_mask,
    read_variable,
    require,
    series,
    suggestion,
)
from jaxcur.frames._formula import Parsed

# Arguments that name columns.
_COLUMNS = ("labeled", "strata", "weights", "clusters", "fixed_effects", "features")


@dataclasses.dataclass(frozen=True)
class Request:
    """Names of columns, as the user gave them.

    Attributes:
        predicted: gold column -> predicted column.
        labeled: column that says which rows are labelled, or None.
        sampling_prob: column, number or None.
        strata: column or None.
        weights: column or None.
        clusters: columns.
        fixed_effects: columns.
        features: columns.
        na: "error" or "drop".
        labels: "error" or "ignore".
    """

    predicted: Mapping[str, str]
    labeled: str | None
    sampling_prob: str | float | None
    strata: str | None
    weights: str | None
    clusters: Sequence[str]
    fixed_effects: Sequence[str]
    features: Sequence[str]
    na: str
    labels: str


@dataclasses.dataclass(frozen=True)
class TableRows:
    """Complete rows.

    Attributes:
        observed: variables of the formula; predictions where there is no gold label.
        predicted: the same, predictions in every row.
        labeled: shape (N,), bool.
        sampling_prob: shape (N,), scalar or None.
        strata: shape (N,), int, or None.
        weights: shape (N,), or None.
        clusters: shape (N, ways), int, or None.
        fixed_effects: shape (N, ways), int, or None.
        features: shape (N, d).
        num_dropped: rows left out because an entry was missing.
        num_partial: rows with gold labels of some predicted variables only.
    """

    observed: pd.DataFrame
    predicted: pd.DataFrame
    labeled: np.ndarray
    sampling_prob: Any
    strata: np.ndarray | None
    weights: np.ndarray | None
    clusters: np.ndarray | None
    fixed_effects: np.ndarray | None
    features: np.ndarray
    num_dropped: int
    num_partial: int


def check_predicted(
    frame: pd.DataFrame, parsed: Parsed, predicted: Mapping[str, str]
) -> dict[str, str]:
    """The pairs of gold and predicted columns, which must exist and be used."""
    pairs = {str(name): str(guess) for name, guess in predicted.items()}
    if not pairs:
        raise ValueError(
            "`predicted` is empty; name the gold column and its prediction, for "
            "example {'y': 'y_llm'}"
        )
    for name, guess in pairs.items():
        require(frame, [name, guess], "`predicted`")
        if name == guess:
            raise TableError(
                f"predicted: '{name}' cannot be the prediction of itself; name the "
                "column that holds it"
            )
        if name not in parsed.variables:
            hint = suggestion(name, parsed.variables)
            raise TableError(
                f"predicted: the formula '{parsed.text}' does not use '{name}'{hint}"
            )
    return pairs


def read_rows(frame: pd.DataFrame, parsed: Parsed, request: Request) -> TableRows:
    """Read every column that takes part, and settle which rows do."""
    pairs = dict(request.predicted)
    for argument in _COLUMNS:
        require(frame, as_names(argument, getattr(request, argument)), f"`{argument}`")
    seen: dict[str, pd.Series] = {}
    guess: dict[str, pd.Series] = {}
    gaps: dict[str, np.ndarray] = {}
    for name in parsed.variables:
        columns = [name, pairs[name]] if name in pairs else [name]
        read = read_variable(frame, columns, as_category=name in parsed.categories)
        seen[name], guess[name] = read[0], read[-1]
        gaps[columns[-1]] = read[-1].isna().to_numpy()
    gold = np.stack([seen[name].notna().to_numpy() for name in pairs], axis=1)
    labeled: Any = gold.all(axis=1)
    numbers = {
        name: numeric_column(frame, name, allow_missing=True)
        for name in (request.weights, *request.features)
        if name is not None
    }
    prob = request.sampling_prob
    if isinstance(prob, str):
        require(frame, [prob], "`sampling_prob`")
        numbers[prob] = numeric_column(frame, prob, allow_missing=True)
    gaps |= {name: np.isnan(values) for name, values in numbers.items()}
    for name in (
        *(request.strata, request.labeled),
        *(*request.clusters, *request.fixed_effects),
    ):
        if name is not None:
            gaps[name] = is_missing(series(frame, name))
    kept: Any = complete_rows(gaps, request.na)
    frame = frame.loc[kept].reset_index(drop=True)
    labeled, gold = labeled[kept], gold[kept]
    if request.labeled is not None:
        labeled = _marked(read_mask(frame, request.labeled), gold, pairs, request)
    num_partial = int((gold.any(axis=1) & ~gold.all(axis=1)).sum())
    weights = row_weights(request.weights, numbers, kept)
    present = labeled if weights is None else labeled & (weights > 0)
    if not present.any():
        listed = " and ".join(f"'{name}'" for name in pairs)
        raise TableError(
            f"no labelled rows: no row has a gold label in {listed}; label some rows, "
            "chosen with known probabilities"
        )
    observed, predicted = (
        pd.DataFrame(index=frame.index),
        pd.DataFrame(index=frame.index),
    )
    for name in parsed.variables:
        own = seen[name].loc[kept].reset_index(drop=True)
        other = guess[name].loc[kept].reset_index(drop=True)
        predicted[name] = other
        observed[name] = own.where(labeled, other) if name in pairs else other
    clusters = read_ids(frame, request.clusters) if request.clusters else None
    for column, name in enumerate(request.clusters):
        assert clusters is not None
        if len(np.unique(clusters[:, column])) < 2:
            raise TableError(
                f"column '{name}' holds a single cluster, from which no variance can "
                "be learnt"
            )
    return TableRows(
        observed=observed,
        predicted=predicted,
        labeled=labeled,
        sampling_prob=_probabilities(prob, numbers, kept, labeled),
        strata=None
        if request.strata is None
        else read_ids(frame, [request.strata])[:, 0],
        weights=weights,
        clusters=clusters,
        fixed_effects=read_ids(frame, request.fixed_effects)
        if request.fixed_effects
        else None,
        features=np.stack([numbers[n][kept] for n in request.features], axis=1)
        if request.features
        else np.zeros((len(frame), 0)),
        num_dropped=int((~kept).sum()),
        num_partial=num_partial if request.labeled is None else 0,
    )


def complete_rows(gaps: Mapping[str, np.ndarray], na: str) -> np.ndarray:
    """Rows without a gap in any column but gold ones."""
    kept = np.ones(len(next(iter(gaps.values()))), bool)
    for name, missing in gaps.items():
        if missing.any() and na == "error":
            raise TableError(
                f"column '{name}' is missing in {int(missing.sum())} of {len(missing)} "
                f"rows (first: row {int(missing.argmax()) + 1}); fill them in, or drop "
                "these rows (na='drop', --na drop)"
            )
        kept &= ~missing
    if not kept.any():
        raise TableError("every row lacks an entry in some column; no rows are left")
    return kept


def _marked(
    marked: np.ndarray, gold: np.ndarray, pairs: Mapping[str, str], request: Request
) -> np.ndarray:
    """The rows said to be labelled, compared with the labels there are."""
    complete, some = gold.all(axis=1), gold.any(axis=1)
    without = marked & ~complete
    if without.any():
        names = [name for i, name in enumerate(pairs) if not gold[without, i].all()]
        raise TableError(
            f"column '{request.labeled}' says that {int(marked.sum())} rows are "
            f"labelled, but {int(without.sum())} of them have no gold label in "
            f"'{names[0]}' (first: row {int(without.argmax()) + 1})"
        )
    beside = some & ~marked
    if beside.any() and request.labels == "error":
        raise TableError(
            f"{int(beside.sum())} rows have gold labels, but are not labelled by "
            f"column '{request.labeled}' (first: row {int(beside.argmax()) + 1}); "
            "ignore these labels with labels='ignore' (--labels ignore)"
        )
    return marked


def row_weights(
    name: str | None, numbers: Mapping[str, np.ndarray], kept: np.ndarray
) -> np.ndarray | None:
    if name is None:
        return None
    weights = numbers[name][kept]
    if (weights < 0).any() or not (weights > 0).any():
        raise TableError(
            f"column '{name}' must hold weights that are not negative, and not all zero"
        )
    return weights


def _probabilities(
    prob: str | float | None,
    numbers: Mapping[str, np.ndarray],
    kept: np.ndarray,
    labeled: np.ndarray,
) -> Any:
    if prob is None:
        return None
    if not isinstance(prob, str):
        if not 0 < float(prob) <= 1:
            raise TableError(
                f"the sampling probability must lie above 0 and not above 1, got {prob}"
            )
        return float(prob)
    values = numbers[prob][kept]
    bad = ~((values > 0) & (values <= 1))
    if bad.any():
        row = int(bad.argmax())
        also = int((bad & labeled).sum())
        raise TableError(
            f"column '{prob}' must hold probabilities above 0 and at most 1: "
            f"{int(bad.sum())} of {len(values)} rows do not, {also} of them labelled "
            f"(first: {values[row]:g} in row {row + 1}); a row that could not be "
            "labelled is outside the population that labels speak for"
        )
    return values
