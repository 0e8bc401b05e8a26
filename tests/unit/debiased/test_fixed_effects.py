"""Fixed effects: explicit dummies are the yardstick."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import debiased
from jaxcur.debiased._projection import fitted_effects
from tests.helpers import assert_close

N = 160
SIZES = (17, 9, 6)


@functools.cache
def panel() -> dict[str, Any]:
    """Unbalanced panel with three groupings; outcome and one covariate predicted."""
    rng = np.random.default_rng(7)
    groups = np.stack([rng.integers(0, size, N) for size in SIZES], axis=1)
    effects = np.zeros(N)
    for w, size in enumerate(SIZES):
        effects += rng.normal(size=size)[groups[:, w]]
    X = rng.normal(size=(N, 2)) + 0.5 * effects[:, None]
    y = X @ [1.0, -0.5] + effects + rng.normal(size=N) * (1 + np.abs(X[:, 0]))
    y_predicted = 0.8 * y + 0.3 * X[:, 0] + rng.normal(size=N)
    X_predicted = X.copy()
    X_predicted[:, 1] += 0.2 * rng.normal(size=N)
    prob = rng.uniform(0.3, 0.9, N)
    return {
        "X": X,
        "y": y,
        "groups": groups,
        "y_predicted": y_predicted,
        "X_predicted": X_predicted,
        "sampling_prob": prob,
        "labeled": rng.random(N) < prob,
        "weights": rng.uniform(0.5, 2.0, N),
        "clusters": rng.integers(0, 25, N),
    }


def dummies(groups: np.ndarray) -> np.ndarray:
    """Columns of a full-rank set of dummies."""
    columns = []
    for w in range(groups.shape[1]):
        own = (groups[:, w, None] == np.unique(groups[:, w])).astype(float)
        columns.append(own if w == 0 else own[:, 1:])
    return np.concatenate(columns, axis=1)


def by_dummies(data, ways, *, tuning=1.0, clusters=None):
    """Slopes and sandwich of the whole system, dummies included, by NumPy."""
    D = dummies(data["groups"][:, :ways])
    a = data.get("weights", np.ones(N))
    w = np.where(data["labeled"], 1 / data["sampling_prob"], 0)
    Zo = np.column_stack([data["X"], D])
    Zp = np.column_stack([data["X_predicted"], D])
    wo, wp = a * w, -a * (w - 1) * tuning
    A = (Zo * wo[:, None]).T @ Zo + (Zp * wp[:, None]).T @ Zp
    theta = np.linalg.solve(
        A, Zo.T @ (wo * data["y"]) + Zp.T @ (wp * data["y_predicted"])
    )
    scores = Zo * (wo * (data["y"] - Zo @ theta))[:, None]
    scores += Zp * (wp * (data["y_predicted"] - Zp @ theta))[:, None]
    if clusters is not None:
        scores = (clusters == np.unique(clusters)[:, None]).astype(float) @ scores
    inverse = np.linalg.inv(A)
    p = data["X"].shape[1]
    return theta[:p], (inverse @ (scores.T @ scores) @ inverse.T)[:p, :p]


def call(data, ways, **options):
    names = ("X", "y", "y_predicted", "X_predicted", "sampling_prob", "labeled")
    kept = {name: data[name] for name in names}
    if "weights" in data:
        kept["weights"] = data["weights"]
    return debiased.fixed_effects(**kept, groups=data["groups"][:, :ways], **options)


@pytest.mark.parametrize(
    ("ways", "tuning", "clustered"),
    [(1, None, False), (2, None, False), (3, 0.7, True)],
)
def test_slopes_and_covariance_are_those_of_explicit_dummies(
    ways, tuning, clustered, x64
):
    data = panel()
    clusters = data["clusters"] if clustered else None
    result = call(data, ways, power_tuning=tuning, clusters=clusters)
    expected = by_dummies(
        data, ways, tuning=1.0 if tuning is None else tuning, clusters=clusters
    )
    assert bool(result.converged)
    assert_close(result.estimate, expected[0], rtol=1e-9)
    assert_close(result.covariance, expected[1], rtol=1e-9)


@pytest.mark.slow
def test_labels_drawn_within_strata_have_their_own_variance(x64):
    data: dict[str, Any] = panel() | {"weights": np.ones(N)}
    strata, tuning = data["clusters"] % 3, 0.6
    counts, labels = np.bincount(strata), np.bincount(strata[data["labeled"]])
    fraction = labels / counts
    data["sampling_prob"] = fraction[strata]
    result = call(data, 2, power_tuning=tuning, strata=strata)

    # The system with dummies, its scores, and their variance stratum by stratum.
    D = dummies(data["groups"][:, :2])
    w = np.where(data["labeled"], 1 / data["sampling_prob"], 0)
    Zo, Zp = np.column_stack([data["X"], D]), np.column_stack([data["X_predicted"], D])
    wp = -(w - 1) * tuning
    A = (Zo * w[:, None]).T @ Zo + (Zp * wp[:, None]).T @ Zp
    theta = np.linalg.solve(
        A, Zo.T @ (w * data["y"]) + Zp.T @ (wp * data["y_predicted"])
    )
    m_o = Zo * (data["y"] - Zo @ theta)[:, None]
    m_p = tuning * Zp * (data["y_predicted"] - Zp @ theta)[:, None]
    total, means = np.zeros_like(A), []
    for h in range(3):
        inside = strata == h
        chosen = inside & data["labeled"]
        n, f = counts[h], fraction[h]
        delta = (m_o - m_p)[chosen]
        both = np.cov(m_p[chosen], delta, rowvar=False)
        cross = both[: A.shape[0], A.shape[0] :]
        total = total + n * (np.cov(m_p[inside], rowvar=False) + cross + cross.T)
        total = total + n / f * np.cov(delta, rowvar=False)
        means.append(m_p[inside].mean(0) + delta.mean(0))
    gaps = np.array(means) - np.average(means, axis=0, weights=counts)
    total = total + (gaps * counts[:, None]).T @ gaps
    inverse = np.linalg.inv(A)
    assert_close(result.estimate, theta[:2], rtol=1e-9)
    assert_close(result.covariance, (inverse @ total @ inverse.T)[:2, :2], rtol=1e-9)


def test_every_row_labeled_gives_the_within_estimator_with_hc0(x64):
    data = panel() | {"labeled": np.ones(N, bool), "sampling_prob": np.ones(N)}
    result = call(data, 2, power_tuning="optimal")
    expected = by_dummies(data | {"X_predicted": data["X"]}, 2)
    assert_close(result.estimate, expected[0], rtol=1e-9)
    assert_close(result.covariance, expected[1], rtol=1e-9)


def test_true_predictions_give_the_full_data_estimate_whatever_the_labels(x64):
    data = panel()
    data = data | {"y_predicted": data["y"], "X_predicted": data["X"]}
    full = data | {"labeled": np.ones(N, bool), "sampling_prob": np.ones(N)}
    expected = by_dummies(full, 2)[0]
    for seed in range(3):
        labeled = np.random.default_rng(seed).random(N) < data["sampling_prob"]
        result = call(data | {"labeled": labeled}, 2)
        assert_close(result.estimate, expected, rtol=1e-9)


def test_two_means_less_the_grand_mean_is_wrong_for_unbalanced_panels(x64):
    # R dsl 0.1.0 demeans so whatever the shape of the panel.
    def textbook(data, groups):
        def within(v):
            means = [
                np.bincount(groups[:, w], v) / np.bincount(groups[:, w])
                for w in range(2)
            ]
            return v - means[0][groups[:, 0]] - means[1][groups[:, 1]] + v.mean()

        X = np.column_stack([within(x) for x in data["X"].T])
        return np.linalg.lstsq(X, within(data["y"]), rcond=None)[0]

    ones = np.ones(N)
    data = panel() | {"labeled": ones > 0, "sampling_prob": ones, "weights": ones}
    data["X_predicted"] = data["X"]
    result = call(data, 2)
    gap = np.abs(textbook(data, data["groups"]) - np.asarray(result.estimate))
    assert gap.max() > 0.1 * np.asarray(result.std_error).max()
    # On a complete grid both agree: the rows after it get weight zero.
    grid = np.arange(N)
    part = grid < 17 * 9
    balanced = np.stack([grid // 9 % 17, grid % 9], axis=1)
    square = data | {"groups": balanced, "weights": part.astype(float)}
    first = {k: v[part] for k, v in square.items()}
    assert_close(call(square, 2).estimate, textbook(first, balanced[part]), rtol=1e-8)


def test_optimal_tuning_is_one_number_of_least_variance(x64):
    data = panel()
    result = call(data, 2, power_tuning="optimal")
    number = float(result.power_tuning[0, 0])
    assert_close(result.power_tuning, number * np.eye(2), rtol=1e-15)
    assert 0.1 <= number <= 1
    expected = by_dummies(data, 2, tuning=number)
    assert_close(result.estimate, expected[0], rtol=1e-9)
    assert_close(result.covariance, expected[1], rtol=1e-9)
    assert np.trace(result.covariance) < np.trace(by_dummies(data, 2)[1])
    d = result.diagnostics
    assert_close(d.plain_std_error**2, np.diag(by_dummies(data, 2)[1]), rtol=1e-9)
    # Labelled rows alone: the complete fit with lambda = 0.
    rows = data["labeled"]
    alone = {k: v[rows] for k, v in data.items()}
    w = alone["weights"] / alone["sampling_prob"]
    Z = np.column_stack([alone["X"], dummies(alone["groups"][:, :2])])
    root = np.linalg.pinv((Z * w[:, None]).T @ Z)
    scores = Z * (w * (alone["y"] - Z @ root @ Z.T @ (w * alone["y"])))[:, None]
    sandwich = root @ scores.T @ scores @ root
    assert_close(d.gold_std_error**2, np.diag(sandwich)[:2], rtol=1e-7)


def test_group_levels_and_names_do_not_matter(x64):
    data = panel()
    base = call(data, 2)
    levels = np.random.default_rng(1).normal(size=30)[data["groups"][:, 0]] * 100
    names = np.random.default_rng(2).permutation(50) - 20
    shifted = data | {
        "y": data["y"] + levels,
        "y_predicted": data["y_predicted"] + levels,
        "groups": names[data["groups"]],
    }
    moved = call(shifted, 2)
    assert_close(moved.estimate, base.estimate, rtol=1e-9)
    assert_close(moved.covariance, base.covariance, rtol=1e-9)


def test_singletons_go_until_none_is_left(x64):
    data = panel()
    groups = data["groups"].copy()
    # Rows 0 and 1 share a new unit; row 1 is alone in its period, then 0 in the unit.
    groups[:2, 0] = 40
    groups[1, 1] = 60
    kept = np.arange(N) >= 2
    dropped = call(data | {"groups": groups}, 2, drop_singletons=True)
    without = call(data | {"weights": data["weights"] * kept}, 2)
    assert int(dropped.diagnostics.num_rows) == N - 2
    assert_close(dropped.estimate, without.estimate, rtol=1e-9)
    assert_close(dropped.covariance, without.covariance, rtol=1e-9)
    alone = np.stack([np.arange(N), np.arange(N)], axis=1)
    with pytest.raises(ValueError, match="alone in a group"):
        call(data | {"groups": alone}, 2, drop_singletons=True)


def test_small_sample_factor_counts_the_groups(x64):
    data = panel()
    plain, hc1 = call(data, 2), call(data, 2, small_sample="hc1")
    left = N - 2 - (SIZES[0] + SIZES[1] - 1)
    assert_close(hc1.covariance, plain.covariance * N / left, rtol=1e-12)


def test_jit_and_vmap_agree_with_the_eager_call(x64):
    data = panel()
    groups, prob = data["groups"][:, :2], data["sampling_prob"]

    def one(y, labeled):
        return debiased.fixed_effects(
            data["X"],
            y,
            groups,
            y_predicted=data["y_predicted"],
            labeled=labeled,
            sampling_prob=prob,
            power_tuning="optimal",
        )

    other = np.random.default_rng(3).random(N) < prob
    ys, masks = np.stack([data["y"], 2 * data["y"]]), np.stack([data["labeled"], other])
    both = jax.jit(jax.vmap(one))(ys, masks)
    for i in range(2):
        alone = one(ys[i], masks[i])
        assert_close(both.estimate[i], alone.estimate, rtol=1e-9)
        assert_close(both.covariance[i], alone.covariance, rtol=1e-9)


def test_float32_keeps_digits_despite_large_levels():
    data = panel()
    third = np.random.default_rng(4).normal(size=(N, 1))
    for name in ("X", "X_predicted"):
        data = data | {name: np.column_stack([data[name], third])}
    names = ("X", "y", "y_predicted", "X_predicted", "sampling_prob", "weights")
    shifted = dict(data)
    shifted["X"], shifted["X_predicted"] = data["X"] + 50, data["X_predicted"] + 50
    shifted["y"], shifted["y_predicted"] = data["y"] + 50, data["y_predicted"] + 50
    single = shifted | {name: np.float32(shifted[name]) for name in names}
    result = call(single, 2)
    assert result.estimate.dtype == jnp.float32
    expected = by_dummies(data, 2)
    # The levels leave 50 * 6e-8 = 3e-6 of rounding in the data themselves.
    assert_close(result.estimate, expected[0], rtol=1e-4)
    assert_close(result.std_error, np.sqrt(np.diag(expected[1])), rtol=1e-4)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (lambda x, g: [*x.T, g[:, 1] * 3.0 + 2000], r"\[2\] do not vary within"),
        (lambda x, g: [np.ones(N), *x.T], r"\[0\] do not vary within"),
        # Dependent only within groups.
        (lambda x, g: [*x.T, x[:, 0] + g[:, 0]], r"\[0, 2\] are linearly dependent"),
    ],
)
def test_columns_that_the_effects_absorb_are_named(columns, message):
    data = panel()
    X = np.column_stack(columns(data["X"], data["groups"]))
    with pytest.raises(ValueError, match=message):
        call(data | {"X": X, "X_predicted": X}, 2)


def test_under_jit_bad_values_give_nan():
    data = panel()
    X = np.column_stack([data["X"][:, 0], data["groups"][:, 0]]).astype(float)

    @jax.jit
    def one(X, groups):
        return debiased.fixed_effects(
            X,
            data["y"],
            groups,
            y_predicted=data["y_predicted"],
            labeled=data["labeled"],
        )

    assert bool(one(data["X"], data["groups"][:, 0]).converged)
    for result in (
        one(X, data["groups"][:, 0]),
        one(data["X"], data["groups"][:, 0] - 1),
    ):
        assert not bool(result.converged)
        assert np.isnan(np.asarray(result.estimate)).all()
        assert np.isnan(np.asarray(result.std_error)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power_tuning": "per_coordinate"}, "fixed effects take a number"),
        ({"power_tuning": np.eye(2)}, "fixed effects take a number"),
        ({"power_tuning": 0.0}, r"must lie in \(0, 1\]"),
        ({"power_tuning": 1.5}, r"must lie in \(0, 1\]"),
        ({"axis_name": "rows"}, "do not shard"),
        ({"small_sample": "cr1"}, "needs `clusters`"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        call(panel(), 2, **options)


def test_groups_must_be_one_per_row():
    data = panel()
    with pytest.raises(ValueError, match="`groups` must have shape"):
        call(data | {"groups": data["groups"][:-1]}, 2)


def test_too_few_steps_are_reported():
    data = panel()
    X = np.column_stack([data["X"], data["X"][::-1, 0]])
    with pytest.warns(debiased.InferenceWarning, match="needs more `max_steps`"):
        result = call(data | {"X": X, "X_predicted": X}, 2, max_steps=1)
    assert not bool(result.converged)
    assert np.isnan(np.asarray(result.estimate)).all()


def test_projection_on_a_chain_of_weak_links(x64):
    # Unit g meets periods g and g + 1 only: the graph is a path, its slowest case.
    size = 60
    unit = np.repeat(np.arange(size), 2)
    period = unit + np.tile([0, 1], size)
    v = np.random.default_rng(0).normal(size=(2 * size, 3))
    weight = np.random.default_rng(1).uniform(0.5, 2, 2 * size)
    found = fitted_effects(
        jnp.asarray(v * weight[:, None]),
        jnp.asarray(weight),
        (jnp.asarray(period), jnp.asarray(unit)),
        (size + 1, size),
        1000,
    )
    D = dummies(np.stack([unit, period], axis=1))
    root = np.sqrt(weight)[:, None]
    coef = np.linalg.lstsq(D * root, v * root, rcond=None)[0]
    assert bool(found.converged)
    assert_close(found.fitted, D @ coef, rtol=0, atol=1e-10)
