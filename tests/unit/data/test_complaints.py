"""Complaints: from a folder, never from the network, and with one line when wrong."""

import hashlib

import numpy as np
import pytest

from jaxcur import data
from jaxcur.data import DownloadError, TableError

HEADER = (
    "countyWrong,pred_countyWrong,SendOrNot,prefecWrong,connect2b,prevalence,"
    "regionj,groupIssue\n"
)
ROWS = "1,0,1,0,0,1,0,1\n,1,0,1,0,0,0,1\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCUR_DATA", str(tmp_path))
    return tmp_path


def test_the_columns_go_where_they_belong(folder):
    (folder / "PanChen.csv").write_text(HEADER + ROWS)
    found = data.load_complaints()
    np.testing.assert_array_equal(found.accuses, [1, np.nan])
    np.testing.assert_array_equal(found.labeled, [True, False])
    np.testing.assert_array_equal(found.accuses_predicted, [0, 1])
    np.testing.assert_array_equal(found.reported, [1, 0])
    np.testing.assert_array_equal(found.covariates, [[0, 0, 1, 0, 1], [1, 0, 0, 0, 1]])
    assert found.covariate_names[0] == "prefecWrong"


def test_a_missing_file_comes_with_the_command_that_makes_it(folder):
    with pytest.raises(DownloadError, match=r"Rscript -e .*write\.csv") as caught:
        data.load_complaints()
    assert "\n" not in str(caught.value)


def test_a_recorded_checksum_is_enforced(folder):
    path = folder / "PanChen.csv"
    path.write_text(HEADER + ROWS)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  PanChen.csv\n")
    assert len(data.load_complaints().reported) == 2
    path.write_text(HEADER + ROWS + ROWS)
    with pytest.raises(DownloadError, match="has SHA-256"):
        data.load_complaints()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (HEADER.replace("regionj", "region"), "there is no column 'regionj'"),
        (HEADER + "2,0,1,0,0,1,0,1\n", "'countyWrong' of .* must hold 0 and 1"),
        (HEADER + ",0,1,0,0,1,0,1\n" * 2, "no complaint with an expert's label"),
        (HEADER + "1,,1,0,0,1,0,1\n" + ROWS, "'pred_countyWrong'"),
    ],
)
def test_another_table_is_one_line(folder, text, part):
    (folder / "PanChen.csv").write_text(text + (ROWS if "region," in text else ""))
    with pytest.raises(TableError, match=part):
        data.load_complaints()
