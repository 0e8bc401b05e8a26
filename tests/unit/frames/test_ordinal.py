"""Ordinal regression of a column: labels in, labels out, and words about them."""

import dataclasses
import functools

import jax
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from jaxcur import frames, ordinal
from jaxcur.data import TableError
from jaxcur.frames._ordinal_outcome import read_outcome, settle
from jaxcur.frames._ordinal_text import _inference, _odds, _proportionality, direction
from tests.helpers import assert_close

# One shape for all tables, so that one program serves all tests.
N, COLUMNS, LABELS = 512, ["dose", "age", "marker", "noise"], ["none", "mild", "severe"]
STRENGTH = 0.01


@functools.cache
def numbers():
    rng = np.random.default_rng(5)
    X = rng.uniform(-2, 2, size=(N, 4)).round(3)
    eta = np.array([0.0, 3.5]) + X @ np.array(
        [[-0.8, -0.8], [0.5, 0.5], [0.0, -0.8], [0.0, 0.0]]
    )
    return X, (rng.logistic(size=(N, 1)) > eta).sum(axis=1)


@pytest.fixture
def table():
    X, y = numbers()
    frame = pd.DataFrame(X, columns=COLUMNS)
    frame["stage"] = np.array(LABELS)[y]
    frame.index = [f"id{row}" for row in range(N)]
    return frame


def fit(table, **options):
    options = {
        "outcome": "stage",
        "order": LABELS,
        "regularization": STRENGTH,
    } | options
    return frames.fit_ordinal(table, **options)


@functools.cache
def by_arrays():
    with jax.enable_x64(True):
        X, y = numbers()
        result = ordinal.fit(X, y, num_classes=3, regularization=STRENGTH)
        probs = ordinal.predict_proba(result, X)
        return jax.tree.map(np.asarray, (result, probs))


@pytest.fixture(scope="module")
def fitted():
    X, y = numbers()
    frame = pd.DataFrame(X, columns=COLUMNS)
    frame["stage"] = np.array(LABELS)[y]
    return fit(frame)


# Labels.


def test_words_in_a_given_order_are_the_fit_of_arrays(table):
    result = fit(table)
    expected, probs = by_arrays()
    assert_close(result.exact.coefficients, expected.coefficients, rtol=1e-12)
    assert_close(result.exact.intercepts, expected.intercepts, rtol=1e-12)
    found = result.predict_proba()
    assert list(found.columns) == LABELS == list(result.labels)
    assert list(found.index) == list(table.index)
    assert_close(found.to_numpy(), probs, rtol=1e-12)
    predicted = result.predict(table.iloc[5:9].drop(columns="stage"))
    assert predicted.name == "stage" and list(predicted.index) == list(table.index[5:9])
    assert predicted.tolist() == [LABELS[k] for k in probs[5:9].argmax(axis=1)]


def test_an_ordered_categorical_brings_its_order(table):
    kind = pd.CategoricalDtype(LABELS, ordered=True)
    result = fit(table.assign(stage=table.stage.astype(kind)), order=None)
    assert result.labels == tuple(LABELS)
    assert_close(result.exact.coefficients, by_arrays()[0].coefficients, rtol=1e-12)
    predicted = result.predict()
    assert predicted.dtype == kind
    assert (predicted.cat.codes == by_arrays()[1].argmax(axis=1)).all()


def test_numbers_are_ordered_by_value_and_come_back(table):
    _, y = numbers()
    expected = by_arrays()[1].argmax(axis=1)
    for values in (
        np.array([2, 9, 10]),
        np.array([-0.5, 0.25, 1e6]),
        np.array(["9", "10", "11.5"], object),
        np.array(["1"] * 3, object).astype(object) + np.array(["", "0", "00"], object),
    ):
        result = fit(table.assign(stage=values[y]), order=None)
        assert result.labels == tuple(values.tolist())
        predicted = result.predict()
        assert predicted.dtype == pd.Series(values[y]).dtype
        assert predicted.tolist() == values[expected].tolist()


def test_an_order_typed_as_text_fits_numbers():
    column = pd.DataFrame({"y": [10, 2, 2, 30]})
    outcome = read_outcome(column, "y", ["30", "2", "10"])
    assert outcome.labels == (30, 2, 10)
    assert outcome.codes.tolist() == [2, 1, 1, 0]


def test_booleans_are_classes():
    outcome = read_outcome(pd.DataFrame({"y": [True, False, True]}), "y", None)
    assert outcome.labels == (False, True) and outcome.codes.tolist() == [1, 0, 1]


