"""The parser and the exit codes.

Nothing heavy is imported here: `jaxcur --help` must answer at once, and each command
imports what it needs when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import jaxcur
from jaxcur.cli import _calibrate, _demo, _estimate, _ordinal, _select, _verify
from jaxcur.cli._errors import CommandError

_EPILOG = """\
examples:
  jaxcur select patients.csv --prediction p --label y --above 140 --level 0.1 \\
      --out selected.csv
      choose rows whose unseen y exceeds 140, at most 10 % of them wrong on average

  jaxcur estimate posts.csv --formula "y ~ x1 + x2" --model logit \\
      --predicted y=y_llm --prob pi
      regression on machine labels y_llm, debiased by the gold labels y of some rows

  jaxcur ordinal patients.csv --outcome stage --order none,mild,severe
      regression of ordered classes, the last of them rare

  jaxcur calibrate scores.csv --prob p --label y --out repaired.csv
      are these probabilities right? and the same table with right ones

  jaxcur verify
      check by simulation the promises this library makes

  jaxcur demo --quick --out demo-report
      see the methods at work on bundled data; open demo-report/report.html

`jaxcur COMMAND --help` describes each command.

exit codes: 0 done; 1 a promise failed (verify); 2 the input needs correcting
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints fit on one line."""

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {text} (see `{self.prog} --help`)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line, one subparser for each command."""
    parser = _Parser(
        prog="jaxcur",
        description="Statistical inference and evaluation for imperfect labels.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"jaxcur {jaxcur.__version__}"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=_Parser
    )
    for module in (_select, _estimate, _ordinal, _calibrate, _verify, _demo):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: the words after `jaxcur`; by default those of this process.

    Returns:
        0 when done, 1 when a promise failed, 2 when the input needs correcting.
    """
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except CommandError as error:
        print(f"jaxcur {args.command}: error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if "jaxcur[" not in str(error):  # a bug, not an extra that is not installed
            raise
        print(f"jaxcur {args.command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"jaxcur {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has left; keep Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
