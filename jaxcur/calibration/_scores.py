"""Proper scores, the area under the ROC curve, and errors against a known truth."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import check_choice, check_same_length, is_concrete
from jaxcur.calibration._inputs import (
    check_binary,
    check_logits,
    check_multiclass,
    check_probabilities,
    check_weights,
)
from jaxcur.calibration._sums import (
    block_cumsum,
    ends_of_ties,
    mean,
    sort_by_forecast,
)


def brier_score(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    scale: Literal["full", "half"] = "full",
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean squared distance of forecasts and outcomes.

    mean (f - y)^2 for binary forecasts, in [0, 1]; for rows of probabilities the sum
    over classes of squared distances to the one-hot label, in [0, 2], or half of it.

    Guarantee: the expectation is smallest when the forecast is the true probability (a
    proper score); E brier = E (f - p)^2 + E p (1 - p) with p the true one.
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,) or (n, k).
        labels: shape (n,), outcomes in [0, 1], or classes 0..k-1 for rows.
        scale: "full", or "half" for rows (two classes then agree with the binary
            form). Static.
        weights: shape (n,).

    Returns:
        scalar. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, values outside their range, or "half" for
            binary forecasts.

    Transformations: jit, vmap, grad.
    Cost: one pass.

    Source: Brier 1950.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.brier_score(jnp.array([0.5, 1.0]), jnp.array([1, 1]))
        Array(0.125, dtype=float32)
    """
    check_choice("scale", scale, ("full", "half"))
    if np.ndim(probs) == 2:
        p, c, w = check_multiclass(probs, labels, weights)
        error = jnp.sum((p - jax.nn.one_hot(c, p.shape[1], dtype=p.dtype)) ** 2, axis=1)
        return mean(error, w) / (2 if scale == "half" else 1)
    if scale == "half":
        raise ValueError("scale='half' is for `probs` of shape (n, k)")
    f, y, w = check_binary(probs, labels, weights)
    return mean((f - y) ** 2, w)


def log_loss(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    clip: float | None = None,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean negative log-probability of the outcomes.

    Guarantee: the expectation is smallest when the forecast is the true probability (a
    proper score).
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,) or (n, k).
        labels: shape (n,), outcomes in [0, 1], or classes 0..k-1 for rows.
        clip: smallest probability that an outcome is given; None for the machine
            epsilon of the dtype, 0 for none: an outcome of probability 0 then costs
            +inf. Static.
        weights: shape (n,).

    Returns:
        scalar, in nats. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap, grad.
    Cost: one pass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.log_loss(jnp.array([0.5, 1.0]), jnp.array([1, 1])).round(4)
        Array(0.3466, dtype=float32)
    """
    if np.ndim(probs) == 2:
        p, c, w = check_multiclass(probs, labels, weights)
        own = jnp.take_along_axis(p, c[:, None], axis=1)[:, 0]
        return mean(-jnp.log(_clipped(own, clip)), w)
    f, y, w = check_binary(probs, labels, weights)
    return mean(binary_log_loss(f, y, clip), w)


def _clipped(p: Array, clip: float | None) -> Array:
    low = float(jnp.finfo(p.dtype).eps) if clip is None else float(clip)
    if not 0 <= low < 0.5:
        raise ValueError(f"`clip` must lie in [0, 0.5), got {clip}")
    return jnp.clip(p, low, 1 - low)


def binary_log_loss(f: Array, y: Array, clip: float | None) -> Array:
    """-y log f - (1 - y) log(1 - f) of each row, with 0 log 0 = 0."""
    f = _clipped(f, clip)
    hit = jnp.where(y == 0, 0, y * jnp.log(jnp.where(y == 0, 1, f)))
    rest = jnp.where(y == 1, 0, (1 - y) * jnp.log1p(-jnp.where(y == 1, 0, f)))
    return -(hit + rest)


def log_loss_from_logits(
    logits: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean negative log-probability of the outcomes under logits, without clipping.

    Guarantee: equals the `log_loss` of the probabilities up to rounding where none of
    them underflows.
    Verified by: tests/unit/calibration/test_metrics.py.

    Args:
        logits: shape (n,), log-odds of a binary event; or (n, k), logits of k classes.
        labels: shape (n,), outcomes in [0, 1], or classes 0..k-1 for rows.
        weights: shape (n,).

    Returns:
        scalar, in nats.

    Raises:
        ValueError: no rows, unequal lengths, or logits that are not finite.

    Transformations: jit, vmap, grad.
    Cost: one pass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> logits, labels = jnp.array([0.0, 200.0]), jnp.array([1, 0])
        >>> print(f"{calibration.log_loss_from_logits(logits, labels):.3f}")
        100.347
    """
    s, c, w = check_logits(logits, labels, weights)
    if s.ndim == 1:
        return mean(jax.nn.softplus(s) - c * s, w)
    own = jnp.take_along_axis(jax.nn.log_softmax(s, axis=1), c[:, None], axis=1)
    return mean(-own[:, 0], w)


