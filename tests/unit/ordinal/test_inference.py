import warnings

import jax
import numpy as np
import pytest

from jaxcur import ordinal
from jaxcur.ordinal._cross_validate import _stratified, row_scores
from tests.helpers import assert_close

N, K = 60, 4


def sample():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 3)).astype(np.float32)
    latent = X @ np.array([1.0, -0.5, 0.0]) + rng.logistic(size=N)
    return X, np.digitize(latent, np.quantile(latent, [0.4, 0.7, 0.9]))


@pytest.fixture(scope="module")
def fitted():
    X, y = sample()
    mask = np.ones(3, bool)
    return X, y, ordinal.fit(X, y, num_classes=K, penalty=ordinal.Partial(mask))


def test_every_row_a_cluster_is_the_sandwich(fitted):
    X, y, result = fitted
    plain = ordinal.standard_errors(result, X, y, kind="sandwich")
    own = ordinal.standard_errors(result, X, y, kind="cluster", clusters=np.arange(N))
    assert_close(own.covariance, plain.covariance, rtol=1e-4, atol=1e-6)
    # Rows in pairs, each twice: the clusters know that nothing was gained.
    twice = ordinal.standard_errors(
        result,
        np.repeat(X, 2, axis=0),
        np.repeat(y, 2),
        kind="cluster",
        clusters=np.repeat(np.arange(N), 2),
    )
    assert_close(twice.coefficients, plain.coefficients, rtol=1e-3)


def test_intercept_errors_belong_to_the_original_scale(fitted):
    X, y, result = fitted
    errors = ordinal.standard_errors(result, X, y)
    covariance = np.asarray(errors.covariance)
    assert covariance.shape == (12, 12)
    assert_close(np.sqrt(np.diag(covariance))[:3], errors.intercepts, rtol=1e-6)
    # Proportional: one number per feature.
    for k in (1, 2):
        assert_close(errors.coefficients[:, k], errors.coefficients[:, 0], rtol=1e-4)


def test_misuse_of_standard_errors(fitted):
    X, y, result = fitted
    with pytest.raises(ValueError, match="belong together"):
        ordinal.standard_errors(result, X, y, kind="cluster")
    with pytest.raises(ValueError, match="'observed', 'expected'"):
        ordinal.standard_errors(result, X, y, kind="hessian")
    penalised = ordinal.fit(X, y, num_classes=K, regularization=0.02)
    with pytest.raises(ValueError, match="unpenalised"):
        ordinal.standard_errors(penalised, X, y)


def test_two_classes_have_no_nominal_test(fitted):
    X, y, _ = fitted
    with pytest.raises(ValueError, match="at least 3"):
        ordinal.nominal_test(X, y > 1, num_classes=2)


def test_folds_deal_every_class_out():
    y = np.repeat([0, 1, 2], [40, 10, 5])
    folds = _stratified(y, jax.random.uniform(jax.random.key(0), (55,)), 5)
    for k in range(3):
        counts = np.bincount(np.asarray(folds)[y == k], minlength=5)
        assert counts.max() - counts.min() <= 1
    assert np.bincount(np.asarray(folds)).tolist() == [11] * 5


def test_scores_of_one_row():
    probs = np.array([[0.2, 0.5, 0.3]], np.float32)
    y = np.array([2])
    expected = {
        "brier": 0.04 + 0.25 + 0.49,
        "logloss": -np.log(0.3),
        "rare_brier": 0.49,
        "rps": 0.04 + 0.49,
        "misclass": 1.0,
    }
    for criterion, value in expected.items():
        assert_close(row_scores(criterion, probs, y)[0], value, rtol=1e-5)


def test_cross_validation_scores_with_the_probabilities_of_predict_proba():
    X, y = sample()
    folds = np.arange(N) % 3
    kept = {"num_classes": K, "num_regularizations": 4}
    found = ordinal.cross_validate(X, y, folds=folds, **kept)
    held = folds == 1
    path = ordinal.path(
        X, y, num_classes=K, weights=~held, regularizations=found.regularizations
    )
    probs = ordinal.predict_proba(path.at(2), X[held], repair="none")
    score = row_scores("brier", probs, y[held]).mean()
    assert_close(found.fold_scores[2, 1], float(score), rtol=1e-4)
    assert int(found.selected) == int(np.argmin(np.asarray(found.mean_scores)))
    chosen = found.result
    assert_close(
        chosen.regularization, found.regularizations[found.selected], rtol=1e-6
    )
    cautious = ordinal.cross_validate(X, y, folds=folds, rule="one_se", **kept)
    assert int(cautious.selected) <= int(found.selected)


def test_misuse_of_cross_validation():
    X, y = sample()
    with pytest.raises(ValueError, match="key"):
        ordinal.cross_validate(X, y, num_classes=K)
    with pytest.raises(ValueError, match="not both"):
        ordinal.cross_validate(
            X, y, num_classes=K, key=jax.random.key(0), folds=np.arange(N) % 2
        )
    with pytest.raises(ValueError, match="leaves no row of class"):
        ordinal.cross_validate(X, y, num_classes=K, folds=(y == 3).astype(int))
    y = np.where(np.arange(N) < 2, 3, np.minimum(y, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="class 3 has 2 rows"):
            ordinal.cross_validate(X, y, num_classes=K, key=jax.random.key(0))


def by_hand(probs, events, num_bins):
    order = np.argsort(probs, kind="stable")
    return [(probs[part], events[part]) for part in np.array_split(order, num_bins)]


def test_the_calibration_error_by_hand():
    rng = np.random.default_rng(0)
    probs = rng.uniform(size=107)
    events = rng.uniform(size=107) < probs
    bins = by_hand(probs, events, 10)
    plain = sum(np.sum((p - e.mean()) ** 2) for p, e in bins) / 107
    noise = sum(len(e) * e.mean() * (1 - e.mean()) / (len(e) - 1) for _, e in bins)
    means = sum(len(p) * (p.mean() - e.mean()) ** 2 for p, e in bins) / 107
    error = ordinal.binned_squared_calibration_error
    assert_close(error(probs, events), plain, rtol=1e-5)
    assert_close(
        error(probs, events, variant="debiased"), plain - noise / 107, rtol=1e-4
    )
    assert_close(error(probs, events, variant="bin_mean"), means, rtol=1e-4)
    # The order of the rows does not matter: nothing pairs sorted with unsorted.
    shuffle = rng.permutation(107)
    assert_close(error(probs[shuffle], events[shuffle]), plain, rtol=1e-5)
    with pytest.raises(ValueError, match="at least 10 rows"):
        error(probs[:9], events[:9])
