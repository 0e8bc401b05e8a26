"""Running a registry: resuming, interruption, keys, and what counts as failed.

The registry is a made-up one of coin flips, so that nothing here hangs on the library's
own promises.
"""

import dataclasses
import json
import math

import jax
import pytest

from jaxcur import guarantees, verify
from jaxcur.guarantees import _run
from jaxcur.guarantees._registry import Guarantee, Part, floor, mutant
from jaxcur.verify import _check

KEY = jax.random.key(5)


def coin(**rates):
    """A replicate function with one 0/1 metric per rate."""

    def replicate(key):
        u = jax.random.uniform(key)
        return {name: u < rate for name, rate in rates.items()}

    return replicate


# The mutant stands before the floor, which shares its simulation with the promise.
GOOD = Guarantee(
    "coins/good",
    "heads at most one time in ten",
    "a coin",
    coin(miss=0.05, power=0.8),
    (
        Part("", verify.at_most("miss", 0.1)),
        mutant("heavy", "a loaded coin", verify.at_most("miss", 0.1), coin(miss=0.5)),
        floor(verify.at_least("power", 0.5)),
    ),
)
FALSE = Guarantee(
    "coins/false",
    "heads at most one time in ten",
    "a coin",
    coin(miss=0.3),
    (
        Part("", verify.at_most("miss", 0.1)),
        mutant("harmless", "nothing", verify.at_most("miss", 0.1), coin(miss=0.05)),
    ),
)
LIMIT = Guarantee(
    "dice/limit",
    "six at most one time in five",
    "many throws",
    coin(six=1 / 6),
    (Part("main", verify.at_most("six", 0.2, kind="asymptotic")),),
    kind="asymptotic",
)
NAMES = (
    "coins/good",
    "coins/good:mutant-heavy",
    "coins/good:power",
    "coins/false",
    "coins/false:mutant-harmless",
    "dice/limit:main",
)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(_run, "GUARANTEES", (GOOD, FALSE, LIMIT))


@pytest.fixture
def studies(monkeypatch):
    """Claim names of every study that is simulated, in order."""
    seen = []
    check = verify.check

    def record(replicate, claims, **options):
        seen.append(tuple(claim.name for claim in claims))
        return check(replicate, claims, **options)

    monkeypatch.setattr(verify, "check", record)
    return seen


@pytest.fixture
def interrupt(monkeypatch):
    """Raise KeyboardInterrupt instead of the batch of this number, from 1."""
    take = _check._Feed.take

    def after(number):
        calls = []

        def stop(self, start, end):
            calls.append(start)
            if len(calls) == number:
                raise KeyboardInterrupt
            return take(self, start, end)

        monkeypatch.setattr(_check._Feed, "take", stop)

    yield after


def run(wanted=None, **options):
    return guarantees.run(
        wanted, **{"tier": "smoke", "key": KEY, "progress": False} | options
    )


def timeless(results):
    return [dataclasses.replace(result, seconds=0.0) for result in results]


def by_name(results):
    return {result.name: result for result in results}


def test_names_entries_and_what_is_expected():
    assert guarantees.names() == NAMES
    main, heavy, power = (guarantees.get(name) for name in NAMES[:3])
    assert main.promise == "heads at most one time in ten"
    assert main.expected == power.expected == "CERTIFIED"
    assert heavy.promise == "must be refuted: a loaded coin"
    assert heavy.expected == "REFUTED"
    assert power.promise.startswith("power floor: power >= 0.5")


@pytest.mark.parametrize("wanted", [["coins/god"], ["coins"], ["coins/good", "x"]])
def test_unknown_names_are_refused_before_anything_runs(wanted, studies):
    with pytest.raises(KeyError, match="no claim is called"):
        run(wanted)
    assert studies == []
    with pytest.raises(KeyError, match="no claim is called 'x'"):
        guarantees.get("x")


def test_an_unknown_tier_is_refused():
    with pytest.raises(ValueError, match="'smoke', 'standard', 'release'"):
        run(tier="quick")


