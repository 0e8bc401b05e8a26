"""The selector behaves as scikit-learn expects, and keeps its promise."""

import pickle
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from jaxcur import conformal, learners
from jaxcur.sklearn import ConformalSelector

NOTHING_CAN_BE_SELECTED = "ignore:.*nothing can be selected:UserWarning"

# Checks that do not apply, each with the reason.
JOINT = {
    "check_methods_subset_invariance": (
        "the selection is joint: what is marked depends on the other rows of the call, "
        "as false discovery rate control requires"
    ),
}


def table(size: int, seed: int = 0, noise: float = 0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(size, 3))
    return X, X[:, 0] - X[:, 1] + noise * rng.normal(size=size)


X, Y = table(120)
NEW, NEW_Y = table(40, seed=1)


@pytest.mark.filterwarnings(NOTHING_CAN_BE_SELECTED)
@parametrize_with_checks(
    [
        ConformalSelector(),
        ConformalSelector(
            [Ridge(), DecisionTreeClassifier(random_state=0)], threshold=1.0
        ),
        ConformalSelector(method="full"),
    ],
    expected_failed_checks=lambda estimator: JOINT,
    xfail_strict=True,
)
def test_checks_of_scikit_learn(estimator, check, request):
    if "check_array_api_input" in request.node.name:
        # Nothing here to check: the check itself wants SCIPY_ARRAY_API set before SciPy
        # is first imported, and the selector does not claim array API support.
        assert not estimator.__sklearn_tags__().array_api_support
        return
    check(estimator)


@pytest.mark.slow
@pytest.mark.filterwarnings(NOTHING_CAN_BE_SELECTED)
@parametrize_with_checks(
    [
        ConformalSelector(learners.Ridge(0.1)),
        ConformalSelector(DecisionTreeClassifier(random_state=0), threshold=1.0),
        ConformalSelector([learners.Ridge(1.0), learners.KNN(3)], method="full"),
    ],
    expected_failed_checks=lambda estimator: JOINT,
    xfail_strict=True,
)
def test_checks_of_scikit_learn_on_more_kinds(estimator, check, request):
    if "check_array_api_input" not in request.node.name:
        check(estimator)


def test_p_values_of_one_split_estimator_do_not_depend_on_other_candidates():
    """The part of the selection for which scikit-learn's subset check does apply."""
    selector = ConformalSelector(random_state=0).fit(X, Y)
    together = selector.p_values(NEW)
    alone = np.concatenate([selector.p_values(NEW[i : i + 1]) for i in range(5)])
    assert (together[:5] == alone).all()


def test_split_equals_the_functions_underneath():
    selector = ConformalSelector(Ridge(2.0), level=0.2, threshold=0.3, random_state=3)
    selector.fit(X, Y)
    [scores] = selector.calibration_scores_
    [model] = selector.estimators_
    # A calibration row above the threshold never stands in the way.
    assert 0 < np.sum(scores == np.inf) < 60 and not np.any(scores == -np.inf)
    assert selector.n_calibration_ == scores.size == 60
    with jax.enable_x64(True):
        expected = conformal.select(scores, -model.predict(NEW), level=0.2)
    result = selector.select(NEW)
    assert (np.asarray(result.selected) == np.asarray(expected.selected)).all()
    assert (selector.predict(NEW) == np.asarray(expected.selected)).all()
    np.testing.assert_array_equal(selector.p_values(NEW), expected.p_values)
    assert 0 < selector.predict(NEW).sum() < len(NEW)


def test_calibration_rows_are_not_fitted_on():
    selector = ConformalSelector(KNeighborsRegressor(1), random_state=0).fit(X, Y)
    [scores] = selector.calibration_scores_
    # One nearest neighbour reproduces the labels it was fitted on.
    memory = selector.estimators_[0]._fit_X
    assert memory.shape == (60, 3)
    not_interesting = scores[np.isfinite(scores)]
    labels = set(np.round(-Y, 6))
    reproduced = [value for value in np.round(not_interesting, 6) if value in labels]
    # Predictions are labels of training rows; none is the label of its own row.
    assert len(reproduced) == not_interesting.size
    held_out = [row for row in X if not (memory == row).all(axis=1).any()]
    assert len(held_out) == 60


