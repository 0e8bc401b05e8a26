"""The metrics seen, kept as distinct values with counts: intervals need them."""

import base64
import zlib
from typing import Any

import numpy as np

MAX_DISTINCT = 2**18
GRID = 2**14


class Stored:
    """Metrics of one component other than 0 and 1, as values with counts.

    A metric such as a false discovery proportion takes few values, so a million
    replications fit into a page. Beyond `MAX_DISTINCT` values of a plain mean, the
    values are rounded to a grid of 2^-14 and the interval uses both ends of the cell,
    which widens it by at most 6e-5 and keeps it valid.
    """

    def __init__(self) -> None:
        self.values = np.zeros(0, np.complex128)
        self.counts = np.zeros(0, np.int64)
        self.coarse = False
        self._pending: list[np.ndarray] = []
        self._num_pending = 0

    def append(self, numerator: np.ndarray, denominator: np.ndarray) -> None:
        """Add pairs."""
        if numerator.size == 0:
            return
        self._pending.append(numerator + 1j * denominator)
        self._num_pending += numerator.size
        if self._num_pending > max(MAX_DISTINCT, 2 * self.values.size):
            self.compact()

    def compact(self) -> None:
        """Merge equal pairs; go to the grid when there are too many."""
        if self._pending:
            fresh = np.concatenate(self._pending)
            values = np.concatenate([self.values, self._round(fresh)])
            counts = np.concatenate([self.counts, np.ones(fresh.size, np.int64)])
            self.values, self.counts = _distinct(values, counts)
            self._pending, self._num_pending = [], 0
        too_many = self.values.size > MAX_DISTINCT and not self.coarse
        if too_many and np.all(np.imag(self.values) == 1):
            self.coarse = True
            self.values, self.counts = _distinct(self._round(self.values), self.counts)

    def _round(self, values: np.ndarray) -> np.ndarray:
        if not self.coarse:
            return values
        return np.floor(np.real(values) * GRID) / GRID + 1j * np.imag(values)

    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Lower and upper numerators, denominators, counts."""
        self.compact()
        low = np.real(self.values)
        high = np.minimum(low + 1 / GRID, 1.0) if self.coarse else low
        return low, high, np.imag(self.values), self.counts

    def to_json(self) -> dict[str, Any]:
        """Plain values; arrays compressed to text."""
        self.compact()
        return {
            "coarse": self.coarse,
            "values": _pack(self.values),
            "counts": _pack(self.counts),
        }

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Stored":
        """Inverse of `to_json`."""
        stored = cls()
        stored.coarse = bool(saved["coarse"])
        stored.values = _unpack(saved["values"], np.complex128)
        stored.counts = _unpack(saved["counts"], np.int64)
        return stored


def _distinct(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, where = np.unique(values, return_inverse=True)
    total = np.zeros(unique.size, np.int64)
    np.add.at(total, where, counts)
    return unique, total


def _pack(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes())).decode("ascii")


def _unpack(text: str, dtype: Any) -> np.ndarray:
    raw = zlib.decompress(base64.b64decode(text))
    little = np.dtype(dtype).newbyteorder("<")
    return np.frombuffer(raw, little).astype(dtype)
