import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from sklearn.linear_model import LinearRegression

from jaxcur import learners
from jaxcur.debiased import _cross_fit_runs
from jaxcur.debiased._cross_fit import cross_fit
from jaxcur.debiased._folds import make_folds
from tests.helpers import assert_close

KEY = jax.random.key(7)
SEEDS = st.integers(0, 10_000)
N = 43
# Two that use the moments of folds, two that are fitted again for each.
LEARNERS = {
    "ridge": learners.Ridge(0.5),
    "least squares": learners.Ridge(0.0),
    "logistic": learners.Logistic(0.5),
    "isotonic": learners.Isotonic(),
}


def world(seed, n=N, d=1):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, d))
    chance = 1 / (1 + np.exp(-features[:, 0]))
    target = (rng.uniform(size=n) < chance).astype(float)
    probability = rng.uniform(0.3, 1, n)
    labeled = rng.uniform(size=n) < probability
    labeled[:6] = True
    return features, np.where(labeled, target, np.nan), labeled, probability


def by_hand(learner, features, target, weights, folds):
    """One fit on the training rows alone for each fold."""
    result = np.zeros(len(target))
    for fold in np.unique(folds):
        train = (folds != fold) & (weights > 0)
        params = learner.fit(features[train], target[train], weights[train])
        result[folds == fold] = learner.predict(params, features[folds == fold])
    return result


# --- the partition


@given(seed=SEEDS)
def test_folds_have_equal_sizes(seed):
    folds = np.asarray(make_folds(jax.random.key(seed), N, num_folds=5))
    assert folds.dtype == np.int32
    counts = np.bincount(folds, minlength=5)
    assert counts.sum() == N
    assert counts.max() - counts.min() <= 1
    assert len(counts) == 5


@given(seed=SEEDS, stratified=st.booleans())
def test_clusters_stay_together_and_are_divided_equally(seed, stratified):
    rng = np.random.default_rng(seed)
    clusters = rng.integers(-3, 9, N) * 1000
    labeled = rng.uniform(size=N) < 0.1
    strata = {"labeled": labeled} if stratified else {}
    key = jax.random.key(seed)
    folds = np.asarray(make_folds(key, N, num_folds=3, clusters=clusters, **strata))
    names, first, number = np.unique(clusters, return_index=True, return_inverse=True)
    assert (folds == folds[first][number]).all()
    counts = np.bincount(folds[first], minlength=3)
    assert counts.sum() == len(names)
    assert counts.max() - counts.min() <= 1
    if stratified:
        marked = np.isin(names, clusters[labeled])
        counts = np.bincount(folds[first][marked], minlength=3)
        assert counts.max() - counts.min() <= 1


@given(seed=SEEDS)
def test_stratified_folds_share_the_labels(seed):
    labeled = np.random.default_rng(seed).uniform(size=N) < 0.2
    folds = make_folds(jax.random.key(seed), N, num_folds=4, labeled=labeled)
    for part in (np.asarray(folds), np.asarray(folds)[labeled]):
        counts = np.bincount(part, minlength=4)
        assert counts.max() - counts.min() <= 1


def test_every_partition_is_about_as_likely():
    # Two folds of two rows: 3 partitions, and either fold may hold the first row.
    keys = jax.random.split(KEY, 6000)
    one = jax.jit(jax.vmap(lambda key: make_folds(key, 4, num_folds=2)))
    codes = np.asarray(one(keys)) @ (2 ** np.arange(4))
    values, counts = np.unique(codes, return_counts=True)
    assert len(values) == 6
    # 5 standard deviations of a binomial count.
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 5 / 6)
    clusters = np.array([5, 5, 7, 9, 11])
    two = jax.jit(
        jax.vmap(lambda key: make_folds(key, 5, num_folds=2, clusters=clusters))
    )
    codes = np.asarray(two(keys)) @ (2 ** np.arange(5))
    values, counts = np.unique(codes, return_counts=True)
    assert len(values) == 6
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 5 / 6)


