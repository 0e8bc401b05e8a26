"""Shared statistics: ranks, multiple testing, quantiles, intervals, isotonic fits.

Everything that sorts in this library sorts here.
"""

from jaxcur.stats._brownian import (
    brownian_maximum_cdf,
    brownian_maximum_tail,
    brownian_range_cdf,
    brownian_range_tail,
)
from jaxcur.stats._grid import grid_cutoff, grid_cutoff_exact, grid_thresholds
from jaxcur.stats._group_sort import group_sort
from jaxcur.stats._intervals import clopper_pearson
from jaxcur.stats._isotonic import isotonic_regression
from jaxcur.stats._multiple_testing import (
    adjust_p_values,
    benjamini_hochberg,
    e_bh,
    quantile_bh,
    step_up,
    storey_bh,
    tie_guard,
)
from jaxcur.stats._permutation import PermutationTestResult, permutation_test
from jaxcur.stats._quantiles import weighted_quantile
from jaxcur.stats._sort import (
    argsort,
    count_at_most,
    count_below,
    order_keys,
    ranks,
    sort,
    sort_with_order,
)
from jaxcur.stats._student_t import student_t_quantile, student_t_tail

__all__ = [
    "PermutationTestResult",
    "adjust_p_values",
    "argsort",
    "benjamini_hochberg",
    "brownian_maximum_cdf",
    "brownian_maximum_tail",
    "brownian_range_cdf",
    "brownian_range_tail",
    "clopper_pearson",
    "count_at_most",
    "count_below",
    "e_bh",
    "grid_cutoff",
    "grid_cutoff_exact",
    "grid_thresholds",
    "group_sort",
    "isotonic_regression",
    "order_keys",
    "permutation_test",
    "quantile_bh",
    "ranks",
    "sort",
    "sort_with_order",
    "step_up",
    "storey_bh",
    "student_t_quantile",
    "student_t_tail",
    "tie_guard",
    "weighted_quantile",
]
