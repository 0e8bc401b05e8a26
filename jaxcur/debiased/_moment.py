"""Debiased estimation of whatever a user can write as a moment; instruments."""

from collections.abc import Callable
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import as_float, check_choice, is_concrete
from jaxcur.debiased._assemble import review, run
from jaxcur.debiased._fit import reducer
from jaxcur.debiased._models import IV, UserMoment
from jaxcur.debiased._options import Options
from jaxcur.debiased._records import as_records
from jaxcur.debiased._result import EstimateResult

Moment = Callable[[Array, Any], Array]


def _as_leaves(name: str, record: Any, dtype: Any) -> Any:
    def convert(leaf: Any) -> Array:
        array = jnp.asarray(leaf)
        return (
            array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array
        )

    converted = jax.tree.map(convert, record)
    leaves = jax.tree.leaves(converted)
    if not leaves:
        raise ValueError(f"`{name}` has no arrays")
    lengths = {leaf.shape[:1] for leaf in leaves}
    if len(lengths) != 1 or () in lengths:
        raise ValueError(
            f"every array in `{name}` must have the same leading axis (N, ...), got "
            f"shapes {[leaf.shape for leaf in leaves]}"
        )
    return converted


def estimate(
    moment: Moment,
    observed: Any,
    predicted: Any,
    *,
    labeled: Bool[ArrayLike, " N"],
    init: Real[ArrayLike, " p"],
    affine: bool = False,
    two_step: bool = True,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased solution of any estimating equation  E m(theta, record) = 0.

    The moment is evaluated on the gold records of labelled rows and on the predicted
    records of all rows; its derivatives come from automatic differentiation. With more
    moments than parameters this is the generalised method of moments, re-weighted once
    by the inverse variance; `diagnostics.overidentification` is its J statistic.

    Guarantee: as `ols`, asymptotically, where the moment has one root and is smooth
    there. Verified by: `jaxcur verify debiased/user-moment`.

    Args:
        moment: m(theta (p,), record) -> (q,), q >= p, of one record without the leading
            axis, written in jax.numpy. Interactions and transformations of predicted
            variables belong inside. Pass the same function object again to reuse the
            compiled program.
        observed: pytree of arrays with leading axis N; anything in unlabeled rows.
        predicted: the same structure and shapes; finite. Variables without prediction
            appear in both, as the same array.
        labeled: shape (N,), True where every predicted variable has its gold label.
        init: shape (p,), where to start.
        affine: promise that the moment is affine in theta: one step then solves it.
        two_step: with q > p, whether to re-weight.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult with p coordinates.

    Raises:
        ValueError: as `mean`; records of different structure; q < p.

    Transformations: jit (moment static), vmap. Rows shard over `axis_name`.
    Cost: p + 1 evaluations of the moment per row and Newton step.

    Source: as `mean`; Egami, Hinck, Stewart and Wei, "Using Large Language Model
    Annotations for the Social Sciences", 2024.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> def share_and_log_odds(theta, record):
        ...     share, log_odds = theta
        ...     return jnp.stack([record["y"] - share,
        ...                       log_odds - jnp.log(share / (1 - share))])
        >>> y = jnp.array([1.0, 0.0, 0.0, 0.0] * 20)
        >>> result = debiased.estimate(
        ...     share_and_log_odds, {"y": y}, {"y": 0.8 * y + 0.1},
        ...     labeled=jnp.arange(80) < 40, init=jnp.array([0.5, 0.0]))
        >>> result.estimate.round(3)
        Array([ 0.25 , -1.099], dtype=float32)
    """
    (start,) = as_float(init=init)
    if start.ndim != 1:
        raise ValueError(f"`init` must have shape (p,), got {start.shape}")
    seen = _as_leaves("observed", observed, start.dtype)
    guess = _as_leaves("predicted", predicted, start.dtype)
    if jax.tree.structure(seen) != jax.tree.structure(guess):
        raise ValueError(
            "`observed` and `predicted` must have the same structure, got "
            f"{jax.tree.structure(seen)} and {jax.tree.structure(guess)}"
        )
    shapes = [
        [leaf.shape for leaf in jax.tree.leaves(record)] for record in (seen, guess)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"`observed` and `predicted` must have the same shapes, got {shapes[0]} "
            f"and {shapes[1]}"
        )
    seen = _shared(observed, predicted, seen, guess)
    one = jax.tree.map(lambda leaf: leaf[0], guess)
    shape = jax.eval_shape(moment, start, one).shape
    if len(shape) > 1:
        raise ValueError(f"`moment` must return shape (q,), got {shape}")
    q = shape[0] if shape else 1
    if q < start.shape[0]:
        raise ValueError(
            f"`moment` returns {q} moments for {start.shape[0]} parameters; at least "
            "as many are needed"
        )
    result = run(
        UserMoment(moment, is_affine=affine),
        seen,
        guess,
        init=start,
        num_moments=q,
        labeled=labeled,
        two_step=two_step,
        **options,
    )
    review(result, guess, hint="try another `init`, or check that the root is unique")
    return result


def _shared(observed: Any, predicted: Any, seen: Any, guess: Any) -> Any:
    """Keep one array for a variable given as the same object on both sides."""
    same = jax.tree.map(lambda a, b: a is b, observed, predicted)
    return jax.tree.map(lambda s, a, b: b if s else a, same, seen, guess)


def expected_moment(moment: Moment, name: str) -> Moment:
    """A moment of class probabilities from a moment of a class.

    For a categorical predicted variable, the average of the moment over the predicted
    classes is closer to the best use of the prediction than the moment at the most
    likely class, and as valid.

    Args:
        moment: m(theta, record) where `record[name]` is an integer class.
        name: key of the variable in the record, a dict.

    Returns:
        The moment for records whose `name` holds probabilities (K,): predicted ones, or
        the indicator of the gold class. Keep the function: a new one is compiled anew.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> def shares(theta, record):
        ...     return jnp.where(record["topic"] == jnp.arange(2), 1.0, 0.0) - theta
        >>> m = debiased.expected_moment(shares, "topic")
        >>> m(jnp.zeros(2), {"topic": jnp.array([0.2, 0.5, 0.3])})
        Array([0.2, 0.5], dtype=float32)
    """

    def expected(theta: Array, record: Any) -> Array:
        probs = record[name]
        classes = jnp.arange(probs.shape[0])
        values = jax.vmap(lambda k: moment(theta, {**record, name: k}))(classes)
        return jnp.tensordot(probs, values, axes=1)

    return expected


def iv(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    instruments: Real[ArrayLike, "N q"],
    *,
    labeled: Bool[ArrayLike, " N"],
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, " N"] | None = None,
    instruments_predicted: Real[ArrayLike, "N q"] | None = None,
    weighting: Literal["two_step", "2sls"] = "two_step",
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased instrumental variables.

    Moments  z (y - x'b).  With as many instruments as covariates this is the IV
    estimator; with more, two-stage least squares, re-weighted once by the inverse
    variance of the moments unless `weighting` is "2sls".

    Guarantee: as `ols`, asymptotically, with valid and relevant instruments. Verified
    by: `jaxcur verify debiased/iv`.

    Args:
        X: shape (N, p), with its own column of ones.
        y: shape (N,).
        instruments: shape (N, q), q >= p, with the exogenous columns of X.
        labeled: shape (N,), True where every predicted variable has its gold label.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,) or None.
        instruments_predicted: shape (N, q) or None.
        weighting: matters only when q > p.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult; `diagnostics.overidentification` holds the J statistic.

    Raises:
        ValueError: as `ols`; fewer instruments than covariates.

    Transformations: jit, vmap, grad. Rows shard over `axis_name`.
    Cost: O(N q (p + q)).

    Source: as `mean`; Hansen, "Large sample properties of generalized method of moments
    estimators", Econometrica 1982.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> z, u = jax.random.normal(jax.random.key(0), (2, 4000))
        >>> x = z + u
        >>> y = 2 * x + u
        >>> result = debiased.iv(x[:, None], y, z[:, None], y_predicted=y + 1,
        ...                      labeled=jnp.arange(4000) < 1000)
        >>> round(float(result.estimate[0]), 1)
        2.0
    """
    check_choice("weighting", weighting, ("two_step", "2sls"))
    observed, predicted = as_records(
        {
            "X": ("X", X, X_predicted),
            "y": ("y", y, y_predicted),
            "Z": ("instruments", instruments, instruments_predicted),
        },
        {"X": 2, "y": 1, "Z": 2},
    )
    z = predicted["Z"]
    p, q = predicted["X"].shape[1], z.shape[1]
    if q < p:
        raise ValueError(
            f"`instruments` must have at least as many columns as `X`: {q} for {p}; "
            "exogenous columns of `X` count as instruments and belong in both"
        )
    metric = None
    if q > p:
        weights = options.get("weights")
        scaled = z if weights is None else z * jnp.asarray(weights, z.dtype)[:, None]
        gram = jnp.matmul(scaled.T, z, precision="highest")
        metric = jnp.linalg.inv(reducer(options.get("axis_name"))(gram))
    result = run(
        IV,
        observed,
        predicted,
        init=jnp.zeros(p, z.dtype),
        num_moments=q,
        metric=metric,
        labeled=labeled,
        two_step=weighting == "two_step",
        **options,
    )
    if is_concrete(result.estimate, z) and not bool(result.converged):
        _check_relevance(np.asarray(z, np.float64), np.asarray(predicted["X"], float))
    review(result, predicted)
    return result


def _check_relevance(z: np.ndarray, x: np.ndarray) -> None:
    if not (np.isfinite(z).all() and np.isfinite(x).all()):
        return
    if np.linalg.matrix_rank(z.T @ x) < x.shape[1]:
        raise ValueError(
            "`instruments` do not identify the coefficients: the cross-product with "
            f"`X` has rank {np.linalg.matrix_rank(z.T @ x)}, not {x.shape[1]}"
        )