def test_a_list_is_optcs():
    members = [Ridge(), KNeighborsRegressor(3), LinearRegression()]
    selector = ConformalSelector(members, level=0.2, pruning="deterministic")
    selector.set_params(random_state=0).fit(X, Y)
    tests = np.stack([-model.predict(NEW) for model in selector.estimators_])
    with jax.enable_x64(True):
        expected = conformal.optcs_msel(
            selector.calibration_scores_, tests, level=0.2, pruning="deterministic"
        )
    result = selector.select(NEW)
    assert isinstance(result, conformal.OptCSResult)
    for name in ("selected", "chosen_model", "auxiliary_sizes", "p_values"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


@pytest.mark.parametrize("pruning", ["homogeneous", "heterogeneous"])
def test_pruning_is_drawn_once_in_fit(pruning):
    members = [Ridge(), KNeighborsRegressor(3)]
    selector = ConformalSelector(members, level=0.3, pruning=pruning, random_state=0)
    first = selector.fit(X, Y).predict(NEW)
    assert (selector.predict(NEW) == first).all()
    assert (clone(selector).fit(X, Y).predict(NEW) == first).all()


def test_full_equals_the_functions_underneath():
    selector = ConformalSelector(method="full", level=0.2).fit(X, Y)
    with jax.enable_x64(True):
        expected = conformal.optcs_full(learners.Ridge(1.0), X, Y > 0.0, NEW, level=0.2)
    np.testing.assert_array_equal(selector.predict(NEW), expected.selected)
    np.testing.assert_array_equal(selector.p_values(NEW), expected.p_values)
    assert selector.n_calibration_ == len(X)
    members = [learners.Ridge(1.0), learners.KNN(5)]
    several = ConformalSelector(members, method="full", level=0.2, random_state=0)
    result = several.fit(X, Y).select(NEW)
    assert set(np.unique(result.chosen_model)) <= {0, 1}
    assert (several.predict(NEW) == np.asarray(result.selected)).all()


def test_full_with_an_estimator_of_scikit_learn():
    # The ridge of scikit-learn with n + m refits, and the formula: the same selection.
    few, new = X[:40], NEW[:10]
    loop = ConformalSelector(Ridge(1.0), method="full", level=0.3).fit(few, Y[:40])
    formula = ConformalSelector(method="full", level=0.3).fit(few, Y[:40])
    np.testing.assert_array_equal(loop.p_values(new), formula.p_values(new))
    assert (loop.predict(new) == formula.predict(new)).all()
    # Folds make it affordable, and reach the function underneath.
    folds = ConformalSelector(
        LogisticRegression(), method="full", level=0.3, num_folds=4, random_state=0
    )
    first = folds.fit(few, Y[:40]).predict(new)
    assert (folds.predict(new) == first).all()


def test_full_with_a_randomised_estimator_does_not_depend_on_row_order():
    tree = DecisionTreeClassifier(max_features=1, random_state=0)
    order = np.random.default_rng(0).permutation(40)
    options = {"method": "full", "level": 0.3, "random_state": 0}
    one = ConformalSelector(tree, **options).fit(X[:40], Y[:40])
    other = ConformalSelector(tree, **options).fit(X[order], Y[order])
    np.testing.assert_array_equal(one.p_values(NEW[:5]), other.p_values(NEW[:5]))


@pytest.mark.parametrize(
    "classifier", [LogisticRegression(), LinearSVC(), DecisionTreeClassifier()]
)
def test_classifiers_learn_whether_the_label_exceeds_the_threshold(classifier):
    selector = ConformalSelector(classifier, threshold=0.7, level=0.3, random_state=0)
    selector.fit(X, Y)
    [model] = selector.estimators_
    assert model.classes_.tolist() == [0, 1]
    p = selector.p_values(NEW)
    # Interesting candidates have the smaller p-values.
    assert p[NEW_Y > 0.7].mean() < p[NEW_Y <= 0.7].mean() - 0.1


def test_a_frozen_estimator_is_not_fitted_and_every_row_calibrates():
    fitted = Ridge().fit(*table(50, seed=7))
    before = fitted.coef_.copy()
    selector = ConformalSelector(FrozenEstimator(fitted), level=0.2).fit(X, Y)
    assert selector.n_calibration_ == len(X)
    assert (fitted.coef_ == before).all()
    expected = np.where(Y > 0, np.inf, -fitted.predict(X))
    np.testing.assert_array_equal(selector.calibration_scores_, [expected])


def test_a_frozen_classifier_keeps_its_classes():
    grades = np.digitize(Y, [-1.0, 0.0, 1.0]) + 1
    fitted = LogisticRegression().fit(X, grades)
    selector = ConformalSelector(FrozenEstimator(fitted), threshold=2.5, level=0.2)
    selector.fit(NEW, np.digitize(NEW_Y, [-1.0, 0.0, 1.0]) + 1)
    is_above = np.digitize(NEW_Y, [-1.0, 0.0, 1.0]) + 1 > 2.5
    chance = fitted.predict_proba(NEW)[:, 2:].sum(axis=1)
    expected = np.where(is_above, np.inf, -chance)
    np.testing.assert_allclose(selector.calibration_scores_[0], expected, rtol=1e-12)
    svc = FrozenEstimator(LinearSVC().fit(X, grades))
    with pytest.raises(ValueError, match="must have two classes"):
        ConformalSelector(svc, threshold=2.5).fit(NEW, NEW_Y)
    with pytest.raises(ValueError, match="cannot be refitted"):
        ConformalSelector(svc, method="full").fit(NEW, NEW_Y)


def test_data_frames_with_text_go_through_a_pipeline():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["group"] = np.where(X[:, 0] > 0, "high", "low")
    new = pd.DataFrame(NEW, columns=["a", "b", "c"])
    new["group"] = np.where(NEW[:, 0] > 0, "high", "low")
    encode = make_column_transformer(
        (OneHotEncoder(), ["group"]), (StandardScaler(), ["a", "b"])
    )
    model = make_pipeline(encode, Ridge())
    selector = ConformalSelector(model, level=0.2, random_state=0)
    marked = selector.fit(frame, pd.Series(Y)).predict(new)
    assert selector.feature_names_in_.tolist() == ["a", "b", "c", "group"]
    assert selector.n_features_in_ == 4
    assert new[marked].shape == (marked.sum(), 4)
    with pytest.raises(ValueError, match="feature names"):
        selector.predict(new.rename(columns={"a": "z"}))


def test_parameters_of_the_estimator_inside_are_reached():
    selector = ConformalSelector(Ridge())
    assert selector.get_params()["estimator__alpha"] == 1.0
    selector.set_params(estimator__alpha=5.0, level=0.25)
    assert selector.estimator.alpha == 5.0 and selector.level == 0.25
    copy = clone(ConformalSelector([learners.Ridge(1.0), Ridge(3.0)], method="full"))
    assert copy.estimator[0] == learners.Ridge(1.0)
    assert copy.estimator[1].alpha == 3.0


def test_tuning_stays_inside():
    inner = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, cv=3)
    selector = ConformalSelector(inner, random_state=0).fit(X, Y)
    assert selector.estimators_[0].best_params_["alpha"] in (0.1, 10.0)
    with pytest.raises(TypeError, match="score"):
        GridSearchCV(ConformalSelector(), {"level": [0.1, 0.2]}).fit(X, Y)


