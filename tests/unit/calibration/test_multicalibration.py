import jax
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N, G = 400, 3


def world(seed=0):
    rng = np.random.default_rng(seed)
    f = rng.random(N)
    groups = rng.random((N, G)) < 0.5
    groups[:, 0] = True
    rate = np.clip(f + 0.2 * groups[:, 1] - 0.2 * groups[:, 2], 0, 1)
    return f, (rng.random(N) < rate).astype(float), groups


def cell_errors(f, y, groups, m=10):
    index = np.minimum((f * m).astype(int), m - 1)
    return np.array(
        [
            [np.sum((f - y)[group & (index == j)]) / f.size for j in range(m)]
            for group in groups.T
        ]
    )


def test_the_certificate_holds_and_the_score_falls(x64):
    f, y, groups = world()
    assert np.abs(cell_errors(f, y, groups)).max() > 0.01
    fit = calibration.fit_multicalibration(f, y, groups, atol=0.005)
    q = np.asarray(fit(f, groups))
    assert bool(fit.converged)
    worst = np.abs(cell_errors(q, y, groups)).max()
    assert_close(worst, fit.max_cell_error, rtol=0, atol=1e-12)
    assert worst <= 0.005
    assert np.mean((q - y) ** 2) <= np.mean((f - y) ** 2) - 0.005**2 * fit.num_steps
    assert ((q >= 0) & (q <= 1)).all()


def test_too_few_rounds_are_reported(x64):
    f, y, groups = world()
    fit = calibration.fit_multicalibration(f, y, groups, atol=0.001, max_steps=2)
    assert int(fit.status) == 1
    assert fit.max_cell_error > 0.001
    q = np.asarray(fit(f, groups))
    assert_close(np.abs(cell_errors(q, y, groups)).max(), fit.max_cell_error, rtol=1e-9)


def test_jit_and_bad_input():
    f, y, groups = world()
    f = f.astype(np.float32)
    traced = jax.jit(calibration.fit_multicalibration)(f, y, groups)
    direct = calibration.fit_multicalibration(f, y, groups)
    assert_close(traced(f, groups), direct(f, groups), rtol=1e-5)
    bad = jax.jit(calibration.fit_multicalibration)(np.append(f[1:], np.nan), y, groups)
    assert int(bad.status) == 3
    with pytest.raises(ValueError, match="`groups` must have 400 rows"):
        calibration.fit_multicalibration(f, y, groups[:3])
    with pytest.raises(ValueError, match="`atol` must be positive"):
        calibration.fit_multicalibration(f, y, groups, atol=0.0)


def test_groups_are_memberships_of_the_columns_of_the_fit():
    f, y, groups = world()
    codes = np.arange(N)[:, None] % 3
    with pytest.raises(ValueError, match="not codes\\), got 2"):
        calibration.fit_multicalibration(f, y, codes)
    with pytest.raises(TypeError, match="`groups` must hold real numbers"):
        calibration.fit_multicalibration(f, y, np.array([["a", "b"]] * N))
    fit = calibration.fit_multicalibration(f, y, groups)
    assert int(np.asarray(fit.groups).max()) == 2
    with pytest.raises(ValueError, match="columns of the fit, at least 3"):
        fit(f, groups[:, :2])
    assert_close(fit(f, groups.astype(int)), fit(f, groups), rtol=0)
