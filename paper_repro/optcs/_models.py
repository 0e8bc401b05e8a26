"""Candidate models of the released scripts, on scikit-learn.

Everything here is a family: a function of training rows that returns a predictor
`features -> (K, m)`, one row per candidate model.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    QuantileRegressor,
    Ridge,
)
from sklearn.svm import SVR

from paper_repro.optcs._forest import QuantileForest

Predictor = Callable[[np.ndarray], np.ndarray]
Family = Callable[[np.ndarray, np.ndarray, np.random.Generator], Predictor]

DECILES = [round(0.1 * k, 1) for k in range(1, 10)]
QUARTILES = [0.25, 0.5, 0.75]
# A fitted scale can come out zero or negative; the ratio needs a positive one.
SMALLEST_SCALE = 0.01


def boosting(**options: Any) -> GradientBoostingRegressor:
    return GradientBoostingRegressor(
        n_estimators=100, learning_rate=0.1, max_depth=5, **options
    )


def forest(seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(100, max_depth=5, random_state=seed)


def svr() -> SVR:
    return SVR(kernel="rbf", gamma=0.1)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def _ratio(mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return mean / np.maximum(scale, SMALLEST_SCALE)


def jin_24(draw_fresh: Callable[[], tuple[np.ndarray, np.ndarray]]) -> Family:
    """Quantile forest and boosted quantiles at nine levels, forest mean by six scales.

    Args:
        draw_fresh: the 100 rows on which scales are fitted to absolute residuals.
    """

    def fit(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Predictor:
        grown = QuantileForest(seed=_seed(rng)).fit(x, y)
        boosted = [
            boosting(loss="quantile", alpha=q, random_state=_seed(rng)).fit(x, y)
            for q in DECILES
        ]
        fresh_x, fresh_y = draw_fresh()
        spread = np.abs(fresh_y - grown.predict(fresh_x))
        scales = [
            model.fit(fresh_x, spread)
            for model in (
                boosting(random_state=_seed(rng)),
                forest(_seed(rng)),
                svr(),
                Lasso(alpha=1.0),
                Ridge(alpha=1.0),
            )
        ]

        def predict(new: np.ndarray) -> np.ndarray:
            mean = grown.predict(new)
            return np.vstack(
                [
                    grown.quantiles(new, DECILES),
                    [model.predict(new) for model in boosted],
                    [mean],
                    [_ratio(mean, model.predict(new)) for model in scales],
                ]
            )

        return predict

    return fit


def liang_11(
    draw_fresh: Callable[[], tuple[np.ndarray, np.ndarray]], penalty: float
) -> Family:
    """Linear quantiles on 30 drawn columns each; least squares on 60, plain and scaled.

    Columns are drawn with replacement, once for a replication.

    Args:
        draw_fresh: the 100 rows on which the scale is fitted to absolute residuals.
        penalty: l1 penalty of the quantile regressions. At scikit-learn's default, 1,
            all their slopes are zero here: nine of the eleven models are constants.
    """

    def fit(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Predictor:
        d = x.shape[1]
        columns = [rng.integers(0, d, 30) for _ in DECILES]
        lines = [
            QuantileRegressor(quantile=q, alpha=penalty).fit(x[:, own], y)
            for q, own in zip(DECILES, columns)
        ]
        wide = rng.integers(0, d, 60)
        mean = LinearRegression().fit(x[:, wide], y)
        fresh_x, fresh_y = draw_fresh()
        spread = np.abs(fresh_y - mean.predict(fresh_x[:, wide]))
        scale = LinearRegression().fit(fresh_x[:, wide], spread)

        def predict(new: np.ndarray) -> np.ndarray:
            rows = [line.predict(new[:, own]) for line, own in zip(lines, columns)]
            center = mean.predict(new[:, wide])
            return np.vstack(
                [rows, [center], [_ratio(center, scale.predict(new[:, wide]))]]
            )

        return predict

    return fit


def boosted(x: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Predictor:
    """Gradient boosting on 0/1 labels."""
    model = boosting(random_state=_seed(rng)).fit(x, b)
    return lambda new: model.predict(new)[None]


def grown(x: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Predictor:
    """A random forest on 0/1 labels."""
    model = forest(_seed(rng)).fit(x, b)
    return lambda new: model.predict(new)[None]


def support_vectors(
    x: np.ndarray, b: np.ndarray, rng: np.random.Generator
) -> Predictor:
    """Support vector regression on 0/1 labels."""
    model = svr().fit(x, b)
    return lambda new: model.predict(new)[None]


def _thirty_percent(size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    order = rng.permutation(size)
    cut = int(0.7 * size)
    return order[:cut], order[cut:]


def full_jin_9(x: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Predictor:
    """Forest quartiles; SVR, lasso, ridge scaled by least squares and by SVR.

    The mean of a scaled model is fitted on a random 70 % of the rows, its scale on the
    absolute residuals of the rest.
    """
    grown = QuantileForest(seed=_seed(rng)).fit(x, b)
    pairs = []
    for scaler in (LinearRegression, svr):
        for model in (svr(), Lasso(alpha=1.0), Ridge(alpha=1.0)):
            first, rest = _thirty_percent(len(b), rng)
            model.fit(x[first], b[first])
            spread = np.abs(b[rest] - model.predict(x[rest]))
            pairs.append((model, scaler().fit(x[rest], spread)))

    def predict(new: np.ndarray) -> np.ndarray:
        scaled = [_ratio(a.predict(new), s.predict(new)) for a, s in pairs]
        return np.vstack([grown.quantiles(new, QUARTILES), scaled])

    return predict


def full_liang_7(columns: list[np.ndarray]) -> Family:
    """Linear quartiles on 30 columns; least squares on 30 and 60, plain and scaled.

    Args:
        columns: five draws of columns, of sizes 30, 30, 30, 30 and 60, made once for a
            replication so that every fold uses the same.
    """

    def fit(x: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Predictor:
        lines = [
            QuantileRegressor(quantile=q, alpha=0.0).fit(x[:, own], b)
            for q, own in zip(QUARTILES, columns[:3])
        ]
        plain, scaled = [], []
        for own in columns[3:]:
            z = x[:, own]
            plain.append(LinearRegression().fit(z, b))
            first, rest = _thirty_percent(len(b), rng)
            mean = LinearRegression().fit(z[first], b[first])
            spread = np.abs(b[rest] - mean.predict(z[rest]))
            scaled.append((mean, LinearRegression().fit(z[rest], spread)))

        def predict(new: np.ndarray) -> np.ndarray:
            rows = [line.predict(new[:, own]) for line, own in zip(lines, columns)]
            for model, (mean, scale), own in zip(plain, scaled, columns[3:]):
                z = new[:, own]
                rows += [model.predict(z), _ratio(mean.predict(z), scale.predict(z))]
            return np.vstack(rows)

        return predict

    return fit


def cross_fit(
    family: Family,
    x: np.ndarray,
    target: np.ndarray,
    num_folds: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Predictions (K, N) of every row by the fits that left out its fold.

    The rows are put in random order first and folds are blocks of that order. Whatever
    a family then does with row positions (a bootstrap, a random 70/30 split) is a fair
    lottery over the rows: labelled rows and candidates stay exchangeable.
    """
    size = len(target)
    order = rng.permutation(size)
    out = None
    for block in np.array_split(np.arange(size), num_folds):
        inside, outside = order[block], np.delete(order, block)
        values = family(x[outside], target[outside], rng)(x[inside])
        if out is None:
            out = np.empty((len(values), size))
        out[:, inside] = values
    assert out is not None
    return out
