"""Conformal inference: choose candidates, predict with sets, control a risk.

Selection: score rows with a score family, then `select` (one model), `optcs_msel` (many
models) or `optcs_full` (no sample split), with the false discovery rate under control
in finite samples, whatever the model. Sets: `split_interval` and its relatives cover
the label with a stated probability. `risk_control` bounds any monotone loss.
"""

from jaxcur.conformal._alignment import AlignmentResult, align
from jaxcur.conformal._auxiliary import auxiliary_sizes
from jaxcur.conformal._conditional import conditional_bounds, conditional_p_values
from jaxcur.conformal._evalues import (
    DerandomizedResult,
    boost_e_values,
    derandomize,
    e_values,
)
from jaxcur.conformal._histogram import RankHistogram
from jaxcur.conformal._multi import (
    PairSelectionResult,
    ScorePair,
    combine_conditions,
    select_pairs,
)
from jaxcur.conformal._optcs import (
    OptCSResult,
    bh_after_optcs,
    naive_best_of_k,
    optcs_msel,
)
from jaxcur.conformal._optcs_full import optcs_full, optcs_full_msel
from jaxcur.conformal._outliers import OutlierResult, ada_detect, detect_outliers
from jaxcur.conformal._prune import prune
from jaxcur.conformal._pvalues import p_values
from jaxcur.conformal._quantile import conformal_quantile
from jaxcur.conformal._regions import AllOf, AnyOf, Ball, Orthant, Region, RegionScore
from jaxcur.conformal._risk import (
    RISK_CONTROL_STATUS,
    RiskControlResult,
    risk_control,
)
from jaxcur.conformal._score_risk import (
    RISK_STATUS,
    ScoreRiskResult,
    score_mdr,
    score_sdr,
)
from jaxcur.conformal._scores import (
    BinaryScore,
    ClipScore,
    RelevantScore,
    ResidualScore,
    ScaledResidualScore,
)
from jaxcur.conformal._selection import SelectionResult, select
from jaxcur.conformal._sets_classification import (
    aps_scores,
    aps_set,
    lac_scores,
    lac_set,
    raps_scores,
    raps_set,
)
from jaxcur.conformal._sets_regression import (
    absolute_residual_scores,
    cqr_interval,
    cqr_scores,
    split_interval,
)
from jaxcur.conformal._status import STATUS

__all__ = [
    "RISK_CONTROL_STATUS",
    "RISK_STATUS",
    "STATUS",
    "AlignmentResult",
    "AllOf",
    "AnyOf",
    "Ball",
    "BinaryScore",
    "ClipScore",
    "DerandomizedResult",
    "OptCSResult",
    "Orthant",
    "OutlierResult",
    "PairSelectionResult",
    "RankHistogram",
    "Region",
    "RegionScore",
    "RelevantScore",
    "ResidualScore",
    "RiskControlResult",
    "ScaledResidualScore",
    "ScorePair",
    "ScoreRiskResult",
    "SelectionResult",
    "absolute_residual_scores",
    "ada_detect",
    "align",
    "aps_scores",
    "aps_set",
    "auxiliary_sizes",
    "bh_after_optcs",
    "boost_e_values",
    "combine_conditions",
    "conditional_bounds",
    "conditional_p_values",
    "conformal_quantile",
    "cqr_interval",
    "cqr_scores",
    "derandomize",
    "detect_outliers",
    "e_values",
    "lac_scores",
    "lac_set",
    "naive_best_of_k",
    "optcs_full",
    "optcs_full_msel",
    "optcs_msel",
    "p_values",
    "prune",
    "raps_scores",
    "raps_set",
    "risk_control",
    "score_mdr",
    "score_sdr",
    "select",
    "select_pairs",
    "split_interval",
]
