"""Two laboratories measured the same kind of wine. Can one's labels serve the other?

The second laboratory's instruments drift: every feature is stretched and shifted. A
test tells whether two batches differ, transport moves the labelled batch onto the
other, with a certified interval for what that costs, and a nearest neighbour shows what
was gained, over several drifts: not in each of them.

Run: python examples/move_batch.py
"""

import jax
import numpy as np
from sklearn.datasets import load_wine
from sklearn.neighbors import KNeighborsClassifier

from jaxcur import ot


def batches(seed):
    """Labelled wines of one laboratory, and wines of the other with their truth."""
    features, labels = load_wine(return_X_y=True)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    rng = np.random.default_rng(seed)
    first, second = np.split(rng.permutation(len(labels)), [100])
    stretch = rng.uniform(0.7, 1.4, features.shape[1])
    drift = rng.normal(scale=2.0, size=features.shape[1])
    drifted = features[second] * stretch + drift
    return (features[first], labels[first]), (drifted, labels[second])


def accuracy(features, labels, new, truth):
    """Share of right answers of the nearest neighbour."""
    nearest = KNeighborsClassifier(1).fit(features, labels)
    return (nearest.predict(new) == truth).mean()


def main():
    (x, _), (y, _) = batches(0)
    # A twentieth of the mean cost: small beside what separates points, and quick.
    epsilon = float(ot.cost_matrix(x, y).mean()) / 20
    test = ot.two_sample_test(x, y, epsilon=epsilon, key=jax.random.key(0))
    print(f"one law? p-value {test.p_value:.3f} (0.005 is the smallest possible)")
    result = ot.sinkhorn(x, y, epsilon=epsilon)
    low, high = ot.certified_bounds(result, x, y)
    print(f"transport costs {low:.2f} to {high:.2f} a wine, for certain")

    before, after = [], []
    for seed in range(20):
        (x, labels), (y, truth) = batches(seed)
        result = ot.sinkhorn(x, y, epsilon=epsilon)
        moved = np.asarray(ot.barycentric_map(result, x, y))
        before.append(accuracy(x, labels, y, truth))
        after.append(accuracy(moved, labels, y, truth))
    gain = np.subtract(after, before)
    error = gain.std(ddof=1) / len(gain) ** 0.5
    print(f"right before the move: {np.mean(before):.1%}, mean of {len(gain)} drifts")
    print(f"right after the move: {np.mean(after):.1%}")
    print(f"gain {gain.mean():.1%} +- {1.96 * error:.1%}, in {sum(gain > 0)} of them")


if __name__ == "__main__":
    main()
