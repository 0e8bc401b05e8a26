"""Statistical inference and evaluation in JAX for imperfect labels.

Each subpackage answers one kind of question; importing `jaxcur` loads none of them.

* `calibration`: measure how far probabilities are from frequencies, test it, repair it,
  train for it.
* `conformal`: select candidates with the false discovery rate under control;
  prediction sets with guaranteed coverage; conformal risk control.
* `debiased`: regressions and other estimates from machine labels, made valid by a few
  gold labels; `frames` fits them to data frames by formula.
* `ordinal`: regressions for ordered classes, the rare one last, shrunk towards
  proportional odds and certified.
* `ot`: optimal transport between weighted samples: streamed, differentiable, certified.
* `learners`: fitted predictors behind one protocol, with closed-form leave-one-out.
* `solvers`: exact minimisers of smooth losses with an absolute-value penalty.
* `stats`: ranks, multiple testing, weighted quantiles, exact intervals for rates.
* `verify`: check by simulation, at an honest error rate, that a promise holds.
* `guarantees`: the promises this library makes, each with the mutants that break it.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_SUBPACKAGES = (
    "calibration",
    "conformal",
    "data",
    "debiased",
    "frames",
    "guarantees",
    "learners",
    "ordinal",
    "ot",
    "plots",
    "sklearn",
    "solvers",
    "stats",
    "verify",
)

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return importlib.import_module(f"jaxcur.{name}")
    raise AttributeError(f"module 'jaxcur' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
