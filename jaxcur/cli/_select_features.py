"""`jaxcur select` from features: learners fitted to the very rows of the table."""

import argparse
import math
from typing import TYPE_CHECKING, Any

from jaxcur.cli._errors import CommandError

if TYPE_CHECKING:
    import numpy as np

    from jaxcur.cli._select_rows import Outcome, Rows

# What this route understands, the option that asks for it first.
OPTIONS = ("features", "learner", "regularization", "neighbours", "pruning")
LEARNERS = ("ridge", "kernel-ridge", "knn", "logistic")

_PENALTY = 1.0
_NEIGHBOURS = 15
# A kernel matrix of this many rows takes 3 GB, and there are a few of that size.
_MOST_KERNEL_ROWS = 20_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of this route."""
    group = parser.add_argument_group("features")
    group.add_argument(
        "--features",
        metavar="COLUMNS",
        help="numeric features, present in every row: names separated by commas",
    )
    group.add_argument(
        "--learner",
        metavar="NAMES",
        help=f"what is fitted to them: {', '.join(LEARNERS)}; several names separated "
        "by commas are chosen among for each candidate, as with --predictions",
    )
    group.add_argument(
        "--regularization",
        type=float,
        metavar="NUMBER",
        help="penalty of ridge, kernel-ridge and logistic, above 0 "
        f"(default: {_PENALTY:g})",
    )
    group.add_argument(
        "--neighbours",
        type=int,
        metavar="INTEGER",
        help=f"neighbours of knn (default: {_NEIGHBOURS})",
    )


def requested(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for this route."""
    return args.features is not None


def added(args: argparse.Namespace) -> tuple[str, ...]:
    """Columns that are written besides the p-values."""
    return ("chosen_model",) if "," in (args.learner or "") else ()


def run(args: argparse.Namespace, rows: "Rows") -> "Outcome":
    """Leave-one-out scores on the pooled rows, and OptCS without a split."""
    import jax
    import numpy as np

    from jaxcur import conformal
    from jaxcur.cli import _select_rows

    columns = _select_rows.names(args, "features")
    names = _chosen_learners(args)
    several = len(names) > 1
    random = several and args.pruning != "deterministic"
    if random:
        _select_rows.require_seed(args, "--pruning deterministic")
    known, unknown = zip(*(rows.column(name) for name in columns), strict=True)
    n, m = rows.num_calibration, rows.num_candidates
    pool, constant = standardize(np.concatenate([known, unknown], axis=1).T)
    if constant.all():
        raise CommandError("no feature varies from row to row; name others")
    _check_size(args, names, n + m)
    labels = rows.is_interesting.astype(np.float64)
    # The penalties and tie rules of the learners see decimals: float64, as elsewhere.
    with jax.enable_x64(True):
        fitted = [_learner(name, args, pool.shape[1]) for name in names]
        options: dict[str, Any] = {"pruning": args.pruning or "homogeneous"}
        if random:
            options.update(key=jax.random.key(args.seed))
        if several:
            result = conformal.optcs_full_msel(
                fitted, pool[:n], labels, pool[n:], level=args.level, **options
            )
        else:  # pooled scores of one learner do not depend on the pruning
            result = conformal.optcs_full(
                fitted[0], pool[:n], labels, pool[n:], level=args.level
            )
        outcome = _describe(args, rows, names, result, len(columns))
    left_out = [name for name, out in zip(columns, constant, strict=True) if out]
    return _warned(outcome, left_out)


