"""`jaxcur ordinal`: ordered classes, the last of them rare."""

import argparse
import json
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcur.cli._errors import CommandError
from jaxcur.cli._estimate import plain_value, split_names
from jaxcur.cli._table_command import (
    add_output,
    add_table_command,
    check_confidence_level,
    check_out,
    check_seed,
)

if TYPE_CHECKING:
    import pandas as pd

    from jaxcur.frames import OrdinalFrameResult

_PENALTIES = ("presto", "parallel", "nonparallel", "semiparallel")
_FAMILIES = ("cumulative", "sratio", "cratio", "acat")
_LINKS = ("logit", "probit", "cloglog", "loglog", "cauchit")
_CRITERIA = ("brier", "logloss", "rare_brier", "rps", "misclass")

# Arguments of the function, by which its messages speak, and their options here.
_WORDS = {
    "outcome": "--outcome",
    "features": "--features",
    "formula": "--formula",
    "order": "--order",
    "weights": "--weights",
    "regularization": "--regularization",
    "num_folds": "--folds",
    "link": "--link",
    "family": "--family",
}

_DESCRIPTION = """\
Ordinal regression of a column of classes. Every boundary between neighbouring classes
has coefficients of its own, drawn towards those of the next boundary (PRESTO): where
the data do not object, one coefficient serves all boundaries, and the many rows of the
common classes help to predict the rare last one.

Prints the coefficients by boundary with their direction in words (a positive
coefficient moves probability to LOWER classes, the opposite of R polr and statsmodels),
standard errors, odds ratios for higher classes, which columns do not have the same
effect at every boundary, and probabilities of the last class with intervals. With a
penalty standard errors and intervals are those of the debiased fit.
"""

_EPILOG = """\
examples:
  jaxcur ordinal patients.csv --outcome stage --order none,mild,severe
      all other columns, which must be numbers; the strength by cross-validation

  jaxcur ordinal patients.csv --outcome stage --order none,mild,severe \\
      --formula "age + C(clinic) + log(dose)" --out predictions.csv
      categories by a formula; the table with a probability for every class

  jaxcur ordinal wine.csv --outcome quality --penalty parallel --regularization 0
      proportional odds without a penalty; numbers have their own order
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = add_table_command(
        commands,
        "ordinal",
        help="regression of ordered classes, the last of them rare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--outcome", required=True, metavar="COLUMN", help="the column of classes"
    )
    parser.add_argument(
        "--order",
        metavar="CLASSES",
        help="the classes from lowest to highest, separated by commas; needed where "
        "they are words",
    )
    parser.add_argument(
        "--unobserved",
        choices=("raise", "drop"),
        default="raise",
        help="a class of --order that no row holds: raise (default) complains, drop "
        "gives it probability 0",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--features",
        metavar="COLUMNS",
        help="columns of numbers, separated by commas (default: all others)",
    )
    which.add_argument(
        "--formula",
        metavar="FORMULA",
        help="such as 'x1 + C(group) + log(x2)', in place of --features",
    )
    fit = parser.add_argument_group("the model")
    fit.add_argument(
        "--penalty",
        choices=_PENALTIES,
        default="presto",
        help="what is shrunk: presto (default), the first boundary's coefficients and "
        "the differences between boundaries; parallel, one vector for all boundaries; "
        "nonparallel, each boundary's own; semiparallel, a common vector and "
        "deviations from it",
    )
    fit.add_argument(
        "--regularization",
        default="cv",
        metavar="STRENGTH",
        help="of the penalty, a number of at least 0, or cv (default) to choose it",
    )
    fit.add_argument("--family", choices=_FAMILIES, default="cumulative")
    fit.add_argument("--link", choices=_LINKS, default="logit")
    fit.add_argument(
        "--criterion",
        choices=_CRITERIA,
        default="brier",
        help="what cross-validation compares (default: brier); rare_brier looks at the "
        "last class only",
    )
    fit.add_argument(
        "--folds", type=int, default=5, metavar="INTEGER", help="default: 5"
    )
    fit.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="INTEGER",
        help="draws the folds of cross-validation (default: 0)",
    )
    fit.add_argument("--weights", metavar="COLUMN", help="weights of the rows")
    parser.add_argument(
        "--na",
        choices=("error", "drop"),
        default="error",
        help="rows that lack an entry: error (default), or drop",
    )
    add_output(
        parser,
        "write the table with a probability for every class, and an interval for "
        "the last",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fit, print, write."""
    check_confidence_level(args)
    check_seed(args)
    strength = _strength(args.regularization)
    if args.out is not None:
        check_out(args)

    from jaxcur import data, frames

    try:
        table = data.read_table(args.table, delimiter=args.delimiter)
        if not len(table):
            raise CommandError(f"'{args.table}' has a header but no rows; add rows")
        # Rows are named by their number in the file.
        table.index = range(1, len(table) + 1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            result = frames.fit_ordinal(
                table,
                outcome=args.outcome,
                features=_names(args, "features"),
                formula=args.formula,
                order=_names(args, "order"),
                unobserved=args.unobserved,
                penalty=args.penalty,
                regularization=strength,
                family=args.family,
                link=args.link,
                weights=args.weights,
                num_folds=args.folds,
                criterion=args.criterion,
                key=args.seed,
                na=args.na,
            )
            text = None if args.json else result.summary(args.confidence_level)
    except ValueError as error:  # the table, the formula, or options that do not fit
        raise CommandError(_in_options(str(error))) from error
    # A name that is taken is told before anything is printed.
    rows = None if args.out is None else _predictions(args, table, result)
    if text is None:
        print(json.dumps(_document(args, result), indent=2))
    else:
        print(text)
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f"warning: {_in_options(str(warning.message))}", file=sys.stderr)
    if rows is not None:
        _write(args, rows)
    return 0


