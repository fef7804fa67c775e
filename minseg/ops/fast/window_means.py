"""The means of a few windows of a plane, and their gradient, as one matrix product.

A plane of H x W places is a row of a matrix, and a window is a column of zeros and ones. The sums
are planes @ windows; the gradient is shares @ windows^T. This multiplies many zeros and is quick
all the same: NumPy would run a short loop for each window and row, BLAS computes all at once.

As 0 * inf is NaN, a value that is not finite would spoil every window. Where there is one, the
functions return None, and the caller takes the plain way.
"""

import numpy as np

from minseg.array import Array
from minseg.parallel import parallel_for

MOST_WINDOWS = 64  # with more multiplications for each place, the loops are quicker
MOST_ELEMENTS = 2**18  # of the matrix
LEAST_PLANES, BLOCKS = 64, 8  # how a product is cut, whatever the number of threads

Windows = tuple[slice, ...]


def serves(rows: Windows, cols: Windows, size: tuple[int, ...]) -> bool:
    windows = len(rows) * len(cols)
    return windows <= MOST_WINDOWS and windows * size[0] * size[1] <= MOST_ELEMENTS


def forward(planes: Array, rows: Windows, cols: Windows) -> Array | None:
    """The means (P, H', W') of planes (P, H, W) over every window of rows and of columns."""
    matrix, count = _matrix(rows, cols, planes.shape[1:], planes.dtype)
    with np.errstate(invalid="ignore"):  # 0 * inf: see above
        y = _product(planes.reshape(len(planes), len(matrix)), matrix)
    y /= count
    return y.reshape(len(planes), len(rows), len(cols)) if np.isfinite(y).all() else None


def grad_input(grad: Array, rows: Windows, cols: Windows, size: tuple[int, ...]) -> Array | None:
    """The gradient of the planes: each place of a window gets an equal share of its mean's."""
    if not np.isfinite(grad).all():
        return None
    matrix, count = _matrix(rows, cols, size, grad.dtype)
    return _product(grad.reshape(len(grad), len(count)) / count, matrix.T).reshape(len(grad), *size)


def _matrix(
    rows: Windows, cols: Windows, size: tuple[int, ...], dtype: np.dtype
) -> tuple[Array, Array]:
    """Which places (H W) are in which windows (H' W'), and the number of places in each window."""
    matrix = np.zeros((*size, len(rows), len(cols)), dtype)
    for r, row in enumerate(rows):
        for q, col in enumerate(cols):
            matrix[row, col, r, q] = 1
    matrix = matrix.reshape(size[0] * size[1], -1)
    return matrix, matrix.sum(axis=0)


def _product(a: Array, b: Array) -> Array:
    result = np.empty((len(a), b.shape[1]), a.dtype)
    step = max(LEAST_PLANES, -(-len(a) // BLOCKS))

    def one_block(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        np.matmul(a[block], b, out=result[block])

    parallel_for(one_block, -(-len(a) // step))
    return result
