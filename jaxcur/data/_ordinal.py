"""Two ordered outcomes whose last class is rare: soup tasting and prediabetes."""

import dataclasses

import numpy as np

from jaxcur.data._columns import TableError, numeric_column, require_columns
from jaxcur.data._remote import DownloadError, RemoteFile, data_folder, fetch
from jaxcur.data._tables import read_table

# Both are shipped inside R packages only, in a format of R; the tables are what R
# writes of them, and no checksums of those are published.
SOUP_FILE = RemoteFile("soup.csv", "https://github.com/cran/ordinal")
PREDIABETES_FILE = RemoteFile("prediabetes.csv", "https://github.com/cran/MLDataR")
_CONVERT = (
    'Rscript -e \'data({name}, package = "{package}"); '
    'write.csv({name}, "{file}", row.names = FALSE)\''
)
# Columns of the soup table and their levels, the reference level first.
_SOUP_LEVELS = {
    "PROD": ("Ref", "Test"),
    "DAY": ("1", "2"),
    "SOUPTYPE": ("Self-made", "Canned", "Dry-mix"),
    "SOUPFREQ": (">1/week", "1-4/month", "<1/month"),
    "COLD": ("No", "Yes"),
    "EASY": tuple(str(score) for score in range(1, 11)),
    "GENDER": ("Male", "Female"),
    "AGEGROUP": ("18-30", "31-40", "41-50", "51-65"),
    "LOCATION": ("Region 1", "Region 2", "Region 3"),
}
_SOUP_COLUMNS = tuple(
    f"{name} {level}" for name, levels in _SOUP_LEVELS.items() for level in levels[1:]
)
_PREDIABETES_COLUMNS = ("Age", "Sex", "IMD_Decile", "BMI", "HbA1C")


@dataclasses.dataclass(frozen=True)
class SoupData:
    """Tasters who said how sure they are to have been given the reference soup.

    Attributes:
        features: shape (n, 22), 0 or 1: one column for every level of a question but
            its first.
        sureness: shape (n,), int, 1 (sure: reference) to 6 (sure: test product).
        respondent: shape (n,), int, who tasted.
        feature_names: the 22 columns.
    """

    features: np.ndarray
    sureness: np.ndarray
    respondent: np.ndarray
    feature_names: tuple[str, ...] = _SOUP_COLUMNS


@dataclasses.dataclass(frozen=True)
class PrediabetesData:
    """Patients with the ages at which prediabetes and diabetes were found.

    Attributes:
        features: shape (n, 5): age, sex, decile of deprivation, body mass index, HbA1c.
        age_prediabetes: shape (n,), years.
        age_diabetes: shape (n,), years.
        feature_names: the five columns.
    """

    features: np.ndarray
    age_prediabetes: np.ndarray
    age_diabetes: np.ndarray
    feature_names: tuple[str, ...] = _PREDIABETES_COLUMNS

    def classes(self, cutoff: float) -> np.ndarray:
        """What was found before an age: shape (n,), int.

        2 for diabetes, 1 for prediabetes only, 0 for neither, at ages strictly below
        `cutoff`.

        Raises:
            ValueError: `cutoff` is not a positive number.

        Example:
            >>> import numpy as np
            >>> from jaxcur import data
            >>> ages = np.array([29.0, 29.0, 30.0]), np.array([29.0, 30.0, 31.0])
            >>> patients = data.PrediabetesData(np.zeros((3, 5)), *ages)
            >>> patients.classes(30).tolist()
            [2, 1, 0]
        """
        if not 0 < cutoff < np.inf:
            raise ValueError(f"`cutoff` must be a positive age, got {cutoff}")
        before = (self.age_prediabetes < cutoff).astype(np.int64)
        return np.where(self.age_diabetes < cutoff, 2, before)


def _path(file: RemoteFile, name: str, package: str):
    folder = data_folder()
    if not (folder / file.name).is_file():
        command = _CONVERT.format(name=name, package=package, file=file.name)
        raise DownloadError(
            f"there is no '{file.name}' in '{folder}'; make it there with R and its "
            f"package {package} ({file.url}): {command}, or make it in a folder and "
            "set JAXCUR_DATA to that"
        )
    # Nothing is downloaded: it is there. Its checksum is held against SHA256SUMS.
    return fetch(file, accept_unverified=True)


