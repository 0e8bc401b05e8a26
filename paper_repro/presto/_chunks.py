"""Studies in chunks that are saved as they come, so that a run can be resumed."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from paper_repro.optcs._store import Store
from paper_repro.presto import _real, _study

Draw = Callable[[Sequence[int]], dict[str, np.ndarray]]
# Replications of one call of the program, and between two savings.
CHUNK = 25
SPLIT_CHUNK = 7


def world_store(world: _study.World, folder: Path) -> Store:
    """Saved replications of one simulated setting."""
    number = _study.WORLDS.index(world)
    description = repr(
        (
            world,
            _study.NUM_ROWS,
            _study.NUM_FEATURES,
            _study.NUM_STRENGTHS,
            _study.RATIO,
            _study.NUM_FOLDS,
            _study.RTOL,
        )
    )
    return Store(folder / f"world-{number}.state.json", description)


def table_store(table: _real.Table, folder: Path) -> Store:
    """Saved splits of one data set."""
    parts: list[Any] = [table.name, table.x.shape, table.num_strengths, _real.RTOL]
    parts += [_real.METHODS, _real.METRICS, "chosen_status"]
    name = table.name.replace(" ", "-")
    return Store(folder / f"{name}.state.json", repr(tuple(parts)))


def complete(
    store: Store, draw: Draw, name: str, count: int, chunk: int
) -> dict[str, np.ndarray]:
    """Add the results that are missing among the first `count`; return all of them."""
    missing = store.missing(count)
    start = time.perf_counter()
    try:
        for first in range(0, len(missing), chunk):
            numbers = missing[first : first + chunk]
            # One shape, one program: the last chunk is filled up with copies.
            filled = numbers + [numbers[-1]] * (chunk - len(numbers))
            found = draw(filled)
            for i, number in enumerate(numbers):
                store.add(number, {key: value[i] for key, value in found.items()})
            store.save()
            done = first + len(numbers)
            seconds = time.perf_counter() - start
            left = seconds / done * (len(missing) - done)
            text = f"\r{name}: {done}/{len(missing)}, {seconds:.0f} s"
            print(f"{text}, about {left:.0f} s left   ", end="", flush=True)
    finally:
        # What is drawn is kept, also when the run is interrupted.
        store.save()
    if missing:
        print()
    return store.arrays(count)


def simulate(world: _study.World, count: int, folder: Path) -> dict[str, np.ndarray]:
    """Replications of a setting, name -> (r, ...)."""

    def draw(numbers: Sequence[int]) -> dict[str, np.ndarray]:
        return _study.replications(world, numbers)

    return complete(world_store(world, folder), draw, world.name, count, CHUNK)


def resplit(table: _real.Table, count: int, folder: Path) -> dict[str, np.ndarray]:
    """Splits of a data set, name -> (r, ...)."""

    def draw(numbers: Sequence[int]) -> dict[str, np.ndarray]:
        return _real.splits(table, numbers)

    return complete(table_store(table, folder), draw, table.name, count, SPLIT_CHUNK)


def without_gap(store: Store) -> int:
    """One more than the last number without a gap among the saved results."""
    count = 0
    while count in store.results:
        count += 1
    return count
