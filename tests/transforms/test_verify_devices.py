"""A study split over devices or processes is the study of one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tests.transforms.verify_process import study

pytestmark = pytest.mark.multidevice
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alone() -> dict[str, list[float]]:
    return study(None)


def assert_same(found: dict[str, list[float]], alone: dict[str, list[float]]) -> None:
    # Every replication to the last bit; the evidence within 1e-6.
    assert found["fdp"] == alone["fdp"]
    assert found["chosen"] == alone["chosen"]
    assert found["evidence"] == pytest.approx(alone["evidence"], rel=0, abs=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_simulated_devices_equal_one_device(alone, count):
    assert len(jax.devices()) >= count
    auto = (jax.sharding.AxisType.Auto,)
    devices = jax.devices()[:count]
    mesh = jax.make_mesh((count,), ("data",), axis_types=auto, devices=devices)
    assert_same(study(mesh), alone)
    assert len(set(alone["chosen"])) > 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.timeout(240)
def test_two_processes_on_loopback_equal_one_device(alone, tmp_path):
    port = free_port()
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": str(ROOT),
    }
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.transforms.verify_process",
                str(port),
                str(rank),
                str(tmp_path / f"{rank}.json"),
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        output = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], output
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text(encoding="utf-8"))
        assert_same(found, alone)
