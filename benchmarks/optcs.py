"""How fast is OptCS, against NumPy sorts, a Gram matrix and the definition's loop?

Run from the repository root: python -m benchmarks.optcs [--quick]
Peers run in the same process on the same float32 data; ratios are of medians.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._measure import measure, write
from benchmarks.conformal_selection import row
from jaxcur import conformal, learners

LEVEL = 0.2


def bh_size(p: np.ndarray, level: float) -> int:
    """Number of rejections of Benjamini-Hochberg, by sorting."""
    m = p.size
    passed = np.flatnonzero(np.sort(p) <= level * np.arange(1, m + 1) / m)
    return int(passed[-1]) + 1 if passed.size else 0


def by_definition(scores: np.ndarray, tests: np.ndarray, level: float) -> np.ndarray:
    """Largest auxiliary size per candidate, model by model, candidate by candidate."""
    num_models, n = scores.shape
    m = tests.shape[1]
    best = np.zeros(m, int)
    for j in range(m):
        for v, t in zip(scores, tests):
            counts = np.array([np.sum(v <= x) + (t[j] <= x) for x in t])
            p = counts / (n + 1)
            p[j] = 0
            best[j] = max(best[j], bh_size(p, level))
    return best


def world(num_models: int, n: int, m: int, seed: int, batch: tuple[int, ...] = ()):
    """Clipped scores of models that see the label through noise."""
    rng = np.random.default_rng(seed)
    y, y_test = rng.normal(size=(*batch, 1, n)), rng.normal(size=(*batch, 1, m))
    mu = y + 2 * rng.normal(size=(*batch, num_models, n))
    mu_test = y_test + 2 * rng.normal(size=(*batch, num_models, m))
    scores = np.where(y > 0.5, np.inf, -mu).astype(np.float32)
    return scores, (-mu_test).astype(np.float32)


def many_models(num_models: int, size: int) -> list[dict[str, Any]]:
    """K = 20 models with n = m = 1e5, against K sorts of n + m numbers."""
    scores, tests = world(num_models, size, size, 0)
    v, t = jnp.asarray(scores), jnp.asarray(tests)
    both = np.concatenate([scores, tests], axis=1)
    sort = measure(lambda: [np.sort(x) for x in both])
    ours = measure(
        lambda: conformal.optcs_msel(v, t, level=LEVEL, xi=0.5).selected, repeats=5
    )
    line = row(
        f"MSel, K = {num_models}, n = m = {size:.0e}",
        "optcs_msel",
        ours,
        "K np.sort of n + m float32",
        sort,
    )
    from jaxcur.conformal._optcs import _optcs_msel
    from jaxcur.stats import grid_thresholds

    thresholds = grid_thresholds(LEVEL, size, size)
    one = jnp.float32(1)
    program = _optcs_msel.lower(v, t, thresholds, thresholds, one, one, one).compile()
    memory = program.memory_analysis()
    total = memory.temp_size_in_bytes + memory.output_size_in_bytes
    # In units of one float32 for each of the K (n + m) scores.
    line["bytes per score"] = total / both.size
    return [line]


def loop(num_models: int, size: int) -> list[dict[str, Any]]:
    """The per-candidate loop of the definition at n = m = 200, K = 10."""
    scores, tests = world(num_models, size, size, 1)
    expected = by_definition(scores, tests, LEVEL)
    result = conformal.optcs_msel(scores, tests, level=LEVEL, xi=0.5)
    assert (np.asarray(result.auxiliary_sizes) == expected).all()
    theirs = measure(lambda: by_definition(scores, tests, LEVEL), repeats=1)
    ours = measure(
        lambda: conformal.optcs_msel(scores, tests, level=LEVEL, xi=0.5).selected
    )
    name = f"MSel, K = {num_models}, n = m = {size}"
    return [row(name, "optcs_msel", ours, "NumPy, by the definition", theirs)]


def monte_carlo(replications: int, num_models: int, size: int) -> list[dict[str, Any]]:
    """Many replications in one vmapped program, against the same number of sorts."""
    scores, tests = world(num_models, size, size, 2, (replications,))
    both = np.concatenate([scores, tests], axis=-1).reshape(-1, 2 * size)
    sort = measure(lambda: [np.sort(x) for x in both], repeats=3)

    def one(v: jax.Array, t: jax.Array) -> jax.Array:
        return conformal.optcs_msel(v, t, level=LEVEL, xi=0.5).selected

    def chunked(v: jax.Array, t: jax.Array) -> jax.Array:
        # Scores of 100 replications stay in the cache; of 2000 they do not.
        return jax.lax.map(lambda row: one(*row), (v, t), batch_size=100)

    v, t = jnp.asarray(scores), jnp.asarray(tests)
    name = f"{replications} replications, K = {num_models}, n = m = {size}"
    peer = f"{replications * num_models} np.sort of {2 * size} float32"
    rows = []
    for label, mapped in (
        ("optcs_msel, vmapped", jax.vmap(one)),
        ("optcs_msel, vmapped in chunks of 100", chunked),
    ):
        study = jax.jit(mapped)
        ours = measure(lambda program=study: program(v, t), repeats=5)
        rows.append(row(name, label, ours, peer, sort))
    return rows


def full(rows: int, columns: int) -> list[dict[str, Any]]:
    """OptCS-Full with ridge, against one Gram matrix and Cholesky of the same size."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, columns)).astype(np.float32)
    labels = (x[:, 0] + rng.normal(size=rows) > 1).astype(np.float32)
    n = rows // 2
    parts = jnp.asarray(x[:n]), jnp.asarray(labels[:n]), jnp.asarray(x[n:])
    pool = jnp.asarray(x)

    @jax.jit
    def gram(a: jax.Array) -> jax.Array:
        product = jnp.matmul(a.T, a, precision="highest")
        return jnp.linalg.cholesky(product + jnp.eye(columns))

    learner = learners.Ridge(1.0)
    target = jnp.concatenate([parts[1], jnp.zeros(rows - n, jnp.float32)])
    peer = measure(lambda: gram(pool))
    whole = measure(lambda: conformal.optcs_full(learner, *parts, level=LEVEL).selected)
    fit = measure(lambda: learners.leave_one_out(learner, pool, target))
    name = f"Full, ridge, N = {rows:.0e}, d = {columns}"
    against = "one Gram matrix + Cholesky (JAX)"
    return [
        row(name, "optcs_full", whole, against, peer),
        row(name, "its leave-one-out fits alone", fit, against, peer),
    ]


def main() -> None:
    """Run the cases and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    shrink = 10 if parser.parse_args().quick else 1
    rows = many_models(20, 10**5 // shrink)
    rows += loop(10, 200)
    rows += monte_carlo(2000 // shrink, 20, 200)
    rows += full(10**5 // shrink, 50)
    name = "optcs_quick" if shrink > 1 else "optcs"
    write(name, "OptCS against NumPy sorts, a Gram matrix and the definition", rows)


if __name__ == "__main__":
    main()
