import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify import Verdict
from jaxcur.verify._asymptotic import rho_squared, sequence_evidence, sequence_radius
from jaxcur.verify._claims import as_claims
from jaxcur.verify._state import init_in
from tests.helpers import assert_close


def verdict_of(claim, x, **options):
    state = verify.update(init_in(np, as_claims(claim)), {"x": np.asarray(x)})
    device = verify.update(verify.init(claim), {"x": jnp.asarray(x)})
    host = int(verify.verdict(state, **options)[0])
    assert int(verify.verdict(device, **options)[0]) == host
    assert int(jax.jit(lambda s: verify.verdict(s, **options))(device)[0]) == host
    return Verdict(host)


ZEROS, ONES = np.zeros(400, np.float32), np.ones(400, np.float32)


def test_the_four_verdicts():
    claim = verify.at_most("x", 0.1)
    assert verdict_of(claim, ONES) is Verdict.REFUTED
    assert verdict_of(claim, ZEROS) is Verdict.CERTIFIED
    assert verdict_of(claim, ZEROS[:5]) is Verdict.INCONCLUSIVE
    assert verdict_of(claim, np.append(ZEROS, np.float32(2))) is Verdict.INVALID


def test_verdicts_of_the_mirror_image():
    claim = verify.at_least("x", 0.9)
    assert verdict_of(claim, ZEROS) is Verdict.REFUTED
    assert verdict_of(claim, ONES) is Verdict.CERTIFIED


def test_equality_needs_both_sides():
    claim = verify.equals("x", 0.5, margin=0.1)
    assert verdict_of(claim, ONES) is Verdict.REFUTED
    assert verdict_of(claim, ZEROS) is Verdict.REFUTED
    assert verdict_of(claim, np.full(400, 0.5, np.float32)) is Verdict.CERTIFIED


def test_equality_with_a_margin_beyond_one_end_of_the_range():
    # [-0.005, 0.015] reaches below 0, where nothing needs to be certified.
    claim = verify.equals("x", 0.005, margin=0.01)
    assert verdict_of(claim, np.zeros(2000, np.float32)) is Verdict.CERTIFIED
    assert verdict_of(claim, ONES) is Verdict.REFUTED


def test_bounds_at_the_ends_of_the_range():
    assert verdict_of(verify.at_most("x", 0.0), np.zeros(5000)) is Verdict.CERTIFIED
    tiny = np.zeros(5000, np.float32)
    tiny[17] = 1e-6
    assert verdict_of(verify.at_most("x", 0.0), tiny) is Verdict.REFUTED
    assert verdict_of(verify.equals("x", 0.0), tiny) is Verdict.REFUTED
    assert verdict_of(verify.at_least("x", 1.0), np.ones(5000)) is Verdict.CERTIFIED
    assert verdict_of(verify.at_least("x", 1.0), 1 - tiny) is Verdict.REFUTED


def test_failures_count_as_the_worst_value():
    nan = np.full(1, np.nan, np.float32)
    lower = verify.at_least("x", 0.9)
    for claim, good in ((verify.at_most("x", 0.1), ZEROS), (lower, ONES)):
        bad = np.concatenate([good, np.repeat(nan, 100)])
        state = verify.update(init_in(np, as_claims(claim)), {"x": bad})
        worst = np.concatenate([good, 1 - good[:100]])
        other = verify.update(init_in(np, as_claims(claim)), {"x": worst})
        assert_close(verify.evidence(state), verify.evidence(other), rtol=1e-12)
        assert verdict_of(claim, bad) is Verdict.INVALID
        # Tolerated or not, a fifth of wrong replications refutes a tenth.
        assert verdict_of(claim, bad, max_failure_share=0.5) is Verdict.REFUTED


def test_failures_of_an_equality_are_worst_on_each_side():
    claim = verify.equals("x", 0.5, margin=0.1)
    x = np.concatenate([np.full(300, 0.5), np.full(30, np.nan)])
    state = verify.update(init_in(np, as_claims(claim)), {"x": x})
    high = verify.update(
        init_in(np, as_claims(verify.at_most("x", 0.5, margin=0.1))),
        {"x": np.where(np.isnan(x), 1.0, x)},
    )
    assert_close(
        float(verify.evidence(state).certify[0]),
        float(verify.evidence(high).certify[0]),
        rtol=1e-12,
    )


def test_share_of_failures():
    claim = verify.at_most("x", 0.5)
    x = np.concatenate([np.zeros(990), np.full(10, np.nan)])
    assert verdict_of(claim, x) is Verdict.INVALID
    assert verdict_of(claim, x, max_failure_share=0.01) is Verdict.CERTIFIED
    assert verdict_of(claim, x, max_failure_share=0.0099) is Verdict.INVALID


