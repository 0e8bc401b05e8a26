"""`jaxcur select` from a file to a file, and everything that can be wrong with one."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from jaxcur.cli import main

N, M = 60, 40


def make_frame(seed=0):
    rng = np.random.default_rng(seed)
    labels = 140 + 60 * rng.normal(size=N + M)
    frame = pd.DataFrame(
        {
            "id": [f"{row:04d}" for row in range(N + M)],
            "p": labels + 40 * rng.normal(size=N + M),
            "y": labels,
            "w": rng.uniform(0.5, 2.0, size=N + M),
        }
    )
    frame.loc[rng.permutation(N + M)[:M], "y"] = np.nan
    return frame


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "patients.csv"
    make_frame().to_csv(path, index=False)
    return path


def select(table, *more, level="0.1", side=("--above", "140")):
    words = ["select", str(table), "--prediction", "p", "--label", "y"]
    return main([*words, *side, "--level", level, *map(str, more)])


def by_hand(frame, level, *, below=False):
    """Selected ids and p-values, counted one by one in exact arithmetic."""
    sign = -1 if below else 1
    known = frame[frame.y.notna()]
    candidates = frame[frame.y.isna()]
    nulls = known[sign * known.y <= sign * (100 if below else 140)]
    n, m = len(known), len(candidates)
    p = {
        row.id: Fraction(1 + int((sign * nulls.p >= sign * row.p).sum()), n + 1)
        for row in candidates.itertuples()
    }
    level = Fraction(level)
    accepted = 0
    for rank, value in enumerate(sorted(p.values()), start=1):
        if value <= level * rank / m:
            accepted = rank
    selected = [name for name in p if p[name] <= level * accepted / m]
    return selected, {name: float(p[name]) for name in selected}


def error_of(capsys):
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("jaxcur select: error: ")
    return output.err


@pytest.mark.parametrize("level", ["0.05", "0.1", "0.2", "0.5"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_selection_equals_the_definition(tmp_path, capsys, level, ending):
    frame = make_frame()
    table = tmp_path / f"patients.{ending}"
    if ending == "csv":
        frame.to_csv(table, index=False)
    else:
        frame.to_parquet(table)
    out = tmp_path / "selected.csv"
    assert select(table, "--out", out, level=level) == 0
    selected, p_values = by_hand(frame, level)
    back = pd.read_csv(out, dtype={"id": str})
    assert list(back.columns) == ["id", "p", "y", "w", "p_value"]
    assert back["id"].tolist() == selected
    np.testing.assert_allclose(
        back["p_value"].astype(float), [p_values[name] for name in selected], rtol=1e-15
    )
    printed = capsys.readouterr().out
    assert f"selected             {len(selected)} of {M}" in printed
    assert f"{N} (" in printed
    if selected:
        cut = frame.set_index("id").p[selected].min()
        assert f"p >= {float(cut)!r}" in printed


def test_below_is_above_with_every_sign_turned(tmp_path, capsys):
    frame = make_frame()
    frame.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "out.csv"
    side = ("--below", "100")
    assert select(tmp_path / "t.csv", "--out", out, level="0.4", side=side) == 0
    selected, _ = by_hand(frame, "0.4", below=True)
    assert selected, "the case must select somebody to mean anything"
    assert pd.read_csv(out, dtype=str)["id"].tolist() == selected
    assert "p <= " in capsys.readouterr().out


def test_carried_columns_leave_as_they_came(tmp_path):
    rows = ["id,p,y,note", *(f"{i},{9 - i}.50,{9 - i},'x' " for i in range(9))]
    rows += ["007,99.10,,  keep  me"]
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "out.csv"
    side = ("--above", "0")
    assert select(tmp_path / "t.csv", "--out", out, level="0.5", side=side) == 0
    assert out.read_text().splitlines() == [
        "id,p,y,note,p_value",
        "007,99.10,,  keep  me,0.1",
    ]


def test_parquet_output_holds_numbers_and_identifiers(table, tmp_path):
    assert select(table, "--out", tmp_path / "s.parquet", level="0.3") == 0
    back = pd.read_parquet(tmp_path / "s.parquet")
    assert len(back) and back["p"].dtype == back["p_value"].dtype == np.float64
    assert all(len(name) == 4 for name in back["id"])


def test_labels_equal_to_the_threshold_do_not_count_as_above(tmp_path, capsys):
    rows = ["p,y", *["1,140"] * 30, "9,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert select(tmp_path / "t.csv", level="0.5") == 0
    assert "30 (0 with y > 140)" in capsys.readouterr().out


def test_predictions_that_float32_would_tie_are_told_apart(tmp_path):
    # Calibration predictions at 1 + 2e-12, all wrong; the candidate lies just above.
    rows = ["p,y", *["1.000000000002,0"] * 19, "1.000000000003,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    out = tmp_path / "o.csv"
    side = ("--above", "1e9")  # a large threshold costs no digit either
    assert select(tmp_path / "t.csv", "--out", out, level="0.05", side=side) == 0
    assert pd.read_csv(out)["p_value"].tolist() == [0.05]


def test_nothing_selected_still_writes_a_table_with_its_header(table, tmp_path, capsys):
    assert select(table, "--out", tmp_path / "s.csv", level="0.001") == 0
    assert (tmp_path / "s.csv").read_text() == "id,p,y,w,p_value\n"
    output = capsys.readouterr()
    assert "none: nothing is selected" in output.out


@pytest.mark.parametrize(("level", "warns"), [("0.0163", True), ("0.0164", False)])
def test_an_unreachable_level_is_announced(table, capsys, level, warns):
    # The smallest p-value is 1/61 = 0.016393...
    assert select(table, level=level) == 0
    error = capsys.readouterr().err
    assert ("cannot be reached with 60 calibration rows" in error) == warns
    assert ("fewer than 61 calibration rows" in error) == warns


def test_a_level_exactly_at_the_smallest_p_value_is_reachable(tmp_path, capsys):
    rows = ["p,y", *["1,0"] * 9, "2,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    assert select(tmp_path / "t.csv", level="0.1") == 0
    output = capsys.readouterr()
    assert "warning" not in output.err and "selected             1 of 1" in output.out


def test_the_least_number_that_can_be_selected_is_said(table, capsys):
    assert select(table, level="0.05") == 0
    least = math.ceil(Fraction(M) / (Fraction("0.05") * (N + 1)))
    assert f"none, or at least {least} of {M}" in capsys.readouterr().out


def test_a_random_method_needs_a_seed_and_repeats_with_it(table, tmp_path, capsys):
    assert select(table, "--randomize") == 2
    assert "--seed" in error_of(capsys)
    contents = []
    for name, seed in (("a.csv", 1), ("b.csv", 1), ("c.csv", 2)):
        out = tmp_path / name
        code = select(table, "--randomize", "--seed", seed, "--out", out, level="0.4")
        assert code == 0
        contents.append(out.read_text())
    assert contents[0] == contents[1] != contents[2]


def test_weights_that_are_all_equal_give_the_unweighted_selection(tmp_path, capsys):
    frame = make_frame().assign(w=3.0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    plain, weighted = tmp_path / "plain.csv", tmp_path / "weighted.csv"
    assert select(tmp_path / "t.csv", "--out", plain, level="0.2") == 0
    options = ("--weight", "w", "--pruning", "deterministic", "--out", weighted)
    assert select(tmp_path / "t.csv", *options, level="0.2") == 0
    one, other = pd.read_csv(plain), pd.read_csv(weighted)
    assert len(one) and one["id"].tolist() == other["id"].tolist()
    np.testing.assert_allclose(one["p_value"], other["p_value"], rtol=1e-12)
    assert "weighted conformal selection" in capsys.readouterr().out


def test_weights_need_a_seed_unless_pruning_is_deterministic(table, capsys):
    assert select(table, "--weight", "w") == 2
    assert "--pruning deterministic" in error_of(capsys)
    assert select(table, "--weight", "w", "--seed", "1") == 0


def test_weights_can_put_a_level_out_of_reach(tmp_path, capsys):
    frame = make_frame()
    frame["w"] = np.where(frame.y.isna(), 100.0, 1.0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    options = ("--weight", "w", "--pruning", "deterministic")
    assert select(tmp_path / "t.csv", *options) == 0
    assert "smallest possible p-value is 0.625" in capsys.readouterr().err


def test_an_existing_output_is_replaced_and_the_program_says_so(
    table, tmp_path, capsys
):
    out = tmp_path / "s.csv"
    assert select(table, "--out", out) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert select(table, "--out", out) == 0
    assert f"replaced {out}" in capsys.readouterr().out


@pytest.mark.parametrize("spelling", ["patients.csv", "./patients.csv", "link.csv"])
def test_the_table_itself_is_never_overwritten(table, monkeypatch, capsys, spelling):
    monkeypatch.chdir(table.parent)
    (table.parent / "link.csv").symlink_to(table)
    before = table.read_bytes()
    assert select(table, "--out", spelling) == 2
    assert "the table itself" in error_of(capsys)
    assert table.read_bytes() == before


CHANGES = {
    "missing prediction column": (lambda f: f.drop(columns="p"), "no column 'p'"),
    "missing label column": (lambda f: f.drop(columns="y"), "no column 'y'"),
    "text in the prediction": (
        lambda f: f.astype({"p": object}).assign(p=["oops", *f.p[1:]]),
        "'oops' in row 1",
    ),
    "text in the label": (
        lambda f: f.astype({"y": object}).assign(y=["soon", *f.y[1:]]),
        "'soon' in row 1",
    ),
    "no prediction in a row": (
        lambda f: f.assign(p=[np.nan, *f.p[1:]]),
        "missing in 1 of 100 rows",
    ),
    "infinite prediction": (lambda f: f.assign(p=[np.inf, *f.p[1:]]), "infinite"),
    "infinite label": (lambda f: f.assign(y=[-np.inf, *f.y[1:]]), "infinite"),
    "no labelled row": (lambda f: f.assign(y=np.nan), "no row has a label"),
    "no candidate": (lambda f: f.assign(y=1.0), "no candidate"),
    "no rows": (lambda f: f[:0], "no rows"),
    "result column taken": (lambda f: f.assign(p_value=1.0), "already has a column"),
}


@pytest.mark.parametrize("case", CHANGES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_bad_table_is_one_line_and_exit_code_two(tmp_path, capsys, case, ending):
    change, part = CHANGES[case]
    frame = change(make_frame())
    table, out = tmp_path / f"t.{ending}", tmp_path / "out.csv"
    if ending == "csv":
        frame.to_csv(table, index=False)
    else:
        mixed = [name for name in ("p", "y") if name in frame]
        frame = frame.astype({n: str for n in mixed if frame[n].dtype == object})
        frame.to_parquet(table)
    assert select(table, "--out", out) == 2
    assert part in error_of(capsys)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("none.csv", None, "there is no file"),
        ("empty.csv", b"", "is empty"),
        ("twice.csv", b"p,p,y\n1,2,3\n4,5,\n", "more than one column named 'p'"),
        ("bad.parquet", b"PAR1 no", "as parquet"),
        ("semi.csv", b"p;y\n1;2\n3;\n", "delimiter"),
        ("ragged.csv", b"p,y\n1,2\n3\n", "line 3"),
        ("t.xlsx", b"PK", "ends in .csv"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_two(
    tmp_path, capsys, name, content, part
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert select(tmp_path / name) == 2
    assert part in error_of(capsys)


@pytest.mark.parametrize("level", ["0", "1", "2", "-0.1", "nan", "inf"])
def test_a_level_outside_zero_to_one_is_refused(table, capsys, level):
    assert select(table, level=level) == 2
    assert "strictly between 0 and 1" in error_of(capsys)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--out", "selected.xlsx"), "ends in .csv"),
        (("--weight", "no", "--seed", "1"), "no column 'no'"),
        (("--weight", "w", "--seed", "-1"), "--seed"),
        (("--weight", "bad", "--seed", "1"), "negative weights"),
        (("--weight", "zero", "--seed", "1"), "zero in every calibration row"),
        (("--delimiter", "ab"), "one character"),
    ],
)
def test_bad_options_are_one_line_and_exit_code_two(tmp_path, capsys, options, part):
    frame = make_frame()
    frame["bad"] = -1.0
    frame["zero"] = np.where(frame.y.isna(), 1.0, 0.0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert select(tmp_path / "t.csv", *options) == 2
    assert part in error_of(capsys)


@pytest.mark.parametrize("threshold", ["nan", "inf"])
def test_a_threshold_must_be_finite(table, capsys, threshold):
    assert select(table, side=("--above", threshold)) == 2
    assert "--above" in error_of(capsys)


def test_an_output_folder_that_cannot_exist_is_one_line(table, capsys):
    assert select(table, "--out", table / "inside.csv") == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_prediction_must_be_named(table, capsys):
    words = ["select", str(table), "--label", "y", "--above", "1", "--level", "0.1"]
    assert main(words) == 2
    assert "--prediction" in error_of(capsys)
