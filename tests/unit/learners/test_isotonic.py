import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from sklearn.isotonic import IsotonicRegression

from jaxcur import learners
from tests.helpers import assert_close

SEEDS = st.integers(0, 10_000)
BOTH = pytest.mark.parametrize(
    "learner", [learners.Isotonic(), learners.Binned(3)], ids=["isotonic", "binned"]
)


def world(seed, n=23):
    """Rounded features: ties are common."""
    rng = np.random.default_rng(seed)
    features = np.round(rng.standard_normal((n, 1)), 1)
    target = features[:, 0] + rng.standard_normal(n)
    weights = rng.integers(0, 3, n).astype(float)
    weights[0] = 1.0
    new = np.round(2 * rng.standard_normal((31, 1)), 1)
    return features, target, weights, np.concatenate([new, features])[:40]


def predict(learner, features, target, weights, new):
    with jax.enable_x64(True):
        params = learner.fit(features, target, weights)
        return np.asarray(learner.predict(params, new))


@given(seed=SEEDS, increasing=st.booleans())
def test_isotonic_is_that_of_scikit_learn(seed, increasing):
    features, target, weights, new = world(seed)
    found = predict(learners.Isotonic(increasing), features, target, weights, new)
    present = weights > 0
    peer = IsotonicRegression(increasing=increasing, out_of_bounds="clip")
    peer.fit(features[present], target[present], sample_weight=weights[present])
    assert_close(found, peer.predict(new[:, 0]), rtol=1e-11, atol=1e-11)


@given(seed=SEEDS)
def test_isotonic_is_monotone_and_stays_between_the_targets(seed):
    features, target, weights, new = world(seed)
    new = np.sort(new, axis=0)
    found = predict(learners.Isotonic(), features, target, weights, new)
    assert (np.diff(found) >= 0).all()
    seen = target[weights > 0]
    assert found.min() >= seen.min() - 1e-12
    assert found.max() <= seen.max() + 1e-12


@given(seed=SEEDS)
def test_bins_hold_the_means(seed):
    features, target, weights, _ = world(seed)
    found = predict(learners.Binned(3), features, target, weights, features)
    present = weights > 0
    values = features[present, 0]
    edges = np.quantile(
        np.repeat(values, weights[present].astype(int)),
        [1 / 3, 2 / 3],
        method="inverted_cdf",
    )
    place = np.searchsorted(edges, values, side="left")
    for b in range(3):
        inside = place == b
        if inside.any():
            mean = np.average(target[present][inside], weights=weights[present][inside])
            assert_close(found[present][inside], np.full(inside.sum(), mean), rtol=1e-9)


@BOTH
@given(seed=SEEDS)
def test_rows_are_a_weighted_set(learner, seed):
    features, target, weights, new = world(seed)
    plain = predict(learner, features, target, weights, new)
    order = np.random.default_rng(seed).permutation(len(target))
    moved = predict(learner, features[order], target[order], weights[order], new)
    assert_close(moved, plain, rtol=1e-11, atol=1e-11)
    absent = weights == 0
    spoiled = np.where(absent[:, None], 99.0, features)
    other = predict(learner, spoiled, np.where(absent, 99.0, target), weights, new)
    assert_close(other, plain, rtol=1e-11, atol=1e-11)
    again = predict(learner, features, target, weights / 4, new)
    assert_close(again, plain, rtol=1e-11, atol=1e-11)


@BOTH
def test_one_row_and_one_value(learner, dtype):
    one = np.ones((1, 1), dtype)
    new = np.array([[-2.0], [1.0], [7.0]], dtype)
    params = learner.fit(one, np.array([3.0], dtype))
    assert_close(learner.predict(params, new), np.full(3, 3.0), rtol=1e-6)
    same = np.ones((4, 1), dtype)
    params = learner.fit(same, np.array([0.0, 2.0, 4.0, 6.0], dtype))
    found = learner.predict(params, new)
    assert found.dtype == dtype
    assert_close(found, np.full(3, 3.0), rtol=1e-6)
    assert learner.predict(params, new[:0]).shape == (0,)


