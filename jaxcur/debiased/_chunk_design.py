"""What the counting pass finds, and the rows of a chunk under the design it shows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur.debiased._assemble import DesignNumbers
from jaxcur.debiased._blocks import LabeledRows, Rows
from jaxcur.debiased._chunks import Layout, Part
from jaxcur.debiased._prepare import check_strata


class Survey(NamedTuple):
    """What the counting pass found; arrays have one entry per stratum.

    Attributes:
        num_chunks: scalar.
        num_rows: scalar, rows in the chunks, those of weight 0 included.
        longest: scalar, rows in the longest chunk.
        counts: rows.
        labels: labelled rows.
        prob_sum: sum of the given probabilities.
        prob_noise: sum of prob (1 - prob).
        prob_range: (2,), least and largest given probability.
        root_sum: sum over labelled rows of weight / prob (of the weight without prob).
        square_sum: sum of its square.
        largest: its largest value.
        seen: (num_clusters,) bool, the clusters that have rows.
    """

    num_chunks: np.ndarray
    num_rows: np.ndarray
    longest: np.ndarray
    counts: np.ndarray
    labels: np.ndarray
    prob_sum: np.ndarray
    prob_noise: np.ndarray
    prob_range: np.ndarray
    root_sum: np.ndarray
    square_sum: np.ndarray
    largest: np.ndarray
    seen: np.ndarray


def count_part(part: Part, layout: Layout) -> Survey:
    """The counts of one chunk, see `Survey`."""
    h = layout.num_strata
    n = part.labeled.shape[0]

    def total(values: np.ndarray, places: Any = slice(None)) -> np.ndarray:
        if h == 1:
            return np.array([np.sum(values, dtype=np.float64)])
        return np.bincount(part.strata[places], values, h).astype(np.float64)

    labels = np.flatnonzero(part.labeled)
    root = part.weight[labels].astype(np.float64)
    noise, reach = np.zeros(h), np.array([np.inf, -np.inf])
    sums = np.zeros(h)
    if part.prob is not None:
        root = root / part.prob[labels]
        sums, noise = total(part.prob), total(part.prob * (1 - part.prob))
        if n:
            reach = np.array([part.prob.min(), part.prob.max()], np.float64)
    largest = np.zeros(h)
    np.maximum.at(largest, part.strata[labels], root)
    seen = np.zeros(layout.num_clusters, bool)
    if part.clusters is not None:
        seen[part.clusters] = True
    return Survey(
        num_chunks=np.asarray(1),
        num_rows=np.asarray(n),
        longest=np.asarray(n),
        counts=total(np.ones(n)),
        labels=total(np.ones(labels.size), labels),
        prob_sum=sums,
        prob_noise=noise,
        prob_range=reach,
        root_sum=total(root, labels),
        square_sum=total(root * root, labels),
        largest=largest,
        seen=seen,
    )


def add_surveys(left: Survey, right: Survey) -> Survey:
    """Counts of both."""
    added = Survey(*(a + b for a, b in zip(left, right)))
    a, b = left.prob_range, right.prob_range
    return added._replace(
        longest=np.maximum(left.longest, right.longest),
        prob_range=np.array([min(a[0], b[0]), max(a[1], b[1])]),
        largest=np.maximum(left.largest, right.largest),
        seen=left.seen | right.seen,
    )


class Design:
    """The design as the counting pass found it: probabilities, padding, numbers."""

    def __init__(self, survey: Survey, layout: Layout) -> None:
        if not survey.labels.sum():
            raise ValueError("no labelled rows: `labeled` is False everywhere")
        check_strata(layout.design, *map(jnp.asarray, (survey.counts, survey.labels)))
        if layout.num_clusters and survey.seen.sum() == 1:
            raise ValueError(
                "`clusters` has a single cluster with rows: its sum of moments is zero "
                "at the estimate and says nothing about the variance"
            )
        self.survey, self.layout = survey, layout
        self.given = "sampling_prob" in layout.keys
        counts = np.maximum(survey.counts, 1)
        self.fraction = survey.labels / counts
        self.mean_prob = survey.prob_sum / counts if self.given else self.fraction

    def prob(self, part: Part) -> np.ndarray:
        """Sampling probability of every row."""
        if part.prob is not None:
            return part.prob
        return self.fraction[part.strata].astype(self.layout.dtype)

    def rows(self, part: Part) -> Rows:
        """Rows of a chunk, filled up with rows of weight 0 to a common length."""
        n = part.labeled.shape[0]
        prob = self.prob(part)
        excess, clusters = part.weight, ()
        if part.clusters is not None:
            excess = (part.labeled - prob) / self.mean_prob[part.strata]
            excess, clusters = excess.astype(self.layout.dtype), (part.clusters,)
        # Chunks of very different lengths share few programs and waste at most half.
        size = max(int(self.survey.longest), n)
        while size // 2 >= max(n, 1):
            size //= 2
        leaves = part.predicted, part.weight, prob, excess, part.strata, clusters
        predicted, *rest = _pad(leaves, n, size)
        rows = Rows(jax.tree.unflatten(self.layout.structure, predicted), *rest)
        if n < size:
            rows.weight[n:] = 0
            rows.excess[n:] = 0
        return jax.tree.map(jnp.asarray, rows)

    def labeled(self, part: Part) -> LabeledRows:
        """Labelled rows alone, with rows of weight 0 up to a length from a ladder."""
        n = part.labeled.shape[0]
        size = max(16, 1 << (max(n, 1) - 1).bit_length())
        clusters = () if part.clusters is None else (part.clusters,)
        leaves = part.observed, part.predicted, part.weight, self.prob(part)
        observed, predicted, *rest = _pad((*leaves, part.strata, clusters), n, size)
        seen, guess = (
            jax.tree.unflatten(self.layout.structure, leaves)
            for leaves in (observed, predicted)
        )
        rows = LabeledRows(seen, guess, *rest)
        if n < size:
            rows.weight[n:] = 0
        return jax.tree.map(jnp.asarray, rows)

    def numbers(self) -> DesignNumbers:
        """Scalars of the result, in the dtype of the computation."""
        survey, scale = self.survey, np.ones(self.layout.num_strata)
        if self.given:
            expected, noise = survey.prob_sum.sum(), survey.prob_noise.sum()
            low, high = survey.prob_range
        else:
            there = self.fraction[survey.counts > 0]
            low, high = there.min(), there.max()
            expected = survey.labels.sum()
            noise = (survey.labels * (1 - self.fraction)).sum()
            scale = np.maximum(self.fraction, np.finfo(float).tiny)
        count = survey.counts.sum()
        values = {
            "num_rows": count,
            "num_labeled": survey.labels.sum(),
            "groups": survey.seen.sum() if self.layout.num_clusters else count,
            "expected_labels": expected,
            "labels_variance": noise if self.layout.design == "bernoulli" else 0.0,
            "min_prob": low,
            "max_prob": high,
            "root_sum": (survey.root_sum / scale).sum(),
            "square_sum": (survey.square_sum / scale**2).sum(),
            "largest_square": ((survey.largest / scale) ** 2).max(),
        }
        arrays = {k: jnp.asarray(v, self.layout.dtype) for k, v in values.items()}
        return DesignNumbers(**arrays, is_usable=jnp.asarray(True))


def _pad(tree: Any, n: int, size: int) -> Any:
    """Repeat the first row up to `size` rows: finite under any moment."""

    def one(leaf: np.ndarray) -> np.ndarray:
        if n == size:
            return leaf
        padded = np.zeros((size, *leaf.shape[1:]), leaf.dtype)
        padded[:n] = leaf
        padded[n:] = leaf[:1]
        return padded

    return jax.tree.map(one, tree)
