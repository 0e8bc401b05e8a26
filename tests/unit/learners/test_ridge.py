import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.learners import Ridge, _scatter, leave_one_out, ridge_path
from tests.helpers import assert_close

RNG = np.random.default_rng(0)


def data(n, d, seed=0, shift=3.0):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, n) * 0.7
    weights[:3] = [0, 0.5, 1]
    return rng.standard_normal((n, d)) + shift, rng.standard_normal(n), weights


def solve(features, target, weights, regularization, intercept):
    """The normal equations, or the minimal norm, by NumPy's own least squares."""
    total = weights.sum()
    center = weights @ features / total if intercept else np.zeros(features.shape[1])
    middle = weights @ target / total if intercept else 0.0
    root = np.sqrt(weights)
    rows = (features - center) * root[:, None]
    labels = (target - middle) * root
    d = features.shape[1]
    rows = np.vstack([rows, np.sqrt(regularization) * np.eye(d)])
    labels = np.concatenate([labels, np.zeros(d)])
    coefficients = np.linalg.lstsq(rows, labels, rcond=1e-10)[0]
    return coefficients, middle - center @ coefficients


def refits(features, target, weights, regularization, intercept):
    fits = []
    for i in range(len(target)):
        kept = weights.copy()
        kept[i] = 0
        fits.append(solve(features, target, kept, regularization, intercept))
    predictions = [x @ b + a for x, (b, a) in zip(features, fits, strict=True)]
    present = [fit for fit, w in zip(fits, weights, strict=True) if w > 0]
    mean = np.mean([b for b, _ in present], axis=0), np.mean([a for _, a in present])
    return np.array(predictions), mean


def test_a_line_by_hand():
    params = Ridge(0.0).fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    assert_close(params.coefficients, np.array([2.0]), rtol=1e-6)
    assert_close(params.intercept, 1.0, rtol=1e-6)


def test_penalty_shrinks_the_slope_and_not_the_intercept():
    # Sum of squares of the centred feature is 2: slope 2 * 2 / (2 + 2), mean kept.
    params = Ridge(2.0).fit(np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 3.0, 5.0]))
    assert_close(params.coefficients, np.array([1.0]), rtol=1e-6)
    assert_close(params.intercept, 2.0, rtol=1e-6)


# More rows than columns, as many, fewer: (6, 5) leaves 5 rows for 5 columns and an
# intercept, (5, 8) goes through the n x n system.
@pytest.mark.parametrize(("n", "d"), [(30, 4), (6, 5), (5, 5), (5, 8)])
@pytest.mark.parametrize("regularization", [0.0, 0.1])
@pytest.mark.parametrize("intercept", [True, False])
def test_closed_forms_equal_refits(x64, n, d, regularization, intercept):
    features, target, weights = data(n, d)
    for counts in (weights, np.ones(n)):
        compare(features, target, counts, regularization, intercept)


def compare(features, target, weights, regularization, intercept):
    learner = Ridge(regularization, intercept=intercept)
    predictions, mean = refits(features, target, weights, regularization, intercept)
    # Near-singular refits on five rows lose digits on either side.
    rtol, atol = (1e-7, 1e-8) if regularization == 0 else (1e-10, 1e-11)
    found = learner.leave_one_out(features, target, weights)
    assert_close(found, predictions, rtol=rtol, atol=atol)
    found = learner.mean_leave_one_out_fit(features, target, weights)
    assert_close(found.coefficients, mean[0], rtol=rtol, atol=atol)
    assert_close(found.intercept, np.float64(mean[1]), rtol=rtol, atol=atol)
    full = learner.fit(features, target, weights)
    expected = solve(features, target, weights, regularization, intercept)
    assert_close(full.coefficients, expected[0], rtol=rtol, atol=atol)


@pytest.mark.parametrize("regularization", [0.0, 0.5])
@pytest.mark.parametrize(("n", "d"), [(30, 4), (5, 8)])
def test_a_traced_penalty_gives_the_same(x64, n, d, regularization):
    features, target, weights = data(n, d)

    def everything(learner):
        return (
            learner.leave_one_out(features, target, weights),
            learner.mean_leave_one_out_fit(features, target, weights),
            learner.fit(features, target, weights),
        )

    traced = jax.jit(everything)(Ridge(regularization))
    concrete = everything(Ridge(regularization))
    assert_close(traced, concrete, rtol=1e-9, atol=1e-11)


def test_collinear_columns_without_penalty(x64):
    features, target, weights = data(20, 4)
    features[:, 3] = features[:, 0] + features[:, 1]
    found = Ridge(0.0).leave_one_out(features, target, weights)
    expected, _ = refits(features, target, weights, 0.0, True)
    assert_close(found, expected, rtol=1e-9)
    constant = np.column_stack([features[:, :2], np.ones(20)])
    found = Ridge(0.0).leave_one_out(constant, target)
    assert_close(found, Ridge(0.0).leave_one_out(features[:, :2], target), rtol=1e-9)


def test_a_row_alone_in_its_column(x64):
    # Without row 0 the second column is constant and its slope unlearnable.
    features = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    target = np.array([9.0, 1.0, 2.0, 3.0])
    found = Ridge(0.0).leave_one_out(features, target)
    assert_close(found[0], 0.0, rtol=0, atol=1e-10)
    assert np.isfinite(found).all()


