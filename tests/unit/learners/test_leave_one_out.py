import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.linear_model import Ridge as PeerRidge
from sklearn.neighbors import KNeighborsRegressor

from jaxcur import learners
from tests.helpers import assert_close

RNG = np.random.default_rng(8)
FEATURES = RNG.standard_normal((11, 2))
TARGET = RNG.standard_normal(11)
WEIGHTS = np.array([1.0, 0, 1, 2, 1, 1, 0.5, 1, 1, 0, 1])
NEW = RNG.standard_normal((4, 2))


class WeightedMean:
    """A user's learner: predicts shift + the weighted mean."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, features, target, weights, *, key=None):
        return self.shift + jnp.sum(weights * target) / jnp.sum(weights)

    def predict(self, params, features):
        return jnp.full(features.shape[0], params)


@dataclasses.dataclass(frozen=True)
class Frozen(WeightedMean):
    shift: float = 0.0


class Noisy(WeightedMean):
    def fit(self, features, target, weights, *, key=None):
        return super().fit(features, target, weights) + jax.random.normal(key)


class Refitted:
    """A learner of the package without its closed forms."""

    def __init__(self, learner):
        self.fit, self.predict = learner.fit, learner.predict


def means_without_each(target, weights):
    kept = weights[None, :] * (1 - np.eye(len(target)))
    return kept @ target / kept.sum(axis=1)


@pytest.mark.parametrize("batch_size", [None, 1, 4, 11, 50])
def test_refits_of_a_user_learner(batch_size):
    found = learners.leave_one_out(
        WeightedMean(), FEATURES, TARGET, WEIGHTS, batch_size=batch_size
    )
    assert_close(found, means_without_each(TARGET, WEIGHTS), rtol=1e-5, atol=1e-6)
    mean = learners.mean_leave_one_out_predict(
        WeightedMean(), FEATURES, TARGET, NEW, WEIGHTS, batch_size=batch_size
    )
    expected = means_without_each(TARGET, WEIGHTS)[WEIGHTS > 0].mean()
    assert_close(mean, np.full(4, expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "learner",
    [
        learners.Ridge(0.5),
        learners.KernelRidge(learners.RBF(0.5), 0.5),
        learners.KNN(3),
        learners.NadarayaWatson(learners.RBF(1.0)),
    ],
    ids=lambda learner: type(learner).__name__,
)
def test_closed_forms_equal_the_generic_refits(x64, learner):
    closed = learners.leave_one_out(learner, FEATURES, TARGET, WEIGHTS)
    refits = learners.leave_one_out(Refitted(learner), FEATURES, TARGET, WEIGHTS)
    assert_close(closed, refits, rtol=1e-9, atol=1e-11)
    arguments = (FEATURES, TARGET, NEW, WEIGHTS)
    closed = learners.mean_leave_one_out_predict(learner, *arguments)
    refits = learners.mean_leave_one_out_predict(Refitted(learner), *arguments)
    assert_close(closed, refits, rtol=1e-9, atol=1e-11)


def test_every_refit_gets_the_same_key():
    key = jax.random.key(3)
    found = learners.leave_one_out(Noisy(), FEATURES, TARGET, key=key)
    noise = np.asarray(found) - means_without_each(TARGET, np.ones(11))
    assert_close(noise, np.full(11, jax.random.normal(key)), rtol=1e-4)


def test_a_changed_attribute_is_seen():
    learner = WeightedMean()
    first = learners.leave_one_out(learner, FEATURES, TARGET)
    learner.shift = 2.0
    second = learners.leave_one_out(learner, FEATURES, TARGET)
    assert_close(second, first + 2, rtol=1e-5)


def test_a_frozen_learner_is_compiled_once():
    traces = []

    @dataclasses.dataclass(frozen=True)
    class Counted(Frozen):
        def fit(self, features, target, weights, *, key=None):
            traces.append(1)
            return super().fit(features, target, weights, key=key)

    learners.leave_one_out(Counted(1.0), FEATURES, TARGET)
    once = len(traces)
    learners.leave_one_out(Counted(1.0), FEATURES, TARGET + 1)
    assert len(traces) == once
    moved = learners.leave_one_out(Counted(2.0), FEATURES, TARGET)
    plain = learners.leave_one_out(WeightedMean(2.0), FEATURES, TARGET)
    assert_close(moved, plain, rtol=1e-6)


def test_options_of_an_own_method_are_passed_on():
    class Own(WeightedMean):
        def leave_one_out(self, features, target, weights, *, key, batch_size):
            return jnp.full(3, batch_size) + jax.random.normal(key)

    key = jax.random.key(0)
    found = learners.leave_one_out(Own(), FEATURES, TARGET, key=key, batch_size=2)
    assert_close(found, jnp.full(3, 2) + jax.random.normal(key), rtol=1e-6)


def test_an_estimator_on_the_host(x64):
    learner = learners.HostLearner(PeerRidge(alpha=0.5))
    ours = learners.Ridge(0.5)
    for weights in (None, WEIGHTS):
        assert_close(
            learners.leave_one_out(learner, FEATURES, TARGET, weights),
            ours.leave_one_out(FEATURES, TARGET, weights),
            rtol=1e-9,
        )
        assert_close(
            learners.mean_leave_one_out_predict(
                learner, FEATURES, TARGET, NEW, weights
            ),
            ours.mean_leave_one_out_predict(FEATURES, TARGET, NEW, weights),
            rtol=1e-9,
        )
    assert not hasattr(learner.estimator, "coef_")


def test_an_estimator_without_sample_weights_takes_absent_rows(x64):
    learner = learners.HostLearner(KNeighborsRegressor(2))
    found = learners.leave_one_out(learner, FEATURES, TARGET, WEIGHTS > 0)
    expected = learners.KNN(2).leave_one_out(FEATURES, TARGET, WEIGHTS > 0)
    assert_close(found, expected, rtol=1e-9)


def test_probabilities_and_decisions_of_an_estimator():
    labels = (TARGET > 0).astype(float)
    probability = learners.HostLearner(LogisticRegression(), method="predict_proba")
    decision = learners.HostLearner(LogisticRegression(), method="decision_function")
    p = probability.predict(probability.fit(FEATURES, labels), FEATURES)
    t = decision.predict(decision.fit(FEATURES, labels), FEATURES)
    assert_close(p, 1 / (1 + np.exp(-t)), rtol=1e-5)


def test_the_key_sets_the_random_state():
    learner = learners.HostLearner(RandomForestRegressor(5))

    def predict(seed):
        key = jax.random.key(seed)
        return learner.predict(learner.fit(FEATURES, TARGET, key=key), NEW)

    assert_close(predict(0), predict(0), rtol=0)
    assert not np.array_equal(predict(0), predict(1))
    assert learner.estimator.random_state is None


def test_a_host_learner_refuses_to_be_traced():
    learner = learners.HostLearner(LinearRegression())
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(lambda x: learner.fit(x, TARGET))(FEATURES)
    with pytest.raises(TypeError, match="must have a method fit"):
        learners.HostLearner(object())
    with pytest.raises(TypeError, match="must have a method predict_proba"):
        learners.HostLearner(LinearRegression(), method="predict_proba")
    with pytest.raises(ValueError, match="`method` must be one of"):
        learners.HostLearner(LinearRegression(), method="transform")


def test_a_learner_that_calls_numpy_unannounced_is_told():
    class Forgot(WeightedMean):
        def fit(self, features, target, weights, *, key=None):
            return float(np.sum(np.asarray(weights) * np.asarray(target)))

    with pytest.raises(TypeError, match="on_host = True"):
        learners.leave_one_out(Forgot(), FEATURES, TARGET)


@pytest.mark.parametrize("learner", [object(), learners.Ridge, None, "ridge"])
def test_what_is_no_learner_is_refused(learner):
    with pytest.raises(TypeError, match="`learner` must be an object with methods"):
        learners.leave_one_out(learner, FEATURES, TARGET)
    with pytest.raises(TypeError, match="`learner` must be an object with methods"):
        learners.mean_leave_one_out_predict(learner, FEATURES, TARGET, NEW)


def test_batch_size_is_a_positive_integer():
    for learner in (WeightedMean(), learners.Ridge(1.0)):
        with pytest.raises(ValueError, match="`batch_size` must be positive"):
            learners.leave_one_out(learner, FEATURES, TARGET, batch_size=0)
        with pytest.raises(TypeError, match="`batch_size` must be an integer"):
            learners.leave_one_out(learner, FEATURES, TARGET, batch_size=2.0)


def test_every_learner_follows_the_protocol():
    for learner in (
        learners.Ridge(1.0),
        learners.KernelRidge(learners.RBF(1.0), 1.0),
        learners.KNN(1),
        learners.NadarayaWatson(learners.RBF(1.0)),
        learners.Logistic(1.0),
        learners.MLP(),
        learners.HostLearner(LinearRegression()),
        learners.SortedRows(learners.Ridge(1.0)),
    ):
        assert isinstance(learner, learners.Learner)
