"""Identities of the metrics of calibration, and levels of its tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcur import calibration
from tests.helpers import assert_close

pytestmark = pytest.mark.usefixtures("x64")

SIZES = (1, 2, 40)


@st.composite
def forecasts(draw) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts, some tied or exactly 0 or 1, with any outcomes."""
    n = draw(st.sampled_from(SIZES))
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["uniform", "skewed", "tenths", "equal"]))
    f = {
        "uniform": rng.random(n),
        "skewed": rng.beta(0.5, 20, n),
        "tenths": rng.integers(0, 11, n) / 10,
        "equal": np.full(n, rng.random()),
    }[kind]
    return f, rng.integers(0, 2, n)


ece = functools.partial(calibration.expected_calibration_error, num_bins=8)


@given(forecasts())
def test_binned_errors_are_ordered(data) -> None:
    f, y = data
    one, two, top = (float(ece(f, y, norm=norm)) for norm in (1, 2, "max"))
    slack = 1e-12
    assert 0 <= one <= two + slack <= top + 2 * slack <= 1 + 3 * slack
    parts = calibration.signed_calibration_errors(f, y, num_bins=8)
    assert_close(parts.over + parts.under, one, rtol=1e-10, atol=1e-13)
    # Twice the bins are a refinement: merging can only cancel.
    finer = calibration.expected_calibration_error(f, y, num_bins=16)
    assert one <= float(finer) + slack


@given(forecasts(), st.integers(0, 100))
def test_order_of_rows_does_not_matter_and_mirroring_neither(data, seed) -> None:
    f, y = data
    order = np.random.default_rng(seed).permutation(len(f))
    # 1 - f must be exact, or a forecast on an edge leaves it.
    f = np.round(f * 1024) / 1024
    assert_close(ece(f[order], y[order]), ece(f, y), rtol=1e-10, atol=1e-13)
    mirrored = ece(1 - f, 1 - y, closed="right")
    assert_close(mirrored, ece(f, y), rtol=1e-10, atol=1e-13)
    for metric in (calibration.ks_error, calibration.kuiper_error):
        assert_close(metric(f[order], y[order]), metric(f, y), rtol=1e-9, atol=1e-13)


@given(forecasts())
def test_cumulative_errors_bound_each_other(data) -> None:
    f, y = data
    ks = float(calibration.ks_error(f, y))
    kuiper = float(calibration.kuiper_error(f, y))
    assert ks - 1e-13 <= kuiper <= 2 * ks + 1e-13
    assert abs(np.mean(y - f)) <= ks + 1e-12


@given(forecasts())
def test_smooth_error_lies_between_the_mean_residuals(data) -> None:
    f, y = data
    low, high = abs(np.mean(f - y)), np.mean(np.abs(f - y))
    values = [float(calibration.smooth_ece(f, y, bandwidth=s)) for s in (0.02, 0.3)]
    for value in values:
        assert low - 1e-12 <= value <= high + 1e-12
    assert values[1] <= values[0] + 1e-12
    root = float(calibration.smooth_ece(f, y))
    assert low - 1e-9 <= root <= 1
    if root > 0.01:
        at = float(calibration.smooth_ece(f, y, bandwidth=root))
        assert_close(at, root, rtol=1e-6)


def test_smooth_error_is_continuous_where_the_binned_one_jumps() -> None:
    y = np.tile([0, 1], 50)
    above, below = 0.5 + 1e-6 * (2 * y - 1), 0.5 - 1e-6 * (2 * y - 1)
    jump = functools.partial(calibration.expected_calibration_error, num_bins=2)
    assert float(jump(above, y)) > 0.49
    assert_close(jump(np.full(100, 0.5), y), 0.0, rtol=0, atol=1e-9)
    smooth = [float(calibration.smooth_ece(f, y)) for f in (above, below)]
    assert max(smooth) < 1e-3
    moved = np.clip(above + 0.01, 0, 1)
    # A move of every forecast by d changes the value by about 2 d at most.
    assert abs(float(calibration.smooth_ece(moved, y)) - smooth[0]) < 0.02


@given(forecasts(), st.booleans())
def test_brier_score_decomposes(data, debias) -> None:
    f, y = data
    if len(f) == 1:
        debias = False
    terms = calibration.brier_decomposition(f, y, num_bins=8, debias=debias)
    total = terms.reliability - terms.resolution + terms.uncertainty
    total += terms.within_bin_variance - 2 * terms.within_bin_covariance
    assert_close(total, np.mean((f - y) ** 2), rtol=1e-10, atol=1e-12)
    assert_close(terms.score, np.mean((f - y) ** 2), rtol=1e-12)