def test_blocks_of_rows_change_nothing(x64, monkeypatch):
    features, target, weights = data(1000, 3)
    whole = Ridge(1.0).leave_one_out(features, target, weights)
    mean = Ridge(1.0).mean_leave_one_out_fit(features, target, weights)
    path = ridge_path(features, target, [0.5, 1.0], weights)
    # 300 rows a block: three of them and a rest.
    monkeypatch.setattr(_scatter, "_BLOCK_ENTRIES", 900)
    jax.clear_caches()
    assert_close(Ridge(1.0).leave_one_out(features, target, weights), whole, rtol=1e-11)
    again = Ridge(1.0).mean_leave_one_out_fit(features, target, weights)
    assert_close(again, mean, rtol=1e-10, atol=1e-13)
    blocked = ridge_path(features, target, [0.5, 1.0], weights)
    assert_close(blocked, path, rtol=1e-10, atol=1e-12)
    jax.clear_caches()


def test_a_large_mean_does_not_cost_the_digits_of_float32():
    features, target, _ = data(200, 3, shift=0.0)
    features, target = features.astype(np.float32), target.astype(np.float32)
    moved = features + np.float32(512)
    plain = Ridge(1.0).leave_one_out(features, target)
    # The shifted rows themselves carry an error of 3e-5.
    assert_close(Ridge(1.0).leave_one_out(moved, target), plain, rtol=0, atol=2e-4)


def test_float32_keeps_its_digits_with_more_columns_than_rows():
    features, target, _ = data(60, 300, shift=0.0)
    with jax.enable_x64(True):
        exact = np.asarray(Ridge(0.1).leave_one_out(features, target))
    # 1 - leverage would lose four digits here.
    assert_close(Ridge(0.1).leave_one_out(features, target), exact, rtol=0, atol=1e-5)


def test_the_only_row_has_nothing_to_learn_from():
    found = Ridge(1.0).leave_one_out(np.ones((1, 1)), np.ones(1))
    assert np.isnan(found).all()
    two = Ridge(1.0).leave_one_out(np.ones((2, 1)), [1.0, 2.0], [1.0, 0.0])
    assert np.isnan(two[0])
    assert_close(two[1], 1.0, rtol=1e-6)
    wide = Ridge(1.0).leave_one_out(np.ones((1, 2)), np.ones(1))
    assert np.isnan(wide).all()


def test_two_rows_predict_each_other():
    found = Ridge(1.0).leave_one_out(np.array([[0.0], [1.0]]), np.array([3.0, 7.0]))
    assert_close(found, np.array([7.0, 3.0]), rtol=1e-6)


@pytest.mark.parametrize("intercept", [True, False])
def test_path_equals_single_fits(x64, intercept):
    features, target, weights = data(30, 4)
    path = ridge_path(features, target, [0.01, 1.0, 40.0], weights, intercept=intercept)
    for i, value in enumerate([0.01, 1.0, 40.0]):
        learner = Ridge(value, intercept=intercept)
        expected = learner.leave_one_out(features, target, weights)
        assert_close(path.leave_one_out[i], expected, rtol=1e-9)
        params = learner.fit(features, target, weights)
        assert_close(path.params(i), params, rtol=1e-9, atol=1e-12)


def test_one_program_for_a_sweep_of_penalties():
    features, target, _ = data(20, 3)
    traces = []

    @jax.jit
    def sweep(learner):
        traces.append(1)
        return learner.leave_one_out(features, target)

    first, second = sweep(Ridge(0.5)), sweep(Ridge(5.0))
    assert len(traces) == 1
    assert not np.allclose(first, second)
    batch = jax.vmap(lambda r: Ridge(r).leave_one_out(features, target))(
        jnp.array([0.5, 5.0])
    )
    assert_close(batch, jnp.stack([first, second]), rtol=1e-4, atol=1e-5)


def test_memory_is_that_of_the_blocks():
    n, d = 100_000, 50
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in [(n, d), (n,)]]
    compiled = jax.jit(Ridge(1.0).leave_one_out).lower(*shapes).compile()
    memory = compiled.memory_analysis()
    # The rows are 20 MB; a centred copy of all of them would be 20 more. A block is
    # 4 MB, and is held twice.
    assert memory.temp_size_in_bytes < 8.5e6


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_negative_penalty_is_refused(value):
    with pytest.raises(ValueError, match="`regularization` must be nonnegative"):
        Ridge(value)


def test_path_refuses_what_is_no_path():
    features, target, _ = data(10, 2)
    with pytest.raises(ValueError, match="must be positive"):
        ridge_path(features, target, [0.0, 1.0])
    with pytest.raises(ValueError, match=r"shape \(r,\)"):
        ridge_path(features, target, 1.0)
    with pytest.raises(ValueError, match="ridge_path"):
        Ridge(np.ones(2)).fit(features, target)


def test_predict_checks_the_columns():
    features, target, _ = data(10, 2)
    params = Ridge(1.0).fit(features, target)
    with pytest.raises(ValueError, match="the 2 columns of the fit"):
        Ridge(1.0).predict(params, np.ones((3, 5)))


def test_gradient_through_leave_one_out(x64):
    features, target, _ = data(12, 3)

    def error(log_penalty):
        residual = leave_one_out(Ridge(jnp.exp(log_penalty)), features, target) - target
        return jnp.mean(residual**2)

    step = 1e-5
    at = jnp.asarray(0.3)
    numeric = (error(at + step) - error(at - step)) / (2 * step)
    assert_close(jax.grad(error)(at), numeric, rtol=1e-6)
