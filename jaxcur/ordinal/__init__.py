"""Ordinal regression for rare events: PRESTO and its relatives, with certificates.

P(y <= k | x) = F(alpha_k + x'beta_k): a positive coefficient moves probability to LOWER
classes, the opposite of R `polr` and of statsmodels. So it does in the family `sratio`;
in `cratio` and `acat` it moves probability to HIGHER ones.
"""

from jaxcur.ordinal._adaptive import adaptive_weights
from jaxcur.ordinal._bayes import BayesianOrdinalResult, bayesian_model
from jaxcur.ordinal._bootstrap import BootstrapResult, bootstrap
from jaxcur.ordinal._calibration_error import binned_squared_calibration_error
from jaxcur.ordinal._case_control import correct_prevalence, prevalence_weights
from jaxcur.ordinal._cross_validate import CrossValidationResult, cross_validate
from jaxcur.ordinal._debiased import DebiasedIntervals, debiased_intervals
from jaxcur.ordinal._effects import (
    MarginalEffects,
    RareProbability,
    average_marginal_effects,
    influence,
    rare_probability_interval,
)
from jaxcur.ordinal._firth import firth_fit
from jaxcur.ordinal._fit import fit, max_regularization, path
from jaxcur.ordinal._group import Group
from jaxcur.ordinal._inference import StandardErrors, standard_errors
from jaxcur.ordinal._penalties import (
    NonParallel,
    Parallel,
    Partial,
    Presto,
    SemiParallel,
)
from jaxcur.ordinal._predict import odds_ratios, predict_proba
from jaxcur.ordinal._result import STATUS, OrdinalPath, OrdinalResult
from jaxcur.ordinal._tests import (
    BrantTestResult,
    NominalTestResult,
    brant_test,
    nominal_test,
)

__all__ = [
    "BayesianOrdinalResult",
    "BootstrapResult",
    "BrantTestResult",
    "CrossValidationResult",
    "DebiasedIntervals",
    "Group",
    "MarginalEffects",
    "NominalTestResult",
    "NonParallel",
    "OrdinalPath",
    "OrdinalResult",
    "Parallel",
    "Partial",
    "Presto",
    "RareProbability",
    "STATUS",
    "SemiParallel",
    "StandardErrors",
    "adaptive_weights",
    "average_marginal_effects",
    "bayesian_model",
    "binned_squared_calibration_error",
    "bootstrap",
    "brant_test",
    "correct_prevalence",
    "cross_validate",
    "debiased_intervals",
    "firth_fit",
    "fit",
    "influence",
    "max_regularization",
    "nominal_test",
    "odds_ratios",
    "path",
    "predict_proba",
    "prevalence_weights",
    "rare_probability_interval",
    "standard_errors",
]