def test_the_level_can_change_without_a_new_fit():
    selector = ConformalSelector(random_state=0).fit(X, Y)
    counts = [
        int(selector.set_params(level=level).predict(NEW).sum())
        for level in (0.0, 0.1, 0.4, 1.0)
    ]
    assert counts == sorted(counts)
    assert counts[0] == 0 and counts[-1] == len(NEW)


@pytest.mark.parametrize("method", ["split", "full"])
def test_pickling_keeps_the_selection(method):
    members = [learners.Ridge(1.0), learners.KNN(5)]
    selector = ConformalSelector(members, method=method, random_state=0).fit(X, Y)
    again = pickle.loads(pickle.dumps(selector))
    assert (again.predict(NEW) == selector.predict(NEW)).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"level": 1.5}, ValueError, "`level`"),
        ({"level": float("nan")}, ValueError, "`level`"),
        ({"method": "half"}, ValueError, "`method` must be one of 'split', 'full'"),
        ({"pruning": "none"}, ValueError, "`pruning` must be one of"),
        ({"threshold": float("nan")}, ValueError, "`threshold` must be finite"),
        ({"num_folds": 1}, ValueError, "`num_folds` must be at least 2"),
        ({"calibration_size": 1.5}, ValueError, "test_size"),
        ({"estimator": []}, ValueError, "at least one estimator"),
        ({"estimator": "ridge"}, TypeError, "`estimator` must be a scikit-learn"),
        ({"estimator": Ridge}, TypeError, "`estimator` must be a scikit-learn"),
    ],
)
def test_bad_options_are_named_in_fit(options, error, message):
    selector = ConformalSelector(**options)
    with pytest.raises(error, match=message):
        selector.fit(X, Y)


