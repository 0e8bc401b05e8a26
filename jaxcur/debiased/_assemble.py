"""Run a fit on prepared rows and dress it as a result."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import gammaincc

from jaxcur._base import check_choice, is_concrete
from jaxcur.debiased._fit import Fit, Plan, fit, reducer
from jaxcur.debiased._models import Model
from jaxcur.debiased._options import check_options
from jaxcur.debiased._prepare import Prepared, prepare, warn
from jaxcur.debiased._rank import check_gram, take_rank
from jaxcur.debiased._result import Diagnostics, EstimateResult, std_error
from jaxcur.debiased._tuning import TUNINGS

SMALL_SAMPLE = (None, "hc1", "cr1")


def resolve_tuning(power_tuning: Any, q: int, dtype: Any) -> tuple[str, Array]:
    """The rule and the matrix of a `power_tuning` argument."""
    identity = jnp.eye(q, dtype=dtype)
    if power_tuning is None:
        return "fixed", identity
    if isinstance(power_tuning, str):
        check_choice("power_tuning", power_tuning, TUNINGS)
        return power_tuning, identity
    matrix = jnp.asarray(power_tuning).astype(dtype)
    if matrix.ndim == 0:
        return "fixed", matrix * identity
    if matrix.shape != (q, q):
        raise ValueError(
            f"`power_tuning` must be None, a number, one of {TUNINGS} or have shape "
            f"({q}, {q}), got shape {matrix.shape}"
        )
    return "fixed", matrix


def run(
    model: Model,
    observed: Any,
    predicted: Any,
    *,
    init: Array,
    num_moments: int,
    metric: Array | None = None,
    power_tuning: Any = "optimal",
    small_sample: str | None = None,
    target: str = "superpopulation",
    max_steps: int = 100,
    two_step: bool = True,
    axis_name: str | None = None,
    basis: Array | None = None,
    **design: Any,
) -> EstimateResult:
    """Fit `model` under the design; the keywords are those of the public functions."""
    check_options({name: None for name in design if name != "labeled"})
    if take_rank(design) != "error":
        raise ValueError(
            "rank='drop' is for `ols`, `logistic`, `poisson` and `glm`; drop the "
            "collinear columns first"
        )
    check_variance(small_sample, target, design.get("clusters") is not None)
    prepared = prepare(
        observed, predicted, axis_name=axis_name, dtype=init.dtype, **design
    )
    rule, matrix = resolve_tuning(power_tuning, num_moments, init.dtype)
    plan = Plan(
        tuning=rule,
        sizes=prepared.sizes,
        signs=prepared.signs,
        target=target,  # pyright: ignore[reportArgumentType]
        max_steps=max_steps,
        two_step=two_step,
        axis_name=axis_name,
    )
    if metric is None:
        metric = jnp.eye(num_moments, dtype=init.dtype)
    fitted = fit(
        model, plan, prepared.rows, prepared.labeled, init, matrix, metric, basis
    )
    design_numbers = describe(
        prepared._replace(sizes=None, signs=None),  # pyright: ignore
        signs=prepared.signs,
        axis_name=axis_name,
        cluster_counts=prepared.sizes.clusters,
    )
    return dress(
        fitted,
        design_numbers,
        clustered=bool(prepared.signs),
        small_sample=small_sample,
    )


def check_variance(small_sample: Any, target: Any, clustered: bool) -> None:
    """Raise on choices of the variance that do not exist or contradict each other."""
    check_choice("target", target, ("superpopulation", "finite"))
    if small_sample not in SMALL_SAMPLE:
        raise ValueError(
            f"`small_sample` must be one of None, 'hc1', 'cr1', got {small_sample!r}"
        )
    if small_sample == "cr1" and not clustered:
        raise ValueError("small_sample='cr1' needs `clusters`; use 'hc1' without")
    if target == "finite" and clustered:
        raise ValueError("target='finite' takes no `clusters`: the rows are fixed")


class DesignNumbers(NamedTuple):
    """What the result tells about the design; every entry is a scalar.

    Attributes:
        num_rows: rows with positive weight.
        num_labeled: labelled rows.
        groups: clusters, or rows without clusters.
        expected_labels: sum of the probabilities.
        labels_variance: variance of the number of labels.
        min_prob: least probability of a row.
        max_prob: largest.
        root_sum: sum of a w over labelled rows.
        square_sum: sum of (a w)^2.
        largest_square: largest (a w)^2.
        is_usable: bool, False for values that an eager call refuses.
        gold_is_finite: bool, no labelled row has a gold entry that is not.
    """

    num_rows: Array
    num_labeled: Array
    groups: Array
    expected_labels: Array
    labels_variance: Array
    min_prob: Array
    max_prob: Array
    root_sum: Array
    square_sum: Array
    largest_square: Array
    is_usable: Array
    gold_is_finite: Array | bool = True


@partial(jax.jit, static_argnames=("signs", "axis_name", "cluster_counts"))
def describe(
    prepared: Prepared,
    *,
    signs: tuple[int, ...],
    axis_name: str | None,
    cluster_counts: tuple[int, ...],
) -> DesignNumbers:
    reduce = reducer(axis_name)
    n = prepared.num_rows
    groups = n
    if signs:
        present = (prepared.rows.weight > 0).astype(n.dtype)
        sizes = [
            jnp.sum(reduce(jax.ops.segment_sum(present, ids, count)) > 0)
            for ids, count, sign in zip(prepared.rows.clusters, cluster_counts, signs)
            if sign > 0
        ]
        # Several ways: the coarsest one limits what is known.
        groups = jnp.min(jnp.stack(sizes[: max(1, len(sizes))])).astype(n.dtype)
    labeled = prepared.labeled
    roots = jnp.where(labeled.weight > 0, labeled.weight / labeled.prob, 0)
    largest = jnp.max(roots * roots)
    bad = [
        jnp.sum(~jnp.isfinite(leaf), dtype=jnp.int32)
        for leaf in jax.tree.leaves(labeled.observed)
    ]
    inside = jnp.where(prepared.rows.weight > 0, prepared.rows.prob, jnp.nan)
    low, high = jnp.nanmin(inside), jnp.nanmax(inside)
    if axis_name is not None:
        largest = jax.lax.pmax(largest, axis_name)
        low, high = jax.lax.pmin(low, axis_name), jax.lax.pmax(high, axis_name)
    return DesignNumbers(
        num_rows=n,
        num_labeled=prepared.num_labeled,
        groups=groups,
        expected_labels=prepared.expected_labels,
        labels_variance=prepared.labels_variance,
        min_prob=low,
        max_prob=high,
        root_sum=reduce(jnp.sum(roots)),
        square_sum=reduce(jnp.sum(roots * roots)),
        largest_square=largest,
        is_usable=prepared.is_usable,
        gold_is_finite=reduce(jnp.sum(jnp.stack(bad))) == 0,
    )


@partial(jax.jit, static_argnames=("clustered", "small_sample"))
def dress(
    fitted: Fit, design: DesignNumbers, *, clustered: bool, small_sample: str | None
) -> EstimateResult:
    """The result of a fit under a design."""
    q, p = fitted.jacobian.shape
    n, num_labeled, groups = design.num_rows, design.num_labeled, design.groups
    factor = jnp.ones((), n.dtype)
    if small_sample == "hc1":
        factor = n / (n - p)
    elif small_sample == "cr1":
        factor = groups / (groups - 1) * (n - 1) / (n - p)
    usable = design.is_usable
    if clustered:
        # The moments of a single cluster sum to zero and say nothing.
        usable &= groups > 1
    covariance = jnp.where(usable, fitted.covariance * factor, jnp.nan)
    estimate = jnp.where(usable & jnp.isfinite(fitted.theta), fitted.theta, jnp.nan)
    gold, plain = (
        std_error(c * factor) for c in (fitted.gold_covariance, fitted.plain_covariance)
    )
    own = std_error(covariance)
    efficiency = (gold / own) ** 2
    gap = num_labeled - design.expected_labels
    spread = jnp.sqrt(design.labels_variance)
    statistic = fitted.value @ fitted.metric @ fitted.value if q > p else 0 * n
    statistics = jnp.stack([fitted.bias_statistic, statistic])
    freedom = jnp.stack([fitted.bias_freedom, jnp.full_like(statistic, max(q - p, 1))])
    # One call for both: the function is short to run and long to compile.
    bias_p, overidentified = gammaincc(freedom / 2, jnp.maximum(statistics, 0) / 2)
    diagnostics = Diagnostics(
        num_rows=n,
        num_labeled=num_labeled,
        num_clusters=groups,
        min_prob=design.min_prob,
        max_prob=design.max_prob,
        max_share=design.largest_square / design.square_sum,
        effective_labels=design.root_sum**2 / design.square_sum,
        expected_labels=design.expected_labels,
        gold_is_finite=jnp.asarray(design.gold_is_finite),
        labels_z=jnp.where(spread > 0, gap / jnp.where(spread > 0, spread, 1), 0),
        bias_z=fitted.bias_z,
        bias_p_value=bias_p,
        gold_std_error=gold,
        plain_std_error=plain,
        relative_efficiency=efficiency,
        extra_labels=num_labeled * (efficiency - 1),
        max_influence=fitted.max_influence / own,
        condition=fitted.condition,
        min_eigenvalue=fitted.min_eigenvalue / n,
        residual=jnp.max(jnp.abs(fitted.value)) / n,
        overidentification=statistic,
        overidentification_p_value=overidentified,
    )
    limit = jnp.maximum(groups - 1 if clustered else num_labeled - p, 1)
    return EstimateResult(
        estimate=estimate,
        covariance=covariance,
        label_covariance=jnp.where(usable, fitted.label_covariance * factor, jnp.nan),
        converged=fitted.converged & usable & jnp.isfinite(own).all(),
        num_steps=fitted.num_steps,
        power_tuning=fitted.tuning,
        degrees_of_freedom=limit,
        diagnostics=diagnostics,
        small_sample=small_sample,
    )


def review(
    result: EstimateResult,
    predicted: Any,
    *,
    design_matrix: str | None = None,
    hint: str | None = None,
    predicted_covariates: bool = False,
) -> None:
    """Raise or warn about a concrete result that cannot be taken at face value.

    Looking for the cause only after the fact spares a pass over sound data.

    Args:
        result: as computed.
        predicted: pytree of the predicted records.
        design_matrix: key in `predicted` of a matrix that must have full column rank.
        hint: what it may mean that the solver did not converge.
        predicted_covariates: the second-moment matrix is an estimate itself.
    """
    if not is_concrete(result.estimate, *jax.tree.leaves(predicted)):
        return
    if not bool(result.converged):
        _explain(result, predicted, design_matrix, hint)
        return
    d = result.diagnostics
    p = result.estimate.shape[-1]
    if int(d.num_labeled) < 10 * p:
        warn(
            f"{int(d.num_labeled)} labelled rows for {p} parameters: intervals from "
            "fewer than ten per parameter are rough"
        )
    if float(d.max_prob) < 1 and 1 / float(d.min_prob) > 0.1 * float(d.num_rows):
        warn(
            f"a sampling probability of {float(d.min_prob):.2g} lets one row stand for "
            "more than a tenth of all"
        )
    if float(d.num_clusters) <= p:
        warn(
            f"{int(d.num_clusters)} clusters for {p} parameters: the covariance is "
            "singular"
        )
    if abs(float(d.labels_z)) >= 4:
        warn(
            f"{int(d.num_labeled)} rows are labelled where the sampling probabilities "
            f"lead one to expect {float(d.expected_labels):.1f}: they may not be the "
            "probabilities with which rows were chosen"
        )
    if float(d.condition) * float(jnp.finfo(result.estimate.dtype).eps) > 1e-2:
        warn(
            "columns far from zero for their spread, or nearly collinear, cost most of "
            "the precision; centre them, or compute in float64 (jax.enable_x64)"
        )
    if predicted_covariates and float(d.min_eigenvalue) <= 0:
        warn(
            "the debiased second-moment matrix is not positive definite: too few "
            "labels for predicted covariates"
        )


def _explain(
    result: EstimateResult, predicted: Any, design_matrix: str | None, hint: str | None
) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(predicted):
        bad = ~np.isfinite(np.asarray(leaf))
        if bad.any():
            raise ValueError(
                f"`{_label(path)}` must be finite in every row, "
                f"{int(bad.sum())} entries are NaN or infinite"
            )
    if not bool(result.diagnostics.gold_is_finite):
        raise ValueError(
            "gold labels must be finite where `labeled` is True; some are NaN or "
            "infinite: set `labeled` to False there"
        )
    if design_matrix is not None:
        x = np.asarray(predicted[design_matrix], np.float64)
        if x.ndim == 2 and x.shape[1]:
            check_gram(x.T @ x)
    reason = hint or "the covariance is NaN"
    warn(f"did not converge in {int(result.num_steps)} steps: {reason}")


def _label(path: Any) -> str:
    # A variable without a prediction stands in the predicted record itself.
    names = {"X": "X` or `X_predicted", "y": "y` or `y_predicted"}
    names["Z"] = "instruments` or `instruments_predicted"
    last = path[-1] if path else None
    key = getattr(last, "key", None) or getattr(last, "name", None)
    return names.get(str(key), "predicted")
