"""Power in the worlds of risk-controlled selection, outliers, several conditions.

The part of numpy_power.py that concerns the methods beside selection; plain loops over
candidates and thresholds, nothing shared with the package.
"""

import math

import numpy as np

BH_SLACK = 1e-12


def bh(p: np.ndarray, level: float) -> np.ndarray:
    m = p.size
    order = np.argsort(p)
    passed = np.flatnonzero(p[order] <= level * np.arange(1, m + 1) / m + BH_SLACK)
    out = np.zeros(m, bool)
    if passed.size:
        out[order[: passed[-1] + 1]] = True
    return out


def share_found(selected: np.ndarray, is_null: np.ndarray) -> float:
    return (selected & ~is_null).sum() / max((~is_null).sum(), 1)


# Risk-controlled selection. Power is the share of candidates that are acted on.


def rows(rng, n, m, share) -> tuple[np.ndarray, ...]:
    """Scores, losses, weights; `share` of the candidates are risky, 0.2 of the rows.

    Risky rows lose six times as much at the same score, which the score does not say.
    """
    x, u = rng.random((2, n + m))
    risky = rng.random(n + m) < np.where(np.arange(n + m) < n, 0.2, share)
    loss = np.minimum(np.where(risky, 3.0, 0.5) * u * x, 1)
    return x, loss, np.where(risky, share / 0.2, (1 - share) / 0.8)


def mdr(rng, n, m, level, share) -> float:
    x, loss, w = rows(rng, n, m, share)
    total = w[:n].sum() + w[n:]
    mass = (loss[:n] * w[:n] * (x[:n] <= x[n:, None])).sum(axis=1) + w[n:]
    return (mass <= level * total + BH_SLACK).mean()


def sdr(rng, n, m, level, gamma, share) -> float:
    x, loss, w = rows(rng, n, m, share)
    s, t = x[:n], x[n:]
    grid = np.sort(x)
    mass = (loss[:n] * w[:n] * (s <= grid[:, None])).sum(axis=1)
    e = np.zeros(m)
    for j in range(m):
        total = w[:n].sum() + w[n + j]
        others = 1 + (np.delete(t, j) <= grid[:, None]).sum(axis=1)
        last = []
        for own in (0, 1):
            risk = (mass + own * w[n + j] * (t[j] <= grid)) / total
            fine = np.flatnonzero(risk <= gamma * others / m + BH_SLACK)
            last.append(fine[-1] if fine.size else -1)
        zero, one = last
        if one < 0 or t[j] > grid[one]:
            continue
        if zero == one:
            e[j] = total / (mass[one] + w[n + j])
        else:
            e[j] = m / (gamma * (t <= grid[zero]).sum())
    boosted = e / (1 - rng.random())
    inverse = np.where(boosted > 0, 1 / np.maximum(boosted, 1e-300), np.inf)
    return bh(np.minimum(inverse, 2.0), level).mean()


# Outliers.


def adaptive(p: np.ndarray, level: float, null_share: str) -> np.ndarray:
    m = p.size
    if null_share == "storey":
        share = (1 + (p >= 0.5).sum()) / (m * 0.5)
    elif null_share == "quantile":
        k0 = m // 2
        gap = 1 - np.sort(p)[k0]
        share = (m - k0 + 1) / (m * gap) if gap > 0 else np.inf
    else:
        share = 1.0
    return bh(p, level / share)


def outliers(rng, n, m, level, num_outliers, shift, null_share) -> float:
    null, test = rng.normal(size=n), rng.normal(size=m)
    test[:num_outliers] += shift
    p = (1 + (null >= test[:, None]).sum(axis=1)) / (n + 1)
    is_null = np.arange(m) >= num_outliers
    return share_found(adaptive(p, level, null_share), is_null)


def ada(rng, n, m, level, num_train, num_outliers, shift) -> float:
    null, test = rng.normal(size=n), rng.normal(size=m)
    test[:num_outliers] += shift
    mixed = np.concatenate([null[num_train:], test])
    zero, one = null[:num_train].mean(), mixed.mean()
    score = (mixed - zero) ** 2 - (mixed - one) ** 2
    held = n - num_train
    p = (1 + (score[:held] >= score[held:, None]).sum(axis=1)) / (held + 1)
    return share_found(bh(p, level), np.arange(m) >= num_outliers)


def adjusted(rng, n, delta, method, best, bar) -> float:
    """Share of outliers, scores the largest of `best`, whose adjusted p is <= bar."""
    rank = 1 + (rng.random(n) >= rng.random() ** (1 / best)).sum()
    if method == "dkwm":
        return float(rank / (n + 1) + math.sqrt(math.log(2 / delta) / (2 * n)) <= bar)
    if method == "asymptotic":
        two = math.log(math.log(n))
        c = -math.log(-math.log(1 - delta)) + 2 * two + math.log(two) / 2
        c = (c - math.log(math.pi) / 2) / math.sqrt(2 * two)
        return float(rank / n + c * math.sqrt(rank * (n - rank)) / n**1.5 <= bar)
    i, k = n + 1 - rank, n // 2
    if i < k:
        return 0.0
    ratio = math.prod((i - j) / (n - j) for j in range(k))
    return float(1 - (delta * ratio) ** (1 / k) <= bar)


