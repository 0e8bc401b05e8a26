"""Conformal inference: choose candidates, predict with sets, control a risk.

Selection: score rows with a score family, then `select` (one model), with the false
discovery rate under control in finite samples, whatever the model.
"""

from jaxcur.conformal._auxiliary import auxiliary_sizes
from jaxcur.conformal._histogram import RankHistogram
from jaxcur.conformal._optcs import (
    OptCSResult,
    bh_after_optcs,
    naive_best_of_k,
    optcs_msel,
)
from jaxcur.conformal._optcs_full import optcs_full, optcs_full_msel
from jaxcur.conformal._prune import prune
from jaxcur.conformal._pvalues import p_values
from jaxcur.conformal._scores import (
    BinaryScore,
    ClipScore,
    RelevantScore,
    ResidualScore,
    ScaledResidualScore,
)
from jaxcur.conformal._selection import SelectionResult, select
from jaxcur.conformal._status import STATUS

__all__ = [
    "STATUS",
    "BinaryScore",
    "ClipScore",
    "OptCSResult",
    "RankHistogram",
    "RelevantScore",
    "ResidualScore",
    "ScaledResidualScore",
    "SelectionResult",
    "auxiliary_sizes",
    "bh_after_optcs",
    "naive_best_of_k",
    "optcs_full",
    "optcs_full_msel",
    "optcs_msel",
    "p_values",
    "prune",
    "select",
]
