"""Ceiling: formulas on data frames (needs the extra `frames`).

`estimate` reads a formula, a table with gold and machine labels, and the way rows were
chosen for gold labels; it returns the regression on machine labels alone, on gold
labels alone, and debiased, side by side.
"""

from jaxcur._base import import_extra

import_extra("formulaic", "frames")

from jaxcur.frames._estimate import estimate  # noqa: E402
from jaxcur.frames._result import FrameResult  # noqa: E402

__all__ = ["FrameResult", "estimate"]
