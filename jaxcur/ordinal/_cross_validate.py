"""Choice of the strength by cross-validation, with rare classes in every fold."""

import dataclasses
import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Int, Real

from jaxcur._base import check_choice, is_concrete, register_dataclass
from jaxcur.ordinal._families import class_probabilities
from jaxcur.ordinal._fit import prepare, strengths
from jaxcur.ordinal._inputs import check_key
from jaxcur.ordinal._penalties import Penalty
from jaxcur.ordinal._result import INVALID, OrdinalPath, OrdinalResult
from jaxcur.ordinal._solve import Setting, solve_path

CRITERIA = ("brier", "logloss", "rare_brier", "rps", "misclass")
RULES = ("min", "one_se")


@register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossValidationResult:
    """Scores of a path on held-out rows; smaller is better.

    Attributes:
        mean_scores: shape (l,), mean over folds.
        fold_scores: shape (l, num_folds), weighted mean over the fold's rows.
        std_errors: shape (l,), of `mean_scores`, over folds.
        regularizations: shape (l,).
        selected: scalar int, position of the chosen strength.
        folds: shape (n,), the fold in which each row was held out.
        status: shape (l, num_folds), of the fits.
        path: fits to all rows at the same strengths.
        criterion: static.
        rule: static.
    """

    mean_scores: Array
    fold_scores: Array
    std_errors: Array
    regularizations: Array
    selected: Array
    folds: Array
    status: Array
    path: OrdinalPath
    criterion: str = dataclasses.field(metadata={"static": True})
    rule: str = dataclasses.field(metadata={"static": True})

    @property
    def result(self) -> OrdinalResult:
        """The fit to all rows at the chosen strength."""
        return self.path.at(self.selected)


def row_scores(criterion: str, probs: Array, y: Array) -> Array:
    """Loss of predicted probabilities (n, k) at responses (n,)."""
    k = probs.shape[1]
    truth = jnp.arange(k) == y[:, None]
    if criterion == "brier":
        return jnp.sum((truth - probs) ** 2, axis=1)
    if criterion == "rare_brier":
        return (truth[:, -1] - probs[:, -1]) ** 2
    if criterion == "rps":
        gaps = jnp.cumsum(truth - probs, axis=1)[:, :-1]
        return jnp.sum(gaps**2, axis=1)
    if criterion == "misclass":
        return (jnp.argmax(probs, axis=1) != y).astype(probs.dtype)
    own = jnp.take_along_axis(probs, y[:, None], axis=1)[:, 0]
    return -jnp.log(jnp.maximum(own, 0))


@functools.partial(jax.jit, static_argnames=("setting", "criterion", "num_folds"))
def _fold_scores(
    setting: Setting,
    criterion: str,
    num_folds: int,
    features: Array,
    y: Array,
    weights: Array,
    folds: Array,
    penalty: tuple[Array, Array, Array],
    regularizations: Array,
    rtol: Array,
    box: tuple[Array, Array] | None,
) -> tuple[Array, Array]:
    """(l, num_folds) scores and statuses; a fold is rows of weight zero."""

    def one(fold: Array) -> tuple[Array, Array]:
        held = folds == fold
        fits = solve_path(
            setting,
            features,
            y,
            jnp.where(held, 0, weights),
            *penalty,
            regularizations,
            jnp.asarray(False),
            rtol,
            box,
        )
        share = jnp.where(held, weights, 0)

        def score(intercepts: Array, coefficients: Array) -> Array:
            eta = intercepts + features @ coefficients
            probs = class_probabilities(setting.family, setting.link, eta)
            losses = row_scores(criterion, probs, y)
            total = jnp.sum(jnp.where(share > 0, share * losses, 0))
            return total / jnp.sum(share)

        scores = jax.vmap(score)(fits.intercepts, fits.coefficients)
        return jnp.where(fits.status == INVALID, jnp.nan, scores), fits.status

    scores, status = jax.lax.map(one, jnp.arange(num_folds))
    return scores.T, status.T


