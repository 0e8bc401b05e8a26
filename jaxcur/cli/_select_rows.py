"""The table of `jaxcur select`, checked; and what a route hands back."""

import argparse
import csv
import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from jaxcur import data
from jaxcur.cli._errors import CommandError

if TYPE_CHECKING:
    import pandas as pd

P_VALUE_COLUMN = "p_value"


@dataclasses.dataclass(frozen=True)
class Rows:
    """Calibration rows and candidates of one table.

    Attributes:
        table: every row and column, as read.
        is_candidate: shape (rows,), bool; True where the label is missing.
        is_interesting: shape (n,), bool; the calibration rows beyond the threshold.
        sign: +1 for --above, -1 for --below; sign * prediction is large for rows that
            look interesting.
    """

    table: "pd.DataFrame"
    is_candidate: np.ndarray
    is_interesting: np.ndarray
    sign: int

    @property
    def num_calibration(self) -> int:
        return int((~self.is_candidate).sum())

    @property
    def num_candidates(self) -> int:
        return int(self.is_candidate.sum())

    @property
    def num_interesting(self) -> int:
        return int(self.is_interesting.sum())

    def column(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A complete numeric column, as (calibration rows, candidates)."""
        values = data.numeric_column(self.table, name)
        return values[~self.is_candidate], values[self.is_candidate]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One selection.

    Attributes:
        selected: shape (m,), bool.
        p_values: shape (m,).
        method: what was done, in a few words.
        lines: further (name, value) pairs for the summary.
        warnings: sentences.
        columns: further columns for the output, each of shape (m,).
    """

    selected: np.ndarray
    p_values: np.ndarray
    method: str
    lines: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    columns: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def num_selected(self) -> int:
        return int(self.selected.sum())


def names(args: argparse.Namespace, option: str) -> list[str]:
    """The columns that an option lists, for example `a,b` or `"a, with comma",b`."""
    listed = next(csv.reader([getattr(args, option)], skipinitialspace=True), [])
    if not listed or not all(listed):
        raise CommandError(
            f"--{option} must list columns separated by commas, for example a,b; one "
            "of the names is empty"
        )
    twice = sorted({name for name in listed if listed.count(name) > 1})
    if twice:
        raise CommandError(f"--{option} lists '{twice[0]}' twice; list it once")
    if args.label in listed:
        raise CommandError(
            f"--{option} lists '{args.label}', the label itself; take it out"
        )
    return listed


def require_seed(args: argparse.Namespace, way_out: str = "") -> None:
    """Refuse to draw random numbers that could not be drawn again."""
    if args.seed is None:
        raise CommandError(
            "this selection draws random numbers; give --seed INTEGER so that it can "
            "be repeated" + (f", or use {way_out}" if way_out else "")
        )


def load(args: argparse.Namespace, added: Sequence[str] = ()) -> Rows:
    """Read the table and tell calibration rows from candidates.

    Args:
        args: the parsed options.
        added: columns that will be written besides the p-values.
    """
    above = args.below is None
    threshold = args.above if above else args.below
    if not np.isfinite(threshold):
        option = "--above" if above else "--below"
        raise data.TableError(f"{option} is {threshold}; give a finite number")
    table = data.read_table(args.table, delimiter=args.delimiter, text=True)
    labels = data.numeric_column(table, args.label, allow_missing=True)
    is_candidate = np.isnan(labels)
    if not len(labels):
        raise data.TableError(f"'{args.table}' has a header but no rows; add rows")
    if is_candidate.all():
        raise data.TableError(
            f"no row has a label in '{args.label}'; labelled rows are needed to "
            "calibrate, so fill in the label of some rows"
        )
    if not is_candidate.any():
        raise data.TableError(
            f"every row has a label in '{args.label}', so there is no candidate; leave "
            "the label empty in the rows to choose from"
        )
    known = labels[~is_candidate]
    is_interesting = known > threshold if above else known < threshold
    for name in (P_VALUE_COLUMN, *added) if args.out is not None else ():
        if name in table.columns:
            raise data.TableError(
                f"the table already has a column '{name}', the name of a column that "
                "is written; rename it"
            )
    return Rows(table, is_candidate, is_interesting, 1 if above else -1)


def chosen(rows: Rows, outcome: Outcome) -> "pd.DataFrame":
    """The selected candidates in table order, with what was found out about them."""
    candidates = rows.table[rows.is_candidate].reset_index(drop=True)
    added = {P_VALUE_COLUMN: outcome.p_values, **outcome.columns}
    return candidates.assign(**added).loc[outcome.selected].reset_index(drop=True)
