"""Several learners combined with weights learned from out-of-fold predictions."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from jaxtyping import Float, Int, Real

from jaxcur._base import is_concrete, register_dataclass
from jaxcur.learners._compile import run_compiled
from jaxcur.learners._leave_one_out import check_learner, is_on_host
from jaxcur.learners._nnls import nonnegative_least_squares
from jaxcur.learners._protocol import prepare
from jaxcur.stats import ranks


class StackingParams(NamedTuple):
    """A fitted combination.

    Attributes:
        combination: shape (p,), the nonnegative weight of each learner.
        fitted: what each learner learned from all rows, a tuple of p params.
    """

    combination: Array
    fitted: tuple[Any, ...]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Stacking:
    """A nonnegative combination of learners, chosen by out-of-fold predictions.

    The rows are split into folds; every learner predicts each fold from the others. The
    combination is the nonnegative least-squares regression, without intercept, of the
    target on these predictions. All learners are then fitted to all rows.

    The combination has seen every target. Where a prediction must not depend on the
    row's own target, cross-fit the `Stacking` itself, not its parts.

    The folds are drawn with the `key` of `fit`, or given to it. A key ties a fold to
    the place of a row, so the fit is *not* a function of the set of rows; wrapped as
    `learners.SortedRows(learners.Stacking(...))` it is one.

    Heuristic: no finite-sample guarantee on the predictions.

    Args:
        learners: at least one learner with one prediction per row; a tuple or list.
        num_folds: at least 2. Static.
        sum_to_one: whether the weights of the learners are held to sum to one, so that
            learners that predict in an interval stay in it together. Static.

    Raises:
        ValueError: no learner, or `num_folds` below 2; by `fit`: neither key nor folds,
            or fewer rows of positive weight than folds.
        TypeError: a learner does not follow the protocol.

    Transformations: jit, vmap, unless a learner runs on the host. Not differentiable.
    Cost: `num_folds + 1` fits of each learner, and O(n p^2) for the combination.

    Source: Breiman, "Stacked regressions", Machine Learning 1996; the solver is that of
    Lawson and Hanson, "Solving Least Squares Problems", 1974.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxcur import learners
        >>> x = jnp.linspace(0.0, 1.0, 40)[:, None]
        >>> y = 3 - 2 * x[:, 0]
        >>> stack = learners.Stacking((learners.Ridge(0.0), learners.Isotonic()))
        >>> params = stack.fit(x, y, key=jax.random.key(0))
        >>> params.combination.round(2) + 0.0  # a rising curve fits a line down badly
        Array([1., 0.], dtype=float32)
    """

    learners: Any
    _: dataclasses.KW_ONLY
    num_folds: int = dataclasses.field(default=5, metadata={"static": True})
    sum_to_one: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        if isinstance(self.learners, list):
            object.__setattr__(self, "learners", tuple(self.learners))
        if self.learners == ():
            raise ValueError("`learners` must hold at least one learner, got none")
        if (
            isinstance(self.num_folds, bool)
            or not isinstance(self.num_folds, int)
            or self.num_folds < 2
        ):
            raise ValueError(
                f"`num_folds` must be an integer of at least 2, got {self.num_folds!r}"
            )

    @property
    def on_host(self) -> bool:
        """Whether one of the learners runs outside JAX."""
        return any(is_on_host(learner) for learner in self.learners)

    def fit(
        self,
        features: Real[ArrayLike, "n d"],
        target: Real[ArrayLike, " n"],
        weights: Real[ArrayLike, " n"] | None = None,
        *,
        key: Any = None,
        folds: Int[ArrayLike, " n"] | None = None,
    ) -> StackingParams:
        """The combination and the learners fitted to all rows.

        Args:
            features: shape (n, d).
            target: shape (n,).
            weights: shape (n,), row counts; ones when missing.
            key: draws the folds unless they are given, and is passed to the learners.
            folds: shape (n,), integers from 0 to num_folds - 1.
        """
        for learner in self.learners:
            check_learner(learner)
        features, target, weights = prepare(features, target, weights)
        key_fit = key
        if folds is None:
            if key is None:
                raise ValueError(
                    "stacking draws folds: pass `key=jax.random.key(...)`, "
                    "or the draw itself as `folds`"
                )
            self._check_count(weights)
            key_folds, key_fit = jax.random.split(key)
            places = _draw_folds(key_folds, weights, self.num_folds)
        else:
            places = self._check_folds(folds, features)
        columns = jnp.stack(
            [
                self._out_of_fold(learner, features, target, weights, places, key_fit)
                for learner in self.learners
            ],
            axis=1,
        )
        combination = _combine(columns, target, weights, sum_to_one=self.sum_to_one)
        fitted = tuple(
            learner.fit(features, target, weights, key=key_fit)
            for learner in self.learners
        )
        return StackingParams(combination, fitted)

    def predict(
        self, params: StackingParams, features: Real[ArrayLike, "m d"]
    ) -> Float[Array, " m"]:
        """The combination of the learners' predictions."""
        parts = [
            jnp.asarray(learner.predict(fitted, features))
            for learner, fitted in zip(self.learners, params.fitted, strict=True)
        ]
        columns = jnp.stack(parts, axis=1).astype(params.combination.dtype)
        return jnp.sum(columns * params.combination[None, :], axis=1)

    def _check_count(self, weights: Array) -> None:
        if not is_concrete(weights):
            return
        count = int((np.asarray(weights) > 0).sum())
        if count < self.num_folds:
            raise ValueError(
                f"`num_folds` is {self.num_folds}, but only {count} rows have positive "
                "weight; use fewer folds"
            )

    def _check_folds(self, folds: Any, features: Array) -> Array:
        places = jnp.asarray(folds)
        if places.shape != features.shape[:1]:
            raise ValueError(
                f"`folds` must have shape {features.shape[:1]}, got {places.shape}"
            )
        if not jnp.issubdtype(places.dtype, jnp.integer):
            raise TypeError(f"`folds` must hold integers, got dtype {places.dtype}")
        host = np.asarray(places) if is_concrete(places) else np.zeros(0)
        if not ((host >= 0) & (host < self.num_folds)).all():
            raise ValueError(
                f"`folds` must lie between 0 and num_folds - 1 = {self.num_folds - 1}, "
                f"got values from {host.min()} to {host.max()}"
            )
        return places.astype(jnp.int32)

    def _out_of_fold(
        self,
        learner: Any,
        features: Array,
        target: Array,
        weights: Array,
        places: Array,
        key: Any,
    ) -> Array:
        """For each row, the prediction by the fit on the other folds, shape (n,)."""
        if not is_on_host(learner):
            return run_compiled(
                _predict_folds,
                learner,
                features,
                target,
                weights,
                places,
                key,
                num_folds=self.num_folds,
            )
        if not is_concrete(features, target, weights, places):
            raise TypeError(
                f"{type(learner).__name__} runs on the host and cannot be traced by "
                "jit or vmap; call the Stacking outside"
            )
        folds, labels, counts = (np.asarray(x) for x in (places, target, weights))
        rows = np.asarray(features)
        values = np.zeros(len(folds), labels.dtype)
        for fold in np.unique(folds):
            own = folds == fold
            params = learner.fit(
                rows,
                np.where(own, 0, labels),
                np.where(own, 0, counts),
                key=None if key is None else jax.random.fold_in(key, int(fold)),
            )
            found = np.asarray(learner.predict(params, rows[own]))
            _check_one_value(learner, found.shape, int(own.sum()))
            values[own] = found
        return jnp.asarray(values)


