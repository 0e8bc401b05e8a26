"""One estimate from the estimates of several random partitions."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float, check_choice, check_rank

_HOW = ("median", "mean")
_HIGHEST = jax.lax.Precision.HIGHEST
# Alternating projections converge linearly; what is left after these is far below the
# size of the correction.
_MAX_STEPS = 500


def aggregate_splits(
    estimates: Real[ArrayLike, "s p"],
    covariances: Real[ArrayLike, "s p p"],
    *,
    how: Literal["median", "mean"] = "median",
) -> tuple[Float[Array, " p"], Float[Array, "p p"]]:
    """Estimate and covariance over repeats of cross-fitting.

    The median takes, coordinate by coordinate and entry by entry,

        t = median_s t_s,    V = median_s { V_s + (t_s - t)(t_s - t)' },

    so that the spread over the partitions counts as uncertainty. An entrywise median of
    matrices need not be positive definite. V is then replaced by the matrix of the
    nearest correlation matrix with the same diagonal: the standard errors stay. The
    mean puts averages in both places, and is positive semidefinite as it stands.

    Heuristic: no finite-sample guarantee. Each split's interval covers asymptotically;
    combining them removes the dependence on one random partition.

    Args:
        estimates: shape (s, p), one row per split.
        covariances: shape (s, p, p), symmetric.
        how: "median" is robust to a split that went wrong. Static.

    Returns:
        The estimate (p,) and its covariance (p, p), symmetric. NaN where a split is
        NaN: a failed split is not dropped in silence.

    Raises:
        ValueError: shapes disagree, no split, or an unknown `how`.

    Transformations: jit, vmap. Not differentiable in reverse mode where the nearest
    matrix has to be found.
    Cost: O(s p^2) and a sort over the splits; the correction costs O(p^3) a step.

    Source: Chernozhukov et al., "Double/debiased machine learning", Econometrics
    Journal 2018, section 3.4; Higham, "Computing the nearest correlation matrix", IMA
    Journal of Numerical Analysis 2002.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import debiased
        >>> estimates = jnp.array([[1.0], [2.0], [6.0]])
        >>> debiased.aggregate_splits(estimates, jnp.ones((3, 1, 1)))
        (Array([2.], dtype=float32), Array([[2.]], dtype=float32))
    """
    estimates, covariances = as_float(estimates=estimates, covariances=covariances)
    check_rank("estimates", estimates, 2, "(s, p)")
    check_choice("how", how, _HOW)
    s, p = estimates.shape
    if s == 0 or p == 0:
        raise ValueError(
            "`estimates` must hold at least one split and one coordinate, got shape "
            f"{estimates.shape}"
        )
    if covariances.shape != (s, p, p):
        raise ValueError(
            f"`covariances` must have shape ({s}, {p}, {p}) beside `estimates` of "
            f"shape {estimates.shape}, got {covariances.shape}"
        )
    return _aggregate(estimates, covariances, how=how)


@jax.jit(static_argnames=("how",))
def _aggregate(
    estimates: Array, covariances: Array, *, how: str
) -> tuple[Array, Array]:
    combine = jnp.median if how == "median" else jnp.mean
    estimate = combine(estimates, axis=0)
    gap = estimates - estimate[None, :]
    spread = covariances + gap[:, :, None] * gap[:, None, :]
    covariance = combine(spread, axis=0)
    covariance = (covariance + covariance.T) / 2
    if how == "median":
        covariance = nearest_positive_definite(covariance)
    return estimate, covariance


class _State(NamedTuple):
    matrix: Array
    correction: Array
    num_steps: Array
    done: Array


def nearest_positive_definite(matrix: Array) -> Array:
    """The matrix itself where it is positive definite, or one near it.

    The correlation matrix is replaced by the nearest one in Frobenius norm, so units do
    not matter and the diagonal is kept; a trace of the identity then makes it definite.

    Args:
        matrix: shape (p, p), symmetric with a nonnegative diagonal.

    Returns:
        shape (p, p), symmetric, with the diagonal of `matrix`. A coordinate without
        variance has no covariance either.
    """
    p = matrix.shape[0]
    dtype = matrix.dtype
    identity = jnp.eye(p, dtype=dtype)
    variances: Any = jnp.diagonal(matrix)
    scale = jnp.sqrt(variances)
    safe = jnp.where(scale > 0, scale, jnp.where(jnp.isnan(scale), jnp.nan, 1))
    correlation = matrix / (safe[:, None] * safe[None, :])
    correlation = jnp.where(identity > 0, 1, correlation)
    # Below this a Cholesky factorisation may fail by rounding.
    floor = 16 * p * jnp.finfo(dtype).eps
    definite = jnp.linalg.eigvalsh(correlation)[0] >= floor

    def step(state: _State) -> _State:
        # Dykstra's correction turns alternating projections, which end somewhere in the
        # intersection, into the projection on it.
        target = state.matrix - state.correction
        values, vectors = jnp.linalg.eigh(target)
        scaled = vectors * jnp.maximum(values, 0)[None, :]
        semidefinite = jnp.matmul(scaled, vectors.T, precision=_HIGHEST)
        found = jnp.where(identity > 0, 1, (semidefinite + semidefinite.T) / 2)
        moved = jnp.max(jnp.abs(found - state.matrix))
        return _State(
            matrix=found,
            correction=semidefinite - target,
            num_steps=state.num_steps + 1,
            done=~(moved > 4 * jnp.finfo(dtype).eps),
        )

    def proceed(state: _State) -> Array:
        return ~state.done & (state.num_steps < _MAX_STEPS)

    zero = correlation * 0
    start = _State(correlation, zero, zero[0, 0].astype(jnp.int32), definite)
    near = jax.lax.while_loop(proceed, step, start).matrix
    # The last projection was that on the unit diagonal: mix in what is still missing.
    smallest = jnp.linalg.eigvalsh(near)[0]
    share = jnp.clip((2 * floor - smallest) / (1 - smallest), min=0, max=1)
    near = near + jnp.where(smallest < floor, share, 0) * (identity - near)
    found = jnp.where(identity > 0, matrix, near * (safe[:, None] * safe[None, :]))
    return jnp.where(definite, matrix, found)
