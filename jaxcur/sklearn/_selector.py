"""A selector of candidates with scikit-learn's interface."""

import warnings
from typing import Any, Literal

import jax
import numpy as np
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from jaxcur import conformal
from jaxcur._base import check_choice, check_unit_interval
from jaxcur.conformal import OptCSResult, SelectionResult
from jaxcur.sklearn._members import (
    FLOATS,
    as_learner,
    default_for_full,
    default_for_split,
    fit_member,
    is_frozen,
    is_list,
    is_sklearn,
    members_of,
)

Pruning = Literal["homogeneous", "heterogeneous", "deterministic"]

_METHODS = ("split", "full")
_PRUNINGS = ("homogeneous", "heterogeneous", "deterministic")


class ConformalSelector(BaseEstimator):
    """Marks the rows whose label exceeds a threshold, with FDR control.

    `fit` takes rows with labels; `predict` takes candidates, whose labels nobody has
    seen, and returns True for those to act on. At most the share `level` of the marked
    candidates is expected to be wrong, however good or bad the estimator is.

    The selection is *joint*: whether a candidate is marked depends on the other rows
    of the same call, as in every procedure that controls the false discovery rate. Pass
    all candidates at once; the promise is about the candidates of one call together.

    `method="split"` fits the estimator on one part of the rows and calibrates on the
    rest. `method="full"` holds nothing out: rows and candidates are fitted together,
    one left out at a time, when `predict` is called. With a *list* of estimators either
    method chooses among them for each candidate, without the choice spending the
    guarantee (OptCS).

    Guarantee: rows of `fit` and candidates i.i.d. (or each candidate exchangeable with
    the rows, given the others): FDR <= level for every sample size and estimator.
    Verified by: `jaxcur verify select`, `jaxcur verify optcs`.

    Anything that tunes the estimator must stay inside it: GridSearchCV(Ridge(), ...) as
    `estimator` sees the training part only. A search around the selector would choose
    by the rows that calibrate, and lose the guarantee; hence there is no `score`.

    Args:
        estimator: a scikit-learn regressor (learns the label), a classifier (learns
            whether the label exceeds the threshold), an object of `jaxcur.learners`
            (likewise), or a list of these. None: ridge regression. A
            `sklearn.frozen.FrozenEstimator` is not fitted again: with "split", if all
            are frozen, every row calibrates, and these must be rows that it was not
            fitted on.
        threshold: a label is interesting when it is greater. To look for small labels,
            change the sign of labels and threshold.
        level: target FDR, in [0, 1].
        method: "split" or "full". "full" refits once for each row and candidate, in one
            formula for learners like `learners.Ridge`, in a loop for estimators of
            scikit-learn, which then see rows in an order fixed by their values.
        calibration_size: "split" only: share (float) or number (int) of rows that
            calibrate, drawn at random.
        pruning: lists only: "homogeneous", "heterogeneous" or "deterministic", see
            `conformal.optcs_msel`.
        num_folds: "full" only: fit without one of so many random folds in turn, instead
            of without one row.
        random_state: int, RandomState or None; draws the split, and a seed for whatever
            "full" or pruning draw, once in `fit`: calling `predict` again on the same
            candidates marks the same ones. With "split" estimators keep their own;
            with "full" they get one drawn from it.

    Attributes:
        estimators_: fitted estimators, in the order given ("split"; learners as they
            were given).
        calibration_scores_: shape (K, n), for each estimator ("split"). Smaller is
            stronger evidence for selecting.
        n_calibration_: number of rows that calibrate; all rows for "full".
        n_features_in_: number of columns seen in `fit`.
        feature_names_in_: shape (n_features_in_,), column names seen in `fit`, when all
            are strings.

    Raises:
        ValueError: an option is out of range, or rows and labels do not fit together.
        TypeError: `estimator` is nothing that can be fitted.

    Cost: "split": the fits, then O((n + m) log n). "full": n + m fits, or the learner's
        closed form, in every call of `predict`.

    Source: Jin and Candes, "Selection by Prediction with Conformal p-values", JMLR
    2023; lists and "full": the OptCS paper (Optimized Conformal Selection).

    Example:
        >>> import numpy as np
        >>> from jaxcur.sklearn import ConformalSelector
        >>> rng = np.random.default_rng(1)
        >>> X = rng.normal(size=(500, 3))
        >>> y = X[:, 0] + 0.3 * rng.normal(size=500)
        >>> selector = ConformalSelector(threshold=0.5, level=0.1, random_state=0)
        >>> marked = selector.fit(X[:300], y[:300]).predict(X[300:])
        >>> marked.shape, int(marked.sum()), int((y[300:][marked] <= 0.5).sum())
        ((200,), 70, 11)
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        threshold: float = 0.0,
        level: float = 0.1,
        method: Literal["split", "full"] = "split",
        calibration_size: float | int = 0.5,
        pruning: Pruning = "homogeneous",
        num_folds: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.threshold = threshold
        self.level = level
        self.method = method
        self.calibration_size = calibration_size
        self.pruning: Any = pruning
        self.num_folds = num_folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "ConformalSelector":
        """Fit and calibrate on rows with labels.

        Args:
            X: shape (n, d): array, data frame, or whatever the estimator reads
                ("split"); numbers ("full").
            y: shape (n,), numbers.

        Returns:
            The selector.
        """
        check_unit_interval("level", self.level)
        check_choice("method", self.method, _METHODS)
        check_choice("pruning", self.pruning, _PRUNINGS)
        if not np.isfinite(self.threshold):
            raise ValueError(f"`threshold` must be finite, got {self.threshold}")
        if self.num_folds is not None and not self.num_folds >= 2:
            raise ValueError(f"`num_folds` must be at least 2, got {self.num_folds}")
        random_state = check_random_state(self.random_state)
        self._has_several = is_list(self.estimator)
        if self.method == "split":
            self._fit_split(X, y, random_state)
        else:
            self._fit_full(X, y)
        self._seed = int(random_state.randint(np.iinfo(np.int32).max))
        if self.level * (self.n_calibration_ + 1) < 1:
            warnings.warn(
                f"level {self.level} is below 1/(n + 1) with the "
                f"{self.n_calibration_} rows that calibrate: nothing can be selected",
                UserWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Mark candidates, all of them together.

        Args:
            X: shape (m, d), candidates.

        Returns:
            shape (m,), bool; True where the candidate is selected.
        """
        return np.array(self.select(X).selected)

    def p_values(self, X: Any) -> np.ndarray:
        """Conformal p-values of candidates; small is evidence for a large label.

        With one estimator and "split" each depends on its own row only. Otherwise on
        the other candidates too.

        Args:
            X: shape (m, d), candidates.

        Returns:
            shape (m,), in (0, 1].
        """
        return np.array(self.select(X).p_values)

    def select(self, X: Any) -> SelectionResult | OptCSResult:
        """Mark candidates, with all there is to say about the selection.

        Args:
            X: shape (m, d), candidates.

        Returns:
            What the function underneath returns: `conformal.select` for one estimator
            with "split", else `conformal.optcs_msel`, `conformal.optcs_full` or
            `conformal.optcs_full_msel`.
        """
        check_is_fitted(self)
        # scikit-learn computes in float64; in float32 distinct scores could tie.
        with jax.enable_x64(True):
            fitted = self._split_result if self._members is not None else self._full
            result = fitted(X, jax.random.key(self._seed))
        if "NaN" in result.message:
            warnings.warn(result.message, UserWarning, stacklevel=2)
        return result

    def _fit_split(self, X: Any, y: Any, random_state: np.random.RandomState) -> None:
        members = members_of(self.estimator, default_for_split())
        # Only the names and the number of columns: the estimator may read more kinds
        # of tables than arrays, and says itself what it cannot read.
        validate_data(self, X, y, skip_check_array=True)
        y = _numbers(y)
        parts: Any = (None, X, y, y)
        if not all(is_frozen(member) for member in members):
            parts = train_test_split(
                X, y, test_size=self.calibration_size, random_state=random_state
            )
        X_train, X_calibration, y_train, y_calibration = parts
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        with jax.enable_x64(True):
            key = jax.random.key(seed)
            fitted = [
                fit_member(member, X_train, y_train, self.threshold, key)
                for member in members
            ]
            scores = [
                member.calibration_scores(X_calibration, y_calibration)
                for member in fitted
            ]
        self._members = fitted
        self.estimators_ = [member.fitted for member in fitted]
        self.calibration_scores_ = np.stack(scores)
        self.n_calibration_ = self.calibration_scores_.shape[1]

    def _split_result(self, X: Any, key: Any) -> SelectionResult | OptCSResult:
        if np.ndim(X) == 1:
            raise ValueError(
                f"`X` must have shape (m, d), got {np.shape(X)}. Reshape your data "
                "with X.reshape(1, -1) if it is one candidate"
            )
        validate_data(self, X, reset=False, skip_check_array=True)
        members = self._members or []
        tests = np.stack([member.test_scores(X) for member in members])
        if not self._has_several:
            return conformal.select(
                self.calibration_scores_[0], tests[0], level=self.level
            )
        draw = None if self.pruning == "deterministic" else key
        return conformal.optcs_msel(
            self.calibration_scores_,
            tests,
            level=self.level,
            pruning=self.pruning,
            key=draw,
        )

    def _fit_full(self, X: Any, y: Any) -> None:
        members = members_of(self.estimator, default_for_full())
        self._learners = [as_learner(member) for member in members]
        X, y = validate_data(self, X, y, dtype=FLOATS)
        self._rows, self._is_above = X, _numbers(y) > self.threshold
        self._members = None
        self.n_calibration_ = len(X)

    def _full(self, X: Any, key: Any) -> OptCSResult:
        X = validate_data(self, X, reset=False, dtype=FLOATS)
        data = (self._rows, self._is_above, X)
        options = {"level": self.level, "num_folds": self.num_folds, "key": key}
        if not self._has_several:
            return conformal.optcs_full(self._learners[0], *data, **options)
        return conformal.optcs_full_msel(
            self._learners, *data, pruning=self.pruning, **options
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        if self.method == "split":
            members = self.estimator if is_list(self.estimator) else [self.estimator]
            members = [default_for_split() if m is None else m for m in members]
            inner = [get_tags(m).input_tags for m in members if is_sklearn(m)]
            every = len(inner) == len(members) > 0
            tags.input_tags.sparse = every and all(tag.sparse for tag in inner)
            tags.input_tags.allow_nan = every and all(tag.allow_nan for tag in inner)
        return tags


def _numbers(y: Any) -> np.ndarray:
    """Labels as numbers, shape (n,)."""
    y = check_array(
        column_or_1d(y, warn=True), ensure_2d=False, dtype="numeric", input_name="y"
    )
    return y.astype(float)
