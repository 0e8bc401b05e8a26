import dataclasses

import numpy as np
import pytest

from jaxcur import ordinal
from jaxcur.ordinal._group import Group
from jaxcur.ordinal._predict import _pool
from tests.helpers import assert_close

N, P, K = 60, 3, 4


def sample(seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, P)).astype(np.float32)
    latent = X @ np.array([1.0, -0.5, 0.0]) + rng.logistic(size=N)
    y = np.digitize(latent, np.quantile(latent, [0.4, 0.7, 0.9]))
    return X, y


def fit(X, y, **options):
    return ordinal.fit(X, y, **{"num_classes": K, "regularization": 0.02, **options})


def test_at_the_largest_strength_everything_is_zero_and_below_it_is_not():
    X, y = sample()
    largest = float(ordinal.max_regularization(X, y, num_classes=K))
    assert not np.any(np.asarray(fit(X, y, regularization=largest * 1.001).blocks))
    assert np.any(np.asarray(fit(X, y, regularization=largest * 0.98).blocks))


def test_intercepts_alone_give_the_frequencies():
    X, y = sample()
    result = fit(X, y, regularization=10.0)
    probs = ordinal.predict_proba(result, X[:1])
    assert_close(probs[0], np.bincount(y) / N, rtol=1e-5)


