"""One small problem of three classes, shared by the tests of inference."""

import numpy as np

N, P, K = 60, 2, 3


def sample() -> tuple[np.ndarray, np.ndarray]:
    """Features (60, 2) whose means are far from zero, and classes 0..2."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, P)) * [1.0, 2.0] + [1.0, -3.0]
    latent = X @ np.array([0.8, -0.4]) + rng.logistic(size=N)
    return X, np.digitize(latent, np.quantile(latent, [0.5, 0.8]))


def probabilities(alpha, beta, X):
    """Cumulative logit in NumPy: alpha (m,), beta (p, m), to (n, m + 1)."""
    eta = alpha + X @ beta
    below = 1 / (1 + np.exp(-eta))
    edges = np.column_stack([np.zeros(len(X)), below, np.ones(len(X))])
    return np.diff(edges, axis=1)


def numeric_jacobian(function, at, step=1e-6):
    """Central differences, outputs first."""
    columns = []
    for j in range(len(at)):
        move = np.zeros_like(at)
        move[j] = step
        columns.append((function(at + move) - function(at - move)) / (2 * step))
    return np.stack(columns, axis=-1)
