"""The registry itself: its shape, its docstrings, and a smoke run of its worlds."""

import ast
import itertools
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxcur
from jaxcur import guarantees
from jaxcur.guarantees import (
    _conditional,
    _debiased_floors,
    _debiased_hard,
    _debiased_problem,
    _optcs,
    _ordinal_floors,
    _ordinal_worlds,
    _outliers,
    _score_risk,
    _selection,
    _several,
)
from jaxcur.guarantees._catalogue import GUARANTEES
from jaxcur.guarantees._floors import POWER
from tests.guarantees import (
    numpy_debiased,
    numpy_ordinal,
    numpy_power,
    numpy_power_neighbours,
)

PACKAGE = Path(jaxcur.__file__).parent
ROOT = Path(__file__).resolve().parents[2]
WORLDS = {guarantee.name: guarantee for guarantee in GUARANTEES}

# Run with --run-slow only: the default suite keeps, of every family, the worlds that
# the mutants live in and those with a floor that cost little.
SLOW = {
    "select/n1000",
    "select/few-nulls",
    "select/many-nulls",
    "select/coarse",
    "select/random-score",
    "select/residual",
    "select/randomised",
    "sets/split-n50",
    "sets/split-ties",
    "sets/aps",
    "sets/raps",
    "optcs/useless-models",
    "optcs/weak-models",
    "optcs/good-models",
    "optcs/full-1",
    "optcs/full-4",
    "optcs/full-msel-1",
    "optcs/full-msel-4",
} | {
    name
    for name in WORLDS
    if name.startswith("debiased/")
    and name.removeprefix("debiased/")
    not in {
        "mean",
        "mean-shifted",
        "mean-unbiased",
        "ols",
    }
    or name.startswith("ordinal/")
    and name != "ordinal/nominal-small"
    or name.startswith("calibration/")
    and name not in {"calibration/under-confidence", "calibration/dual-radius"}
}


def family(name):
    return name.split("/")[0]


def roles(guarantee):
    return [part.role for part in guarantee.parts]


@pytest.mark.guarantee
@pytest.mark.parametrize(
    "world",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in WORLDS
    ],
)
def test_a_smoke_run_breaks_no_promise(world):
    names = [name for name in guarantees.names() if name.split(":")[0] == world]
    results = guarantees.run(
        names, tier="smoke", key=jax.random.key(2024), progress=False
    )
    assert [result.name for result in results] == names
    failed = [result for result in results if result.failed]
    assert not failed, failed
    # Smoke excuses a mutant that is too subtle for it; in these worlds none is.
    through = [r for r in results if r.expected == "REFUTED" and r.verdict != "REFUTED"]
    assert not through, through


def test_the_default_suite_runs_a_world_with_a_mutant_of_every_family():
    assert set(WORLDS) >= SLOW
    quick = [g for g in GUARANTEES if g.name not in SLOW and "mutant" in roles(g)]
    assert {family(g.name) for g in quick} == {family(name) for name in WORLDS}


def test_names_are_unique_and_every_part_says_what_it_is():
    names = guarantees.names()
    assert len(set(names)) == len(names)
    for guarantee in GUARANTEES:
        assert re.fullmatch(r"[a-z_]+/[a-z0-9-]+", guarantee.name)
        assert guarantee.promise and guarantee.assumptions, guarantee.name
        assert guarantee.kind in ("exact", "asymptotic")
        assert "promise" in roles(guarantee), guarantee.name
        for part in guarantee.parts:
            if part.role != "floor":
                assert part.claim.kind == guarantee.kind, (guarantee.name, part.suffix)
            if part.role == "mutant":
                assert part.suffix and part.text, guarantee.name
                assert part.replicate is not None, guarantee.name
            else:
                # Promises and floors share the simulation of the guarantee.
                assert part.replicate is None, guarantee.name


def test_every_simulation_returns_the_metrics_its_claims_read():
    for guarantee in GUARANTEES:
        for part in guarantee.parts:
            replicate = part.replicate or guarantee.replicate
            metrics = jax.eval_shape(replicate, jax.random.key(0))
            assert set(part.claim.metrics) <= set(metrics), (guarantee.name, part)


def test_the_numpy_studies_run_the_worlds_of_the_registry():
    assert numpy_power.PLAIN == _selection.WORLDS
    assert numpy_power.OPTCS == _optcs.WORLDS
    gamma, splits = _score_risk.GAMMA_SHARE, dict(_several.SPLIT_WORLD)
    risk = {
        name: dict(spec) | ({"gamma": spec["level"] * gamma} if "/sdr" in name else {})
        for name, spec in _score_risk.RISK_WORLDS.items()
        if not spec.get("certain")
    }
    bar = {"delta": _conditional.DELTA, "best": _conditional.BEST}
    worlds = {
        **risk,
        **{
            f"outliers/{name}": _outliers.OUTLIER_WORLD | {"null_share": name}
            for name in ("one", "storey", "quantile")
        },
        "outliers/ada": _outliers.ADA_WORLD,
        **_several.CONDITION_WORLDS,
        "multi_condition/pairs": _several.PAIR_WORLD,
        **{
            name: spec | bar | {"bar": _conditional.BAR}
            for name, spec in _conditional.WORLDS.items()
        },
        # Half of the rows are null there: the cut is the median of the labels.
        "derandomize/n60": splits | {"cut": 0.0},
    }
    studies = {
        name: world for name, (_, _, world) in numpy_power_neighbours.STUDIES.items()
    }
    assert studies.keys() == worlds.keys()
    # Where the NumPy study stands for a bound that is at least as sharp.
    worlds["conditional_p_values/monte-carlo"]["method"] = "simes"
    for name, world in worlds.items():
        assert studies[name] == pytest.approx(world), name