@given(forecasts(), st.sampled_from(["brier", "log"]))
def test_corp_terms_add_up_and_have_signs(data, score) -> None:
    f, y = data
    if score == "log":
        f = 0.05 + 0.9 * f
    terms = calibration.corp_decomposition(f, y, score=score)
    total = terms.miscalibration - terms.discrimination + terms.uncertainty
    assert_close(total, terms.score, rtol=1e-10, atol=1e-12)
    assert terms.miscalibration >= -1e-12
    assert terms.discrimination >= -1e-12
    curved = calibration.corp_decomposition(0.1 + 0.5 * f**2, y, score=score)
    assert_close(curved.discrimination, terms.discrimination, rtol=1e-9, atol=1e-12)
    assert_close(curved.uncertainty, terms.uncertainty, rtol=1e-12, atol=1e-15)


def calibrated(n: int, reps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    f = rng.random(n)
    return f, (rng.random((reps, n)) < f).astype(float)


def test_debiased_statistics_have_expectation_zero_under_calibration() -> None:
    reps = 4000
    f, y = calibrated(40, reps, 0)
    fixed = np.tile([0.25, 0.75], 20)
    drawn = (np.random.default_rng(1).random((reps, 40)) < fixed).astype(float)
    cases = [
        (functools.partial(calibration.t_cal_statistic, num_bins=4), f, y),
        (functools.partial(calibration.t_cal_statistic, num_bins=32), f, y),
        (calibration.kernel_calibration_error, f, y),
        # Forecasts constant within bins.
        (
            functools.partial(calibration.debiased_squared_error, num_bins=2),
            fixed,
            drawn,
        ),
    ]
    for metric, forecast, labels in cases:
        values = np.asarray(jax.vmap(functools.partial(metric, forecast))(labels))
        # Four standard errors of the mean over the repetitions.
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(reps)
    plain = jax.vmap(functools.partial(ece, f))(y)
    assert np.mean(plain) > 0.05


def test_expected_scores_exceed_their_floor_by_the_distance_to_the_truth() -> None:
    rng = np.random.default_rng(2)
    p, f = rng.random(40), rng.uniform(0.05, 0.95, 40)
    y = (rng.random((4000, 40)) < p).astype(float)
    entropy = -np.mean(p * np.log(p) + (1 - p) * np.log(1 - p))
    for score, floor, distance in (
        (
            calibration.brier_score,
            np.mean(p * (1 - p)),
            calibration.mean_squared_probability_error,
        ),
        (calibration.log_loss, entropy, calibration.kl_probability_error),
    ):
        values = np.asarray(jax.vmap(functools.partial(score, f))(y))
        error = values.std() / np.sqrt(len(values))
        assert abs(values.mean() - floor - float(distance(f, p))) < 4 * error


MONTE_CARLO = {
    "spiegelhalter": calibration.spiegelhalter_test,
    "ks": calibration.ks_test,
    "kuiper": calibration.kuiper_test,
    "kernel": calibration.kernel_test,
    "t_cal": functools.partial(calibration.t_cal_test, num_scales=4),
    "hosmer_lemeshow": calibration.hosmer_lemeshow_test,
}


@pytest.mark.parametrize("name", MONTE_CARLO)
@pytest.mark.parametrize("n", [1, 10, 50])
def test_level_of_monte_carlo_tests(name: str, n: int) -> None:
    reps = 2000
    tenths = np.random.default_rng(n).integers(0, 11, n) / 10
    for seed, f in enumerate((calibrated(n, 1, n)[0], tenths)):
        rng = np.random.default_rng(seed)
        y = (rng.random((reps, n)) < f).astype(float)
        keys = jax.random.split(jax.random.key(seed), reps)

        @jax.jit
        def p_values(f, y, keys):
            test = functools.partial(MONTE_CARLO[name], f, num_resamples=19)
            return jax.vmap(lambda y, key: test(y, key=key).p_value)(y, keys)

        p = np.asarray(p_values(f, y, keys))
        # With 19 draws p-values are twentieths. Counted without the observed statistic
        # they would be nineteenths, which shows at 0.06 and not at 0.05.
        for threshold, level in ((0.05, 0.05), (0.06, 0.05), (0.2, 0.2)):
            # Three standard deviations of the simulated share.
            slack = 3 * np.sqrt(level * (1 - level) / reps)
            assert np.mean(p <= threshold + 1e-9) <= level + slack


@pytest.mark.parametrize("name", MONTE_CARLO)
def test_level_of_asymptotic_tests(name: str) -> None:
    # Sizes of a nominal 0.05 at n = 400: limits may err a little, T-Cal's
    # Bonferroni correction a lot on the safe side.
    f, y = calibrated(400, 2000, 11)
    test = functools.partial(MONTE_CARLO[name], f, method="asymptotic")
    p = np.asarray(jax.jit(jax.vmap(lambda y: test(y).p_value))(y))
    low = 0.0 if name == "t_cal" else 0.02
    assert low <= np.mean(p <= 0.05) <= 0.065


@pytest.mark.parametrize("name", MONTE_CARLO)
def test_power_against_over_and_under_confidence(name: str) -> None:
    rng = np.random.default_rng(5)
    for factor in (3.0, 1 / 3):
        z = rng.normal(0, 2, (100, 300))
        p = 1 / (1 + np.exp(-z))
        y = (rng.random((100, 300)) < p).astype(float)
        f = 1 / (1 + np.exp(-factor * z))

        def p_value(f, y):
            return MONTE_CARLO[name](f, y, method="asymptotic").p_value

        values = jax.jit(jax.vmap(p_value))(f, y)
        assert np.mean(np.asarray(values) <= 0.05) > 0.6


def test_one_sided_spiegelhalter_sees_one_side() -> None:
    rng = np.random.default_rng(6)
    z = rng.normal(0, 2, 400)
    y = (rng.random(400) < 1 / (1 + np.exp(-z))).astype(int)
    test = functools.partial(calibration.spiegelhalter_test, method="asymptotic")
    timid, bold = 1 / (1 + np.exp(-z / 3)), 1 / (1 + np.exp(-3 * z))
    assert test(bold, y, alternative="greater").p_value < 0.01
    assert test(bold, y, alternative="less").p_value > 0.9
    assert test(timid, y, alternative="greater").p_value > 0.9
    assert test(timid, y).p_value < 0.01


@pytest.mark.slow
def test_coverage_of_intervals_of_the_debiased_squared_error() -> None:
    # 2000 rows, 15 bins, over-confident forecasts, against the value of a large sample.
    rng = np.random.default_rng(0)
    levels = (np.arange(15) + 0.5) / 15
    p = 0.5 + 0.6 * (levels - 0.5)
    truth = float(np.mean((levels - p) ** 2))
    reps = 600
    place = rng.integers(0, 15, (reps, 2000))
    f = levels[place]
    y = (rng.random((reps, 2000)) < p[place]).astype(float)
    keys = jax.random.split(jax.random.key(0), reps)
    metric = calibration.debiased_squared_error
    for method in ("bootstrap", "basic", "bca", "analytic"):
        drawn = method != "analytic"

        def interval(f, y, key, method=method, drawn=drawn):
            result = calibration.confidence_interval(
                metric,
                f,
                y,
                method=method,
                num_resamples=300,
                key=key if drawn else None,
            )
            return result.lower, result.upper

        step = jax.jit(interval)
        ends = np.array([step(*row) for row in zip(f, y, keys, strict=True)])
        cover = np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1]))
        # Within three points of nominal, and three standard deviations of 600 trials.
        assert abs(cover - 0.95) < 0.03 + 3 * np.sqrt(0.95 * 0.05 / reps), method


