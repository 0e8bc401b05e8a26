"""The study of calibrated probability estimation: its draws, its tables, its state."""

import json

import numpy as np
import pytest

from paper_repro.deep_probability import _report, _scenarios, _scores, run

HERE = run.HERE


def test_draws_depend_on_their_number_alone_and_outcomes_on_the_truth():
    one, two = (_scenarios.draw("discrete", 3)["test"] for _ in range(2))
    np.testing.assert_array_equal(one.x, two.x)
    assert set(np.unique(one.p.round(6))) <= {0.1, 0.3, 0.5, 0.7, 0.9}
    for name in _scenarios.SCENARIOS:
        rows = _scenarios.draw(name, 0)["test"]
        assert ((rows.p >= 0) & (rows.p <= 1)).all()
        error = np.sqrt((rows.p * (1 - rows.p)).mean() / len(rows.y))
        assert abs(rows.y.mean() - rows.p.mean()) < 4 * error


def test_truth_scores_best():
    rows = _scenarios.draw("linear", 1)["test"]
    right = _scores.score(rows.p, rows.y, rows.p)
    wrong = _scores.score(rows.p**2, rows.y, rows.p)
    # Forecasts are kept off 0 and 1 by 1e-10 for the divergence.
    assert right["MSE_p"] == 0 and right["KL_p"] < 1e-11
    assert wrong["MSE_p"] > 0.005 and wrong["KL_p"] > 0.01
    assert wrong["KS"] > right["KS"] and wrong["Brier"] > right["Brier"]
    assert wrong["AUC"] == pytest.approx(right["AUC"])


def test_a_draw_is_computed_once_and_then_read(tmp_path, monkeypatch):
    calls = []

    def predictions(parts, seed):
        calls.append(seed)
        return {"early stop": parts["test"].p, "continued": parts["test"].p ** 2}

    monkeypatch.setattr(run._methods, "predictions", predictions)
    first = run.one("skewed", 4, tmp_path)
    assert run.one("skewed", 4, tmp_path) == first and calls == [4]
    summary = _scores.summarise([first, run.one("skewed", 5, tmp_path)])
    mean, low, high = summary["minus_baseline"]["continued"]["MSE_p"]
    assert low <= mean <= high and mean > 0


def test_the_committed_tables_are_those_of_the_committed_results():
    path = HERE / "result.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    text = (HERE / "tables" / "simulation.md").read_text(encoding="utf-8")
    assert _report.simulated(stored["simulation"]) == text
    for name, found in stored["simulation"].items():
        runs = [
            json.loads((HERE / "state" / f"{name}-{seed}.json").read_text())
            for seed in range(found["seeds"])
        ]
        assert _scores.summarise(runs) == found
