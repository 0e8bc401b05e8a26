"""Metrics and tests of calibration against independent packages and definitions.

Peers: netcal 1.4.0, torchmetrics 1.9.0, uncertainty-calibration 0.1.4, relplot 1.0.3,
scikit-learn 1.9.1, MAPIE 1.6.0, calzone 0.1.0, model-diagnostics 1.5.0. Keys
`formula.*` are double loops over the definition.
"""

import functools
from typing import Any

import jax
import numpy as np
import pytest
import statsmodels.api as sm

from jaxcur import calibration, stats
from tests.helpers import assert_close, load_reference

BINARY = load_reference("calibration/binary_metrics.json")
BINARY_INPUTS = load_reference("calibration/binary_inputs.npz")
ROWS = load_reference("calibration/multiclass.json")
ROWS_INPUTS = load_reference("calibration/multiclass_inputs.npz")
DISTRIBUTIONS = load_reference("calibration/distributions_and_certificates.json")

# netcal and torchmetrics round the edges 0.3 and 0.7 up; torchmetrics puts forecasts of
# exactly 1 into a bin of their own.
TENTHS = {"ties_tenths_incl_0_1"}
# MAPIE breaks ties by a random jitter, and leaves S_0 = 0 out of the range.
TIED = {"ties_tenths_incl_0_1"}
WITHOUT_START = {"underconfident_shifted"}

pytestmark = pytest.mark.usefixtures("x64")


