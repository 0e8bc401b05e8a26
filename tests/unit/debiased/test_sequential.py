"""Sequential labeling and pooled probabilities, by enumeration of all labels."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from tests.helpers import assert_close

Y = np.array([3.0, -1.0, 4.0, 10.0])


def run(pattern, *, budget=2.0, min_prob=0.1):
    """Label one row at a time as the pattern says; later rows look at earlier labels.

    Returns the probability of the pattern and the weighted total of the labels.
    """
    state = debiased.sequential_init(4, budget=budget, min_prob=min_prob, mixing=0.2)
    chance, total, guess = 1.0, 0.0, 1.0
    for label, y in zip(pattern, Y):
        # The importance and the prediction both use what was labeled before.
        prediction = 0.5 * guess
        number = 1e-9 if label else 1.0
        state, draw = debiased.sequential_step(
            state, jnp.asarray([abs(guess)]), uniforms=[number]
        )
        prob = float(draw.sampling_prob[0])
        if bool(draw.labeled[0]) != label:
            return 0.0, 0.0
        chance *= prob if label else 1 - prob
        weight = label / prob
        total += prediction + weight * (y - prediction)
        guess = y if label else guess
    assert int(state.num_labeled) == sum(pattern)
    assert float(state.spent) == sum(pattern)
    return chance, total


def test_adaptive_probabilities_leave_the_total_unbiased(x64):
    runs = [run(p) for p in itertools.product([False, True], repeat=4)]
    chances = np.array([chance for chance, _ in runs])
    totals = np.array([total for _, total in runs])
    assert_close(chances.sum(), 1.0, rtol=1e-12)
    assert_close(chances @ totals, Y.sum(), rtol=1e-12)
    assert totals.std() > 1


def test_probabilities_respect_the_floor_when_the_money_is_gone(x64):
    state = debiased.sequential_init(100, budget=2, min_prob=0.07, mixing=0.0)
    ones = jnp.ones(5)
    state, first = debiased.sequential_step(state, ones, uniforms=np.full(5, 1e-9))
    assert_close(first.sampling_prob, np.full(5, 0.07), rtol=1e-12)
    assert first.labeled.all() and float(state.spent) == 5
    _, second = debiased.sequential_step(state, ones, uniforms=np.ones(5))
    assert_close(second.sampling_prob, np.full(5, 0.07), rtol=1e-12)


def test_a_long_run_meets_its_budget():
    batches, size = 50, 40
    rng = np.random.default_rng(0)
    importance = jnp.asarray(rng.lognormal(size=(batches, size)), jnp.float32)
    costs = jnp.asarray(rng.uniform(1, 3, (batches, size)), jnp.float32)
    state = debiased.sequential_init(batches * size, budget=600, min_prob=0.01)

    def step(state, xs):
        psi, price, key = xs
        return debiased.sequential_step(state, psi, costs=price, key=key)

    keys = jax.random.split(jax.random.key(0), batches)
    state, draws = jax.jit(lambda s: jax.lax.scan(step, s, (importance, costs, keys)))(
        state
    )
    assert int(state.num_seen) == batches * size
    assert int(state.num_labeled) == int(draws.labeled.sum())
    assert_close(float(state.spent), float((draws.labeled * costs).sum()), rtol=1e-5)
    # The last batches cannot correct their own luck: about one batch of labels.
    assert_close(float(state.spent), 600.0, rtol=0.05)
    # Rows of one cost are drawn in proportion to their importance.
    late = np.asarray(draws.sampling_prob[5:]).ravel()
    value = np.asarray(importance[5:] / jnp.sqrt(costs[5:])).ravel()
    assert np.corrcoef(late[late < 1], value[late < 1])[0, 1] > 0.9


def test_padding_changes_nothing(x64):
    state = debiased.sequential_init(10, budget=3, min_prob=0.1)
    psi, numbers = np.array([1.0, 2.0, 3.0]), np.array([0.2, 0.3, 0.9])
    plain, draw = debiased.sequential_step(state, psi, uniforms=numbers)
    padded, wide = debiased.sequential_step(
        state,
        np.append(psi, [np.nan, 7.0]),
        uniforms=np.append(numbers, [0.0, 0.0]),
        mask=[True, True, True, False, False],
    )
    assert_close(padded, plain, rtol=1e-12)
    assert_close(wide.sampling_prob[:3], draw.sampling_prob, rtol=1e-12)
    assert wide.sampling_prob[3:].tolist() == [0, 0]
    assert wide.labeled[3:].tolist() == [False, False]


def test_batches_without_importance_are_uniform():
    state = debiased.sequential_init(10, budget=3, min_prob=0.1)
    _, draw = debiased.sequential_step(state, np.zeros(4), uniforms=np.ones(4))
    assert_close(draw.sampling_prob, np.full(4, 0.3), rtol=1e-6)


def test_an_invalid_batch_under_jit_labels_nothing():
    state = debiased.sequential_init(10, budget=3, min_prob=0.1)
    _, draw = jax.jit(debiased.sequential_step)(
        state, jnp.array([1.0, jnp.nan]), uniforms=jnp.zeros(2)
    )
    assert np.isnan(draw.sampling_prob).all() and not draw.labeled.any()


def test_pooled_probability_is_that_of_any_phase(dtype):
    first = jnp.asarray([0.1, 0.5, 1.0, 0.0, 1e-6], dtype)
    second = jnp.asarray([0.2, 0.5, 0.3, 0.0, 2e-6], dtype)
    found = debiased.pool_probabilities(first, second)
    assert found.dtype == dtype
    exact = 1 - (1 - np.array([0.1, 0.5, 1, 0])) * (1 - np.array([0.2, 0.5, 0.3, 0]))
    assert_close(found[:4], exact, rtol=1e-6)
    # 1 - (1 - p) in float32 would be wrong in the second digit.
    assert_close(found[4], 3e-6 - 2e-12, rtol=1e-6)
    assert_close(debiased.pool_probabilities(first, 0.0), first, rtol=1e-6)


def test_group_probability_by_enumeration(x64):
    prob, groups = np.array([0.1, 0.2, 0.5, 0.7, 1.0]), np.array([0, 2, 0, 0, 3])
    expected = np.zeros(4)
    for pattern in itertools.product([0, 1], repeat=5):
        hit = np.array(pattern)
        chance = np.prod(np.where(hit, prob, 1 - prob))
        expected += chance * (np.bincount(groups, hit, minlength=4) > 0)
    found = debiased.group_probability(prob, groups, 4)
    assert_close(found, expected, rtol=1e-12)


def test_values_out_of_range_under_jit_give_nan():
    pooled = jax.jit(debiased.pool_probabilities)(jnp.array([0.5, 1.5]), 0.1)
    assert np.isnan(pooled).tolist() == [False, True]
    grouped = jax.jit(debiased.group_probability, static_argnums=2)(
        jnp.array([0.5, 0.5]), jnp.array([0, 3]), 2
    )
    assert np.isnan(grouped).all()


def test_errors():
    with pytest.raises(ValueError, match=r"`min_prob` must lie in \(0, 1\]"):
        debiased.sequential_init(10, budget=1, min_prob=0.0)
    with pytest.raises(ValueError, match="`budget` must be positive"):
        debiased.sequential_init(10, budget=-1, min_prob=0.1)
    state = debiased.sequential_init(10, budget=1, min_prob=0.1)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="`importance` must be finite and nonneg"):
        debiased.sequential_step(state, [-1.0], key=key)
    with pytest.raises(ValueError, match="`costs` must be finite and positive"):
        debiased.sequential_step(state, [1.0], costs=[0.0], key=key)
    with pytest.raises(ValueError, match="pass `key="):
        debiased.sequential_step(state, [1.0])
    with pytest.raises(ValueError, match="at least one array"):
        debiased.pool_probabilities()
    with pytest.raises(ValueError, match=r"`phases\[1\]` must lie in"):
        debiased.pool_probabilities([0.5], [1.5])
    with pytest.raises(ValueError, match="`phases` must broadcast"):
        debiased.pool_probabilities([0.5, 0.1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"`groups` must lie in \[0, 2\)"):
        debiased.group_probability([0.5], [2], 2)
