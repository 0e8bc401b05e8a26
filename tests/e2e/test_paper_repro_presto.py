"""The rerun of the PRESTO studies: its parts by hand, a run cut short, the tables."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import data, ordinal
from paper_repro.presto import _chunks, _fits, _real, _report, _study, _summary, run

HERE = Path(run.__file__).parent
RESULT = json.loads((HERE / "result.json").read_text(encoding="utf-8"))
SIMULATED, TABLES = RESULT["simulation"], RESULT["real"]


def test_the_settings_are_those_of_the_published_table():
    published = _summary.expected()["simulation"]["settings"]
    assert [world.name for world in _study.WORLDS] == list(published)
    ridge = [name for name, row in published.items() if "PRESTO_L2" in row]
    assert [world.name for world in _study.WORLDS if world.ridge] == ridge


@pytest.mark.parametrize("share", [1 / 3, None])
def test_coefficients_are_drawn_as_described(share):
    def draw(key):
        dense = jnp.asarray(share is None)
        return _study.draw_coefficients(key, jnp.asarray(share or 0.0), dense, float)

    beta = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 2000)))
    assert beta.shape == (2000, 10, 3)
    psi = np.diff(beta, axis=2, prepend=0)
    count = psi[:, :, 0].size
    if share is None:
        assert np.abs(psi).max() <= 0.5 + 1e-6
        np.testing.assert_allclose(psi.mean(axis=(0, 1)), 0, atol=6 * 0.29 / count**0.5)
        spread = psi.std(axis=(0, 1))
        np.testing.assert_allclose(spread, 12**-0.5, rtol=6 / count**0.5)
        return
    sizes = np.round(np.abs(psi), 5)
    assert set(np.unique(sizes)) == {0.0, 0.5}
    # Six binomial standard errors, here and below.
    margin = 6 * 0.5 / count**0.5
    assert np.abs((sizes > 0).mean(axis=(0, 1)) - share).max() < margin
    assert psi[:, :, 0].min() >= 0
    signs = (psi[:, :, 1:] > 0).mean(axis=(0, 1))
    assert np.abs(signs - share / 2).max() < margin


@pytest.fixture(scope="module")
def drawn():
    """Two hundred replications' rows, of a setting that draws more than once."""
    world = _study.WORLDS[0]

    def one(key):
        intercepts = jnp.asarray(world.intercepts)
        share, dense = jnp.asarray(world.share), jnp.asarray(False)
        return _study.draw(key, intercepts, share, dense)

    keys = jax.random.split(jax.random.key(1), 200)
    found = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return [np.asarray(part) for part in found]


def test_rows_have_every_class_and_valid_probabilities(drawn):
    x, y, rare, draws = drawn
    assert x.shape == (200, 2500, 10) and np.abs(x).max() <= 1
    assert all(set(np.unique(row)) == {0, 1, 2, 3} for row in y)
    assert (rare > 0).all() and (rare < 1).all()
    assert draws.min() == 1 and draws.max() > 1
    # Classes are drawn with these probabilities.
    hits, expected = (y == 3).sum(), rare.sum()
    assert abs(hits - expected) < 6 * np.sqrt((rare * (1 - rare)).sum())


@pytest.fixture(scope="module")
def validated():
    """Features far from zero, classes, an order of the rows, and the public fits."""
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 1.0, (200, 2))
    y = np.digitize(x[:, 0] + rng.logistic(size=200), [3.0, 5.0])
    order = rng.permutation(200)
    folds = np.empty(200, int)
    folds[order] = np.repeat(np.arange(5), 40)
    with jax.enable_x64(True):
        public = ordinal.cross_validate(
            x, y, num_classes=3, folds=folds, num_regularizations=4, rtol=1e-8
        )
    return x, y, order, public


def test_both_intercepts_differ_by_the_centring_of_the_released_code(validated):
    x, y, _, public = validated
    with jax.enable_x64(True):
        path = _fits.presto_path(
            jnp.asarray(x),
            jnp.asarray(y, jnp.int32),
            public.regularizations,
            num_classes=3,
            relative=False,
            rtol=1e-8,
        )
        np.testing.assert_allclose(path.intercepts, public.path.intercepts, rtol=1e-5)
        beta = np.asarray(path.coefficients)
        np.testing.assert_allclose(np.cumsum(path.differences, axis=2), beta)
        # The first boundary's difference is its coefficient; there they agree.
        gap = np.asarray(path.returned - path.intercepts)
        np.testing.assert_allclose(gap[:, 0], 0, atol=1e-12)
        np.testing.assert_allclose(gap[:, 1], beta[:, :, 0] @ x.mean(axis=0))
        assert np.abs(gap[1:, 1]).min() > 0.5
        probs = ordinal.predict_proba(public.path.at(3), x, repair="none")
        features = jnp.asarray(x)
        rare = _fits.rare_from(path.intercepts, path.coefficients, features)
        np.testing.assert_allclose(rare[3], probs[:, -1], rtol=1e-5)
        score = _fits.brier(
            path.intercepts, path.coefficients, features, jnp.asarray(y)
        )
        expected = ((np.asarray(probs) - np.eye(3)[y]) ** 2).sum(axis=1).mean()
        np.testing.assert_allclose(score[3], expected, rtol=1e-5)


