import jax
import numpy as np
import pytest

from jaxcur import calibration
from jaxcur.calibration import _temperature
from tests.helpers import assert_close

N, K = 60, 4


def world(seed=0, factor=2.0):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((N, K)) * 1.5
    y = np.argmax(z + rng.gumbel(size=z.shape), axis=1)
    return factor * z, y


def loss(q, y):
    return -np.mean(np.log(np.asarray(q)[np.arange(y.size), y]))


def plain(logits):
    e = np.exp(logits - logits.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_argmax_stays_and_the_loss_does_not_rise(x64, factor):
    logits, y = world(1, factor)
    fit = calibration.fit_temperature(logits, y)
    q = np.asarray(fit(logits))
    assert bool(fit.converged)
    assert (q.argmax(1) == logits.argmax(1)).all()
    assert loss(q, y) <= loss(plain(logits), y)
    # The optimality condition: mean of E_q[L] - L_y is zero.
    own = logits[np.arange(N), y]
    assert_close(np.mean((q * logits).sum(1) - own), 0.0, rtol=0, atol=1e-9)
    # Scaling the logits scales the answer back.
    other = calibration.fit_temperature(3 * logits, y)
    assert_close(3 * other.inverse_temperature, fit.inverse_temperature, rtol=1e-8)


def test_squared_loss_is_no_worse_than_a_grid(x64):
    logits, y = world(2)
    fit = calibration.fit_temperature(logits, y, loss="mse")

    def squared(beta):
        q = plain(beta * logits)
        return np.mean(np.sum(q**2, 1) - 2 * q[np.arange(N), y])

    found = squared(float(fit.inverse_temperature))
    assert found <= min(map(squared, np.exp(np.linspace(-4, 4, 400)))) + 1e-12


def test_all_right_and_all_wrong_reach_the_caps(x64):
    logits, _ = world(3)
    right = calibration.fit_temperature(logits, logits.argmax(1))
    wrong = calibration.fit_temperature(logits, logits.argmin(1))
    assert int(right.status) == int(wrong.status) == 2
    assert right.inverse_temperature > 1e3
    assert wrong.inverse_temperature < 1e-3
    assert np.isfinite(np.asarray(right(logits))).all()
    mild = calibration.fit_temperature(logits, logits.argmax(1), pseudo_rows=1.0)
    assert bool(mild.converged)


def test_tiles_and_first_guess_change_nothing(x64, monkeypatch):
    logits, y = world(4)
    whole = calibration.fit_temperature(logits, y)
    monkeypatch.setattr(_temperature, "_TILE", 7 * K)
    monkeypatch.setattr(_temperature, "_LARGE", 1)
    # Another dtype of the labels avoids the compiled program with the old constants.
    jax.clear_caches()
    tiled = calibration.fit_temperature(logits, y)
    jax.clear_caches()
    assert_close(tiled.inverse_temperature, whole.inverse_temperature, rtol=1e-8)


def test_jit_vmap_weights_and_dtype(dtype):
    worlds = [world(0), world(1)]
    logits = np.stack([w[0] for w in worlds]).astype(dtype)
    y = np.stack([w[1] for w in worlds])
    weights = np.ones((2, N), dtype)
    weights[:, N // 2 :] = 0
    logits[:, -1] = np.nan

    def fit(logits, y, weights):
        return calibration.fit_temperature(logits, y, weights=weights)

    stacked = jax.jit(jax.vmap(fit))(logits, y, weights)
    assert stacked.inverse_temperature.dtype == dtype
    half = logits[0, : N // 2], y[0, : N // 2]
    alone = calibration.fit_temperature(*half)
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    assert_close(
        stacked.inverse_temperature[0], alone.inverse_temperature, rtol=tolerance
    )
    bad = jax.jit(calibration.fit_temperature)(logits[0], y[0])
    assert int(bad.status) == 3
    assert np.isnan(bad.inverse_temperature)


def test_the_rank_of_the_input_is_never_guessed():
    logits, y = world()
    with pytest.raises(ValueError, match="`logits` must have shape"):
        calibration.fit_temperature(logits, y)(logits[:, 0])
    binary = calibration.fit_temperature(logits[:, 0], (y == 0).astype(float))
    with pytest.raises(ValueError, match="`logits` must have shape"):
        binary(logits)
    with pytest.raises(ValueError, match="`loss` must be one of"):
        calibration.fit_temperature(logits, y, loss="brier")


def test_scaling_of_classes_is_nested(x64):
    logits, y = world(5)
    rows = [
        calibration.fit_temperature(logits, y),
        calibration.fit_vector_scaling(logits, y, shared_slope=True),
        calibration.fit_vector_scaling(logits, y),
        calibration.fit_matrix_scaling(logits, y),
    ]
    losses = [loss(fit(logits), y) for fit in rows]
    assert (np.diff(losses) <= 1e-10).all()
    for fit in rows[1:]:
        assert bool(fit.converged)
        assert_close(np.sum(fit.intercepts), 0.0, rtol=0, atol=1e-12)


def test_structured_scaling_lies_between_its_limits(x64):
    logits, y = world(6)
    free, mild, stiff = (
        loss(calibration.fit_structured_scaling(logits, y, regularization=r)(logits), y)
        for r in (0.0, 1.0, 1e9)
    )
    assert free <= mild <= stiff
    temperature = calibration.fit_temperature(logits, y, pseudo_rows=1.0)
    assert_close(stiff, loss(temperature(logits), y), rtol=1e-6)
    vector = calibration.fit_structured_scaling(logits, y, structure="vector")
    matrix = np.asarray(vector.matrix)
    assert_close(matrix, np.diag(np.diag(matrix)), rtol=0, atol=0)


def test_an_absent_class_has_no_finite_fit_without_penalty(x64):
    logits, y = world(7)
    y = np.where(y == K - 1, 0, y)
    assert int(calibration.fit_vector_scaling(logits, y).status) == 2
    assert bool(calibration.fit_structured_scaling(logits, y).converged)
    penalised = calibration.fit_matrix_scaling(logits, y, regularization=0.1)
    assert np.isfinite(np.asarray(penalised(logits))).all()


def test_conjugate_gradients_reach_the_optimum(x64, monkeypatch):
    from jaxcur.calibration import _newton

    logits, y = world(8)
    dense = calibration.fit_matrix_scaling(logits, y, regularization=0.01)
    monkeypatch.setattr(_newton, "_DENSE", 0)
    jax.clear_caches()
    iterative = calibration.fit_matrix_scaling(logits, y, regularization=0.01)
    jax.clear_caches()
    assert bool(iterative.converged)
    assert_close(iterative(logits), dense(logits), rtol=1e-6)
