"""A level as the decimal number the user wrote."""

from fractions import Fraction
from typing import Any

import numpy as np


def exact_fraction(value: Any) -> Fraction:
    """The rational a person means by `value`: 0.1 is 1/10 in every float dtype.

    The shortest decimal that reads back as the same float is taken, in the value's own
    precision, so `np.float32(0.1)` and `0.1` agree.
    """
    if isinstance(value, Fraction):
        return value
    scalar = np.asarray(value)[()]
    return Fraction(str(scalar))
