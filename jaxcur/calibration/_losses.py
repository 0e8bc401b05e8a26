"""Losses that keep the probabilities of a network honest while it is trained.

All take logits, (n,) for two classes or (n, K), and labels: integers, or for the ones
that say so targets in [0, 1]. They are plain differentiable functions without checks of
values, to be called inside a training step; labels out of range give NaN.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import digamma, gammaln
from jax.typing import ArrayLike
from jaxtyping import Float, Real

from jaxcur._base import as_float


def _logits(value: Any) -> Array:
    (array,) = as_float(logits=value)
    if array.ndim not in (1, 2):
        raise ValueError(f"`logits` must have shape (n,) or (n, K), got {array.shape}")
    return array


def log_probabilities(logits: Array) -> Array:
    """Logarithms (n, K) of the probabilities; one logit means two classes."""
    if logits.ndim == 1:
        return jnp.stack(
            [jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=1
        )
    return jax.nn.log_softmax(logits, axis=1)


def targets_of(labels: Any, logits: Array) -> Array:
    """Target probabilities (n, K): of integer labels, or of targets as they are.

    For one logit per row a target is the probability of class 1, shape (n,).
    """
    array = jnp.asarray(labels)
    classes = 2 if logits.ndim == 1 else logits.shape[1]
    if array.ndim == 2:
        if array.shape != (logits.shape[0], classes):
            raise ValueError(
                f"`labels` as targets must have shape {(logits.shape[0], classes)}, "
                f"got {array.shape}"
            )
        return array.astype(logits.dtype)
    if array.shape != logits.shape[:1]:
        raise ValueError(
            f"`labels` must have shape {logits.shape[:1]}, got {array.shape}"
        )
    if logits.ndim == 1:
        one = array.astype(logits.dtype)
        one = jnp.where((one >= 0) & (one <= 1), one, jnp.nan)
        return jnp.stack([1 - one, one], axis=1)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"`labels` must be integers, got {array.dtype}")
    legal = (array >= 0) & (array < classes)
    hot = jax.nn.one_hot(array, classes, dtype=logits.dtype)
    return jnp.where(legal[:, None], hot, jnp.nan)


def cross_entropy(
    logits: Real[ArrayLike, "n ..."], labels: Real[ArrayLike, "n ..."]
) -> Float[Array, " n"]:
    """Cross-entropy of each row with its label or its target probabilities.

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.cross_entropy(jnp.array([0.0]), jnp.array([0.3])).round(4)
        Array([0.6931], dtype=float32)
    """
    z = _logits(logits)
    target, log_q = targets_of(labels, z), log_probabilities(z)
    # A target of 0 costs nothing, even where the logarithm is minus infinity.
    return -jnp.sum(jnp.where(target == 0, 0, target * log_q), axis=1)


def focal_loss(
    logits: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, " n"],
    *,
    gamma: Real[ArrayLike, ""] = 2.0,
) -> Float[Array, " n"]:
    """Cross-entropy weighted by  (1 - q_y)^gamma,  less for rows that are right.

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.
        gamma: power, at least 0; 0 is cross-entropy.

    Returns:
        shape (n,).

    Source: Lin et al. 2017; Mukhoti et al. 2020 for calibration.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.focal_loss(jnp.array([0.0]), jnp.array([1])).round(4)
        Array([0.1733], dtype=float32)
    """
    z = _logits(logits)
    target, log_q = targets_of(labels, z), log_probabilities(z)
    # 1 - q without cancellation, and a base above 0: its power has a derivative there.
    other = jnp.maximum(-jnp.expm1(log_q), jnp.finfo(z.dtype).tiny)
    return -jnp.sum(jnp.where(target == 0, 0, target * other**gamma * log_q), axis=1)


def entropy_regularized_loss(
    logits: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, "n ..."],
    *,
    strength: Real[ArrayLike, ""] = 1.0,
) -> Float[Array, " n"]:
    """Cross-entropy minus `strength` times the entropy of the prediction.

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.
        strength: factor of the entropy.

    Returns:
        shape (n,).

    Source: Pereyra et al. 2017.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.entropy_regularized_loss(jnp.zeros(1), jnp.array([1]))
        Array([0.], dtype=float32)
    """
    log_q = log_probabilities(_logits(logits))
    q = jnp.exp(log_q)
    entropy = -jnp.sum(jnp.where(q > 0, q * log_q, 0), axis=1)
    return cross_entropy(logits, labels) - strength * entropy


def label_smoothing_loss(
    logits: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, "n ..."],
    *,
    smoothing: Real[ArrayLike, ""] = 0.1,
) -> Float[Array, " n"]:
    """Cross-entropy with targets  (1 - smoothing) one-hot + smoothing / K.

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.
        smoothing: share of the uniform law, in [0, 1].

    Returns:
        shape (n,).

    Source: Szegedy et al. 2016.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.label_smoothing_loss(jnp.array([2.0]), jnp.array([1])).round(4)
        Array([0.2269], dtype=float32)
    """
    z = _logits(logits)
    target = targets_of(labels, z)
    mixed = (1 - smoothing) * target + smoothing / target.shape[1]
    return -jnp.sum(mixed * log_probabilities(z), axis=1)


def brier_loss(
    logits: Real[ArrayLike, "n ..."], labels: Real[ArrayLike, "n ..."]
) -> Float[Array, " n"]:
    """Squared distance of the probabilities from the label, summed over classes.

    For one logit per row it is (q - y)^2, half of the sum over both classes.

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.

    Returns:
        shape (n,).

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.brier_loss(jnp.zeros(1), jnp.array([1]))
        Array([0.25], dtype=float32)
    """
    z = _logits(logits)
    gap = jnp.exp(log_probabilities(z)) - targets_of(labels, z)
    return jnp.sum(gap * gap, axis=1) / (2 if z.ndim == 1 else 1)


def _confidence(logits: Array, labels: Any) -> tuple[Array, Array]:
    """Confidence and correctness of the top class, or for one logit of class 1."""
    target = targets_of(labels, logits)
    q = jnp.exp(log_probabilities(logits))
    if logits.ndim == 1:
        return q[:, 1], target[:, 1]
    top = jnp.argmax(q, axis=1)[:, None]
    pick = jnp.take_along_axis
    return pick(q, top, axis=1)[:, 0], pick(target, top, axis=1)[:, 0]


def _root(square: Array) -> Array:
    """Square root with derivative 0 at 0, where a batch is perfect."""
    safe = jnp.where(square <= 0, 1, square)
    return jnp.where(square <= 0, 0, jnp.sqrt(safe))


def mmce(
    logits: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, " n"],
    *,
    bandwidth: Real[ArrayLike, ""] = 0.4,
) -> Float[Array, ""]:
    """Maximum mean calibration error of a batch, to be added to its loss.

    sqrt( sum_ij r_i r_j exp(-|c_i - c_j| / bandwidth) ) / n  with c the confidence of
    the top class (for one logit the probability of class 1) and r its residual.

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.
        bandwidth: of the kernel, on the scale of the confidence.

    Returns:
        scalar.

    Cost: O(n^2) time and memory, for batches; `kernel_calibration_error` measures
    whole data sets.

    Source: Kumar, Sarawagi and Jain 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.mmce(jnp.zeros(2), jnp.array([1, 0]))
        Array(0., dtype=float32)
    """
    confidence, correct = _confidence(_logits(logits), labels)
    residual = confidence - correct
    distance = jnp.abs(confidence[:, None] - confidence[None, :])
    kernel = jnp.exp(-distance / bandwidth)
    total = residual @ kernel @ residual
    return _root(total) / residual.shape[0]


def soft_calibration_error(
    logits: Real[ArrayLike, "n ..."],
    labels: Real[ArrayLike, " n"],
    *,
    num_bins: int = 15,
    temperature: Real[ArrayLike, ""] = 0.01,
) -> Float[Array, ""]:
    """Binned squared calibration error of a batch with soft membership in the bins.

    A confidence c belongs to bin j by softmax(-(c - centre_j)^2 / temperature).

    Args:
        logits: shape (n,) or (n, K).
        labels: integers (n,), or targets: (n,) for one logit, (n, K) for K.
        num_bins: of equal width. Static.
        temperature: the smaller, the harder the bins.

    Returns:
        scalar.

    Source: Karandikar et al. 2021.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.soft_calibration_error(jnp.zeros(2), jnp.array([1, 0])).round(4)
        Array(0., dtype=float32)
    """
    confidence, correct = _confidence(_logits(logits), labels)
    centres = (jnp.arange(num_bins, dtype=confidence.dtype) + 0.5) / num_bins
    away = (confidence[:, None] - centres[None, :]) ** 2
    member = jax.nn.softmax(-away / temperature, axis=1)
    mass = jnp.sum(member, axis=0)
    gap = jnp.matmul((confidence - correct)[None, :], member, precision="highest")[0]
    error = jnp.sum(gap**2 / jnp.where(mass > 0, mass, 1)) / confidence.shape[0]
    return _root(error)


def _dirichlet(evidence: Any, labels: Any) -> tuple[Array, Array, Array]:
    (array,) = as_float(evidence=evidence)
    if array.ndim != 2:
        raise ValueError(f"`evidence` must have shape (n, K), got {array.shape}")
    target = targets_of(labels, array)
    alpha = jnp.where(array >= 0, array, jnp.nan) + 1
    return alpha, jnp.sum(alpha, axis=1, keepdims=True), target


def evidential_loss(
    evidence: Real[ArrayLike, "n K"],
    labels: Real[ArrayLike, "n ..."],
    *,
    score: str = "log",
    kl_weight: Real[ArrayLike, ""] = 0.0,
) -> Float[Array, " n"]:
    """Expected score under the Dirichlet law of the evidence, plus a divergence.

    "log":  sum_k y_k (digamma(S) - digamma(alpha_k));  "brier":
    sum_k (y_k - alpha_k / S)^2 + alpha_k (S - alpha_k) / (S^2 (S + 1)).  The divergence
    pulls the evidence for wrong classes to none: Dir(y + (1 - y) alpha) from Dir(1).

    Args:
        evidence: shape (n, K), at least 0; NaN otherwise.
        labels: integers (n,) or targets (n, K).
        score: "log" or "brier". Static.
        kl_weight: factor of the divergence, usually annealed from 0.

    Source: Sensoy, Kaplan and Kandemir 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import calibration
        >>> calibration.evidential_loss(jnp.zeros((1, 2)), jnp.array([0]))
        Array([1.], dtype=float32)
    """
    alpha, total, target = _dirichlet(evidence, labels)
    if score == "log":
        loss = jnp.sum(target * (digamma(total) - digamma(alpha)), axis=1)
    elif score == "brier":
        mean = alpha / total
        spread = mean * (1 - mean) / (total + 1)
        loss = jnp.sum((target - mean) ** 2 + spread, axis=1)
    else:
        raise ValueError(f"`score` must be 'log' or 'brier', got {score!r}")
    return loss + kl_weight * _from_uniform(target + (1 - target) * alpha)


def _from_uniform(alpha: Array) -> Array:
    """Kullback-Leibler divergence of Dir(alpha) from Dir(1), per row."""
    total = jnp.sum(alpha, axis=1)
    classes = jnp.asarray(alpha.shape[1], alpha.dtype)
    constant = gammaln(total) - gammaln(classes) - jnp.sum(gammaln(alpha), axis=1)
    slopes = (alpha - 1) * (digamma(alpha) - digamma(total)[:, None])
    return constant + jnp.sum(slopes, axis=1)
