"""The methods beside plain selection, in the order of their documentation page."""

from jaxcur.guarantees import _conditional, _outliers, _score_risk, _several
from jaxcur.guarantees._registry import Guarantee

GUARANTEES: tuple[Guarantee, ...] = (
    *_score_risk.GUARANTEES,
    *_outliers.GUARANTEES,
    *_several.MULTI_CONDITION,
    *_conditional.GUARANTEES,
    *_several.DERANDOMIZE,
)
