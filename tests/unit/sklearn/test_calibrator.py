"""The calibrated classifier behaves as scikit-learn expects, and fits what it says."""

import functools

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxcur import calibration
from jaxcur.sklearn import Calibrator
from tests.helpers import assert_close


@functools.cache
def table():
    """One feature, five times: a naive classifier counts its evidence five times."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(250, 1))
    y = (x[:, 0] + rng.logistic(size=250) > 0).astype(int)
    return x.repeat(5, axis=1), y


@parametrize_with_checks([Calibrator()], xfail_strict=True)
def test_checks_of_scikit_learn(estimator, check, request):
    if "check_array_api_input" in request.node.name:
        # Nothing here to check: the check itself wants SCIPY_ARRAY_API set before SciPy
        # is first imported, and the classifier does not claim array API support.
        assert not estimator.__sklearn_tags__().array_api_support
        return
    check(estimator)


def log_loss(probs, codes):
    return -np.log(probs[np.arange(len(codes)), codes].clip(1e-15)).mean()


def test_the_map_is_fitted_to_scores_of_unseen_rows():
    X, y = table()
    model = Calibrator(GaussianNB(), method="platt", cv=3).fit(X, y)
    scores = np.empty(len(y))
    for train, held in StratifiedKFold(3).split(X, y):
        probs = GaussianNB().fit(X[train], y[train]).predict_proba(X[held])
        scores[held] = np.diff(np.log(probs.clip(1e-12)), axis=1)[:, 0]
    with jax.enable_x64(True):
        expected = calibration.fit_platt(scores, y)
    assert_close(float(model.calibrator_.slope), float(expected.slope), rtol=1e-6)
    new = np.diff(model.estimator_.predict_proba(X).clip(1e-12), axis=1)
    assert model.estimator_.theta_.shape == (2, 5) and new.shape == (250, 1)
    probs = model.predict_proba(X)
    assert_close(probs.sum(axis=1), np.ones(250), rtol=1e-12)
    assert log_loss(probs, y) < log_loss(GaussianNB().fit(X, y).predict_proba(X), y)


def test_it_agrees_with_the_classifier_of_scikit_learn():
    X, y = table()
    for method, theirs in (("isotonic", "isotonic"), ("platt", "sigmoid")):
        ours = Calibrator(LogisticRegression(), method=method).fit(X, y)
        other = CalibratedClassifierCV(
            LogisticRegression(), method=theirs, ensemble=False
        ).fit(X, y)
        # Their sigmoid is stopped early by its optimiser.
        assert_close(ours.predict_proba(X), other.predict_proba(X), rtol=0, atol=1e-4)


def test_rows_that_fill_up_a_table_do_not_count():
    X, y = table()
    frozen = FrozenEstimator(GaussianNB().fit(X, y))
    model = Calibrator(frozen, method="isotonic").fit(X[:200], y[:200])
    logs = np.log(frozen.predict_proba(X).clip(1e-12))
    scores = logs[:, 1] - logs[:, 0]
    with jax.enable_x64(True):
        expected = calibration.fit_isotonic(scores[:200], y[:200])(scores)
    found = model.predict_proba(X)[:, 1]
    assert_close(found, np.asarray(expected), rtol=1e-9, atol=1e-12)


def test_weights_count_rows_of_a_fitted_classifier():
    X, y = table()
    weights = np.arange(len(y)) % 3
    model = Calibrator(FrozenEstimator(GaussianNB().fit(X, y)))
    twice = np.repeat(np.arange(len(y)), weights)
    assert_close(
        clone(model).fit(X, y, sample_weight=weights).predict_proba(X),
        clone(model).fit(X[twice], y[twice]).predict_proba(X),
        rtol=1e-6,
    )


@pytest.mark.parametrize("method", ["temperature", "isotonic", "dirichlet"])
def test_several_classes_with_names(method):
    X, digits = load_digits(n_class=3, return_X_y=True)
    names = np.array(["zero", "one", "two"])[digits]
    options = {"regularization": 1.0} if method == "dirichlet" else None
    train, test = slice(0, 250), slice(250, None)
    inner = GaussianNB(var_smoothing=1e-3)
    model = Calibrator(inner, method=method, options=options)
    model.fit(X[train], names[train])
    assert model.classes_.tolist() == ["one", "two", "zero"]
    probs = model.predict_proba(X[test])
    assert_close(probs.sum(axis=1), np.ones(len(probs)), rtol=1e-9)
    assert (model.predict(X[test]) == names[test]).mean() > 0.9
    if method == "temperature":
        codes = np.searchsorted(model.classes_, names[test])
        before = model.estimator_.predict_proba(X[test])
        assert log_loss(probs, codes) < log_loss(before, codes)


def test_pipelines_on_data_frames_and_scores_without_probabilities():
    X, y = table()
    frame = pd.DataFrame(X, columns=list("abcde"))
    inner = make_pipeline(StandardScaler(), SVC(kernel="linear"))
    model = Calibrator(inner).fit(frame, y)
    assert model.feature_names_in_.tolist() == list("abcde")
    assert ((model.predict_proba(frame)[:, 1] > 0.5) == (model.predict(frame))).all()


def test_what_cannot_be_calibrated_is_refused():
    X, y = table()
    with pytest.raises(ValueError, match="one class only, 1"):
        Calibrator().fit(X, np.ones(len(y), int))
    with pytest.raises(ValueError, match="'method'|`method`|method="):
        Calibrator(method="magic").fit(X, y)
    with pytest.raises(ValueError, match="`cv` must be at least 2, got 1"):
        Calibrator(cv=1).fit(X, y)
    with pytest.raises(ValueError, match="lacks the class 1"):
        Calibrator(cv=[(np.flatnonzero(y == 0), np.arange(250))]).fit(X, y)
    with pytest.raises(ValueError, match="hold out every row"):
        Calibrator(cv=[(np.arange(250), np.arange(100))]).fit(X, y)
    with pytest.raises(ValueError, match="the class 1 has one row"):
        Calibrator().fit(X[:3], np.array([0, 0, 1]))
    with pytest.raises(NotFittedError):
        Calibrator(GaussianNB(), cv="prefit").fit(X, y)
    fitted = GaussianNB().fit(X, y)
    with pytest.raises(ValueError, match="holds 2, which the estimator has not seen"):
        Calibrator(fitted, cv="prefit").fit(X, y + 1)
