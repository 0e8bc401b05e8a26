import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.learners import KNN, RBF, NadarayaWatson, _distances
from tests.helpers import assert_close

LINE = np.array([[0.0], [1.0], [2.0], [5.0]])
LABELS = np.array([1.0, 2.0, 4.0, 8.0])


def predict(learner, rows, target, queries, weights=None):
    return learner.predict(learner.fit(rows, target, weights), queries)


def test_nearest_by_hand():
    found = predict(KNN(2), LINE, LABELS, np.array([[0.1], [4.0]]))
    assert_close(found, np.array([1.5, 6.0]), rtol=1e-6)


def test_ties_share_the_remaining_places():
    # From 1: itself at 0, then 0 and 2 tied at distance 1 for the second place.
    found = predict(KNN(2), LINE, LABELS, np.array([[1.0]]))
    assert_close(found, np.array([(2 + (1 + 4) / 2) / 2]), rtol=1e-6)


def test_leave_one_out_by_hand():
    # The tie at row 1 between 0 and 2 is shared.
    found = KNN(1).leave_one_out(LINE, LABELS)
    assert_close(found, np.array([2.0, 2.5, 2.0, 4.0]), rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equal_rows_are_interchangeable_to_the_last_bit(k):
    # Duplicates everywhere, in an odd number of columns and rows: a matrix product
    # would round them differently by position.
    rng = np.random.default_rng(2)
    rows = np.repeat(rng.standard_normal((21, 7)), 3, axis=0).astype(np.float32)
    target = rng.integers(0, 8, 63).astype(np.float32)
    found = np.asarray(KNN(k).leave_one_out(rows, target))
    order = rng.permutation(63)
    moved = np.asarray(KNN(k).leave_one_out(rows[order], target[order]))
    # Sums of eighths are exact up to the division.
    assert_close(moved, found[order], rtol=3e-7)


def test_weights_are_copies(x64):
    rng = np.random.default_rng(3)
    rows, target = rng.standard_normal((20, 2)), rng.standard_normal(20)
    counts = rng.integers(0, 3, 20)
    copies = np.repeat(np.arange(20), counts)
    queries = rng.standard_normal((9, 2))
    weighted = predict(KNN(4), rows, target, queries, counts)
    assert_close(
        weighted, predict(KNN(4), rows[copies], target[copies], queries), rtol=1e-12
    )
    thirds = predict(
        KNN(4), np.repeat(rows, 3, axis=0), np.repeat(target, 3), queries, [1 / 3] * 60
    )
    assert_close(thirds, predict(KNN(4), rows, target, queries), rtol=1e-10)


def test_fewer_rows_than_neighbours_use_them_all():
    found = predict(KNN(9), LINE, LABELS, np.array([[0.0]]))
    assert_close(found, np.array([15 / 4]), rtol=1e-6)
    left = KNN(9).leave_one_out(LINE, LABELS)
    assert_close(left, (15 - LABELS) / 3, rtol=1e-6)


def test_an_absent_row_is_no_neighbour_but_gets_a_prediction():
    found = KNN(1).leave_one_out(LINE, LABELS, [1, 0, 1, 1])
    assert_close(found, np.array([4.0, 2.5, 1.0, 4.0]), rtol=1e-6)


@pytest.mark.parametrize("learner", [KNN(3), NadarayaWatson(RBF(0.5))])
def test_tiles_change_nothing(learner, monkeypatch):
    rng = np.random.default_rng(4)
    rows, target = rng.standard_normal((37, 3)), rng.standard_normal(37)
    whole = learner.leave_one_out(rows, target)
    params = learner.fit(rows, target)
    import jax

    # Five rows a tile: seven tiles and a rest of two.
    monkeypatch.setattr(_distances, "_TILE_ENTRIES", 5 * 37)
    jax.clear_caches()
    assert_close(learner.leave_one_out(rows, target), whole, rtol=1e-6)
    direct = learner.predict(params, rows[:11])
    jax.clear_caches()
    monkeypatch.undo()
    assert_close(direct, learner.predict(params, rows[:11]), rtol=1e-6)


def test_kernel_average_by_hand(x64):
    learner = NadarayaWatson(RBF(1.0))
    near, far = np.exp(-1.0), np.exp(-4.0)
    found = learner.leave_one_out(LINE[:3], LABELS[:3], [1.0, 2.0, 1.0])
    expected = [
        (2 * near * 2 + far * 4) / (2 * near + far),
        (1 + 4) / 2,
        (2 * near * 2 + far * 1) / (2 * near + far),
    ]
    assert_close(found, np.array(expected), rtol=1e-12)


def test_far_from_everything_the_average_is_predicted():
    learner = NadarayaWatson(RBF(1.0))
    found = predict(learner, LINE, LABELS, np.array([[1e4]]), [1, 1, 1, 3])
    assert_close(found, np.array([31 / 6]), rtol=1e-6)
    alone = learner.leave_one_out(np.array([[0.0], [1e4]]), np.array([3.0, 5.0]))
    assert_close(alone, np.array([5.0, 3.0]), rtol=1e-6)


def test_nothing_left_is_nan():
    for learner in (KNN(1), NadarayaWatson(RBF(1.0))):
        found = learner.leave_one_out(np.ones((1, 1)), np.ones(1))
        assert np.isnan(found).all()


@pytest.mark.parametrize("k", [0, -1, 2.0, True])
def test_k_is_a_positive_integer(k):
    with pytest.raises(ValueError, match="`k` must be a positive integer"):
        KNN(k)


def test_a_kernel_average_takes_any_callable():
    def near(a, b):
        return jnp.abs(a - b.T) < 1.5

    found = NadarayaWatson(near).leave_one_out(LINE, LABELS)
    assert_close(found, np.array([2.0, 2.5, 2.0, 7 / 3]), rtol=1e-6)
    with pytest.raises(TypeError, match="`kernel` must be a callable"):
        NadarayaWatson(None)
