import jax
import numpy as np
import pytest

from jaxcur.learners import Logistic
from tests.helpers import assert_close

RNG = np.random.default_rng(5)
FEATURES = RNG.standard_normal((30, 3))
TARGET = (FEATURES[:, 0] + RNG.standard_normal(30) > 0).astype(float)
STEPS = np.arange(8.0)[:, None]
SEPARATED = (STEPS[:, 0] > 3).astype(float)


def gradient(features, target, weights, params, regularization):
    logit = features @ params.coefficients + params.intercept
    slope = weights * (1 / (1 + np.exp(-logit)) - target)
    return np.append(
        features.T @ slope + regularization * params.coefficients, slope.sum()
    )


@pytest.mark.parametrize("regularization", [0.0, 0.01, 10.0])
def test_the_gradient_vanishes(x64, regularization):
    weights = RNG.uniform(0, 2, 30)
    target = 0.8 * TARGET + 0.1
    params = Logistic(regularization).fit(FEATURES, target, weights)
    assert bool(params.converged)
    found = gradient(FEATURES, target, weights, params, regularization)
    assert_close(found, np.zeros(4), rtol=0, atol=1e-10)


def test_two_groups_by_hand(x64):
    # One 0/1 feature, no penalty: the fitted probabilities are the shares.
    group = np.array([0.0, 0, 0, 0, 1, 1, 1, 1])[:, None]
    labels = np.array([1.0, 0, 0, 0, 1, 1, 1, 0])
    learner = Logistic(0.0)
    params = learner.fit(group, labels)
    found = learner.predict(params, np.array([[0.0], [1.0]]))
    assert_close(found, np.array([0.25, 0.75]), rtol=1e-10)
    assert_close(
        learner.predict_logit(params, np.array([[1.0]])),
        np.array([np.log(3)]),
        rtol=1e-10,
    )


@pytest.mark.parametrize("intercept", [True, False])
def test_leave_one_out_equals_refits(x64, intercept):
    learner = Logistic(0.5, intercept=intercept)
    weights = RNG.integers(0, 3, 30).astype(float)
    expected = []
    for i in range(30):
        kept = weights.copy()
        kept[i] = 0
        params = learner.fit(FEATURES[kept > 0], TARGET[kept > 0], kept[kept > 0])
        expected.append(learner.predict(params, FEATURES[i : i + 1])[0])
    for batch_size in (None, 7):
        found = learner.leave_one_out(FEATURES, TARGET, weights, batch_size=batch_size)
        assert_close(found, np.array(expected), rtol=1e-8)


def test_the_approximation_is_near_and_exact_for_absent_rows(x64):
    learner = Logistic(2.0)
    weights = np.ones(30)
    weights[4] = 0
    exact = learner.leave_one_out(FEATURES, TARGET, weights)
    found = learner.approximate_leave_one_out(FEATURES, TARGET, weights)
    assert_close(found[4], exact[4], rtol=1e-10)
    in_sample = learner.predict(learner.fit(FEATURES, TARGET, weights), FEATURES)
    error = np.max(np.abs(found - exact))
    assert 0 < error < 0.1 * np.max(np.abs(in_sample - exact))


@pytest.mark.parametrize("name", ["float32", "float64"])
@pytest.mark.parametrize("regularization", [0.0, 1e-6, 1.0])
def test_separated_classes_stay_finite(name, regularization):
    with jax.enable_x64(name == "float64"):
        learner = Logistic(regularization)
        params = learner.fit(STEPS, SEPARATED)
        assert np.isfinite(params.coefficients).all()
        assert int(params.num_steps) <= 50
        fitted = learner.predict(params, STEPS)
        assert ((np.asarray(fitted) > 0.5) == (SEPARATED == 1)).all()
        left = learner.leave_one_out(STEPS, SEPARATED)
        assert np.isfinite(left).all()
        if regularization:
            assert bool(params.converged)
            # By symmetry of the data about 3.5.
            assert_close(left[:4], 1 - left[:3:-1], rtol=0, atol=1e-4)


def test_a_small_penalty_is_solved_in_float32_too():
    with jax.enable_x64(True):
        exact = Logistic(1e-6).fit(STEPS, SEPARATED).coefficients
    found = Logistic(1e-6).fit(STEPS, SEPARATED).coefficients
    assert_close(found, np.asarray(exact), rtol=1e-3)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_equal_targets_give_a_certain_prediction(label):
    learner = Logistic(1.0)
    params = learner.fit(FEATURES, np.full(30, label))
    assert np.isfinite(params.intercept)
    assert_close(
        learner.predict(params, FEATURES), np.full(30, label), rtol=0, atol=1e-6
    )
    assert np.isfinite(learner.leave_one_out(FEATURES, np.full(30, label))).all()


def test_too_few_steps_are_reported():
    params = Logistic(0.01, max_steps=1).fit(FEATURES, TARGET)
    assert not bool(params.converged)
    assert int(params.num_steps) == 1


def test_badly_scaled_and_collinear_columns(x64):
    scaled = FEATURES[:, :2] * [1e4, 1e-4]
    doubled = np.column_stack([scaled, scaled])
    params = Logistic(1e-3).fit(doubled, TARGET)
    assert bool(params.converged)
    assert_close(params.coefficients[:2], params.coefficients[2:], rtol=1e-6)


def test_the_only_row_has_nothing_to_learn_from():
    assert np.isnan(Logistic(1.0).leave_one_out(np.ones((1, 1)), np.ones(1))).all()


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"`target` must lie in \[0, 1\]"):
        Logistic(1.0).fit(FEATURES, TARGET * 2)
    with pytest.raises(ValueError, match="`regularization` must be nonnegative"):
        Logistic(-1.0)
    with pytest.raises(ValueError, match="`max_steps` must be a positive integer"):
        Logistic(1.0, max_steps=0)
