"""Differences of groups and jumps at a cutoff, against cell means and separate fits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur.debiased._designs import (
    difference_in_differences,
    difference_in_means,
    regression_discontinuity,
)
from tests.helpers import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::jaxcur.debiased.InferenceWarning")

N = 120
RNG = np.random.default_rng(5)
TREATED, POST = np.arange(N) % 2, np.arange(N) // 2 % 2
Y = TREATED + 2 * POST + 3 * TREATED * POST + RNG.normal(size=N)
GUESS = Y + 1 + RNG.normal(size=N)
RUNNING = RNG.uniform(-1, 1, N)
PI = RNG.uniform(0.3, 0.9, N)
LABELED = RNG.uniform(size=N) < PI
SEEN = np.where(LABELED, Y, np.nan)
PSEUDO = GUESS + np.where(LABELED, (Y - GUESS) / PI, 0)
EVERY = np.ones(N, bool)


def test_difference_in_means_of_gold_labels_is_welch(x64):
    result = difference_in_means(Y, TREATED, y_predicted=GUESS, labeled=EVERY)
    one, zero = Y[TREATED == 1], Y[TREATED == 0]
    assert_close(result.estimate, [one.mean() - zero.mean()], rtol=1e-12)
    variance = one.var() / len(one) + zero.var() / len(zero)
    assert_close(result.covariance, [[variance]], rtol=1e-10)


def test_difference_in_means_of_debiased_outcomes(x64):
    result = difference_in_means(
        SEEN,
        TREATED == 1,
        y_predicted=GUESS,
        labeled=LABELED,
        sampling_prob=PI,
        power_tuning=None,
    )
    one, zero = (PSEUDO[TREATED == g].mean() for g in (1, 0))
    assert_close(result.estimate, [one - zero], rtol=1e-12)


def test_predicted_groups_enter_both_second_moments(x64):
    machine = np.where(RNG.uniform(size=N) < 0.8, TREATED, 1 - TREATED)
    result = difference_in_means(
        Y,
        np.where(LABELED, TREATED, np.nan),
        treated_predicted=machine,
        labeled=LABELED,
        sampling_prob=PI,
        power_tuning=None,
    )
    w = LABELED / PI
    gram, right = np.zeros((2, 2)), np.zeros(2)
    for group, weight in ((machine, 1 - w), (TREATED, w)):
        x = np.column_stack([np.ones(N), group])
        gram += (x * weight[:, None]).T @ x
        right += x.T @ (weight * Y)
    assert_close(result.estimate, np.linalg.solve(gram, right)[1:], rtol=1e-11)


def test_difference_in_differences_of_gold_labels_is_that_of_cells(x64):
    result = difference_in_differences(
        Y, TREATED, POST, y_predicted=GUESS, labeled=EVERY
    )
    cells = {(g, t): Y[(TREATED == g) & (POST == t)] for g in (0, 1) for t in (0, 1)}
    means = {cell: values.mean() for cell, values in cells.items()}
    expected = means[1, 1] - means[1, 0] - means[0, 1] + means[0, 0]
    assert_close(result.estimate, [expected], rtol=1e-11)
    variance = sum(values.var() / len(values) for values in cells.values())
    assert_close(result.covariance, [[variance]], rtol=1e-10)


def test_difference_in_differences_of_debiased_outcomes(x64):
    result = difference_in_differences(
        SEEN,
        TREATED,
        POST,
        y_predicted=GUESS,
        labeled=LABELED,
        sampling_prob=PI,
        power_tuning=None,
    )
    signs = (2 * TREATED - 1) * (2 * POST - 1)
    shares = np.array(
        [np.sum((TREATED == g) & (POST == t)) for g, t in zip(TREATED, POST)]
    )
    assert_close(result.estimate, [np.sum(signs * PSEUDO / shares)], rtol=1e-11)


KERNELS = {
    "triangular": lambda u: np.maximum(1 - np.abs(u), 0),
    "uniform": lambda u: (np.abs(u) < 1).astype(float),
    "epanechnikov": lambda u: np.maximum(1 - u * u, 0),
}
CUTOFF, BANDWIDTH = 0.1, 0.6


def one_side(side, weight, outcome):
    """Intercept at the cutoff of a weighted line, and its HC0 variance."""
    rows = side & (weight > 0)
    x = np.column_stack([np.ones(rows.sum()), RUNNING[rows] - CUTOFF])
    k = weight[rows]
    bread = np.linalg.inv((x * k[:, None]).T @ x)
    beta = bread @ x.T @ (k * outcome[rows])
    scores = x * (k * (outcome[rows] - x @ beta))[:, None]
    return beta[0], (bread @ scores.T @ scores @ bread)[0, 0]


def jump(weight, outcome):
    above = RUNNING >= CUTOFF
    high, low = one_side(above, weight, outcome), one_side(~above, weight, outcome)
    return high[0] - low[0], high[1] + low[1]


@pytest.mark.parametrize("kernel", list(KERNELS))
@pytest.mark.parametrize("survey", [None, RNG.uniform(0.5, 2, N)], ids=["", "survey"])
def test_jump_of_gold_labels_is_that_of_two_fits(kernel, survey, x64):
    result = regression_discontinuity(
        Y,
        RUNNING,
        cutoff=CUTOFF,
        bandwidth=BANDWIDTH,
        kernel=kernel,
        y_predicted=GUESS,
        labeled=EVERY,
        weights=survey,
    )
    weight = KERNELS[kernel]((RUNNING - CUTOFF) / BANDWIDTH)
    expected, variance = jump(weight if survey is None else weight * survey, Y)
    assert_close(result.estimate, [expected], rtol=1e-10)
    assert_close(result.covariance, [[variance]], rtol=1e-10)
    assert int(result.diagnostics.num_rows) == (weight > 0).sum()


@pytest.mark.parametrize("given", [True, False], ids=["prob", "srs"])
def test_jump_of_debiased_outcomes(given, x64):
    result = regression_discontinuity(
        SEEN,
        RUNNING,
        cutoff=CUTOFF,
        bandwidth=BANDWIDTH,
        y_predicted=GUESS,
        labeled=LABELED,
        sampling_prob=PI if given else None,
        power_tuning=None,
    )
    weight = KERNELS["triangular"]((RUNNING - CUTOFF) / BANDWIDTH)
    inside = weight > 0
    # Without probabilities: the fraction labelled within the bandwidth.
    prob = PI if given else np.mean(LABELED[inside])
    outcome = GUESS + np.where(LABELED, (Y - GUESS) / prob, 0)
    assert_close(result.estimate, [jump(weight, outcome)[0]], rtol=1e-10)
    assert int(result.diagnostics.num_labeled) == (LABELED & inside).sum()


def test_rows_outside_the_bandwidth_do_not_count(x64):
    far = np.abs(RUNNING - CUTOFF) >= BANDWIDTH
    options = dict(cutoff=CUTOFF, bandwidth=BANDWIDTH, labeled=LABELED)
    one = regression_discontinuity(SEEN, RUNNING, y_predicted=GUESS, **options)
    other = regression_discontinuity(
        np.where(far, 1e6, SEEN),
        RUNNING,
        y_predicted=np.where(far, np.nan, GUESS),
        **options,
    )
    assert_close(other.estimate, one.estimate, rtol=1e-12)
    assert_close(other.covariance, one.covariance, rtol=1e-12)


def test_units_of_the_running_variable_do_not_matter(x64):
    one = regression_discontinuity(
        SEEN,
        RUNNING,
        cutoff=CUTOFF,
        bandwidth=BANDWIDTH,
        y_predicted=GUESS,
        labeled=LABELED,
    )
    other = regression_discontinuity(
        SEEN,
        1000 * RUNNING + 7,
        cutoff=1000 * CUTOFF + 7,
        bandwidth=1000 * BANDWIDTH,
        y_predicted=GUESS,
        labeled=LABELED,
    )
    assert_close(other.estimate, one.estimate, rtol=1e-9)
    assert_close(other.std_error, one.std_error, rtol=1e-9)


@pytest.mark.slow  # compiles everything once more
def test_jumps_at_several_cutoffs_are_one_vmapped_program(x64):
    options = dict(
        bandwidth=BANDWIDTH, y_predicted=GUESS, labeled=LABELED, power_tuning=None
    )

    @jax.jit
    @jax.vmap
    def jumps(cutoff):
        result = regression_discontinuity(SEEN, RUNNING, cutoff=cutoff, **options)
        return result.estimate, result.std_error

    mapped, errors = jumps(jnp.asarray([CUTOFF, -0.2]))
    single = regression_discontinuity(SEEN, RUNNING, cutoff=CUTOFF, **options)
    assert_close(mapped[0], single.estimate, rtol=1e-10)
    assert_close(errors[0], single.std_error, rtol=1e-9)
    assert not np.allclose(mapped[0], mapped[1])


JUMP = dict(cutoff=CUTOFF, bandwidth=BANDWIDTH, y_predicted=GUESS, labeled=LABELED)
BAD = {
    "bandwidth": (dict(bandwidth=0.0), "`bandwidth` must be positive"),
    "kernel": (dict(kernel="gauss"), "`kernel` must be one of 'triangular'"),
    "side": (dict(cutoff=5.0), "no labelled rows below the cutoff.*0 rows"),
    "labels": (
        dict(labeled=RUNNING < CUTOFF),
        "no labelled rows above the cutoff within `bandwidth`",
    ),
    "weights": (dict(weights=np.ones(3)), r"`weights` must have shape \(120,\)"),
}


@pytest.mark.parametrize("changes, message", list(BAD.values()), ids=list(BAD))
def test_a_jump_that_cannot_be_found_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        regression_discontinuity(SEEN, RUNNING, **(JUMP | changes))


def test_missing_running_variable_is_named():
    running = np.where(np.arange(N) < 3, np.nan, RUNNING)
    with pytest.raises(ValueError, match="`running` must be finite.*3"):
        regression_discontinuity(SEEN, running, **JUMP)


def test_groups_other_than_zero_and_one_are_refused():
    with pytest.raises(ValueError, match="`treated` must be 0 or 1.*2"):
        difference_in_means(Y, TREATED + 1, y_predicted=GUESS, labeled=LABELED)
    with pytest.raises(ValueError, match="`post` must be 0 or 1"):
        difference_in_differences(
            Y, TREATED, 3 * POST, y_predicted=GUESS, labeled=LABELED
        )
    with pytest.raises(ValueError, match="`treated` and `y` must have the same length"):
        difference_in_means(Y, TREATED[:5], y_predicted=GUESS, labeled=LABELED)
    with pytest.raises(ValueError, match="`treated_predicted` must have the shape"):
        difference_in_means(Y, TREATED, treated_predicted=PI[:5], labeled=LABELED)


def test_one_group_alone_is_a_collinear_design(x64):
    with pytest.raises(ValueError, match="rank deficient"):
        difference_in_means(Y, np.ones(N), y_predicted=GUESS, labeled=LABELED)
