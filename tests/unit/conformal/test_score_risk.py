"""Hand-computable cases, edges and errors of risk-controlled selection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal._score_risk import RISK_STATUS, score_mdr, score_sdr
from tests.helpers import assert_close

METHODS = [score_mdr, score_sdr]
LOSSES = [0.0, 0.5, 0.0, 1.0]
SCORES = [0.1, 0.2, 0.3, 0.9]
TESTS = [0.15, 0.25, 0.95]


def test_mdr_by_hand():
    # sums with own loss 1, over n + 1 = 5: 0.2, 0.3, 0.5.
    result = score_mdr(LOSSES, SCORES, TESTS, level=0.3)
    assert result.selected.tolist() == [True, True, False]
    # Own loss 1: last threshold below 0.9, sum 0.5, e = 5 / 1.5. Own loss 0: a sum of
    # 1.5 is allowed, so every threshold, e = 5 / 1.5.
    assert_close(result.e_values, [10 / 3, 10 / 3, 0.0], rtol=1e-6)
    # Any loss: just before the last threshold gives way, e = 1 / gamma.
    assert_close(result.infimum, [10 / 3, 10 / 3, 0.0], rtol=1e-6)


def test_mdr_two_point_value_exceeds_the_infimum_for_fractional_losses():
    result = score_mdr([0.7, 0.6], [1.0, 2.0], [0.5], level=0.4, gamma=0.4)
    # Own loss 0 reaches the first row (0.7 <= 1.2), own loss 1 no row (1 <= 1.2).
    assert_close(result.e_values, [3.0], rtol=1e-6)
    assert_close(result.infimum, [2.5], rtol=1e-6)


def test_mdr_gamma_above_level_needs_every_threshold_within_level():
    strict = score_mdr(LOSSES, SCORES, TESTS, level=0.3, gamma=0.5)
    assert not strict.selected.any()
    idle = score_mdr([0.0] * 9, np.arange(9.0), [4.0], level=0.1, gamma=0.5)
    assert idle.selected.tolist() == [True]


def test_sdr_by_hand():
    # Bounds gamma (n + 1) count / m are 0.5, 1, 1.5 at the three test scores, where
    # the losses with own loss 1 are 1, 1.5, 2.5: no threshold.
    result = score_sdr(LOSSES, SCORES, TESTS, level=0.3)
    assert_close(result.e_values, [0.0, 0.0, 0.0], rtol=0.0)
    # Bounds 0.75, 1.5, 2.25: own loss 1 reaches the second (1.5), own loss 0 the third
    # (1.5), so e = m / (gamma * 3) for the two that are covered.
    spread = score_sdr(LOSSES, SCORES, TESTS, level=0.45)
    assert_close(spread.e_values, [1 / 0.45, 1 / 0.45, 0.0], rtol=1e-6)
    # e-BH asks two of them for 3 / (0.45 * 2).
    assert not spread.selected.any()
    double = score_sdr(LOSSES, SCORES, TESTS, level=0.9, gamma=0.45)
    assert_close(double.e_values, spread.e_values, rtol=0.0)
    assert double.selected.tolist() == [True, True, False]
    # Bounds 1, 2, 3: both reach the third threshold, e = 5 / (1.5 + 1).
    all_three = score_sdr(LOSSES, SCORES, TESTS, level=0.6)
    assert_close(all_three.e_values, [2.0, 2.0, 2.0], rtol=1e-6)
    assert all_three.selected.all()


def test_sdr_accepts_an_exact_tie_at_the_bar():
    # e = m / (gamma * count) equals the e-BH bar m / (level * count) on paper; the two
    # quotients are formed differently in floating point.
    for level in (0.05, 0.1, 0.15, 0.3, 0.35):
        for m in (7, 30, 50):
            n = 400
            losses = (np.arange(n) % 3 == 2).astype(float)
            losses[:100] = 0
            tests = np.linspace(1, 99, m)
            result = score_sdr(losses, np.arange(float(n)), tests, level=level)
            assert result.selected.all(), (level, m)


def test_sdr_needs_gamma_below_level_or_a_draw_to_select_many():
    rng = np.random.default_rng(0)
    scores, tests = rng.random(2000), rng.random(1000)
    losses = rng.random(2000) < scores / 2
    args = (losses, scores, tests)
    assert not score_sdr(*args, level=0.1).selected.any()
    assert int(score_sdr(*args, level=0.1, gamma=0.09).num_selected) > 200
    drawn = score_sdr(*args, level=0.1, pruning="homogeneous", xi=0.9)
    assert int(drawn.num_selected) > 200


def test_sdr_prunings_nest_and_replay():
    rng = np.random.default_rng(0)
    losses, scores = rng.random(60) ** 3, rng.random(60)
    tests = rng.random(20)
    args = (losses, scores, tests)
    plain = score_sdr(*args, level=0.3)
    for pruning in ("homogeneous", "heterogeneous"):
        key = jax.random.key(3)
        drawn = score_sdr(*args, level=0.3, pruning=pruning, key=key)
        again = score_sdr(*args, level=0.3, pruning=pruning, key=key)
        assert drawn.selected.tolist() == again.selected.tolist()
        assert (np.asarray(plain.selected) <= np.asarray(drawn.selected)).all()
        ones = score_sdr(*args, level=0.3, pruning=pruning, xi=1.0)
        assert ones.selected.tolist() == plain.selected.tolist()
    assert_close(drawn.e_values, plain.e_values, rtol=0.0)
    with pytest.raises(ValueError, match="pass `key=jax.random.key"):
        score_sdr(*args, level=0.3, pruning="homogeneous")
    with pytest.raises(ValueError, match="not both"):
        score_sdr(*args, level=0.3, pruning="homogeneous", key=key, xi=0.5)


@pytest.mark.parametrize("method", METHODS)
def test_edges(method, dtype):
    empty = np.zeros(0)
    result = method(LOSSES, SCORES, empty, level=0.1)
    assert result.selected.shape == result.e_values.shape == (0,)
    assert result.e_values.dtype == dtype
    assert method(empty, empty, empty, level=0.1).selected.shape == (0,)
    # Without calibration rows the only evidence is 1 <= gamma.
    assert not method(empty, empty, TESTS, level=0.9).selected.any()
    assert method(empty, empty, [1.0], level=1.0).selected.all()
    assert not method(LOSSES, SCORES, TESTS, level=0.0).selected.any()
    assert method(LOSSES, SCORES, TESTS, level=1.0).selected.all()
    zeros = [0.0] * 9
    assert_close(
        method(zeros, range_floats(9), [20.0], level=0.1).e_values, [10.0], rtol=1e-6
    )
    # All scores equal: one threshold.
    same = method([1.0, 0.0, 0.0], [2.0] * 3, [2.0] * 2, level=0.4)
    assert not same.selected.any()
    # -0.0 ties 0.0.
    left = method([1.0, 0.0], [-0.0, 1.0], [0.0], level=0.7)
    right = method([1.0, 0.0], [0.0, 1.0], [0.0], level=0.7)
    assert_close(left.e_values, right.e_values, rtol=0.0)


def range_floats(n):
    return np.arange(float(n))


@pytest.mark.parametrize("method", METHODS)
def test_missing_scores_are_conservative_and_flagged(method):
    zeros = [0.0] * 19
    plain = method(zeros, range_floats(19), [5.0, 6.0], level=0.2)
    assert plain.selected.all() and int(plain.status) == 0
    missing_test = method(zeros, range_floats(19), [5.0, np.nan], level=0.2)
    assert missing_test.selected.tolist() == [True, False]
    assert float(missing_test.e_values[1]) == 0.0
    assert "test scores are NaN" in RISK_STATUS[int(missing_test.status)]
    scores = range_floats(19)
    scores[-1] = np.nan
    losses = zeros[:-1] + [1.0]
    hidden = method(losses, scores, [5.0, 6.0], level=0.2)
    shown = method(
        losses, np.where(np.isnan(scores), -np.inf, scores), [5.0, 6.0], level=0.2
    )
    assert_close(hidden.e_values, shown.e_values, rtol=0.0)
    assert "count as -inf" in RISK_STATUS[int(hidden.status)]
    assert not method(zeros, range_floats(19), [np.nan], level=1.0).selected.any()


@pytest.mark.parametrize("method", METHODS)
def test_infinite_scores_and_e_values(method):
    # A test row of weight zero costs nothing: with no loss at all its e-value is inf.
    result = method(
        [0.0, 0.0],
        [1.0, np.inf],
        [2.0, -np.inf],
        level=0.5,
        calibration_weights=[1.0, 1.0],
        test_weights=[0.0, 1.0],
    )
    assert np.isinf(result.e_values[0]) and np.isfinite(result.e_values[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": 1.5}, "`level` must lie in"),
        ({"level": -0.1}, "`level` must lie in"),
        ({"level": np.nan}, "`level` must lie in"),
        ({"gamma": 1.5}, "`gamma` must lie in"),
        ({"calibration_losses": [0.0, 2.0, 0.0, 0.0]}, "got 2.0 at row 1"),
        ({"calibration_losses": [0.0, np.nan, 0.0, 0.0]}, "got nan at row 1"),
        ({"calibration_losses": [0.0, 1.0]}, "must have the same length"),
        ({"calibration_scores": np.zeros((4, 1))}, r"drop the last axis"),
        ({"test_scores": np.zeros((2, 3))}, "jax.vmap"),
        ({"test_weights": [1.0, 1.0, 1.0]}, "`calibration_weights` is missing"),
    ],
)
def test_errors_name_the_argument(method, change, message):
    named = {
        "calibration_losses": LOSSES,
        "calibration_scores": SCORES,
        "test_scores": TESTS,
        "level": 0.1,
    } | change
    positional = [
        named.pop(name)
        for name in ("calibration_losses", "calibration_scores", "test_scores")
    ]
    with pytest.raises(ValueError, match=message):
        method(*positional, **named)


@pytest.mark.parametrize("method", METHODS)
def test_bad_values_under_jit_poison_the_result(method):
    run = jax.jit(lambda losses, level: method(losses, SCORES, TESTS, level=level))
    bad_loss = run(jnp.array([0.0, 2.0, 0.0, 0.0]), jnp.float32(0.5))
    assert "losses are NaN" in RISK_STATUS[int(bad_loss.status)]
    bad_level = run(jnp.array(LOSSES), jnp.float32(jnp.nan))
    assert "level or gamma" in RISK_STATUS[int(bad_level.status)]
    for result in (bad_loss, bad_level):
        assert not result.selected.any() and np.isnan(result.e_values).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_traced_level_makes_the_same_choices(method):
    rng = np.random.default_rng(1)
    losses = (rng.random(199) < 0.2).astype(float)
    scores, tests = rng.normal(size=199), rng.normal(size=50) - 1
    run = jax.jit(lambda level: method(losses, scores, tests, level=level))
    for level in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3):
        direct = method(losses, scores, tests, level=level)
        traced = run(jnp.float32(level))
        assert direct.selected.tolist() == traced.selected.tolist()
        assert_close(traced.e_values, direct.e_values, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_one_trace_for_all_levels_and_data(method):
    traces = []

    @jax.jit
    def run(losses, scores, tests, level):
        traces.append(1)
        return method(losses, scores, tests, level=level).selected

    rng = np.random.default_rng(2)
    for level in (0.1, 0.2, 0.3):
        data = (rng.random(8), rng.random(8), rng.random(3))
        run(*(jnp.asarray(a, jnp.float32) for a in data), jnp.float32(level))
    assert len(traces) == 1


@pytest.mark.parametrize("method", METHODS)
def test_vmap_is_a_loop(method):
    rng = np.random.default_rng(3)
    data = [jnp.asarray(rng.random((4, size)), jnp.float32) for size in (8, 8, 3, 8, 3)]

    def one(losses, scores, tests, weights, own):
        return method(
            losses,
            scores,
            tests,
            level=0.4,
            calibration_weights=weights,
            test_weights=own,
        )

    many = jax.vmap(one)(*data)
    assert many.num_selected.shape == (4,)
    for i in range(4):
        single = one(*(array[i] for array in data))
        assert many.selected[i].tolist() == single.selected.tolist()
        assert_close(many.e_values[i], single.e_values, rtol=1e-6)


def simulate(method, rule, *, shift=0.0, replications=4000, n=19, m=8, level=0.3):
    """Mean risk with its standard error: losses in [0, 1] that the score predicts."""
    rng = np.random.default_rng(7)
    x = rng.random((replications, n))
    x_test = rng.random((replications, m)) ** (1 / (1 + shift))
    loss = np.minimum(rng.random(x.shape) * 2 * x, 1.0)
    loss_test = np.minimum(rng.random(x_test.shape) * 2 * x_test, 1.0)
    weights = (1 + shift) * x**shift, (1 + shift) * x_test**shift
    data = [jnp.asarray(a, jnp.float32) for a in (loss, x, x_test, *weights)]
    selected = np.asarray(jax.jit(jax.vmap(lambda *row: rule(*row, level)))(*data))
    total = (selected * loss_test).sum(1)
    count = selected.sum(1)
    risk = total / m if method == "mdr" else total / np.maximum(count, 1)
    return risk.mean(), risk.std() / np.sqrt(replications), count.mean()


def mdr(loss, x, x_test, w, w_test, level):
    return score_mdr(loss, x, x_test, level=level).selected


def sdr(loss, x, x_test, w, w_test, level):
    return score_sdr(loss, x, x_test, level=level).selected


def mdr_weighted(loss, x, x_test, w, w_test, level):
    weights = {"calibration_weights": w, "test_weights": w_test}
    return score_mdr(loss, x, x_test, level=level, **weights).selected


def sdr_weighted(loss, x, x_test, w, w_test, level):
    weights = {"calibration_weights": w, "test_weights": w_test}
    return score_sdr(loss, x, x_test, level=level, **weights).selected


def mdr_without_own_loss(loss, x, x_test, w, w_test, level):
    total = jnp.sum(loss * (x[None, :] <= x_test[:, None]), axis=1)
    return total / (x.size + 1) <= level


@pytest.mark.guarantee
@pytest.mark.parametrize(
    ("name", "rule", "shift"),
    [
        ("mdr", mdr, 0.0),
        ("sdr", sdr, 0.0),
        ("mdr", mdr_weighted, 1.0),
        ("sdr", sdr_weighted, 1.0),
    ],
)
def test_risk_stays_below_the_level(name, rule, shift):
    level = {"mdr": 0.15, "sdr": 0.5}[name]
    risk, error, count = simulate(name, rule, shift=shift, level=level)
    assert risk <= level + 6 * error
    assert count > 0.2


@pytest.mark.guarantee
def test_leaving_out_the_own_loss_breaks_the_level():
    risk, error, _ = simulate("mdr", mdr_without_own_loss, level=0.15, n=4)
    assert risk > 0.15 + 6 * error


@pytest.mark.guarantee
def test_ignoring_a_shift_breaks_the_level():
    risk, error, _ = simulate("sdr", sdr, shift=4.0, level=0.5, n=99)
    assert risk > 0.5 + 6 * error
