"""From a formula and two versions of the rows to matrices in one encoding."""

import dataclasses
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from jaxcur.data import TableError
from jaxcur.frames._columns import series
from jaxcur.frames._formula import CATEGORICAL, Parsed


@dataclasses.dataclass(frozen=True)
class Sides:
    """One version of the rows.

    Attributes:
        X: shape (N, p); no columns for model "mean".
        y: shape (N,), or (N, p) for model "mean"; classes as 0, 1, ... for the models
            of a categorical outcome.
    """

    X: np.ndarray
    y: np.ndarray


@dataclasses.dataclass(frozen=True)
class Design:
    """Both versions of the rows, and what the columns are called.

    Attributes:
        observed: gold labels where there are any, else predictions.
        predicted: predictions in every row.
        covariates: names of the columns of X.
        terms: names of the coefficients.
        classes: categories of the outcome, none for other models.
        predicts_X: some covariate is predicted.
        predicts_y: the outcome is.
    """

    observed: Sides
    predicted: Sides
    covariates: tuple[str, ...]
    terms: tuple[str, ...]
    classes: tuple[str, ...]
    predicts_X: bool
    predicts_y: bool


def build(
    parsed: Parsed,
    model: str,
    observed: pd.DataFrame,
    predicted: pd.DataFrame,
    labeled: np.ndarray,
    variables: Sequence[str],
    *,
    has_intercept: bool = True,
    classes: Sequence[Any] | None = None,
    reference: pd.DataFrame | None = None,
) -> Design:
    """Matrices of both versions of the rows.

    The encoding (levels, centres, knots) is learnt from the predicted rows, or from
    `reference`, and applied to both versions, so that a column means the same in both.

    Args:
        parsed: the formula.
        model: one of `MODELS`.
        observed: variables of the formula, predictions standing in for missing labels.
        predicted: the same with predictions everywhere.
        labeled: shape (N,), bool.
        variables: names of the predicted variables.
        has_intercept: False takes the column of ones out after categories have been
            coded against a reference level.
        classes: order of the categories of the outcome.
        reference: rows to learn the encoding from.
    """
    wanted = set(variables)
    predicts_X = bool(parsed.covariate_variables & wanted)
    predicts_y = bool(parsed.outcome_variables & wanted)
    frames = (observed, predicted)
    reference = predicted if reference is None else reference
    names: list[str] = []
    X = [np.zeros((len(observed), 0))] * 2
    for name in sorted(parsed.covariate_variables):
        column = series(predicted, name)
        if isinstance(column.dtype, pd.CategoricalDtype) and column.nunique() < 2:
            raise TableError(
                f"column '{name}' has one category only, '{column.iloc[0]}'; remove it "
                "from the formula"
            )
    if model != "mean":
        encoded, names = encode_side(parsed, parsed.covariates, frames, reference)
        X = encoded
        if not has_intercept or model == "ordered":
            kept = [i for i, name in enumerate(names) if name != "Intercept"]
            names = [names[i] for i in kept]
            X = [matrix[:, kept] for matrix in X]
        if not names:
            raise TableError(f"formula '{parsed.text}' has no covariates")
    labels: tuple[str, ...] = ()
    if model in CATEGORICAL:
        y, labels = _classes(str(parsed.outcome[0]), model, frames, labeled, classes)
    else:
        full = model != "mean"
        y, outcomes = encode_side(
            parsed, parsed.outcome, frames, reference, full_rank=full
        )
        if model != "mean":
            _check_outcome(parsed, model, outcomes, predicted)
            y = [matrix[:, 0] for matrix in y]
    _check_finite(X, names, labeled, predicts_X)
    if model not in CATEGORICAL:
        columns = [matrix.reshape(len(matrix), -1) for matrix in y]
        _check_finite(columns, outcomes, labeled, predicts_y)
        known = labeled if predicts_y else np.ones_like(labeled)
        _check_range(model, outcomes[0], y[0], known)
    terms = tuple(names)
    if model == "mean":
        terms = tuple(outcomes)
    elif model == "multinomial":
        terms = tuple(f"{c}: {name}" for c in labels[:-1] for name in names)
    elif model == "ordered":
        cuts = (f"{a}|{b}" for a, b in zip(labels[:-1], labels[1:], strict=True))
        terms = (*names, *cuts)
    return Design(
        observed=Sides(X[0], y[0]),
        predicted=Sides(X[1], y[1]),
        covariates=tuple(names),
        terms=terms,
        classes=labels,
        predicts_X=predicts_X,
        predicts_y=predicts_y,
    )


