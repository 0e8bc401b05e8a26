"""Fitted maps against those of other packages, in float64.

The stored numbers come from scikit-learn 1.9.1, SciPy 1.17.1, betacal 1.1.0, venn-abers
1.5.4, netcal 1.4.0, uncertainty-calibration 0.1.4 and probmetrics 1.3.0.
"""

import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close, load_reference

CASES = [
    "calibrated",
    "overconfident_x2",
    "underconfident_shifted",
    "ties_tenths_incl_0_1",
    "rare_skewed",
    "small_n60",
]
MULTICLASS = ["k3_over_x2", "k5_calibrated", "k10_over_x1.5_imbalanced"]

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture(scope="module")
def stored():
    return {
        "binary": load_reference("calibration/binary_recalibrators.json"),
        "inputs": load_reference("calibration/binary_inputs.npz"),
        "multiclass": load_reference("calibration/multiclass.json"),
        "logits": load_reference("calibration/multiclass_inputs.npz"),
    }


def binary(stored, case):
    f = stored["inputs"][f"{case}__f"]
    y = stored["inputs"][f"{case}__y"].astype(np.float64)
    found = stored["binary"][case]
    return f, y, np.array(found["query"]), found


def merge_close(scores):
    """Scores within 1e-15 of the first of a group take its value, as at the peer."""
    order = np.argsort(scores)
    merged, first = scores.copy(), -np.inf
    for place in order:
        if scores[place] - first >= 1e-15:
            first = scores[place]
        merged[place] = first
    return merged


def padded(f, y):
    """To one length for all cases, by rows of weight 0: one compilation of each fit."""
    rows = (0, 2000 - f.size)
    options = {"weights": np.pad(np.ones(f.size), rows)}
    return np.pad(f, rows, constant_values=0.5), np.pad(y, rows), options


def logit(f):
    f = np.clip(f, 1e-12, 1 - 1e-12)
    return np.log(f) - np.log1p(-f)


def loss_of_logits(z, y):
    return np.mean(np.logaddexp(0, z) - y * z)


def class_loss(q, y):
    return -np.mean(np.log(np.asarray(q)[np.arange(y.size), y]))


