"""The chapter on a rare class: its worlds, its three methods, and what it concludes."""

import numpy as np
import pytest

from jaxcur import ordinal
from jaxcur.cli.demo.chapters import _rare_study as study


@pytest.fixture(scope="module")
def worlds():
    return study.draw_worlds(11, 40)


@pytest.fixture(scope="module")
def found(worlds):
    return study.fit_all(11, worlds.X, worlds.y)


def errors(worlds, found):
    shape = (3, *worlds.X.shape)
    rare = found.fits.rare(np.broadcast_to(worlds.X, shape))
    return ((rare - worlds.rare) ** 2).mean(axis=-1)


def test_a_world_is_a_valid_model_with_a_rare_class(worlds):
    eta = study.INTERCEPTS + np.einsum("wnp,wpk->wnk", worlds.X, worlds.coefficients)
    assert (np.diff(eta, axis=-1) > 0).all()
    np.testing.assert_allclose(worlds.rare, 1 / (1 + np.exp(eta[..., -1])), rtol=1e-12)
    share = (worlds.y == 3).mean()
    assert share < 0.02
    # Four standard errors of a mean of independent outcomes.
    assert abs(share - worlds.rare.mean()) < 4 * (share / worlds.y.size) ** 0.5
    changed = np.diff(worlds.coefficients, axis=-1) != 0
    assert 0.35 < changed.mean() < 0.65


def test_the_methods_are_what_they_are_called(worlds, found):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = worlds.X[0], worlds.y[0]
    plain = linear_model.LogisticRegression(C=1e3, tol=1e-8, max_iter=1000)
    plain.fit(X, y < 3)
    # Two optimisers, one of them in float32.
    np.testing.assert_allclose(
        found.fits.slopes[study.LOGISTIC, 0], plain.coef_[0], atol=0.01
    )
    alike = ordinal.fit(
        X, y, num_classes=4, penalty=ordinal.Presto(0.0), regularization=10.0
    )
    assert (np.asarray(alike.blocks[1:]) == 0).all()
    np.testing.assert_allclose(
        found.fits.slopes[study.PROPORTIONAL, 0],
        np.asarray(alike.coefficients)[:, -1],
        atol=2e-3,
    )
    presto = ordinal.fit(X, y, num_classes=4, regularization=found.strengths[0])
    np.testing.assert_allclose(found.coefficients[0], presto.coefficients, atol=2e-3)


def test_presto_is_nearer_to_the_truth(worlds, found):
    error = errors(worlds, found)
    for other in (study.LOGISTIC, study.PROPORTIONAL):
        logs = np.log(error[study.PRESTO] / error[other])
        assert logs.mean() + 3 * logs.std() / len(logs) ** 0.5 < 0
    # Not at the ends of what is tried, or it was not tried well.
    assert 0.0 < np.mean(found.strengths > study._STRENGTHS[-1])


def test_fewer_rows_are_filled_up_without_effect(worlds):
    fewer = 900
    found = study.fit_all(3, worlds.X[:1, :fewer], worlds.y[:1, :fewer])
    expected = ordinal.fit(
        worlds.X[0],
        worlds.y[0],
        num_classes=4,
        regularization=found.strengths[0],
        weights=(np.arange(study.NUM_ROWS) < fewer).astype(float),
    )
    np.testing.assert_allclose(found.coefficients[0], expected.coefficients, atol=2e-3)


def test_resampling_by_weights_of_one_is_the_fit(worlds, found, monkeypatch):
    class Ones:
        def exponential(self, size):
            return np.ones(size)

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Ones())
    again = study.resample(0, worlds.X[0], worlds.y[0], float(found.strengths[0]), 2)
    for place, method in ((0, study.LOGISTIC), (1, study.PRESTO)):
        np.testing.assert_allclose(
            again.slopes[place, 0], found.fits.slopes[method, 0], atol=2e-3
        )


def test_patients_have_four_classes_and_a_rare_last_one():
    X, y = study.patients()
    assert X.shape == (442, 6) and np.bincount(y).tolist() == [147, 139, 128, 28]
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-12)
