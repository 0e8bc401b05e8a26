"""Debiased means and regressions on one linear index."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import is_concrete
from jaxcur.debiased._assemble import review, run
from jaxcur.debiased._models import LOGISTIC, MEAN, OLS, POISSON, Index
from jaxcur.debiased._options import Options
from jaxcur.debiased._rank import independent_columns, take_rank
from jaxcur.debiased._records import as_records
from jaxcur.debiased._result import EstimateResult

_SEPARATED = (
    "the moments have no finite root, as when a covariate separates the labels or the "
    "adjusted labels leave their range; drop the covariate or label more rows"
)


def mean(
    y: Real[ArrayLike, "N *p"],
    *,
    y_predicted: Real[ArrayLike, "N *p"],
    labeled: Bool[ArrayLike, " N"],
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased mean of one or several variables.

    With w_i = R_i / pi_i, the solution of  sum_i [w_i (y_i - theta) - (w_i - 1) Lambda
    (yhat_i - theta)] = 0.  Without tuning it is the mean of  yhat_i + w_i (y_i -
    yhat_i):  machine labels everywhere, corrected by what labelled rows show of their
    error.

    Guarantee: if rows are labelled with the stated known probabilities and the
    predictions do not depend on the rows' own labels, the estimate without tuning is
    unbiased for every sample size and every predictor, however bad, and intervals
    cover at their level as labelled rows grow in number; tuning keeps the second and
    is never less precise, asymptotically, than labelled rows alone or no tuning.
    Verified by: `jaxcur verify debiased/mean`.

    Args:
        y: shape (N,) or (N, p); entries of unlabeled rows may be NaN and are ignored.
        y_predicted: the same shape, finite.
        labeled: shape (N,), True where the row has its gold label.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult with p coordinates.

    Raises:
        ValueError: no labelled rows; probabilities outside (0, 1]; predictions that are
            not finite; shapes that disagree. Under jit: NaN and `converged` False.

    Transformations: jit, vmap (over y, predictions, labels, options that are arrays),
    grad. Rows shard over `axis_name`.
    Cost: O(N p^2) time, three passes over the rows.

    Source: Egami, Hinck, Stewart and Wei, "Using Imperfect Surrogates for Downstream
    Inference", NeurIPS 2023; Angelopoulos, Duchi and Zrnic, "PPI++", 2023.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([1.0, 0.0, 1.0, jnp.nan, jnp.nan, jnp.nan] * 4)
        >>> predicted = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0, 1.0] * 4)
        >>> result = debiased.mean(y, y_predicted=predicted, labeled=~jnp.isnan(y),
        ...                        power_tuning=None)
        >>> float(result.estimate[0].round(4))  # 4/6 - 1/3
        0.3333
    """
    rank = jnp.ndim(y)
    rank = rank if rank in (1, 2) else 1
    observed, predicted = as_records({"y": ("y", y, y_predicted)}, {"y": rank})
    seen, guess = (r["y"].reshape(r["y"].shape[0], -1) for r in (observed, predicted))
    p = seen.shape[1]
    result = run(
        MEAN,
        seen,
        guess,
        init=jnp.zeros(p, seen.dtype),
        num_moments=p,
        labeled=labeled,
        **options,
    )
    review(result, {"y": guess})
    return result


def regression(
    model: Index,
    X: Any,
    y: Any,
    *,
    X_predicted: Any,
    y_predicted: Any,
    offset: Any = None,
    **options: Any,
) -> EstimateResult:
    """Fit a model of one linear index: the common body of the functions below."""
    if take_rank(options) == "drop":
        kept = independent_columns("X", X if X_predicted is None else X_predicted)
        width = np.shape(X)[1]
        if len(kept) < width:
            fit = regression(
                model,
                jnp.asarray(X)[:, kept],
                y,
                X_predicted=None if X_predicted is None else X_predicted[:, kept],
                y_predicted=y_predicted,
                offset=offset,
                **options,
            )
            return fit.spread(kept, width)
    variables = {"X": ("X", X, X_predicted), "y": ("y", y, y_predicted)}
    if offset is not None:
        variables["offset"] = ("offset", offset, None)
    observed, predicted = as_records(variables, {"X": 2, "y": 1, "offset": 1})
    p = predicted["X"].shape[1]
    basis, named = None, predicted
    if predicted["X"].dtype == jnp.float32 and _is_free_of_basis(options):
        basis, observed, predicted = _centred(observed, predicted, options)
    result = run(
        model,
        observed,
        predicted,
        init=jnp.zeros(p, predicted["X"].dtype),
        num_moments=p,
        basis=basis,
        **options,
    )
    review(
        result,
        named,
        design_matrix="X",
        hint=None if model.is_affine else _SEPARATED,
        predicted_covariates=X_predicted is not None,
    )
    return result