@jax.jit
def _auc(f: Array, y: Array, w: Array) -> Array:
    f, y, w = sort_by_forecast(f, y, w)
    hits, misses = block_cumsum(w * y), block_cumsum(w * (1 - y))
    ends = ends_of_ties(f)

    def before(sums: Array) -> Array:
        """The sum at the end of the run of ties before the one that ends here."""
        read = jnp.where(ends, sums, 0)
        latest = jax.lax.associative_scan(jnp.maximum, read)
        return jnp.concatenate([jnp.zeros_like(sums[:1]), latest[:-1]])

    width, height = hits - before(hits), (misses + before(misses)) / 2
    area = jnp.sum(jnp.where(ends, width * height, 0))
    pairs = hits[-1] * misses[-1]
    return jnp.where(pairs > 0, area / jnp.where(pairs > 0, pairs, 1), jnp.nan)


def auc(
    probs: Real[ArrayLike, " n"],
    labels: Real[ArrayLike, " n"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Area under the ROC curve: how often an event gets the larger forecast.

    The share of pairs of an event and a non-event in which the event has the larger
    forecast, ties counted one half.

    Guarantee: unbiased for P(f' > f'') + P(f' = f'')/2 over independent events and
    non-events.
    Verified by: tests/unit/calibration/test_metrics.py (against all pairs).

    Args:
        probs: shape (n,).
        labels: shape (n,), 0 or 1.
        weights: shape (n,).

    Returns:
        scalar in [0, 1]; NaN where only one outcome occurs.

    Raises:
        ValueError: no rows, unequal lengths, or values outside their range.

    Transformations: jit, vmap, grad in `weights`.
    Cost: one sort.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs = jnp.array([0.1, 0.4, 0.4, 0.8])
        >>> calibration.auc(probs, jnp.array([0, 0, 1, 1]))
        Array(0.875, dtype=float32)
    """
    return _auc(*check_binary(probs, labels, weights))


def _check_truth(probs: Any, truth: Any, weights: Any) -> tuple[Array, Array, Array]:
    rank, shape = (2, "(n, k)") if np.ndim(probs) == 2 else (1, "(n,)")
    f = check_probabilities("probs", probs, rank, shape)
    p = check_probabilities("truth", truth, rank, shape).astype(f.dtype)
    check_same_length("probs", f, "truth", p)
    if f.shape != p.shape:
        raise ValueError(
            f"`truth` must have the shape of `probs`, {f.shape}, got {p.shape}"
        )
    return f, p, check_weights(weights, f, "probs")


def mean_squared_probability_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    truth: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    *,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean squared distance of forecasts to the true probabilities.

    mean (f - p)^2, summed over classes for rows. Known only in simulations.

    Guarantee: with outcomes drawn from `truth`, the expected Brier score is this plus
    the mean of p (1 - p).
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,) or (n, k).
        truth: shape of `probs`, the true probabilities.
        weights: shape (n,).

    Returns:
        scalar. NaN for illegal input under tracing.

    Raises:
        ValueError: no rows, unequal shapes, or values outside [0, 1].

    Transformations: jit, vmap, grad.
    Cost: one pass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, truth = jnp.array([0.5, 0.25]), jnp.array([0.5, 0.75])
        >>> calibration.mean_squared_probability_error(probs, truth)
        Array(0.125, dtype=float32)
    """
    f, p, w = _check_truth(probs, truth, weights)
    error = (f - p) ** 2
    return mean(error if f.ndim == 1 else jnp.sum(error, axis=1), w)


def kl_probability_error(
    probs: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    truth: Real[ArrayLike, " n"] | Real[ArrayLike, "n k"],
    *,
    offset: float = 0.0,
    weights: Real[ArrayLike, " n"] | None = None,
) -> Float[Array, ""]:
    """Mean Kullback-Leibler divergence of forecasts from the true probabilities.

    mean [p log(p / f) + (1 - p) log((1 - p) / (1 - f))], the sum over classes of
    p log(p / f) for rows; 0 log 0 = 0, and +inf where f is 0 and p is not.

    Guarantee: with outcomes drawn from `truth`, the expected log loss is this plus the
    mean entropy of the truth.
    Verified by: tests/property/test_calibration.py.

    Args:
        probs: shape (n,) or (n, k).
        truth: shape of `probs`, the true probabilities.
        offset: added to both arguments of each ratio (1e-10 in some published code),
            nonnegative.
        weights: shape (n,).

    Returns:
        scalar, in nats, at least 0 for offset 0.

    Raises:
        ValueError: no rows, unequal shapes, values outside [0, 1], a negative offset.

    Transformations: jit, vmap, grad.
    Cost: one pass.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> probs, truth = jnp.array([0.5, 0.25]), jnp.array([0.5, 0.75])
        >>> calibration.kl_probability_error(probs, truth).round(4)
        Array(0.2747, dtype=float32)
    """
    if is_concrete(offset) and not float(offset) >= 0:
        raise ValueError(f"`offset` must be at least 0, got {offset}")
    f, p, w = _check_truth(probs, truth, weights)

    def term(true: Array, given: Array) -> Array:
        present = true > 0
        top = jnp.where(present, true, 1) + offset
        value = true * (jnp.log(top) - jnp.log(jnp.where(present, given, 1) + offset))
        return jnp.where(present | jnp.isnan(true), value, 0 * given)

    if f.ndim == 2:
        return mean(jnp.sum(term(p, f), axis=1), w)
    return mean(term(p, f) + term(1 - p, 1 - f), w)
