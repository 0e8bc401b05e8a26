"""Drug properties of the Therapeutics Data Commons, as tasks of selection."""

import dataclasses
from typing import Literal

import numpy as np

from jaxcur._base import check_choice
from jaxcur.data._columns import TableError, numeric_column, require_columns
from jaxcur.data._remote import RemoteFile, fetch
from jaxcur.data._tables import read_table

Kind = Literal["regression", "classification"]
_SERVER = "https://dataverse.harvard.edu/api/access/datafile"


@dataclasses.dataclass(frozen=True)
class DrugTask:
    """One property, and what counts as interesting.

    Attributes:
        name: the data set's name at the Therapeutics Data Commons.
        file: where it comes from. The addresses are those of the Commons' own client;
            no checksums are published, so `sha256` is None.
        kind: what is measured.
        threshold: interesting = outcome > threshold.
        flipped: the outcome is 1 - the recorded label, where 0 is the good one.
    """

    name: str
    file: RemoteFile
    kind: Kind
    threshold: float
    flipped: bool = False


def _task(name: str, file_id: int, threshold: float | None = None, flipped=False):
    file = RemoteFile(f"{name}.tab", f"{_SERVER}/{file_id}")
    if threshold is None:
        return DrugTask(name, file, "classification", 0.0, flipped)
    return DrugTask(name, file, "regression", threshold)


DRUG_TASKS = {
    task.name: task
    for task in (
        _task("caco2_wang", 4259569, -4.7),
        _task("lipophilicity_astrazeneca", 4259595, 2.9),
        _task("ppbr_az", 6413140, 98.0),
        _task("vdss_lombardo", 4267387, 2.0),
        _task("half_life_obach", 4266799, 9.0),
        _task("clearance_microsome_az", 4266186, 33.0),
        _task("clearance_hepatocyte_az", 4266187, 50.0),
        _task("ld50_zhu", 4267146, 2.9),
        _task("hia_hou", 4259591, flipped=True),
        _task("bioavailability_ma", 4259567, flipped=True),
        _task("bbb_martins", 4259566),
        _task("cyp2d6_substrate_carbonmangels", 4259578),
        _task("cyp3a4_substrate_carbonmangels", 4259581),
        _task("cyp2c9_substrate_carbonmangels", 4259584),
        _task("dili", 4259585),
        _task("herg", 4259588, flipped=True),
    )
}


@dataclasses.dataclass(frozen=True)
class DrugData:
    """Molecules and one measured property.

    Attributes:
        name: the data set.
        smiles: n molecules in SMILES notation.
        outcome: shape (n,), float64; the measurement, or a 0/1 label (flipped where 0
            is the good one).
        interesting: shape (n,), bool, outcome > threshold.
        threshold: the bar.
        kind: "regression" or "classification".
        num_dropped: rows of the file left out: outcome missing, or another species
            where the file says so.
    """

    name: str
    smiles: tuple[str, ...]
    outcome: np.ndarray
    interesting: np.ndarray
    threshold: float
    kind: Kind
    num_dropped: int


def load_drug_discovery(name: str, *, accept_unverified: bool = False) -> DrugData:
    """One of the sixteen drug-property data sets used to study conformal selection.

    Eight measurements (interesting: above a bar that about three in ten molecules pass)
    and eight labels. The file is taken from the folder that `JAXCUR_DATA` names, as
    `<name>.tab`, or from the cache, or downloaded.

    No checksums of these files are published. A first download must be accepted by
    `accept_unverified=True`; its checksum is recorded and enforced from then on.

    Args:
        name: a key of `DRUG_TASKS`, in any case.
        accept_unverified: see `fetch`.

    Returns:
        DrugData. Rows with no outcome are left out, and of `ppbr_az` all rows that are
        not of humans, where the file has a column for the species; both are counted.

    Raises:
        ValueError: unknown name.
        DownloadError: see `fetch`.
        TableError: the file is not such a table.

    Source: Therapeutics Data Commons (Huang et al., 2021), served by Harvard Dataverse;
    bars and flipped labels of the published OptCS scripts.

    Example:
        >>> from jaxcur import data
        >>> task = data.DRUG_TASKS["caco2_wang"]
        >>> task.kind, task.threshold, task.file.name
        ('regression', -4.7, 'caco2_wang.tab')
    """
    key = str(name).lower()
    check_choice("name", key, tuple(DRUG_TASKS))
    task = DRUG_TASKS[key]
    path = fetch(task.file, accept_unverified=accept_unverified)
    frame = read_table(path, delimiter="\t", text=True)
    rows = len(frame)
    # Some of the files call the molecule X instead of Drug.
    molecule = "Drug" if "Drug" in frame.columns else "X"
    require_columns(frame, [molecule, "Y"])
    if "Species" in frame.columns:
        frame = frame.loc[frame["Species"] == "Homo sapiens"]
    outcome = numeric_column(frame, "Y", allow_missing=True)
    present = ~np.isnan(outcome)
    outcome = outcome[present]
    smiles = tuple(str(s).strip() for s in np.asarray(frame[molecule])[present])
    if not len(outcome):
        raise TableError(f"'{path}' has no row with an outcome in column 'Y'")
    if not all(smiles):
        raise TableError(f"'{path}' has rows with an outcome but no molecule")
    if task.kind == "classification":
        if not np.isin(outcome, (0.0, 1.0)).all():
            raise TableError(f"column 'Y' of '{path}' must hold labels 0 and 1 only")
        outcome = 1.0 - outcome if task.flipped else outcome
    return DrugData(
        name=key,
        smiles=smiles,
        outcome=outcome,
        interesting=outcome > task.threshold,
        threshold=task.threshold,
        kind=task.kind,
        num_dropped=rows - len(outcome),
    )