# Several conditions, and averages over splits.


def conditions(rng, n, m, level, cut, noise, how) -> float:
    y = rng.normal(size=(2, n + m))
    s = cut - y - noise * rng.normal(size=(2, n + m))
    holds = (y > cut).all(axis=0) if how == "all" else (y > cut).any(axis=0)
    s = s.max(axis=0) if how == "all" else s.min(axis=0)
    v = np.where(holds[:n], np.inf, s[:n])
    p = (1 + (v <= s[n:, None]).sum(axis=1)) / (n + 1)
    return share_found(bh(p, level), ~holds[n:])


def pairs(rng, n, m, level, cut, noise) -> float:
    y = rng.normal(size=(2, n + m))
    s = cut - y - noise * rng.normal(size=(2, n + m))
    v = np.where(y[:, :n] > cut, np.inf, s[:, :n])
    p = (1 + (v[:, None, :] <= s[:, n:, None]).sum(axis=2)) / (n + 1)
    divided = level / (1 / np.arange(1, p.size + 1)).sum()
    is_null = (y[:, n:] <= cut).ravel()
    return share_found(bh(p.ravel(), divided), is_null)


def splits(rng, n, m, level, run_level, num_runs, cut, noise) -> float:
    y = rng.normal(size=n + m)
    s = -y - noise * rng.normal(size=n + m)
    v, t = np.where(y[:n] > cut, np.inf, s[:n]), s[n:]
    total = np.zeros(m)
    for _ in range(num_runs):
        half = v[rng.permutation(n)[: n // 2]]
        p = (1 + (half <= t[:, None]).sum(axis=1)) / (half.size + 1)
        for j in range(m):
            below = (half <= t[:, None]).sum(axis=1) + (t[j] <= t)
            aux = below / (half.size + 1)
            aux[j] = 0
            size = bh(aux, run_level).sum()
            if p[j] <= run_level * size / m + BH_SLACK:
                total[j] += m / (run_level * size)
    e = total / num_runs
    inverse = np.where(e > 0, 1 / np.maximum(e, 1e-300), 2.0)
    return share_found(bh(inverse, level), y[n:] <= cut)


# name -> (study, replications, world)
STUDIES = {
    "score_risk/mdr": (mdr, 2000, dict(n=19, m=4, level=0.15, share=0.2)),
    "score_risk/mdr-weighted": (mdr, 2000, dict(n=39, m=4, level=0.2, share=0.8)),
    "score_risk/sdr": (sdr, 1000, dict(n=39, m=8, level=0.2, gamma=0.18, share=0.2)),
    "score_risk/sdr-weighted": (
        sdr,
        1000,
        dict(n=39, m=8, level=0.3, gamma=0.27, share=0.8),
    ),
    **{
        f"outliers/{null_share}": (
            outliers,
            4000,
            dict(
                n=39,
                m=10,
                level=0.25,
                num_outliers=4,
                shift=2.5,
                null_share=null_share,
            ),
        )
        for null_share in ("one", "storey", "quantile")
    },
    "outliers/ada": (
        ada,
        4000,
        dict(n=28, m=6, level=0.3, num_train=9, num_outliers=2, shift=3.0),
    ),
    "multi_condition/all": (
        conditions,
        4000,
        dict(n=29, m=10, level=0.3, cut=-0.2, noise=0.4, how="all"),
    ),
    "multi_condition/any": (
        conditions,
        4000,
        dict(n=29, m=10, level=0.3, cut=0.5, noise=0.4, how="any"),
    ),
    "multi_condition/pairs": (
        pairs,
        4000,
        dict(n=39, m=5, level=0.3, cut=0.5, noise=0.4),
    ),
    "conditional_p_values/dkwm": (
        adjusted,
        4000,
        dict(n=20, delta=0.2, method="dkwm", best=50, bar=0.3),
    ),
    "conditional_p_values/simes": (
        adjusted,
        4000,
        dict(n=20, delta=0.2, method="simes", best=50, bar=0.3),
    ),
    # Its first bounds, which matter here, are sharper than those of Simes.
    "conditional_p_values/monte-carlo": (
        adjusted,
        4000,
        dict(n=20, delta=0.2, method="simes", best=50, bar=0.3),
    ),
    "conditional_p_values/asymptotic": (
        adjusted,
        4000,
        dict(n=60, delta=0.2, method="asymptotic", best=50, bar=0.3),
    ),
    "derandomize/n60": (
        splits,
        500,
        dict(n=60, m=10, level=0.3, run_level=0.15, num_runs=5, cut=0.0, noise=0.4),
    ),
}


def powers():
    """Name and mean power, one after the other."""
    for name, (study, replications, world) in STUDIES.items():
        rng = np.random.default_rng(0)
        values = [study(rng, **world) for _ in range(replications)]
        yield name, float(np.mean(values)), float(np.std(values) / replications**0.5)
