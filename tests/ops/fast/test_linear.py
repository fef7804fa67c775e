"""The linear layer in blocks of rows against products in float64."""

import numpy as np
import pytest

from minseg.ops.fast import linear
from minseg.ops.linear import op
from minseg.parallel import BLOCK
from tests.witness import assert_agree, on_threads

SHAPES = {  # M, K, O
    "rows divisible by 32": (9600, 16, 32),
    "odd rows": (8191, 5, 33),
    "several blocks of unequal size": (3 * BLOCK // 64 + 8, 7, 64),
    "long rows": (700, 3, 600),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_equals_the_product_and_the_sum(shape, dtype):
    M, K, O = shape
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((M, K), (O, K), O))
    assert linear.fits(x, w)
    expected = x.astype(np.float64) @ w.T.astype(np.float64) + b
    with on_threads(1):
        alone = op.forward(x, w, b)
    assert_agree(alone, expected, dtype, length=K + 1)
    np.testing.assert_array_equal(op.forward(np.asfortranarray(x), w, b), alone)


def test_fits_many_rows():
    def served(M, O):
        return linear.fits(np.empty((M, 1)), np.empty((O, 1)))

    assert not served(BLOCK // 16, 16)
    assert served(BLOCK // 16 + 1, 16)
    assert not served(300, BLOCK)  # a few long ones: those are cut along the columns
    assert not served(0, 0)
