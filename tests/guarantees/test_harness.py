"""The harness keeps its own promise: error rates at the bound, power beyond it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import stats, verify

RUNS, LOOKS, BATCH, DELTA = 2000, 80, 256, 0.05
BOUND, MARGIN = 0.1, 0.02

pytestmark = pytest.mark.guarantee


def cumulative_counts(rate: float, seed: int, looks: int = LOOKS) -> np.ndarray:
    """Successes after each look of each run, (RUNS, looks)."""
    draws = np.random.default_rng(seed).binomial(BATCH, rate, size=(RUNS, looks))
    return np.cumsum(draws, axis=1)


def crossed(successes: np.ndarray, bound: float, side: str, delta: float) -> np.ndarray:
    """Whether the evidence of each run reaches its boundary at some look, (RUNS,)."""
    trials = BATCH * np.arange(1, successes.shape[1] + 1)
    trials = np.broadcast_to(trials, successes.shape)
    evidence = verify.log_evidence(successes, trials, bound, side=side)
    return (np.asarray(evidence) >= np.log(1 / delta)).any(axis=1)


def upper_bound(wrong: np.ndarray) -> float:
    """Clopper-Pearson upper bound of the share, error rate 1e-6."""
    count = int(wrong.sum())
    return float(stats.clopper_pearson(count, wrong.size, 1 - 2e-6)[1])


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_a_true_claim_at_its_bound_is_rarely_refuted(rate):
    refuted = crossed(cumulative_counts(rate, seed=1), rate, "up", DELTA)
    assert upper_bound(refuted) < 0.08


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
def test_a_claim_false_by_its_margin_is_rarely_certified(rate):
    edge = rate + MARGIN
    certified = crossed(cumulative_counts(edge, seed=2), edge, "down", DELTA)
    assert upper_bound(certified) < 0.08


def test_a_z_band_looked_at_as_often_fails_the_same_bar():
    """The bar has teeth: the usual one-sided 5 % band is far above it."""
    successes = cumulative_counts(BOUND, seed=3)
    trials = BATCH * np.arange(1, LOOKS + 1)
    z = (successes / trials - BOUND) / np.sqrt(BOUND * (1 - BOUND) / trials)
    assert (z > 1.6449).any(axis=1).mean() > 0.2


def test_a_rate_above_the_bound_is_refuted_within_three_times_the_plan():
    claim = verify.at_most("x", BOUND)
    planned = verify.plan(claim, mean=BOUND + 0.05, delta_refute=1e-6)
    looks = 3 * planned // BATCH
    successes = cumulative_counts(BOUND + 0.05, seed=4, looks=looks)
    assert crossed(successes, BOUND, "up", 1e-6).mean() >= 0.99


@functools.partial(jax.jit, static_argnames=("looks",))
def looked_at(keys: jax.Array, rate: float, looks: int) -> tuple[jax.Array, jax.Array]:
    """Verdict after each look and successes, by the pure functions, (runs, looks)."""
    claim = verify.at_most("x", BOUND, margin=MARGIN)

    def run(key: jax.Array):
        def look(state, i):
            draw = jax.random.bernoulli(jax.random.fold_in(key, i), rate, (BATCH,))
            state = verify.update(state, {"x": draw.astype(jnp.float32)})
            answer = verify.verdict(state, delta_refute=DELTA, delta_certify=DELTA)
            return state, (answer[0], jnp.sum(draw, dtype=jnp.int32))

        return jax.lax.scan(look, verify.init(claim), jnp.arange(looks))[1]

    verdicts, successes = jax.vmap(run)(keys)
    return verdicts, jnp.cumsum(successes, axis=1)


@pytest.mark.parametrize(
    ("rate", "verdict", "edge", "side"),
    [
        (BOUND + 0.05, verify.Verdict.REFUTED, BOUND, "up"),
        (BOUND, verify.Verdict.CERTIFIED, BOUND + MARGIN, "down"),
    ],
)
def test_states_reach_the_verdicts_of_the_closed_form(rate, verdict, edge, side):
    keys = jax.random.split(jax.random.key(5), 20)
    verdicts, successes = looked_at(keys, rate, looks=12)
    trials = np.broadcast_to(BATCH * np.arange(1, 13), successes.shape)
    evidence = verify.log_evidence(np.asarray(successes), trials, edge, side=side)
    expected = np.asarray(evidence) >= np.log(1 / DELTA)
    assert expected.any()
    assert ((np.asarray(verdicts) == int(verdict)) == expected).all()


def test_check_stops_with_the_verdict_the_counts_support():
    report = verify.check(
        lambda key: {"x": jax.random.uniform(key) < BOUND + 0.05},
        verify.at_most("x", BOUND),
        key=jax.random.key(6),
        max_replications=16_384,
    )
    (result,) = report.results
    assert result.verdict is verify.Verdict.REFUTED
    successes = round(result.estimate * result.replications)
    closed = verify.log_evidence(successes, result.replications, BOUND, side="up")
    assert result.log_evidence == pytest.approx(float(closed), rel=1e-9)
