"""Planning formulas: closed forms against simulation, search and tables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxcur import debiased
from tests.helpers import assert_close

PLAN = {"num_rows": 2000, "variance": 0.25}


def test_target_std_error_is_the_textbook_formula(x64):
    z = scipy.stats.norm.ppf
    two = debiased.target_std_error([0.1, -0.2], level=0.05, power=0.8)
    assert_close(two, np.array([0.1, 0.2]) / (z(0.975) + z(0.8)), rtol=1e-12)
    one = debiased.target_std_error(0.1, level=0.05, power=0.9, alternative="larger")
    assert_close(one, 0.1 / (z(0.95) + z(0.9)), rtol=1e-12)


@pytest.mark.parametrize("alternative", ["two-sided", "larger", "smaller"])
@pytest.mark.parametrize("power", [0.3, 0.8, 0.99])
def test_a_study_at_the_target_has_the_power(x64, alternative, power):
    effect = -0.3 if alternative == "smaller" else 0.3
    error = debiased.target_std_error(
        effect, level=0.1, power=power, alternative=alternative
    )
    found = float(
        debiased.wald_power(effect, error, level=0.1, alternative=alternative)
    )
    # The far tail makes the two-sided test a little stronger, never weaker.
    assert power - 1e-12 <= found <= power + 0.003


def test_power_under_the_null_is_the_level(dtype):
    for alternative in ("two-sided", "larger"):
        found = debiased.wald_power(
            jnp.zeros(2, dtype), 1.0, level=0.05, alternative=alternative
        )
        assert_close(found, np.full(2, 0.05), rtol=1e-5)


def table_correlation(p, sensitivity, specificity):
    joint = np.array(
        [
            [(1 - p) * specificity, (1 - p) * (1 - specificity)],
            [p * (1 - sensitivity), p * sensitivity],
        ]
    )
    predicted = joint.sum(0)[1]
    cov = joint[1, 1] - p * predicted
    return cov / np.sqrt(p * (1 - p) * predicted * (1 - predicted))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.7])
@pytest.mark.parametrize(("a", "b"), [(0.9, 0.9), (0.6, 0.95), (0.2, 0.3)])
def test_correlation_of_a_two_by_two_table(x64, p, a, b):
    expected = table_correlation(p, a, b)
    found = debiased.binary_correlation(p, sensitivity=a, specificity=b)
    assert_close(found, expected, rtol=1e-12)
    if a == b:
        assert_close(debiased.binary_correlation(p, accuracy=a), expected, rtol=1e-12)


def test_correlation_of_a_binormal_score(x64):
    rng = np.random.default_rng(0)
    p, auc = 0.3, 0.8
    y = np.arange(10**5) < 3 * 10**4
    score = rng.standard_normal(10**5)
    score += y * np.sqrt(2) * scipy.stats.norm.ppf(auc)
    ranks = scipy.stats.rankdata(score)[y].sum()
    realised = (ranks - y.sum() * (y.sum() + 1) / 2) / (y.sum() * (~y).sum())
    # Five standard errors of an area, 0.0016, and of a correlation, 0.003.
    assert abs(realised - auc) < 0.008
    found = debiased.binary_correlation(p, auc=auc)
    assert_close(found, np.corrcoef(score, y)[0, 1], rtol=0, atol=0.015)


def test_constant_predictions_have_no_correlation():
    found = debiased.binary_correlation(0.2, sensitivity=1.0, specificity=0.0)
    assert float(found) == 0.0


@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize("accuracy", [0.5, 0.9])
def test_planned_error_is_that_of_the_tuned_mean(x64, finite, accuracy):
    rng = np.random.default_rng(1)
    num_rows, num_labeled, p, reps = 400, 100, 0.3, 4000
    rho = table_correlation(p, accuracy, accuracy)
    y = rng.random((reps, num_rows)) < p
    if finite:
        y = np.tile(np.arange(num_rows) < p * num_rows, (reps, 1))
    predicted = y ^ (rng.random(y.shape) > accuracy)
    order = rng.permuted(np.tile(np.arange(num_rows), (reps, 1)), axis=1)
    labeled = order < num_labeled

    def mean(values):
        return (values * labeled).sum(1) / num_labeled

    # The best multiple for a label with this correlation and this prevalence.
    q = p * accuracy + (1 - p) * (1 - accuracy)
    slope = rho * np.sqrt(p * (1 - p) / (q * (1 - q)))
    estimate = mean(y) + slope * (predicted.mean(1) - mean(predicted))
    spread = estimate.std() if not finite else (estimate - y.mean(1)).std()
    planned = debiased.planned_mean_std_error(
        num_rows=num_rows,
        num_labeled=num_labeled,
        variance=p * (1 - p),
        accuracy=accuracy,
        finite_population=finite,
    )
    # A standard deviation of 4000 draws has a relative error of 1.1 %.
    assert_close(planned, spread, rtol=0.04)


def test_accuracy_and_correlation_agree(x64):
    options = {"num_rows": 900, "num_labeled": 90, "variance": 0.21}
    rho = debiased.binary_correlation(0.3, accuracy=0.85)
    one = debiased.planned_mean_std_error(**options, accuracy=0.85)
    other = debiased.planned_mean_std_error(**options, correlation=rho)
    assert_close(one, other, rtol=1e-12)


def test_limits_of_the_planned_error(x64):
    def planned(**options):
        return float(debiased.planned_mean_std_error(**PLAN, **options))

    assert planned(num_labeled=500) == pytest.approx(0.5 / np.sqrt(500))
    # All rows labeled, or labels that the predictions know: the sample's own error.
    assert planned(num_labeled=2000, accuracy=0.9) == pytest.approx(0.5 / np.sqrt(2000))
    assert planned(num_labeled=5, accuracy=1.0) == pytest.approx(0.5 / np.sqrt(2000))
    assert planned(num_labeled=5, correlation=-1.0) == planned(
        num_labeled=5, correlation=1.0
    )
    assert planned(num_labeled=2000, finite_population=True) == 0


@pytest.mark.parametrize("finite", [False, True])
@pytest.mark.parametrize("accuracy", [None, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("goal", [0.3, 0.02, 0.0125, 0.0112])
def test_required_number_is_the_smallest(x64, finite, accuracy, goal):
    options = {**PLAN, "accuracy": accuracy, "finite_population": finite}
    counts = np.arange(2, 2001)
    errors = np.asarray(debiased.planned_mean_std_error(num_labeled=counts, **options))
    expected = counts[np.argmax(errors <= goal * (1 + 1e-12))]
    assert int(debiased.required_labeled(goal, **options)) == expected


def test_required_number_that_is_whole_on_paper():
    # 0.25 / 0.02^2 = 625, also when the float32 nearest to 0.02 is below it.
    assert int(debiased.required_labeled(0.02, **PLAN)) == 625
    traced = jax.jit(debiased.required_labeled)(jnp.array([0.02, 0.001]), **PLAN)
    assert traced.tolist() == [625, -1]
    goals = np.array([0.05, 0.02], np.float32)
    assert debiased.required_labeled(goals, **PLAN).tolist() == [100, 625]


def test_transformations():
    def planned(n, rho):
        return debiased.planned_mean_std_error(
            num_rows=1000.0, num_labeled=n, variance=1.0, correlation=rho
        )

    n, rho = jnp.array([10.0, 100.0, 2000.0]), jnp.array([0.3, 0.9, 0.5])
    found = jax.jit(jax.vmap(planned))(n, rho)
    assert_close(
        found[:2], jnp.stack([planned(10.0, 0.3), planned(100.0, 0.9)]), rtol=1e-6
    )
    assert np.isnan(found[2])
    slope = jax.grad(planned)(100.0, 0.5)
    # d/dn of sqrt(1/n (1 - rho^2) + rho^2/N).
    assert_close(slope, -0.75 / 100**2 / 2 / float(planned(100.0, 0.5)), rtol=1e-5)
    bad = jax.jit(debiased.target_std_error)(1.0, level=0.3, power=0.1)
    assert np.isnan(bad)
    assert np.isnan(debiased.wald_power(1.0, 0.0))


def test_errors():
    with pytest.raises(ValueError, match="`power` must exceed 0.025"):
        debiased.target_std_error(1.0, power=0.01)
    with pytest.raises(ValueError, match="`level` must lie in"):
        debiased.target_std_error(1.0, level=0.0)
    with pytest.raises(ValueError, match="`alternative` must be one of"):
        debiased.wald_power(1.0, 1.0, alternative="greater")
    with pytest.raises(ValueError, match="exactly one of"):
        debiased.binary_correlation(0.5)
    with pytest.raises(ValueError, match="exactly one of"):
        debiased.binary_correlation(0.5, sensitivity=0.5)
    with pytest.raises(ValueError, match="exactly one of"):
        debiased.binary_correlation(0.5, accuracy=0.5, auc=0.5)
    with pytest.raises(ValueError, match=r"`prevalence` must lie in \(0, 1\)"):
        debiased.binary_correlation(0.0, accuracy=0.9)
    with pytest.raises(ValueError, match="`num_labeled` must not exceed"):
        debiased.planned_mean_std_error(num_labeled=3000, **PLAN)
    with pytest.raises(ValueError, match="`num_labeled` must lie in"):
        debiased.planned_mean_std_error(num_labeled=0, **PLAN)
    with pytest.raises(ValueError, match="either `correlation` or `accuracy`"):
        debiased.planned_mean_std_error(
            num_labeled=9, correlation=0.1, accuracy=0.6, **PLAN
        )
    with pytest.raises(ValueError, match=r"`variance` must lie in \[0, 0.25\]"):
        debiased.required_labeled(0.1, num_rows=99, variance=0.3, accuracy=0.9)
    with pytest.raises(ValueError, match="out of reach: labeling all rows gives"):
        debiased.required_labeled(0.01, **PLAN)
