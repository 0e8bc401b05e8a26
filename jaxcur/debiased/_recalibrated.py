"""Recalibrated predictions of the moments themselves, learned from labelled rows."""

import dataclasses
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Int, Real

from jaxcur._base import as_float, check_rank, is_concrete
from jaxcur.debiased._assemble import run
from jaxcur.debiased._cross_fit import cross_fit
from jaxcur.debiased._models import MEAN, UserMoment
from jaxcur.debiased._moment import Moment, estimate
from jaxcur.debiased._newton import influence
from jaxcur.debiased._options import Options, check_options
from jaxcur.debiased._prepare import as_ids, prepare
from jaxcur.debiased._result import EstimateResult
from jaxcur.learners import Learner

_DESIGN = ("sampling_prob", "design", "strata", "weights", "normalize_prob")


def recalibrated(
    moment: Moment,
    observed: Any,
    predicted: Any,
    *,
    learner: Learner,
    labeled: Bool[ArrayLike, " N"],
    init: Real[ArrayLike, " p"],
    features: Real[ArrayLike, "N d"] | None = None,
    affine: bool = False,
    num_folds: int = 5,
    num_splits: int = 1,
    key: Any = None,
    folds: Int[ArrayLike, "..."] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased estimation with a learned surrogate of the moments.

    Labelled rows alone give a first estimate theta_0. What a row then adds to the
    estimate, its influence psi_i = -J^-1 m(theta_0, record_i), is known for labelled
    rows. `learner` predicts it, one coordinate after the other and by cross-fitting,
    from the influence that the predicted record has and from `features`. The debiased
    mean of psi with these predictions is the step from theta_0 to the estimate.

    The best surrogate of a moment is its expectation given all that is known of a row;
    a prediction put in the place of the label can be far from it, for instance when it
    is a biased class or its error depends on covariates. A learner that fits well makes
    the optimal tuning matrix nearly the identity; `power_tuning=None` then spares its
    estimation, which with few labels and heavy tails is worth something.

    Guarantee: as `estimate`, asymptotically, for any learner; with optimal tuning never
    less precise, asymptotically, than labelled rows alone.
    Verified by: tests/unit/debiased/test_recalibrated.py.

    Args:
        moment: m(theta (p,), record) -> (p,), as in `estimate`.
        observed: pytree of arrays with leading axis N; anything in unlabeled rows.
        predicted: the same structure and shapes; finite.
        learner: any object of the `learners` protocol that predicts numbers.
        labeled: shape (N,), True where every predicted variable has its gold label.
        init: shape (p,), where the first estimate starts.
        features: shape (N, d), of all rows, whatever else may tell of the moment:
            covariates, scores of the machine, several surrogates. None: no more than
            the predicted influence.
        affine: promise that the moment is affine in theta.
        num_folds: of the cross-fitting. Static.
        num_splits: partitions, whose predictions are averaged. Static.
        key: PRNG key; draws the partitions, and goes to the learner.
        folds: shape (num_splits, N) or (N,), the partitions themselves.
        **options: design, weights, clusters, tuning: see `Options`, less `axis_name`.
            With several ways of clusters folds keep those of the first together.
            Matrices of `power_tuning` are in coordinates of theta.

    Returns:
        EstimateResult with p coordinates; `power_tuning` is in coordinates of theta.

    Raises:
        ValueError: as `estimate` and `cross_fit`; more moments than parameters.

    Transformations: jit and vmap, except for learners on the host.
    Cost: a fit to labelled rows, num_splits * num_folds * p fits of the learner, and a
    debiased mean.

    Source: Ji, Lei and Zrnic, "Predictions as surrogates: revisiting surrogate outcomes
    in the age of AI", 2025.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased, learners
        >>> def gap(theta, record):
        ...     return record["y"][None] - theta
        >>> x, noise = jax.random.normal(jax.random.key(0), (2, 2000))
        >>> y = 1 + x**2 + 0.5 * noise
        >>> data = ({"y": y}, {"y": x})  # the prediction is of no use as it is
        >>> options = dict(labeled=jnp.arange(2000) < 400, init=jnp.zeros(1))
        >>> plain = debiased.estimate(gap, *data, **options)
        >>> better = debiased.recalibrated(
        ...     gap, *data, features=jnp.stack([x, x**2], 1), **options,
        ...     learner=learners.Ridge(1.0), key=jax.random.key(1))
        >>> bool(better.std_error[0] < 0.8 * plain.std_error[0])
        True
    """
    check_options(options)
    if options.get("axis_name") is not None:
        raise ValueError(
            "`axis_name` is not for `recalibrated`: the learner needs all rows in one "
            "place"
        )
    _check_moments(moment, predicted, init)
    rest: dict[str, Any] = {**options}
    tuning = rest.pop("power_tuning", "optimal")
    first = estimate(
        moment,
        observed,
        predicted,
        labeled=labeled,
        init=init,
        affine=affine,
        power_tuning=0.0,
        **rest,
    )
    theta = first.estimate
    p = theta.shape[0]
    if is_concrete(first.converged) and not bool(first.converged):
        return first
    n = jnp.shape(labeled)[0]
    row = jnp.arange(n, dtype=jnp.int32)
    prepared = prepare(
        (jax.tree.map(jnp.asarray, observed), row),
        (jax.tree.map(jnp.asarray, predicted), row),
        labeled=labeled,
        dtype=theta.dtype,
        **{name: rest[name] for name in _DESIGN if name in rest},
    )
    gold, guess, scale = _influences(
        UserMoment(moment),
        theta,
        prepared._replace(sizes=None, signs=None),  # pyright: ignore
    )
    known = (
        jnp.zeros(n, bool)
        .at[prepared.labeled.observed[1]]
        .max(prepared.labeled.weight > 0)
    )
    inputs = _as_features(features, guess, prepared.rows.weight)
    learned = [
        _learn(
            cross_fit(
                learner,
                inputs,
                gold[:, j],
                labeled=known,
                num_folds=num_folds,
                num_splits=num_splits,
                clusters=_first_way(options.get("clusters"), n),
                key=key,
                folds=folds,
            )
        )
        for j in range(p)
    ]
    step = run(
        MEAN,
        gold * scale,
        jnp.stack(learned, axis=1) * scale,
        init=jnp.zeros(p, theta.dtype),
        num_moments=p,
        labeled=labeled,
        power_tuning=tuning,
        **rest,
    )
    return _dress(first, step)


def _check_moments(moment: Moment, predicted: Any, init: Any) -> None:
    arrays = jax.tree.map(jnp.asarray, predicted)
    one = jax.tree.map(lambda leaf: leaf[0], arrays)
    q, p = jax.eval_shape(moment, jnp.asarray(init), one).size, np.size(init)
    if q > p:
        raise ValueError(
            f"`recalibrated` takes as many moments as parameters, got {q} for {p}"
        )


@partial(jax.jit, static_argnames=("model",))
def _influences(
    model: UserMoment, theta: Array, prepared: Any
) -> tuple[Array, Array, Array]:
    """Influence of gold and of predicted records in units of `scale`, and that.

    Gold ones are 0 in unlabeled rows.
    """
    record, _ = prepared.rows.record
    seen, row = prepared.labeled.observed
    weight = prepared.labeled.weight / prepared.labeled.prob
    jacobian = model.total(theta, seen, weight).jacobian
    # Per row, as the mean of the influence is what the last step estimates.
    gain = influence(jacobian / jnp.sum(weight), None).T
    present = weight > 0
    own = jnp.where(present[:, None], model.moments(theta, seen) @ gain, 0)
    spread = jnp.sqrt(jnp.sum(own * own, axis=0) / jnp.maximum(jnp.sum(present), 1))
    scale = jnp.where(spread > 0, spread, 1)
    gold = jnp.zeros((prepared.rows.weight.shape[0], theta.shape[0]), theta.dtype)
    gold = gold.at[row].add(own / scale)
    return gold, model.moments(theta, record) @ gain / scale, scale


def _as_features(features: Any, guess: Array, weight: Array) -> Array:
    """Predicted influence beside the given features; 0 in rows that are not there."""
    if features is None:
        inputs = guess
    else:
        given, _ = as_float(features=features, like=guess)
        check_rank("features", given, 2, "(N, d)")
        if given.shape[0] != guess.shape[0]:
            raise ValueError(
                f"`features` must have {guess.shape[0]} rows, got shape {given.shape}"
            )
        inputs = jnp.concatenate([guess, given.astype(guess.dtype)], axis=1)
    return jnp.where((weight > 0)[:, None], inputs, 0)


def _first_way(clusters: Any, n: int) -> Any:
    if clusters is None:
        return None
    first = clusters if np.ndim(clusters) == 1 else clusters[:, 0]
    return as_ids("clusters", first, n)[0]


def _learn(predictions: Array) -> Array:
    if predictions.ndim != 2:
        raise ValueError(
            "`learner` must predict one number per row, got predictions of shape "
            f"{predictions.shape[1:]}"
        )
    return jnp.mean(predictions, axis=0)


@jax.jit
def _dress(first: EstimateResult, step: EstimateResult) -> EstimateResult:
    sound = first.converged & step.converged
    diagnostics = dataclasses.replace(
        step.diagnostics,
        condition=first.diagnostics.condition,
        min_eigenvalue=first.diagnostics.min_eigenvalue,
    )
    return dataclasses.replace(
        step,
        estimate=first.estimate + step.estimate,
        covariance=jnp.where(sound, step.covariance, jnp.nan),
        label_covariance=jnp.where(sound, step.label_covariance, jnp.nan),
        converged=sound,
        num_steps=first.num_steps,
        diagnostics=diagnostics,
    )
