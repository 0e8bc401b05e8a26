"""Tables: what is read is what was written, and every bad file has one sentence."""

import gzip
import os

import numpy as np
import pandas as pd
import pytest

from jaxcur import data


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_columns_become_numbers_only_where_nothing_is_lost(tmp_path):
    table = write(
        tmp_path / "t.csv",
        "id,count,score,note,gone\n007,3,1.5,high,\n010,4,,low,\n",
    )
    frame = data.read_table(table)
    assert frame["id"].tolist() == ["007", "010"]
    assert frame["count"].dtype == np.int64 and frame["count"].tolist() == [3, 4]
    assert frame["score"].dtype == np.float64
    assert frame["score"].tolist()[0] == 1.5 and np.isnan(frame["score"].iloc[1])
    assert frame["note"].tolist() == ["high", "low"]
    assert frame["gone"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("entry", "number"),
    [("0", True), ("-0.5", True), ("+1e-3", True), ("00", False), ("-01", False)],
)
def test_padding_with_zeros_marks_an_identifier(tmp_path, entry, number):
    frame = data.read_table(write(tmp_path / "t.csv", f"a\n{entry}\n"))
    assert (frame["a"].dtype.kind in "if") == number


def test_text_mode_leaves_every_entry_as_it_stands(tmp_path):
    table = write(tmp_path / "t.csv", "a,b\n1.50, x \nNA,\n")
    frame = data.read_table(table, text=True)
    assert frame.to_numpy().tolist() == [["1.50", " x "], ["NA", ""]]


