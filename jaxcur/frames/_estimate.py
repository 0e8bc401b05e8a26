"""Debiased estimation from a formula and a data frame."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd

from jaxcur import debiased
from jaxcur._base import check_choice
from jaxcur.data import TableError
from jaxcur.frames._columns import as_frame, as_names
from jaxcur.frames._design import Design, build, collinear
from jaxcur.frames._fits import (
    Attempt,
    Problem,
    debiased_fit,
    gold_only,
    over_splits,
    realised_probability,
    surrogate_only,
)
from jaxcur.frames._formula import MODELS, parse, refuse_shifts
from jaxcur.frames._result import FrameResult
from jaxcur.frames._rows import Request, TableRows, check_predicted, read_rows

Model = Literal["ols", "logit", "poisson", "multinomial", "ordered", "mean"]


def estimate(
    formula: str,
    data_frame: pd.DataFrame,
    *,
    predicted: Mapping[str, str],
    model: Model = "ols",
    labeled: str | None = None,
    sampling_prob: str | float | None = None,
    design: Literal["bernoulli", "srs", "stratified"] | None = None,
    strata: str | None = None,
    clusters: str | Sequence[str] | None = None,
    weights: str | None = None,
    fixed_effects: str | Sequence[str] | None = None,
    classes: Sequence[Any] | None = None,
    learner: Any = None,
    features: str | Sequence[str] | None = None,
    num_folds: int = 5,
    num_splits: int = 1,
    key: Any = None,
    aggregation: Literal["median", "mean"] = "median",
    power_tuning: Any = "default",
    small_sample: Literal["hc1", "cr1"] | None = None,
    na: Literal["error", "drop"] = "error",
    labels: Literal["error", "ignore"] = "error",
) -> FrameResult:
    """Regression on predicted variables, by formula: surrogate, gold and debiased.

    The formula speaks of gold columns. A row counts as labelled where all of the gold
    columns named in `predicted` have an entry; elsewhere they may be missing. The model
    is fitted three times: to predictions taken for truth, to labelled rows alone
    (weighted by one over their sampling probability), and debiased. Transformations,
    interactions and categories are computed from gold labels and from predictions in
    one and the same encoding.

    Guarantee: that of the estimator in `jaxcur.debiased`, for the debiased fit: if rows
    were labelled with the stated known probabilities and predictions do not depend on
    the rows' own labels, intervals cover at their level as labels grow in number, for
    any predictor. None for the surrogate-only fit. Verified by: `jaxcur verify
    debiased/ols`.

    Args:
        formula: as in R and formulaic: "y ~ x1 + C(group) + log(x2)". For model "mean"
            the outcomes alone: "y" or "y + z ~ 1".
        data_frame: pandas data frame, one row per unit.
        predicted: gold column -> the column that holds its prediction in every row.
        model: "ols", "logit", "poisson"; "multinomial" (the last category is the base)
            and "ordered", whose outcome is one column of categories; "mean" (shares,
            for a column of categories).
        labeled: column that says which rows are labelled, where gold columns do not.
        sampling_prob: column, or one number: the known probability with which a row was
            chosen for a gold label. None: labels are a simple random sample.
        design: how rows were chosen: "bernoulli" (one by one; assumed with
            probabilities), "srs" (a fixed number), "stratified" (a fixed number in each
            of `strata`).
        strata: column.
        clusters: column or columns; rows of one cluster may depend on one another.
        weights: column of survey weights.
        fixed_effects: columns whose groups each have an effect of their own; model
            "ols" only. There is no intercept then.
        classes: categories of the outcome in their order; needed where they are words
            and the model is "ordered".
        learner: one of `jaxcur.learners`, to predict gold labels from the predicted
            columns and `features` by cross-fitting; the debiased fit then uses these
            predictions. Numbers only.
        features: columns of numbers that help the learner. They and the predicted
            columns are brought to mean 0 and standard deviation 1.
        num_folds: of cross-fitting.
        num_splits: random partitions of cross-fitting that are combined.
        key: PRNG key (or an integer) that draws the folds; needed with a learner.
        aggregation: how partitions are combined.
        power_tuning: how much of the predictions to use, as in `debiased.Options`:
            "optimal", "scalar", None (all of it) or a number. The default is
            "optimal", and None with fixed effects.
        small_sample: None, "hc1" or "cr1".
        na: what to do with rows where an entry other than a gold label is missing; the
            number dropped is in the result.
        labels: what to do with gold labels of rows that `labeled` says have none.

    Returns:
        FrameResult, on the host; arithmetic is in float64.

    Raises:
        ValueError: an option is unknown, or options do not go together.
        TableError: a ValueError: the table or the formula cannot be used as asked.

    Transformations: none, it works on data frames.
    Cost: three fits; with a learner, one more and num_folds fits of it for each split.

    Source: see `debiased.ols`.

    Example:
        >>> import numpy as np, pandas as pd
        >>> from jaxcur import frames
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=400)
        >>> truth = 1 + 2 * x + rng.normal(size=400)
        >>> table = pd.DataFrame({
        ...     "x": x,
        ...     "y": np.where(np.arange(400) < 100, truth, np.nan),
        ...     "y_llm": 0.5 * truth})
        >>> result = frames.estimate("y ~ x", table, predicted={"y": "y_llm"})
        >>> result.compare().loc["x", ["surrogate_only", "debiased"]].round(1).tolist()
        [1.0, 2.0]
    """
    for name, value, options in (
        ("model", model, MODELS),
        ("na", na, ("error", "drop")),
        ("labels", labels, ("error", "ignore")),
        ("aggregation", aggregation, ("median", "mean")),
    ):
        check_choice(name, value, options)
    request = Request(
        predicted={},
        labeled=labeled,
        sampling_prob=sampling_prob,
        strata=strata,
        weights=weights,
        clusters=as_names("clusters", clusters),
        fixed_effects=as_names("fixed_effects", fixed_effects),
        features=as_names("features", features),
        na=na,
        labels=labels,
    )
    _check_options(request, model, design, small_sample, classes, learner, key)
    frame = as_frame(data_frame)
    parsed = parse(formula, model, list(frame.columns))
    pairs = check_predicted(frame, parsed, predicted)
    refuse_shifts(parsed, list(pairs))
    request = Request(**{**vars(request), "predicted": pairs})
    rows = read_rows(frame, parsed, request)

    has_intercept = not request.fixed_effects
    arguments = (rows.labeled, list(pairs))
    options = {"has_intercept": has_intercept, "classes": classes}
    matrices = build(
        parsed, model, rows.observed, rows.predicted, *arguments, **options
    )
    problem = Problem(model, design, power_tuning, small_sample)
    if learner is None:
        found = debiased_fit(problem, rows, matrices)
    else:
        splits = _cross_fitted(
            rows, pairs, learner, num_folds, num_splits, _as_key(key)
        )
        attempts = []
        for guess in splits:
            seen = rows.observed.copy()
            for name in pairs:
                seen[name] = seen[name].where(rows.labeled, guess[name])
            own = build(
                parsed,
                model,
                seen,
                guess,
                *arguments,
                **options,
                reference=rows.predicted,
            )
            attempts.append(debiased_fit(problem, rows, own))
        found = over_splits(attempts, aggregation)
    if found.result is None or not bool(found.result.converged):
        # A singular equation can show in other ways first.
        cause = collinear(matrices.predicted.X, matrices.covariates)
        if cause is not None:
            raise TableError(f"{cause}; remove one of them from the formula")
    if found.result is None:
        raise TableError(found.messages[-1])
    gold = gold_only(problem, rows, matrices)
    surrogate = surrogate_only(problem, rows, matrices)
    messages = found.messages
    for message in messages:
        warnings.warn(message, debiased.InferenceWarning, stacklevel=2)
    return FrameResult(
        formula=parsed.text,
        model=model,
        terms=matrices.terms,
        predicted=pairs,
        labeling=describe_labeling(request, design, rows),
        tuning=_describe_tuning(power_tuning, bool(request.fixed_effects)),
        num_rows=len(rows.labeled),
        num_labeled=int(rows.labeled.sum()),
        num_dropped=rows.num_dropped,
        num_partial=rows.num_partial,
        warnings=messages,
        notes=_notes(surrogate, gold, rows, matrices),
        exact=(surrogate.result, gold.result, found.result),
    )


def _check_options(
    request: Request,
    model: str,
    design: Any,
    small_sample: Any,
    classes: Any,
    learner: Any,
    key: Any,
) -> None:
    if design is not None:
        check_choice("design", design, ("bernoulli", "srs", "stratified"))
    if design == "stratified" and request.strata is None:
        raise ValueError("design='stratified' needs `strata`, the column of the strata")
    if request.strata is not None and design not in (None, "stratified"):
        raise ValueError(f"`strata` go with design='stratified', not with '{design}'")
    if design == "bernoulli" and request.sampling_prob is None:
        raise ValueError(
            "design='bernoulli' needs `sampling_prob`, the probabilities of the draws"
        )
    if small_sample not in (None, "hc1", "cr1"):
        raise ValueError(
            f"`small_sample` must be None, 'hc1' or 'cr1', got {small_sample!r}"
        )
    if small_sample == "cr1" and not request.clusters:
        raise ValueError("small_sample='cr1' needs `clusters`; use 'hc1' without")
    if request.fixed_effects and model != "ols":
        raise ValueError(f"`fixed_effects` go with model 'ols', not with '{model}'")
    if classes is not None and model not in ("multinomial", "ordered"):
        raise ValueError(
            f"`classes` go with the models multinomial and ordered, not with '{model}'"
        )
    if learner is None and request.features:
        raise ValueError("`features` are for a `learner`; give one")
    if learner is not None and key is None:
        raise ValueError("a learner is fitted in random folds: give `key`")


def _as_key(key: Any) -> Any:
    return jax.random.key(key) if isinstance(key, int) else key


def _cross_fitted(
    rows: TableRows,
    pairs: Mapping[str, str],
    learner: Any,
    num_folds: int,
    num_splits: int,
    key: Any,
) -> list[pd.DataFrame]:
    """Predicted rows of each split, with cross-fitted predictions in their place."""
    for name in pairs:
        if isinstance(rows.predicted[name].dtype, pd.CategoricalDtype):
            raise TableError(
                f"'{name}' is a category; a learner predicts numbers, so recode it"
            )
    guesses = [rows.predicted[name].to_numpy(np.float64) for name in pairs]
    features = np.column_stack([*guesses, rows.features])
    # Penalties and distances should not depend on units. All rows together: no label
    # is used, and labelled and unlabelled rows are treated alike.
    spread = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    clusters = None if rows.clusters is None else rows.clusters[:, 0]
    frames = [rows.predicted.copy() for _ in range(num_splits)]
    for name in pairs:
        # One key for all variables: one partition, so that no row is predicted by a
        # learner that has seen any of its labels.
        with jax.enable_x64(True):
            found = np.asarray(
                debiased.cross_fit(
                    learner,
                    features,
                    rows.observed[name].to_numpy(np.float64),
                    labeled=rows.labeled,
                    sampling_prob=rows.sampling_prob,
                    num_folds=num_folds,
                    num_splits=num_splits,
                    clusters=clusters,
                    key=key,
                )
            )
        if found.ndim != 2:
            raise TableError(
                f"the learner predicts {found.shape[2]} numbers for each row; one is "
                "needed"
            )
        for frame, values in zip(frames, found, strict=True):
            frame[name] = values
    return frames


def describe_labeling(request: Request, design: str | None, rows: TableRows) -> str:
    """How rows were chosen for gold labels, in words."""
    prob = realised_probability(rows)
    low, high = prob.min(), prob.max()
    span = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    source = request.sampling_prob
    column = f" (column {source})" if isinstance(source, str) else ""
    design = design or (
        "stratified"
        if request.strata is not None
        else "srs"
        if source is None
        else "bernoulli"
    )
    if design == "bernoulli":
        return f"independent, with probability {span}{column}"
    if design == "srs":
        return f"simple random sample, probability {span}{column}"
    assert rows.strata is not None
    count = len(np.unique(rows.strata))
    return (
        f"simple random samples in {count} strata (column {request.strata}), "
        f"probability {span}{column}"
    )


def _describe_tuning(power_tuning: Any, has_effects: bool) -> str:
    if isinstance(power_tuning, str) and power_tuning == "default":
        power_tuning = None if has_effects else "optimal"
    if power_tuning is None:
        return "none"
    if isinstance(power_tuning, str):
        return power_tuning
    return f"{float(power_tuning):g}" if np.ndim(power_tuning) == 0 else "given matrix"


def _notes(
    surrogate: Attempt, gold: Attempt, rows: TableRows, matrices: Design
) -> dict[str, str]:
    """Why a fit beside the debiased one is not available."""
    notes = {}
    cause = collinear(matrices.observed.X[rows.labeled], matrices.covariates)
    if cause is not None and (gold.result is None or not bool(gold.result.converged)):
        gold = Attempt(None, (f"among labelled rows, {cause}",))
    for name, attempt in (("surrogate_only", surrogate), ("gold_only", gold)):
        if attempt.result is None:
            notes[name] = attempt.messages[-1]
        elif not bool(attempt.result.converged):
            said = (m for m in attempt.messages if "converge" in m)
            notes[name] = next(said, "no solution").partition(":")[0]
    return notes
