"""`jaxcur select`: from a table to the rows worth acting on.

The command checks the table, hands it to one of the routes, and prints. A route (one
prediction, several predictions, features) is a module with the names `OPTIONS` of the
options it understands, `add_arguments(parser)`, `requested(args)`, `added(args)` (the
columns it writes besides the p-values) and `run(args, rows)`.
"""

import argparse
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxcur.cli import _select_features, _select_several, _select_single
from jaxcur.cli._errors import CommandError
from jaxcur.cli._table_command import check_out

if TYPE_CHECKING:
    from jaxcur.cli._select_rows import Outcome, Rows

_ROUTES: tuple[ModuleType, ...] = (_select_single, _select_several, _select_features)

_DESCRIPTION = """\
Choose, among the rows whose label is not known yet, those whose label exceeds a
threshold, so that on average at most a share LEVEL of the chosen rows is wrong (the
false discovery rate).

The table holds a column of labels, and either predictions or features. Rows with a
label are the calibration rows; rows where the label is missing (empty, NA, NaN) are the
candidates. The promise holds for any prediction, good or bad, when calibration rows and
candidates are exchangeable (for example drawn from one population) and the predictions
come from models that were fitted on other rows. With features, a learner is fitted
here, on all rows, and no labelled row has to be set aside for that.
"""

_EPILOG = """\
examples:
  jaxcur select patients.csv --prediction p --label y --above 140 --level 0.1
      print how many candidates are selected and the cut-off on p

  jaxcur select patients.csv --prediction p --label y --above 140 --level 0.1 \\
      --out selected.parquet
      also write the selected rows, with their p-values

  jaxcur select assay.csv --prediction p --label y --below 2.5 --level 0.2
      choose rows whose label lies below 2.5

  jaxcur select trial.csv --prediction p --label y --above 0 --level 0.1 \\
      --weight w --seed 7
      candidates drawn from another population than the calibration rows; w holds the
      likelihood ratio of the two, known up to a constant, in every row

  jaxcur select assay.csv --predictions ridge,forest,net --label y --above 6 \\
      --level 0.1 --seed 7
      several models; choosing among them is part of the promise

  jaxcur select assay.csv --features x1,x2,x3 --learner ridge --label y --above 6 \\
      --level 0.1
      no model yet: fit one to these very rows

The file given by --out is replaced if it exists (the program says so); the table that
is read is never overwritten.
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "select",
        help="select candidates with the false discovery rate under control",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("table", metavar="TABLE", help="a .csv, .tsv or .parquet file")
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        required=True,
        help="the labels; missing marks a candidate",
    )
    side = parser.add_mutually_exclusive_group(required=True)
    side.add_argument(
        "--above",
        type=float,
        metavar="C",
        help="look for labels greater than C (equal does not count)",
    )
    side.add_argument(
        "--below",
        type=float,
        metavar="C",
        help="look for labels less than C (equal does not count)",
    )
    parser.add_argument(
        "--level",
        type=float,
        required=True,
        metavar="LEVEL",
        help="the false discovery rate to keep, between 0 and 1; 0.1 is 10%%",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="write the selected rows here, with a column p_value (and chosen_model, "
        "where there is a choice of models) appended",
    )
    parser.add_argument(
        "--pruning",
        choices=("homogeneous", "heterogeneous", "deterministic"),
        help="last step of a selection with weights or several models (default: "
        "homogeneous); deterministic draws nothing, and finds less as a rule",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="INTEGER",
        help="seed of the random draws; needed when a random method is asked for",
    )
    parser.add_argument(
        "--delimiter",
        metavar="CHARACTER",
        help="field separator of a text table (default: comma; tab for .tsv)",
    )
    for route in _ROUTES:
        route.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Select, print, write."""
    if not 0 < args.level < 1:
        raise CommandError(
            f"--level is {args.level:g}; the false discovery rate must lie strictly "
            "between 0 and 1, for example --level 0.1 for 10 %"
        )
    if args.seed is not None and not 0 <= args.seed < 2**32:
        raise CommandError(f"--seed is {args.seed}; give an integer from 0 to 2^32 - 1")
    route = _route(args)
    if args.out is not None:
        check_out(args)

    from jaxcur import data
    from jaxcur.cli import _select_rows

    try:
        rows = _select_rows.load(args, route.added(args))
        outcome = route.run(args, rows)
        print(_summary(args, rows, outcome))
        for warning in outcome.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if args.out is not None:
            replaced = Path(args.out).exists()
            data.write_table(_select_rows.chosen(rows, outcome), args.out)
            verb = "replaced" if replaced else "wrote"
            print(f"{verb} {args.out}: {outcome.num_selected} rows")
    except data.TableError as error:
        raise CommandError(error) from error
    return 0


def _route(args: argparse.Namespace) -> ModuleType:
    """The one route that the options ask for, refusing those of another."""
    asked = [route for route in _ROUTES if route.requested(args)]
    if not asked:
        raise CommandError(
            "say what to select by: a column of predictions with --prediction COLUMN, "
            "several with --predictions A,B or features with --features A,B "
            "--learner NAME"
        )
    if len(asked) > 1:
        first, second = (f"--{route.OPTIONS[0]}" for route in asked[:2])
        raise CommandError(f"{first} and {second} exclude each other; give one of them")
    for name in (name for route in _ROUTES for name in route.OPTIONS):
        given = getattr(args, name) not in (None, False)
        if given and name not in asked[0].OPTIONS:
            raise CommandError(
                f"--{name} does not go with --{asked[0].OPTIONS[0]}; leave it out"
            )
    return asked[0]


def _summary(args: argparse.Namespace, rows: "Rows", outcome: "Outcome") -> str:
    n, m = rows.num_calibration, rows.num_candidates
    sign, threshold = (">", args.above) if args.below is None else ("<", args.below)
    lines = [
        (
            "calibration rows, n",
            f"{n} ({rows.num_interesting} with {args.label} {sign} {threshold:g})",
        ),
        ("candidates, m", f"{m}"),
        ("level", f"{args.level:g}"),
        ("method", outcome.method),
        ("selected", f"{outcome.num_selected} of {m}"),
        *outcome.lines,
    ]
    assumption = (
        "candidates and calibration rows are exchangeable"
        if args.weight is None
        else "the weights are the likelihood ratio of candidates to calibration rows"
    )
    width = max(len(name) for name, _ in lines)
    text = "\n".join(f"{name:<{width}}  {value}" for name, value in lines)
    return (
        f"{text}\npromise: on average over repetitions at most "
        f"{100 * args.level:g} % of the rows selected do not have "
        f"{args.label} {sign} {threshold:g}, if {assumption}"
    )
