"""Interval widths of debiased estimates by an independent NumPy implementation.

Run from the repository root: python -m tests.guarantees.numpy_debiased
Shares no code with the package: worlds and estimators are written out again, with
derivatives by central differences. Prints the mean widths of 95 % intervals, and the
squared errors without the best tuning, that jaxcur/guarantees/_debiased_floors.py
stores.
"""

import sys

import numpy as np
from scipy.special import expit, softmax
from scipy.stats import norm

N, LABELS, REPEATS = 2500, 500, 300
Z = norm.ppf(0.975)


def solve(total, theta, metric=None):
    """Root of a vector function by Newton steps; GMM with a metric."""
    for _ in range(30):
        value, jacobian = total(theta), slope(total, theta)
        if metric is None:
            step = -np.linalg.solve(jacobian, value)
        else:
            weighted = jacobian.T @ metric
            step = -np.linalg.solve(weighted @ jacobian, weighted @ value)
        theta = theta + step
        if np.abs(step).max() < 1e-9:
            break
    return theta


def slope(function, theta, h=1e-5):
    columns = []
    for j in range(theta.size):
        e = np.zeros(theta.size)
        e[j] = h
        columns.append((function(theta + e) - function(theta - e)) / (2 * h))
    return np.stack(columns, axis=1)


def variance(gold, guess, labeled, prob, tuning, srs):
    """Variance of the mean adjusted moment."""
    n = len(labeled)
    adjusted = guess @ tuning.T
    delta = gold - adjusted
    if not srs:
        w = (labeled / prob)[:, None]
        moment = adjusted + w * delta
        return moment.T @ moment / n**2
    d, a = delta[labeled], adjusted[labeled]
    f = labeled.mean()
    both = np.cov(np.hstack([a, d]).T)
    q = a.shape[1]
    cross, own = both[:q, q:], both[q:, q:]
    everyone = np.atleast_2d(np.cov(adjusted.T))
    return (everyone + cross + cross.T + own / f) / n


def best_tuning(gold, guess, labeled, prob, srs):
    """Regression of the label part of the moments on the correction."""
    g, p = gold[labeled], guess[labeled]
    if srs:
        g, p = g - g.mean(axis=0), p - p.mean(axis=0)
        odds = np.ones(len(g))
    else:
        share = np.broadcast_to(prob, labeled.shape)[labeled]
        odds = (1 - share) / share**2
    both = (g * odds[:, None]).T @ p
    return both @ np.linalg.pinv((p * odds[:, None]).T @ p)


def widths(moment, gold, guess, labeled, prob, start, srs):
    """Widths of tuned intervals; `moment` maps theta and a record to (n, q)."""
    n = len(labeled)
    w = (labeled / prob)[:, None]

    def total(theta, tuning):
        value = w * moment(theta, gold) - (w - 1) * (moment(theta, guess) @ tuning.T)
        return value.mean(axis=0)

    q = moment(start, guess).shape[1]
    nothing = np.zeros((q, q))
    over = q > start.size
    metric = np.eye(q) if over else None
    theta = solve(lambda t: total(t, nothing), start, metric)
    tuning = best_tuning(moment(theta, gold), moment(theta, guess), labeled, prob, srs)

    def spread(theta):
        parts = moment(theta, gold), moment(theta, guess)
        return variance(*parts, labeled, prob, tuning, srs)

    if over:
        metric = np.linalg.inv(spread(theta) * n)
    theta = solve(lambda t: total(t, tuning), theta, metric)
    jacobian = slope(lambda t: total(t, tuning), theta)
    if over:
        weighted = jacobian.T @ metric
        gain = np.linalg.solve(weighted @ jacobian, weighted)
    else:
        gain = np.linalg.inv(jacobian)
    return 2 * Z * np.sqrt(np.diag(gain @ spread(theta) @ gain.T))


def covariates(rng):
    return np.column_stack(
        [np.ones(N), rng.normal(size=N), np.where(rng.random(N) < 0.5, -0.5, 0.5)]
    )


def flip(rng, y, x):
    return np.where(rng.random(N) < np.where(x > 0, 0.18, 0.06), 1 - y, y)


