"""Soup and prediabetes: from a folder, and with one line when something is wrong."""

import hashlib

import numpy as np
import pytest

from jaxcur import data
from jaxcur.data import DownloadError, TableError

SOUP_HEADER = (
    "RESP,PROD,PRODID,SURENESS,DAY,SOUPTYPE,SOUPFREQ,COLD,EASY,GENDER,AGEGROUP,"
    "LOCATION\n"
)
SOUP_ROWS = (
    "1,Ref,1,6,1,Self-made,>1/week,No,1,Male,18-30,Region 1\n"
    '2,"Test",2,1,"2",Dry-mix,1-4/month,Yes,10,Female,41-50,Region 3\n'
)
AGE_HEADER = (
    "Age,Sex,IMD_Decile,BMI,Age_PreDiabetes,HbA1C,Time_Pre_To_Diabetes,Age_Diabetes\n"
)
AGE_ROWS = "61,0,7,51.67,58,44,3.36,61\n41,1,2,38.39,36,42,2.04,38\n"
LOADERS = {
    "soup.csv": (data.load_soup, SOUP_HEADER + SOUP_ROWS, "ordinal"),
    "prediabetes.csv": (data.load_prediabetes, AGE_HEADER + AGE_ROWS, "MLDataR"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXCUR_DATA", str(tmp_path))
    return tmp_path


def test_soups_have_a_column_for_every_level_but_the_first(folder):
    (folder / "soup.csv").write_text(SOUP_HEADER + SOUP_ROWS)
    soup = data.load_soup()
    np.testing.assert_array_equal(soup.sureness, [6, 1])
    np.testing.assert_array_equal(soup.respondent, [1, 2])
    assert soup.features.shape == (2, 22) and len(set(soup.feature_names)) == 22
    assert not soup.features[0].any()
    on = [name for name, x in zip(soup.feature_names, soup.features[1]) if x]
    assert on == [
        "PROD Test",
        "DAY 2",
        "SOUPTYPE Dry-mix",
        "SOUPFREQ 1-4/month",
        "COLD Yes",
        "EASY 10",
        "GENDER Female",
        "AGEGROUP 41-50",
        "LOCATION Region 3",
    ]


def test_patients_are_classed_by_ages_strictly_below_the_cutoff(folder):
    (folder / "prediabetes.csv").write_text(AGE_HEADER + AGE_ROWS)
    patients = data.load_prediabetes()
    np.testing.assert_array_equal(patients.features[0], [61, 0, 7, 51.67, 44])
    assert patients.feature_names == ("Age", "Sex", "IMD_Decile", "BMI", "HbA1C")
    for cutoff, classes in ((36, [0, 0]), (37, [0, 1]), (38, [0, 1]), (39, [0, 2])):
        np.testing.assert_array_equal(patients.classes(cutoff), classes)
    np.testing.assert_array_equal(patients.classes(61), [1, 2])
    with pytest.raises(ValueError, match="`cutoff` must be a positive age"):
        patients.classes(float("nan"))


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_file_comes_with_the_command_that_makes_it(folder, name):
    load, _, package = LOADERS[name]
    with pytest.raises(DownloadError, match=rf"Rscript -e .*{name}") as caught:
        load()
    assert "\n" not in str(caught.value)
    assert f'package = "{package}"' in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_a_recorded_checksum_is_enforced(folder, name):
    load, text, _ = LOADERS[name]
    path = folder / name
    path.write_text(text)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  {name}\n")
    assert len(load().features) == 2
    path.write_text(text + text.partition("\n")[2])
    with pytest.raises(DownloadError, match="has SHA-256"):
        load()


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("soup.csv", SOUP_HEADER, "has no rows"),
        (
            "soup.csv",
            SOUP_HEADER.replace("COLD", "HOT") + SOUP_ROWS,
            "no column 'COLD'",
        ),
        (
            "soup.csv",
            SOUP_HEADER + SOUP_ROWS.replace("2,1,", "2,7,", 1),
            "must hold 1 to 6",
        ),
        (
            "soup.csv",
            SOUP_HEADER + SOUP_ROWS.replace("Dry-mix", "Cold"),
            "'SOUPTYPE' .* holds 'Cold' in row 2; it must hold Self-made, Canned",
        ),
        ("prediabetes.csv", AGE_HEADER, "has no rows"),
        ("prediabetes.csv", AGE_HEADER + AGE_ROWS.replace("51.67", ""), "'BMI'"),
        ("prediabetes.csv", AGE_HEADER + AGE_ROWS.replace("58", "old"), "'old'"),
    ],
)
def test_another_table_is_one_line(folder, name, text, part):
    (folder / name).write_text(text)
    with pytest.raises(TableError, match=part) as caught:
        LOADERS[name][0]()
    assert "\n" not in str(caught.value)
