"""Penalised logistic regression by damped Newton steps."""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int, Real

from jaxcur._base import is_concrete, register_dataclass
from jaxcur.learners._protocol import (
    LinearParams,
    check_nonnegative,
    predict_linear,
    prepare,
    prepare_new,
)

_HIGHEST = jax.lax.Precision.HIGHEST
# Halvings tried in one pass: the last is below 1e-4, beyond which a Newton direction is
# no descent direction to working precision.
_NUM_HALVINGS = 15
# A gradient this small beside the largest it could be is taken for zero: it ends the
# run to infinity of an intercept, or of separated classes, that nothing penalises.
_NEGLIGIBLE = 1e-12


class LogisticParams(NamedTuple):
    """A fitted logistic regression.

    Attributes:
        coefficients: shape (d,).
        intercept: scalar.
        num_steps: scalar int, Newton steps taken.
        converged: scalar bool. False when `max_steps` were not enough; the predictions
            are then those of the last step.
    """

    coefficients: Float[Array, " d"]
    intercept: Float[Array, ""]
    num_steps: Int[Array, ""]
    converged: Bool[Array, ""]


@partial(
    register_dataclass,
    data_fields=["regularization"],
    meta_fields=["intercept", "max_steps"],
)
@dataclasses.dataclass(frozen=True)
class Logistic:
    """Logistic regression with a squared penalty and an unpenalised intercept.

    Minimises  -sum_i w_i [y_i log p_i + (1 - y_i) log(1 - p_i)]
    + regularization/2 |b|^2  with  p_i = 1 / (1 + exp(-a - x_i'b)), for targets in
    [0, 1]. `regularization` is 1/C of scikit-learn. Predictions are probabilities;
    `predict_logit` gives  a + x'b.

    Newton steps are halved until the objective decreases, so that the iteration cannot
    run away. With `regularization > 0` separable classes have a finite solution. With
    `regularization = 0` they have none: the iteration then stops where the gradient is
    negligible (1e-12 of the largest it could be), or at `max_steps` with `converged`
    False, and the numbers stay finite. The same holds for the intercept when all
    targets are equal.

    Heuristic: no finite-sample guarantee on the predictions. The fit does not depend on
    the order of the rows, which is what conformal selection needs of it.

    Args:
        regularization: penalty, at least 0. Traced.
        intercept: whether to fit an intercept. Static.
        max_steps: largest number of Newton steps. Static.

    Raises:
        ValueError: `regularization` is negative, `max_steps` is no positive integer, or
            a target lies outside [0, 1].

    Transformations: jit, vmap. Not differentiable in reverse mode (a loop until
    convergence).
    Cost: O(n d^2 + d^3) per step for a fit; n times that for `leave_one_out`, in one
    program, and O(batch (n + d^2)) memory.

    Source: Newton's method; the approximate leave-one-out is one Newton step from the
    full fit, Rad and Maleki, "A scalable estimate of the out-of-sample prediction error
    via approximate leave-one-out", JRSS B 2020.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.array([[0.0], [1.0], [2.0], [3.0]])
        >>> y = jnp.array([0, 0, 1, 1])
        >>> learner = learners.Logistic(1.0)
        >>> learner.predict(learner.fit(x, y), x).round(2)
        Array([0.19, 0.38, 0.62, 0.81], dtype=float32)
        >>> learner.leave_one_out(x, y).round(2)
        Array([0.34, 0.57, 0.43, 0.66], dtype=float32)
    """

    regularization: Any
    _: dataclasses.KW_ONLY
    intercept: bool = True
    max_steps: int = 50

    def __post_init__(self) -> None:
        check_nonnegative("regularization", self.regularization)
        if not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(
                f"`max_steps` must be a positive integer, got {self.max_steps!r}"
            )

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
    ) -> LogisticParams:
        """Coefficients, intercept and how the iteration ended; `key` is not used."""
        features, target, weights = self._prepare(features, target, weights)
        return _fit(self, features, target, weights)

    def predict_logit(
        self, params: LogisticParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """The linear predictor, which orders as the probabilities but does not round.

        A float32 probability is exactly 1 from a logit of about 17 on.
        """
        coefficients = params.coefficients
        features = prepare_new(features, coefficients.shape[0], coefficients.dtype)
        return predict_linear(LinearParams(coefficients, params.intercept), features)

    def predict(
        self, params: LogisticParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """Probabilities of target 1 at the rows of `features`."""
        return jax.nn.sigmoid(self.predict_logit(params, features))

    def leave_one_out(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        batch_size: int | None = None,
    ) -> Float[Array, " n"]:
        """For each row, the probability by the fit that left it out.

        Every such fit is iterated to convergence, from the full fit as common start.
        `batch_size` fits run at once (static).
        """
        features, target, weights = self._prepare(features, target, weights)
        n, d = features.shape
        if batch_size is None:
            batch_size = max(1, min(n, 2**23 // (n + d * d)))
        return _leave_one_out(self, features, target, weights, batch_size=batch_size)

    def approximate_leave_one_out(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """One Newton step from the full fit towards each leave-one-out fit.

        Approximate, but a symmetric function of the rows: conformal selection with it
        stays valid. At the cost of one fit and one more step for all rows together.
        """
        features, target, weights = self._prepare(features, target, weights)
        return _approximate(self, features, target, weights)

    def _prepare(
        self, features: Any, target: Any, weights: Any
    ) -> tuple[Array, Array, Array]:
        features, target, weights = prepare(features, target, weights)
        host = np.asarray(target) if is_concrete(target) else np.zeros(0)
        if not ((host >= 0) & (host <= 1)).all():
            raise ValueError(
                "`target` must lie in [0, 1] for logistic regression; "
                "for example (labels > threshold)"
            )
        return features, target, weights


class _State(NamedTuple):
    beta: Array
    gradient: Array
    num_steps: Array
    done: Array


def _design(learner: Logistic, features: Array) -> tuple[Array, Array]:
    """Columns, with the constant first when there is an intercept, and penalties."""
    n, d = features.shape
    penalty = jnp.full(d, jnp.asarray(learner.regularization, features.dtype))
    if not learner.intercept:
        return features, penalty
    zero = jnp.zeros(1, features.dtype)
    ones = jnp.ones((n, 1), features.dtype)
    return jnp.concatenate([ones, features], 1), jnp.concatenate([zero, penalty])


def _slope(logit: Array, target: Array) -> Array:
    """The residual p - y, with all its digits where classes separate."""
    up, down = jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit)
    return (1 - target) * up - target * down


def _loss(logit: Array, target: Array) -> Array:
    """-y log p - (1 - y) log(1 - p)."""
    return (1 - target) * jax.nn.softplus(logit) + target * jax.nn.softplus(-logit)


def _hessian(columns: Array, weights: Array, penalty: Array, logit: Array) -> Array:
    curvature = weights * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
    scaled = columns * jnp.sqrt(curvature)[:, None]
    gram = jnp.matmul(scaled.T, scaled, precision=_HIGHEST)
    # Where the curvature vanishes or columns are collinear, a trace of the diagonal
    # keeps the factorisation defined. It changes steps, not solutions.
    epsilon = jnp.finfo(columns.dtype).eps
    floor = 8 * epsilon * (jnp.diagonal(gram) + penalty)
    return gram + jnp.diag(penalty + floor + jnp.finfo(columns.dtype).tiny)


def _newton(
    columns: Array,
    target: Array,
    weights: Array,
    penalty: Array,
    start: Array,
    max_steps: int,
) -> _State:
    """Damped Newton iteration from `start`."""
    dtype = columns.dtype
    epsilon = jnp.finfo(dtype).eps
    sizes = jnp.asarray(0.5, dtype) ** jnp.arange(_NUM_HALVINGS, dtype=dtype)
    # The largest size the gradient of the likelihood can have.
    scale = jnp.sum(weights[:, None] * jnp.abs(columns), axis=0)

    def product(beta: Array) -> Array:
        return jnp.matmul(columns, beta, precision=_HIGHEST)

    def gradient_at(beta: Array) -> tuple[Array, Array]:
        """The gradient, and whether it is as small as it can be computed."""
        logit = product(beta)
        slope = weights * _slope(logit, target)
        gradient = jnp.sum(slope[:, None] * columns, axis=0) + penalty * beta
        rounding = jnp.abs(slope) * (1 + jnp.abs(logit))
        noise = jnp.sum(rounding[:, None] * jnp.abs(columns), axis=0)
        noise = 8 * epsilon * (noise + penalty * jnp.abs(beta))
        small = jnp.abs(gradient) <= jnp.maximum(noise, _NEGLIGIBLE * scale)
        return gradient, jnp.all(small)

    def proceed(state: _State) -> Array:
        return ~state.done & (state.num_steps < max_steps)

    def step(state: _State) -> _State:
        beta, gradient = state.beta, state.gradient
        logit = product(beta)
        factor = jnp.linalg.cholesky(_hessian(columns, weights, penalty, logit))
        direction = -jax.scipy.linalg.cho_solve((factor, True), gradient[:, None])[:, 0]
        along = product(direction)
        decrease = jnp.sum(gradient * direction)
        before = _loss(logit, target)
        objective = jnp.sum(weights * before) + jnp.sum(penalty * beta * beta) / 2

        def change(size: Array) -> Array:
            # Term by term: a small change of a large objective is not lost.
            terms = weights * (_loss(logit + size * along, target) - before)
            quadratic = penalty * direction * (size * beta + size**2 * direction / 2)
            return jnp.sum(terms) + jnp.sum(quadratic)

        good = jax.lax.map(change, sizes) <= 1e-4 * sizes * decrease
        size = jnp.where(jnp.any(good), sizes[jnp.argmax(good)], 0)
        # Near the solution the decrease drowns in rounding: a full step is then right,
        # and the last, since it squares the error.
        last = -decrease <= 8 * epsilon * objective
        size = jnp.where(last, 1, size)
        beta = beta + size * direction
        gradient, small = gradient_at(beta)
        return _State(beta, gradient, state.num_steps + 1, small | last | (size == 0))

    gradient, small = gradient_at(start)
    state = _State(start, gradient, jnp.asarray(0, jnp.int32), small)
    return jax.lax.while_loop(proceed, step, state)


def _full(
    learner: Logistic, columns: Array, target: Array, weights: Array, penalty: Array
) -> _State:
    start = jnp.zeros(columns.shape[1], columns.dtype)
    return _newton(columns, target, weights, penalty, start, learner.max_steps)


@jax.jit
def _fit(learner, features, target, weights):
    columns, penalty = _design(learner, features)
    state = _full(learner, columns, target, weights, penalty)
    # Without any weight there is nothing to learn the intercept from.
    beta = jnp.where(jnp.sum(weights) > 0, state.beta, jnp.nan)
    if learner.intercept:
        return LogisticParams(beta[1:], beta[0], state.num_steps, state.done)
    return LogisticParams(beta, jnp.zeros((), beta.dtype), state.num_steps, state.done)


@jax.jit(static_argnames=("batch_size",))
def _leave_one_out(learner, features, target, weights, *, batch_size):
    columns, penalty = _design(learner, features)
    full = _full(learner, columns, target, weights, penalty)

    def one(index: Array) -> Array:
        kept = weights.at[index].set(0)
        state = _newton(columns, target, kept, penalty, full.beta, learner.max_steps)
        logit = jnp.sum(columns[index] * state.beta)
        return jnp.where(jnp.sum(kept) > 0, jax.nn.sigmoid(logit), jnp.nan)

    index = jnp.arange(features.shape[0])
    return jax.lax.map(one, index, batch_size=batch_size)


@jax.jit
def _approximate(learner, features, target, weights):
    columns, penalty = _design(learner, features)
    full = _full(learner, columns, target, weights, penalty)
    logit = jnp.matmul(columns, full.beta, precision=_HIGHEST)
    factor = jnp.linalg.cholesky(_hessian(columns, weights, penalty, logit))
    whitened = jax.scipy.linalg.solve_triangular(factor, columns.T, lower=True)
    leverage = jnp.sum(whitened * whitened, axis=0)
    curvature = weights * jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit)
    push = weights * _slope(logit, target) * leverage / (1 - curvature * leverage)
    return jax.nn.sigmoid(logit + push)
