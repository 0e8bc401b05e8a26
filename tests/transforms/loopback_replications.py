"""One process of several: replications and a study over all devices, saved as .npz.

Run as: python loopback_replications.py PORT RANK NUM_PROCESSES OUT [STATE]
With one process no distributed runtime is started. Started by
test_verify_devices.py.
"""

import math
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur import verify

KEY_SEED = 21
NUM_REPLICATIONS = 1000
MAX_REPLICATIONS = 5000


def replicate(key):
    """Float sums, order statistics, counts and a vector: all that might differ."""
    data_key, run_key = jax.random.split(key)
    x = jax.random.normal(data_key, (37,))
    u = jax.random.uniform(run_key, (37,))
    p = (1 + (x < x[0]).sum()) / 38
    return {
        "mean": jax.nn.sigmoid(x.mean()),
        "median": jax.nn.sigmoid(jnp.sort(x)[18]),
        "miss": p <= 0.1,
        "p": p,
        "dot": jax.nn.sigmoid(x @ u),
        "share": (u < 0.1).mean(),
        "vector": jnp.stack([u[0], u[1:].max()]),
        "count": (x > 1).sum(),
    }


CLAIMS = (
    verify.at_most("share", 0.1),
    verify.equals("mean", 0.5, margin=0.001),
    verify.at_most("miss", 0.1, margin=0.001),
    verify.super_uniform("p", margin=0.001),
    verify.all_at_most("vector", (0.5, 0.999), margin=0.0005),
    verify.at_most("dot", 0.2),
    verify.at_most(
        "count",
        5.9,
        margin=0.5,
        kind="asymptotic",
        lower=-math.inf,
        upper=math.inf,
    ),
)


def study(mesh):
    """Metrics, log evidence and where claims were decided."""
    key = jax.random.key(KEY_SEED)
    metrics = verify.simulate(
        replicate, key=key, num_replications=NUM_REPLICATIONS, mesh=mesh
    )
    report = verify.check(
        replicate,
        CLAIMS,
        key=key,
        max_replications=MAX_REPLICATIONS,
        batch_size=300,
        mesh=mesh,
    )
    found = {f"metric {name}": np.asarray(value) for name, value in metrics.items()}
    found["log_evidence"] = np.array([r.log_evidence for r in report.results])
    found["log_certificate"] = np.array([r.log_certificate for r in report.results])
    found["ends"] = np.array([(r.lower, r.upper) for r in report.results])
    found["verdicts"] = np.array([int(r.verdict) for r in report.results])
    found["refuted_at"] = np.array([r.refuted_at or 0 for r in report.results])
    found["replications"] = np.array(report.replications)
    return found


def main():
    """Start the runtime, run the study on every device there is, save."""
    port, rank, num_processes = (int(argument) for argument in sys.argv[1:4])
    if num_processes > 1:
        jax.distributed.initialize(
            coordinator_address=f"127.0.0.1:{port}",
            num_processes=num_processes,
            process_id=rank,
            initialization_timeout=60,
        )
    mesh = jax.make_mesh((jax.device_count(),), ("replications",))
    found = study(mesh)
    found["device_count"] = np.array(jax.device_count())
    found["process_count"] = np.array(jax.process_count())
    np.savez(sys.argv[4], **found)
    if num_processes > 1:
        jax.distributed.shutdown()


if __name__ == "__main__":
    main()
