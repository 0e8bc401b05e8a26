"""Checks of probabilities, labels, weights and logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.calibration import _inputs
from tests.helpers import assert_close


def test_rounding_noise_outside_the_interval_is_clipped() -> None:
    f, _, _ = _inputs.check_binary(jnp.array([-1e-7, 1 + 1e-6]), jnp.array([0, 1]))
    assert_close(f, jnp.array([0.0, 1.0]), rtol=0)
    with pytest.raises(ValueError, match="must lie in"):
        _inputs.check_binary(jnp.array([-1e-3, 1.0]), jnp.array([0, 1]))


def test_half_precision_is_computed_in_float32() -> None:
    p = jnp.array([[0.3333, 0.3333, 0.3333]], jnp.bfloat16)
    rows, _, _ = _inputs.check_multiclass(p, jnp.array([0]))
    assert rows.dtype == jnp.float32


def test_rows_are_normalised_only_when_asked() -> None:
    p, c = jnp.array([[2.0, 6.0]]) / 10, jnp.array([1])
    with pytest.raises(ValueError, match="row 0 sums to 0.8"):
        _inputs.check_multiclass(p, c)
    rows, _, _ = _inputs.check_multiclass(p, c, normalize=True)
    assert_close(rows, jnp.array([[0.25, 0.75]]), rtol=1e-6)


def test_float64_asks_for_more_than_float32(dtype) -> None:
    p = jnp.array([[0.5, 0.5001]], dtype)
    if dtype == jnp.float32:
        _inputs.check_multiclass(p, jnp.array([0]))
    else:
        with pytest.raises(ValueError, match="must sum to 1"):
            _inputs.check_multiclass(p, jnp.array([0]))


def test_illegal_rows_become_nan_under_tracing() -> None:
    p = jnp.array([[0.5, 0.5], [0.5, 0.7], [0.2, 0.8]])
    rows, _, w = jax.jit(_inputs.check_multiclass)(
        p, jnp.array([0, 1, 5]), jnp.array([1.0, -1.0, 2.0])
    )
    assert np.isnan(np.asarray(rows)).all(axis=1).tolist() == [False, True, True]
    assert np.isnan(np.asarray(w)).tolist() == [False, True, False]


def test_traced_labels_of_rows_must_be_integers() -> None:
    with pytest.raises(TypeError, match="integers"):
        jax.jit(_inputs.check_multiclass)(jnp.array([[0.5, 0.5]]), jnp.array([0.0]))


def test_logits_keep_their_kind() -> None:
    s, y, _ = _inputs.check_logits(jnp.array([-3.0, 40.0]), jnp.array([0, 1]))
    assert s.shape == (2,)
    assert y.dtype == s.dtype
    rows, c, _ = _inputs.check_logits(jnp.zeros((2, 3)), jnp.array([0, 2]))
    assert rows.shape == (2, 3)
    assert c.dtype == jnp.int32
    with pytest.raises(ValueError, match="must be finite"):
        _inputs.check_logits(jnp.array([jnp.inf]), jnp.array([1]))
    with pytest.raises(ValueError, match=r"shape \(n,\) or \(n, k\)"):
        _inputs.check_logits(jnp.zeros((1, 1, 1)), jnp.array([1]))
