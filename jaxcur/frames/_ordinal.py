"""Ordinal regression of a column of a table, with its labels."""

import warnings
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxcur import ordinal
from jaxcur._base import check_choice
from jaxcur.data import TableError, numeric_column
from jaxcur.frames._columns import as_frame, require
from jaxcur.frames._design import collinear
from jaxcur.frames._ordinal_design import choose, in_words, learn, read_variables
from jaxcur.frames._ordinal_outcome import Unobserved, read_outcome, settle
from jaxcur.frames._ordinal_result import OrdinalFrameResult
from jaxcur.frames._rows import row_weights

PENALTIES = {
    "presto": ordinal.Presto(),
    "parallel": ordinal.Parallel(),
    "nonparallel": ordinal.NonParallel(),
    "semiparallel": ordinal.SemiParallel(),
}
_UNOBSERVED = ("raise", "drop")


def fit_ordinal(
    data_frame: pd.DataFrame,
    *,
    outcome: str | None = None,
    features: str | Sequence[str] | None = None,
    formula: str | None = None,
    order: Sequence[Any] | None = None,
    unobserved: Unobserved = "raise",
    penalty: Any = "presto",
    regularization: float | Literal["cv"] = "cv",
    family: str = "cumulative",
    link: str = "logit",
    weights: str | None = None,
    num_folds: int = 5,
    criterion: str = "brier",
    rule: str = "min",
    key: Any = None,
    na: Literal["error", "drop"] = "error",
) -> OrdinalFrameResult:
    """Ordinal regression of a column of a table; labels in, labels out.

    Classes have the order of an ordered categorical, or of numbers; words need `order`.
    The model is  P(y <= class | x) = F(alpha + x'beta)  with a vector beta for every
    boundary between classes, drawn towards its neighbour by the penalty: a positive
    coefficient moves probability to LOWER classes, the opposite of R `polr` and of
    statsmodels (to higher ones in the families "cratio" and "acat"). `summary()` says
    the direction in words.

    Guarantee: the fit is certified: its `kkt_residual` and `gap_bound` are in
    `result.exact` and in the summary, as in `ordinal.fit`. Verified by: unit tests
    against `ordinal.fit`.

    Args:
        data_frame: pandas data frame, one row per unit.
        outcome: the column of classes; not needed where the formula names it.
        features: columns of numbers. None, without a formula: all other columns.
        formula: as in R and formulaic: "y ~ x1 + C(group)", or the right side alone.
        order: the classes, lowest first. Overrides the order of the column.
        unobserved: what to do with a declared class that no row holds: "raise", or
            "drop": it gets predicted probability 0.
        penalty: "presto", "parallel", "nonparallel", "semiparallel" or an object such
            as `ordinal.Presto(first=0.0)`.
        regularization: strength, or "cv" to choose it by cross-validation.
        family: as in `ordinal.fit`.
        link: as in `ordinal.fit`.
        weights: column of weights.
        num_folds: of cross-validation.
        criterion: of cross-validation, as in `ordinal.cross_validate`.
        rule: of cross-validation, "min" or "one_se".
        key: PRNG key (or an integer) that draws the folds; needed with "cv".
        na: "error", or "drop" rows where an entry is missing; the number dropped is in
            the result.

    Returns:
        OrdinalFrameResult, on the host; arithmetic is in float64.

    Raises:
        ValueError: options are unknown or do not go together.
        TableError: a ValueError: the table or the formula cannot be used as asked.

    Transformations: none, it works on data frames.
    Cost: one path of fits, and `num_folds` more with "cv". Tests and intervals are
    computed when they are asked for.

    Source: see `ordinal.fit`.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from jaxcur import frames
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=200)
        >>> pain = np.digitize(2 * x + rng.logistic(size=200), [0.0, 4.0])
        >>> levels = ["none", "some", "severe"]
        >>> table = pd.DataFrame({"x": x, "pain": np.array(levels)[pain]})
        >>> result = frames.fit_ordinal(
        ...     table, outcome="pain", order=levels, regularization=0.01)
        >>> result.predict(pd.DataFrame({"x": [-2.0, 3.0]})).tolist()
        ['none', 'severe']
    """
    for name, value, options in (
        ("unobserved", unobserved, _UNOBSERVED),
        ("na", na, ("error", "drop")),
    ):
        check_choice(name, value, options)
    if isinstance(penalty, str):
        check_choice("penalty", penalty, tuple(PENALTIES))
        penalty = PENALTIES[penalty]
    by_folds = isinstance(regularization, str)
    if by_folds and regularization != "cv":
        raise ValueError(
            f"`regularization` must be a number or 'cv', got {regularization!r}"
        )
    if by_folds and key is None:
        raise ValueError("cross-validation draws folds at random: give `key`")
    index = data_frame.index if isinstance(data_frame, pd.DataFrame) else None
    frame = as_frame(data_frame)
    others = [] if weights is None else [weights]
    require(frame, others, "`weights`")
    columns = choose(frame, outcome, features, formula, others)
    read = read_outcome(frame, columns.outcome, order)
    numbers = {n: numeric_column(frame, n, allow_missing=True) for n in others}
    gaps = {read.name: read.codes < 0, **{n: np.isnan(v) for n, v in numbers.items()}}
    table, kept = read_variables(frame, columns, na=na, gaps=gaps)
    mass = row_weights(weights, numbers, kept)
    occurs, codes = settle(read, mass, unobserved, kept)
    encoder, X = learn(columns, table)
    if not by_folds and float(regularization) == 0:
        cause = collinear(np.column_stack([np.ones(len(X)), X]), ("1", *encoder.terms))
        if cause is not None:
            raise TableError(
                f"{cause}; remove one of them, or give a positive regularization"
            )
    options = {
        "num_classes": int(occurs.sum()),
        "penalty": penalty,
        "family": family,
        "link": link,
        "weights": mass,
    }
    selection = None
    some = [label for label, there in zip(read.labels, occurs, strict=True) if there]
    with jax.enable_x64(True), warnings.catch_warnings(record=True) as caught:
        try:
            if by_folds:
                selection = ordinal.cross_validate(
                    X,
                    codes,
                    num_folds=num_folds,
                    criterion=criterion,
                    rule=rule,
                    key=jax.random.key(key) if isinstance(key, int) else key,
                    **options,
                )
                found = selection.result
            else:
                found = ordinal.fit(X, codes, regularization=regularization, **options)
        except ValueError as error:
            message = in_words(str(error), encoder.terms, some)
            raise ValueError(message) from error
        exact, selection = jax.tree.map(np.asarray, (found, selection))
    if int(exact.status):
        warnings.warn(f"not settled: {exact.message}", UserWarning, stacklevel=2)
    for warning in caught:
        message = in_words(str(warning.message), encoder.terms, some)
        warnings.warn(message, warning.category, stacklevel=2)
    return OrdinalFrameResult(
        outcome=read,
        occurs=occurs,
        encoder=encoder,
        X=X,
        codes=codes,
        weights=mass,
        counted=index is None or index.equals(pd.RangeIndex(len(index))),
        index=pd.RangeIndex(len(kept))[kept] if index is None else index[kept],
        num_dropped=int((~kept).sum()),
        penalty=penalty,
        selection=selection,
        exact=exact,
    )
