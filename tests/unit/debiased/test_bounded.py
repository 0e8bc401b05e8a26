"""The interval without large samples: coverage, mutants, edges, errors."""

import numpy as np
import pytest

from jaxcur import debiased, verify
from tests.helpers import assert_close


def world(rng, num_rows=300, rare=0.05):
    """Fixed rows: a rare label that the surrogate mostly misses."""
    y = (np.arange(num_rows) < rare * num_rows).astype(float)
    predicted = np.where(rng.random(num_rows) < 0.2, y, 0.0)
    prob = np.where(np.arange(num_rows) % 2 == 0, 0.2, 0.6)
    labeled = rng.random(num_rows) < prob
    return np.where(labeled, y, np.nan), predicted, labeled, prob, y.mean()


def test_covers_the_mean_of_these_rows():
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(100):
        y, predicted, labeled, prob, truth = world(rng)
        low, high = debiased.bounded_mean_interval(
            y,
            y_predicted=predicted,
            labeled=labeled,
            sampling_prob=prob,
            confidence_level=0.8,
        )
        misses += not low <= truth <= high
    # At most 20 % may miss; 33 of 100 would do so once in a thousand.
    assert misses <= 32


def test_wrong_probabilities_lead_astray():
    # The same check must fail for labels drawn more often than stated.
    rng = np.random.default_rng(1)
    n = 4000
    y = np.ones(n)
    labeled = rng.random(n) < 0.4
    wrong = debiased.bounded_mean_interval(
        y, y_predicted=np.zeros(n), labeled=labeled, sampling_prob=0.5
    )
    right = debiased.bounded_mean_interval(
        y, y_predicted=np.zeros(n), labeled=labeled, sampling_prob=0.4
    )
    assert wrong[1] < 1 == right[1]


def test_all_labeled_is_the_plain_interval():
    y = np.random.default_rng(0).random(200)
    found = debiased.bounded_mean_interval(
        y, y_predicted=np.zeros(200), labeled=np.ones(200, bool), sampling_prob=1.0
    )
    assert_close(found, verify.mean_interval(y), rtol=1e-12)


def test_units_do_not_matter():
    rng = np.random.default_rng(2)
    y, predicted, labeled, prob, _ = world(rng)
    unit = debiased.bounded_mean_interval(
        y, y_predicted=predicted, labeled=labeled, sampling_prob=prob
    )
    scaled = debiased.bounded_mean_interval(
        3 * y - 1,
        y_predicted=3 * predicted - 1,
        labeled=labeled,
        sampling_prob=prob,
        lower=-1,
        upper=2,
    )
    assert_close(scaled, tuple(3 * end - 1 for end in unit), rtol=1e-9)
    assert 0 <= unit[0] < unit[1] <= 1


def test_errors():
    good = {
        "y": [0.0, 1.0],
        "y_predicted": [0.0, 1.0],
        "labeled": [True, False],
        "sampling_prob": 0.5,
    }
    for change, message in [
        ({"y": [2.0, 1.0]}, r"`y` must lie in \[0, 1\] where labeled"),
        ({"y": [np.nan, 1.0]}, "`y` must lie in"),
        ({"y_predicted": [np.nan, 1.0]}, "`y_predicted` must not hold NaN, got 1 of 2"),
        ({"sampling_prob": [0.5, 0.0]}, r"`sampling_prob` must lie in \(0, 1\]"),
        ({"sampling_prob": [0.5] * 3}, "must be a scalar or have shape"),
        ({"labeled": [True]}, r"`labeled` must have shape \(2,\)"),
        ({"lower": 1.0}, "`lower` must be below `upper`"),
        ({"confidence_level": 1.0}, "`confidence_level` must lie in"),
    ]:
        options = {**good, **change}
        with pytest.raises(ValueError, match=message):
            debiased.bounded_mean_interval(options.pop("y"), **options)
