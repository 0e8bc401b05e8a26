"""The kernel test by random signs and by Hoeffding's bound."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcur import calibration
from tests.helpers import assert_close

N = 8
RNG = np.random.default_rng(2)
F = RNG.random(N)
Y = (RNG.random(N) < F).astype(int)
P = RNG.dirichlet(np.ones(3), N)
C = RNG.integers(0, 3, N)
W = np.array([1.0, 2.0, 0.5, 1.0, 0.0, 3.0, 1.0, 1.0])
NU = 0.4


def products(p, labels):
    """h_ij of all pairs."""
    if p.ndim == 1:
        p, r = p[:, None], (labels - p)[:, None]
    else:
        r = np.eye(p.shape[1])[labels] - p
    distance = np.linalg.norm(p[:, None] - p[None], axis=-1)
    return np.exp(-distance / NU) * (r @ r.T)


def pair_mask(estimator, n=N):
    """Which pairs count, and the rows of a block."""
    size = {"unbiased": n, "biased": n, "linear": 2, "block": 4}[estimator]
    block = np.arange(n) // size
    mask = (block[:, None] == block[None]).astype(float)
    return mask if estimator == "biased" else mask - np.eye(n)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("estimator", ["unbiased", "biased", "linear", "block"])
@pytest.mark.parametrize("kind", ["binary", "rows"])
def test_wild_bootstrap_is_the_rank_among_random_signs(estimator, kind) -> None:
    p, labels = (F, Y) if kind == "binary" else (P, C)
    u = np.random.default_rng(0).random((19, N))
    signs = np.where(u < 0.5, 1.0, -1.0)
    h = products(p, labels) * pair_mask(estimator) * np.outer(W, W)
    drawn = np.einsum("bi,ij,bj->b", signs, h, signs)
    count = np.sum(drawn >= h.sum() - 1e-12)
    result = calibration.kernel_test(
        p,
        labels,
        estimator=estimator,
        block_size=4 if estimator == "block" else None,
        bandwidth=NU,
        method="wild_bootstrap",
        uniforms=u,
        num_resamples=19,
        weights=W,
    )
    mass = np.sum(pair_mask(estimator) * np.outer(W, W))
    assert_close(result.statistic, h.sum() / mass, rtol=1e-10)
    assert_close(result.p_value, (1 + count) / 20, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_signs_are_labels_where_all_forecasts_are_one_half() -> None:
    u = np.random.default_rng(1).random((99, N))
    half, ones = np.full(N, 0.5), np.ones(N, int)
    test = functools.partial(
        calibration.kernel_test, half, ones, uniforms=u, num_resamples=99
    )
    exact, signs = test(method="monte_carlo"), test(method="wild_bootstrap")
    assert_close(signs.p_value, exact.p_value, rtol=1e-12)


def test_level_and_power_of_the_wild_bootstrap() -> None:
    reps, n = 400, 300
    rng = np.random.default_rng(4)
    f = rng.random((reps, n)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), reps)

    @jax.jit
    @jax.vmap
    def p_value(f, y, key):
        return calibration.kernel_test(
            f, y, method="wild_bootstrap", bandwidth=0.3, key=key, num_resamples=99
        ).p_value

    y = (rng.random((reps, n)) < f).astype(int)
    level = float(np.mean(np.asarray(p_value(f, y, keys)) <= 0.05))
    # Three standard deviations of 400 repetitions.
    assert abs(level - 0.05) <= 3 * np.sqrt(0.05 * 0.95 / reps)
    wrong = (rng.random((reps, n)) < 0.5 + 0.6 * (f - 0.5)).astype(int)
    assert np.mean(np.asarray(p_value(f, wrong, keys)) <= 0.05) > 0.8


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("estimator", ["unbiased", "linear", "block"])
def test_hoeffding_bounds_the_exact_tail(estimator: str) -> None:
    every = np.array(list(itertools.product([0, 1], repeat=N)))

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, None, 0))
    def test(f, w, y):
        return calibration.kernel_test(
            f,
            y,
            estimator=estimator,
            block_size=4 if estimator == "block" else None,
            bandwidth=NU,
            method="hoeffding",
            weights=w,
        )

    # With two heavy rows one pair is nearly all there is.
    heavy = np.where(np.arange(N) < 2, 10, 0.1)
    for f, w in itertools.product((F, np.full(N, 0.5)), (np.ones(N), W, heavy)):
        mass = np.prod(np.where(every == 1, f, 1 - f), axis=1)
        found = jax.tree.map(np.asarray, test(f, w, jnp.asarray(every)))
        reached = found.statistic[None, :] >= found.statistic[:, None] - 1e-12
        tail = reached @ mass
        assert (found.p_value >= tail - 1e-12).all()
        assert found.p_value.min() < 1


@pytest.mark.usefixtures("x64")
def test_hoeffding_is_the_stated_bound() -> None:
    f, y = np.full(N, 0.1), np.ones(N, int)
    found = calibration.kernel_test(f, y, method="hoeffding")
    assert_close(found.statistic, 0.81, rtol=1e-12)
    assert_close(found.p_value, np.exp(-4 * 0.81**2 / 2), rtol=1e-12)
    # The largest weight is 3, and seven rows have one.
    found = calibration.kernel_test(f, y, method="hoeffding", weights=W)
    bound = 9 * 7 * 6 / (W.sum() ** 2 - np.sum(W**2))
    assert_close(found.p_value, np.exp(-3 * 0.81**2 / (2 * bound**2)), rtol=1e-12)
    p, c = np.tile([0.1, 0.9], (N, 1)), np.zeros(N, int)
    found = calibration.kernel_test(p, c, method="hoeffding")
    assert_close(found.statistic, 1.62, rtol=1e-12)
    assert_close(found.p_value, np.exp(-4 * 1.62**2 / 8), rtol=1e-12)
    # Nothing speaks against calibration where the statistic is not positive.
    low = calibration.kernel_test(np.full(2, 0.5), np.array([0, 1]), method="hoeffding")
    assert low.statistic < 0
    assert low.p_value == 1
    single = calibration.kernel_test(F[:1], Y[:1], method="hoeffding")
    assert np.isnan(single.statistic)
    assert single.p_value == 1


def test_options_and_illegal_values() -> None:
    test = functools.partial(calibration.kernel_test, F, Y)
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="draws nothing"):
        test(method="hoeffding", key=key)
    with pytest.raises(ValueError, match="'wild_bootstrap' is randomised"):
        test(method="wild_bootstrap")
    with pytest.raises(ValueError, match="estimator='biased' has no such bound"):
        test(method="hoeffding", estimator="biased")
    with pytest.raises(ValueError, match="must be one of"):
        calibration.ks_test(F, Y, method="wild_bootstrap", key=key)
    bad = np.where(F == F[0], np.nan, F)
    for options in ({"method": "hoeffding"}, {"method": "wild_bootstrap", "key": key}):
        traced = jax.jit(
            lambda f, options=options: calibration.kernel_test(
                f, Y, num_resamples=19, **options
            )
        )(bad)
        assert np.isnan(traced.p_value)
