"""Rows sharded over four simulated devices give the answer of one device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxcur import debiased

pytestmark = pytest.mark.multidevice

ESTIMATORS = {"ols": debiased.ols, "logistic": debiased.logistic}
# More than two blocks of rows on every device, so that the loop over blocks runs.
N = 4 * 9000


def data(name, num_rows=N):
    rng = np.random.default_rng(3)
    x = rng.normal(size=num_rows)
    X = np.stack([np.ones(num_rows), x], axis=1)
    index = 0.5 * x - 0.2
    if name == "ols":
        y = index + rng.normal(size=num_rows)
        guess = 0.8 * y + 0.5 + 0.3 * rng.normal(size=num_rows)
    else:
        y = (rng.random(num_rows) < 1 / (1 + np.exp(-index))).astype(float)
        guess = np.where(rng.random(num_rows) < 0.15, 1 - y, y)
    prob = np.clip(0.05 + 0.1 * np.abs(x), 0.05, 0.4)
    labeled = rng.random(num_rows) < prob
    return {
        "X": X,
        "y": np.where(labeled, y, np.nan),
        "y_predicted": guess,
        "labeled": labeled,
        "sampling_prob": prob,
        "clusters": rng.integers(0, 50, num_rows),
        "weights": rng.uniform(0.5, 2, num_rows),
    }


def sharded(estimator, arrays, **options):
    mesh = jax.make_mesh(
        (4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4]
    )

    def shard(arrays):
        return estimator(**arrays, axis_name="data", **options)

    run = jax.shard_map(
        shard, mesh=mesh, in_specs=PartitionSpec("data"), out_specs=PartitionSpec()
    )
    return jax.jit(run)({k: jnp.asarray(v) for k, v in arrays.items()})


def assert_same(found, single, rtol):
    for (path, a), (_, b) in zip(
        jax.tree_util.tree_leaves_with_path(found),
        jax.tree_util.tree_leaves_with_path(single),
        strict=True,
    ):
        name = jax.tree_util.keystr(path)
        if "residual" in name:
            # What is left of the moments is rounding.
            assert float(a) < 1e-8 and float(b) < 1e-8
            continue
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ols", False),
        ("logistic", True),
        pytest.param("ols", True, marks=pytest.mark.slow),
        pytest.param("logistic", False, marks=pytest.mark.slow),
    ],
)
def test_sharded_rows_give_the_single_device_answer(x64, name, given):
    arrays = data(name)
    kept = ["X", "y", "y_predicted", "labeled"] + ["sampling_prob"] * given
    arrays = {key: arrays[key] for key in kept}
    single = ESTIMATORS[name](**arrays)
    found = sharded(ESTIMATORS[name], arrays)
    assert bool(found.converged)
    # Sums in another order; the surrogate test inverts a correlation matrix.
    assert_same(found, single, rtol=1e-8)


def test_clusters_may_spread_over_devices(x64):
    arrays = data("ols")
    single = debiased.ols(**arrays, small_sample="cr1")
    found = sharded(debiased.ols, arrays, small_sample="cr1")
    assert_same(found, single, rtol=1e-8)


def test_cluster_ids_beyond_the_rows_of_a_device_give_nan(x64):
    # Traced ids must lie below the rows of a device: sums by group drop the others.
    arrays = data("ols")
    arrays["clusters"] = np.arange(N) // 2
    found = sharded(debiased.ols, arrays, small_sample="cr1")
    assert not bool(found.converged)
    assert np.isnan(found.estimate).all()
    assert np.isnan(found.covariance).all()


def test_a_probability_out_of_range_on_one_device_gives_nan(x64):
    arrays = data("ols")
    arrays = {k: v for k, v in arrays.items() if k not in ("clusters", "weights")}
    arrays["sampling_prob"] = np.where(np.arange(N) == N - 1, 0.0, 0.2)
    found = sharded(debiased.ols, arrays)
    assert not bool(found.converged)
    assert np.isnan(found.estimate).all()
