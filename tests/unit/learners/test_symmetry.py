import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, SGDRegressor

from jaxcur import learners
from tests.helpers import assert_close

KEY = jax.random.key(11)
RNG = np.random.default_rng(9)
FEATURES = RNG.standard_normal((40, 3))
# Repeated rows and rounded columns: ties in distance, rank and target.
FEATURES[5], FEATURES[8] = FEATURES[6], FEATURES[7]
FEATURES[:, 2] = np.round(FEATURES[:, 2])
TARGET = (FEATURES[:, 0] + 0.3 * RNG.standard_normal(40) > 0).astype(float)
WEIGHTS = RNG.integers(0, 3, 40) * 0.5


class Base:
    """Least squares by gradient descent on what `gradient` says."""

    def gradient(self, beta, step, rows, target, weights, key):
        raise NotImplementedError

    def fit(self, features, target, weights, *, key=None):
        def move(step, beta):
            return beta - 0.1 * self.gradient(
                beta, step, features, target, weights, key
            )

        start = jnp.zeros(features.shape[1], features.dtype)
        return jax.lax.fori_loop(0, 60, move, start)

    def predict(self, params, features):
        return features @ params


def mean_gradient(beta, rows, target, weights):
    return rows.T @ (weights * (rows @ beta - target)) / jnp.sum(weights)


class FullBatch(Base):
    def gradient(self, beta, step, rows, target, weights, key):
        return mean_gradient(beta, rows, target, weights)


class FileOrderBatches(Base):
    def gradient(self, beta, step, rows, target, weights, key):
        part = 8 * (step % 5) + jnp.arange(8)
        return mean_gradient(beta, rows[part], target[part], weights[part] + 1e-6)


class ShuffledByIndex(Base):
    """Minibatches in an order drawn from the key: still tied to row positions."""

    def gradient(self, beta, step, rows, target, weights, key):
        order = jax.random.permutation(jax.random.fold_in(key, step), 40)[:8]
        return mean_gradient(beta, rows[order], target[order], weights[order] + 1e-6)


class DropoutByRow(Base):
    def gradient(self, beta, step, rows, target, weights, key):
        mask = jax.random.bernoulli(jax.random.fold_in(key, step), 0.5, rows.shape)
        return mean_gradient(beta, rows * mask, target, weights)


class BootstrapByRow(Base):
    def fit(self, features, target, weights, *, key=None):
        counts = jax.random.poisson(key, 1.0, (40,)) * weights
        return learners.Ridge(1.0).fit(features, target, counts)

    def predict(self, params, features):
        return learners.Ridge(1.0).predict(params, features)


class SlightlyFirstRow(Base):
    """A dependence far below float32's noise for most purposes."""

    def fit(self, features, target, weights, *, key=None):
        tilted = weights * jnp.ones(40).at[0].set(1 + 1e-3)
        return learners.Ridge(1.0).fit(features, target, tilted)

    def predict(self, params, features):
        return learners.Ridge(1.0).predict(params, features)


class Unseeded(Base):
    on_host = True

    def fit(self, features, target, weights, *, key=None):
        return np.random.default_rng().standard_normal()

    def predict(self, params, features):
        return np.full(len(features), params)


class FoldsByIndex(FullBatch):
    """The fit is symmetric; its own leave-one-out is not."""

    def leave_one_out(self, features, target, weights):
        fold = jnp.arange(40) % 5
        out = jnp.zeros(40, features.dtype)
        for k in range(5):
            params = learners.Ridge(1.0).fit(features, target, weights * (fold != k))
            values = learners.Ridge(1.0).predict(params, features)
            out = jnp.where(fold == k, values, out)
        return out


class WrongMean(FullBatch):
    def mean_leave_one_out_predict(self, features, target, new_features, weights):
        return jnp.full(new_features.shape[0], target[0] + features[0, 0])


class FirstAbsentRow(FullBatch):
    """Differs only through where the row without weight stands."""

    def fit(self, features, target, weights, *, key=None):
        where = jnp.argmin(weights) * jnp.any(weights == 0)
        return super().fit(features, target, weights) + where


class DrawnWhileTracing(FullBatch):
    """Random, but frozen into each program."""

    def fit(self, features, target, weights, *, key=None):
        drawn = np.random.default_rng().standard_normal()
        return super().fit(features, target, weights) + drawn


class NotANumber(FullBatch):
    def predict(self, params, features):
        return jnp.full(features.shape[0], jnp.nan)


GOOD = [
    learners.Ridge(1.0),
    learners.Ridge(0.0, intercept=False),
    learners.KernelRidge(learners.RBF(1.0), 0.1),
    learners.KernelRidge(learners.Laplacian(1.0), 0.1),
    learners.KNN(3),
    learners.NadarayaWatson(learners.RBF(1.0)),
    learners.Logistic(1.0),
    learners.MLP(),
    learners.MLP((8, 4), loss="logistic", activation="relu"),
    learners.HostLearner(LinearRegression()),
    FullBatch(),
]
BAD = [
    FileOrderBatches(),
    ShuffledByIndex(),
    DropoutByRow(),
    BootstrapByRow(),
    SlightlyFirstRow(),
    learners.HostLearner(RandomForestRegressor(10)),
    learners.HostLearner(SGDRegressor(max_iter=3, tol=None)),
]