def test_simultaneous_confidence_band_of_bins() -> None:
    reps, n = 400, 200
    levels = (np.arange(5) + 0.5) / 5
    rng = np.random.default_rng(4)
    f = levels[rng.integers(0, 5, n)]
    truth = levels**2
    place = (f * 5).astype(int)
    y = (rng.random((reps, n)) < truth[place]).astype(float)

    def band(y):
        result = calibration.reliability_diagram(
            f,
            y,
            num_bins=5,
            band="confidence",
            confidence_level=0.9,
            simultaneous=True,
        )
        return result.lower, result.upper

    low, high = jax.jit(jax.vmap(band))(y)
    cover = np.mean(np.all((low <= truth) & (truth <= high), axis=1))
    assert cover >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / reps)


def test_holm_over_classes_keeps_the_family_wise_level() -> None:
    rng = np.random.default_rng(8)
    p = rng.dirichlet(np.ones(3), 60)
    uniforms = rng.random((800, 60, 1))
    c = (uniforms > np.cumsum(p, axis=1)[:, :-1]).sum(-1)
    test = functools.partial(calibration.spiegelhalter_test, method="asymptotic")
    values = jax.jit(
        jax.vmap(lambda c: calibration.classwise_test(test, p, c).p_value)
    )(jnp.asarray(c))
    share = np.mean(np.min(np.asarray(values), axis=1) <= 0.05)
    assert share <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 800)