def test_a_positive_coefficient_moves_mass_to_lower_classes():
    X, y = sample()
    result = fit(X, y)
    assert np.all(np.asarray(result.coefficients[0]) < 0)
    moved = X[:1] + np.array([[1.0, 0, 0]], np.float32)
    before = float(ordinal.predict_proba(result, X[:1])[0, -1])
    assert float(ordinal.predict_proba(result, moved)[0, -1]) > before
    higher = np.asarray(ordinal.odds_ratios(result))
    assert np.all(higher[0] > 1)
    lower = np.asarray(ordinal.odds_ratios(result, direction="lower"))
    assert_close(higher * lower, np.ones((P, K - 1)), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_two_classes_are_the_logistic_lasso():
    X, y = sample()
    X, y = X.astype(float), (y > 0).astype(int)
    result = ordinal.fit(X, y, num_classes=2, regularization=0.02)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    beta = np.asarray(result.coefficients)[:, 0] * X.std(axis=0)
    alpha = float(result.intercepts[0]) + np.asarray(result.coefficients)[
        :, 0
    ] @ X.mean(axis=0)
    below = 1 / (1 + np.exp(-(alpha + Z @ beta)))
    slope = Z.T @ (below - (y == 0)) / N
    assert abs(np.mean(below - (y == 0))) < 1e-9
    there = beta != 0
    assert 0 < there.sum() < P
    assert np.abs(slope + 0.02 * np.sign(beta))[there].max() < 1e-9
    assert np.abs(slope)[~there].max() <= 0.02
    for penalty in (ordinal.NonParallel(), ordinal.Parallel()):
        other = ordinal.fit(X, y, num_classes=2, regularization=0.02, penalty=penalty)
        assert_close(other.coefficients, result.coefficients, rtol=0, atol=1e-9)


def test_a_constant_column_has_coefficient_zero():
    X, y = sample()
    for value in (0.0, 0.1, 12345.678):
        X[:, 2] = value
        result = fit(X, y, regularization=0.0)
        assert int(result.status) == 0
        np.testing.assert_array_equal(np.asarray(result.coefficients[2]), 0)


def test_duplicated_columns_share_their_fit():
    X, y = sample()
    X[:, 2] = X[:, 0]
    result = fit(X, y)
    assert int(result.status) == 0
    X[:, 2] = 0
    single = fit(X, y)
    assert_close(result.objective, float(single.objective), rtol=2e-5)


@pytest.mark.usefixtures("x64")
def test_separation_is_called_diverging_and_a_penalty_cures_it():
    X, _ = sample()
    y = np.digitize(X[:, 0], [-0.5, 0.3, 1.0])
    parallel = ordinal.Parallel()
    result = fit(X.astype(float), y, regularization=0.0, penalty=parallel)
    assert int(result.status) == 2 and "separate" in result.message
    assert np.all(np.isfinite(np.asarray(result.coefficients)))
    assert np.isinf(float(result.gap_bound))
    cured = fit(X.astype(float), y, regularization=0.01, penalty=parallel)
    assert int(cured.status) == 0


def test_too_few_steps_are_reported():
    X, y = sample()
    result = fit(X, y, regularization=0.001, max_steps=1, rtol=1e-6)
    assert int(result.status) == 1


@pytest.mark.slow
def test_semiparallel_and_nonparallel_are_nested():
    X, y = sample()
    strength = 0.02
    one = fit(X, y, regularization=strength, penalty=ordinal.NonParallel())
    # A common part too dear to use leaves the separate vectors.
    two = fit(X, y, regularization=strength, penalty=ordinal.SemiParallel(1e6))
    assert_close(two.objective, float(one.objective), rtol=1e-5)


@pytest.mark.parametrize("repair", ["rearrange", "isotonic", "clip"])
@pytest.mark.parametrize("link", ["logit", "cloglog"])
def test_repaired_probabilities_are_valid(repair, link):
    rng = np.random.default_rng(1)
    result = ordinal.OrdinalResult(*[np.zeros(())] * 14, family="cumulative", link=link)
    result = dataclasses.replace(
        result,
        intercepts=np.array([0.0, 0.5, 1.0], np.float32),
        coefficients=rng.normal(size=(2, 3)).astype(np.float32),
    )
    X = rng.normal(size=(200, 2)).astype(np.float32)
    signed = np.asarray(ordinal.predict_proba(result, X, repair="none"))
    assert (signed < 0).any() and np.allclose(signed.sum(axis=1), 1, atol=1e-5)
    probs = np.asarray(ordinal.predict_proba(result, X, repair=repair))
    assert (probs >= 0).all()
    assert_close(probs.sum(axis=1), np.ones(200), rtol=1e-5)
    valid = (signed >= 0).all(axis=1)
    assert_close(probs[valid], signed[valid], rtol=1e-4, atol=1e-6)


def test_isotonic_repair_pools_neighbours():
    pooled = _pool(np.array([[0.5, 0.3, 0.9], [0.1, 0.2, 0.3]], np.float32))
    assert_close(pooled, np.array([[0.4, 0.4, 0.9], [0.1, 0.2, 0.3]]), rtol=1e-6)


ERRORS = [
    ({"y": np.full(N, 2)}, "single class, 2"),
    ({"y": np.arange(N) % 3}, "never takes class 3"),
    ({"y": np.arange(N) % 5}, r"must lie in 0\.\.3"),
    ({"y": (np.arange(N) % 4) + 0.5}, "must hold integers"),
    ({"y": np.arange(N - 1) % 4}, "same length"),
    ({"num_classes": 1}, "at least 2"),
    ({"weights": -np.ones(N)}, "at least 0"),
    ({"weights": np.zeros(N)}, "not all be 0"),
    ({"weights": np.ones(3)}, "shape"),
    ({"regularization": -1.0}, "at least 0"),
    ({"regularization": [0.1, 0.2]}, "use `path`"),
    ({"family": "ordered"}, "'cumulative', 'sratio'"),
    ({"link": "log"}, "'logit', 'probit'"),
    ({"family": "acat", "link": "probit"}, "'logit' only"),
    ({"max_steps": 0}, "positive integer"),
    ({"rtol": 0.0}, "must be positive"),
    ({"crossing": "never"}, "one of 'own', 'train', 'box'"),
    ({"crossing": "box", "family": "acat"}, "never cross"),
    ({"box": (0.0, 1.0)}, "needs crossing='box'"),
    ({"crossing": "box", "box": (1.0, 0.0)}, "lower <= upper"),
    ({"crossing": "box", "box": ([0.0, 1.0], 1.0)}, r"shape \(\) or \(3,\)"),
    ({"crossing": "box", "box": 1.0}, "pair"),
    ({"crossing": "box", "penalty": Group()}, "not available with Group"),
    ({"penalty": Group(weights=[1.0])}, "shape"),
    ({"penalty": ordinal.Presto(positive=[True])}, "shape"),
    ({"penalty": ordinal.Partial([True])}, "parallel_mask"),
    ({"penalty": ordinal.Presto(weights=[1.0])}, "shape"),
]


@pytest.mark.parametrize(("changed", "match"), ERRORS)
def test_wrong_input_is_named(changed, match):
    X, y = sample()
    options = {"y": y, "num_classes": K, **changed}
    with pytest.raises(ValueError, match=match):
        ordinal.fit(X, **options)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 2.0])
def test_a_ratio_outside_the_unit_interval_is_refused(ratio):
    X, y = sample()
    with pytest.raises(ValueError, match="`ratio` must lie in"):
        ordinal.path(X, y, num_classes=K, ratio=ratio)


def test_a_bad_column_is_named():
    X, y = sample()
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="column 1"):
        fit(X, y)
    X, y = sample()
    with pytest.raises(ValueError, match="must have 3 columns"):
        ordinal.predict_proba(fit(X, y), X[:, :2])


def test_penalties_refuse_nonsense():
    with pytest.raises(ValueError, match="`first`"):
        ordinal.Presto(first=-1.0)
    with pytest.raises(ValueError, match="`l1_ratio`"):
        ordinal.Presto(l1_ratio=1.5)
    with pytest.raises(TypeError, match="booleans"):
        ordinal.Partial([0, 1])
    with pytest.raises(TypeError, match="booleans"):
        ordinal.Presto(positive=[0, 1])
    with pytest.raises(ValueError, match="`first`"):
        Group(first=-1.0)
    with pytest.raises(TypeError, match=r"Presto\(\)"):
        X, y = sample()
        fit(X, y, penalty="presto")
