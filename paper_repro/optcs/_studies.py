"""The studies: what one replication draws, how many there are, which rules judge it.

A replication depends on its study, setting and number alone, so a longer run adds to a
shorter one. `simulate` returns arrays only; rules are applied to a batch of them in one
JAX program (`_procedures.evaluate`).
"""

import dataclasses
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from paper_repro.optcs import _bundled, _full, _models, _worlds

# Training, calibration, candidates.
SIZES = (200, 200, 100)
SHORTER = {("msel_jin", "3"): 10, ("msel_jin", "4"): 10}
LEVELS = (0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


@dataclasses.dataclass(frozen=True)
class Study:
    """One data-generating process with its models and rules.

    Attributes:
        group: studies of a group share a figure.
        setting: its number or name within the group.
        simulate: (setting, generator) -> arrays of one replication.
        rules: key of `_procedures.RULES`.
        replications: of the committed run.
        quick: of `--quick`.
        config: sizes and models, stored with the result.
        levels: grid of target rates.
    """

    group: str
    setting: str
    simulate: Callable[[Any, np.random.Generator], dict[str, np.ndarray]]
    rules: str
    replications: int
    quick: int
    config: dict[str, Any]
    levels: tuple[float, ...] = LEVELS

    @property
    def name(self) -> str:
        """Group and setting, for the command line."""
        return f"{self.group}/{self.setting}"

    def replication(self, index: int) -> dict[str, np.ndarray]:
        """Arrays of one replication, float32 or bool."""
        seed = [zlib.crc32(self.name.encode()), index]
        arrays = self.simulate(self.setting, np.random.default_rng(seed))
        return {
            name: np.asarray(value, np.float32) if value.dtype.kind == "f" else value
            for name, value in arrays.items()
        }


def _among_models(
    draw: Callable[[int], tuple[np.ndarray, np.ndarray]],
    family: _models.Family,
    sizes: tuple[int, int, int],
    rng: np.random.Generator,
    *,
    split_training: bool,
) -> dict[str, np.ndarray]:
    """Predictions of models trained on all and, if asked, on half of the rows."""
    n_train, n, m = sizes
    x, y = draw(n_train)
    x_calibration, y_calibration = draw(n)
    x_test, y_test = draw(m)
    whole = family(x, y, rng)
    out = {
        "calibration": whole(x_calibration),
        "test": whole(x_test),
        "interesting": y_calibration > 0,
        "good": y_test > 0,
    }
    if split_training:
        half = n_train // 2
        part = family(x[:half], y[:half], rng)
        out |= {
            "half_select": part(x[half:]),
            "half_interesting": y[half:] > 0,
            "half_calibration": part(x_calibration),
            "half_test": part(x_test),
        }
    return out


def msel_jin(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        return _worlds.jin(int(setting), size, 0.5, rng, full=False)

    family = _models.jin_24(lambda: draw(100))
    return _among_models(draw, family, SIZES, rng, split_training=False)


def _msel_liang(
    setting: str, rng: np.random.Generator, penalty: float
) -> dict[str, np.ndarray]:
    def draw(size: int) -> tuple[np.ndarray, np.ndarray]:
        return _worlds.liang(int(setting), size, 1.0, rng)

    family = _models.liang_11(lambda: draw(100), penalty)
    return _among_models(draw, family, SIZES, rng, split_training=True)


def msel_liang(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return _msel_liang(setting, rng, 1.0)


def msel_liang_free(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return _msel_liang(setting, rng, 0.0)


def _simulations() -> list[tuple[str, Any, str, int, int, dict[str, Any]]]:
    """(group, simulate, rules, replications, quick, config), quick ones first."""
    full = {"n": 200, "m": 100, "sigma": 0.5}
    msel = {"n_train": 200, "n_calibration": 200, "m": 100}
    folds = {"predictions": "five-fold cross-fitting on the pool"}
    kernels = {
        "models": "6 kernel ridges: gamma in (.02, .1, .5) x penalty in (.3, 3)",
        "predictions": "exact leave-one-out on the pool",
    }
    refits = {
        "models": "support vector regression (rbf, gamma .1)",
        "predictions": "leave-one-out refits on the pool",
    }
    nine = {"models": "9: forest quartiles; SVR, lasso, ridge by two scales"}
    seven = {"sigma": 1.0, "models": "7: linear quartiles; least squares, scaled too"}
    return [
        ("full_kernel", _full.kernel_ridge, "without_split", 100, 10, full | kernels),
        ("full_svr", _full.support_vectors, "without_split", 25, 4, full | refits),
        (
            "msel_liang",
            msel_liang,
            "among_models",
            60,
            4,
            msel
            | {"sigma": 1.0, "models": "11: penalised linear quantiles; least squares"},
        ),
        (
            "msel_liang_free",
            msel_liang_free,
            "among_models",
            60,
            4,
            msel | {"sigma": 1.0, "models": "11: linear quantiles; least squares"},
        ),
        (
            "full_msel_liang",
            _full.full_msel_liang,
            "without_split",
            60,
            3,
            full | seven | folds,
        ),
        (
            "full_msel_jin",
            _full.full_msel_jin,
            "without_split",
            15,
            2,
            full | nine | folds,
        ),
        (
            "full_forest",
            _full.forest,
            "without_split",
            12,
            2,
            full | {"models": "random forest (depth 5)"} | folds,
        ),
        (
            "full_boosting",
            _full.boosting,
            "without_split",
            12,
            2,
            full | {"models": "gradient boosting (100, .1, depth 5)"} | folds,
        ),
        (
            "msel_jin",
            msel_jin,
            "among_models",
            20,
            2,
            msel | {"sigma": 0.5, "models": "24: forest and boosted quantiles; scaled"},
        ),
    ]


def studies() -> list[Study]:
    """All studies: those on bundled data, then the simulations."""
    out = [
        Study("bundled", name, study.simulate, study.rules, 400, 40, study.config)
        for name, study in _bundled.STUDIES.items()
    ]
    for group, simulate, rules, replications, quick, config in _simulations():
        for setting in "1234":
            # The slowest study: settings 3 and 4 have no independent figures.
            count = SHORTER.get((group, setting), replications)
            out.append(Study(group, setting, simulate, rules, count, quick, config))
    return out
