"""`jaxcur ordinal` from a file to a report, and all that can be wrong with one."""

import json
import re
import runpy
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from jaxcur import ordinal
from jaxcur.cli import main
from tests.helpers import assert_close

ROOT = Path(__file__).resolve().parents[2]
# One shape for all tables, so that one program serves all tests.
N, COLUMNS, LABELS = 512, ["dose", "age", "marker", "noise"], ["none", "mild", "severe"]
ORDER = ["--order", ",".join(LABELS)]
STRENGTH = ["--regularization", "0.01"]


def make_frame():
    rng = np.random.default_rng(5)
    X = rng.uniform(-2, 2, size=(N, 4)).round(3)
    eta = np.array([0.0, 3.5]) + X @ np.array(
        [[-0.8, -0.8], [0.5, 0.5], [0.0, -0.8], [0.0, 0.0]]
    )
    y = (rng.logistic(size=(N, 1)) > eta).sum(axis=1)
    return pd.DataFrame(X, columns=COLUMNS).assign(stage=np.array(LABELS)[y])


@pytest.fixture
def frame():
    return make_frame()


@pytest.fixture
def table(tmp_path, frame):
    return save(tmp_path, frame)


def save(folder, frame):
    path = folder / "patients.csv"
    frame.to_csv(path, index=False)
    return path


def run(table, *more):
    return main(["ordinal", str(table), "--outcome", "stage", *map(str, more)])


def error_of(capsys):
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("jaxcur ordinal: error: ")
    assert "Traceback" not in output.err
    return output.err


def test_a_table_with_words_becomes_a_report(table, tmp_path, capsys, frame):
    out = tmp_path / "predictions.csv"
    assert run(table, *ORDER, "--out", out, "--confidence-level", "0.9") == 0
    output = capsys.readouterr()
    assert output.err == ""
    for words in (
        f"rows                 {N}\n",
        "none < mild < severe (",
        "by 5-fold cross-validation (brier)",
        "none|mild  mild|severe",
        "to LOWER classes",
        "to HIGHER classes",
        "the opposite sign of R polr and statsmodels",
        "odds ratio, HIGHER",
        "proportional odds",
        "breaks it",
        "P(y = severe)",
        "90 % interval",
        "crossing rows",
        "certificate          ok; KKT residual less than 1e-9, objective above",
        f"wrote {out}: {N} rows",
    ):
        assert words in output.out, words
    X, y = frame[COLUMNS].to_numpy(), frame.stage.map(LABELS.index).to_numpy()
    with jax.enable_x64(True):
        chosen = ordinal.cross_validate(X, y, num_classes=3, key=jax.random.key(0))
        probs = ordinal.predict_proba(chosen.result, X)
        interval = ordinal.debiased_intervals(
            X,
            y,
            num_classes=3,
            regularization=chosen.result.regularization,
            confidence_level=0.9,
        ).rare_interval
        strength = float(chosen.result.regularization)
    back = pd.read_csv(out)
    pd.testing.assert_frame_equal(back[[*COLUMNS, "stage"]], frame, check_dtype=False)
    added = [f"p_{label}" for label in LABELS]
    assert_close(back[added].to_numpy(), probs, rtol=1e-9)
    ends = back[["p_severe_lower", "p_severe_upper"]].to_numpy()
    assert_close(ends, interval, rtol=1e-9)
    shown = re.search(r"strength ([\d.]+),", output.out)
    np.testing.assert_allclose(float(shown.group(1)), strength, rtol=1e-3)


