"""Fitted predictors behind one protocol, with leave-one-out predictions."""

from jaxcur.learners._host import HostLearner
from jaxcur.learners._isotonic import Binned, BinnedParams, Isotonic, IsotonicParams
from jaxcur.learners._kernel_ridge import KernelParams, KernelRidge
from jaxcur.learners._kernels import RBF, Laplacian, Linear, Polynomial
from jaxcur.learners._leave_one_out import leave_one_out, mean_leave_one_out_predict
from jaxcur.learners._logistic import Logistic, LogisticParams
from jaxcur.learners._neighbours import KNN, MemoryParams, NadarayaWatson
from jaxcur.learners._network import MLP, Network, NetworkParams
from jaxcur.learners._paths import (
    KernelRidgePathResult,
    RidgePathResult,
    kernel_ridge_path,
    ridge_path,
)
from jaxcur.learners._protocol import Learner, LinearParams
from jaxcur.learners._ridge import Ridge
from jaxcur.learners._sorted_rows import SortedRows
from jaxcur.learners._stacking import Stacking, StackingParams
from jaxcur.learners._symmetry import SymmetryReport, check_symmetric

__all__ = [
    "KNN",
    "MLP",
    "RBF",
    "Binned",
    "BinnedParams",
    "HostLearner",
    "Isotonic",
    "IsotonicParams",
    "KernelParams",
    "KernelRidge",
    "KernelRidgePathResult",
    "Laplacian",
    "Learner",
    "Linear",
    "LinearParams",
    "Logistic",
    "LogisticParams",
    "MemoryParams",
    "NadarayaWatson",
    "Network",
    "NetworkParams",
    "Polynomial",
    "Ridge",
    "RidgePathResult",
    "SortedRows",
    "Stacking",
    "StackingParams",
    "SymmetryReport",
    "check_symmetric",
    "kernel_ridge_path",
    "leave_one_out",
    "mean_leave_one_out_predict",
    "ridge_path",
]
