"""Widths and power in the worlds of `ordinal`, in NumPy, from binary regressions.

Neither has the ordinal model: the interval is that of a logistic regression of "last
class or not", the test is Brant's, of separate logistic regressions. Run as a script it
prints what jaxcur/guarantees/_ordinal_floors.py stores.
"""

import numpy as np

CENTER = 1.0
RARE = {
    "rows": 400,
    "center": (0.0, 1.5, 2.5),
    "coefficients": ((0.5, 0.5, 1.0), (0.0, -0.5, -0.5)),
}
BROKEN = {
    "rows": 300,
    "center": (0.0, 1.0, 2.0),
    "coefficients": ((1.2, 0.6, 0.3), (-0.5, -0.5, -0.5)),
}
POINTS = CENTER + np.array([[0.0, 0.0], [0.5, -0.5], [0.8, 0.8]])
# 95 % quantile of chi-square with two degrees of freedom: exponential with mean two.
CRITICAL = -2 * np.log(0.05)


def draw(rng, world):
    """Features around the center, with a constant, and classes."""
    beta = np.array(world["coefficients"])
    x = rng.uniform(-1, 1, (world["rows"], len(beta)))
    below = 1 / (1 + np.exp(-(np.array(world["center"]) + x @ beta)))
    y = np.sum(rng.uniform(size=(world["rows"], 1)) > below, axis=1)
    return np.column_stack([np.ones(len(x)), x + CENTER]), y


def logistic(design, event):
    """Coefficients, inverse information and probabilities, by Newton's method."""
    beta = np.zeros(design.shape[1])
    for _ in range(25):
        prob = 1 / (1 + np.exp(-design @ beta))
        information = design.T @ (design * (prob * (1 - prob))[:, None])
        beta = beta + np.linalg.solve(information, design.T @ (event - prob))
    prob = 1 / (1 + np.exp(-design @ beta))
    information = design.T @ (design * (prob * (1 - prob))[:, None])
    return beta, np.linalg.inv(information), prob


def widths(num_draws, seed=0):
    """Mean width of 95 % intervals for the log odds of the last class, (3,)."""
    rng = np.random.default_rng(seed)
    at = np.column_stack([np.ones(3), POINTS])
    total = np.zeros(3)
    for _ in range(num_draws):
        design, y = draw(rng, RARE)
        _, covariance, _ = logistic(design, y == len(RARE["center"]))
        total += 2 * 1.959964 * np.sqrt(np.einsum("ij,jk,ik->i", at, covariance, at))
    return total / num_draws


def brant(design, y, feature):
    """Statistic of one feature: three slopes, two differences."""
    fits = [logistic(design, y > cut) for cut in range(3)]
    covariance = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            low, high = min(a, b), max(a, b)
            weight = fits[high][2] * (1 - fits[low][2])
            meat = design.T @ (design * weight[:, None])
            block = fits[a][1] @ meat @ fits[b][1]
            covariance[a, b] = block[feature, feature]
    contrast = np.array([[1.0, -1.0, 0.0], [1.0, 0.0, -1.0]])
    gap = contrast @ [fit[0][feature] for fit in fits]
    return gap @ np.linalg.solve(contrast @ covariance @ contrast.T, gap)


def power(num_draws, seed=0):
    """How often Brant's test of the first feature rejects at level 0.05."""
    rng = np.random.default_rng(seed)
    rejected = [brant(*draw(rng, BROKEN), 1) > CRITICAL for _ in range(num_draws)]
    return float(np.mean(rejected))


if __name__ == "__main__":
    print("RARE_WIDTHS", np.round(widths(2000), 3))
    print("NOMINAL_POWER", round(power(4000), 3))
