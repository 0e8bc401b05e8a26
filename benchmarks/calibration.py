"""How fast are metrics, tests and repairs of calibration, against their peers?

Run from the repository root: python -m benchmarks.calibration [--quick]
Peers run in the same process on the same data; ratios are of medians. A peer that is
not installed leaves its line out; where netcal and torchmetrics are missing (they need
a torch) CPU seconds measured on an idle machine of the same kind take their place.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from benchmarks._measure import write
from jaxcur import calibration

STORED = {"netcal ECE": 0.096, "torchmetrics ECE": 0.046, "sklearn temperature": 8.0}


def timed(call: Callable[[], Any], *, repeats: int = 7) -> dict[str, float]:
    """First call, then medians of wall-clock and CPU seconds."""
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


def line(
    workload: str, ours: dict, peer: str, theirs: dict | float, wanted: float | None
) -> dict[str, Any]:
    """One line; `theirs` is a measurement or stored CPU seconds."""
    stored = isinstance(theirs, float)
    cpu = theirs if stored else theirs["cpu"]
    ratio = cpu / ours["cpu"]
    row: dict[str, Any] = {
        "workload": workload,
        "first call s": ours["first"],
        "ours wall s": ours["wall"],
        "ours cpu s": ours["cpu"],
        "peer": peer + (" (stored)" if stored else ""),
        "peer wall s": "" if stored else theirs["wall"],
        "peer cpu s": cpu,
        "peer cpu / ours cpu": ratio,
        "peer wall / ours wall": "" if stored else theirs["wall"] / ours["wall"],
        "wanted": "" if wanted is None else wanted,
        "met": "",
    }
    if wanted is not None:
        best = ratio if stored else max(ratio, theirs["wall"] / ours["wall"])
        row["met"] = "yes" if best >= wanted else "NO"
    return row


def optional(name: str) -> Any:
    """A peer, or None; peers are not dependencies of the library."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # a peer may fail to import in its own way
        print(f"skipped: {name}: {error}", file=sys.stderr)
        return None


