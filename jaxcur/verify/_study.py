"""A study in progress: sums, stored metrics, first crossings; saved as JSON."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxcur.verify._claims import Claims, Observation
from jaxcur.verify._evidence import (
    DELTA_CERTIFY,
    Evidence,
    evidence,
    is_invalid,
)
from jaxcur.verify._state import Accumulator, State, init_in, update_host
from jaxcur.verify._state import observe as observe_claims
from jaxcur.verify._stored import Stored
from jaxcur.verify._verdicts import Verdict

FORMAT = 1
_KEPT_FAILURES = 10


class Study:
    """Host-side record of one study; everything in float64."""

    def __init__(
        self,
        claims: Claims,
        key: Array,
        *,
        delta_refute: float,
        delta_certify: float | None,
        max_failure_share: float,
        code_version: str | None,
    ) -> None:
        self.claims = claims
        self.delta_refute = delta_refute
        self.delta_certify = delta_certify
        self.max_failure_share = max_failure_share
        self.code_version = code_version
        self.state: State = init_in(np, claims)
        self.stored = [[Stored() for _ in claim.bounds] for claim in claims]
        self.refuted_at: list[int | None] = [None] * len(claims)
        self.certified_at: list[int | None] = [None] * len(claims)
        self.key = describe_key(key)
        self.progress: dict[str, int] = {self.key: 0}
        self.failed: list[int] = []

    @property
    def done(self) -> int:
        """Replications made with the present key."""
        return self.progress[self.key]

    @property
    def replications(self) -> int:
        """Replications made with all keys."""
        return sum(self.progress.values())

    def absorb(self, metrics: Mapping[str, np.ndarray], count: int) -> None:
        """Add the next `count` replications of the present key."""
        observations = observe_claims(np, self.claims, metrics)
        state = update_host(self.state, observations)
        bad = np.zeros(count, bool)
        for observation in observations:
            bad |= observation.failed | observation.outside
        failed = [self.done + int(i) for i in np.flatnonzero(bad)]
        # Nothing above changed the study: an interrupt there leaves it as it was.
        self.state = state
        self.progress[self.key] += count
        self.failed = (self.failed + failed)[:_KEPT_FAILURES]
        for index, claim in enumerate(self.claims):
            if claim.bounded:
                _store(self.stored[index], observations[index])

    def look(self) -> Evidence:
        """Compare the evidence with its boundaries; the first crossing is kept."""
        seen = self.evidence()
        now = self.replications
        for index in range(len(self.claims)):
            if self.refuted_at[index] is None:
                if seen.refute[index] >= -math.log(self.delta_refute):
                    self.refuted_at[index] = now
            if self.certified_at[index] is None and self.delta_certify is not None:
                if seen.certify[index] >= -math.log(self.delta_certify):
                    self.certified_at[index] = now
        return seen

    def evidence(self) -> Evidence:
        """Evidence at this moment."""
        delta = DELTA_CERTIFY if self.delta_certify is None else self.delta_certify
        return evidence(self.state, delta_refute=self.delta_refute, delta_certify=delta)

    def verdicts(self) -> list[Verdict]:
        """Verdicts from the first crossings."""
        result = []
        for index, claim in enumerate(self.claims):
            accumulator = self.state.accumulators[index]
            if bool(is_invalid(claim, accumulator, self.max_failure_share)):
                result.append(Verdict.INVALID)
            elif self.refuted_at[index] is not None:
                result.append(Verdict.REFUTED)
            elif self.certified_at[index] is not None:
                result.append(Verdict.CERTIFIED)
            else:
                result.append(Verdict.INCONCLUSIVE)
        return result

    def num_decided(self) -> int:
        """Claims that need no further replication."""
        count = 0
        for index, verdict in enumerate(self.verdicts()):
            if verdict is Verdict.INVALID:
                # Where failures are tolerated, their share may still fall; a metric
                # out of range, or a failure that no share excuses, is final.
                accumulator = self.state.accumulators[index]
                count += bool(is_invalid(self.claims[index], accumulator, 1.0)) or (
                    self.max_failure_share == 0
                )
            else:
                count += verdict is not Verdict.INCONCLUSIVE
        return count

    def to_json(self) -> dict[str, Any]:
        """Plain values from which `from_json` continues."""
        return {
            "format": FORMAT,
            **self._identity(),
            "progress": dict(self.progress),
            "refuted_at": list(self.refuted_at),
            "certified_at": list(self.certified_at),
            "failed": list(self.failed),
            "accumulators": [
                {
                    name: np.asarray(value).tolist()
                    for name, value in a._asdict().items()
                }
                for a in self.state.accumulators
            ],
            "stored": [[one.to_json() for one in group] for group in self.stored],
        }

    def _identity(self) -> dict[str, Any]:
        return {
            "claims": [claim.describe() for claim in self.claims],
            "code_version": self.code_version,
            "delta_refute": self.delta_refute,
            "delta_certify": self.delta_certify,
        }

    def resume(self, saved: Mapping[str, Any], *, accumulate: bool) -> None:
        """Continue from what `to_json` gave; refuses the state of another study."""
        missing = self.to_json().keys() - saved.keys()
        if missing:
            raise ValueError(
                f"the saved state is incomplete: no {sorted(missing)[0]!r}"
            )
        if saved["format"] != FORMAT:
            raise ValueError(
                f"the saved state has format {saved['format']!r}, expected {FORMAT}"
            )
        for name, value in self._identity().items():
            if saved[name] != value:
                raise ValueError(
                    f"the saved state belongs to another study: its {name} is "
                    f"{_short(saved[name])}, now it is {_short(value)}; "
                    "use another file, or delete this one to start again"
                )
        progress = {str(name): int(n) for name, n in saved["progress"].items()}
        if self.key not in progress and not accumulate:
            raise ValueError(
                "the saved state was made with another key; pass the same key to "
                "continue, or accumulate=True to add replications with a fresh one"
            )
        self.failed = list(saved["failed"]) if self.key in progress else []
        self.progress = {**progress, self.key: progress.get(self.key, 0)}
        self.refuted_at = list(saved["refuted_at"])
        self.certified_at = list(saved["certified_at"])
        template = init_in(np, self.claims).accumulators
        accumulators = []
        for zero, values in zip(template, saved["accumulators"], strict=True):
            fields = {
                name: np.asarray(values[name], like.dtype).reshape(like.shape)
                for name, like in zero._asdict().items()
            }
            accumulators.append(Accumulator(**fields))
        self.state = State(self.claims, tuple(accumulators))
        self.stored = [
            [Stored.from_json(one) for one in group] for group in saved["stored"]
        ]


def _store(stored: list[Stored], observation: Observation) -> None:
    numerator, denominator, failed, outside, binary = observation
    if binary:
        return
    live = ~(failed | outside)
    for k, one in enumerate(stored):
        top, bottom = numerator[:, k], denominator[:, k]
        atom = (bottom == 0) & (top == 0)
        atom |= (bottom == 1) & ((top == 0) | (top == 1))
        keep = live & ~atom
        if keep.any():
            one.append(top[keep], bottom[keep])


def describe_key(key: Array) -> str:
    """A key as text."""
    data = np.asarray(jax.random.key_data(key)).tolist()
    return f"{jax.random.key_impl(key)}:{'-'.join(str(word) for word in data)}"


def read_saved(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The saved state at `path`, or None where there is no file yet."""
    file = Path(path)
    if not file.exists():
        return None
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{file} is not a saved state: {error}; delete it to start again"
        ) from error
    if not isinstance(saved, dict):
        raise ValueError(f"{file} is not a saved state; delete it to start again")
    return saved


def write_saved(path: str | os.PathLike[str], saved: Mapping[str, Any]) -> None:
    """Write and then rename, so that an interrupt leaves the old file or the new."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_text(json.dumps(saved), encoding="utf-8")
    os.replace(part, file)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
