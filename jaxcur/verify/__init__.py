"""Does a procedure keep its promise? Checked by simulation, at an honest error rate.

A replicate function draws one world, runs the procedure and returns metrics. `check`
repeats it and answers each claim with REFUTED, CERTIFIED, INCONCLUSIVE or INVALID;
the answer stays valid however often anybody looks. `init`, `update`, `merge` and
`verdict` are the pure parts from which another loop can be built.
"""

from jaxcur.verify._builders import (
    all_at_most,
    at_least,
    at_most,
    equals,
    forecast_calibrated,
    rank_uniform,
    ratio_at_least,
    ratio_at_most,
    super_uniform,
)
from jaxcur.verify._check import check
from jaxcur.verify._claims import Claim
from jaxcur.verify._closed_forms import log_evidence, rank_log_evidence
from jaxcur.verify._evidence import Evidence, evidence, verdict
from jaxcur.verify._interval import mean_interval, rate_interval
from jaxcur.verify._plan import plan
from jaxcur.verify._report import ClaimResult, Report, assert_not_refuted
from jaxcur.verify._simulate import simulate
from jaxcur.verify._state import State, init, merge, update
from jaxcur.verify._verdicts import Verdict

__all__ = [
    "check",
    "Report",
    "ClaimResult",
    "Verdict",
    "assert_not_refuted",
    "Claim",
    "at_most",
    "at_least",
    "equals",
    "all_at_most",
    "super_uniform",
    "ratio_at_most",
    "ratio_at_least",
    "rank_uniform",
    "forecast_calibrated",
    "plan",
    "State",
    "init",
    "update",
    "merge",
    "verdict",
    "Evidence",
    "evidence",
    "simulate",
    "log_evidence",
    "rank_log_evidence",
    "rate_interval",
    "mean_interval",
]