def test_json_holds_the_same_numbers(table, tmp_path, capsys, frame):
    out = tmp_path / "predictions.tsv"
    assert run(table, *ORDER, *STRENGTH, "--json", "--out", out) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert "wrote" in output.err
    X, y = frame[COLUMNS].to_numpy(), frame.stage.map(LABELS.index).to_numpy()
    with jax.enable_x64(True):
        expected = ordinal.fit(X, y, num_classes=3, regularization=0.01)
        test = ordinal.nominal_test(X, y, num_classes=3)
        ratios = ordinal.odds_ratios(expected)
    terms = document["terms"]
    assert [term["term"] for term in terms] == COLUMNS
    found = [term["coefficients"] for term in terms]
    assert_close(found, expected.coefficients, rtol=1e-9)
    assert_close([term["odds_ratios_higher"] for term in terms], ratios, rtol=1e-9)
    p_values = [term["proportional_odds_p_value"] for term in terms]
    assert_close(p_values, test.p_value, rtol=1e-6)
    assert document["classes"] == LABELS and document["status"] == "ok"
    assert document["sign"].endswith("to lower classes")
    assert document["kkt_residual"] < 1e-9
    with jax.enable_x64(True):
        found = ordinal.debiased_intervals(X, y, num_classes=3, regularization=0.01)
        probs = ordinal.predict_proba(expected, X)[:, -1]
    assert document["estimates"] == "debiased"
    assert_close([t["estimates"] for t in terms], found.coefficients, rtol=1e-9)
    z = np.array([t["estimates"] for t in terms])
    z = z / np.array([t["std_errors"] for t in terms])
    assert_close([t["z"] for t in terms], z, rtol=1e-9)
    assert all(0 <= p <= 1 for t in terms for p in t["p_values"])
    rare = document["rare_class"]
    assert rare["class"] == "severe"
    assert_close(rare["observed"], float(np.mean(y == 2)), rtol=1e-12)
    row = rare["highest"]["row"] - 1
    assert row == int(np.argmax(probs))
    ends = [rare["highest"]["lower"], rare["highest"]["upper"]]
    assert_close(ends, found.rare_interval[row], rtol=1e-9)


def test_a_formula_and_a_class_that_is_dropped(tmp_path, capsys, frame):
    frame["clinic"] = np.array(["north", "south"])[np.arange(N) % 2]
    out = tmp_path / "predictions.csv"
    code = run(
        save(tmp_path, frame),
        *("--order", "none,faint,mild,severe", "--unobserved", "drop", *STRENGTH),
        *("--formula", "dose + age + marker + clinic", "--out", out),
    )
    assert code == 0
    printed = capsys.readouterr().out
    assert "clinic[T.south]" in printed
    assert "classes dropped      faint: no row has them" in printed
    back = pd.read_csv(out)
    assert (back.p_faint == 0).all()
    assert list(back.columns[-6:]) == [
        *("p_none", "p_faint", "p_mild", "p_severe"),
        *("p_severe_lower", "p_severe_upper"),
    ]


def test_a_fit_without_a_solution_warns_in_one_line(tmp_path, capsys, frame):
    frame["stage"] = np.array(LABELS)[np.digitize(frame.dose, [-0.5, 1.0])]
    assert run(save(tmp_path, frame), *ORDER, "--regularization", "0") == 0
    output = capsys.readouterr()
    assert output.err.startswith("warning: not settled: diverging: there is no finite")
    assert output.err.count("\n") == 1
    assert "n/a" in output.out


def test_numbers_have_their_own_order(tmp_path, capsys, frame):
    frame["stage"] = frame.stage.map({"none": 2, "mild": 10, "severe": 11})
    assert run(save(tmp_path, frame), *STRENGTH) == 0
    assert "2 < 10 < 11 (" in capsys.readouterr().out


def test_rows_with_gaps_are_dropped_when_asked_for(tmp_path, capsys, frame):
    more = pd.concat([frame, frame.head(3).assign(age=np.nan)])
    assert run(save(tmp_path, more), *ORDER, *STRENGTH, "--na", "drop") == 0
    assert "rows dropped         3 (a missing entry)" in capsys.readouterr().out


