"""What the commands that read one table have in common."""

import argparse
from pathlib import Path
from typing import Any

from jaxcur.cli._errors import CommandError


def add_table_command(
    commands: Any, name: str, *, help: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    """A command whose one positional argument is a table."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("table", metavar="TABLE", help="a .csv, .tsv or .parquet file")
    return parser


def add_output(parser: argparse.ArgumentParser, out: str) -> None:
    """Options that say how sure an interval is, and where results go."""
    parser.add_argument(
        "--confidence-level",
        type=float,
        default=0.95,
        metavar="LEVEL",
        help="of the intervals, between 0 and 1 (default: 0.95)",
    )
    parser.add_argument("--out", metavar="FILE", help=out)
    parser.add_argument(
        "--json", action="store_true", help="print JSON in place of the summary"
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="field separator of a text table (default: comma; tab for .tsv)",
    )


def check_confidence_level(args: argparse.Namespace) -> None:
    """Refuse a percentage, and a level no interval can have."""
    if not 0 < args.confidence_level < 1:
        raise CommandError(
            f"--confidence-level is {args.confidence_level:g}; it must lie strictly "
            "between 0 and 1, for example 0.95 for 95 %"
        )


def check_seed(args: argparse.Namespace) -> None:
    """Refuse a seed that JAX would change silently."""
    if not 0 <= args.seed < 2**32:
        raise CommandError(f"--seed is {args.seed}; give an integer from 0 to 2^32 - 1")


def check_out(args: argparse.Namespace) -> None:
    """Refuse, before any work, an output that would destroy the input."""
    out, table = Path(args.out), Path(args.table)
    if out.exists() and table.exists() and out.samefile(table):
        raise CommandError("--out names the table itself; choose another file")
    if not out.name.lower().endswith((".csv", ".tsv", ".tab", ".parquet", ".pq")):
        raise CommandError(
            f"--out is '{out}'; use a name that ends in .csv, .tsv or .parquet"
        )
