"""Power of selection by an independent NumPy implementation, for the power floors.

Run from the repository root: python -m tests.guarantees.numpy_power
Shares no code with the package: worlds and procedures are written out again. Prints the
dictionary that jaxcur/guarantees/_floors.py stores.
"""

import numpy as np
from scipy.stats import norm

from tests.guarantees import numpy_power_neighbours


def bh(p: np.ndarray, level: float) -> np.ndarray:
    m = p.size
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= level * np.arange(1, m + 1) / m + 1e-12)
    out = np.zeros(m, bool)
    if passed.size:
        out[order[: passed[-1] + 1]] = True
    return out


def share_found(selected: np.ndarray, is_null: np.ndarray) -> float:
    return (selected & ~is_null).sum() / max((~is_null).sum(), 1)


def plain(rng, n, m, level, null_share, noise, grid=None) -> float:
    c = norm.ppf(null_share)
    y = rng.normal(size=n + m)
    mu = y + noise * rng.normal(size=n + m)
    if grid is not None:
        mu = np.round(mu / grid) * grid
    scores = np.where(y[:n] > c, np.inf, c - mu[:n])
    tests = c - mu[n:]
    p = (1 + (scores <= tests[:, None]).sum(axis=1)) / (n + 1)
    return share_found(bh(p, level), y[n:] <= c)


def weighted(rng, n=200, m=20, level=0.2, shift=1.0, c=0.5) -> float:
    z = rng.normal(size=n + m) + np.where(np.arange(n + m) < n, 0, shift)
    y = rng.normal(size=n + m)
    mu = y + 0.3 * np.exp(z) * rng.normal(size=n + m)
    w = np.exp(shift * z)
    v = np.where(y[:n] > c, np.inf, c - mu[:n])
    t = c - mu[n:]
    total = w[:n].sum() + w[n:]
    mass = (w[:n] * (v <= t[:, None])).sum(axis=1)
    p = (mass + w[n:]) / total
    sizes = np.empty(m)
    for j in range(m):
        aux = (mass + w[n + j] * (t[j] <= t)) / total[j]
        aux[j] = 0
        sizes[j] = bh(aux, level).sum()
    return share_found(pruned(p, sizes, level, rng.uniform()), y[n:] <= c)


def pruned(p, sizes, level, xi) -> np.ndarray:
    first = p <= level * sizes / p.size + 1e-12
    value = xi * sizes
    best = 0
    for r in range(1, p.size + 1):
        if (first & (value <= r)).sum() >= r:
            best = r
    return first & (value <= best)


def optcs(rng, n, m, k, level, sd, null_share) -> float:
    c = norm.ppf(null_share)
    y = rng.normal(size=n + m)
    mu = y / sd + rng.normal(size=(k, n + m))
    best, p = np.zeros(m), np.ones(m)
    for row in mu:
        v = np.sort(np.where(y[:n] > c, np.inf, -row[:n]))
        t = -row[n:]
        counts = np.searchsorted(v, t, side="right")
        for j in range(m):
            aux = (counts + (t[j] <= t)) / (n + 1)
            aux[j] = 0
            size = bh(aux, level).sum()
            if size > best[j]:
                best[j], p[j] = size, (1 + counts[j]) / (n + 1)
    return share_found(pruned(p, best, level, rng.uniform()), y[n:] <= c)


PLAIN = {
    "select/n50": dict(n=50, m=20, level=0.2, null_share=0.7, noise=0.5),
    "select/n1000": dict(n=1000, m=100, level=0.1, null_share=0.7, noise=0.5),
    "select/few-nulls": dict(n=200, m=100, level=0.1, null_share=0.01, noise=0.5),
    "select/many-nulls": dict(n=200, m=100, level=0.2, null_share=0.99, noise=0.1),
    "select/coarse": dict(n=50, m=20, level=0.2, null_share=0.7, noise=0.5, grid=1.0),
}
OPTCS = {
    "optcs/useless-models": dict(n=50, m=20, k=100, level=0.3, sd=1e9, null_share=0.7),
    "optcs/weak-models": dict(n=100, m=50, k=50, level=0.2, sd=3.0, null_share=0.7),
    "optcs/good-models": dict(n=200, m=100, k=20, level=0.1, sd=1.0, null_share=0.5),
    "optcs/one-candidate": dict(n=30, m=1, k=100, level=0.2, sd=1e9, null_share=0.7),
}


def main() -> None:
    for name, spec in PLAIN.items():
        rng = np.random.default_rng(0)
        values = [plain(rng, **spec) for _ in range(4000)]
        print(f'    "{name}": {np.mean(values):.4f},', flush=True)
    rng = np.random.default_rng(0)
    values = [weighted(rng) for _ in range(4000)]
    print(f'    "select/weighted": {np.mean(values):.4f},', flush=True)
    for name, spec in OPTCS.items():
        rng = np.random.default_rng(0)
        repeats = 400
        values = [optcs(rng, **spec) for _ in range(repeats)]
        error = np.std(values) / np.sqrt(repeats)
        print(f'    "{name}": {np.mean(values):.4f},  # +- {error:.4f}', flush=True)
    for name, value, error in numpy_power_neighbours.powers():
        print(f'    "{name}": {value:.4f},  # +- {error:.4f}', flush=True)


if __name__ == "__main__":
    main()
