import json
import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify import Verdict, _check
from jaxcur.verify._simulate import Runner
from tests.helpers import assert_close

KEY = jax.random.key(11)


def replicate(key):
    u = jax.random.uniform(key, (4,))
    return {"miss": u[0] < 0.1, "fdp": 0.2 * u[1], "rare": u[2] < 0.25}


HONEST = verify.at_most("miss", 0.1, margin=0.05)
FALSE = verify.at_most("rare", 0.1)
HARD = verify.at_most("miss", 0.1, margin=0.001, name="hard")


def check(claims, **options):
    defaults = {"key": KEY, "max_replications": 4096, "batch_size": 256}
    return verify.check(replicate, claims, **{**defaults, **options})


def test_verdicts_of_an_honest_a_false_and_a_hard_claim():
    report = check((HONEST, FALSE, HARD))
    assert report.verdicts == {
        "miss <= 0.1": Verdict.CERTIFIED,
        "rare <= 0.1": Verdict.REFUTED,
        "hard": Verdict.INCONCLUSIVE,
    }
    assert report.replications == 4096
    assert report[FALSE].refuted_at == 256
    assert report[HONEST].certified_at is not None
    assert not report.interrupted


def test_early_stop_at_the_first_look_that_decides_everything():
    report = check((HONEST, FALSE))
    crossed = [report[HONEST].certified_at, report[FALSE].refuted_at]
    assert report.replications == max(crossed)
    # Looks come after 256, 256 + 512, ...: batches double.
    assert report.replications in (256, 768, 1792, 3840)


def test_without_early_stop_the_budget_is_used():
    report = check((FALSE,), stop_early=False)
    assert report.replications == 4096
    assert report[0].refuted_at == 256


@pytest.mark.parametrize("most", [1, 7, 256, 300, 1000])
def test_never_more_than_max_replications(most):
    report = check((HARD,), max_replications=most)
    assert report.replications == most
    metrics = verify.simulate(replicate, key=KEY, num_replications=most)
    assert_close(
        report[0].estimate, np.asarray(metrics["miss"]).mean().item(), rtol=1e-12
    )


def test_report_equals_the_pure_functions_on_the_same_metrics():
    report = check((HONEST, FALSE, verify.equals("fdp", 0.1)), stop_early=False)
    metrics = verify.simulate(replicate, key=KEY, num_replications=4096)
    state = verify.update(verify.init(tuple(r.claim for r in report.results)), metrics)
    seen = verify.evidence(state)
    for i, result in enumerate(report.results):
        # float32 sums against float64 ones.
        assert_close(float(seen.refute[i]), result.log_evidence, rtol=1e-5, atol=1e-4)
        assert_close(float(seen.certify[i]), result.log_certificate, rtol=1e-5)
    fdp = np.asarray(metrics["fdp"], np.float64)
    assert_close(
        (report[2].lower, report[2].upper), verify.mean_interval(fdp), rtol=1e-9
    )
    rate = verify.rate_interval(int(np.sum(metrics["rare"])), 4096)
    assert_close((report[1].lower, report[1].upper), tuple(map(float, rate)), rtol=1e-9)


def test_batches_and_chunks_do_not_change_the_evidence():
    options = {"stop_early": False, "max_replications": 1500}
    base = check((verify.at_most("fdp", 0.1),), **options)
    for other in (
        {"batch_size": 100},
        {"batch_size": 1500, "chunk_size": 7},
        {"max_batch_size": 64},
    ):
        report = check((verify.at_most("fdp", 0.1),), **{**options, **other})
        assert report[0].estimate == pytest.approx(base[0].estimate, rel=1e-12)
        assert_close(report[0].log_evidence, base[0].log_evidence, rtol=1e-9)
        assert_close(report[0].upper, base[0].upper, rtol=1e-9)


def test_one_claim_need_not_be_a_tuple():
    assert check(FALSE).verdicts == {"rare <= 0.1": Verdict.REFUTED}


def test_refute_only_runs_to_the_end_of_the_budget():
    report = check((HONEST,), delta_certify=None, max_replications=2000)
    assert report.verdicts["miss <= 0.1"] is Verdict.INCONCLUSIVE
    assert report.replications == 2000


def failing(key):
    u = jax.random.uniform(key, (2,))
    bad = u[0] < 0.01
    return {"x": jnp.where(bad, jnp.nan, u[1] < 0.05), "over": 1.5 * u[1]}


def test_failures_make_the_verdict_invalid_and_name_the_replications():
    report = verify.check(
        failing, verify.at_most("x", 0.1), key=KEY, max_replications=2048
    )
    assert report[0].verdict is Verdict.INVALID
    assert report[0].failures > 0
    x = verify.simulate(failing, key=KEY, num_replications=1024)["x"]
    assert list(report.failed_indices) == np.flatnonzero(np.isnan(x))[:10].tolist()
    # The claim is decided, so the study stops at the first look.
    assert report.replications == 1024
    # Failures count as misses.
    assert_close(
        report[0].estimate, float(np.mean(np.where(np.isnan(x), 1, x))), rtol=1e-9
    )


