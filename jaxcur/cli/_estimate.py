"""`jaxcur estimate`: regression on machine labels, gold labels, and debiased."""

import argparse
import csv
import json
import math
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxcur.cli._errors import CommandError
from jaxcur.cli._table_command import (
    add_output,
    add_table_command,
    check_confidence_level,
    check_out,
)

if TYPE_CHECKING:
    import pandas as pd

    from jaxcur.frames import FrameResult

_MODELS = ("ols", "logit", "poisson", "multinomial", "ordered", "mean")
_TUNINGS = ("optimal", "scalar", "per_coordinate")

# Arguments of the function, by which its messages speak, and their options here.
_OPTIONS = {
    "sampling_prob": "--prob",
    "clusters": "--cluster",
    "strata": "--strata",
    "fixed_effects": "--fixed-effects",
    "classes": "--classes",
    "design": "--design",
    "small_sample": "--small-sample",
    "weights": "--weights",
    "predicted": "--predicted",
    "power_tuning": "--tuning",
    "labeled": "--labeled",
}

_DESCRIPTION = """\
Fit a regression in which some variable was labelled by a machine in every row, and by
people (gold labels) in a few. Three fits stand side by side: machine labels taken for
truth, gold labels alone, and debiased.

The formula speaks of the gold columns; --predicted says which column holds the machine
labels of each. A gold column has an entry where a row is labelled and is empty (NA,
NaN) elsewhere. Intervals of the debiased fit cover the coefficients that gold labels of
all rows would lead to, for machine labels of any quality, when rows were chosen for
gold labels with the probabilities stated by --prob (without it: a simple random sample)
and machine labels were made without the gold label of their own row.
"""

