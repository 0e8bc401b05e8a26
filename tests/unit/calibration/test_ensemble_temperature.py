import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N, K = 60, 3


def world(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((N, K)) * 2
    y = np.argmax(z + rng.gumbel(size=z.shape), axis=1)
    return 1.7 * z, y


def loss(q, y):
    return -np.mean(np.log(np.asarray(q)[np.arange(y.size), y]))


def test_ensemble_keeps_the_argmax_and_is_no_worse_than_a_temperature(x64):
    logits, y = world()
    fit = calibration.fit_ensemble_temperature(logits, y)
    q = np.asarray(fit(logits))
    assert bool(fit.converged)
    assert_close(np.sum(fit.shares), 1.0, rtol=1e-12)
    assert (fit.shares >= 0).all()
    assert (q.argmax(1) == logits.argmax(1)).all()
    temperature = calibration.fit_temperature(logits, y)
    assert loss(q, y) <= loss(temperature(logits), y) + float(fit.gap) + 1e-12
    assert_close(q.sum(1), np.ones(N), rtol=1e-12)


def test_mixture_finds_the_better_map_and_certifies_it(x64):
    rng = np.random.default_rng(0)
    f = rng.random(N)
    y = (rng.random(N) < f).astype(float)
    parts = [
        calibration.fit_platt(np.zeros(N), y),
        calibration.TemperatureCalibrator(
            *(jnp.asarray(v) for v in (1.0, 0.0, 0, 0)), is_binary=True
        ),
    ]
    s = np.log(f) - np.log1p(-f)
    fit = calibration.fit_mixture(parts, s, y)

    def value(q):
        return -np.mean(y * np.log(q) + (1 - y) * np.log1p(-q))

    a, b = (np.asarray(part(s)) for part in parts)
    grid = [value(t * a + (1 - t) * b) for t in np.linspace(0, 1, 201)]
    found = value(np.asarray(fit(s)))
    assert found <= min(grid) + float(fit.gap) + 1e-12
    assert fit.gap < 1e-10
    with pytest.raises(ValueError, match="at least one calibrator"):
        calibration.fit_mixture([], s, y)


def test_blend_bounds_the_loss():
    s = np.arange(4.0, dtype=np.float32)
    isotonic = calibration.fit_isotonic(s, np.array([0, 0, 1, 1.0]))
    q = calibration.blend_with_prior(isotonic, share=0.2)(s)
    assert_close(q, np.array([0.1, 0.1, 0.9, 0.9]), rtol=1e-6)


@pytest.mark.parametrize(
    "fit", [calibration.fit_platt, calibration.fit_isotonic, calibration.fit_venn_abers]
)
def test_cross_fit_is_the_fit_without_the_fold(x64, fit):
    rng = np.random.default_rng(0)
    s = rng.standard_normal(N)
    y = (rng.random(N) < 1 / (1 + np.exp(-s))).astype(float)
    folds = np.arange(N) % 2
    result = calibration.cross_fit(fit, s, y, num_folds=2, folds=folds)
    maps = [fit(s[folds != k], y[folds != k]) for k in (0, 1)]
    for k in (0, 1):
        own = folds == k
        assert_close(result.probs[own], maps[k](s)[own], rtol=0, atol=1e-9)
    mean = (maps[0](s) + maps[1](s)) / 2
    assert_close(result(s), mean, rtol=0, atol=1e-9)


def test_cross_fit_needs_one_source_of_folds():
    s, y = np.zeros(4), np.zeros(4)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="exactly one of"):
        calibration.cross_fit(calibration.fit_platt, s, y)
    with pytest.raises(ValueError, match="exactly one of"):
        calibration.cross_fit(calibration.fit_platt, s, y, key=key, folds=np.zeros(4))
    result = calibration.cross_fit(calibration.fit_platt, s, y, num_folds=2, key=key)
    assert_close(np.bincount(np.asarray(result.folds)), np.array([2, 2]), rtol=0)


def test_one_vs_rest_rows_sum_to_one(x64):
    logits, y = world(1)
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    fit = calibration.fit_one_vs_rest(calibration.fit_isotonic, probs, y)
    q = np.asarray(fit(probs))
    assert_close(q.sum(1), np.ones(N), rtol=1e-12)
    # Below all rows of each class every map gives 0: the row is uniform.
    assert_close(fit(np.zeros((1, K))), np.full((1, K), 1 / K), rtol=1e-12)
    assert isinstance(fit, calibration.Calibrator)
