"""The harness itself: right error rates when watched all the time, and power."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import beta

from jaxcur import verify
from jaxcur.verify._asymptotic import T_MIN, sequence_evidence
from tests.helpers import assert_close

pytestmark = pytest.mark.guarantee

NUM_RUNS = 2000
DELTA = 0.05


def upper_limit(count, runs, error=1e-6):
    """Clopper-Pearson, from scipy: independent of the package."""
    return 1.0 if count == runs else float(beta.ppf(1 - error, count + 1, runs - count))


def crossings(claim, draw, *, runs, batch, looks, seed, refute, certify):
    """Which runs ever crossed, looking after every batch, through update and verdict.

    `draw(key, n)` gives the metrics of n replications. Runs are mapped, looks scanned.
    """

    @jax.jit
    def study(key):
        def look(carry, index):
            state, top = carry
            state = verify.update(state, draw(jax.random.fold_in(key, index), batch))
            seen = verify.evidence(state)
            now = jnp.stack([seen.refute[0], seen.certify[0]])
            return (state, jnp.maximum(top, now)), None

        start = (verify.init(claim), jnp.full(2, -jnp.inf))
        (_, top), _ = jax.lax.scan(look, start, jnp.arange(looks))
        return top

    keys = jax.random.split(jax.random.key(seed), runs)
    # In groups: all runs at once would hold 2000 batches with 36 bets each.
    tops = np.asarray(jax.jit(lambda ks: jax.lax.map(study, ks, batch_size=100))(keys))
    return (
        int((tops[:, 0] >= -math.log(refute)).sum()),
        int((tops[:, 1] >= -math.log(certify)).sum()),
    )


def bernoulli(rate):
    return lambda key, n: {"x": jax.random.uniform(key, (n,)) < rate}


def proportions(mean):
    """Mixed like a false discovery proportion: exact zeros and ones, and in between."""

    def draw(key, n):
        u = jax.random.uniform(key, (2, n))
        middle = 2 * (mean - 0.02) / 0.9 * u[1]
        return {"x": jnp.where(u[0] < 0.02, 1.0, jnp.where(u[0] < 0.1, 0.0, middle))}

    return draw


WATCHED = {
    "runs": NUM_RUNS,
    "batch": 128,
    "looks": 64,
    "refute": DELTA,
    "certify": DELTA,
}


@pytest.mark.parametrize(
    ("claim", "rate"),
    [
        (verify.at_most("x", 0.1, margin=0.01), 0.1),
        (verify.at_least("x", 0.9, margin=0.01), 0.9),
        (verify.equals("x", 0.3, margin=0.03), 0.3),
    ],
    ids=["at_most", "at_least", "equals"],
)
def test_false_refutations_at_the_exact_bound(claim, rate):
    refuted, _ = crossings(claim, bernoulli(rate), seed=1, **WATCHED)
    assert upper_limit(refuted, NUM_RUNS) < 0.08


@pytest.mark.parametrize(
    ("claim", "rate"),
    [
        (verify.at_most("x", 0.1, margin=0.01), 0.11),
        (verify.at_least("x", 0.9, margin=0.01), 0.89),
        (verify.equals("x", 0.3, margin=0.03), 0.33),
    ],
    ids=["at_most", "at_least", "equals"],
)
def test_false_certificates_at_the_edge_of_the_margin(claim, rate):
    _, certified = crossings(claim, bernoulli(rate), seed=2, **WATCHED)
    assert upper_limit(certified, NUM_RUNS) < 0.08


def test_error_rates_of_metrics_that_are_not_binary():
    claim = verify.at_most("x", 0.1, margin=0.01)
    watched = {**WATCHED, "runs": 1000, "looks": 24}
    refuted, _ = crossings(claim, proportions(0.1), seed=3, **watched)
    _, certified = crossings(claim, proportions(0.11), seed=4, **watched)
    assert upper_limit(refuted, 1000) < 0.08
    assert upper_limit(certified, 1000) < 0.08


def test_error_rates_are_not_zero_by_construction():
    # Were the evidence computed wrongly towards 0, the tests above would pass too:
    # at the edge some runs must cross, and a little beyond it most must.
    claim = verify.at_most("x", 0.1, margin=0.01)
    refuted, _ = crossings(claim, bernoulli(0.1), seed=1, **WATCHED)
    assert refuted > 0
    many = {**WATCHED, "runs": 200}
    refuted, _ = crossings(claim, bernoulli(0.12), seed=5, **many)
    assert refuted > 150
    _, certified = crossings(claim, bernoulli(0.09), seed=6, **many)
    assert certified > 150


def test_a_rate_beyond_the_bound_is_refuted_within_three_times_the_plan():
    claim = verify.at_most("x", 0.1)
    planned = verify.plan(claim, mean=0.15)
    batch = 3 * planned // 15
    refuted, _ = crossings(
        claim,
        bernoulli(0.15),
        runs=NUM_RUNS,
        batch=batch,
        looks=15,
        seed=7,
        refute=1e-6,
        certify=1e-3,
    )
    assert batch * 15 <= 3 * planned
    assert refuted >= 0.99 * NUM_RUNS


def test_the_planned_number_certifies_most_correct_procedures():
    # Slightly pessimistic beside the median, says the plan: more than half are done.
    claim = verify.at_most("x", 0.1, margin=0.03)
    planned = verify.plan(claim)
    _, certified = crossings(
        claim,
        bernoulli(0.1),
        runs=400,
        batch=planned // 10,
        looks=10,
        seed=8,
        refute=1e-6,
        certify=1e-3,
    )
    assert certified > 200


@functools.cache
def plain_looks(runs, looks, batch, rate, seed):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.binomial(batch, rate, (runs, looks)), axis=1)


def test_the_habit_this_replaces_fails():
    # A one-sided 5 % z-test looked at 80 times flags about a third of perfect runs.
    successes = plain_looks(NUM_RUNS, 80, 256, 0.1, 9)
    n = 256 * np.arange(1, 81)
    z = (successes - 0.1 * n) / np.sqrt(0.09 * n)
    flagged = (z > 1.645).any(axis=1).mean()
    assert flagged > 0.25
    evidence = verify.log_evidence(successes, n, 0.1)
    assert (evidence > math.log(1 / DELTA)).any(axis=1).mean() < 0.02


def test_intervals_cover_at_all_looks_at_once():
    looks = np.arange(1, 41)
    for rate in (0.02, 0.4):
        successes = plain_looks(500, 40, 200, rate, 10)
        low, high = verify.rate_interval(successes, 200 * looks, 0.95)
        missed = int(((low > rate) | (high < rate)).any(axis=1).sum())
        assert upper_limit(missed, 500) < 0.08
        # Not by being wide: within twice the fixed-sample normal interval at the end.
        width = (high - low)[:, -1].mean()
        assert width < 2 * 2 * 1.96 * math.sqrt(rate * (1 - rate) / 8000)


def selection(miss):
    def draw(key, n):
        u = jax.random.uniform(key, (2, n))
        selected = u[0] < 0.3
        return {"selected": selected, "both": selected & (u[1] < miss)}

    return draw


def powered(exponent):
    return lambda key, n: {"p": jax.random.uniform(key, (n,)) ** exponent}


def forecasts(sharpening):
    def draw(key, n):
        u = jax.random.uniform(key, (2, n))
        logit = 4 * u[0] - 2
        p = jax.nn.sigmoid(sharpening * logit)
        return {"p": p, "y": u[1] < jax.nn.sigmoid(logit)}

    return draw


def ranks(exponent):
    return lambda key, n: {
        "r": jnp.floor(20 * jax.random.uniform(key, (n,)) ** exponent).clip(max=19)
    }


STRUCTURED = {
    "given selection": (
        verify.ratio_at_most("both", "selected", 0.1, margin=0.02),
        selection(0.1),
        selection(0.12),
        selection(0.2),
        1.0,
    ),
    "super-uniform": (
        verify.super_uniform("p", margin=0.02),
        powered(1.0),
        None,
        powered(1.2),
        0.98,
    ),
    "forecasts": (
        verify.forecast_calibrated("p", "y", num_bins=3, margin=0.05),
        forecasts(1.0),
        None,
        forecasts(1.5),
        0.85,
    ),
    "ranks": (
        verify.rank_uniform("r", 20, margin=0.03),
        ranks(1.0),
        None,
        ranks(1.3),
        0.98,
    ),
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_structured_claims_have_right_error_rates_and_power(name):
    claim, true, edge, false, power = STRUCTURED[name]
    # Forecasts are neither 0 nor 1: sixty times the work of counting.
    runs = 400 if name == "forecasts" else 1000
    watched = {"runs": runs, "batch": 100, "looks": 30}
    loose = {"refute": DELTA, "certify": DELTA}
    refuted, _ = crossings(claim, true, seed=11, **watched, **loose)
    # Rank uniformity comes near its level: 43 of 1000 would still be in order.
    assert upper_limit(refuted, runs) < 0.09
    if edge is not None:
        _, certified = crossings(claim, edge, seed=12, **watched, **loose)
        assert upper_limit(certified, runs) < 0.08
    strict = {"refute": 1e-6, "certify": 1e-3}
    few = {**watched, "runs": 200}
    refuted, _ = crossings(claim, false, seed=13, **few, **strict)
    assert refuted >= power * 200


@pytest.mark.parametrize("law", ["normal", "lognormal"])
def test_asymptotic_sequence_has_about_its_error_rate(law):
    rng = np.random.default_rng(14)
    runs, total = 1000, 6000
    crossed = np.zeros(runs, bool)
    looks = np.arange(T_MIN, total + 1, 50)
    for start in range(0, runs, 250):
        x = rng.normal(size=(250, total))
        if law == "lognormal":
            x = np.exp(x) - math.exp(0.5)
        sums = np.cumsum(x, axis=1)[:, looks - 1]
        squares = np.cumsum(x * x, axis=1)[:, looks - 1]
        n = looks.astype(float)
        both = [
            sequence_evidence(np, n, sign * sums, squares, 0.0, DELTA)
            for sign in (1, -1)
        ]
        top = np.maximum(*both).max(axis=1)
        crossed[start : start + 250] = top >= -math.log(DELTA)
    count = int(crossed.sum())
    assert upper_limit(count, runs) < 0.09
    assert count > 0


def test_check_agrees_with_the_pure_functions_under_repeated_looks():
    # The same replications through the driver: same crossing, at the same look.
    def replicate(key):
        return {"x": jax.random.uniform(key) < 0.13}

    claim = verify.at_most("x", 0.1)
    for seed in range(5):
        key = jax.random.key(seed)
        report = verify.check(
            replicate,
            claim,
            key=key,
            max_replications=8192,
            batch_size=256,
            max_batch_size=256,
        )
        x = np.asarray(verify.simulate(replicate, key=key, num_replications=8192)["x"])
        n = 256 * np.arange(1, 33)
        evidence = verify.log_evidence(np.cumsum(x)[n - 1], n, 0.1)
        crossed = n[evidence >= math.log(1e6)]
        expected = int(crossed[0]) if crossed.size else None
        assert report[0].refuted_at == expected
        assert_close(
            report[0].log_evidence,
            float(evidence[n == report.replications][0]),
            rtol=1e-9,
        )
