"""Settings shared by every test: devices, compilation cache, precision, slow tests.

The environment is prepared before jax is first imported: the number of simulated
devices and the compilation cache cannot be changed afterwards.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def _prepare_environment() -> None:
    flags = os.environ.get("XLA_FLAGS", "")
    wanted = {
        "--xla_force_host_platform_device_count": "4",
        # Nearly all the time goes into compiling: machine code is left unpolished. The
        # graph is optimised as ever, which is what changes numbers.
        "--xla_backend_optimization_level": "0",
    }
    for flag, value in wanted.items():
        if flag not in flags:
            flags = f"{flags} {flag}={value}".strip()
    os.environ["XLA_FLAGS"] = flags
    # Compiling costs more than most tests: keep the programs between runs and share
    # them between the xdist workers.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(_ROOT / ".cache" / "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    # Workers occupy all cores: threads of the linear algebra would wait for each other,
    # a thousand times longer than a small factorisation takes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Several workers share one accelerator where there is one.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("MPLBACKEND", "Agg")


_prepare_environment()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

# A first example of a shape compiles, so no deadline; derandomised in `ci` so that a
# red run is red again when repeated.
_COMMON = {"deadline": None, "print_blob": True}
settings.register_profile("ci", max_examples=50, derandomize=True, **_COMMON)
settings.register_profile("dev", max_examples=20, **_COMMON)
settings.register_profile("nightly", max_examples=1000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# Markers whose tests run only when asked for by `-m`, or by the option given here.
_ON_REQUEST = {"slow": "--run-slow", "gpu": None}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--run-slow`."""
    parser.addoption(
        "--run-slow",
        action="store_true",
        default=False,
        help="also run the tests marked slow",
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deselect tests marked slow or gpu unless they are asked for.

    `slow.txt` lists further slow ones: parameters of tests that run by default with
    other parameters, see `choose_slow.py`.
    """
    listed = set((_ROOT / "tests" / "slow.txt").read_text("utf-8").split("\n"))
    for item in items:
        if item.nodeid in listed:
            item.add_marker(pytest.mark.slow)
    expression = config.getoption("markexpr", "") or ""
    unwanted = {
        marker
        for marker, option in _ON_REQUEST.items()
        if marker not in expression and not (option and config.getoption(option))
    }
    kept, dropped = [], []
    for item in items:
        on_request = any(item.get_closest_marker(marker) for marker in unwanted)
        (dropped if on_request else kept).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


@pytest.fixture(autouse=True, scope="module")
def release_programs() -> Iterator[None]:
    """Drop the compiled programs of a module when its tests are done.

    Thousands of them in one process cost gigabytes and exhaust the memory maps that
    the system grants a process, which ends in a crash. The cache on disk stays.
    """
    yield
    _release()


def _release() -> None:
    jax.clear_caches()
    gc.collect()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Drop them within a module too, long before the maps (65530) run out."""
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        _release()


@pytest.fixture
def x64() -> Iterator[None]:
    """Compute in float64 for the length of one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Iterator[jnp.dtype]:
    """Both float dtypes in turn; 64-bit mode is on exactly for float64."""
    with jax.enable_x64(request.param == "float64"):
        yield jnp.dtype(request.param)


@pytest.fixture
def strict_promotion() -> Iterator[None]:
    """Make implicit dtype and rank promotion errors for the length of one test."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