def _stratified(y: Array, uniforms: Array, num_folds: int) -> Array:
    """Deal the rows of each class out in turn, in random order within the class."""
    order = jnp.lexsort((uniforms, y))
    dealt = jnp.arange(y.size) % num_folds
    return jnp.zeros(y.size, jnp.int32).at[order].set(dealt.astype(jnp.int32))


def _make_folds(
    y: Array, num_folds: int, stratify: bool, key: Any, folds: Any
) -> tuple[Array, int]:
    n = y.shape[0]
    if folds is not None:
        if key is not None:
            raise ValueError("pass either `key` or `folds`, not both")
        given = jnp.asarray(folds)
        if given.shape != (n,) or not jnp.issubdtype(given.dtype, jnp.integer):
            raise ValueError(f"`folds` must hold integers of shape ({n},)")
        if is_concrete(given):
            host = np.asarray(given)
            used = np.unique(host)
            if used[0] != 0 or used[-1] != used.size - 1 or used.size < 2:
                raise ValueError("`folds` must use 0..F-1, each, with F at least 2")
            num_folds = used.size
        return given.astype(jnp.int32), int(num_folds)
    if not isinstance(num_folds, int) or not 2 <= num_folds <= n:
        raise ValueError(f"`num_folds` must lie in 2..{n}, got {num_folds!r}")
    if key is None:
        raise ValueError(
            "folds are drawn at random: pass `key=jax.random.key(...)`, or `folds`"
        )
    uniforms = jax.random.uniform(check_key(key), (n,))
    if stratify:
        return _stratified(y, uniforms, num_folds), num_folds
    return _stratified(jnp.zeros_like(y), uniforms, num_folds), num_folds


def _check_training_classes(
    y: Array, weights: Array, folds: Array, num_classes: int, num_folds: int
) -> None:
    if not is_concrete(y, weights, folds):
        return
    host, fold = np.asarray(y), np.asarray(folds)
    present = np.asarray(weights) > 0
    counts = np.zeros((num_classes, num_folds), int)
    np.add.at(counts, (host[present], fold[present]), 1)
    lost = (counts.sum(axis=1, keepdims=True) - counts) == 0
    if lost.any():
        k, f = np.argwhere(lost)[0]
        raise ValueError(
            f"leaving out fold {f} leaves no row of class {k} to learn from; use other "
            "folds, or merge the class with a neighbour"
        )
    rare = int(counts.sum(axis=1).min())
    if rare < num_folds:
        warnings.warn(
            f"class {int(counts.sum(axis=1).argmin())} has {rare} rows for "
            f"{num_folds} folds: some folds do not test it",
            UserWarning,
            stacklevel=3,
        )