def load_soup() -> SoupData:
    r"""1847 tastings of soup by 185 people: reference product, or test product?

    The answer is one of six, from sure reference (an eighth of the answers) to sure
    test product (nearly half). For a model with the rare class last take
    `6 - sureness`.

    The data are shipped inside an R package, in a format of R, so they are not
    downloaded: the file `soup.csv` is taken from the folder that `JAXCUR_DATA` names,
    or from the cache. The error that says it is missing gives the command that makes
    it. No checksum of it is published; that of `SHA256SUMS` beside it holds, where
    there is one.

    Returns:
        SoupData, in the order of the file.

    Raises:
        DownloadError: the file is not there, or not the one of `SHA256SUMS`.
        TableError: the file is not that table.

    Source: Christensen, Cleaver and Brockhoff, "Statistical and Thurstonian models for
    the A-not A protocol with and without sureness", Food Quality and Preference 22,
    2011; file of the R package ordinal (GPL-2 or later).

    Example:
        >>> import os, pathlib, tempfile
        >>> from jaxcur import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> header = "RESP,SURENESS,PROD,DAY,SOUPTYPE,SOUPFREQ,COLD,EASY,GENDER,"
        >>> row = "AGEGROUP,LOCATION\n1,6,Test,1,Canned,>1/week,Yes,7,Female,51-65,"
        >>> file = pathlib.Path(folder.name, "soup.csv")
        >>> _ = file.write_text(header + row + "Region 1\n")
        >>> os.environ["JAXCUR_DATA"] = folder.name
        >>> soup = data.load_soup()
        >>> soup.sureness.tolist(), int(soup.features.sum()), soup.feature_names[0]
        ([6], 6, 'PROD Test')
        >>> del os.environ["JAXCUR_DATA"]
        >>> folder.cleanup()
    """
    path = _path(SOUP_FILE, "soup", "ordinal")
    frame = read_table(path, text=True)
    require_columns(frame, ["RESP", "SURENESS", *_SOUP_LEVELS])
    sureness = numeric_column(frame, "SURENESS")
    if not len(sureness):
        raise TableError(f"'{path}' has no rows")
    if not np.isin(sureness, np.arange(1, 7)).all():
        raise TableError(f"column 'SURENESS' of '{path}' must hold 1 to 6 only")
    columns = []
    for name, levels in _SOUP_LEVELS.items():
        entries = np.array([str(entry).strip() for entry in frame[name]])
        strange = ~np.isin(entries, levels)
        if strange.any():
            row = int(strange.argmax())
            raise TableError(
                f"column '{name}' of '{path}' holds {entries[row][:40]!r} in row "
                f"{row + 1}; it must hold {', '.join(levels)} only"
            )
        columns += [entries == level for level in levels[1:]]
    return SoupData(
        features=np.stack(columns, axis=1).astype(np.float64),
        sureness=sureness.astype(np.int64),
        respondent=numeric_column(frame, "RESP").astype(np.int64),
    )


def load_prediabetes() -> PrediabetesData:
    r"""3059 patients who went from prediabetes to diabetes, and when.

    The data are shipped inside an R package, in a format of R, so they are not
    downloaded: the file `prediabetes.csv` is taken from the folder that `JAXCUR_DATA`
    names, or from the cache. The error that says it is missing gives the command that
    makes it. No checksum of it is published; that of `SHA256SUMS` beside it holds,
    where there is one.

    Returns:
        PrediabetesData, in the order of the file.

    Raises:
        DownloadError: the file is not there, or not the one of `SHA256SUMS`.
        TableError: the file is not that table.

    Source: data set PreDiabetes of the R package MLDataR 1.0.1 (MIT).

    Example:
        >>> import os, pathlib, tempfile
        >>> from jaxcur import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> header = "Age,Sex,IMD_Decile,BMI,HbA1C,Age_PreDiabetes,Age_Diabetes\n"
        >>> file = pathlib.Path(folder.name, "prediabetes.csv")
        >>> _ = file.write_text(header + "61,0,7,51.67,44,58,61\n")
        >>> os.environ["JAXCUR_DATA"] = folder.name
        >>> patients = data.load_prediabetes()
        >>> patients.features.shape, patients.classes(60).tolist()
        ((1, 5), [1])
        >>> del os.environ["JAXCUR_DATA"]
        >>> folder.cleanup()
    """
    path = _path(PREDIABETES_FILE, "PreDiabetes", "MLDataR")
    frame = read_table(path)
    names = (*_PREDIABETES_COLUMNS, "Age_PreDiabetes", "Age_Diabetes")
    require_columns(frame, list(names))
    columns = {name: numeric_column(frame, name) for name in names}
    if not len(frame):
        raise TableError(f"'{path}' has no rows")
    return PrediabetesData(
        features=np.stack([columns[name] for name in _PREDIABETES_COLUMNS], axis=1),
        age_prediabetes=columns["Age_PreDiabetes"],
        age_diabetes=columns["Age_Diabetes"],
    )
