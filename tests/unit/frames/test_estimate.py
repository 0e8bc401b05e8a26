"""Formulas on data frames: which numbers reach the estimators, and what comes back."""

import dataclasses
import warnings

import jax
import numpy as np
import pandas as pd
import pytest

from jaxcur import debiased, frames, learners
from jaxcur.data import TableError
from jaxcur.frames import _design, _formula, _rows
from tests.helpers import assert_close

N = 240


def make_table(seed=0):
    """Outcome and covariate with gold labels in about a quarter of the rows."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, N))
    pi = np.where(z > 0, 0.3, 0.2)
    y = 1 + 2 * x - z + rng.normal(size=N)
    labeled = rng.random(N) < pi
    return pd.DataFrame(
        {
            "x": x,
            "z": z,
            "pi": pi,
            "y": np.where(labeled, y, np.nan),
            "y_llm": 0.7 * y + 0.5 + 0.5 * rng.normal(size=N),
            "x_gold": np.where(labeled, x, np.nan),
            "x_llm": x + 0.3 * rng.normal(size=N),
            "unit": np.arange(N) // 8,
            "time": [f"t{i % 8}" for i in range(N)],
            "fold": np.arange(N) % 3,
        }
    )


@pytest.fixture(scope="module")
def table():
    return make_table()


def fit(table, formula="y ~ x + z", **options):
    options = {"predicted": {"y": "y_llm"}, "sampling_prob": "pi"} | options
    return frames.estimate(formula, table, **options)


def read(table, formula="y ~ x + z", model="ols", **options):
    """The rows of an analysis."""
    names = {field.name: None for field in dataclasses.fields(_rows.Request)}
    names |= {"clusters": [], "fixed_effects": [], "features": []}
    names |= {"na": "error", "labels": "error"} | options
    parsed = _formula.parse(formula, model, list(table.columns))
    return _rows.read_rows(table, parsed, _rows.Request(**names))


def design_of(formula, table, predicted, model="ols", **options):
    """The matrices of an analysis, without fitting."""
    rows = read(table, formula, model, predicted=predicted)
    return _design.build(
        _formula.parse(formula, model, list(table.columns)),
        model,
        rows.observed,
        rows.predicted,
        rows.labeled,
        list(predicted),
        **options,
    )


def by_arrays(table, **options):
    """The same debiased fit without a formula, in float64."""
    X = np.stack([np.ones(N), table.x, table.z], axis=1)
    shared = {
        "y_predicted": table.y_llm.to_numpy(),
        "labeled": table.y.notna().to_numpy(),
        "sampling_prob": table.pi.to_numpy(),
    }
    with jax.enable_x64(True):
        result = debiased.ols(X, table.y.to_numpy(), **(shared | options))
        return jax.tree.map(np.asarray, result), np.asarray(result.conf_int())


@pytest.fixture
def recorded(monkeypatch, table):
    """Options of the calls of `debiased.ols`, which answer without computing."""
    calls = []
    answer, _ = by_arrays(table)

    def ols(X, y, **options):
        calls.append(options)
        return answer

    monkeypatch.setattr(debiased, "ols", ols)
    return calls


def white(X, y, weights=None):
    """Least squares and its HC0 standard errors."""
    y = np.asarray(y)
    weights = np.ones(len(y)) if weights is None else weights
    bread = np.linalg.inv((X * weights[:, None]).T @ X)
    estimate = bread @ (X.T @ (weights * y))
    score = X * (weights * (y - X @ estimate))[:, None]
    return estimate, np.sqrt(np.diag(bread @ score.T @ score @ bread))


# The three fits.


def test_the_three_fits_are_those_of_arrays(table):
    result = fit(table)
    long = result.to_frame().set_index(["fit", "term"])
    X = np.stack([np.ones(N), table.x, table.z], axis=1)
    labeled = table.y.notna().to_numpy()
    expected, interval = by_arrays(table)
    own = long.loc["debiased"]
    assert list(own.index) == ["Intercept", "x", "z"]
    assert_close(own.estimate.to_numpy(), expected.estimate, rtol=1e-12)
    error = np.sqrt(np.diag(expected.covariance))
    assert_close(own.std_error.to_numpy(), error, rtol=1e-12)
    assert_close(own[["lower", "upper"]].to_numpy(), interval, rtol=1e-12)

    some = table[labeled]
    for name, (estimate, error) in {
        "surrogate_only": white(X, table.y_llm),
        "gold_only": white(X[labeled], some.y, 1 / some.pi.to_numpy()),
    }.items():
        assert_close(long.loc[name].estimate.to_numpy(), estimate, rtol=1e-10)
        assert_close(long.loc[name].std_error.to_numpy(), error, rtol=1e-10)
    assert (result.num_rows, result.num_labeled) == (N, labeled.sum())
    assert result.notes == {} and result.warnings == ()


def test_the_design_reaches_the_estimator(table, recorded):
    labeled = table.y.notna().to_numpy()
    result = fit(table, sampling_prob=None, small_sample="hc1")
    assert "simple random sample" in result.summary()
    debiased_fit, gold, surrogate = recorded
    assert not {"sampling_prob", "design", "power_tuning"} & set(debiased_fit)
    assert gold["power_tuning"] == 0
    assert surrogate["sampling_prob"] == 1 and surrogate["labeled"].all()
    assert "y_predicted" not in surrogate
    assert all(call["small_sample"] == "hc1" for call in recorded)

    recorded.clear()
    frame = table.assign(w=1.0 + table.fold)
    result = fit(
        frame,
        sampling_prob=None,
        strata="fold",
        clusters=["unit", "time"],
        weights="w",
        power_tuning="scalar",
    )
    assert "simple random samples in 3 strata (column fold)" in result.summary()
    debiased_fit, gold, surrogate = recorded
    assert debiased_fit["power_tuning"] == "scalar"
    for call in (debiased_fit, gold):
        np.testing.assert_array_equal(call["strata"], table.fold)
        np.testing.assert_array_equal(call["labeled"], labeled)
    assert "strata" not in surrogate
    for call in recorded:
        np.testing.assert_array_equal(call["weights"], frame.w)
        np.testing.assert_array_equal(call["clusters"][:, 0], table.unit)
        np.testing.assert_array_equal(call["clusters"][:, 1], np.arange(N) % 8)

    recorded.clear()
    assert "with probability 0.25\n" in fit(table, sampling_prob=0.25).summary()
    assert all(call["sampling_prob"] == 0.25 for call in recorded)


def test_fixed_effects_agree_with_dummies(table):
    result = fit(table, "y ~ x + z", fixed_effects=["unit", "time"])
    assert result.terms == ("x", "z") and result.tuning == "none"
    some = table[table.y.notna()]
    dummies = pd.get_dummies(some[["unit", "time"]].astype(str), dtype=float)
    X = np.column_stack([some[["x", "z"]], dummies])
    root = np.sqrt(1 / some.pi.to_numpy())
    estimate = np.linalg.lstsq(X * root[:, None], some.y * root, rcond=None)[0][:2]
    assert_close(result.compare().gold_only.to_numpy(), estimate, rtol=1e-6)
    with jax.enable_x64(True):
        groups = np.stack([table.unit, pd.factorize(table.time)[0]], axis=1)
        expected = debiased.fixed_effects(
            table[["x", "z"]].to_numpy(),
            table.y.to_numpy(),
            groups,
            y_predicted=table.y_llm.to_numpy(),
            labeled=table.y.notna().to_numpy(),
            sampling_prob=table.pi.to_numpy(),
        )
    assert_close(result.compare().debiased.to_numpy(), expected.estimate, rtol=1e-9)


def test_cross_fitting_predicts_again_and_combines_splits(table):
    ridge = learners.Ridge(1e-3)
    result = fit(table, learner=ridge, features="x", num_splits=2, key=3)
    labeled = table.y.notna().to_numpy()
    features = table[["y_llm", "x"]].to_numpy()
    features = (features - features.mean(0)) / features.std(0)
    X = np.stack([np.ones(N), table.x, table.z], axis=1)
    shared = dict(labeled=labeled, sampling_prob=table.pi.to_numpy())
    with jax.enable_x64(True):
        found = debiased.cross_fit(
            ridge, features, table.y.to_numpy(), num_splits=2, key=jax.random.key(3),
            **shared,
        )  # fmt: skip
        fits = [
            debiased.ols(X, table.y.to_numpy(), y_predicted=guess, **shared)
            for guess in np.asarray(found)
        ]
        estimate, covariance = debiased.aggregate_splits(
            np.stack([f.estimate for f in fits]), np.stack([f.covariance for f in fits])
        )
    assert_close(result.compare().debiased.to_numpy(), estimate, rtol=1e-9)
    assert_close(
        result.compare().debiased_std_error.to_numpy(),
        np.sqrt(np.diag(np.asarray(covariance))),
        rtol=1e-9,
    )
    # The fit beside it takes the predictions of the table, not new ones.
    raw = white(X, table.y_llm)[0]
    assert_close(result.compare().surrogate_only.to_numpy(), raw, rtol=1e-10)


def test_categories_of_an_outcome_have_shares_that_add_to_one(table):
    topics = np.array(["art", "law", "none"])
    guess = topics[np.digitize(table.y_llm, [0, 2])]
    gold = np.where(table.y.notna(), topics[np.digitize(table.y.fillna(0), [0, 2])], "")
    result = fit(
        table.assign(topic=gold, topic_llm=guess),
        "topic",
        model="mean",
        predicted={"topic": "topic_llm"},
        power_tuning=None,
    )
    assert result.terms == ("topic[art]", "topic[law]", "topic[none]")
    assert_close(result.compare().debiased.sum(), 1.0, rtol=1e-12)
    assert_close(
        result.compare().surrogate_only,
        [(guess == t).mean() for t in topics],
        rtol=1e-12,
    )


def test_results_are_in_the_precision_of_the_session(table):
    result = fit(table)
    assert result.debiased.estimate.dtype == np.float32
    assert result.debiased.conf_int().shape == (3, 2)
    with jax.enable_x64(True):
        assert result.debiased.estimate.dtype == np.float64


# Matrices.


def test_transformations_are_computed_from_predictions(table):
    design = design_of(
        "y ~ x_gold + I(x_gold**2) + x_gold:z", table, {"x_gold": "x_llm", "y": "y_llm"}
    )
    labeled = table.y.notna().to_numpy()
    for sides, x in ((design.predicted, table.x_llm), (design.observed, table.x)):
        rows = labeled if sides is design.observed else np.ones(N, bool)
        expected = np.stack([np.ones(N), x, x**2, x * table.z], axis=1)
        np.testing.assert_allclose(sides.X[rows], expected[rows], rtol=1e-15)
    # Unlabelled rows hold something finite in place of a label.
    assert np.isfinite(design.observed.X).all() and np.isfinite(design.observed.y).all()
    assert design.predicts_X and design.predicts_y


def test_categories_are_coded_alike_in_both_versions(table):
    labeled = table.y.notna().to_numpy()
    party = np.array(["left", "right", "left"])[table.fold]
    gold = np.where(labeled, np.array(["left", "right", "other"])[table.fold], None)
    design = design_of(
        "y ~ party",
        table.assign(party=gold, party_llm=party),
        {"party": "party_llm", "y": "y_llm"},
    )
    # "other" occurs in gold labels only and needs a column all the same.
    assert design.covariates == ("Intercept", "party[T.other]", "party[T.right]")
    seen = design.observed.X[labeled]
    np.testing.assert_array_equal(seen[:, 1], table.fold[labeled] == 2)
    np.testing.assert_array_equal(seen[:, 2], table.fold[labeled] == 1)
    assert (design.predicted.X[:, 1] == 0).all()


def test_centres_are_learnt_from_predictions_and_applied_to_labels(table):
    design = design_of("z ~ center(x_gold)", table, {"x_gold": "x_llm"})
    labeled = table.y.notna().to_numpy()
    np.testing.assert_allclose(
        design.observed.X[labeled, 1], (table.x - table.x_llm.mean())[labeled]
    )
    assert not design.predicts_y


def test_numbers_may_be_categories_when_the_formula_says_so(table):
    design = design_of("y ~ C(fold)", table, {"y": "y_llm"})
    assert design.covariates == ("Intercept", "C(fold)[T.1]", "C(fold)[T.2]")


def test_numbers_written_as_text_are_numbers(table):
    text = table.assign(x=table.x.map(repr), z=table.z.gt(0).map(str))
    design = design_of("y ~ x + z", text, {"y": "y_llm"})
    np.testing.assert_array_equal(design.predicted.X[:, 1], table.x)
    np.testing.assert_array_equal(design.predicted.X[:, 2], table.z > 0)


@pytest.mark.parametrize(
    ("model", "terms"),
    [
        ("multinomial", ("low: Intercept", "low: x", "mid: Intercept", "mid: x")),
        ("ordered", ("x", "low|mid", "mid|high")),
    ],
)
def test_classes_are_numbered_in_the_order_given(table, model, terms):
    levels = np.array(["low", "mid", "high"])
    frame = table.assign(
        grade=np.where(table.y.notna(), levels[table.fold], None),
        grade_llm=levels[table.fold],
    )
    design = design_of(
        "grade ~ x",
        frame,
        {"grade": "grade_llm"},
        model,
        classes=["low", "mid", "high"],
    )
    assert design.terms == terms and design.classes == ("low", "mid", "high")
    np.testing.assert_array_equal(design.predicted.y, table.fold)
    np.testing.assert_array_equal(design.observed.y, table.fold)


# Rows.


def test_a_row_needs_the_gold_labels_of_all_predicted_variables(table):
    frame = table.copy()
    first = frame.index[frame.y.notna()][:3]
    frame.loc[first, "x_gold"] = np.nan
    pairs = {"y": "y_llm", "x_gold": "x_llm"}
    rows = read(frame, "y ~ x_gold + z", predicted=pairs)
    assert rows.labeled.sum() == table.y.notna().sum() - 3
    assert rows.num_partial == 3
    # The label that is there is not used either.
    assert (rows.observed.y[first] == table.y_llm[first]).all()
    result = dataclasses.replace(fit(table), num_partial=3)
    assert "partly labelled      3 rows" in result.summary()


def test_incomplete_rows_are_an_error_or_are_dropped_and_counted(table):
    frame = table.copy()
    frame.loc[[4, 9], "z"] = np.nan
    frame.loc[7, "pi"] = np.nan
    with pytest.raises(TableError, match=r"'z' is missing in 2 of 240 .*first: row 5"):
        fit(frame)
    rows = read(frame, predicted={"y": "y_llm"}, sampling_prob="pi", na="drop")
    kept = table.drop(index=[4, 7, 9])
    assert rows.num_dropped == 3
    np.testing.assert_array_equal(rows.predicted.y, kept.y_llm)
    np.testing.assert_array_equal(rows.labeled, kept.y.notna())
    np.testing.assert_array_equal(rows.sampling_prob, kept.pi)
    result = dataclasses.replace(fit(table), num_dropped=3)
    assert "rows dropped         3 (a missing entry)" in result.summary()


def test_a_column_may_say_which_rows_are_labelled(table):
    marked = table.y.notna() & (table.index % 10 != 0)
    frame = table.assign(chosen=marked)
    extra = int(table.y.notna().sum() - marked.sum())
    assert extra > 0
    with pytest.raises(TableError, match=f"{extra} rows have gold labels, but are not"):
        fit(frame, labeled="chosen")
    result = fit(frame, labeled="chosen", labels="ignore")
    assert result.num_labeled == marked.sum()
    expected = fit(table.assign(y=table.y.where(marked)))
    pd.testing.assert_frame_equal(result.compare(), expected.compare())
    with pytest.raises(TableError, match="no gold label in 'y'"):
        fit(table.assign(chosen=1), labeled="chosen")


# What is refused.

_BAD = {
    "unknown column": (
        {"formula": "y ~ x + zz"},
        r"no column 'zz' .* did you mean 'z'\?",
    ),
    "unknown function": ({"formula": "y ~ boom(x)"}, "no column 'boom'"),
    "unfinished formula": ({"formula": "y ~ x +"}, "cannot be read: Operator `\\+`"),
    "no outcome": ({"formula": "~ x"}, "needs one outcome"),
    "two outcomes": ({"formula": "y + x ~ z"}, "2 outcomes; model 'ols' takes one"),
    "dot": ({"formula": "y ~ ."}, "list the covariates by name"),
    "no predicted column": ({"predicted": {"y": "y_lm"}}, "`predicted`: .*'y_llm'"),
    "unused prediction": ({"formula": "x ~ z"}, "does not use 'y'"),
    "own prediction": ({"predicted": {"y": "y"}}, "'y' cannot be the prediction"),
    "nothing predicted": ({"predicted": {}}, "`predicted` is empty"),
    "log of negative": (
        {"formula": "y ~ log(x)"},
        r"term 'log\(x\)' is not finite in \d+ of 240 rows \(first: row \d+\)",
    ),
    "shift": (
        {"formula": "z ~ lag(y)"},
        "takes a predicted variable from another row",
    ),
    "evaluation": ({"formula": "y ~ bs(x, df=-3)"}, "cannot be evaluated"),
    "probability": ({"sampling_prob": 1.5}, "must lie above 0 and not above 1"),
    "cluster column": ({"clusters": "author"}, "`clusters`: there is no column"),
    "fixed effects": (
        {"fixed_effects": "unit", "model": "logit"},
        "go with model 'ols', not with 'logit'",
    ),
    "cr1": ({"small_sample": "cr1"}, "needs `clusters`"),
    "bernoulli": (
        {"design": "bernoulli", "sampling_prob": None},
        "needs `sampling_prob`",
    ),
    "strata": ({"design": "stratified"}, "needs `strata`"),
    "key": ({"learner": learners.Ridge(1.0)}, "give `key`"),
    "model": ({"model": "probit"}, "`model` must be one of 'ols', 'logit'"),
    "logit of numbers": ({"model": "logit"}, "must hold 0 and 1, got"),
    "negative counts": ({"model": "poisson"}, "must hold counts, not negative"),
    "order of words": (
        {"formula": "time ~ x", "model": "ordered", "predicted": {"time": "unit"}},
        "give their order as `classes`",
    ),
}


@pytest.mark.parametrize("case", _BAD)
def test_a_bad_request_is_refused_in_one_line(table, case):
    options, message = _BAD[case]
    with pytest.raises(ValueError, match=message) as refused:
        fit(table, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.nan}, "no labelled rows: no row has a gold label in 'y'"),
        ({"pi": 0.0}, "240 of 240 rows do not, .* labelled .first: 0 in row 1"),
        ({"y_llm": "high"}, "column 'y_llm' holds 'high' in row 1, which is not a num"),
        ({"x": [0.5] * (N - 1) + ["oops"]}, "column 'x' holds 'oops' in row 240"),
        ({"y_llm": [0.5] * (N - 1) + [None]}, "'y_llm' is missing in 1 of 240 rows"),
        ({"x": pd.Timestamp("2024-01-01")}, "column 'x' holds dates"),
        ({"x": [f"id{i}" for i in range(N)]}, "240 different categories"),
        ({"x": "same"}, "column 'x' has one category only, 'same'"),
    ],
)
def test_a_bad_column_is_refused_by_name(table, change, message):
    with pytest.raises(TableError, match=message):
        fit(table.assign(**change))


def test_collinear_terms_are_named(table):
    with pytest.raises(TableError, match="'Intercept', 'x' and 'z' are linearly dep"):
        fit(table.assign(z=2 * table.x + 1))
    with pytest.raises(TableError, match="term 'z' is zero in every row"):
        fit(table.assign(z=0.0))
    with pytest.raises(TableError, match="fixed effects absorb 'z'"):
        fit(table.assign(z=table.unit), fixed_effects=["unit", "time"])


def test_only_data_frames_are_taken():
    with pytest.raises(TypeError, match="pandas data frame, got dict"):
        fit({"y": [1.0]})


# The result.


def test_tables_of_the_result_agree(table):
    result = fit(table)
    long, wide = result.to_frame(), result.to_frame("wide")
    assert long.shape == (9, 8) and wide.shape == (3, 19)
    assert list(long.fit.unique()) == ["surrogate_only", "gold_only", "debiased"]
    own = long[long.fit == "debiased"].reset_index(drop=True)
    np.testing.assert_array_equal(own.estimate, wide.debiased_estimate)
    np.testing.assert_allclose(own.z, own.estimate / own.std_error)
    narrow = result.conf_int(0.5)
    assert (narrow.lower > own.lower.to_numpy()).all()
    assert (result.conf_int(reference="t").lower < own.lower.to_numpy()).all()
    with pytest.raises(ValueError, match="`confidence_level` must lie in"):
        result.conf_int(95)


def test_the_summary_says_what_was_done(table):
    result = fit(table, power_tuning=0.5)
    text = str(result)
    assert text == result.summary()
    for words in (
        "labelled rows",
        "independent, with probability 0.2 to 0.3 (column pi)",
        "ols, y ~ x + z",
        "y by y_llm",
        "power tuning         0.5",
        "surrogate only",
        "effective labels",
        "surrogate bias",
        "95 % interval",
        "relative efficiency",
    ):
        assert words in text
    assert "90 % interval" in result.summary(0.9)
    assert "*" not in text
    assert "FrameResult('y ~ x + z'" in repr(result)


def test_html_escapes_what_comes_from_the_table(table):
    frame = table.rename(columns={"x": "<b>x</b>"})
    page = fit(frame, "y ~ `<b>x</b>` + z")._repr_html_()
    assert "<b>" not in page and "&lt;b&gt;x" in page and page.count("<table>") == 4


def test_a_fit_without_solution_has_no_numbers(table):
    result = fit(table)
    stopped = dataclasses.replace(result.exact[2], converged=np.asarray(False))
    result = dataclasses.replace(result, exact=(None, result.exact[1], stopped))
    compared = result.compare()
    assert compared.filter(like="debiased").isna().all(axis=None)
    assert compared.surrogate_only.isna().all() and compared.gold_only.notna().all()
    text = result.summary()
    assert "n/a" in text and "nan" not in text and result.surrogate_only is None


def test_warnings_speak_of_the_debiased_fit_once(table):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit(table, sampling_prob=table.y.notna().mean() / 20)
    texts = [str(w.message) for w in caught]
    assert texts == list(result.warnings) and len(set(texts)) == len(texts)
    assert "lets one row stand for more than a tenth of all" in texts[0]
    assert "rows are labelled where the sampling probabilities lead" in texts[-1]
