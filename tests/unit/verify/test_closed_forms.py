import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from jaxcur import verify
from tests.helpers import assert_close, load_reference

REFERENCE = load_reference("verify/closed_forms.json")


def mixture_by_loop(values, edge, side):
    """The formula of the page, one replication after another, in Python floats."""
    logs = []
    for j in range(18):
        c = 0.9 * 2.0**-j
        total = []
        for x in values:
            x, m = (x, edge) if side == "up" else (1 - x, 1 - edge)
            total.append(math.log(1 - c + c * x / m))
        logs.append(math.fsum(total))
    top = max(logs)
    return top + math.log(math.fsum(math.exp(v - top) for v in logs) / 18)


@pytest.mark.parametrize("case", REFERENCE["log_evidence"])
def test_log_evidence_matches_reference(case, dtype):
    args = case["successes"], case["trials"], case["bound"]
    eager = verify.log_evidence(*args, side=case["side"])
    # The stored numbers have six decimals.
    assert_close(float(eager), case["value"], rtol=0, atol=1e-6)

    traced = jax.jit(
        lambda s, n: verify.log_evidence(s, n, case["bound"], side=case["side"])
    )(case["successes"], case["trials"])
    assert traced.dtype == dtype
    atol = 1e-5 if dtype == jnp.float32 else 1e-6
    assert_close(float(traced), case["value"], rtol=0, atol=atol)


@pytest.mark.parametrize("side", ["up", "down"])
def test_log_evidence_equals_a_loop_over_replications(side):
    values = [1.0] * 7 + [0.0] * 23
    expected = mixture_by_loop(values, 0.2, side)
    assert_close(
        float(verify.log_evidence(7, 30, 0.2, side=side)), expected, rtol=1e-12
    )


def test_log_evidence_keeps_its_digits_at_ten_million_in_float32():
    # Plain float32 products lose more than a tenth of a nat here.
    successes, trials = 1_004_000, 10_000_000
    exact = float(verify.log_evidence(successes, trials, 0.1))
    assert exact > 3
    traced = jax.jit(lambda s, n: verify.log_evidence(s, n, 0.1))(successes, trials)
    assert_close(float(traced), exact, rtol=1e-5)


def test_log_evidence_broadcasts_and_starts_at_zero():
    values = verify.log_evidence(np.arange(5), 4, 0.3)
    assert values.shape == (5,)
    assert values.dtype == np.float64
    assert float(verify.log_evidence(0, 0, 0.3)) == 0.0
    mapped = jax.vmap(lambda s: verify.log_evidence(s, 4, 0.3))(jnp.arange(5))
    assert_close(mapped, values.astype(np.float32), rtol=1e-5)


def test_log_evidence_at_the_ends_of_the_range():
    # A mean of 0 allows no success at all, a mean of 1 no failure.
    assert float(verify.log_evidence(1, 10, 0.0)) == math.inf
    assert float(verify.log_evidence(9, 10, 1.0, side="down")) == math.inf
    assert -0.3 < float(verify.log_evidence(0, 10, 0.0)) < 0
    assert -0.3 < float(verify.log_evidence(10, 10, 1.0, side="down")) < 0
    # Nothing can show a mean above 1.
    assert float(verify.log_evidence(10, 10, 1.0)) == pytest.approx(0.0, abs=1e-12)
    assert float(jax.jit(lambda s: verify.log_evidence(s, 10, 0.0))(1)) == math.inf


def test_sides_are_mirror_images():
    up = verify.log_evidence(130, 1000, 0.1)
    down = verify.log_evidence(870, 1000, 0.9, side="down")
    assert_close(float(up), float(down), rtol=1e-12)


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((11, 10, 0.1), {}, "`successes` must lie between 0 and `trials`"),
        ((-1, 10, 0.1), {}, "`successes` must lie between"),
        ((1, 10, 1.5), {}, r"`bound` must lie in \[0, 1\], got 1.5"),
        ((1, 10, math.nan), {}, "`bound` must lie"),
        ((1, 10, 0.1), {"side": "left"}, "`side` must be one of 'up', 'down'"),
        ((math.nan, 10, 0.1), {}, "`successes` must lie between"),
    ],
)
def test_log_evidence_rejects_nonsense(args, kwargs, message):
    with pytest.raises(ValueError, match=message):
        verify.log_evidence(*args, **kwargs)


