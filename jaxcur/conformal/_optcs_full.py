"""OptCS without a sample split: fit on labelled rows and candidates together.

Every candidate enters the training data with the label "not interesting". Where its
null is true that label is the true one, so the labelled rows and the candidate are
exchangeable, and leave-one-out scores from a fit that treats all rows alike give valid
p-values while all labelled rows serve for training and for calibration.
"""

from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Real

from jaxcur import learners as learning
from jaxcur import stats
from jaxcur._base import (
    as_float,
    check_choice,
    check_rank,
    check_same_length,
    check_unit_interval,
    is_concrete,
)
from jaxcur.conformal._auxiliary import unweighted_sizes
from jaxcur.conformal._optcs import OptCSResult, optcs_msel
from jaxcur.conformal._prune import PRUNINGS, Pruning, pruned, resolve_xi
from jaxcur.conformal._pvalues import conservative
from jaxcur.conformal._selection import as_level
from jaxcur.conformal._status import (
    BAD_LEVEL,
    NAN_CALIBRATION,
    NAN_TEST,
    UNREACHABLE,
    first_status,
    is_bad_level,
)

Variant = Literal["pooled", "per_candidate"]


def _checked(
    features: ArrayLike, labels: ArrayLike, test_features: ArrayLike
) -> tuple[Array, Array, Array]:
    x, y, x_test = as_float(
        features=features, labels=labels, test_features=test_features
    )
    check_rank("features", x, 2, "(n, d)")
    check_rank("test_features", x_test, 2, "(m, d)")
    check_rank("labels", y, 1, "(n,)")
    check_same_length("labels", y, "features", x)
    if x.shape[1] != x_test.shape[1]:
        raise ValueError(
            "`features` and `test_features` must have the same columns, got "
            f"{x.shape[1]} and {x_test.shape[1]}"
        )
    if x.shape[0] == 0:
        raise ValueError("`labels` must hold at least one labelled row, got 0")
    if is_concrete(y) and not np.isin(np.asarray(y), (0, 1)).all():
        raise ValueError(
            "`labels` must be 0 or 1 (1 = interesting); for numbers pass "
            "`labels > threshold`"
        )
    return x, y, x_test


def _fold_labels(folds: Any, num_folds: int | None, key: Any, size: int) -> Array:
    """Fold of every pooled row, independent of the data."""
    if isinstance(folds, str):
        raise ValueError(
            f"`folds` must be an array of fold numbers, got {folds!r}. Folds balanced "
            "separately among labelled rows and candidates are not offered: a row's "
            "fold would then tell which group it belongs to, and the scores would not "
            "be exchangeable"
        )
    if folds is not None:
        if num_folds is not None:
            raise ValueError("pass either `folds` or `num_folds`, not both")
        array = jnp.asarray(folds)
        if array.shape != (size,) or not jnp.issubdtype(array.dtype, jnp.integer):
            raise ValueError(
                f"`folds` must be integers of shape ({size},), one for each labelled "
                f"row and then each candidate, got {array.dtype} of {array.shape}"
            )
        return array
    if (
        not isinstance(num_folds, (int, np.integer))
        or isinstance(num_folds, bool)
        or not 2 <= num_folds <= size
    ):
        raise ValueError(
            f"`num_folds` must be an integer from 2 to n + m = {size}, got {num_folds}"
        )
    if key is None:
        raise ValueError(
            "cross-fitting draws its folds: pass `key=jax.random.key(...)`, or the "
            "draw itself as `folds`"
        )
    return jax.random.permutation(key, jnp.arange(size) % num_folds)


def _cross_fit(
    learner: Any,
    features: Array,
    target: Array,
    folds: Array,
    num_folds: int | None,
    key: Any,
) -> Array:
    """Prediction for every row by the fit without its fold, (n + m,)."""
    if num_folds is not None:
        values = range(num_folds)
    elif is_concrete(folds):
        values = np.unique(np.asarray(folds)).tolist()
    else:
        raise ValueError(
            "`folds` must be known while tracing, their number fixes the fits; draw "
            "them with `num_folds` and a key, or close over them"
        )
    out = jnp.zeros_like(target)
    for value in values:
        inside = folds == value
        weights = jnp.where(inside, 0.0, 1.0).astype(target.dtype)
        params = learner.fit(features, target, weights, key=key)
        out = jnp.where(inside, learner.predict(params, features), out)
    return out


