"""Every promise the documentation makes, with the worlds that test it.

A guarantee names its assumptions, simulates a world where the truth is known, and
carries power floors (a method that does nothing fails) and mutants (wrong procedures
that the same check must refute). `run` simulates them through `jaxcur.verify`; on the
command line, `jaxcur verify`.
"""

from jaxcur.guarantees._registry import Entry, Guarantee, Part
from jaxcur.guarantees._run import TIERS, ClaimResult, Tier, get, names, run

__all__ = [
    "TIERS",
    "ClaimResult",
    "Entry",
    "Guarantee",
    "Part",
    "Tier",
    "get",
    "names",
    "run",
]