def _check_gold(
    name: str, y: Any, labeled: Any, low: float, high: float, kind: str
) -> None:
    """Raise where a concrete gold label lies outside its range; NaN is for later."""
    if not is_concrete(y, labeled):
        return
    host, mask = np.asarray(y), np.asarray(labeled)
    if host.ndim != 1 or host.shape != mask.shape or host.dtype.kind not in "biuf":
        return
    bad = mask.astype(bool) & ((host < low) | (host > high))
    if bad.any():
        raise ValueError(
            f"gold labels of `{name}` must be {kind}; {int(bad.sum())} are not, for "
            f"example {host[bad][0]}"
        )


def _is_free_of_basis(options: dict[str, Any]) -> bool:
    """Whether the estimate does not depend on the basis of the covariates."""
    tuning = options.get("power_tuning", "optimal")
    if options.get("axis_name") is not None:
        return False
    if isinstance(tuning, str):
        return tuning == "optimal"
    return tuning is None or jnp.ndim(tuning) == 0


def _centred(
    observed: dict[str, Array], predicted: dict[str, Array], options: dict[str, Any]
) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """Records with centred covariates, and the way back for the coefficients.

    Single precision loses the spread of a column far from zero, such as a year, in the
    sums of its squares. With a constant column k, subtracting c_j from the others adds
    the sum of c_j b_j / x_k to the coefficient of k and changes nothing else.
    """
    known = observed["X"] is predicted["X"]
    there = options.get("weights")
    centre, basis = _centre(predicted["X"], None if there is None else there)
    x = predicted["X"] - centre
    seen = x if known else observed["X"] - centre
    return basis, observed | {"X": seen}, predicted | {"X": x}


@jax.jit
def _centre(x: Array, weights: Any) -> tuple[Array, Array]:
    p = x.shape[1]
    there = None if weights is None else (jnp.asarray(weights) > 0)[:, None]
    low, high = (
        jnp.min(x, axis=0, where=there, initial=jnp.inf),
        jnp.max(x, axis=0, where=there, initial=-jnp.inf),
    )
    constant = (low == high) & (low != 0)
    place = jnp.argmax(constant)
    # The middle of the range is exact to compute and near enough to the mean.
    middle = jnp.where(constant | ~constant.any(), 0, (low + high) / 2)
    middle = jnp.where(jnp.isfinite(middle), middle, 0)
    shift = -middle / jnp.where(constant.any(), low[place], 1)
    basis = jnp.eye(p, dtype=x.dtype) + (jnp.arange(p) == place)[:, None] * shift[None]
    return middle, basis


