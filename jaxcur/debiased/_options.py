"""The keywords that every estimator of the package shares."""

from typing import Any, Literal, TypedDict

from jaxcur.debiased._prepare import DesignName
from jaxcur.debiased._variance import Target


class Options(TypedDict, total=False):
    """Keywords common to all estimators.

    Attributes:
        sampling_prob: scalar or shape (N,), in (0, 1]: the probability, known from the
            design, with which a row was chosen for a gold label. None: labels are a
            simple random sample, at the realised fraction (within strata, if given).
            Never rescaled, unless `normalize_prob` asks for it.
        design: "bernoulli" (independent draws; assumed when `sampling_prob` is given),
            "srs" (a fixed number of rows without replacement; assumed otherwise) or
            "stratified" (a fixed number within each of `strata`; assumed with strata).
            It enters the variance: analysing a fixed number of labels as independent
            draws is safe and, with a biased surrogate, very wide.
        strata: shape (N,), any labels.
        clusters: shape (N,) int or (N, ways): sums of moments within clusters enter
            the variance; several ways by inclusion and exclusion.
        weights: shape (N,), survey weights, finite and >= 0. A row of weight 0 is not
            there, whatever its entries: pad with it.
        power_tuning: how much of the predictions to use. "optimal": the matrix with
            least variance for every coefficient; "scalar": one number;
            "per_coordinate": one number per coefficient; None: 1, the plain estimator
            (DSL); a number lambda, or a matrix (q, q). 0 uses labelled rows only. PPI
            with `lam` and n labelled, N' other rows is lambda = lam (n + N') / N'.
        small_sample: None, "hc1" (factor N / (N - p)) or "cr1" (clusters:
            G / (G - 1) (N - 1) / (N - p)).
        target: "superpopulation", or "finite": the N rows themselves.
        normalize_prob: rescale `sampling_prob` so that it sums to the number of labels,
            and count that in the variance. Consistent, often less variable when a raw
            surrogate is biased.
        rank: regressions with collinear columns: "error" names them; "drop" leaves the
            later ones out and returns NaN in their place (not under jit).
        max_steps: most Newton steps of models that are not linear.
        axis_name: name of a mapped axis over which rows are sharded.
    """

    sampling_prob: Any
    design: DesignName | None
    strata: Any
    clusters: Any
    weights: Any
    power_tuning: Any
    small_sample: Literal["hc1", "cr1"] | None
    target: Target
    normalize_prob: bool
    rank: Literal["error", "drop"]
    max_steps: int
    axis_name: str | None


def check_options(options: Any) -> None:
    """Raise on a keyword that no estimator knows."""
    unknown = sorted(set(options) - set(Options.__annotations__))
    if unknown:
        known = ", ".join(Options.__annotations__)
        raise TypeError(f"unknown keyword `{unknown[0]}`; the common ones are {known}")
