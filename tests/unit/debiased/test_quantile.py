"""Quantiles: sums over rows at one value at a time are the yardstick."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaincinv, ndtri

from jaxcur import debiased
from tests.helpers import assert_close

N = 120


@functools.cache
def sample() -> dict[str, np.ndarray]:
    """Rounded values, so that there are ties, and a surrogate that is off by 0.5."""
    rng = np.random.default_rng(11)
    y = rng.normal(size=N).round(1)
    prob = rng.uniform(0.3, 0.9, N)
    return {
        "y": y,
        "y_predicted": (y + 0.5 + 0.5 * rng.normal(size=N)).round(1),
        "labeled": rng.random(N) < prob,
        "prob": prob,
        "weights": rng.uniform(0.5, 2.0, N),
        "strata": rng.integers(0, 3, N),
        "clusters": np.stack([rng.integers(0, 20, N), rng.integers(0, 7, N)], axis=1),
    }


def call(data, q: Any = 0.4, **options):
    kept = {name: data[name] for name in ("y", "y_predicted", "labeled")}
    # Nothing may depend on what stands where there is no label.
    kept["y"] = np.where(data["labeled"], data["y"], np.nan)
    return debiased.quantile(**kept, q=q, **options)


def mean_at(data, t, tuning, design, weights=None, finite=False):
    """Debiased mean of 1{y <= t} and its standard error by NumPy."""
    a = np.ones(N) if weights is None else weights
    R = data["labeled"]
    o, p = (data["y"] <= t) * R, data["y_predicted"] <= t
    h = data["strata"] if "strata" in design else np.zeros(N, int)
    n, n_l = np.bincount(h), np.bincount(h[R])
    prob = data["prob"] if "bernoulli" in design else (n_l / n)[h]
    w = R / prob
    scale = np.sum(a * (tuning + w * (1 - tuning)))
    F = np.sum(a * (w * o + tuning * (1 - w) * p)) / scale
    d = a * (o - F - tuning * (p - F)) * R
    g = a * tuning * (p - F)
    if "clusters" in design:
        total = 0
        wide = data["clusters"]
        pairs = wide[:, 0] * 100 + wide[:, 1]
        ways = [(wide[:, 0], 1), (wide[:, 1], 1), (pairs, -1)]
        score = g + w * d
        if "bernoulli" not in design:
            ways = ways[:1]
            score = score - (R / prob - 1) * d.sum() / R.sum()
        for ids, sign in ways:
            sums = [score[ids == i].sum() for i in np.unique(ids)]
            total += sign * np.sum(np.square(sums))
    elif "bernoulli" in design:
        score = g + w * d
        total = np.sum((w * w - w) * d**2) if finite else np.sum(score**2)
    else:
        total, means = 0, []
        for s in range(len(n)):
            inside, chosen = h == s, (h == s) & R
            f = n_l[s] / n[s]
            label = np.var(d[chosen], ddof=1)
            if finite:
                total += n[s] * (1 / f - 1) * label
                continue
            total += n[s] / f * label + n[s] * np.var(g[inside], ddof=1)
            total += 2 * n[s] * np.cov(g[chosen], d[chosen])[0, 1]
            means.append(g[inside].mean() + d[chosen].mean())
        if not finite:
            total += np.sum(n * (means - np.average(means, weights=n)) ** 2)
    return F, np.sqrt(max(total, 0)) / scale


DESIGNS = {
    "bernoulli": {"sampling_prob": "prob"},
    "srs": {},
    "strata": {"strata": "strata"},
    "bernoulli clusters": {"sampling_prob": "prob", "clusters": "clusters"},
    "clusters": {"clusters": "clusters"},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("design", DESIGNS)
def test_distribution_and_its_error_are_those_of_the_mean(design, weighted, x64):
    data = sample()
    options = {name: data[key] for name, key in DESIGNS[design].items()}
    if design == "clusters":
        options["clusters"] = options["clusters"][:, 0]
    weights = data["weights"] if weighted else np.ones(N)
    result = call(data, weights=weights, power_tuning=0.6, **options)
    values = np.asarray(result.values)
    for t in (values[0], -0.7, 0.0, 1.1, values[-40]):
        k = np.searchsorted(values, t, side="right") - 1
        F, error = mean_at(data, t, 0.6, design, weights)
        assert_close(result.distribution[0, k], F, rtol=1e-12)
        # Above all values the error is 0, the root of rounding here.
        assert_close(result.distribution_std_error[0, k], error, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("design", ["bernoulli", "strata"])
def test_error_for_the_rows_themselves(design, x64):
    data = sample()
    options = {name: data[key] for name, key in DESIGNS[design].items()}
    result = call(data, target="finite", power_tuning=0.6, **options)
    k = len(result.values) // 2
    t = float(result.values[k])
    F, error = mean_at(data, t, 0.6, design, finite=True)
    assert_close(result.distribution[0, k], F, rtol=1e-12)
    assert_close(result.distribution_std_error[0, k], error, rtol=1e-9)


def curve(result):
    """Distinct finite values with their F and standard error."""
    values = np.asarray(result.values)
    keep = np.r_[values[1:] != values[:-1], True] & np.isfinite(values)
    shares = (
        np.asarray(result.distribution)[0],
        np.asarray(result.distribution_std_error)[0],
    )
    return values[keep], shares[0][keep], shares[1][keep]


@pytest.mark.parametrize("q", [0.05, 0.4, 0.83])
def test_point_and_interval_by_search(q, x64):
    data = sample()
    prob = data["prob"]
    result = call(data, q, sampling_prob=prob, power_tuning=None)
    values, F, error = curve(result)
    labels = data["y"][data["labeled"]]
    assert_close(values, np.unique(np.r_[data["y_predicted"], labels]), rtol=0)
    assert_close(result.estimate[0], values[np.argmin(np.abs(F - q))], rtol=0)
    crossing = call(data, q, sampling_prob=prob, power_tuning=None, rule="crossing")
    first = np.flatnonzero(np.maximum.accumulate(F) >= q - 1e-12)[0]
    assert_close(crossing.estimate[0], values[first], rtol=0)
    for level in (0.5, 0.9, 0.99):
        z = ndtri(0.5 + level / 2)
        accepted = np.flatnonzero(np.abs(F - q) <= z * error)
        low, high = np.asarray(result.conf_int(level))[0]
        # The hull of what inversion accepts: half-open steps, closed.
        assert low <= values[accepted[0]] and high >= values[accepted[-1]]
        assert low == values[np.flatnonzero(F >= q - z * error)[0]]
        last = np.flatnonzero(F <= q + z * error)[-1]
        assert high == values[last + 1]
        one_sided = 0.5 + level / 2
        assert_close(
            result.conf_int(one_sided, alternative="larger")[0, 0], low, rtol=0
        )
        assert_close(
            result.conf_int(one_sided, alternative="smaller")[0, 1], high, rtol=0
        )
    length = np.diff(np.asarray(result.conf_int(0.95))[0])
    assert_close(result.std_error, length / (2 * ndtri(0.975)), rtol=1e-12)


def test_every_row_labeled_gives_the_sample_quantile(x64):
    data = sample() | {"labeled": np.ones(N, bool)}
    q = np.array([0.1, 0.5, 0.75])
    result = call(data, q, rule="crossing", power_tuning=0.3)
    expected = np.quantile(data["y"], q, method="inverted_cdf")
    assert_close(result.estimate, expected, rtol=0)
    k = N // 2
    F = np.mean(data["y"] <= float(result.values[k]))
    assert_close(result.distribution[0, k], F, rtol=1e-12)
    expected = np.sqrt(F * (1 - F) / N)
    assert_close(result.distribution_std_error[0, k], expected, rtol=1e-12)


def test_true_predictions_give_the_full_data_quantile_whatever_the_labels(x64):
    data = sample()
    truth = data | {"y_predicted": data["y"]}
    expected = np.quantile(data["y"], 0.4, method="inverted_cdf")
    for seed in range(3):
        labeled = np.random.default_rng(seed).random(N) < data["prob"]
        result = call(
            truth | {"labeled": labeled},
            sampling_prob=data["prob"],
            power_tuning=None,
            rule="crossing",
        )
        assert_close(result.estimate[0], expected, rtol=0)


def test_lambda_is_the_best_at_the_quantile_of_labeled_rows(x64):
    data = sample()
    q = np.array([0.2, 0.6])
    result = call(data, q, sampling_prob=data["prob"])
    R, w = data["labeled"], data["labeled"] / data["prob"]
    for j in range(2):
        order = np.argsort(data["y"][R], kind="stable")
        share = np.cumsum(w[R][order]) / w.sum()
        t = data["y"][R][order][np.flatnonzero(share >= q[j] - 1e-12)[0]]
        F = np.sum(w * (data["y"] <= t)) / w.sum()
        o, p = (data["y"] <= t) - F, (data["y_predicted"] <= t) - F
        best = np.sum((w * w - w) * o * p) / np.sum((w * w - w) * p * p)
        assert_close(result.power_tuning[j], best, rtol=1e-10)
        alone = call(data, q[j], sampling_prob=data["prob"], power_tuning=best)
        assert_close(result.estimate[j], alone.estimate[0], rtol=0)
        assert_close(result.conf_int()[j], alone.conf_int()[0], rtol=0)


def test_a_jump_across_the_level_is_inside_the_interval(x64):
    # Two values: no t has F(t) near 0.5, and the quantile is the upper one.
    y = (np.arange(N) % 5 > 1).astype(float)
    data = sample() | {"y": y, "y_predicted": y}
    result = call(data, 0.5, rule="crossing", sampling_prob=data["prob"])
    assert_close(result.estimate, np.array([1.0]), rtol=0)
    assert_close(result.conf_int(0.5), np.array([[1.0, 1.0]]), rtol=0)


def test_ties_of_the_nearest_share_give_the_smallest_value(x64):
    # Ten equal rows: q = 0.25 is as far from 0.2 as from 0.3.
    y = np.arange(10.0)
    with pytest.warns(debiased.InferenceWarning, match="9 labelled rows"):
        result = debiased.quantile(
            y, y_predicted=y, labeled=y > 0, q=0.25, power_tuning=None
        )
    assert_close(result.estimate, np.array([1.0]), rtol=0)


def test_rows_of_weight_zero_are_not_there(x64):
    data = sample()
    kept = np.arange(N) < 100
    padded = data | {"y_predicted": np.where(kept, data["y_predicted"], np.nan)}
    short = {k: v[kept] for k, v in data.items()}
    weights = kept.astype(float)
    full = call(padded, power_tuning=0.6, weights=weights, strata=data["strata"])
    part = call(short, power_tuning=0.6, strata=short["strata"])
    assert_close(full.estimate, part.estimate, rtol=0)
    assert_close(full.conf_int(), part.conf_int(), rtol=0)


def test_jit_and_vmap_agree_with_the_eager_call():
    data = sample()
    y, guess, prob = (data[k].astype("f") for k in ("y", "y_predicted", "prob"))

    def one(y, labeled):
        result = debiased.quantile(
            y,
            y_predicted=guess,
            labeled=labeled,
            q=np.array([0.2, 0.6]),
            sampling_prob=prob,
            clusters=data["clusters"][:, 0],
        )
        return result, result.conf_int()

    masks = np.stack([data["labeled"], np.arange(N) % 3 > 0])
    both, intervals = jax.jit(jax.vmap(one))(np.stack([y, y + 1]), masks)
    assert both.estimate.dtype == both.distribution.dtype == jnp.float32
    assert_close(both.conf_int(), intervals, rtol=0)
    for i in range(2):
        alone, interval = one(y + i, masks[i])
        assert_close(both.estimate[i], alone.estimate, rtol=0)
        assert_close(intervals[i], interval, rtol=0)
        assert_close(both.power_tuning[i], alone.power_tuning, rtol=1e-5)


def test_few_labels_of_many_rows_are_gathered(x64):
    data = sample()
    few = data | {"labeled": np.arange(N) % 6 == 0}
    eager = call(few, power_tuning=0.6)
    assert len(eager.values) < 2 * N
    traced = jax.jit(lambda labeled: call_traced(few, labeled))(few["labeled"])
    assert len(traced.values) == 2 * N
    assert_close(eager.estimate, traced.estimate, rtol=0)
    assert_close(eager.conf_int(), traced.conf_int(), rtol=0)


def call_traced(data, labeled):
    guess = data["y_predicted"]
    return debiased.quantile(
        data["y"], y_predicted=guess, labeled=labeled, q=0.4, power_tuning=0.6
    )


def test_under_jit_bad_values_give_nan():
    data = sample()

    @jax.jit
    def one(y_predicted, q):
        return debiased.quantile(
            data["y"], y_predicted=y_predicted, labeled=data["labeled"], q=q
        )

    good = data["y_predicted"]
    assert bool(one(good, 0.5).converged)
    for guess, q in ((np.where(good > 1, np.nan, good), 0.5), (good, 0.0), (good, 1.5)):
        result = one(guess, q)
        assert not bool(result.converged)
        assert np.isnan(np.asarray(result.estimate)).all()
        assert np.isnan(np.asarray(result.conf_int())).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q": 0.0}, r"`q` must lie in \(0, 1\)"),
        ({"q": np.ones((2, 2))}, "`q` must be a number or have shape"),
        ({"rule": "median"}, "`rule` must be one of"),
        ({"power_tuning": np.eye(2)}, "quantiles take a number"),
        ({"axis_name": "rows"}, "do not shard"),
        ({"strata": "strata", "clusters": "clusters"}, "not both"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    data = sample()
    options = {
        k: data.get(v, v) if isinstance(v, str) else v for k, v in options.items()
    }
    with pytest.raises(ValueError, match=message):
        call(data, **options)


def test_missing_values_are_counted():
    data = sample()
    with pytest.raises(ValueError, match="`y_predicted` must be finite.* 2 entries"):
        call(data | {"y_predicted": np.r_[[np.nan] * 2, data["y_predicted"][2:]]})
    y = np.where(np.arange(N) == np.flatnonzero(data["labeled"])[0], np.inf, data["y"])
    with pytest.raises(ValueError, match="`y` must be finite.* 1 entries"):
        call(data | {"y": y})


def test_intervals_cover_with_a_biased_surrogate():
    rng = np.random.default_rng(5)
    y = rng.gamma(2.0, size=(600, 400)).astype(np.float32)
    noise = rng.normal(size=y.shape)
    guess = (0.7 * y + 1 + 0.5 * noise).astype(np.float32)
    labeled = rng.random(y.shape).argsort(axis=1) < 100

    @jax.jit
    @jax.vmap
    def one(y, guess, labeled):
        return debiased.quantile(
            y, y_predicted=guess, labeled=labeled, q=np.array([0.25, 0.5, 0.8])
        ).conf_int(0.9)

    intervals = np.asarray(one(y, guess, labeled))
    truth = gammaincinv(2.0, [0.25, 0.5, 0.8])
    cover = ((intervals[..., 0] <= truth) & (truth <= intervals[..., 1])).mean(0)
    # Three standard errors of 600 draws are 0.037; steps make intervals a bit wide.
    assert (cover > 0.86).all() and (cover < 0.95).all()
