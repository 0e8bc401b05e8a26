import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.isotonic import IsotonicRegression

from jaxcur import calibration, stats
from tests.helpers import assert_close

N = 33
METHODS = ["sequential", "parallel", "host"]


@st.composite
def worlds(draw):
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    levels = draw(st.sampled_from([1, 4, 1000]))
    s = rng.integers(-levels, levels, N) / 4
    y = rng.integers(0, 2, N).astype(float)
    w = rng.integers(0, 3, N).astype(float)
    w[0] = 1
    return s, y, w


@given(world=worlds())
@settings(max_examples=25)
def test_all_methods_are_that_of_scikit_learn(world):
    s, y, w = world
    with jax.enable_x64(True):
        peer = IsotonicRegression(out_of_bounds="clip").fit(s, y, sample_weight=w)
        points = np.concatenate([s, np.linspace(-260, 260, N)])
        for method in METHODS:
            fit = calibration.fit_isotonic(s, y, weights=w, method=method)
            assert_close(fit(points), peer.predict(points), rtol=0, atol=1e-12)
            direct = stats.isotonic_regression(y, w, method=method)
            expected = stats.isotonic_regression(y, w, method="sequential")
            assert_close(direct, expected, rtol=0, atol=1e-12)


@given(world=worlds())
@settings(max_examples=25)
def test_it_is_calibrated_monotone_and_idempotent(world):
    s, y, w = world
    with jax.enable_x64(True):
        fit = calibration.fit_isotonic(s, y, weights=w, method="sequential")
        q = np.asarray(fit(s))
        assert (np.diff(q[np.argsort(s, kind="stable")]) >= 0).all()
        assert_close(np.sum(w * q), np.sum(w * y), rtol=1e-12, atol=1e-12)
        again = calibration.fit_isotonic(s, q, weights=w, method="sequential")
        present = w > 0
        assert_close(np.asarray(again(s))[present], q[present], rtol=0, atol=1e-12)


def test_min_max_formula(x64):
    rng = np.random.default_rng(0)
    y, w = rng.standard_normal(N), rng.uniform(0.5, 2, N)
    sums, mass = np.cumsum(np.r_[0, w * y]), np.cumsum(np.r_[0, w])
    mean = [
        [(sums[b] - sums[a]) / (mass[b] - mass[a]) for b in range(a + 1, N + 1)]
        for a in range(N)
    ]
    expected = [
        max(min(mean[a][b - a] for b in range(i, N)) for a in range(i + 1))
        for i in range(N)
    ]
    for method in METHODS:
        found = stats.isotonic_regression(y, w, method=method)
        assert_close(found, np.array(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("method", ["sequential", "host"])
def test_centred_blocks_meet_at_their_mean(x64, method):
    s = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 10.0])
    y = np.array([0.0, 1.0, 0.0, 0.0, 1.0, 1.0])
    fit = calibration.fit_isotonic(s, y, kind="centred", method=method)
    # Blocks: {0}: 0, {1, 2, 3}: 1/3 at its mean 2, {4, 10}: 1.
    expected = np.array([0, 1 / 6, 1 / 3, 2 / 3, 1, 1])
    assert_close(fit(np.array([0, 1.0, 2, 3, 4, 7])), expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["sequential", "host"])
def test_steps_and_edges(dtype, method):
    s = np.array([1, 2, 3.0], dtype)
    fit = calibration.fit_isotonic(s, np.array([0, 0, 1.0]), kind="step", method=method)
    points = np.array([0, 2.9, 3, 9], dtype)
    assert_close(fit(points), np.array([0, 0, 1, 1.0]), rtol=0)
    one = calibration.fit_isotonic(s[:1], np.ones(1), method=method)
    assert_close(one(points), np.ones(4), rtol=0)
    same = calibration.fit_isotonic(s * 0, np.array([0, 1, 1.0]), method=method)
    assert_close(same(points), np.full(4, 2 / 3), rtol=1e-6)
    assert fit(points).dtype == dtype
    assert np.isnan(fit(np.array([np.nan], dtype))[0])


def test_large_data_takes_the_host_path_with_the_same_answer(dtype):
    rng = np.random.default_rng(0)
    for s in (rng.random(25_000), rng.standard_normal(25_000) * 3):
        s = s.astype(dtype)
        y = (rng.random(s.size) < 1 / (1 + np.exp(-s))).astype(dtype)
        host = calibration.fit_isotonic(s, y)
        assert host.thresholds.size < s.size
        loop = calibration.fit_isotonic(s, y, method="sequential")
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        assert_close(host(s), loop(s), rtol=0, atol=tolerance)


def test_jit_vmap_and_bad_values():
    rng = np.random.default_rng(0)
    s = rng.standard_normal((2, N)).astype(np.float32)
    y = rng.integers(0, 2, (2, N)).astype(np.float32)
    stacked = jax.jit(jax.vmap(calibration.fit_isotonic))(s, y)
    for i in range(2):
        single = calibration.fit_isotonic(s[i], y[i])
        found = jax.vmap(lambda fit, s: fit(s))(stacked, s)[i]
        assert_close(found, single(s[i]), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="`scores` must be finite, got 1"):
        calibration.fit_isotonic(np.array([0, np.nan]), np.zeros(2))
    with pytest.raises(ValueError, match="not traced"):
        jax.jit(lambda s: calibration.fit_isotonic(s, y[0], method="host"))(s[0])
    bad = np.where(s[0] == s[0, 0], np.nan, s[0])
    traced = jax.jit(calibration.fit_isotonic)(bad, y[0])
    assert np.isnan(np.asarray(traced(s[0]))).all()
