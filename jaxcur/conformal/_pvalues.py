"""Conformal p-values, plain and weighted, deterministic and randomised."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    is_concrete,
    resolve_uniforms,
)


class Weights(NamedTuple):
    """Calibration and test weights, (n,) and (m,), checked where concrete."""

    calibration: Array
    test: Array


class WeightedSums(NamedTuple):
    """Calibration weight below and at-or-below each test score, float64 (m,)."""

    below: Array
    at_most: Array
    total: Array


def checked_scores(
    calibration_scores: ArrayLike, test_scores: ArrayLike
) -> tuple[Array, Array]:
    """Both score vectors in their common float dtype."""
    calibration, test = as_float(
        calibration_scores=calibration_scores, test_scores=test_scores
    )
    check_rank("calibration_scores", calibration, 1, "(n,)")
    check_rank("test_scores", test, 1, "(m,)")
    return calibration, test


def checked_weights(
    calibration: Array,
    test: Array,
    calibration_weights: ArrayLike | None,
    test_weights: ArrayLike | None,
) -> Weights | None:
    """Both weight vectors in their common dtype, or None when there are none."""
    if calibration_weights is None and test_weights is None:
        return None
    if calibration_weights is None or test_weights is None:
        missing = "calibration" if calibration_weights is None else "test"
        raise ValueError(
            f"`{missing}_weights` is missing: pass both weights or neither"
        )
    w, w_test = as_float(
        calibration_weights=calibration_weights, test_weights=test_weights
    )
    for name, weights, other, scores in (
        ("calibration_weights", w, "calibration_scores", calibration),
        ("test_weights", w_test, "test_scores", test),
    ):
        check_rank(name, weights, 1)
        check_same_length(name, weights, other, scores)
        # NumPy, not jnp: a constant that a traced function closes over stays concrete.
        host = np.asarray(weights) if is_concrete(weights) else np.zeros(0)
        bad = ~(np.isfinite(host) & (host >= 0))
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"`{name}` must be finite and nonnegative, got {host[row]} at row {row}"
            )
    if is_concrete(w) and w.shape[0] and not (np.asarray(w) > 0).any():
        raise ValueError("`calibration_weights` must not all be zero")
    return Weights(w, w_test)


def are_bad_weights(weights: Weights) -> Array:
    """Whether traced weights are unusable: negative, not finite, or all zero."""
    finite = jnp.isfinite(weights.calibration).all() & jnp.isfinite(weights.test).all()
    sign = (weights.calibration >= 0).all() & (weights.test >= 0).all()
    some = (weights.calibration > 0).any() | (weights.calibration.shape[0] == 0)
    return ~(finite & sign & some)


def conservative(calibration: Array) -> Array:
    """A missing calibration score counts as -inf, which can only raise p-values."""
    return jnp.where(jnp.isnan(calibration), -jnp.inf, calibration)


def grid_ranks(calibration: Array, test: Array) -> Array:
    """(n + 1) times the deterministic p-value, int32 (m,); n + 1 for a NaN score."""
    ordered = stats.sort(conservative(calibration))
    return stats.count_at_most(ordered, test) + 1


def deterministic(calibration: Array, test: Array) -> Array:
    """Deterministic p-values (m,) in the dtype of the scores."""
    ranks = grid_ranks(calibration, test)
    return ranks.astype(test.dtype) / (calibration.shape[0] + 1)


def randomised(calibration: Array, test: Array, uniforms: Array) -> Array:
    """Randomised p-values (m,); 1 for a NaN score."""
    ordered = stats.sort(conservative(calibration))
    below = stats.count_below(ordered, test)
    ties = stats.count_at_most(ordered, test) - below
    mass = below.astype(test.dtype) + uniforms * (1 + ties).astype(test.dtype)
    return jnp.where(jnp.isnan(test), 1.0, mass / (calibration.shape[0] + 1))


def weighted_sums(calibration: Array, test: Array, weights: Weights) -> WeightedSums:
    """Calibration weight on either side of each test score, summed in float64."""
    ordered, order = stats.sort_with_order(conservative(calibration))
    below = stats.count_below(ordered, test)
    at_most = stats.count_at_most(ordered, test)
    with jax.enable_x64(True):
        start = jnp.zeros(1, jnp.float64)
        in_order = weights.calibration[order].astype(jnp.float64)
        running = jnp.concatenate([start, jnp.cumsum(in_order)])
        return WeightedSums(running[below], running[at_most], running[-1])


def weighted(
    sums: WeightedSums, weights: Weights, test: Array, uniforms: Array | None
) -> Array:
    """Weighted p-values, float64 (m,); 1 for a NaN score, NaN for unusable weights."""
    with jax.enable_x64(True):
        own = weights.test.astype(jnp.float64)
        if uniforms is None:
            mass = sums.at_most + own
        else:
            ties = sums.at_most - sums.below
            mass = sums.below + uniforms.astype(jnp.float64) * (ties + own)
        total = sums.total + own
        share = jnp.minimum(mass / jnp.where(total > 0, total, 1.0), 1.0)
        # No weight anywhere means no evidence.
        share = jnp.where(jnp.isnan(test) | (total <= 0), 1.0, share)
        return jnp.where(are_bad_weights(weights), jnp.nan, share)


@jax.jit
def _plain(calibration: Array, test: Array, uniforms: Array | None) -> Array:
    if uniforms is None:
        return deterministic(calibration, test)
    return randomised(calibration, test, uniforms)


@jax.jit
def _weighted(
    calibration: Array, test: Array, weights: Weights, uniforms: Array | None
) -> Array:
    sums = weighted_sums(calibration, test, weights)
    with jax.enable_x64(True):
        return weighted(sums, weights, test, uniforms).astype(test.dtype)


def p_values(
    calibration_scores: Real[ArrayLike, " n"],
    test_scores: Real[ArrayLike, " m"],
    *,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
    key: Array | None = None,
    uniforms: Real[ArrayLike, "..."] | None = None,
) -> Float[Array, " m"]:
    """Conformal p-values of test scores against calibration scores.

    Smaller scores are stronger evidence against the null. With a_j calibration scores
    below the test score t_j and b_j equal to it,

        deterministic   p_j = (1 + a_j + b_j) / (n + 1)
        randomised      p_j = (a_j + U_j (1 + b_j)) / (n + 1)

    and with weights each calibration row counts w_i, the test row its own w_{n+j}, and
    n + 1 becomes the sum of the n + 1 weights.

    Guarantee: if the calibration rows and test row j are exchangeable and the score was
    fixed independently of them, P(p_j <= u and H_j) <= u for every u; the randomised
    form is uniform when test and calibration scores are exchangeable. Weighted: the
    same under covariate shift with exact likelihood ratios. The p-values are dependent:
    they share the calibration rows. Verified by: `jaxcur verify p_values`.

    Args:
        calibration_scores: shape (n,). +inf is legal; NaN counts as -inf, which can
            only raise p-values. n = 0 gives p = 1 (randomised: p = U).
        test_scores: shape (m,). NaN gives p = 1.
        calibration_weights: shape (n,), finite, >= 0, not all zero, up to a constant
            the ratio of test to calibration density at each row.
        test_weights: shape (m,), on the same scale.
        key: random key; gives the randomised form.
        uniforms: the draw itself, in (0, 1], shape (m,), or a scalar for one U shared
            by all tests.

    Returns:
        shape (m,), in (0, 1]; deterministic when both `key` and `uniforms` are None.

    Raises:
        ValueError: wrong shapes; only one of the weights; negative, infinite or
            all-zero weights (traced: NaN); both `key` and `uniforms`.

    Transformations: jit, vmap. Not differentiable (ranks).
    Cost: O((n + m) log n) time, O(n + m) memory. Weights are summed in float64.

    Source: Jin and Candes, JMLR 2023; weighted: Jin and Candes, Biometrika 2025.

    Example:
        >>> from jaxcur import conformal
        >>> conformal.p_values([1.0, 2.0, 3.0], [0.5, 2.0])
        Array([0.25, 0.75], dtype=float32)
    """
    calibration, test = checked_scores(calibration_scores, test_scores)
    weights = checked_weights(calibration, test, calibration_weights, test_weights)
    if key is not None or uniforms is not None:
        uniforms = resolve_uniforms(
            "uniforms", uniforms, key, test.shape, test.dtype, purpose="a p-value"
        )
    if weights is None:
        return _plain(calibration, test, uniforms)
    return _weighted(calibration, test, weights, uniforms)
