"""The demo: a report that stands on its own, and statements that its numbers bear."""

import csv
import html.parser
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcur.cli import demo, main
from jaxcur.cli.demo.chapters import _labels_study as labels
from jaxcur.cli.demo.chapters import _many_models_study as many
from jaxcur.cli.demo.chapters import _patients_study as study
from jaxcur.cli.demo.chapters._rates import mean_interval

ROOT = Path(__file__).resolve().parents[2]


class Page(html.parser.HTMLParser):
    """Collects tags, and fails when they do not close in order."""

    VOID = ("meta", "img", "br", "link", "hr")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The quick demo, run once: folder and parsed page.

    In a process of its own, whose programs are compiled as those of a user: what takes
    time there is their run.
    """
    out = tmp_path_factory.mktemp("demo") / "report"
    command = [sys.executable, "-m", "jaxcur.cli", "demo", "--quick", "--out", str(out)]
    settings = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    path = os.pathsep.join([str(ROOT), settings.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        env=settings | {"PYTHONPATH": path.rstrip(os.pathsep)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out, Page((out / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def patients():
    keys = jax.random.split(jax.random.key(11), 1_000)
    return study.study(keys, study.load())


@pytest.fixture(scope="module")
def many_models():
    return many.study(jax.random.split(jax.random.key(11), 1_000), study.load())


@pytest.fixture(scope="module")
def label_studies():
    return labels.study(jax.random.split(jax.random.key(11), 600), labels.load())


def test_the_report_needs_nothing_outside_itself(report):
    out, page = report
    text = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)
    assert all(a["src"].startswith("data:image/png;base64,") for a in page.all("img"))
    assert all(a["href"].startswith("#") for a in page.all("a"))
    targets = {attrs.get("id") for _, attrs in page.tags}
    assert all(a["href"][1:] in targets for a in page.all("a"))


def test_the_report_is_readable_on_a_phone_and_by_a_screen_reader(report):
    _, page = report
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str(page.all("meta"))
    pictures = page.all("img")
    assert pictures and all(len(image["alt"]) > 40 for image in pictures)
    assert len(page.all("figcaption")) == len(pictures)
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert all(head["scope"] in ("col", "row") for head in page.all("th"))
    assert len(page.all("h1")) == 1
    assert len(page.all("section")) == len(demo.CHAPTERS) == len(page.all("h2"))


def test_every_table_is_a_csv_and_every_picture_a_png(report):
    out, page = report
    tables = sorted(out.glob("*.csv"))
    assert len(tables) == len(page.all("table"))
    for path in tables:
        with path.open(newline="") as stream:
            rows = list(csv.reader(stream))
        assert len(rows) > 1 and len({len(row) for row in rows}) == 1
    pictures = sorted(out.glob("*.png"))
    assert len(pictures) == len(page.all("img"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)


def test_no_number_of_the_report_is_missing(report):
    _, page = report
    words = " ".join(page.words)
    assert not re.search(r"\b(nan|inf|None)\b", words)
    assert "exactly the rows" in words and "NOT the rows" not in words


def test_the_findings_are_printed(tmp_path, capsys, monkeypatch):
    drawn = []
    chapter = demo.Chapter(
        name="tiny",
        title="A title",
        question="Why?",
        setup=("Because <b> & so on.",),
        findings=("first finding",),
        conclusion="an end",
        code="x < 1",
    )
    monkeypatch.setattr(demo, "CHAPTERS", ("tiny",))
    monkeypatch.setattr(
        demo,
        "run_chapter",
        lambda name, *, quick, seed: drawn.append((name, quick, seed)) or chapter,
    )
    assert main(["demo", "--out", str(tmp_path), "--seed", "4"]) == 0
    assert drawn == [("tiny", False, 4)]
    printed = capsys.readouterr().out
    assert "A title" in printed and "first finding" in printed
    assert str(tmp_path / "report.html") in printed
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Because &lt;b&gt; &amp; so on." in text and "x &lt; 1" in text


def test_bad_options_are_one_line_and_exit_code_two(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for words, part in (
        (["--only", "nonsense"], "there are: patients, many_models"),
        (["--out", str(tmp_path / "file")], "cannot make the folder"),
        (["--seed", "-1"], "--seed"),
    ):
        assert main(["demo", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and part in error


def test_chapter_parts_refuse_what_a_report_cannot_show():
    import pandas as pd

    frame = pd.DataFrame({"a": [1]})
    with pytest.raises(ValueError, match="lower-case"):
        demo.Table("../up", "caption", frame)
    with pytest.raises(ValueError, match="not there"):
        demo.Table("t", "caption", frame, display={"b": "{}"})
    with pytest.raises(ValueError, match="in words"):
        demo.Picture("p", "caption", " ", figure=None)


def test_conformal_selection_keeps_its_level_and_the_naive_cut_does_not(patients):
    # Six standard errors: a mean over 1000 splits strays further once in 1e9 runs.
    for level in study.LEVELS:
        share = patients["conformal", level].false_share
        assert share.mean() <= level + 6 * share.std() / len(share) ** 0.5
    naive = patients["naive", None].false_share
    assert naive.mean() - 6 * naive.std() / len(naive) ** 0.5 > 0.2


def test_the_selection_is_not_empty_talk(patients):
    assert patients["conformal", 0.1].found_share.mean() > 0.2
    assert patients["conformal", 0.3].found_share.mean() > 0.7
    useless = patients["conformal, useless model", 0.1]
    assert useless.false_share.mean() <= 0.1
    assert useless.found_share.mean() < 0.05


def test_few_calibration_rows_break_the_tuned_cut_only(patients):
    for size in study.CALIBRATION_SIZES:
        ours = patients["conformal", size].false_share
        assert ours.mean() <= 0.1 + 6 * ours.std() / len(ours) ** 0.5
    tuned = patients["tuned", 20].false_share
    assert tuned.mean() - 3 * tuned.std() / len(tuned) ** 0.5 > 0.1


def test_the_tuned_cut_is_the_lowest_that_looks_right():
    split = study.Split(
        calibration_predictions=np.array([3.0, 1.0, 2.0, 4.0]),
        calibration_labels=np.array([200.0, 0.0, 100.0, 150.0]),
        predictions=np.zeros(1),
        labels=np.zeros(1),
    )
    assert float(study.tuned_cut(split, 0.1)) == 3.0
    assert float(study.tuned_cut(split, 0.4)) == 2.0
    assert float(study.tuned_cut(split, 0.5)) == 1.0
    never = split._replace(calibration_labels=np.zeros(4))
    assert float(study.tuned_cut(never, 0.1)) == np.inf


def test_every_valid_choice_of_a_model_keeps_the_level_and_the_naive_one_does_not(
    many_models,
):
    for (rule, place), found in many_models.items():
        level = place if isinstance(place, float) else many.LEVEL
        share = found.false_share
        error = share.std() / len(share) ** 0.5
        if rule != "naive":
            assert share.mean() <= level + 6 * error
        elif place in (0.1, 0.2, 10, 20):
            assert share.mean() - 6 * error > 1.2 * level


def test_optcs_finds_more_than_other_valid_choices_at_the_level_of_the_report(
    many_models,
):
    ours = many_models["optcs", many.LEVEL].found_share
    for rule in ("one model", "likeliest model", "half"):
        gap = ours - many_models[rule, many.LEVEL].found_share
        assert gap.mean() - 6 * gap.std() / len(gap) ** 0.5 > 0.02


def test_fewer_models_are_the_first_models(many_models):
    # Two ways to the same selections: all models or one model at the same level.
    for rule in ("naive", "optcs"):
        for count, same in ((many.NUM_MODELS, rule), (1, "one model")):
            for part, other in zip(
                many_models[rule, count], many_models[same, many.LEVEL], strict=True
            ):
                np.testing.assert_array_equal(part, other)


def test_pruning_without_a_draw_keeps_no_more(many_models):
    for level in many.LEVELS:
        drawn = many_models["optcs", level].num_selected
        fixed = many_models["optcs, deterministic", level].num_selected
        assert (fixed <= drawn).all() and (fixed < drawn).any()


def test_a_split_deals_every_patient_once_and_every_model_its_own_share():
    deal = many._deal(jax.random.key(5), 442, 10)
    assert sorted(deal.order.tolist()) == list(range(442))
    assert deal.rows.shape == (20, 30) and deal.columns.shape == (20, 3)
    for rows, columns in zip(deal.rows.tolist(), deal.columns.tolist(), strict=True):
        assert len(set(rows)) == 30 and max(rows) < 142
        assert len(set(columns)) == 3 and max(columns) < 10
    assert len({tuple(rows) for rows in deal.rows.tolist()}) == 20
    assert 0 < float(deal.xi) <= 1


def test_machine_labels_are_surely_wrong_and_debiased_ones_are_not(label_studies):
    covered = label_studies.covered[:, :, 1:].mean(axis=0)
    machine, gold, debiased = covered
    assert (machine < 0.4).all()
    # Four standard errors of 600 studies, and what 300 gold labels may fall short of.
    slack = 4 * (0.95 * 0.05 / 600) ** 0.5
    for kept in (gold, debiased):
        assert (kept > 0.94 - slack).all() and (kept < 0.95 + slack).all()
    width = label_studies.width[:, :, 1:].mean(axis=0)
    assert (width[0] < 0.5 * width[2]).all()
    assert (width[2] < 0.9 * width[1]).all()


def test_the_machine_is_mostly_right_and_leans_on_body_mass():
    population = labels.load()
    assert 0.85 < population.accuracy < 0.9
    X, y = np.asarray(population.X, float), np.asarray(population.y, float)
    mistake = np.asarray(population.mistake)
    heavy = X[:, labels.COEFFICIENTS.index("body mass")] > 0
    still = y == 0
    assert mistake[heavy & still].mean() > 2 * mistake[~heavy & still].mean()
    assert mistake[~heavy & ~still].mean() > 2 * mistake[heavy & ~still].mean()
    # The truth solves the equations of the regression over all patients.
    score = X.T @ (y - 1 / (1 + np.exp(-(X @ np.asarray(population.truth)))))
    np.testing.assert_allclose(score / len(y), 0, atol=1e-6)


def test_the_three_regressions_are_what_they_are_called(label_studies):
    linear_model = pytest.importorskip("sklearn.linear_model")
    one = labels.draw(jax.random.split(jax.random.key(11), 600)[0], labels.load())
    first = np.asarray(one.labeled)
    assert first.sum() == labels.NUM_GOLD and first[: labels.NUM_GOLD].all()
    for rule, rows, target in (
        (0, np.ones(len(first), bool), one.machine),
        (1, first, one.y),
    ):
        plain = linear_model.LogisticRegression(
            C=np.inf, fit_intercept=False, tol=1e-8, max_iter=1000
        ).fit(np.asarray(one.X)[rows], np.asarray(target)[rows])
        # Two optimisers, one of them in float32.
        np.testing.assert_allclose(
            label_studies.estimate[0, rule], plain.coef_[0], atol=1e-3
        )


def test_a_mean_comes_with_its_normal_interval():
    interval = mean_interval(np.array([0.0, 1.0] * 50))
    assert interval.mean == 0.5
    half = 1.96 * (0.25 * 100 / 99) ** 0.5 / 10
    np.testing.assert_allclose(interval.upper - interval.mean, half, rtol=1e-12)
    np.testing.assert_allclose(interval.mean - interval.lower, half, rtol=1e-12)


def test_the_example_prints_what_a_reader_can_check(capsys):
    path = ROOT / "examples" / "select_patients.py"
    assert len(path.read_text().splitlines()) <= 100
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    wrong = [float(x) for x in re.findall(r"([\d.]+)% \+- ", printed)]
    assert len(wrong) == 2 and wrong[0] < 10 < 20 < wrong[1]
