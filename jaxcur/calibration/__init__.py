"""Probability calibration: measure it, test it, repair it, train for it.

A forecast is calibrated when events forecast with probability p happen in a share p of
the cases. Binary forecasts are `probs` of shape (n,) with `labels` 0 or 1; forecasts of
several classes are rows of shape (n, k) with integer labels 0..k-1.
"""

from jaxcur.calibration._bayes import (
    BayesianReliability,
    bayesian_reliability,
)
from jaxcur.calibration._bbq import (
    BBQCalibrator,
    fit_bbq,
)
from jaxcur.calibration._beta import (
    BetaCalibrator,
    fit_beta,
)
from jaxcur.calibration._binned import (
    SignedErrors,
    debiased_squared_error,
    expected_calibration_error,
    signed_calibration_errors,
)
from jaxcur.calibration._binned_classes import (
    classwise_calibration_error,
    top_label_calibration_error,
)
from jaxcur.calibration._calibration_index import (
    CalibrationIndexResult,
    integrated_calibration_index,
)
from jaxcur.calibration._calibrator import (
    STATUS,
    Calibrator,
)
from jaxcur.calibration._cape import (
    cape_targets,
)
from jaxcur.calibration._certificates import (
    certified_radius,
    dual_certified_radius,
)
from jaxcur.calibration._class_gaussians import (
    ClassGaussians,
    fit_class_gaussians,
)
from jaxcur.calibration._cox import (
    CalibrationSlopeResult,
    calibration_slope,
)
from jaxcur.calibration._cross_fit import (
    CrossFitResult,
    OneVsRestCalibrator,
    cross_fit,
    fit_one_vs_rest,
)
from jaxcur.calibration._cumulative import (
    ks_error,
    kuiper_error,
)
from jaxcur.calibration._cumulative_tests import ks_test, kuiper_test
from jaxcur.calibration._decompositions import (
    BrierDecompositionResult,
    CorpDecompositionResult,
    brier_decomposition,
    corp_decomposition,
)
from jaxcur.calibration._diagram import (
    ReliabilityDiagramResult,
    reliability_diagram,
)
from jaxcur.calibration._ensemble_temperature import (
    EnsembleTemperatureCalibrator,
    fit_ensemble_temperature,
)
from jaxcur.calibration._evidential import (
    ConfusionAndIgnorance,
    EvidentialOpinion,
    confusion_and_ignorance,
    evidential_opinion,
)
from jaxcur.calibration._histogram import (
    HistogramCalibrator,
    fit_histogram,
)
from jaxcur.calibration._hosmer_lemeshow import hosmer_lemeshow_test
from jaxcur.calibration._intervals import (
    IntervalResult,
    confidence_interval,
)
from jaxcur.calibration._isotonic import (
    IsotonicCalibrator,
    fit_isotonic,
)
from jaxcur.calibration._kernel import (
    kernel_calibration_error,
)
from jaxcur.calibration._kernel_tests import (
    classwise_test,
    kernel_test,
    t_cal_test,
)
from jaxcur.calibration._losses import (
    brier_loss,
    cross_entropy,
    entropy_regularized_loss,
    evidential_loss,
    focal_loss,
    label_smoothing_loss,
    mmce,
    soft_calibration_error,
)
from jaxcur.calibration._matrix_scaling import (
    DirichletCalibrator,
    MatrixScalingCalibrator,
    fit_dirichlet,
    fit_matrix_scaling,
)
from jaxcur.calibration._mixture import (
    MixtureCalibrator,
    PriorBlend,
    blend_with_prior,
    fit_mixture,
)
from jaxcur.calibration._multicalibration import (
    MulticalibrationCalibrator,
    fit_multicalibration,
)
from jaxcur.calibration._null import (
    TestResult,
)
from jaxcur.calibration._platt import (
    PlattCalibrator,
    fit_platt,
)
from jaxcur.calibration._refinement import (
    RefinementDecompositionResult,
    refinement_decomposition,
)
from jaxcur.calibration._rejection import (
    AccuracyRejectionResult,
    accuracy_rejection_curve,
    area_under_risk_coverage,
)
from jaxcur.calibration._scaling_binning import (
    ScalingBinningCalibrator,
    fit_scaling_binning,
)
from jaxcur.calibration._scores import (
    auc,
    brier_score,
    kl_probability_error,
    log_loss,
    log_loss_from_logits,
    mean_squared_probability_error,
)
from jaxcur.calibration._smooth import (
    smooth_ece,
)
from jaxcur.calibration._spiegelhalter import spiegelhalter_test
from jaxcur.calibration._spline import (
    SplineCalibrator,
    fit_spline,
)
from jaxcur.calibration._structured_scaling import (
    StructuredScalingCalibrator,
    fit_structured_scaling,
)
from jaxcur.calibration._t_cal import (
    t_cal_statistic,
)
from jaxcur.calibration._temperature import (
    TemperatureCalibrator,
    fit_temperature,
)
from jaxcur.calibration._training import (
    TrainingResult,
    train_cape,
)
from jaxcur.calibration._vector_scaling import (
    VectorScalingCalibrator,
    fit_vector_scaling,
)
from jaxcur.calibration._venn_abers import (
    VennAbersCalibrator,
    fit_venn_abers,
)
from jaxcur.stats import (
    isotonic_regression,
)

