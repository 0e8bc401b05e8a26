"""How fast is a Sinkhorn iteration, against ott-jax, POT and geomloss?

Run from the repository root: python -m benchmarks.ot [--quick]
Float32, d = 64, uniform weights. A full iteration updates both potentials. Peers run in
the same process on the same data where they are installed; time per iteration is the
difference of two runs of different length, and solves end at one marginal error, which
is computed here from the potentials that each returns. `batch_size` of ott-jax raises
on jax 0.10.2, so it runs dense.
"""

import argparse
import functools
import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks._measure import write
from jaxcur import ot
from jaxcur.ot._stream import choose_keep, choose_tile

# CPU seconds an iteration at n = m, of peers measured once on a machine with two cores.
STORED = {
    "ott-jax, dense": {1_000: 0.0037, 10_000: 0.75},
    "POT, lazy": {1_000: 0.034, 10_000: 2.3, 50_000: 75.0},
}
D = 64
ERROR = 1e-3


def clouds(n: int, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian samples a little apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)).astype(np.float32)
    y = (rng.normal(size=(n, d)) + 0.2).astype(np.float32)
    return x, y


def seconds(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Medians of wall-clock and CPU time after a first call."""
    jax.block_until_ready(call())
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        jax.block_until_ready(call())
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return {"wall": float(np.median(walls)), "cpu": float(np.median(cpus))}


def per_iteration(
    solve: Callable[[int], Callable[[], Any]], count: int, repeats: int
) -> dict[str, float]:
    """Difference of a long and a short run, per iteration."""
    short, long = (seconds(solve(k), repeats) for k in (count, 3 * count))
    return {k: (long[k] - short[k]) / (2 * count) for k in short}


def ours(
    x: Any, y: Any, epsilon: float, tile: int | None = None
) -> Callable[[int], Callable[[], Any]]:
    """A run of a given number of iterations without annealing.

    Without a tile a matrix of up to 400 MB is kept; with one it is streamed.
    """
    start = (jnp.zeros(len(x)), jnp.zeros(len(y)))
    x, y = jnp.asarray(x), jnp.asarray(y)

    def solve(count: int) -> Callable[[], Any]:
        return lambda: (
            ot.sinkhorn(
                x,
                y,
                epsilon=epsilon,
                rtol=0,
                max_steps=count,
                init=start,
                tile=tile,
            ).f
        )

    return solve


def ott_dense(x: Any, y: Any, epsilon: float) -> Callable[[int], Callable[[], Any]]:
    """ott-jax with the whole cost matrix, Gauss-Seidel updates in the log domain."""
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import sinkhorn

    def solve(count: int) -> Callable[[], Any]:
        solver = sinkhorn.Sinkhorn(
            threshold=0.0,
            max_iterations=count,
            min_iterations=count,
            inner_iterations=count,
        )

        @jax.jit
        def run(x: Any, y: Any) -> Any:
            geometry = pointcloud.PointCloud(x, y, epsilon=epsilon)
            return solver(linear_problem.LinearProblem(geometry)).f

        return functools.partial(run, jnp.asarray(x), jnp.asarray(y))

    return solve


def pot_lazy(x: Any, y: Any, epsilon: float) -> Callable[[int], Callable[[], Any]]:
    """POT in batches, on NumPy."""
    # Its package is called as ours is imported.
    empirical_sinkhorn = importlib.import_module("ot.bregman").empirical_sinkhorn

    def solve(count: int) -> Callable[[], Any]:
        return lambda: empirical_sinkhorn(
            x,
            y,
            epsilon,
            isLazy=True,
            batchSize=1000,
            numIterMax=count,
            stopThr=0,
            warn=False,
            log=True,
        )[0]

    return solve


def geomloss_tensorized(
    x: Any, y: Any, epsilon: float
) -> Callable[[int], Callable[[], Any]]:
    """Geomloss with the whole matrix; one level is one iteration."""
    import torch

    # Its modules moved in version 0.3.
    place = (
        "geomloss._legacy" if importlib.util.find_spec("geomloss.ot") else "geomloss"
    )
    sinkhorn_loop = importlib.import_module(
        f"{place}.sinkhorn_divergence"
    ).sinkhorn_loop
    softmin = importlib.import_module(f"{place}.sinkhorn_samples").softmin_tensorized

    left, right = torch.tensor(x)[None], torch.tensor(y)[None]
    cost = torch.cdist(left, right) ** 2
    logs = torch.full(left.shape[:2], -float(np.log(len(x))))

    def solve(count: int) -> Callable[[], Any]:
        def run() -> Any:
            out = sinkhorn_loop(
                softmin,
                logs,
                logs,
                None,
                None,
                cost,
                cost.transpose(1, 2),
                [epsilon] * count,
                None,
                debias=False,
            )
            return out[-1].numpy()

        return run

    return solve


PEERS = {
    "ott-jax, dense": ("ott", ott_dense, 20_000),
    "POT, lazy": ("ot", pot_lazy, 10_000),
    "geomloss, tensorized": ("geomloss", geomloss_tensorized, 10_000),
}


def iterations(n: int) -> int:
    """How many of them a short run makes."""
    return max(1, min(50, int(3e8 / n**2)))


def our_row(n: int, epsilon: float, tile: int | None) -> dict[str, Any]:
    """Time of one of our iterations."""
    found = per_iteration(ours(*clouds(n), epsilon, tile), iterations(n), 3)
    way = "costs kept" if keeps(n) and tile is None else "streamed"
    return {
        "workload": f"one iteration, n = m = {n}, {way}",
        "ours s": found["wall"],
        "ours cpu s": found["cpu"],
        "ours ns a pair": found["cpu"] / n**2 * 1e9,
    }


def peer_rows(n: int, epsilon: float, own: dict[str, Any]) -> list[dict[str, Any]]:
    """The same of every peer: measured, or stored where it is not."""
    x, y = clouds(n)
    rows = []
    for name, (module, build, largest) in PEERS.items():
        if importlib.util.find_spec(module) and n <= largest:
            found = per_iteration(build(x, y, epsilon), iterations(n), 3)
            rows.append(
                {"peer": name, "peer s": found["wall"], "peer cpu s": found["cpu"]}
            )
    measured = {row["peer"] for row in rows}
    rows += [
        {"peer": f"{name} (stored figure)", "peer cpu s": figures[n]}
        for name, figures in STORED.items()
        if n in figures and name not in measured
    ]
    return [
        own | row | {"peer cpu / ours cpu": row["peer cpu s"] / own["ours cpu s"]}
        for row in rows
    ]


def iteration_rows(sizes: list[int], epsilon: float) -> list[dict[str, Any]]:
    """Time per full iteration, ours and theirs."""
    rows = []
    for n in sizes:
        own = our_row(n, epsilon, None)
        if keeps(n):
            rows.append(our_row(n, epsilon, choose_tile(n, False)))
        rows += peer_rows(n, epsilon, own) or [own]
    return rows


def keeps(n: int) -> bool:
    """Whether a solve keeps its matrix when no tile is given."""
    return choose_keep(n, n, jnp.float32, None)


def solve_rows(n: int, epsilons: list[float]) -> list[dict[str, Any]]:
    """Whole solves to one marginal error, from nothing, annealing included."""
    rows = []
    x, y = (jnp.asarray(v) for v in clouds(n))
    for epsilon in epsilons:
        result = ot.sinkhorn(x, y, epsilon=epsilon, rtol=ERROR)

        def solve(epsilon: float = epsilon) -> Any:
            return ot.sinkhorn(x, y, epsilon=epsilon, rtol=ERROR).f

        def textbook(epsilon: float = epsilon) -> Any:
            return plain_steps(x, y, jnp.float32(epsilon), jnp.float32(ERROR))

        found, steps = seconds(solve, 3), int(jax.block_until_ready(textbook())[1])
        theirs = seconds(textbook, 1)
        rows.append(
            {
                "workload": f"to error {ERROR:g}, n = m = {n}, epsilon = {epsilon:g}, "
                f"{int(result.num_steps)} iterations",
                "ours s": found["wall"],
                "ours cpu s": found["cpu"],
                "peer": f"dense textbook iteration in JAX, {steps} iterations",
                "peer s": theirs["wall"],
                "peer cpu s": theirs["cpu"],
                "peer cpu / ours cpu": theirs["cpu"] / found["cpu"],
            }
        )
    return rows


@jax.jit
def plain_steps(x: Any, y: Any, epsilon: Any, error: Any) -> Any:
    """Alternating updates with a stored matrix: what ott-jax does, without overhead."""
    cost = ot.cost_matrix(x, y) / epsilon
    n, m = cost.shape

    def step(state: Any) -> Any:
        f, g, _, count = state
        f = -jax.nn.logsumexp(g[None] - cost, axis=1) + jnp.log(m)
        lse = jax.nn.logsumexp(f[:, None] - cost, axis=0) - jnp.log(n)
        gap = jnp.mean(jnp.abs(1 - jnp.exp(g + lse)))
        return f, -lse, gap, count + 1

    start = (jnp.zeros(n), jnp.zeros(m), jnp.float32(jnp.inf), 0)
    f, _, _, count = jax.lax.while_loop(
        lambda s: (s[2] > error) & (s[3] < 3000), step, start
    )
    return f, count


def roofline_rows(n: int, epsilon: float) -> list[dict[str, Any]]:
    """Share of the time that the product and the exponential alone would take."""
    x, y = (jnp.asarray(v) for v in clouds(n))
    tile = choose_tile(n, False)
    rows = n // tile * tile

    @jax.jit
    def product(x: Any, y: Any) -> Any:
        def step(total: Any, block: Any) -> Any:
            return total + (block @ y.T)[0], None

        return jax.lax.scan(step, jnp.zeros(n), x[:rows].reshape(-1, tile, D))[0]

    @jax.jit
    def exponential(values: Any) -> Any:
        def step(values: Any, _: Any) -> Any:
            return jnp.exp(-values), None

        return jax.lax.scan(step, values, None, length=rows // tile)[0]

    whole = per_iteration(ours(*clouds(n), epsilon, tile), iterations(n), 3)
    alone = seconds(lambda: product(x, y), 3)
    exps = seconds(lambda: exponential(jnp.ones((tile, n))), 3)
    return [
        {
            "workload": f"parts of a streamed iteration, n = m = {n}, tile {tile}",
            "ours cpu s": whole["cpu"],
            "peer": name,
            "peer cpu s": part["cpu"],
            "peer cpu / ours cpu": part["cpu"] / whole["cpu"],
        }
        for name, part in (("bare product of the tiles", alone), ("bare exp", exps))
    ]


def memory_rows(sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Temporaries of a value with its gradient in both clouds, as compiled."""
    rows = []
    for n, d in sizes:
        shape = jax.ShapeDtypeStruct((n, d), jnp.float32)

        def value(x: Any, y: Any) -> Any:
            return ot.sinkhorn(x, y, epsilon=1.0).value

        program = jax.jit(jax.value_and_grad(value, (0, 1))).lower(shape, shape)
        memory = program.compile().memory_analysis()
        assert memory is not None
        rows.append(
            {
                "workload": f"value and gradient, n = m = {n}, d = {d}",
                "temporaries MB": memory.temp_size_in_bytes / 1e6,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    quick = parser.parse_args().quick
    sizes = [1_000, 4_000] if quick else [1_000, 10_000, 50_000]
    middle = 1_000 if quick else 10_000
    rows = iteration_rows(sizes, 20.0)
    rows += roofline_rows(middle, 20.0)
    rows += solve_rows(1_000 if quick else 4_000, [20.0, 2.0])
    rows += memory_rows([(20_000, 64), (100_000, 16)])
    write(
        "ot_quick" if quick else "ot", "How fast is entropic optimal transport?", rows
    )


if __name__ == "__main__":
    main()