def test_bad_folds_are_named():
    with pytest.raises(ValueError, match="`num_folds` must be an integer of at least"):
        make_folds(KEY, 5, num_folds=1)
    with pytest.raises(ValueError, match="only 5 rows to divide"):
        make_folds(KEY, 5, num_folds=6)
    with pytest.raises(ValueError, match="only 2 clusters to divide"):
        make_folds(KEY, 4, num_folds=3, clusters=np.array([0, 0, 1, 1]))
    with pytest.raises(ValueError, match=r"`clusters` must have shape \(5,\)"):
        make_folds(KEY, 5, num_folds=2, clusters=np.zeros(4, int))
    with pytest.raises(TypeError, match="`clusters` must hold integers"):
        make_folds(KEY, 5, num_folds=2, clusters=np.zeros(5))
    with pytest.raises(ValueError, match=r"`labeled` must have shape \(5,\)"):
        make_folds(KEY, 5, num_folds=2, labeled=np.ones(4, bool))


# --- the predictions


def folds_drawn(key, num_splits, **options):
    """The partitions that `cross_fit` draws from its key."""
    drawn, _ = jax.random.split(key)
    return np.stack(
        [
            np.asarray(make_folds(jax.random.fold_in(drawn, s), N, **options))
            for s in range(num_splits)
        ]
    )


@pytest.mark.parametrize("name", ["ridge", "logistic", "isotonic"])
def test_each_fold_is_predicted_from_the_others(x64, name):
    features, target, labeled, probability = world(0)
    learner = LEARNERS[name]
    folds = folds_drawn(KEY, 2, num_folds=5)
    known = {"labeled": labeled, "sampling_prob": probability}
    found = cross_fit(learner, features, target, key=KEY, num_splits=2, **known)
    assert found.shape == (2, N)
    assert found.dtype == np.float64
    weights = np.where(labeled, 1 / probability, 0)
    expected = by_hand(learner, features, target, weights, folds[1])
    assert_close(found[1], expected, rtol=1e-8, atol=1e-9)
    again = cross_fit(learner, features, target, folds=folds, **known)
    assert_close(again, found, rtol=1e-9, atol=1e-10)


def test_weights_are_inverse_probabilities_or_one(x64):
    features, target, labeled, _ = world(0)
    learner, folds = LEARNERS["ridge"], folds_drawn(KEY, 1, num_folds=5)
    for extra, weight in (({}, 1.0), ({"sampling_prob": 0.25}, 4.0)):
        found = cross_fit(
            learner, features, target, labeled=labeled, folds=folds[0], **extra
        )
        expected = by_hand(learner, features, target, weight * labeled, folds[0])
        assert_close(found[0], expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["ridge", "isotonic"])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_prediction_does_not_depend_on_its_own_label(name, grouped):
    features, target, labeled, probability = world(1)
    clusters = np.arange(N) // 3 if grouped else None

    def predict(target):
        found = cross_fit(
            LEARNERS[name],
            features,
            target,
            labeled=labeled,
            sampling_prob=probability,
            clusters=clusters,
            num_splits=2,
            key=KEY,
        )
        return np.asarray(found)

    plain = predict(target)
    for row in np.flatnonzero(labeled)[[0, 5, -1]]:
        changed = target.copy()
        changed[row] = 1 - changed[row]
        moved = predict(changed)
        own = np.arange(N) == row if clusters is None else clusters == clusters[row]
        # To the last bit: no number of the fit was computed from the label.
        assert (moved[:, own] == plain[:, own]).all()
        assert (moved != plain).any()


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_unlabeled_targets_are_never_read(name):
    features, target, labeled, _ = world(2)
    found = [
        cross_fit(LEARNERS[name], features, t, labeled=labeled, key=KEY)
        for t in (target, np.where(labeled, target, 5), np.where(labeled, target, 1e30))
    ]
    assert np.isfinite(found[0]).all()
    assert (found[0] == found[1]).all()
    assert (found[0] == found[2]).all()


def test_splits_use_different_partitions():
    features, target, labeled, _ = world(3)
    found = cross_fit(
        learners.Ridge(0.0), features, target, labeled=labeled, key=KEY, num_splits=6
    )
    assert len(np.unique(np.round(found, 5), axis=0)) == 6
    # A split does not depend on how many there are.
    two = cross_fit(
        learners.Ridge(0.0), features, target, labeled=labeled, key=KEY, num_splits=2
    )
    assert_close(two, found[:2], rtol=1e-5, atol=1e-6)
    folds = folds_drawn(KEY, 6, num_folds=5)
    assert len(np.unique(folds, axis=0)) == 6
    other = cross_fit(
        learners.Ridge(0.0),
        features,
        target,
        labeled=labeled,
        key=jax.random.key(8),
    )
    assert (other != found[:1]).any()


