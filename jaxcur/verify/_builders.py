"""The functions that make claims."""

import math
from collections.abc import Sequence

import numpy as np

from jaxcur._base import check_unit_interval
from jaxcur.verify._claims import (
    Claim,
    EachMean,
    ForecastCalibrated,
    RankUniform,
    Ratio,
    SuperUniform,
    check_kind,
)
from jaxcur.verify._margins import resolve_margins, sides_of

DEFAULT_THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5)
FORECAST_MARGIN = 0.02


def at_most(
    metric: str,
    bound: float,
    *,
    margin: float | None = None,
    kind: str = "exact",
    lower: float = 0.0,
    upper: float = 1.0,
    name: str | None = None,
) -> Claim:
    """Claim that the mean of a metric is at most `bound`.

    Args:
        metric: name of the metric in what the replicate function returns.
        bound: largest mean the promise allows, on the metric's own scale.
        margin: a certificate says "at most bound + margin". None takes 10 % of the
            bound, at least 0.0025 of the range.
        kind: "exact" for a finite-sample promise. "asymptotic" tags the report; with
            an infinite range the evidence too is asymptotic, from t >= 100 on.
        lower: smallest value the metric can take.
        upper: largest value it can take.
        name: what reports call the claim; "metric <= bound" by default.

    Returns:
        A hashable claim.

    Raises:
        ValueError: bound out of the range or impossible to violate, a margin that is
            not positive or reaches the end of the range, an unknown kind.

    Example:
        >>> from jaxcur import verify
        >>> verify.at_most("fdp", 0.1).margins
        (0.01,)
    """
    return _mean(metric, "at_most", bound, margin, kind, lower, upper, name)


def at_least(
    metric: str,
    bound: float,
    *,
    margin: float | None = None,
    kind: str = "exact",
    lower: float = 0.0,
    upper: float = 1.0,
    name: str | None = None,
) -> Claim:
    """Claim that the mean of a metric is at least `bound`; mirror image of `at_most`.

    Args:
        metric: name of the metric.
        bound: smallest mean the promise allows.
        margin: a certificate says "at least bound - margin". None takes 10 % of the
            smaller of the bound and its distance to `upper`, at least 0.0025 of the
            range.
        kind: see `at_most`.
        lower: smallest value the metric can take.
        upper: largest value it can take, such as the number of candidates.
        name: what reports call the claim.

    Returns:
        A hashable claim.

    Raises:
        ValueError: as for `at_most`.

    Example:
        >>> from jaxcur import verify
        >>> verify.at_least("selected", 5.0, upper=100.0).name
        'selected >= 5'
    """
    return _mean(metric, "at_least", bound, margin, kind, lower, upper, name)


def equals(
    metric: str,
    bound: float,
    *,
    margin: float | None = None,
    kind: str = "exact",
    lower: float = 0.0,
    upper: float = 1.0,
    name: str | None = None,
) -> Claim:
    """Claim that the mean of a metric equals `bound`.

    Refuted by the average of the evidence from both sides; certified, up to the margin,
    when both sides are. Arguments as for `at_most`.

    Raises:
        ValueError: as for `at_most`.

    Example:
        >>> from jaxcur import verify
        >>> verify.equals("miss", 0.1).sides
        ('upper', 'lower')
    """
    return _mean(metric, "equals", bound, margin, kind, lower, upper, name)


def _mean(
    metric: str,
    direction: str,
    bound: float,
    margin: float | None,
    kind: str,
    lower: float,
    upper: float,
    name: str | None,
) -> Claim:
    bounds = (float(bound),)
    low, high = float(lower), float(upper)
    check_kind(kind, low, high)
    sides_of(direction, bounds, low, high)
    margins = resolve_margins(direction, bounds, margin, low, high)
    sign = {"at_most": "<=", "at_least": ">=", "equals": "=="}[direction]
    return Claim(
        name=name or f"{metric} {sign} {bounds[0]:g}",
        metrics=(metric,),
        direction=direction,
        bounds=bounds,
        margins=margins,
        kind=kind,
        lower=low,
        upper=high,
    )


