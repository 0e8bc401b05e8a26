"""What a study found, one row per claim."""

import dataclasses
import math
from typing import Any

import numpy as np

from jaxcur.verify._asymptotic import sequence_radius
from jaxcur.verify._claims import Claim
from jaxcur.verify._evidence import components
from jaxcur.verify._interval import invert
from jaxcur.verify._processes import REFUTE
from jaxcur.verify._study import Study
from jaxcur.verify._verdicts import Verdict


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """Outcome for one claim.

    Attributes:
        claim: the claim.
        verdict: the answer.
        estimate: mean of the metric, failed replications counted as the worst value;
            for a claim with several components, of the one with most evidence against
            it, named in `component`.
        lower: lower end of an interval valid at all times.
        upper: upper end of it.
        component: name of that component, or an empty string.
        bound: its bound.
        margin: its margin.
        log_evidence: against the claim; REFUTED at log(1 / delta_refute).
        log_certificate: for the claim up to its margin; CERTIFIED at
            log(1 / delta_certify).
        replications: how many were made.
        failures: how many of them failed.
        outside: how many left the stated range.
        refuted_at: replications when the refutation crossed, or None.
        certified_at: replications when the certificate crossed, or None.
        estimates: all components.
    """

    claim: Claim
    verdict: Verdict
    estimate: float
    lower: float
    upper: float
    component: str
    bound: float
    margin: float
    log_evidence: float
    log_certificate: float
    replications: int
    failures: int
    outside: int
    refuted_at: int | None
    certified_at: int | None
    estimates: tuple[float, ...]

    @property
    def name(self) -> str:
        """Name of the claim."""
        return self.claim.name

    @property
    def tag(self) -> str:
        """The verdict, marked when the promise or the test is asymptotic."""
        mark = " (asymptotic)" if self.claim.kind == "asymptotic" else ""
        return f"{self.verdict}{mark}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, in the order of the table's columns."""
        return {
            "claim": self.name,
            "verdict": str(self.verdict),
            "kind": self.claim.kind,
            "direction": self.claim.direction,
            "bound": self.bound,
            "margin": self.margin,
            "component": self.component,
            "estimate": self.estimate,
            "lower": self.lower,
            "upper": self.upper,
            "log_evidence": self.log_evidence,
            "log_certificate": self.log_certificate,
            "replications": self.replications,
            "failures": self.failures,
            "outside": self.outside,
            "refuted_at": self.refuted_at,
            "certified_at": self.certified_at,
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """Outcome of a study, whole or interrupted.

    Attributes:
        results: one `ClaimResult` per claim.
        replications: how many were made, over all keys.
        interrupted: whether a person stopped the run.
        failed_indices: up to ten indices of replications that failed or left their
            range; `simulate(..., start=i, num_replications=1)` runs one again.
        confidence_level: of the intervals.
        saved: the state, as plain values; `check(..., state=report.saved)` goes on.
    """

    results: tuple[ClaimResult, ...]
    replications: int
    interrupted: bool
    failed_indices: tuple[int, ...]
    confidence_level: float
    saved: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """Verdict by claim name: a pytree of small integers."""
        return {result.name: result.verdict for result in self.results}

    def __getitem__(self, claim: str | int | Claim) -> ClaimResult:
        """Result of a claim, by its name, its position or itself."""
        if isinstance(claim, int):
            return self.results[claim]
        name = claim.name if isinstance(claim, Claim) else claim
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(f"no claim {name!r}; there are {list(self.verdicts)}")

    def to_frame(self) -> Any:
        """A pandas data frame, one row per claim. Host only."""
        import pandas

        rows = [result.to_dict() for result in self.results]
        frame = pandas.DataFrame(rows)
        for column in ("refuted_at", "certified_at"):
            frame[column] = frame[column].astype("Int64")
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the state."""
        return {
            "replications": self.replications,
            "interrupted": self.interrupted,
            "failed_indices": list(self.failed_indices),
            "confidence_level": self.confidence_level,
            "claims": [_finite(result.to_dict()) for result in self.results],
        }

    def survey(self, level: float) -> dict[str, bool]:
        """Claims refuted at false discovery rate `level`, by e-BH on final evidence.

        Guarantee: the expected share of true claims among those marked is at most
        `level`, under any dependence between them. For surveys of many cells, where
        one wrong mark among many right ones does no harm.
        """
        from jaxcur.stats import e_bh

        # exp overflows float32 at 88 nats; any number above 1e30 acts the same.
        logs = [min(result.log_evidence, 69.0) for result in self.results]
        marked = np.asarray(e_bh(np.exp(np.asarray(logs, np.float64)), level))
        return {
            result.name: bool(mark)
            for result, mark in zip(self.results, marked, strict=True)
        }

    def __str__(self) -> str:
        """A table for people."""
        head = ("claim", "margin", "estimate", "interval", "evidence", "n", "verdict")
        rows: list[tuple[str, ...]] = [head]
        for r in self.results:
            name = f"{r.name} [{r.component}]" if r.component else r.name
            rows.append(
                (
                    name,
                    f"{r.margin:g}",
                    f"{r.estimate:.4g}",
                    f"[{r.lower:.4g}, {r.upper:.4g}]",
                    f"{r.log_evidence:.1f} / {r.log_certificate:.1f}",
                    str(r.replications),
                    r.tag + _remarks(r),
                )
            )
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(v.ljust(w) for v, w in zip(r, widths)).rstrip() for r in rows
        ]
        if self.interrupted:
            lines.append("interrupted: the verdicts stand, INCONCLUSIVE means so far")
        return "\n".join(lines)


def assert_not_refuted(report: Report) -> None:
    """Raise AssertionError for a claim that is REFUTED or INVALID; for tests.

    Args:
        report: from `check`.

    Raises:
        AssertionError: the message names each such claim with its estimate, interval,
            replications and failures.

    Example:
        >>> import jax
        >>> from jaxcur import verify
        >>> def replicate(key):
        ...     return {"miss": jax.random.uniform(key) < 0.1}
        >>> report = verify.check(
        ...     replicate, verify.at_most("miss", 0.1), key=jax.random.key(0),
        ...     max_replications=1024,
        ... )
        >>> verify.assert_not_refuted(report)
    """
    lines = []
    for r in report.results:
        if r.verdict not in (Verdict.REFUTED, Verdict.INVALID):
            continue
        component = f" at {r.component}" if r.component else ""
        lines.append(
            f"{r.tag}: claim {r.name!r}{component}: estimate {r.estimate:.6g}, "
            f"{report.confidence_level:.4g} interval [{r.lower:.6g}, {r.upper:.6g}], "
            f"bound {r.bound:g}, {r.replications} replications{_remarks(r)}"
        )
    if lines:
        if report.failed_indices:
            lines.append(
                f"replications to run again alone: {list(report.failed_indices)}"
            )
        raise AssertionError("\n".join(lines))


def make_report(study: Study, confidence_level: float, interrupted: bool) -> Report:
    """Report of a study as it stands."""
    verdicts = study.verdicts()
    seen = study.evidence()
    results = [
        _result(
            study,
            index,
            verdicts[index],
            (float(seen.refute[index]), float(seen.certify[index])),
            1 - confidence_level,
        )
        for index in range(len(study.claims))
    ]
    return Report(
        results=tuple(results),
        replications=study.replications,
        interrupted=interrupted,
        failed_indices=tuple(study.failed),
        confidence_level=confidence_level,
        saved=study.to_json(),
    )


def _result(
    study: Study,
    index: int,
    verdict: Verdict,
    evidence: tuple[float, float],
    delta: float,
) -> ClaimResult:
    claim = study.claims[index]
    accumulator = study.state.accumulators[index]
    parts = components(np, claim, accumulator, study.delta_refute, study.delta_refute)
    worst = int(np.argmax(parts[REFUTE].max(axis=0)))
    estimates = _estimates(claim, accumulator)
    # The component shown was chosen by looking: its interval covers all of them.
    share = delta / len(claim.bounds)
    low, high = _interval(study, index, worst, share)
    return ClaimResult(
        claim=claim,
        verdict=verdict,
        estimate=estimates[worst],
        lower=low,
        upper=high,
        component=claim.labels[worst],
        bound=claim.bounds[worst],
        margin=claim.margins[worst],
        log_evidence=evidence[0],
        log_certificate=evidence[1],
        replications=int(accumulator.replications),
        failures=int(accumulator.failures),
        outside=int(accumulator.outside),
        refuted_at=study.refuted_at[index],
        certified_at=study.certified_at[index],
        estimates=tuple(estimates),
    )


def _estimates(claim: Claim, accumulator: Any) -> list[float]:
    bad = int(accumulator.failures + accumulator.outside)
    first, second = accumulator.moments + accumulator.moments_low
    if not claim.bounded:
        live = int(accumulator.replications) - bad
        means = first / live if live else np.full(first.shape, math.nan)
        return [float(value) for value in means + claim.unit_bounds]
    top = first + accumulator.ones
    bottom = second + accumulator.ones + accumulator.zeros
    # The worst value: 1 where only large means are wrong, 0 where only small ones;
    # for an equality, the end farther from the bound.
    if claim.direction == "equals":
        worst = (claim.unit_bounds < 0.5).astype(float)
    else:
        worst = np.full(top.shape, float(claim.direction == "at_most"))
    top, bottom = top + bad * worst, bottom + bad
    unit = np.divide(top, bottom, out=np.full(top.shape, math.nan), where=bottom > 0)
    return [float(v) for v in claim.lower + (claim.upper - claim.lower) * unit]


def _interval(
    study: Study, index: int, component: int, delta: float
) -> tuple[float, float]:
    claim = study.claims[index]
    accumulator = study.state.accumulators[index]
    bad = int(accumulator.failures + accumulator.outside)
    if not claim.bounded:
        return _asymptotic_interval(claim, accumulator, bad, delta)
    low, high, bottom, counts = study.stored[index][component].pairs()
    ones = int(accumulator.ones[component])
    zeros = int(accumulator.zeros[component])
    # A failed replication is the smallest value for the lower end, and the largest
    # for the upper one.
    ends = invert(
        low, high, bottom, counts, (ones, ones + bad), (zeros + bad, zeros), delta
    )
    width = claim.upper - claim.lower
    return claim.lower + width * ends[0], claim.lower + width * ends[1]


def _asymptotic_interval(
    claim: Claim, accumulator: Any, bad: int, delta: float
) -> tuple[float, float]:
    live = int(accumulator.replications) - bad
    if live == 0:
        return -math.inf, math.inf
    total, squares = (accumulator.moments + accumulator.moments_low)[:, 0]
    mean = float(total) / live
    variance = float(squares) / live - mean**2
    radius = sequence_radius(live, variance, delta)
    centre = mean + claim.bounds[0]
    return max(claim.lower, centre - radius), min(claim.upper, centre + radius)


def _remarks(result: ClaimResult) -> str:
    parts = []
    if result.failures:
        parts.append(f"{result.failures} failures")
    if result.outside:
        parts.append(f"{result.outside} out of range")
    if result.verdict is Verdict.REFUTED and result.certified_at is not None:
        parts.append(f"was certified at {result.certified_at}")
    return f" ({', '.join(parts)})" if parts else ""


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Infinities and NaN as text: strict JSON has neither."""
    return {
        name: repr(value)
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in row.items()
    }
