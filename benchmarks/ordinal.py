"""How fast is PRESTO against the R code, and proportional odds against Python peers?

Run from the repository root: python -m benchmarks.ordinal [--quick]
Everything is float64. The R code is not run: its stored CPU seconds (one machine,
R 4.2.2) are scaled by the CPU time that NumPy takes to sort 1e6 float32 numbers here
over the 0.033 s it took there. Peers that are installed run in the same process on the
same data. Times are medians after a first call, which contains the compilation. Threads
of the linear algebra library wait for one another on a busy machine, which multiplies
the time of small factorisations: run this on an idle one, or with
OPENBLAS_NUM_THREADS=1.
"""

import argparse
import importlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._measure import write
from jaxcur import ordinal

# The machine on which the R code was timed.
ANCHOR_SORT = 0.033
R_PATH, R_CROSS_VALIDATION = 7.7, 325.0
TOLERANCE = 1e-9


def sort_seconds() -> float:
    """Median CPU time to sort 1e6 float32 numbers: waiting does not count."""
    numbers = np.random.default_rng(0).random(1_000_000, np.float32)
    times = []
    for _ in range(15):
        start = time.process_time()
        np.sort(numbers)
        times.append(time.process_time() - start)
    return float(np.median(times))


def timed(call: Callable[[], Any], *, repeats: int) -> dict[str, Any]:
    """First call, medians of wall-clock and CPU seconds after it, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    first = time.perf_counter() - start
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {
        "first": first,
        "wall": float(np.median(walls)),
        "cpu": float(np.median(cpus)),
        "result": result,
    }


def table(
    n: int, p: int, ends: tuple[float, ...], size: float, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Uniform features and classes with sparse differences between boundaries."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, p))
    shape = (len(ends) - 1, p)
    first = 0.5 * (rng.random(p) < 1 / 3)
    steps = size * rng.choice([-1, 1], shape) * (rng.random(shape) < share)
    beta = np.cumsum(np.vstack([first, steps]), axis=0)
    below = 1 / (1 + np.exp(-(np.array(ends) + x @ beta.T)))
    y = (rng.random((n, 1)) > below).sum(axis=1)
    return x, y.astype(np.int32)


def line(workload: str, ours: dict, **rest: Any) -> dict[str, Any]:
    """One line of the table."""
    return {
        "workload": workload,
        "first call s": ours["first"],
        "ours wall s": ours["wall"],
        "ours cpu s": ours["cpu"],
        **rest,
    }


def against(ours: dict, peer: str, seconds: float, wanted: float | None = None) -> dict:
    """The columns about a peer: its CPU seconds over ours."""
    ratio = seconds / ours["cpu"]
    found = {"peer": peer, "peer cpu s": seconds, "peer / ours": ratio}
    if wanted is not None:
        found |= {"wanted": f"{wanted:g}", "met": "yes" if ratio >= wanted else "NO"}
    return found


def paths(scale: float, quick: bool) -> list[dict[str, Any]]:
    """The path of 20 and 10-fold cross-validation of 100 strengths."""
    x, y = table(2500, 10, (0.0, 3.0, 5.0), 0.5, 1 / 3, 1)
    x, y = jnp.asarray(x), jnp.asarray(y)
    options = {"num_classes": 4, "rtol": TOLERANCE}
    ours = timed(lambda: ordinal.path(x, y, **options), repeats=3 if quick else 9)
    fits = ours["result"]
    residual = float(jnp.max(fits.kkt_residual / fits.max_regularization))
    workload = "path of 20 to 0.01, n = 2500, p = 10, K = 4"
    peer = f"R code, {R_PATH} s stored, scaled"
    rows = [
        line(
            workload,
            ours,
            **against(ours, peer, R_PATH * scale, 50),
            note=f"largest KKT residual {residual:.1e}",
        )
    ]
    for ratio in (0.01, 1e-4):

        def validated(ratio: float = ratio):
            return ordinal.cross_validate(
                x,
                y,
                num_folds=10,
                num_regularizations=100,
                ratio=ratio,
                key=jax.random.key(0),
                **options,
            )

        ours = timed(validated, repeats=1 if quick else 3)
        found = ours["result"]
        share = float(jnp.mean(found.status == 0))
        peer = f"R code, about {R_CROSS_VALIDATION:g} s stored, scaled"
        workload = f"10-fold cross-validation, 100 strengths to {ratio:g}, same data"
        rows.append(
            line(
                workload,
                ours,
                **against(ours, peer, R_CROSS_VALIDATION * scale, 100),
                note=f"{share:.1%} of the fits to folds with status 0",
            )
        )
    return rows


def _statsmodels(x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    model = importlib.import_module("statsmodels.miscmodels.ordinal_model")

    def call() -> float:
        built = model.OrderedModel(y, x, distr="logit")
        return float(built.fit(method="bfgs", disp=False, maxiter=500).llf)

    return call


def _mord(x: np.ndarray, y: np.ndarray) -> Callable[[], float]:
    mord = importlib.import_module("mord")

    def call() -> float:
        # Another loss: the sum over all thresholds, not the likelihood.
        fitted = mord.LogisticAT(alpha=0.0).fit(x, y)
        below = 1 / (1 + np.exp(-(fitted.theta_ - (x @ fitted.coef_)[:, None])))
        edges = np.pad(
            np.pad(below, ((0, 0), (0, 1)), constant_values=1), ((0, 0), (1, 0))
        )
        own = np.diff(edges, axis=1)[np.arange(len(y)), y]
        return float(np.log(own).sum())

    return call


PEERS = {"statsmodels OrderedModel, bfgs": _statsmodels, "mord LogisticAT": _mord}


def proportional_odds(quick: bool) -> list[dict[str, Any]]:
    """Unpenalised proportional odds, with the log-likelihoods reached."""
    rows = []
    for n, p in ((2500, 10),) if quick else ((2500, 10), (25_000, 20)):
        x, y = table(n, p, (0.0, 3.0, 5.0), 0.0, 0.0, 2)
        features, classes = jnp.asarray(x), jnp.asarray(y)

        def fit(features: Any = features, classes: Any = classes):
            return ordinal.fit(
                features,
                classes,
                num_classes=4,
                penalty=ordinal.Parallel(),
                rtol=TOLERANCE,
            )

        ours = timed(fit, repeats=9)
        reached = float(ours["result"].loglik)
        workload = f"proportional odds, n = {n}, p = {p}, K = 4"
        for name, build in PEERS.items():
            try:
                call = build(x, y)
            except ModuleNotFoundError as error:
                rows.append(line(workload, ours, peer=name, note=str(error)))
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = timed(call, repeats=3)
            gap = reached - theirs["result"]
            columns = against(ours, name, theirs["cpu"], 1)
            note = f"log-likelihood {reached:.6f}, ours minus theirs {gap:.1e}"
            if gap > 1e-3:
                # No time to compare with: the likelihood is never reached.
                columns["met"] += ", not at equal log-likelihood"
                note += " (it minimises another loss)"
            rows.append(line(workload, ours, **columns, note=note))
    return rows


def large(quick: bool) -> list[dict[str, Any]]:
    """A path of 20 on many rows."""
    n = 10_000 if quick else 100_000
    x, y = table(n, 50, (0.0, 3.0, 5.0), 0.2, 0.1, 3)
    x, y = jnp.asarray(x), jnp.asarray(y)
    ours = timed(
        lambda: ordinal.path(x, y, num_classes=4, rtol=TOLERANCE),
        repeats=1 if quick else 2,
    )
    fits = ours["result"]
    residual = float(jnp.max(fits.kkt_residual / fits.max_regularization))
    return [
        line(
            f"path of 20 to 0.01, n = {n}, p = 50, K = 4",
            ours,
            wanted="wall under 60 s",
            met="yes" if ours["wall"] < 60 else "NO",
            note=f"largest KKT residual {residual:.1e}",
        )
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer repeats, fewer rows"
    )
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    sort = sort_seconds()
    scale = sort / ANCHOR_SORT
    rows = paths(scale, quick) + proportional_odds(quick) + large(quick)
    after = sort_seconds()
    rows.append(
        {
            "workload": "np.sort of 1e6 float32",
            "ours cpu s": sort,
            "note": f"{after:.4f} s at the end; R seconds are scaled by {scale:.2f}",
        }
    )
    write("ordinal", (__doc__ or "").partition("\n")[0], rows)


if __name__ == "__main__":
    main()
