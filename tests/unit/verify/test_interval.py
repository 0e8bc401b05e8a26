import math

import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify import _stored
from jaxcur.verify._interval import invert
from jaxcur.verify._stored import Stored
from tests.helpers import assert_close


@pytest.mark.parametrize(("s", "n"), [(100, 1000), (3, 17), (0, 50), (50, 50), (1, 2)])
def test_ends_of_a_rate_interval_are_where_the_evidence_crosses(s, n):
    low, high = verify.rate_interval(s, n, 0.9)
    goal = math.log(2 / 0.1)
    if s > 0:
        assert_close(float(verify.log_evidence(s, n, low)), goal, rtol=1e-9)
    else:
        assert low == 0.0
    if s < n:
        assert_close(
            float(verify.log_evidence(s, n, high, side="down")), goal, rtol=1e-9
        )
    else:
        assert high == 1.0


def test_rate_interval_broadcasts():
    low, high = verify.rate_interval(np.array([0, 5, 10]), 10)
    assert low.shape == high.shape == (3,)
    assert np.all(low < high)
    # Mirror image.
    assert_close(low, 1 - high[::-1], rtol=1e-9, atol=1e-12)
    assert [float(v) for v in verify.rate_interval(0, 0)] == [0.0, 1.0]


def test_mean_interval_of_binary_values_is_the_rate_interval():
    values = (np.arange(1000) < 130).astype(float)
    assert_close(
        verify.mean_interval(values, 0.99),
        tuple(float(v) for v in verify.rate_interval(130, 1000, 0.99)),
        rtol=1e-9,
    )


def test_mean_interval_ends_by_a_loop():
    x = np.random.default_rng(0).beta(2, 5, 200)
    low, high = verify.mean_interval(x, 0.95)

    def log_mixture(values, edge):
        logs = np.array(
            [np.log1p(0.9 * 0.5**j * (values / edge - 1)).sum() for j in range(18)]
        )
        return np.logaddexp.reduce(logs) - math.log(18)

    assert_close(log_mixture(x, low), math.log(40), rtol=1e-9)
    assert_close(log_mixture(1 - x, 1 - high), math.log(40), rtol=1e-9)


def test_mean_interval_shrinks_with_the_variance():
    rng = np.random.default_rng(1)
    wide = verify.mean_interval(rng.random(2000) < 0.1)
    narrow = verify.mean_interval(0.05 + 0.1 * rng.random(2000))
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 4


def test_many_values_use_a_bracket_and_give_the_same_ends(monkeypatch):
    x = np.random.default_rng(2).random(5000) ** 2
    fast = verify.mean_interval(x)
    monkeypatch.setattr("jaxcur.verify._interval._COARSE_CELLS", 10**6)
    assert_close(fast, verify.mean_interval(x), rtol=1e-11)


def test_mean_interval_on_another_range():
    x = np.random.default_rng(3).random(500)
    low, high = verify.mean_interval(x)
    scaled = verify.mean_interval(40 * x - 10, lower=-10, upper=30)
    assert_close(scaled, (40 * low - 10, 40 * high - 10), rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verify.rate_interval(5, 4), "`successes` must lie between"),
        (lambda: verify.rate_interval(1, 4, 1.0), "`confidence_level` must lie"),
        (lambda: verify.mean_interval([0.5, 2.0]), r"`values` must lie in \[0, 1\]"),
        (lambda: verify.mean_interval([0.5, math.nan]), "be finite"),
        (lambda: verify.mean_interval(np.zeros((2, 2))), r"shape \(n,\)"),
        (lambda: verify.mean_interval([0.5], 0.0), "`confidence_level` must lie"),
        (lambda: verify.mean_interval([0.5], lower=1.0), "`lower` must be below"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mean_interval_of_nothing_is_the_range():
    assert verify.mean_interval(np.zeros(0)) == (0.0, 1.0)


def test_stored_values_keep_counts():
    stored = Stored()
    stored.append(np.array([0.25, 0.5, 0.25]), np.ones(3))
    stored.append(np.array([0.5]), np.ones(1))
    low, high, bottom, counts = stored.pairs()
    assert low.tolist() == high.tolist() == [0.25, 0.5]
    assert counts.tolist() == [2, 2]
    assert bottom.tolist() == [1.0, 1.0]
    again = Stored.from_json(stored.to_json())
    assert again.pairs()[0].tolist() == [0.25, 0.5]
    assert again.pairs()[3].tolist() == [2, 2]


def test_too_many_distinct_values_widen_the_interval_outwards(monkeypatch):
    monkeypatch.setattr(_stored, "MAX_DISTINCT", 1000)
    x = np.random.default_rng(4).random(4000) * 0.3
    stored = Stored()
    for part in np.split(x, 8):
        stored.append(part, np.ones(part.size))
    low, high, bottom, counts = stored.pairs()
    assert stored.coarse
    assert int(counts.sum()) == 4000
    rough = invert(low, high, bottom, counts, 0, 0, 0.05)
    exact = verify.mean_interval(x)
    assert exact[0] - 1e-4 < rough[0] <= exact[0]
    assert exact[1] <= rough[1] < exact[1] + 1e-4


def test_pairs_with_denominators_are_never_coarsened(monkeypatch):
    monkeypatch.setattr(_stored, "MAX_DISTINCT", 10)
    stored = Stored()
    x = np.random.default_rng(5).random(100)
    stored.append(x * 0.5, x)
    assert stored.pairs()[0].size == 100
    assert not stored.coarse
