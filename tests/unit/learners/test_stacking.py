from functools import partial

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import nnls
from sklearn.linear_model import LinearRegression

from jaxcur import learners
from jaxcur.learners._nnls import nonnegative_least_squares
from tests.helpers import assert_close

KEY = jax.random.key(0)
SEEDS = st.integers(0, 10_000)
solve = jax.jit(nonnegative_least_squares, static_argnames=("sum_to_one",))


def problem(seed, n=29, p=4):
    """Correlated columns, as predictions of one target are."""
    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((n, p)) + 3 * rng.standard_normal((n, 1))
    target = columns @ rng.uniform(-0.5, 1, p) + rng.standard_normal(n)
    return columns, target, rng.integers(0, 3, n).astype(float)


@given(seed=SEEDS)
def test_nnls_is_that_of_scipy(seed):
    columns, target, weights = problem(seed)
    root = np.sqrt(weights)
    expected, _ = nnls(columns * root[:, None], target * root)
    with jax.enable_x64(True):
        found = solve(columns, target, weights)
    assert_close(found, expected, rtol=1e-9, atol=1e-11)


@given(seed=SEEDS)
def test_weights_that_sum_to_one_are_optimal(seed):
    columns, target, weights = problem(seed)
    with jax.enable_x64(True):
        found = np.asarray(solve(columns, target, weights, sum_to_one=True))
    assert (found >= 0).all()
    assert_close(found.sum(), np.float64(1), rtol=1e-12)
    # On the simplex: no direction to a corner goes down, and every used one is level.
    slope = columns.T @ (weights * (columns @ found - target))
    level = slope @ found
    size = np.abs(slope).max() + np.linalg.norm(columns) * np.linalg.norm(target)
    assert (slope >= level - 1e-10 * size).all()


def test_degenerate_columns(x64):
    columns, target, weights = problem(0)
    # Twice the same column, one of zeros: the fit is that without them.
    more = np.concatenate([columns, columns[:, :1], np.zeros((29, 1))], axis=1)
    plain, found = solve(columns, target, weights), solve(more, target, weights)
    assert (found >= 0).all()
    assert_close(more @ found, columns @ plain, rtol=1e-9, atol=1e-9)
    assert found[5] == 0
    # Fewer rows than columns, a target that no nonnegative combination approaches.
    assert_close(solve(columns[:2], target[:2], np.ones(2)).shape, (4,), rtol=0)
    nothing = solve(np.abs(columns), -np.abs(target), weights)
    assert_close(nothing, np.zeros(4), rtol=0)
    same = solve(more[:, [0, 4]], target, weights, sum_to_one=True)
    assert_close(jnp.sum(same), 1.0, rtol=1e-12)
    perfect = solve(columns, columns[:, 1], weights, sum_to_one=True)
    assert_close(perfect, np.array([0.0, 1, 0, 0]), rtol=1e-9, atol=1e-12)
    assert np.isnan(solve(columns * np.nan, target, weights)).all()


def test_float32_and_vmap_agree_with_float64(strict_promotion):
    parts = zip(*map(problem, range(4)), strict=True)
    columns, target, weights = (np.stack(x).astype(np.float32) for x in parts)
    for sum_to_one in (False, True):
        one = partial(nonnegative_least_squares, sum_to_one=sum_to_one)
        found = jax.jit(jax.vmap(one))(columns, target, weights)
        with jax.enable_x64(True):
            wide = [x.astype(np.float64) for x in (columns, target, weights)]
            exact = jax.vmap(one)(*wide)
        # The condition number of the columns, near 10, times the precision.
        assert_close(found, np.asarray(exact), rtol=1e-4, atol=1e-4)


def world(n=60):
    rng = np.random.default_rng(4)
    features = rng.uniform(-2, 2, (n, 1))
    target = np.sign(features[:, 0]) + 0.1 * rng.standard_normal(n)
    weights = rng.integers(0, 3, n).astype(float)
    folds = rng.permutation(n) % 5
    return features, target, weights, folds


PARTS = (learners.Ridge(0.1), learners.Isotonic())


def test_it_is_nnls_on_out_of_fold_predictions(x64):
    features, target, weights, folds = world()
    stack = learners.Stacking(PARTS)
    params = stack.fit(features, target, weights, folds=folds)
    columns = np.zeros((60, 2))
    for j, part in enumerate(PARTS):
        for k in range(5):
            own = folds == k
            fitted = part.fit(features[~own], target[~own], weights[~own])
            columns[own, j] = part.predict(fitted, features[own])
    root = np.sqrt(weights)
    expected, _ = nnls(columns * root[:, None], target * root)
    assert_close(params.combination, expected, rtol=1e-8, atol=1e-10)
    whole = [part.fit(features, target, weights) for part in PARTS]
    new = np.linspace(-3, 3, 7)[:, None]
    mixed = sum(
        w * np.asarray(part.predict(fitted, new))
        for w, part, fitted in zip(expected, PARTS, whole, strict=True)
    )
    assert_close(stack.predict(params, new), mixed, rtol=1e-8, atol=1e-10)
    one = learners.Stacking(list(PARTS), sum_to_one=True)
    total = one.fit(features, target, weights, folds=folds).combination.sum()
    assert_close(total, 1.0, rtol=1e-12)