def other_class(rng, y, x):
    wrong = rng.random(N) < np.where(x > 0, 0.18, 0.06)
    return np.where(wrong, (y + 1) % 3, y)


def sample():
    return np.arange(N) < LABELS, LABELS / N, True


def coins(rng, prob):
    return rng.random(N) < prob, prob, False


def index(inverse_link, weight=None):
    """Moments x (y - mu), or x (y - mu) weight(mu)."""

    def moment(theta, record):
        x, y = record
        mu = inverse_link(x @ theta)
        factor = 1 if weight is None else weight(mu)
        return x * ((y - mu) * factor)[:, None]

    return moment


def average(theta, record):
    return record - theta


def linear(x):
    return x


def mean(rng):
    x = rng.normal(size=N)
    y = ((x + rng.normal(size=N)) / np.sqrt(2) > norm.ppf(0.7)).astype(float)
    guess = flip(rng, y, x)
    return average, y[:, None], guess[:, None], np.zeros(1), sample()


def linear_outcome(rng, x):
    noise = rng.normal(size=N) * (0.6 + 0.4 * np.abs(x[:, 1]))
    return x @ [1, 0.5, -1] + noise


def ols(rng):
    x = covariates(rng)
    y = linear_outcome(rng, x)
    guess = 0.8 * y + 0.3 + 0.4 * x[:, 1] + 0.6 * rng.normal(size=N)
    prob = LABELS / N * (0.25 + 1.5 * expit(1.5 * (guess - 1)))
    return index(linear), (x, y), (x, guess), np.zeros(3), coins(rng, prob)


def ols_covariate(rng):
    x = covariates(rng)
    y = linear_outcome(rng, x)
    z = x.copy()
    z[:, 1] += 0.2 + 0.6 * rng.normal(size=N)
    return index(linear), (x, y), (z, y), np.zeros(3), sample()


def binary(rng):
    x = covariates(rng)
    y = (rng.random(N) < expit(x @ [-0.5, 0.7, -0.7])).astype(float)
    return x, y


def logistic(rng):
    x, y = binary(rng)
    guess = flip(rng, y, x[:, 1])
    return index(expit), (x, y), (x, guess), np.zeros(3), sample()


def poisson(rng):
    x = np.column_stack([np.ones(N), rng.uniform(-1.5, 1.5, size=(N, 2))])
    y = rng.poisson(np.exp(x @ [0.3, 0.4, -0.4])).astype(float)
    guess = np.where(rng.random(N) < 0.2, rng.poisson(2.0, size=N), y)
    return index(np.exp), (x, y), (x, guess), np.zeros(3), coins(rng, LABELS / N)


def gamma(rng):
    x = covariates(rng)
    y = np.exp(x @ [0.3, 0.4, -0.4]) * rng.gamma(2.0, 0.5, size=N)
    guess = y * np.exp(0.2 + 0.2 * x[:, 1] + 0.3 * rng.normal(size=N))
    moment = index(np.exp, lambda mu: 1 / mu)
    return moment, (x, y), (x, guess), np.zeros(3), sample()


def multinomial(rng):
    x = np.column_stack([np.ones(N), rng.normal(size=N)])
    logits = np.column_stack([x @ [0.3, 0.7], x @ [-0.3, -0.5], np.zeros(N)])
    y = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((N, 1))).sum(axis=1)
    guess = other_class(rng, y, x[:, 1])

    def moment(theta, record):
        x, y = record
        eta = np.column_stack([x @ theta[:2], x @ theta[2:], np.zeros(N)])
        gap = np.eye(3)[y] - softmax(eta, axis=1)
        return np.column_stack([x * gap[:, :1], x * gap[:, 1:2]])

    return moment, (x, y), (x, guess), np.zeros(4), sample()


def shares(rng):
    x, e = rng.normal(size=(2, N))
    y = np.searchsorted(norm.ppf([0.3, 0.8]), (x + e) / np.sqrt(2))
    guess = other_class(rng, y, x)
    prob = LABELS / N * np.array([0.7, 0.9, 1.5])[guess]
    one_hot = np.eye(3)
    return average, one_hot[y], one_hot[guess], np.zeros(3), coins(rng, prob)


