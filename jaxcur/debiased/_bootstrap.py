"""Predict, then debias: any estimator that takes weights, by the bootstrap."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Int, Real

from jaxcur._base import as_float, is_concrete
from jaxcur.debiased._assemble import resolve_tuning
from jaxcur.debiased._blocks import LabeledRows, Rows
from jaxcur.debiased._prepare import prepare, warn
from jaxcur.debiased._resample import (
    BootstrapResult,
    Resampling,
    as_units,
    check_draw,
    draw_weights,
    replicate_covariance,
)
from jaxcur.debiased._result import std_error
from jaxcur.debiased._tuning import TUNINGS, TuningName, tuning_matrix
from jaxcur.debiased._variance import Noise

Estimator = Callable[[Any, Any], Any]

# Rows held at once by the resamples that run together.
_BATCH_ROWS = 2**22


def predict_then_debias(
    estimator: Estimator,
    observed: Any,
    predicted: Any,
    *,
    labeled: Bool[ArrayLike, " N"],
    sampling_prob: Real[ArrayLike, "..."] | None = None,
    weights: Real[ArrayLike, " N"] | None = None,
    clusters: Int[ArrayLike, " N"] | None = None,
    power_tuning: Any = "optimal",
    num_resamples: int = 200,
    resampling: Resampling = "multinomial",
    key: Any = None,
    resample_weights: Real[ArrayLike, "b N"] | None = None,
    is_traceable: bool = True,
) -> BootstrapResult:
    """Debias whatever an estimator that takes row weights computes.

    With w_i = R_i / pi_i the estimate is

        theta_o(labelled, w) + Lambda [ theta_p(all, 1) - theta_p(labelled, w) ],

    the estimator on gold records of the labelled rows, plus what the predictions of all
    rows add to those of the labelled ones. Rows, or whole clusters, are resampled
    together with their labels; the replicates give the covariance, and the matrix
    Lambda with the least of it. No moment and no derivative is needed: medians,
    penalised fits and other libraries' estimators serve.

    Guarantee: if rows are labelled independently with the stated probabilities, or as a
    simple random sample and the estimator does not change when all weights are
    multiplied by a number, and if the estimator is one for which the bootstrap is
    consistent, intervals cover asymptotically, for any predictor. A sample stratified
    by design is safe, and wider than need be.
    Verified by: tests/unit/debiased/test_bootstrap.py.

    Args:
        estimator: (record, weights (n,)) -> (p,), of a pytree with leading axis n; n is
            that of all rows or of the labelled ones. Rows of weight 0 must not count.
            Written in jax.numpy unless `is_traceable` is False; pass the same function
            again to reuse the compiled program.
        observed: pytree of arrays with leading axis N; anything in unlabeled rows.
        predicted: the same structure and shapes; finite.
        labeled: shape (N,), True where every predicted variable has its gold label.
        sampling_prob: scalar or shape (N,), in (0, 1]; None: the realised fraction.
        weights: shape (N,), survey weights; 0 for a row that is not there.
        clusters: shape (N,), resampled as a whole. Concrete.
        power_tuning: "optimal", "scalar" (the least sum of variances),
            "per_coordinate", None for 1, a number or a matrix (p, p).
        num_resamples: at least 2, and well above p for "optimal". Static.
        resampling: "multinomial", counts of drawing as many with replacement, or
            "exponential" weights, under which no row or category ever disappears.
        key: PRNG key, draws the resamples.
        resample_weights: shape (num_resamples, N), the draw itself; not both.
        is_traceable: False calls the estimator on NumPy arrays, one resample at a time.

    Returns:
        BootstrapResult with p coordinates.

    Raises:
        ValueError: no labelled rows, probabilities outside (0, 1], predictions or gold
            labels that are not finite, neither key nor draw, or both. Under jit: NaN.

    Transformations: jit (estimator static) and vmap, where it is traceable.
    Cost: 3 (num_resamples + 1) calls of the estimator, two of them on labelled rows.

    Source: Kluger, Lu, Zrnic, Wang and Bates, "Prediction-powered inference with
    imputed covariates and nonuniform sampling", 2025.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> def median(y, weights):
        ...     order = jnp.argsort(y)
        ...     share = jnp.cumsum(weights[order]) / weights.sum()
        ...     return y[order][jnp.searchsorted(share, 0.5)][None]
        >>> noise, error = jax.random.normal(jax.random.key(0), (2, 1000))
        >>> y = 3 + noise
        >>> result = debiased.predict_then_debias(
        ...     median, y, y + 1 + 0.3 * error, labeled=jnp.arange(1000) < 200,
        ...     key=jax.random.key(1))
        >>> low, high = result.conf_int()[0]
        >>> bool(low < 3 < high)
        True
    """
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves((predicted, observed))]
    if not leaves:
        raise ValueError("`predicted` has no arrays")
    if jax.tree.structure(observed) != jax.tree.structure(predicted):
        raise ValueError(
            "`observed` and `predicted` must have the same structure, got "
            f"{jax.tree.structure(observed)} and {jax.tree.structure(predicted)}"
        )
    n = leaves[0].shape[0]
    dtype = as_float(**{f"leaf_{i}": leaf for i, leaf in enumerate(leaves)})[0].dtype
    seen, guess = (_as_record(part, n, dtype) for part in (observed, predicted))
    # Row numbers ride along, to find the resample weight of a labelled row.
    row = jnp.arange(n, dtype=jnp.int32)
    prepared = prepare(
        (seen, row),
        (guess, row),
        labeled=labeled,
        sampling_prob=sampling_prob,
        weights=weights,
        dtype=dtype,
    )
    _check_finite(prepared.rows, prepared.labeled)
    ids, num_units = as_units(clusters, n)
    given, count = check_draw(
        key, resample_weights, num_resamples, resampling, n, dtype
    )
    source = (ids, given, jax.random.key(0) if key is None else key)
    run = _on_device if is_traceable else _on_host
    gold, labeled_part, whole = run(
        estimator,
        prepared.rows,
        prepared.labeled,
        source,
        how=resampling,
        num_units=num_units,
        count=count + 1,
    )
    rule, matrix = resolve_tuning(power_tuning, gold.shape[1], dtype)
    result = _conclude(rule, gold, labeled_part, whole, matrix, prepared.is_usable)
    _review(result)
    return result


def _as_record(record: Any, n: int, dtype: Any) -> Any:
    def convert(leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        if array.shape[:1] != (n,):
            raise ValueError(
                f"every array of the records must have the leading axis {n}, got shape "
                f"{array.shape}"
            )
        is_float = jnp.issubdtype(array.dtype, jnp.floating)
        return array.astype(dtype) if is_float else array

    return jax.tree.map(convert, record)


def _check_finite(rows: Rows, labeled: LabeledRows) -> None:
    for name, record, weight in (
        ("predicted", rows.record, rows.weight),
        ("observed", labeled.observed, labeled.weight),
    ):
        for leaf in jax.tree.leaves(record):
            if not is_concrete(leaf, weight):
                continue
            bad = ~np.isfinite(np.asarray(leaf)).reshape(leaf.shape[0], -1).all(axis=1)
            bad &= np.asarray(weight) > 0
            if bad.any():
                where = "" if name == "predicted" else " where `labeled` is True"
                raise ValueError(
                    f"`{name}` must be finite{where}, {int(bad.sum())} rows are not"
                )


def _review(result: BootstrapResult) -> None:
    if not is_concrete(result.estimate, result.num_failed):
        return
    if not np.isfinite(np.asarray(result.estimate)).all():
        warn("the estimator returned values that are not finite on the data themselves")
    elif int(result.num_failed):
        warn(
            f"{int(result.num_failed)} of {result.replicates.shape[0]} resamples gave "
            "values that are not finite and were left out"
        )


def _weights_of(
    index: Any, n: int, source: tuple[Any, ...], how: str, num_units: int, dtype: Any
) -> Array:
    """Resample weights (N,); the zeroth resample is the data themselves."""
    ids, given, key = source
    if given is None:
        drawn = draw_weights(jax.random.fold_in(key, index), how, ids, num_units, dtype)
    else:
        drawn = given[jnp.clip(index - 1, 0, given.shape[0] - 1)]
    return jnp.where(index == 0, jnp.ones(n, dtype), drawn)


@partial(jax.jit, static_argnames=("estimator", "how", "num_units", "count"))
def _on_device(
    estimator: Estimator,
    rows: Rows,
    labeled: LabeledRows,
    source: tuple[Any, ...],
    *,
    how: str,
    num_units: int,
    count: int,
) -> tuple[Array, Array, Array]:
    n, dtype = rows.weight.shape[0], rows.weight.dtype
    record, _ = rows.record
    (gold, row), (guess, _) = labeled.observed, labeled.predicted
    # Gold and predicted records of labelled rows in one batch: one copy to compile.
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), gold, guess)

    def one(index: Array) -> tuple[Array, Array, Array]:
        drawn = _weights_of(index, n, source, how, num_units, dtype)
        own = labeled.weight / labeled.prob * drawn[row]
        pair = jax.vmap(lambda part: _vector(estimator(part, own)))(both)
        whole = _vector(estimator(record, rows.weight * drawn))
        return pair[0], pair[1], whole

    # Batches of one size: what is left over would be compiled a second time.
    at_once = max(1, _BATCH_ROWS // (n + 2 * row.shape[0]))
    batches = math.ceil(count / at_once)
    size = math.ceil(count / batches)
    values = jax.lax.map(one, jnp.arange(batches * size), batch_size=size)
    gold_part, labeled_part, whole = (v[:count].astype(dtype) for v in values)
    return gold_part, labeled_part, whole


def _vector(value: Any) -> Array:
    array = jnp.atleast_1d(value)
    if array.ndim != 1:
        raise ValueError(f"`estimator` must return shape (p,), got {array.shape}")
    return array


def _on_host(
    estimator: Estimator,
    rows: Rows,
    labeled: LabeledRows,
    source: tuple[Any, ...],
    *,
    how: str,
    num_units: int,
    count: int,
) -> tuple[Array, Array, Array]:
    if not is_concrete(rows.weight, *jax.tree.leaves((labeled, rows.record, source))):
        raise TypeError(
            "`estimator` runs on the host and cannot be traced: call it outside jit "
            "and vmap"
        )
    n, dtype = rows.weight.shape[0], rows.weight.dtype
    record, (gold, row), guess = jax.tree.map(
        np.asarray, (rows.record[0], labeled.observed, labeled.predicted[0])
    )
    base, whole_base = (
        np.asarray(labeled.weight / labeled.prob),
        np.asarray(rows.weight),
    )
    values: tuple[list, list, list] = ([], [], [])
    for index in range(count):
        drawn = np.asarray(_weights_of(index, n, source, how, num_units, dtype))
        own = base * drawn[row]
        parts = ((gold, own), (guess, own), (record, whole_base * drawn))
        for held, part in zip(values, parts, strict=True):
            held.append(_vector(np.asarray(estimator(*part), dtype)))
    gold_part, labeled_part, whole = map(jnp.stack, values)
    return gold_part, labeled_part, whole


@partial(jax.jit, static_argnames=("rule",))
def _conclude(
    rule: str,
    gold: Array,
    labeled_part: Array,
    whole: Array,
    matrix: Array,
    is_usable: Array,
) -> BootstrapResult:
    p, dtype = gold.shape[1], gold.dtype
    gap = labeled_part - whole
    joint, failed = replicate_covariance(jnp.concatenate([gold, gap], axis=1)[1:])
    if rule in TUNINGS:
        how: TuningName = rule  # pyright: ignore[reportAssignmentType]
        matrix = _best(how, joint, whole)
    contrast = jnp.concatenate([jnp.eye(p, dtype=dtype), -matrix], axis=1)
    covariance = jnp.linalg.multi_dot(
        [contrast, joint, contrast.T], precision=jax.lax.Precision.HIGHEST
    )
    values = gold - jnp.matmul(gap, matrix.T, precision="highest")
    sound = is_usable & jnp.all(jnp.isfinite(values[0]))
    return BootstrapResult(
        estimate=jnp.where(is_usable, values[0], jnp.nan),
        covariance=jnp.where(sound, covariance, jnp.nan),
        replicates=values[1:],
        replicate_std_error=None,
        power_tuning=matrix,
        gold_std_error=jnp.where(sound, std_error(joint[:p, :p]), jnp.nan),
        num_failed=failed,
    )


def _best(how: TuningName, joint: Array, whole: Array) -> Array:
    """Lambda from the joint covariance of gold estimates and gaps."""
    p = whole.shape[1]
    both, own = joint[:p, p:], joint[p:, p:]
    # With all rows labelled the gaps are rounding noise, which is not to be fitted.
    size = jnp.nanmax(jnp.abs(whole), axis=0)
    real = jnp.diagonal(own) > (64 * jnp.finfo(joint.dtype).eps * size) ** 2
    both = jnp.where(real[None, :], both, 0)
    own = jnp.where(real[:, None] & real[None, :], own, 0)
    identity = jnp.eye(p, dtype=joint.dtype)
    parts = Noise(joint[:p, :p], jnp.zeros_like(own), both, own)
    return tuning_matrix(how, parts, identity, -identity)