def forecasts(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Overconfident forecasts and their outcomes."""
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=n)
    return expit(1.5 * z), (rng.uniform(size=n) < expit(z)).astype(np.int64)


def netcal(probs: np.ndarray, labels: np.ndarray) -> Callable[[], Any] | None:
    """ECE of netcal on NumPy arrays, or None."""
    if peer := optional("netcal.metrics"):
        return lambda: peer.ECE(15).measure(probs, labels)
    return None


def torchmetrics(probs: np.ndarray, labels: np.ndarray) -> Callable[[], Any] | None:
    """ECE of torchmetrics on tensors, checks of its arguments off, or None."""
    peer = optional("torchmetrics.functional.classification")
    if peer is None:
        return None
    torch = importlib.import_module("torch")
    f, y = torch.tensor(probs, dtype=torch.float32), torch.tensor(labels)
    return lambda: peer.binary_calibration_error(f, y, 15, validate_args=False)


def metrics(n: int) -> list[dict[str, Any]]:
    """Binned, cumulative, smooth and kernel errors of n forecasts."""
    f64, y64 = forecasts(n)
    f, y = jnp.asarray(f64, jnp.float32), jnp.asarray(y64, jnp.float32)
    rows = []
    size = f"n = {n:.0e}"
    ece = timed(lambda: calibration.expected_calibration_error(f, y))
    for peer, build in {"netcal ECE": netcal, "torchmetrics ECE": torchmetrics}.items():
        call = build(f64, y64)
        theirs = timed(call, repeats=5) if call else STORED[peer] * n / 1e6
        rows.append(line(f"ECE, 15 bins, {size}", ece, peer, theirs, 10))
    if peer := optional("calibration"):
        theirs = timed(lambda: peer.get_ece(f64, y64, num_bins=15), repeats=3)
        name = "uncertainty-calibration get_ece"
        rows.append(line(f"ECE, 15 bins, {size}", ece, name, theirs, None))
    if peer := optional("mapie.metrics.calibration"):
        ours = timed(lambda: calibration.ks_error(f, y))
        theirs = timed(lambda: peer.kolmogorov_smirnov_statistic(y64, f64), repeats=3)
        rows.append(line(f"KS error, {size}", ours, "MAPIE", theirs, 1))
    if peer := optional("relplot"):
        ours = timed(lambda: calibration.smooth_ece(f, y))
        theirs = timed(lambda: peer.smECE(f64, y64), repeats=3)
        rows.append(line(f"smooth ECE, {size}", ours, "relplot smECE", theirs, 5))

    def kernel(k: int) -> Any:
        return lambda: calibration.kernel_calibration_error(f[:k], y[:k], bandwidth=0.1)

    def pairs(k: int = 3000) -> float:
        r, g = f64[:k] - y64[:k], f64[:k]
        total = r @ np.exp(-np.abs(g[:, None] - g[None, :]) / 0.1) @ r
        return (total - r @ r) / (k * (k - 1))

    theirs = timed(pairs, repeats=3)
    whole = timed(kernel(n))
    rows.append(
        line(
            f"kernel error, exact, {size}",
            whole,
            f"NumPy, all pairs of 3000 rows, times {(n / 3000) ** 2:.0f}",
            theirs["cpu"] * (n / 3000) ** 2,
            None,
        )
    )
    return rows


def isotonic(n: int) -> list[dict[str, Any]]:
    """Fits of a monotone curve: with the sort, and of sorted targets."""
    f64, y64 = forecasts(n)
    f, y = jnp.asarray(f64, jnp.float32), jnp.asarray(y64, jnp.float32)
    f32, y32 = np.asarray(f), np.asarray(y, np.float64)
    ours = timed(lambda: calibration.fit_isotonic(f, y))

    def compiled() -> float:
        order = np.argsort(f32, kind="stable")
        return scipy.optimize.isotonic_regression(y32[order]).x[0]

    peers = [
        (
            "scikit-learn IsotonicRegression",
            lambda: IsotonicRegression().fit(f32, y32),
            3,
        ),
        ("argsort + SciPy isotonic_regression", compiled, 0.5),
    ]
    return [
        line(f"isotonic, n = {n:.0e}", ours, name, timed(call, repeats=5), wanted)
        for name, call, wanted in peers
    ]


def bootstrap(n: int, resamples: int) -> list[dict[str, Any]]:
    """Interval of the ECE against the sums alone of as many resamples in NumPy."""
    f64, y64 = forecasts(n)
    f, y = jnp.asarray(f64, jnp.float32), jnp.asarray(y64, jnp.float32)
    rng = np.random.default_rng(1)
    index = np.minimum((f64 * 15).astype(np.int64), 14)
    residual = f64 - y64
    draw = rng.poisson(1.0, size=n).astype(float)

    def peer() -> None:
        for _ in range(resamples):
            np.bincount(index, draw * residual, minlength=15)

    def ours() -> Any:
        return calibration.confidence_interval(
            calibration.expected_calibration_error,
            f,
            y,
            num_resamples=resamples,
            key=jax.random.key(0),
        )

    workload = f"interval of ECE, {resamples} resamples, n = {n:.0e}"
    name = f"{resamples} np.bincount(index, weights)"
    return [line(workload, timed(ours), name, timed(peer, repeats=3), 2)]


def temperature(n: int, k: int) -> list[dict[str, Any]]:
    """One temperature for many classes."""
    rng = np.random.default_rng(2)
    logits = 2 * rng.normal(size=(n, k)).astype(np.float32)
    labels = (logits + rng.gumbel(size=(n, k))).argmax(axis=1)
    z, c = jnp.asarray(1.5 * logits), jnp.asarray(labels)
    ours = timed(lambda: calibration.fit_temperature(z, c), repeats=3)
    workload = f"temperature, {n:.0e} x {k} logits"
    stored = STORED["sklearn temperature"] * (n * k) / 5e7
    rows = [line(workload, ours, "scikit-learn", stored, 3)]
    private = optional("sklearn.calibration")
    if private is not None and hasattr(private, "_TemperatureScaling"):
        host = np.asarray(z, np.float64)
        theirs = timed(
            lambda: private._TemperatureScaling().fit(host, labels), repeats=1
        )
        rows.append(line(workload, ours, "scikit-learn", theirs, 3))
    if peer := optional("probmetrics.calibrators"):
        probs = np.asarray(jax.nn.softmax(z))
        theirs = timed(
            lambda: peer.TemperatureScalingCalibrator().fit(probs, labels), repeats=1
        )
        rows.append(line(workload, ours, "probmetrics", theirs, 3))
    return rows


def structured(n: int, k: int) -> list[dict[str, Any]]:
    """Matrix scaling shrunk towards one temperature, to the same minimum."""
    peer = optional("probmetrics.calibrators")
    if peer is None:
        return []
    rng = np.random.default_rng(3)
    logits = 2 * rng.normal(size=(n, k)).astype(np.float32)
    labels = (logits + rng.gumbel(size=(n, k))).argmax(axis=1)
    z, c = jnp.asarray(1.5 * logits), jnp.asarray(labels)
    probs = np.asarray(jax.nn.softmax(z))
    ours = timed(lambda: calibration.fit_structured_scaling(z, c), repeats=3)
    theirs = timed(
        lambda: peer.SMSCalibrator(print_init_info=False).fit(probs, labels), repeats=3
    )
    workload = f"structured matrix scaling, {n:.0e} x {k} logits"
    return [line(workload, ours, "probmetrics", theirs, None)]


def main() -> None:
    """Run the cases and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    shrink = 10 if parser.parse_args().quick else 1
    print(f"cores {os.cpu_count()}", file=sys.stderr)
    rows = metrics(10**6 // shrink)
    rows += isotonic(10**6 // shrink)
    rows += bootstrap(10**5 // shrink, 1000)
    rows += temperature(5 * 10**4 // shrink, 1000)
    rows += structured(10**4 // shrink, 20)
    name = "calibration_quick" if shrink > 1 else "calibration"
    write(name, "How fast are metrics and repairs of calibration?", rows)


if __name__ == "__main__":
    main()