def test_scores_of_folds_are_those_of_the_public_cross_validation(validated):
    x, y, order, public = validated
    with jax.enable_x64(True):
        scores, status = _fits.fold_scores(
            jnp.asarray(x),
            jnp.asarray(y, jnp.int32),
            jnp.asarray(order),
            public.regularizations,
            num_folds=5,
            num_classes=3,
            rtol=1e-8,
        )
        np.testing.assert_allclose(scores[0], public.mean_scores, rtol=1e-5)
        assert int(status) == 0
        # Differences for coefficients, and the intercepts to go with them, do worse.
        assert scores[1, -1] > 1.05 * scores[0, -1]
    tied = jnp.array([[3.0, 1.0, 1.0], [jnp.nan, 2.0, 0.5]])
    assert _fits.largest_minimiser(tied).tolist() == [1, 2]


def test_the_metric_as_coded_pairs_sorted_bins_with_unsorted_predictions():
    rng = np.random.default_rng(2)
    probs = rng.random(45)
    events = (rng.random(45) < probs).astype(float)
    ordered = events[np.argsort(probs)]
    rates = np.concatenate(
        [np.full(len(part), part.mean()) for part in np.array_split(ordered, 10)]
    )
    coded = _real.metrics(jnp.asarray(probs), jnp.asarray(events))
    assert coded[0] == pytest.approx(np.mean((probs - rates) ** 2), rel=1e-5)
    right = np.mean((np.sort(probs) - rates) ** 2)
    assert coded[1] == pytest.approx(right, rel=1e-5)
    assert coded[0] > 2 * coded[1]
    # Where predictions come sorted, the slip does nothing.
    place = np.argsort(probs)
    same = _real.metrics(jnp.asarray(probs[place]), jnp.asarray(events[place]))
    assert same[0] == pytest.approx(float(same[1]), rel=1e-5)


def test_splits_hold_every_class_on_both_sides():
    y = np.repeat([0, 1, 2], [90, 7, 3])
    for number in range(20):
        train, test = _real.split(y, number)
        assert len(test) == 10
        assert sorted(np.concatenate([train, test])) == list(range(100))
        assert set(y[train]) == set(y[test]) == {0, 1, 2}
    again = _real.split(y, 19)
    np.testing.assert_array_equal(again[1], test)


def test_an_interval_of_the_median_covers_it():
    low, high = _summary.median_interval(np.arange(1.0, 701.0))
    # Binomial(700, 1/2): 2.5 % lie at 324 and below.
    assert (low, high) == (324.0, 377.0)
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(2000):
        low, high = _summary.median_interval(rng.exponential(size=25))
        hits += low <= np.log(2) <= high
    assert hits / 2000 > 0.95 - 6 * (0.05 * 0.95 / 2000) ** 0.5