def test_a_stated_share_of_failures_is_tolerated():
    report = verify.check(
        failing,
        verify.at_most("x", 0.1),
        key=KEY,
        max_replications=8192,
        max_failure_share=0.05,
    )
    assert report[0].verdict is Verdict.CERTIFIED
    assert report[0].failures > 0


def test_metrics_out_of_range_are_invalid():
    report = verify.check(
        failing, verify.at_most("over", 0.9), key=KEY, max_replications=1024
    )
    assert report[0].verdict is Verdict.INVALID
    assert report[0].outside > 0


def test_a_replicate_reports_its_own_failure():
    def reported(key):
        u = jax.random.uniform(key)
        return {"x": u < 0.05, "failed": u > 0.99}

    report = verify.check(
        reported, verify.at_most("x", 0.2), key=KEY, max_replications=1024
    )
    assert report[0].verdict is Verdict.INVALID
    assert report[0].failures > 0


def test_refuted_after_certified_is_refuted_and_both_are_shown():
    # 40 clean replications certify a rate below 0.5; then everything goes wrong.
    def drifting(key):
        return {"x": jax.random.key_data(key)[0] % 2 == 2}

    claim = verify.at_most("x", 0.3, margin=0.1)
    report = verify.check(drifting, claim, key=KEY, max_replications=64, batch_size=64)
    assert report.verdicts[claim.name] is Verdict.CERTIFIED

    def wrong(key):
        return {"x": jax.random.uniform(key) < 2}

    report = verify.check(
        wrong,
        claim,
        key=KEY,
        max_replications=1000,
        state=report.saved,
        stop_early=False,
    )
    assert report.verdicts[claim.name] is Verdict.REFUTED
    assert report[0].certified_at == 64
    assert report[0].refuted_at > 64
    assert "was certified at 64" in str(report)


def test_resumed_study_equals_one_that_ran_through(tmp_path):
    claims = (
        HARD,
        verify.equals("fdp", 0.1, margin=0.0001),
        verify.super_uniform("fdp"),
    )
    options = {"stop_early": False, "code_version": "1"}
    whole = check(claims, max_replications=3000, **options)
    path = tmp_path / "deep" / "state.json"
    first = check(claims, max_replications=1234, state_path=path, **options)
    assert first.replications == 1234
    second = check(claims, max_replications=3000, state_path=path, **options)
    assert second.replications == 3000
    for a, b in zip(whole.results, second.results):
        assert a.verdict is b.verdict
        for name in ("estimate", "log_evidence", "log_certificate", "lower", "upper"):
            assert_close(getattr(b, name), getattr(a, name), rtol=1e-9)
    # Run again: nothing is left to do, and nothing changes.
    again = check(claims, max_replications=3000, state_path=path, **options)
    assert again.replications == 3000
    assert again.saved == second.saved
    assert json.loads(path.read_text()) == second.saved
    assert [file.name for file in path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claims": (HONEST,)}, "another study: its claims is"),
        ({"claims": (HARD.with_margin(0.002),)}, "another study: its claims is"),
        ({"code_version": "2"}, 'its code_version is "1", now it is "2"'),
        ({"delta_refute": 1e-5}, "its delta_refute is"),
        ({"key": jax.random.key(12)}, "made with another key.*accumulate=True"),
    ],
)
def test_states_of_other_studies_are_refused(change, message):
    options = {"claims": (HARD,), "max_replications": 300, "code_version": "1"}
    saved = check(**options).saved
    with pytest.raises(ValueError, match=message):
        check(**{**options, **change}, state=saved)


