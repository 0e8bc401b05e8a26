"""Maximum likelihood with Jeffreys' penalty: finite where classes separate."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur.ordinal._design import HIGHEST, linear_predictor, standardise
from jaxcur.ordinal._families import own_class_gap, start_intercepts
from jaxcur.ordinal._fit import prepare
from jaxcur.ordinal._parameters import active_coordinates, free_inverse
from jaxcur.ordinal._penalties import Parallel, Penalty
from jaxcur.ordinal._result import INVALID, MAX_STEPS, OK, SINGULAR, OrdinalResult
from jaxcur.ordinal._solve import Rows, Setting, loss_hessian, mean_loss

_NUM_HALVINGS = 30
_SHARE = 0.9


class _State(NamedTuple):
    theta: Array
    value: Array
    slope: Array
    step: Array
    stuck: Array
    count: Array


@functools.partial(jax.jit, static_argnames=("setting",))
def _firth(
    setting: Setting,
    features: Array,
    y: Array,
    weights: Array,
    free: Array,
    rtol: Array,
) -> OrdinalResult:
    m = setting.num_classes - 1
    n, p = features.shape
    dtype = features.dtype
    scaled = standardise(features, weights, True)
    rows = Rows(scaled.columns, y, weights)
    total = jnp.sum(weights)
    active = active_coordinates(free, m, rows.columns)
    both = active[:, None] & active[None, :]

    def predict(theta: Array) -> Array:
        return linear_predictor(rows.columns, theta, setting.map)[0]

    def information(theta: Array) -> Array:
        return loss_hessian(setting, rows, predict(theta), expected=True)

    def objective(theta: Array) -> Array:
        """-loglik - log det(information) / 2, with the information per unit weight."""
        matrix = jnp.where(both, information(theta) / total, 0)
        matrix = matrix + jnp.diag(jnp.where(active, 0.0, 1.0).astype(dtype))
        factor = jnp.linalg.cholesky(matrix)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
        return mean_loss(setting, rows, predict(theta)) - log_det / 2

    value_and_slope = jax.value_and_grad(objective)

    def limit(theta: Array, move: Array) -> Array:
        eta = predict(theta)
        gap = own_class_gap(setting.family, eta, y)
        narrowing = -own_class_gap(setting.family, predict(theta + move) - eta, y)
        closes = (narrowing > 0) & (weights > 0) & jnp.isfinite(gap)
        ratio = gap / jnp.where(closes, narrowing, 1)
        return jnp.min(jnp.where(closes, ratio, jnp.inf))

    def step(state: _State) -> _State:
        slope = jnp.where(active, state.slope, 0)
        move = -free_inverse(information(state.theta), active) @ slope
        descent = slope @ move
        noise = 10 * jnp.finfo(dtype).eps * jnp.abs(state.value)
        size = jnp.minimum(_SHARE * limit(state.theta, move), 1)

        def attempt(search: tuple[Array, Array, Array]):
            size, _, count = search
            after = objective(state.theta + size * move)
            enough = after <= state.value + 1e-4 * size * descent + noise
            return jnp.where(enough, size, size / 2), enough, count + 1

        size, accepted, _ = jax.lax.while_loop(
            lambda search: ~search[1] & (search[2] < _NUM_HALVINGS),
            attempt,
            (size, jnp.asarray(False), jnp.asarray(0)),
        )
        theta = jnp.where(accepted, state.theta + size * move, state.theta)
        value, slope = value_and_slope(theta)
        # The decrement of the step just made: its length in standard errors.
        return _State(
            theta,
            value,
            slope,
            jnp.sqrt(jnp.maximum(-descent, 0)),
            ~accepted,
            state.count + 1,
        )

    counts = jnp.zeros(m + 1, dtype).at[y].add(weights)
    alpha = start_intercepts(
        setting.family, setting.link, jnp.maximum(counts, 1e-3) / total
    )
    start = jnp.zeros(active.size, dtype).at[:m].set(alpha)
    value, slope = value_and_slope(start)
    infinite = jnp.asarray(jnp.inf, dtype)
    state = _State(
        start, value, slope, infinite, jnp.asarray(False), jnp.asarray(0, jnp.int32)
    )
    tolerance = jnp.maximum(rtol, 10 * jnp.finfo(dtype).eps)

    def residual(state: _State) -> Array:
        return jnp.max(jnp.abs(jnp.where(active, state.slope, 0))) / total

    def proceed(state: _State) -> Array:
        running = (residual(state) > tolerance) & (state.count < setting.max_steps)
        return running & ~state.stuck & jnp.isfinite(state.value)

    state = jax.lax.while_loop(proceed, step, state)
    theta = state.theta
    eta, psi = linear_predictor(rows.columns, theta, setting.map)
    beta = jnp.matmul(jnp.asarray(setting.map, dtype), psi, precision=HIGHEST)
    beta = beta / scaled.scale
    valid = jnp.all(counts > 0)
    valid = valid & jnp.all(jnp.isfinite(scaled.columns))
    status = jnp.where(residual(state) <= tolerance, OK, MAX_STEPS)
    singular = jnp.any(jnp.isnan(free_inverse(information(start), active)))
    status = jnp.where(singular, SINGULAR, status)
    status = jnp.where(valid & (singular | jnp.isfinite(state.value)), status, INVALID)
    crossing = jnp.zeros(n, bool)
    if setting.family == "cumulative" and m > 1:
        crossing = jnp.any(eta[:, 1:] < eta[:, :-1], axis=1) & (weights > 0)

    def shown(value: Array) -> Array:
        return jnp.where(status >= INVALID, jnp.nan, value)

    return OrdinalResult(
        intercepts=shown(theta[:m] - beta @ scaled.mean),
        coefficients=shown(beta.T),
        loglik=shown(-mean_loss(setting, rows, eta)),
        objective=shown(state.value / total),
        kkt_residual=shown(residual(state)),
        gap_bound=shown(infinite),
        num_crossing=jnp.sum(crossing),
        status=status.astype(jnp.int32),
        num_steps=state.count,
        regularization=jnp.zeros((), dtype),
        max_regularization=jnp.zeros((), dtype),
        blocks=shown(psi),
        free=free,
        matrix=jnp.asarray(setting.map, dtype),
        family=setting.family,
        link=setting.link,
    )


def firth_fit(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    penalty: Penalty | None = None,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 200,
) -> OrdinalResult:
    """Unpenalised model, with Jeffreys' penalty that keeps every estimate finite.

    Minimised is  -loglik - log det(I) / 2,  I the expected information of all free
    parameters. Where the likelihood runs to infinity (classes that separate, a rare
    class with few rows) the information goes to zero and holds it back; in a logistic
    regression the first-order bias is removed, in other models it is reduced.

    Guarantee: with status 0 the point is stationary: the gradient of the objective, per
    unit of weight and on standardised columns, is at most `rtol`. Verified by: an
    independent Firth logistic regression for two classes, differentiation in the unit
    tests.

    Args:
        X: shape (n, p).
        y: shape (n,), classes 0..num_classes-1; each must occur.
        num_classes: number of classes. Static.
        penalty: which coefficients are shared: `Parallel()` (when None), `Partial(...)`
            or `NonParallel()`; its own weights do not matter. In the cumulative family
            with three or more classes all must be shared: where boundaries are about to
            cross the information is infinite, and so would be the prize.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`; they count as numbers of rows.
        rtol: tolerance of `kkt_residual`; None for 1e-9 in float64, 1e-4 in float32.
        max_steps: largest number of scoring steps. Static.

    Returns:
        `OrdinalResult` with regularization 0; `objective` is per unit of weight and
        `gap_bound` infinite. Status 4 means that columns are collinear: all numbers are
        NaN. `standard_errors(result, X, y, kind="expected")` and what
        builds on it apply.

    Raises:
        ValueError: as `fit`; a penalty with more blocks than boundaries, or, in the
            cumulative family, one that lets them differ.

    Transformations: jit, vmap.
    Cost: some ten to fifty steps, each about five times a Newton step of `fit`.

    Source: Firth, "Bias reduction of maximum likelihood estimates", Biometrika 1993;
    Heinze and Schemper 2002; Kosmidis 2014 for cumulative links.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jnp.arange(6.0)[:, None]
        >>> y = jnp.array([0, 0, 1, 1, 2, 2])
        >>> ordinal.firth_fit(x, y, num_classes=3).coefficients.round(1)
        Array([[-1.7, -1.7]], dtype=float32)
    """
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=Parallel() if penalty is None else penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=True,
        crossing="own",
        rtol=rtol,
        max_steps=max_steps,
    )
    matrix = problem.blocks.matrix
    if matrix.shape[1] > matrix.shape[0]:
        raise ValueError(
            "`penalty` must not have more blocks than boundaries: use Parallel(), "
            "Partial(...) or NonParallel()"
        )
    differ = np.any(matrix != matrix[:1], axis=0) @ np.asarray(problem.blocks.free)
    if family == "cumulative" and num_classes > 2 and differ.any():
        raise ValueError(
            "`penalty` must share every coefficient in the cumulative family, where "
            "boundaries that nearly cross have infinite information: use Parallel(), "
            "or the family 'sratio', 'cratio' or 'acat'"
        )
    return _firth(
        problem.setting,
        problem.features,
        problem.y,
        problem.weights,
        jnp.asarray(problem.blocks.free),
        problem.rtol,
    )