def fake(world, numbers, **_):
    rng = np.random.default_rng(0)
    r = len(numbers)
    path = rng.uniform(1, 2, (r, 20))
    path[:, 0] = np.asarray(numbers) + 1
    out = {
        "logit": np.full(r, 4.0),
        "odds": np.full(r, 2.0),
        "rare_rows": np.full(r, 25),
        "draws": np.ones(r),
        "other_status": np.zeros((r, 2), int),
        "path": path,
        "path_returned": path + 1,
        "selected": np.zeros((r, 2), int),
        "crossing": np.zeros((r, 20), int),
        "status": np.zeros((r, 2), int),
    }
    if world.ridge:
        kept = ("path", "path_returned", "selected", "crossing", "status")
        out |= {f"ridge_{name}": out[name] for name in kept}
    return out


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    seen = []

    def draw(world, numbers):
        if len(seen) == 1:
            seen.append(None)
            raise KeyboardInterrupt
        seen.append(list(numbers))
        return fake(world, numbers)

    monkeypatch.setattr(_study, "replications", draw)
    monkeypatch.setattr(_study, "WORLDS", _study.WORLDS[:1])
    monkeypatch.setenv("JAXCUR_DATA", str(tmp_path))
    arguments = ["--out", str(tmp_path), "--replications", "60"]
    assert run.main(arguments) == 130
    assert "run it again to go on" in capsys.readouterr().out
    assert run.main(arguments) == 0
    # The last chunk has ten numbers to draw, filled up to one shape.
    assert seen == [
        list(range(25)),
        None,
        list(range(25, 50)),
        [*range(50, 60), *[59] * 15],
    ]
    assert "skipped: soup and prediabetes: there is no" in capsys.readouterr().out
    kept = _chunks.world_store(_study.WORLDS[0], tmp_path / "state").arrays(60)
    np.testing.assert_array_equal(kept["path"][:, 0], np.arange(1, 61))
    result = json.loads((tmp_path / "result.json").read_text())
    found = result["simulation"][_study.WORLDS[0].name]
    assert found["replications"] == 60 and "real" not in result
    assert found["errors"]["PRESTO"]["median"] == 30.5
    assert found["ratios"]["PRESTO as published/PO"]["median"] == 31.5 / 2
    assert (tmp_path / "figures" / "ratios.png").stat().st_size > 10_000


def test_the_committed_ratios_are_those_published():
    rows = RESULT["comparison"]
    assert len(rows) == 44
    assert all(row["held"] for row in rows)
    for row in rows:
        gap = row["ours"] - row["published"]
        tuned_alike = row["ratio"].startswith("PRESTO as published")
        assert (abs(gap) if tuned_alike else gap) <= 0.06
    for name, summary in SIMULATED.items():
        assert summary["replications"] == 700
        published = _summary.expected()["simulation"]["settings"][name]
        assert abs(summary["rare_percent"] / published["rare_percent"] - 1) < 0.06
        median = {m: s["median"] for m, s in summary["errors"].items()}
        assert median["PRESTO best"] < min(median["PRESTO"], median["Logit"])


def test_the_committed_real_figures_bear_what_is_said():
    published = _summary.expected()["prediabetes"]
    for cutoff in _real.CUTOFFS:
        metrics = TABLES[f"prediabetes {cutoff}"]["metrics"]
        # What the released code computes is what was published ...
        for method in ("Logit", "PO"):
            ours = metrics[method]["as coded"]["mean"]
            assert ours == pytest.approx(published[method][str(cutoff)], rel=0.1)
        # ... and the advantage is that of predictions that hardly vary.
        same = metrics["PRESTO as published"]
        assert same["as coded"]["mean"] < metrics["Logit"]["as coded"]["mean"] * 1.1
        assert same["Brier"]["mean"] > 3 * metrics["Logit"]["Brier"]["mean"]
        brier = [metrics[m]["Brier"]["mean"] for m in ("PRESTO", "Logit", "PO")]
        assert max(brier) - min(brier) < 0.0015


def test_the_committed_tables_are_those_of_the_results(tmp_path):
    rows = [r for n, found in SIMULATED.items() for r in _summary.compare(n, found)]
    assert rows == RESULT["comparison"]
    _report.write_simulation(tmp_path, SIMULATED, rows)
    _report.write_real(tmp_path, TABLES)
    names = sorted(path.name for path in tmp_path.iterdir())
    expected = ["errors.csv", "ratios.csv", "real.csv", "real.md", "simulation.md"]
    assert names == expected
    for name in names:
        committed = (HERE / "tables" / name).read_text(encoding="utf-8")
        assert (tmp_path / name).read_text(encoding="utf-8") == committed


@pytest.mark.slow
def test_a_few_replications_agree_with_the_committed_table():
    world = _study.WORLDS[7]
    found = _study.replications(world, range(10_000, 10_040))
    again = _study.replications(world, range(10_039, 9_999, -1))
    for name, value in found.items():
        np.testing.assert_array_equal(value, again[name][::-1])
    errors = _summary.errors(found)
    for method, committed in SIMULATED[world.name]["errors"].items():
        below = (errors[method] < committed["median"]).sum()
        # Binomial(40, 1/2) outside 5..35 once in a million times.
        assert 5 <= below <= 35, method


@pytest.mark.slow
def test_splits_can_be_run_where_the_data_are():
    try:
        tables = _real.tables()
    except data.DownloadError as error:
        pytest.skip(str(error))
    found = _real.splits(tables[8], range(3))["metrics"].mean(axis=0)
    committed = TABLES["prediabetes 65"]["metrics"]
    for i, method in enumerate(_real.METHODS):
        figure = committed[method]["plain"]
        assert abs(found[i, 1] / figure["mean"] - 1) < 0.6, method
