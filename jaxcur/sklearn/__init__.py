"""Ceiling: scikit-learn estimators (needs the extra `sklearn`).

`ConformalSelector` fits like any estimator, and its `predict` marks candidates with the
false discovery rate under control. `PrestoClassifier` predicts ordered classes, the
last of them rare. `Calibrator` repairs the probabilities of any classifier.
"""

from jaxcur._base import import_extra

import_extra("sklearn", "sklearn")

from jaxcur.sklearn._calibrator import Calibrator  # noqa: E402
from jaxcur.sklearn._presto import PrestoClassifier  # noqa: E402
from jaxcur.sklearn._selector import ConformalSelector  # noqa: E402

__all__ = ["Calibrator", "ConformalSelector", "PrestoClassifier"]
