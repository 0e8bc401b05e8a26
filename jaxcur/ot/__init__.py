"""Optimal transport: streamed, differentiable, with certificates."""

from jaxcur.ot._assignment import assignment
from jaxcur.ot._bounds import certified_bounds
from jaxcur.ot._costs import (
    Cosine,
    Euclidean,
    LabelAugmented,
    SquaredEuclidean,
    attach_labels,
    cost_matrix,
)
from jaxcur.ot._divergence import sinkhorn_divergence
from jaxcur.ot._gaussian import bures, frechet
from jaxcur.ot._one_d import wasserstein_1d
from jaxcur.ot._otdd import otdd
from jaxcur.ot._plans import apply_plan, barycentric_map, plan, transport_cost
from jaxcur.ot._potentials import ImplicitOptions
from jaxcur.ot._sinkhorn import SinkhornResult, sinkhorn, sinkhorn_matrix
from jaxcur.ot._sliced import max_sliced_wasserstein, sliced_wasserstein
from jaxcur.ot._two_sample import two_sample_test

__all__ = [
    "Cosine",
    "Euclidean",
    "ImplicitOptions",
    "LabelAugmented",
    "SinkhornResult",
    "SquaredEuclidean",
    "apply_plan",
    "assignment",
    "attach_labels",
    "barycentric_map",
    "bures",
    "certified_bounds",
    "cost_matrix",
    "frechet",
    "max_sliced_wasserstein",
    "otdd",
    "plan",
    "sinkhorn",
    "sinkhorn_divergence",
    "sinkhorn_matrix",
    "sliced_wasserstein",
    "transport_cost",
    "two_sample_test",
    "wasserstein_1d",
]
