"""The three fits: predictions taken for truth, gold labels only, debiased."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur import debiased
from jaxcur.data import TableError
from jaxcur.frames._design import Design, Sides, term_message
from jaxcur.frames._rows import TableRows

Result = debiased.EstimateResult


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is estimated, apart from the rows.

    Attributes:
        model: one of `MODELS`.
        design: "bernoulli", "srs", "stratified" or None.
        power_tuning: of the debiased fit; "default" for that of the estimator.
        small_sample: None, "hc1" or "cr1".
    """

    model: str
    design: str | None
    power_tuning: Any
    small_sample: str | None

    @property
    def is_untuned(self) -> bool:
        """Whether fixed effects, whose default is no tuning, are not tuned."""
        tuning = self.power_tuning
        return tuning is None or isinstance(tuning, str) and tuning == "default"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A fit, or why there is none.

    Attributes:
        result: leaves are NumPy arrays, float64; None where the fit was refused.
        messages: warnings, and the reason of a refusal.
    """

    result: Result | None
    messages: tuple[str, ...]


def run(
    problem: Problem,
    design: Design,
    observed: Sides,
    predicted: Sides,
    options: dict[str, Any],
    groups: np.ndarray | None,
) -> Result:
    """One fit of arrays."""
    named: dict[str, Any] = dict(options)
    if problem.model == "mean":
        return debiased.mean(observed.y, y_predicted=predicted.y, **named)
    if design.predicts_X:
        named["X_predicted"] = predicted.X
    if design.predicts_y:
        named["y_predicted"] = predicted.y
    if design.classes:
        named["num_classes"] = len(design.classes)
    if groups is not None:
        return debiased.fixed_effects(observed.X, observed.y, groups, **named)
    functions: dict[str, Callable[..., Result]] = {
        "ols": debiased.ols,
        "logit": debiased.logistic,
        "poisson": debiased.poisson,
        "multinomial": debiased.multinomial,
        "ordered": debiased.ordered_logit,
    }
    return functions[problem.model](observed.X, observed.y, **named)


def attempt(fit: Callable[[], Result], names: Sequence[str]) -> Attempt:
    """Run a fit in float64; its warnings and refusals speak of terms by name."""
    with warnings.catch_warnings(record=True) as caught, jax.enable_x64(True):
        warnings.simplefilter("always", debiased.InferenceWarning)
        try:
            result = jax.tree.map(np.asarray, fit())
        except ValueError as error:
            message = term_message(" ".join(str(error).split()), names)
            return Attempt(None, (message,))
    messages = []
    for warning in caught:
        if issubclass(warning.category, debiased.InferenceWarning):
            messages.append(term_message(str(warning.message), names))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Attempt(result, tuple(dict.fromkeys(messages)))


def _common(problem: Problem, rows: TableRows) -> dict[str, Any]:
    """Options of every fit."""
    options: dict[str, Any] = {"small_sample": problem.small_sample}
    if rows.weights is not None:
        options["weights"] = rows.weights
    if rows.clusters is not None:
        options["clusters"] = rows.clusters
    return options


def design_options(problem: Problem, rows: TableRows) -> dict[str, Any]:
    """Options of the fits that use the labels."""
    options = _common(problem, rows) | {"labeled": rows.labeled}
    for name, value in (
        ("sampling_prob", rows.sampling_prob),
        ("design", problem.design),
        ("strata", rows.strata),
    ):
        if value is not None:
            options[name] = value
    return options


def surrogate_only(problem: Problem, rows: TableRows, design: Design) -> Attempt:
    """The ordinary estimator on predictions."""
    sides = design.predicted
    options = design_options(problem, rows)
    if _is_bernoulli(problem, rows):
        # Where gold labels equal predictions and nothing is tuned, the adjusted moments
        # are the predicted ones, row by row. Said this way, the fit is another call of
        # the program that fits gold labels, not one to compile.
        same = Sides(sides.X.copy(), sides.y.copy())
        plain = rows.fixed_effects is not None and problem.is_untuned
        options["power_tuning"] = None if plain else 1.0
        return attempt(
            lambda: run(problem, design, same, sides, options, rows.fixed_effects),
            design.covariates,
        )
    options = _common(problem, rows) | {
        "labeled": np.ones(len(rows.labeled), bool),
        "sampling_prob": 1.0,
        "power_tuning": None,
    }
    # No side is predicted: the same arrays stand for truth.
    plain = dataclasses.replace(design, predicts_X=False, predicts_y=False)
    return attempt(
        lambda: run(problem, plain, sides, sides, options, rows.fixed_effects),
        design.covariates,
    )


def _is_bernoulli(problem: Problem, rows: TableRows) -> bool:
    if problem.design is not None:
        return problem.design == "bernoulli"
    return rows.sampling_prob is not None and rows.strata is None


def gold_only(problem: Problem, rows: TableRows, design: Design) -> Attempt:
    """Labelled rows, each weighted by one over its probability."""
    options = design_options(problem, rows)
    if rows.fixed_effects is None:
        options["power_tuning"] = 0.0
        return attempt(
            lambda: run(
                problem, design, design.observed, design.predicted, options, None
            ),
            design.covariates,
        )
    # Groups without labels are not there at all: a fit to the labelled rows.
    chosen = rows.labeled
    prob = realised_probability(rows)[chosen]
    weights = np.ones(chosen.sum()) if rows.weights is None else rows.weights[chosen]
    options = {
        "labeled": np.ones(chosen.sum(), bool),
        "sampling_prob": 1.0,
        "weights": weights / prob,
        "small_sample": problem.small_sample,
        "power_tuning": None,
    }
    if rows.clusters is not None:
        options["clusters"] = rows.clusters[chosen]
    sides = Sides(design.observed.X[chosen], design.observed.y[chosen])
    groups = rows.fixed_effects[chosen]
    plain = dataclasses.replace(design, predicts_X=False, predicts_y=False)
    return attempt(
        lambda: run(problem, plain, sides, sides, options, groups), design.covariates
    )


def realised_probability(rows: TableRows) -> np.ndarray:
    """Sampling probabilities of all rows; fractions where none are given."""
    n = len(rows.labeled)
    if rows.sampling_prob is not None:
        return np.broadcast_to(np.asarray(rows.sampling_prob, float), (n,))
    strata = np.zeros(n, np.int32) if rows.strata is None else rows.strata
    there = np.ones(n, bool) if rows.weights is None else rows.weights > 0
    labels = np.bincount(strata, weights=rows.labeled & there)
    return (labels / np.maximum(np.bincount(strata, weights=there), 1))[strata]


def debiased_fit(problem: Problem, rows: TableRows, design: Design) -> Attempt:
    """The debiased estimator."""
    options = design_options(problem, rows)
    if not (
        isinstance(problem.power_tuning, str) and problem.power_tuning == "default"
    ):
        options["power_tuning"] = problem.power_tuning
    return attempt(
        lambda: run(
            problem,
            design,
            design.observed,
            design.predicted,
            options,
            rows.fixed_effects,
        ),
        design.covariates,
    )


def over_splits(attempts: Sequence[Attempt], how: Any) -> Attempt:
    """One result from those of several partitions of cross-fitting."""
    results = [a.result for a in attempts]
    messages = tuple(dict.fromkeys(m for a in attempts for m in a.messages))
    if any(result is None for result in results):
        refused = next(a for a in attempts if a.result is None)
        raise TableError(refused.messages[-1])
    found: list[Any] = results
    if len(found) == 1:
        return Attempt(found[0], messages)
    with jax.enable_x64(True):
        estimate, covariance = debiased.aggregate_splits(
            jnp.stack([r.estimate for r in found]),
            jnp.stack([r.covariance for r in found]),
            how=how,
        )
    # What is left describes a typical split.
    middle = jax.tree.map(
        lambda *leaves: np.median(np.stack(leaves), axis=0).astype(leaves[0].dtype),
        *found,
    )
    variance = np.diagonal(np.asarray(covariance))
    d = middle.diagnostics
    efficiency = d.gold_std_error**2 / variance
    result = dataclasses.replace(
        middle,
        estimate=np.asarray(estimate),
        covariance=np.asarray(covariance),
        converged=np.asarray(all(bool(r.converged) for r in found)),
        diagnostics=dataclasses.replace(
            d,
            relative_efficiency=efficiency,
            extra_labels=d.num_labeled * (efficiency - 1),
        ),
    )
    return Attempt(result, messages)
