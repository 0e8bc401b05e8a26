"""Calibration slope and intercepts against statsmodels, and where there is none."""

import jax
import numpy as np
import pytest
import statsmodels.api as sm

from jaxcur import calibration
from tests.helpers import assert_close

N = 60
RNG = np.random.default_rng(5)
S = 2 * RNG.standard_normal(N)
F = 1 / (1 + np.exp(-S))
Y = (RNG.random(N) < 1 / (1 + np.exp(-0.6 * S - 0.3))).astype(float)
COUNTS = RNG.integers(0, 4, N).astype(float)


def peer(columns, offset=None, y=Y, w=COUNTS):
    family = sm.families.Binomial()
    model = sm.GLM(y, columns, family=family, offset=offset, freq_weights=w)
    return model.fit(tol=1e-14)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("counted", [False, True])
def test_statsmodels(counted: bool) -> None:
    w = COUNTS if counted else np.ones(N)
    found = calibration.calibration_slope(F, Y, weights=w)
    ones = np.ones(N)
    both = peer(np.column_stack([S, ones]), w=w)
    large = peer(ones, offset=S, w=w)
    assert bool(found.converged)
    assert_close(np.array([found.slope, found.intercept]), both.params, rtol=1e-9)
    # Its information is that of one step before its last.
    assert_close(found.covariance, both.cov_params(), rtol=1e-6)
    errors = np.array([found.slope_std_error, found.intercept_std_error])
    assert_close(errors, both.bse, rtol=1e-6)
    assert_close(found.intercept_at_slope_one, large.params[0], rtol=1e-9)
    assert_close(found.intercept_at_slope_one_std_error, large.bse[0], rtol=1e-6)


def test_recalibrating_makes_the_slope_one(dtype) -> None:
    f, y = F.astype(dtype), Y.astype(dtype)
    found = calibration.calibration_slope(f, y)
    logits = found.slope * S.astype(dtype) + found.intercept
    again = calibration.calibration_slope(jax.nn.sigmoid(logits), y)
    tolerance = 1e-3 if dtype == np.float32 else 1e-8
    got = np.array([again.slope, again.intercept, again.intercept_at_slope_one])
    assert got.dtype == dtype
    assert_close(got, np.array([1.0, 0.0, 0.0]), rtol=0, atol=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("f", "y", "large"),
    [
        (F, S > 0, True),
        (F, S < 0, True),
        (F, S > -99, False),
        (np.full(N, 0.3), Y, True),
    ],
    ids=["separated", "reversed", "one outcome", "equal forecasts"],
)
def test_no_finite_optimum_is_nan(f, y, large: bool) -> None:
    found = calibration.calibration_slope(f, y.astype(float))
    assert int(found.status) == 2
    assert np.isnan([found.slope, found.intercept]).all()
    assert np.isnan(np.asarray(found.covariance)).all()
    one = [found.intercept_at_slope_one, found.intercept_at_slope_one_std_error]
    assert np.isfinite(one).all() == large


@pytest.mark.usefixtures("x64")
def test_forecasts_of_exactly_0_and_1() -> None:
    plain = calibration.calibration_slope(F[:-2], Y[:-2])
    f = np.concatenate([F[:-2], [0.0, 1.0]])
    right = calibration.calibration_slope(f, np.concatenate([Y[:-2], [0, 1]]))
    for name in ("slope", "intercept", "intercept_at_slope_one", "covariance"):
        assert_close(getattr(right, name), getattr(plain, name), rtol=1e-9)
    wrong = calibration.calibration_slope(f, np.concatenate([Y[:-2], [0, 0]]))
    assert int(wrong.status) == 2
    for leaf in (wrong.slope, wrong.intercept, wrong.intercept_at_slope_one):
        assert np.isnan(leaf)
    # A row that does not count contradicts nothing.
    w = np.concatenate([np.ones(N - 1), [0.0]])
    absent = calibration.calibration_slope(
        f, np.concatenate([Y[:-2], [0, 0]]), weights=w
    )
    assert_close(absent.slope, plain.slope, rtol=1e-9)


def test_illegal_values_and_transformations() -> None:
    with pytest.raises(ValueError, match="`probs` must lie in"):
        calibration.calibration_slope(F + 1, Y)
    bad = np.where(F == F[0], np.nan, F)
    traced = jax.jit(calibration.calibration_slope)(bad, Y)
    assert int(traced.status) == 3
    for leaf in jax.tree.leaves(traced)[:-1]:
        assert np.isnan(np.asarray(leaf)).all()
    stacked = jax.vmap(calibration.calibration_slope)(
        np.stack([F, F**2]), np.stack([Y, Y])
    )
    one = calibration.calibration_slope(F**2, Y)
    assert_close(stacked.slope_std_error[1], one.slope_std_error, rtol=1e-4)
