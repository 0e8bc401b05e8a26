"""What stands inside a selector: scikit-learn estimators and jaxcur learners."""

import dataclasses
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.utils import check_array

from jaxcur import learners

# Kept as they are; anything else becomes float64.
FLOATS: Any = [np.float64, np.float32]


def is_list(estimator: Any) -> bool:
    """Whether several candidates for the model are given."""
    return isinstance(estimator, (list, tuple))


def is_sklearn(member: Any) -> bool:
    """Whether it follows scikit-learn; jaxcur learners have no parameters to get."""
    return hasattr(member, "get_params") and not isinstance(member, type)


def is_frozen(member: Any) -> bool:
    """Whether it was fitted before and must not be fitted again."""
    return isinstance(member, FrozenEstimator)


def members_of(estimator: Any, default: Any) -> list[Any]:
    """The members as a list, checked to be something that can be fitted."""
    members = list(estimator) if is_list(estimator) else [estimator]
    if not members:
        raise ValueError("`estimator` must hold at least one estimator, got none")
    members = [default if member is None else member for member in members]
    for member in members:
        fits = hasattr(member, "fit") and not isinstance(member, type)
        if not fits or not (is_sklearn(member) or isinstance(member, learners.Learner)):
            raise TypeError(
                "`estimator` must be a scikit-learn estimator, an object of "
                f"jaxcur.learners, or a list of these, got {member!r}"
            )
    return members


def default_for_split() -> Any:
    """The member behind `estimator=None` when rows are held out."""
    return Ridge()


def default_for_full() -> Any:
    """The member behind `estimator=None` when no rows are held out."""
    return learners.Ridge(1.0)


def as_learner(member: Any) -> Any:
    """A learner whose fit is a function of the set of rows, as full OptCS asks.

    Estimators of scikit-learn may use row positions (a bootstrap, minibatches, folds),
    so they see the rows in an order fixed by the values.
    """
    if not is_sklearn(member):
        return member
    if is_frozen(member):
        raise ValueError(
            "a FrozenEstimator cannot be refitted without each row; use method='split'"
        )
    method = "predict"
    if is_classifier(member):
        proba = hasattr(member, "predict_proba")
        method = "predict_proba" if proba else "decision_function"
    return learners.SortedRows(learners.HostLearner(clone(member), method))


@dataclasses.dataclass(frozen=True)
class FittedMember:
    """A member fitted to training rows, and the scores it gives.

    Attributes:
        fitted: the fitted estimator, or the learner.
        params: what a learner learned.
        threshold: labels above it are interesting.
        cut: classes above it are interesting.
    """

    fitted: Any
    params: Any
    threshold: float
    cut: float

    def calibration_scores(self, X: Any, y: np.ndarray) -> np.ndarray:
        """Scores of rows with labels, shape (n,): never in the way if interesting."""
        return np.where(y > self.threshold, np.inf, -self.evidence(X))

    def test_scores(self, X: Any) -> np.ndarray:
        """Scores of candidates, shape (m,)."""
        return -self.evidence(X)

    def evidence(self, X: Any) -> np.ndarray:
        """Predictions, shape (rows,); only their order matters."""
        if not is_sklearn(self.fitted):
            rows = check_array(X, dtype=FLOATS)
            return np.asarray(self.fitted.predict(self.params, rows), float)
        if not is_classifier(self.fitted):
            return np.asarray(self.fitted.predict(X), float).reshape(-1)
        above = np.asarray(self.fitted.classes_) > self.cut
        if hasattr(self.fitted, "predict_proba"):
            return np.asarray(self.fitted.predict_proba(X), float)[:, above].sum(axis=1)
        if above.tolist() != [False, True]:
            raise ValueError(
                "a classifier without predict_proba must have two classes, one on each "
                f"side of the threshold, got classes {self.fitted.classes_}"
            )
        return np.asarray(self.fitted.decision_function(X), float)


def fit_member(
    member: Any, X: Any, y: np.ndarray, threshold: float, key: Any
) -> FittedMember:
    """Fit regressors to the label, all others to whether it is interesting."""
    if is_frozen(member):
        return FittedMember(member, None, threshold, cut=threshold)
    if is_sklearn(member):
        target = (y > threshold).astype(int) if is_classifier(member) else y
        copy: Any = clone(member)
        return FittedMember(copy.fit(X, target), None, threshold, cut=0.5)
    rows = check_array(X, dtype=FLOATS)
    target = (y > threshold).astype(rows.dtype)
    params = member.fit(rows, target, key=key)
    return FittedMember(member, params, threshold, cut=0.5)
