"""Passes over chunks: sums on the host in float64, remembered between runs."""

import json
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np
from jax import Array

from jaxcur._base import ProgressBar
from jaxcur.debiased._blocks import LabeledRows, Rows
from jaxcur.debiased._chunk_design import Design, Survey, add_surveys, count_part
from jaxcur.debiased._chunks import Chunks, Layout, Part, as_part, check_finite
from jaxcur.debiased._fit import largest_influence
from jaxcur.debiased._models import Model
from jaxcur.debiased._sums import (
    Sizes,
    everyone_spread,
    everyone_totals,
    labeled_spread,
    labeled_totals,
)

FORMAT = 1


@partial(jax.jit, static_argnames=("model", "sizes", "parts"))
def _sums(
    model: Model,
    sizes: Sizes,
    parts: tuple[str, ...],
    rows: Rows | None,
    labeled: LabeledRows | None,
    theta: Array,
    gain: Array | None,
    tuning: Array | None,
) -> dict[str, Any]:
    """The sums named in `parts`, over the rows or labelled rows that are given."""
    out: dict[str, Any] = {}
    if rows is not None:
        if "totals" in parts:
            out["everyone"] = everyone_totals(model, theta, rows)
        if "spread" in parts:
            out["everyone_spread"] = everyone_spread(model, theta, rows, sizes)
    if labeled is not None:
        if "totals" in parts or "gold" in parts:
            out["labeled"] = labeled_totals(model, theta, labeled)
        if "spread" in parts:
            out["labeled_spread"] = labeled_spread(model, theta, labeled, sizes)
        if gain is not None:
            assert tuning is not None
            out["largest"] = largest_influence(model, theta, labeled, gain, tuning)
    return out


def _add(total: dict[str, Any], fresh: Mapping[str, Any]) -> dict[str, Any]:
    """Add the device's sums to the host's, in float64; maxima under "largest"."""
    host = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), dict(fresh))
    for name, value in host.items():
        if name not in total:
            total[name] = value
        elif name == "largest":
            total[name] = np.maximum(total[name], value)
        else:
            total[name] = jax.tree.map(np.add, total[name], value)
    return total


