"""What independent NumPy computations reach in the worlds of `ordinal`.

Computed by tests/guarantees/numpy_ordinal.py, which shares no code with the package.
"""

RARE_WIDTHS = (0.832, 1.511, 1.799)
"""Mean width of 95 % intervals for the log odds of the last class at three points, by
logistic regression of that class against all others, over 2000 draws."""

NOMINAL_POWER = 0.857
"""How often Brant's test rejects at level 0.05 where a feature breaks the proportion,
over 4000 draws."""