def standardize(features: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Columns (rows, d) to mean 0 and standard deviation 1, and which cannot vary.

    Over calibration rows and candidates together: a function of the set of rows, so
    that rows stay exchangeable. A scale from the labelled rows alone would treat the
    two groups differently. Columns that are the same in every row are dropped.
    """
    import numpy as np

    # Dividing first keeps the squares of very large numbers finite.
    size = np.abs(features).max(axis=0)
    features = features / np.where(size > 0, size, 1.0)
    constant = features.min(axis=0) == features.max(axis=0)
    varying = features[:, ~constant]
    varying = varying - varying.mean(axis=0)
    return varying / varying.std(axis=0), constant


def _chosen_learners(args: argparse.Namespace) -> list[str]:
    """The learners that are asked for, with options that concern them."""
    listed = ", ".join(LEARNERS)
    if args.learner is None:
        raise CommandError(f"--features needs --learner NAME, one of: {listed}")
    names = [name.strip() for name in args.learner.split(",")]
    unknown = [name for name in names if name not in LEARNERS]
    if unknown:
        raise CommandError(f"there is no learner '{unknown[0]}'; there are: {listed}")
    if len(set(names)) < len(names):
        raise CommandError("--learner lists a learner twice; list it once")
    if args.pruning is not None and len(names) == 1:
        raise CommandError(
            "--pruning matters when several learners are chosen among; leave it out"
        )
    if args.neighbours is not None and "knn" not in names:
        raise CommandError("--neighbours is an option of the learner knn; leave it out")
    if args.neighbours is not None and args.neighbours < 1:
        raise CommandError(
            f"--neighbours is {args.neighbours}; give a positive integer"
        )
    penalty = args.regularization
    if penalty is not None and names == ["knn"]:
        raise CommandError("--regularization is no option of knn; use --neighbours")
    if penalty is not None and not (penalty > 0 and math.isfinite(penalty)):
        raise CommandError(f"--regularization is {penalty:g}; give a positive number")
    return names


def _check_size(args: argparse.Namespace, names: list[str], size: int) -> None:
    neighbours = args.neighbours or _NEIGHBOURS
    if "knn" in names and neighbours >= size:
        raise CommandError(
            f"{neighbours} neighbours are not fewer than the {size} rows of the "
            "table; give a smaller number with --neighbours"
        )
    if "kernel-ridge" in names and size > _MOST_KERNEL_ROWS:
        raise CommandError(
            f"kernel-ridge compares all pairs of the {size} rows, which does not fit "
            f"in memory beyond {_MOST_KERNEL_ROWS}; use ridge, knn or logistic"
        )


def _learner(name: str, args: argparse.Namespace, num_features: int) -> Any:
    from jaxcur import learners

    penalty = _PENALTY if args.regularization is None else args.regularization
    if name == "ridge":
        return learners.Ridge(penalty)
    if name == "logistic":
        return learners.Logistic(penalty)
    if name == "knn":
        return learners.KNN(args.neighbours or _NEIGHBOURS)
    # Two rows drawn at random are 2 d apart in squared distance, on average.
    return learners.KernelRidge(learners.RBF(1 / (2 * num_features)), penalty)


def _describe(
    args: argparse.Namespace,
    rows: "Rows",
    names: list[str],
    result: Any,
    num_features: int,
) -> "Outcome":
    import numpy as np

    from jaxcur.cli import _select_several
    from jaxcur.cli._select_rows import Outcome
    from jaxcur.cli._select_single import reach

    if "scores are NaN" in result.message:
        raise CommandError(
            "the fit gave predictions that are not numbers; raise --regularization"
        )
    features = f"{num_features} feature{'s' if num_features > 1 else ''}"
    method = f"OptCS without a split, {' or '.join(names)} on {features}"
    if len(names) > 1:
        return _select_several.describe(args, rows, names, result, method)
    lines, warnings = reach(args.level, rows.num_calibration, rows.num_candidates)
    return Outcome(
        np.asarray(result.selected),
        np.asarray(result.p_values),
        method,
        lines,
        warnings,
    )


def _warned(outcome: "Outcome", left_out: list[str]) -> "Outcome":
    import dataclasses

    if not left_out:
        return outcome
    warning = (
        f"the same value in every row, so not used: {', '.join(left_out)} "
        "(rows differ in the other features)"
    )
    return dataclasses.replace(outcome, warnings=(*outcome.warnings, warning))