def encode_side(
    parsed: Parsed,
    side: Any,
    frames: tuple[pd.DataFrame, pd.DataFrame],
    reference: pd.DataFrame,
    *,
    full_rank: bool = True,
) -> tuple[list[np.ndarray], list[str]]:
    """One side of the formula for both versions, and the names of its columns."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            learnt = side.get_model_matrix(
                reference, context={}, na_action="ignore", ensure_full_rank=full_rank
            )
            spec = learnt.model_spec
            encoded = [
                learnt
                if frame is reference
                else spec.get_model_matrix(frame, context={})
                for frame in frames
            ]
    except Exception as error:  # whatever the expressions of the formula may raise
        cause = error.__cause__ or error
        message = " ".join(str(cause if str(cause) else error).split())
        found = re.search(r"\[\w+: (.*)\]$", message)
        raise TableError(
            f"formula '{parsed.text}' cannot be evaluated: "
            f"{found.group(1) if found else message}"
        ) from error
    names = [str(name) for name in spec.column_names]
    matrices = [
        np.asarray(m, dtype=np.float64).reshape(len(reference), len(names))
        for m in encoded
    ]
    return matrices, names


def _check_outcome(
    parsed: Parsed, model: str, outcomes: Sequence[str], frame: pd.DataFrame
) -> None:
    if len(outcomes) == 1 and "[" not in outcomes[0]:
        return
    name = str(parsed.outcome[0])
    example = ""
    if name in frame.columns and isinstance(frame[name].dtype, pd.CategoricalDtype):
        level = frame[name].cat.categories[-1]
        example = f", for example {{{name} == {level!r}}} in its place"
    raise TableError(
        f"the outcome '{name}' is not one column of numbers, which model '{model}' "
        f"needs; write a comparison{example}, or use the model multinomial"
    )


def _check_finite(
    versions: Sequence[np.ndarray],
    names: Sequence[str],
    labeled: np.ndarray,
    is_predicted: bool,
) -> None:
    """Logarithms of zero and the like, by term and row."""
    observed, predicted = (~np.isfinite(matrix) for matrix in versions)
    observed = observed & labeled[:, None]
    for bad, version in ((predicted, "its predictions"), (observed, "gold labels")):
        if bad.any():
            column = int(bad.any(axis=0).argmax())
            rows = bad[:, column]
            source = f" with {version}" if is_predicted else ""
            raise TableError(
                f"term '{names[column]}' is not finite in {int(rows.sum())} of "
                f"{len(rows)} rows{source} (first: row {int(rows.argmax()) + 1})"
            )


def _check_range(model: str, name: str, y: np.ndarray, labeled: np.ndarray) -> None:
    """Gold outcomes that the model cannot have meant; predictions may be anything."""
    bad = np.zeros(len(y), bool)
    if model == "logit":
        bad, wanted = labeled & ~((y >= 0) & (y <= 1)), "0 and 1"
    elif model == "poisson":
        bad, wanted = labeled & (y < 0), "counts, not negative"
    if bad.any():
        row = int(bad.argmax())
        raise TableError(
            f"the outcome '{name}' of model '{model}' must hold {wanted}, got "
            f"{y[row]:g} in row {row + 1}"
        )


def _classes(
    name: str,
    model: str,
    frames: tuple[pd.DataFrame, pd.DataFrame],
    labeled: np.ndarray,
    classes: Sequence[Any] | None,
) -> tuple[list[np.ndarray], tuple[str, ...]]:
    """The outcome as 0, 1, ... in both versions, and the names of the classes."""
    columns = [frame[name] for frame in frames]
    levels = list(columns[1].cat.categories)
    if classes is not None:
        given = {str(level): level for level in levels}
        order = [str(c) for c in classes]
        missing = [level for level in given if level not in order]
        if missing:
            raise TableError(
                f"column '{name}' holds '{missing[0]}', which `classes` does not list"
            )
        absent = [c for c in order if c not in given]
        if absent:
            raise TableError(
                f"`classes` lists '{absent[0]}', which column '{name}' never holds"
            )
        if len(set(order)) < len(order):
            raise TableError("`classes` lists a category twice; list it once")
        levels = [given[c] for c in order]
    elif (
        model == "ordered"
        and isinstance(levels[0], str)
        and not any(column.cat.ordered for column in columns)
    ):
        raise TableError(
            f"the categories of '{name}' are words "
            f"({', '.join(map(str, levels[:6]))}): give their order as `classes`, from "
            "lowest to highest"
        )
    if len(levels) < 2:
        raise TableError(f"the outcome '{name}' has one category only, '{levels[0]}'")
    codes = [
        pd.Categorical(column.to_numpy(object), categories=levels).codes
        for column in columns
    ]
    seen = np.unique(codes[0][labeled])
    if len(seen) < len(levels):
        absent = [str(c) for i, c in enumerate(levels) if i not in seen]
        raise TableError(
            f"no row has the gold label '{absent[0]}' of '{name}'; label some, or "
            "merge categories"
        )
    return [c.astype(np.int32) for c in codes], tuple(str(level) for level in levels)


def term_message(message: str, names: Sequence[str]) -> str:
    """A message about columns of `X` by number, told by name."""
    several = re.search(r"columns? \[([\d,\s]+)\]", message)
    one = re.search(r"column (\d+)", message)
    if several:
        words = _listed(re.findall(r"\d+", several.group(1)), names)
        if "linearly dependent" in message:
            return (
                f"collinear terms: {words} are linearly dependent; remove one of them"
            )
        if "do not vary within" in message:
            return f"the fixed effects absorb {words}; remove them from the formula"
        return message.replace(several.group(0), words).replace("`X` ", "")
    if one and "zero everywhere" in message:
        return f"term {_listed([one.group(1)], names)} is zero in every row; remove it"
    return message


def collinear(X: np.ndarray, names: Sequence[str]) -> str | None:
    """Which columns are linearly dependent, in words, or None."""
    if not X.shape[1]:
        return None
    norms = np.sqrt((X * X).sum(axis=0))
    if (norms == 0).any():
        return f"term '{names[int((norms == 0).argmax())]}' is zero in every row"
    gram = (X / norms).T @ (X / norms)
    values, vectors = np.linalg.eigh(gram)
    if values[0] > 1e-9:
        return None
    involved = np.flatnonzero(np.abs(vectors[:, 0]) > 1e-4)
    return f"collinear terms: {_listed(involved, names)} are linearly dependent"


def _listed(numbers: Sequence[Any] | np.ndarray, names: Sequence[str]) -> str:
    quoted = [f"'{names[int(i)]}'" for i in numbers if int(i) < len(names)]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if quoted[1:] else quoted)
