"""The variance of the summed moments under the design that drew the labels."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.debiased._sums import Spread

Target = Literal["superpopulation", "finite"]


class Noise(NamedTuple):
    """Variance of the total adjusted moment, split by where it comes from.

    Attributes:
        total: (q, q), the variance.
        labels: (q, q), its part that shrinks as 1 / (number of labels).
        observed_predicted: (q, q), covariance of the label part with the correction.
        predicted_predicted: (q, q), variance of the correction.
    """

    total: Array
    labels: Array
    observed_predicted: Array
    predicted_predicted: Array


def _product(*factors: Array) -> Array:
    return jnp.linalg.multi_dot(factors, precision=jax.lax.Precision.HIGHEST)


def _contrast(tuning: Array) -> Array:
    """D with D (m_o, m_p) = m_o - Lambda m_p."""
    return jnp.concatenate([jnp.eye(tuning.shape[0], dtype=tuning.dtype), -tuning], 1)


def _symmetric(matrix: Array) -> Array:
    return matrix + jnp.swapaxes(matrix, -1, -2)


def _independent(spread: Spread, tuning: Array) -> Noise:
    """Labels drawn by independent coin flips: uncentred second moments."""
    q = tuning.shape[0]
    d = _contrast(tuning)
    labels = _product(d, spread.labeled_gram_squared, d.T)
    cross = _product(tuning, spread.labeled_gram[q:], d.T)
    rest = _product(tuning, spread.gram, tuning.T) + _symmetric(cross)
    # Both factors of Lambda from the same labelled rows: their errors cancel where the
    # predictions are good. Over all rows the second would be more precise by itself.
    odds = (spread.labeled_gram_squared - spread.labeled_gram)[:, q:]
    return Noise(labels + rest, labels, odds[:q], odds[q:])


def _covariances(counts: Array, sums: Array, grams: Array) -> Array:
    """Covariance per stratum, from sums; ddof 1, and 0 for an empty stratum."""
    safe = jnp.maximum(counts, 1)[:, None, None]
    centred = grams - sums[:, :, None] * sums[:, None, :] / safe
    freedom = jnp.where(counts == 1, jnp.nan, jnp.maximum(counts - 1, 1))
    return jnp.where(counts[:, None, None] == 0, 0.0, centred / freedom[:, None, None])


def _fixed_size(spread: Spread, tuning: Array) -> Noise:
    """Labels drawn without replacement within strata: centred within each."""
    q = tuning.shape[0]
    d = _contrast(tuning)
    n, n_labeled = spread.counts, spread.labeled_counts
    whole = _covariances(n, spread.sums, spread.grams)
    labeled = _covariances(n_labeled, spread.labeled_sums, spread.labeled_grams)
    # A stratum of one row, labelled: its covariances are no part of the noise.
    single = (n == 1)[:, None, None]
    whole, labeled = jnp.where(single, 0.0, whole), jnp.where(single, 0.0, labeled)
    fraction = n_labeled / jnp.maximum(n, 1)
    share = n / jnp.where(n_labeled > 0, fraction, jnp.nan)
    share = jnp.where(n == 0, 0.0, share)

    delta = jnp.einsum("ik,hkl,jl->hij", d, labeled, d, precision="highest")
    labels = jnp.sum(share[:, None, None] * delta, axis=0)
    mixed = jnp.einsum("ik,hkl,jl->hij", tuning, labeled[:, q:], d, precision="highest")
    within = jnp.einsum("ik,hkl,jl->hij", tuning, whole, tuning, precision="highest")
    rest = jnp.sum(n[:, None, None] * (within + _symmetric(mixed)), axis=0)

    total = jnp.maximum(jnp.sum(n), 1)
    means = spread.sums / jnp.maximum(n, 1)[:, None] @ tuning.T
    means += spread.labeled_sums / jnp.maximum(n_labeled, 1)[:, None] @ d.T
    gaps = means - jnp.sum(n[:, None] * means, axis=0) / total
    rest += _product((gaps * n[:, None]).T, gaps)

    # As above: covariance and variance of the correction from the same rows.
    odds = jnp.sum((share - n)[:, None, None] * labeled[:, :, q:], axis=0)
    return Noise(labels + rest, labels, odds[:q], odds[q:])


def _clustered(spread: Spread, tuning: Array, signs: tuple[int, ...]) -> Noise:
    """Sums within clusters first; several ways by inclusion and exclusion."""
    q = tuning.shape[0]
    d = _contrast(tuning)
    parts = [jnp.zeros((q, q), tuning.dtype) for _ in range(4)]
    # With the number of labels fixed, or divided out, the mean discrepancy of a stratum
    # is no noise.
    means = spread.labeled_sums / jnp.maximum(spread.labeled_counts, 1)[:, None]
    if spread.counts.shape[0] == 1:
        # The same with equal probabilities, and right with unequal ones.
        total = jnp.sum(spread.labeled_cluster_sums[0], axis=0, keepdims=True)
        means = total / jnp.maximum(spread.counts, 1)
    for sign, everyone, excess, labeled in zip(
        signs,
        spread.cluster_sums,
        spread.cluster_excess,
        spread.labeled_cluster_sums,
        strict=True,
    ):
        if means.shape[0]:
            labeled = labeled - jnp.matmul(excess, means, precision="highest")
        label_part = labeled @ d.T
        whole = everyone @ tuning.T + label_part
        correction = labeled[:, q:] - everyone
        terms = (
            _product(whole.T, whole),
            _product(label_part.T, label_part),
            _product(labeled[:, :q].T, correction),
            _product(correction.T, correction),
        )
        parts = [part + sign * term for part, term in zip(parts, terms)]
    return Noise(*parts)


def noise(
    spread: Spread,
    tuning: Array,
    *,
    signs: tuple[int, ...],
    target: Target = "superpopulation",
) -> Noise:
    """Variance of the summed adjusted moments.

    Args:
        spread: second moments at theta.
        tuning: (q, q), the matrix Lambda.
        signs: one +1 or -1 per cluster term; empty without clusters.
        target: "finite" leaves out the variance of drawing the rows themselves.
    """
    plain = _independent(spread, tuning)
    if signs:
        clustered = _clustered(spread, tuning, signs)
        # A q x q matrix fitted to the sums of a few clusters fits their noise: where
        # there are few, the rows say better how the predictions go with the labels.
        sums = spread.labeled_cluster_sums[0]
        count = jnp.sum(jnp.any(sums != 0, axis=1))
        many = count >= 20 * tuning.shape[0]
        rows = plain if spread.counts.shape[0] == 0 else _fixed_size(spread, tuning)
        both, own = (
            jnp.where(many, getattr(clustered, name), getattr(rows, name))
            for name in ("observed_predicted", "predicted_predicted")
        )
        return clustered._replace(observed_predicted=both, predicted_predicted=own)
    if spread.counts.shape[0] == 0:
        if target == "finite":
            d = _contrast(tuning)
            labels = _product(d, spread.labeled_gram_squared - spread.labeled_gram, d.T)
            return plain._replace(total=labels, labels=labels)
        return plain
    fixed = _fixed_size(spread, tuning)
    if target == "finite":
        # Sampling without replacement leaves the share 1 - f of the label noise.
        d = _contrast(tuning)
        n, n_labeled = spread.counts, spread.labeled_counts
        labeled = _covariances(n_labeled, spread.labeled_sums, spread.labeled_grams)
        labeled = jnp.where((n_labeled == n)[:, None, None], 0.0, labeled)
        odds = n * (n / jnp.maximum(n_labeled, 1) - 1)
        labels = jnp.einsum("h,ik,hkl,jl->ij", odds, d, labeled, d, precision="highest")
        return fixed._replace(total=labels, labels=labels)
    # With a label in every row there is no design: the ordinary sandwich.
    complete = jnp.all(spread.counts == spread.labeled_counts)
    return jax.tree.map(lambda a, b: jnp.where(complete, a, b), plain, fixed)


def clip_eigenvalues(matrix: Array) -> Array:
    """The nearest positive semidefinite matrix."""
    values, vectors = jnp.linalg.eigh((matrix + matrix.T) / 2)
    return _product(vectors * jnp.maximum(values, 0), vectors.T)
