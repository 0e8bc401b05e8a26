"""A key or the draw itself, never both and never neither."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import _base


def draw(uniforms=None, key=None, shape=(4,), dtype=jnp.float32):
    return _base.resolve_uniforms(
        "uniforms", uniforms, key, shape, dtype, purpose="tie-breaking"
    )


def test_neither_is_an_error():
    with pytest.raises(ValueError, match="tie-breaking is randomised: pass `key="):
        draw()


def test_both_is_an_error():
    with pytest.raises(ValueError, match="either `key` or `uniforms`, not both"):
        draw(uniforms=jnp.ones(4), key=jax.random.key(0))


def test_the_given_draw_is_used_as_it_is():
    given = np.array([0.0, 0.25, 0.5, 1.0])
    assert np.array_equal(draw(uniforms=given), given)


def test_one_draw_may_be_shared():
    assert draw(uniforms=0.25).shape == ()


def test_a_draw_of_another_shape_is_an_error():
    with pytest.raises(ValueError, match=r"scalar or have shape \(4,\), got \(3,\)"):
        draw(uniforms=jnp.ones(3))


def test_draws_from_a_key_are_never_zero():
    # 2^24 draws: jax.random.uniform returns exactly 0 among them with high probability.
    u = draw(key=jax.random.key(0), shape=(1 << 24,))
    assert float(u.min()) > 0
    assert float(u.max()) <= 1


def test_draws_are_reproducible():
    assert np.array_equal(draw(key=jax.random.key(1)), draw(key=jax.random.key(1)))
    assert not np.array_equal(draw(key=jax.random.key(1)), draw(key=jax.random.key(2)))
