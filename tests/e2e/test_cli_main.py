"""The outside of the command line: fast help, versions, one-line complaints."""

import subprocess
import sys
import time
import types

import pytest

import jaxcur
from jaxcur.cli import _main, main
from jaxcur.cli._errors import CommandError

HEAVY = ("jax", "pandas", "numpy", "matplotlib", "sklearn", "jaxcur._base")


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_come_at_once_and_load_nothing_heavy(option):
    code = (
        "import sys\nfrom jaxcur.cli import main\n"
        f"try:\n    main([{option!r}])\nexcept SystemExit as stop:\n"
        "    assert stop.code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - begin
    assert done.stdout.splitlines()[-1] == "[]"
    # 0.1 s when the machine is idle; the limit leaves room for a busy one.
    assert seconds < 5
    expected = jaxcur.__version__ if option == "--version" else "examples:"
    assert expected in done.stdout


@pytest.mark.parametrize("command", ["select", "calibrate", "verify", "demo"])
def test_every_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and f"jaxcur {command}" in text


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "jaxcur.cli", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"jaxcur {jaxcur.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["select"],
        ["select", "t.csv", "--label", "y", "--level", "0.1"],
        ["select", "t.csv", "--label", "y", "--above", "1", "--level", "ten"],
        ["verify", "--tier", "hourly"],
        ["demo", "--seed", "x"],
        # An abbreviation would change its meaning when an option is added.
        ["select", "t.csv", "--lab", "y", "--above", "1", "--level", "0.1"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_two(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1 and "error:" in output.err
    assert "--help" in output.err


def run_with(monkeypatch, error):
    def fail(_):
        raise error

    parser = types.SimpleNamespace(
        parse_args=lambda _: types.SimpleNamespace(command="select", run=fail)
    )
    monkeypatch.setattr(_main, "build_parser", lambda: parser)
    return main([])


def test_a_command_error_is_flattened_to_one_line(monkeypatch, capsys):
    assert run_with(monkeypatch, CommandError("two\n  lines")) == 2
    assert capsys.readouterr().err == "jaxcur select: error: two lines\n"


def test_a_missing_extra_is_named(monkeypatch, capsys):
    error = ModuleNotFoundError('this needs x: pip install "jaxcur[frames]"')
    assert run_with(monkeypatch, error) == 2
    assert "jaxcur[frames]" in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_a_mistake_of_the_user(monkeypatch):
    with pytest.raises(ModuleNotFoundError):
        run_with(monkeypatch, ModuleNotFoundError("No module named 'numpy'"))
    with pytest.raises(RuntimeError):
        run_with(monkeypatch, RuntimeError("bug"))


def test_an_interrupt_ends_quietly(monkeypatch, capsys):
    assert run_with(monkeypatch, KeyboardInterrupt()) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_leaves_early_causes_no_traceback():
    command = f"{sys.executable} -m jaxcur.cli select --help | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage:") and done.stderr == ""