def test_delimiter_byte_order_mark_quotes_and_compression_are_understood(tmp_path):
    tabs = write(tmp_path / "t.tsv", "a\tb\n1\t2\n")
    semicolons = write(tmp_path / "s.csv", "a;b\n1;2\n")
    marked = tmp_path / "m.csv"
    marked.write_bytes(b"\xef\xbb\xbfa,b\r\n1,2\r\n")
    quoted = write(tmp_path / "q.csv", 'a,b\n"1","2"\n')
    packed = tmp_path / "z.csv.gz"
    packed.write_bytes(gzip.compress(b"a,b\n1,2\n", mtime=0))
    expected = pd.DataFrame({"a": [1], "b": [2]})
    pd.testing.assert_frame_equal(data.read_table(tabs), expected)
    pd.testing.assert_frame_equal(data.read_table(semicolons, delimiter=";"), expected)
    for path in (marked, quoted, packed):
        pd.testing.assert_frame_equal(data.read_table(path), expected)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("empty.csv", b"", "is empty"),
        ("blank.csv", b"\n\n", "is empty"),
        ("short.csv", b"a,b\n1,2\n3\n", "line 3 of"),
        ("long.csv", b"a,b\n1,2\n3,4,5\n", "line 3 of"),
        ("alllong.csv", b"a,b\n1,2,3\n3,4,5\n", "line 2 of"),
        ("twice.csv", b"a,b,a\n1,2,3\n", "more than one column named 'a'"),
        ("spaced.csv", b"a, a\n1,2\n", "more than one column named 'a'"),
        ("latin.csv", "ä\n1\n".encode("latin-1"), "not UTF-8"),
        ("broken.parquet", b"not parquet", "as parquet"),
        ("broken.csv.gz", b"not gzip", "cannot read"),
        ("open.csv", b'a,b\n"1,2\n', "not a regular table"),
        ("cut.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9], "cannot read"),
        ("odd.xlsx", b"", "name that ends in"),
        ("none", b"", "name that ends in"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(data.TableError) as caught:
        data.read_table(tmp_path / name)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(data.TableError, match="there is no file"):
        data.read_table(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(data.TableError, match="is a folder"):
        data.read_table(tmp_path / "folder.csv")


def test_a_header_without_rows_is_an_empty_table(tmp_path):
    table = write(tmp_path / "t.csv", "a,b\n")
    for text in (True, False):
        frame = data.read_table(table, text=text)
        assert list(frame.columns) == ["a", "b"] and len(frame) == 0


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_table_survives_writing_and_reading(tmp_path, ending):
    frame = pd.DataFrame(
        {"x": [0.1, 1e-300, -2.5], "k": [1, 2, 3], "s": ["a", "b,c", "d\te"]}
    )
    path = data.write_table(frame, tmp_path / "new" / f"t.{ending}")
    pd.testing.assert_frame_equal(data.read_table(path), frame, check_exact=True)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_text_columns_become_numbers_in_parquet_but_identifiers_stay(tmp_path):
    frame = pd.DataFrame({"id": ["007"], "p": ["1.5"], "mixed": [None]})
    path = data.write_table(frame, tmp_path / "t.parquet")
    back = pd.read_parquet(path)
    assert back["p"].tolist() == [1.5]
    assert back["id"].tolist() == ["007"]


def test_a_named_parquet_index_becomes_a_column(tmp_path):
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index([7, 9], name="id"))
    frame.to_parquet(tmp_path / "t.parquet")
    back = data.read_table(tmp_path / "t.parquet")
    assert back["id"].tolist() == [7, 9] and list(back.index) == [0, 1]


def test_writing_replaces_a_file_and_leaves_it_alone_on_failure(tmp_path):
    path = write(tmp_path / "t.parquet", "old")
    bad = pd.DataFrame({"a": [object()]})
    with pytest.raises(Exception, match="object"):
        data.write_table(bad, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1
    data.write_table(pd.DataFrame({"a": [1]}), path)
    assert pd.read_parquet(path)["a"].tolist() == [1]


def test_a_written_file_has_the_permissions_of_any_new_file(tmp_path):
    path = data.write_table(pd.DataFrame({"a": [1]}), tmp_path / "t.csv")
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_writing_where_a_file_stands_in_the_way_is_refused(tmp_path):
    write(tmp_path / "file", "")
    with pytest.raises(data.TableError, match="cannot write"):
        data.write_table(pd.DataFrame({"a": [1]}), tmp_path / "file" / "t.csv")


@pytest.mark.parametrize("word", ["", " ", "NA", "na", "NaN", "null", "None", "N/A"])
def test_words_for_missing_are_missing(word):
    frame = pd.DataFrame({"y": ["1", word]})
    values = data.numeric_column(frame, "y", allow_missing=True)
    assert values[0] == 1 and np.isnan(values[1])
    with pytest.raises(data.TableError, match="missing in 1 of 2 rows .first: row 2"):
        data.numeric_column(frame, "y")


@pytest.mark.parametrize("word", ["high", "1,5", "1_000", "0x10", "--", "?"])
def test_a_word_among_numbers_is_named_with_its_row(word):
    with pytest.raises(data.TableError, match="in row 2, which is not a number"):
        data.numeric_column(pd.DataFrame({"y": ["1", word]}), "y")


@pytest.mark.parametrize("entry", ["inf", "-Infinity", "1e999"])
def test_infinity_is_refused(entry):
    with pytest.raises(data.TableError, match="infinite in row 1"):
        data.numeric_column(pd.DataFrame({"y": [entry]}), "y")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1.0, None, 3.0]),
        pd.Series([1, None, 3], dtype=object),
        pd.Series(["1", None, "3"], dtype="string"),
    ],
    ids=["nullable", "float", "object", "string"],
)
def test_typed_columns_of_parquet_are_read_with_their_gaps(column):
    frame = pd.DataFrame({"y": column})
    np.testing.assert_array_equal(
        data.numeric_column(frame, "y", allow_missing=True), [1, np.nan, 3]
    )


def test_dates_are_not_numbers():
    frame = pd.DataFrame({"y": pd.to_datetime(["2020-01-01"])})
    with pytest.raises(data.TableError, match="not a number"):
        data.numeric_column(frame, "y")


def test_a_missing_column_gets_a_suggestion_and_a_list():
    frame = pd.DataFrame({"prediction": [1], "label": [2]})
    with pytest.raises(
        data.TableError, match="prediction, label.*did you mean 'prediction'"
    ):
        data.require_columns(frame, ["predictions"])
    unread = pd.DataFrame({"p;y": ["1;2"]})
    with pytest.raises(data.TableError, match="delimiter"):
        data.require_columns(unread, ["p"])
