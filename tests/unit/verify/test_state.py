import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import verify
from jaxcur.verify._claims import as_claims
from jaxcur.verify._state import init_in
from tests.helpers import assert_close

BETS = [0.9 * 2.0**-j for j in range(18)]


def loop_evidence(terms):
    """log mean_j exp sum log factor, with `terms(c)` the factors of one bet."""
    logs = [math.fsum(math.log(f) for f in terms(c)) for c in BETS]
    top = max(logs)
    return top + math.log(math.fsum(math.exp(v - top) for v in logs) / len(BETS))


def up(x, m, d=None):
    d = np.ones_like(x) if d is None else d
    return lambda c: [1 + c * (a / m - b) for a, b in zip(x, d)]


def down(x, m, d=None):
    d = np.ones_like(x) if d is None else d
    return lambda c: [1 - c * (a - m * b) / (1 - m) for a, b in zip(x, d)]


def average(*logs):
    return math.log(math.fsum(math.exp(v) for v in logs) / len(logs))


def metrics(seed=0, n=500):
    rng = np.random.default_rng(seed)
    u = rng.random((n, 4)).astype(np.float32)
    selected = u[:, 0] < 0.4
    return {
        # FDP-like: mixes atoms at 0 and 1 with values in between.
        "fdp": np.where(u[:, 0] < 0.2, 0, np.where(u[:, 0] > 0.97, 1, 0.2 * u[:, 1])),
        "miss": u[:, 1] < 0.12,
        "count": np.floor(30 * u[:, 2]).astype(np.int32),
        "p": u[:, 1],
        "y": u[:, 2] < u[:, 1],
        "selected": selected.astype(np.float32),
        "both": (selected & (u[:, 3] < 0.15)).astype(np.float32),
        "weight": u[:, 2],
        "part": u[:, 2] * u[:, 3] * 0.3,
        "vector": u[:, :3] * np.float32([1, 0.5, 0.2]),
        "rank": np.floor(20 * u[:, 3]).astype(np.int32),
    }


CLAIMS = (
    verify.at_most("fdp", 0.1),
    verify.at_least("fdp", 0.15),
    verify.equals("fdp", 0.12),
    verify.at_most("miss", 0.1),
    verify.at_least("count", 15.0, upper=30.0),
    verify.ratio_at_most("both", "selected", 0.1),
    verify.ratio_at_least("part", "weight", 0.2),
    verify.super_uniform("p", (0.05, 0.2)),
    verify.all_at_most("vector", (0.5, 0.25, 0.1)),
    verify.forecast_calibrated("p", "y", num_bins=3),
    verify.rank_uniform("rank", 20, num_cells=4),
)


def expected_evidence(m):
    """The page's formulas as Python loops over replications, in float64."""
    x = {name: np.asarray(value, np.float64) for name, value in m.items()}
    count = x["count"] / 30
    tops = [(x["p"] <= u) * 1.0 for u in (0.05, 0.2)]
    cells = np.minimum(np.floor(x["p"] * 3), 2)
    bins = [(cells == k) * 1.0 for k in range(3)]
    halves = [b * (1 + x["y"] - x["p"]) / 2 for b in bins]
    rank_cells = [(np.floor(x["rank"] / 5) == k) * 1.0 for k in range(4)]
    e = loop_evidence
    edge = 0.5 + 0.02 / 2
    return [
        (e(up(x["fdp"], 0.1)), e(down(x["fdp"], 0.11))),
        (e(down(x["fdp"], 0.15)), e(up(x["fdp"], 0.135))),
        (
            average(e(up(x["fdp"], 0.12)), e(down(x["fdp"], 0.12))),
            min(e(down(x["fdp"], 0.132)), e(up(x["fdp"], 0.108))),
        ),
        (e(up(x["miss"], 0.1)), e(down(x["miss"], 0.11))),
        (e(down(count, 0.5)), e(up(count, 0.45))),
        (
            e(up(x["both"], 0.1, x["selected"])),
            e(down(x["both"], 0.11, x["selected"])),
        ),
        (
            e(down(x["part"], 0.2, x["weight"])),
            e(up(x["part"], 0.18, x["weight"])),
        ),
        (
            average(e(up(tops[0], 0.05)), e(up(tops[1], 0.2))),
            min(e(down(tops[0], 0.055)), e(down(tops[1], 0.22))),
        ),
        (
            average(
                *(e(up(x["vector"][:, k], b)) for k, b in enumerate((0.5, 0.25, 0.1)))
            ),
            min(
                e(down(x["vector"][:, k], 1.1 * b))
                for k, b in enumerate((0.5, 0.25, 0.1))
            ),
        ),
        (
            average(
                *(e(up(h, 0.5, b)) for h, b in zip(halves, bins)),
                *(e(down(h, 0.5, b)) for h, b in zip(halves, bins)),
            ),
            min(
                *(e(down(h, edge, b)) for h, b in zip(halves, bins)),
                *(e(up(h, 1 - edge, b)) for h, b in zip(halves, bins)),
            ),
        ),
        (
            float(verify.rank_log_evidence(np.array([c.sum() for c in rank_cells]))),
            min(
                *(e(down(c, 0.275)) for c in rank_cells),
                *(e(up(c, 0.225)) for c in rank_cells),
            ),
        ),
    ]