def test_every_floor_rests_on_a_numpy_study():
    studied = {
        *numpy_power.PLAIN,
        *numpy_power.OPTCS,
        *numpy_power_neighbours.STUDIES,
        "select/weighted",
    }
    assert set(POWER) <= studied


def test_the_widths_of_debiased_intervals_rest_on_a_numpy_study():
    small, tuned = _debiased_problem.SMALL, _debiased_hard.TUNED
    assert (numpy_debiased.N, numpy_debiased.LABELS) == small
    assert numpy_debiased.TUNED_ROWS == (tuned.rows, _debiased_hard.TUNED_LARGE.rows)
    assert set(_debiased_floors.SQUARED_ERRORS) == set(numpy_debiased.TUNED_ROWS)
    names = [*numpy_debiased.GENERIC, *numpy_debiased.OTHER]
    assert {f"debiased/{name}" for name in names} == set(_debiased_floors.WIDTHS)
    assert set(_debiased_floors.WIDTHS) <= set(WORLDS)


@pytest.mark.parametrize("name", ["mean", "ols", "iv", "user-moment", "ols-clusters"])
def test_the_stored_widths_can_be_repeated(name):
    stored = _debiased_floors.WIDTHS[f"debiased/{name}"]
    # Ten of the 300 draws; widths vary by up to 7 % from draw to draw.
    np.testing.assert_allclose(numpy_debiased.study(name, 10), stored, rtol=0.08)


def test_the_floors_of_ordinal_rest_on_a_numpy_study():
    for ours, theirs in (
        (_ordinal_worlds.RARE, numpy_ordinal.RARE),
        (_ordinal_worlds.BROKEN, numpy_ordinal.BROKEN),
    ):
        assert (ours.rows, ours.center) == (theirs["rows"], theirs["center"])
        assert ours.coefficients == theirs["coefficients"]
    points = _ordinal_worlds.points(_ordinal_worlds.RARE)
    np.testing.assert_allclose(points, numpy_ordinal.POINTS, rtol=1e-6)
    # A twentieth of the draws; widths vary by up to 10 % from draw to draw, and a share
    # of 200 draws by 0.025.
    widths = _ordinal_floors.RARE_WIDTHS
    np.testing.assert_allclose(numpy_ordinal.widths(100), widths, rtol=0.04)
    power = numpy_ordinal.power(200)
    assert abs(power - _ordinal_floors.NOMINAL_POWER) < 0.1


def docstrings():
    """Path, name and text of every docstring of the package."""
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.get_docstring(node) if isinstance(node, kinds) else None
            if text:
                name = getattr(node, "name", "module")
                yield path.relative_to(PACKAGE), name, " ".join(text.split())


def verified_by():
    """Path, name, and what the "Verified by" line of its docstring names."""
    found = [
        (str(path), name, what)
        for path, name, text in docstrings()
        for line in re.findall(r"Verified by: (.*?)(?:\.(?= |$)|$)", text)
        for what in re.findall(r"`jaxcur verify [^`]*`|tests/[\w/.]+", line)
    ]
    return [(path, name, what.rstrip(".")) for path, name, what in found]


def test_verified_by_names_what_exists():
    lines = verified_by()
    assert len(lines) > 20
    missing = []
    for path, name, what in lines:
        if what.startswith("tests/"):
            known = (ROOT / what).is_file()
        else:
            prefix = what.strip("`").removeprefix("jaxcur verify ")
            known = any(claim.startswith(prefix) for claim in guarantees.names())
        if not known:
            missing.append(f"{path}: {name}: {what}")
    assert not missing, "\n".join(missing)


def test_every_family_is_named_by_a_docstring():
    named = {
        family(what.strip("`").removeprefix("jaxcur verify "))
        for _, _, what in verified_by()
        if what.startswith("`")
    }
    assert {family(name) for name in WORLDS} <= named


def test_the_command_line_reads_these_names():
    from jaxcur.cli import _verify

    names = guarantees.names()
    for name, group in itertools.groupby(names, lambda name: name.split(":")[0]):
        group = tuple(group)
        whole = tuple(n for n in names if n.split(":")[0] == name)
        assert group == whole, name
        if name in names:
            assert _verify.choose(names, [name]) == whole
