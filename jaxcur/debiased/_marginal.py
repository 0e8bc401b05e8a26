"""Average marginal effects, with the noise of averaging over units."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import expit
from jax.typing import ArrayLike
from jaxtyping import Bool, Real

from jaxcur._base import check_choice, is_concrete
from jaxcur.debiased._assemble import review, run
from jaxcur.debiased._fit import reducer
from jaxcur.debiased._models import LOGISTIC, POISSON, Sums, differentiated
from jaxcur.debiased._options import Options
from jaxcur.debiased._records import as_records
from jaxcur.debiased._result import EstimateResult

_MODELS = {"logistic": (LOGISTIC, expit), "poisson": (POISSON, jnp.exp)}
_HINT = (
    "the regression has no finite root, as when a covariate separates the labels; drop "
    "the covariate or label more rows"
)


@dataclasses.dataclass(frozen=True)
class MarginalEffects:
    """Moments of a regression, and below them effects of one row minus their mean.

    Attributes:
        mean: mu, elementwise.
        columns: whose effects are wanted.
        discrete: those among them that go from 0 to 1.
        is_affine: not in beta, but in the averages: with beta solved for beforehand and
            a matrix Lambda that keeps the two apart, one step is exact.
    """

    mean: Callable[[Array], Array]
    columns: tuple[int, ...]
    discrete: tuple[int, ...] = ()
    is_affine: bool = False

    def effects(self, beta: Array, record: dict[str, Array]) -> Array:
        """Effects in every row, (n, k)."""
        x, eta = record["X"], self._eta(beta, record)
        slope = jax.jvp(self.mean, (eta,), (jnp.ones_like(eta),))[1]
        effects = []
        for j in self.columns:
            if j in self.discrete:
                rest = eta - x[:, j] * beta[j]
                effects.append(self.mean(rest + beta[j]) - self.mean(rest))
            else:
                effects.append(slope * beta[j])
        return jnp.stack(effects, axis=1)

    def _eta(self, beta: Array, record: dict[str, Array]) -> Array:
        eta = jnp.matmul(record["X"], beta, precision="highest")
        return eta + record["offset"] if "offset" in record else eta

    def moments(self, theta: Array, record: dict[str, Array]) -> Array:
        """Moments of every record, (n, p + k)."""
        p = record["X"].shape[1]
        beta, average = theta[:p], theta[p:]
        residual = record["y"] - self.mean(self._eta(beta, record))
        gaps = self.effects(beta, record) - average
        return jnp.concatenate([record["X"] * residual[:, None], gaps], axis=1)

    def total(self, theta: Array, record: dict[str, Array], weight: Array) -> Sums:
        """Weighted sums of the moments, of their Jacobians and of their squares."""
        return differentiated(self, theta, record, weight)


def average_marginal_effects(
    X: Real[ArrayLike, "N p"],
    y: Real[ArrayLike, " N"],
    *,
    labeled: Bool[ArrayLike, " N"],
    model: Literal["logistic", "poisson"] = "logistic",
    columns: Sequence[int] | None = None,
    discrete: Sequence[int] = (),
    X_predicted: Real[ArrayLike, "N p"] | None = None,
    y_predicted: Real[ArrayLike, " N"] | None = None,
    offset: Real[ArrayLike, " N"] | None = None,
    **options: Unpack[Options],
) -> EstimateResult:
    """Debiased average marginal effects of a logistic or Poisson regression.

    For a continuous column j the mean over units of  d mu(x'b) / d x_j = mu'(x'b) b_j;
    for a discrete one the mean of  mu at x_j = 1  less  mu at x_j = 0.  Coefficients
    and effects solve one stacked equation, so that intervals count the sampling of the
    units averaged over, which the delta method alone leaves out. With covariates known
    for all rows the coefficients are those of `logistic` or `poisson`, and all rows are
    averaged over; `power_tuning` then concerns the coefficients.

    Effects are of single columns: a column computed from another one (a square, an
    interaction) is held fixed when that one moves. Write such effects as a moment of
    your own for `estimate`.

    A comparison at given covariates, a first difference of predicted probabilities,
    averages over nothing: the delta method serves (second example).

    Guarantee: as `logistic`, asymptotically.
    Verified by: tests/unit/debiased/test_marginal.py, against the joint sandwich.

    Args:
        X: shape (N, p), with its own column of ones.
        y: shape (N,).
        labeled: shape (N,), True where every predicted variable has its gold label.
        model: "logistic" or "poisson".
        columns: of X, whose effects are returned; None for all that are not constant,
            which takes concrete covariates. Static.
        discrete: those among them that are 0 or 1. Static.
        X_predicted: shape (N, p) or None, as in `ols`.
        y_predicted: shape (N,) or None.
        offset: shape (N,), known for all rows; None for 0.
        **options: design, weights, clusters, tuning: see `Options`. A matrix of
            `power_tuning` is (p + k, p + k), coefficients first.

    Returns:
        EstimateResult with one coordinate per column; `power_tuning` is of the stacked
        equation.

    Raises:
        ValueError: as `ols`; columns that do not exist, are constant, or, if
            `discrete`, hold other values than 0 and 1.

    Transformations: jit, vmap. Rows shard over `axis_name`.
    Cost: a regression, then about three steps at O(N p (p + k)) each.

    Source: as `mean`; stacked equations as in Newey and McFadden, "Large sample
    estimation and hypothesis testing", 1994.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> keys = jax.random.split(jax.random.key(3), 2)
        >>> x = jax.random.normal(keys[0], (2000,))
        >>> y = jax.random.bernoulli(keys[1], jax.nn.sigmoid(x)).astype(float)
        >>> X = jnp.stack([jnp.ones(2000), x], axis=1)
        >>> data = dict(y_predicted=0.8 * y, labeled=jnp.arange(2000) < 500)
        >>> effect = debiased.average_marginal_effects(X, y, **data)
        >>> low, high = effect.conf_int()[0]
        >>> bool(low < 0.207 < high)  # E expit'(x) for standard normal x
        True

        From x = 0 to x = 1, the predicted probability rises by

        >>> fit = debiased.logistic(X, y, **data)
        >>> rise = debiased.delta_method(
        ...     lambda b: jax.nn.sigmoid(b[0] + b[1]) - jax.nn.sigmoid(b[0]),
        ...     fit.estimate, fit.covariance)
        >>> low, high = rise.conf_int()[0]
        >>> bool(low < 0.231 < high)
        True
    """
    check_choice("model", model, tuple(_MODELS))
    variables: dict[str, tuple[str, Any, Any]] = {
        "X": ("X", X, X_predicted),
        "y": ("y", y, y_predicted),
    }
    if offset is not None:
        variables["offset"] = ("offset", offset, None)
    observed, predicted = as_records(variables, {"X": 2, "y": 1, "offset": 1})
    x = predicted["X"]
    p, dtype = x.shape[1], x.dtype
    wanted, steps = _as_columns(columns, discrete, x, X_predicted is None)
    regression, mean = _MODELS[model]
    fit_rows = {"labeled": labeled, **options}
    plain = run(
        regression,
        observed,
        predicted,
        init=jnp.zeros(p, dtype),
        num_moments=p,
        **_without_matrix(fit_rows),
    )
    total = p + len(wanted)
    separable = X_predicted is None and not _is_matrix(options)
    if separable:
        # What is known of every row needs no correction from labelled ones.
        matrix = jnp.eye(total, dtype=dtype).at[:p, :p].set(plain.power_tuning)
        fit_rows["power_tuning"] = matrix
    stacked = MarginalEffects(mean, wanted, steps, is_affine=separable)
    start = _mean_effects(stacked, plain.estimate, predicted, options)
    init = jnp.concatenate([plain.estimate, start])
    full = run(
        stacked,
        observed,
        predicted,
        init=jnp.where(plain.converged, init, jnp.nan),
        num_moments=total,
        **fit_rows,
    )
    if separable:
        full = dataclasses.replace(full, num_steps=plain.num_steps)
    review(
        full.take(range(p)),
        predicted,
        design_matrix="X",
        hint=_HINT,
        predicted_covariates=X_predicted is not None,
    )
    return full.take(range(p, total))


def _is_matrix(options: Any) -> bool:
    tuning = options.get("power_tuning")
    return tuning is not None and np.ndim(tuning) == 2


def _without_matrix(options: dict[str, Any]) -> dict[str, Any]:
    """The options, less a tuning matrix that is of the stacked equation's size."""
    if _is_matrix(options):
        return {**options, "power_tuning": None}
    return options


def _mean_effects(
    stacked: MarginalEffects, beta: Array, record: Any, options: Any
) -> Array:
    """Mean effects of the predicted rows: where the solver starts."""
    effects = stacked.effects(beta, record)
    weights = options.get("weights")
    if weights is None:
        weight = jnp.ones(effects.shape[0], effects.dtype)
    else:
        weight = jnp.asarray(weights).astype(effects.dtype)
    present = (weight > 0)[:, None]
    total = jnp.sum(jnp.where(present, effects * weight[:, None], 0), axis=0)
    total, mass = reducer(options.get("axis_name"))((total, jnp.sum(weight)))
    return total / mass


def _as_columns(
    columns: Any, discrete: Any, x: Array, is_known: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    p = x.shape[1]
    host = np.asarray(x) if is_concrete(x) else None
    constant = () if host is None else np.flatnonzero(np.ptp(host, axis=0) == 0)
    if columns is None:
        if host is None:
            raise ValueError(
                "under a transformation constant columns cannot be found: pass "
                "`columns`, the ones whose effects are wanted"
            )
        wanted = tuple(j for j in range(p) if j not in constant)
    else:
        wanted = tuple(int(j) for j in columns)
    steps = tuple(int(j) for j in discrete)
    for name, chosen in (("columns", wanted), ("discrete", steps)):
        for j in chosen:
            if not 0 <= j < p or j in constant:
                raise ValueError(
                    f"`{name}` must name columns of `X` that vary, from 0 to {p - 1}, "
                    f"got {j}"
                )
    if not wanted:
        raise ValueError("`columns` is empty: no column of `X` varies")
    if extra := sorted(set(steps) - set(wanted)):
        raise ValueError(f"`discrete` must be among `columns`, {extra[0]} is not")
    for j in steps:
        # Predictions may be probabilities.
        if host is not None and is_known and not np.isin(host[:, j], (0, 1)).all():
            raise ValueError(f"`discrete` names column {j}, which is not 0 or 1 in `X`")
    return wanted, steps
