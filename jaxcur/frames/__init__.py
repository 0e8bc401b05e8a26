"""Ceiling: formulas on data frames (needs the extra `frames`).

`estimate` reads a formula, a table with gold and machine labels, and the way rows were
chosen for gold labels; it returns the regression on machine labels alone, on gold
labels alone, and debiased, side by side. `fit_ordinal` is an ordinal regression of a
column of classes, words or numbers, with its labels mapped back.
"""

from jaxcur._base import import_extra

import_extra("formulaic", "frames")

from jaxcur.frames._estimate import estimate  # noqa: E402
from jaxcur.frames._ordinal import fit_ordinal  # noqa: E402
from jaxcur.frames._ordinal_result import OrdinalFrameResult  # noqa: E402
from jaxcur.frames._result import FrameResult  # noqa: E402

__all__ = ["FrameResult", "OrdinalFrameResult", "estimate", "fit_ordinal"]
