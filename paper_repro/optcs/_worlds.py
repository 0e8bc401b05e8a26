"""Data-generating processes of the released simulation scripts.

A unit is interesting when its label is positive. `X1..X20` are columns 0..19.
"""

import numpy as np

JIN_DIMENSION = 20
LIANG_DIMENSION = 300


def _steps(x: np.ndarray) -> np.ndarray:
    """Two ramps that switch on for large |X4|, by the sign of X1 X2."""
    same = x[:, 0] * x[:, 1] > 0
    x4 = x[:, 3]
    up = same * (x4 > 0.5) * (0.25 + x4)
    down = ~same * (x4 < -0.5) * (x4 - 0.25)
    return up + down


def _smooth(x: np.ndarray) -> np.ndarray:
    return 2 * (x[:, 0] * x[:, 1] + x[:, 2] ** 2 + np.exp(x[:, 3] - 1) - 1)


def _shifted(x: np.ndarray) -> np.ndarray:
    same = x[:, 0] * x[:, 1] > 0
    return 0.5 * same + x[:, 3] + ~same


def jin(
    setting: int, size: int, sigma: float, rng: np.random.Generator, *, full: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Nonlinear mean, in settings 3 and 4 with a noise that shrinks where it is large.

    Args:
        setting: 1 to 4.
        size: number of rows.
        sigma: noise scale.
        rng: generator.
        full: the variant of the scripts without a sample split.

    Returns:
        Features (size, 20) and labels (size,).
    """
    x = rng.uniform(-1, 1, (size, JIN_DIMENSION))
    noise = sigma * rng.standard_normal(size)
    if setting in (2, 4):
        mean = _smooth(x)
        wide = (5.5 - np.abs(mean)) / (3 if full else 2)
        return x, mean + noise * (1.5 if setting == 2 else wide)
    if setting not in (1, 3):
        raise ValueError(f"`setting` must be 1, 2, 3 or 4, got {setting}")
    mean = _shifted(x) if full else _steps(x)
    narrow = 2.0 if full else 1.0
    wide = (5.5 - np.abs(mean)) / 2
    return x, mean + noise * (narrow if setting == 1 else wide)


def liang(
    setting: int, size: int, sigma: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Linear model in 300 columns: sparse, heavy-tailed noise, dense, heavy-tailed X.

    Args:
        setting: 1 to 4.
        size: number of rows.
        sigma: noise scale.
        rng: generator.

    Returns:
        Features (size, 300) and labels (size,).
    """
    d = LIANG_DIMENSION
    x = rng.standard_normal((size, d))
    beta = np.zeros(d)
    beta[::20] = 1.0
    noise = sigma * rng.standard_normal(size)
    if setting == 2:
        noise = sigma * rng.standard_t(3, size)
    elif setting == 3:
        beta[:] = 1 / d
        noise = noise / d
    elif setting == 4:
        # Multivariate t with 3 degrees of freedom: one scale for each row.
        x = x / np.sqrt(rng.chisquare(3, size) / 3)[:, None]
    elif setting != 1:
        raise ValueError(f"`setting` must be 1, 2, 3 or 4, got {setting}")
    return x, x @ beta + noise