def test_bad_data():
    with pytest.raises(NotFittedError):
        ConformalSelector().predict(X)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ConformalSelector().fit(X, Y[:-1])
    with pytest.raises(ValueError, match="requires y"):
        ConformalSelector().fit(X, None)
    with pytest.raises(ValueError, match="y contains NaN"):
        ConformalSelector().fit(X, np.where(Y > 0, np.nan, Y))
    with pytest.raises(ValueError, match="could not convert|dtype='numeric'"):
        ConformalSelector().fit(X, np.where(Y > 0, "good", "bad"))
    with pytest.warns(DataConversionWarning):
        ConformalSelector().fit(X, Y[:, None])
    fitted = ConformalSelector().fit(X, Y)
    with pytest.raises(ValueError, match="Reshape your data"):
        fitted.predict(X[0])
    with pytest.raises(ValueError, match="2 features"):
        fitted.predict(X[:, :2])


def test_boolean_labels_are_zero_and_one():
    one = ConformalSelector(random_state=0).fit(X, Y > 0).predict(NEW)
    other = ConformalSelector(random_state=0).fit(X, (Y > 0).astype(int)).predict(NEW)
    assert (one == other).all()


def test_a_level_out_of_reach_warns_in_fit():
    with pytest.warns(UserWarning, match="below 1/.*nothing can be selected"):
        selector = ConformalSelector(calibration_size=8).fit(X, Y)
    assert not selector.predict(NEW).any()
    ConformalSelector(calibration_size=9).fit(X, Y)


def test_predictions_that_are_nan_are_reported_and_never_selected():
    class Broken(Ridge):
        def predict(self, X):
            values = super().predict(X)
            return np.where(np.arange(len(X)) == 0, np.nan, values)

    frozen = FrozenEstimator(Broken().fit(X, Y))
    selector = ConformalSelector(frozen, level=1.0)
    selector.fit(NEW, NEW_Y)
    with pytest.warns(UserWarning, match="test scores are NaN"):
        marked = selector.predict(X)
    assert marked.tolist() == [False] + [True] * (len(X) - 1)


def test_a_missing_scikit_learn_says_what_to_install(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.startswith("jaxcur.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ModuleNotFoundError, match=r"jaxcur\[sklearn\]"):
        import jaxcur.sklearn  # noqa: F401


def false_and_true_shares(selector, replications: int, threshold: float):
    """False discovery proportion and power in each replication."""
    shares = []
    for seed in range(replications):
        rows, labels = table(140, seed=seed, noise=1.0)
        selector.set_params(random_state=seed).fit(rows[:100], labels[:100])
        marked = selector.predict(rows[100:])
        is_above = labels[100:] > threshold
        shares.append(
            (
                np.sum(marked & ~is_above) / max(marked.sum(), 1),
                np.sum(marked & is_above) / max(is_above.sum(), 1),
            )
        )
    return np.asarray(shares)


@pytest.mark.parametrize(
    ("selector", "floor"),
    [
        (ConformalSelector(), 0.35),
        (ConformalSelector([Ridge(), KNeighborsRegressor(5)]), 0.3),
        (ConformalSelector(method="full"), 0.4),
    ],
    ids=["split", "list", "full"],
)
def test_false_discovery_rate_is_at_most_the_level(selector, floor):
    level, replications = 0.2, 200
    selector = clone(selector).set_params(level=level, threshold=0.5)
    false, power = false_and_true_shares(selector, replications, 0.5).T
    # Six standard errors: a false alarm once in a billion runs of a correct selector.
    assert false.mean() <= level + 6 * false.std() / np.sqrt(replications)
    # Selecting nothing has no false discoveries; this one has to find something, and to
    # use the level it is given.
    assert power.mean() >= floor
    assert false.mean() >= 0.3 * level


def test_the_simulation_notices_a_broken_selector():
    """Calibrating on the rows that were fitted on is the classical mistake."""

    class Overfitted(ConformalSelector):
        def fit(self, X, y):
            self.estimator = FrozenEstimator(KNeighborsRegressor(1).fit(X, y))
            return super().fit(X, y)

    level, replications = 0.2, 200
    selector = Overfitted(level=level, threshold=0.5)
    false, _ = false_and_true_shares(selector, replications, 0.5).T
    assert false.mean() > level + 6 * false.std() / np.sqrt(replications)
