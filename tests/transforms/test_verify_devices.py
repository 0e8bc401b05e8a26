"""Devices and processes change no replication, and no evidence beyond rounding."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxcur import verify
from tests.helpers import assert_close

pytestmark = pytest.mark.multidevice

SCRIPT = Path(__file__).with_name("loopback_replications.py")
ROOT = SCRIPT.parents[2]


def load_script():
    spec = importlib.util.spec_from_file_location("loopback_replications", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture(scope="module")
def single(script):
    return script.study(None)


def assert_same(found, single):
    for name, value in single.items():
        if name.startswith("metric "):
            assert found[name].dtype == value.dtype
            assert np.array_equal(found[name], value), name
    for name in ("verdicts", "refuted_at", "replications"):
        assert np.array_equal(found[name], single[name]), name
    for name in ("log_evidence", "log_certificate", "ends"):
        assert_close(found[name], single[name], rtol=1e-6, atol=1e-6)


def test_the_study_is_not_trivial(single):
    assert len(set(single["verdicts"].tolist())) == 3
    assert np.unique(single["metric mean"]).size == 1000


@pytest.mark.parametrize(
    ("shape", "names", "axis_type"),
    [
        ((4,), ("data",), AxisType.Auto),
        ((4,), ("data",), AxisType.Explicit),
        ((2, 2), ("a", "b"), AxisType.Auto),
        ((3,), ("data",), AxisType.Auto),
    ],
)
def test_simulated_devices_equal_one_device(script, single, shape, names, axis_type):
    count = int(np.prod(shape))
    assert jax.device_count() >= 4
    mesh = jax.make_mesh(
        shape,
        names,
        axis_types=(axis_type,) * len(shape),
        devices=jax.devices()[:count],
    )
    assert_same(script.study(mesh), single)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("devices_each", [1, 2])
def test_two_processes_equal_one_device(single, tmp_path, devices_each):
    # The other flags as here: bits are compared.
    count = "xla_force_host_platform_device_count="
    flags = re.sub(rf"({count})\d+", rf"\g<1>{devices_each}", os.environ["XLA_FLAGS"])
    environment = {
        **os.environ,
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    port = free_port()
    outputs = [tmp_path / f"{rank}.npz" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                str(SCRIPT),
                str(port),
                str(rank),
                "2",
                str(outputs[rank]),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        texts = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, texts):
        assert process.returncode == 0, text
    for output in outputs:
        with np.load(output) as saved:
            found = {name: saved[name] for name in saved.files}
        assert int(found.pop("process_count")) == 2
        assert int(found.pop("device_count")) == 2 * devices_each
        assert_same(found, single)


def test_a_fresh_process_repeats_every_bit(single, tmp_path):
    output = tmp_path / "one.npz"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, str(SCRIPT), "0", "0", "1", str(output)],
        env=environment,
        check=True,
        timeout=240,
    )
    with np.load(output) as saved:
        assert_same({name: saved[name] for name in saved.files}, single)


def test_update_inside_shard_map_sums_over_the_axis(strict_promotion):
    claims = (verify.at_most("x", 0.1), verify.equals("y", 0.3))
    rng = np.random.default_rng(0)
    x = (rng.random(64) < 0.2).astype(np.float32)
    y = rng.random(64).astype(np.float32)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))

    def shard(x, y):
        state = verify.init(claims)
        return verify.update(state, {"x": x, "y": y}, axis_name="data")

    split = jax.jit(
        jax.shard_map(
            shard,
            mesh=mesh,
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec(),
        )
    )(x, y)
    whole = verify.update(
        verify.init(claims), {"x": jnp.asarray(x), "y": jnp.asarray(y)}
    )
    for a, b in zip(split.accumulators, whole.accumulators):
        assert int(a.replications) == int(b.replications) == 64
        assert np.array_equal(a.ones, b.ones)
    # float32 partial sums in another order.
    assert_close(verify.evidence(split), verify.evidence(whole), rtol=1e-5, atol=1e-5)
