"""The rerun of the OptCS paper: its parts on small cases, and a run cut short."""

import json

import numpy as np
import pytest

from paper_repro.optcs import _drug, _models, _report, _worlds, run
from paper_repro.optcs import _studies as catalogue
from paper_repro.optcs._forest import QuantileForest
from paper_repro.optcs._store import Store
from paper_repro.optcs._summary import chance_of_mean, distance, summarise

STUDY = "bundled/diabetes"
STATE = "bundled-diabetes.state.json"


def saved(folder):
    return json.loads((folder / "state" / STATE).read_text())["results"]


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    drawn = []
    whole = catalogue.Study.replication

    def draw(study, index):
        if index == 3 and 3 not in drawn:
            drawn.append(3)
            raise KeyboardInterrupt
        drawn.append(index)
        return whole(study, index)

    monkeypatch.setattr(catalogue.Study, "replication", draw)
    arguments = ["--setting", STUDY, "--out", str(tmp_path), "--replications", "5"]
    assert run.main(arguments) == 130
    assert "run it again to go on" in capsys.readouterr().out
    first = saved(tmp_path)
    assert sorted(first) == ["0", "1", "2"]
    assert run.main(arguments) == 0
    assert drawn == [0, 1, 2, 3, 3, 4]
    both = saved(tmp_path)
    assert sorted(both) == ["0", "1", "2", "3", "4"]
    assert {k: both[k] for k in first} == first
    result = json.loads((tmp_path / "result.json").read_text())["studies"][STUDY]
    assert result["replications"] == 5
    fdr = np.mean([both[k]["naive"] for k in both], axis=0)[:, 0]
    np.testing.assert_allclose(result["rules"]["naive"]["fdr"], fdr, atol=1e-4)
    assert (tmp_path / "figures" / "bundled.png").stat().st_size > 10_000
    table = (tmp_path / "tables" / "bundled.md").read_text()
    assert "naive best of K" in table


def test_a_batch_of_replications_does_not_depend_on_its_size(tmp_path):
    study = {s.name: s for s in catalogue.studies()}[STUDY]
    run.run_study(study, 2, tmp_path / "a")
    run.run_study(study, 1, tmp_path / "b")
    one, two = (json.loads((tmp_path / x / STATE).read_text()) for x in "ba")
    assert one["results"]["0"] == two["results"]["0"]


def test_a_report_keeps_the_studies_that_were_not_run(tmp_path):
    def result(value):
        rates = {"fdr": [value], "fdr_se": [0.0], "power": [value], "power_se": [0.0]}
        config = {"replications": 1, "levels": [0.3], "config": {}}
        return config | {"rules": {"naive": rates}}

    run.report(tmp_path, None, {"msel_liang/1": result(0.1)})
    run.report(tmp_path, None, {"bundled/diabetes": result(0.2)})
    studies = json.loads((tmp_path / "result.json").read_text())["studies"]
    assert list(studies) == ["bundled/diabetes", "msel_liang/1"]
    assert studies["msel_liang/1"]["rules"]["naive"]["fdr"] == [0.1]


def test_results_of_another_description_are_set_aside(tmp_path):
    path = tmp_path / "x.state.json"
    store = Store(path, "one")
    store.add(0, {"rule": np.zeros((2, 2))})
    store.save()
    assert Store(path, "one").missing(2) == [1]
    assert Store(path, "two").missing(2) == [0, 1]
    assert (tmp_path / "old-x.state.json").is_file()


def test_an_unknown_study_is_refused():
    with pytest.raises(SystemExit, match="no such study"):
        run.main(["--setting", "nothing"])


def test_settings_of_the_first_process_by_hand():
    rng = np.random.default_rng(0)
    for full in (False, True):
        x, y = _worlds.jin(1, 200, 0.0, rng, full=full)
        same, x4 = x[:, 0] * x[:, 1] > 0, x[:, 3]
        for row, sign, label in zip(x4, same, y):
            if full:
                expected = row + (0.5 if sign else 1.0)
            elif sign:
                expected = 0.25 + row if row > 0.5 else 0.0
            else:
                expected = row - 0.25 if row < -0.5 else 0.0
            assert label == pytest.approx(expected)
        x, y = _worlds.jin(4, 200, 0.0, rng, full=full)
        mean = 2 * (x[:, 0] * x[:, 1] + x[:, 2] ** 2 + np.exp(x[:, 3] - 1) - 1)
        np.testing.assert_allclose(y, mean)


@pytest.mark.parametrize(("full", "factor"), [(False, 1 / 2), (True, 1 / 3)])
def test_the_noise_of_setting_four_shrinks_where_the_mean_is_large(full, factor):
    x, y = _worlds.jin(4, 20_000, 1.0, np.random.default_rng(1), full=full)
    mean = 2 * (x[:, 0] * x[:, 1] + x[:, 2] ** 2 + np.exp(x[:, 3] - 1) - 1)
    standard = (y - mean) / ((5.5 - np.abs(mean)) * factor)
    # Six standard errors of the variance of 20 000 normals.
    assert abs(standard.var() - 1) < 6 * (2 / 20_000) ** 0.5


