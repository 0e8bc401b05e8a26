"""Cross-fitted predictions against those of an R package, given its folds."""

import numpy as np
import pytest

from jaxcur import learners
from jaxcur.debiased._cross_fit import cross_fit
from tests.helpers import assert_close, load_reference


@pytest.mark.parametrize("name", ["PanChen", "data_unequal"])
def test_least_squares_gives_the_published_predictions(x64, name):
    table = load_reference(f"dsl/cross_fit_{name}.csv")
    labeled = table["labeled"] == 1
    # An empty entry is read as -1 in a column of integers: the table must say so.
    label = np.where(labeled, table["label"], np.nan)
    found = cross_fit(
        learners.Ridge(0.0),
        table["predicted"][:, None],
        label,
        labeled=labeled,
        folds=table["fold"],
    )
    assert found.shape == (1, len(table))
    assert_close(found[0], table["cross_fitted"], rtol=1e-9)
