"""The ordinal classifier behaves as scikit-learn expects, and is the fit it wraps."""

import functools
import pickle

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxcur import ordinal
from jaxcur.sklearn import PrestoClassifier
from tests.helpers import assert_close

# Checks that do not apply, each with the reason.
NO_ORDER = {
    "check_classifiers_classes": (
        "it fits three classes that are words, whose order nobody has given"
    ),
}
RANDOM_FOLDS = NO_ORDER | {
    "check_sample_weight_equivalence_on_dense_data": (
        "rows repeated are dealt to different folds, a row of weight two to one: the "
        "strength that is chosen differs. With a given strength the check passes"
    ),
}


@functools.cache
def table():
    """The shape that small tables are filled up to, so that it compiles once."""
    rng = np.random.default_rng(5)
    X = rng.uniform(-2, 2, size=(512, 4))
    eta = np.array([0.0, 3.5]) + X @ np.array(
        [[-0.8, -0.8], [0.5, 0.5], [0.0, -0.8], [0.0, 0.0]]
    )
    return X, (rng.logistic(size=(512, 1)) > eta).sum(axis=1)


def model(**options):
    return PrestoClassifier(**({"regularization": 0.01} | options))


@parametrize_with_checks(
    [model()], expected_failed_checks=lambda estimator: NO_ORDER, xfail_strict=True
)
def test_checks_of_scikit_learn(estimator, check, request):
    if "check_array_api_input" in request.node.name:
        # Nothing here to check: the check itself wants SCIPY_ARRAY_API set before SciPy
        # is first imported, and the classifier does not claim array API support.
        assert not estimator.__sklearn_tags__().array_api_support
        return
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:class .* rows for 5 folds:UserWarning")
@parametrize_with_checks(
    [PrestoClassifier(random_state=0)],
    expected_failed_checks=lambda estimator: RANDOM_FOLDS,
    xfail_strict=True,
)
def test_checks_of_scikit_learn_with_cross_validation(estimator, check, request):
    if "check_array_api_input" not in request.node.name:
        check(estimator)


def test_it_is_the_fit_underneath():
    X, y = table()
    fitted = model(first=0.5).fit(X, y)
    with jax.enable_x64(True):
        expected = ordinal.fit(
            X, y, num_classes=3, penalty=ordinal.Presto(0.5), regularization=0.01
        )
        probs = ordinal.predict_proba(expected, X)
    assert_close(fitted.coef_.T, expected.coefficients, rtol=1e-12)
    assert_close(fitted.intercept_, expected.intercepts, rtol=1e-12)
    assert fitted.coef_.dtype == np.float64 and fitted.regularization_ == 0.01
    assert_close(fitted.predict_proba(X), probs, rtol=1e-12)
    assert (fitted.predict(X) == np.asarray(probs).argmax(axis=1)).all()
    assert fitted.cross_validation_ is None


@pytest.mark.parametrize("shape", [(300, 3), (37, 1)])
def test_filling_up_changes_nothing(shape):
    X, y = table()
    X, y = X[: shape[0], -shape[1] :], np.minimum(y, 1)[: shape[0]] + y[: shape[0]] // 2
    fitted = model(unobserved="drop", levels=[0, 1, 2]).fit(X, y)
    with jax.enable_x64(True):
        weights = np.pad(np.ones(shape[0]), (0, 512 - shape[0]))
        expected = ordinal.fit(
            np.pad(X, ((0, 512 - shape[0]), (0, 4 - shape[1])), constant_values=7.0),
            np.pad(y, (0, 512 - shape[0])),
            num_classes=3,
            regularization=0.01,
            weights=weights,
        )
    assert fitted.coef_.shape == (2, shape[1])
    assert fitted.result_.blocks.shape == (2, shape[1])
    # Not digit for digit: other numbers stand in the columns that are constant.
    assert_close(
        fitted.coef_.T, expected.coefficients[: shape[1]], rtol=1e-7, atol=1e-9
    )
    assert (np.asarray(expected.coefficients[shape[1] :]) == 0).all()


def test_the_strength_is_chosen_by_cross_validation():
    X, y = table()
    fitted = PrestoClassifier(random_state=0).fit(X, y)
    found = fitted.cross_validation_
    assert found.folds.shape == (512,)
    # Stratified: the rare class is in every fold.
    per_fold = np.bincount(found.folds[y == 2])
    assert len(per_fold) == 5 and np.ptp(per_fold) <= 1
    with jax.enable_x64(True):
        expected = ordinal.cross_validate(X, y, num_classes=3, folds=found.folds)
        strength = float(expected.result.regularization)
    assert_close(found.mean_scores, expected.mean_scores, rtol=1e-9)
    assert fitted.regularization_ == strength
    assert int(found.selected) > 0
    again = PrestoClassifier(random_state=0).fit(X, y)
    assert (again.coef_ == fitted.coef_).all()
    other = PrestoClassifier(random_state=1).fit(X, y)
    assert (other.cross_validation_.folds != found.folds).any()


def test_a_class_of_weight_zero_is_left_out_aloud():
    X, y = table()
    weights = (y != 1).astype(float)
    with pytest.warns(UserWarning, match="zero in all rows of class 1, which is left"):
        fitted = model().fit(X, y, sample_weight=weights)
    assert fitted.classes_.tolist() == [0, 2]
    kept = model(levels=[0, 1, 2], unobserved="drop")
    probs = kept.fit(X, y, sample_weight=weights).predict_proba(X)
    assert probs.shape == (512, 3) and not probs[:, 1].any()