def test_folds_from_a_key_are_reproducible_and_balanced():
    features, target, weights, _ = world()
    stack = learners.Stacking(PARTS)
    first = stack.fit(features, target, weights, key=KEY)
    assert_close(stack.fit(features, target, weights, key=KEY), first, rtol=0)
    other = stack.fit(features, target, weights, key=jax.random.key(1))
    assert (other.combination != first.combination).any()
    from jaxcur.learners._stacking import _draw_folds

    folds = np.asarray(_draw_folds(KEY, jnp.asarray(weights), 5))
    counts = np.bincount(folds[weights > 0], minlength=5)
    assert counts.max() - counts.min() <= 1


def test_absent_rows_change_nothing():
    features, target, weights, folds = world()
    absent = weights == 0
    stack = learners.Stacking(PARTS)
    spoiled = np.where(absent[:, None], 0.7, features)
    for draw in ({"folds": folds}, {"key": KEY}):
        plain = stack.fit(features, target, weights, **draw).combination
        found = stack.fit(spoiled, np.where(absent, 9, target), weights, **draw)
        assert_close(found.combination, plain, rtol=1e-4, atol=1e-5)


def test_the_host_path_is_the_same(x64):
    features, target, weights, folds = world()
    weights = (weights > 0).astype(float)
    host = learners.HostLearner(LinearRegression())
    mixed = learners.Stacking((host, learners.Isotonic()))
    assert mixed.on_host
    jaxed = learners.Stacking((learners.Ridge(0.0), learners.Isotonic()))
    assert not jaxed.on_host
    found = mixed.fit(features, target, weights, folds=folds)
    expected = jaxed.fit(features, target, weights, folds=folds)
    assert_close(found.combination, expected.combination, rtol=1e-8)
    assert_close(
        mixed.predict(found, features), jaxed.predict(expected, features), rtol=1e-8
    )
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(mixed.fit)(features, target, weights, folds=folds)


def test_jit_and_vmap(strict_promotion):
    stack = learners.Stacking(PARTS)
    data = [np.stack([x, x[::-1]]).astype(np.float32) for x in world()[:3]]

    @jax.jit
    @jax.vmap
    def predict(features, target, weights):
        params = stack.fit(features, target, weights, key=KEY)
        return stack.predict(params, features)

    with jax.checking_leaks(), jax.debug_nans(True):
        found = predict(*data)
    alone = stack.fit(*(x[0] for x in data), key=KEY)
    assert_close(found[0], stack.predict(alone, data[0][0]), rtol=1e-4, atol=1e-5)


def test_sorted_rows_make_it_symmetric():
    features, target, weights, _ = world()
    order = np.random.default_rng(0).permutation(60)
    stack = learners.SortedRows(learners.Stacking(PARTS))
    plain = stack.fit(features, target, weights, key=KEY)
    moved = stack.fit(features[order], target[order], weights[order], key=KEY)
    assert_close(moved.combination, plain.combination, rtol=0)


def test_bad_input_is_named():
    features, target, _, folds = world()
    ridge = learners.Ridge(1.0)
    with pytest.raises(ValueError, match="`learners` must hold at least one"):
        learners.Stacking(())
    for wrong in (1, 2.5, True):
        with pytest.raises(ValueError, match="`num_folds` must be an integer"):
            learners.Stacking((ridge,), num_folds=wrong)
    with pytest.raises(TypeError, match="`learner` must be an object with methods"):
        learners.Stacking((ridge, 3)).fit(features, target, key=KEY)
    stack = learners.Stacking((ridge,))
    with pytest.raises(ValueError, match=r"pass `key=jax.random.key"):
        stack.fit(features, target)
    with pytest.raises(ValueError, match=r"only 3 rows have positive weight"):
        stack.fit(features, target, np.arange(60) < 3, key=KEY)
    with pytest.raises(ValueError, match="`folds` must lie between 0 and"):
        stack.fit(features, target, folds=folds + 1)
    with pytest.raises(ValueError, match=r"`folds` must have shape \(60,\)"):
        stack.fit(features, target, folds=folds[:4])
    with pytest.raises(TypeError, match="`folds` must hold integers"):
        stack.fit(features, target, folds=folds * 1.0)

    class Pairs(learners.KNN):
        def predict(self, params, features):
            return jnp.zeros((len(features), 2))

    with pytest.raises(ValueError, match="must predict one value per row"):
        learners.Stacking((Pairs(1),)).fit(features, target, key=KEY)
