"""Floor 2: tables at the border, data, synthetic worlds with known truth."""

from jaxcur.data._bundled import PatientData, load_diabetes
from jaxcur.data._columns import TableError, numeric_column, require_columns
from jaxcur.data._complaints import ComplaintData, load_complaints
from jaxcur.data._drug_discovery import (
    DRUG_TASKS,
    DrugData,
    DrugTask,
    load_drug_discovery,
)
from jaxcur.data._ordinal import (
    PrediabetesData,
    SoupData,
    load_prediabetes,
    load_soup,
)
from jaxcur.data._remote import DownloadError, RemoteFile, data_folder, fetch
from jaxcur.data._tables import read_table, write_table
from jaxcur.data._worlds import NoisyPredictions, noisy_predictions

__all__ = [
    "DRUG_TASKS",
    "ComplaintData",
    "DownloadError",
    "DrugData",
    "DrugTask",
    "NoisyPredictions",
    "PatientData",
    "PrediabetesData",
    "RemoteFile",
    "SoupData",
    "TableError",
    "data_folder",
    "fetch",
    "load_complaints",
    "load_diabetes",
    "load_drug_discovery",
    "load_prediabetes",
    "load_soup",
    "noisy_predictions",
    "numeric_column",
    "read_table",
    "require_columns",
    "write_table",
]