# What is wrong with the table, and the words of the one line about it.
_BAD_TABLES = {
    "a gap": ({"age": [1.0] * (N - 1) + [None]}, "'age' is missing in 1 of 512 rows"),
    "an infinity": ({"age": np.inf}, "column 'age' is infinite in row 1"),
    "a gap in the outcome": (
        {"stage": ["", *["none", "mild", "severe"] * 200][:N]},
        "'stage' is missing in 1 of 512 rows (first: row 1)",
    ),
    "a word": ({"age": ["1"] * (N - 1) + ["old"]}, "'age' holds 'old' in row 512"),
    "words": ({"age": "old"}, "write it as a category, C(age), in --formula"),
    "a class not listed": (
        {"stage": ["none", "dead", "mild", "severe"] * (N // 4)},
        "holds 'dead' in row 2, which --order does not list (none, mild, severe)",
    ),
    "a class that never occurs": (
        {"stage": ["none", "mild"] * (N // 2)},
        "no row has the class 'severe' of 'stage': drop it, with predicted "
        "probability 0 (--unobserved drop)",
    ),
    "one class": ({"stage": "mild"}, "column 'stage' holds one class only, 'mild'"),
    "a name that is taken": ({"p_mild": 1.0}, "a column 'p_mild' already"),
}


@pytest.mark.parametrize("case", _BAD_TABLES)
def test_a_bad_table_ends_in_one_line(tmp_path, capsys, frame, case):
    change, message = _BAD_TABLES[case]
    out = ["--out", tmp_path / "out.csv"]
    words = ["--features", "dose,age,marker,noise", *ORDER, *STRENGTH, *out]
    assert run(save(tmp_path, frame.assign(**change)), *words) == 2
    assert message in error_of(capsys)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the classes of 'stage' are words (mild, none, severe): give their order"),
        (["--order", "none,mild,none"], "--order lists 'none' twice"),
        (["--order", "none,,mild"], "--order must list names"),
        ([*ORDER, "--features", "dose,size"], "--features: there is no column 'size'"),
        ([*ORDER, "--formula", "dose + size"], "there is no column 'size'"),
        ([*ORDER, "--formula", "dose +"], "cannot be read: Operator `+`"),
        ([*ORDER, "--formula", "log(dose)"], "'log(dose)' is not finite in"),
        ([*ORDER, "--weights", "w"], "--weights: there is no column 'w'"),
        ([*ORDER, "--regularization", "aic"], "--regularization is 'aic'; give cv"),
        ([*ORDER, "--regularization", "-1"], "--regularization is '-1'; give cv"),
        ([*ORDER, "--regularization", "nan"], "--regularization is 'nan'; give cv"),
        ([*ORDER, "--confidence-level", "95"], "--confidence-level is 95; it must lie"),
        ([*ORDER, "--seed", "-3"], "--seed is -3"),
        ([*ORDER, "--folds", "1"], "--folds must lie in 2..512"),
        ([*ORDER, "--family", "acat", "--link", "probit"], "has link 'logit' only"),
        ([*ORDER, "--out", "x.txt"], "use a name that ends in .csv, .tsv or .parquet"),
        ([*ORDER, "--delimiter", ";;"], "a delimiter is one character"),
    ],
)
def test_a_bad_option_ends_in_one_line(table, capsys, words, message):
    assert run(table, *words) == 2
    assert message in error_of(capsys)


def test_columns_and_files_that_are_not_there_end_in_one_line(table, tmp_path, capsys):
    assert main(["ordinal", str(table), "--outcome", "stag", *ORDER]) == 2
    assert "--outcome: there is no column 'stag'" in error_of(capsys)
    assert run(tmp_path / "none.csv") == 2
    assert "there is no file" in error_of(capsys)
    empty = tmp_path / "empty.csv"
    empty.write_text(table.read_text().splitlines()[0] + "\n")
    assert run(empty) == 2
    assert "has a header but no rows" in error_of(capsys)
    assert run(table, *ORDER, "--out", table) == 2
    assert "--out names the table itself" in error_of(capsys)
    narrow = tmp_path / "narrow.csv"
    narrow.write_text("stage\nnone\nmild\n")
    assert run(narrow, *ORDER) == 2
    assert "there is no column left to predict the outcome with" in error_of(capsys)


def test_options_that_argparse_refuses_end_in_one_line(table, capsys):
    for words in (
        ["--penalty", "lasso"],
        ["--features", "dose", "--formula", "dose"],
        ["--na", "ignore"],
    ):
        with pytest.raises(SystemExit) as stop:
            run(table, *words)
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_the_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ordinal", "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "--order none,mild,severe" in text


def test_the_example_prints_what_a_reader_can_check(capsys):
    path = ROOT / "examples" / "rare_class.py"
    assert len(path.read_text().splitlines()) <= 100
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    errors = [float(x) for x in re.findall(r": ([\d.]+)$", printed, re.MULTILINE)]
    assert len(errors) == 3 and errors[2] < errors[0] < errors[1]
    intervals = re.findall(r"chance ([\d.]+)%.* ([\d.]+)% to ([\d.]+)%", printed)
    assert len(intervals) == 2
    for chance, low, high in intervals:
        assert float(low) < float(chance) < float(high)
