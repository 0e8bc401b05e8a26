"""Recalibrated probabilities with scikit-learn's interface."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import check_cv
from sklearn.utils import _safe_indexing, assert_all_finite, get_tags, indexable
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
)

from jaxcur import calibration
from jaxcur._base import check_choice


@dataclasses.dataclass(frozen=True)
class _Method:
    """A recalibrator.

    Attributes:
        fit: of `jaxcur.calibration`.
        takes_probs: whether it is fitted to probabilities rather than to scores.
        by_class: whether it serves one class, and several by one against the rest.
        takes_rows: whether two classes, too, come as two columns.
    """

    fit: Callable[..., Any]
    takes_probs: bool = False
    by_class: bool = False
    takes_rows: bool = False


_BINS = {"num_bins": 10}
_METHODS = {
    "platt": _Method(calibration.fit_platt, by_class=True),
    "temperature": _Method(calibration.fit_temperature),
    "isotonic": _Method(calibration.fit_isotonic, by_class=True),
    "centred": _Method(
        functools.partial(calibration.fit_isotonic, kind="centred"), by_class=True
    ),
    "venn_abers": _Method(calibration.fit_venn_abers, by_class=True),
    "beta": _Method(calibration.fit_beta, takes_probs=True, by_class=True),
    "histogram": _Method(
        functools.partial(calibration.fit_histogram, **_BINS), True, True
    ),
    "scaling_binning": _Method(
        functools.partial(calibration.fit_scaling_binning, **_BINS), True, True
    ),
    "bbq": _Method(calibration.fit_bbq, takes_probs=True, by_class=True),
    "spline": _Method(calibration.fit_spline, takes_probs=True, by_class=True),
    "vector_scaling": _Method(calibration.fit_vector_scaling, takes_rows=True),
    "matrix_scaling": _Method(calibration.fit_matrix_scaling, takes_rows=True),
    "structured_scaling": _Method(calibration.fit_structured_scaling, takes_rows=True),
    "dirichlet": _Method(calibration.fit_dirichlet, takes_probs=True, takes_rows=True),
    "ensemble_temperature": _Method(
        calibration.fit_ensemble_temperature, takes_rows=True
    ),
}

# A new shape is compiled anew, which takes seconds; so rows of weight zero fill a table
# up to a power of two, as far as that is cheaper.
_FEWEST_ROWS, _MOST_ROWS = 256, 4096
_SMALLEST = 1e-12


class Calibrator(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """A classifier whose probabilities are recalibrated.

    Scores of every row come from a copy of the estimator that was fitted without it,
    and one map is fitted to all of them; the estimator is then fitted to all rows. (In
    scikit-learn's CalibratedClassifierCV that is `ensemble=False`.) An estimator that
    was fitted before is used as it is, on rows it must not have seen: cv="prefit", or a
    `FrozenEstimator`.

    Maps of scores read `decision_function` where there is one, and log-probabilities
    elsewhere; maps of probabilities read `predict_proba`, or a softmax of the scores.
    Binary maps serve several classes by one against the rest.

    Heuristic: no finite-sample guarantee on the probabilities.

    Args:
        estimator: a classifier; None for a logistic regression.
        method: "platt", "temperature", "isotonic", "centred", "venn_abers", "beta",
            "histogram", "scaling_binning", "bbq", "spline", "vector_scaling",
            "matrix_scaling", "structured_scaling", "dirichlet" or
            "ensemble_temperature", each a `fit_*` of `jaxcur.calibration`.
        options: keyword arguments of that function, such as {"num_bins": 20}.
        cv: an integer (folds stratified, at most as many as the rarest class has
            rows), a splitter or an iterable of splits, or "prefit".

    Attributes:
        classes_: shape (k,).
        estimator_: the classifier fitted to all rows.
        calibrator_: the map, a calibrator of `jaxcur.calibration` in float64.
        n_features_in_: of `estimator_`, where it has it.
        feature_names_in_: of `estimator_`, where it has it.

    Raises:
        ValueError: an unknown method, one class only, a training fold that lacks a
            class.
        TypeError: an estimator with neither `predict_proba` nor `decision_function`.

    Cost: a fit for each fold and one more; the map is compiled anew when the number of
    classes, or of rows beyond a power of two, changes.

    Source: Platt 1999; Zadrozny and Elkan, KDD 2002.

    Example:
        >>> import numpy as np
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from jaxcur.sklearn import Calibrator
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 1)).repeat(5, axis=1)  # one feature, five times
        >>> y = X[:, 0] + rng.logistic(size=200) > 0
        >>> model = Calibrator(GaussianNB(), method="temperature").fit(X, y)
        >>> confident = model.estimator_.predict_proba([[2.0] * 5])[0, 1]
        >>> bool(model.predict_proba([[2.0] * 5])[0, 1] < confident)
        True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        method: str = "platt",
        options: dict[str, Any] | None = None,
        cv: Any = 5,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.options = options
        self.cv = cv

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "Calibrator":
        """Fit the estimator and the map.

        Args:
            X: shape (n, d), whatever the estimator reads.
            y: shape (n,), classes.
            sample_weight: shape (n,), at least 0; passed to the estimator where it
                takes weights, and to the map.

        Returns:
            The calibrated classifier.
        """
        check_choice("method", self.method, tuple(_METHODS))
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is "
                "None"
            )
        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        X, y = indexable(X, y)
        if len(y) == 0:
            raise ValueError("`X` must hold at least one row, got 0 sample(s)")
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
        estimator = LogisticRegression() if self.estimator is None else self.estimator
        if self._is_prefit(estimator):
            self.estimator_ = estimator
            check_is_fitted(estimator)
            self.classes_ = np.asarray(estimator.classes_)
            codes = _codes(y, self.classes_)
            scores = self._scores(estimator, X)
        else:
            self.classes_, codes = np.unique(y, return_inverse=True)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"`y` holds one class only, {self.classes_[0]}: nothing to fit"
                )
            self.estimator_ = _fitted(estimator, X, y, weights)
            scores = self._out_of_fold(estimator, X, y, codes, weights)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        self.calibrator_ = self._fit_map(scores, codes, weights)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Recalibrated probability of every class.

        Args:
            X: shape (m, d).

        Returns:
            shape (m, k), columns in the order of `classes_`; rows sum to one.
        """
        check_is_fitted(self)
        scores = self._scores(self.estimator_, X)
        with jax.enable_x64(True):
            found = self.calibrator_(_filled(scores, _bucket(len(scores))))
        probs = np.asarray(found)[: len(scores)]
        return np.stack([1 - probs, probs], axis=1) if probs.ndim == 1 else probs

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row, by the recalibrated probabilities.

        Args:
            X: shape (m, d).

        Returns:
            shape (m,), entries of `classes_`.
        """
        probs = self.predict_proba(X)
        return self.classes_[probs.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = LogisticRegression() if self.estimator is None else self.estimator
        tags.input_tags.sparse = get_tags(inner).input_tags.sparse
        return tags

    def _is_prefit(self, estimator: Any) -> bool:
        prefit = isinstance(self.cv, str) and self.cv == "prefit"
        return prefit or isinstance(estimator, FrozenEstimator)

    def _splits(self, X: Any, y: Any, codes: np.ndarray) -> Iterator[Any]:
        cv = self.cv
        if isinstance(cv, (int, np.integer)):
            counts = np.bincount(codes)
            if cv < 2 or counts.min() < 2:
                rare = self.classes_[int(counts.argmin())]
                raise ValueError(
                    f"`cv` must be at least 2, got {cv}"
                    if cv < 2
                    else f"the class {rare} has one row, too few for "
                    "cross-validation: cv='prefit' needs none"
                )
            cv = min(int(cv), int(counts.min()))
        splitter: Any = check_cv(cv, y, classifier=True)
        return splitter.split(X, y)

    def _out_of_fold(
        self, estimator: Any, X: Any, y: Any, codes: np.ndarray, weights: Any
    ) -> np.ndarray:
        """Scores of every row by a fit that has not seen it."""
        scores = None
        for train, held in self._splits(X, y, codes):
            part = None if weights is None else weights[train]
            counted = codes[train] if part is None else codes[train][part > 0]
            absent = np.setdiff1d(np.arange(len(self.classes_)), counted)
            if len(absent):
                raise ValueError(
                    f"a training fold lacks the class {self.classes_[absent[0]]}; "
                    "give fewer folds or more rows of this class"
                )
            rows = _safe_indexing(X, train)
            model = _fitted(estimator, rows, _safe_indexing(y, train), part)
            found = self._scores(model, _safe_indexing(X, held))
            if scores is None:
                scores = np.full((len(codes), *found.shape[1:]), np.nan)
            scores[held] = found
        if scores is None or np.isnan(scores).any():
            raise ValueError("`cv` must hold out every row, once; some never are")
        return scores

    def _scores(self, model: Any, X: Any) -> np.ndarray:
        """What the map reads: shape (m,) for two classes, or (m, k)."""
        method = _METHODS[self.method]
        has_decision = hasattr(model, "decision_function")
        has_probs = hasattr(model, "predict_proba")
        if not (has_decision or has_probs):
            raise TypeError(
                "`estimator` must have `predict_proba` or `decision_function`, got "
                f"{model!r}"
            )
        if has_decision and not (method.takes_probs and has_probs):
            scores = np.asarray(model.decision_function(X), np.float64)
            if scores.ndim == 2 and scores.shape[1] != len(self.classes_):
                raise ValueError(
                    f"`estimator` gives {scores.shape[1]} scores for "
                    f"{len(self.classes_)} classes; one for each class is needed"
                )
            if method.takes_probs:
                scores = _softmax(scores)
        else:
            probs = np.asarray(model.predict_proba(X), np.float64)
            scores = probs if method.takes_probs else np.log(probs.clip(_SMALLEST))
            if len(self.classes_) == 2:
                first, second = scores[:, 0], scores[:, 1]
                scores = second if method.takes_probs else second - first
        if scores.ndim == 1 and method.takes_rows:
            other = 1 - scores if method.takes_probs else np.zeros_like(scores)
            scores = np.stack([other, scores], axis=1)
        return scores

    def _fit_map(self, scores: np.ndarray, codes: np.ndarray, weights: Any) -> Any:
        method = _METHODS[self.method]
        fit = functools.partial(method.fit, **(self.options or {}))
        if method.by_class and scores.ndim == 2:
            fit = functools.partial(calibration.fit_one_vs_rest, fit)
        weights = np.ones(len(codes)) if weights is None else weights
        n = _bucket(len(codes))
        with jax.enable_x64(True):
            found = fit(
                _filled(scores, n), _filled(codes, n), weights=_filled(weights, n)
            )
            return jax.tree.map(np.asarray, found)


def _fitted(estimator: Any, X: Any, y: Any, weights: Any) -> Any:
    model: Any = clone(estimator)
    if weights is not None and has_fit_parameter(model, "sample_weight"):
        return model.fit(X, y, sample_weight=weights)
    return model.fit(X, y)


def _codes(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Places among classes that were learnt elsewhere."""
    place = {label: code for code, label in enumerate(classes.tolist())}
    unknown = [label for label in y.tolist() if label not in place]
    if unknown:
        raise ValueError(f"`y` holds {unknown[0]!r}, which the estimator has not seen")
    return np.array([place[label] for label in y.tolist()])


def _softmax(scores: np.ndarray) -> np.ndarray:
    if scores.ndim == 1:
        return np.exp(-np.logaddexp(0.0, -scores))
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _bucket(n: int) -> int:
    """The number of rows that this many rows are filled up to."""
    if n > _MOST_ROWS:
        return n
    return max(_FEWEST_ROWS, 2 ** math.ceil(math.log2(max(n, 1))))


def _filled(values: np.ndarray, n: int) -> np.ndarray:
    """Rows appended: the first one again, as a legal value."""
    more = np.repeat(values[:1], n - len(values), axis=0)
    if values.ndim == 1 and len(more):
        more = np.zeros_like(more)
    return np.concatenate([values, more])
