"""`jaxcur estimate` from a file to a report, and all that can be wrong with one."""

import json

import jax
import numpy as np
import pandas as pd
import pytest

from jaxcur import debiased
from jaxcur.cli import main
from tests.helpers import assert_close

# As many rows and labels in every table, so that one program serves all.
N, LABELS = 300, 80


def make_frame():
    """Hostile posts: machine labels are wrong more often for verified authors."""
    rng = np.random.default_rng(1)
    followers, verified = rng.normal(size=N).round(3), (rng.random(N) < 0.4).astype(int)
    truth = rng.random(N) < 1 / (1 + np.exp(-0.3 - followers))
    wrong = rng.random(N) < np.where(verified, 0.3, 0.1)
    chosen = rng.permutation(N)[:LABELS]
    gold = np.full(N, "", dtype=object)
    gold[chosen] = truth[chosen].astype(int).astype(str)
    return pd.DataFrame(
        {
            "id": [f"{row:04d}" for row in range(N)],
            "followers": followers,
            "verified": verified,
            "hostile": gold,
            "hostile_llm": np.where(wrong, ~truth, truth).astype(int),
            "pi": np.where(verified, 0.3, LABELS / N),
            "author": np.arange(N) // 4,
        }
    )


@pytest.fixture
def frame():
    return make_frame()


@pytest.fixture
def table(tmp_path, frame):
    return save(tmp_path, frame)


def save(folder, frame):
    path = folder / "posts.csv"
    frame.to_csv(path, index=False)
    return path


def estimate(table, *more, formula="hostile ~ followers + verified", model="logit"):
    words = ["estimate", str(table), "--formula", formula, "--model", model]
    if "--predicted" not in more:
        words += ["--predicted", "hostile=hostile_llm"]
    if "--prob" not in more:
        words += ["--prob", "pi"]
    return main([*words, *map(str, more)])


def error_of(capsys):
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("jaxcur estimate: error: ")
    assert "Traceback" not in output.err
    return output.err


def test_three_fits_stand_side_by_side(table, tmp_path, capsys, frame):
    out = tmp_path / "results.csv"
    assert estimate(table, "--out", out) == 0
    output = capsys.readouterr()
    assert output.err == ""
    for words in (
        f"rows                 {N}\n",
        f"labelled rows        {LABELS} (26.7 %)",
        "labelling            independent, with probability 0.267 to 0.3 (column pi)",
        "surrogate only",
        "gold only",
        "followers",
        "95 % interval",
        "surrogate bias",
        "relative efficiency",
        "effective labels",
        f"wrote {out}: 9 rows",
    ):
        assert words in output.out
    X = np.stack([np.ones(N), frame.followers, frame.verified], axis=1)
    y = pd.to_numeric(frame.hostile).to_numpy()
    with jax.enable_x64(True):
        expected = debiased.logistic(
            X,
            y,
            y_predicted=frame.hostile_llm.to_numpy(float),
            labeled=np.isfinite(y),
            sampling_prob=frame.pi.to_numpy(),
        )
        interval, p_value = expected.conf_int(0.95), expected.p_value()
        error = expected.std_error
    back = pd.read_csv(out).set_index(["fit", "term"])
    own = back.loc["debiased"]
    assert list(own.index) == ["Intercept", "followers", "verified"]
    assert_close(own.estimate.to_numpy(), expected.estimate, rtol=1e-9)
    assert_close(own.std_error.to_numpy(), error, rtol=1e-9)
    assert_close(own[["lower", "upper"]].to_numpy(), interval, rtol=1e-9)
    assert_close(own.p_value.to_numpy(), p_value, rtol=1e-7)
    for name, (rows, weight) in {
        "surrogate_only": (slice(None), np.ones(N)),
        "gold_only": (np.isfinite(y), 1 / frame.pi.to_numpy()),
    }.items():
        labels = frame.hostile_llm if name == "surrogate_only" else y
        beta = back.loc[name].estimate.to_numpy()
        residual = np.asarray(labels) - 1 / (1 + np.exp(-X @ beta))
        score = X[rows].T @ (residual * weight)[rows]
        np.testing.assert_allclose(score / N, 0, atol=1e-9)

    assert estimate(table, "--out", out, "--confidence-level", "0.8") == 0
    assert "80 % interval" in capsys.readouterr().out
    narrow = pd.read_csv(out).set_index(["fit", "term"]).loc["debiased"]
    assert (narrow.lower > own.lower).all() and (narrow.upper < own.upper).all()


def test_json_holds_the_same_numbers(table, capsys, tmp_path):
    out = tmp_path / "results.tsv"
    assert estimate(table, "--json", "--out", out) == 0
    output = capsys.readouterr()
    document = json.loads(output.out)
    assert "wrote" in output.err
    back = pd.read_csv(out, sep="\t")
    for name, rows in document["fits"].items():
        own = back[back.fit == name]
        assert [row["term"] for row in rows] == own.term.tolist() == document["terms"]
        np.testing.assert_allclose(
            [row["std_error"] for row in rows], own.std_error, rtol=1e-12
        )
    assert document["num_labeled"] == LABELS and document["converged"]
    assert len(document["diagnostics"]["relative_efficiency"]) == 3
    assert document["predicted"] == {"hostile": "hostile_llm"}


