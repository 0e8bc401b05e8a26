"""Chunks from a CSV or parquet file, for `estimate_chunks`."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxcur._base import import_extra

_PARQUET = (".parquet", ".pq")


def table_chunks(
    path: str | os.PathLike[str],
    *,
    y: str,
    X: Sequence[str] = (),
    intercept: bool = True,
    y_predicted: str | None = None,
    X_predicted: Mapping[str, str] | None = None,
    offset: str | None = None,
    labeled: str | None = None,
    sampling_prob: str | float | None = None,
    strata: str | None = None,
    clusters: str | None = None,
    weights: str | None = None,
    chunk_rows: int = 200_000,
) -> "TableChunks":
    """Read a table chunk by chunk.

    Args:
        path: a file ending in .parquet or .pq (needs pyarrow); any other name is read
            as CSV, compressed if its ending says so.
        y: column of the outcome; missing where there is no gold label.
        X: columns of the covariates; none for a mean.
        intercept: whether X starts with a column of ones; only with covariates.
        y_predicted: column of the predicted outcome; None: the outcome is known.
        X_predicted: for each predicted covariate, the column of its prediction.
        offset: column of log exposure.
        labeled: column of True and False, or 1 and 0. None: a row is labelled if
            no value of a predicted variable is missing.
        sampling_prob: column, or one number.
        strata: column of any labels, which are numbered in the order of their values.
        clusters: likewise.
        weights: column.
        chunk_rows: rows held at a time.

    Returns:
        A callable for `estimate_chunks`, which also knows the numbers of strata and
        clusters: `num_strata`, `num_clusters`. Looking for these reads their columns
        once, at the first use.

    Raises:
        ValueError: columns that the table lacks; an `X_predicted` that names no column
            of `X`; `chunk_rows` < 1; labels of strata or clusters that are missing.
        ModuleNotFoundError: pyarrow is needed and not installed.

    Transformations: none; reads a file.
    Cost: one reading of the named columns per pass, memory of one chunk.

    Source: pandas `read_csv(chunksize=)` and pyarrow `ParquetFile.iter_batches`.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxcur import debiased
        >>> lines = [f"{i % 2 if i < 20 else ''},{i % 2}" for i in range(100)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "table.csv"
        ...     _ = path.write_text("topic,topic_llm" + chr(10) + chr(10).join(lines))
        ...     chunks = debiased.table_chunks(path, y="topic", y_predicted="topic_llm",
        ...                                    chunk_rows=40)
        ...     result = debiased.estimate_chunks(chunks, model="mean")
        >>> float(result.estimate[0].round(4))
        0.5
    """
    if chunk_rows < 1:
        raise ValueError(f"`chunk_rows` must be at least 1, got {chunk_rows}")
    predictions = dict(X_predicted or {})
    if unknown := sorted(set(predictions) - set(X)):
        raise ValueError(
            f"`X_predicted` names {unknown[0]!r}, which is not in `X`, {list(X)}"
        )
    singles = {
        "y": y,
        "y_predicted": y_predicted,
        "offset": offset,
        "labeled": labeled,
        "sampling_prob": sampling_prob,
        "strata": strata,
        "clusters": clusters,
        "weights": weights,
    }
    singles = {key: value for key, value in singles.items() if value is not None}
    source = TableChunks(
        Path(path), singles, tuple(X), predictions, bool(X) and intercept, chunk_rows
    )
    known = source.header()
    if missing := [name for name in source.columns if name not in known]:
        raise ValueError(
            f"{os.fspath(path)} has no column {missing[0]!r}; its columns are {known}"
        )
    return source


class TableChunks:
    """A table on disk as chunks; made by `table_chunks`."""

    def __init__(
        self,
        path: Path,
        singles: dict[str, Any],
        covariates: tuple[str, ...],
        predictions: dict[str, str],
        intercept: bool,
        chunk_rows: int,
    ) -> None:
        self._path, self._singles = path, singles
        self._covariates, self._predictions = covariates, predictions
        self._intercept, self._chunk_rows = intercept, chunk_rows
        self._labels: dict[str, np.ndarray] = {}

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        names = [name for name in self._singles.values() if isinstance(name, str)]
        names += [*self._covariates, *self._predictions.values()]
        return list(dict.fromkeys(names))

    @property
    def num_strata(self) -> int | None:
        """Number of distinct strata, None without strata."""
        return self._count("strata")

    @property
    def num_clusters(self) -> int | None:
        """Number of distinct clusters, None without clusters."""
        return self._count("clusters")

    def _count(self, role: str) -> int | None:
        return len(self._values(role)) if role in self._singles else None

    def header(self) -> list[str]:
        """All columns of the table."""
        if self._path.suffix in _PARQUET:
            parquet = import_extra("pyarrow.parquet", "frames")
            return list(parquet.read_schema(self._path).names)
        import pandas as pd

        return list(pd.read_csv(self._path, nrows=0).columns)

    def _frames(self, columns: list[str]) -> Iterator[dict[str, np.ndarray]]:
        if self._path.suffix in _PARQUET:
            parquet = import_extra("pyarrow.parquet", "frames")
            with parquet.ParquetFile(self._path) as file:
                batches = file.iter_batches(self._chunk_rows, columns=columns)
                for batch in batches:
                    yield {
                        name: batch.column(name).to_numpy(zero_copy_only=False)
                        for name in columns
                    }
            return
        import pandas as pd

        with pd.read_csv(
            self._path, usecols=columns, chunksize=self._chunk_rows
        ) as reader:
            for frame in reader:
                yield {name: frame[name].to_numpy() for name in columns}

    def _values(self, role: str) -> np.ndarray:
        """The distinct labels of a column, sorted."""
        if role in self._labels:
            return self._labels[role]
        name = self._singles[role]
        found: np.ndarray | None = None
        for frame in self._frames([name]):
            fresh = np.unique(_as_labels(role, name, frame[name]))
            found = fresh if found is None else np.union1d(found, fresh)
        self._labels[role] = np.zeros(0, int) if found is None else found
        return self._labels[role]

    def __call__(self) -> Iterator[dict[str, Any]]:
        """A fresh iterator over the chunks."""
        for frame in self._frames(self.columns):
            yield self._chunk(frame)

    def _chunk(self, frame: dict[str, np.ndarray]) -> dict[str, Any]:
        chunk: dict[str, Any] = {}
        for role, name in self._singles.items():
            if not isinstance(name, str):
                chunk[role] = name
            elif role in ("strata", "clusters"):
                labels = _as_labels(role, name, frame[name])
                chunk[role] = np.searchsorted(self._values(role), labels)
            elif role == "labeled":
                chunk[role] = frame[name]
            else:
                chunk[role] = _as_numbers(name, frame[name])
        n = len(next(iter(frame.values())))
        if self._covariates:
            chunk["X"] = self._matrix(frame, {}, n)
        if self._predictions:
            chunk["X_predicted"] = self._matrix(frame, self._predictions, n)
        if "labeled" not in chunk:
            known = np.ones(n, bool)
            if "y_predicted" in self._singles:
                known &= ~np.isnan(chunk["y"])
            for name in self._predictions:
                known &= ~np.isnan(_as_numbers(name, frame[name]))
            chunk["labeled"] = known
        return chunk

    def _matrix(
        self, frame: dict[str, np.ndarray], instead: dict[str, str], n: int
    ) -> np.ndarray:
        names = [instead.get(name, name) for name in self._covariates]
        columns = [_as_numbers(name, frame[name]) for name in names]
        if self._intercept:
            columns = [np.ones(n), *columns]
        return np.stack(columns, axis=1)


def _as_numbers(name: str, values: np.ndarray) -> np.ndarray:
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"column {name!r} must hold numbers: {error}; encode it first"
        ) from error


def _as_labels(role: str, name: str, values: np.ndarray) -> np.ndarray:
    is_missing = values != values
    if values.dtype.kind == "O":
        is_missing = is_missing | np.array([value is None for value in values])
        values = values.astype(str)
    if np.any(is_missing):
        raise ValueError(
            f"column {name!r} of `{role}` must not have missing values, "
            f"{int(np.sum(is_missing))} rows do"
        )
    return values
