"""Predictions of independent implementations; provenance beside the data.

The stored leave-one-out predictions are scikit-learn refits in float64, fair to 1e-8.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model, neighbors
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from jaxcur import learners
from tests.helpers import assert_close, load_reference

MODELS = {
    "ridge_0.1": learners.Ridge(0.1),
    "ridge_1": learners.Ridge(1.0),
    "ridge_30": learners.Ridge(30.0),
    "ridge_1_noint": learners.Ridge(1.0, intercept=False),
    "krr_rbf_g0.5_a1": learners.KernelRidge(learners.RBF(0.5), 1.0),
    "krr_rbf_g2_a0.1": learners.KernelRidge(learners.RBF(2.0), 0.1),
    "knn_5": learners.KNN(5),
}
CASES = load_reference("conformal/optcs_full.json")["cases"]
# float32 against float64: conditioning of K + 0.1 I is about 1e3.
TOLERANCE = {"float64": 1e-8, "float32": 1e-4}


def pooled(case: dict, dtype) -> tuple[jax.Array, jax.Array]:
    features = np.concatenate([case["X"], case["Xt"]])
    labels = np.concatenate([np.asarray(case["Y"]) > 0, np.zeros(case["m"])])
    return jnp.asarray(features, dtype), jnp.asarray(labels, dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"seed{c['seed']}")
def test_leave_one_out_equals_stored_refits(case, dtype):
    features, labels = pooled(case, dtype)
    tolerance = TOLERANCE[dtype.name]
    assert case["loo_pred"].keys() <= MODELS.keys()
    for name, stored in case["loo_pred"].items():
        predicted = MODELS[name].leave_one_out(features, labels)
        assert predicted.dtype == dtype
        assert_close(predicted, stored, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda c: f"seed{c['seed']}")
def test_in_sample_predictions_equal_stored_fits(case, dtype):
    features, labels = pooled(case, dtype)
    tolerance = TOLERANCE[dtype.name]
    for name, stored in case["insample_pred"].items():
        learner = MODELS[name]
        predicted = learner.predict(learner.fit(features, labels), features)
        assert_close(predicted, stored, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("regularization", [0.01, 1.0, 50.0])
def test_logistic_equals_scikit_learn(x64, regularization):
    rng = np.random.default_rng(3)
    features = rng.standard_normal((60, 4)) + 1
    target = (features[:, 0] + rng.standard_normal(60) > 1).astype(float)
    weights = rng.integers(0, 3, 60).astype(float)
    peer = linear_model.LogisticRegression(
        C=1 / regularization, tol=1e-12, max_iter=1000, solver="newton-cholesky"
    ).fit(features, target, sample_weight=weights)
    learner = learners.Logistic(regularization)
    params = learner.fit(features, target, weights)
    assert bool(params.converged)
    # Iterative on both sides: 1e-6 relative is the bar.
    assert_close(params.coefficients, peer.coef_[0], rtol=1e-6, atol=1e-9)
    assert_close(params.intercept, peer.intercept_[0], rtol=1e-6, atol=1e-9)
    probability = peer.predict_proba(features)[:, 1]
    assert_close(learner.predict(params, features), probability, rtol=1e-6)


def test_logistic_leave_one_out_equals_scikit_learn_refits(x64):
    rng = np.random.default_rng(4)
    features = rng.standard_normal((25, 3))
    target = (features[:, 0] + rng.standard_normal(25) > 0).astype(float)
    refits = []
    for i in range(25):
        kept = np.arange(25) != i
        peer = linear_model.LogisticRegression(
            C=2.0, tol=1e-12, max_iter=1000, solver="newton-cholesky"
        ).fit(features[kept], target[kept])
        refits.append(peer.predict_proba(features[i : i + 1])[0, 1])
    predicted = learners.Logistic(0.5).leave_one_out(features, target)
    assert_close(predicted, np.array(refits), rtol=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_weighted_ridge_equals_scikit_learn(x64, intercept):
    rng = np.random.default_rng(5)
    features = rng.standard_normal((40, 6)) + 2
    target = rng.standard_normal(40)
    weights = rng.uniform(0, 3, 40)
    peer = linear_model.Ridge(alpha=0.7, fit_intercept=intercept, solver="cholesky")
    peer.fit(features, target, sample_weight=weights)
    params = learners.Ridge(0.7, intercept=intercept).fit(features, target, weights)
    assert_close(params.coefficients, peer.coef_, rtol=1e-9)
    assert_close(params.intercept, np.float64(peer.intercept_), rtol=1e-9)


@pytest.mark.parametrize("columns", [3, 12])
def test_unpenalised_ridge_equals_the_least_squares_of_numpy(x64, columns):
    # Twelve columns for nine rows: the solution of minimal norm.
    rng = np.random.default_rng(6)
    features = rng.standard_normal((9, columns))
    target = rng.standard_normal(9)
    centred = features - features.mean(axis=0)
    peer = np.linalg.lstsq(centred, target - target.mean(), rcond=None)[0]
    params = learners.Ridge(0.0).fit(features, target)
    assert_close(params.coefficients, peer, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("k", [1, 4])
def test_nearest_neighbours_equal_scikit_learn(x64, k):
    rng = np.random.default_rng(7)
    features, queries = rng.standard_normal((50, 3)), rng.standard_normal((20, 3))
    target = rng.standard_normal(50)
    peer = neighbors.KNeighborsRegressor(k).fit(features, target)
    learner = learners.KNN(k)
    predicted = learner.predict(learner.fit(features, target), queries)
    assert_close(predicted, peer.predict(queries), rtol=1e-12)


def test_kernel_ridge_is_the_mean_of_a_gaussian_process(x64):
    rng = np.random.default_rng(8)
    features, queries = rng.standard_normal((30, 2)), rng.standard_normal((9, 2))
    target = rng.standard_normal(30)
    process = GaussianProcessRegressor(
        kernels.RBF(length_scale=0.8), alpha=0.3, optimizer=None
    ).fit(features, target)
    learner = learners.KernelRidge(learners.RBF(1 / (2 * 0.8**2)), 0.3)
    predicted = learner.predict(learner.fit(features, target), queries)
    assert_close(predicted, process.predict(queries), rtol=1e-9, atol=1e-12)