def test_none_is_a_class_and_na_a_gap():
    column = pd.DataFrame({"y": ["none", "NA", None, "some", " "]})
    outcome = read_outcome(column, "y", ["none", "some"])
    assert outcome.codes.tolist() == [0, -1, -1, 1, -1]


@pytest.mark.parametrize(
    ("values", "order", "message"),
    [
        (["b", "a", "c"], None, r"are words \(a, b, c\): give their order"),
        (pd.Categorical(["b", "a"]), None, r"are words \(a, b\)"),
        (["a", "d", "b"], ["a", "b"], r"holds 'd' in row 2, which `order` does not"),
        (["a", "b", "a"], ["a", "b", "a"], "lists 'a' twice"),
        (["a", "a", "a"], ["a", "b"], "one class only, 'a'"),
        ([7, 7, 7], None, "one class only, '7'"),
        ([None, None, None], None, "no entry at all"),
        ([0.0, np.inf, 1.0], None, "is infinite in row 2"),
        (["1", "1.0", "2"], None, "which are one number"),
        (np.arange(60.0), None, "a measurement rather than classes"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), None, "holds dates"),
        (["a", "b", "a"], "ab", "must be a list"),
    ],
)
def test_an_outcome_that_cannot_be_ordered_is_refused(values, order, message):
    with pytest.raises(TableError, match=message):
        read_outcome(pd.DataFrame({"y": values}), "y", order)


def test_a_class_that_never_occurs(table):
    order = ["none", "faint", "mild", "severe", "dead"]
    with pytest.raises(TableError, match="no row has the class 'faint' of 'stage'"):
        fit(table, order=order)
    result = fit(table, order=order, unobserved="drop")
    assert result.boundaries == ("none|mild", "mild|severe")
    probs = result.predict_proba()
    assert list(probs.columns) == order
    assert (probs[["faint", "dead"]] == 0).all(axis=None)
    assert_close(probs[LABELS].to_numpy(), by_arrays()[1], rtol=1e-12)
    assert set(result.predict()) <= set(LABELS)
    assert "classes dropped      faint, dead: no row has them" in result.summary()


def test_a_class_with_rows_of_weight_zero_only_does_not_occur():
    outcome = read_outcome(pd.DataFrame({"y": [0, 1, 2, 1]}), "y", None)
    weights, kept = np.array([1.0, 1.0, 0.0, 1.0]), np.ones(4, bool)
    with pytest.raises(TableError, match="no row has the class '2'"):
        settle(outcome, weights, "raise", kept)
    occurs, codes = settle(outcome, weights, "drop", kept)
    assert occurs.tolist() == [True, True, False] and codes[[0, 1, 3]].tolist() == [
        0,
        1,
        1,
    ]
    with pytest.raises(TableError, match="one class only, '1'"):
        settle(outcome, np.array([0.0, 1.0, 0.0, 1.0]), "drop", kept)


# Columns and formulas.


def test_a_formula_codes_categories_and_remembers_them(table):
    clinic = np.array(["a", "b"])[np.arange(N) % 2]
    frame = table.assign(clinic=clinic)
    result = fit(frame, outcome=None, formula="stage ~ dose + age + marker + clinic")
    assert result.terms == ("dose", "age", "marker", "clinic[T.b]")
    X = np.column_stack([numbers()[0][:, :3], clinic == "b"])
    np.testing.assert_array_equal(result.X, X)
    same = fit(frame, formula="dose + age + marker + clinic")
    assert_close(same.exact.coefficients, result.exact.coefficients, rtol=0)
    # A new table with one of the clinics only: the coding is that of the fit.
    some = frame[clinic == "b"].drop(columns="stage")
    assert_close(
        result.predict_proba(some).to_numpy(),
        result.predict_proba().to_numpy()[clinic == "b"],
        rtol=1e-12,
    )
    with pytest.raises(TableError, match="holds 'c' in row 1, which no row of the fit"):
        result.predict(some.assign(clinic="c"))


