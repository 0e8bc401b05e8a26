"""`jaxcur verify` on made-up claims: table, JSON, exit codes, resuming, choosing."""

import dataclasses
import json
import re
import sys
import types

import jax
import pytest

import jaxcur
from jaxcur.cli import _verify, main


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    name: str
    verdict: str = "CERTIFIED"
    expected: str = "CERTIFIED"
    promise: str = "the error rate is at most the level"
    metric: str = "fdr"
    bound: float = 0.1
    margin: float = 0.01
    estimate: float = 0.0873
    lower: float = 0.0801
    upper: float = 0.0955
    replications: int = 4096
    kind: str = "exact"
    seconds: float = 1.5

    @property
    def failed(self):
        if self.expected == "REFUTED":
            return self.verdict != "REFUTED"
        return self.verdict in ("REFUTED", "INVALID")


class Registry(types.ModuleType):
    """Stands in for the registry of guarantees: no simulation, the same interface."""

    def __init__(self, results):
        super().__init__("jaxcur.guarantees")
        self.results = {result.name: result for result in results}
        self.calls = []
        self.stop_after = None

    def names(self):
        return tuple(self.results)

    def get(self, name):
        return self.results[name]

    def run(self, names, **options):
        self.calls.append((tuple(names), options))
        done = []
        for name in names:
            if self.stop_after is not None and len(done) == self.stop_after:
                raise KeyboardInterrupt
            done.append(self.results[name])
            options["on_result"](done[-1])
        return done


@pytest.fixture
def registry(monkeypatch):
    def install(*results):
        fake = Registry(results)
        monkeypatch.setitem(sys.modules, "jaxcur.guarantees", fake)
        monkeypatch.setitem(vars(jaxcur), "guarantees", fake)
        return fake

    return install


MUTANT = ClaimResult("select/no-plus-one", "REFUTED", "REFUTED", estimate=0.31)


def test_a_table_shows_estimate_interval_replications_and_verdict(registry, capsys):
    fake = registry(ClaimResult("select/fdr"), MUTANT)
    assert main(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "claim",
        "estimate",
        "interval",
        "bound",
        "replications",
        "verdict",
    ]
    words = lines[1].split()
    assert words[0] == "select/fdr" and words[-1] == "CERTIFIED"
    assert {"0.0873", "[0.0801,", "0.0955]", "0.1000", "4096"} <= set(words)
    assert "REFUTED (mutant)" in lines[2] and "fails" not in lines[2]
    assert "nothing fails" in lines[-1]
    ((names, options),) = fake.calls
    assert names == ("select/fdr", "select/no-plus-one")
    assert options["tier"] == "smoke" and options["state_path"] is None


@pytest.mark.parametrize(
    ("verdict", "expected", "tier", "code"),
    [
        ("CERTIFIED", "CERTIFIED", "smoke", 0),
        ("INCONCLUSIVE", "CERTIFIED", "smoke", 0),
        ("INCONCLUSIVE", "CERTIFIED", "standard", 0),
        ("INCONCLUSIVE", "CERTIFIED", "release", 1),
        ("CERTIFIED", "CERTIFIED", "release", 0),
        ("REFUTED", "CERTIFIED", "smoke", 1),
        ("INVALID", "CERTIFIED", "smoke", 1),
        ("REFUTED", "REFUTED", "release", 0),
        ("INCONCLUSIVE", "REFUTED", "smoke", 1),
        ("CERTIFIED", "REFUTED", "release", 1),
    ],
)
def test_the_exit_code_follows_the_verdict(registry, verdict, expected, tier, code):
    registry(ClaimResult("fine"), ClaimResult("claim", verdict, expected))
    if verdict == "INCONCLUSIVE" and tier == "release":
        # A result that does not fail in itself, and does in this tier.
        assert not ClaimResult("claim", verdict, expected).failed
    assert main(["verify", "--tier", tier]) == code


def test_a_failure_is_named(registry, capsys):
    registry(ClaimResult("good"), ClaimResult("bad", "REFUTED"))
    assert main(["verify"]) == 1
    output = capsys.readouterr().out
    assert "<-- fails" in output
    assert output.splitlines()[-1].endswith("failing: bad")


