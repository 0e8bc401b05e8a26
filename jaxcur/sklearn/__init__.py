"""Ceiling: scikit-learn estimators (needs the extra `sklearn`).

`ConformalSelector` fits like any estimator, and its `predict` marks candidates with the
false discovery rate under control.
"""

from jaxcur._base import import_extra

import_extra("sklearn", "sklearn")

from jaxcur.sklearn._selector import ConformalSelector  # noqa: E402

__all__ = ["ConformalSelector"]