def test_transformations_are_learnt_in_the_fit(table):
    result = fit(table, formula="center(dose) + age + marker + noise")
    new = table.iloc[:7]
    assert_close(
        result.predict_proba(new).to_numpy(),
        result.predict_proba().to_numpy()[:7],
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"age": np.nan}, {}, "column 'age' is missing in 512 of 512 rows"),
        ({"age": np.inf}, {}, "column 'age' is infinite in row 1"),
        ({"stage": "NA"}, {}, "column 'stage' has no entry at all"),
        ({"age": "old"}, {}, r"write it as a category, C\(age\), in `formula`"),
        ({"age": ["x", *["1"] * (N - 1)]}, {}, "holds 'x' in row 1, which is not a"),
        ({}, {"features": ["dose", "size"]}, "there is no column 'size'"),
        ({}, {"features": ["dose", "stage"]}, "lists the outcome"),
        ({}, {"features": []}, "no column left"),
        ({}, {"outcome": "stages"}, "did you mean 'stage'"),
        ({}, {"formula": "log(dose)"}, "is not finite in"),
        ({}, {"formula": "stage"}, "on both sides"),
        ({}, {"formula": "1"}, "has no covariates"),
        ({"age": "a"}, {"formula": "C(age)"}, "one category only, 'a'"),
        ({}, {"features": ["dose"], "formula": "dose"}, "not both"),
        ({}, {"formula": "age ~ dose"}, "outcome is 'age', `outcome` is 'stage'"),
        ({}, {"outcome": None}, "`outcome` must name a column"),
        ({}, {"penalty": "lasso"}, "`penalty` must be one of"),
        ({}, {"regularization": "aic"}, "must be a number or 'cv'"),
        ({}, {"regularization": "cv"}, "give `key`"),
        ({}, {"unobserved": "keep"}, "`unobserved` must be one of"),
        ({"w": -1.0}, {"weights": "w"}, "must hold weights that are not negative"),
        ({"twice": 0.0}, {"regularization": 0.0}, "zero in every row"),
        (
            {"noise": numbers()[0][:, 0]},
            {"regularization": 0.0},
            "'dose' and 'noise' are linearly dependent",
        ),
    ],
)
def test_what_cannot_be_fitted_is_named(table, change, options, message):
    with pytest.raises(ValueError, match=message):
        fit(table.assign(**change), **options)


def test_rows_with_gaps_are_dropped_when_asked_for(table):
    twice = pd.concat([table, table])
    twice.iloc[:300, 1] = np.nan
    twice["stage"] = twice.stage.where(np.arange(2 * N) % 512 < 300, "NA").where(
        np.arange(2 * N) < N, twice.stage
    )
    result = fit(twice, na="drop")
    # The first half lacks its features, or its outcome.
    assert result.num_dropped == N and list(result.index) == list(table.index)
    assert_close(result.exact.coefficients, by_arrays()[0].coefficients, rtol=1e-12)
    assert "rows dropped         512 (a missing entry)" in result.summary()


def test_weights_of_zero_and_one_are_no_rows_and_rows(table):
    X, y = numbers()
    half = np.arange(N) % 2
    result = fit(table.assign(w=half), weights="w")
    assert result.terms == tuple(COLUMNS)
    with jax.enable_x64(True):
        expected = ordinal.fit(
            X, y, num_classes=3, regularization=STRENGTH, weights=half.astype(float)
        )
    assert_close(result.exact.coefficients, expected.coefficients, rtol=1e-12)


# What a result says.


def test_coefficients_and_odds_ratios_by_boundary(fitted):
    table = fitted.coefficients()
    assert list(table.index) == COLUMNS
    assert list(table.columns) == ["none|mild", "mild|severe"]
    assert_close(fitted.odds_ratios().to_numpy(), np.exp(-table.to_numpy()), rtol=1e-12)
    assert list(fitted.intercepts().index) == list(table.columns)
    long = fitted.to_frame()
    assert long.shape == (8, 4)
    row = long[(long.term == "marker") & (long.boundary == "mild|severe")].iloc[0]
    assert row.coefficient == table.loc["marker", "mild|severe"]
    assert fitted.result.coefficients.dtype == np.float32


def test_the_test_of_proportional_odds_is_that_of_arrays(fitted):
    X, y = numbers()
    found = fitted.proportionality()
    with jax.enable_x64(True):
        expected = ordinal.nominal_test(X, y, num_classes=3)
    assert_close(found.p_value.to_numpy(), expected.p_value, rtol=1e-9)
    assert_close(found.statistic.to_numpy(), expected.statistic, rtol=1e-9)
    assert found.degrees.tolist() == [1] * 4
    assert found.p_value["marker"] < 1e-3 < 0.05 < found.p_value["dose"]


def test_intervals_of_the_rare_class_are_debiased(fitted):
    X, y = numbers()
    found = fitted.rare_probability(confidence_level=0.9)
    with jax.enable_x64(True):
        expected = ordinal.debiased_intervals(
            X, y, num_classes=3, regularization=STRENGTH, confidence_level=0.9
        )
    assert_close(
        found[["lower", "upper"]].to_numpy(), expected.rare_interval, rtol=1e-12
    )
    assert_close(found.debiased.to_numpy(), expected.rare_probability, rtol=1e-12)
    assert_close(found.estimate.to_numpy(), by_arrays()[1][:, -1], rtol=1e-12)
    assert (found.lower < found.debiased).all() and (found.debiased < found.upper).all()
    with pytest.raises(ValueError, match="confidence_level"):
        fitted.rare_probability(confidence_level=95)


