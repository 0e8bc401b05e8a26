"""What an entry of the registry is, and how its parts are named."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from jax import Array

from jaxcur.verify import Claim

Replicate = Callable[[Array], Mapping[str, Any]]
Role = Literal["promise", "floor", "mutant"]


@dataclasses.dataclass(frozen=True)
class Part:
    """One claim that is simulated on its own line.

    Attributes:
        suffix: what distinguishes it within its guarantee; empty for the main promise.
        claim: the statement on a metric.
        role: "promise"; "floor", a least power, so that a method that does nothing
            fails; or "mutant", a wrong procedure of which the claim must be REFUTED.
        text: one sentence; for a mutant, what is broken.
        replicate: the simulation of a mutant; None shares that of the guarantee.
    """

    suffix: str
    claim: Claim
    role: Role = "promise"
    text: str = ""
    replicate: Replicate | None = None


@dataclasses.dataclass(frozen=True)
class Guarantee:
    """A promise in one world, with its power floors and its mutants.

    Attributes:
        name: family/world.
        promise: what is promised, in one sentence.
        assumptions: what must hold for it.
        replicate: one replication, from a key to a dict of metrics.
        parts: the claims on those metrics, and the mutants.
        kind: "exact" for finite samples, "asymptotic" otherwise.
    """

    name: str
    promise: str
    assumptions: str
    replicate: Replicate
    parts: tuple[Part, ...]
    kind: str = "exact"

    def part_name(self, part: Part) -> str:
        """Name of a part as the command line knows it."""
        mark = "mutant-" if part.role == "mutant" else ""
        return f"{self.name}:{mark}{part.suffix}" if part.suffix else self.name


@dataclasses.dataclass(frozen=True)
class Entry:
    """A part together with its guarantee: what a name stands for."""

    name: str
    guarantee: Guarantee
    part: Part

    @property
    def promise(self) -> str:
        """What is claimed, in one sentence."""
        if self.part.role == "mutant":
            return f"must be refuted: {self.part.text}"
        if self.part.role == "floor":
            return f"power floor: {self.part.claim.name}"
        return self.part.text or self.guarantee.promise

    @property
    def expected(self) -> str:
        """The verdict that a sound library gets."""
        return "REFUTED" if self.part.role == "mutant" else "CERTIFIED"


def mutant(suffix: str, text: str, claim: Claim, replicate: Replicate) -> Part:
    """A wrong procedure that the claim must refute."""
    return Part(suffix, claim, "mutant", text, replicate)


def floor(claim: Claim, suffix: str = "power") -> Part:
    """A least power, against vacuous procedures."""
    return Part(suffix, claim, "floor")
