"""Do OLS and logistic fit 2e7 rows of ten columns in under 4 GB, a chunk at a time?

Run from the repository root: python -m benchmarks.debiased_stream [--quick]
Chunks are drawn anew in every pass from one key per chunk, so that nothing is stored;
the times contain the drawing, which is also timed alone. Each run is a process of its
own, whose peak is therefore its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._measure import write
from jaxcur import debiased

COLUMNS = 10
MODELS = {"ols": debiased.ols, "logistic": debiased.logistic}


@partial(jax.jit, static_argnames=("model", "size", "dtype"))
def draw(key: jax.Array, model: str, size: int, dtype: Any) -> dict[str, jax.Array]:
    """One chunk: about one row in a hundred has its gold label."""
    keys = jax.random.split(key, 4)
    x = jax.random.normal(keys[0], (size, COLUMNS), jnp.float32).at[:, 0].set(1)
    index = x @ (0.5 / jnp.arange(1, COLUMNS + 1, dtype=jnp.float32))
    noise = jax.random.uniform(keys[1], (2, size), jnp.float32)
    if model == "ols":
        y = index + jax.scipy.special.logit(jnp.clip(noise[0], 1e-6, 1 - 1e-6))
        guess = 0.8 * y + 0.5 + noise[1]
    else:
        y = (noise[0] < jax.nn.sigmoid(index)).astype(jnp.float32)
        guess = jnp.where(noise[1] < 0.1, 1 - y, y)
    prob = 0.005 + 0.01 * jax.nn.sigmoid(x[:, 1])
    labeled = jax.random.uniform(keys[2], (size,), jnp.float32) < prob
    variables = {
        "X": x,
        "y": jnp.where(labeled, y, jnp.nan),
        "y_predicted": guess,
        "sampling_prob": prob,
    }
    return {k: v.astype(dtype) for k, v in variables.items()} | {"labeled": labeled}


class Chunks:
    """Chunks of one simulated table, and how often it was asked for."""

    def __init__(self, model: str, total: int, size: int, dtype: Any) -> None:
        self.model, self.total, self.size, self.dtype = model, total, size, dtype
        self.calls = 0

    def __call__(self) -> Any:
        """A fresh iterator over the chunks."""
        self.calls += 1
        key = jax.random.key(7)
        for i in range(-(-self.total // self.size)):
            size = min(self.size, self.total - i * self.size)
            yield draw(jax.random.fold_in(key, i), self.model, size, self.dtype)


def run(model: str, total: int, size: int) -> None:
    """Child process: one estimate; print seconds, passes, memory and the slope."""
    dtype = jnp.result_type(float)
    chunks = Chunks(model, total, size, dtype)
    start = time.perf_counter()
    for chunk in chunks():
        jax.block_until_ready(chunk)
    drawing = time.perf_counter() - start
    chunks.calls = 0
    start = time.perf_counter()
    result = debiased.estimate_chunks(chunks, model=model)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert bool(result.converged)
    # One call looks at the first chunk only.
    print(
        f"{seconds} {chunks.calls - 1} {drawing} {peak} {float(result.estimate[1])} "
        f"{float(result.std_error[1])}"
    )


def streamed(model: str, x64: bool, total: int, size: int) -> dict[str, Any]:
    """One line of the table, from a fresh process."""
    command = [sys.executable, "-m", "benchmarks.debiased_stream", "--run", model]
    command += ["--total", str(total), "--size", str(size)]
    environment = {**os.environ, "JAX_ENABLE_X64": str(int(x64))}
    out = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout
    seconds, passes, drawing, peak, slope, error = (float(v) for v in out.split())
    width = 8 if x64 else 4
    return {
        "workload": f"{model}, {total:.0e} rows in chunks of {size:.0e}",
        "dtype": "float64" if x64 else "float32",
        "table GiB": total * (COLUMNS + 3) * width / 2**30,
        "peak GiB": peak,
        "seconds": seconds,
        "passes": int(passes),
        "drawing, s per pass": drawing,
        "rows per s and pass": total * passes / seconds,
        "slope": slope,
        "std error": error,
    }


def compared(model: str, total: int, size: int) -> dict[str, Any]:
    """The same estimate in memory and in uneven chunks, float64."""
    with jax.enable_x64(True):
        chunks = Chunks(model, total, size, jnp.dtype("float64"))
        parts = [{k: np.asarray(v) for k, v in chunk.items()} for chunk in chunks()]
        table = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        whole = MODELS[model](**table)
        found = debiased.estimate_chunks(chunks, model=model)
        pairs = [
            (found.estimate, whole.estimate),
            (found.covariance, whole.covariance),
            (found.power_tuning, whole.power_tuning),
        ]
        gaps = [float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b))) for a, b in pairs]
    assert max(gaps) < 1e-9
    return {
        "workload": f"{model}, {total:.0e} rows in chunks of {size:.0e}",
        "dtype": "float64",
        "largest relative gap to the answer in memory": max(gaps),
    }


def main() -> None:
    """Run the cases and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the rows")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--total", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(options.run, options.total, options.size)
        return
    total = 2 * 10**7 // (100 if options.quick else 1)
    rows = []
    # Before this process grows: a child counts the memory of the parent it left as its
    # own peak.
    for model in MODELS:
        for x64 in (True, False):
            rows.append(streamed(model, x64, total, min(total // 4, 500_000)))
            assert rows[-1]["peak GiB"] * 2**30 < 4e9
    rows += [compared(model, 200_000, 30_000) for model in MODELS]
    question = "OLS and logistic over 2e7 rows that are never in memory together"
    write("debiased_stream" + ("_quick" if options.quick else ""), question, rows)


if __name__ == "__main__":
    main()
