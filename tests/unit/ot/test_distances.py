"""Distances in closed form, data set distances, two-sample tests: values and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import sqrtm

from jaxcur import ot
from jaxcur.ot._otdd import label_costs
from tests.helpers import assert_close


def labelled(seed, n, shift=0.0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    x = rng.normal(size=(n, 2)) + 3 * labels[:, None] + shift
    return x, labels


@pytest.mark.usefixtures("x64")
def test_label_costs_equal_scipy_and_the_divergence():
    x, labels = labelled(0, 30)
    classes = [x[labels == k] for k in range(3)]
    gaussian = np.asarray(label_costs(x, labels, 3, "gaussian", 0.1, 2000)[0])
    means = np.asarray(label_costs(x, labels, 3, "means", 0.1, 2000)[0])
    for i in range(3):
        for j in range(3):
            mu, nu = classes[i].mean(0), classes[j].mean(0)
            s, t = (np.cov(c.T, bias=True) for c in (classes[i], classes[j]))
            root = sqrtm(s)
            cross = np.trace(sqrtm(root @ t @ root).real)
            wanted = ((mu - nu) ** 2).sum() + np.trace(s + t) - 2 * cross
            assert_close(gaussian[i, j], wanted if i != j else 0.0, rtol=1e-8)
            assert_close(means[i, j], ((mu - nu) ** 2).sum(), rtol=1e-10)
    exact = np.asarray(label_costs(x, labels, 3, "exact", 0.5, 2000)[0])
    wanted = ot.sinkhorn_divergence(classes[0], classes[2], epsilon=0.5)
    assert_close(exact[0, 2], float(wanted), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_data_set_distance_is_blind_to_names_of_labels_and_sees_their_meaning():
    x, labels = labelled(0, 30)
    y, others = labelled(1, 30)
    run = jax.jit(
        lambda one, other: ot.otdd(x, one, y, other, num_classes=3, epsilon=0.5)
    )
    base = float(run(labels, others))
    renamed = float(run(labels, (others + 1) % 3))
    assert_close(base, renamed, rtol=1e-6)
    mixed = np.random.default_rng(3).permutation(others)
    assert float(run(labels, mixed)) > 2 * base
    outside = run(np.where(labels == 0, 7, labels), others)
    assert np.isnan(float(outside))


def test_data_set_distance_refuses_bad_labels():
    x, labels = labelled(0, 6)
    options = {"num_classes": 3, "epsilon": 0.5}
    with pytest.raises(ValueError, match="`labels_x` must lie in 0..2"):
        ot.otdd(x, labels + 1, x, labels, **options)
    with pytest.raises(ValueError, match="`labels_y` must hold 6 integers"):
        ot.otdd(x, labels, x, labels[:3], **options)
    with pytest.raises(ValueError, match="return_inverse=True"):
        ot.otdd(x, labels.astype(str), x, labels, **options)
    with pytest.raises(ValueError, match="`label_cost` must be one of"):
        ot.otdd(x, labels, x, labels, label_cost="sum", **options)
    with pytest.raises(ValueError, match="no class of `x` has two samples"):
        ot.otdd(x[:3], labels[:3], x, labels, **options)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_transport_between_gaussian_samples_approaches_bures():
    rng = np.random.default_rng(0)
    root = np.array([[1.0, 0.4], [0.0, 0.6]])
    x = rng.normal(size=(1500, 2))
    y = rng.normal(size=(1500, 2)) @ root.T + 1.0
    exact = float(ot.bures(np.zeros(2), np.eye(2), np.ones(2), root @ root.T))
    found = float(ot.sinkhorn_divergence(x, y, epsilon=0.05, rtol=1e-4))
    # What Gaussians with the moments of the samples are apart: the means, which carry
    # most of the distance, are then no source of error.
    assert_close(found, float(ot.frechet(x, y)), rtol=0.02)
    # Four standard errors of 0.1, nearly all of it from the means.
    assert_close(float(ot.frechet(x, y)), exact, rtol=0, atol=0.4)


def test_diagonal_covariances_and_errors_of_bures():
    mean = np.zeros(3)
    one, other = np.array([1.0, 4.0, 9.0]), np.array([4.0, 4.0, 0.0])
    found = ot.bures(mean, one, mean + 1, other)
    full = ot.bures(mean, np.diag(one), mean + 1, np.diag(other))
    assert_close(float(found), 3.0 + 1.0 + 0.0 + 9.0, rtol=1e-6)
    assert_close(float(full), float(found), rtol=1e-5)
    with pytest.raises(ValueError, match="`cov_b` must have shape"):
        ot.bures(mean, one, mean, np.ones(2))
    with pytest.raises(ValueError, match="must be symmetric"):
        ot.bures(mean, np.arange(9.0).reshape(3, 3), mean, np.eye(3))
    with pytest.raises(ValueError, match="both be diagonals"):
        ot.bures(mean, one, mean, np.eye(3))


def test_line_edges_and_errors():
    nan = ot.wasserstein_1d(np.array([0.0, np.nan]), np.array([1.0, 2.0]))
    assert np.isnan(float(nan))
    with pytest.raises(ValueError, match="must not be empty"):
        ot.wasserstein_1d(np.zeros(0), np.zeros(2))
    with pytest.raises(ValueError, match="`p` must be at least 1"):
        ot.wasserstein_1d(np.zeros(2), np.zeros(2), p=0.5)
    with pytest.raises(ValueError, match="either `key` or `projections`"):
        ot.sliced_wasserstein(np.zeros((2, 2)), np.zeros((2, 2)), num_projections=3)
    with pytest.raises(ValueError, match="must not hold a zero row"):
        ot.sliced_wasserstein(
            np.zeros((2, 2)), np.zeros((2, 2)), projections=np.zeros((1, 2))
        )


def test_two_sample_test_sees_a_shift_and_uses_the_permutations_given():
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(10, 2)).astype(np.float32) for _ in range(2))
    orders = np.stack([rng.permutation(20) for _ in range(19)])
    run = jax.jit(
        lambda x, y: ot.two_sample_test(x, y, epsilon=1.0, permutations=orders)
    )
    near, far = run(x, y), run(x, y + 3)
    assert_close(float(far.p_value), 0.05, rtol=1e-6)
    assert float(near.p_value) > 0.05
    pooled = np.concatenate([x, y])[orders[0]]
    wanted = ot.sinkhorn_divergence(pooled[:10], pooled[10:], epsilon=1.0)
    assert_close(float(near.null[0]), float(wanted), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.guarantee
def test_two_sample_p_values_are_uniform_under_one_law():
    def one(key):
        draw, test = jax.random.split(key)
        pooled = jax.random.normal(draw, (12, 2))
        found = ot.two_sample_test(
            pooled[:6], pooled[6:], epsilon=1.0, num_resamples=19, key=test, rtol=1e-3
        )
        return found.p_value

    replications = 1000
    keys = jax.random.split(jax.random.key(1), replications)
    p_values = np.asarray(jax.jit(lambda k: jax.lax.map(one, k))(keys))
    slack = 4 * np.sqrt(0.05 * 0.95 / replications)
    assert abs((p_values <= 0.05 + 1e-6).mean() - 0.05) < slack
    assert abs(p_values.mean() - 0.525) < 4 * 0.2883 / np.sqrt(replications)


@pytest.mark.usefixtures("x64")
def test_potentials_rank_mislabelled_points_high():
    """Raising the weight of a bad point raises the distance to a clean sample most."""
    x, labels = labelled(0, 30)
    y, others = labelled(1, 30)
    bad = np.zeros(30, bool)
    bad[[2, 9, 16]] = True
    noisy = np.where(bad, (labels + 1) % 3, labels)
    table = np.asarray(
        label_costs(
            np.concatenate([x, y]), np.concatenate([labels, others]), 3, "means", 0.1, 1
        )[0]
    )
    left, right = ot.attach_labels(x, noisy), ot.attach_labels(y, others)
    cost = ot.LabelAugmented(table)

    def distance(a):
        return ot.sinkhorn_divergence(left, right, a=a, epsilon=0.5, cost=cost)

    slope = np.asarray(jax.jit(jax.grad(distance))(jnp.full(30, 1 / 30)))
    area = (slope[bad][:, None] > slope[~bad]).mean()
    assert area > 0.8
