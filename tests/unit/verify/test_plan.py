import math

import pytest

from jaxcur import verify
from tests.helpers import load_reference

REFERENCE = load_reference("verify/closed_forms.json")


@pytest.mark.parametrize("case", REFERENCE["plan"])
def test_plan_matches_reference(case):
    claim = verify.at_most("x", case["bound"], margin=case["margin"])
    assert verify.plan(claim, mean=case["mean"]) == case["value"]


def test_plan_is_symmetric_and_scale_free():
    low = verify.plan(verify.at_most("x", 0.1, margin=0.01))
    assert verify.plan(verify.at_least("x", 0.9, margin=0.01)) == low
    assert verify.plan(verify.at_most("x", 10.0, margin=1.0, upper=100.0)) == low


def test_plan_takes_the_slowest_part():
    both = verify.plan(verify.equals("x", 0.1, margin=0.01))
    below = verify.plan(verify.at_least("x", 0.1, margin=0.01))
    above = verify.plan(verify.at_most("x", 0.1, margin=0.01))
    assert both == max(below, above)
    several = verify.plan(verify.super_uniform("p", (0.05, 0.1)))
    assert several == max(
        verify.plan(verify.at_most("x", 0.05)), verify.plan(verify.at_most("x", 0.1))
    )


def test_plan_grows_as_the_margin_shrinks():
    needs = [
        verify.plan(verify.at_most("x", 0.1, margin=margin))
        for margin in (0.04, 0.02, 0.01, 0.005)
    ]
    assert needs == sorted(needs)


def test_plan_at_the_ends_of_the_range():
    # Never an event, certified below 0.0025: pure exponential decay of (1 - 0.0025).
    need = verify.plan(verify.at_most("x", 0.0))
    expected = (math.log(1000) + math.log(18)) / -math.log1p(-0.0025)
    assert abs(need - expected) < 1
    assert verify.plan(verify.at_most("x", 0.0), mean=0.5) < 25


def test_plan_for_a_metric_without_a_range():
    claim = verify.at_most(
        "x", 0.0, margin=0.1, kind="asymptotic", lower=-math.inf, upper=math.inf
    )
    with pytest.raises(ValueError, match="positive `standard_deviation`"):
        verify.plan(claim)
    one = verify.plan(claim, standard_deviation=1.0)
    # Twice the spread needs about four times the replications.
    assert 3.5 < verify.plan(claim, standard_deviation=2.0) / one < 5
    assert verify.plan(claim, standard_deviation=1e-3) == 100


def test_plan_rejects_a_mean_out_of_range():
    with pytest.raises(ValueError, match=r"`mean` must lie in \[0, 1\], got 2"):
        verify.plan(verify.at_most("x", 0.1), mean=2.0)