def all_at_most(
    metric: str,
    bounds: Sequence[float],
    *,
    margin: float | Sequence[float] | None = None,
    kind: str = "exact",
    lower: float = 0.0,
    upper: float = 1.0,
    name: str | None = None,
) -> Claim:
    """Claim that each column of a vector metric keeps its own bound.

    Refuted by the average of the columns' evidence, certified when every column is:
    neither needs a correction for the number of columns.

    Args:
        metric: name of a metric of shape (k,) per replication.
        bounds: k bounds.
        margin: one margin for all, or one per bound; None is the rule of `at_most`.
        kind: see `at_most`.
        lower: smallest value of every column.
        upper: largest value of every column.
        name: what reports call the claim.

    Raises:
        ValueError: no bounds, or as for `at_most`.

    Example:
        >>> from jaxcur import verify
        >>> verify.all_at_most("misses", (0.5, 0.2, 0.1)).margins
        (0.05, 0.02, 0.01)
    """
    values = tuple(float(bound) for bound in bounds)
    low, high = float(lower), float(upper)
    _check_some("bounds", values)
    check_kind(kind, low, high)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("a claim on several means needs a finite range")
    sides_of("at_most", values, low, high)
    margins = resolve_margins("at_most", values, margin, low, high)
    listed = ", ".join(f"{bound:g}" for bound in values)
    return EachMean(
        name=name or f"{metric} <= ({listed})",
        metrics=(metric,),
        direction="at_most",
        bounds=values,
        margins=margins,
        kind=kind,
        lower=low,
        upper=high,
    )


def super_uniform(
    metric: str,
    thresholds: Sequence[float] = DEFAULT_THRESHOLDS,
    *,
    margin: float | Sequence[float] | None = None,
    kind: str = "exact",
    name: str | None = None,
) -> Claim:
    """Claim that p-values are super-uniform: P(p <= u) <= u at each threshold u.

    Args:
        metric: name of a metric holding one p-value per replication, or several of
            shape (r,), whose indicators are averaged.
        thresholds: the thresholds u, in (0, 1).
        margin: one margin for all, or one per threshold; None takes 10 % of each,
            at least 0.0025.
        kind: see `at_most`.
        name: what reports call the claim.

    A p-value within 4 units in the last place above a threshold counts as equal to it,
    which is the rule of the procedures; discrete p-values often tie with thresholds.

    Raises:
        ValueError: no threshold, or one outside (0, 1); margins as for `at_most`.

    Example:
        >>> from jaxcur import verify
        >>> verify.super_uniform("p").labels[0]
        'p <= 0.01'
    """
    values = tuple(float(threshold) for threshold in thresholds)
    _check_some("thresholds", values)
    for value in values:
        check_unit_interval("thresholds", value, open_low=True, open_high=True)
    check_kind(kind, 0.0, 1.0)
    return SuperUniform(
        name=name or f"{metric} super-uniform",
        metrics=(metric,),
        direction="at_most",
        bounds=values,
        margins=resolve_margins("at_most", values, margin, 0.0, 1.0),
        kind=kind,
    )


def ratio_at_most(
    numerator: str,
    denominator: str,
    bound: float,
    *,
    margin: float | None = None,
    kind: str = "exact",
    name: str | None = None,
) -> Claim:
    """Claim that E[numerator] / E[denominator] is at most `bound`.

    This is how a rate *given selection* is checked: the denominator is the indicator
    of being selected, the numerator that of being selected and wrong. A replication
    without a selection multiplies the evidence by 1, so nothing is conditioned on a
    random number of selections.

    Args:
        numerator: metric in [0, denominator], for example selected and missed.
        denominator: metric in [0, 1], for example selected.
        bound: largest ratio the promise allows, in [0, 1).
        margin: see `at_most`.
        kind: see `at_most`.
        name: what reports call the claim.

    Raises:
        ValueError: as for `at_most`.

    Example:
        >>> from jaxcur import verify
        >>> verify.ratio_at_most("selected_and_missed", "selected", 0.1).name
        'selected_and_missed / selected <= 0.1'
    """
    return _ratio(numerator, denominator, "at_most", bound, margin, kind, name)


def ratio_at_least(
    numerator: str,
    denominator: str,
    bound: float,
    *,
    margin: float | None = None,
    kind: str = "exact",
    name: str | None = None,
) -> Claim:
    """Claim that E[numerator] / E[denominator] is at least `bound`.

    Arguments and errors as for `ratio_at_most`.

    Example:
        >>> from jaxcur import verify
        >>> verify.ratio_at_least("selected_and_hit", "selected", 0.9).margins
        (0.01,)
    """
    return _ratio(numerator, denominator, "at_least", bound, margin, kind, name)