def _check_one_value(learner: Any, shape: tuple[int, ...], n: int) -> None:
    if shape != (n,):
        raise ValueError(
            "`learners` must predict one value per row; "
            f"{type(learner).__name__} gives shape {shape} for {n} rows"
        )


def _predict_folds(learner, features, target, weights, places, key, *, num_folds):
    def one(fold: Array) -> Array:
        kept = places != fold
        params = learner.fit(
            features,
            # A target that is not in the fit is not shown to the learner either.
            jnp.where(kept, target, 0),
            jnp.where(kept, weights, 0),
            key=None if key is None else jax.random.fold_in(key, fold),
        )
        found = jnp.asarray(learner.predict(params, features))
        _check_one_value(learner, found.shape, features.shape[0])
        return found

    found = jax.vmap(one)(jnp.arange(num_folds, dtype=jnp.int32))
    return jnp.take_along_axis(found, places[None, :], axis=0)[0]


def _draw_folds(key: Any, weights: Array, num_folds: int) -> Array:
    """Folds in which the numbers of present rows differ by at most one."""
    draws = jax.random.uniform(key, weights.shape)
    # Absent rows come last and so leave the folds of the present ones balanced.
    place = ranks(jnp.where(weights > 0, draws, 2), ties="ordinal")
    return place % num_folds


@jax.jit(static_argnames=("sum_to_one",))
def _combine(columns, target, weights, *, sum_to_one):
    # A row that is absent may have no prediction; it must not spoil the others.
    present = weights > 0
    columns = jnp.where(present[:, None], columns, 0)
    target = jnp.where(present, target, 0)
    return nonnegative_least_squares(columns, target, weights, sum_to_one=sum_to_one)
