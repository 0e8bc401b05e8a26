"""Files that live elsewhere: fetched once, checked by SHA-256, kept in a cache.

A checksum is the only evidence that two people read the same data. Where none is known
beforehand, a download has to be accepted explicitly; its checksum is then written down
beside the file, in the format of the `sha256sum` program, and holds from then on.
"""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

from jaxcur._base import import_extra

FOLDER_VARIABLE = "JAXCUR_DATA"
SUMS = "SHA256SUMS"
_HEX = re.compile(r"[0-9a-f]{64}")


class DownloadError(OSError):
    """A file cannot be had or is not what it should be; one line, with the way out."""

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """Where a file comes from and how to know it.

    Attributes:
        name: its name on disk.
        url: where it is served.
        sha256: 64 hexadecimal digits, or None where no checksum was published.
    """

    name: str
    url: str
    sha256: str | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name != Path(self.name).name:
            raise ValueError(f"`name` must be a plain file name, got {self.name!r}")
        if not self.url.startswith(("https://", "http://")):
            raise ValueError(f"`url` must start with https://, got {self.url!r}")
        if self.sha256 is not None and not _HEX.fullmatch(self.sha256):
            raise ValueError(
                "`sha256` must be 64 lower-case hexadecimal digits or None, got "
                f"{self.sha256!r}"
            )


def data_folder() -> Path:
    """The folder of files that were fetched, or the one that `JAXCUR_DATA` names.

    Raises:
        ModuleNotFoundError: `JAXCUR_DATA` is not set and pooch, which knows the usual
            place of a cache, is not installed; the message names the extra.
    """
    own = os.environ.get(FOLDER_VARIABLE)
    if own:
        return Path(own).expanduser()
    return Path(import_extra("pooch", "data").os_cache("jaxcur"))


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_sums(folder: Path) -> dict[str, str]:
    """The checksums that `sha256sum * > SHA256SUMS` wrote in a folder, by file name.

    Raises:
        DownloadError: a line is not "<64 hexadecimal digits>  <name>".
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    sums = {}
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        digest, _, name = line.strip().partition(" ")
        name = name.lstrip(" *")
        if not _HEX.fullmatch(digest.lower()) or not name:
            raise DownloadError(
                f"line {number} of '{path}' is not '<sha256>  <file name>'; write the "
                "file with: sha256sum * > SHA256SUMS"
            )
        sums[name] = digest.lower()
    return sums


def _write_sum(folder: Path, name: str, digest: str) -> None:
    sums = read_sums(folder) | {name: digest}
    text = "".join(f"{sums[key]}  {key}\n" for key in sorted(sums))
    scratch = folder / f".{SUMS}.{os.getpid()}"
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(folder / SUMS)


def _check(path: Path, expected: str | None, source: str) -> None:
    if expected is None:
        return
    found = file_sha256(path)
    if found != expected:
        raise DownloadError(
            f"'{path}' has SHA-256 {found}, but {source} says {expected}: it is "
            "damaged or another version; delete it and fetch it again"
        )


def fetch(file: RemoteFile, *, accept_unverified: bool = False) -> Path:
    """The path of a file on this machine, downloading it if it is not here yet.

    If the environment variable `JAXCUR_DATA` names a folder, files are taken from there
    and nothing is ever downloaded. Otherwise they are kept in the cache folder of the
    system and fetched at most once.

    A file is checked against `file.sha256` and against the folder's `SHA256SUMS`, on
    every call, where there is one.

    Args:
        file: what to get.
        accept_unverified: download a file for which no checksum is known. What arrives
            is recorded in `SHA256SUMS`, so that a later change is noticed; that it is
            the right file nobody has checked.

    Returns:
        The path.

    Raises:
        DownloadError: not in the folder of `JAXCUR_DATA`; no checksum is known; no
            connection; a checksum does not match.
        ModuleNotFoundError: pooch is not installed; the message names the extra.

    Cost: one pass over the file for its checksum.

    Example:
        >>> import os, pathlib, tempfile
        >>> from jaxcur import data
        >>> folder = tempfile.TemporaryDirectory()
        >>> _ = pathlib.Path(folder.name, "a.tab").write_text("Y")
        >>> os.environ["JAXCUR_DATA"] = folder.name
        >>> path = data.fetch(data.RemoteFile("a.tab", "https://example.org/a.tab"))
        >>> path.name
        'a.tab'
        >>> del os.environ["JAXCUR_DATA"]
        >>> folder.cleanup()
    """
    folder = data_folder()
    path = folder / file.name
    if os.environ.get(FOLDER_VARIABLE):
        if not path.is_file():
            raise DownloadError(
                f"there is no '{file.name}' in the folder {FOLDER_VARIABLE} names, "
                f"'{folder}'; save {file.url} under that name"
            )
        _check_known(path, file, folder)
        return path
    pooch = import_extra("pooch", "data")
    known = file.sha256 or read_sums(folder).get(file.name)
    if known is None and not accept_unverified:
        raise DownloadError(
            f"no checksum of {file.url} is known, so a download could not be checked; "
            "pass accept_unverified=True to take what the server sends, or save the "
            f"file as '{file.name}' in a folder and set {FOLDER_VARIABLE} to it"
        )
    if not path.is_file():
        _download(pooch, file, folder, known)
    _check_known(path, file, folder)
    if known is None:
        _write_sum(folder, file.name, file_sha256(path))
    return path


def _check_known(path: Path, file: RemoteFile, folder: Path) -> None:
    _check(path, file.sha256, "its published checksum")
    _check(path, read_sums(folder).get(file.name), f"'{folder / SUMS}'")


def _download(pooch, file: RemoteFile, folder: Path, known: str | None) -> None:
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        pooch.retrieve(
            url=file.url,
            known_hash=None if known is None else f"sha256:{known}",
            fname=file.name,
            path=folder,
        )
    except (OSError, ValueError) as error:
        # requests' errors are OSErrors; a wrong checksum is a ValueError.
        raise DownloadError(
            f"cannot download {file.url}: {error}; or save the file as "
            f"'{file.name}' in a folder and set {FOLDER_VARIABLE} to it"
        ) from error
    finally:
        logger.setLevel(level)
    path = folder / file.name
    with path.open("rb") as handle:
        start = handle.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        path.unlink()
        raise DownloadError(
            f"{file.url} answered with a web page instead of the file (a server under "
            "maintenance does that); try again later"
        )
