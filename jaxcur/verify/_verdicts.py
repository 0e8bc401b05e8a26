"""The four answers a study can give."""

import enum


class Verdict(enum.IntEnum):
    """Answer to one claim; a small integer with a name.

    `INCONCLUSIVE`: the budget is used up and neither boundary was reached.
    `CERTIFIED`: evidence that the mean keeps the bound up to the margin.
    `REFUTED`: evidence that the claim is false.
    `INVALID`: replications failed, or a metric left its stated range.
    """

    INCONCLUSIVE = 0
    CERTIFIED = 1
    REFUTED = 2
    INVALID = 3

    def __str__(self) -> str:
        return self.name
