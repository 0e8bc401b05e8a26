"""Optima under constraints at the rows, against where the authors' code stopped.

That code rejects steps at which the boundaries would cross at a row, and stops on the
edge: its points are feasible, not optimal, and bound the optimum from above.
"""

import numpy as np
import pytest

from jaxcur import ordinal
from tests.helpers import load_reference

STOPPED = load_reference("presto/presto_boundary_small.json")

pytestmark = pytest.mark.usefixtures("x64")
FAST = ("s1_l1", "s1_pf", "s1_reverse")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(c, marks=() if c in FAST else pytest.mark.slow)
        for c in STOPPED
        if c != "s1_cauchit"
    ],
)
def test_the_optimum_is_below_the_point_where_the_authors_code_stopped(case):
    stored = STOPPED[case]
    settings = stored["settings"]
    table = load_reference(f"presto/{case.split('_')[0]}.csv")
    columns = [c for c in table.dtype.names if c.startswith("x")]
    X, y = np.column_stack([table[c] for c in columns]), table["y"] - 1
    k = int(y.max()) + 1
    if settings["reverse"]:
        y = k - 1 - y
    options = {
        "num_classes": k,
        "regularizations": np.asarray(stored["lambda"]),
        "link": settings["link"],
        "standardize": settings["standardize"],
        "penalty": ordinal.Presto(
            first=settings["first_block_multiplier"],
            l1_ratio=settings["l1_ratio"],
            weights=settings["penalty_factors"],
        ),
    }
    fits = ordinal.path(X, y, crossing="train", **options)
    assert np.all(np.asarray(fits.status) == 0)
    assert np.all(np.asarray(fits.num_crossing) == 0)
    assert np.all(np.asarray(fits.gap_bound) < 1e-7)
    excess = np.asarray(stored["objective"]) - np.asarray(fits.objective)
    assert excess.min() > -1e-10
    assert excess.max() > 1e-5
