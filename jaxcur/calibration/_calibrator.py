"""What every recalibrator shares: the protocol, how a fit ended, and its inputs."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcur._base import as_float, check_rank, is_concrete
from jaxcur.calibration._inputs import (
    check_classes,
    check_logits,
    check_outcomes,
    check_weights,
)

STATUS = {
    0: "ok",
    1: "max_steps reached, or rounding forbids a smaller gradient",
    2: "no finite optimum (the classes separate, or one is absent): "
    "the parameters are those where the iteration was stopped",
    3: "the input is not legal: a NaN, a label out of range, or no weight",
}
# Rounding may carry a probability this far outside [0, 1].
_SLACK = 1e-5
OK, MAX_STEPS, DIVERGING, INVALID = range(4)


@runtime_checkable
class Calibrator(Protocol):
    """A fitted recalibration map: call it on new input, get probabilities.

    Every `fit_*` returns one. It is an immutable pytree of arrays, so it passes through
    `jit` and can be stacked by `vmap`, over folds, classes or bootstrap weights. It
    takes the kind of input it was fitted on (logits, probabilities or scores).
    """

    def __call__(self, scores: Any, /) -> Array:
        """Probabilities at new input."""
        ...


class Fitted:
    """Properties of a fit that was found by iteration: fields status, gradient_norm."""

    status: Array

    @property
    def converged(self) -> Array:
        """True where the certificate holds: the gradient is as small as it can be."""
        return self.status == OK

    @property
    def message(self) -> str:
        """The status in words. Not jittable."""
        return STATUS[int(np.max(np.asarray(self.status)))]


def check_scores(
    scores: Any, labels: Any, weights: Any = None
) -> tuple[Array, Array, Array]:
    """Any real scores (n,), outcomes and weights of a binary event, one float dtype.

    Raises:
        ValueError: n = 0, unequal lengths, scores that are not finite, labels outside
            [0, 1], or illegal weights.
    """
    (array,) = as_float(scores=scores)
    check_rank("scores", array, 1)
    if array.shape[0] == 0:
        raise ValueError("`scores` must hold at least one row, got shape (0,)")
    if is_concrete(array):
        host = np.asarray(array)
        # One pass in the usual case: a sum is finite only if every term is.
        with np.errstate(over="ignore", invalid="ignore"):
            doubtful = not np.isfinite(host.sum())
        bad = int((~np.isfinite(host)).sum()) if doubtful else 0
        if bad:
            raise ValueError(f"`scores` must be finite, got {bad} that are not")
    y = check_outcomes("labels", labels, array, "scores")
    return array, y, check_weights(weights, array, "scores")


def check_binary_logits(
    logits: Any, labels: Any, weights: Any = None
) -> tuple[Array, Array, Array]:
    """Log-odds (n,), outcomes and weights.

    Raises:
        ValueError: as `check_logits`, or logits of several classes.
    """
    if np.ndim(logits) == 2:
        raise ValueError(
            f"`logits` must have shape (n,), the log-odds of class 1, got "
            f"{np.shape(logits)}; use calibration.fit_one_vs_rest for several classes"
        )
    return check_any_logits(logits, labels, weights)


def check_any_logits(
    logits: Any, labels: Any, weights: Any = None
) -> tuple[Array, Array, Array]:
    """`check_logits`, without a copy of logits that can be looked at and are legal."""
    if np.ndim(logits) == 2 and is_concrete(logits, labels):
        (array,) = as_float(logits=logits)
        if array.shape[0] > 0 and array.shape[1] > 1 and is_concrete(array):
            if np.isfinite(np.asarray(array)).all():
                k = array.shape[1]
                c, _ = check_classes("labels", labels, k, array, "logits")
                return array, c, check_weights(weights, array, "logits")
    return check_logits(logits, labels, weights)


def check_class_logits(
    logits: Any, labels: Any, weights: Any = None
) -> tuple[Array, Array, Array]:
    """Logits (n, k), classes and weights.

    Raises:
        ValueError: as `check_logits`, or logits of shape (n,).
    """
    if np.ndim(logits) == 1:
        raise ValueError(
            f"`logits` must have shape (n, k), got {np.shape(logits)}; "
            "for a binary event use calibration.fit_platt"
        )
    return check_any_logits(logits, labels, weights)


def new_input(
    name: str,
    value: Any,
    like: Array,
    rank: int = 1,
    num_classes: int | None = None,
) -> Array:
    """New input of a fitted map, in the dtype of its parameters.

    Probabilities outside [0, 1] are NaN under tracing.

    Raises:
        ValueError: another rank than at the fit, another number of classes where
            `num_classes` is given, or "probs" outside [0, 1].
    """
    (array,) = as_float(**{name: value})
    check_rank(name, array, rank, "(n,)" if rank == 1 else "(n, k)")
    if num_classes is not None and array.shape[1] != num_classes:
        raise ValueError(
            f"`{name}` must have the {num_classes} columns of the fit, "
            f"got shape {array.shape}"
        )
    if name == "probs":
        array = _only_probabilities(array)
    return array.astype(like.dtype)


def _only_probabilities(probs: Array) -> Array:
    # A gap stays a gap: NaN in, NaN out.
    if is_concrete(probs):
        host = np.asarray(probs)
        outside = (host < -_SLACK) | (host > 1 + _SLACK)
        if outside.any():
            raise ValueError(
                f"`probs` must lie in [0, 1], got {host[outside][0]}; are these logits?"
            )
        return probs
    return jnp.where((probs < -_SLACK) | (probs > 1 + _SLACK), jnp.nan, probs)


def clipped_logit(probs: Array) -> Array:
    """log(f / (1 - f)) with f kept away from 0 and 1 by the spacing of the floats."""
    clipped = clip_probs(probs)
    return jnp.log(clipped) - jnp.log1p(-clipped)


def clip_probs(probs: Array) -> Array:
    """Probabilities at least 1e-12 (in float32 6e-8) away from 0 and 1."""
    eps = 1e-12 if probs.dtype == jnp.float64 else 2.0**-24
    # In float32 1 - 2^-24 is the largest number below 1.
    return jnp.clip(probs, eps, 1 - eps)


def with_rows(weights: Array, *columns: Array) -> tuple[Array, ...]:
    """Zeros in place of rows of weight 0, whose values must not matter, even NaN."""
    return tuple(
        jnp.where(
            (weights != 0).reshape((-1,) + (1,) * (column.ndim - 1)), column, 0
        ).astype(column.dtype)
        for column in columns
    )


def normalised(weights: Array) -> Array:
    """Weights that sum to 1; NaN where they have no sum."""
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, jnp.nan)


Fit = Callable[..., Any]
