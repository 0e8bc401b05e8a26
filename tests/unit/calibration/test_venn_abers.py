import jax
import numpy as np
import pytest
from sklearn.isotonic import isotonic_regression

from jaxcur import calibration
from tests.helpers import assert_close

N = 25


def refit(s, y, w, point, label):
    """The isotonic fit at `point` with one more row."""
    s, y, w = np.append(s, point), np.append(y, label), np.append(w, 1.0)
    s, y, w = s[w > 0], y[w > 0], w[w > 0]
    levels, place = np.unique(s, return_inverse=True)
    mass = np.bincount(place, w)
    mean = np.bincount(place, w * y) / mass
    fitted = isotonic_regression(mean, sample_weight=mass)
    return fitted[np.searchsorted(levels, point)]


@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_refit_with_each_label(x64, seed):
    rng = np.random.default_rng(seed)
    s = rng.integers(0, 6, N).astype(float) if seed % 2 else rng.standard_normal(N)
    y = rng.integers(0, 2, N).astype(float)
    w = rng.integers(0, 3, N).astype(float) if seed % 3 else np.ones(N)
    w[0] = 1
    points = np.concatenate([s, rng.standard_normal(N) * 3, [-100.0, 100.0]])
    low, high = calibration.fit_venn_abers(s, y, weights=w).interval(points)
    for label, found in enumerate((low, high)):
        expected = np.array([refit(s, y, w, point, label) for point in points])
        assert_close(found, expected, rtol=0, atol=1e-12)
    assert (low <= high).all()


def test_float32_one_row_one_class_and_nan(dtype):
    fit = calibration.fit_venn_abers(np.array([1.0], dtype), np.array([1.0]))
    low, high = fit.interval(np.array([0, 1, 2, np.inf, -np.inf, np.nan], dtype))
    expected = np.array([0, 0.5, 0.5, 0.5, 0, np.nan])
    assert_close(low, expected, rtol=1e-6)
    assert_close(high, np.array([1, 1, 1, 1, 1, np.nan]), rtol=0)
    assert low.dtype == dtype
    q = fit(np.array([0, 1.0], dtype))
    assert_close(q, np.array([0.5, 2 / 3]), rtol=1e-6)


def test_the_probability_of_the_true_label_is_calibrated(x64):
    # E[Y - p_Y] = 0 exactly, over draws of the sample and of the test row.
    rng = np.random.default_rng(0)
    s = rng.random((3000, N + 1))
    y = (rng.random(s.shape) < 0.2 + 0.6 * s).astype(float)

    def one(s, y):
        low, high = calibration.fit_venn_abers(s[:-1], y[:-1]).interval(s[-1:])
        return low[0], high[0]

    low, high = jax.jit(jax.vmap(one))(s, y)
    true = y[:, -1]
    p = np.where(true == 1, high, low)
    residual = true - p
    error = residual.std() / np.sqrt(residual.size)
    assert abs(residual.mean()) < 3 * error
    for part in (p < 0.4, (p >= 0.4) & (p < 0.7), p >= 0.7):
        error = residual[part].std() / np.sqrt(part.sum())
        assert abs(residual[part].mean()) < 3 * error
    # p0 alone is too low: so the test can fail.
    low_residual = true - np.asarray(low)
    error = low_residual.std() / np.sqrt(low_residual.size)
    assert low_residual.mean() > 3 * error


def test_bad_values():
    with pytest.raises(ValueError, match="`scores` must be finite"):
        calibration.fit_venn_abers(np.array([0, np.inf]), np.zeros(2))
    with pytest.raises(ValueError, match="same length"):
        calibration.fit_venn_abers(np.zeros(3), np.zeros(2))
