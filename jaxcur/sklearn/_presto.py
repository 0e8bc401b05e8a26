"""Ordinal regression for rare classes with scikit-learn's interface."""

import dataclasses
import math
import warnings
from typing import Any, Literal

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from jaxcur import ordinal
from jaxcur._base import check_choice

# A new shape is compiled anew, which takes seconds. So a table is filled up, with rows
# of weight zero and columns of zeros (whose coefficients are zero), as far as that is
# cheaper than compiling: rows to a power of two, columns to a multiple of four.
_FEWEST_ROWS, _MOST_ROWS, _MOST_COLUMNS = 512, 4096, 32


class PrestoClassifier(ClassifierMixin, BaseEstimator):
    """Ordered classes, the last of them rare: boundaries shrunk towards each other.

    The model is  P(y <= class | x) = F(alpha + x'beta)  with a vector beta for every
    boundary between neighbouring classes, and the penalty draws each vector towards its
    neighbour: between proportional odds and separate binary regressions, as the data
    demand. A positive coefficient moves probability to LOWER classes (to higher ones in
    the families "cratio" and "acat").

    Classes have the order of numbers, or of an ordered pandas categorical; of more than
    two words the order must be given as `levels`. Of two words the alphabet decides, as
    everywhere in scikit-learn: the coefficients change their sign with the order, the
    probabilities do not.

    Heuristic: no finite-sample guarantee on the predictions. The fit is certified by
    `result_.kkt_residual` and `result_.gap_bound`.

    Args:
        regularization: strength of the penalty, on standardised columns. None chooses
            it by cross-validation.
        first: multiplier of the penalty of the first boundary's coefficients; 0 shrinks
            differences only, towards proportional odds.
        l1_ratio: share of absolute values; 0 is a ridge.
        family: "cumulative", "sratio", "cratio" or "acat", as in `ordinal.fit`.
        link: "logit", "probit", "cloglog", "loglog" or "cauchit".
        crossing: "own", as in `ordinal.fit`.
        repair: what `predict_proba` does where boundaries cross.
        num_folds: of cross-validation; folds are stratified.
        criterion: of cross-validation: "brier", "logloss", "rare_brier", "rps" or
            "misclass".
        rule: of cross-validation, "min" or "one_se".
        num_regularizations: how many strengths are tried.
        ratio: smallest strength tried, as a share of the largest.
        levels: the classes, lowest first.
        unobserved: what to do with a class of `levels` (or of a categorical) that no
            row has: "raise", or "drop": it gets probability 0, which keeps columns in
            place when a fold of an outer cross-validation lacks the rare class.
        max_steps: largest number of Newton steps at each strength.
        random_state: int, RandomState or None; draws the folds.

    Attributes:
        classes_: shape (k,), lowest first.
        result_: the `OrdinalResult`, float64, of the classes that occur.
        coef_: shape (k-1, n_features_in_), a row for each boundary between classes that
            occur; positive means lower classes.
        intercept_: shape (k-1,).
        regularization_: the strength used.
        cross_validation_: the `CrossValidationResult`, None where the strength was
            given.
        n_features_in_: number of columns seen in `fit`.
        feature_names_in_: shape (n_features_in_,), when all names are strings.

    Raises:
        ValueError: an option is out of range, words without `levels`, a single class, a
            class of `levels` that never occurs.

    Cost: a path of fits, and as many more as there are folds; compiled anew when the
    number of columns, of classes or of rows (beyond a power of two) changes.

    Source: Faletto and Bien, "Predicting rare events by shrinking towards proportional
    odds", ICML 2023.

    Example:
        >>> import numpy as np
        >>> from jaxcur.sklearn import PrestoClassifier
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(200, 2))
        >>> y = np.digitize(2 * X[:, 0] + rng.logistic(size=200), [0.0, 4.0])
        >>> model = PrestoClassifier(regularization=0.01).fit(X, y)
        >>> model.predict([[-2.0, 0.0], [3.0, 0.0]]).tolist()
        [0, 2]
    """

    def __init__(
        self,
        regularization: float | None = None,
        *,
        first: float = 1.0,
        l1_ratio: float = 1.0,
        family: str = "cumulative",
        link: str = "logit",
        crossing: str = "own",
        repair: str = "rearrange",
        num_folds: int = 5,
        criterion: str = "brier",
        rule: str = "min",
        num_regularizations: int = 20,
        ratio: float = 0.01,
        levels: Any = None,
        unobserved: Literal["raise", "drop"] = "raise",
        max_steps: int = 100,
        random_state: Any = None,
    ) -> None:
        self.regularization = regularization
        self.first = first
        self.l1_ratio = l1_ratio
        self.family = family
        self.link = link
        self.crossing = crossing
        self.repair = repair
        self.num_folds = num_folds
        self.criterion = criterion
        self.rule = rule
        self.num_regularizations = num_regularizations
        self.ratio = ratio
        self.levels = levels
        self.unobserved: Any = unobserved
        self.max_steps = max_steps
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "PrestoClassifier":
        """Fit, choosing the strength by cross-validation where none is given.

        Args:
            X: shape (n, d), numbers.
            y: shape (n,), classes.
            sample_weight: shape (n,), at least 0; a row of weight 0 is absent.

        Returns:
            The classifier.
        """
        check_choice("unobserved", self.unobserved, ("raise", "drop"))
        declared = _declared(y, self.levels)
        X, y = validate_data(self, X, y, dtype=np.float64)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
            if not (sample_weight > 0).any():
                raise ValueError("`sample_weight` must not be zero in every row")
        self.classes_, codes = _codes(y, declared)
        codes = self._settle(codes, sample_weight)
        weights = np.ones(len(X)) if sample_weight is None else sample_weight
        # One generator for everything: a RandomState given by the user moves on.
        random_state = check_random_state(self.random_state)
        folds = None
        if self.regularization is None:
            folds = self._folds(codes, weights, random_state)
        shape = _bucket(*X.shape)
        options = {
            "num_classes": int(self._occurs.sum()),
            "penalty": ordinal.Presto(self.first, self.l1_ratio),
            "family": self.family,
            "link": self.link,
            "crossing": self.crossing,
            "weights": _filled(weights, shape[:1]),
            "max_steps": self.max_steps,
        }
        rows = _filled(X, shape), _filled(codes, shape[:1])
        found: Any = None
        with jax.enable_x64(True):
            if folds is None:
                strength: Any = self.regularization
                result = ordinal.fit(*rows, regularization=strength, **options)
            else:
                found = ordinal.cross_validate(
                    *rows,
                    folds=_filled(folds, shape[:1]),
                    criterion=self.criterion,
                    rule=self.rule,
                    num_regularizations=self.num_regularizations,
                    ratio=self.ratio,
                    **options,
                )
                result = found.result
            result, found = jax.tree.map(np.asarray, (result, found))
        self.result_ = _cut(result, X.shape[1])
        self.cross_validation_ = found
        if found is not None:
            self.cross_validation_ = dataclasses.replace(
                found, path=_cut(found.path, X.shape[1]), folds=folds
            )
        if int(self.result_.status):
            warnings.warn(
                f"the fit is not settled: {self.result_.message}",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.coef_ = self.result_.coefficients.T
        self.intercept_ = self.result_.intercepts
        self.regularization_ = float(self.result_.regularization)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of every class.

        Args:
            X: shape (m, d).

        Returns:
            shape (m, k), columns in the order of `classes_`; rows sum to one.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        probs = np.zeros((len(X), len(self.classes_)))
        with jax.enable_x64(True):
            shape = _bucket(*X.shape)[0], X.shape[1]
            found = ordinal.predict_proba(
                self.result_, _filled(X, shape), repair=self.repair
            )
        probs[:, self._occurs] = np.asarray(found)[: len(X)]
        return probs

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row.

        A rare class is seldom the likeliest; its probability is the last column of
        `predict_proba`.

        Args:
            X: shape (m, d).

        Returns:
            shape (m,), entries of `classes_`.
        """
        probs = self.predict_proba(X)
        return self.classes_[probs.argmax(axis=1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        # What is meant there: below an accuracy of 0.83 on three clusters that lie in
        # a triangle. They have no order, and one direction cannot tell them apart.
        tags.classifier_tags.poor_score = True
        return tags

    def _settle(self, codes: np.ndarray, weights: Any) -> np.ndarray:
        """Codes among the classes that occur."""
        counted = codes if weights is None else codes[weights > 0]
        self._occurs = np.bincount(counted, minlength=len(self.classes_)) > 0
        if self._occurs.sum() < 2:
            only = self.classes_[self._occurs][0]
            raise ValueError(f"`y` holds one class only, {only}: nothing to fit")
        if not self._occurs.all() and (self.unobserved == "raise"):
            if self.levels is None and weights is not None:
                # Classes of rows of weight zero were not declared by anybody.
                absent = ", ".join(map(str, self.classes_[~self._occurs]))
                warnings.warn(
                    f"`sample_weight` is zero in all rows of class {absent}, which is "
                    "left out of `classes_`; with `levels` and unobserved='drop' it "
                    "stays, with probability 0",
                    UserWarning,
                    stacklevel=3,
                )
                self.classes_ = self.classes_[self._occurs]
                renumbered = np.maximum(np.cumsum(self._occurs) - 1, 0)
                self._occurs = np.ones(len(self.classes_), bool)
                return renumbered[codes]
            absent = self.classes_[~self._occurs][0]
            raise ValueError(
                f"no row has the declared class {absent!r}; unobserved='drop' gives it "
                "probability 0"
            )
        return np.maximum(np.cumsum(self._occurs) - 1, 0)[codes]

    def _folds(
        self, codes: np.ndarray, weights: np.ndarray, random_state: Any
    ) -> np.ndarray:
        """Rows of each class dealt out in turn, in random order."""
        present = weights > 0
        counts = np.bincount(codes[present])
        if not isinstance(self.num_folds, (int, np.integer)) or self.num_folds < 2:
            raise ValueError(f"`num_folds` must be at least 2, got {self.num_folds!r}")
        if counts.min() < 2:
            rare = self.classes_[self._occurs][int(counts.argmin())]
            raise ValueError(
                f"the class {rare!r} has one row, too few for cross-validation: give "
                "`regularization`, or merge it with a neighbour"
            )
        # Rows of weight zero are absent, and must not shift the others.
        order = np.flatnonzero(present)
        order = order[np.lexsort((random_state.uniform(size=len(order)), codes[order]))]
        folds = np.zeros(len(codes), np.int32)
        folds[order] = np.arange(len(order)) % min(self.num_folds, len(order))
        return folds


def _declared(y: Any, levels: Any) -> Any:
    """Levels that are given, or those of an ordered categorical; else None."""
    if levels is not None:
        levels = np.asarray(levels)
        if levels.ndim != 1 or len(set(levels.tolist())) < max(len(levels), 2):
            raise ValueError(f"`levels` must list two or more classes once: {levels!r}")
        return levels
    dtype = getattr(y, "dtype", None)
    if getattr(dtype, "ordered", False):
        return np.asarray(getattr(dtype, "categories"))  # noqa: B009
    return None


def _codes(y: Any, declared: Any) -> tuple[np.ndarray, np.ndarray]:
    """Classes, lowest first, and the place of each row's class among them."""
    y = column_or_1d(y, warn=True)
    if declared is None:
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        words = classes.dtype.kind in "OUST" and any(
            isinstance(c, str) for c in classes.tolist()
        )
        if words and len(classes) > 2:
            raise ValueError(
                f"the classes are words ({', '.join(map(str, classes[:8]))}), which "
                "have no order: give it as `levels`, lowest first"
            )
        return classes, codes.reshape(-1)
    place = {level: code for code, level in enumerate(declared.tolist())}
    unknown = [label for label in y.tolist() if label not in place]
    if unknown:
        raise ValueError(f"`y` holds {unknown[0]!r}, which the levels do not list")
    return declared, np.array([place[label] for label in y.tolist()])


def _bucket(n: int, p: int) -> tuple[int, int]:
    """The shape that a table of this shape is filled up to."""
    if n <= _MOST_ROWS:
        n = max(_FEWEST_ROWS, 2 ** math.ceil(math.log2(max(n, 1))))
    return n, (p if p > _MOST_COLUMNS else -(-p // 4) * 4)


def _filled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros appended along every axis."""
    return np.pad(values, [(0, s - v) for s, v in zip(shape, values.shape)])


def _cut(result: Any, p: int) -> Any:
    """A fit, or a path of them, without the columns that were filled in."""
    return dataclasses.replace(
        result,
        coefficients=result.coefficients[..., :p, :],
        blocks=result.blocks[..., :p],
        free=result.free[..., :p],
    )
