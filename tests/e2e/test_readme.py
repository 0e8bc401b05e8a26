"""What the README and its neighbours say agrees with what is in the repository."""

import importlib
import re
import tomllib
from pathlib import Path

import jaxcur

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

DEMO = (
    "python3 -m venv .venv && .venv/bin/python -m pip install -e '.[demo]' "
    "&& .venv/bin/jaxcur demo"
)
TEST = (
    "python3 -m venv .venv && .venv/bin/python -m pip install -e '.[test]' "
    "&& .venv/bin/python -m pytest"
)


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_two_commands_stand_on_lines_of_their_own():
    lines = README.splitlines()
    assert DEMO in lines
    assert TEST in lines


def test_the_check_runs_what_the_readme_says():
    script = text_of(".ci/run")
    assert "-m pip install --quiet -e '.[test]'" in script
    assert '"$bin/python" -m pytest\n' in script
    assert '"$bin/jaxcur" demo --quick' in script


def test_every_extra_named_exists():
    extras = PROJECT["project"]["optional-dependencies"]
    pages = [README, *(p.read_text("utf-8") for p in (ROOT / "docs").rglob("*.md"))]
    for text in pages:
        for names in re.findall(r"(?:\.|jaxcur)\[([a-z,]+)\]", text):
            assert set(names.split(",")) <= set(extras)


def test_the_version_is_the_same_everywhere():
    version = PROJECT["project"]["version"]
    assert jaxcur.__version__ == version
    assert f"\nversion: {version}\n" in text_of("CITATION.cff")
    heading = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert heading is not None
    assert heading.group(1) == version


def test_every_function_the_table_names_exists():
    rows = [line for line in README.splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`([a-z]+\.\w+)`", row)}
    assert len(named) > 10
    missing = []
    for name in sorted(named):
        package, _, attribute = name.partition(".")
        if not hasattr(importlib.import_module(f"jaxcur.{package}"), attribute):
            missing.append(name)
    assert missing == []


def test_the_licence_is_the_one_declared():
    assert PROJECT["project"]["license"] == "Apache-2.0"
    licence = text_of("LICENSE")
    assert "Apache License" in licence
    assert "END OF TERMS AND CONDITIONS" in licence


def test_nothing_here_names_an_installation_source():
    # Where packages come from is the business of the reader's own pip settings.
    for name in ("README.md", "CONTRIBUTING.md", ".ci/run", ".github/workflows/ci.yml"):
        assert not re.search(r"--(extra-)?index-url|pypi\.org", text_of(name)), name