def test_settings_of_the_second_process_by_hand():
    rng = np.random.default_rng(2)
    x, y = _worlds.liang(1, 50, 0.0, rng)
    np.testing.assert_allclose(y, x[:, ::20].sum(axis=1))
    x, y = _worlds.liang(3, 50, 0.0, rng)
    np.testing.assert_allclose(y, x.mean(axis=1))
    with pytest.raises(ValueError, match="`setting`"):
        _worlds.liang(5, 50, 0.0, rng)


def test_a_forest_of_one_leaf_gives_sample_quantiles():
    x, y = np.zeros((9, 2)), np.arange(9.0)[::-1]
    grown = QuantileForest(num_trees=3).fit(x, y)
    out = grown.quantiles(x[:2], [0.1, 0.5, 0.9])
    np.testing.assert_array_equal(out, [[0, 0], [4, 4], [8, 8]])


def test_a_forest_weights_rows_by_shared_leaves():
    x = np.repeat([[0.0], [1.0]], 20, axis=0)
    y = np.concatenate([np.arange(20.0), 100 + np.arange(20.0)])
    grown = QuantileForest(max_depth=1, num_trees=5).fit(x, y)
    out = grown.quantiles(np.array([[0.0], [1.0]]), [0.5])
    np.testing.assert_array_equal(out, [[9.0, 109.0]])


def test_cross_fitting_never_predicts_a_row_it_was_fitted_on():
    x = np.arange(23.0)[:, None]

    def family(rows, target, rng):
        seen = set(rows[:, 0])
        return lambda new: np.array([[value in seen for value in new[:, 0]]], float)

    rng = np.random.default_rng(3)
    for folds in (2, 5, 23):
        out = _models.cross_fit(family, x, x[:, 0], folds, rng)
        np.testing.assert_array_equal(out, np.zeros((1, 23)))


@pytest.mark.parametrize(
    "family",
    [
        _models.full_jin_9,
        _models.full_liang_7([np.arange(3)] * 5),
        _models.jin_24(lambda: (np.eye(12, 4), np.arange(12.0))),
        _models.liang_11(lambda: (np.eye(12, 4), np.arange(12.0)), 1.0),
    ],
)
def test_families_have_the_models_of_the_scripts(family, request):
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 4))
    predict = family(x, (x[:, 0] > 0).astype(float), rng)
    sizes = {0: 9, 1: 7, 2: 24, 3: 11}
    number = request.node.callspec.indices["family"]
    values = predict(x[:5])
    assert values.shape == (sizes[number], 5)
    assert np.isfinite(values).all()


def test_encodings_of_molecules():
    smiles = ("CCO", "ClCC[nH]")
    assert _drug.encode(smiles, "symbols").sum(axis=1) == pytest.approx(
        [np.log1p(2) + np.log1p(1), np.log1p(1) * 2 + np.log1p(2)]
    )
    for encoding in _drug.ENCODINGS:
        both = _drug.encode(smiles, encoding)
        np.testing.assert_array_equal(both[:1], _drug.encode(smiles[:1], encoding))


def test_the_drug_study_runs_on_a_folder_of_made_up_molecules(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    molecules = ["".join(rng.choice(list("CNOc=()1"), 12)) for _ in range(120)]
    lines = [
        f"{i}\t{s}\t{s.count('N') + rng.normal()}" for i, s in enumerate(molecules)
    ]
    text = "Drug_ID\tDrug\tY\n" + "\n".join(lines) + "\n"
    (tmp_path / "vdss_lombardo.tab").write_text(text)
    monkeypatch.setenv("JAXCUR_DATA", str(tmp_path))
    _drug.available.cache_clear()
    _drug.predictions.cache_clear()
    try:
        found, reasons = _drug.available()
        assert [study.name for study in found] == ["drug/vdss_lombardo"]
        assert len(reasons) == 1 and "15 drug data sets" in reasons[0]
        one = found[0].replication(0)
    finally:
        _drug.available.cache_clear()
        _drug.predictions.cache_clear()
    assert one["calibration"].shape == (16, 24)
    assert one["test"].shape == (16, 24)
    assert np.isfinite(one["test"]).all()


def test_summaries():
    rates = np.array([[[0.0, 1.0]], [[0.5, 0.5]]])
    out = summarise(rates)
    assert out["fdr"] == [0.25] and out["power"] == [0.75]
    assert out["fdr_se"] == [0.25]
    assert distance(0.3, 0.03, 0.35, 0.04) == pytest.approx(1.0, rel=1e-3)
    assert distance(0.3, 0.03, 0.3, None) == 0


def test_the_chance_of_a_mean_is_a_bound_for_coins():
    # Ten heads in ten fair tosses: the bound is exact there.
    assert chance_of_mean(1.0, 0.5, 10) == pytest.approx(0.5**10)
    assert chance_of_mean(0.4, 0.5, 10) == 1
    assert 0.1719 < chance_of_mean(0.7, 0.5, 10) < 1


def test_every_rule_has_a_name_for_readers():
    assert _report.display("split_0.25") == "split, 25% for training"
    assert _report.display("split_1:1:2") == "split 1:1:2"
    assert _report.display("optcs_homo_0.9") == "OptCS homogeneous, beta = 0.9"
    assert _report.display("full_2") == "OptCS-Full, model 3"