@pytest.mark.parametrize("case", CASES)
def test_platt_and_temperature(stored, case):
    f, y, query, peers = binary(stored, case)
    s = logit(f)
    peer = peers["sklearn_platt_smoothed_on_logit"]
    padded_s, padded_y, options = padded(s, y)
    fit = calibration.fit_platt(padded_s, padded_y, **options)
    assert_close(fit.slope, -peer["a"], rtol=1e-6)
    assert_close(fit.intercept, -peer["b"], rtol=0, atol=1e-6)
    assert_close(fit(logit(query)), peer["pred"], rtol=0, atol=1e-6)
    plain = calibration.fit_platt(padded_s, padded_y, smoothing=False, **options)
    peer = peers["uncertainty_calibration_platt_mle"]
    ours = loss_of_logits(np.asarray(plain.slope * s + plain.intercept), y)
    assert ours <= loss_of_logits(peer["slope"] * s + peer["intercept"], y) + 1e-9
    assert bool(plain.converged)
    assert plain.gradient_norm < 1e-10
    temperature = calibration.fit_temperature(padded_s, padded_y, **options)
    peer = peers["sklearn_temperature_on_0_z"]["inv_temperature"]
    assert_close(temperature.inverse_temperature, peer, rtol=1e-6)
    two = np.stack([0 * padded_s, padded_s], 1)
    two = calibration.fit_temperature(two, padded_y.astype(int), **options)
    assert_close(two.inverse_temperature, temperature.inverse_temperature, rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("variant", ["abm", "am", "ab"])
def test_beta(stored, case, variant):
    f, y, _, peers = binary(stored, case)
    padded_f, padded_y, options = padded(f, y)
    fit = calibration.fit_beta(padded_f, padded_y, variant=variant, **options)
    a, b, _ = peers[f"betacal_{variant}"]["map_a_b_m"]
    c = peers[f"betacal_{variant}"]["intercept"]
    if variant == "ab":
        # The peer fits columns log(2 f) and leaves the intercept out.
        c = (a - b) * np.log(2)
    if variant == "abm":
        # The peer may keep a negative coefficient; ours is the constrained optimum.
        assert min(fit.a, fit.b) >= 0
        a, b = max(a, 0), max(b, 0)
    clipped = np.clip(f, 1e-12, 1 - 1e-12)

    def loss(a, b, c):
        return loss_of_logits(a * np.log(clipped) - b * np.log1p(-clipped) + c, y)

    assert loss(*map(float, (fit.a, fit.b, fit.c))) <= loss(a, b, c) + 1e-9
    assert fit.gradient_norm < 1e-8


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["sequential", "parallel", "host"])
def test_isotonic(stored, case, method):
    f, y, query, peers = binary(stored, case)
    padded_f, padded_y, options = padded(f, y)
    fit = calibration.fit_isotonic(padded_f, padded_y, method=method, **options)
    assert_close(fit(query), peers["sklearn_isotonic"]["pred"], rtol=0, atol=1e-12)
    blocks = np.unique(np.asarray(fit.values))
    peer = peers["scipy_pav_blocks"]
    # An ulp may split a block of a compiled fit in two.
    assert_close(
        np.unique(blocks.round(12)),
        np.round(peer["block_values"], 12),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("case", CASES)
def test_histogram_and_scaling_binning(stored, case):
    f, y, query, peers = binary(stored, case)
    f, y, options = padded(f, y)
    options["num_bins"] = 10
    mass = calibration.fit_histogram(f, y, closed="right", **options)
    peer = peers["histogram_equal_mass_10"]["pred"]
    assert_close(mass(query), peer, rtol=0, atol=1e-12)
    width = calibration.fit_histogram(f, y, binning="width", closed="right", **options)
    peer = np.array(peers["netcal_histogram_equal_width_10"]["pred"])
    # The peer's edges are those of linspace, an ulp above some j / 10: queries an ulp
    # above j / 10 and scores on an edge fall on different sides.
    kept = query == np.round(query, 2)
    if case == "ties_tenths_incl_0_1":
        kept[:] = False
    assert_close(width(query)[kept], peer[kept], rtol=0, atol=1e-12)
    binned = calibration.fit_scaling_binning(f, y, **options)
    peer = np.array(peers["scaling_binning_10"]["pred"])
    if case == "ties_tenths_incl_0_1":
        # The peer's edges fall within ties, ours never do.
        return
    # The peer's logistic fit stops early, by up to 6e-4 in its parameters.
    assert_close(binned(query), peer, rtol=0, atol=3e-4)


@pytest.mark.parametrize("case", CASES)
def test_venn_abers(stored, case):
    f, y, query, peers = binary(stored, case)
    f, y, options = padded(f, y)
    fit = calibration.fit_venn_abers(f, y, **options)
    low, high = fit.interval(query)
    peer = peers["venn_abers"]
    assert_close(low, peer["p0"], rtol=0, atol=1e-6)
    assert_close(high, peer["p1"], rtol=0, atol=1e-6)
    assert_close(fit(query), peer["p"], rtol=0, atol=1e-6)


# The tied case is left out: the peers' bins and ranks separate equal scores.
@pytest.mark.parametrize("case", ["overconfident_x2", "small_n60"])
def test_bbq_and_spline(stored, case):
    f, y, query, peers = binary(stored, case)
    # The peer averages bins of equal width by their BIC.
    fit = calibration.fit_bbq(f, y, binning="width", score="bic")
    assert_close(fit(query), peers["netcal_bbq"]["pred"], rtol=0, atol=5e-3)
    f, y, options = padded(f, y)
    spline = calibration.fit_spline(f, y, **options)
    peer = np.clip(peers["probmetrics_cdf_spline"]["pred"], 0, 1)
    # The stored values are those of float32 queries.
    assert_close(spline(query), peer, rtol=0, atol=2e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("loss", "name"), [("nll", "ce"), ("mse", "mse")])
def test_ensemble_temperature(stored, case, loss, name):
    f, y, _, peers = binary(stored, case)
    logits = np.stack([np.zeros_like(f), logit(f)], 1)
    classes = y.astype(int)
    rows = (0, 2000 - y.size)
    fit = calibration.fit_ensemble_temperature(
        np.pad(logits, (rows, (0, 0))),
        np.pad(classes, rows),
        weights=np.pad(np.ones(y.size), rows),
        loss=loss,
    )
    peer = peers["probmetrics_ets"][name]
    scaled = calibration.TemperatureCalibrator(
        *(np.asarray(v) for v in (1 / peer["t"], 0.0, 0, 0))
    )(logits)
    plain = np.asarray(fit(logits) * 0) + np.stack([1 - f, f], 1)
    first, second, third = peer["w"]
    theirs = first * np.asarray(scaled) + second * plain + third / 2

    def value(q):
        own = np.asarray(q)[np.arange(y.size), classes]
        if loss == "nll":
            return -np.mean(np.log(own))
        return np.mean(np.sum(np.asarray(q) ** 2, 1) - 2 * own + 1)

    assert value(fit(logits)) <= value(theirs) + 1e-9
    assert fit.gap < 1e-10


@pytest.mark.parametrize(
    "case",
    [MULTICLASS[0], *(pytest.param(c, marks=pytest.mark.slow) for c in MULTICLASS[1:])],
)
def test_multiclass(stored, case):
    logits, y = stored["logits"][f"{case}__logits"], stored["logits"][f"{case}__y"]
    peers = stored["multiclass"][case]
    temperature = calibration.fit_temperature(logits, y)
    peer = peers["sklearn.temperature_inv"]
    assert_close(temperature.inverse_temperature, peer, rtol=1e-6)
    vector = calibration.fit_vector_scaling(logits, y)
    matrix = calibration.fit_matrix_scaling(logits, y)
    probs = np.exp(logits - logits.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    dirichlet = calibration.fit_dirichlet(probs, y)
    structured = calibration.fit_structured_scaling(logits, y)
    losses = {
        "temperature": class_loss(temperature(logits), y),
        "vector": class_loss(vector(logits), y),
        "matrix": class_loss(matrix(logits), y),
        "dirichlet": class_loss(dirichlet(probs), y),
        "structured": class_loss(structured(logits), y),
    }
    assert losses["vector"] <= peers["scipy.vector_scaling_train_nll"] + 1e-9
    peer = peers["sklearn.matrix_scaling_train_nll_unregularised"]
    assert losses["matrix"] <= peer + 1e-9
    peer = peers["sklearn.dirichlet_train_nll_unregularised"]
    assert losses["dirichlet"] <= peer + 1e-9
    assert losses["matrix"] <= losses["vector"] <= losses["temperature"]
    assert losses["temperature"] <= class_loss(probs, y)
    assert losses["structured"] <= losses["temperature"]
    for fit in (temperature, vector, matrix, dirichlet, structured):
        assert bool(fit.converged)
        assert fit.gradient_norm < 1e-9


@pytest.mark.parametrize("name", ["breast_cancer_nb", "digits_nb"])
def test_held_out_losses_on_real_data(name):
    data = load_reference("calibration/sklearn_real_inputs.npz")
    peers = load_reference("calibration/sklearn_real.json")[name]
    fitted = data[f"{name}__Pcal"], data[f"{name}__ycal"].astype(int)
    test, y = data[f"{name}__Ptest"], data[f"{name}__ytest"].astype(int)

    def loss(q):
        q = np.clip(np.asarray(q), 1e-12, 1)
        return class_loss(q / q.sum(1, keepdims=True), y)

    logs = [np.log(p + 1e-12) for p in (fitted[0], test)]
    temperature = calibration.fit_temperature(logs[0], fitted[1])
    peer = peers["temperature"]
    assert_close(temperature.inverse_temperature, peer["inv_temperature"], rtol=1e-5)
    assert_close(loss(temperature(logs[1])), peer["nll"], rtol=1e-5)
    merged = np.stack([merge_close(column) for column in fitted[0].T], axis=1)
    isotonic = calibration.fit_one_vs_rest(calibration.fit_isotonic, merged, fitted[1])
    found = loss(isotonic(test))
    assert_close(found, peers["isotonic_ovr_normalised"]["nll"], rtol=1e-9)
    platt = calibration.fit_one_vs_rest(
        calibration.fit_platt, logit(fitted[0]), fitted[1]
    )
    peer = peers["platt_ovr_on_logit_clip1e-12_normalised"]["nll"]
    assert_close(loss(platt(logit(test))), peer, rtol=1e-5)
