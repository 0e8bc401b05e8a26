"""R dsl for fixed effects, ppi-python for quantiles; provenance beside the data."""

import functools

import numpy as np
import pytest

from jaxcur import debiased
from tests.helpers import assert_close, load_reference

EFFECTS = load_reference("dsl/fixed_effects.json")
PPI = load_reference("dsl/ppi.json")


def panel_fit(case: str, ways: int, *, clustered: bool):
    data = load_reference(f"dsl/{case}.csv")
    time = "time" if case == "felm" else "year"
    groups = np.column_stack([data["unit"], data[time]])[:, :ways]
    options = {"labeled": data["R"] == 1, "sampling_prob": data["pi"]}
    if clustered:
        options["clusters"] = data["cluster"]
    if case == "felm":
        X = np.column_stack([data["X1"], data["X2"]])
        return debiased.fixed_effects(
            X, data["Y"], groups, y_predicted=data["Y_hat"], **options
        )
    others = [data["log_pc"], data["unemp"]]
    return debiased.fixed_effects(
        np.column_stack([data["log_gsp"], *others]),
        data["log_pcap"],
        groups,
        X_predicted=np.column_stack([data["log_gsp_hat"], *others]),
        **options,
    )


@pytest.mark.parametrize(
    ("case", "ways", "clustered"),
    [
        ("felm", 1, False),
        ("felm", 2, True),
        ("data_felm", 2, False),
        pytest.param("felm", 1, True, marks=pytest.mark.slow),
        pytest.param("felm", 2, False, marks=pytest.mark.slow),
        pytest.param("data_felm", 1, False, marks=pytest.mark.slow),
        pytest.param("data_felm", 1, True, marks=pytest.mark.slow),
        pytest.param("data_felm", 2, True, marks=pytest.mark.slow),
    ],
)
def test_r_dsl_fixed_effects(case, ways, clustered, x64):
    expected = EFFECTS[case]["oneway" if ways == 1 else "twoway"]
    kind = "cluster" if clustered else "hc0"
    result = panel_fit(case, ways, clustered=clustered)
    assert bool(result.converged)
    # The dummies of the peer's 816 rows are ill-conditioned.
    rtol = 1e-9 if case == "felm" else 1e-7
    assert_close(result.estimate, expected["coef"], rtol=rtol)
    vcov = np.array(expected[f"vcov_{kind}"])
    scale = np.sqrt(np.outer(np.diag(vcov), np.diag(vcov)))
    assert_close(result.covariance / scale, vcov / scale, rtol=rtol, atol=rtol)
    for ratio, stored in expected.get(f"power_se_{kind}", {}).items():
        if None not in stored:
            found = debiased.predicted_std_error(result, float(ratio))
            assert_close(found, stored, rtol=1e-9)


@functools.cache
def ppi_quantiles(name: str):
    data = load_reference(f"dsl/ppi_{name}.npz")
    n, total = int(data["n"]), len(data["y_lin"])
    mask = np.arange(total) < n
    y = np.where(mask, data["y_lin"], np.nan)
    # lam = 1 of the peer is lambda = (n + N') / N'.
    result = debiased.quantile(
        y,
        y_predicted=data["f_lin"],
        labeled=mask,
        q=np.array([0.1, 0.5, 0.75]),
        power_tuning=total / (total - n),
    )
    grid = np.ptp(np.concatenate([data["y_lin"], data["f_lin"]])) / 4999
    return result, np.asarray(result.conf_int(1 - PPI[name]["alpha"])), grid


@pytest.mark.parametrize("j", range(3))
@pytest.mark.parametrize("name", ["a", "b"])
def test_ppi_quantiles(name, j, x64):
    result, intervals, grid = ppi_quantiles(name)
    q = float(result.q[j])
    expected = PPI[name]["results"][f"quantile|{q}"]
    # Its interval ends at accepted grid points, ours at the value after.
    low, high = expected["ci"]
    assert_close(intervals[j], np.array([low, high]), rtol=0, atol=2.5 * grid)
    assert_close(intervals[j, 1] - intervals[j, 0], high - low, rtol=0.05)
    # F is not monotone and passes q at several values, exactly in three cases; we take
    # the smallest, the peer what its grid and rounding bring up.
    values, shares = np.asarray(result.values), np.asarray(result.distribution[0])
    points = np.array([float(result.estimate[j]), expected["est"]])
    gaps = np.abs(shares[np.searchsorted(values, points, "right") - 1] - q)
    assert gaps[0] <= gaps[1] + 1e-12
    # One step of F is the weight of a label, 1/200 or 1/400.
    assert gaps[1] < 0.005
    if (name, j) in {("a", 0), ("a", 1), ("b", 2)}:
        assert_close(points[0], points[1], rtol=0, atol=grid)
