"""Checks of probabilities, labels, weights and logits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
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


class _Column:
    """A column of another library: its dtype has no kind."""

    dtype = "Int64"

    def __init__(self, values: list[int]) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.values, dtype)


def test_labels_of_other_kinds_are_read_or_refused_by_name() -> None:
    rows = np.full((2, 2), 0.5)
    with pytest.raises(
        TypeError, match="`labels` must hold real numbers, got dtype <U1"
    ):
        _inputs.check_multiclass(rows, np.array(["a", "b"]))
    for labels in ([0, 1], _Column([0, 1])):
        _, classes, _ = _inputs.check_multiclass(rows, labels)
        assert classes.tolist() == [0, 1]
        like = jnp.ones(2)
        y = _inputs.check_outcomes("labels", labels, like, "probs", convert=False)
        assert y.tolist() == [0, 1]


@pytest.mark.parametrize(
    "name", ["vector_scaling", "matrix_scaling", "structured_scaling", "dirichlet"]
)
def test_new_rows_have_the_columns_of_the_fit(name: str) -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(3), size=20)
    fit = getattr(calibration, f"fit_{name}")(rows, np.arange(20) % 3)
    with pytest.raises(ValueError, match="3 columns of the fit"):
        fit(rows[:, :2])


def test_one_against_the_rest_has_the_columns_of_the_fit() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(3), size=20)
    fit = calibration.fit_one_vs_rest(calibration.fit_platt, rows, np.arange(20) % 3)
    with pytest.raises(ValueError, match="3 columns of the fit"):
        fit(rows[:, :2])


@pytest.mark.parametrize("name", ["beta", "histogram", "spline", "bbq"])
def test_a_map_of_probabilities_does_not_take_logits(name: str) -> None:
    options = {"num_bins": 3} if name == "histogram" else {}
    f, y = np.linspace(0.05, 0.95, 20), np.arange(20) % 2
    fit = getattr(calibration, f"fit_{name}")(f, y, **options)
    with pytest.raises(ValueError, match="got -2.0; are these logits"):
        fit(np.array([-2.0, 0.5]))
    traced = jax.jit(lambda fit, f: fit(f))(fit, jnp.array([-2.0, 0.5, 1 + 1e-6]))
    assert np.isnan(traced).tolist() == [True, False, False]
