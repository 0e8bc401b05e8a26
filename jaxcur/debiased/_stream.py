"""Estimates from rows that come in chunks and need not fit in memory."""

import os
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur._base import ProgressBar, as_float, check_choice
from jaxcur.debiased._assemble import (
    check_variance,
    dress,
    resolve_tuning,
    review,
)
from jaxcur.debiased._chunks import Chunks, Layout, device_dtype, make_layout
from jaxcur.debiased._fit import Plan
from jaxcur.debiased._models import LOGISTIC, MEAN, OLS, POISSON, Model, UserMoment
from jaxcur.debiased._passes import FORMAT, Memory, Passes
from jaxcur.debiased._prepare import DesignName, warn
from jaxcur.debiased._rank import check_gram
from jaxcur.debiased._result import EstimateResult
from jaxcur.debiased._stream_solve import solve_affine, solve_newton
from jaxcur.debiased._variance import Target

_MODELS: dict[str, tuple[Model, str]] = {
    "mean": (MEAN, "mean"),
    "ols": (OLS, "index"),
    "logistic": (LOGISTIC, "index"),
    "poisson": (POISSON, "index"),
}
ModelName = Literal["mean", "ols", "logistic", "poisson"]


def estimate_chunks(
    chunks: Chunks,
    *,
    model: ModelName | Callable[[Array, Any], Array] = "ols",
    init: Real[ArrayLike, " p"] | None = None,
    affine: bool = False,
    two_step: bool = True,
    design: DesignName | None = None,
    num_strata: int | None = None,
    num_clusters: int | None = None,
    power_tuning: Any = "optimal",
    small_sample: Literal["hc1", "cr1"] | None = None,
    target: Target = "superpopulation",
    max_steps: int = 100,
    max_labeled_bytes: int = 2**29,
    progress: bool | None = None,
    state_path: str | os.PathLike[str] | None = None,
) -> EstimateResult:
    """Debiased estimation over chunks of rows, for data that do not fit in memory.

    The same equation, tuning and covariance as `mean`, `ols`, `logistic`, `poisson` and
    `estimate`, from sums that are added up chunk by chunk in float64. The rows are read
    several times: to count them, for the tuning, for each Newton step, and for the
    covariance; labelled rows, which are few, are kept.

    Guarantee: as the function of the same name, whose answer this is up to rounding.
    Verified by: tests/unit/debiased/test_stream.py.

    Args:
        chunks: called once per pass; returns a fresh iterator over the same chunks.
            Each chunk is a mapping of arrays with one entry per row: "labeled" and
            "X" (n, p), "y", "X_predicted", "y_predicted", "offset" as in the functions
            named, and "sampling_prob", "strata", "clusters", "weights" where they are
            used. Strata and clusters are integers from 0. All chunks have the keys of
            the first; lengths may differ, but similar ones save compilations.
            `table_chunks` makes such a callable of a CSV or parquet file.
        model: a name, or a moment m(theta, record) -> (q,) as in `estimate`. The
            records are then the chunks' "observed" and "predicted" trees, or without
            these dicts of "X", "y" and "offset".
        init: shape (p,), where to start; needed with a moment, 0 otherwise.
        affine: promise that the moment is affine in theta.
        two_step: with q > p, whether to re-weight.
        design: as in `Options`.
        num_strata: number of strata.
        num_clusters: number of clusters; those without rows do no harm. Their sums are
            kept for every cluster, so memory is of order `num_clusters` times q.
        power_tuning: as in `Options`.
        small_sample: as in `Options`.
        target: as in `Options`.
        max_steps: most Newton steps.
        max_labeled_bytes: labelled rows are kept in memory up to this size; beyond it,
            the first step makes passes over the chunks too.
        progress: whether to show a progress line; None: on long runs in a terminal.
        state_path: file of finished passes, with the labelled rows, written after every
            pass. After an interrupt, the same call goes on after the last one. Delete
            it when the data or the code of the moment have changed.

    Returns:
        EstimateResult.

    Raises:
        TypeError: `chunks` is not callable.
        ValueError: as the function named, with the number of the chunk; chunks with
            other keys or shapes than the first; passes that differ in their rows; a
            `state_path` of other data or another model.

    Transformations: none; a driver on the host. The chunks' sums are jit-compiled.
    Cost: OLS four passes (five in float32), other models about seven; memory of two
    chunks and the labelled rows.

    Source: as `mean`.

    Example:
        >>> import numpy as np
        >>> from jaxcur import debiased
        >>> def chunks():
        ...     for seed in range(4):
        ...         rng = np.random.default_rng(seed)
        ...         x = rng.normal(size=500)
        ...         y = 1 + 2 * x + 0.1 * rng.normal(size=500)
        ...         yield {"X": np.stack([np.ones(500), x], axis=1), "y": y,
        ...                "y_predicted": 0.5 * y + 3, "labeled": np.arange(500) < 100}
        >>> result = debiased.estimate_chunks(chunks, model="ols")
        >>> [round(float(b), 1) for b in result.estimate]
        [1.0, 2.0]
    """
    if not callable(chunks):
        raise TypeError(
            "`chunks` must be a function that returns a fresh iterator, because the "
            f"rows are read several times; got {type(chunks).__name__}"
        )
    equation, form = _resolve_model(model, affine)
    start = None
    if init is not None:
        (start,) = as_float(init=init)
        if start.ndim != 1:
            raise ValueError(f"`init` must have shape (p,), got {start.shape}")
    elif form == "moment":
        raise ValueError("`init` is needed with a moment: shape (p,), where to start")
    num_strata = (
        getattr(chunks, "num_strata", None) if num_strata is None else num_strata
    )
    if num_clusters is None:
        num_clusters = getattr(chunks, "num_clusters", None)
    check_variance(small_sample, target, num_clusters is not None)
    layout = make_layout(
        _first(chunks),
        form=form,
        dtype=None if start is None else start.dtype,
        design=design,
        num_strata=num_strata,
        num_clusters=num_clusters,
    )
    start, q = _start(equation, layout, start)
    rule, matrix = resolve_tuning(power_tuning, q, layout.dtype)
    if q > start.shape[0] and rule == "per_coordinate":
        raise ValueError(
            "an over-identified equation takes power_tuning 'optimal', 'scalar', None "
            f"or a number, got {power_tuning!r}"
        )
    identity = {
        "format": FORMAT,
        "model": model if isinstance(model, str) else _name(model),
        "keys": sorted(layout.keys),
        "shapes": [list(shape) for shape in layout.shapes],
        "dtype": str(layout.dtype),
        "design": [layout.design, layout.num_strata, layout.num_clusters],
    }
    bar = ProgressBar("estimate", None, "chunks", progress, left="about")
    try:
        passes = Passes(
            chunks,
            layout,
            equation,
            memory=Memory(state_path, identity),
            bar=bar,
            max_labeled_bytes=max_labeled_bytes,
        )
        plan = Plan(
            tuning=rule,
            sizes=passes.sizes,
            signs=(1,) if layout.num_clusters else (),
            target=target,
            max_steps=max_steps,
            two_step=two_step,
        )
        metric = jnp.eye(q, dtype=layout.dtype) if q > start.shape[0] else None
        solver = solve_affine if equation.is_affine else solve_newton
        fitted = solver(passes, equation, plan, start, matrix, metric)
        result = dress(
            fitted,
            passes.design.numbers(),
            clustered=bool(layout.num_clusters),
            small_sample=small_sample,
        )
        if not bool(result.converged):
            _explain(passes, layout, equation, result)
    finally:
        bar.close()
    if bool(result.converged):
        review(result, {}, design_matrix="X" if form == "index" else None)
    return result


