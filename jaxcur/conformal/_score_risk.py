"""Which predictions to act on, with control of the expected loss of acting."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_rank,
    check_same_length,
    check_unit_interval,
    decimal_float64,
    is_concrete,
    register_dataclass,
)
from jaxcur.conformal._prune import Pruning, resolve_xi
from jaxcur.conformal._pvalues import (
    Weights,
    are_bad_weights,
    checked_weights,
    conservative,
)
from jaxcur.conformal._status import first_status, is_bad_level

RISK_STATUS = (
    "ok",
    "some test scores are NaN: their e-value is 0 and they are never selected",
    "some calibration scores are NaN: they count as -inf, which only lowers e-values",
    "level or gamma is not in [0, 1]: nothing is selected",
    "weights are negative, infinite, NaN or all zero: e-values are NaN, none selected",
    "losses are NaN or not in [0, 1]: e-values are NaN, nothing is selected",
)
_NAN_TEST, _NAN_CALIBRATION, _BAD_LEVEL, _BAD_WEIGHTS, _BAD_LOSS = range(1, 6)


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ScoreRiskResult:
    """Outcome of `score_mdr` or `score_sdr`.

    Attributes:
        selected: shape (m,), bool. True where acting on the prediction is safe.
        e_values: shape (m,), in [0, inf]. From `score_sdr`: the infimum over the
            unknown loss in [0, 1]. From `score_mdr`: the smaller of the values at loss
            0 and at loss 1, which is an e-value when losses are 0 or 1.
        infimum: shape (m,). The infimum over every loss in [0, 1]: an e-value for any
            bounded loss, the one to average or to combine. Equal to `e_values` from
            `score_sdr`; at most `e_values` from `score_mdr`.
        level: scalar, target risk as given.
        gamma: scalar, the level at which thresholds were sought.
        status: 0 = ok, otherwise an index into `conformal.RISK_STATUS`.
        method: "mdr" or "sdr" (static).
    """

    selected: Array
    e_values: Array
    infimum: Array
    level: Array
    gamma: Array
    status: Array
    method: str = dataclasses.field(metadata={"static": True})

    @property
    def num_selected(self) -> Array:
        """Number selected, over the last axis."""
        return jnp.sum(self.selected, axis=-1)


class _Inputs(NamedTuple):
    losses: Array
    calibration: Array
    test: Array
    weights: Weights | None


class _Path(NamedTuple):
    """Running sums over all scores in ascending order, float64 (n + m,)."""

    values: Array
    is_end: Array  # last of its block of ties, and not NaN: a candidate threshold
    loss: Array  # weighted calibration loss at or below the value
    share: Array  # share of the tests at or below the value
    base: Array  # calibration weight, ()
    total: Array  # calibration weight plus own weight, () or (m,)
    own: Array  # own weight, () or (m,)


class _Ends(NamedTuple):
    """What holds at the last threshold accepted with own loss 1 and with own loss 0."""

    reach: Array  # largest score covered with own loss 1; NaN when there is none
    is_same: Array  # both are one threshold
    loss_one: Array
    loss_zero: Array
    share_zero: Array


def _path(inputs: _Inputs) -> _Path:
    losses, calibration, test, weights = inputs
    losses = losses.astype(jnp.float64)
    n, m = calibration.shape[0], test.shape[0]
    pool = jnp.concatenate([conservative(calibration), test])
    order = stats.argsort(pool)
    values = pool[order]
    if weights is None:
        mass = losses
        own, base = jnp.ones((), jnp.float64), jnp.asarray(n, jnp.float64)
    else:
        own = weights.test.astype(jnp.float64)
        calibration_weights = weights.calibration.astype(jnp.float64)
        mass, base = losses * calibration_weights, jnp.sum(calibration_weights)
    running = jnp.cumsum(jnp.concatenate([mass, jnp.zeros(m, jnp.float64)])[order])
    is_test = (order >= n) & ~jnp.isnan(values)
    count = jnp.cumsum(is_test.astype(jnp.float64))
    after = jnp.concatenate([values[1:], jnp.full(1, jnp.nan, values.dtype)])
    is_end = (values != after) & ~jnp.isnan(values)
    return _Path(values, is_end, running, count / max(m, 1), base, base + own, own)


def _ends(path: _Path, share: Array, gamma: Array) -> _Ends:
    """Last thresholds with loss(t) + l own <= gamma share(t) total, at l = 1 and 0.

    Each condition is linear in the total weight W: at l = 0 it reads
    loss / (gamma share) <= W, at l = 1 it reads W <= (base - loss) / (1 - gamma share)
    with base = W - own. The last threshold for any W is then one search in a running
    extreme taken from the right, because the extreme from k on is reached at k itself
    where it changes. Ties are the normal case with 0/1 losses, hence the guards.
    """
    guard = stats.tie_guard(jnp.float64)
    rate = gamma * share
    no_loss = path.loss <= 0
    need = jnp.where(no_loss, 0.0, path.loss / jnp.where(no_loss, 1.0, rate))
    need = jnp.where(path.is_end, need, jnp.inf)
    slope = 1 - rate * guard
    limit = (path.base - path.loss) / jnp.where(slope > 0, slope, 1.0) * guard
    limit = jnp.where(slope > 0, limit, jnp.inf)
    limit = jnp.where(path.is_end, limit, -jnp.inf)
    least = jax.lax.cummin(need, reverse=True)
    most = jax.lax.cummax(limit, reverse=True)
    zero = jnp.searchsorted(least, path.total * guard, side="right") - 1
    one = jnp.searchsorted(-most, -path.total, side="right") - 1
    # Own loss 0 asks less than own loss 1; rounding must not say otherwise.
    zero = jnp.maximum(zero, one)
    safe_one, safe_zero = jnp.maximum(one, 0), jnp.maximum(zero, 0)
    reach = jnp.where(one >= 0, path.values[safe_one], jnp.nan)
    return _Ends(
        reach, one == zero, path.loss[safe_one], path.loss[safe_zero], share[safe_zero]
    )


def _ratio(top: Array | float, bottom: Array) -> Array:
    """Quotient with a positive numerator, +inf over zero."""
    return jnp.where(bottom > 0, top / jnp.where(bottom > 0, bottom, 1.0), jnp.inf)


def _finish(
    inputs: _Inputs,
    level: Array,
    gamma: Array,
    selected: Array,
    e_values: Array,
    infimum: Array,
    method: str,
) -> ScoreRiskResult:
    """Status, poisoning of unusable input, and the dtype of the scores."""
    losses, calibration, test, weights = inputs
    dtype = test.dtype
    bad_loss = ~jnp.all((losses >= 0) & (losses <= 1))
    bad_level = is_bad_level(level) | is_bad_level(gamma)
    bad_weights = jnp.zeros((), bool) if weights is None else are_bad_weights(weights)
    status = first_status(
        (bad_level, _BAD_LEVEL),
        (bad_weights, _BAD_WEIGHTS),
        (bad_loss, _BAD_LOSS),
        (jnp.isnan(test).any(), _NAN_TEST),
        (jnp.isnan(calibration).any(), _NAN_CALIBRATION),
    )
    unusable = bad_level | bad_weights | bad_loss
    return ScoreRiskResult(
        selected=selected & ~unusable,
        e_values=jnp.where(unusable, jnp.nan, e_values).astype(dtype),
        infimum=jnp.where(unusable, jnp.nan, infimum).astype(dtype),
        level=level.astype(dtype),
        gamma=gamma.astype(dtype),
        status=status,
        method=method,
    )


def _nothing(
    inputs: _Inputs, level: Array, gamma: Array, method: str
) -> ScoreRiskResult:
    empty = jnp.zeros_like(inputs.test)
    return _finish(inputs, level, gamma, empty > 0, empty, empty, method)


@jax.jit
def _mdr(inputs: _Inputs, level: Array, gamma: Array) -> ScoreRiskResult:
    test = inputs.test
    if test.shape[0] == 0:
        return _nothing(inputs, level, gamma, "mdr")
    path = _path(inputs)
    ends = _ends(path, jnp.ones_like(path.share), gamma)
    covered = (test <= ends.reach) & (path.total > 0)
    at_one = _ratio(path.total, ends.loss_one + path.own)
    at_zero = _ratio(path.total, ends.loss_zero)
    infimum = jnp.where(ends.is_same, at_one, jnp.minimum(_ratio(1.0, gamma), at_one))
    # 1 / infimum <= level, without dividing.
    guard = stats.tie_guard(jnp.float64)
    same_ok = ends.loss_one + path.own <= level * path.total * guard
    accepted = jnp.where(ends.is_same, same_ok, gamma <= level * guard)
    e_values = jnp.where(covered, jnp.minimum(at_one, at_zero), 0.0)
    infimum = jnp.where(covered, infimum, 0.0)
    selected = covered & accepted & (level > 0)
    return _finish(inputs, level, gamma, selected, e_values, infimum, "mdr")


@jax.jit
def _sdr(inputs: _Inputs, level: Array, gamma: Array, xi: Array) -> ScoreRiskResult:
    test = inputs.test
    m = test.shape[0]
    if m == 0:
        return _nothing(inputs, level, gamma, "sdr")
    path = _path(inputs)
    ends = _ends(path, path.share, gamma)
    covered = (test <= ends.reach) & (path.total > 0)
    # Inverse e-values, as the number of selections that would just accept each: e-BH
    # accepts e at k selections when m / (level e) <= k, an integer comparison.
    same = _ratio(path.total, ends.loss_one + path.own)
    spread = _ratio(1.0, gamma * ends.share_zero)
    e_values = jnp.where(covered, jnp.where(ends.is_same, same, spread), 0.0)
    target = jnp.where(level > 0, level, 1.0)
    size_same = (ends.loss_one + path.own) / jnp.where(covered, path.total, 1.0) * m
    size = jnp.where(
        ends.is_same, size_same / target, ends.share_zero * m * (gamma / target)
    )
    size = xi * size / stats.tie_guard(jnp.float64)
    place = jnp.clip(jnp.ceil(size), 1, m + 1).astype(jnp.int32)
    place = jnp.where(covered & (level > 0), place, m + 1)
    counts = jnp.zeros(m + 2, jnp.int32).at[place].add(1)
    r = jnp.arange(m + 2, dtype=jnp.int32)
    enough = (jnp.cumsum(counts) >= r) & (r <= m)
    cutoff = jnp.max(jnp.where(enough, r, 0))
    return _finish(inputs, level, gamma, place <= cutoff, e_values, e_values, "sdr")


def _checked(
    calibration_losses: ArrayLike,
    calibration_scores: ArrayLike,
    test_scores: ArrayLike,
    level: Any,
    gamma: Any,
    calibration_weights: ArrayLike | None,
    test_weights: ArrayLike | None,
) -> tuple[_Inputs, Any]:
    losses, calibration, test = as_float(
        calibration_losses=calibration_losses,
        calibration_scores=calibration_scores,
        test_scores=test_scores,
    )
    check_rank("calibration_losses", losses, 1, "(n,)")
    check_rank("calibration_scores", calibration, 1, "(n,)")
    check_rank("test_scores", test, 1, "(m,)")
    check_same_length("calibration_losses", losses, "calibration_scores", calibration)
    check_unit_interval("level", level)
    gamma = level if gamma is None else gamma
    check_unit_interval("gamma", gamma)
    if is_concrete(losses) and losses.size:
        host = np.asarray(losses)
        bad = ~((host >= 0) & (host <= 1))
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                "`calibration_losses` must lie in [0, 1], got "
                f"{float(host[row])} at row {row}; divide by the largest loss"
            )
    weights = checked_weights(calibration, test, calibration_weights, test_weights)
    return _Inputs(losses, calibration, test, weights), gamma


def score_mdr(
    calibration_losses: Real[ArrayLike, " n"],
    calibration_scores: Real[ArrayLike, " n"],
    test_scores: Real[ArrayLike, " m"],
    *,
    level: float | Array,
    gamma: float | Array | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
) -> ScoreRiskResult:
    """Predictions to act on so that the expected loss of acting stays below a level.

    L_i in [0, 1] is the loss of acting on row i and s_i a score, small where acting
    looks safe. For an unknown own loss l the threshold t(l) is the largest score with
    (sum_i L_i 1{s_i <= t} + l 1{s <= t}) / (n + 1) <= gamma, and

        E(l) = (n + 1) 1{s <= t(l)} / (sum_i L_i 1{s_i <= t(l)} + l).

    Row j is selected when the infimum of E(l) over l in [0, 1] is at least 1 / level.
    With gamma <= level that is (1 + sum_i L_i 1{s_i <= s_j}) / (n + 1) <= gamma. With
    weights each calibration row counts w_i, the test row its own w_{n+j}, and n + 1
    becomes the sum of the n + 1 weights.

    Guarantee: if the calibration rows and test row j are exchangeable and the score was
    fixed independently of them, the marginal deployment risk E[L_j 1{j selected}] is at
    most `level`, for every j. Weighted: the same under covariate shift with exact
    likelihood ratios. Verified by: `jaxcur verify score_risk`.

    Args:
        calibration_losses: shape (n,), in [0, 1].
        calibration_scores: shape (n,). NaN counts as -inf, which only lowers e-values.
        test_scores: shape (m,). NaN is never selected.
        level: scalar in [0, 1], target risk.
        gamma: scalar in [0, 1], where thresholds are sought; `level` when None. Above
            `level` it selects nothing unless all thresholds up to gamma stay within
            `level`.
        calibration_weights: shape (n,), finite, >= 0, not all zero.
        test_weights: shape (m,), on the same scale.

    Returns:
        A `ScoreRiskResult`.

    Raises:
        ValueError: unequal lengths, wrong rank, a loss outside [0, 1] or NaN, level or
            gamma out of range, only one of the weights or unusable weights.

    Transformations: jit, vmap; level and gamma may be traced. Not differentiable.
    Cost: one sort of n + m scores, O((n + m) log(n + m)) time, O(n + m) memory. Sums
    are taken in float64 whatever the setting; a sum that meets its bound on paper
    counts as meeting it (four ulp of slack), so 0/1 losses are compared exactly up to
    about n * m = 1e9.

    Source: Bai and Jin, "Conformal Selective Prediction with General Risk Control",
    2026.

    Example:
        >>> from jaxcur import conformal
        >>> result = conformal.score_mdr(
        ...     [0, 0, 1, 0], [0.1, 0.3, 0.6, 0.9], [0.2, 0.7], level=0.3
        ... )
        >>> result.selected
        Array([ True, False], dtype=bool)
    """
    inputs, gamma = _checked(
        calibration_losses,
        calibration_scores,
        test_scores,
        level,
        gamma,
        calibration_weights,
        test_weights,
    )
    with jax.enable_x64(True):
        return _mdr(inputs, decimal_float64(level), decimal_float64(gamma))


def score_sdr(
    calibration_losses: Real[ArrayLike, " n"],
    calibration_scores: Real[ArrayLike, " n"],
    test_scores: Real[ArrayLike, " m"],
    *,
    level: float | Array,
    gamma: float | Array | None = None,
    calibration_weights: Real[ArrayLike, " n"] | None = None,
    test_weights: Real[ArrayLike, " m"] | None = None,
    pruning: Pruning = "deterministic",
    key: Array | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
) -> ScoreRiskResult:
    """Predictions to act on so that the mean loss among them stays below a level.

    As `score_mdr`, with the threshold judged by the loss per selected test row: t(l) is
    the largest score with

        (sum_i L_i 1{s_i <= t} + l 1{s_j <= t}) / (n + 1)
            <= gamma (1 + #{k != j : s_k <= t}) / m,

    E_j(l) = (n + 1) 1{s_j <= t(l)} / (sum_i L_i 1{s_i <= t(l)} + l), and e_j is the
    infimum of E_j(l) over l in [0, 1]. It has a closed form: 0 unless s_j <= t(1);
    (n + 1) / (sum_i L_i 1{s_i <= t(1)} + 1) when t(1) = t(0); otherwise
    m / (gamma #{k : s_k <= t(0)}), approached at the loss where the last threshold
    gives way. e-BH at `level` then selects.

    In the last case e-BH needs gamma #{k : s_k <= t(0)} <= level #{k : s_k <= t(1)}, so
    with gamma = level the deterministic form often selects nothing. Choose gamma
    somewhat below `level`, such as 0.9 level, or a randomised pruning. For losses that
    are 0 or 1 only the value at loss 1 matters, and `conformal.select` on the clipped
    scores (+inf where the loss is 0) selects at least as much.

    Guarantee: if the calibration rows and test row j are exchangeable given the other
    test rows (i.i.d. rows suffice) and the score was fixed independently of them, the
    selective deployment risk E[sum_j L_j 1{j selected} / max(1, number selected)] is at
    most `level`, for every pruning. Weighted: the same under covariate shift with exact
    likelihood ratios. Verified by: `jaxcur verify score_risk`.

    Args:
        calibration_losses: shape (n,), in [0, 1].
        calibration_scores: shape (n,). NaN counts as -inf, which only lowers e-values.
        test_scores: shape (m,). NaN is never selected.
        level: scalar in [0, 1], target risk.
        gamma: scalar in [0, 1], where thresholds are sought; `level` when None.
        calibration_weights: shape (n,), finite, >= 0, not all zero.
        test_weights: shape (m,), on the same scale.
        pruning: "deterministic" (e-BH on e), "heterogeneous" or "homogeneous" (e-BH on
            e / xi with xi uniform, one each or one for all), which selects more.
        key: random key for xi.
        xi: the draw itself, in (0, 1], scalar or (m,); ignored when deterministic.

    Returns:
        A `ScoreRiskResult`; `e_values` are before division by xi.

    Raises:
        ValueError: unequal lengths, wrong rank, a loss outside [0, 1] or NaN, level or
            gamma out of range, only one of the weights or unusable weights, a
            randomised pruning without key or xi, or with both.

    Transformations: jit, vmap; level and gamma may be traced. Not differentiable.
    Cost: one sort of n + m scores and, with weights, one binary search a test row:
    O((n + m) log(n + m)) time, O(n + m) memory. Sums as in `score_mdr`.

    Source: Bai and Jin, "Conformal Selective Prediction with General Risk Control",
    2026. Derivation of the closed form: docs/selection-neighbours.md.

    Example:
        >>> from jaxcur import conformal
        >>> losses = [0, 0, 0, 0, 0, 0, 1, 1, 1]
        >>> scores = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        >>> result = conformal.score_sdr(losses, scores, [0.15, 0.25, 0.95], level=0.2)
        >>> result.selected
        Array([ True,  True, False], dtype=bool)
    """
    inputs, gamma = _checked(
        calibration_losses,
        calibration_scores,
        test_scores,
        level,
        gamma,
        calibration_weights,
        test_weights,
    )
    if pruning != "deterministic" and key is not None and xi is not None:
        raise ValueError("pass either `key` or `xi`, not both")
    test = inputs.test
    draw = resolve_xi(pruning, xi, key, test.shape[0], test.dtype)
    with jax.enable_x64(True):
        target = decimal_float64(level)
        return _sdr(inputs, target, decimal_float64(gamma), draw.astype(jnp.float64))
