"""Ordinal regression for rare events: PRESTO and its relatives, with certificates.

P(y <= k | x) = F(alpha_k + x'beta_k): a positive coefficient moves probability to LOWER
classes, the opposite of R `polr` and of statsmodels.
"""

from jaxcur.ordinal._bayes import BayesianOrdinalResult, bayesian_model
from jaxcur.ordinal._calibration_error import binned_squared_calibration_error
from jaxcur.ordinal._cross_validate import CrossValidationResult, cross_validate
from jaxcur.ordinal._fit import fit, max_regularization, path
from jaxcur.ordinal._inference import (
    NominalTestResult,
    StandardErrors,
    nominal_test,
    standard_errors,
)
from jaxcur.ordinal._penalties import (
    NonParallel,
    Parallel,
    Partial,
    Presto,
    SemiParallel,
)
from jaxcur.ordinal._predict import odds_ratios, predict_proba
from jaxcur.ordinal._result import STATUS, OrdinalPath, OrdinalResult

__all__ = [
    "STATUS",
    "BayesianOrdinalResult",
    "CrossValidationResult",
    "NominalTestResult",
    "NonParallel",
    "OrdinalPath",
    "OrdinalResult",
    "Parallel",
    "Partial",
    "Presto",
    "SemiParallel",
    "StandardErrors",
    "bayesian_model",
    "binned_squared_calibration_error",
    "cross_validate",
    "fit",
    "max_regularization",
    "nominal_test",
    "odds_ratios",
    "path",
    "predict_proba",
    "standard_errors",
]
