import numpy as np
import pytest

import minseg
from minseg import Tensor
from minseg.kernels import check
from minseg.ops.fast import matmul as fast
from minseg.ops.matmul import op
from tests.witness import assert_agree, assert_threads_change_no_bit

SHAPES = [
    ((3, 4), (4, 5)),
    ((70, 33), (33, 65)),
    ((2, 3, 4), (4, 2)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (2, 4, 3)),
    ((2, 3, 4), (4,)),
    ((4,), (4,)),
    ((0, 3, 4), (4, 2)),
    ((3, 0), (0, 2)),
]


def test_definition():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 7)), rng.standard_normal((7, 3))
    assert_agree(op.forward(a, b), op.definition(a, b), np.float64, length=7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES)
def test_kernel_equals_numpy(a_shape, b_shape, dtype):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(a_shape).astype(dtype), rng.standard_normal(b_shape).astype(dtype)

    def results():
        left, right = Tensor(a, requires_grad=True), Tensor(b, requires_grad=True)
        c = left @ right
        c.backward(np.cos(np.arange(c.numel())).reshape(c.shape).astype(dtype))
        return c.data, left.grad.data, right.grad.data

    expected = results()
    with minseg.use_kernels("emulator"):
        got = results()
    for one, other in zip(got, expected, strict=True):
        assert_agree(one, other, dtype, length=max(a.size, b.size, 1))


@pytest.mark.parametrize(
    ("n", "m", "l"), [(70_000, 1, 1), (1, 65_536 * 64, 1), (1, 1, 65_536 * 64)]
)
def test_large_batches_and_long_matrices_fit_a_gpus_grid(n, m, l):
    one = np.zeros(1, np.float32)  # checked, not run: only the sizes count
    assert check("matmul", one, one, one, n, m, 1, l).grid[0] >= 65_536


# Each of the three axes is cut once; a batch of one is a single matrix; and large batches.
LARGE = [
    ((2001, 70), (70, 65)),
    ((65, 70), (70, 2001)),
    ((65, 2001), (2001, 70)),
    ((1, 2001, 70), (1, 70, 65)),
    ((3, 301, 300), (300, 35)),
    ((2, 1, 151, 300), (3, 300, 35)),
]


@pytest.mark.parametrize(("a_shape", "b_shape"), LARGE)
def test_large_products_in_parts(a_shape, b_shape):
    """The parts add up to the product, with the same bits for any number of threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape, np.float32) for shape in (a_shape, b_shape))
    assert fast.fits(a, b)
    expected = (a.astype(np.float64) @ b).astype(np.float32)
    (product,) = assert_threads_change_no_bit(lambda: [op.forward(a, b)])
    assert_agree(product, expected, np.float32, length=a.shape[-1])


def test_a_large_matrix_times_a_vector():
    a, b = np.ones((300, 300)), np.ones(300)
    for left, right in ((a, b), (b, a)):
        np.testing.assert_array_equal(op.forward(left, right), np.full(300, 300.0))
