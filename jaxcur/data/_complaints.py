"""Online complaints of Pan and Chen (2018), with labels by a language model."""

import dataclasses

import numpy as np

from jaxcur.data._columns import TableError, numeric_column, require_columns
from jaxcur.data._remote import DownloadError, RemoteFile, data_folder, fetch
from jaxcur.data._tables import read_table

_SOURCE = (
    "https://github.com/naoki-egami/dsl/raw/"
    "537664a54163dda52ee277071fdfd9e8df2572a6/data/PanChen.rdata"
)
# Served as a file of R only; the table is what R writes of it.
COMPLAINTS_FILE = RemoteFile("PanChen.csv", _SOURCE)
_CONVERT = (
    f'Rscript -e \'load(url("{_SOURCE}")); '
    'write.csv(PanChen, "PanChen.csv", row.names = FALSE, na = "")\''
)
_COVARIATES = ("prefecWrong", "connect2b", "prevalence", "regionj", "groupIssue")


@dataclasses.dataclass(frozen=True)
class ComplaintData:
    """Complaints, whether they were reported upward, and what they accuse.

    Attributes:
        reported: shape (n,), 0 or 1: the outcome, reported to the upper level.
        accuses: shape (n,), 0 or 1 by an expert: accuses county officials; NaN where
            no expert has read the complaint.
        accuses_predicted: shape (n,), 0 or 1 by a language model.
        covariates: shape (n, 5), known for every complaint.
        covariate_names: the five columns.
    """

    reported: np.ndarray
    accuses: np.ndarray
    accuses_predicted: np.ndarray
    covariates: np.ndarray
    covariate_names: tuple[str, ...] = _COVARIATES

    @property
    def labeled(self) -> np.ndarray:
        """Shape (n,), True where an expert has read the complaint."""
        return ~np.isnan(self.accuses)


def load_complaints() -> ComplaintData:
    r"""1412 complaints to a Chinese government, 500 of them labelled by experts.

    Which complaints that accuse county officials are reported upward? An expert read a
    simple random sample; a language model labelled all.

    The data are shipped inside an R package, in a format of R, so they are not
    downloaded: the file `PanChen.csv` is taken from the folder that `JAXCUR_DATA`
    names, or from the cache. The error that says it is missing gives the command that
    makes it. No checksum of it is published; that of `SHA256SUMS` beside it holds,
    where there is one.

    Returns:
        ComplaintData, in the order of the file.

    Raises:
        DownloadError: the file is not there, or not the one of `SHA256SUMS`.
        TableError: the file is not that table.

    Source: Pan and Chen, "Concealing corruption", American Political Science Review
    112(3), 2018; machine labels and file from the R package dsl 0.1.0 (GPL-2).

    Example:
        >>> import os, pathlib, tempfile
        >>> from jaxcur import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> header = "countyWrong,pred_countyWrong,SendOrNot,prefecWrong,connect2b,"
        >>> rows = "prevalence,regionj,groupIssue\n1,0,1,0,0,0,0,1\n,0,0,0,1,0,0,1\n"
        >>> _ = pathlib.Path(folder.name, "PanChen.csv").write_text(header + rows)
        >>> os.environ["JAXCUR_DATA"] = folder.name
        >>> data.load_complaints().labeled.tolist()
        [True, False]
        >>> del os.environ["JAXCUR_DATA"]
        >>> folder.cleanup()
    """
    folder = data_folder()
    if not (folder / COMPLAINTS_FILE.name).is_file():
        raise DownloadError(
            f"there is no '{COMPLAINTS_FILE.name}' in '{folder}'; make it there with "
            f"R: {_CONVERT}, or make it in a folder and set JAXCUR_DATA to that"
        )
    # Nothing is downloaded: it is there. Its checksum is held against SHA256SUMS.
    path = fetch(COMPLAINTS_FILE, accept_unverified=True)
    frame = read_table(path)
    names = ("countyWrong", "pred_countyWrong", "SendOrNot", *_COVARIATES)
    require_columns(frame, list(names))
    columns = {
        name: numeric_column(frame, name, allow_missing=name == "countyWrong")
        for name in names
    }
    for name, column in columns.items():
        if not np.isin(column[~np.isnan(column)], (0.0, 1.0)).all():
            raise TableError(f"column '{name}' of '{path}' must hold 0 and 1 only")
    if np.isnan(columns["countyWrong"]).all():
        raise TableError(f"'{path}' has no complaint with an expert's label")
    return ComplaintData(
        reported=columns["SendOrNot"],
        accuses=columns["countyWrong"],
        accuses_predicted=columns["pred_countyWrong"],
        covariates=np.stack([columns[name] for name in _COVARIATES], axis=1),
    )
