"""Metrics of calibration against loops over their definitions, and their edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N = 60
RNG = np.random.default_rng(3)
# Tenths, so that edges of bins and ties are met all the time.
TENTHS = RNG.integers(0, 11, N) / 10
SPREAD = RNG.random(N)
LABELS = (RNG.random(N) < SPREAD).astype(int)
COUNTS = RNG.integers(0, 4, N).astype(float)


def loop_bins(f, y, w, edges, closed):
    """Weight, gap and rate of each bin, row by row."""
    m = len(edges) - 1
    rows = [[] for _ in range(m)]
    for value, label, weight in zip(f, y, w, strict=True):
        if closed == "left":
            j = min(sum(value >= e for e in edges[1:]), m - 1)
        else:
            j = min(sum(value > e for e in edges[1:]), m - 1)
        rows[j].append((value, label, weight))
    weight = np.array([sum(r[2] for r in bin_) for bin_ in rows])
    safe = np.where(weight > 0, weight, 1)
    forecast = np.array([sum(r[0] * r[2] for r in bin_) for bin_ in rows]) / safe
    rate = np.array([sum(r[1] * r[2] for r in bin_) for bin_ in rows]) / safe
    return weight, np.where(weight > 0, forecast - rate, 0), rate


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("f", [TENTHS, SPREAD], ids=["tenths", "spread"])
@pytest.mark.parametrize("closed", ["left", "right"])
def test_binned_errors_equal_loops(f, closed) -> None:
    edges = np.arange(11) / 10
    weight, gap, rate = loop_bins(f, LABELS, COUNTS, edges, closed)
    error = functools.partial(
        calibration.expected_calibration_error,
        f,
        LABELS,
        num_bins=10,
        closed=closed,
        weights=COUNTS,
    )
    share = weight / weight.sum()
    present = weight > 0
    assert_close(error(), np.sum(share * np.abs(gap)), rtol=1e-12)
    assert_close(error(norm=2), np.sqrt(np.sum(share * gap**2)), rtol=1e-12)
    assert_close(error(norm="max"), np.abs(gap).max(), rtol=1e-12)
    assert_close(error(weighting="uniform"), np.abs(gap[present]).mean(), rtol=1e-12)
    usable = weight >= 2
    noise = rate * (1 - rate) / np.where(usable, weight - 1, 1)
    squared = np.sum((share * (gap**2 - noise))[usable])
    signed = calibration.debiased_squared_error(
        f, LABELS, num_bins=10, closed=closed, weights=COUNTS
    )
    assert_close(signed, squared, rtol=1e-12)
    assert_close(
        error(norm=2, debias=True), np.sqrt(max(squared, 0)), rtol=1e-12, atol=1e-12
    )
    sd = np.sqrt(rate * (1 - rate) / np.where(present, weight, 1))
    draws = np.abs(gap + sd * np.random.default_rng(0).standard_normal((200_000, 10)))
    debiased = 2 * np.sum(share * np.abs(gap)) - np.sum(share * draws.mean(0))
    # Four standard errors of the mean of the draws.
    slack = 4 * np.sqrt(np.sum(share**2 * draws.var(0)) / 200_000)
    assert_close(error(debias=True), debiased, rtol=0, atol=slack)
    parts = calibration.signed_calibration_errors(
        f, LABELS, num_bins=10, closed=closed, weights=COUNTS
    )
    assert_close(parts.signed, np.sum(share * gap), rtol=1e-12, atol=1e-14)
    assert_close(parts.over, np.sum((share * gap)[gap > 0]), rtol=1e-12)
    assert_close(parts.over - parts.under, parts.signed, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("closed", ["left", "right"])
def test_edges_are_compared_as_numbers_and_not_multiplied_out(dtype, closed) -> None:
    # 0.3 * 10 and 0.7 * 10 round across an edge; the edges are j / 10 in the dtype.
    # Divided by NumPy: XLA multiplies by the reciprocal, and 3 * 0.1 is not 0.3.
    edges = jnp.asarray(np.arange(11, dtype=dtype) / np.asarray(10, dtype))
    every = jnp.concatenate([edges, jnp.nextafter(edges, jnp.zeros((), dtype))])
    every = jnp.clip(every, 0, 1)
    given = functools.partial(
        calibration.expected_calibration_error, every, jnp.zeros(22), closed=closed
    )
    host = np.asarray(edges)
    weight, _, _ = loop_bins(np.asarray(every), np.zeros(22), np.ones(22), host, closed)
    diagram = calibration.reliability_diagram(
        every, jnp.zeros(22), num_bins=10, closed=closed
    )
    assert_close(diagram.weight, weight.astype(dtype), rtol=0)
    assert_close(given(num_bins=10), given(edges=edges), rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_equal_mass_bins_are_those_of_array_split() -> None:
    n = 47
    f, y = np.sort(SPREAD[:n]), LABELS[:n]
    groups = np.array_split(np.arange(n), 6)
    gaps = [abs(f[g].mean() - y[g].mean()) * len(g) / n for g in groups]
    value = calibration.expected_calibration_error(f, y, num_bins=6, binning="mass")
    assert_close(value, np.sum(gaps), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_integer_weights_are_repeated_rows() -> None:
    times = COUNTS.astype(int)
    f, y = np.repeat(SPREAD, times), np.repeat(LABELS, times)
    for metric in (
        functools.partial(calibration.expected_calibration_error, debias=True),
        functools.partial(calibration.expected_calibration_error, binning="mass"),
        functools.partial(calibration.debiased_squared_error, binning="mass"),
        calibration.ks_error,
        calibration.kuiper_error,
        calibration.smooth_ece,
        functools.partial(calibration.kernel_calibration_error, bandwidth=0.3),
        functools.partial(
            calibration.kernel_calibration_error, bandwidth=0.3, estimator="biased"
        ),
        functools.partial(calibration.t_cal_statistic, num_bins=8),
        calibration.brier_score,
        calibration.log_loss,
        calibration.auc,
    ):
        weighted = metric(SPREAD, LABELS, weights=COUNTS)
        assert_close(weighted, metric(f, y), rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_cumulative_errors_equal_a_loop_and_ignore_the_order_of_ties() -> None:
    values = np.unique(TENTHS)
    sums = [0.0] + [
        float(np.sum((LABELS - TENTHS)[value >= TENTHS])) / N for value in values
    ]
    order = np.random.default_rng(1).permutation(N)
    for f, y in ((TENTHS, LABELS), (TENTHS[order], LABELS[order])):
        assert_close(calibration.ks_error(f, y), np.abs(sums).max(), rtol=1e-12)
        assert_close(calibration.kuiper_error(f, y), np.ptp(sums), rtol=1e-12)
        # Labels with a fraction cannot be packed into the sort key.
        soft = calibration.ks_error(f, y + 0.0, weights=np.ones(N))
        assert_close(soft, np.abs(sums).max(), rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_auc_equals_all_pairs_with_weights_and_ties() -> None:
    hit, miss = LABELS == 1, LABELS == 0
    gap = TENTHS[hit][:, None] - TENTHS[miss]
    mass = COUNTS[hit][:, None] * COUNTS[miss]
    pairs = np.sum(mass * ((gap > 0) + 0.5 * (gap == 0))) / mass.sum()
    assert_close(calibration.auc(TENTHS, LABELS, weights=COUNTS), pairs, rtol=1e-12)
    assert np.isnan(calibration.auc(TENTHS, np.ones(N)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("k", [3, 40])
def test_kernel_error_of_rows_equals_the_double_loop(k: int) -> None:
    # 40 classes take the distances from a Gram matrix.
    p = np.random.default_rng(k).dirichlet(np.ones(k), 30)
    c = np.random.default_rng(0).integers(0, k, 30)
    r = np.eye(k)[c] - p
    distance = np.sqrt(((p[:, None] - p) ** 2).sum(-1))
    nu = np.median(distance[np.triu_indices(30, 1)])
    h = np.exp(-distance / nu) * (r @ r.T)
    error = functools.partial(calibration.kernel_calibration_error, p, c)
    off = (h.sum() - np.trace(h)) / (30 * 29)
    assert_close(error(), off, rtol=1e-10, atol=1e-14)
    assert_close(error(estimator="biased"), h.mean(), rtol=1e-10, atol=1e-14)
    blocks = [h[i : i + 5, i : i + 5] for i in range(0, 30, 5)]
    means = [(b.sum() - np.trace(b)) / 20 for b in blocks]
    assert_close(error(estimator="block"), np.mean(means), rtol=1e-9)
    linear = error(estimator="linear", bandwidth=nu)
    assert_close(linear, np.mean([h[i, i + 1] for i in range(0, 30, 2)]), rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_two_class_kernel_error_is_twice_the_binary_one() -> None:
    rows = np.stack([1 - SPREAD, SPREAD], axis=1)
    binary = calibration.kernel_calibration_error(SPREAD, LABELS, bandwidth=0.2)
    wide = 0.2 * np.sqrt(2)
    both = calibration.kernel_calibration_error(rows, LABELS, bandwidth=wide)
    assert_close(both, 2 * binary, rtol=1e-10)


@pytest.mark.usefixtures("x64")
def test_bins_within_class() -> None:
    p = np.random.default_rng(5).dirichlet(np.ones(3), N)
    c = np.random.default_rng(6).integers(0, 3, N)
    top = p.argmax(1)
    total = 0.0
    for label in range(3):
        rows = top == label
        own = calibration.expected_calibration_error(
            p.max(1), (top == c).astype(int), num_bins=5, weights=rows.astype(float)
        )
        total += rows.mean() * float(own)
    value = calibration.top_label_calibration_error(p, c, num_bins=5, within_class=True)
    assert_close(value, total, rtol=1e-12)
    mass = calibration.top_label_calibration_error(
        p, c, num_bins=5, within_class=True, binning="mass"
    )
    assert 0 < mass < 1


def test_top_label_ties_take_the_lowest_class() -> None:
    p = jnp.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4]])
    value = calibration.top_label_calibration_error(p, jnp.array([1, 1]), num_bins=1)
    assert_close(value, abs(0.4 - 0.5), rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_log_loss_at_the_ends_and_from_logits() -> None:
    eps = np.finfo(float).eps
    one = calibration.log_loss(np.array([1.0]), np.array([0]))
    assert_close(one, -np.log(eps), rtol=1e-9)
    assert calibration.log_loss(np.array([0.0]), np.array([1]), clip=0.0) == np.inf
    assert calibration.log_loss(np.array([0.0]), np.array([0]), clip=0.0) == 0
    s = np.linspace(-8, 8, N)
    f = 1 / (1 + np.exp(-s))
    assert_close(
        calibration.log_loss_from_logits(s, LABELS),
        calibration.log_loss(f, LABELS),
        rtol=1e-12,
    )
    rows = np.stack([np.zeros(N), s], axis=1)
    assert_close(
        calibration.log_loss_from_logits(rows, LABELS),
        calibration.log_loss(f, LABELS),
        rtol=1e-12,
    )


METRICS = {
    "ece": calibration.expected_calibration_error,
    "mass": functools.partial(calibration.expected_calibration_error, binning="mass"),
    "debiased": functools.partial(
        calibration.expected_calibration_error, norm=2, debias=True
    ),
    "squared": calibration.debiased_squared_error,
    "ks": calibration.ks_error,
    "kuiper": calibration.kuiper_error,
    "smooth": calibration.smooth_ece,
    "kernel": functools.partial(
        calibration.kernel_calibration_error, estimator="biased"
    ),
    "t_cal": functools.partial(calibration.t_cal_statistic, num_bins=4),
    "brier": calibration.brier_score,
    "log": calibration.log_loss,
}


@pytest.mark.parametrize("name", METRICS)
def test_one_row_is_finite_and_the_distance_where_it_must_be(name: str) -> None:
    value = METRICS[name](jnp.array([0.3]), jnp.array([1]))
    assert np.isfinite(value)
    if name in ("ece", "mass", "ks", "kuiper"):
        assert_close(value, 0.7, rtol=1e-6)
    if name in ("debiased", "squared", "t_cal"):
        # A product and a difference may be rounded together.
        assert abs(value) < 1e-7


@pytest.mark.parametrize("name", METRICS)
def test_nan_is_refused_where_it_is_seen_and_carried_where_not(name: str) -> None:
    bad = jnp.array([0.2, jnp.nan, 0.7])
    labels = jnp.array([0, 1, 1])
    with pytest.raises(ValueError, match="`probs` must not hold NaN"):
        METRICS[name](bad, labels)
    traced = jax.jit(METRICS[name])
    assert np.isnan(traced(bad, labels))
    assert np.isnan(traced(jnp.array([0.2, 1.5, 0.7]), labels))
    assert np.isnan(traced(jnp.array([0.2, 0.5, 0.7]), jnp.array([0, 2, 1])))
    assert np.isfinite(traced(jnp.array([0.2, 0.5, 0.7]), labels))


def test_pair_statistics_of_one_row_are_nan() -> None:
    f, y = jnp.array([0.3]), jnp.array([1])
    assert np.isnan(calibration.kernel_calibration_error(f, y))
    assert np.isnan(calibration.kernel_calibration_error(f, y, estimator="linear"))


def test_equal_forecasts_are_one_bin() -> None:
    f, y = jnp.full(8, 0.25), jnp.array([1, 0, 0, 1, 1, 0, 1, 0])
    gap = 0.25
    for name in ("ece", "mass", "ks", "kuiper"):
        assert_close(METRICS[name](f, y), gap, rtol=1e-6)
    terms = calibration.corp_decomposition(f, y)
    assert_close(terms.miscalibration, gap**2, rtol=1e-5)
    assert_close(terms.discrimination, 0.0, rtol=0, atol=1e-7)


def test_log_score_of_an_excluded_outcome_is_infinite() -> None:
    f, y = jnp.array([0.0, 0.5, 1.0]), jnp.array([1, 0, 1])
    terms = calibration.corp_decomposition(f, y, score="log")
    assert terms.score == np.inf
    assert terms.miscalibration == np.inf
    assert np.isfinite(terms.discrimination)


def test_absent_classes_count_unless_told_otherwise() -> None:
    p = jnp.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]])
    c = jnp.array([0, 0])
    every = calibration.classwise_calibration_error(p, c)
    assert_close(every, (0.5 + 0.5 + 0) / 3, rtol=1e-6)
    present = calibration.classwise_calibration_error(p, c, present_only=True)
    assert_close(present, 0.5, rtol=1e-6)


def test_float32_of_a_million_rows_agrees_with_float64() -> None:
    n = 1_000_000
    rng = np.random.default_rng(0)
    z = 2 * rng.standard_normal(n)
    y = rng.random(n) < 1 / (1 + np.exp(-z))
    f = (1 / (1 + np.exp(-1.5 * z))).astype(np.float32)
    index = np.minimum((f[:, None] >= np.arange(1, 16) / np.float32(15)).sum(1), 14)
    gap = np.bincount(index, f.astype(float) - y, minlength=15)
    value = calibration.expected_calibration_error(f, y)
    assert_close(value, np.abs(gap).sum() / n, rtol=0, atol=1e-6)
    order = np.argsort(f, kind="stable")
    sums = np.cumsum((y - f.astype(float))[order]) / n
    assert_close(calibration.ks_error(f, y), np.abs(sums).max(), rtol=0, atol=1e-6)
    assert_close(
        calibration.brier_score(f, y), np.mean((f.astype(float) - y) ** 2), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: calibration.ks_error([], []), "at least one row"),
        (lambda: calibration.ks_error([0.5], [0, 1]), "same length"),
        (lambda: calibration.ks_error([1.5], [1]), "must lie in"),
        (lambda: calibration.ks_error([3.5], [1]), "are these logits"),
        (lambda: calibration.ks_error([0.5], [2]), "0 or 1"),
        (lambda: calibration.ks_error([0.5], [1], weights=[-1.0]), "at least 0"),
        (lambda: calibration.ks_error([0.5], [1], weights=[0.0]), "not all be 0"),
        (lambda: calibration.ks_error([[0.5, 0.6]], [1]), "must sum to 1"),
        (lambda: calibration.ks_error([[0.5, 0.5]], [2]), "integers 0..1"),
        (lambda: calibration.ks_error([[1.0]], [0]), "at least 2 columns"),
        (
            lambda: calibration.expected_calibration_error([0.5], [1], num_bins=0),
            "positive integer",
        ),
        (
            lambda: calibration.expected_calibration_error(
                [0.5], [1], norm="max", debias=True
            ),
            "norm=1 or norm=2",
        ),
        (
            lambda: calibration.expected_calibration_error([0.5], [1], norm=3),
            "one of 1, 2, 'max'",
        ),
        (
            lambda: calibration.expected_calibration_error([0.5], [1], edges=[0, 0.5]),
            "ascend from 0 to 1",
        ),
        (lambda: calibration.smooth_ece([0.5], [1], bandwidth=0.0), "positive"),
        (lambda: calibration.brier_score([0.5], [1], scale="half"), "shape"),
        (lambda: calibration.log_loss([0.5], [1], clip=0.6), "clip"),
        (
            lambda: calibration.kernel_calibration_error([0.5], [1], block_size=3),
            "estimator='block'",
        ),
    ],
)
def test_errors_say_what_is_wrong(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
