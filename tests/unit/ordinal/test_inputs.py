"""What is refused, and in which words; what is used up by precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from jaxcur import ordinal
from jaxcur.ordinal._inputs import check_key
from jaxcur.ordinal._parameters import cluster_codes
from tests.helpers import assert_close
from tests.unit.ordinal.problem import K, N, sample

X, Y = sample()
WORDS = np.array(["low", "mid", "top"])[Y]
KEY = jax.random.key(0)
WRONG = {
    "words": (lambda: fit(y=WORDS), "codes 0..num_classes-1, got dtype <U3"),
    "categories": (
        lambda: fit(y=pd.Series(WORDS, dtype="category")),
        "a pandas categorical: pass its codes, y.cat.codes, or use jaxcur.frames.fit",
    ),
    "a categorical": (lambda: fit(y=pd.Categorical(WORDS)), "a pandas categorical"),
    "halves": (lambda: fit(y=Y + 0.5), "`y` must hold integers"),
    "one too many": (lambda: fit(y=Y + 1), r"`y` must lie in 0\.\.2, got values from"),
    "NaN in y": (lambda: fit(y=np.where(Y > 1, np.nan, Y)), "`y` must not hold NaN"),
    "a single class": (lambda: fit(y=0 * Y + 1), "`y` holds a single class, 1"),
    "no class 1": (lambda: fit(y=Y // 2 * 2), "`y` never takes class 1"),
    "a class of the penalty": (
        lambda: fit(penalty=ordinal.Presto),
        r"`penalty` must be one of Presto\(\)",
    ),
    "cv": (lambda: fit(regularization="cv"), "got 'cv'; `cross_validate` chooses"),
    "no strength": (lambda: fit(regularization=None), "`regularization` must be a num"),
    "two strengths": (lambda: fit(regularization=[1.0, 2.0]), "for several use `path`"),
    "a negative strength": (lambda: fit(regularization=-1.0), "`regularization` must"),
    "no rows": (lambda: fit(X=X[:0], y=Y[:0]), "`X` has no rows"),
    "no columns": (lambda: fit(X=X[:, :0]), "`X` has no columns"),
    "one axis": (lambda: fit(X=X[:, 0]), r"`X` must have shape \(n, p\)"),
    "infinity": (
        lambda: fit(X=np.where(np.arange(2) == 1, np.inf, X)),
        "column 1 holds NaN or inf",
    ),
    "a negative weight": (
        lambda: fit(weights=np.where(np.arange(N) == 0, -1.0, 1.0)),
        "`weights` must be finite and at least 0",
    ),
    "NaN weights": (lambda: fit(weights=np.full(N, np.nan)), "`weights` must be fin"),
    "zero weights": (lambda: fit(weights=np.zeros(N)), "`weights` must not all be 0"),
    "a seed": (
        lambda: ordinal.cross_validate(X, Y, num_classes=K, key=0),
        r"`key` must be a PRNG key, jax.random.key\(\.\.\.\), got 0",
    ),
    "a seed of resamples": (
        lambda: ordinal.bootstrap(X, Y, num_classes=K, key=0),
        "`key` must be a PRNG key",
    ),
    "few resamples": (
        lambda: ordinal.bootstrap(X, Y, num_classes=K, key=KEY, num_resamples=38),
        "`num_resamples` must be at least 39 for intervals of confidence_level 0.95",
    ),
    "a probability of 1.2": (
        lambda: ordinal.binned_squared_calibration_error(np.full(60, 1.2), Y > 1),
        r"`probs` must lie in \[0, 1\], got values from 1.2 to 1.2",
    ),
    "an event of 2": (
        lambda: ordinal.binned_squared_calibration_error(np.full(60, 0.2), Y),
        "`events` must hold 0 and 1 only, got 2",
    ),
}


def fit(**changes):
    options = {"X": X, "y": Y, "num_classes": K, "regularization": 0.02} | changes
    return ordinal.fit(options.pop("X"), options.pop("y"), **options)


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used_is_named(case):
    call, message = WRONG[case]
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_old_keys_are_keys():
    for key in (KEY, jax.random.PRNGKey(3), np.asarray(jax.random.PRNGKey(3)), None):
        assert check_key(key) is key


def test_clusters_may_have_names():
    names = np.array(["north", "east", "west"])[np.arange(N) % 3]
    codes = np.asarray(cluster_codes(names, N))
    np.testing.assert_array_equal(codes, np.array([1, 0, 2])[np.arange(N) % 3])


def test_under_jit_a_bad_probability_gives_nan():
    error = jax.jit(ordinal.binned_squared_calibration_error)
    good = jnp.linspace(0.0, 1.0, N)
    assert np.isfinite(error(good, Y > 1))
    assert np.isnan(error(good + 0.1, Y > 1))
    assert np.isnan(error(good, Y))


@pytest.mark.parametrize("power", [-19, -10, 10, 19])
def test_the_unit_of_a_column_does_not_matter_in_single_precision(power):
    usual = fit(X=X.astype(np.float32))
    scaled = X.astype(np.float32) * np.float32(10.0) ** np.float32(power)
    result = fit(X=scaled)
    assert int(result.status) == 0
    assert_close(result.objective, usual.objective, rtol=1e-6)
    back = np.asarray(result.coefficients) * 10.0**power
    assert_close(back, usual.coefficients, rtol=1e-3, atol=1e-4)


def test_columns_far_from_zero_are_fitted_and_lost_digits_are_told():
    centred = np.round(X * 16) / 16
    usual = fit(X=centred.astype(np.float32))
    for shift, status in ((2.0**10, 0), (2.0**19, 5)):
        # Sums are exact in single precision: the fits are those of the same columns.
        result = fit(X=(centred + shift).astype(np.float32))
        assert int(result.status) == status
        assert_close(result.objective, usual.objective, rtol=1e-6)
        assert_close(result.coefficients, usual.coefficients, rtol=1e-3, atol=1e-4)
    assert "subtract a constant" in result.message
    with jax.enable_x64(True):
        assert int(fit(X=centred + 2.0**19).status) == 0


def test_a_constant_column_has_coefficient_zero_and_no_error():
    for value in (0.0, 0.1, 1e6):
        with_constant = np.where(np.arange(2) == 1, value, X).astype(np.float32)
        result = fit(X=with_constant, regularization=0.0, penalty=ordinal.Parallel())
        assert int(result.status) == 0
        np.testing.assert_array_equal(result.coefficients[1], 0)
        errors = ordinal.standard_errors(result, with_constant, Y)
        assert np.all(np.isnan(errors.coefficients[1]))
        assert np.all(np.asarray(errors.coefficients[0]) > 0)
        assert np.all(np.asarray(errors.intercepts) > 0)
    test = ordinal.nominal_test(with_constant, Y, num_classes=K)
    assert np.isnan(test.p_value[1]) and int(test.status[1]) == 4
    assert 0 < float(test.p_value[0]) <= 1


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["observed", "expected"])
def test_classes_that_separate_have_no_errors_and_no_intervals(kind):
    apart = np.digitize(X[:, 0], np.quantile(X[:, 0], [0.5, 0.8]))
    free = fit(y=apart, regularization=0.0)
    assert int(free.status) == 2
    errors = ordinal.standard_errors(free, X, apart, kind=kind)
    assert np.all(np.isnan(errors.covariance))
    for regularization in (0.0, 0.01, 1.0):
        found = ordinal.debiased_intervals(
            X, apart, num_classes=K, regularization=regularization, kind=kind
        )
        assert int(found.status) == 2
        assert np.all(np.isnan(found.rare_interval))
        assert np.all(np.isnan(found.coefficients_interval))
    fine = ordinal.debiased_intervals(
        X, Y, num_classes=K, regularization=0.01, kind=kind
    )
    assert int(fine.status) == 0


def test_every_status_has_words():
    assert sorted(ordinal.STATUS) == list(range(6))
    twice = X[:, [0, 0]]
    found = ordinal.firth_fit(twice, Y, num_classes=K)
    assert int(found.status) == 4 and "collinear" in found.message
    assert np.all(np.isnan(found.coefficients))


def test_too_few_weights_of_the_user_give_fits_and_no_intervals():
    drawn = np.random.default_rng(0).exponential(size=(39, N))
    options = {"num_classes": K, "resample_weights": drawn}
    few = ordinal.bootstrap(X, Y, confidence_level=0.96, **options)
    assert np.all(np.isfinite(few.coefficients))
    assert np.all(np.isnan(few.coefficients_interval))
    assert np.all(np.isnan(few.rare_interval)) and np.all(np.isnan(few.rare_basic))
    enough = ordinal.bootstrap(X, Y, **options)
    ends = np.asarray(enough.coefficients_interval)
    # At the fewest, the ends are the smallest and the largest resample.
    assert_close(ends[..., 0], np.min(enough.coefficients, axis=0), rtol=0, atol=1e-6)
    assert_close(ends[..., 1], np.max(enough.coefficients, axis=0), rtol=0, atol=1e-6)
