import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from jaxcur import conformal

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=64).astype(np.float32)
TESTS = RNG.normal(size=512).astype(np.float32) - 0.8
LEVELS = [0.0, 0.05, 0.1, 0.3, 0.7, 1.0]


def streamed(chunks) -> conformal.RankHistogram:
    state = conformal.RankHistogram.init(SCORES)
    for chunk in chunks:
        state = state.update(chunk)
    return state


@pytest.mark.parametrize("level", LEVELS)
def test_streamed_selection_equals_the_one_in_memory(level):
    state = streamed(np.split(TESTS, 8))
    whole = conformal.select(SCORES, TESTS, level=level)
    assert (np.asarray(TESTS <= state.score_cutoff(level)) == whole.selected).all()
    assert (state.select(TESTS, level) == whole.selected).all()
    assert (state.p_values(TESTS) == whole.p_values).all()


@pytest.mark.parametrize("level", LEVELS)
def test_streamed_selection_with_ties_zeros_and_specials(level):
    grid = np.asarray([-2, -1, -0.0, 0, 1, 2, np.inf, -np.inf, np.nan], np.float32)
    rng = np.random.default_rng(1)
    scores, tests = rng.choice(grid, 17), rng.choice(grid, 64)
    state = conformal.RankHistogram.init(scores).update(tests)
    whole = conformal.select(scores, tests, level=level)
    # -inf is the cut-off that says "none", so it cannot speak of a score of -inf.
    finite = tests != -np.inf
    expected = np.asarray(whole.selected)[finite]
    cutoff = state.score_cutoff(level)
    assert (np.asarray(tests[finite] <= np.asarray(cutoff)) == expected).all()
    assert (np.asarray(jnp.asarray(tests[finite]) <= cutoff) == expected).all()
    assert (state.select(tests, level) == whole.selected).all()


def test_merge_in_any_order_equals_one_stream():
    parts = [streamed([chunk]) for chunk in np.split(TESTS, 4)]
    left = parts[0].merge(parts[1]).merge(parts[2].merge(parts[3]))
    right = parts[3].merge(parts[0]).merge(parts[2]).merge(parts[1])
    whole = streamed([TESTS])
    for state in (left, right):
        assert (state.counts() == whole.counts()).all()
    assert whole.num_rows() == TESTS.size


def test_merge_refuses_another_calibration_set():
    other = conformal.RankHistogram.init(SCORES + 1)
    with pytest.raises(ValueError, match="different calibration scores"):
        streamed([TESTS]).merge(other)
    with pytest.raises(ValueError, match="different calibration scores"):
        streamed([TESTS]).merge(conformal.RankHistogram.init(SCORES[:-1]))


def test_counts_carry_over_32_bits():
    state = streamed([TESTS])
    for _ in range(30):
        state = state.merge(state)
    assert state.num_rows() == TESTS.size * 2**30 > 2**32
    assert (state.counts() == streamed([TESTS]).counts() * 2**30).all()
    # Duplicating every candidate changes neither p-values nor shares.
    assert float(state.score_cutoff(0.3)) == float(streamed([TESTS]).score_cutoff(0.3))
    for _ in range(20):
        state = state.merge(state)
    with pytest.raises(OverflowError, match="2\\^53"):
        state.score_cutoff(0.3)


def test_empty_stream_and_no_calibration_rows():
    empty = conformal.RankHistogram.init(SCORES)
    assert float(empty.score_cutoff(0.5)) == -np.inf
    none = conformal.RankHistogram.init([]).update(TESTS)
    assert float(none.score_cutoff(0.5)) == -np.inf
    assert float(none.score_cutoff(1.0)) == np.inf


def test_update_inside_shard_map_counts_the_whole_chunk():
    devices = len(jax.devices())
    assert devices >= 4
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    state = conformal.RankHistogram.init(SCORES)
    step = jax.shard_map(
        lambda s, t: s.update(t, axis_name="data"),
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec("data")),
        out_specs=PartitionSpec(),
    )
    assert (jax.jit(step)(state, TESTS).counts() == streamed([TESTS]).counts()).all()


def test_float64_stream_into_float32_scores_is_refused(x64):
    state = conformal.RankHistogram.init(jnp.asarray(SCORES, jnp.float32))
    with pytest.raises(TypeError, match="rounding would change the order"):
        state.update(TESTS.astype(np.float64))
    wide = conformal.RankHistogram.init(SCORES.astype(np.float64)).update(TESTS)
    assert (wide.counts() == streamed([TESTS]).counts()).all()


def test_bad_level_and_shape():
    with pytest.raises(ValueError, match="`level`"):
        streamed([TESTS]).score_cutoff(1.5)
    with pytest.raises(ValueError, match="`test_scores`"):
        conformal.RankHistogram.init(SCORES).update(TESTS[None])
