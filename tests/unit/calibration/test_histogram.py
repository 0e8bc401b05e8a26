import jax
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N, M = 500, 10


def test_values_are_the_means_of_the_bins(x64):
    f = np.array([0.05, 0.15, 0.25, 0.95])
    y = np.array([0, 1, 1, 0.0])
    fit = calibration.fit_histogram(f, y, num_bins=5, binning="width")
    assert_close(fit.values, np.array([0.5, 1, 0.5, 0.7, 0]), rtol=1e-12)
    zero = calibration.fit_histogram(f, y, num_bins=5, binning="width", empty="zero")
    assert_close(zero.values, np.array([0.5, 1, 0, 0, 0]), rtol=1e-12)
    mean = calibration.fit_histogram(f, y, num_bins=5, binning="width", empty="mean")
    assert_close(mean.values, np.array([0.5, 1, 0.5, 0.5, 0]), rtol=1e-12)
    assert_close(fit(np.array([0.0, 0.2, 1.0])), np.array([0.5, 1, 0]), rtol=0)


@pytest.mark.parametrize("binning", ["mass", "width"])
@pytest.mark.parametrize("method", ["hoeffding", "clopper_pearson"])
def test_the_band_covers_all_bins_at_once(x64, binning, method):
    # True rate x^2 of a uniform forecast x: the mean over a bin is known exactly.
    rng = np.random.default_rng(0)
    f = rng.random((200, N))
    y = (rng.random(f.shape) < f**2).astype(float)
    edges = "sample" if binning == "mass" else "midpoint"

    def one(f, y):
        fit = calibration.fit_histogram(f, y, num_bins=M, binning=binning, edges=edges)
        return fit, fit.band(0.9, method=method)

    fits, (low, high) = jax.jit(jax.vmap(one))(f, y)
    e = np.asarray(fits.edges)
    truth = (e[:, 1:] ** 3 - e[:, :-1] ** 3) / 3 / np.diff(e, axis=1)
    covered = ((low <= truth) & (truth <= high)).all(axis=1)
    # At least 0.9; three standard deviations of a mean of 200 are 0.064.
    assert covered.mean() >= 0.9 - 0.064
    assert (np.asarray(high) - np.asarray(low)).mean() < 0.6


def test_half_width_of_the_band(x64):
    f = np.linspace(0.001, 0.999, 1000)
    fit = calibration.fit_histogram(f, np.resize([0.0, 1.0], 1000), num_bins=10)
    low, high = fit.band(0.9)
    # sqrt(log(2 * 10 / 0.1) / (2 * 99)) = 0.1636, and 1 / 100 for the row on the edge.
    expected = np.sqrt(np.log(200) / (2 * 99)) + 0.01
    assert_close((high - low) / 2, np.full(10, expected), rtol=1e-9)
    lower, upper = fit.interval(f[:3], 0.9)
    assert_close(lower, np.full(3, low[0]), rtol=0)
    assert_close(upper, np.full(3, high[0]), rtol=0)


def test_scaling_binning_gives_few_values(x64):
    rng = np.random.default_rng(0)
    f = rng.random(N)
    y = (rng.random(N) < f).astype(float)
    mask = np.arange(N) < N // 2
    fit = calibration.fit_scaling_binning(f, y, num_bins=M, scaling_mask=mask)
    q = np.asarray(fit(f))
    assert np.unique(q).size == M
    # Each value is the mean of the curve over the rows that were binned.
    curve = np.asarray(fit.scaling(np.log(f) - np.log1p(-f)))
    for value in np.unique(q):
        inside = (q == value) & ~mask
        assert_close(curve[inside].mean(), value, rtol=1e-12)


@pytest.mark.parametrize("name", ["fit_bbq", "fit_spline"])
def test_bbq_and_spline_give_probabilities(dtype, name):
    rng = np.random.default_rng(0)
    f = rng.random(60).astype(dtype)
    y = (rng.random(60) < f**2).astype(dtype)
    fit = getattr(calibration, name)
    q = np.asarray(fit(f, y)(f))
    assert q.dtype == dtype
    assert ((q >= 0) & (q <= 1)).all()
    # They repair a forecast of x where the rate is x^2.
    assert np.mean((q - f**2) ** 2) < np.mean((f - f**2) ** 2)
    weights = np.pad(np.ones(60, dtype), (0, 60))
    padded = fit(np.pad(f, (0, 60)), np.pad(y, (0, 60)), weights=weights)
    if name == "fit_spline":
        assert_close(padded(f), q, rtol=0, atol=1e-3 if dtype == np.float32 else 1e-9)
    else:
        shares = np.asarray(padded.model_weights)
        assert_close(shares.sum(), 1.0, rtol=1e-5)
    traced = jax.jit(fit)(np.where(f == f[0], np.nan, f), y)
    assert np.isnan(np.asarray(traced(f))).all()


def test_spline_is_the_least_squares_natural_spline(x64):
    from scipy.interpolate import CubicSpline

    rng = np.random.default_rng(1)
    f = np.sort(rng.random(60))
    y = (rng.random(60) < f).astype(float)
    t, height = np.linspace(0, 1, 60), np.cumsum(y - f) / 60
    knots = np.linspace(0, 1, 6)
    splines = [CubicSpline(knots, row, bc_type="natural") for row in np.eye(6)]
    basis = np.stack([s(t) for s in splines], 1)
    slopes = np.stack([s(t, 1) for s in splines], 1)
    expected = f + slopes @ np.linalg.lstsq(basis, height)[0]
    found = calibration.fit_spline(f, y)(f)
    assert_close(found, np.clip(expected, 0, 1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 0}, "`num_bins` must be a positive integer"),
        ({"num_bins": 2, "binning": "area"}, "`binning` must be one of"),
        ({"num_bins": 2, "empty": "nan"}, "`empty` must be one of"),
        ({"num_bins": 2, "edges": "sample", "weights": np.ones(3)}, "no `weights`"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        calibration.fit_histogram(np.full(3, 0.5), np.ones(3), **options)


@pytest.mark.parametrize("grid", [[0.3], [0.2, 0.6], [0.1, 0.3, 0.5, 0.7, 0.9]])
def test_a_spline_repairs_forecasts_of_few_values(dtype, grid):
    # Ties used to meet the cumulative error of their end at the rank of their middle.
    grid = np.array(grid, dtype)
    count, rate = 200, 0.25 + 0.5 * grid
    f = np.repeat(grid, count)
    y = np.repeat(rate, count)
    fit = calibration.fit_spline(f, y)
    assert_close(fit(grid), rate, rtol=0, atol=0.01)
    heavy = calibration.fit_spline(grid, rate, weights=np.full(grid.size, 3, dtype))
    assert heavy.values.dtype == dtype


def test_weights_of_a_spline_count_rows(x64):
    rng = np.random.default_rng(2)
    f, y = rng.random(60).round(1), rng.integers(0, 2, 60)
    w = rng.integers(0, 4, 60)
    counted = calibration.fit_spline(f, y, weights=w)
    listed = calibration.fit_spline(np.repeat(f, w), np.repeat(y, w))
    assert_close(counted(f), listed(f), rtol=1e-9)