def _resolve_model(model: Any, affine: bool) -> tuple[Model, str]:
    if callable(model):
        moment: Any = model
        return UserMoment(moment, is_affine=affine), "moment"
    check_choice("model", model, tuple(_MODELS))
    if affine:
        raise ValueError("`affine` describes a moment; named models know it themselves")
    return _MODELS[model]


def _name(moment: Any) -> str:
    return str(getattr(moment, "__qualname__", type(moment).__qualname__))


def _first(chunks: Chunks) -> Any:
    for chunk in chunks():
        return chunk
    raise ValueError("no rows: `chunks` returned an empty iterator")


def _start(model: Model, layout: Layout, init: Array | None) -> tuple[Array, int]:
    """Where to start, and the number of moments."""
    if layout.form != "moment":
        width = layout.shapes[0][0]
        start = jnp.zeros(width, layout.dtype) if init is None else init
        if start.shape != (width,):
            raise ValueError(f"`init` must have shape ({width},), got {start.shape}")
        return start.astype(layout.dtype), width
    assert init is not None
    leaves = [
        jax.ShapeDtypeStruct((1, *shape), device_dtype(kind))
        for shape, kind in zip(layout.shapes, layout.dtypes)
    ]
    record = jax.tree.unflatten(layout.structure, leaves)
    q = jax.eval_shape(model.moments, init, record).shape[1]
    if q < init.shape[0]:
        raise ValueError(
            f"`model` returns {q} moments for {init.shape[0]} parameters; at least as "
            "many are needed"
        )
    return init, q


def _explain(
    passes: Passes, layout: Layout, model: Model, result: EstimateResult
) -> None:
    """Raise or warn, after one more pass, about a result that did not converge."""
    reason = "the covariance is NaN"
    if layout.form == "index":
        place = layout.names[0][0]
        assert place == "X"
        gram = 0.0
        for part in passes.parts("looking for collinear columns"):
            x = part.predicted[0].astype(np.float64)
            gram = gram + x.T @ x
        check_gram(np.asarray(gram))
        if not model.is_affine:
            reason = (
                "the moments have no finite root, as when a covariate separates the "
                "labels; drop the covariate or label more rows"
            )
    elif layout.form == "moment":
        reason = "try another `init`, or check that the root is unique"
    warn(f"did not converge in {int(result.num_steps)} steps: {reason}")
