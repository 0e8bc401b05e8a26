"""Exact solvers of penalised and constrained problems, and a sampler."""

from jaxcur.solvers._constraints import Constraints, Face, Multipliers, on_face
from jaxcur.solvers._group_quadratic import (
    Groups,
    group_quadratic,
    group_stationarity,
)
from jaxcur.solvers._interior_point import InteriorPointResult, interior_point
from jaxcur.solvers._l1_quadratic import (
    L1QuadraticResult,
    l1_quadratic,
    stationarity,
)
from jaxcur.solvers._nuts import NutsResult, nuts, split_r_hat
from jaxcur.solvers._proximal_newton import (
    ProximalNewtonResult,
    SmoothModel,
    proximal_newton,
)

__all__ = [
    "Constraints",
    "Face",
    "Groups",
    "InteriorPointResult",
    "L1QuadraticResult",
    "Multipliers",
    "NutsResult",
    "ProximalNewtonResult",
    "SmoothModel",
    "group_quadratic",
    "group_stationarity",
    "interior_point",
    "l1_quadratic",
    "nuts",
    "on_face",
    "proximal_newton",
    "split_r_hat",
    "stationarity",
]
