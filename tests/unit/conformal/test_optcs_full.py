"""OptCS without a sample split: definitions, folds, learners, edges, errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import conformal, learners
from tests.helpers import assert_close

N, M = 24, 5
LEVEL = 0.3


def world(n: int = N, m: int = M, d: int = 2, seed: int = 0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n + m, d)).astype(np.float32)
    y = x[:, 0] + 0.5 * rng.normal(size=n + m) > 0
    return x[:n], y[:n], x[n:], y[n:]


X, Y, NEW, _ = world()
RIDGE = learners.Ridge(0.5)


def chosen(mask) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()


def whole(array) -> list:
    return np.asarray(array).tolist()


def full(learner=RIDGE, level=LEVEL, **options):
    return conformal.optcs_full(learner, X, Y, NEW, level=level, **options)


@dataclasses.dataclass(frozen=True)
class Smooth:
    """A kernel average with the rows it was given: nothing but `fit` and `predict`."""

    def fit(self, features, target, weights=None, *, key=None):
        weights = jnp.ones(len(target)) if weights is None else weights
        return features, target, weights

    def predict(self, params, features):
        rows, target, weights = params
        gaps = jnp.sum((features[:, None] - rows) ** 2, axis=-1)
        mass = jnp.exp(-gaps) * weights
        return mass @ target / mass.sum(axis=1)


class SmoothOnHost:
    """The same by NumPy, as a learner that cannot be traced."""

    on_host = True

    def fit(self, features, target, weights=None, *, key=None):
        return tuple(np.asarray(value) for value in (features, target, weights))

    def predict(self, params, features):
        return np.asarray(Smooth().predict(params, np.asarray(features)))


def smooth(rows, target, new):
    """`Smooth` in float64, on its own."""
    gaps = np.sum((new[:, None] - rows) ** 2, axis=-1)
    mass = np.exp(-gaps)
    return mass @ target / mass.sum(axis=1)


def without(array, i):
    return np.delete(np.asarray(array, float), i, axis=0)


def bh_size(p, level):
    p, m = np.sort(np.asarray(p)), len(p)
    passed = [k for k in range(1, m + 1) if p[k - 1] <= level * k / m + 1e-12]
    return max(passed, default=0)


def pooled_by_definition(x, y, new):
    rows = np.concatenate([x, new])
    target = np.concatenate([y, np.zeros(len(new))])
    mu = np.asarray(
        [
            smooth(without(rows, i), without(target, i), np.asarray(rows[i : i + 1]))[0]
            for i in range(len(rows))
        ]
    )
    scores = np.where(y, np.inf, 0) - mu[: len(x)]
    return np.asarray([(1 + np.sum(scores <= -t)) / (len(x) + 1) for t in mu[len(x) :]])


def per_candidate_by_definition(x, y, new, level):
    """p, R and the first step, from m (n + 1) fits and comparisons one by one."""
    n, m = len(x), len(new)
    p, sizes = [], []
    for j in range(m):
        rows = np.concatenate([x, new[j : j + 1]])
        target = np.append(y, 0.0)
        fits = [(without(rows, i), without(target, i)) for i in range(n + 1)]
        mu = np.asarray(
            [smooth(*fit, np.asarray(rows[i : i + 1]))[0] for i, fit in enumerate(fits)]
        )
        others = -np.mean([smooth(*fit, np.asarray(new)) for fit in fits], axis=0)
        scores = np.where(np.append(y, False), np.inf, 0) - mu
        p.append((1 + np.sum(scores[:n] <= scores[n])) / (n + 1))
        auxiliary = [
            0.0 if i == j else np.sum(scores <= others[i]) / (n + 1) for i in range(m)
        ]
        sizes.append(bh_size(auxiliary, level))
    first = [p[j] <= level * sizes[j] / m + 1e-12 for j in range(m)]
    return np.asarray(p), sizes, first


@pytest.mark.parametrize("learner", [Smooth(), SmoothOnHost()])
@pytest.mark.parametrize("level", [0.2, 0.5])
def test_pooled_is_benjamini_hochberg_on_leave_one_out_p_values(learner, level):
    p = pooled_by_definition(X, Y, NEW)
    result = full(learner, level)
    assert_close(result.p_values, p.astype(np.float32), rtol=1e-6)
    k = bh_size(p, level)
    expected = p <= (np.sort(p)[k - 1] if k else -1)
    assert whole(result.selected) == whole(result.first_step) == whole(expected)
    assert whole(result.chosen_model) == [0] * M
    assert int(result.status) == 0


@pytest.mark.parametrize("learner", [Smooth(), SmoothOnHost()])
@pytest.mark.parametrize("level", [0.2, 0.5])
def test_per_candidate_equals_its_definition(learner, level):
    p, sizes, first = per_candidate_by_definition(X, Y, NEW, level)
    result = full(
        learner, level, variant="per_candidate", pruning="homogeneous", xi=0.25
    )
    assert_close(result.p_values, p.astype(np.float32), rtol=1e-6)
    assert whole(result.auxiliary_sizes) == sizes
    assert whole(result.first_step) == first
    pruned = conformal.prune(
        p, np.asarray(sizes), level=level, pruning="homogeneous", xi=0.25
    )
    assert whole(result.selected) == whole(pruned)
    assert any(first)


class FirstFeature:
    """A predictor that learns nothing, and is exact on whole numbers."""

    def fit(self, features, target, weights=None, *, key=None):
        return jnp.zeros(())

    def predict(self, params, features):
        return features[:, 0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("level", [0.1, 0.2, 0.3, 0.4, 0.6])
def test_a_predictor_that_learns_nothing_is_one_model_with_ties_counted(level, seed):
    x, y, new, _ = world(m=12, seed=seed)
    x, new = np.round(2 * x), np.round(2 * new)
    scores = np.where(y, np.inf, 0) - x[:, 0]
    xi = np.random.default_rng(0).integers(1, 17, 12) / 16
    expected = conformal.optcs_msel(
        scores[None], -new[None, :, 0], level=level, pruning="heterogeneous", xi=xi
    )
    assert len(np.unique(x[:, 0])) < 15
    for variant in ("pooled", "per_candidate"):
        result = conformal.optcs_full(
            FirstFeature(),
            *(x, y, new),
            level=level,
            variant=variant,
            pruning="heterogeneous",
            xi=xi,
        )
        for name in ("p_values", "auxiliary_sizes", "first_step", "selected"):
            found = whole(getattr(result, name))
            assert found == whole(getattr(expected, name)), (variant, name)


def test_pooled_needs_no_draw_and_every_pruning_agrees():
    plain = full()
    assert chosen(plain.selected)
    for pruning in ("homogeneous", "heterogeneous", "deterministic"):
        same = full(pruning=pruning)
        assert whole(same.selected) == whole(plain.selected)


def test_a_finite_bound_reproduces_published_code():
    # With predictions in [0, 1] a bound of 1000 is as good as infinity.
    for variant in ("pooled", "per_candidate"):
        options = {"variant": variant, "pruning": "deterministic"}
        one, other = full(**options), full(bound=1000.0, **options)
        assert whole(one.p_values) == whole(other.p_values)
        assert whole(one.auxiliary_sizes) == whole(other.auxiliary_sizes)
    # A small one is not: rows with label 1 then stand in the way.
    assert float(full(bound=1e-3).p_values.sum()) > float(full().p_values.sum())


def test_rows_in_another_order_change_nothing():
    order = np.random.default_rng(1).permutation(N)
    back = np.random.default_rng(2).permutation(M)
    for options in (
        {},
        {"variant": "per_candidate", "pruning": "homogeneous", "xi": 0.5},
    ):
        one = full(**options)
        other = conformal.optcs_full(
            RIDGE, X[order], Y[order], NEW[back], level=LEVEL, **options
        )
        assert whole(other.p_values) == whole(one.p_values[back])
        assert whole(other.selected) == whole(one.selected[back])


def test_one_candidate():
    result = conformal.optcs_full(RIDGE, X, Y, NEW[:1], level=LEVEL)
    assert result.selected.shape == (1,)
    per = conformal.optcs_full(
        RIDGE, X, Y, NEW[:1], level=LEVEL, variant="per_candidate", xi=0.5
    )
    # With one candidate the pool is the bag.
    assert whole(per.p_values) == whole(result.p_values)
    assert whole(per.selected) == whole(result.selected)


@pytest.mark.parametrize("variant", ["pooled", "per_candidate"])
def test_no_candidates(variant):
    result = conformal.optcs_full(
        RIDGE,
        X,
        Y,
        np.zeros((0, 2)),
        level=LEVEL,
        variant=variant,
        pruning="deterministic",
    )
    assert result.selected.shape == result.p_values.shape == (0,)
    assert result.message == "ok"


@pytest.mark.parametrize("variant", ["pooled", "per_candidate"])
def test_levels_at_the_ends(variant):
    options = {"variant": variant, "pruning": "deterministic"}
    assert chosen(full(level=0.0, **options).selected) == []
    assert chosen(full(level=1.0, **options).selected) == list(range(M))
    out_of_reach = full(level=0.039, **options)
    assert "below 1/(n + 1)" in out_of_reach.message
    assert full(level=0.04, **options).message == "ok"


@pytest.mark.parametrize("variant", ["pooled", "per_candidate"])
def test_all_labels_equal(variant):
    options = {"variant": variant, "pruning": "deterministic"}
    # Nobody above: scores are exchangeable noise, p-values on their grid.
    none = conformal.optcs_full(RIDGE, X, np.zeros(N), NEW, level=LEVEL, **options)
    assert bool((none.p_values == 1).all())
    # Everybody above: no calibration row stands in the way of anything.
    every = conformal.optcs_full(RIDGE, X, np.ones(N), NEW, level=LEVEL, **options)
    assert_close(every.p_values, np.full(M, 1 / (N + 1), np.float32), rtol=1e-6)
    assert bool(every.selected.all())


class PartlyNaN:
    """Predicts NaN at rows whose first feature is large."""

    def fit(self, features, target, weights=None, *, key=None):
        return jnp.sum(target)

    def predict(self, params, features):
        return jnp.where(features[:, 0] > 5, jnp.nan, features[:, 0])


@pytest.mark.parametrize("variant", ["pooled", "per_candidate"])
@pytest.mark.parametrize("level", [0.3, 1.0])
def test_a_candidate_with_prediction_nan_is_never_selected(variant, level):
    new = NEW.copy()
    new[1, 0] = 9.0
    result = conformal.optcs_full(
        PartlyNaN(), X, Y, new, level=level, variant=variant, pruning="deterministic"
    )
    assert float(result.p_values[1]) == 1.0
    assert not bool(result.selected[1])
    assert "test scores are NaN" in result.message


@pytest.mark.parametrize("variant", ["pooled", "per_candidate"])
def test_a_traced_level_selects_the_same(variant):
    options = {"variant": variant, "pruning": "deterministic"}
    program = jax.jit(lambda a: full(level=a, **options))
    for level in (0.1, 0.3, 0.6):
        traced, given = program(level), full(level=level, **options)
        assert whole(traced.selected) == whole(given.selected)
        assert whole(traced.auxiliary_sizes) == whole(given.auxiliary_sizes)
    bad = program(1.5)
    assert chosen(bad.selected) == []
    assert bad.message == "level is not in [0, 1]: nothing is selected"


# Folds


def test_folds_of_one_row_are_leaving_one_out():
    folds = np.random.default_rng(0).permutation(N + M)
    one, other = full(Smooth()), full(Smooth(), folds=folds)
    assert_close(other.p_values, one.p_values, rtol=1e-6)
    assert whole(other.selected) == whole(one.selected)


def test_folds_equal_refits_by_hand():
    folds = np.arange(N + M) % 4
    rows = np.concatenate([X, NEW]).astype(float)
    target = np.concatenate([Y, np.zeros(M)])
    mu = np.zeros(N + M)
    for fold in range(4):
        inside = folds == fold
        mu[inside] = smooth(rows[~inside], target[~inside], rows[inside])
    scores = np.where(Y, np.inf, 0) - mu[:N]
    p = [(1 + np.sum(scores <= -t)) / (N + 1) for t in mu[N:]]
    for learner in (Smooth(), SmoothOnHost()):
        result = full(learner, folds=folds)
        assert_close(result.p_values, np.asarray(p, np.float32), rtol=1e-6)


def test_the_names_of_the_folds_do_not_matter():
    folds = np.arange(N + M) % 4
    named = np.asarray([7, -1, 100, 3])[folds]
    assert whole(full(folds=named).p_values) == whole(full(folds=folds).p_values)


def test_folds_drawn_from_a_key_are_even_and_replayed():
    key = jax.random.key(5)
    first, again = full(num_folds=4, key=key), full(num_folds=4, key=key)
    assert whole(first.p_values) == whole(again.p_values)
    others = [full(num_folds=4, key=jax.random.key(s)).p_values for s in range(5)]
    assert len({tuple(whole(p)) for p in others}) > 1
    seen = []

    class Spy(Smooth):
        def fit(self, features, target, weights=None, *, key=None):
            seen.append(int(np.sum(np.asarray(weights) == 0)))
            return super().fit(features, target, weights)

    full(Spy(), num_folds=4, key=key)
    assert sorted(seen) == [7, 7, 7, 8]


def test_folds_do_not_depend_on_the_data():
    """The same key gives the same folds whatever rows and labels come."""
    masks = []

    class Spy(Smooth):
        def fit(self, features, target, weights=None, *, key=None):
            masks.append(np.asarray(weights) == 0)
            return super().fit(features, target, weights)

    key = jax.random.key(0)
    for labels in (Y, ~Y):
        conformal.optcs_full(
            Spy(), X + labels[:, None], labels, NEW, level=LEVEL, num_folds=3, key=key
        )
    for one, other in zip(masks[:3], masks[3:], strict=True):
        assert (one == other).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": "stratified"}, "would not be exchangeable"),
        ({"num_folds": 4}, "draws its folds: pass `key="),
        ({"num_folds": 1}, "`num_folds` must be an integer from 2 to n \\+ m = 29"),
        ({"num_folds": N + M + 1}, "`num_folds` must be an integer from 2"),
        ({"num_folds": 2.5}, "`num_folds` must be an integer from 2"),
        ({"num_folds": 2, "folds": np.arange(N + M) % 2}, "either `folds` or"),
        ({"folds": np.arange(N) % 2}, r"`folds` must be integers of shape \(29,\)"),
        ({"folds": (np.arange(N + M) % 2) * 1.0}, "`folds` must be integers"),
        (
            {"folds": np.arange(N + M) % 2, "variant": "per_candidate", "xi": 0.5},
            "apply to variant='pooled'",
        ),
    ],
)
@pytest.mark.parametrize("several", [False, True])
def test_unusable_folds_are_refused(options, message, several):
    options = {"key": None if "num_folds" in options else jax.random.key(0), **options}
    if several and "variant" in options:
        return
    with pytest.raises(ValueError, match=message):
        if several:
            conformal.optcs_full_msel([RIDGE], X, Y, NEW, level=LEVEL, **options)
        else:
            full(**options)


def test_the_refusal_of_stratified_folds_gives_the_reason():
    with pytest.raises(ValueError) as caught:
        full(folds="stratified")
    assert "which group it belongs to" in str(caught.value)


# Several learners


def test_full_msel_is_msel_on_pooled_scores():
    members = [RIDGE, learners.KNN(4), Smooth()]
    rows = np.concatenate([X, NEW])
    target = np.concatenate([Y, np.zeros(M)]).astype(np.float32)
    mu = np.stack([learners.leave_one_out(member, rows, target) for member in members])
    scores = np.where(Y, np.inf, 0) - mu[:, :N]
    for beta in (1.0, 0.5):
        expected = conformal.optcs_msel(
            scores, -mu[:, N:], level=LEVEL, beta=beta, xi=0.3
        )
        result = conformal.optcs_full_msel(
            members, X, Y, NEW, level=LEVEL, beta=beta, xi=0.3
        )
        for name in ("selected", "first_step", "chosen_model", "auxiliary_sizes"):
            assert whole(getattr(result, name)) == whole(getattr(expected, name))
        assert_close(result.p_values, expected.p_values, rtol=1e-6)


def test_full_msel_with_one_learner_is_full():
    for pruning in ("homogeneous", "heterogeneous"):
        one = conformal.optcs_full_msel(
            [RIDGE], X, Y, NEW, level=LEVEL, pruning=pruning, key=jax.random.key(0)
        )
        assert whole(one.selected) == whole(full().selected)
        assert whole(one.p_values) == whole(full().p_values)


def test_full_msel_shares_the_folds_between_learners():
    masks = []

    class Spy(Smooth):
        def fit(self, features, target, weights=None, *, key=None):
            masks.append(tuple(np.asarray(weights)))
            return super().fit(features, target, weights)

    conformal.optcs_full_msel(
        [Spy(), Spy()], X, Y, NEW, level=LEVEL, num_folds=3, key=jax.random.key(0)
    )
    assert masks[:3] == masks[3:]


def test_full_msel_needs_a_draw_unless_deterministic():
    with pytest.raises(ValueError, match="homogeneous pruning is randomised"):
        conformal.optcs_full_msel([RIDGE], X, Y, NEW, level=LEVEL)
    with pytest.raises(ValueError, match="homogeneous pruning is randomised"):
        full(variant="per_candidate")
    result = conformal.optcs_full_msel(
        [RIDGE], X, Y, NEW, level=LEVEL, pruning="deterministic"
    )
    assert whole(result.selected) == whole(full().selected)
    with pytest.raises(ValueError, match="at least one learner"):
        conformal.optcs_full_msel([], X, Y, NEW, level=LEVEL, key=jax.random.key(0))


# Arguments


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X[:, 0], Y, NEW), {}, r"`features` must have shape \(n, d\)"),
        ((X, Y, NEW[0]), {}, r"`test_features` must have shape \(m, d\)"),
        ((X, Y[:, None], NEW), {}, r"`labels` must have shape \(n,\)"),
        ((X, Y[:-1], NEW), {}, "`labels` and `features` must have the same length"),
        ((X, Y, NEW[:, :1]), {}, "must have the same columns, got 2 and 1"),
        ((X[:0], Y[:0], NEW), {}, "at least one labelled row"),
        ((X, Y * 2.0, NEW), {}, "`labels` must be 0 or 1"),
        ((X, np.where(Y, np.nan, 0), NEW), {}, "`labels` must be 0 or 1"),
        ((X, Y, NEW), {"level": 1.5}, "`level` must lie in"),
        ((X, Y, NEW), {"level": float("nan")}, "`level` must lie in"),
        ((X, Y, NEW), {"variant": "split"}, "`variant` must be one of 'pooled'"),
        ((X, Y, NEW), {"pruning": "none"}, "`pruning` must be one of"),
        ((np.where(X > 1, np.nan, X), Y, NEW), {}, "`features` must be finite"),
    ],
)
def test_bad_input_names_the_argument(arguments, options, message):
    options = {"level": LEVEL, **options}
    with pytest.raises(ValueError, match=message):
        conformal.optcs_full(RIDGE, *arguments, **options)
    if "variant" not in options:
        with pytest.raises(ValueError, match=message):
            conformal.optcs_full_msel(
                [RIDGE], *arguments, key=jax.random.key(0), **options
            )


def test_a_learner_is_asked_for():
    with pytest.raises(TypeError, match="`learner` must be an object with methods fit"):
        full(learners.Ridge)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pass `key=jax.random.key"):
        full(learners.MLP((2,), max_steps=1))


def test_labels_of_any_number_type_are_the_same():
    for labels in (Y, Y.astype(int), Y.astype(np.float32)):
        result = conformal.optcs_full(RIDGE, X, labels, NEW, level=LEVEL)
        assert whole(result.p_values) == whole(full().p_values)


# Learners trained by iterations, one program for all fits


def large_world():
    x, y, new, truth = world(n=400, m=100, d=5, seed=3)
    return x, y, new, truth


LEARNERS = {
    "mlp": learners.MLP((8,), max_steps=50, loss="logistic"),
    "logistic": learners.Logistic(1.0),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_iterated_learners_run_as_one_program_on_500_rows(name):
    x, y, new, truth = large_world()
    learner, key = LEARNERS[name], jax.random.key(0)
    # Traced as a whole: a loop over rows in Python would need 500 traces of the fit.
    fits = []

    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Counted:
        def fit(self, *arguments, **options):
            fits.append(1)
            return learner.fit(*arguments, **options)

        def predict(self, params, features):
            return learner.predict(params, features)

    program = jax.jit(
        lambda a, b, c: conformal.optcs_full(Counted(), a, b, c, level=0.2, key=key)
    )
    result = program(x, y, new)
    assert len(fits) <= 4
    assert result.selected.shape == (100,)
    # The noise of this world leaves about nine in ten labels predictable.
    selected = np.asarray(result.selected)
    assert selected.sum() >= 0.6 * truth.sum()
    assert np.mean(~truth[selected]) <= 0.4
