"""One table of bad inputs for every learner."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from jaxcur import learners
from tests.helpers import assert_close

KEY = jax.random.key(0)
RNG = np.random.default_rng(10)
FEATURES = RNG.standard_normal((8, 2))
TARGET = np.array([0.0, 1, 0, 1, 1, 0, 1, 0])
LEARNERS = {
    "ridge": learners.Ridge(1.0),
    "kernel_ridge": learners.KernelRidge(learners.RBF(1.0), 1.0),
    "knn": learners.KNN(2),
    "nadaraya_watson": learners.NadarayaWatson(learners.RBF(1.0)),
    "logistic": learners.Logistic(1.0),
    "mlp": learners.MLP(hidden=(2,), max_steps=2),
    "host": learners.HostLearner(LinearRegression()),
    "sorted": learners.SortedRows(learners.Ridge(1.0)),
}


def spoiled(array, value):
    array = np.array(array, float)
    array.flat[3] = value
    return array


BAD = {
    "features of rank 1": ((FEATURES[:, 0], TARGET), r"`features` must have shape"),
    "target of rank 2": ((FEATURES, TARGET[:, None]), r"target\[:, 0\]"),
    "fewer targets": ((FEATURES, TARGET[:5]), "must have the same length"),
    "fewer weights": ((FEATURES, TARGET, np.ones(5)), "must have the same length"),
    "no row": ((FEATURES[:0], TARGET[:0]), "at least one row"),
    "no column": ((FEATURES[:, :0], TARGET), "at least one row and one column"),
    "nan feature": ((spoiled(FEATURES, np.nan), TARGET), "`features` must be finite"),
    "inf feature": ((spoiled(FEATURES, -np.inf), TARGET), "`features` must be finite"),
    "nan target": ((FEATURES, spoiled(TARGET, np.nan)), "`target` must be finite"),
    "inf target": ((FEATURES, spoiled(TARGET, np.inf)), "`target` must be finite"),
    "nan weight": (
        (FEATURES, TARGET, spoiled(np.ones(8), np.nan)),
        "`weights` must be finite and nonnegative",
    ),
    "negative weight": (
        (FEATURES, TARGET, spoiled(np.ones(8), -1)),
        "`weights` must be finite and nonnegative",
    ),
    "no weight": ((FEATURES, TARGET, np.zeros(8)), "must not all be zero"),
}


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("bad", BAD)
def test_bad_data_is_named(name, bad):
    arguments, message = BAD[bad]
    with pytest.raises(ValueError, match=message):
        LEARNERS[name].fit(*arguments, key=KEY)
    with pytest.raises(ValueError, match=message):
        learners.leave_one_out(LEARNERS[name], *arguments, key=KEY)


@pytest.mark.parametrize("name", LEARNERS)
def test_complex_and_text_are_type_errors(name):
    for wrong in (FEATURES * 1j, np.full((8, 2), "a")):
        with pytest.raises(TypeError, match="`features` must hold real numbers"):
            LEARNERS[name].fit(wrong, TARGET, key=KEY)


@pytest.mark.parametrize("name", LEARNERS)
def test_integers_booleans_lists_and_views_are_taken(name):
    learner = LEARNERS[name]
    counts = np.arange(16).reshape(8, 2) % 5

    def predict(features, target):
        params = learner.fit(features, target, key=KEY)
        return np.asarray(learner.predict(params, features))

    plain = predict(counts.astype(float), TARGET)
    assert_close(predict(counts, TARGET == 1), plain, rtol=1e-6, atol=1e-7)
    assert_close(predict(counts.tolist(), TARGET.tolist()), plain, rtol=1e-6, atol=1e-7)
    view = np.asfortranarray(np.repeat(counts, 2, axis=0))[::2]
    assert_close(predict(view, TARGET), plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LEARNERS)
def test_wrong_columns_at_prediction_are_named(name):
    learner = LEARNERS[name]
    params = learner.fit(FEATURES, TARGET, key=KEY)
    with pytest.raises(ValueError, match="features"):
        learner.predict(params, np.ones((3, 5)))


@pytest.mark.parametrize("name", ["ridge", "kernel_ridge", "knn", "logistic", "mlp"])
def test_no_new_rows_give_no_predictions(name):
    learner = LEARNERS[name]
    params = learner.fit(FEATURES, TARGET, key=KEY)
    assert learner.predict(params, FEATURES[:0]).shape == (0,)


@pytest.mark.parametrize("name", ["ridge", "kernel_ridge", "knn", "nadaraya_watson"])
def test_nan_under_jit_poisons_and_does_not_pass_for_a_number(name):
    found = jax.jit(LEARNERS[name].leave_one_out)(spoiled(FEATURES, np.nan), TARGET)
    # Row 1 holds the NaN: its own prediction, at least, cannot be a number.
    assert np.isnan(found[1])


@pytest.mark.parametrize("name", ["ridge", "kernel_ridge", "logistic", "knn"])
def test_huge_units_are_finite(name):
    learner = LEARNERS[name]
    found = learner.leave_one_out(FEATURES * 1e12, TARGET)
    assert np.isfinite(found).all()
