"""Every torch function and module a right-hand side may use: Graphs and lowerings against torch."""

import pytest
import table_functions
import table_models
import table_shapes
from against_torch import check
from tables import params

CASES = [
    *table_functions.ELEMENTWISE,
    *table_functions.REDUCTIONS,
    *table_functions.PRODUCTS,
    *table_shapes.VIEWS,
    *table_shapes.INDEXING,
    *table_shapes.STENCILS,
    *table_shapes.IN_PLACE,
    *table_models.ACTIVATIONS,
    *table_models.LAYERS,
    *table_models.WRITTEN,
]


@pytest.mark.parametrize("case", params(CASES))
def test_against_torch(case):
    f, u, p = case.build()
    check(f, u, p, tol=case.tol, fixed=case.fixed)
