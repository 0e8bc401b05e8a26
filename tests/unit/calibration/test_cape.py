import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression

from jaxcur.calibration import cape_targets
from tests.helpers import assert_close

N = 60
RNG = np.random.default_rng(0)
PROBS = RNG.uniform(size=N)
LABELS = (RNG.uniform(size=N) < PROBS).astype(int)


def slices(probs, labels, bins):
    """The released recipe: sort, cut at int(i n / bins), average."""
    order, n = np.argsort(probs), len(probs)
    targets = np.empty(n)
    for i in range(bins):
        rows = order[int(i * n / bins) : int((i + 1) * n / bins)]
        targets[rows] = labels[rows].mean()
    return targets


def windows(probs, labels, window, width):
    order, n = np.argsort(probs), len(probs)
    f, y, targets = probs[order], labels[order], np.empty(n)
    for i in range(n):
        near = slice(max(i - window, 0), min(i + window, n))
        weight = norm.pdf((f[near] - f[i]) / width)
        targets[order[i]] = weight @ y[near] / weight.sum()
    return targets


@pytest.mark.parametrize("bins", [1, 7, 15, N])
def test_slices_of_the_released_recipe(x64, bins):
    found = cape_targets(PROBS, LABELS, num_bins=bins)
    assert_close(found, slices(PROBS, LABELS, bins), rtol=1e-12)


@pytest.mark.parametrize(("window", "width"), [(1, 0.05), (10, 0.05), (100, 0.3)])
def test_windows_of_the_released_recipe(x64, window, width):
    found = cape_targets(PROBS, LABELS, kind="kernel", window=window, bandwidth=width)
    assert_close(found, windows(PROBS, LABELS, window, width), rtol=1e-10)


def test_isotonic_targets_are_scikit_learns(x64):
    weights = RNG.integers(1, 4, size=N)
    tied = PROBS.round(1)
    for f, w in ((PROBS, None), (tied, None), (tied, weights)):
        expected = IsotonicRegression().fit(f, LABELS, w).predict(f)
        found = cape_targets(f, LABELS, kind="isotonic", weights=w)
        assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["bin", "kernel", "isotonic"])
@given(seed=st.integers(0, 2**31))
def test_the_order_of_rows_does_not_matter(kind, seed):
    rng = np.random.default_rng(seed)
    tied, order = rng.integers(0, 6, N) / 5, rng.permutation(N)
    labels = rng.integers(0, 2, N)
    with jax.enable_x64(True):
        plain = np.asarray(cape_targets(tied, labels, kind=kind))
        moved = np.asarray(cape_targets(tied[order], labels[order], kind=kind))
    assert_close(moved, plain[order], rtol=1e-9, atol=1e-12)
    assert all(np.ptp(plain[tied == value]) < 1e-12 for value in np.unique(tied))
    assert ((plain >= 0) & (plain <= 1)).all()


@pytest.mark.parametrize("kind", ["bin", "isotonic"])
def test_the_mean_is_kept(x64, kind):
    found = cape_targets(PROBS, LABELS, kind=kind, num_bins=7)
    assert_close(found.mean(), LABELS.mean(), rtol=1e-12)


def test_unit_weights_are_no_weights_and_zero_ones_do_not_count(x64):
    plain = cape_targets(PROBS, LABELS, num_bins=6)
    ones = cape_targets(PROBS, LABELS, num_bins=6, weights=np.ones(N))
    assert_close(ones, plain, rtol=1e-12)
    weights = np.ones(N)
    weights[::2] = 0
    found = cape_targets(PROBS, LABELS, num_bins=6, weights=weights)
    half = cape_targets(PROBS[1::2], LABELS[1::2], num_bins=6)
    assert_close(found[1::2], half, rtol=1e-12)


def test_several_classes(x64):
    probs = RNG.dirichlet(np.ones(3), size=N)
    labels = RNG.integers(0, 3, size=N)
    found = cape_targets(probs, labels, num_bins=5)
    alone = np.stack(
        [slices(probs[:, k], (labels == k).astype(int), 5) for k in range(3)], axis=1
    )
    assert_close(found, alone / alone.sum(axis=1, keepdims=True), rtol=1e-12)


def test_edges(dtype):
    one = cape_targets(jnp.array([0.3], dtype), jnp.array([1]))
    np.testing.assert_array_equal(one, [1])
    flat = cape_targets(jnp.full(4, 0.5, dtype), jnp.array([0, 1, 1, 1]), num_bins=2)
    np.testing.assert_allclose(flat, 0.75, rtol=1e-6)
    assert flat.dtype == dtype


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "tree"}, "`kind`"),
        ({"num_bins": 0}, "`num_bins` must be a positive integer"),
        ({"window": 2.5}, "`window` must be a positive integer"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        cape_targets(PROBS, LABELS, **options)
    with pytest.raises(ValueError, match="NaN"):
        cape_targets([0.1, np.nan], [0, 1])


@pytest.mark.parametrize("kind", ["bin", "kernel", "isotonic"])
def test_jit_and_vmap(kind):
    probs, labels = jnp.asarray(PROBS, jnp.float32), jnp.asarray(LABELS)
    plain = cape_targets(probs, labels, kind=kind)

    def run(f):
        return cape_targets(f, labels, kind=kind)

    assert_close(jax.jit(run)(probs), plain, rtol=1e-6)
    both = jax.vmap(run)(jnp.stack([probs, probs[::-1]]))
    assert_close(both[0], plain, rtol=1e-6)
    assert np.isnan(jax.jit(run)(probs.at[3].set(jnp.nan))).all()