__all__ = [
    "STATUS",
    "AccuracyRejectionResult",
    "BBQCalibrator",
    "BayesianReliability",
    "BetaCalibrator",
    "BrierDecompositionResult",
    "CalibrationIndexResult",
    "CalibrationSlopeResult",
    "Calibrator",
    "ClassGaussians",
    "ConfusionAndIgnorance",
    "CorpDecompositionResult",
    "CrossFitResult",
    "DirichletCalibrator",
    "EnsembleTemperatureCalibrator",
    "EvidentialOpinion",
    "HistogramCalibrator",
    "IntervalResult",
    "IsotonicCalibrator",
    "MatrixScalingCalibrator",
    "MixtureCalibrator",
    "MulticalibrationCalibrator",
    "OneVsRestCalibrator",
    "PlattCalibrator",
    "PriorBlend",
    "RefinementDecompositionResult",
    "ReliabilityDiagramResult",
    "ScalingBinningCalibrator",
    "SignedErrors",
    "SplineCalibrator",
    "StructuredScalingCalibrator",
    "TemperatureCalibrator",
    "TestResult",
    "TrainingResult",
    "VectorScalingCalibrator",
    "VennAbersCalibrator",
    "accuracy_rejection_curve",
    "area_under_risk_coverage",
    "auc",
    "bayesian_reliability",
    "blend_with_prior",
    "brier_decomposition",
    "brier_loss",
    "brier_score",
    "calibration_slope",
    "cape_targets",
    "certified_radius",
    "classwise_calibration_error",
    "classwise_test",
    "confidence_interval",
    "confusion_and_ignorance",
    "corp_decomposition",
    "cross_entropy",
    "cross_fit",
    "debiased_squared_error",
    "dual_certified_radius",
    "entropy_regularized_loss",
    "evidential_loss",
    "evidential_opinion",
    "expected_calibration_error",
    "fit_bbq",
    "fit_beta",
    "fit_class_gaussians",
    "fit_dirichlet",
    "fit_ensemble_temperature",
    "fit_histogram",
    "fit_isotonic",
    "fit_matrix_scaling",
    "fit_mixture",
    "fit_multicalibration",
    "fit_one_vs_rest",
    "fit_platt",
    "fit_scaling_binning",
    "fit_spline",
    "fit_structured_scaling",
    "fit_temperature",
    "fit_vector_scaling",
    "fit_venn_abers",
    "focal_loss",
    "hosmer_lemeshow_test",
    "integrated_calibration_index",
    "isotonic_regression",
    "kernel_calibration_error",
    "kernel_test",
    "kl_probability_error",
    "ks_error",
    "ks_test",
    "kuiper_error",
    "kuiper_test",
    "label_smoothing_loss",
    "log_loss",
    "log_loss_from_logits",
    "mean_squared_probability_error",
    "mmce",
    "refinement_decomposition",
    "reliability_diagram",
    "signed_calibration_errors",
    "smooth_ece",
    "soft_calibration_error",
    "spiegelhalter_test",
    "t_cal_statistic",
    "t_cal_test",
    "top_label_calibration_error",
    "train_cape",
]
