"""`jaxcur calibrate` from a file to a report, and all that can be wrong with one."""

import functools
import json
import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from jaxcur import calibration
from jaxcur.cli import _calibrate, main
from jaxcur.cli import _calibrate_methods as methods
from tests.helpers import assert_close

ROOT = Path(__file__).resolve().parents[2]
# One shape for all tables, so that one program serves all tests.
N = 400


def make_frame(slope=2.5):
    """Forecasts whose log-odds are `slope` times the true ones."""
    rng = np.random.default_rng(6)
    z = 1.5 * rng.normal(size=N)
    sick = rng.random(N) < 1 / (1 + np.exp(-z))
    return pd.DataFrame(
        {
            "id": [f"{row:03d}" for row in range(N)],
            "p": (1 / (1 + np.exp(-slope * z))).round(6),
            "y": sick.astype(int),
        }
    )


@functools.cache
def confident():
    return make_frame()


def save(folder, frame, name="scores.csv"):
    path = folder / name
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def table(tmp_path):
    return save(tmp_path, confident())


def run(table, *more):
    return main(
        ["calibrate", str(table), "--prob", "p", "--label", "y", *map(str, more)]
    )


def error_of(capsys):
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("jaxcur calibrate: error: ")
    assert "Traceback" not in output.err
    return output.err


def test_a_table_becomes_a_report_and_a_repaired_table(table, tmp_path, capsys):
    out = tmp_path / "repaired.csv"
    assert run(table, "--method", "isotonic", "--out", out) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for words in (
        f"rows           {N}\n",
        "event          y = 1, ",
        "ECE, 15 bins",
        "smooth ECE",
        "(Brier score = miscalibration",
        "exact, by simulation",
        "not calibrated (smallest p-value times 3, for 3 tests: 0.0030)",
        "over-confident",
        f"wrote {out}: {N} rows, isotonic",
    ):
        assert words in output.out, words
    frame = confident()
    back = pd.read_csv(out, dtype={"id": str})
    pd.testing.assert_frame_equal(back[["id", "p", "y"]], frame)
    # Every row by a map that has not seen it: a fold by hand.
    p, y = frame.p.to_numpy(), frame.y.to_numpy()
    folds = methods.deal_folds(y, 5, 0)
    held = folds == 3
    with jax.enable_x64(True):
        plain = calibration.fit_isotonic(p[~held], y[~held])(p[held])
    share = 1 / (1 + (~held).sum())
    expected = (1 - share) * np.asarray(plain) + share * y[~held].mean()
    assert_close(back.p_calibrated.to_numpy()[held], expected, rtol=1e-9)


def test_json_holds_the_numbers_of_the_library(table, tmp_path, capsys):
    out = tmp_path / "repaired.tsv"
    assert run(table, "--json", "--out", out, "--confidence-level", "0.9") == 0
    output = capsys.readouterr()
    assert "wrote" in output.err
    found = json.loads(output.out)
    frame = confident()
    p, y = frame.p.to_numpy(), frame.y.to_numpy()
    metrics = {name: part["estimate"] for name, part in found["metrics"].items()}
    with jax.enable_x64(True):
        expected = {
            "ece": calibration.expected_calibration_error(p, y),
            "ece_debiased": calibration.expected_calibration_error(p, y, debias=True),
            "smooth_ece": calibration.smooth_ece(p, y),
            "ks": calibration.ks_error(p, y),
            "brier": calibration.brier_score(p, y),
            "log_loss": calibration.log_loss(p, y),
            "auc": calibration.auc(p, y),
        }
        z, _ = calibration.spiegelhalter_test(p, y, method="asymptotic")
        interval = calibration.confidence_interval(
            calibration.brier_score, p, y, method="analytic", confidence_level=0.9
        )
        expected = {name: float(value) for name, value in expected.items()}
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(metrics[name], value, rtol=1e-9)
    brier = found["metrics"]["brier"]
    ends = [float(interval.lower), float(interval.upper)]
    assert_close([brier["lower"], brier["upper"]], ends, rtol=1e-9)
    parts = found["brier_decomposition"]
    total = parts["miscalibration"] - parts["discrimination"] + parts["uncertainty"]
    assert_close(total, expected["brier"], rtol=1e-9)
    assert_close(found["tests"]["spiegelhalter"]["statistic"], float(z), rtol=1e-9)
    assert found["tests"]["spiegelhalter"]["p_value"] == 0.001
    assert all(0.001 <= test["p_value"] <= 1 for test in found["tests"].values())
    assert found["ece_by_chance"][1] < metrics["ece"]
    # The gain of the advice is that of the table it wrote.
    back = pd.read_csv(out, sep="\t").p_calibrated.to_numpy()
    with jax.enable_x64(True):
        after = float(calibration.log_loss(back, y))
    gain = found["recalibration"][found["advice"]]["gain"]
    assert found["method"] == found["advice"] == "temperature"
    assert_close(gain["estimate"], expected["log_loss"] - after, rtol=1e-6)
    assert 0 < gain["lower"] < gain["estimate"] < gain["upper"]