def _ratio(
    numerator: str,
    denominator: str,
    direction: str,
    bound: float,
    margin: float | None,
    kind: str,
    name: str | None,
) -> Claim:
    bounds = (float(bound),)
    check_kind(kind, 0.0, 1.0)
    sides_of(direction, bounds, 0.0, 1.0)
    sign = "<=" if direction == "at_most" else ">="
    return Ratio(
        name=name or f"{numerator} / {denominator} {sign} {bounds[0]:g}",
        metrics=(numerator, denominator),
        direction=direction,
        bounds=bounds,
        margins=resolve_margins(direction, bounds, margin, 0.0, 1.0),
        kind=kind,
    )


def rank_uniform(
    metric: str,
    num_ranks: int,
    *,
    num_cells: int | None = None,
    margin: float | None = None,
    kind: str = "exact",
    name: str | None = None,
) -> Claim:
    """Claim that a rank is uniform on 0 .. num_ranks - 1 (calibration by simulation).

    Refuted by the Dirichlet mixture over cells of neighbouring ranks. Certified when
    the probability of every cell is within the margin of its law; cells of unequal
    size get their exact probabilities.

    Args:
        metric: name of a metric holding one rank per replication.
        num_ranks: number of possible ranks, at least 2.
        num_cells: number of cells; None takes 10, or `num_ranks` if that is smaller.
        margin: see `equals`, on the scale of a cell's probability.
        kind: see `at_most`.
        name: what reports call the claim.

    Raises:
        ValueError: fewer than two ranks or cells, or more cells than ranks.

    Example:
        >>> from jaxcur import verify
        >>> verify.rank_uniform("rank", 100).labels[0]
        'ranks 0-9'
    """
    if num_ranks < 2:
        raise ValueError(f"`num_ranks` must be at least 2, got {num_ranks}")
    cells = min(10, num_ranks) if num_cells is None else int(num_cells)
    if not 2 <= cells <= num_ranks:
        raise ValueError(
            f"`num_cells` must lie between 2 and `num_ranks` = {num_ranks}, got {cells}"
        )
    check_kind(kind, 0.0, 1.0)
    edges = [-(-cell * num_ranks // cells) for cell in range(cells + 1)]
    bounds = tuple(float(size) / num_ranks for size in np.diff(edges))
    return RankUniform(
        name=name or f"{metric} uniform on {num_ranks} ranks",
        metrics=(metric,),
        direction="equals",
        bounds=bounds,
        margins=resolve_margins("equals", bounds, margin, 0.0, 1.0),
        kind=kind,
        num_ranks=int(num_ranks),
    )


def forecast_calibrated(
    forecast: str,
    outcome: str,
    *,
    num_bins: int = 5,
    margin: float = FORECAST_MARGIN,
    kind: str = "exact",
    name: str | None = None,
) -> Claim:
    """Claim that outcomes have the mean the forecast says, whatever the forecast was.

    Refuted by the average, over equal bins of the forecast and both signs, of betting
    processes on outcome - forecast. Certified when in every bin the mean of
    outcome - forecast is within the margin; a bin that is hardly ever used keeps the
    claim INCONCLUSIVE.

    Args:
        forecast: metric holding a probability, or several of shape (r,).
        outcome: metric of the same shape in [0, 1], usually 0 or 1.
        num_bins: number of equal bins of the forecast.
        margin: largest bias certified, on the scale of a probability.
        kind: see `at_most`.
        name: what reports call the claim.

    Raises:
        ValueError: no bin, or a margin outside (0, 1).

    Example:
        >>> from jaxcur import verify
        >>> verify.forecast_calibrated("p", "y").name
        'p calibrated for y'
    """
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1, got {num_bins}")
    check_kind(kind, 0.0, 1.0)
    bounds = (0.0,) * int(num_bins)
    return ForecastCalibrated(
        name=name or f"{forecast} calibrated for {outcome}",
        metrics=(forecast, outcome),
        direction="equals",
        bounds=bounds,
        margins=resolve_margins("equals", bounds, margin, -1.0, 1.0),
        kind=kind,
        lower=-1.0,
        upper=1.0,
    )


def _check_some(name: str, values: Sequence[float]) -> None:
    if not values:
        raise ValueError(f"`{name}` must hold at least one number")
