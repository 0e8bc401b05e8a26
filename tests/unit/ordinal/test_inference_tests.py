import jax
import numpy as np
import pytest
import statsmodels.api as sm

from jaxcur import ordinal
from tests.helpers import assert_close
from tests.unit.ordinal.problem import K, P, sample

pytestmark = pytest.mark.usefixtures("x64")


def brant_in_numpy(X, y, k):
    design = sm.add_constant(X)
    m, q = k - 1, design.shape[1]
    fits = [sm.Logit(y > cut, design).fit(disp=0, tol=1e-12) for cut in range(m)]
    above = np.stack([fit.predict() for fit in fits])
    covariance = np.zeros((m * q, m * q))
    for a in range(m):
        for b in range(m):
            low, high = min(a, b), max(a, b)
            meat = design.T @ (design * (above[high] * (1 - above[low]))[:, None])
            block = fits[a].cov_params() @ meat @ fits[b].cov_params()
            covariance[a * q : a * q + q, b * q : b * q + q] = block
    slopes = np.concatenate([fit.params[1:] for fit in fits])
    keep = [a * q + j for a in range(m) for j in range(1, q)]
    covariance = covariance[np.ix_(keep, keep)]
    p = q - 1

    def wald(features):
        rows = []
        for a in range(1, m):
            for j in features:
                row = np.zeros(m * p)
                row[j], row[a * p + j] = 1, -1
                rows.append(row)
        contrast = np.array(rows)
        gap = contrast @ slopes
        return gap @ np.linalg.solve(contrast @ covariance @ contrast.T, gap)

    return [wald([j]) for j in range(p)], wald(range(p)), -slopes.reshape(m, p).T


@pytest.mark.parametrize("classes", [3, 4])
def test_brant_is_that_of_separate_logits(classes):
    rng = np.random.default_rng(classes)
    X = rng.normal(size=(150, 2)) + 2
    latent = X @ np.array([1.0, -0.5]) + rng.logistic(size=150) * (1 + (X[:, 0] > 2))
    y = np.digitize(latent, np.quantile(latent, np.linspace(0, 1, classes + 1)[1:-1]))
    found = ordinal.brant_test(X, y, num_classes=classes)
    each, overall, coefficients = brant_in_numpy(X, y, classes)
    assert_close(found.statistic, each, rtol=1e-7)
    assert_close(found.overall_statistic, overall, rtol=1e-7)
    assert_close(found.coefficients, coefficients, rtol=1e-7)
    assert int(found.overall_degrees) == 2 * (classes - 2)
    from scipy import stats

    assert_close(found.p_value, stats.chi2.sf(each, classes - 2), rtol=1e-7)
    assert np.all(np.asarray(found.status) == 0)


def score_in_numpy(X, y, alpha, slopes, feature):
    """Rao's statistic, with the information from squared scores of every class."""
    n = len(X)
    below = 1 / (1 + np.exp(-(alpha + X @ slopes)))
    density = below * (1 - below)
    # Parameters: two intercepts, common slopes, one more slope of the last boundary.
    eta_jacobian = np.zeros((n, 2, 2 + P + 1))
    eta_jacobian[:, 0, 0] = eta_jacobian[:, 1, 1] = 1
    eta_jacobian[:, :, 2 : 2 + P] = X[:, None, :]
    eta_jacobian[:, 1, -1] = X[:, feature]
    below_jacobian = density[:, :, None] * eta_jacobian
    padded = np.pad(below_jacobian, ((0, 0), (1, 1), (0, 0)))
    moves = np.diff(padded, axis=1)
    probs = np.diff(np.pad(below, ((0, 0), (1, 0))), axis=1, append=1.0)
    score = np.sum(moves[np.arange(n), y] / probs[np.arange(n), y][:, None], axis=0)
    information = np.einsum("nka,nkb,nk->ab", moves, moves, 1 / probs)
    return score @ np.linalg.solve(information, score)


def test_the_score_test_is_raos():
    X, y = sample()
    fit = ordinal.fit(X, y, num_classes=K, penalty=ordinal.Parallel())
    found = ordinal.nominal_test(X, y, num_classes=K, method="score")
    alpha, slopes = np.asarray(fit.intercepts), np.asarray(fit.coefficients)
    expected = [score_in_numpy(X, y, alpha, slopes, j) for j in range(P)]
    assert_close(found.statistic, expected, rtol=1e-6)


def test_the_wald_test_is_the_squared_difference_in_errors():
    X, y = sample()
    found = ordinal.nominal_test(X, y, num_classes=K, method="wald")
    for j in range(P):
        mask = np.arange(P) != j
        fit = ordinal.fit(X, y, num_classes=K, penalty=ordinal.Partial(mask))
        covariance = np.asarray(ordinal.standard_errors(fit, X, y).covariance)
        at = np.array([2 + j, 2 + P + j])
        gap = fit.coefficients[j, 1] - fit.coefficients[j, 0]
        contrast = np.array([-1.0, 1.0])
        variance = contrast @ covariance[np.ix_(at, at)] @ contrast
        assert_close(found.statistic[j], float(gap**2 / variance), rtol=1e-6)


def test_the_three_tests_agree_where_rows_are_many():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    eta = np.array([0.0, 1.0]) + X @ np.array([[1.0, 1.2], [-0.5, -0.5]])
    y = np.sum(rng.uniform(size=(4000, 1)) > 1 / (1 + np.exp(-eta)), axis=1)
    found = {
        method: np.asarray(
            ordinal.nominal_test(X, y, num_classes=K, method=method).statistic
        )
        for method in ("lr", "score", "wald")
    }
    assert found["lr"][0] > 10
    assert_close(found["score"], found["lr"], rtol=0.05, atol=0.05)
    assert_close(found["wald"], found["lr"], rtol=0.05, atol=0.05)


def test_a_collinear_feature_has_no_test_but_a_status():
    X, y = sample()
    X[:, 1] = X[:, 0]
    found = ordinal.nominal_test(X, y, num_classes=K, method="score")
    # Set free, the first feature's difference is known; its own slope is not.
    assert np.all(np.isnan(found.p_value))
    assert np.all(np.asarray(found.status) == 4)


def test_standard_errors_work_on_a_result_made_under_jit():
    X, y = sample()

    @jax.jit
    def errors(weights):
        fit = ordinal.fit(X, y, num_classes=K, weights=weights)
        return ordinal.standard_errors(fit, X, y, weights=weights).coefficients

    fit = ordinal.fit(X, y, num_classes=K)
    outside = ordinal.standard_errors(fit, X, y).coefficients
    assert_close(errors(np.ones(len(y))), outside, rtol=1e-6)


def test_misuse():
    X, y = sample()
    with pytest.raises(ValueError, match="'lr', 'score', 'wald'"):
        ordinal.nominal_test(X, y, num_classes=K, method="rao")
    with pytest.raises(ValueError, match="at least 3"):
        ordinal.brant_test(X, y > 0, num_classes=2)
