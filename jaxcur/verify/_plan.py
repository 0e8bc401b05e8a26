"""How many replications a claim will need, before starting."""

import math

import numpy as np

from jaxcur.verify._asymptotic import T_MIN, sequence_evidence
from jaxcur.verify._claims import Claim
from jaxcur.verify._closed_forms import NUM_BETS
from jaxcur.verify._evidence import DELTA_CERTIFY, DELTA_REFUTE


def plan(
    claim: Claim,
    *,
    mean: float | None = None,
    delta_refute: float = DELTA_REFUTE,
    delta_certify: float = DELTA_CERTIFY,
    standard_deviation: float | None = None,
) -> int:
    """Replications a claim on a 0/1 metric needs until its verdict.

    With true rate p and edge m:  n = (log(1 / delta) + log 18) / KL(p || m).

    By default the true mean sits at the bound and the edge is the margin's: the number
    needed to certify the hardest true case. With `mean` beyond the bound it is the
    number needed to refute. A metric that varies less than a 0/1 one, such as a false
    discovery proportion with many selections, needs far fewer.

    Heuristic: no finite-sample guarantee; close to the median number, on its far side.

    Args:
        claim: the claim; with several components, the slowest counts.
        mean: true mean, on the metric's scale; None is the bound.
        delta_refute: error rate of a refutation.
        delta_certify: error rate of a certificate.
        standard_deviation: of a metric without a finite range; required there.

    Returns:
        A number of replications, at least 1.

    Raises:
        ValueError: a mean outside the range, or so far beyond the margin's edge on the
            true side that nothing is tested, or a missing standard deviation.

    Example:
        >>> from jaxcur import verify
        >>> verify.plan(verify.at_most("miss", 0.1, margin=0.01))
        18665
        >>> verify.plan(verify.at_most("miss", 0.1), mean=0.15)
        1365
    """
    needs = []
    for bound, margin in zip(claim.bounds, claim.margins, strict=True):
        true = bound if mean is None else float(mean)
        if not claim.lower <= true <= claim.upper:
            raise ValueError(
                f"`mean` must lie in [{claim.lower:g}, {claim.upper:g}], got {true:g}"
            )
        violated = [
            side
            for side in claim.sides
            if (true > bound if side == "upper" else true < bound)
        ]
        if violated:
            needs.append(_need(claim, true, bound, delta_refute, standard_deviation))
            continue
        for side in claim.sides:
            edge = bound + margin if side == "upper" else bound - margin
            if claim.lower < edge < claim.upper:
                needs.append(
                    _need(claim, true, edge, delta_certify, standard_deviation)
                )
    return max(needs)


def _need(
    claim: Claim, true: float, edge: float, delta: float, deviation: float | None
) -> int:
    if not claim.bounded:
        if deviation is None or not deviation > 0:
            raise ValueError(
                "a metric without a finite range needs a positive "
                f"`standard_deviation` to plan with, got {deviation}"
            )
        return _asymptotic_need(abs(true - edge) / deviation, delta)
    width = claim.upper - claim.lower
    p, m = (true - claim.lower) / width, (edge - claim.lower) / width
    nats = math.log(1 / delta) + math.log(NUM_BETS)
    if m <= 0 or m >= 1:
        # A single metric off the end contradicts a bound at the end.
        rate = p if m <= 0 else 1 - p
        return max(1, math.ceil(math.log(1 / delta) / -math.log1p(-rate)))
    divergence = 0.0
    if p > 0:
        divergence += p * math.log(p / m)
    if p < 1:
        divergence += (1 - p) * math.log((1 - p) / (1 - m))
    # Rounded, not up: the figure is an approximation and is quoted as such.
    return max(1, round(nats / divergence))


def _asymptotic_need(effect: float, delta: float) -> int:
    goal = math.log(1 / delta)

    def reached(count: int) -> bool:
        n = np.float64(count)
        squares = n * (1 + effect**2)
        value = sequence_evidence(np, n, n * effect, squares, 0.0, delta)
        return bool(value >= goal)

    high = T_MIN
    while not reached(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return max(high, T_MIN)
