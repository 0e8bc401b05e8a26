"""Relations that hold for every learner that is a function of the set of rows."""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from jaxcur import learners
from tests.helpers import assert_close

# A ladder of sizes: every new shape costs a compilation.
SIZES = st.sampled_from([(3, 2), (2, 3), (17, 2)])
# Quarters: ties and repeated rows are common, and sums are exact.
VALUES = st.integers(-12, 12).map(lambda i: i / 4)

# The learner, and what rounding may do to it in float64 on such data.
LEARNERS = {
    "ridge": (learners.Ridge(0.5), 1e-9),
    "ridge_plain": (learners.Ridge(0.5, intercept=False), 1e-9),
    "kernel_ridge": (learners.KernelRidge(learners.RBF(0.5), 0.3), 1e-9),
    "knn": (learners.KNN(2), 1e-12),
    "nadaraya_watson": (learners.NadarayaWatson(learners.RBF(0.5)), 1e-12),
    "logistic": (learners.Logistic(0.5), 1e-7),
}
LEARNER = pytest.mark.parametrize("name", LEARNERS)


@st.composite
def worlds(draw):
    n, d = draw(SIZES)
    features = draw(hnp.arrays(np.float64, (n, d), elements=VALUES))
    target = draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 0.5, 1.0])))
    weights = draw(hnp.arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0, 2.0])))
    # At least two rows with weight: something is left when one is left out.
    weights[:2] = np.maximum(weights[:2], 1)
    order = draw(st.permutations(range(n)))
    return features, target, weights, np.array(order)


def both(learner, features, target, weights, new):
    """Predictions at new rows, and leave-one-out predictions."""
    with jax.enable_x64(True):
        found = _both(learner, features, target, weights, new)
        return tuple(np.asarray(x) for x in found)


@jax.jit
def _both(learner, features, target, weights, new):
    params = learner.fit(features, target, weights)
    return (
        learner.predict(params, new),
        learner.leave_one_out(features, target, weights),
    )


@LEARNER
@given(world=worlds())
def test_the_order_of_rows_does_not_matter(name, world):
    learner, tolerance = LEARNERS[name]
    features, target, weights, order = world
    new = features + 0.3
    plain, left = both(learner, features, target, weights, new)
    moved, moved_left = both(
        learner, features[order], target[order], weights[order], new
    )
    assert_close(moved, plain, rtol=tolerance, atol=tolerance)
    assert_close(moved_left, left[order], rtol=tolerance, atol=tolerance)


@LEARNER
@given(world=worlds())
def test_absent_rows_change_nothing(name, world):
    learner, tolerance = LEARNERS[name]
    features, target, weights, _ = world
    new = features + 0.3
    plain = both(learner, features, target, weights, new)
    absent = weights == 0
    spoiled, labels = features.copy(), target.copy()
    spoiled[absent] = 2.75
    labels[absent] = 1 - labels[absent]
    other = both(learner, spoiled, labels, weights, new)
    assert_close(other[0], plain[0], rtol=tolerance, atol=tolerance)
    present = ~absent
    assert_close(other[1][present], plain[1][present], rtol=tolerance, atol=tolerance)
    # An absent row gets the prediction of the full fit.
    own, left = both(learner, features, target, weights, features)
    assert_close(left[absent], own[absent], rtol=tolerance, atol=tolerance)


@LEARNER
@given(world=worlds())
def test_a_weight_counts_copies(name, world):
    learner, tolerance = LEARNERS[name]
    features, target, weights, _ = world
    new = features + 0.3
    plain, _ = both(learner, features, target, weights, new)
    twice = np.concatenate([features, features]), np.concatenate([target, target])
    halves, _ = both(learner, *twice, np.concatenate([weights, weights]) / 2, new)
    assert_close(halves, plain, rtol=tolerance, atol=tolerance)


@LEARNER
@given(world=worlds())
def test_leaving_a_row_out_is_giving_it_no_weight(name, world):
    learner, tolerance = LEARNERS[name]
    features, target, weights, order = world
    row = order[0]
    _, left = both(learner, features, target, weights, features)
    kept = weights.copy()
    kept[row] = 0
    refit, _ = both(learner, features, target, kept, features)
    assert_close(left[row], refit[row], rtol=tolerance, atol=tolerance)


@LEARNER
@given(world=worlds())
def test_a_row_does_not_see_its_own_target(name, world):
    learner, tolerance = LEARNERS[name]
    features, target, weights, order = world
    row = order[0]
    _, left = both(learner, features, target, weights, features)
    changed = target.copy()
    changed[row] = 1 - changed[row]
    _, again = both(learner, features, changed, weights, features)
    assert_close(again[row], left[row], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["knn", "nadaraya_watson"])
@given(world=worlds())
def test_averages_stay_between_the_targets(name, world):
    learner, _ = LEARNERS[name]
    features, target, weights, _ = world
    present = target[weights > 0]
    for found in both(learner, features, target, weights, features + 0.3):
        assert (found >= present.min() - 1e-12).all()
        assert (found <= present.max() + 1e-12).all()


@given(world=worlds(), scale=st.sampled_from([0.25, 4.0]), shift=VALUES)
def test_ridge_is_equivariant(world, scale, shift):
    learner = learners.Ridge(0.5)
    features, target, weights, _ = world
    new = features + 0.3
    plain = both(learner, features, target, weights, new)
    labels = shift + scale * target
    affine = both(learner, features + shift, labels, weights, new + shift)
    for found, expected in zip(affine, plain, strict=True):
        assert_close(found, shift + scale * expected, rtol=1e-9, atol=1e-9)


@given(world=worlds())
def test_the_mean_over_leave_one_out_fits(world):
    features, target, weights, _ = world
    new = features + 0.3
    for name in ("ridge", "kernel_ridge"):
        learner, _ = LEARNERS[name]
        with jax.enable_x64(True):
            found = learners.mean_leave_one_out_predict(
                learner, features, target, new, weights
            )
        total = 0.0
        for row in np.flatnonzero(weights):
            kept = weights.copy()
            kept[row] = 0
            total = total + both(learner, features, target, kept, new)[0]
        count = np.count_nonzero(weights)
        assert_close(found, total / count, rtol=1e-9, atol=1e-9)
