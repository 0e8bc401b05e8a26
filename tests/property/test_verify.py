"""Relations that hold for every set of metrics, bounds and batches."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxcur import verify
from jaxcur.verify._claims import as_claims
from jaxcur.verify._interval import invert
from jaxcur.verify._state import init_in

SIZES = st.sampled_from([1, 2, 3, 8, 17, 64])
# Metrics as procedures make them: often exactly 0 or 1, otherwise anything between.
UNIT = st.one_of(
    st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32, allow_subnormal=True)
)
BOUNDS = st.sampled_from([0.001, 0.05, 0.1, 0.37, 0.5, 0.9, 0.999])


@st.composite
def metrics(draw):
    size = draw(SIZES)
    return draw(arrays(np.float32, size, elements=UNIT))


def host_evidence(claims, values):
    state = init_in(np, as_claims(claims))
    return verify.evidence(verify.update(state, values))


def close(a, b, tolerance=1e-9):
    assert math.isclose(float(a), float(b), rel_tol=tolerance, abs_tol=tolerance)


@given(metrics(), BOUNDS, st.randoms(use_true_random=False))
def test_order_of_replications_does_not_matter(x, bound, random):
    order = list(range(x.size))
    random.shuffle(order)
    claim = verify.equals("x", bound)
    one, two = (host_evidence(claim, {"x": v}) for v in (x, x[order]))
    close(one.refute[0], two.refute[0])
    close(one.certify[0], two.certify[0])


@given(metrics(), metrics(), BOUNDS)
def test_merge_equals_one_batch(x, y, bound):
    claims = as_claims((verify.at_most("x", bound), verify.at_least("x", bound)))
    empty = init_in(np, claims)
    parts = verify.merge(verify.update(empty, {"x": x}), verify.update(empty, {"x": y}))
    whole = verify.update(empty, {"x": np.concatenate([x, y])})
    for a, b in zip(verify.evidence(parts), verify.evidence(whole)):
        for one, two in zip(a, b):
            close(one, two)


@given(metrics(), BOUNDS)
def test_reflection_swaps_the_directions(x, bound):
    x = x.astype(np.float64)
    low = host_evidence(verify.at_most("x", bound, margin=0.0005), {"x": x})
    high = host_evidence(verify.at_least("x", 1 - bound, margin=0.0005), {"x": 1 - x})
    close(low.refute[0], high.refute[0], 1e-7)
    close(low.certify[0], high.certify[0], 1e-7)


@given(metrics(), BOUNDS)
def test_the_scale_of_the_metric_does_not_matter(x, bound):
    x = x.astype(np.float64)
    unit = host_evidence(verify.at_most("x", bound, margin=0.0005), {"x": x})
    # A power of two and a shift by one keep the numbers exact enough.
    claim = verify.at_most("x", 8 * bound - 1, margin=0.004, lower=-1.0, upper=7.0)
    scaled = host_evidence(claim, {"x": 8 * x - 1})
    close(unit.refute[0], scaled.refute[0], 1e-6)
    close(unit.certify[0], scaled.certify[0], 1e-6)


@given(metrics())
def test_a_larger_bound_is_refuted_less_and_a_larger_margin_certified_more(x):
    claims = tuple(
        verify.at_most("x", b, margin=0.005, name=str(b)) for b in (0.05, 0.1, 0.5, 0.9)
    )
    seen = host_evidence(claims, {"x": x})
    assert np.all(np.diff(seen.refute) <= 1e-9)
    assert np.all(np.diff(seen.certify) >= -1e-9)


@given(metrics(), BOUNDS)
def test_both_directions_are_never_refuted(x, bound):
    # Evidence above and below the same bound cannot both be large: their product is
    # at most that of the best single metric, and K_up + K_down stays balanced at 1/2.
    seen = host_evidence(
        (verify.at_most("x", bound), verify.at_least("x", bound)), {"x": x}
    )
    assert min(seen.refute) < math.log(18) + 1e-9


@given(metrics())
def test_interval_contains_the_mean_and_shrinks_with_the_level(x):
    values = x.astype(np.float64)
    wide = verify.mean_interval(values, 0.99)
    narrow = verify.mean_interval(values, 0.5)
    assert 0 <= wide[0] <= narrow[0] <= narrow[1] <= wide[1] <= 1
    assert wide[0] <= values.mean() <= wide[1]


@given(metrics(), st.sampled_from([0.5, 0.9, 0.999]))
def test_interval_and_evidence_say_the_same(x, level):
    values = x.astype(np.float64)
    low, high = verify.mean_interval(values, level)
    goal = math.log(2 / (1 - level))
    for edge in (0.03, 0.2, 0.5, 0.8, 0.97):
        claims = (verify.at_most("x", edge), verify.at_least("x", edge))
        above, below = host_evidence(claims, {"x": values}).refute
        if abs(edge - low) > 1e-9:
            assert (above >= goal) == (edge < low)
        if abs(edge - high) > 1e-9:
            assert (below >= goal) == (edge > high)


@given(metrics(), st.integers(0, 5), st.integers(0, 5))
def test_failures_only_widen_the_interval(x, ones, zeros):
    values = x.astype(np.float64)
    unit, counts = np.ones_like(values), np.ones(values.size)
    clean = invert(values, values, unit, counts, ones, zeros, 0.05)
    failed = invert(
        values, values, unit, counts, (ones, ones + 3), (zeros + 3, zeros), 0.05
    )
    assert failed[0] <= clean[0] + 1e-12
    assert failed[1] >= clean[1] - 1e-12


@given(metrics(), st.sampled_from([math.nan, math.inf, -math.inf, 1.5, -0.2]))
def test_nothing_improper_passes_silently(x, wrong):
    values = np.append(x, np.float32(wrong))
    for claim in (
        verify.at_most("x", 0.5),
        verify.at_least("x", 0.5),
        verify.equals("x", 0.5),
        verify.super_uniform("x"),
        verify.ratio_at_most("x", "x", 0.5),
    ):
        state = verify.update(init_in(np, as_claims(claim)), {"x": values})
        assert int(verify.verdict(state)[0]) == int(verify.Verdict.INVALID)
        seen = verify.evidence(state)
        assert not np.isnan(seen.refute).any()
        assert not np.isnan(seen.certify).any()


@given(
    st.lists(st.integers(0, 10_000), min_size=2, max_size=12),
    st.randoms(use_true_random=False),
)
def test_rank_evidence_ignores_the_order_of_cells(counts, random):
    shuffled = list(counts)
    random.shuffle(shuffled)
    close(
        verify.rank_log_evidence(np.array(counts)),
        verify.rank_log_evidence(np.array(shuffled)),
        1e-8,
    )


@given(st.integers(0, 200), st.integers(0, 200), BOUNDS)
def test_counts_are_a_sufficient_summary(successes, failures, bound):
    n = successes + failures
    x = np.arange(n) < successes
    claims = (verify.at_most("x", bound), verify.at_least("x", bound))
    seen = host_evidence(claims, {"x": x})
    close(seen.refute[0], verify.log_evidence(successes, n, bound))
    close(seen.refute[1], verify.log_evidence(successes, n, bound, side="down"))
