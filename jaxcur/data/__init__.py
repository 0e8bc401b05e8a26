"""Floor 2: tables at the border, bundled data, synthetic worlds with known truth."""

from jaxcur.data._bundled import PatientData, load_diabetes
from jaxcur.data._columns import TableError, numeric_column, require_columns
from jaxcur.data._tables import read_table, write_table
from jaxcur.data._worlds import NoisyPredictions, noisy_predictions

__all__ = [
    "NoisyPredictions",
    "PatientData",
    "TableError",
    "load_diabetes",
    "noisy_predictions",
    "numeric_column",
    "read_table",
    "require_columns",
    "write_table",
]
