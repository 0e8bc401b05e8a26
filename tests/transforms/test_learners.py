"""jit equals eager, vmap equals a loop, float32 agrees with float64, grad is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import learners
from tests.helpers import assert_close

KEY = jax.random.key(0)
RNG = np.random.default_rng(12)
FEATURES = RNG.standard_normal((3, 17, 4))
TARGET = (FEATURES[:, :, 0] + RNG.standard_normal((3, 17)) > 0).astype(float)
WEIGHTS = RNG.integers(0, 3, (3, 17)).astype(float)
NEW = RNG.standard_normal((3, 5, 4))
DATA = (FEATURES, TARGET, WEIGHTS, NEW)

# The tolerance of float32 against float64; iterated fits get the bar of such fits.
LEARNERS = {
    "ridge": (learners.Ridge(0.5), 1e-4),
    "ridge_unpenalised": (learners.Ridge(0.0), 1e-3),
    "kernel_ridge": (learners.KernelRidge(learners.RBF(0.3), 0.5), 1e-4),
    "knn": (learners.KNN(3), 1e-5),
    "nadaraya_watson": (learners.NadarayaWatson(learners.Laplacian(0.5)), 1e-5),
    "logistic": (learners.Logistic(0.5), 1e-4),
    "mlp": (learners.MLP(hidden=(4,), max_steps=10), 1e-3),
}


def outputs(learner, features, target, weights, new):
    params = learner.fit(features, target, weights, key=KEY)
    # Compiled as one program by the callers: one compilation instead of dozens.
    return (
        learner.predict(params, new),
        learners.leave_one_out(learner, features, target, weights, key=KEY),
        learners.mean_leave_one_out_predict(
            learner, features, target, new, weights, key=KEY
        ),
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_jit_vmap_and_precision(name):
    learner, tolerance = LEARNERS[name]
    with jax.enable_x64(True):
        eager = [outputs(learner, *(x[i] for x in DATA)) for i in range(3)]
        exact = jax.tree.map(lambda *rows: np.stack(rows), *eager)
        batched = jax.jit(jax.vmap(lambda *data: outputs(learner, *data)))(*DATA)
        assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(batched))
        # Adam divides a gradient that is zero up to rounding by its epsilon of 1e-8.
        bar = 1e-6 if name == "mlp" else 1e-9
        assert_close(batched, exact, rtol=10 * bar, atol=bar)
    single = jax.jit(outputs)(learner, *(x[0].astype(np.float32) for x in DATA))
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(single))
    first = jax.tree.map(lambda x: x[0], exact)
    assert_close(single, first, rtol=tolerance, atol=tolerance)


# The optimiser of the MLP, optax's Adam, raises a float to an integer power.
@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "mlp"])
def test_strict_promotion_leaks_and_nans(name, strict_promotion):
    learner, _ = LEARNERS[name]
    data = [x[0].astype(np.float32) for x in DATA]
    with jax.checking_leaks(), jax.debug_nans(True):
        found = jax.jit(lambda *data: outputs(learner, *data))(*data)
    assert all(not leaf.weak_type for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(
    "name", ["ridge", "kernel_ridge", "nadaraya_watson", "ridge_unpenalised"]
)
def test_gradients(x64, name):
    learner, _ = LEARNERS[name]
    features, target, weights, new = (x[0] for x in DATA)
    direction = np.random.default_rng(0).standard_normal(features.shape)

    def value(step):
        found = outputs(learner, features + step * direction, target, weights, new)
        return sum(jnp.sum(x**2) for x in found)

    step = 1e-6
    compiled = jax.jit(value)
    numeric = (compiled(step) - compiled(-step)) / (2 * step)
    assert_close(jax.jit(jax.grad(value))(0.0), numeric, rtol=1e-5)


@pytest.mark.parametrize("name", ["ridge", "kernel_ridge", "knn", "mlp"])
def test_gradient_in_the_target(x64, name):
    learner, _ = LEARNERS[name]
    features, target, weights, _ = (x[0] for x in DATA)

    def value(target):
        left = learners.leave_one_out(learner, features, target, weights, key=KEY)
        return jnp.sum(left**2)

    direction = np.random.default_rng(1).standard_normal(17)
    step = 1e-6
    at = jax.jit(value)
    numeric = at(target + step * direction) - at(target - step * direction)
    found = jnp.vdot(jax.jit(jax.grad(value))(target), direction)
    assert_close(found, numeric / (2 * step), rtol=1e-5)


def test_numbers_of_a_learner_can_be_vmapped():
    features, target, weights, _ = (x[0] for x in DATA)
    values = jnp.array([0.1, 1.0, 10.0])
    makers = {
        "ridge": learners.Ridge,
        "logistic": learners.Logistic,
        "penalty": lambda r: learners.KernelRidge(learners.RBF(0.5), r),
        "gamma": lambda g: learners.KernelRidge(learners.RBF(g), 1.0),
    }
    for make in makers.values():
        found = jax.vmap(lambda v: make(v).leave_one_out(features, target, weights))(  # noqa: B023
            values
        )
        loop = [make(float(v)).leave_one_out(features, target, weights) for v in values]
        assert_close(found, jnp.stack(loop), rtol=1e-4, atol=1e-5)


@pytest.mark.multidevice
def test_sharded_rows_give_the_same():
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.NamedSharding(mesh, jax.P("data"))
    rng = np.random.default_rng(1)
    features = rng.standard_normal((64, 3)).astype(np.float32)
    target = features[:, 0] + rng.standard_normal(64).astype(np.float32)
    placed = jax.device_put(features, rows), jax.device_put(target, rows)
    for name in ("ridge", "knn", "nadaraya_watson", "kernel_ridge"):
        learner, _ = LEARNERS[name]
        found = jax.jit(learner.leave_one_out)(*placed)
        plain = learner.leave_one_out(features, target)
        assert_close(found, plain, rtol=1e-5, atol=1e-5)


def test_repeated_calls_agree_to_the_last_bit():
    data = [x[0].astype(np.float32) for x in DATA]
    compiled = jax.jit(outputs)
    for name in ("ridge", "knn", "mlp"):
        learner, _ = LEARNERS[name]
        assert_close(compiled(learner, *data), compiled(learner, *data), rtol=0)
