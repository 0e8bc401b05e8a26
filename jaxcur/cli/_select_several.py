"""`jaxcur select` with several columns of predictions, one for each model."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from jaxcur.cli._select_rows import Outcome, Rows
    from jaxcur.conformal import OptCSResult

# What this route understands, the option that asks for it first.
OPTIONS = ("predictions", "pruning")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options of this route."""
    group = parser.add_argument_group("several predictions")
    group.add_argument(
        "--predictions",
        metavar="COLUMNS",
        help="what several models, fitted on other rows, predict for the label: names "
        "separated by commas. For each candidate the most promising model is chosen, "
        "and the promise holds in spite of the choice",
    )


def requested(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for this route."""
    return args.predictions is not None


def added(args: argparse.Namespace) -> tuple[str, ...]:
    """Columns that are written besides the p-values."""
    return ("chosen_model",)


def run(args: argparse.Namespace, rows: "Rows") -> "Outcome":
    """Clipped scores of every model, and OptCS over the models."""
    import jax
    import numpy as np

    from jaxcur import conformal
    from jaxcur.cli import _select_rows

    names = _select_rows.names(args, "predictions")
    # With one model every pruning gives the same set.
    pruning = (args.pruning or "homogeneous") if len(names) > 1 else "deterministic"
    if pruning != "deterministic":
        _select_rows.require_seed(args, "--pruning deterministic")
    columns = [rows.column(name) for name in names]
    known, unknown = (rows.sign * np.stack(part) for part in zip(*columns, strict=True))
    # As with one prediction: float64, and the label as "beyond the threshold or not".
    # Only the order within a column counts, so models may predict in different units.
    with jax.enable_x64(True):
        score = conformal.ClipScore()
        calibration = jax.vmap(score.calibration, in_axes=(0, None, None))(
            known, rows.is_interesting.astype(np.float64), np.zeros(known.shape[1])
        )
        test = jax.vmap(score.test, in_axes=(0, None))(unknown, 0.0)
        key = None if pruning == "deterministic" else jax.random.key(args.seed)
        result = conformal.optcs_msel(
            calibration, test, level=args.level, pruning=pruning, key=key
        )
        return describe(args, rows, names, result, f"OptCS over {_count(names)}")


def describe(
    args: argparse.Namespace,
    rows: "Rows",
    names: list[str],
    result: "OptCSResult",
    method: str,
) -> "Outcome":
    """An OptCS result over several models in words."""
    import numpy as np

    from jaxcur.cli._select_rows import Outcome
    from jaxcur.cli._select_single import reach

    selected, chosen = np.asarray(result.selected), np.asarray(result.chosen_model)
    passed = int(np.asarray(result.first_step).sum())
    extra, warnings = reach(args.level, rows.num_calibration, rows.num_candidates)
    if args.pruning == "deterministic" and passed and not selected.any():
        warnings = (
            f"pruning dropped all of the {passed} candidates that had passed; a random "
            "one keeps more: --pruning homogeneous with a --seed chosen beforehand",
        )
    if len(names) > 1:
        method = f"{method}, {args.pruning or 'homogeneous'} pruning"
    lines = [
        ("before pruning", f"{passed}"),
        *_choices(names, chosen, selected),
        extra[0],  # the least number that can be selected holds before pruning only
    ]
    p_values = np.asarray(result.p_values)
    columns = {"chosen_model": np.asarray(names, object)[chosen]}
    return Outcome(selected, p_values, method, tuple(lines), warnings, columns)


def _count(names: list[str]) -> str:
    return f"{len(names)} model{'s' if len(names) > 1 else ''}"


def _choices(
    names: list[str], chosen: "np.ndarray", selected: "np.ndarray"
) -> list[tuple[str, str]]:
    """How often each model was chosen, most often first."""
    counts = [(int((chosen == k).sum()), -k) for k in range(len(names))]
    lines = []
    for count, index in sorted(counts, reverse=True):
        if not count:
            continue
        name = names[-index]
        won = int(selected[chosen == -index].sum())
        text = f"{name} for {count} candidate{'s' if count > 1 else ''}, {won} selected"
        lines.append(("" if lines else "chosen models", text))
    never = [name for name, (count, _) in zip(names, counts, strict=True) if not count]
    if never:
        lines.append(("never chosen", ", ".join(never)))
    return lines