@jax.jit
def _pool(x: Array, y: Array, x_test: Array) -> tuple[Array, Array]:
    """All rows, and their targets: 0 for candidates."""
    zeros = jnp.zeros(x_test.shape[0], y.dtype)
    return jnp.concatenate([x, x_test]), jnp.concatenate([y, zeros])


def _pooled_predictions(
    learner: Any,
    data: tuple[Array, Array, Array],
    folds: Array | None,
    num_folds: int | None,
    key: Any,
) -> Array:
    """Prediction for every pooled row by a fit without it, (n + m,)."""
    pool, target = _pool(*data)
    if folds is None:
        mu = learning.leave_one_out(learner, pool, target, key=key)
    else:
        mu = _cross_fit(learner, pool, target, folds, num_folds, key)
    return jnp.asarray(mu, target.dtype)


def _pooled_scores(mu: Array, y: Array, bound: float | Array) -> tuple[Array, Array]:
    """Calibration (n,) and test (m,) scores from predictions (n + m,)."""
    n = y.shape[0]
    return jnp.where(y > 0, bound, 0.0) - mu[:n], -mu[n:]


def _bh_size(ranks: Array, thresholds: Array, n: int) -> Array:
    """Size of the Benjamini-Hochberg set of ranks 0..n+1, shape (m,)."""
    cutoff = stats.grid_cutoff(ranks, thresholds, n)
    return jnp.sum(ranks <= cutoff, dtype=jnp.int32)


def _per_candidate(
    learner: Any,
    data: tuple[Array, Array, Array],
    bound: float,
    thresholds: Array,
    key: Any,
) -> tuple[Array, Array, Array]:
    """Rank and size of every candidate from its own n + 1 fits, (m,), and NaN flags."""
    x, y, x_test = data
    n, m = x.shape[0], x_test.shape[0]
    target = jnp.append(y, jnp.zeros((), y.dtype))
    is_null = jnp.append(y <= 0, True)

    def one(j: Array) -> tuple[Array, Array, Array]:
        bag = jnp.concatenate([x, jax.lax.dynamic_slice_in_dim(x_test, j, 1)])
        mu = learning.leave_one_out(learner, bag, target, key=key)
        other = learning.mean_leave_one_out_predict(
            learner, bag, target, x_test, key=key
        )
        scores = jnp.where(is_null, 0.0, bound) - jnp.asarray(mu, y.dtype)
        calibration, own = stats.sort(conservative(scores[:n])), scores[n]
        tests = -jnp.asarray(other, y.dtype)
        joined = (own <= tests).astype(jnp.int32)
        ranks = stats.count_at_most(calibration, tests) + joined
        ranks = jnp.where(jnp.arange(m) == j, jnp.int32(0), ranks)
        # A NaN score is above every number: its rank is n + 1.
        rank = stats.count_at_most(calibration, own) + 1
        unknown = jnp.stack([jnp.isnan(scores[:n]).any(), jnp.isnan(own)])
        return rank, _bh_size(ranks, thresholds, n), unknown

    if m == 0:
        none = jnp.zeros(0, jnp.int32)
        return none, none, jnp.zeros((0, 2), bool)
    if getattr(learner, "on_host", False):
        parts = [one(jnp.asarray(j)) for j in range(m)]
        ranks, sizes, unknown = (jnp.stack(part) for part in zip(*parts))
        return ranks, sizes, unknown
    return jax.lax.map(one, jnp.arange(m))


