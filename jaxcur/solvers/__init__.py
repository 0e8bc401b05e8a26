"""Exact solvers for smooth objectives with an absolute-value penalty."""

from jaxcur.solvers._l1_quadratic import (
    L1QuadraticResult,
    l1_quadratic,
    stationarity,
)
from jaxcur.solvers._proximal_newton import (
    ProximalNewtonResult,
    SmoothModel,
    proximal_newton,
)

__all__ = [
    "L1QuadraticResult",
    "ProximalNewtonResult",
    "SmoothModel",
    "l1_quadratic",
    "proximal_newton",
    "stationarity",
]