def cross_validate(
    X: Real[ArrayLike, "n p"],
    y: Int[ArrayLike, " n"],
    *,
    num_classes: int,
    penalty: Penalty | None = None,
    num_folds: int = 5,
    criterion: str = "brier",
    rule: str = "min",
    stratify: bool = True,
    key: Any = None,
    folds: Int[ArrayLike, " n"] | None = None,
    num_regularizations: int = 20,
    ratio: Real[ArrayLike, ""] = 0.01,
    regularizations: Real[ArrayLike, " l"] | None = None,
    family: str = "cumulative",
    link: str = "logit",
    weights: Real[ArrayLike, " n"] | None = None,
    standardize: bool = True,
    crossing: str = "own",
    box: tuple[Any, Any] | None = None,
    rtol: Real[ArrayLike, ""] | None = None,
    max_steps: int = 100,
) -> CrossValidationResult:
    """Score a path of strengths on held-out rows and choose one.

    Each fold is fitted with its rows at weight 0, standardisation included, and scored
    with the probabilities of `predict_proba(..., repair="none")`, so that a fit whose
    boundaries cross at held-out rows is scored as it is: a negative probability of the
    observed class has an infinite log-loss, and counts fully in the Brier score.

    Heuristic: no finite-sample guarantee on the chosen strength.

    Args:
        X: shape (n, p).
        y: shape (n,), classes 0..num_classes-1, the last the rare one for `rare_brier`.
        num_classes: number of classes. Static.
        penalty: as in `fit`.
        num_folds: number of folds. Static.
        criterion: "brier" (sum over classes), "logloss", "rare_brier" (last class),
            "rps" (cumulative probabilities) or "misclass". Static.
        rule: "min", the largest strength of smallest mean score, or "one_se", the
            largest within one standard error of it. Static.
        stratify: deal every class out evenly; a plain split can leave a fold without a
            rare class. Static.
        key: draws the folds.
        folds: shape (n,), the folds themselves, 0..F-1.
        num_regularizations: as in `path`.
        ratio: as in `path`.
        regularizations: as in `path`.
        family: as in `fit`.
        link: as in `fit`.
        weights: as in `fit`; they weight the scores too.
        standardize: as in `fit`.
        crossing: as in `fit`.
        box: as in `fit`; by default the ranges over all rows, held out or not.
        rtol: as in `fit`.
        max_steps: as in `fit`.

    Returns:
        `CrossValidationResult`; `.result` is the fit to all rows at that strength.

    Raises:
        ValueError: neither or both of `key` and `folds`, a training set that lacks a
            class, an unknown option, or what `fit` raises.

    Transformations: jit, with `folds` concrete or `num_folds` theirs; vmap.
    Cost: num_folds + 1 paths.

    Source: as `fit`. The released code of the paper scores folds with differences of
    coefficients taken for coefficients.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxcur import ordinal
        >>> x = jax.random.normal(jax.random.key(0), (90, 2))
        >>> noise = jax.random.logistic(jax.random.key(1), (90,))
        >>> y = jnp.digitize(x[:, 0] + noise, jnp.array([0.0, 1.5]))
        >>> chosen = ordinal.cross_validate(
        ...     x, y, num_classes=3, key=jax.random.key(2), num_regularizations=6
        ... )
        >>> chosen.mean_scores.shape
        (6,)
    """
    check_choice("criterion", criterion, CRITERIA)
    check_choice("rule", rule, RULES)
    problem = prepare(
        X,
        y,
        num_classes=num_classes,
        penalty=penalty,
        family=family,
        link=link,
        weights=weights,
        standardize=standardize,
        crossing=crossing,
        box=box,
        rtol=rtol,
        max_steps=max_steps,
    )
    assigned, num_folds = _make_folds(problem.y, num_folds, stratify, key, folds)
    _check_training_classes(
        problem.y, problem.weights, assigned, num_classes, num_folds
    )
    values, relative = strengths(problem, regularizations, num_regularizations, ratio)
    path = problem.solve(values, relative=relative)
    grid = jax.lax.stop_gradient(path.regularizations)
    blocks = problem.blocks
    scores, status = _fold_scores(
        problem.setting,
        criterion,
        num_folds,
        problem.features,
        problem.y,
        problem.weights,
        assigned,
        (blocks.weights, jnp.asarray(blocks.free), blocks.l1_ratio),
        grid,
        problem.rtol,
        problem.box,
    )
    mean = jnp.mean(scores, axis=1)
    spread = jnp.std(scores, axis=1, ddof=1) / num_folds**0.5
    comparable = jnp.where(jnp.isnan(mean), jnp.inf, mean)
    best = jnp.argmin(comparable)
    bound = comparable[best]
    if rule == "one_se":
        bound = bound + jnp.where(jnp.isfinite(spread[best]), spread[best], 0)
    # Among those good enough, the largest strength, in whatever order they came.
    good = comparable <= bound
    selected = jnp.argmax(jnp.where(good, grid, -jnp.inf))
    return CrossValidationResult(
        mean,
        scores,
        spread,
        grid,
        selected,
        assigned,
        status,
        path,
        criterion,
        rule,
    )
