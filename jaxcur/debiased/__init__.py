"""Valid inference from imperfect labels: machine labels for all, gold ones for a few.

Every estimator solves one adjusted equation: the moments of the predicted records of
all rows, corrected by what the labelled rows, drawn with known probabilities, show of
their error. Predictions may be as bad as they like; better ones give shorter intervals.
"""

from jaxcur.debiased._aggregate import aggregate_splits
from jaxcur.debiased._annotation import (
    annotation_probabilities,
    choose_mixing,
    uncertainty_probabilities,
)
from jaxcur.debiased._bayes import BayesianResult, bayesian_measurement_model
from jaxcur.debiased._bootstrap import predict_then_debias
from jaxcur.debiased._bounded import bounded_mean_interval
from jaxcur.debiased._categorical import category_shares, multinomial, ordered_logit
from jaxcur.debiased._contrasts import ContrastResult, delta_method, linear_contrast
from jaxcur.debiased._cross_fit import cross_fit
from jaxcur.debiased._designs import (
    difference_in_differences,
    difference_in_means,
    regression_discontinuity,
)
from jaxcur.debiased._fixed_effects import fixed_effects
from jaxcur.debiased._folds import make_folds
from jaxcur.debiased._glm import glm
from jaxcur.debiased._joint import (
    BandsResult,
    WaldResult,
    adjusted_p_values,
    simultaneous_bands,
    wald_test,
)
from jaxcur.debiased._label_sampling import (
    neyman_allocation,
    sample_labels,
    sample_strata,
)
from jaxcur.debiased._marginal import average_marginal_effects
from jaxcur.debiased._moment import estimate, expected_moment, iv
from jaxcur.debiased._options import Options
from jaxcur.debiased._power import (
    binary_correlation,
    planned_mean_std_error,
    required_labeled,
    target_std_error,
    wald_power,
)
from jaxcur.debiased._prepare import InferenceWarning
from jaxcur.debiased._quantile import QuantileResult, quantile
from jaxcur.debiased._recalibrated import recalibrated
from jaxcur.debiased._regression import logistic, mean, ols, poisson
from jaxcur.debiased._resample import BootstrapResult
from jaxcur.debiased._result import Diagnostics, EstimateResult, predicted_std_error
from jaxcur.debiased._score_bootstrap import score_bootstrap
from jaxcur.debiased._sequential import (
    SequentialDraw,
    SequentialState,
    group_probability,
    pool_probabilities,
    sequential_init,
    sequential_step,
)
from jaxcur.debiased._stream import estimate_chunks
from jaxcur.debiased._table_chunks import table_chunks

__all__ = [
    "BandsResult",
    "BayesianResult",
    "BootstrapResult",
    "ContrastResult",
    "Diagnostics",
    "EstimateResult",
    "InferenceWarning",
    "Options",
    "QuantileResult",
    "SequentialDraw",
    "SequentialState",
    "WaldResult",
    "adjusted_p_values",
    "aggregate_splits",
    "annotation_probabilities",
    "average_marginal_effects",
    "bayesian_measurement_model",
    "binary_correlation",
    "bounded_mean_interval",
    "category_shares",
    "choose_mixing",
    "cross_fit",
    "delta_method",
    "difference_in_differences",
    "difference_in_means",
    "estimate",
    "estimate_chunks",
    "expected_moment",
    "fixed_effects",
    "glm",
    "group_probability",
    "iv",
    "linear_contrast",
    "logistic",
    "make_folds",
    "mean",
    "multinomial",
    "neyman_allocation",
    "ols",
    "ordered_logit",
    "planned_mean_std_error",
    "poisson",
    "pool_probabilities",
    "predict_then_debias",
    "predicted_std_error",
    "quantile",
    "recalibrated",
    "regression_discontinuity",
    "required_labeled",
    "sample_labels",
    "sample_strata",
    "score_bootstrap",
    "sequential_init",
    "sequential_step",
    "simultaneous_bands",
    "table_chunks",
    "target_std_error",
    "uncertainty_probabilities",
    "wald_power",
    "wald_test",
]
