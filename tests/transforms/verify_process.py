"""One of two processes that share a study; started by test_verify_devices.py.

Usage: python verify_process.py PORT RANK OUTPUT. Writes metrics and log evidence.
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur import conformal, verify

NUM_REPLICATIONS, LEVEL = 257, 0.2
CLAIM = verify.at_most("fdp", LEVEL)


def replicate(key: jax.Array) -> dict[str, jax.Array]:
    """False discovery proportion of one selection with all candidates null."""
    scores = jax.random.normal(key, (30,))
    selected = conformal.select(scores[:20], scores[20:], level=LEVEL).selected
    return {"fdp": jnp.any(selected), "chosen": jnp.mean(selected)}


def study(mesh: jax.sharding.Mesh | None) -> dict[str, list[float]]:
    """Per-replication metrics and the log evidence of a check."""
    key = jax.random.key(0)
    metrics = verify.simulate(
        replicate, key=key, num_replications=NUM_REPLICATIONS, mesh=mesh
    )
    report = verify.check(
        replicate,
        CLAIM,
        key=key,
        max_replications=NUM_REPLICATIONS,
        mesh=mesh,
        stop_early=False,
        progress=False,
    )
    (result,) = report.results
    return {
        "fdp": np.asarray(metrics["fdp"], float).tolist(),
        "chosen": np.asarray(metrics["chosen"], float).tolist(),
        "evidence": [result.log_evidence, result.log_certificate],
    }


def main() -> None:
    """Join the other process, run the study on all devices, write what it gave."""
    port, rank, output = sys.argv[1:]
    jax.distributed.initialize(
        coordinator_address=f"127.0.0.1:{port}",
        num_processes=2,
        process_id=int(rank),
        initialization_timeout=60,
    )
    auto = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=auto)
    assert jax.process_count() == 2
    found = study(mesh)
    with open(output, "w", encoding="utf-8") as file:
        json.dump(found, file)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main()