_EPILOG = """\
examples:
  jaxcur estimate posts.csv --formula "hostile ~ followers + verified" --model logit \\
      --predicted hostile=hostile_llm --prob pi
      a machine-coded outcome; column pi holds the probability of a gold label

  jaxcur estimate posts.csv --formula "shares ~ hostile" --model poisson \\
      --predicted hostile=hostile_llm --cluster author
      a machine-coded covariate; a simple random sample has gold labels

  jaxcur estimate panel.csv --formula "y ~ x1 + x2" --predicted y=y_llm,x1=x1_llm \\
      --prob 0.1 --fixed-effects unit,time --cluster unit --out results.csv
      fixed effects, and all three fits as a table

  jaxcur estimate posts.csv --formula topic --model mean --predicted topic=topic_llm
      the share of each topic
"""


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser = add_table_command(
        commands,
        "estimate",
        help="regression on machine labels, debiased by a few gold labels",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.add_argument(
        "--formula",
        required=True,
        metavar="FORMULA",
        help="such as 'y ~ x1 + C(group) + log(x2)', in gold columns",
    )
    parser.add_argument(
        "--predicted",
        required=True,
        action="append",
        metavar="GOLD=MACHINE",
        help="the column of machine labels of a gold column; several separated by "
        "commas, or the option again",
    )
    parser.add_argument(
        "--model",
        choices=_MODELS,
        default="ols",
        help="default: ols. mean: the mean of the outcome, or shares of its categories",
    )
    design = parser.add_argument_group("how rows were chosen for gold labels")
    design.add_argument(
        "--prob",
        metavar="COLUMN",
        help="the probabilities, or one number; without it, a simple random sample",
    )
    design.add_argument(
        "--design",
        choices=("bernoulli", "srs", "stratified"),
        help="bernoulli: one by one (assumed with --prob); srs: a fixed number "
        "(assumed without); stratified: a fixed number in each stratum",
    )
    design.add_argument("--strata", metavar="COLUMN", help="the strata")
    design.add_argument(
        "--labeled",
        metavar="COLUMN",
        help="which rows are labelled, 1 or 0, where gold columns do not tell",
    )
    design.add_argument(
        "--labels",
        choices=("error", "ignore"),
        default="error",
        help="gold labels in rows that --labeled excludes (default: error)",
    )
    groups = parser.add_argument_group("rows")
    groups.add_argument(
        "--cluster", metavar="COLUMNS", help="rows of one cluster may be dependent"
    )
    groups.add_argument(
        "--fixed-effects",
        metavar="COLUMNS",
        help="groups with an effect of their own; model ols",
    )
    groups.add_argument("--weights", metavar="COLUMN", help="survey weights")
    groups.add_argument(
        "--na",
        choices=("error", "drop"),
        default="error",
        help="rows that lack an entry other than a gold label (default: error)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="categories of the outcome in their order, separated by commas; the last "
        "is the base of multinomial",
    )
    parser.add_argument(
        "--tuning",
        metavar="RULE",
        help="how much of the machine labels to use: optimal (default), scalar, "
        "per_coordinate, none (all of it; default with fixed effects) or a number",
    )
    parser.add_argument(
        "--small-sample",
        choices=("hc1", "cr1"),
        help="correct standard errors for few rows, or few clusters (cr1)",
    )
    parser.add_argument(
        "--reference",
        choices=("normal", "t"),
        default="normal",
        help="distribution of the intervals (default: normal); t for few labels",
    )
    add_output(parser, "write all three fits here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Estimate, print, write."""
    check_confidence_level(args)
    predicted = _pairs(args.predicted)
    options = _options(args)
    if args.out is not None:
        check_out(args)

    from jaxcur import data, debiased, frames

    try:
        table = data.read_table(args.table, delimiter=args.delimiter)
        if not len(table):
            raise CommandError(f"'{args.table}' has a header but no rows; add rows")
        with warnings.catch_warnings():
            # They are in the result, and printed from there.
            warnings.simplefilter("ignore", debiased.InferenceWarning)
            result = frames.estimate(
                args.formula,
                table,
                predicted=predicted,
                sampling_prob=_probability(args.prob, table),
                **options,
            )
    except ValueError as error:  # the table, the formula, or options that do not fit
        raise CommandError(_in_options(str(error))) from error
    if args.json:
        print(json.dumps(_document(args, result), indent=2))
    else:
        print(result.summary(args.confidence_level, reference=args.reference))
    for warning in result.warnings:
        print(f"warning: {_in_options(warning)}", file=sys.stderr)
    if args.out is not None:
        _write(args, result)
    return 0


def _pairs(given: list[str]) -> dict[str, str]:
    """Gold and machine columns from `y=y_llm,x=x_llm`."""
    pairs: dict[str, str] = {}
    for word in given:
        for item in split_names("predicted", word):
            gold, equals, machine = (part.strip() for part in item.partition("="))
            if not (gold and equals and machine):
                raise CommandError(
                    f"--predicted is '{item}'; write GOLD=MACHINE, for example y=y_llm"
                )
            if gold in pairs:
                raise CommandError(f"--predicted names '{gold}' twice; name it once")
            pairs[gold] = machine
    return pairs


def split_names(option: str, word: str) -> list[str]:
    """Names separated by commas; a name that holds one is quoted."""
    listed = next(csv.reader([word], skipinitialspace=True), [])
    names = [name.strip() for name in listed]
    if not names or not all(names):
        raise CommandError(
            f"--{option} must list names separated by commas; one of them is empty"
        )
    return names


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the function, those that are given."""
    options: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("model", "labeled", "design", "strata", "weights", "na", "labels")
    }
    options["small_sample"] = args.small_sample
    for option, name in (
        ("cluster", "clusters"),
        ("fixed_effects", "fixed_effects"),
        ("classes", "classes"),
    ):
        word = getattr(args, option)
        if word is not None:
            options[name] = split_names(option.replace("_", "-"), word)
    if args.tuning is not None:
        options["power_tuning"] = _tuning(args.tuning)
    return options


def _tuning(word: str) -> Any:
    if word == "none":
        return None
    if word in _TUNINGS:
        return word
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise CommandError(
            f"--tuning is '{word}'; give {', '.join(_TUNINGS)}, none or a number"
        )
    return number


def _probability(word: str | None, table: "pd.DataFrame") -> str | float | None:
    """A column, or a number that is the name of none."""
    if word is None or word in table.columns:
        return word
    try:
        return float(word)
    except ValueError:
        return word


def _in_options(message: str) -> str:
    """A message about arguments, told in options of this command."""

    def option(match: re.Match[str]) -> str:
        return _OPTIONS.get(match.group(1), match.group(0))

    message = re.sub(
        r"\b(design|small_sample)='(\w+)'",
        lambda m: f"{_OPTIONS[m.group(1)]} {m.group(2)}",
        message,
    )
    message = re.sub(r"\s*\((?:na|labels)='\w+', (--\w+ \w+)\)", r" (\1)", message)
    return re.sub(r"`(\w+)`", option, message)


def _write(args: argparse.Namespace, result: "FrameResult") -> None:
    from jaxcur import data

    table = result.to_frame(
        confidence_level=args.confidence_level, reference=args.reference
    )
    replaced = Path(args.out).exists()
    try:
        data.write_table(table, args.out)
    except data.TableError as error:
        raise CommandError(error) from error
    # A reader of JSON wants nothing else on the stream.
    stream = sys.stderr if args.json else sys.stdout
    verb = "replaced" if replaced else "wrote"
    print(f"{verb} {args.out}: {len(table)} rows", file=stream)


def _document(args: argparse.Namespace, result: "FrameResult") -> dict[str, Any]:
    """The result as plain JSON values; a number that is not finite becomes null."""
    import jaxcur

    table = result.to_frame(
        confidence_level=args.confidence_level, reference=args.reference
    )
    fits = {
        str(fit): [
            {name: plain_value(value) for name, value in row.items() if name != "fit"}
            for row in part.to_dict(orient="records")
        ]
        for fit, part in table.groupby("fit", sort=False)
    }
    names = (
        *("formula", "model", "labeling", "tuning", "num_rows", "num_labeled"),
        *("num_dropped", "num_partial"),
    )
    debiased = result.exact[2]
    per_term = {
        name: [plain_value(value) for value in getattr(debiased.diagnostics, name)]
        for name in ("relative_efficiency", "extra_labels", "max_influence")
    }
    return {
        "version": jaxcur.__version__,
        **{name: getattr(result, name) for name in names},
        "predicted": dict(result.predicted),
        "terms": list(result.terms),
        "confidence_level": args.confidence_level,
        "reference": args.reference,
        "converged": bool(debiased.converged),
        "fits": fits,
        "diagnostics": {
            **{name: plain_value(v) for name, v in result.diagnostics().items()},
            **per_term,
        },
        "notes": dict(result.notes),
        "warnings": list(result.warnings),
    }


def plain_value(value: Any) -> Any:
    if isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
