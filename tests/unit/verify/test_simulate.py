import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify._simulate import MAX_CHUNK, choose_chunk
from tests.helpers import assert_close

KEY = jax.random.key(7)


def replicate(key):
    x = jax.random.normal(key, (50,))
    return {"mean": x.mean(), "big": (x > 2).any(), "count": (x > 0).sum()}


def test_replication_i_sees_its_own_key():
    metrics = verify.simulate(replicate, key=KEY, num_replications=5, start=3)
    one = replicate(jax.random.fold_in(KEY, 6))
    for name, value in one.items():
        assert metrics[name].shape == (5,)
        assert metrics[name].dtype == value.dtype
        assert_close(metrics[name][3], value, rtol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 3, 64, 1000])
def test_chunks_change_no_replication(chunk_size):
    whole = verify.simulate(replicate, key=KEY, num_replications=100)
    parts = verify.simulate(
        replicate, key=KEY, num_replications=100, chunk_size=chunk_size
    )
    for name in ("big", "count"):
        assert np.array_equal(parts[name], whole[name])
    # The one exception: the compiler orders the terms of a float sum by the shape of
    # the chunk. The partial sums of 50 normals reach about 16, whose last place is
    # 1e-6; a few of them, divided by 50, stay below 1e-7.
    assert_close(parts["mean"], whole["mean"], rtol=0, atol=1e-7)


def test_one_replication_alone_has_the_same_bits():
    whole = verify.simulate(replicate, key=KEY, num_replications=300)
    alone = verify.simulate(replicate, key=KEY, num_replications=1, start=271)
    for name, value in whole.items():
        assert np.array_equal(alone[name][0], value[271])


def test_legacy_keys_give_the_same_replications():
    typed = verify.simulate(replicate, key=jax.random.key(3), num_replications=4)
    legacy = verify.simulate(replicate, key=jax.random.PRNGKey(3), num_replications=4)
    assert np.array_equal(typed["mean"], legacy["mean"])


def test_vector_metrics_are_stacked():
    metrics = verify.simulate(
        lambda key: {"v": jax.random.uniform(key, (3,))}, key=KEY, num_replications=4
    )
    assert metrics["v"].shape == (4, 3)


def test_chunk_depends_on_the_size_of_a_replication():
    small = choose_chunk(replicate, KEY)
    assert small == MAX_CHUNK

    def large(key):
        x = jax.random.normal(key, (1000, 1000))
        return {"x": (x @ x).mean()}

    big = choose_chunk(large, KEY)
    assert 1 <= big <= 32

    def looped(key):
        return {"x": jax.lax.fori_loop(0, 9, lambda i, s: s + large(key)["x"], 0.0)}

    assert choose_chunk(looped, KEY) <= big


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, key):
        return {"x": jax.random.uniform(key)}


def test_replicates_need_not_be_hashable():
    metrics = verify.simulate(Unhashable(), key=KEY, num_replications=3)
    assert metrics["x"].shape == (3,)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda key: jnp.ones(()), TypeError, "`replicate` must return a dict"),
        (lambda key: {}, TypeError, "`replicate` must return a dict"),
        (lambda key: {"k": key}, TypeError, "metric 'k' must be a real number"),
        (lambda key: {"k": 1j * jnp.ones(())}, TypeError, "must be a real number"),
        (lambda key: {"k": jnp.ones((2, 2))}, ValueError, r"got shape \(2, 2\)"),
    ],
)
def test_wrong_replicate_functions(function, error, message):
    with pytest.raises(error, match=message):
        verify.simulate(function, key=KEY, num_replications=2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_replications": 0}, ValueError, "`num_replications` must be at least 1"),
        ({"start": -1}, ValueError, "`start` must be at least 0"),
        ({"chunk_size": 0}, ValueError, "`chunk_size` must be at least 1"),
        ({"key": 0}, TypeError, "`key` must be a key such as"),
        ({"key": jax.random.split(KEY)}, ValueError, "must be a single key"),
    ],
)
def test_wrong_options(options, error, message):
    with pytest.raises(error, match=message):
        verify.simulate(replicate, **{"key": KEY, "num_replications": 2, **options})