def test_rows_of_weight_zero_take_no_part_in_folds():
    X, y = table()
    weights = (np.arange(512) % 3 > 0).astype(float)
    fitted = PrestoClassifier(random_state=0).fit(X, y, sample_weight=weights)
    kept = weights > 0
    alone = PrestoClassifier(random_state=0).fit(X[kept], y[kept])
    assert_close(fitted.coef_, alone.coef_, rtol=1e-7)


# Classes and their order.


def test_words_need_levels():
    X, y = table()
    words = np.array(["none", "mild", "severe"])[y]
    with pytest.raises(ValueError, match=r"words \(mild, none, severe\).*`levels`"):
        model().fit(X, words)
    fitted = model(levels=["none", "mild", "severe"]).fit(X, words)
    assert fitted.classes_.tolist() == ["none", "mild", "severe"]
    assert_close(fitted.coef_, model().fit(X, y).coef_, rtol=1e-12)
    assert set(fitted.predict(X)) <= set(words)
    assert 0.5 < fitted.score(X, words) < 1


def test_an_ordered_categorical_brings_its_levels():
    X, y = table()
    kind = pd.CategoricalDtype(["severe", "none", "mild"], ordered=True)
    words = pd.Series(np.array(["severe", "none", "mild"])[y]).astype(kind)
    fitted = model().fit(X, words)
    assert fitted.classes_.tolist() == ["severe", "none", "mild"]
    assert_close(fitted.coef_, model().fit(X, y).coef_, rtol=1e-12)


def test_numbers_are_ordered_by_value():
    X, y = table()
    fitted = model().fit(X, np.array([9, 10, 30])[y])
    assert fitted.classes_.tolist() == [9, 10, 30]
    assert_close(fitted.coef_, model().fit(X, y).coef_, rtol=1e-12)
    halves = model(levels=[0.5, 1.0, 2.5]).fit(X, np.array([0.5, 1.0, 2.5])[y])
    assert set(halves.predict(X)) <= {0.5, 1.0, 2.5}


def test_a_level_that_never_occurs():
    X, y = table()
    shifted = y + (y > 0)
    with pytest.raises(ValueError, match="no row has the declared class"):
        model(levels=[0, 1, 2, 3, 4]).fit(X, shifted)
    fitted = model(levels=[0, 1, 2, 3, 4], unobserved="drop").fit(X, shifted)
    probs = fitted.predict_proba(X)
    assert probs.shape == (512, 5) and (probs[:, [1, 4]] == 0).all()
    assert_close(probs[:, [0, 2, 3]], model().fit(X, y).predict_proba(X), rtol=1e-12)


def test_columns_stay_in_place_when_a_fold_lacks_the_rare_class():
    X, y = table()
    few = np.where(y == 2, 1, y)
    few[0] = 2
    estimator = model(levels=[0, 1, 2], unobserved="drop")
    folds = [(np.arange(1, 512), np.arange(1)), (np.arange(511), np.arange(511, 512))]
    assert (estimator.fit(X[1:], few[1:]).predict_proba(X)[:, 2] == 0).all()
    scores = [estimator.fit(X[a], few[a]).predict_proba(X[b]) for a, b in folds]
    assert [s.shape for s in scores] == [(1, 3), (1, 3)]


# The usual tools.


def test_pipelines_searches_and_copies():
    X, y = table()
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), model())
    probs = cross_val_predict(pipeline, frame, y, cv=3, method="predict_proba")
    assert probs.shape == (512, 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-12)
    search = GridSearchCV(
        model(), {"regularization": [0.3, 0.01]}, cv=3, scoring="neg_log_loss"
    ).fit(frame, y)
    assert search.best_params_ == {"regularization": 0.01}
    fitted = search.best_estimator_
    assert fitted.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(frame) == fitted.predict_proba(frame)).all()
    assert clone(fitted).get_params() == fitted.get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularization": -1.0}, "`regularization` must be finite and at least 0"),
        ({"first": -1.0}, "`first`"),
        ({"l1_ratio": 2.0}, "`l1_ratio`"),
        ({"family": "poisson"}, "`family` must be one of"),
        ({"link": "log"}, "`link` must be one of"),
        ({"unobserved": "keep"}, "`unobserved` must be one of"),
        ({"levels": [1]}, "`levels` must list two or more"),
        ({"levels": [0, 1, 1, 2]}, "`levels` must list two or more"),
        ({"levels": [0, 1]}, "holds 2, which the levels do not list"),
        ({"regularization": None, "num_folds": 1}, "`num_folds` must be at least 2"),
        ({"regularization": None, "criterion": "auc"}, "`criterion` must be one of"),
    ],
)
def test_bad_options_are_named_in_fit(options, message):
    with pytest.raises(ValueError, match=message):
        model(**options).fit(*table())


def test_bad_data():
    X, y = table()
    with pytest.raises(NotFittedError):
        model().predict(X)
    with pytest.raises(ValueError, match="one class only, 0"):
        model().fit(X, 0 * y)
    with pytest.raises(ValueError, match="Unknown label type"):
        model().fit(X, X[:, 0])
    with pytest.raises(ValueError, match="zero in every row|non-zero number"):
        model().fit(X, y, sample_weight=0.0 * y)
    lonely = np.where(np.arange(512) == 0, 3, y)
    with pytest.raises(ValueError, match="has one row, too few for cross-validation"):
        PrestoClassifier().fit(X, lonely)


def test_a_fit_without_a_solution_warns():
    X, _ = table()
    y = np.digitize(X[:, 0], [-0.5, 1.0])
    with pytest.warns(ConvergenceWarning, match="diverging"):
        model(regularization=0.0).fit(X, y)