class Memory:
    """Finished passes, in a file that an interrupt leaves whole.

    A pass is found again by what it asked for, its parameters included, so a run that
    continues makes the same requests and gets the stored answers.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None, identity: dict[str, Any]
    ) -> None:
        self._path = None if path is None else Path(path)
        self._identity = identity
        self._entries: list[tuple[str, dict[str, Any]]] = []
        if self._path is not None and self._path.exists():
            self._entries = self._load(self._path)

    def find(self, request: str) -> dict[str, Any] | None:
        """The stored answer, if there is one."""
        for known, answer in self._entries:
            if known == request:
                return answer
        return None

    def store(self, request: str, answer: dict[str, Any]) -> None:
        """Keep an answer, and write the file."""
        self._entries.append((request, answer))
        if self._path is None:
            return
        arrays: dict[int, np.ndarray] = {}
        entries = [[known, _pack(value, arrays)] for known, value in self._entries]
        text = json.dumps({"identity": self._identity, "entries": entries})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(self._path.name + ".part")
        with part.open("wb") as file:
            named = {f"array_{place}": array for place, array in arrays.items()}
            np.savez(file, text=np.array(text), **named)  # pyright: ignore
        os.replace(part, self._path)

    def _load(self, path: Path) -> list[tuple[str, dict[str, Any]]]:
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                content = json.loads(str(saved["text"][()]))
                arrays = {
                    int(name.removeprefix("array_")): saved[name]
                    for name in saved.files
                    if name != "text"
                }
                entries = [
                    (request, _unpack(value, arrays))
                    for request, value in content["entries"]
                ]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(
                f"`state_path` {path} is not a state of this function; delete it to "
                "start again"
            ) from error
        known = content["identity"]
        for name, value in json.loads(json.dumps(self._identity)).items():
            if known.get(name) != value:
                raise ValueError(
                    f"`state_path` {path} belongs to another run: {name} was "
                    f"{known.get(name)!r} and is {value!r}; delete it to start again"
                )
        return entries


def _pack(value: Any, arrays: dict[int, np.ndarray]) -> Any:
    """Containers as JSON, with the place of each array in their stead."""
    if isinstance(value, dict):
        return {name: _pack(item, arrays) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_pack(item, arrays) for item in value]
    if value is None:
        return None
    # One copy of a variable that observed and predicted records share.
    arrays[id(value)] = value
    return id(value)


def _unpack(value: Any, arrays: Mapping[int, np.ndarray]) -> Any:
    if isinstance(value, dict):
        return {name: _unpack(item, arrays) for name, item in value.items()}
    if isinstance(value, list):
        return tuple(_unpack(item, arrays) for item in value)
    return None if value is None else arrays[value]


class Passes:
    """Sums over all chunks, one pass at a time.

    Labelled rows are few and kept, unless they need more than `max_labeled_bytes`;
    then every pass takes them from the chunks.
    """

    def __init__(
        self,
        chunks: Chunks,
        layout: Layout,
        model: Model,
        *,
        memory: Memory,
        bar: ProgressBar,
        max_labeled_bytes: int,
    ) -> None:
        self._chunks, self._layout, self._model = chunks, layout, model
        self._memory, self._bar = memory, bar
        self._num_passes = 0
        survey, kept = self._count(max_labeled_bytes)
        self.survey = survey
        self.design = Design(survey, layout)
        strata = 0 if layout.design == "bernoulli" else layout.num_strata
        clusters = (layout.num_clusters,) if layout.num_clusters else ()
        self.sizes = Sizes(strata, clusters)
        self.labeled = None if kept is None else self.design.labeled(kept)

    def parts(
        self, label: str, total: int | None = None, *, check: bool = False
    ) -> Iterator[Part]:
        """All chunks in their common form, skipping those without rows."""
        self._num_passes += 1
        self._bar.restart(f"pass {self._num_passes}, {label}", total)
        self._bar.update(0)
        index = -1
        for index, chunk in enumerate(self._chunks()):
            try:
                part = as_part(chunk, self._layout)
                if check:
                    check_finite(part, self._layout)
            except (ValueError, TypeError) as error:
                raise type(error)(f"chunk {index}: {error}") from error
            if part.labeled.size:
                yield part
            self._bar.update(index + 1)

    def _count(self, max_bytes: int) -> tuple[Survey, Part | None]:
        answer = self._memory.find("count")
        if answer is None:
            survey, kept = self._survey(max_bytes)
            leaves = None if kept is None else list(kept)
            answer = {"survey": list(survey), "labeled": leaves}
            self._memory.store("count", answer)
            return survey, kept
        self._num_passes += 1
        survey, leaves = Survey(*answer["survey"]), answer["labeled"]
        return survey, None if leaves is None else Part(*leaves)

    def _survey(self, max_bytes: int) -> tuple[Survey, Part | None]:
        survey: Survey | None = None
        kept: list[Part] | None = []
        size = 0
        for part in self.parts("counting", check=True):
            fresh = count_part(part, self._layout)
            survey = fresh if survey is None else add_surveys(survey, fresh)
            if kept is None:
                continue
            few = part.take(np.flatnonzero(part.labeled))
            size += sum(leaf.nbytes for leaf in jax.tree.leaves(few))
            kept.append(few)
            if size > max_bytes:
                kept = None
        if survey is None:
            raise ValueError("no rows: `chunks` has none of positive weight")
        return survey, None if kept is None else _concatenate(kept)

    def sums(
        self,
        parts: tuple[str, ...],
        theta: Array,
        gain: Array | None = None,
        tuning: Array | None = None,
    ) -> dict[str, Any]:
        """Sums at `theta`, over all rows.

        Args:
            parts: of "totals", "spread" and, for labelled rows alone, "gold".
            theta: (p,).
            gain: (p, q), asks for the largest influence of a labelled row too.
            tuning: (q, q), with `gain`.
        """
        at = (theta, gain, tuning)
        total: dict[str, Any] = {}
        if self.labeled is not None:
            call = partial(_sums, self._model, self.sizes, parts)
            _add(total, call(None, self.labeled, *at))
            # The rest of the pass has no use for them.
            at = (theta, None, None)
            if parts == ("gold",):
                return total
        request = _request(parts, at)
        answer = self._memory.find(request)
        if answer is None:
            answer = self._run(parts, at)
            self._memory.store(request, answer)
        else:
            self._num_passes += 1
        return total | answer

    def _run(self, parts: tuple[str, ...], at: tuple[Any, ...]) -> dict[str, Any]:
        call = partial(_sums, self._model, self.sizes, parts)
        total: dict[str, Any] = {}
        pending: dict[str, Any] = {}
        num_rows = 0
        for part in self.parts(" and ".join(parts), int(self.survey.num_chunks)):
            num_rows += part.labeled.size
            rows = self.design.rows(part) if parts != ("gold",) else None
            labeled = None
            if self.labeled is None and part.labeled.any():
                few = part.take(np.flatnonzero(part.labeled))
                labeled = self.design.labeled(few)
            # The device works on one chunk while the host reads the next.
            fresh = call(rows, labeled, *at)
            _add(total, pending)
            pending = fresh
        _add(total, pending)
        if num_rows != int(self.survey.num_rows):
            raise ValueError(
                "`chunks` must return a fresh iterator over the same rows at every "
                f"call: a pass found {num_rows} rows after "
                f"{int(self.survey.num_rows)} when they were counted"
            )
        return total


def _concatenate(parts: list[Part]) -> Part:
    first = parts[0]
    same = [a is b for a, b in zip(first.observed, first.predicted)]

    def joined(leaves: Any) -> Any:
        return None if leaves[0] is None else np.concatenate(leaves)

    predicted = [joined(leaves) for leaves in zip(*(part.predicted for part in parts))]
    observed = [
        guess if shared else joined(leaves)
        for guess, shared, *leaves in zip(
            predicted, same, *(part.observed for part in parts)
        )
    ]
    rest = (joined(leaves) for leaves in zip(*(part[2:] for part in parts)))
    return Part(observed, predicted, *rest)


def _request(parts: tuple[str, ...], at: tuple[Any, ...]) -> str:
    """A text that two requests share only if every bit of them agrees."""
    arrays = [None if a is None else np.asarray(a) for a in at]
    texts = [None if a is None else [str(a.dtype), a.tobytes().hex()] for a in arrays]
    return json.dumps([parts, texts])
