"""`jaxcur demo`: run the chapters, print what they found, write the report."""

import argparse
import time
from pathlib import Path
from typing import Any

from jaxcur.cli._errors import CommandError

_DESCRIPTION = """\
See the methods at work on bundled data, where the truth is known. Prints the findings
and writes a folder with one self-contained report.html, the tables as CSV and the
pictures as PNG.
"""

_EPILOG = """\
examples:
  jaxcur demo                     every chapter, a few minutes
  jaxcur demo --quick             the same with fewer repetitions, under a minute
  jaxcur demo --out my-report     write to the folder my-report
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="see the methods at work on bundled data",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions, under a minute"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="demo-report",
        help="folder for the report (default: demo-report); files of an earlier "
        "report there are replaced",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="CHAPTER", help="run only these chapters"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INTEGER", help="default: 0"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the chapters in order; the report appears when all have finished."""
    if not 0 <= args.seed < 2**32:
        raise CommandError(f"--seed is {args.seed}; give an integer from 0 to 2^32 - 1")
    from jaxcur.cli import demo

    names = demo.CHAPTERS if args.only is None else tuple(args.only)
    unknown = [name for name in names if name not in demo.CHAPTERS]
    if unknown:
        raise CommandError(
            f"there is no chapter '{unknown[0]}'; there are: {', '.join(demo.CHAPTERS)}"
        )
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(
            f"cannot make the folder '{out}': {error.strerror}"
        ) from error

    start = time.perf_counter()
    chapters = []
    for name in names:
        began = time.perf_counter()
        chapter = demo.run_chapter(name, quick=args.quick, seed=args.seed)
        chapters.append(chapter)
        print(_spoken(chapter, time.perf_counter() - began), flush=True)
    try:
        report = demo.write_report(
            chapters,
            out,
            quick=args.quick,
            seed=args.seed,
            seconds=time.perf_counter() - start,
        )
    except OSError as error:
        raise CommandError(f"cannot write to '{out}': {error.strerror}") from error
    print(f"report: {report} ({time.perf_counter() - start:.0f} s)")
    return 0


def _spoken(chapter: Any, seconds: float) -> str:
    findings = "\n".join(f"  - {finding}" for finding in chapter.findings)
    return (
        f"{chapter.title}\n{findings}\n  => {chapter.conclusion}\n  ({seconds:.1f} s)\n"
    )