def test_smoke_refutes_what_is_false_and_certifies_nothing():
    results = by_name(run())
    verdicts = {name: result.verdict for name, result in results.items()}
    assert verdicts == {
        "coins/good": "INCONCLUSIVE",
        "coins/good:mutant-heavy": "REFUTED",
        "coins/good:power": "INCONCLUSIVE",
        "coins/false": "REFUTED",
        "coins/false:mutant-harmless": "INCONCLUSIVE",
        "dice/limit:main": "INCONCLUSIVE",
    }
    assert [name for name, result in results.items() if result.failed] == [
        "coins/false"
    ]
    assert results["coins/good"].replications == 4096
    assert results["dice/limit:main"].kind == "asymptotic"
    assert results["coins/good"].kind == "exact"
    assert {result.tier for result in results.values()} == {"smoke"}


def test_standard_certifies_and_fails_on_a_mutant_that_got_through():
    results = by_name(run(NAMES[:5], tier="standard"))
    assert results["coins/good"].verdict == "CERTIFIED"
    assert results["coins/good:power"].verdict == "CERTIFIED"
    harmless = results["coins/false:mutant-harmless"]
    # A mutant is never certified: it only has to be refuted.
    assert harmless.verdict == "INCONCLUSIVE" and harmless.replications == 65_536
    failed = [name for name, result in results.items() if result.failed]
    assert failed == ["coins/false", "coins/false:mutant-harmless"]
    assert results["coins/good"].margin == pytest.approx(0.01)
    assert results["coins/good"].bound == 0.1


@pytest.mark.parametrize(
    ("tier", "expected", "verdict", "failed"),
    [
        ("smoke", "CERTIFIED", "CERTIFIED", False),
        ("smoke", "CERTIFIED", "INCONCLUSIVE", False),
        ("smoke", "CERTIFIED", "REFUTED", True),
        ("smoke", "CERTIFIED", "INVALID", True),
        ("smoke", "REFUTED", "REFUTED", False),
        ("smoke", "REFUTED", "INCONCLUSIVE", False),
        ("smoke", "REFUTED", "INVALID", True),
        ("standard", "CERTIFIED", "INCONCLUSIVE", False),
        ("standard", "CERTIFIED", "REFUTED", True),
        ("standard", "REFUTED", "REFUTED", False),
        ("standard", "REFUTED", "INCONCLUSIVE", True),
        ("standard", "REFUTED", "CERTIFIED", True),
        ("standard", "REFUTED", "INVALID", True),
        ("release", "REFUTED", "INCONCLUSIVE", True),
    ],
)
def test_what_turns_a_build_red(tier, expected, verdict, failed):
    result = guarantees.ClaimResult(
        "x", "", "m", 0.1, 0.0, 0.1, 0.0, 1.0, 1, verdict, expected, "exact", tier, 0.0
    )
    assert result.failed is failed


def test_promise_and_floor_share_a_simulation_and_a_mutant_has_its_own(studies):
    results = by_name(run(NAMES[:3]))
    assert studies == [("main", "power"), ("heavy",)]
    promise, power = results["coins/good"], results["coins/good:power"]
    # One simulation: the same replications, and the time is shared out.
    assert promise.replications == power.replications
    assert promise.seconds == power.seconds


def test_results_are_reported_as_they_come_and_returned_in_registry_order():
    reported = []
    wanted = [NAMES[5], NAMES[2], NAMES[1], NAMES[0], NAMES[0]]
    results = run(iter(wanted), on_result=reported.append)
    assert [result.name for result in results] == [*NAMES[:3], NAMES[5]]
    assert [result.name for result in reported] == [
        NAMES[0],
        NAMES[2],
        NAMES[1],
        NAMES[5],
    ]
    assert {id(result) for result in results} == {id(result) for result in reported}


def test_a_result_depends_on_key_and_name_but_not_on_its_neighbours():
    alone = run(["coins/good"])
    together = [result for result in run() if result.name == "coins/good"]
    assert timeless(alone) == timeless(together)
    other = run(["coins/good"], key=jax.random.key(6))
    assert other[0].estimate != alone[0].estimate


def test_guarantees_with_one_simulation_see_different_draws(monkeypatch):
    twin = dataclasses.replace(GOOD, name="coins/twin")
    monkeypatch.setattr(_run, "GUARANTEES", (GOOD, twin))
    first, second = run(["coins/good", "coins/twin"])
    assert first.estimate != second.estimate