def test_broken_state_files_are_refused(tmp_path):
    path = tmp_path / "state.json"
    for text, message in (
        ("{", "is not a saved state"),
        ("[]", "is not a saved state"),
        ("{}", "is incomplete"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            check((HARD,), state_path=path, max_replications=10)
    saved = {**check((HARD,), max_replications=10).saved, "format": 99}
    with pytest.raises(ValueError, match="format 99, expected 1"):
        check((HARD,), state=saved)
    with pytest.raises(ValueError, match="not both"):
        check((HARD,), state=saved, state_path=path)


def test_nights_accumulate(tmp_path):
    path = tmp_path / "state.json"
    options = {"state_path": path, "accumulate": True, "max_replications": 500}
    keys = [jax.random.key(seed) for seed in range(3)]
    for night, key in enumerate(keys):
        report = check((HARD,), key=key, **options)
        assert report.replications == 500 * (night + 1)
    misses = sum(
        int(verify.simulate(replicate, key=key, num_replications=500)["miss"].sum())
        for key in keys
    )
    assert_close(
        report[0].log_evidence, float(verify.log_evidence(misses, 1500, 0.1)), rtol=1e-9
    )
    # The same key again adds nothing: its replications are known.
    assert check((HARD,), key=keys[0], **options).replications == 1500


def test_interrupt_returns_what_there_is(monkeypatch, tmp_path):
    calls = []
    run = Runner.__call__

    def interrupted(self, start):
        calls.append(start)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return run(self, start)

    monkeypatch.setattr(Runner, "__call__", interrupted)
    path = tmp_path / "state.json"
    report = check((HARD,), state_path=path)
    assert report.interrupted
    assert report.replications == 3 * 256
    assert "interrupted" in str(report)
    monkeypatch.undo()
    rest = check((HARD,), state_path=path)
    assert not rest.interrupted
    whole = check((HARD,))
    assert_close(rest[0].log_evidence, whole[0].log_evidence, rtol=1e-9)


def test_control_c_in_a_real_process():
    # A signal from inside, at the third unit: the report is printed all the same.
    code = """
import signal, jax
# A shell starts background jobs with the signal ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from jaxcur import verify
from jaxcur.verify._simulate import Runner
run, calls = Runner.__call__, []
def counted(self, start):
    calls.append(start)
    if len(calls) == 3:
        signal.raise_signal(signal.SIGINT)
    return run(self, start)
Runner.__call__ = counted
report = verify.check(
    lambda key: {"x": jax.random.uniform(key) < 0.1},
    verify.at_most("x", 0.1, margin=1e-3), key=jax.random.key(0),
    max_replications=10**6, batch_size=256,
)
print(report.replications, report.interrupted, report.verdicts)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("512 True {'x <= 0.1': <Verdict.INCONCLUSIVE: 0>}")


def test_immediate_interrupt_gives_an_empty_report(monkeypatch):
    def interrupted(self, start):
        raise KeyboardInterrupt

    monkeypatch.setattr(Runner, "__call__", interrupted)
    report = check((HARD,))
    assert report.replications == 0
    assert (report[0].lower, report[0].upper) == (0.0, 1.0)
    assert math.isnan(report[0].estimate)


def test_errors_of_the_replicate_come_through():
    def broken(key):
        raise RuntimeError("a bug in the procedure")

    with pytest.raises(RuntimeError, match="a bug in the procedure"):
        verify.check(broken, HARD, key=KEY, max_replications=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_replications": 0}, "`max_replications` must be at least 1"),
        ({"batch_size": 0}, "`batch_size` must be at least 1"),
        ({"max_batch_size": 0}, "`max_batch_size` must be at least 1"),
        ({"delta_refute": 0.0}, "`delta_refute` must lie in"),
        ({"confidence_level": 1.0}, "`confidence_level` must lie in"),
        ({"claims": verify.at_most("power", 0.1)}, r"'power'; got \['fdp', 'miss'"),
        ({"claims": verify.all_at_most("miss", (0.1, 0.2))}, r"shape \(b, 2\)"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        check(**{"claims": (HARD,), **options})


def test_progress_bar_on_request(capsys):
    check((HARD,), progress=True)
    shown = capsys.readouterr().err
    assert "/4096 replications, 0/1 claims decided" in shown
    assert shown.endswith("\n")


def test_no_progress_bar_unless_somebody_watches(capsys, monkeypatch):
    check((HARD,), progress=None)
    check((HARD,), progress=False)
    assert capsys.readouterr().err == ""
    # In a terminal, only a long run shows it.
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    check((HARD,), max_replications=256)
    assert capsys.readouterr().err == ""


def test_long_runs_save_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(_check, "_SAVE_EVERY", 0.0)
    written = []
    write = _check.write_saved

    def recorded(path, saved):
        written.append(sum(saved["progress"].values()))
        write(path, saved)

    monkeypatch.setattr(_check, "write_saved", recorded)
    check((HARD,), max_replications=1792, state_path=tmp_path / "s.json")
    assert written == [256, 768, 1792, 1792]


def test_changing_the_key_does_not_recompile():
    events = []

    def count(name, *_, **__):
        if "backend_compile" in name:
            events.append(name)

    check((HARD,))
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        check((HARD,), key=jax.random.key(99))
        check((HARD,), max_replications=2000)
    finally:
        jax.monitoring.clear_event_listeners()
    assert events == []


def test_a_replicate_that_ignores_its_key_is_refused():
    # A NumPy draw happens once, while tracing: one draw would count as thousands.
    draw = np.random.default_rng(0)
    with pytest.raises(ValueError, match="does not use its key"):
        verify.check(
            lambda key: {"miss": draw.random() < 0.1},
            verify.at_most("miss", 0.1),
            key=jax.random.key(0),
            max_replications=2048,
        )