def test_a_separated_logit_has_no_standard_error(tmp_path, capsys, frame):
    separated = (frame.followers > 0).astype(int)
    frame["hostile"] = separated.astype(str).where(frame.hostile != "", "")
    frame["hostile_llm"] = separated
    assert estimate(save(tmp_path, frame)) == 0
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert output.err.startswith("warning: did not converge")
    assert "covariate separates the labels" in output.err
    lines = [line for line in output.out.splitlines() if line.startswith("followers")]
    assert [line.split()[1:] for line in lines] == [["n/a"] * 3, ["n/a"] * 5]


def test_a_gold_fit_that_fails_does_not_take_the_others_along(tmp_path, capsys, frame):
    labeled = frame.hostile != ""
    # Among labelled rows, verified is a copy of the constant.
    frame = frame.assign(verified=frame.verified.where(~labeled, 1))
    code = estimate(save(tmp_path, frame), "--tuning", "none", model="ols")
    output = capsys.readouterr()
    assert code == 0
    assert "gold only" in output.out and "among labelled rows, collinear" in output.out
    [line] = [x for x in output.out.splitlines() if x.startswith("verified")][:1]
    assert line.count("n/a") == 1


def test_weak_labels_warn_in_lines(tmp_path, capsys, frame):
    frame["pi"] = 0.9
    assert estimate(save(tmp_path, frame)) == 0
    output = capsys.readouterr()
    assert output.err.startswith("warning: 80 rows are labelled where the sampling")
    assert output.err.count("\n") == 1


# What is wrong with the table, and the words of the one line about it.
_BAD_TABLES = {
    "no labelled row": ({"hostile": ""}, "no labelled rows: no row has a gold label"),
    "pi = 0": ({"pi": 0.0}, "300 of 300 rows do not, 80 of them labelled"),
    "one pi above 1": ({"pi": [0.5] * (N - 1) + [1.5]}, "1 of 300 rows do not"),
    "no pi": ({"pi": [0.5] * (N - 1) + [None]}, "'pi' is missing in 1 of 300 rows"),
    "a word": (
        {"followers": ["1"] * (N - 1) + ["many"]},
        "column 'followers' holds 'many' in row 300, which is not a number",
    ),
    "a word among labels": (
        {"hostile": ["1"] * (N - 1) + ["yes"]},
        "column 'hostile' holds 'yes' in row 300",
    ),
    "words for labels": (
        {"hostile": ["yes", "no", ""] * (N // 3)},
        "column 'hostile' holds 'yes' in row 1, which is not a number",
    ),
    "labels beyond 0 and 1": (
        {"hostile": ["2"] + ["1", ""] * (N // 2 - 1) + ["0"]},
        "must hold 0 and 1, got 2 in row 1",
    ),
    "one cluster": ({"author": 7}, "'author' holds a single cluster"),
}


@pytest.mark.parametrize("case", _BAD_TABLES)
def test_a_bad_table_ends_in_one_line(tmp_path, capsys, frame, case):
    change, message = _BAD_TABLES[case]
    assert estimate(save(tmp_path, frame.assign(**change)), "--cluster", "author") == 2
    assert message in error_of(capsys)


def test_collinear_terms_are_named(tmp_path, capsys, frame):
    frame["verified"] = 2 * frame.followers + 1
    assert estimate(save(tmp_path, frame)) == 2
    error = error_of(capsys)
    assert "collinear terms: 'Intercept', 'followers' and 'verified' are" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--formula", "hostile ~ age"], "no column 'age' (the table has: id, fol"),
        (["--formula", "hostile ~ follower"], "did you mean 'followers'?"),
        (["--formula", "hostile ~ followers +"], "cannot be read: Operator `+`"),
        (["--formula", "hostile ~ (followers"], "cannot be read: Could not find match"),
        (["--formula", "followers ~ verified"], "does not use 'hostile'"),
        (["--predicted", "hostile"], "write GOLD=MACHINE, for example y=y_llm"),
        (["--predicted", "hostile=llm"], "--predicted: there is no column 'llm'"),
        (["--predicted", "hostile=pi,hostile=pi"], "names 'hostile' twice"),
        (["--prob", "chance"], "--prob: there is no column 'chance'"),
        (["--prob", "0"], "the sampling probability must lie above 0"),
        (["--cluster", "unit"], "--cluster: there is no column 'unit'"),
        (["--cluster", "author,,id"], "--cluster must list names"),
        (["--fixed-effects", "author"], "--fixed-effects go with model 'ols'"),
        (["--small-sample", "cr1"], "--small-sample cr1 needs --cluster"),
        (["--design", "stratified"], "--design stratified needs --strata"),
        (["--tuning", "full"], "--tuning is 'full'; give optimal, scalar"),
        (
            ["--confidence-level", "95"],
            "--confidence-level is 95; it must lie strictly",
        ),
        (["--classes", "a,b"], "--classes go with the models multinomial"),
        (["--out", "results.txt"], "use a name that ends in .csv, .tsv or .parquet"),
        (["--delimiter", ";;"], "a delimiter is one character"),
    ],
)
def test_a_bad_option_ends_in_one_line(table, capsys, words, message):
    assert estimate(table, *words) == 2
    assert message in error_of(capsys)


def test_files_that_disappoint_end_in_one_line(tmp_path, capsys, table):
    assert estimate(tmp_path / "none.csv") == 2
    assert "there is no file" in error_of(capsys)
    empty = tmp_path / "empty.csv"
    empty.write_text(table.read_text().splitlines()[0] + "\n")
    assert estimate(empty) == 2
    assert "has a header but no rows" in error_of(capsys)
    assert estimate(table, "--out", table) == 2
    assert "--out names the table itself" in error_of(capsys)