def test_calibrated_forecasts_are_left_alone(tmp_path, capsys):
    frame = make_frame(slope=1.0)
    out = tmp_path / "same.csv"
    assert run(save(tmp_path, frame), "--out", out) == 0
    printed = capsys.readouterr().out
    assert "no test speaks against calibration; that is no proof" in printed
    assert "what to do     leave them as they are" in printed
    assert "probabilities as they are" in printed
    assert_close(
        pd.read_csv(out).p_calibrated.to_numpy(), frame.p.to_numpy(), rtol=1e-12
    )


def test_words_log_odds_and_another_table(tmp_path, capsys):
    frame = confident()
    p = frame.p.clip(1e-6, 1 - 1e-6)
    frame = frame.assign(p=np.log(p / (1 - p)), y=frame.y.map({1: "sick", 0: "none"}))
    new = save(tmp_path, pd.DataFrame({"p": [-2.0, 0.0, 3.0]}), "new.csv")
    out = tmp_path / "out.csv"
    words = ("--positive", "sick", "--logit", "--method", "platt")
    assert run(save(tmp_path, frame), *words, "--apply", new, "--out", out) == 0
    assert "event          y = sick" in capsys.readouterr().out
    with jax.enable_x64(True):
        platt = calibration.fit_platt(frame.p.to_numpy(), confident().y.to_numpy())
        expected = platt(np.array([-2.0, 0.0, 3.0]))
    assert_close(pd.read_csv(out).p_calibrated.to_numpy(), expected, rtol=1e-5)


def test_weights_count_rows(tmp_path, capsys):
    frame = confident().assign(w=np.arange(N) % 3)
    assert run(save(tmp_path, frame), "--weights", "w", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    twice = frame.loc[frame.index.repeat(frame.w)]
    assert_close(found["base_rate"], twice.y.mean(), rtol=1e-12)
    with jax.enable_x64(True):
        expected = float(
            calibration.brier_score(twice.p.to_numpy(), twice.y.to_numpy())
        )
    assert_close(found["metrics"]["brier"]["estimate"], expected, rtol=1e-9)


# The others are compiled in the tests of `calibration`, and here when time allows.
FEW = ("temperature", "platt", "beta", "isotonic", "histogram")


def test_forecasts_that_the_outcome_refutes_are_counted(tmp_path, capsys):
    frame = confident()
    wrong = frame.index[frame.y == 0][:3]
    frame = frame.assign(p=frame.p.mask(frame.index.isin(wrong), 1.0))
    assert run(save(tmp_path, frame)) == 0
    printed = capsys.readouterr().out
    assert (
        "(3 forecasts of exactly 0 or 1 were wrong: the log loss, which is" in printed
    )
    assert "counts each as 36.0)" in printed


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in FEW else pytest.mark.slow)
        for name in methods.RECALIBRATORS
    ],
)
def test_every_method_repairs(name):
    frame = confident()
    p, y = frame.p.to_numpy(), frame.y.to_numpy()
    folds = methods.deal_folds(y, 2, 0)
    with jax.enable_x64(True):
        found = methods.cross_fitted(name, p, y, np.ones(N), folds)
        before, after = (float(calibration.log_loss(f, y)) for f in (p, found))
    assert after < before - 0.02
    assert (found > 0).all() and (found < 1).all()


def test_the_options_list_every_method():
    assert tuple(methods.RECALIBRATORS) == _calibrate._METHODS


def test_folds_share_out_both_classes():
    labels = (np.arange(23) < 7).astype(int)
    folds = methods.deal_folds(labels, 5, 1)
    for label in (0, 1):
        counts = np.bincount(folds[labels == label], minlength=5)
        assert np.ptp(counts) <= 1