def rows(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts and outcomes of a binary case."""
    return BINARY_INPUTS[f"{case}__f"], BINARY_INPUTS[f"{case}__y"]


LONGEST = max(len(values) for values in BINARY_INPUTS.values())


def padded(case: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The case with rows of weight 0 added, so that all cases share their programs."""
    f, y = rows(case)
    extra = LONGEST - len(f)
    w = np.pad(np.ones_like(f), (0, extra))
    return np.pad(f, (0, extra), constant_values=0.3), np.pad(y, (0, extra)), w


@functools.cache
def classes(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of probabilities and classes."""
    logits = ROWS_INPUTS[f"{case}__logits"]
    with jax.enable_x64(True):
        return np.asarray(jax.nn.softmax(logits, axis=1)), ROWS_INPUTS[f"{case}__y"]


@pytest.mark.parametrize("case", BINARY)
@pytest.mark.parametrize("num_bins", [10, 15])
def test_binned_errors_of_peers(case: str, num_bins: int) -> None:
    f, y, w = padded(case)
    peer = BINARY[case]
    error = functools.partial(
        calibration.expected_calibration_error, f, y, num_bins=num_bins, weights=w
    )
    mass = functools.partial(error, binning="mass", closed="right")
    # Its edges are numpy.linspace, where 3 * 0.1 and 7 * 0.1 lie above 0.3 and 0.7.
    edges = np.linspace(0, 1, num_bins + 1)
    peer_edges = functools.partial(error, edges=edges)
    exact = {
        "netcal.ece": peer_edges(),
        "netcal.mce": peer_edges(norm="max"),
        "netcal.ace": peer_edges(weighting="uniform"),
        "uncertainty_calibration.ece_equal_width": error(closed="right"),
        "uncertainty_calibration.ece_equal_mass": mass(),
        "uncertainty_calibration.l2ce_plugin_equal_mass": mass(norm=2),
        "uncertainty_calibration.l2ce_debiased_equal_mass": mass(norm=2, debias=True),
    }
    for name, value in exact.items():
        assert_close(value, peer[f"{name}_{num_bins}"], rtol=1e-12, atol=1e-12)
    if case not in TENTHS:
        for name, value in (("ece", error()), ("mce", error(norm="max"))):
            stored = peer[f"netcal.{name}_{num_bins}"]
            assert_close(value, stored, rtol=1e-12, atol=1e-12)
        # float32 inside some of its reductions
        for name, norm in (("ece_l1", 1), ("rmsce_l2", 2), ("mce_max", "max")):
            value = peer[f"torchmetrics.{name}_{num_bins}"]
            assert_close(error(norm=norm), value, rtol=0, atol=1e-6)
    signed = peer["uncertainty_calibration.unbiased_square_ce_equal_mass_15"]
    if num_bins == 15 and isinstance(signed, float):
        value = calibration.debiased_squared_error(
            f, y, binning="mass", closed="right", weights=w
        )
        assert_close(value, signed, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", BINARY)
def test_scores_and_decompositions_of_peers(case: str) -> None:
    f, y, w = padded(case)
    peer = BINARY[case]
    for function, name in (
        (calibration.brier_score, "brier"),
        (calibration.log_loss, "log_loss"),
        (calibration.auc, "roc_auc"),
    ):
        value = function(f, y, weights=w)
        assert_close(value, peer[f"sklearn.{name}"], rtol=1e-12)
    for score, key in (("brier", "corp_brier"), ("log", "corp_logloss")):
        terms = calibration.corp_decomposition(f, y, score=score, weights=w)
        stored = peer[f"model_diagnostics.{key}"]
        for name, value in stored.items():
            assert_close(getattr(terms, name), value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", BINARY)
def test_calibration_slope_of_peers(case: str) -> None:
    f, y, w = padded(case)
    found = calibration.calibration_slope(f, y, weights=w)
    # calzone clips forecasts of exactly 0 and 1 at 1e-7; here they are the limit.
    tolerance = 1e-6 if case in TENTHS else 1e-12
    ours = np.array([found.slope, found.intercept])
    stored = BINARY[case]["calzone.cox_slope_intercept"]
    assert_close(ours, stored, rtol=tolerance, atol=tolerance)
    # The same rows in statsmodels: every forecast of 0 and 1 came true.
    f, y = rows(case)
    inside = (f > 0) & (f < 1)
    f, y = f[inside], y[inside]
    s, ones = np.log(f) - np.log1p(-f), np.ones_like(f)
    fit = functools.partial(sm.GLM, family=sm.families.Binomial())
    both = fit(y, np.column_stack([s, ones])).fit(tol=1e-14)
    assert_close(ours, both.params, rtol=1e-9, atol=1e-12)
    # Its information is that of one step before its last.
    assert_close(found.covariance, both.cov_params(), rtol=1e-6, atol=1e-12)
    large = fit(y, ones, offset=s).fit(tol=1e-14)
    assert_close(found.intercept_at_slope_one, large.params[0], rtol=1e-9, atol=1e-12)
    error = found.intercept_at_slope_one_std_error
    assert_close(error, large.bse[0], rtol=1e-6)


@pytest.mark.parametrize("case", BINARY)
@pytest.mark.parametrize("num_bins", [10, 15])
def test_calibration_curve_of_sklearn(case: str, num_bins: int) -> None:
    f, y, w = padded(case)
    n = len(rows(case)[0])
    for binning, strategy in (("width", "uniform"), ("mass", "quantile")):
        if binning == "mass" and n % num_bins:
            # Its quantiles cut such rows into other groups.
            continue
        stored = BINARY[case][f"sklearn.calibration_curve_{strategy}_{num_bins}"]
        found = calibration.reliability_diagram(
            f, y, num_bins=num_bins, binning=binning, closed="right", weights=w
        )
        present = np.asarray(found.weight) > 0
        assert_close(found.rate[present], stored["prob_true"], rtol=1e-12)
        assert_close(found.forecast[present], stored["prob_pred"], rtol=1e-12)


def trapezoid_smooth_ece(f: np.ndarray, y: np.ndarray, bandwidth: float) -> float:
    """smECE_s by quadrature of the definition with reflected kernels."""
    t = (np.arange(20000) + 0.5) / 20000
    values, place = np.unique(f, return_inverse=True)
    residual = np.bincount(place, f - y)
    total = np.zeros_like(t)
    for value, r in zip(values, residual, strict=True):
        for shift in (-2, 0, 2):
            for image in (value + shift, shift - value):
                total += r * np.exp(-(((t - image) / bandwidth) ** 2) / 2)
    scale = bandwidth * np.sqrt(2 * np.pi) * len(f)
    return float(np.mean(np.abs(total))) / scale


@pytest.mark.parametrize("case", BINARY)
def test_smooth_ece_of_relplot_and_of_the_definition(case: str) -> None:
    f, y, w = padded(case)
    peer = BINARY[case]
    # Its grid, and a stopping rule that ends up to 1e-3 early.
    value = calibration.smooth_ece(f, y, weights=w)
    assert_close(value, peer["relplot.smece"], rtol=0, atol=2e-3)
    fixed = calibration.smooth_ece(f, y, bandwidth=0.05, weights=w)
    assert_close(fixed, peer["relplot.smece_sigma_0.05"], rtol=0, atol=5e-4)
    # Splitting onto 4096 points moves mass by 1e-4 at most, to second order in effect.
    f, y = rows(case)
    assert_close(fixed, trapezoid_smooth_ece(f, y, 0.05), rtol=0, atol=1e-6)
    at_root = trapezoid_smooth_ece(f, y, float(value))
    assert_close(at_root, float(value), rtol=0, atol=2e-5)


@pytest.mark.parametrize("case", BINARY)
def test_tests_of_peers(case: str) -> None:
    f, y, w = padded(case)
    peer = BINARY[case]
    z, p = peer["calzone.spiegelhalter_z_p_two_sided"]
    result = calibration.spiegelhalter_test(f, y, method="asymptotic", weights=w)
    assert_close(result.statistic, z, rtol=1e-10)
    # The peer takes 1 - cdf, which has no more digits than this.
    assert_close(result.p_value, p, rtol=1e-12, atol=1e-15)
    result = calibration.spiegelhalter_test(
        f, y, method="asymptotic", alternative="greater", weights=w
    )
    assert_close(
        result.p_value, peer["mapie.spiegelhalter_p_one_sided"], rtol=1e-12, atol=1e-15
    )
    if case in TIED:
        return
    # Its jitter of 1e-8 moves the statistic of untied forecasts a little.
    ks = calibration.ks_test(f, y, method="asymptotic", weights=w)
    assert_close(ks.statistic, peer["mapie.ks_stat"], rtol=1e-6)
    # Its p-values come from 1 - cdf and are off by 1e-11 in the far tail.
    assert_close(ks.p_value, peer["mapie.ks_p"], rtol=1e-6, atol=2e-11)
    kuiper = calibration.kuiper_test(f, y, method="asymptotic", weights=w)
    if case in WITHOUT_START:
        assert kuiper.statistic > peer["mapie.kuiper_stat"]
        assert kuiper.statistic >= ks.statistic
    else:
        assert_close(kuiper.statistic, peer["mapie.kuiper_stat"], rtol=1e-6)
        assert_close(kuiper.p_value, peer["mapie.kuiper_p"], rtol=1e-6, atol=2e-11)


ESTIMATORS = {
    "unbiased_quadratic": "unbiased",
    "biased_V": "biased",
    "unbiased_linear": "linear",
}


@pytest.mark.parametrize("case", [c for c in BINARY if "rare" not in c])
@pytest.mark.parametrize("gamma", ["1", "2.5"])
def test_kernel_error_of_the_double_loop(case: str, gamma: str) -> None:
    f, y, w = padded(case)
    for name, value in BINARY[case][f"formula.skce_laplacian_gamma{gamma}"].items():
        ours = calibration.kernel_calibration_error(
            f, y, estimator=ESTIMATORS[name], bandwidth=1 / float(gamma), weights=w
        )
        assert_close(ours, value, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("case", ROWS)
def test_rows_of_peers(case: str) -> None:
    p, c = classes(case)
    peer = ROWS[case]
    for m in (10, 15) if p.shape[1] == 3 else (15,):
        top = functools.partial(
            calibration.top_label_calibration_error, p, c, num_bins=m
        )
        by_class = functools.partial(
            calibration.classwise_calibration_error, p, c, num_bins=m, closed="right"
        )
        squared: dict[str, Any] = {"norm": 2, "debias": True, "binning": "mass"}
        name = "uncertainty_calibration"
        exact = {
            f"{name}.toplabel_ece": top(closed="right"),
            f"{name}.classwise_ece_equal_width": by_class(),
            f"{name}.marginal_l2_debiased_equal_mass": by_class(**squared),
            f"{name}.toplabel_l2_debiased_equal_mass": top(closed="right", **squared),
        }
        for key, value in exact.items():
            assert_close(value, peer[f"{key}_{m}"], rtol=1e-12, atol=1e-12)
        # float32 inside these two peers
        loose = {
            "torchmetrics.toplabel_l1": top(),
            "torchmetrics.toplabel_l2": top(norm=2),
            "torchmetrics.toplabel_max": top(norm="max"),
            "netcal.toplabel_ece": top(),
            "netcal.toplabel_ace": top(weighting="uniform"),
        }
        for key, value in loose.items():
            assert_close(value, peer[f"{key}_{m}"], rtol=0, atol=1e-6)
    smooth = calibration.smooth_ece(p, c)
    assert_close(smooth, peer["relplot.toplabel_smece"], rtol=0, atol=2e-3)
    assert_close(calibration.log_loss(p, c), peer["sklearn.log_loss"], rtol=1e-12)
    brier = calibration.brier_score(p, c)
    assert_close(brier, peer["sklearn.brier_multiclass_sum_over_classes"], rtol=1e-12)
    loops = peer.get("formula.skce_canonical_euclid_exp_gamma1_identity_label", {})
    for name, value in loops.items():
        ours = calibration.kernel_calibration_error(
            p, c, estimator=ESTIMATORS[name], bandwidth=1.0
        )
        assert_close(ours, value, rtol=1e-12, atol=1e-14)


def test_distributions_of_brownian_motion() -> None:
    for key, function in (
        ("ks_brownian_cdf", stats.brownian_maximum_cdf),
        ("kuiper_brownian_range_cdf", stats.brownian_range_cdf),
    ):
        stored = DISTRIBUTIONS[key]
        points = np.array([float(x) for x in stored])
        assert_close(function(points), list(stored.values()), rtol=0, atol=1e-12)


FACES = load_reference("calibration/cape_face_metrics.json")
FACE_ROWS = load_reference("calibration/cape_face_predictions.npz")


@pytest.mark.parametrize("case", FACES)
def test_published_predictions_of_faces(case: str) -> None:
    scenario = case.split("_")[0]
    f = FACE_ROWS[f"{case}_phat"].astype(float)
    y, truth = FACE_ROWS[f"{scenario}_y"], FACE_ROWS[f"{scenario}_p"].astype(float)
    stored = FACES[case]
    # Their bins: percentiles as edges, closed on the right.
    edges = np.percentile(f, 100 * np.linspace(0, 1, 16))
    edges[0], edges[-1] = 0, 1
    error = functools.partial(
        calibration.expected_calibration_error, f, y, edges=edges, closed="right"
    )
    ours = {
        "ece_quantile15_unweighted_mean": error(weighting="uniform"),
        "mce_quantile15": error(norm="max"),
        "brier": calibration.brier_score(f, y),
        "nll": calibration.log_loss(f, y),
        "auc": calibration.auc(f, y),
        "mse_p": calibration.mean_squared_probability_error(f, truth),
        "kl_p_to_phat_eps1e10": calibration.kl_probability_error(
            f, truth, offset=1e-10
        ),
        "ks_unnormalised": calibration.ks_error(f, y),
    }
    for name, value in ours.items():
        assert_close(value, stored[name], rtol=1e-10, atol=1e-12)
    for num_bins, value in stored["tcal_dpe_by_num_bins"].items():
        # Their code gives a forecast of exactly 1 a bin of its own.
        ours_d = calibration.t_cal_statistic(f, y, num_bins=int(num_bins))
        assert_close(ours_d, value, rtol=1e-10, atol=1e-12)