def test_every_claim_equals_a_loop_over_replications():
    m = metrics()
    expected = np.array(expected_evidence(m))
    host = verify.update(init_in(np, as_claims(CLAIMS)), m)
    seen = verify.evidence(host)
    assert_close(seen.refute, expected[:, 0], rtol=1e-6, atol=1e-6)
    assert_close(seen.certify, expected[:, 1], rtol=1e-6, atol=1e-6)


def test_device_path_equals_a_loop_over_replications(dtype, strict_promotion):
    m = metrics()
    expected = np.array(expected_evidence(m))
    state = verify.update(verify.init(CLAIMS), m)
    seen = verify.evidence(state)
    assert seen.refute.dtype == dtype
    # float32: rounding of each of 500 log1p values, up to 0.5 ulp of numbers near 1.
    tol = 2e-5 if dtype == jnp.float32 else 1e-6
    assert_close(seen.refute, expected[:, 0].astype(dtype), rtol=tol, atol=tol)
    assert_close(seen.certify, expected[:, 1].astype(dtype), rtol=tol, atol=tol)


def test_batches_may_come_in_any_order_and_size():
    m = metrics(seed=1)
    whole = verify.update(verify.init(CLAIMS), m)
    order = np.random.default_rng(5).permutation(500)
    first, second = order[:250], order[250:]
    empty = verify.init(CLAIMS)
    one = verify.update(empty, {k: v[first] for k, v in m.items()})
    two = verify.update(empty, {k: v[second] for k, v in m.items()})
    for state in (verify.merge(one, two), verify.merge(two, one)):
        for a, b in zip(whole.accumulators, state.accumulators):
            assert int(a.replications) == int(b.replications) == 500
            assert np.array_equal(a.ones, b.ones)
            assert np.array_equal(a.zeros, b.zeros)
            # Both are pairs: they differ by the rounding of the pair's low part.
            assert_close(a.logs + a.logs_low, b.logs + b.logs_low, rtol=1e-6, atol=1e-5)
    seen, other = verify.evidence(whole), verify.evidence(verify.merge(one, two))
    assert_close(seen, other, rtol=1e-5, atol=1e-5)


def test_masked_rows_are_not_replications():
    m = metrics(seed=2)
    keep = np.arange(500) % 2 > 0
    masked = verify.update(verify.init(CLAIMS), m, mask=keep)
    short = verify.update(verify.init(CLAIMS), {k: v[keep] for k, v in m.items()})
    assert int(masked.accumulators[0].replications) == int(keep.sum())
    assert_close(verify.evidence(masked), verify.evidence(short), rtol=1e-5, atol=1e-5)


def test_masked_rows_may_hold_anything():
    claims = verify.at_most("x", 0.1)
    x = jnp.asarray([0.0, jnp.nan, jnp.inf, 7.0, 1.0])
    mask = jnp.asarray([True, False, False, False, True])
    state = verify.update(verify.init(claims), {"x": x}, mask=mask)
    accumulator = state.accumulators[0]
    assert int(accumulator.failures) == int(accumulator.outside) == 0
    assert int(accumulator.ones[0]) == int(accumulator.zeros[0]) == 1
    assert bool(jnp.isfinite(accumulator.logs).all())


