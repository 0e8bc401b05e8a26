"""Neighbours of conformal selection against stored numbers of other programs."""

import jax
import numpy as np
import pytest

from jaxcur.conformal._conditional import conditional_bounds, conditional_p_values
from jaxcur.conformal._outliers import detect_outliers
from jaxcur.conformal._score_risk import score_mdr, score_sdr
from tests.helpers import assert_close, load_reference

RTOL = {"float32": 1e-5, "float64": 1e-12}
RISK = load_reference("conformal/score_risk.json")["cases"]
CONDITIONAL = load_reference("conformal/conditional_calibration.json")["cases"]
OUTLIERS = load_reference("conformal/empbh_adaptive.json")["cases"]

# The program that made the numbers compares e-values as rounded: in this case eleven of
# them equal the e-BH bar 15 / (0.3 * 11) on paper, half of them round below it, and its
# set is empty. A tie is rejected, so all eleven belong to the set.
ROUNDED_TIE = {(1302, "sdr_w_sel"): [0, 2, 4, 5, 6, 7, 9, 10, 11, 12, 13]}


def finite(values):
    return [np.inf if value is None else value for value in values]


def chosen(selected):
    return np.flatnonzero(np.asarray(selected)).tolist()


@pytest.mark.parametrize("case", RISK, ids=lambda case: str(case["seed"]))
def test_score_risk(case, dtype):
    rows = case["loss"], case["score"], case["test_score"]
    levels = {"level": case["alpha"], "gamma": case["gamma"]}
    weights = {"calibration_weights": case["w"], "test_weights": case["wt"]}
    results = {
        "mdr": score_mdr(*rows, **levels),
        "sdr": score_sdr(*rows, **levels),
        "sdr_w": score_sdr(*rows, **levels, **weights),
    }
    for name, result in results.items():
        key = f"{name}_sel"
        expected = ROUNDED_TIE.get((case["seed"], key), case[key])
        assert chosen(result.selected) == expected, key
        assert result.e_values.dtype == dtype
        values = finite(case[f"{name}_e"])
        assert_close(result.e_values, values, rtol=RTOL[dtype.name])
    assert chosen(results["mdr"].selected) == case["mdr_sel_bruteforce"]


def test_the_rounded_tie_is_a_tie():
    case = next(case for case in RISK if case["seed"] == 1302)
    e = np.array(case["sdr_w_e"])
    (ties,) = np.nonzero(np.abs(e / (15 / (0.3 * 11)) - 1) < 1e-12)
    assert ties.tolist() == ROUNDED_TIE[(1302, "sdr_w_sel")]
    assert case["sdr_w_sel"] == [] and len(set(e[ties])) > 1


@pytest.mark.parametrize("method", ["dkwm", "simes", "asymptotic"])
@pytest.mark.parametrize("case", CONDITIONAL, ids=lambda case: str(case["n"]))
def test_conditional_p_values(case, method, dtype):
    n, delta = case["n"], case["delta"]
    assert case["k"] == n // 2
    adjusted = conditional_p_values(case["p"], n, method=method, delta=delta)
    assert adjusted.dtype == dtype
    assert_close(adjusted, case[method], rtol=RTOL[dtype.name])
    compiled = jax.jit(
        lambda p: conditional_p_values(p, n, method=method, delta=delta)
    )(np.asarray(case["p"], dtype))
    assert_close(compiled, case[method], rtol=RTOL[dtype.name])


@pytest.mark.parametrize("method", ["simes", "asymptotic"])
@pytest.mark.parametrize("case", CONDITIONAL, ids=lambda case: str(case["n"]))
def test_conditional_bounds_by_rank(case, method, x64):
    n = case["n"]
    p = np.array(case["p"])
    ranks = np.round(p * (n + 1)).astype(int)
    bounds = np.asarray(conditional_bounds(n, method=method, delta=case["delta"]))
    # The stored values take the floor in floating point; where that is the integer it
    # should be, the bound of the rank is the stored one.
    exact = np.floor((n + 1) * (1 - p)) == n + 1 - ranks
    assert exact.mean() > 0.8
    stored = np.array(case[method])
    assert_close(bounds[ranks - 1][exact], stored[exact], rtol=1e-12)
    assert (stored >= bounds[ranks - 1] * (1 - 1e-12)).all()


@pytest.mark.parametrize("case", OUTLIERS, ids=lambda case: str(case["seed"]))
def test_outliers(case, dtype):
    rows = case["null"], case["test"]
    for form, name in (("one", "bh"), ("storey", "storey"), ("quantile", "quantile")):
        result = detect_outliers(*rows, level=case["level"], null_share=form)
        assert chosen(result.selected) == case[name]
        assert result.p_values.dtype == dtype
        assert_close(result.p_values, case["p"], rtol=RTOL[dtype.name])
        share = case.get(f"{name}_pi0", 1.0)
        assert_close(result.null_share, share, rtol=RTOL[dtype.name])
    assert case["fast"] == case["bh"]