def test_claims_without_a_worst_value_tolerate_no_failure():
    claim = verify.rank_uniform("x", 4)
    ranks = np.append(np.arange(400) % 4, np.nan)
    assert verdict_of(claim, ranks, max_failure_share=0.5) is Verdict.INVALID
    claim = asymptotic_claim(0.0, 0.5)
    x = np.append(np.random.default_rng(0).normal(size=2000), np.inf)
    assert verdict_of(claim, x, max_failure_share=0.5) is Verdict.INVALID


def test_refute_only():
    claim = verify.at_most("x", 0.1)
    assert verdict_of(claim, ZEROS, delta_certify=None) is Verdict.INCONCLUSIVE
    assert verdict_of(claim, ONES, delta_certify=None) is Verdict.REFUTED


def test_error_rates_move_the_boundaries():
    claim = verify.at_most("x", 0.1)
    x = np.arange(1000) < 150
    # Evidence 9.41 nats lies between log(1e4) and log(1e6).
    assert verdict_of(claim, x, delta_refute=1e-4) is Verdict.REFUTED
    assert verdict_of(claim, x, delta_refute=1e-6) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    "options",
    [
        {"delta_refute": 0.0},
        {"delta_refute": 1.0},
        {"delta_certify": math.nan},
        {"max_failure_share": -0.1},
        {"max_failure_share": 1.1},
    ],
)
def test_impossible_error_rates(options):
    state = verify.init(verify.at_most("x", 0.1))
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must lie in"):
        verify.verdict(state, **options)


def test_verdicts_are_integers_with_names():
    assert str(Verdict.REFUTED) == "REFUTED"
    assert int(Verdict.INVALID) == 3
    assert jax.tree.map(int, {"a": Verdict.CERTIFIED}) == {"a": 1}


def asymptotic_claim(bound, margin, make=verify.at_most):
    return make(
        "x",
        bound,
        margin=margin,
        kind="asymptotic",
        lower=-math.inf,
        upper=math.inf,
    )


def test_sequence_crosses_where_its_evidence_does():
    rng = np.random.default_rng(1)
    for delta in (1e-6, 1e-3, 0.05):
        x = rng.normal(0.3, 2.0, 3000)
        mean, variance = x.mean(), x.var()
        radius = sequence_radius(3000, variance, delta)
        t, rho = 3000, rho_squared(delta)
        by_hand = math.sqrt(variance) * math.sqrt(
            2 * (t * rho + 1) / (t**2 * rho) * math.log(math.sqrt(t * rho + 1) / delta)
        )
        assert_close(radius, by_hand, rtol=1e-12)
        # At a bound exactly one radius below the mean the evidence is log(1 / delta).
        moved = x - (mean - radius)
        value = sequence_evidence(
            np, np.float64(t), moved.sum(), (moved**2).sum(), 0.0, delta
        )
        assert_close(float(value), -math.log(delta), rtol=1e-9)


def test_asymptotic_verdicts():
    x = np.random.default_rng(2).normal(0.0, 1.0, 20_000)
    assert verdict_of(asymptotic_claim(0.0, 0.1), x) is Verdict.CERTIFIED
    assert verdict_of(asymptotic_claim(-0.1, 0.05), x) is Verdict.REFUTED
    at_least, equals = verify.at_least, verify.equals
    assert verdict_of(asymptotic_claim(0.1, 0.05, at_least), x) is Verdict.REFUTED
    assert verdict_of(asymptotic_claim(0.0, 0.1, at_least), x) is Verdict.CERTIFIED
    assert verdict_of(asymptotic_claim(0.0, 0.1, equals), x) is Verdict.CERTIFIED
    assert verdict_of(asymptotic_claim(0.2, 0.1, equals), x) is Verdict.REFUTED


def test_asymptotic_sequence_is_silent_before_100_and_without_variance():
    far = np.random.default_rng(3).normal(50.0, 1.0, 99)
    claim = asymptotic_claim(0.0, 1.0)
    assert verdict_of(claim, far) is Verdict.INCONCLUSIVE
    assert verdict_of(claim, np.append(far, 50.0)) is Verdict.REFUTED
    assert verdict_of(claim, np.full(500, 50.0)) is Verdict.INCONCLUSIVE


def test_range_of_one_end_is_still_checked():
    claim = verify.at_most(
        "x", 1.0, margin=1.0, kind="asymptotic", lower=0.0, upper=math.inf
    )
    x = np.random.default_rng(4).exponential(1.0, 5000)
    assert verdict_of(claim, x) is Verdict.CERTIFIED
    assert verdict_of(claim, np.append(x, -1.0)) is Verdict.INVALID
