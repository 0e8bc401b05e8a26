"""How fast is exact conformal selection, against a NumPy sort and a NumPy loop?

Run from the repository root: python -m benchmarks.conformal_selection [--quick]
Peers run in the same process on the same float32 data; ratios are of medians.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._measure import measure, write
from jaxcur import conformal

LEVEL = 0.1


def loop_selection(scores: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """The definition as it is usually written: one p-value at a time, then BH."""
    n, m = scores.size, tests.size
    p = np.array([(1 + np.sum(scores <= t)) / (n + 1) for t in tests])
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= LEVEL * np.arange(1, m + 1) / m)
    selected = np.zeros(m, bool)
    if passed.size:
        selected[order[: passed[-1] + 1]] = True
    return selected


def table_selection(scores: np.ndarray, tests: np.ndarray) -> np.ndarray:
    """The same with one n x m comparison table."""
    n, m = scores.size, tests.size
    p = (1 + np.sum(scores <= tests[:, None], axis=1)) / (n + 1)
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= LEVEL * np.arange(1, m + 1) / m)
    selected = np.zeros(m, bool)
    if passed.size:
        selected[order[: passed[-1] + 1]] = True
    return selected


def row(
    workload: str,
    who: str,
    ours: dict[str, float],
    peer: str,
    theirs: dict[str, float],
) -> dict[str, Any]:
    """One line of the table; `ratio` is the time of the peer over ours."""
    return {
        "workload": workload,
        "ours": who,
        "ours s": ours["median"],
        "first call s": ours["first"],
        "peer": peer,
        "peer s": theirs["median"],
        "peer / ours": theirs["median"] / ours["median"],
        "ours / peer": ours["median"] / theirs["median"],
    }


def large(size: int) -> list[dict[str, Any]]:
    """One selection with n = m = size, against one NumPy sort of all the numbers."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=size).astype(np.float32)
    tests = (rng.normal(size=size) - 0.5).astype(np.float32)
    weights = rng.uniform(0.1, 2, size=size).astype(np.float32)
    both = np.concatenate([scores, tests])
    v, t, w = (jnp.asarray(a) for a in (scores, tests, weights))
    sort = measure(lambda: np.sort(both))
    calls: dict[str, Callable[[], Any]] = {
        "select": lambda: conformal.select(v, t, level=LEVEL).selected,
        "p_values": lambda: conformal.p_values(v, t),
        "auxiliary_sizes": lambda: conformal.auxiliary_sizes(v, t, level=LEVEL),
        "select, weighted": lambda: (
            conformal.select(
                v, t, level=LEVEL, calibration_weights=w, test_weights=w, xi=0.5
            ).selected
        ),
    }
    name = f"n = m = {size:.0e}"
    peer = "one np.sort of 2n float32"
    return [row(name, k, measure(f), peer, sort) for k, f in calls.items()]


def monte_carlo(replications: int, size: int) -> list[dict[str, Any]]:
    """Many small selections in one vmapped program, against NumPy loops."""
    rng = np.random.default_rng(1)
    shape = (replications, size)
    scores = rng.normal(size=shape).astype(np.float32)
    tests = (rng.normal(size=shape) - 1).astype(np.float32)
    study = jax.jit(jax.vmap(lambda v, t: conformal.select(v, t, level=LEVEL).selected))
    found = np.asarray(study(scores, tests))
    assert (found[0] == loop_selection(scores[0], tests[0])).all()
    ours = measure(lambda: study(scores, tests))
    name = f"{replications} replications, n = m = {size}"
    peers = {
        "NumPy loop over candidates": loop_selection,
        "NumPy table per replication": table_selection,
    }
    rows = []
    for peer, function in peers.items():
        run = partial(map, function, scores, tests)
        theirs = measure(lambda run=run: list(run()), repeats=3)
        rows.append(row(name, "select, vmapped", ours, peer, theirs))
    return rows


def stream(total: int, chunk: int) -> None:
    """Child process: select over `total` simulated scores, print seconds and memory."""
    calibration = jax.random.normal(jax.random.key(0), (10**6,))

    @jax.jit
    def step(state: conformal.RankHistogram, key: jax.Array) -> Any:
        return state.update(jax.random.normal(key, (chunk,)) - 0.5)

    start = time.perf_counter()
    state = conformal.RankHistogram.init(calibration)
    key = jax.random.key(1)
    for i in range(total // chunk):
        state = step(state, jax.random.fold_in(key, i))
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    # Two states of two billion rows each, as two machines would hand them in.
    doubled = state.merge(state)
    begin = time.perf_counter()
    merged = doubled.merge(doubled)
    cutoff = merged.score_cutoff(LEVEL)
    merge_seconds = time.perf_counter() - begin
    assert merged.num_rows() == 4 * total
    assert float(cutoff) == float(state.score_cutoff(LEVEL))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{seconds} {merge_seconds} {peak} {float(cutoff)} {merged.num_rows()}")


def streamed(total: int, chunk: int) -> list[dict[str, Any]]:
    """RankHistogram over a stream, in a fresh process so that its peak is its own."""
    command = [sys.executable, "-m", "benchmarks.conformal_selection"]
    command += ["--stream", str(total), "--chunk", str(chunk)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, merge, peak, cutoff, rows = (float(x) for x in out.split())
    return [
        {
            "workload": f"stream of {total:.0e} scores, n = 1e6, chunks of {chunk:.0e}",
            "ours": "RankHistogram, drawing the scores included",
            "ours s": seconds,
            "rows per s": total / seconds,
            "peak GiB": peak,
            "cutoff": cutoff,
        },
        {
            "workload": f"merge of two states of {2 * total:.0e} rows, and cut-off",
            "ours": "RankHistogram.merge, score_cutoff",
            "ours s": merge,
            "rows": rows,
            "cutoff": cutoff,
        },
    ]


def main() -> None:
    """Run the cases and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--stream", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, default=10**7, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stream:
        stream(options.stream, options.chunk)
        return
    shrink = 10 if options.quick else 1
    rows = large(10**6 // shrink)
    rows += monte_carlo(1000 // shrink, 200)
    rows += streamed(10**9 // shrink, 10**7 // shrink)
    question = "Conformal selection against a NumPy sort and NumPy loops"
    write("conformal_selection" + ("_quick" if options.quick else ""), question, rows)


if __name__ == "__main__":
    main()
