"""Everything a reader can copy runs: docstring examples, and the pages' code blocks.

An example stands alone: it gets an empty namespace and brings its own imports. The
blocks of one page share a namespace, in the order of the page, and run in an empty
directory.
"""

import ast
import contextlib
import doctest
import importlib.util
import io
import math
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]

_NUMBER = re.compile(
    r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?(?![\w])|\b(?:nan|inf)\b"
)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[\w{}-]*)[^\n]*\n(?P<code>.*?)^(?P=indent)```\s*$",
    re.MULTILINE | re.DOTALL,
)


class NumberChecker(doctest.OutputChecker):
    """Compare printed numbers by value and everything else as text.

    The last printed digit of a float differs between processors and releases; a
    relative 2e-5 is the tolerance of float32 references elsewhere in the suite.
    """

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        if self._text(want) != self._text(got):
            return False
        return all(
            one == other
            or self._is_float(one, other)
            and math.isclose(float(one), float(other), rel_tol=2e-5, abs_tol=1e-7)
            for one, other in zip(
                _NUMBER.findall(want), _NUMBER.findall(got), strict=True
            )
        )

    @staticmethod
    def _text(output: str) -> str:
        # The padding of an array's columns depends on the digits beside it.
        return "".join(_NUMBER.sub("#", output).split())

    @staticmethod
    def _is_float(*texts: str) -> bool:
        return any(re.search(r"[.eE]", text) for text in texts)


def run_examples(text: str, name: str, namespace: dict, line: int = 0) -> None:
    """Run the `>>>` examples of a text, and fail with the first difference."""
    test = doctest.DocTestParser().get_doctest(text, namespace, name, name, line)
    runner = doctest.DocTestRunner(
        checker=NumberChecker(),
        optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE,
        verbose=False,
    )
    report: list[str] = []
    runner.run(test, out=report.append, clear_globs=False)
    namespace.update(test.globs)
    assert not runner.failures, "".join(report)


def docstrings(path: Path):
    """Docstrings with examples: name, text and line."""
    source = path.read_text(encoding="utf-8")
    if ">>>" not in source:
        return
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds) and ">>>" in (ast.get_docstring(node) or ""):
            name = getattr(node, "name", "module")
            text = ast.get_docstring(node)
            yield pytest.param(text, id=f"{module}:{name}")


EXAMPLES = [
    parameter
    for path in sorted((ROOT / "jaxcur").rglob("*.py"))
    for parameter in docstrings(path)
]


def blocks(page: Path) -> list[tuple[str, int]]:
    """The python blocks of a page with the line each starts on."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        if fence["language"] in ("python", "py", "pycon", "{code-block}"):
            first = text.count("\n", 0, fence.start("code"))
            indent = len(fence["indent"])
            lines = [line[indent:] for line in fence["code"].splitlines()]
            found.append(("\n".join(lines) + "\n", first))
    return found


def run_block(code: str, name: str, line: int, namespace: dict) -> None:
    """Run one block: `>>>` examples are compared, plain code is executed.

    In plain code, `print(...)  # -> text` announces what is printed, and is held to it.
    """
    if code.lstrip().startswith(">>>"):
        run_examples(code, name, namespace, line)
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        # Blank lines in front make a traceback point at the line of the page.
        exec(compile("\n" * line + code, name, "exec"), namespace)
    want = re.findall(r"^print\(.*\)  # -> (.*)$", code, re.MULTILINE)
    if want:
        got = printed.getvalue().splitlines()
        assert len(got) == len(want), f"{name}: printed {got}, announced {want}"
        for said, seen in zip(want, got, strict=True):
            assert NumberChecker().check_output(said, seen, 0), (
                f"{seen!r}, not {said!r}"
            )


@pytest.mark.parametrize("text", EXAMPLES)
def test_docstring_example(text, request, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run_examples(text, request.node.callspec.id, {})


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if blocks(page)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_page_code_runs(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    namespace: dict = {"__name__": "__main__"}
    for code, line in blocks(page):
        run_block(code, str(page.relative_to(ROOT)), line, namespace)


def commands(page: Path) -> list[str]:
    """Commands `jaxcur ...` in the shell blocks of a page."""
    found = []
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["language"] in ("sh", "bash", "shell", "console"):
            code = re.sub(r"\\\n\s*", " ", fence["code"])
            lines = [line.strip() for line in code.splitlines()]
            if any(line.startswith("$ ") for line in lines):  # a session, with output
                lines = [line[2:] for line in lines if line.startswith("$ ")]
            found += [line for line in lines if line.startswith("jaxcur ")]
    return found


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if commands(page)],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_page_commands_are_understood(page):
    from jaxcur.cli._main import build_parser

    for command in commands(page):
        words = shlex.split(command, comments=True)[1:]
        if ">" in words:
            words = words[: words.index(">")]
        try:
            build_parser().parse_args(words)
        except SystemExit as stopped:  # `--help` and `--version` stop with 0
            assert stopped.code == 0, command


def test_every_study_a_docstring_names_exists():
    from jaxcur import guarantees
    from jaxcur.cli._verify import choose

    pointers = set()
    for path in (ROOT / "jaxcur").rglob("*.py"):
        if "cli" not in path.parts:
            source = path.read_text(encoding="utf-8")
            pointers |= set(re.findall(r"`jaxcur\s+verify\s+([\w/:-]+)`", source))
    assert len(pointers) > 5
    for pointer in pointers:
        assert choose(guarantees.names(), [pointer]), pointer


def test_a_wrong_example_is_seen():
    run_examples(">>> 0.1 + 0.2\n0.3\n", "close", {})
    for wrong in (">>> 0.1 + 0.2\n0.31\n", ">>> 1 + 1\n3\n", ">>> 'a'\n'b'\n"):
        with pytest.raises(AssertionError):
            run_examples(wrong, "wrong", {})


def test_a_block_is_found_and_run(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "text\n\n```python\nx = 1\nassert x == 2\n```\n\n```text\nno\n```\n"
    )
    [(code, line)] = blocks(page)
    assert line == 3
    with pytest.raises(AssertionError):
        run_block(code, "page", line, {})
    run_block("print(0.5)  # -> 0.5\n", "page", 0, {})
    with pytest.raises(AssertionError, match="not '0.6'"):
        run_block("print(0.5)  # -> 0.6\n", "page", 0, {})


def test_every_link_between_pages_leads_somewhere():
    broken = []
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:", target) or target.startswith("#"):
                continue
            if not (page.parent / target.partition("#")[0]).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path):
    if importlib.util.find_spec("sphinx") is None:
        pytest.fail("the documentation is built with the `docs` extra: pip install it")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"),
            *("-b", "html", "-d", str(tmp_path / "doctrees")),
            *(str(ROOT / "docs"), str(tmp_path / "html")),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").is_file()
