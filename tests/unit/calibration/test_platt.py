import jax
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N = 40


def world(seed=0, n=N):
    rng = np.random.default_rng(seed)
    s = rng.standard_normal(n) * 2
    y = (rng.random(n) < 1 / (1 + np.exp(-s))).astype(float)
    return s, y


def test_gradient_vanishes_at_the_optimum(x64):
    s, y = world()
    fit = calibration.fit_platt(s, y, smoothing=False)
    residual = np.asarray(fit(s)) - y
    assert bool(fit.converged)
    assert_close(residual.mean(), 0.0, rtol=0, atol=1e-10)
    assert_close((residual * s).mean(), 0.0, rtol=0, atol=1e-10)


def test_weights_count_rows(x64):
    s, y = world()
    counts = np.random.default_rng(1).integers(0, 3, N)
    repeated = np.repeat(s, counts), np.repeat(y, counts)
    fit = calibration.fit_platt(s, y, weights=counts)
    pad = N * 2 - counts.sum()
    other = calibration.fit_platt(
        np.pad(repeated[0], (0, pad)),
        np.pad(repeated[1], (0, pad)),
        weights=np.pad(np.ones(counts.sum()), (0, pad)),
    )
    assert_close(fit.slope, other.slope, rtol=1e-9)
    assert_close(fit.intercept, other.intercept, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["separable", "reversed", "one_class"])
def test_without_a_finite_optimum_it_says_so(x64, kind):
    s = np.linspace(-2, 2, N)
    y = {"separable": s > 0, "reversed": s < 0, "one_class": s > -9}[kind]
    y = y.astype(float)
    plain = calibration.fit_platt(s, y, smoothing=False)
    assert not bool(plain.converged)
    assert int(plain.status) == 2
    assert "no finite optimum" in plain.message
    assert np.isfinite([plain.slope, plain.intercept]).all()
    smooth = calibration.fit_platt(s, y)
    assert bool(smooth.converged)
    assert np.isfinite([smooth.slope, smooth.intercept]).all()


def test_one_row_and_equal_scores_are_finite(x64):
    one = calibration.fit_platt(np.array([0.3]), np.array([1.0]))
    # Targets: (1 + 1) / (1 + 2).
    assert_close(one(np.array([0.3])), np.array([2 / 3]), rtol=1e-8)
    s, y = np.full(N, 1.5), world()[1]
    flat = calibration.fit_platt(s, y, smoothing=False)
    assert bool(flat.converged)
    assert_close(flat(s[:1]), y[:1] * 0 + y.mean(), rtol=1e-9)


def test_jit_vmap_and_dtype(dtype):
    s, y = (np.stack(part).astype(dtype) for part in zip(world(0), world(1)))
    stacked = jax.jit(jax.vmap(calibration.fit_platt))(s, y)
    assert stacked.slope.dtype == dtype
    probs = jax.jit(jax.vmap(lambda fit, s: fit(s)))(stacked, s)
    for i in range(2):
        single = calibration.fit_platt(s[i], y[i])
        assert_close(
            probs[i], single(s[i]), rtol=1e-4 if dtype == np.float32 else 1e-10
        )


def test_bad_values():
    s, y = world()
    with pytest.raises(ValueError, match="`logits` must be finite"):
        calibration.fit_platt(np.where(s == s[0], np.inf, s), y)
    with pytest.raises(ValueError, match="`labels` must be 0 or 1"):
        calibration.fit_platt(s, y + 1)
    with pytest.raises(ValueError, match="fit_one_vs_rest"):
        calibration.fit_platt(s[:, None], y)
    bad = np.where(s == s[0], np.nan, s)
    traced = jax.jit(calibration.fit_platt)(bad, y)
    assert int(traced.status) == 3
    assert np.isnan(np.asarray(traced(s))).all()


@pytest.mark.parametrize("variant", ["abm", "am", "ab"])
def test_beta_is_optimal_among_its_neighbours(x64, variant):
    s, y = world(3)
    f = 1 / (1 + np.exp(-s))
    fit = calibration.fit_beta(f, y, variant=variant)
    theta = np.array([fit.a, fit.b, fit.c])

    def loss(theta):
        z = theta[0] * np.log(f) - theta[1] * np.log1p(-f) + theta[2]
        return np.mean(np.logaddexp(0, z) - y * z)

    moves = {
        "abm": np.eye(3),
        "am": np.array([[1, 1, 0], [0, 0, 1.0]]),
        "ab": np.array([[1, 0, np.log(2)], [0, 1, -np.log(2)]]),
    }[variant]
    for move in [*moves, *-moves]:
        new = theta + 1e-4 * move
        if variant != "abm" or (new[:2] >= 0).all():
            assert loss(new) >= loss(theta) - 1e-15


def test_beta_abm_never_decreases(x64):
    s, y = world(4)
    f = 1 / (1 + np.exp(-s))
    # Outcomes against the forecast: both coefficients are held at 0.
    fit = calibration.fit_beta(f, 1 - y)
    assert fit.a >= 0 and fit.b >= 0
    grid = np.concatenate([[0.0], np.linspace(0.01, 0.99, N - 2), [1.0]])
    assert (np.diff(np.asarray(fit(grid))) >= 0).all()
    assert np.isfinite(np.asarray(fit(grid))).all()
