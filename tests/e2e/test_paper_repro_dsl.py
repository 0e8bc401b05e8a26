"""The rerun of the DSL studies: a few replications, a run cut short, the tables."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxcur import data
from paper_repro.dsl import _complaints, _report, _study, _summary, run

HERE = Path(run.__file__).parent
RESULT = json.loads((HERE / "result.json").read_text(encoding="utf-8"))
SIMULATED = RESULT["dgp_a"]


@pytest.fixture(scope="module")
def found():
    """Twenty replications that are not among those of the committed tables."""
    return _study.replications(range(10_000, 10_020))


def test_a_few_replications_agree_with_the_committed_table(found):
    truth = np.array(_summary.expected()["truth"]["coefficients"])
    for a, accuracy in enumerate(_study.ACCURACIES):
        for e, name in enumerate(_study.ESTIMATORS):
            estimates = found[:, a, 0, e]
            relative = np.array(SIMULATED[str(accuracy)][name]["bias_by_coefficient"])
            gap = np.nanmean(estimates, axis=0) - truth - relative * np.abs(truth)
            error = np.nanstd(estimates, axis=0, ddof=1) / len(estimates) ** 0.5
            # Student's t of 19 degrees of freedom leaves 6 once in 100 000 times.
            assert (np.abs(gap) < 6 * error).all(), (accuracy, name)


def test_every_estimator_has_its_place(found):
    place = {name: e for e, name in enumerate(_study.ESTIMATORS)}
    half = found[:, 0, 0]
    # A surrogate that is noise has slopes of 0, and gold labels do not see it.
    assert np.abs(half[:, place["surrogate only"], 1:].mean(axis=0)).max() < 0.05
    gold = found[:, :, :, place["gold only"]]
    np.testing.assert_allclose(gold, gold[:, :1].repeat(5, axis=1), rtol=1e-4)
    spread = found[:, :, 1, :, 1].mean(axis=0)
    raw, best = place["DSL, raw surrogate"], place["DSL, raw surrogate, tuned"]
    assert spread[0, raw] > 1.5 * spread[0, best]
    assert spread[-1, raw] < 0.8 * spread[-1, place["gold only"]]


def test_a_replication_depends_on_its_number_alone(found):
    again = _study.replications(range(10_019, 9_999, -1))
    np.testing.assert_array_equal(found, again[::-1])


def fake(indices):
    rng = np.random.default_rng(0)
    found = rng.normal(1, 0.1, (len(indices), 5, 2, len(_study.ESTIMATORS), 5))
    found[:, 0, 0, 0, 0] = indices
    return found


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    drawn = []

    def draw(indices):
        if len(drawn) == 1:
            drawn.append(None)
            raise KeyboardInterrupt
        drawn.append(list(indices))
        return fake(indices)

    monkeypatch.setattr(_study, "replications", draw)
    monkeypatch.setattr(run, "complaints", lambda: (None, "no file"))
    arguments = ["--out", str(tmp_path), "--replications", "50"]
    assert run.main(arguments) == 130
    assert "run it again to go on" in capsys.readouterr().out
    assert run.saved(tmp_path / "state") == run.CHUNK == 20
    assert run.main(arguments) == 0
    # The last chunk has ten numbers to draw, filled up to one shape.
    assert drawn == [
        list(range(20)),
        None,
        list(range(20, 40)),
        [*range(40, 50), *[49] * 10],
    ]
    assert "skipped: complaints: no file" in capsys.readouterr().out
    kept = run.simulate(50, tmp_path / "state")
    np.testing.assert_array_equal(kept[:, 0, 0, 0, 0], np.arange(50))
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["dgp_a"]["0.5"]["gold only"]["replications"] == 50
    assert "complaints" not in result


def test_figures_of_a_case_by_hand():
    truth = np.array(_summary.expected()["truth"]["coefficients"])
    found = np.zeros((2, 1, 2, len(_study.ESTIMATORS), 5))
    found[:, 0, 0] = truth
    found[:, 0, 0, :, 1] += np.array([0.1, 0.3])[:, None]
    found[:, 0, 1] = 0.1
    one = _summary.summarise(found, [0.5])["0.5"]["gold only"]
    assert one["bias"] == pytest.approx(0.2 / truth[1] / 4)
    # Of eight slopes, one estimate is three standard errors off.
    assert one["coverage"] == pytest.approx(7 / 8)
    assert one["coverage_with_intercept"] == pytest.approx(9 / 10)
    assert one["rmse"] == pytest.approx((0.05**0.5) / 4)
    found[0, 0, 1, :, 2] = np.nan
    one = _summary.summarise(found, [0.5])["0.5"]["gold only"]
    assert (one["replications"], one["failed"]) == (1, 1)


def test_the_committed_figures_are_those_published():
    published = _summary.expected()["published"]["surrogate_only"]
    for accuracy, figures in published.items():
        ours = SIMULATED[accuracy]["surrogate only"]
        # Printed to two digits; the sizes of the published study are not known.
        assert abs(ours["coverage_with_intercept"] - figures["coverage"]) < 0.03
        typical = np.median(np.abs(ours["bias_by_coefficient"]))
        assert abs(typical - figures["bias"]) < 0.02
    distances = np.array([row["distance"] for row in RESULT["comparison"]])
    assert len(distances) == 60
    assert (distances > 3).sum() <= 1 and distances.max() < 4


def test_the_committed_figures_bear_what_is_claimed():
    for accuracy, estimators in SIMULATED.items():
        rmse = {name: figures["rmse"] for name, figures in estimators.items()}
        for name in _study.ESTIMATORS[1:]:
            assert estimators[name]["replications"] >= 1990
            assert 0.93 < estimators[name]["coverage"] < 0.975, (accuracy, name)
        assert estimators["surrogate only"]["coverage"] < 0.6
        for name in _study.TUNED:
            best = min(rmse["gold only"], rmse[name.removesuffix(", tuned")])
            assert rmse[name] < 1.01 * best
    for name in _study.ESTIMATORS[2:]:
        falling = [figures[name]["rmse"] for figures in SIMULATED.values()]
        assert (np.diff(falling) < 0).all()


def test_the_committed_reanalysis_is_that_of_the_package():
    package, ours = _summary.expected()["r_package"], RESULT["complaints"]
    root, given = package["least_squares_root"], ours["given folds"]
    for key in ("estimate", "std_error"):
        np.testing.assert_allclose(given[key], root[key], rtol=1e-9)
    # What the package returns is not the root: its optimiser stops early.
    early = np.abs(np.subtract(package["least_squares"]["estimate"], root["estimate"]))
    assert 4e-4 < early.max() < 5e-4
    # Its printed p-values are one-sided.
    half = np.array(given["p_value"]) / 2
    np.testing.assert_allclose(package["published"]["p_value"], half, atol=5e-4)
    for name in ("published", "forest"):
        gap = np.subtract(
            ours["own folds, ten splits"]["estimate"], package[name]["estimate"]
        )
        assert (np.abs(gap) < 0.5 * np.array(package[name]["std_error"])).all()
    trusted, index = ours["surrogate only"], package["names"].index("countyWrong")
    apart = trusted["estimate"][index] - given["estimate"][index]
    assert abs(apart) > 4 * given["std_error"][index]


def test_the_committed_tables_are_those_of_the_results(tmp_path):
    _report.write_simulation(tmp_path, SIMULATED, _summary.compare(SIMULATED))
    _report.write_complaints(tmp_path, RESULT["complaints"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["complaints.csv", "complaints.md", "dgp_a.csv", "dgp_a.md"]
    for name in names:
        committed = (HERE / "tables" / name).read_text(encoding="utf-8")
        assert (tmp_path / name).read_text(encoding="utf-8") == committed


def test_folds_of_other_rows_are_refused():
    other = data.ComplaintData(
        np.ones(3), np.array([1.0, np.nan, 0.0]), np.ones(3), np.ones((3, 5))
    )
    with pytest.raises(ValueError, match="not those of the complaints"):
        _complaints.published_folds(other)


@pytest.mark.slow
def test_the_reanalysis_can_be_run_where_the_data_are():
    try:
        complaints = data.load_complaints()
    except data.DownloadError as error:
        pytest.skip(str(error))
    for name, values in _complaints.analyse(complaints).items():
        for key, numbers in values.items():
            committed = RESULT["complaints"][name][key]
            np.testing.assert_allclose(numbers, committed, rtol=1e-8, atol=1e-12)