def ordered_logit(rng):
    x = rng.normal(size=N)
    y = np.searchsorted([-0.8, 0.6], 0.8 * x + rng.logistic(size=N))
    trust = rng.uniform(0.6, 0.95, size=(N, 1))
    seen = np.eye(3)[other_class(rng, y, x)]
    guess = trust * seen + (1 - trust) / 3

    def moment(theta, record):
        x, y = record
        low, high = theta[1] - theta[0] * x, theta[2] - theta[0] * x
        a, b = expit(low), expit(high)
        p = np.column_stack([a, b - a, 1 - b])
        da, db = a * (1 - a), b * (1 - b)
        by_low = y[:, 0] * da / p[:, 0] - y[:, 1] * da / p[:, 1]
        by_high = y[:, 1] * db / p[:, 1] - y[:, 2] * db / p[:, 2]
        return np.column_stack([-x * (by_low + by_high), by_low, by_high])

    start = np.array([0.0, -1.0, 1.0])
    return moment, (x, np.eye(3)[y]), (x, guess), start, sample()


def iv(rng):
    z1, z2, u, v, noise = rng.normal(size=(5, N))
    x = 0.7 * z1 + 0.5 * z2 + 0.6 * u + 0.4 * v
    y = 1 + 0.5 * x + u
    guess = 0.9 * y + 0.3 * z1 + 0.4 * noise
    instruments = np.column_stack([np.ones(N), z1, z2])
    design = np.column_stack([np.ones(N), x])

    def moment(theta, y):
        return instruments * (y - design @ theta)[:, None]

    return moment, y, guess, np.zeros(2), sample()


def user_moment(rng):
    y = 0.5 + np.exp(0.1) * rng.normal(size=N)
    guess = 0.7 * y + 0.4 + 0.5 * rng.normal(size=N)

    def moment(theta, y):
        gap = y - theta[0]
        return np.column_stack([gap, gap**2 * np.exp(-theta[1]) - 1])

    return moment, y, guess, np.zeros(2), sample()


