"""The chapter on transport: its pools, its bounds, and what it says moves where."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from jaxcur.cli.demo.chapters import _transport_study as study
from jaxcur.cli.demo.chapters import transport

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def found():
    # As many images and permutations as in the quick demo.
    return study.study(11, 300, 99)


def test_pools_are_what_they_are_called(found):
    same, few, upside, relabeled = found.pools
    everything = {one.tobytes() for one in found.target.images}
    # A digit or two is in the data twice.
    assert sum(one.tobytes() in everything for one in same.images) <= 2
    assert 0.4 < (same.labels >= 5).mean() < 0.6
    assert (few.labels >= 5).mean() < 0.25
    assert upside.turned.sum() == 100
    grid, back = (p.images.reshape(-1, 8, 8) for p in (same, upside))
    turned = upside.turned
    np.testing.assert_array_equal(back[turned], grid[turned][:, ::-1, ::-1])
    np.testing.assert_array_equal(back[~turned], grid[~turned])
    np.testing.assert_array_equal(relabeled.images, same.images)
    # Of the 100 drawn anew about ten keep their label.
    assert 70 < (relabeled.labels != same.labels).sum() <= 100


def test_bounds_hold_the_exact_cost_and_narrow(found):
    target = found.target.images.astype(float)
    for pool, one in zip(found.pools, found.measured, strict=True):
        costs = ((pool.images[:, None].astype(float) - target) ** 2).sum(axis=-1)
        exact = costs[linear_sum_assignment(costs)].mean()
        assert one.converged.all()
        assert (one.lower <= exact).all() and (exact <= one.upper).all()
        assert one.upper[-1] - one.lower[-1] < 0.02
        assert (np.diff(one.upper - one.lower) < 0).all()


def test_mass_leaves_and_arrives_as_the_labels_say(found):
    for pool, one in zip(found.pools[:3], found.measured, strict=False):
        leaving = np.bincount(pool.labels + 10 * pool.turned, minlength=20) / 300
        arriving = np.bincount(found.target.labels, minlength=10) / 300
        # What the iteration leaves of an error, and float32.
        np.testing.assert_allclose(one.moved.sum(axis=1), leaving, atol=2e-4)
        np.testing.assert_allclose(one.moved.sum(axis=0), arriving, atol=2e-4)
    turned = found.measured[study.UPSIDE].moved
    assert transport._share(turned, 16, 9) > transport._share(turned, 16, 6)
    assert transport._share(turned, 19, 6) > transport._share(turned, 19, 9)
    assert transport._share(turned, 6, 6) > 0.8


def test_damage_is_seen_and_labels_are_seen_by_the_dataset_distance_only(found):
    same, few, upside, relabeled = found.measured
    for damaged in (few, upside):
        assert damaged.lower[-1] > same.upper[-1]
        assert round(damaged.p_value, 6) == 0.01 < same.p_value
    assert relabeled.divergence == same.divergence
    for worse in (few, upside, relabeled):
        assert worse.labeled > 1.15 * same.labeled
    assert "both are farther, for certain" in transport._order(found)


def test_what_is_not_certain_is_not_said(found):
    same = found.measured[study.SAME]
    near = same._replace(lower=same.lower + 1e-3, upper=same.upper + 1e-3)
    far = found.measured[study.LARGE]
    one = found._replace(measured=(same, far, near, same))
    assert transport._order(one).endswith("the pool 'few 5s to 9s'.")
    none = found._replace(measured=(same, near, near, same))
    assert "stays open" in transport._order(none)


def test_the_example_prints_what_a_reader_can_check(capsys):
    path = ROOT / "examples" / "move_batch.py"
    assert len(path.read_text().splitlines()) <= 100
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert "p-value 0.005" in printed
    low, high = map(float, re.findall(r"costs ([\d.]+) to ([\d.]+)", printed)[0])
    assert 0 < low < high < 1.1 * low
    gain, error = map(float, re.findall(r"gain ([\d.]+)% \+- ([\d.]+)%", printed)[0])
    assert gain > 2 * error