def name(learner):
    return type(getattr(learner, "estimator", learner)).__name__


@pytest.mark.parametrize(
    ("learner", "weights"),
    [(learner, None) for learner in GOOD] + [(GOOD[i], WEIGHTS) for i in (1, 4, 8)],
    ids=lambda value: name(value) if hasattr(value, "fit") else "",
)
def test_symmetric_learners_pass(learner, weights):
    report = learners.check_symmetric(
        learner, FEATURES, TARGET, weights=weights, key=KEY
    )
    assert report.max_difference <= report.tolerance == 1e-6
    assert report.num_permutations == 4
    # Far from the limit, so that another seed or machine passes too.
    assert report.max_difference < 1e-9
    assert ("leave_one_out" in report.checked) == hasattr(learner, "leave_one_out")


@pytest.mark.parametrize("learner", BAD, ids=name)
def test_dependence_on_the_order_is_refused(learner):
    with pytest.raises(ValueError, match="depends on the order of the rows"):
        learners.check_symmetric(learner, FEATURES, TARGET, key=KEY)


@pytest.mark.parametrize("learner", BAD[2:], ids=name)
def test_sorted_rows_makes_it_symmetric(learner):
    sorted_rows = learners.SortedRows(learner)
    report = learners.check_symmetric(sorted_rows, FEATURES, TARGET, key=KEY)
    assert report.max_difference == 0


def test_one_order_is_enough_for_the_usual_suspects():
    for learner in (FileOrderBatches(), ShuffledByIndex(), DropoutByRow()):
        with pytest.raises(ValueError, match="number 1 of 1"):
            learners.check_symmetric(
                learner, FEATURES, TARGET, key=KEY, num_permutations=1
            )


@pytest.mark.parametrize(
    ("learner", "output"),
    [
        (FoldsByIndex(), "its leave_one_out changes"),
        (WrongMean(), "its mean_leave_one_out_predict changes"),
        (FirstAbsentRow(), "its prediction with a row left out changes"),
    ],
    ids=name,
)
def test_each_output_is_compared(learner, output):
    with pytest.raises(ValueError, match=output):
        learners.check_symmetric(learner, FEATURES, TARGET, key=KEY)


def test_unreproducible_learners_are_refused():
    for learner in (Unseeded(), DrawnWhileTracing()):
        with pytest.raises(ValueError, match="on two identical calls"):
            learners.check_symmetric(learner, FEATURES, TARGET, key=KEY)


def test_nan_is_nothing_to_compare():
    with pytest.raises(ValueError, match="gives NaN in its prediction"):
        learners.check_symmetric(NotANumber(), FEATURES, TARGET, key=KEY)


def test_a_learner_that_insists_on_float32_gets_its_noise():
    class Single(FullBatch):
        def fit(self, features, target, weights, *, key=None):
            single = [x.astype(jnp.float32) for x in (features, target, weights)]
            return super().fit(*single)

        def predict(self, params, features):
            return features.astype(jnp.float32) @ params

    report = learners.check_symmetric(Single(), FEATURES, TARGET, key=KEY)
    assert report.tolerance == 1e-3


def test_the_tolerance_is_ours_to_set():
    assert learners.check_symmetric(
        SlightlyFirstRow(), FEATURES, TARGET, key=KEY, rtol=0.1
    )
    with pytest.raises(ValueError, match="depends on the order"):
        learners.check_symmetric(
            SlightlyFirstRow(), FEATURES, TARGET, key=KEY, rtol=1e-12
        )


def test_precision_of_the_caller_is_left_alone():
    learners.check_symmetric(learners.Ridge(1.0), FEATURES, TARGET, key=KEY)
    assert jnp.ones(1).dtype == jnp.float32


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least two rows"):
        learners.check_symmetric(learners.KNN(1), FEATURES[:1], TARGET[:1], key=KEY)
    with pytest.raises(ValueError, match="`num_permutations` must be at least 1"):
        learners.check_symmetric(
            learners.KNN(1), FEATURES, TARGET, key=KEY, num_permutations=0
        )
    with pytest.raises(TypeError, match="`learner` must be an object"):
        learners.check_symmetric(object(), FEATURES, TARGET, key=KEY)


def test_sorted_rows_sees_through_the_sign_of_zero():
    class First(FullBatch):
        def fit(self, features, target, weights, *, key=None):
            return target[0]

        def predict(self, params, features):
            return jnp.full(features.shape[0], params)

    learner = learners.SortedRows(First())
    rows = np.array([[0.0, 2.0], [-0.0, 1.0]])
    assert_close(learner.fit(rows, [5.0, 6.0]), jnp.float32(6.0), rtol=0)
    with pytest.raises(TypeError, match="`learner` must be an object"):
        learners.SortedRows(object()).fit(rows, [5.0, 6.0])