def optcs_full(
    learner: learning.Learner,
    features: Real[ArrayLike, "n d"],
    labels: Real[ArrayLike, " n"],
    test_features: Real[ArrayLike, "m d"],
    *,
    level: float | Array,
    bound: float = float("inf"),
    variant: Variant = "pooled",
    pruning: Pruning = "homogeneous",
    num_folds: int | None = None,
    key: Array | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
    folds: Any = None,
) -> OptCSResult:
    """Select candidates without splitting the labelled rows, with FDR control.

    "pooled" fits on all n labelled rows and all m candidates, these with label 0, and
    scores every row by the prediction of the fit that left it out (or, with folds, that
    left out its fold). Nothing then depends on the candidate, and the result is
    Benjamini-Hochberg on the p-values, whatever the pruning: no draw is needed.

    "per_candidate" fits, for every candidate, on the labelled rows and that candidate
    only, so other candidates' imputed zeros do not dilute the signal; other candidates
    are scored by the mean of the n + 1 leave-one-out fits, which is symmetric in the
    bag. (Published code scores them by the labelled-only fit, which is not.)

    Guarantee: labelled rows and candidates i.i.d., or each candidate exchangeable with
    the labelled rows given the others, and a learner whose fit does not depend on row
    order (`learners.check_symmetric`): FDR <= level in finite samples. Folds must be
    drawn independently of the data. Verified by: `jaxcur verify optcs/full`.

    Args:
        learner: any object of the `learners` protocol.
        features: shape (n, d), labelled rows.
        labels: shape (n,), 0 or 1; 1 = interesting.
        test_features: shape (m, d), candidates.
        level: scalar in [0, 1], target FDR.
        bound: score added to a labelled row with label 1; inf is exact.
        variant: "pooled" or "per_candidate".
        pruning: see `optcs_msel`; matters for "per_candidate" only.
        num_folds: "pooled" only: cross-fit over so many random folds of the pool
            instead of leaving one out; needs a key.
        key: random key: folds, fits of a randomised learner, pruning.
        xi: the pruning draw itself.
        folds: the fold draw itself, int, shape (n + m,): labelled rows first.

    Returns:
        OptCSResult with `chosen_model` 0.

    Raises:
        ValueError: labels other than 0 and 1, unequal shapes, level out of range, no
            labelled row, a missing draw, folds balanced by group.

    Transformations: jit over the arrays (learners on the host: none).
    Cost: "pooled": n + m fits, or the learner's closed form (ridge: one factorisation),
        or num_folds fits. "per_candidate": m (n + 1) fits or m closed forms.

    Source: the OptCS paper (Optimized Conformal Selection).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import conformal, learners
        >>> x = jnp.linspace(-1, 1, 20)[:, None]
        >>> result = conformal.optcs_full(
        ...     learners.Ridge(0.1),
        ...     x, x[:, 0] > 0, jnp.array([[2.0], [-2.0]]),
        ...     level=0.2,
        ... )
        >>> result.selected
        Array([ True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    check_choice("variant", variant, ("pooled", "per_candidate"))
    check_choice("pruning", pruning, PRUNINGS)
    data = _checked(features, labels, test_features)
    n, m = data[0].shape[0], data[2].shape[0]
    key_folds, key_fit, key_xi = _three_keys(key)
    fold_labels = None
    if folds is not None or num_folds is not None:
        if variant != "pooled":
            raise ValueError("`folds` and `num_folds` apply to variant='pooled'")
        fold_labels = _fold_labels(folds, num_folds, key_folds, n + m)
    thresholds = stats.grid_thresholds(level, n, m)
    target = as_level(level, data[1].dtype)
    if variant == "pooled":
        mu = _pooled_predictions(learner, data, fold_labels, num_folds, key_fit)
        return _pooled_result(mu, data[1], bound, thresholds, target)
    draw = resolve_xi(pruning, xi, key_xi if xi is None else None, m, data[1].dtype)
    ranks, sizes, unknown = _per_candidate(learner, data, bound, thresholds, key_fit)
    return _assemble(ranks, sizes, unknown, thresholds, target, draw, n)


@jax.jit(static_argnames=("n",))
def _assemble(
    ranks: Array,
    sizes: Array,
    unknown: Array,
    thresholds: Array,
    level: Array,
    xi: Array,
    n: int,
) -> OptCSResult:
    m = ranks.shape[0]
    bad_level = is_bad_level(level)
    if m:
        first = (ranks <= thresholds[sizes - 1]) & ~bad_level & ~unknown[:, 1]
        unreachable = thresholds[-1] < 1
    else:
        first, unreachable = jnp.zeros(0, bool), False
    scale = level * sizes.astype(level.dtype)
    return OptCSResult(
        selected=pruned(first, sizes, jnp.ones((), level.dtype), xi),
        p_values=ranks.astype(level.dtype) / (n + 1),
        chosen_model=jnp.zeros(m, jnp.int32),
        auxiliary_sizes=sizes,
        first_step=first,
        e_values=jnp.where(first, m / jnp.where(first, scale, 1.0), 0.0),
        status=first_status(
            (bad_level, BAD_LEVEL),
            (unknown[:, 0].any(), NAN_CALIBRATION),
            (unknown[:, 1].any(), NAN_TEST),
            (unreachable, UNREACHABLE),
        ),
        level=level,
        method="optcs",
    )


@jax.jit
def _pooled_result(
    mu: Array, y: Array, bound: float | Array, thresholds: Array, level: Array
) -> OptCSResult:
    """The selection from one model of all candidates: every pruning gives this set."""
    scores, tests = _pooled_scores(mu, y, bound)
    sizes, counts = unweighted_sizes(scores, tests, thresholds, strict=False)
    unlabelled = jnp.isnan(tests)
    labelled = jnp.broadcast_to(jnp.isnan(scores).any(), unlabelled.shape)
    unknown = jnp.stack([labelled, unlabelled], axis=1)
    one = jnp.ones((), level.dtype)
    return _assemble(counts + 1, sizes, unknown, thresholds, level, one, y.shape[0])


def _three_keys(key: Any) -> tuple[Any, Any, Any]:
    if key is None:
        return None, None, None
    key_folds, key_fit, key_xi = jax.random.split(key, 3)
    return key_folds, key_fit, key_xi


def optcs_full_msel(
    learners: Sequence[learning.Learner],
    features: Real[ArrayLike, "n d"],
    labels: Real[ArrayLike, " n"],
    test_features: Real[ArrayLike, "m d"],
    *,
    level: float | Array,
    bound: float = float("inf"),
    pruning: Pruning = "homogeneous",
    beta: float | Array = 1.0,
    num_folds: int | None = None,
    key: Array | None = None,
    xi: Real[ArrayLike, "..."] | None = None,
    folds: Any = None,
) -> OptCSResult:
    """Choose among learners and select, without splitting the labelled rows.

    The pooled leave-one-out scores of every learner (`optcs_full`), then the choice and
    the pruning of `optcs_msel`.

    Guarantee: that of `optcs_full`, for any number of learners.
    Verified by: `jaxcur verify optcs/full-msel`.

    Args:
        learners: K objects of the `learners` protocol.
        features: shape (n, d), labelled rows.
        labels: shape (n,), 0 or 1; 1 = interesting.
        test_features: shape (m, d), candidates.
        level: scalar in [0, 1], target FDR.
        bound: score added to a labelled row with label 1; inf is exact.
        pruning: see `optcs_msel`.
        beta: scalar in (0, 1].
        num_folds: cross-fit over random folds instead of leaving one out.
        key: random key: folds, fits, pruning; required unless deterministic or `xi`.
        xi: the pruning draw itself.
        folds: the fold draw itself, int, shape (n + m,).

    Returns:
        OptCSResult.

    Raises:
        ValueError: as `optcs_full` and `optcs_msel`; no learner.

    Transformations: jit over the arrays (learners on the host: none).
    Cost: K times the pooled scores, then O(K (n + m) log(n + m)).

    Source: the OptCS paper (Optimized Conformal Selection).

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import conformal, learners
        >>> x = jnp.linspace(-1, 1, 20)[:, None]
        >>> result = conformal.optcs_full_msel(
        ...     [learners.Ridge(0.1), learners.KNN(3)],
        ...     x, x[:, 0] > 0, jnp.array([[2.0], [-2.0]]),
        ...     level=0.2, key=jax.random.key(0),
        ... )
        >>> result.selected
        Array([ True, False], dtype=bool)
    """
    check_unit_interval("level", level)
    check_choice("pruning", pruning, PRUNINGS)
    if len(learners) == 0:
        raise ValueError("`learners` must hold at least one learner, got none")
    data = _checked(features, labels, test_features)
    size = data[0].shape[0] + data[2].shape[0]
    key_folds, key_fit, key_xi = _three_keys(key)
    fold_labels = None
    if folds is not None or num_folds is not None:
        fold_labels = _fold_labels(folds, num_folds, key_folds, size)
    pairs = [
        _pooled_scores(
            _pooled_predictions(learner, data, fold_labels, num_folds, key_fit),
            data[1],
            bound,
        )
        for learner in learners
    ]
    calibration, test = (jnp.stack(part) for part in zip(*pairs))
    return optcs_msel(
        calibration,
        test,
        level=level,
        pruning=pruning,
        beta=beta,
        key=key_xi if xi is None else None,
        xi=xi,
    )
