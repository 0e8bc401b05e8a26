import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcur.learners import MLP, Network, Ridge, leave_one_out
from tests.helpers import assert_close

KEY = jax.random.key(0)
RNG = np.random.default_rng(6)
FEATURES = RNG.standard_normal((24, 3)) * [1.0, 50.0, 0.1] + [0.0, 300.0, 0.0]
TARGET = FEATURES[:, 0] ** 2 + 5


def zeros(key, features):
    return jnp.zeros(features.shape[1] + 1)


def linear(parameters, features):
    return features @ parameters[1:] + parameters[0]


def test_a_linear_network_finds_least_squares():
    learner = Network(zeros, linear, max_steps=600)
    params = learner.fit(FEATURES, TARGET, key=KEY)
    least = Ridge(0.0)
    expected = least.predict(least.fit(FEATURES, TARGET), FEATURES)
    # 600 steps of Adam, not a solve.
    assert_close(learner.predict(params, FEATURES), expected, rtol=1e-3)


def test_logistic_loss_gives_probabilities():
    labels = (FEATURES[:, 0] > 0).astype(float)
    learner = MLP(loss="logistic", max_steps=200)
    found = np.asarray(
        learner.predict(learner.fit(FEATURES, labels, key=KEY), FEATURES)
    )
    assert ((found > 0) & (found < 1)).all()
    assert ((found > 0.5) == (labels == 1)).all()


def test_an_mlp_learns_a_curve_out_of_sample():
    learner = MLP(hidden=(16,))
    rows = np.linspace(-2, 2, 40)[:, None]
    found = leave_one_out(learner, rows, rows[:, 0] ** 2, key=KEY)
    error = np.asarray(found) - rows[:, 0] ** 2
    assert np.mean(error**2) < 0.05 * np.var(rows[:, 0] ** 2)


def test_an_absent_row_changes_nothing():
    learner = MLP(hidden=(4,), max_steps=20)
    weights = np.ones(24)
    weights[5] = 0
    features, target = FEATURES.copy(), TARGET.copy()
    one = learner.fit(features, target, weights, key=KEY)
    features[5], target[5] = 1e3, -1e3
    other = learner.fit(features, target, weights, key=KEY)
    assert_close(one, other, rtol=1e-6)


def test_leave_one_out_is_the_refit_with_one_weight_zero():
    learner = MLP(hidden=(4,), max_steps=20)
    for batch_size in (None, 5):
        found = leave_one_out(learner, FEATURES, TARGET, key=KEY, batch_size=batch_size)
        for i in (0, 11, 23):
            kept = np.ones(24)
            kept[i] = 0
            params = learner.fit(FEATURES, TARGET, kept, key=KEY)
            expected = learner.predict(params, FEATURES[i : i + 1])[0]
            assert_close(found[i], expected, rtol=1e-4)


def test_five_hundred_networks_are_one_program():
    rng = np.random.default_rng(7)
    features = rng.standard_normal((500, 5))
    target = (features[:, 0] > 0).astype(float)
    for learner in (MLP(), MLP(loss="logistic")):
        found = np.asarray(leave_one_out(learner, features, target, key=KEY))
        assert ((found > 0.5) == (target == 1)).mean() > 0.9


def test_one_program_for_a_sweep_of_numbers():
    traces = []

    @jax.jit
    def train(learner):
        traces.append(1)
        return learner.fit(FEATURES, TARGET, key=KEY)

    slow = train(MLP(hidden=(4,), max_steps=5, learning_rate=0.001))
    fast = train(MLP(hidden=[4], max_steps=5, learning_rate=0.1))
    assert len(traces) == 1
    leaves = zip(jax.tree.leaves(slow), jax.tree.leaves(fast), strict=True)
    assert any(not np.allclose(a, b) for a, b in leaves)


def test_another_optimiser_and_a_penalty():
    plain = Network(zeros, linear, max_steps=50, optimizer=optax.sgd)
    drawn = Network(
        zeros, linear, max_steps=50, optimizer=optax.sgd, regularization=10.0
    )
    size = [
        float(jnp.sum(n.fit(FEATURES, TARGET, key=KEY).network ** 2))
        for n in (plain, drawn)
    ]
    assert size[1] < 0.1 * size[0]


def test_constant_columns_and_targets_do_not_divide_by_zero():
    features = np.column_stack([FEATURES, np.full(24, 0.1)])
    learner = MLP(hidden=(4,), max_steps=5)
    params = learner.fit(features, np.full(24, 0.3), key=KEY)
    assert np.isfinite(learner.predict(params, features)).all()
    assert_close(params.scale[3], 1.0, rtol=0)
    assert_close(params.target_scale, 1.0, rtol=0)


def test_a_network_of_flax_nnx():
    from flax import nnx

    shape, _ = nnx.split(nnx.Linear(3, 1, rngs=nnx.Rngs(0)))

    def init(key, features):
        return nnx.split(nnx.Linear(features.shape[1], 1, rngs=nnx.Rngs(key)))[1]

    def apply(parameters, features):
        return nnx.merge(shape, parameters)(features)

    learner = Network(init, apply, max_steps=600)
    params = learner.fit(FEATURES, FEATURES[:, 0], key=KEY)
    assert_close(learner.predict(params, FEATURES), FEATURES[:, 0], rtol=0, atol=1e-2)


def test_what_is_refused():
    with pytest.raises(ValueError, match="pass `key="):
        MLP().fit(FEATURES, TARGET)
    with pytest.raises(ValueError, match="`loss` must be one of"):
        MLP(loss="hinge")
    with pytest.raises(ValueError, match="`hidden` must hold positive widths"):
        MLP(hidden=(4, 0))
    with pytest.raises(ValueError, match="`max_steps` must be a positive integer"):
        MLP(max_steps=0)
    with pytest.raises(ValueError, match="`learning_rate` must be nonnegative"):
        MLP(learning_rate=-1.0)
    with pytest.raises(ValueError, match="`activation` must name a function"):
        MLP(activation="nonsense").fit(FEATURES, TARGET, key=KEY)
    two = Network(zeros, lambda p, x: x[:, :2])
    with pytest.raises(ValueError, match="output of `apply`"):
        two.fit(FEATURES, TARGET, key=KEY)