# What is wrong with the table, and the words of the one line about it.
_BAD_TABLES = {
    "a probability above 1": (
        {"p": [0.5, 1.7, *[0.5] * (N - 2)]},
        "column 'p' holds 1.7 in row 2; probabilities lie between 0 and 1 (are these "
        "logits? then use --logit)",
    ),
    "a negative one": ({"p": -3.0}, "use --logit"),
    "percentages": ({"p": 45.0}, "or percentages, then divide"),
    "NaN": (
        {"p": [np.nan] * 3 + [0.5] * (N - 3)},
        "'p' is missing in 3 of 400 rows (first: row 1); fill them in, or leave these "
        "rows out (--na drop)",
    ),
    "infinity": ({"p": np.inf}, "column 'p' is infinite in row 1"),
    "a word": ({"p": ["0.5"] * (N - 1) + ["high"]}, "'p' holds 'high' in row 400"),
    "one class": ({"y": 1}, "column 'y' holds one class only, 1"),
    "three labels": (
        {"y": ([0, 1, 2] * N)[:N]},
        "column 'y' holds 3 values (0, 1, 2)",
    ),
    "words": (
        {"y": ["no", "yes"] * (N // 2)},
        "holds no, yes: say which is the event, for example --positive yes",
    ),
    "a label that is missing": (
        {"y": ["", *["0", "1"] * N][:N]},
        "column 'y' is missing in 1 of 400 rows (first: row 1)",
    ),
    "a single row of a class": ({"y": [1] + [0] * (N - 1)}, "has a single row"),
    "a name that is taken": ({"p_calibrated": 1.0}, "a column 'p_calibrated' already"),
}


@pytest.mark.parametrize("case", _BAD_TABLES)
def test_a_bad_table_ends_in_one_line(tmp_path, capsys, case):
    change, message = _BAD_TABLES[case]
    out = tmp_path / "out.csv"
    assert run(save(tmp_path, confident().assign(**change)), "--out", out) == 2
    assert message in error_of(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prob", "q"], "there is no column 'q' (the table has: id, p, y)"),
        (["--label", "z"], "there is no column 'z'"),
        (["--weights", "w"], "there is no column 'w'"),
        (["--positive", "yes"], "--positive is 'yes'; 'y' holds 0, 1"),
        (["--folds", "1"], "--folds is 1"),
        (["--bins", "0"], "--bins is 0"),
        (["--seed", "-3"], "--seed is -3"),
        (["--confidence-level", "95"], "--confidence-level is 95; it must lie"),
        (["--apply", "x.csv"], "--apply needs --out"),
        (["--out", "x.txt"], "use a name that ends in .csv, .tsv or .parquet"),
        (["--apply", "none.csv", "--out", "x.csv"], "there is no file 'none.csv'"),
    ],
)
def test_a_bad_option_ends_in_one_line(table, capsys, words, message):
    assert run(table, *words) == 2
    assert message in error_of(capsys)


def test_files_that_hold_nothing_end_in_one_line(table, tmp_path, capsys):
    empty = tmp_path / "empty.csv"
    for text, message in (("", "is empty"), ("p,y\n", "has a header but no rows")):
        empty.write_text(text)
        assert run(empty) == 2
        assert message in error_of(capsys)
    assert run(table, "--out", table) == 2
    assert "--out names the table itself" in error_of(capsys)


def test_rows_with_gaps_are_dropped_when_asked_for(tmp_path, capsys):
    frame = confident()
    more = pd.concat([frame, frame.head(2).assign(y=None), frame.head(1).assign(p="")])
    out = tmp_path / "out.csv"
    assert run(save(tmp_path, more), "--na", "drop", "--out", out) == 0
    assert "rows dropped   3 (a missing entry)" in capsys.readouterr().out
    assert len(pd.read_csv(out)) == N


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["calibrate", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and re.search(r"--method isotonic", text)


def test_the_example_prints_what_a_reader_can_check(capsys):
    path = ROOT / "examples" / "calibrate_classifier.py"
    assert len(path.read_text().splitlines()) <= 100
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    before, after = (float(x) for x in re.findall(r"p-value ([\d.]+)", printed))
    assert before == 0.001 and after > 0.05
    losses = [float(x) for x in re.findall(r"log loss ([\d.]+)", printed)]
    assert losses[1] < 0.5 * losses[0]
