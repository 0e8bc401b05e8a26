"""The page on the command line shows what the commands print, word for word."""

import contextlib
import io
import re
import shlex
from pathlib import Path

from jaxcur.cli import main
from jaxcur.cli._main import build_parser

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"
_BLOCK = re.compile(r"^```(python|console|shell)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def perform(command, folder):
    words = shlex.split(command)
    if words[0] == "head":
        lines = (folder / words[-1]).read_text().splitlines(keepends=True)
        return "".join(lines[: int(words[2])])
    assert words[0] == "jaxcur"
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        main(words[1:])
    return output.getvalue() + errors.getvalue()


def test_every_console_block_prints_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = 0
    for language, code in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(code, PAGE.name, "exec"), {})
        elif language == "console":
            command, _, expected = code.partition("\n")
            assert perform(command.removeprefix("$ "), tmp_path) == expected
            shown += 1
    assert shown == 13


def test_every_shell_line_and_every_option_exists(capsys):
    text = PAGE.read_text(encoding="utf-8")
    parser = build_parser()
    lines = [
        line.partition("#")[0].partition(">")[0].strip()
        for language, code in _BLOCK.findall(text)
        if language == "shell"
        for line in code.splitlines()
    ]
    assert len(lines) == 8
    for line in lines:
        parser.parse_args(shlex.split(line)[1:])
    commands = parser._subparsers._group_actions[0].choices
    options = {
        name
        for command in commands.values()
        for action in command._actions
        for name in action.option_strings
    }
    assert set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text)) <= options
    tables = ("select", "estimate", "ordinal", "calibrate")
    for action in (action for name in tables for action in commands[name]._actions):
        names = [n for n in action.option_strings if n not in ("-h", "--help")]
        assert all(f"`{name} " in text or f"`{name}`" in text for name in names)
