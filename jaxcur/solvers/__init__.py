"""Exact solvers of penalised problems, and a sampler."""

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
    "L1QuadraticResult",
    "NutsResult",
    "ProximalNewtonResult",
    "SmoothModel",
    "l1_quadratic",
    "nuts",
    "proximal_newton",
    "split_r_hat",
    "stationarity",
]