def test_errors_of_a_penalised_fit_are_debiased(fitted):
    X, y = numbers()
    found = fitted.inference(0.9)
    with jax.enable_x64(True):
        expected = ordinal.debiased_intervals(
            X, y, num_classes=3, regularization=STRENGTH, confidence_level=0.9
        )
    assert found.attrs["estimates"] == "debiased"
    estimate = found.estimate.to_numpy().reshape(4, 2)
    assert_close(estimate, expected.coefficients, rtol=1e-12)
    ends = found[["lower", "upper"]].to_numpy().reshape(4, 2, 2)
    assert_close(ends, expected.coefficients_interval, rtol=1e-9)
    z = found.z.to_numpy()
    assert_close(z, (found.estimate / found.std_error).to_numpy(), rtol=1e-12)
    assert_close(found.p_value.to_numpy(), 2 * norm.sf(np.abs(z)), rtol=1e-12)


def test_errors_without_a_penalty_are_those_of_maximum_likelihood(table):
    X, y = numbers()
    result = fit(table, regularization=0.0)
    found = result.inference()
    with jax.enable_x64(True):
        expected = ordinal.standard_errors(result.exact, X, y)
    assert found.attrs["estimates"] == "maximum likelihood"
    error = found.std_error.to_numpy().reshape(4, 2)
    assert_close(error, expected.coefficients, rtol=1e-12)
    estimate = found.estimate.to_numpy()
    assert_close(estimate, result.exact.coefficients.ravel(), rtol=1e-12)
    lines = _inference(result, 0.95)
    assert lines[0].startswith("maximum likelihood")
    assert lines[1].split()[:2] == ["dose", "none|mild"]
    assert lines[2].split()[0] == "mild|severe"


def test_a_coefficient_that_boundaries_share_has_one_line(fitted, monkeypatch):
    same = {"estimate": 1.5, "std_error": 0.5, "z": 3.0, "p_value": 0.0027}
    same = {name: np.full((4, 2), value) for name, value in same.items()}
    monkeypatch.setattr(
        "jaxcur.frames._ordinal_text.coefficient_inference",
        lambda fitted, level: (same, "debiased"),
    )
    lines = _inference(fitted, 0.95)
    assert len(lines) == 1 + 4 + 1
    assert lines[1].split() == ["dose", "all", "1.500", "0.5000", "3.00", "0.0027"]


def test_rows_are_counted_from_one_or_named(table, fitted):
    probs = fitted.predict_proba()["severe"]
    row = int(probs.to_numpy().argmax())
    assert f"highest (row {row + 1})" in fitted.summary()
    assert f"highest (row id{row})" in fit(table).summary()


def test_odds_are_spoken_of_with_the_logit_only(fitted):
    probit = dataclasses.replace(
        fitted, exact=dataclasses.replace(fitted.exact, link="probit")
    )
    probit.__dict__["_proportionality"] = fitted.proportionality()
    lines = _proportionality(probit)
    assert lines[0].startswith("same at every boundary") and "odds" not in lines[0]
    assert any("is not" in line for line in lines[1:-1])
    assert _odds(probit) == []


def test_the_summary_says_it_in_words(fitted):
    text = str(fitted)
    for words in (
        "rows                 512\n",
        "classes of stage     none < mild < severe (",
        "penalty              Presto, strength 0.01000\n",
        "a POSITIVE coefficient moves probability to LOWER classes: the opposite sign",
        "odds ratio, HIGHER",
        "crossing rows        0 of 512\n",
        "certificate          ok; KKT residual",
        "P(y = severe)",
        "95 % interval",
    ):
        assert words in text, words
    lines = {
        line.split()[0]: line
        for line in text.partition("debiased  ")[0].splitlines()
        if line
    }
    assert "to HIGHER classes" in lines["dose"]
    assert lines["age"].endswith("to LOWER classes, alike at every boundary")
    assert "to HIGHER classes" in lines["marker"]
    broken = [line.split()[0] for line in text.splitlines() if "breaks it" in line]
    p_value = fitted.proportionality().p_value
    assert broken == list(p_value.index[p_value < 0.05]) and "marker" in broken
    assert "P(y = severe)" in text and "80 % interval" in fitted.summary(0.8)
    assert repr(fitted).startswith("OrdinalFrameResult('stage', classes=3")