@pytest.mark.parametrize("case", REFERENCE["rank_log_evidence"])
def test_rank_log_evidence_matches_reference(case, dtype):
    counts = np.asarray(case["counts"])
    assert_close(
        float(verify.rank_log_evidence(counts)), case["value"], rtol=0, atol=1e-6
    )
    traced = jax.jit(verify.rank_log_evidence)(counts)
    atol = 2e-5 if dtype == jnp.float32 else 1e-6
    assert_close(float(traced), case["value"], rtol=0, atol=atol)


@pytest.mark.parametrize(
    "counts",
    [[0, 0, 5], [0, 1], [1, 0, 0, 0], [7, 8, 9], [300_300, 299_800, 299_900]],
)
def test_rank_log_evidence_traced_equals_log_gamma_form(counts):
    n, k = np.asarray(counts, np.float64), len(counts)
    t = n.sum()
    expected = gammaln(k) - gammaln(k + t) + gammaln(1 + n).sum() + t * math.log(k)
    eager = float(verify.rank_log_evidence(np.asarray(counts)))
    # Log-gammas near 1e7 leave about 1e-9 in float64.
    assert_close(eager, expected, rtol=0, atol=1e-8)
    traced = float(jax.jit(verify.rank_log_evidence)(jnp.asarray(counts)))
    # float32 at a million draws: far below the 0.01 nats that matter.
    assert_close(traced, expected, rtol=2e-5, atol=2e-4)


def test_rank_log_evidence_with_a_known_law():
    counts = np.array([30, 10, 60])
    law = np.array([0.3, 0.1, 0.6])
    uniform = float(verify.rank_log_evidence(counts))
    known = float(verify.rank_log_evidence(counts, probabilities=law))
    shift = -(counts * np.log(law)).sum() - 100 * math.log(3)
    assert_close(known, uniform + shift, rtol=1e-12)
    assert known < 0 < uniform


def test_rank_log_evidence_sums_to_one_over_all_sequences():
    # An e-process: the evidence has mean exactly 1 under uniform draws.
    total = 0.0
    for a in range(6):
        for b in range(6 - a):
            counts = np.array([a, b, 5 - a - b])
            ways = math.factorial(5) / np.prod([math.factorial(int(c)) for c in counts])
            total += ways / 3**5 * math.exp(float(verify.rank_log_evidence(counts)))
    assert_close(total, 1.0, rtol=1e-12)


def test_log_evidence_has_mean_one_at_the_bound():
    n = 12
    mean = sum(
        math.comb(n, s)
        * 0.2**s
        * 0.8 ** (n - s)
        * math.exp(float(verify.log_evidence(s, n, 0.2)))
        for s in range(n + 1)
    )
    assert_close(mean, 1.0, rtol=1e-12)


@pytest.mark.parametrize(
    ("counts", "law", "message"),
    [
        (np.zeros((2, 2)), None, r"`counts` must have shape \(k,\)"),
        (np.array([3]), None, "k >= 2"),
        (np.array([3, -1]), None, "`counts` must be nonnegative"),
        (np.array([3, 1]), [0.5, 0.4], "`probabilities` must sum to 1"),
        (np.array([3, 1]), [1.0, 0.0], "must be 2 positive numbers"),
    ],
)
def test_rank_log_evidence_rejects_nonsense(counts, law, message):
    with pytest.raises(ValueError, match=message):
        verify.rank_log_evidence(counts, probabilities=law)
