"""`jaxcur select` with one column of predictions."""

import argparse
from typing import TYPE_CHECKING, Any

from jaxcur.cli._errors import CommandError

if TYPE_CHECKING:
    import numpy as np

    from jaxcur.cli._select_rows import Outcome, Rows

# What this route understands, the option that asks for it first.
OPTIONS = ("prediction", "randomize", "weight", "pruning")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of this route."""
    group = parser.add_argument_group("one prediction")
    group.add_argument(
        "--prediction",
        metavar="COLUMN",
        help="what a model fitted on other rows predicts for the label; present in "
        "every row",
    )
    group.add_argument(
        "--randomize",
        action="store_true",
        help="break ties of the p-values at random: a little more power with few "
        "calibration rows, but another --seed may give another selection",
    )
    group.add_argument(
        "--weight",
        metavar="COLUMN",
        help="likelihood ratio of candidates to calibration rows, present in every row",
    )


def requested(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for this route."""
    return args.prediction is not None


def added(args: argparse.Namespace) -> tuple[str, ...]:
    """Columns that are written besides the p-values."""
    return ()


def run(args: argparse.Namespace, rows: "Rows") -> "Outcome":
    """Clipped scores, conformal p-values, and the selection they allow."""
    from jaxcur.cli import _select_rows

    weighted = args.weight is not None
    if args.pruning is not None and not weighted:
        raise CommandError(
            "--pruning is the last step of a selection with --weight or with several "
            "predictions; leave it out"
        )
    random = args.randomize or (weighted and args.pruning != "deterministic")
    if random:
        way_out = "" if args.randomize else "--pruning deterministic"
        _select_rows.require_seed(args, way_out)
    known, unknown = rows.column(args.prediction)
    weights = _weights(args, rows) if weighted else None
    result = _select(args, rows, known, unknown, weights, random)
    return _describe(args, rows, unknown, weights, *result)


def _weights(args: argparse.Namespace, rows: "Rows") -> "tuple[np.ndarray, np.ndarray]":
    calibration, test = rows.column(args.weight)
    if (calibration < 0).any() or (test < 0).any():
        raise CommandError(f"column '{args.weight}' has negative weights; correct them")
    if not calibration.any():
        raise CommandError(
            f"column '{args.weight}' is zero in every calibration row; some weight "
            "there must be positive"
        )
    return calibration, test


def _select(
    args: argparse.Namespace,
    rows: "Rows",
    known: "np.ndarray",
    unknown: "np.ndarray",
    weights: "tuple[np.ndarray, np.ndarray] | None",
    random: bool,
) -> "tuple[np.ndarray, np.ndarray]":
    import jax
    import numpy as np

    from jaxcur import conformal

    score = conformal.ClipScore()
    options: dict[str, Any] = {}
    if weights is not None:
        options.update(calibration_weights=weights[0], test_weights=weights[1])
        options.update(pruning=args.pruning or "homogeneous")
    # Predictions in a file are decimal numbers: float32 would tie some of them. The
    # label enters as "beyond the threshold or not" against a threshold of zero, so that
    # neither the unit of the threshold nor its size costs a digit of the prediction.
    with jax.enable_x64(True):
        if random:
            options.update(key=jax.random.key(args.seed))
        beyond = rows.is_interesting.astype(np.float64)
        result = conformal.select(
            score.calibration(rows.sign * known, beyond, np.zeros_like(known)),
            score.test(rows.sign * unknown, np.zeros_like(unknown)),
            level=args.level,
            randomize_p_values=args.randomize,
            **options,
        )
        return np.asarray(result.selected), np.asarray(result.p_values)


def _describe(
    args: argparse.Namespace,
    rows: "Rows",
    unknown: "np.ndarray",
    weights: "tuple[np.ndarray, np.ndarray] | None",
    selected: "np.ndarray",
    p_values: "np.ndarray",
) -> "Outcome":
    from jaxcur.cli._select_rows import Outcome

    kind = "randomised" if args.randomize else "deterministic"
    method = f"conformal selection, {kind} p-values"
    if weights is not None:
        method = f"weighted {method}, {args.pruning or 'homogeneous'} pruning"
    # With weights or a draw for each row the rule looks at more than the prediction.
    if weights is not None or args.randomize:
        cutoff = "none: p-values depend on more than the prediction"
    elif not selected.any():
        cutoff = "none: nothing is selected"
    else:
        chosen = unknown[selected]
        edge = float(chosen.min() if rows.sign > 0 else chosen.max())
        cutoff = f"{args.prediction} {'>=' if rows.sign > 0 else '<='} {edge!r}"
    lines = [("cut-off", cutoff)]
    if args.randomize:  # randomised p-values reach down to zero
        warnings = ()
    elif weights is not None:
        share = weights[1] / (weights[0].sum() + weights[1])
        warnings = _unreachable_weighted(args.level, float(share.min()))
    else:
        extra, warnings = reach(args.level, rows.num_calibration, rows.num_candidates)
        lines.extend(extra)
    return Outcome(selected, p_values, method, tuple(lines), warnings)


def reach(
    level: float, n: int, m: int
) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """What n calibration rows allow at best, and a warning when that is nothing.

    Benjamini-Hochberg accepts k of m candidates when the k-th smallest p-value is at
    most level * k / m, and no deterministic p-value is below 1 / (n + 1). Hence at
    least m / (level * (n + 1)) candidates are selected or none, and always none when
    level * (n + 1) < 1.
    """
    import math

    from jaxcur._base import exact_fraction

    exact = exact_fraction(level)
    lines = [("smallest p-value", f"1/(n+1) = {1 / (n + 1):.4g}")]
    if (n + 1) * exact < 1:
        return tuple(lines), (
            f"level {level:g} cannot be reached with {n} calibration rows: the "
            f"smallest p-value is 1/{n + 1} = {1 / (n + 1):.3g}; nothing can be "
            f"selected with fewer than {math.ceil(1 / exact) - 1} calibration rows",
        )
    fewest = math.ceil(m / (exact * (n + 1)))
    if fewest > 1:
        lines.append(("selectable", f"none, or at least {fewest} of {m} candidates"))
    return tuple(lines), ()


def _unreachable_weighted(level: float, smallest: float) -> tuple[str, ...]:
    if smallest <= level:
        return ()
    return (
        f"level {level:g} cannot be reached: with these weights the smallest possible "
        f"p-value is {smallest:.3g}; nothing can be selected without more calibration "
        "rows or milder weights",
    )
