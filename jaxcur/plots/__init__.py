"""Ceiling: pictures of results (needs the extra `plots`).

Every function draws on axes that it is given and returns them. Series differ in colour,
marker and line style, so a picture survives a printer and colour-blind eyes.
"""

from jaxcur.plots._curves import Curve, histogram_pair, prediction_cut, rate_curves
from jaxcur.plots._ordinal import (
    boundary_coefficients,
    coefficient_path,
    rare_calibration,
)
from jaxcur.plots._reliability import reliability_diagram
from jaxcur.plots._style import PALETTE, figure, save_png, style
from jaxcur.plots._transport import transport_plan
from jaxcur.plots._transport_classes import class_transport
from jaxcur.plots._transport_potentials import potentials
from jaxcur.plots._transport_solves import certified_interval, sinkhorn_convergence

__all__ = [
    "PALETTE",
    "Curve",
    "boundary_coefficients",
    "certified_interval",
    "class_transport",
    "coefficient_path",
    "figure",
    "histogram_pair",
    "potentials",
    "prediction_cut",
    "rare_calibration",
    "rate_curves",
    "reliability_diagram",
    "save_png",
    "sinkhorn_convergence",
    "style",
    "transport_plan",
]