def clusters(rng):
    """Widths from sums within groups of ten rows."""
    group = np.arange(N) // 10
    x = covariates(rng)[group]
    shared, own, noise = rng.normal(size=(3, N))
    y = x @ [1, 0.5, -1] + 0.8 * shared[group] + 0.8 * own
    guess = 0.9 * y + 0.2 * x[:, 1] + 0.5 * noise
    labeled, prob = rng.random(N) < LABELS / N, LABELS / N
    w = (labeled / prob)[:, None]

    def parts(theta):
        gold, machine = (x * (v - x @ theta)[:, None] for v in (y, guess))
        rows = np.stack([w * gold, (w - 1) * machine])
        return rows.reshape(2, N // 10, 10, 3).sum(axis=2)

    first = np.linalg.solve((x * w).T @ x, (x * w).T @ y)
    a, b = parts(first)
    tuning = a.T @ b @ np.linalg.inv(b.T @ b)
    left = (x * w).T @ x - tuning @ ((x * (w - 1)).T @ x)
    right = (x * w).T @ y - tuning @ ((x * (w - 1)).T @ guess)
    a, b = parts(np.linalg.solve(left, right))
    moment = a - b @ tuning.T
    gain = np.linalg.inv(left / N)
    return 2 * Z * np.sqrt(np.diag(gain @ (moment.T @ moment) @ gain.T)) / N


def quantile(rng, q=0.7):
    """Interval by inversion, tuned at the quantile of the labelled rows."""
    e, noise = rng.normal(size=(2, N))
    y, guess = np.exp(0.6 * e), np.exp(0.6 * (0.8 * e + 0.3 + 0.5 * noise))
    labeled, f, _ = sample()

    def below(t):
        return (y[labeled] <= t).astype(float), (guess[labeled] <= t).astype(float)

    first = np.quantile(y[labeled], q)
    gold, machine = below(first)
    tuning = np.cov(gold, machine)[0, 1] / np.var(machine, ddof=1)
    inside = []
    for t in np.sort(y[labeled]):
        gold, machine = below(t)
        everyone = (guess <= t).astype(float)
        gap = gold - tuning * machine
        value = gap.mean() + tuning * everyone.mean()
        cross = tuning * np.cov(machine, gap)[0, 1]
        spread = np.var(gap, ddof=1) / f + 2 * cross + tuning**2 * np.var(everyone)
        if abs(value - q) <= Z * np.sqrt(spread / N):
            inside.append(t)
    return np.array([max(inside) - min(inside)])


def fixed_effects(rng):
    """All dummies in the regression, without tuning."""
    periods = 50
    unit, period = np.arange(N) // periods, np.arange(N) % periods
    effect = rng.normal(size=N // periods)[unit] + rng.normal(size=periods)[period]
    e1, e2, e, noise = rng.normal(size=(4, N))
    x = np.column_stack([e1 + 0.5 * effect, e2])
    y = x @ [1, -0.5] + effect + e
    guess = 0.8 * y + 0.3 * e1 + 0.5 * noise
    w = (rng.random(N) < LABELS / N) / (LABELS / N)
    dummies = np.hstack([np.eye(N // periods)[unit], np.eye(periods)[period][:, 1:]])
    full = np.hstack([x, dummies])
    target = guess + w * (y - guess)
    inverse = np.linalg.inv(full.T @ full)
    residual = target - full @ (inverse @ (full.T @ target))
    scores = full * residual[:, None]
    covariance = inverse @ (scores.T @ scores) @ inverse
    return 2 * Z * np.sqrt(np.diag(covariance)[:2])


TUNED_ROWS = 2900, 11500


def tuned(rng, n):
    """Summed squared errors of labelled rows alone and of no tuning, three machines."""
    x1, x2 = rng.normal(size=n), np.where(rng.random(n) < 0.5, -0.5, 0.5)
    x = np.column_stack([np.ones(n), x1, x2])
    truth = np.array([1, 0.5, -1])
    e, noise = rng.normal(size=(2, n))
    y = x @ truth + e
    u = rng.random(n)
    found = []
    for trust, own in ((0.0, 1.4), (0.7, 1.0), (1.0, 0.5)):
        guess = 1 + trust * (y - 1) + own * noise
        prob = 0.05 + 0.25 * expit(1.5 * (guess - 1))
        w = (u < prob) / prob
        gold = np.linalg.solve((x * w[:, None]).T @ x, (x * w[:, None]).T @ y)
        plain = np.linalg.lstsq(x, guess + w * (y - guess), rcond=None)[0]
        found.append([((b - truth) ** 2).sum() for b in (gold, plain)])
    return np.array(found)


GENERIC = {
    "mean": mean,
    "ols": ols,
    "ols-covariate": ols_covariate,
    "logistic": logistic,
    "poisson": poisson,
    "gamma": gamma,
    "multinomial": multinomial,
    "shares": shares,
    "ordered-logit": ordered_logit,
    "iv": iv,
    "user-moment": user_moment,
}
OTHER = {"ols-clusters": clusters, "quantile": quantile, "fixed-effects": fixed_effects}


def study(name: str, repeats: int = REPEATS) -> np.ndarray:
    """Mean widths of one world."""
    rng = np.random.default_rng(0)
    if name in OTHER:
        repeats = min(repeats, 50) if name == "fixed-effects" else repeats
        return np.mean([OTHER[name](rng) for _ in range(repeats)], axis=0)
    found = []
    for _ in range(repeats):
        moment, gold, guess, start, (labeled, prob, srs) = GENERIC[name](rng)
        found.append(widths(moment, gold, guess, labeled, prob, start, srs))
    return np.mean(found, axis=0)


def main() -> None:
    for name in sys.argv[1:] or [*GENERIC, *OTHER]:
        listed = ", ".join(f"{width:.4f}" for width in study(name))
        trailing = "," if "," not in listed else ""
        print(f'    "debiased/{name}": ({listed}{trailing}),', flush=True)
    for rows in TUNED_ROWS:
        rng = np.random.default_rng(0)
        errors = np.mean([tuned(rng, rows) for _ in range(4000)], axis=0)
        least = ", ".join(f"{error:.3g}" for error in errors.min(axis=1))
        print(f"    {rows}: ({least}),  # gold, plain: {errors.round(5).tolist()}")


if __name__ == "__main__":
    main()
