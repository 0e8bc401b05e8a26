"""Calibration and refinement by cross-fitting, and decompositions of user scores."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N = 400
RNG = np.random.default_rng(7)
S = 2 * RNG.standard_normal(N)
F = 1 / (1 + np.exp(-3 * S))
Y = (RNG.random(N) < 1 / (1 + np.exp(-S))).astype(int)
P = RNG.dirichlet(np.ones(3), N)
C = (RNG.random((N, 1)) > P.cumsum(1)[:, :2]).sum(1)
Q = P**3 / np.sum(P**3, axis=1, keepdims=True)
FOLDS = np.arange(N) % 4
KEY = jax.random.key(0)

pytestmark = pytest.mark.usefixtures("x64")
refinement = functools.partial(calibration.refinement_decomposition, num_folds=4)


def fitted(method, f, y, w):
    """The repair of one fold, by hand."""
    if method == "temperature":
        if f.ndim == 2:
            one = calibration.fit_temperature(np.log(f), y, weights=w)
            return one(np.log(f))
        logits = np.log(f) - np.log1p(-f)
        return calibration.fit_temperature(logits, y, weights=w)(logits)
    if f.ndim == 2:
        return calibration.fit_one_vs_rest(calibration.fit_isotonic, f, y, weights=w)(f)
    return calibration.fit_isotonic(f, y, weights=w)(f)


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
@pytest.mark.parametrize("score", ["brier", "log"])
@pytest.mark.parametrize("kind", ["binary", "rows"])
def test_definition(method: str, score: str, kind: str) -> None:
    f, y = (F, Y) if kind == "binary" else (Q, C)
    found = refinement(f, y, score=score, method=method, folds=FOLDS)
    repaired = np.zeros_like(f)
    for fold in range(4):
        w = (FOLDS != fold).astype(float)
        probs = np.asarray(fitted(method, f, y, w))
        if method == "isotonic" and score == "log":
            share = 1 / (w.sum() + 1)
            probs = (1 - share) * probs + share / (2 if kind == "binary" else 3)
        repaired[FOLDS == fold] = probs[FOLDS == fold]
    loss = calibration.brier_score if score == "brier" else calibration.log_loss
    assert_close(found.probs, repaired, rtol=0, atol=1e-9)
    assert_close(found.refinement, loss(repaired, y), rtol=1e-8)
    assert_close(found.score, loss(f, y), rtol=1e-12)
    assert_close(found.calibration + found.refinement, found.score, rtol=1e-12)
    # Log-odds three times too large are repaired, even fold by fold.
    assert found.calibration > 0


def test_a_calibrated_forecast_gains_nothing() -> None:
    rng = np.random.default_rng(0)
    f = rng.random(N)
    for method, cost in (("isotonic", 0.02), ("temperature", 0.005)):
        gains = []
        for _ in range(20):
            y = (rng.random(N) < f).astype(int)
            gains.append(refinement(f, y, method=method, folds=FOLDS).calibration)
        # The fit on the same rows gains; the cross-fitted one pays for its noise.
        assert -cost < np.mean(gains) < 0
    assert calibration.corp_decomposition(f, y).miscalibration > 0


def test_a_fit_of_the_user_and_options() -> None:
    found = refinement(
        F,
        Y,
        method=functools.partial(calibration.fit_histogram, num_bins=8),
        folds=FOLDS,
    )
    assert found.calibration > 0
    weighted = refinement(F, Y, weights=np.ones(N), key=KEY)
    plain = refinement(F, Y, key=KEY)
    assert_close(weighted.refinement, plain.refinement, rtol=1e-12)
    with pytest.raises(ValueError, match="must be one of"):
        refinement(F, Y, score="auc", key=KEY)
    with pytest.raises(ValueError, match="must be one of"):
        refinement(F, Y, method="platt", key=KEY)
    with pytest.raises(ValueError, match="exactly one of `key` and `folds`"):
        refinement(F, Y)


@pytest.mark.slow
def test_jit_and_vmap() -> None:
    f, y = np.stack([F, F**2]), np.stack([Y, Y])
    for method in ("isotonic", "temperature"):
        one = functools.partial(refinement, method=method, folds=FOLDS)
        mapped = jax.jit(jax.vmap(one))(f, y)
        assert_close(mapped.refinement[1], one(F**2, Y).refinement, rtol=1e-9)


def quadratic(f, y):
    return (f - y) ** 2


def piecewise(f, y):
    """Cost of acting above 0.3 where misses cost .7 and false alarms .3."""
    return jnp.where(f > 0.3, 0.3 * (1 - y), 0.7 * y)


def test_corp_of_a_score_of_the_user() -> None:
    for weights in (None, np.arange(N) % 3):
        ours = calibration.corp_decomposition(F, Y, score=quadratic, weights=weights)
        brier = calibration.corp_decomposition(F, Y, weights=weights)
        assert_close(ours, brier, rtol=1e-12)
    terms = calibration.corp_decomposition(F, Y, score=piecewise)
    total = terms.miscalibration - terms.discrimination + terms.uncertainty
    assert_close(total, np.mean(piecewise(F, Y)), rtol=1e-12)
    # Consistent for the mean, so that both are nonnegative.
    assert terms.miscalibration > 0
    assert terms.discrimination > 0
    with pytest.raises(ValueError, match="one number a row"):
        calibration.corp_decomposition(F, Y, score=lambda f, y: jnp.mean(f - y))
