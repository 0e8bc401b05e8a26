"""Errors and finds of selection rules over many splits, as numbers, words and rows."""

from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from jaxcur import plots

_PERCENT = "{:.1%}"
_FORMS = {
    "wrong among selected": _PERCENT,
    "95% from": _PERCENT,
    "95% to": _PERCENT,
    "found": _PERCENT,
    "mean selected": "{:.1f}",
    "splits with none": _PERCENT,
    "level": "{:.0%}",
}


class Rates(NamedTuple):
    """What a rule did on every split; each of shape (splits,).

    Attributes:
        false_share: share of the selected that is wrong, 0 when nothing is selected.
        found_share: share of the interesting candidates that is selected.
        num_selected: how many are selected.
    """

    false_share: np.ndarray
    found_share: np.ndarray
    num_selected: np.ndarray


class Interval(NamedTuple):
    """A mean over splits with its 95 % interval."""

    mean: float
    lower: float
    upper: float


def outcome_rates(selected: Array, interesting: Array) -> Array:
    """The three entries of `Rates` for one split, shape (3,)."""
    count = selected.sum()
    return jnp.stack(
        [
            (selected & ~interesting).sum() / jnp.maximum(count, 1),
            (selected & interesting).sum() / jnp.maximum(interesting.sum(), 1),
            count.astype(jnp.float32),
        ]
    )


def mean_interval(values: np.ndarray) -> Interval:
    """Mean over independent splits and its normal 95 % interval."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def share(values: np.ndarray) -> str:
    """A mean share and its interval, in words."""
    interval = mean_interval(values)
    return f"{interval.mean:.1%} ({interval.lower:.1%} to {interval.upper:.1%})"


def row(rate: Rates) -> dict[str, float]:
    """One rule as a row of a table."""
    interval = mean_interval(rate.false_share)
    return {
        "wrong among selected": interval.mean,
        "95% from": interval.lower,
        "95% to": interval.upper,
        "found": mean_interval(rate.found_share).mean,
        "mean selected": float(rate.num_selected.mean()),
        "splits with none": float((rate.num_selected == 0).mean()),
    }


def display(frame: "pd.DataFrame") -> dict[str, str]:
    """How a table of such rows shows its columns."""
    return {name: form for name, form in _FORMS.items() if name in frame.columns}


def curve(label: str, chosen: "Sequence[np.ndarray]") -> "plots.Curve":
    """Means and intervals of one rule at several points, shape (points, splits)."""
    from jaxcur import plots

    intervals = np.array([mean_interval(values) for values in chosen])
    return plots.Curve(label, *intervals.T)