def test_a_finished_run_is_read_and_not_repeated(tmp_path, studies):
    path = tmp_path / "run.json"
    first = run(state_path=path)
    assert len(studies) == 5
    reported = []
    second = run(state_path=path, on_result=reported.append)
    assert len(studies) == 5
    assert second == first
    assert sorted(r.name for r in reported) == sorted(NAMES)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_run_goes_on_with_names_that_were_not_asked_for_before(tmp_path, studies):
    path = tmp_path / "run.json"
    first = run(["coins/good"], state_path=str(path))
    del studies[:]
    results = by_name(run(NAMES[:3], state_path=path))
    assert studies == [("main", "power"), ("heavy",)]
    # The floor is simulated together with the promise, from the same key.
    assert timeless([results["coins/good"]]) == timeless(first)


@pytest.mark.parametrize(
    ("change", "what"),
    [({"tier": "standard"}, "tier"), ({"key": jax.random.key(6)}, "key")],
)
def test_a_state_of_another_run_is_refused(tmp_path, studies, change, what):
    path = tmp_path / "run.json"
    run(["coins/good"], state_path=path)
    before = path.read_text()
    del studies[:]
    with pytest.raises(ValueError, match=f"run.json holds a run with {what}"):
        run(["coins/good"], state_path=path, **change)
    assert studies == [] and path.read_text() == before


def test_a_state_of_another_version_is_refused(tmp_path):
    path = tmp_path / "run.json"
    run(["coins/good"], state_path=path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": "0.0.0"}))
    with pytest.raises(ValueError, match="holds a run with version 0.0.0"):
        run(["coins/good"], state_path=path)


def test_a_file_that_is_no_state_is_refused(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="run.json is not a saved run"):
        run(["coins/good"], state_path=path)


# With nothing to decide early, smoke looks after 1024 and 4096 replications in units
# of 1024: the third unit is in the middle of a batch.
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interrupted_study_goes_on_bit_for_bit(tmp_path, interrupt, number):
    whole = run(NAMES[:3])
    path = tmp_path / "run.json"
    with pytest.MonkeyPatch.context() as patch:
        take = _check._Feed.take
        interrupt(number)
        with pytest.raises(KeyboardInterrupt):
            run(NAMES[:3], state_path=path)
        patch.setattr(_check._Feed, "take", take)
        saved = json.loads(path.read_text())
        assert saved["results"] == {}
        (label,) = saved["unfinished"]
        assert label == "coins/good+coins/good:power"
        done = saved["unfinished"][label]["progress"].values()
        assert list(done) == [(number - 1) * 1024]
        starts = []

        def record(self, start, stop):
            starts.append(start)
            return take(self, start, stop)

        patch.setattr(_check._Feed, "take", record)
        resumed = run(NAMES[:3], state_path=path)
    assert starts[0] == (number - 1) * 1024
    assert timeless(resumed) == timeless(whole)
    assert json.loads(path.read_text())["unfinished"] == {}


def test_what_was_finished_before_an_interrupt_is_kept(tmp_path, interrupt, studies):
    path = tmp_path / "run.json"
    reported = []
    interrupt(5)  # four units for promise and floor; the mutant's first
    with pytest.raises(KeyboardInterrupt):
        run(NAMES[:3], state_path=path, on_result=reported.append)
    assert [result.name for result in reported] == [NAMES[0], NAMES[2]]
    del studies[:]
    results = by_name(run(NAMES[:3], state_path=path))
    assert studies == [("heavy",)]
    assert results[NAMES[0]] == reported[0] and results[NAMES[2]] == reported[1]


def test_an_interrupt_without_a_state_file_is_passed_on(interrupt):
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        run(["coins/good"])


def test_a_claim_without_a_range_keeps_its_margin_in_every_tier():
    unbounded = verify.at_most(
        "error", 0.0, margin=0.02, kind="asymptotic", lower=-math.inf, upper=math.inf
    )
    bounded = verify.at_most("miss", 0.1, margin=0.02)
    margins = {
        tier: [
            _run._with_margin(Part("", claim), settings).margins
            for claim in (unbounded, bounded)
        ]
        for tier, settings in guarantees.TIERS.items()
    }
    assert margins == {
        "smoke": [(0.02,), (0.02,)],
        "standard": [(0.02,), (0.01,)],
        "release": [(0.02,), (0.0025,)],
    }