def test_mask_of_the_wrong_shape():
    state = verify.init(verify.at_most("x", 0.1))
    with pytest.raises(ValueError, match=r"`mask` must have shape \(3,\)"):
        verify.update(state, {"x": jnp.zeros(3)}, mask=jnp.ones(2, bool))


def test_vmap_over_states_equals_a_loop():
    claims = (verify.at_most("x", 0.1), verify.equals("x", 0.3))
    x = np.random.default_rng(3).random((4, 64)).astype(np.float32)
    states = jax.vmap(lambda v: verify.update(verify.init(claims), {"x": v}))(x)
    mapped = jax.vmap(verify.evidence)(states)
    verdicts = jax.vmap(verify.verdict)(states)
    for i in range(4):
        one = verify.update(verify.init(claims), {"x": x[i]})
        assert_close(
            verify.Evidence(mapped.refute[i], mapped.certify[i]),
            verify.evidence(one),
            rtol=1e-5,
            atol=1e-6,
        )
        assert np.array_equal(verdicts[i], verify.verdict(one))


def test_update_compiles_once_and_scans():
    claims = (verify.at_most("x", 0.1),)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(state, x):
        return verify.update(state, {"x": x})

    state = verify.init(claims)
    for i in range(3):
        state = step(state, jnp.full(8, 0.1 * i))
    assert int(state.accumulators[0].replications) == 24

    def body(state, x):
        return verify.update(state, {"x": x}), verify.evidence(state).refute

    batches = jnp.stack([jnp.full(8, 0.1 * i) for i in range(3)])
    final, _ = jax.lax.scan(body, verify.init(claims), batches)
    assert_close(verify.evidence(final), verify.evidence(state), rtol=1e-6, atol=1e-6)


def test_float32_state_keeps_two_million_replications():
    # A single float32 sum would be off by tenths of a nat here.
    claims = (verify.at_most("x", 0.1), verify.at_most("half", 0.5))
    rng = np.random.default_rng(4)
    x = (0.2005 * rng.random(65_536)).astype(np.float32)
    m = {"x": x, "half": (1.002 * x / 0.2005 * 0.999).astype(np.float32) % 1}
    device = verify.init(claims)
    host = init_in(np, as_claims(claims))
    step = jax.jit(lambda state, batch: verify.update(state, batch))
    added = verify.update(host, m)
    for _ in range(32):
        device = step(device, m)
        host = verify.merge(host, added)
    seen, exact = verify.evidence(device), verify.evidence(host)
    assert exact.refute[0] > 13.8
    # 1e-3 nats against a threshold of 13.8.
    assert_close(
        np.asarray(seen.refute, np.float64), exact.refute, rtol=2e-6, atol=1e-3
    )


def test_binary_metrics_are_counted_exactly():
    x = np.random.default_rng(6).random(5000) < 0.13
    for value in (x, x.astype(np.float32), x.astype(np.int32)):
        state = verify.update(
            init_in(np, as_claims(verify.at_most("x", 0.1))), {"x": value}
        )
        accumulator = state.accumulators[0]
        assert int(accumulator.ones[0]) == int(x.sum())
        assert float(abs(accumulator.logs).max()) == 0.0
        assert_close(
            float(verify.evidence(state).refute[0]),
            float(verify.log_evidence(int(x.sum()), 5000, 0.1)),
            rtol=1e-12,
        )


def test_merge_refuses_other_claims():
    one = verify.init(verify.at_most("x", 0.1))
    two = verify.init(verify.at_most("x", 0.1, margin=0.02))
    with pytest.raises(ValueError, match="only states of the same claims"):
        verify.merge(one, two)


def test_update_names_a_missing_metric():
    with pytest.raises(ValueError, match=r"needs the metric 'x'; got \['y'\]"):
        verify.update(verify.init(verify.at_most("x", 0.1)), {"y": jnp.zeros(2)})


def test_empty_batch_changes_nothing():
    state = verify.init(CLAIMS)
    m = {name: value[:0] for name, value in metrics().items()}
    after = verify.update(state, m)
    chex.assert_trees_all_equal(after, state)
    host = init_in(np, as_claims(CLAIMS))
    chex.assert_trees_all_equal(verify.update(host, m).accumulators, host.accumulators)
