"""Quantile regression forest on scikit-learn's random forest, by leaf weights."""

import numpy as np
from sklearn.ensemble import RandomForestRegressor


class QuantileForest:
    """Weights each training row by how often it shares a leaf with the new row.

    In a tree a new row gives weight 1 / (rows in its leaf) to each training row of that
    leaf; weights are averaged over trees, and the prediction is the weighted quantile
    of the training targets. Leaves are those of the bootstrapped trees, filled with all
    training rows, as in Meinshausen (2006).
    """

    def __init__(self, max_depth: int = 5, seed: int = 0, num_trees: int = 100) -> None:
        self.forest = RandomForestRegressor(
            num_trees, max_depth=max_depth, random_state=seed
        )

    def fit(self, features: np.ndarray, target: np.ndarray) -> "QuantileForest":
        """Grow the forest and remember which leaf holds which row."""
        self.forest.fit(features, target)
        self.leaves = self.forest.apply(features)
        self.order = np.argsort(target, kind="stable")
        self.target = target[self.order]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Means, as the forest itself predicts them; shape (m,)."""
        return self.forest.predict(features)

    def quantiles(self, features: np.ndarray, orders: list[float]) -> np.ndarray:
        """Conditional quantiles, shape (orders, m)."""
        new = self.forest.apply(features)
        weights = np.zeros((len(new), len(self.target)))
        for tree in range(new.shape[1]):
            same = new[:, tree, None] == self.leaves[None, :, tree]
            weights += same / np.maximum(same.sum(axis=1, keepdims=True), 1)
        share = np.cumsum(weights[:, self.order], axis=1) / new.shape[1]
        # Rounding can leave the last share a little below 1.
        index = [(share < q - 1e-12).sum(axis=1) for q in orders]
        return self.target[np.minimum(index, len(self.target) - 1)]
