"""Simulate chosen claims at a tier of evidence, resumably."""

import dataclasses
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
from jax import Array

from jaxcur import verify
from jaxcur._base import check_choice
from jaxcur.guarantees._catalogue import GUARANTEES
from jaxcur.guarantees._registry import Entry, Guarantee, Part

TierName = Literal["smoke", "standard", "release"]


@dataclasses.dataclass(frozen=True)
class Tier:
    """How much evidence is gathered.

    Attributes:
        max_replications: budget per claim.
        margin_share: margin as a share of the bound (at least 0.0025); None: the claim
            can only be refuted. A claim without a finite range keeps its own margin.
        delta_refute: error rate of refutations.
        delta_certify: error rate of certificates.
    """

    max_replications: int
    margin_share: float | None
    delta_refute: float = 1e-6
    delta_certify: float | None = 1e-3


TIERS = {
    "smoke": Tier(4_096, None, delta_certify=None),
    "standard": Tier(65_536, 0.1),
    "release": Tier(1_048_576, 0.025),
}


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """Outcome of one claim.

    Attributes:
        name: name in the registry.
        promise: what was claimed.
        metric: the metric, with the component that decided where there are several.
        bound: the claimed bound.
        margin: a certificate reads "bound up to margin".
        estimate: mean of the metric.
        lower: lower end of the interval, valid at all times.
        upper: upper end.
        replications: how many were made.
        verdict: REFUTED, CERTIFIED, INCONCLUSIVE or INVALID.
        expected: CERTIFIED for promises and floors, REFUTED for mutants.
        kind: "exact" or "asymptotic".
        tier: the tier it was run at.
        seconds: wall-clock time, compilation included.
    """

    name: str
    promise: str
    metric: str
    bound: float
    margin: float
    estimate: float
    lower: float
    upper: float
    replications: int
    verdict: str
    expected: str
    kind: str
    tier: str
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether this should turn a build red."""
        if self.verdict == "INVALID":
            return True
        if self.expected == "REFUTED":
            # A smoke run may be too short to refute a subtle mutant.
            return self.tier != "smoke" and self.verdict != "REFUTED"
        return self.verdict == "REFUTED"


def names() -> tuple[str, ...]:
    """Names of all claims, in order: promises, their floors, their mutants.

    Returns:
        Tuple of strings, shape (number of claims,).

    Example:
        >>> from jaxcur import guarantees
        >>> guarantees.names()[0]
        'p_values/n9'
    """
    return tuple(entry.name for entry in _entries())


def get(name: str) -> Entry:
    """The entry of a name.

    Raises:
        KeyError: there is no such claim.

    Example:
        >>> from jaxcur import guarantees
        >>> guarantees.get("select/one-candidate").expected
        'CERTIFIED'
    """
    for entry in _entries():
        if entry.name == name:
            return entry
    raise KeyError(f"no claim is called {name!r}; guarantees.names() lists them")


def run(
    wanted: Iterable[str] | None = None,
    *,
    tier: TierName = "smoke",
    key: Array,
    progress: bool | None = None,
    state_path: str | os.PathLike[str] | None = None,
    on_result: Callable[[ClaimResult], None] | None = None,
) -> list[ClaimResult]:
    """Simulate claims until each has its verdict or the budget of the tier is used.

    Args:
        wanted: names from `names()`; None for all.
        tier: "smoke" (4096 replications, refutes only), "standard" (65 536, margin 10 %
            of the bound), "release" (1 048 576, margin 2.5 %).
        key: random key (a scalar); each guarantee folds its name into it.
        progress: as in `verify.check`.
        state_path: JSON file that keeps finished results and interrupted studies; a run
            with the same tier and key goes on from it.
        on_result: called with each result as it comes.

    Returns:
        One ClaimResult per name, in registry order.

    Raises:
        KeyError: an unknown name.
        ValueError: an unknown tier, or a state of another tier, key or version.
        KeyboardInterrupt: after what was computed has been saved.
    """
    check_choice("tier", tier, tuple(TIERS))
    chosen = tuple(names() if wanted is None else wanted)
    for name in chosen:
        get(name)
    state = _State(state_path, tier, key)
    results: list[ClaimResult] = []

    def report(result: ClaimResult) -> None:
        results.append(result)
        if on_result is not None:
            on_result(result)

    for guarantee in GUARANTEES:
        for group in _groups(guarantee, chosen):
            done = [state.result(guarantee.part_name(part)) for part in group]
            found = [result for result in done if result is not None]
            if len(found) < len(group):
                found = _study(guarantee, group, tier, key, progress, state)
            for result in found:
                report(result)
    order = {name: i for i, name in enumerate(names())}
    return sorted(results, key=lambda result: order[result.name])


def _entries() -> Iterator[Entry]:
    for guarantee in GUARANTEES:
        for part in guarantee.parts:
            yield Entry(guarantee.part_name(part), guarantee, part)


def _groups(guarantee: Guarantee, chosen: tuple[str, ...]) -> list[tuple[Part, ...]]:
    """Parts that share one simulation: promises and floors; each mutant alone."""
    parts = [p for p in guarantee.parts if guarantee.part_name(p) in chosen]
    shared = tuple(p for p in parts if p.role != "mutant")
    alone = [(p,) for p in parts if p.role == "mutant"]
    return ([shared] if shared else []) + alone


def _study(
    guarantee: Guarantee,
    group: tuple[Part, ...],
    tier: str,
    key: Array,
    progress: bool | None,
    state: "_State",
) -> list[ClaimResult]:
    settings = TIERS[tier]
    is_mutant = group[0].role == "mutant"
    delta_certify = None if is_mutant else settings.delta_certify
    claims = tuple(
        dataclasses.replace(_with_margin(part, settings), name=part.suffix or "main")
        for part in group
    )
    label = "+".join(guarantee.part_name(part) for part in group)
    start = time.perf_counter()
    report = verify.check(
        group[0].replicate or guarantee.replicate,
        claims,
        key=jax.random.fold_in(key, zlib.crc32(guarantee.name.encode())),
        max_replications=settings.max_replications,
        delta_refute=settings.delta_refute,
        delta_certify=delta_certify,
        progress=progress,
        state=state.unfinished(label),
    )
    seconds = time.perf_counter() - start
    if report.interrupted:
        state.interrupt(label, report.saved)
        raise KeyboardInterrupt
    results = []
    for part, outcome in zip(group, report.results, strict=True):
        entry = Entry(guarantee.part_name(part), guarantee, part)
        metric = " / ".join(outcome.claim.metrics)
        component = f" ({outcome.component})" if outcome.component else ""
        results.append(
            ClaimResult(
                name=entry.name,
                promise=entry.promise,
                metric=metric + component,
                bound=outcome.bound,
                margin=outcome.margin,
                estimate=outcome.estimate,
                lower=outcome.lower,
                upper=outcome.upper,
                replications=outcome.replications,
                verdict=str(outcome.verdict),
                expected=entry.expected,
                kind=outcome.claim.kind,
                tier=tier,
                seconds=seconds / len(group),
            )
        )
    state.finish(label, results)
    return results


def _with_margin(part: Part, settings: Tier) -> verify.Claim:
    # Without a range there is no scale for a share: such a claim states its margin.
    if settings.margin_share is None or not part.claim.bounded:
        return part.claim
    return part.claim.with_margin(share=settings.margin_share)


class _State:
    """Finished results and interrupted studies in one JSON file."""

    def __init__(self, path: Any, tier: str, key: Array) -> None:
        from jaxcur import __version__

        self.path = None if path is None else Path(path)
        data = jax.random.key_data(key).tolist()
        identity = {"version": __version__, "tier": tier, "key": data}
        self.content: dict[str, Any] = {**identity, "results": {}, "unfinished": {}}
        if self.path is None or not self.path.exists():
            return
        try:
            saved = json.loads(self.path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path} is not a saved run: {error}") from error
        for name, value in identity.items():
            if saved.get(name) != value:
                raise ValueError(
                    f"{self.path} holds a run with {name} {saved.get(name)}, not "
                    f"{value}; choose another file"
                )
        self.content = saved

    def result(self, name: str) -> ClaimResult | None:
        fields = self.content["results"].get(name)
        return None if fields is None else ClaimResult(**fields)

    def unfinished(self, label: str) -> dict[str, Any] | None:
        return self.content["unfinished"].get(label)

    def interrupt(self, label: str, saved: dict[str, Any]) -> None:
        self.content["unfinished"][label] = saved
        self._write()

    def finish(self, label: str, results: list[ClaimResult]) -> None:
        self.content["unfinished"].pop(label, None)
        for result in results:
            self.content["results"][result.name] = dataclasses.asdict(result)
        self._write()

    def _write(self) -> None:
        if self.path is None:
            return
        # Written aside and moved, so that a killed run leaves a whole file.
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(self.content), encoding="utf-8")
        partial.replace(self.path)
