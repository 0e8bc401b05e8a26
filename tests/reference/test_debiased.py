"""R dsl and ppi-python at fixed predictions; provenance beside the data.

Where a peer departs from the mathematics the departure itself is asserted, so that it
is seen when it ends.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtri

from jaxcur import debiased
from tests.helpers import assert_close, load_reference

FIXED = load_reference("dsl/fixed_prediction.json")
FITS = {"lm": debiased.ols, "logit": debiased.logistic}


@functools.cache
def fixed_inputs(case: str) -> dict[str, np.ndarray]:
    data = dict(load_reference(f"dsl/{case}.npz"))
    columns = FIXED[case]["names"][1:]
    X = np.column_stack([np.ones(len(data["R"])), *(data[c] for c in columns)])
    out = {"X": X, "y": data["Y"], "y_predicted": data["Y_hat"]}
    if "X1_hat" in data:
        out["X_predicted"] = X.copy()
        out["X_predicted"][:, 1] = data["X1_hat"]
    out["labeled"] = data["R"] == 1
    return out | {"pi": data["pi"], "cluster": data["cluster"]}


def fixed_fit(case: str, *, clustered: bool = False, **options):
    data = dict(fixed_inputs(case))
    pi, cluster = data.pop("pi"), data.pop("cluster")
    fit = FITS[FIXED[case]["model"]]
    options.setdefault("power_tuning", None)
    if clustered:
        options["clusters"] = cluster
    return fit(**data, sampling_prob=pi, **options)


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("case", list(FIXED))
def test_r_dsl_roots_covariances_and_power(case, clustered, x64):
    expected = FIXED[case]
    kind = "cluster" if clustered else "hc0"
    result = fixed_fit(case, clustered=clustered)
    assert bool(result.converged)
    # The roots are known to 1e-16 of the mean moment: 1e-9 is their file's tolerance.
    assert_close(result.estimate, expected["coef"], rtol=1e-9)
    assert_close(result.covariance, expected[f"vcov_{kind}"], rtol=1e-9)
    for ratio, stored in expected[f"power_se_{kind}"].items():
        predicted = np.asarray(debiased.predicted_std_error(result, float(ratio)))
        known = np.array([v is not None for v in stored])
        assert_close(predicted[known], np.array(stored, float)[known], rtol=1e-9)
        # Where the plain formula has no root, more labels still never do worse.
        assert (predicted[~known] < np.asarray(result.std_error)[~known]).all()


@pytest.mark.parametrize("case", list(FIXED))
def test_r_dsl_roots_in_float32(case):
    result = fixed_fit(case)
    # Coefficients near zero lose digits to those of order one: absolute floor.
    assert_close(result.estimate, FIXED[case]["coef"], rtol=2e-4, atol=2e-5)
    assert_close(result.std_error, FIXED[case]["se_hc0"], rtol=2e-4)


@pytest.mark.parametrize("case", list(FIXED))
def test_r_dsl_stops_before_the_root(case, x64):
    # Deviation of the peer: its quasi-Newton search ends about 1e-6 away.
    shipped = np.array(FIXED[case]["shipped_hc0"]["coef"])
    gap = np.abs(np.asarray(fixed_fit(case).estimate) - shipped).max()
    assert 1e-8 < gap < 1e-4


PPI_FITS = {"ols": debiased.ols, "logistic": debiased.logistic}
PPI_FITS |= {"poisson": debiased.poisson}
SUFFIX = {"mean": "lin", "mean_w": "lin", "ols": "lin", "logistic": "log"}
SUFFIX |= {"poisson": "poi"}
PPI = load_reference("dsl/ppi.json")


def ppi_fit(name: str, model: str, lam, **options):
    data = load_reference(f"dsl/ppi_{name}.npz")
    n, total = int(data["n"]), len(data["w"])
    y = np.where(np.arange(total) < n, data[f"y_{SUFFIX[model]}"], np.nan)
    options |= {"labeled": np.arange(total) < n}
    options["y_predicted"] = data[f"f_{SUFFIX[model]}"]
    # lam of the peer is lambda N' / (n + N').
    tuned = "scalar" if lam is None else lam * total / (total - n)
    options.setdefault("power_tuning", tuned)
    if model == "mean_w":
        options["weights"] = data["w"]
    if model.startswith("mean"):
        return debiased.mean(y, **options)
    return PPI_FITS[model](data["X"], y, **options)


def same_estimator(model: str, lam: float) -> bool:
    # OLS of the peer adds two fits, and its weighted mean normalises the weights within
    # each sample: other estimators unless lam = 0.
    return lam == 0 or model in ("mean", "logistic", "poisson")


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("model", ["mean", "mean_w", "ols", "logistic", "poisson"])
def test_ppi_points_and_intervals(name, model, lam, x64):
    expected = PPI[name]["results"][f"{model}|{lam}"]
    result = ppi_fit(name, model, lam)
    interval = np.asarray(result.conf_int(1 - PPI[name]["alpha"]))
    low, high = (np.asarray(side) for side in expected["ci"])
    if same_estimator(model, lam):
        # The peer stops its search at 1e-5.
        rtol = 1e-10 if model.startswith(("mean", "ols")) else 1e-6
        assert_close(result.estimate, expected["est"], rtol=rtol, atol=1e-8)
    else:
        gap = np.abs(np.asarray(result.estimate) - np.array(expected["est"])).max()
        assert gap > 1e-4, "the two estimators no longer differ: say so in the docs"
    assert_close(interval[:, 1] - interval[:, 0], high - low, rtol=0.1)


@pytest.mark.parametrize("name", ["a", "b"])
def test_ppi_p_value_of_the_mean(name, x64):
    (expected,) = PPI[name]["results"]["mean_pval|1.0"]
    result = ppi_fit(name, "mean", 1.0)
    # Standard errors agree within a percent, hence z statistics too.
    z = [float(ndtri(p / 2)) for p in (result.p_value(null=0.6)[0], expected)]
    assert_close(z[0], z[1], rtol=0.01)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("model", ["mean", "logistic"])
def test_tuned_estimates_are_no_wider_than_the_peer(name, model, x64):
    # The peer clips its number to [0, 1] and tunes with pooled covariances.
    low, high = PPI[name]["results"][f"{model}|None"]["ci"]
    result = ppi_fit(name, model, None, power_tuning="optimal")
    interval = np.asarray(result.conf_int(1 - PPI[name]["alpha"]))
    ratio = (interval[:, 1] - interval[:, 0]) / (np.array(high) - np.array(low))
    assert (ratio < 1.05).all()


def test_fixed_prediction_under_jit_and_vmap(x64):
    data = fixed_inputs("lm_y")
    X, y, guess, labeled = (
        jnp.asarray(data[k]) for k in ("X", "y", "y_predicted", "labeled")
    )

    def fit(outcome, predicted):
        return debiased.ols(
            X,
            outcome,
            y_predicted=predicted,
            labeled=labeled,
            sampling_prob=data["pi"],
            power_tuning=None,
        )

    both = jax.jit(jax.vmap(fit))(jnp.stack([y, 2 * y]), jnp.stack([guess, 2 * guess]))
    expected = np.array(FIXED["lm_y"]["coef"])
    assert_close(both.estimate, np.stack([expected, 2 * expected]), rtol=1e-9)
    covariance = np.array(FIXED["lm_y"]["vcov_hc0"])
    assert_close(both.covariance, np.stack([covariance, 4 * covariance]), rtol=1e-9)
