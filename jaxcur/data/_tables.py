"""Reading and writing tables: every way a file can disappoint has one sentence.

Text files are read as text first and turned into numbers column by column. That way a
word in a column of scores is reported with its row instead of turning the whole column
into objects, and a column that is only carried along (an identifier such as `007`)
leaves the program as it came in.
"""

import bz2
import contextlib
import csv
import gzip
import lzma
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from jaxcur._base import import_extra
from jaxcur.data._columns import TableError, each_column, infer, is_text

if TYPE_CHECKING:
    import pandas as pd

_DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_COMPRESSIONS = (".gz", ".bz2", ".xz")


def _kind(path: Path) -> str:
    """The ending that decides the format, compression stripped."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in _COMPRESSIONS:
        suffixes.pop()
    kind = suffixes[-1] if suffixes else ""
    if kind not in (*_DELIMITERS, ".parquet", ".pq"):
        raise TableError(
            f"cannot tell the format of '{path}' from its name; "
            "use a name that ends in .csv, .tsv or .parquet"
        )
    return kind


def read_table(
    path: str | os.PathLike[str], *, delimiter: str | None = None, text: bool = False
) -> "pd.DataFrame":
    r"""Read a CSV, TSV or parquet file into a data frame with a plain row index.

    Args:
        path: file ending in .csv, .tsv or .parquet; text may be compressed (.csv.gz).
            Text must be UTF-8 with one header line.
        delimiter: field separator of a text file; by default a comma, or a tab for
            .tsv.
        text: leave every column of a text file as text. Otherwise a column becomes
            numeric when each of its entries is a number or missing and none is padded
            with zeros (`007` is an identifier, not the number 7).

    Returns:
        The rows in file order.

    Raises:
        TableError: the file is absent, empty, damaged or of unknown format, a column
            name occurs twice, or a row has too many or too few fields.

    Example:
        >>> import pathlib, tempfile
        >>> from jaxcur import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = pathlib.Path(folder.name) / "scores.csv"
        >>> _ = file.write_text("id,score\n007,1.5\n008,\n")
        >>> data.read_table(file)["score"].tolist()
        [1.5, nan]
        >>> folder.cleanup()
    """
    path = Path(path)
    kind = _kind(path)
    if path.is_dir():
        raise TableError(f"'{path}' is a folder; name the file inside it")
    if not path.exists():
        raise TableError(f"there is no file '{path}'; check the path")
    if kind in _DELIMITERS:
        frame = _read_text(path, delimiter or _DELIMITERS[kind])
        if not text:
            frame = each_column(frame, infer)
    else:
        if delimiter is not None:
            raise TableError("a delimiter is for text files; leave it out for parquet")
        frame = _read_parquet(path)
    return frame


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    opener = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with opener.get(path.suffix.lower(), open)(
        path, "rt", encoding="utf-8-sig", newline=""
    ) as stream:
        yield stream


def _read_text(path: Path, delimiter: str) -> "pd.DataFrame":
    import pandas as pd

    if len(delimiter) != 1:
        raise TableError(f"a delimiter is one character, got {delimiter!r}")
    try:
        with _open_text(path) as stream:
            # pandas would fill a short row up and, with some headers, shift a long one.
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            names, rows = _strict_rows(path, reader)
    except UnicodeError as error:
        raise TableError(
            f"'{path}' is not UTF-8 text; save it as UTF-8, or as parquet"
        ) from error
    except csv.Error as error:
        raise TableError(f"'{path}' is not a regular table: {error}") from error
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise TableError(f"cannot read '{path}': {error}") from error
    columns = zip(*rows) if rows else ((),) * len(names)
    return pd.DataFrame(
        {name: pd.Series(column, dtype=str) for name, column in zip(names, columns)}
    )


def _strict_rows(path: Path, reader: Any) -> tuple[list[str], list[list[str]]]:
    """Column names and rows, every row as long as the header; blank lines left out."""
    names: list[str] = []
    rows: list[list[str]] = []
    for row in reader:
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        if not names:
            names = [name.strip() for name in row]
            _refuse_duplicates(path, names)
        elif len(row) == len(names):
            rows.append(row)
        else:
            raise TableError(
                f"line {reader.line_num} of '{path}' has {len(row)} fields, the header "
                f"{len(names)}; correct the line (a missing entry stays empty between "
                "its delimiters, an entry that holds a delimiter needs quotes)"
            )
    if not names:
        raise TableError(
            f"'{path}' is empty; it needs a header line and one line per row"
        )
    return names, rows


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    pyarrow = import_extra("pyarrow", "frames")
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise TableError(f"cannot read '{path}' as parquet: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index(names=frame.index.name or "index")
    frame.columns = pd.Index([str(name) for name in frame.columns])
    _refuse_duplicates(path, list(frame.columns))
    return frame.reset_index(drop=True)


def _refuse_duplicates(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(
            f"'{path}' has more than one column named '{twice[0]}'; "
            "rename all but one of them"
        )


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A scratch file beside `path` that takes its place once it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=".partial-", suffix="".join(path.suffixes)
        )
    except OSError as error:
        raise TableError(f"cannot write '{path}': {error.strerror}") from error
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o666 & ~_umask())
        scratch.replace(path)
    except OSError as error:
        raise TableError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        scratch.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_table(frame: "pd.DataFrame", path: str | os.PathLike[str]) -> Path:
    r"""Write a frame as CSV, TSV or parquet, by the ending of the name.

    The file appears complete or not at all: it is written beside its place and moved
    there. An existing file is replaced; folders are created.

    Args:
        frame: the rows; the index is not written.
        path: file ending in .csv, .tsv or .parquet.

    Returns:
        The path written.

    Raises:
        TableError: unknown format, or the file cannot be written.

    Example:
        >>> import pathlib, tempfile
        >>> import pandas as pd
        >>> from jaxcur import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = pathlib.Path(folder.name) / "out.csv"
        >>> data.write_table(pd.DataFrame({"a": [1]}), file).read_text()
        'a\n1\n'
        >>> folder.cleanup()
    """
    path = Path(path)
    kind = _kind(path)
    if path.is_dir():
        raise TableError(f"'{path}' is a folder; name the file to write")
    with _replacing(path) as scratch:
        if kind in _DELIMITERS:
            frame.to_csv(
                scratch, sep=_DELIMITERS[kind], index=False, lineterminator="\n"
            )
        else:
            import_extra("pyarrow", "frames")
            # Text read from a CSV becomes numbers again where that loses nothing.
            typed = each_column(frame, lambda c: infer(c) if is_text(c) else c)
            typed.to_parquet(scratch, engine="pyarrow", index=False)
    return path
