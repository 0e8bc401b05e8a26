"""Contrasts, delta method, joint tests, bands: by hand, by simulation, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcur import debiased, stats
from tests.helpers import assert_close

THETA = np.array([1.0, -0.5, 2.0])
ROOT = np.array([[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 2.0]])
COV = ROOT @ ROOT.T


def test_linear_contrast_by_hand(dtype):
    rows = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]])
    found = debiased.linear_contrast(
        jnp.asarray(THETA, dtype), jnp.asarray(COV, dtype), rows
    )
    assert found.estimate.dtype == dtype
    assert_close(found.estimate, rows @ THETA, rtol=1e-6)
    assert_close(found.covariance, rows @ COV @ rows.T, rtol=1e-6)
    assert_close(found.std_error, np.sqrt(np.diag(rows @ COV @ rows.T)), rtol=1e-6)
    single = debiased.linear_contrast(THETA, COV, rows[0])
    assert single.estimate.shape == (1,)


def test_intervals_and_p_values_of_a_contrast(x64):
    found = debiased.linear_contrast(THETA, COV, np.eye(3))
    error, norm = np.sqrt(np.diag(COV)), scipy.stats.norm
    half = norm.ppf(0.95) * error
    assert_close(
        found.conf_int(0.9), np.stack([THETA - half, THETA + half], 1), rtol=1e-10
    )
    lower = found.conf_int(0.95, alternative="larger")
    assert_close(lower[:, 0], THETA - half, rtol=1e-10)
    assert np.isinf(lower[:, 1]).all()
    t = scipy.stats.t(4)
    half = t.ppf(0.975) * error
    assert_close(found.conf_int(degrees_of_freedom=4)[:, 1], THETA + half, rtol=1e-10)
    z = (THETA - 0.2) / error
    assert_close(found.p_value(null=0.2), 2 * norm.sf(abs(z)), rtol=1e-10)
    assert_close(found.p_value("smaller", null=0.2), norm.cdf(z), rtol=1e-10)
    by_t = found.p_value("larger", null=0.2, degrees_of_freedom=4.0)
    assert_close(by_t, t.sf(z), rtol=1e-10)


def test_delta_method_equals_finite_differences(x64):
    def function(theta):
        return {"odds": jnp.exp(theta[0]), "ratio": theta[2] / theta[1]}["ratio"] + (
            jnp.stack([jnp.exp(theta[0]), jnp.sin(theta).prod()])
        )

    found = debiased.delta_method(function, THETA, COV)
    step = 1e-6
    columns = [
        (function(THETA + step * e) - function(THETA - step * e)) / (2 * step)
        for e in np.eye(3)
    ]
    jacobian = np.stack(columns, axis=1)
    assert_close(found.estimate, function(THETA), rtol=1e-12)
    # Central differences with step 1e-6 are right to about 1e-9.
    assert_close(found.covariance, jacobian @ COV @ jacobian.T, rtol=1e-7)


def test_delta_method_of_any_output_shape_and_through_loops(x64):
    square = debiased.delta_method(lambda t: jnp.outer(t, t), THETA, COV)
    assert square.estimate.shape == (9,) and square.covariance.shape == (9, 9)

    def power(theta):
        return jax.lax.while_loop(
            lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * theta[0]), (0, 1.0)
        )[1]

    looped = debiased.delta_method(power, THETA * 2, COV)
    # The derivative of t^3 at 2 is 12.
    assert_close(looped.covariance, np.array([[144.0]]), rtol=1e-12)


def test_wald_test_by_hand(dtype):
    theta, cov = jnp.asarray(THETA, dtype), jnp.asarray(COV, dtype)
    found = debiased.wald_test(theta, cov)
    statistic = THETA @ np.linalg.solve(COV, THETA)
    assert found.statistic.dtype == dtype
    assert_close(found.statistic, statistic, rtol=1e-5)
    assert int(found.degrees_of_freedom) == 3
    assert_close(found.p_value, scipy.stats.chi2.sf(statistic, 3), rtol=1e-5)
    rows = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    gap = rows @ THETA - np.array([0.3, 1.0])
    statistic = gap @ np.linalg.solve(rows @ COV @ rows.T, gap)
    found = debiased.wald_test(theta, cov, rows, [0.3, 1.0])
    assert_close(found.statistic, statistic, rtol=1e-5)
    assert_close(found.p_value, scipy.stats.chi2.sf(statistic, 2), rtol=1e-5)


def test_one_row_is_the_squared_z_test(x64):
    found = debiased.wald_test(THETA, COV, [0.0, 1.0, 0.0], 0.1)
    contrast = debiased.linear_contrast(THETA, COV, [0.0, 1.0, 0.0])
    assert_close(found.p_value, contrast.p_value(null=0.1)[0], rtol=1e-10)


def test_repeated_rows_count_once(dtype):
    theta, cov = jnp.asarray(THETA, dtype), jnp.asarray(COV, dtype)
    plain = debiased.wald_test(theta, cov, np.eye(3)[:2])
    rows = np.array([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [-2, 0, 0]])
    found = debiased.wald_test(theta, cov, rows)
    assert int(found.degrees_of_freedom) == 2
    # The repeated rows cost digits: their eigenvalue is zero only to rounding.
    assert_close(found.p_value, plain.p_value, rtol=1e-4)
    contradiction = debiased.wald_test(theta, cov, rows, [0.0, 0.0, 5.0, 0.0])
    assert np.isnan(contradiction.p_value)


def test_wald_test_does_not_depend_on_units(dtype):
    units = np.array([1e-6, 1.0, 1e6])
    one = debiased.wald_test(jnp.asarray(THETA, dtype), jnp.asarray(COV, dtype))
    other = debiased.wald_test(
        jnp.asarray(THETA * units, dtype),
        jnp.asarray(COV * np.outer(units, units), dtype),
    )
    assert_close(other, one, rtol=1e-5)


def test_wald_test_rejects_at_its_level(x64):
    draws = np.random.default_rng(0).standard_normal((4000, 3)) @ ROOT.T
    p_values = jax.vmap(lambda t: debiased.wald_test(t, COV).p_value)(draws)
    assert scipy.stats.kstest(np.asarray(p_values), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("method", ["bonferroni", "sidak"])
def test_closed_form_bands(dtype, method):
    found = debiased.simultaneous_bands(
        jnp.asarray(THETA, dtype), jnp.asarray(COV, dtype), method=method
    )
    miss = 0.05 / 3 if method == "bonferroni" else 1 - 0.95 ** (1 / 3)
    critical = scipy.stats.norm.isf(miss / 2)
    assert_close(found.critical_value, critical, rtol=1e-5)
    half = critical * np.sqrt(np.diag(COV))
    assert_close(found.bands, np.stack([THETA - half, THETA + half], 1), rtol=1e-5)
    assert found.bands.dtype == dtype


@pytest.mark.parametrize("seed", [0, 2])
def test_sup_t_uses_the_order_statistic_of_the_draws(x64, seed):
    draws = np.random.default_rng(seed).standard_normal((99, 3))
    cov = np.diag([1.0, 4.0, 9.0])
    found = debiased.simultaneous_bands(THETA, cov, confidence_level=0.7, draws=draws)
    # 0.7 * 100 is 70 on paper and more than that in floats.
    simulated = np.sort(np.abs(draws).max(1))[69]
    sidak = scipy.stats.norm.isf((1 - 0.7 ** (1 / 3)) / 2)
    assert (simulated < sidak) == (seed == 0)
    assert_close(found.critical_value, min(simulated, sidak), rtol=1e-10)


@pytest.mark.parametrize("rho", [1.0, -1.0, 0.0])
def test_sup_t_at_the_ends_of_correlation(rho):
    cov = jnp.array([[1.0, 2 * rho], [2 * rho, 4.0]])
    key = jax.random.key(3)
    found = debiased.simultaneous_bands(jnp.zeros(2), cov, key=key)
    # One statistic in two units, or two independent ones (Sidak is exact there); the
    # quantile of 10 000 draws has a standard error of 0.019.
    exact = 1.95996 if abs(rho) == 1 else scipy.stats.norm.isf((1 - 0.95**0.5) / 2)
    assert_close(found.critical_value, exact, rtol=0, atol=0.06)


def test_sup_t_bands_cover_together_and_beat_sidak(x64):
    rng = np.random.default_rng(4)
    rho = 0.9 * np.ones((5, 5)) + 0.1 * np.eye(5)
    cov = rho * np.outer(np.arange(1, 6), np.arange(1, 6))
    found = debiased.simultaneous_bands(np.zeros(5), cov, key=jax.random.key(1))
    sidak = debiased.simultaneous_bands(np.zeros(5), cov, method="sidak")
    assert found.critical_value < sidak.critical_value - 0.1
    draws = rng.multivariate_normal(np.zeros(5), cov, 20_000)
    inside = (draws >= found.bands[:, 0]) & (draws <= found.bands[:, 1])
    # Both the quantile (0.0022) and this frequency (0.0015) are simulated.
    assert abs(inside.all(1).mean() - 0.95) < 0.011


def test_too_few_draws_fall_back_on_sidak():
    few = debiased.simultaneous_bands(THETA, COV, draws=np.zeros((3, 3)))
    sidak = debiased.simultaneous_bands(THETA, COV, method="sidak")
    assert_close(few.critical_value, sidak.critical_value, rtol=1e-6)


def test_a_known_coordinate_does_not_widen_the_bands(x64):
    cov = np.zeros((3, 3))
    cov[:2, :2] = [[1.0, 0.3], [0.3, 4.0]]
    for method in ("sidak", "bonferroni"):
        wide = debiased.simultaneous_bands(THETA, cov, method=method)
        narrow = debiased.simultaneous_bands(THETA[:2], cov[:2, :2], method=method)
        assert_close(wide.critical_value, narrow.critical_value, rtol=1e-12)
        assert wide.bands[2].tolist() == [2.0, 2.0]
    draws = np.random.default_rng(0).standard_normal((500, 3))
    found = debiased.simultaneous_bands(THETA, cov, draws=draws)
    assert np.isfinite(found.bands).all() and found.bands[2].tolist() == [2.0, 2.0]


def test_adjusted_p_values_are_holms(x64):
    found = debiased.adjusted_p_values(THETA, COV, null=0.1)
    plain = debiased.linear_contrast(THETA, COV, np.eye(3)).p_value(null=0.1)
    assert_close(found, stats.adjust_p_values(plain, method="holm"), rtol=1e-12)
    assert (found >= plain).all()
    one_sided = debiased.adjusted_p_values(
        THETA, COV, alternative="larger", method="bonferroni"
    )
    z = THETA / np.sqrt(np.diag(COV))
    assert_close(one_sided, np.minimum(3 * scipy.stats.norm.sf(z), 1), rtol=1e-10)


def test_bad_covariance_gives_nan_under_jit():
    cov = jnp.asarray(COV).at[0, 1].set(jnp.nan)
    theta = jnp.asarray(THETA)
    wald = jax.jit(debiased.wald_test)(theta, cov)
    assert np.isnan(wald.p_value) and np.isnan(wald.statistic)
    bands = jax.jit(
        lambda t, v: debiased.simultaneous_bands(t, v, key=jax.random.key(0))
    )(theta, cov)
    assert np.isnan(bands.bands).all()
    negative = jnp.diag(jnp.array([1.0, -1.0, 1.0]))
    assert np.isnan(debiased.wald_test(theta, negative).p_value)


def test_transformations(x64):
    thetas = jnp.asarray(np.stack([THETA, 2 * THETA]))
    covs = jnp.asarray(np.stack([COV, 3 * COV]))
    draws = np.random.default_rng(0).standard_normal((50, 3))

    def everything(theta, cov, level):
        contrast = debiased.delta_method(jnp.sin, theta, cov)
        bands = debiased.simultaneous_bands(
            theta, cov, confidence_level=level, draws=draws
        )
        return contrast, debiased.wald_test(theta, cov), bands, contrast.conf_int(level)

    levels = jnp.array([0.5, 0.9])
    mapped = jax.jit(jax.vmap(everything))(thetas, covs, levels)
    for i in range(2):
        one = everything(thetas[i], covs[i], float(levels[i]))
        assert_close(jax.tree.map(lambda a: a[i], mapped), one, rtol=1e-9)  # noqa: B023


def test_errors():
    with pytest.raises(ValueError, match=r"`estimate` must have shape \(p,\)"):
        debiased.wald_test(np.eye(2), np.eye(2))
    with pytest.raises(ValueError, match=r"`covariance` must have shape \(3, 3\)"):
        debiased.delta_method(lambda t: t, THETA, np.eye(2))
    with pytest.raises(ValueError, match=r"`matrix` must have shape \(r, 3\)"):
        debiased.linear_contrast(THETA, COV, [1.0, 2.0])
    with pytest.raises(ValueError, match="`null` must be a scalar or have shape"):
        debiased.wald_test(THETA, COV, null=[1.0, 2.0])
    with pytest.raises(ValueError, match="`method` must be one of"):
        debiased.simultaneous_bands(THETA, COV, method="scheffe")
    with pytest.raises(ValueError, match="`confidence_level` must lie in"):
        debiased.simultaneous_bands(THETA, COV, confidence_level=1.0, method="sidak")
    with pytest.raises(ValueError, match="bands are simulated: pass `key="):
        debiased.simultaneous_bands(THETA, COV)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="not both"):
        debiased.simultaneous_bands(THETA, COV, key=key, draws=np.ones((2, 3)))
    with pytest.raises(ValueError, match='for method="sup_t"'):
        debiased.simultaneous_bands(THETA, COV, key=key, method="sidak")
    with pytest.raises(ValueError, match=r"`draws` must have shape \(b, 3\)"):
        debiased.simultaneous_bands(THETA, COV, draws=np.ones((2, 2)))
