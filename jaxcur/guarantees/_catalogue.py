"""Every guarantee of the library, in the order of the documentation."""

from jaxcur.guarantees import (
    _calibration,
    _debiased,
    _neighbours,
    _optcs,
    _ordinal,
    _ot,
    _p_values,
    _selection,
    _sets,
    _weighted,
)
from jaxcur.guarantees._registry import Guarantee

GUARANTEES: tuple[Guarantee, ...] = (
    *_p_values.GUARANTEES,
    *_selection.GUARANTEES,
    *_weighted.GUARANTEES,
    *_sets.GUARANTEES,
    *_neighbours.GUARANTEES,
    *_optcs.GUARANTEES,
    *_debiased.GUARANTEES,
    *_ordinal.GUARANTEES,
    *_calibration.GUARANTEES,
    *_ot.GUARANTEES,
)
