"""Comparison of arrays, and the reference numbers stored beside the tests."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

_REFERENCE = Path(__file__).resolve().parent / "reference" / "data"


def _as_numpy(value: Any) -> np.ndarray:
    array = np.asarray(value)
    # Half precision types that NumPy cannot compare on its own terms.
    if array.dtype.kind not in "biufcOSU":
        array = array.astype(np.float64)
    return array


def assert_close(actual: Any, desired: Any, *, rtol: float, atol: float = 0.0) -> None:
    """Assert that two pytrees agree: same structure, same shapes, close values.

    NaN agrees with NaN and an infinity with the same infinity. Scalars are not
    broadcast: a result of the wrong shape fails. Lists are read as arrays, so stored
    reference numbers can be passed as they come from JSON.
    """
    if isinstance(desired, dict):
        assert isinstance(actual, dict), f"expected a dict, got {type(actual)}"
        assert actual.keys() == desired.keys()
        for name in desired:
            assert_close(actual[name], desired[name], rtol=rtol, atol=atol)
        return
    if isinstance(actual, tuple) and isinstance(desired, tuple):
        assert len(actual) == len(desired)
        for left, right in zip(actual, desired, strict=True):
            assert_close(left, right, rtol=rtol, atol=atol)
        return
    is_leaf = isinstance(desired, (list, int, float, bool, np.ndarray, np.generic))
    if not is_leaf and not isinstance(desired, jax.Array):
        left, left_tree = jax.tree.flatten(actual)
        right, right_tree = jax.tree.flatten(desired)
        assert left_tree == right_tree, f"{left_tree} is not {right_tree}"
        for one, other in zip(left, right, strict=True):
            assert_close(one, other, rtol=rtol, atol=atol)
        return
    left, right = _as_numpy(actual), _as_numpy(desired)
    assert left.shape == right.shape, f"shape {left.shape}, expected {right.shape}"
    np.testing.assert_allclose(left, right, rtol=rtol, atol=atol, equal_nan=True)


def load_reference(name: str) -> Any:
    """Read stored numbers, for example `load_reference("conformal/weighted.json")`.

    JSON comes back as dicts and lists (NaN and Infinity allowed), `.npz` as a dict of
    arrays, `.csv` as an array with named columns.
    """
    path = _REFERENCE / name
    if not path.is_file():
        known = sorted(str(p.relative_to(_REFERENCE)) for p in _REFERENCE.rglob("*.*"))
        raise FileNotFoundError(f"no reference data {name!r}; there are {known}")
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    if path.suffix == ".csv":
        return np.genfromtxt(
            path, delimiter=",", names=True, dtype=None, encoding="utf-8"
        )
    raise ValueError(f"unknown kind of reference data: {name!r}")
