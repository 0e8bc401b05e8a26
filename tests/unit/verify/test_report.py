import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify import Verdict

KEY = jax.random.key(5)
CLAIMS = (
    verify.at_most("fine", 0.5, margin=0.2),
    verify.at_most("wrong", 0.1),
    verify.super_uniform("p", (0.1, 0.5), margin=0.05),
    verify.at_least("count", 2.0, upper=10.0, kind="asymptotic"),
)


def replicate(key):
    u = jax.random.uniform(key, (3,))
    return {
        "fine": 0.2 * u[0],
        "wrong": u[1] < 0.4,
        # Too many small p-values, though none below 0.1 too often.
        "p": 0.2 + 0.25 * u[2],
        "count": 5 * u[0],
    }


@pytest.fixture(scope="module")
def report():
    return verify.check(
        replicate, CLAIMS, key=KEY, max_replications=1024, stop_early=False
    )


def test_frame(report):
    frame = report.to_frame()
    assert frame["claim"].tolist() == [claim.name for claim in CLAIMS]
    assert frame["verdict"].tolist() == ["CERTIFIED", "REFUTED", "REFUTED", "CERTIFIED"]
    assert frame["kind"].tolist() == ["exact", "exact", "exact", "asymptotic"]
    assert frame["replications"].tolist() == [1024] * 4
    for column in (
        "estimate",
        "lower",
        "upper",
        "log_evidence",
        "log_certificate",
        "failures",
        "refuted_at",
        "certified_at",
    ):
        assert column in frame
    assert frame["refuted_at"].isna().tolist() == [True, False, False, True]
    assert (frame["lower"] <= frame["estimate"]).all()
    assert (frame["estimate"] <= frame["upper"]).all()


def test_component_with_most_evidence_is_shown(report):
    result = report["p super-uniform"]
    assert result.component == "p <= 0.5"
    assert result.estimates == (0.0, 1.0)
    assert (result.bound, result.margin) == (0.5, 0.05)
    # The component was chosen by looking, so its interval is wider than a single one.
    alone = verify.rate_interval(1024, 1024, 0.95)
    assert result.lower < alone[0]


def test_estimates_are_on_the_metric_s_own_scale(report):
    assert 2.3 < report[3].estimate < 2.7
    assert report[3].upper < 3


def test_asymptotic_claims_carry_a_tag(report):
    assert report[3].tag == "CERTIFIED (asymptotic)"
    assert "CERTIFIED (asymptotic)" in str(report)
    assert report[0].tag == "CERTIFIED"


def test_verdicts_are_a_pytree_of_small_integers(report):
    codes = jax.tree.map(int, report.verdicts)
    assert codes["wrong <= 0.1"] == int(Verdict.REFUTED)
    assert len(jax.tree.leaves(report.verdicts)) == 4


def test_results_by_name_position_and_claim(report):
    assert report["wrong <= 0.1"] is report[1] is report[CLAIMS[1]]
    with pytest.raises(KeyError, match="no claim 'other'; there are"):
        report["other"]


def test_printed_table(report):
    lines = str(report).splitlines()
    assert len(lines) == 5
    assert lines[0].split()[:3] == ["claim", "margin", "estimate"]
    assert "p super-uniform [p <= 0.5]" in lines[3]
    assert not any(line != line.rstrip() for line in lines)


def test_report_as_json(report):
    text = json.dumps(report.to_dict(), allow_nan=False)
    assert json.loads(text)["claims"][1]["verdict"] == "REFUTED"


def test_assert_not_refuted_names_claim_estimate_interval_replications(report):
    with pytest.raises(AssertionError) as caught:
        verify.assert_not_refuted(report)
    text = str(caught.value)
    wrong = report[1]
    assert "REFUTED: claim 'wrong <= 0.1'" in text
    assert f"estimate {wrong.estimate:.6g}" in text
    assert f"0.95 interval [{wrong.lower:.6g}, {wrong.upper:.6g}]" in text
    assert "1024 replications" in text
    assert "claim 'p super-uniform' at p <= 0.5" in text
    assert "fine" not in text


def test_assert_not_refuted_fails_on_invalid_and_passes_otherwise():
    def invalid(key):
        return {"x": 0 * jax.random.uniform(key) + np.nan}

    bad = verify.check(invalid, verify.at_most("x", 0.1), key=KEY, max_replications=16)
    with pytest.raises(AssertionError, match="INVALID.*16 failures"):
        verify.assert_not_refuted(bad)
    with pytest.raises(AssertionError, match=r"run again alone: \[0, 1, 2"):
        verify.assert_not_refuted(bad)
    open_question = verify.check(
        replicate, verify.at_most("count", 2.6, upper=10.0), key=KEY, max_replications=8
    )
    assert open_question[0].verdict is Verdict.INCONCLUSIVE
    verify.assert_not_refuted(open_question)


def test_survey_marks_false_claims(report):
    marked = report.survey(0.05)
    assert marked["wrong <= 0.1"] is True
    assert marked["fine <= 0.5"] is False


def test_interval_counts_failures_at_both_ends():
    def failing(key):
        u = jax.random.uniform(key, (2,))
        return {"x": jax.numpy.where(u[0] < 0.1, np.nan, u[1] < 0.5)}

    report = verify.check(
        failing, verify.at_most("x", 0.7), key=KEY, max_replications=2000
    )
    x = verify.simulate(failing, key=KEY, num_replications=report.replications)["x"]
    n = report.replications
    lowest = verify.rate_interval(int(np.nansum(x)), n)[0]
    highest = verify.rate_interval(int(np.nansum(x)) + int(np.isnan(x).sum()), n)[1]
    assert report[0].lower == pytest.approx(float(lowest), rel=1e-9)
    assert report[0].upper == pytest.approx(float(highest), rel=1e-9)


def test_checking_needs_no_pandas():
    code = """
import sys, jax
from jaxcur import verify
report = verify.check(
    lambda key: {"x": jax.random.uniform(key) < 0.1},
    verify.at_most("x", 0.3, margin=0.2), key=jax.random.key(0), max_replications=256,
)
str(report)
print([m for m in ("pandas", "matplotlib", "sklearn", "flax") if m in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