def test_one_bin_is_the_mean():
    features, target, weights, new = world(3)
    found = predict(learners.Binned(1), features, target, weights, new)
    assert_close(found, np.full(40, np.average(target, weights=weights)), rtol=1e-12)


def test_a_row_beyond_the_last_edge_gets_the_bin_before_an_empty_one():
    # Both inner edges are 1: nothing lies above them.
    features = np.array([[0.0], [1.0], [1.0], [1.0], [1.0], [1.0]])
    target = np.array([5.0, 1.0, 2.0, 3.0, 2.0, 2.0])
    learner = learners.Binned(3)
    params = learner.fit(features, target)
    found = learner.predict(params, np.array([[0.5], [9.0]]))
    assert_close(found, np.array([2.5, 2.5]), rtol=1e-6)


@BOTH
def test_jit_vmap_and_leave_one_out(learner, strict_promotion):
    data = [np.stack(rows) for rows in zip(*map(world, range(3)), strict=True)]
    features, target, weights, new = (x.astype(np.float32) for x in data)

    @jax.jit
    @jax.vmap
    def both(features, target, weights, new):
        params = learner.fit(features, target, weights)
        left = learners.leave_one_out(learner, features, target, weights)
        return learner.predict(params, new), left

    with jax.checking_leaks(), jax.debug_nans(True):
        found, left = both(features, target, weights, new)
    for i in range(3):
        part = features[i], target[i], weights[i]
        # A quantile or a tie of float32 numbers is the same one in float64.
        expected = predict(learner, *part, new[i])
        assert_close(found[i], expected, rtol=1e-4, atol=1e-5)
        row = int(np.flatnonzero(weights[i])[0])
        kept = weights[i].copy()
        kept[row] = 0
        refit = predict(learner, features[i], target[i], kept, features[i])
        assert_close(left[i, row], refit[row].item(), rtol=1e-4, atol=1e-5)


def test_gradient_in_the_target(x64):
    features, target, weights, new = world(5)
    for learner in (learners.Isotonic(), learners.Binned(4)):

        @jax.jit
        def value(target):
            params = learner.fit(features, target, weights)  # noqa: B023
            return jnp.sum(learner.predict(params, new) ** 2)  # noqa: B023

        direction = np.random.default_rng(0).standard_normal(len(target))
        step = 1e-6
        numeric = value(target + step * direction) - value(target - step * direction)
        found = jnp.vdot(jax.grad(value)(target), direction)
        assert_close(found, (numeric / (2 * step)).item(), rtol=1e-6)


@BOTH
def test_bad_input_is_named(learner):
    features, target, weights, _ = world(1)
    with pytest.raises(ValueError, match="`features` must have one column"):
        learner.fit(np.ones((23, 2)), target)
    with pytest.raises(ValueError, match="`target` must be finite"):
        learner.fit(features, np.full(23, np.nan))
    params = learner.fit(features, target)
    with pytest.raises(ValueError, match="`features` must have the 1 columns"):
        learner.predict(params, np.ones((3, 2)))
    missing = learner.predict(params, np.array([[0.0], [np.nan]]))
    assert np.isnan(missing).tolist() == [False, True]

    @jax.jit
    def under_jit(features, target, weights):
        return learner.predict(learner.fit(features, target, weights), features)

    for name in ("features", "target", "weights", "no weight"):
        parts = {"features": features, "target": target, "weights": weights}
        if name == "no weight":
            parts["weights"] = np.zeros(23)
        else:
            parts[name] = np.where(
                np.arange(23).reshape(parts[name].shape) == 0, np.nan, parts[name]
            )
        assert np.isnan(under_jit(**parts)).all(), name


def test_a_bad_number_of_bins_is_named():
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="`num_bins` must be a positive integer"):
            learners.Binned(wrong)
