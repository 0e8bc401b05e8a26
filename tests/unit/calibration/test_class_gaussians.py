"""Robust Gaussians of classes against a loop over the definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxcur import calibration
from tests.helpers import assert_close

D, K = 2, 3
COUNTS = np.array([40, 30, 10])
N = COUNTS.sum()
RNG = np.random.default_rng(1)
C = RNG.permutation(np.repeat(np.arange(K), COUNTS))
CENTRES = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
X = CENTRES[C] + RNG.standard_normal((N, D)) * [1.0, 0.5]


def one_class(x, trim=0.1, shrinkage=0.1, num_steps=5):
    """Mean and covariance of one class, step by step."""
    keep = int(np.ceil((1 - trim) * len(x) - 1e-9))
    middle = np.quantile(x, 0.5, axis=0, method="inverted_cdf")
    spread = np.quantile(np.abs(x - middle), 0.5, axis=0, method="inverted_cdf")
    distance = np.sum(((x - middle) / (spread / stats.norm.ppf(0.75))) ** 2, axis=1)
    chi2 = stats.chi2
    factor = chi2.cdf(chi2.ppf(1 - trim, D), D + 2) / (1 - trim)
    for _ in range(num_steps):
        rows = x[np.argsort(distance)[:keep]]
        mean, covariance = rows.mean(0), np.cov(rows.T, bias=True) / factor
        level = np.trace(covariance) / D
        covariance = (1 - shrinkage) * covariance + shrinkage * level * np.eye(D)
        r = x - mean
        distance = np.sum(r @ np.linalg.inv(covariance) * r, axis=1)
    return mean, covariance


def fit(x=X, c=C, **options):
    return calibration.fit_class_gaussians(x, c, num_classes=K, **options)


@pytest.mark.usefixtures("x64")
def test_definition() -> None:
    found = fit(head_count=20.0, num_neighbors=1, borrowing=1.0)
    means, covariances = zip(*(one_class(X[C == j]) for j in range(K)), strict=True)
    assert np.asarray(found.is_head).tolist() == [True, True, False]
    assert_close(found.deficit, np.array([0.0, 10.0, 30.0]), rtol=0)
    for j in range(2):
        assert_close(found.mean[j], means[j], rtol=1e-10, atol=1e-10)
        assert_close(found.covariance[j], covariances[j], rtol=1e-10, atol=1e-10)
    # Class 0 is the nearest to class 2, which has half the rows of a head.
    assert_close(found.mean[2], (means[0] + means[2]) / 2, rtol=1e-10)
    mixed = (covariances[0] + covariances[2]) / 2
    assert_close(found.covariance[2], mixed, rtol=1e-10, atol=1e-10)
    both = fit(head_count=20.0)
    lent = (40 * means[0] + 30 * means[1]) / 70
    assert_close(both.mean[2], 0.75 * means[2] + 0.25 * lent, rtol=1e-10)
    alone = fit(borrowing=0.0)
    assert_close(alone.mean[2], means[2], rtol=1e-10)
    assert_close(np.asarray(alone.kept).sum(), 36 + 27 + 9, rtol=0)


@pytest.mark.usefixtures("x64")
def test_wrong_labels_do_not_move_a_class() -> None:
    rng = np.random.default_rng(0)
    n = 4000
    true = rng.integers(0, K, n)
    x = 5 * CENTRES[true] + rng.standard_normal((n, D))
    given = np.where(rng.random(n) < 0.08, (true + 1) % K, true)
    options = {"shrinkage": 1e-6, "borrowing": 0.0}
    robust = fit(x, given, **options)
    plain = fit(x, given, trim=0.0, num_steps=1, **options)
    assert np.abs(np.asarray(robust.mean) - 5 * CENTRES).max() < 0.15
    assert np.abs(np.asarray(plain.mean) - 5 * CENTRES).max() > 0.8
    # Nearly all rows trimmed are wrong ones, so the correction is a little too large.
    assert np.abs(np.asarray(robust.covariance) - np.eye(D)).max() < 0.35
    assert np.asarray(plain.covariance).max() > 10
    clean = fit(x, true, **options)
    assert np.abs(np.asarray(clean.covariance) - np.eye(D)).max() < 0.12


@pytest.mark.usefixtures("x64")
def test_samples_have_the_moments_of_their_class() -> None:
    found = fit()
    drawn = found.sample(np.repeat(np.arange(K), 2000), key=jax.random.key(0))
    assert drawn.shape == (6000, D)
    for j in range(K):
        rows = np.asarray(drawn[2000 * j : 2000 * (j + 1)])
        deviation = np.sqrt(np.diag(found.covariance[j]))
        # Four standard errors.
        assert (np.abs(rows.mean(0) - found.mean[j]) < 4 * deviation / 44).all()
        ratio = np.cov(rows.T) - found.covariance[j]
        assert np.abs(ratio).max() < 4 * deviation.max() ** 2 * np.sqrt(2) / 44


@pytest.mark.usefixtures("x64")
def test_weights_count_rows_and_order_does_not_matter() -> None:
    w = RNG.integers(0, 3, N).astype(float)
    # Copies that straddle the cut are kept together, so nothing is cut here.
    counted = fit(weights=w, trim=0.0)
    copies = np.repeat(np.arange(N), w.astype(int))
    repeated = fit(X[copies], C[copies], trim=0.0)
    order = RNG.permutation(N)
    turned = fit(X[order], C[order])
    for name in ("mean", "covariance", "count"):
        assert_close(
            getattr(counted, name), getattr(repeated, name), rtol=1e-9, atol=1e-12
        )
        assert_close(getattr(turned, name), getattr(fit(), name), rtol=1e-9, atol=1e-12)


def test_edges() -> None:
    # A class without rows, one with a single row, and equal rows.
    x = np.array([[1.0, 2.0]] + [[0.0, 0.0]] * 4)
    found = fit(x, np.array([1, 0, 0, 0, 0]), borrowing=0.0)
    assert np.isnan(found.mean[2]).all()
    assert_close(np.asarray(found.mean[:2]), np.float32([[0, 0], [1, 2]]), rtol=0)
    assert_close(found.covariance[1], np.zeros((D, D), np.float32), rtol=0)
    drawn = found.sample(np.array([1, 2]), key=jax.random.key(0))
    assert_close(drawn[0], np.float32([1, 2]), rtol=0)
    assert np.isnan(drawn[1]).all()
    bad = jax.jit(fit)(np.where(X == X[0], np.nan, X), jnp.asarray(C))
    assert np.isnan(bad.mean[C[0]]).all()
    assert np.isfinite(bad.mean).sum() == D * (K - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trim": 1.0}, "`trim` must lie in"),
        ({"shrinkage": 0.0}, "`shrinkage` must lie in"),
        ({"borrowing": 1.5}, "`borrowing` must lie in"),
        ({"num_steps": 0}, "`num_steps` must be an integer"),
        ({"x": X * np.inf}, "`features` must be finite"),
        ({"c": C + 1}, "`labels` must hold integers"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_options(options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(**options)