def test_memory_is_limited_without_changing_the_numbers(x64, monkeypatch):
    features, target, labeled, _ = world(4)
    folds = folds_drawn(KEY, 3, num_folds=5)
    for learner in (learners.Ridge(0.5), ClassShares()):
        known = {"labeled": labeled, "num_splits": 3}
        plain = cross_fit(learner, features, target, key=KEY, **known)
        for size in (1, 6 * N * 17):
            monkeypatch.setattr(_cross_fit_runs, "_BATCH_ENTRIES", size)
            jax.clear_caches()
            found = cross_fit(learner, features, target, key=KEY, **known)
            assert_close(found, plain, rtol=1e-9, atol=1e-10)
            found = cross_fit(learner, features, target, folds=folds, **known)
            assert_close(found, plain, rtol=1e-9, atol=1e-10)
            monkeypatch.undo()


@pytest.mark.parametrize("regularization", [0.0, 2.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_moments_of_folds_give_the_ridge_fit(x64, regularization, intercept):
    features, _, labeled, probability = world(5, d=3)
    # Offsets far from zero, and a column that is constant outside one fold: its
    # coefficient there is zero, not what rounding makes of it.
    features = 10.0 + features
    folds = folds_drawn(KEY, 1, num_folds=5)[0]
    features[:, 2] = np.where(folds == 2, features[:, 2], 3.3)
    target = 1e3 + features @ np.array([1.0, -2.0, 0.5])
    target = target + np.random.default_rng(0).standard_normal(N)
    learner = learners.Ridge(regularization, intercept=intercept)
    found = cross_fit(
        learner,
        features,
        np.where(labeled, target, np.nan),
        labeled=labeled,
        sampling_prob=probability,
        key=KEY,
    )
    weights = np.where(labeled, 1 / probability, 0)
    if intercept:
        # The same fit, with the constant where its mean has no rounding.
        features = features - np.array([0.0, 0.0, 3.3])
    expected = by_hand(learner, features, target, weights, folds)
    assert_close(found[0], expected, rtol=1e-9)


def test_float32_keeps_the_digits_of_the_data():
    features, _, labeled, _ = world(6, d=2)
    target = features @ np.array([1.0, 2.0]) + np.random.default_rng(1).normal(size=N)
    offset = 1000.0
    with jax.enable_x64(True):
        exact = cross_fit(
            learners.Ridge(0.0), features, target, labeled=labeled, key=KEY
        )
    single = cross_fit(
        learners.Ridge(0.0),
        (features + offset).astype(np.float32),
        (target + offset).astype(np.float32),
        labeled=labeled,
        key=KEY,
    )
    # The data themselves are rounded to 6e-5 at this offset.
    assert np.abs(np.asarray(single) - offset - np.asarray(exact)).max() < 2e-3


class Mean:
    """The mean of the training rows."""

    def fit(self, features, target, weights, *, key=None):
        return jnp.sum(weights * target) / jnp.sum(weights)

    def predict(self, params, features):
        return jnp.full(features.shape[0], params)


class ClassShares(Mean):
    """The shares of two classes among the training rows."""

    def predict(self, params, features):
        one = jnp.full(features.shape[0], params)
        return jnp.stack([1 - one, one], axis=1)


def test_probabilities_of_classes_keep_their_axis():
    features, target, labeled, _ = world(7)
    folds = folds_drawn(KEY, 2, num_folds=5)
    found = cross_fit(ClassShares(), features, target, labeled=labeled, folds=folds)
    assert found.shape == (2, N, 2)
    assert_close(found.sum(axis=2), np.ones((2, N)), rtol=1e-6)
    train = labeled & (folds[1] != folds[1][0])
    assert_close(found[1, 0, 1], target[train].mean(), rtol=1e-6)


def test_learners_on_the_host_give_the_same(x64):
    features, target, labeled, probability = world(8)
    known = {"labeled": labeled, "sampling_prob": probability, "num_splits": 2}
    host = learners.HostLearner(LinearRegression())
    found = cross_fit(host, features, target, key=KEY, **known)
    expected = cross_fit(learners.Ridge(0.0), features, target, key=KEY, **known)
    assert_close(found, expected, rtol=1e-9, atol=1e-10)
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(lambda t: cross_fit(host, features, t, labeled=labeled, key=KEY))(
            target
        )


class Dice:
    """A number drawn with the key of the fit."""

    def fit(self, features, target, weights, *, key=None):
        return jax.random.uniform(key)

    def predict(self, params, features):
        return jnp.full(features.shape[0], params)


class HostDice(Dice):
    on_host = True


def test_every_fit_gets_its_own_key():
    features, target, labeled, _ = world(9)
    folds = folds_drawn(KEY, 2, num_folds=5)
    for learner in (Dice(), HostDice()):
        known = {"labeled": labeled, "num_splits": 2}
        drawn = cross_fit(learner, features, target, key=KEY, **known)
        assert len(np.unique(drawn)) == 10
        played = cross_fit(learner, features, target, key=KEY, folds=folds, **known)
        assert len(np.unique(played)) == 10
    host = cross_fit(HostDice(), features, target, key=KEY, **known)
    jaxed = cross_fit(Dice(), features, target, key=KEY, **known)
    assert_close(host, jaxed, rtol=1e-6)


def test_stacking_is_cross_fitted_as_a_whole():
    features, target, labeled, _ = world(10)
    stack = learners.Stacking((learners.Ridge(1.0), learners.Ridge(0.1)), num_folds=3)
    plain = cross_fit(stack, features, target, labeled=labeled, key=KEY, num_folds=3)
    row = int(np.flatnonzero(labeled)[2])
    changed = target.copy()
    changed[row] = 1 - changed[row]
    moved = cross_fit(stack, features, changed, labeled=labeled, key=KEY, num_folds=3)
    assert np.isfinite(plain).all()
    assert moved[0, row] == plain[0, row]
    assert (moved != plain).any()


# --- few labels


def test_few_labels_make_fewer_folds():
    features, target, _, _ = world(11)
    target = np.where(np.isnan(target), 1.0, target)
    labeled = np.arange(N) < 5
    found = cross_fit(learners.Ridge(0.5), features, target, labeled=labeled, key=KEY)
    assert np.isfinite(found).all()
    # 5 labels allow 2 folds: two coefficient pairs, so two lines through the points.
    slopes = np.diff(found[0]) / np.diff(features[:, 0])
    assert len(np.unique(np.round(slopes, 3))) > 1
    labeled = np.arange(N) < 4
    found = cross_fit(Mean(), features, target, labeled=labeled, key=KEY, num_splits=20)
    # 4 labels: each training part must hold exactly two, so the two means agree with
    # the sum of all labels, whatever the draw.
    for row in found:
        values = np.unique(np.round(row, 6))
        assert len(values) <= 2
        assert_close(2 * (values.min() + values.max()), target[:4].sum(), rtol=1e-5)


def test_a_poor_partition_is_drawn_again():
    features, target, _, _ = world(12)
    target = np.where(np.isnan(target), 1.0, target)
    labeled = np.arange(N) < 4
    drawn = folds_drawn(KEY, 20, num_folds=2)
    outside = [min(labeled[f == 0].sum(), labeled[f == 1].sum()) for f in drawn]
    # Some plain partitions are unusable: there is something to repair.
    assert min(outside) < 2 <= max(outside)
    known = {"labeled": labeled, "key": KEY, "num_splits": 20}
    for learner in (learners.Ridge(1.0), Mean()):
        found = np.asarray(cross_fit(learner, features, target, **known))
        assert np.isfinite(found).all()

        # Under tracing the same partitions stay unusable, and say so.
        def traced(labeled, learner=learner):
            return cross_fit(
                learner,
                features,
                target,
                labeled=labeled,
                key=KEY,
                num_splits=20,
                num_folds=2,
            )

        traced = np.asarray(jax.jit(traced)(labeled))
        poor = np.array(outside) < 2
        assert np.isnan(traced[poor]).any(axis=1).all()
        assert np.isfinite(traced[~poor]).all()
        assert_close(traced[~poor], found[~poor], rtol=1e-4, atol=1e-5)
        # Both parts are too small or one: only the rows that lack a fit are lost.
        for row, fold in zip(traced[poor], drawn[poor], strict=True):
            for k in (0, 1):
                short = labeled[fold != k].sum() < 2
                assert np.isnan(row[fold == k]).all() == short


def test_labels_of_one_cluster_cannot_train_for_themselves():
    features, target, _, _ = world(13)
    target = np.where(np.isnan(target), 1.0, target)
    clusters = np.arange(N) // 10
    with pytest.raises(
        ValueError, match=r"10 labelled rows in 1 cluster; .* left with 0"
    ):
        cross_fit(
            learners.Ridge(1.0),
            features,
            target,
            labeled=clusters == 0,
            clusters=clusters,
            key=KEY,
        )
    found = cross_fit(
        learners.Ridge(1.0),
        features,
        target,
        labeled=clusters < 2,
        clusters=clusters,
        key=KEY,
    )
    assert np.isfinite(found).all()
    with pytest.raises(ValueError, match=r"3 labelled rows; .* at least 2 are needed"):
        cross_fit(
            learners.Ridge(1.0), features, target, labeled=np.arange(N) < 3, key=KEY
        )


# --- transformations


@pytest.mark.parametrize("name", ["ridge", "least squares", "isotonic"])
def test_jit_and_vmap(name, strict_promotion):
    worlds = [world(seed) for seed in range(3)]
    features, target, labeled, probability = (
        np.stack(x).astype(np.float32) for x in zip(*worlds, strict=True)
    )
    labeled = labeled.astype(bool)
    keys = jax.random.split(KEY, 3)

    def one(features, target, labeled, probability, key):
        return cross_fit(
            LEARNERS[name],
            features,
            target,
            labeled=labeled,
            sampling_prob=probability,
            num_splits=2,
            key=key,
        )

    data = (features, target, labeled, probability, keys)
    with jax.checking_leaks():
        found = jax.jit(jax.vmap(one))(*data)
    assert found.shape == (3, 2, N)
    assert found.dtype == jnp.float32
    loop = jnp.stack([one(*(x[i] for x in data)) for i in range(3)])
    assert_close(found, loop, rtol=1e-3, atol=1e-4)


def test_traced_clusters_and_folds():
    features, target, labeled, _ = world(14)
    clusters = np.arange(N) // 2
    learner = learners.Ridge(0.5)

    @jax.jit
    def by_clusters(clusters):
        return cross_fit(
            learner, features, target, labeled=labeled, clusters=clusters, key=KEY
        )

    plain = cross_fit(
        learner, features, target, labeled=labeled, clusters=clusters, key=KEY
    )
    assert_close(by_clusters(clusters), plain, rtol=1e-4, atol=1e-5)

    @jax.jit
    def by_folds(folds):
        return cross_fit(learner, features, target, labeled=labeled, folds=folds)

    folds = folds_drawn(KEY, 2, num_folds=5)
    plain = cross_fit(learner, features, target, labeled=labeled, folds=folds)
    assert_close(by_folds(folds), plain, rtol=1e-4, atol=1e-5)
    # A fold beyond `num_folds` is fitted by nobody.
    strange = np.where(folds == 3, 7, folds)
    assert (np.isnan(by_folds(strange)) == (strange == 7)).all()


def test_outcomes_share_labels_known_in_advance():
    features, target, _, _ = world(15)
    target = np.where(np.isnan(target), 1.0, target)
    labeled = np.arange(N) < 5
    outcomes = np.stack([target, 1 - target])

    def one(target):
        return cross_fit(
            learners.Ridge(0.5), features, target, labeled=labeled, key=KEY
        )

    # The number of labels is known: there are 2 folds here too, as there are outside.
    found = jax.vmap(one)(outcomes)
    assert_close(found[1], one(outcomes[1]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ridge", "isotonic"])
def test_bad_values_under_jit_give_nan(name):
    features, target, labeled, probability = world(16)

    @jax.jit
    def predict(target, probability, labeled):
        return cross_fit(
            LEARNERS[name],
            features,
            target,
            labeled=labeled,
            sampling_prob=probability,
            key=KEY,
        )

    assert np.isfinite(predict(target, probability, labeled)).all()
    row = int(np.flatnonzero(labeled)[0])
    for wrong in (0.0, 1.5, -1.0, np.nan):
        bad = np.where(np.arange(N) == row, wrong, probability)
        # The fold of the row itself does not see it.
        assert np.isnan(predict(target, bad, labeled)).mean() > 0.7
    assert np.isnan(predict(target, probability, np.zeros(N, bool))).all()


# --- errors

GOOD = world(17)
BAD = {
    "no label": ({"labeled": np.zeros(N, bool)}, "no labelled rows"),
    "labels of three kinds": ({"labeled": np.arange(N)}, "`labeled` must hold True"),
    "few labels": ({"labeled": np.ones(3, bool)}, r"`labeled` must have shape \(43,\)"),
    "no target": ({"labeled": np.ones(N, bool)}, "`target` must be finite where"),
    "no probability": ({"sampling_prob": GOOD[3] * (GOOD[3] > 0.5)}, r"\(0, 1\], got"),
    "large probability": ({"sampling_prob": 1.5}, r"`sampling_prob` must lie in"),
    "shape of probability": ({"sampling_prob": np.ones(3)}, "`sampling_prob` must be"),
    "neither key nor folds": ({"key": None}, "or the draw itself as `folds`"),
    "one fold": ({"num_folds": 1}, "`num_folds` must be an integer of at least 2"),
    "no split": ({"num_splits": 0}, "`num_splits` must be positive"),
    "shape of folds": ({"folds": np.zeros(5, int)}, r"`folds` must have shape"),
    "negative folds": ({"folds": np.arange(N) % 3 - 1}, "`folds` must not be negative"),
    "splits of folds": (
        {"folds": np.zeros((2, N), int), "num_splits": 3},
        "`num_splits` is 3, but `folds` holds 2",
    ),
    "one fold given": ({"folds": np.zeros(N, int)}, "leave 0 labelled rows outside"),
    "divided cluster": (
        {"folds": np.arange(N) % 5, "clusters": np.arange(N) // 2 + 50},
        "`folds` must keep clusters together, but divide cluster 50",
    ),
    "one cluster": ({"clusters": np.zeros(N, int)}, "only 1 clusters to divide"),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named(bad):
    features, target, labeled, _ = GOOD
    options, message = BAD[bad]
    options = {"labeled": labeled, "key": KEY, **options}
    with pytest.raises(ValueError, match=message):
        cross_fit(learners.Ridge(1.0), features, target, **options)


def test_bad_values_are_named():
    features, target, labeled, _ = GOOD
    options = {"labeled": labeled, "key": KEY}
    spoiled = np.where(np.arange(N)[:, None] == 40, np.inf, features)
    with pytest.raises(
        ValueError, match="`features` must be finite in all rows, got 1"
    ):
        cross_fit(learners.Ridge(1.0), spoiled, target, **options)
    with pytest.raises(ValueError, match=r"`target` must lie in \[0, 1\]"):
        cross_fit(learners.Logistic(1.0), features, 2 * target, **options)


def test_bad_types_are_named():
    features, target, labeled, _ = GOOD
    good = {"labeled": labeled, "key": KEY}
    with pytest.raises(TypeError, match="`learner` must be an object with methods"):
        cross_fit(3, features, target, **good)
    with pytest.raises(TypeError, match="`folds` must hold integers"):
        cross_fit(
            learners.Ridge(1.0), features, target, folds=np.zeros(N), labeled=labeled
        )
    with pytest.raises(TypeError, match="`num_splits` must be an integer"):
        cross_fit(learners.Ridge(1.0), features, target, num_splits=1.5, **good)

    class Scalar(Dice):
        def predict(self, params, features):
            return params

    for learner in (Scalar(), type("OnHost", (Scalar,), {"on_host": True})()):
        with pytest.raises(ValueError, match="`learner` must predict shape"):
            cross_fit(learner, features, target, **good)
