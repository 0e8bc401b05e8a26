"""Bad input, degenerate data, and what the results say about them."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from tests.helpers import assert_close


def world(n: int = 200, seed: int = 0, labels: int = 80):
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    y = X @ [0.5, 1.0, -0.5] + rng.normal(size=n)
    labeled = np.arange(n) < labels
    return X, np.where(labeled, y, np.nan), y + rng.normal(size=n), labeled


def fit(**changes):
    X, y, guess, labeled = world()
    arguments = {"X": X, "y": y, "y_predicted": guess, "labeled": labeled} | changes
    return debiased.ols(arguments.pop("X"), arguments.pop("y"), **arguments)


PI = np.full(200, 0.4)


def with_entry(array, place, value):
    changed = np.array(array, float)
    changed[place] = value
    return changed


X0, Y0, GUESS, LABELED = world()

BAD = {
    "no-labels": ({"labeled": np.zeros(200, bool)}, "no labelled rows"),
    "no-labels-weighted": (
        {"weights": np.where(LABELED, 0.0, 1.0)},
        "no labelled rows",
    ),
    "prob-zero": (
        {"sampling_prob": with_entry(PI, [3, 5], 0.0)},
        r"`sampling_prob` must lie in \(0, 1\].*2 of 200",
    ),
    "prob-zero-labeled": ({"sampling_prob": with_entry(PI, 0, 0.0)}, "1 of 200"),
    "prob-above-one": ({"sampling_prob": 1.5}, "1 of 1"),
    "prob-nan": ({"sampling_prob": with_entry(PI, 7, np.nan)}, "1 of 200"),
    "prob-one-unlabeled": ({"sampling_prob": 1.0}, "120 rows contradict"),
    "no-columns": ({"X": np.zeros((200, 0))}, "at least one column"),
    "prob-length": ({"sampling_prob": PI[:5]}, r"shape \(200,\)"),
    "nan-covariate": ({"X": with_entry(X0, (3, 1), np.nan)}, "`X.*must be finite"),
    "nan-prediction": (
        {"y_predicted": with_entry(GUESS, 9, np.nan)},
        "`y_predicted` must be finite.*1 entries",
    ),
    "nan-gold": ({"y": with_entry(Y0, 2, np.nan)}, "gold labels must be finite"),
    "nan-clusters": ({"clusters": with_entry(PI, 2, np.nan)}, "`clusters`.*NaN"),
    "one-cluster": ({"clusters": np.zeros(200, int)}, "single cluster"),
    "collinear": (
        {"X": np.column_stack([X0, X0[:, 1] - X0[:, 2]])},
        r"rank deficient: columns \[1, 2, 3\]",
    ),
    "zero-column": ({"X": np.column_stack([X0, 0 * PI])}, "column 3 is zero"),
    "mask-values": ({"labeled": np.arange(200)}, "boolean"),
    "mask-length": ({"labeled": LABELED[:9]}, r"`labeled` must have shape \(200,\)"),
    "stratum-without-labels": (
        {"strata": np.where(LABELED, 0, 1)},
        "1 strata have no labelled rows",
    ),
    "stratum-with-one-label": (
        {"strata": np.where(np.arange(200) % 150 == 0, 1, np.arange(200) % 2 * 2)},
        "1 strata have one labelled row",
    ),
    "strata-missing": ({"design": "stratified"}, "`strata` is needed"),
    "strata-unused": (
        {"design": "srs", "strata": np.arange(200) % 2},
        "design='stratified' only",
    ),
    "unknown-design": ({"design": "coin"}, "`design` must be one of 'bernoulli'"),
    "unknown-tuning": ({"power_tuning": "best"}, "`power_tuning` must be one of"),
    "tuning-shape": ({"power_tuning": np.ones(3)}, r"shape \(3, 3\)"),
    "unknown-small-sample": ({"small_sample": "hc3"}, "`small_sample` must be one"),
    "cr1-unclustered": ({"small_sample": "cr1"}, "needs `clusters`"),
    "negative-weights": ({"weights": with_entry(PI, 1, -1.0)}, "nonnegative, 1 rows"),
    "prediction-shape": ({"y_predicted": GUESS[:7]}, "must have the shape of `y`"),
    "unknown-target": ({"target": "world"}, "`target` must be one of"),
}


@pytest.mark.parametrize("changes, message", list(BAD.values()), ids=list(BAD))
def test_bad_input_is_refused_in_one_sentence(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit(**changes)
    assert "\n" not in str(caught.value)


def test_unknown_keyword_lists_the_known_ones():
    with pytest.raises(
        TypeError, match="unknown keyword `samplingprob`.*sampling_prob"
    ):
        fit(samplingprob=0.4)


def test_float_mask_with_missing_predictions_of_unlabeled_rows_is_not_silent():
    with pytest.raises(ValueError, match="y_predicted"):
        fit(y_predicted=np.where(LABELED, GUESS, np.nan))


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling_prob": with_entry(PI, 3, 0.0)},
        {"sampling_prob": with_entry(PI, 3, np.nan)},
        {"labeled": np.zeros(200, bool), "sampling_prob": PI},
        {"labeled": np.zeros(200, bool)},
        {"y_predicted": with_entry(GUESS, 9, np.nan)},
    ],
    ids=["prob-zero", "prob-nan", "no-labels", "no-labels-srs", "nan-prediction"],
)
def test_bad_values_under_jit_are_nan_and_not_converged(changes):
    arrays = {"y_predicted": GUESS, "labeled": LABELED, "sampling_prob": PI} | changes
    if "sampling_prob" not in changes and "labeled" in changes:
        arrays.pop("sampling_prob")
    compiled = jax.jit(lambda given: debiased.ols(X0, Y0, **given))
    result = compiled(jax.tree.map(jnp.asarray, arrays))
    assert np.isnan(np.asarray(result.estimate)).all()
    assert np.isnan(np.asarray(result.std_error)).all()
    assert not bool(result.converged)


def test_separated_logit_warns_and_has_no_standard_error():
    x = np.linspace(-1, 1, 60)
    y = (x > 0).astype(float)
    X = np.column_stack([np.ones(60), x])
    with pytest.warns(debiased.InferenceWarning, match="separates the labels"):
        result = debiased.logistic(X, y, y_predicted=y, labeled=np.arange(60) % 2 == 0)
    assert not bool(result.converged)
    assert np.isnan(np.asarray(result.std_error)).all()


def test_quasi_separated_column_is_noticed(x64):
    rng = np.random.default_rng(0)
    n = 400
    rare = np.arange(n) < 12
    y = np.where(rare, 1.0, rng.random(n) < 0.5)
    X = np.column_stack([np.ones(n), rng.normal(size=n), rare])
    with pytest.warns(debiased.InferenceWarning, match="did not converge"):
        result = debiased.logistic(
            X, y, y_predicted=y, labeled=np.ones(n, bool), sampling_prob=1.0
        )
    assert np.isnan(np.asarray(result.covariance)).all()


def test_few_labels_warn_and_plain_remains_defined(x64):
    labeled = np.arange(200) < 2
    options = {"labeled": labeled, "sampling_prob": 0.06}
    with pytest.warns(debiased.InferenceWarning, match="2 labelled rows for 3"):
        result = fit(power_tuning="optimal", **options)
    with pytest.warns(debiased.InferenceWarning, match="2 labelled rows for 3"):
        plain = fit(power_tuning=None, **options)
    # Two rows cannot determine three coefficients; all rows with predictions do.
    assert_close(result.estimate, plain.estimate, rtol=1e-12)
    assert_close(result.power_tuning, np.eye(3), rtol=0)


def test_tiny_probability_warns():
    pi = with_entry(PI, 0, 0.01)
    with pytest.warns(debiased.InferenceWarning, match="one row stand for more than"):
        fit(sampling_prob=pi)


def test_fewer_clusters_than_parameters_warn():
    with pytest.warns(debiased.InferenceWarning, match="2 clusters for 3 parameters"):
        fit(clusters=np.arange(200) % 2)


def test_indefinite_matrix_warns(x64):
    X, y, guess, _ = world()
    wild = X.copy()
    wild[:, 1] = 0.1 * X[:, 1]
    labeled = np.arange(200) < 40
    # The labelled rows happen to have predictions far too large, and weigh the more.
    wild[:40, 1] = 5 * X[:40, 1]
    with pytest.warns(debiased.InferenceWarning, match="not positive definite"):
        debiased.ols(
            X,
            y,
            X_predicted=wild,
            y_predicted=guess,
            labeled=labeled,
            sampling_prob=0.2,
            power_tuning=None,
        )


def test_constant_surrogate_tunes_to_an_intercept(x64):
    result = fit(y_predicted=np.full(200, 7.0), sampling_prob=0.4)
    assert bool(result.converged)
    gold = np.asarray(result.diagnostics.gold_std_error)
    assert (np.asarray(result.std_error) <= 1.02 * gold).all()


def test_useless_constant_zero_surrogate_of_the_mean_is_gold_only(x64):
    y, labeled = Y0, LABELED
    zero = np.zeros(200)
    tuned = debiased.mean(y, y_predicted=zero, labeled=labeled)
    assert np.isfinite(np.asarray(tuned.std_error)).all()
    assert_close(tuned.estimate[0], np.nanmean(y[labeled]), rtol=1e-12)


def test_integer_and_boolean_columns_are_accepted():
    labeled = np.arange(200) < 80
    y = np.arange(200) % 3 == 0
    result = debiased.logistic(
        np.ones((200, 1), int),
        y,
        y_predicted=y.astype(int),
        labeled=labeled.astype(int),
    )
    assert bool(result.converged)
    assert result.estimate.dtype == jnp.float32


def test_class_labels_outside_the_range_are_refused():
    y = np.arange(200) % 3
    labeled = np.arange(200) < 80
    with pytest.raises(ValueError, match=r"class labels 0\.\.1, 26 rows"):
        debiased.multinomial(X0, y, y_predicted=y, labeled=labeled, num_classes=2)
    junk = np.where(labeled, y, 99)
    result = debiased.category_shares(
        junk, y_predicted=y, labeled=labeled, num_classes=3
    )
    assert bool(result.converged)


def test_absent_class_does_not_converge():
    y = np.arange(200) % 2
    with pytest.warns(debiased.InferenceWarning, match="class may be absent"):
        result = debiased.multinomial(
            X0, y, y_predicted=y, labeled=np.arange(200) < 80, num_classes=3
        )
    assert not bool(result.converged)


def test_instruments_that_do_not_identify_are_refused():
    with pytest.raises(ValueError, match="at least as many columns"):
        debiased.iv(X0, Y0, X0[:, :2], y_predicted=GUESS, labeled=LABELED)
    Z = np.column_stack([X0[:, 0], X0[:, 0], X0[:, 0]])
    with pytest.raises(ValueError, match="do not identify"):
        debiased.iv(X0, Y0, Z, y_predicted=GUESS, labeled=LABELED)


def test_moment_with_fewer_equations_than_parameters_is_refused():
    with pytest.raises(ValueError, match="1 moments for 2 parameters"):
        debiased.estimate(
            lambda theta, r: r["y"] - theta[0],
            {"y": Y0},
            {"y": GUESS},
            labeled=LABELED,
            init=jnp.zeros(2),
        )


def test_records_of_different_structure_are_refused():
    with pytest.raises(ValueError, match="same structure"):
        debiased.estimate(
            lambda theta, r: r["y"] - theta,
            {"y": Y0, "x": Y0},
            {"y": GUESS},
            labeled=LABELED,
            init=jnp.zeros(1),
        )


def test_clean_call_issues_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit()


def test_result_says_what_it_used():
    result = fit(sampling_prob=0.4, power_tuning=0.5, small_sample="hc1")
    assert_close(result.power_tuning, 0.5 * np.eye(3), rtol=0)
    assert result.small_sample == "hc1"
    d = result.diagnostics
    assert (float(d.num_rows), float(d.num_labeled)) == (200, 80)
    assert float(d.effective_labels) == pytest.approx(80)
    assert float(d.max_share) == pytest.approx(1 / 80)
    assert float(d.expected_labels) == pytest.approx(80)
    assert float(d.condition) >= 1


def test_misstated_probabilities_show():
    with pytest.warns(
        debiased.InferenceWarning, match="80 rows are labelled where.* 20.0"
    ):
        result = fit(sampling_prob=0.1)
    assert abs(float(result.diagnostics.labels_z)) > 5
    assert abs(float(fit(sampling_prob=0.4).diagnostics.labels_z)) < 1


def test_surrogate_bias_is_tested():
    biased = fit(y_predicted=GUESS + 3, sampling_prob=0.4).diagnostics
    honest = fit(sampling_prob=0.4).diagnostics
    assert float(biased.bias_p_value) < 1e-6 < float(honest.bias_p_value)
    assert abs(float(biased.bias_z[0])) > 5


def test_intervals_and_p_values_agree(x64):
    result = fit()
    null = np.asarray(result.conf_int(0.9))[:, 0]
    assert_close(result.p_value(null=null), np.full(3, 0.1), rtol=1e-10)
    one_sided = np.asarray(result.conf_int(0.95, alternative="larger"))
    assert_close(one_sided[:, 0], null, rtol=1e-10)
    assert np.isinf(one_sided[:, 1]).all()
    larger, smaller = (result.p_value(side) for side in ("larger", "smaller"))
    assert_close(larger + smaller, np.ones(3), rtol=1e-12)
    both = result.p_value()
    assert_close(both, 2 * np.minimum(larger, smaller), rtol=1e-10)


def test_t_reference_is_wider(x64):
    result = fit(clusters=np.arange(200) % 10, small_sample="cr1")
    normal, t = result.conf_int(), result.conf_int(reference="t")
    ratio = np.diff(np.asarray(t)) / np.diff(np.asarray(normal))
    assert_close(ratio, np.full((3, 1), 2.2621571627 / 1.9599639845), rtol=1e-8)


@pytest.mark.parametrize("model", ["ols", "logistic"])
def test_aliased_coefficients_are_nan_on_request(model, x64):
    y = (Y0 > 0).astype(float) if model == "logistic" else Y0
    guess = (GUESS > 0).astype(float) if model == "logistic" else GUESS
    doubled = np.column_stack([X0[:, :2], 2 * X0[:, 1], X0[:, 2]])
    call = getattr(debiased, model)
    options = {"y_predicted": guess, "labeled": LABELED}
    dropped = call(doubled, y, rank="drop", **options)
    plain = call(X0, y, **options)
    assert np.isnan(np.asarray(dropped.estimate)).tolist() == [
        False,
        False,
        True,
        False,
    ]
    assert_close(dropped.take([0, 1, 3]).estimate, plain.estimate, rtol=1e-12)
    assert_close(dropped.take([0, 1, 3]).covariance, plain.covariance, rtol=1e-12)
    assert np.isnan(np.asarray(dropped.std_error)[2])
    with pytest.raises(ValueError, match="concrete `X`"):
        jax.jit(lambda X: call(X, y, rank="drop", **options))(jnp.asarray(doubled))
    with pytest.raises(ValueError, match="`rank` must be one of"):
        call(doubled, y, rank="pinv", **options)


def test_a_year_as_covariate_keeps_its_precision_in_float32():
    rng = np.random.default_rng(0)
    n = 2000
    year = rng.integers(1990, 2021, n)
    X = np.column_stack([np.ones(n), year, rng.normal(size=n)])
    y = 0.02 * (year - 2005) + rng.normal(size=n)
    guess, labeled = 0.8 * y + 0.3 * rng.normal(size=n), rng.random(n) < 0.15
    options = {"y_predicted": guess, "labeled": labeled, "sampling_prob": 0.15}
    for call, seen in ((debiased.ols, y), (debiased.logistic, (y > 0).astype(float))):
        single = call(X, seen, **options)
        with jax.enable_x64(True):
            double = call(X, seen, **options)
            # Squares of the year alone have eight digits, more than float32 holds.
            assert_close(single.estimate, double.estimate, rtol=1e-3)
            assert_close(single.std_error, double.std_error, rtol=1e-4)
            gold = double.diagnostics.gold_std_error
            assert_close(single.diagnostics.gold_std_error, gold, rtol=1e-4)


def test_a_result_in_64_bits_is_read_outside_that_mode():
    with jax.enable_x64(True):
        result = fit()
        inside = np.asarray(result.conf_int())
    assert result.std_error.dtype == jnp.float64
    assert_close(result.conf_int(), inside, rtol=0)
    assert np.isfinite(np.asarray(result.p_value())).all()


@pytest.mark.parametrize("value", [-1.0, 2.0])
def test_gold_labels_outside_their_range_are_refused(value):
    y = with_entry((Y0 > 0).astype(float), 0, value)
    guess = (GUESS > 0).astype(float)
    with pytest.raises(ValueError, match="gold labels of `y` must be 0 or 1"):
        debiased.logistic(X0, y, y_predicted=guess, labeled=LABELED)


def test_one_cluster_under_jit_is_nan():
    clusters = jnp.zeros(200, jnp.int32)
    result = jax.jit(
        lambda ids: debiased.ols(
            X0, Y0, y_predicted=GUESS, labeled=LABELED, sampling_prob=0.4, clusters=ids
        )
    )(clusters)
    assert np.isnan(np.asarray(result.std_error)).all()
    assert not bool(result.converged)


def test_few_clusters_are_not_what_the_matrix_is_fitted_to(x64):
    # Ten clusters: a matrix fitted to their sums would leave almost no variance.
    rng = np.random.default_rng(4)
    n, groups = 800, 10
    ids = np.arange(n) % groups
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 3))])
    y = X.sum(axis=1) + rng.normal(size=groups)[ids] + rng.normal(size=n)
    options = {"labeled": np.arange(n) < 200, "sampling_prob": 0.25, "clusters": ids}
    guess = y + rng.normal(size=n)
    tuned = debiased.ols(X, y, y_predicted=guess, **options)
    plain = debiased.ols(X, y, y_predicted=guess, power_tuning=None, **options)
    ratio = np.asarray(tuned.std_error) / np.asarray(plain.std_error)
    assert (ratio > 0.5).all()
