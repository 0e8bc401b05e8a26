"""Floor 0: validation, dtypes, draws, progress, optional imports. No statistics."""

from jaxcur._base._checks import (
    as_float,
    check_choice,
    check_no_nan,
    check_rank,
    check_same_length,
    check_unit_interval,
    is_concrete,
)
from jaxcur._base._draws import resolve_uniforms
from jaxcur._base._extras import import_extra
from jaxcur._base._levels import DECIMALS, decimal_float64, exact_fraction
from jaxcur._base._progress import ProgressBar
from jaxcur._base._pytree import register_dataclass
from jaxcur._base._sampling import check_run_length, trouble
from jaxcur._base._text import aligned, number, p_value

__all__ = [
    "DECIMALS",
    "ProgressBar",
    "aligned",
    "as_float",
    "check_choice",
    "check_no_nan",
    "check_rank",
    "check_run_length",
    "check_same_length",
    "check_unit_interval",
    "decimal_float64",
    "exact_fraction",
    "import_extra",
    "is_concrete",
    "number",
    "p_value",
    "register_dataclass",
    "resolve_uniforms",
    "trouble",
]
