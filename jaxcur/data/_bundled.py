"""Real data that comes with an installed package: no download."""

import dataclasses

import numpy as np

from jaxcur._base import import_extra


@dataclasses.dataclass(frozen=True)
class PatientData:
    """Diabetes patients: what was measured at the start, and how far they progressed.

    Attributes:
        features: shape (442, 10), float64, in the units of measurement.
        progression: shape (442,), float64; a clinician's score of disease progression
            one year later (25 to 346, larger is worse).
        feature_names: the ten columns.
    """

    features: np.ndarray
    progression: np.ndarray
    feature_names: tuple[str, ...]


def load_diabetes() -> PatientData:
    """The 442 patients of Efron, Hastie, Johnstone and Tibshirani (2004).

    Raises:
        ModuleNotFoundError: scikit-learn, which carries the file, is not installed;
            the message names the extra.

    Source: "Least angle regression", Annals of Statistics 32, 407-499; the copy
    bundled in scikit-learn.

    Example:
        >>> from jaxcur import data
        >>> patients = data.load_diabetes()
        >>> patients.features.shape, int((patients.progression > 140).sum())
        ((442, 10), 221)
    """
    datasets = import_extra("sklearn.datasets", "sklearn")
    bunch = datasets.load_diabetes(scaled=False)
    return PatientData(
        np.asarray(bunch.data, np.float64),
        np.asarray(bunch.target, np.float64),
        tuple(str(name) for name in bunch.feature_names),
    )
