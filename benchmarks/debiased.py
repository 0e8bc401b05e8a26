"""How fast is debiased estimation, against ppi-python and a bare Gram matrix?

Run from the repository root: python -m benchmarks.debiased [--quick]
Peers run in the same process on the same float64 data; ratios are of medians.
"""

import argparse
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import ppi_py

from benchmarks._measure import write
from jaxcur import debiased, learners


def timed(call: Callable[[], Any], *, repeats: int) -> dict[str, float]:
    """First call, and medians of wall-clock and CPU time after it, in seconds."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    first = time.perf_counter() - start
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "first": first,
        "wall": float(np.median(walls)),
        "cpu": float(np.median(cpus)),
    }


def line(workload: str, ours: dict, peer: str, theirs: dict) -> dict[str, Any]:
    """One line of the table; ratios are of the peer's time over ours."""
    return {
        "workload": workload,
        "first call s": ours["first"],
        "ours s": ours["wall"],
        "ours cpu s": ours["cpu"],
        "peer": peer,
        "peer s": theirs["wall"],
        "peer cpu s": theirs["cpu"],
        "peer / ours": theirs["wall"] / ours["wall"],
        "peer cpu / ours cpu": theirs["cpu"] / ours["cpu"],
    }


def table(n: int, d: int, seed: int, share: float = 0.05) -> dict[str, np.ndarray]:
    """A regression with machine labels for all rows and gold ones for a share."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, d - 1))])
    eta = X @ (0.3 * rng.normal(size=d))
    y = eta + rng.normal(size=n)
    binary = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    return {
        "X": X,
        "y": y,
        "y_hat": y + 0.5 * rng.normal(size=n) + 0.3,
        "binary": binary,
        "binary_hat": np.where(rng.random(n) < 0.1, 1 - binary, binary),
        "labeled": np.arange(n) < share * n,
    }


def one_table(n: int, d: int) -> list[dict[str, Any]]:
    """OLS and logistic, tuned, against the peer tuned, and a bare Gram and solve."""
    data = table(n, d, 0)
    on_device = {k: jnp.asarray(v) for k, v in data.items()}
    m = int(data["labeled"].sum())
    rows = []
    peers = {
        "ols": (debiased.ols, ppi_py.ppi_ols_ci, "y"),
        "logistic": (debiased.logistic, ppi_py.ppi_logistic_ci, "binary"),
    }
    results = {}
    for name, (fit, peer, label) in peers.items():
        for tuning in ("optimal", "scalar", None):

            def ours(fit=fit, label=label, tuning=tuning):
                results[label] = fit(
                    on_device["X"],
                    on_device[label],
                    y_predicted=on_device[f"{label}_hat"],
                    labeled=on_device["labeled"],
                    power_tuning=tuning,
                )
                return results[label].covariance

            def theirs(peer=peer, label=label, tuning=tuning):
                X, y, guess = data["X"], data[label], data[f"{label}_hat"]
                lam = 1.0 if tuning is None else None
                return np.asarray(
                    peer(X[:m], y[:m], guess[:m], X[m:], guess[m:], lam=lam)
                )

            fast = timed(ours, repeats=7)
            if tuning != "scalar":
                slow = timed(theirs, repeats=2)
                last = (f"ppi-python, lam {'tuned' if tuning else '1'}", slow)
            rows.append(
                line(f"{name}, N = {n:.0e}, d = {d}, tuning {tuning}", fast, *last)
            )
    tuned = next(r for r in rows if r["workload"].startswith("ols"))
    first = {
        "first": tuned["first call s"],
        "wall": tuned["ours s"],
        "cpu": tuned["ours cpu s"],
    }
    X, y = on_device["X"], on_device["y"]
    gram = jax.jit(lambda X, y: jnp.linalg.solve(X.T @ X, X.T @ y))
    A, b = data["X"], data["y"]
    bare = timed(lambda: gram(X, y), repeats=7)
    numpy_bare = timed(lambda: np.linalg.solve(A.T @ A, A.T @ b), repeats=7)
    rows.append(line("ols, tuned, against", first, "jax X'X + solve", bare))
    rows.append(line("ols, tuned, against", first, "NumPy X'X + solve", numpy_bare))
    return rows


def replications(count: int, n: int, d: int, peer_count: int) -> list[dict[str, Any]]:
    """A simulation study in one program, cross-fitting included."""
    tables = [table(n, d, seed, share=0.2) for seed in range(peer_count)]
    rng = np.random.default_rng(1)
    base = {k: np.stack([t[k] for t in tables]) for k in tables[0]}
    order = rng.integers(0, peer_count, count)
    X, y, guess, labeled = (
        jnp.asarray(base[k][order]) for k in ("X", "binary", "binary_hat", "labeled")
    )
    keys = jax.random.split(jax.random.key(0), count)
    ridge = learners.Ridge(1.0)

    def plain(X, y, guess, labeled, key):
        del key
        result = debiased.logistic(X, y, y_predicted=guess, labeled=labeled)
        return result.conf_int()

    def crossed(X, y, guess, labeled, key):
        features = jnp.concatenate([X[:, 1:], guess[:, None]], axis=1)
        predicted = debiased.cross_fit(
            ridge, features, y, labeled=labeled, num_folds=5, key=key
        )[0]
        result = debiased.logistic(X, y, y_predicted=predicted, labeled=labeled)
        return result.conf_int()

    def theirs():
        out = []
        for t in tables:
            m = int(t["labeled"].sum())
            a, b = t["X"], t["binary_hat"]
            out.append(
                ppi_py.ppi_logistic_ci(a[:m], t["binary"][:m], b[:m], a[m:], b[m:])
            )
        return np.asarray(out)

    slow = timed(theirs, repeats=1)
    scale = count / peer_count
    slow = {k: v * scale for k, v in slow.items()}
    rows = []

    def chunked(one):
        # Tables of 25 replications stay in the cache of a core; of 1000 they do not.
        return lambda *data: jax.lax.map(lambda row: one(*row), data, batch_size=25)

    for name, mapped in (
        (", vmap", jax.vmap(plain)),
        (", vmap in chunks of 25", chunked(plain)),
        (", 5-fold cross-fitting, vmap", jax.vmap(crossed)),
        (", 5-fold cross-fitting, vmap in chunks of 25", chunked(crossed)),
    ):
        program = jax.jit(mapped)
        fast = timed(lambda p=program: p(X, y, guess, labeled, keys), repeats=5)
        rows.append(
            line(
                f"{count} replications of logistic, N = {n}, d = {d}{name}",
                fast,
                f"ppi-python, tuned, no cross-fitting ({peer_count} x {scale:g})",
                slow,
            )
        )
    return rows


MODELS = (("ols", "y"), ("logistic", "binary"))


def resident() -> int:
    """Bytes of this process in memory now."""
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def footprint(name: str, label: str, n: int, d: int) -> dict[str, Any]:
    """Peak memory of a fit beside its input; the compiler is counted apart."""

    def load() -> dict[str, Any]:
        return {k: jnp.asarray(v) for k, v in table(n, d, 0).items()}

    def fit(data: dict[str, Any]) -> Any:
        result = getattr(debiased, name)(
            data["X"],
            data[label],
            y_predicted=data[f"{label}_hat"],
            labeled=data["labeled"],
        )
        return jax.block_until_ready(result)

    start = resident()
    data = load()
    size = sum(v.nbytes for v in data.values())
    loaded = resident()
    fit(data)
    compiled = resident()
    peaks, done = [], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peaks.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    fit(data)
    done.set()
    watcher.join()
    return {
        "workload": f"memory of {name}, N = {n:.0e}, d = {d}",
        "input MiB": size / 2**20,
        "peak beyond the input MiB": (max(peaks) - compiled) / 2**20,
        "peak / input": 1 + max(0, max(peaks) - compiled) / size,
        "first fit, with compiler, MiB": (compiled - loaded) / 2**20,
        "drawing the data MiB": (loaded - start) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    n = 100_000 if quick else 1_000_000
    memory = [footprint(name, label, n, 10) for name, label in MODELS]
    rows = one_table(n, 10) + replications(100 if quick else 1000, 1000, 5, 50)
    write("debiased", __doc__.splitlines()[0], rows + memory)


if __name__ == "__main__":
    main()