def test_json_holds_every_field_and_stays_json_without_numbers(registry, capsys):
    nothing = ClaimResult("empty", "INVALID", estimate=float("nan"), upper=float("inf"))
    registry(ClaimResult("select/fdr"), nothing)
    assert main(["verify", "--json", "--tier", "standard", "--seed", "5"]) == 1
    document = json.loads(
        capsys.readouterr().out,
        parse_constant=lambda word: pytest.fail(f"{word} is not JSON"),
    )
    assert document["tier"] == "standard" and document["seed"] == 5
    assert document["failed"] is True and document["version"] == jaxcur.__version__
    first, second = document["results"]
    assert first["estimate"] == 0.0873 and first["failed"] is False
    assert first["promise"].startswith("the error rate")
    assert second["estimate"] is None and second["upper"] is None
    assert second["failed"] is True


def test_list_prints_names_and_promises_without_running(registry, capsys):
    fake = registry(ClaimResult("select/fdr"), ClaimResult("sets/coverage"))
    assert main(["verify", "--list", "sets"]) == 0
    assert capsys.readouterr().out == (
        "sets/coverage  the error rate is at most the level\n"
    )
    assert main(["verify", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == ["select/fdr", "sets/coverage"]
    assert fake.calls == []


def test_seed_and_state_reach_the_run(registry, tmp_path):
    fake = registry(ClaimResult("claim"))
    state = str(tmp_path / "v.state")
    assert main(["verify", "--state", state, "--seed", "3"]) == 0
    ((_, options),) = fake.calls
    assert options["state_path"] == state
    assert (
        jax.random.key_data(options["key"]) == jax.random.key_data(jax.random.key(3))
    ).all()


@pytest.mark.parametrize("state", [None, "v.state"])
def test_an_interrupted_run_says_how_to_go_on(registry, capsys, state):
    fake = registry(ClaimResult("first"), ClaimResult("second"))
    fake.stop_after = 1
    assert main(["verify", *(["--state", state] if state else [])]) == 130
    output = capsys.readouterr()
    assert "first" in output.out and "second" not in output.out
    assert (f"go on from {state}" if state else "--state FILE") in output.err


def test_a_state_of_another_run_is_one_line_and_a_bug_is_not(
    registry, capsys, monkeypatch
):
    fake = registry(ClaimResult("claim"))

    def refuse(*_, **options):
        raise ValueError(f"{options['state_path']} holds a run with tier smoke")

    monkeypatch.setattr(fake, "run", refuse)
    assert main(["verify", "--state", "v.state"]) == 2
    assert "v.state holds a run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="holds a run"):
        main(["verify"])


def test_a_state_file_that_cannot_be_used_is_one_line(registry, capsys, monkeypatch):
    fake = registry(ClaimResult("claim"))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "v.state")

    monkeypatch.setattr(fake, "run", refuse)
    assert main(["verify", "--state", "v.state"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "state file" in error


NAMES = (
    "select.fdr",
    "select.fdr-tiny",
    "optcs/msel-homogeneous",
    "optcs/full",
    "coverage_aps",
    "optcs/ridge",
    "optcs/ridge:power",
    "optcs/ridge-path",
)


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], NAMES),
        (["select.fdr"], ("select.fdr",)),
        (["select"], ("select.fdr", "select.fdr-tiny")),
        (["optcs/m"], ("optcs/msel-homogeneous",)),
        (["aps"], ("coverage_aps",)),
        (["full", "select.fdr"], ("select.fdr", "optcs/full")),
        (["optcs/ridge"], ("optcs/ridge", "optcs/ridge:power")),
    ],
)
def test_names_are_exact_or_beginnings(patterns, found):
    assert _verify.choose(NAMES, patterns) == found


def test_an_unknown_name_gets_a_suggestion(registry, capsys):
    registry(*(ClaimResult(name) for name in NAMES))
    assert main(["verify", "coverage_asp"]) == 2
    output = capsys.readouterr()
    assert "did you mean 'coverage_aps'?" in output.err and output.out == ""


def test_the_columns_line_up(registry, capsys):
    registry(ClaimResult("short"), ClaimResult("a-much-longer-name", replications=9))
    assert main(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()[:3]
    assert len({re.search(r"(verdict|CERTIFIED)", line).start() for line in lines}) == 1