def ols(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased linear regression; outcome, covariates or both may be predicted.

    Solves  sum_i [w_i x_i (y_i - x_i'b) - (w_i - 1) Lambda xhat_i (yhat_i - xhat_i'b)]
    = 0  with w_i = R_i / pi_i, in closed form.

    Guarantee: if rows are labelled with the stated known probabilities and predictions
    do not depend on the rows' own labels, the coefficients are those that regression on
    gold labels of all rows aims at, consistent and asymptotically normal with this
    covariance, for any predictor. With only the outcome predicted and no tuning they
    are exactly unbiased, given the rows, for the regression on all gold labels.
    Verified by: `jaxcur verify debiased/ols`.

    Args:
        X: shape (N, p), with its own column of ones. Predicted columns may be NaN in
            unlabeled rows.
        y: shape (N,); may be NaN in unlabeled rows if predicted.
        labeled: shape (N,), True where every predicted variable has its gold label.
        X_predicted: shape (N, p), X with predictions in the predicted columns;
            transformations (squares, interactions) computed from the predictions. None:
            X is known for all rows.
        y_predicted: shape (N,); None: y is known for all rows.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult; heteroskedasticity-robust covariance.

    Raises:
        ValueError: as `mean`, and collinear columns, which are named.

    Transformations: jit, vmap, grad. Rows shard over `axis_name`.
    Cost: O(N p^2) time: a Gram matrix, and one more each for tuning and variance.

    Source: as `mean`; linear case in closed form.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> key_x, key_e = jax.random.split(jax.random.key(0))
        >>> x = jax.random.normal(key_x, (500,))
        >>> y = 1 + 2 * x + 0.1 * jax.random.normal(key_e, (500,))
        >>> X = jnp.stack([jnp.ones(500), x], axis=1)
        >>> labeled = jnp.arange(500) < 100
        >>> result = debiased.ols(X, y, y_predicted=0.5 * y + 3, labeled=labeled)
        >>> [round(float(b), 1) for b in result.estimate]
        [1.0, 2.0]
    """
    return regression(
        OLS,
        X,
        y,
        X_predicted=X_predicted,
        y_predicted=y_predicted,
        labeled=labeled,
        **options,
    )


def logistic(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased logistic regression; outcome, covariates or both may be predicted.

    The moments are  x (y - expit(x'b)).  Predicted outcomes may be classes 0 and 1 or
    probabilities; the adjusted outcome leaves [0, 1], which the solver allows for.

    Guarantee: as `ols`, asymptotically. Verified by: `jaxcur verify debiased/logistic`.

    Args:
        X: shape (N, p), with its own column of ones.
        y: shape (N,), 0 or 1, or shares between them.
        labeled: shape (N,), True where every predicted variable has its gold label.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,), classes or probabilities, or None.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult. `converged` is False, the covariance NaN, and a warning is
        issued where the moments have no finite root (separation).

    Raises:
        ValueError: as `ols`.

    Transformations: jit, vmap. Rows shard over `axis_name`.
    Cost: O(N p^2) per Newton step, about three over all rows.

    Source: as `mean`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> keys = jax.random.split(jax.random.key(1), 3)
        >>> x = jax.random.normal(keys[0], (2000,))
        >>> y = jax.random.bernoulli(keys[1], jax.nn.sigmoid(x)).astype(float)
        >>> machine = jnp.where(jax.random.bernoulli(keys[2], 0.1, (2000,)), 1 - y, y)
        >>> X = jnp.stack([jnp.ones(2000), x], axis=1)
        >>> result = debiased.logistic(X, y, y_predicted=machine,
        ...                            labeled=jnp.arange(2000) < 500)
        >>> low, high = result.conf_int()[1]
        >>> bool(low < 1.0 < high)
        True
    """
    _check_gold("y", y, labeled, 0.0, 1.0, "0 or 1, or shares between them")
    return regression(
        LOGISTIC,
        X,
        y,
        X_predicted=X_predicted,
        y_predicted=y_predicted,
        labeled=labeled,
        **options,
    )


def poisson(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, " N"] | None = None,
    offset: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased Poisson regression with log link.

    The moments are  x (y - exp(x'b + offset)).  The outcome need not be Poisson: the
    covariance is robust.

    Guarantee: as `ols`, asymptotically. Verified by: `jaxcur verify debiased/poisson`.

    Args:
        X: shape (N, p), with its own column of ones.
        y: shape (N,), counts or rates.
        labeled: shape (N,), True where every predicted variable has its gold label.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,) or None.
        offset: shape (N,), log exposure, known for all rows; None for 0.
        **options: design, weights, clusters, tuning: see `Options`.

    Returns:
        EstimateResult.

    Raises:
        ValueError: as `ols`.

    Transformations: jit, vmap. Rows shard over `axis_name`.
    Cost: O(N p^2) per Newton step.

    Source: as `mean`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> y = jnp.array([1.0, 3.0, 2.0, 2.0] * 10)
        >>> X = jnp.ones((40, 1))
        >>> result = debiased.poisson(X, y, y_predicted=y, labeled=jnp.arange(40) < 12)
        >>> round(float(jnp.exp(result.estimate[0])), 4)
        2.0
    """
    _check_gold("y", y, labeled, 0.0, np.inf, "counts or rates, not negative")
    return regression(
        POISSON,
        X,
        y,
        X_predicted=X_predicted,
        y_predicted=y_predicted,
        offset=offset,
        labeled=labeled,
        **options,
    )
