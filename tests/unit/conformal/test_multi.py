"""Several conditions: regions, combined scores, pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.conformal._multi import combine_conditions, select_pairs
from jaxcur.conformal._regions import AllOf, AnyOf, Ball, Orthant, RegionScore
from jaxcur.conformal._selection import select
from jaxcur.conformal._status import NAN_CALIBRATION, NAN_TEST, UNREACHABLE
from tests.helpers import assert_close


def test_distances_by_hand(dtype):
    corner = Orthant([0.0, 1.0], scale=[1.0, 2.0])
    assert_close(corner.distance([[3.0, 2.0], [1.0, -3.0]]), [0.5, -2.0], rtol=1e-6)
    ball = Ball([0.0, 0.0], 5.0)
    assert_close(ball.distance([3.0, 4.0]), np.zeros((), dtype), rtol=0.0)
    both, either = AllOf((corner, ball)), AnyOf((corner, ball))
    y = jnp.asarray([[3.0, 2.0], [9.0, 9.0], [0.0, 0.0]], dtype)
    parts = np.stack([corner.distance(y), ball.distance(y)])
    assert_close(both.distance(y), parts.min(0), rtol=0.0)
    assert_close(either.distance(y), parts.max(0), rtol=0.0)
    assert both.distance(y).dtype == dtype


def test_region_scores_by_hand():
    region = Orthant(0.0)
    labels = [[1.0, 2.0], [1.0, 0.0], [-1.0, 5.0]]
    predictions = [[2.0, 3.0]] * 3
    clip = RegionScore(region)
    # A label on the boundary is outside: y > c is strict.
    assert_close(clip.calibration(predictions, labels), [np.inf, -2.0, -2.0], rtol=0.0)
    distance = RegionScore(region, form="distance")
    assert_close(
        distance.calibration(predictions, labels), [-1.0, -2.0, -2.0], rtol=0.0
    )
    for score in (clip, distance):
        assert_close(score.test(predictions), [-2.0] * 3, rtol=0.0)
    # A missing label counts against selection.
    missing = clip.calibration([[2.0, 3.0]], [[np.nan, 1.0]])
    assert_close(missing, [-2.0], rtol=0.0)


def test_region_errors():
    with pytest.raises(ValueError, match="`radius` must be positive"):
        Ball([0.0], 0.0)
    with pytest.raises(ValueError, match="`scale` must be positive"):
        Orthant(0.0, scale=[1.0, -1.0])
    with pytest.raises(ValueError, match="'clip', 'distance'"):
        RegionScore(Orthant(0.0), form="soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`labels` must have the shape"):
        RegionScore(Orthant(0.0)).calibration([[1.0, 2.0]], [[1.0]])


SCORES = [[-1.0, -2.0, 0.5], [-3.0, 0.5, 0.25]]
HOLDS = [[True, True, False], [True, False, False]]
TESTS = [[-1.0, 2.0], [0.0, -4.0]]


def test_combined_scores_by_hand():
    every = combine_conditions(SCORES, HOLDS, TESTS, how="all")
    assert_close(every.calibration, [np.inf, 0.5, 0.5], rtol=0.0)
    assert_close(every.test, [0.0, 2.0], rtol=0.0)
    some = combine_conditions(SCORES, HOLDS, TESTS, how="any")
    assert_close(some.calibration, [np.inf, np.inf, 0.25], rtol=0.0)
    assert_close(some.test, [-1.0, -4.0], rtol=0.0)


def test_combined_scores_are_those_of_the_regions():
    rng = np.random.default_rng(0)
    mu, y, mu_test = rng.normal(size=(3, 8, 2))
    lower = np.array([0.2, -0.3])
    for how, region in (
        ("all", Orthant(lower)),
        ("any", AnyOf((Orthant([lower[0], -9e9]), Orthant([-9e9, lower[1]])))),
    ):
        pair = combine_conditions(
            (lower - mu).T, (y > lower).T, (lower - mu_test).T, how=how
        )
        score = RegionScore(region)
        assert_close(score.calibration(mu, y), pair.calibration, rtol=1e-5)
        assert_close(score.test(mu_test), pair.test, rtol=1e-5)


def test_pairs_by_hand():
    calibration = [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    tests = [[0.0, 5.0], [4.0, 0.5]]
    # Four p-values 1/4, 1, 1, 1/4: two of them need level * 2 / 4 >= 1/4.
    result = select_pairs(calibration, tests, level=0.5)
    assert result.selected_pairs.tolist() == [[True, False], [False, True]]
    assert result.selected.tolist() == [True, True]
    assert_close(result.p_values, [[0.25, 1.0], [1.0, 0.25]], rtol=0.0)
    assert_close(result.threshold, np.float32(0.25), rtol=0.0)
    assert not select_pairs(calibration, tests, level=0.49).selected.any()
    # Under any dependence the level is divided by 1 + 1/2 + 1/3 + 1/4 = 2.083.
    run = {"dependence": "any"}
    assert not select_pairs(calibration, tests, level=0.99, **run).selected.any()
    many = np.tile([[0.0], [0.0]], (1, 2))
    assert select_pairs(calibration, many, level=0.53, **run).selected.all()
    assert not select_pairs(calibration, many, level=0.51, **run).selected.any()


def test_pair_edges_and_errors(dtype):
    result = select_pairs(np.zeros((2, 3)), np.zeros((2, 0)), level=0.1)
    assert result.selected.shape == (0,) and result.p_values.shape == (2, 0)
    assert result.p_values.dtype == dtype
    calibration = [[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]]
    far = select_pairs(calibration, [[-5.0], [-5.0]], level=0.5)
    assert_close(far.p_values, [[0.25], [0.5]], rtol=0.0)
    assert int(far.status) == NAN_CALIBRATION
    missing = select_pairs(calibration[:1], [[np.nan, -5.0]], level=1.0)
    assert missing.selected.tolist() == [False, True]
    assert int(missing.status) == NAN_TEST
    assert int(select_pairs([[1.0]], [[0.0]], level=0.1).status) == UNREACHABLE
    for args, named, message in (
        (([[1.0]], [[1.0], [1.0]]), {}, "one row a condition"),
        (([1.0], [[1.0]]), {}, r"shape \(k, n\)"),
        (([[1.0]], [[1.0]]), {"dependence": "none"}, "'positive', 'any'"),
        (([[1.0]], [[1.0]]), {"level": 1.5}, "`level` must lie in"),
    ):
        with pytest.raises(ValueError, match=message):
            select_pairs(*args, **({"level": 0.1} | named))
    with pytest.raises(ValueError, match="`calibration_holds` must have the shape"):
        combine_conditions(SCORES, [[True]], TESTS, how="all")
    with pytest.raises(ValueError, match="'all', 'any'"):
        combine_conditions(SCORES, HOLDS, TESTS, how="most")  # type: ignore[arg-type]


@pytest.mark.parametrize("dependence", ["positive", "any"])
def test_pairs_jit_and_vmap(dependence):
    rng = np.random.default_rng(0)
    calibration = jnp.asarray(rng.normal(size=(3, 2, 17)), jnp.float32)
    tests = jnp.asarray(rng.normal(size=(3, 2, 8)) - 2, jnp.float32)

    def run(calibration, tests, level):
        return select_pairs(calibration, tests, level=level, dependence=dependence)

    mapped = jax.jit(jax.vmap(run, in_axes=(0, 0, None)))
    many = mapped(calibration, tests, jnp.float32(0.3))
    for i in range(3):
        one = run(calibration[i], tests[i], 0.3)
        assert many.selected_pairs[i].tolist() == one.selected_pairs.tolist()
    assert many.num_selected.shape == (3,)


@pytest.mark.guarantee
@pytest.mark.parametrize("how", ["all", "any"])
def test_false_discovery_rate_of_combined_conditions(how):
    level, replications, n, m = 0.3, 4000, 29, 10
    rng = np.random.default_rng(2)
    y, y_test = (
        rng.normal(size=(replications, 2, n)),
        rng.normal(size=(replications, 2, m)),
    )
    x = y + rng.normal(size=y.shape) * 0.4
    x_test = y_test + rng.normal(size=y_test.shape) * 0.4
    cut = {"all": -0.2, "any": 0.5}[how]

    def run(x, y, x_test):
        pair = combine_conditions(cut - x, y > cut, cut - x_test, how=how)
        return select(pair.calibration, pair.test, level=level).selected

    data = [jnp.asarray(a, jnp.float32) for a in (x, y, x_test)]
    selected = np.asarray(jax.jit(jax.vmap(run))(*data))
    good = getattr(y_test > cut, how)(axis=1)
    proportion = (selected & ~good).sum(1) / np.maximum(selected.sum(1), 1)
    error = proportion.std() / np.sqrt(replications)
    assert proportion.mean() <= level + 6 * error
    assert (selected & good).sum() / good.sum() > 0.3


@pytest.mark.guarantee
def test_the_largest_p_value_is_not_a_p_value():
    """Why scores are combined and not p-values: it is only valid up to a factor k.

    Two conditions never fail together, and each fails for the rows the other condition
    is sure about: then max(p_1, p_2) is small as often for either kind of failure.
    """
    rng = np.random.default_rng(3)
    replications, n = 20_000, 19
    fails = rng.integers(0, 2, size=(replications, n + 1))
    noise = rng.random((2, replications, n + 1))
    # Condition 1 fails where `fails` is 0, condition 2 where it is 1.
    p = []
    for k in (0, 1):
        holds = fails != k
        scores = np.where(holds[:, :n], np.inf, noise[k][:, :n])
        # The failing condition's own score is informative, the other's is tiny.
        test = np.where(holds[:, n], -1.0, noise[k][:, n])
        p.append((1 + (scores <= test[:, None]).sum(1)) / (n + 1))
    largest = np.max(p, axis=0)
    share = (largest <= 0.1).mean()
    assert share > 0.1 + 6 * np.sqrt(0.1 * 0.9 / replications)