@pytest.mark.parametrize(
    ("row", "sign", "words"),
    [
        ([0, 0], 1, "no effect"),
        ([1, 1], 1, "to LOWER classes, alike at every boundary"),
        ([-1, -1], 1, "to HIGHER classes, alike at every boundary"),
        ([-1, -1], -1, "to LOWER classes, alike at every boundary"),
        ([-1, -3], 1, "to HIGHER classes, most at b|c"),
        ([0, -3], 1, "to HIGHER classes at b|c only"),
        ([2, -3], 1, "to HIGHER classes at b|c; to LOWER classes at a|b"),
        ([np.nan, 1], 1, "n/a"),
    ],
)
def test_a_direction_in_words(row, sign, words):
    assert direction(np.array(row), ["a|b", "b|c"], sign) == words


def test_the_direction_is_that_of_predictions(fitted):
    for term, words in fitted.directions().items():
        more = pd.DataFrame(0.0, index=[0, 1], columns=COLUMNS)
        more.loc[1, term] = 1.0
        rare = fitted.predict_proba(more)["severe"]
        if "HIGHER classes, " in words:
            assert rare[1] > rare[0]
        if "LOWER classes, " in words:
            assert rare[1] < rare[0]


def test_two_classes_have_nothing_to_compare(table):
    frame = table.assign(stage=np.where(numbers()[1] > 0, "some", "none"))
    result = fit(frame, order=["none", "some"])
    with pytest.raises(ValueError, match="one boundary"):
        result.proportionality()
    assert _proportionality(result) == []
    assert set(result.directions()) <= {
        "to HIGHER classes",
        "to LOWER classes",
        "no effect",
    }


def test_classes_that_separate_have_no_intervals_and_no_tests(table):
    stage = np.array(LABELS)[np.digitize(table.dose, [-0.5, 1.0])]
    with pytest.warns(UserWarning, match="not settled: diverging"):
        free = fit(table.assign(stage=stage), regularization=0.0)
    penalised = fit(table.assign(stage=stage))
    for result in (free, penalised):
        rare = result.rare_probability()
        assert rare[["debiased", "lower", "upper"]].isna().all(axis=None)
        assert rare.estimate.between(0, 1).all()
        assert result.proportionality().p_value.isna().all()
        inference = result.inference()
        assert inference.drop(columns=["term", "boundary"]).isna().all(axis=None)
    text = penalised.summary()
    assert "no intervals: without a penalty there is no finite fit" in text
    assert "n/a: a constant column, or classes separate)" in text
    assert "certificate          ok" in text
    assert "diverging" in free.summary()


def test_columns_twice_have_tests_and_no_errors(table):
    result = fit(table.assign(noise=table.dose))
    p_value = result.proportionality().p_value
    # Freeing either of them frees the same boundary.
    assert_close(p_value["noise"], p_value["dose"], rtol=1e-5)
    assert p_value["marker"] < 1e-3
    assert result.inference().std_error.isna().all()
    assert "no intervals: the information is singular" in result.summary()


def test_a_constant_column_leaves_the_others_their_tests(table):
    result = fit(table.assign(noise=7.5))
    assert (result.coefficients().loc["noise"] == 0).all()
    p_value = result.proportionality().p_value
    assert np.isnan(p_value["noise"]) and p_value["marker"] < 1e-3
    found = result.inference().set_index("term")
    assert found.std_error["noise"].isna().all()
    assert (found.std_error.drop("noise") > 0).all()
    assert result.rare_probability().notna().all(axis=None)
    assert "n/a: a constant column, or classes separate)" in result.summary()


# The choice of the strength.


def test_cross_validation_is_that_of_arrays(table):
    result = fit(table, regularization="cv", key=7)
    X, y = numbers()
    with jax.enable_x64(True):
        expected = ordinal.cross_validate(X, y, num_classes=3, key=jax.random.key(7))
        strength = float(expected.result.regularization)
    assert float(result.exact.regularization) == strength
    assert_close(result.selection.mean_scores, expected.mean_scores, rtol=1e-12)
    assert "by 5-fold cross-validation (brier)" in result.summary()


def test_messages_about_classes_by_number_name_them(table):
    y = np.array(LABELS)[np.minimum(numbers()[1], 1)].astype(object)
    y[:3] = "severe"
    with pytest.warns(UserWarning, match="class 'severe' has 3 rows for 5 folds"):
        fit(table.assign(stage=y), regularization="cv", key=0)
    y[1:3] = "none"
    with pytest.raises(ValueError, match="no row of class 'severe'"):
        fit(table.assign(stage=y), regularization="cv", key=0)
