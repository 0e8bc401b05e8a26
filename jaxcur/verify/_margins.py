"""How far beyond the bound a certificate may reach, and which bounds make sense."""

import math
from collections.abc import Sequence

DEFAULT_SHARE = 0.1
DEFAULT_FLOOR = 0.0025


def sides_of(
    direction: str, bounds: Sequence[float], lower: float, upper: float
) -> tuple[str, ...]:
    """Which sides of the bound are tested: "upper" is violated by large means.

    A claim that no metric in the range can violate is refused: it would be certified
    by definition and say nothing.
    """
    for bound in bounds:
        if not math.isfinite(bound):
            raise ValueError(f"`bound` must be a finite number, got {bound}")
        if not lower <= bound <= upper:
            raise ValueError(
                f"`bound` must lie in the metric's range [{lower:g}, {upper:g}], "
                f"got {bound:g}; state another range with `lower=` and `upper=`"
            )
        if direction == "at_most" and bound == upper:
            raise ValueError(
                f"at_most {bound:g} holds for every metric in "
                f"[{lower:g}, {upper:g}]: nothing to check"
            )
        if direction == "at_least" and bound == lower:
            raise ValueError(
                f"at_least {bound:g} holds for every metric in "
                f"[{lower:g}, {upper:g}]: nothing to check"
            )
    if direction == "at_most":
        return ("upper",)
    if direction == "at_least":
        return ("lower",)
    # At an end of the range only one side can be violated.
    if all(bound == lower for bound in bounds):
        return ("upper",)
    if all(bound == upper for bound in bounds):
        return ("lower",)
    return ("upper", "lower")


def default_margin(
    direction: str,
    bound: float,
    lower: float,
    upper: float,
    share: float = DEFAULT_SHARE,
    floor: float = DEFAULT_FLOOR,
) -> float:
    """A tenth of the bound, at least 0.0025 of the range; never out of the range.

    For claims from below the tenth is of the smaller distance to the range's ends:
    a coverage of at least 0.9 means a miss rate of at most 0.1, so both get 0.01.
    """
    size = abs(bound)
    if direction != "at_most":
        size = min(size, upper - bound)
    margin = max(share * size, floor * (upper - lower))
    room = {"at_most": upper - bound, "at_least": bound - lower}.get(direction)
    # Rounded: a residue such as 0.1 * (1 - 0.9) has no place in a printed promise.
    return round(margin if room is None else min(margin, room / 2), 12)


def resolve_margins(
    direction: str,
    bounds: Sequence[float],
    margin: float | Sequence[float] | None,
    lower: float,
    upper: float,
    share: float = DEFAULT_SHARE,
    floor: float = DEFAULT_FLOOR,
) -> tuple[float, ...]:
    """The margins given, checked, or the default ones."""
    bounded = math.isfinite(lower) and math.isfinite(upper)
    if margin is None:
        if not bounded:
            raise ValueError(
                "`margin` must be given for a metric without a finite range: there "
                "is no scale to take a default from"
            )
        return tuple(
            default_margin(direction, bound, lower, upper, share, floor)
            for bound in bounds
        )
    if isinstance(margin, int | float):
        margins = (float(margin),) * len(bounds)
    else:
        margins = tuple(float(value) for value in margin)
    if len(margins) != len(bounds):
        raise ValueError(
            f"`margin` must be one number or one per bound ({len(bounds)}), "
            f"got {len(margins)}"
        )
    for value, bound in zip(margins, bounds, strict=True):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(
                f"`margin` must be positive, got {value}: no finite study certifies a "
                "bound with margin zero; to refute only, pass delta_certify=None"
            )
        above, below = upper - bound, bound - lower
        room = {"at_most": above, "at_least": below}.get(direction, max(above, below))
        if value >= room:
            raise ValueError(
                f"`margin` {value:g} reaches the end of the metric's range "
                f"[{lower:g}, {upper:g}] from the bound {bound:g}, where a certificate "
                "says nothing; choose a smaller one"
            )
    return margins
