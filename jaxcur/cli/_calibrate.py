"""`jaxcur calibrate`: are these probabilities right, and if not, right ones."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcur.cli._errors import CommandError
from jaxcur.cli._estimate import plain_value
from jaxcur.cli._table_command import (
    add_output,
    add_table_command,
    check_confidence_level,
    check_out,
    check_seed,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from jaxcur.cli._calibrate_report import Report, Rows

# Names of `RECALIBRATORS`, written out because nothing heavy is imported here.
_METHODS = (
    *("temperature", "platt", "beta", "isotonic", "centred", "histogram"),
    *("scaling-binning", "bbq", "spline", "venn-abers"),
)

_DESCRIPTION = """\
Probabilities against what happened. A forecast is calibrated when, of the events
forecast with probability p, a share p happens.

Prints errors of calibration with intervals, proper scores, tests of calibration (exact
up to 5000 rows, by simulation), what they say in words, and how much recalibration
would gain on rows it has not seen. Writes recalibrated probabilities: of the same
rows, each by a map that was fitted to the others, or of another table.
"""

_EPILOG = """\
examples:
  jaxcur calibrate scores.csv --prob p --label y
      a report; y holds 0 and 1

  jaxcur calibrate scores.csv --prob p --label outcome --positive sick \\
      --method isotonic --out repaired.csv
      words as labels; the table with a column p_calibrated

  jaxcur calibrate held_out.csv --prob p --label y --apply new.csv --out new_p.csv
      learn the map on rows with labels, apply it to rows without
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = add_table_command(
        commands,
        "calibrate",
        help="check probabilities against what happened, and repair them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--prob", required=True, metavar="COLUMN", help="probabilities of the event"
    )
    parser.add_argument(
        "--label", required=True, metavar="COLUMN", help="what happened: two values"
    )
    parser.add_argument(
        "--positive",
        metavar="VALUE",
        help="the label that is the event, where labels are not 0 and 1",
    )
    parser.add_argument(
        "--logit", action="store_true", help="--prob holds log-odds, of any size"
    )
    parser.add_argument("--weights", metavar="COLUMN", help="weights of the rows")
    parser.add_argument(
        "--method",
        choices=_METHODS,
        help="the recalibration that is written (default: what the report advises)",
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=5,
        metavar="INTEGER",
        help="of the cross-fitting (default: 5)",
    )
    parser.add_argument(
        "--bins",
        type=int,
        default=15,
        metavar="INTEGER",
        help="of the binned error, of equal width (default: 15)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="INTEGER",
        help="draws folds, resamples and simulations (default: 0)",
    )
    parser.add_argument(
        "--na",
        choices=("error", "drop"),
        default="error",
        help="rows that lack an entry: error (default), or drop",
    )
    parser.add_argument(
        "--apply",
        metavar="OTHER",
        help="write recalibrated probabilities of this table, which needs no labels",
    )
    add_output(parser, "write the table with recalibrated probabilities")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, write."""
    _check_options(args)

    import jax

    from jaxcur import data
    from jaxcur.cli import _calibrate_methods as methods
    from jaxcur.cli import _calibrate_report as reports
    from jaxcur.cli import _calibrate_text as texts

    try:
        table = _read(args, args.table)
        rows, kept = _rows(args, table)
        other = None if args.apply is None else _read(args, args.apply)
        target = _target(args, table.loc[kept], rows, other)
    except data.TableError as error:
        raise CommandError(error) from error
    num_folds = _num_folds(args, rows)
    folds = methods.deal_folds(rows.labels, num_folds, args.seed)
    try:
        with jax.enable_x64(True):
            report = reports.make_report(
                rows,
                folds,
                more=() if args.method is None else (args.method,),
                num_bins=args.bins,
                confidence_level=args.confidence_level,
                seed=args.seed,
            )
            written = None if target is None else _repaired(args, report, target)
    except ValueError as error:
        raise CommandError(error) from error
    if args.json:
        print(json.dumps(_document(args, report), indent=2))
    else:
        print(texts.plain(report))
    if written is not None:
        _write(args, report, written)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    check_confidence_level(args)
    check_seed(args)
    if args.folds < 2:
        raise CommandError(f"--folds is {args.folds}; at least 2 are needed")
    if args.bins < 1:
        raise CommandError(f"--bins is {args.bins}; at least 1 is needed")
    if args.apply is not None and args.out is None:
        raise CommandError("--apply needs --out, where its probabilities go")
    if args.out is not None:
        check_out(args)
        out = Path(args.out)
        if args.apply is not None and out.exists() and Path(args.apply).exists():
            if out.samefile(args.apply):
                raise CommandError("--out names the table of --apply; choose another")


def _read(args: argparse.Namespace, path: str) -> "pd.DataFrame":
    from jaxcur import data

    table = data.read_table(path, delimiter=args.delimiter)
    if not len(table):
        raise CommandError(f"'{path}' has a header but no rows; add rows")
    return table


def _rows(args: argparse.Namespace, table: "pd.DataFrame") -> "tuple[Rows, np.ndarray]":
    """The checked columns, and which rows of the table they are."""
    import numpy as np

    from jaxcur import data
    from jaxcur.cli._calibrate_report import Rows

    names = [args.prob, args.label]
    names += [] if args.weights is None else [args.weights]
    data.require_columns(table, names)
    missing = np.zeros(len(table), bool)
    if args.na == "drop":
        missing = _has_no_label(table[args.label])
        for name in names[::2]:
            values = data.numeric_column(table, name, allow_missing=True)
            missing = missing | np.isnan(values)
        if missing.all():
            raise CommandError("no row is complete; --na drop leaves nothing")
    else:
        for name in (names[0], *names[2:], names[1]):
            _refuse_gaps(table[name], name)
    kept = np.flatnonzero(~missing)
    part = table.iloc[kept]
    probs = _probabilities(args, part, args.prob, kept)
    labels, event = _labels(args, part)
    weights = None
    if args.weights is not None:
        weights = data.numeric_column(part, args.weights)
        if (weights < 0).any() or not (weights > 0).any():
            raise CommandError(
                f"the weights '{args.weights}' must be at least 0, and not all 0"
            )
        if len(np.unique(labels[weights > 0])) < 2:
            raise CommandError(
                f"all rows of one class of '{args.label}' have weight 0; nothing can "
                "be learnt about it"
            )
    return Rows(probs, labels, weights, event, args.label, int(missing.sum())), kept


# How a table says that a label is missing; "none" is a label.
_GAPS = ("", "na", "n/a", "nan", "<na>", "#n/a", "null")


def _has_no_label(column: Any) -> "np.ndarray":
    import numpy as np

    words = column.astype(str).str.strip().str.lower().isin(_GAPS)
    return np.asarray(column.isna() | words)


def _refuse_gaps(column: Any, name: str) -> None:
    missing = _has_no_label(column)
    if missing.any():
        raise CommandError(
            f"column '{name}' is missing in {int(missing.sum())} of {len(column)} rows "
            f"(first: row {int(missing.argmax()) + 1}); fill them in, or leave these "
            "rows out (--na drop)"
        )


def _probabilities(
    args: argparse.Namespace, table: "pd.DataFrame", name: str, places: "np.ndarray"
) -> "np.ndarray":
    """Probabilities of a column, or of its log-odds."""
    import numpy as np

    from jaxcur import data

    values = data.numeric_column(table, name)
    if args.logit:
        return np.exp(-np.logaddexp(0.0, -values))
    wrong = (values < 0) | (values > 1)
    if wrong.any():
        first = int(wrong.argmax())
        hint = "are these logits? then use --logit"
        if values.min() >= 0 and 2 < values.max() <= 100:
            hint = "are these logits, then use --logit, or percentages, then divide"
        raise CommandError(
            f"column '{name}' holds {values[first]:g} in row {places[first] + 1}; "
            f"probabilities lie between 0 and 1 ({hint})"
        )
    return values


def _labels(
    args: argparse.Namespace, table: "pd.DataFrame"
) -> "tuple[np.ndarray, str]":
    """Labels 0 and 1, and the value that became 1."""
    import numpy as np

    column, name = table[args.label], args.label
    words = np.array([_word(entry) for entry in column.tolist()], dtype=object)
    values = sorted(set(words.tolist()))
    listed = ", ".join(values[:6]) + (", ..." if len(values) > 6 else "")
    if len(values) > 2:
        raise CommandError(
            f"column '{name}' holds {len(values)} values ({listed}); the labels of a "
            "yes-or-no event have two"
        )
    if len(values) < 2:
        raise CommandError(
            f"column '{name}' holds one class only, {listed}; rows of both classes are "
            "needed"
        )
    event = args.positive
    if event is None and values == ["0", "1"]:
        event = "1"
    if event is None:
        raise CommandError(
            f"column '{name}' holds {listed}: say which is the event, for example "
            f"--positive {values[1]}"
        )
    event = _word(event)
    if event not in values:
        raise CommandError(f"--positive is '{event}'; '{name}' holds {listed}")
    return (words == event).astype(int), event


def _word(entry: Any) -> str:
    """A label as text: 1, 1.0 and true of a Boolean column are one label."""
    if isinstance(entry, bool):
        return str(int(entry))
    word = str(entry).strip()
    try:
        return f"{float(word):g}"
    except ValueError:
        return word


def _num_folds(args: argparse.Namespace, rows: "Rows") -> int:
    counts = [int(((rows.labels == c) & (rows.mass > 0)).sum()) for c in (0, 1)]
    if min(counts) < 2:
        raise CommandError(
            f"one class of '{args.label}' has a single row; cross-fitting needs two of "
            "each"
        )
    return min(args.folds, *counts)


def _target(
    args: argparse.Namespace,
    table: "pd.DataFrame",
    rows: "Rows",
    other: "pd.DataFrame | None",
) -> "tuple[pd.DataFrame, np.ndarray | None] | None":
    """The table to write and its forecasts; None in their place for the rows read."""
    import numpy as np

    if args.out is None:
        return None
    frame = table if other is None else other
    name = f"{args.prob}_calibrated"
    if name in frame.columns:
        raise CommandError(
            f"the table has a column '{name}' already, which --out would add; rename it"
        )
    if other is None:
        return frame.copy(), None
    return other, _probabilities(args, other, args.prob, np.arange(len(other)))


def _repaired(
    args: argparse.Namespace, report: "Report", target: Any
) -> "pd.DataFrame":
    """The table with a column of recalibrated probabilities."""
    from jaxcur.cli._calibrate_methods import fit_map

    frame, probs = target
    rows, name = report.rows, args.method or report.advice
    if probs is None:
        found = rows.probs if name is None else report.candidates[name].probs
    elif name is None:
        found = probs
    else:
        found = fit_map(name, rows.probs, rows.labels, rows.mass)(probs)
    return frame.assign(**{f"{args.prob}_calibrated": found})


def _write(args: argparse.Namespace, report: "Report", table: "pd.DataFrame") -> None:
    from jaxcur import data

    replaced = Path(args.out).exists()
    try:
        data.write_table(table, args.out)
    except data.TableError as error:
        raise CommandError(error) from error
    # A reader of JSON wants nothing else on the stream.
    stream = sys.stderr if args.json else sys.stdout
    verb = "replaced" if replaced else "wrote"
    how = args.method or report.advice or "probabilities as they are"
    print(f"{verb} {args.out}: {len(table)} rows, {how}", file=stream)


def _document(args: argparse.Namespace, report: "Report") -> dict[str, Any]:
    """The report as plain JSON values; a number that is not finite becomes null."""
    import jaxcur
    from jaxcur.cli._calibrate_text import document

    return {
        "version": jaxcur.__version__,
        "prob": args.prob,
        "method": args.method or report.advice,
        **document(report, plain_value),
    }