def _strength(word: str) -> Any:
    if word == "cv":
        return word
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise CommandError(
            f"--regularization is '{word}'; give cv, or a number of at least 0"
        )
    return number


def _names(args: argparse.Namespace, option: str) -> list[str] | None:
    word = getattr(args, option)
    return None if word is None else split_names(option, word)


def _in_options(message: str) -> str:
    """A message about arguments, told in options of this command."""
    message = re.sub(r"\s*\(\w+='\w+', (--\w+ \w+)\)", r" (\1)", message)
    return re.sub(
        r"`(\w+)`", lambda match: _WORDS.get(match.group(1), match.group(0)), message
    )


def _predictions(
    args: argparse.Namespace, table: "pd.DataFrame", result: "OrdinalFrameResult"
) -> "pd.DataFrame":
    """The rows that were used, with columns of probabilities."""
    rows = table.loc[result.index].copy()
    probs = result.predict_proba()
    added = {f"p_{label}": probs[label].to_numpy() for label in result.labels}
    rare = result.rare_probability(confidence_level=args.confidence_level)
    last = result.fitted_labels[-1]
    added[f"p_{last}_lower"] = rare["lower"].to_numpy()
    added[f"p_{last}_upper"] = rare["upper"].to_numpy()
    for name, values in added.items():
        if name in rows.columns:
            raise CommandError(
                f"the table has a column '{name}' already, which --out would add; "
                "rename it"
            )
        rows[name] = values
    return rows


def _write(args: argparse.Namespace, rows: "pd.DataFrame") -> None:
    from jaxcur import data

    replaced = Path(args.out).exists()
    try:
        data.write_table(rows, args.out)
    except data.TableError as error:
        raise CommandError(error) from error
    # A reader of JSON wants nothing else on the stream.
    stream = sys.stderr if args.json else sys.stdout
    verb = "replaced" if replaced else "wrote"
    print(f"{verb} {args.out}: {len(rows)} rows", file=stream)


# Names in JSON of columns of `OrdinalFrameResult.inference`.
_INFERENCE = {
    "estimates": "estimate",
    "std_errors": "std_error",
    "z": "z",
    "p_values": "p_value",
}


def _document(args: argparse.Namespace, result: "OrdinalFrameResult") -> dict[str, Any]:
    """The result as plain JSON values; a number that is not finite becomes null."""
    import jaxcur

    exact = result.exact
    directions = result.directions()
    terms = []
    inference = result.inference(args.confidence_level)
    boundaries = len(result.boundaries)
    for place, term in enumerate(result.terms):
        found = {
            "term": term,
            "coefficients": [plain_value(v) for v in exact.coefficients[place]],
            "direction": directions.iloc[place],
        }
        rows = inference.iloc[place * boundaries : (place + 1) * boundaries]
        for name, column in _INFERENCE.items():
            found[name] = [plain_value(v) for v in rows[column]]
        if exact.link == "logit":
            ratios = result.odds_ratios().iloc[place]
            found["odds_ratios_higher"] = [plain_value(v) for v in ratios]
        if len(result.fitted_labels) > 2:
            test = result.proportionality().iloc[place]
            found["proportional_odds_p_value"] = plain_value(test["p_value"])
        terms.append(found)
    return {
        "version": jaxcur.__version__,
        "outcome": result.outcome.name,
        "classes": [_label(label) for label in result.labels],
        "classes_without_rows": [
            _label(label)
            for label, there in zip(result.labels, result.occurs, strict=True)
            if not there
        ],
        "num_rows": len(result.X),
        "num_dropped": result.num_dropped,
        "penalty": args.penalty,
        "family": exact.family,
        "link": exact.link,
        "regularization": plain_value(exact.regularization),
        "boundaries": list(result.boundaries),
        "intercepts": [plain_value(v) for v in exact.intercepts],
        "sign": "a positive coefficient moves probability to "
        + ("lower" if exact.family in ("cumulative", "sratio") else "higher")
        + " classes",
        "terms": terms,
        "estimates": inference.attrs["estimates"],
        "rare_class": _rare(args, result),
        "num_crossing": int(exact.num_crossing),
        "status": exact.message,
        "kkt_residual": plain_value(exact.kkt_residual),
        "gap_bound": plain_value(exact.gap_bound),
    }


def _rare(args: argparse.Namespace, result: "OrdinalFrameResult") -> dict[str, Any]:
    """The last class: its share, and the rows where it is least and most likely."""
    import numpy as np

    table = result.rare_probability(confidence_level=args.confidence_level)
    order = np.argsort(table["estimate"].to_numpy(), kind="stable")
    chosen = order[[0, len(order) // 2, len(order) - 1]]
    last = result.codes == len(result.fitted_labels) - 1
    rows = [
        {
            "row": int(table.index[row]),
            **{name: plain_value(value) for name, value in table.iloc[row].items()},
        }
        for row in chosen
    ]
    return {
        "class": _label(result.fitted_labels[-1]),
        "observed": plain_value(np.average(last, weights=result.weights)),
        "predicted_mean": plain_value(
            np.average(table["estimate"], weights=result.weights)
        ),
        "confidence_level": args.confidence_level,
        "lowest": rows[0],
        "median": rows[1],
        "highest": rows[2],
    }


def _label(label: Any) -> Any:
    return label if isinstance(label, (str, int, bool)) else plain_value(label)
