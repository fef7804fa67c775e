"""The means of a few windows of a plane, and their gradient, as one matrix product.

A plane of H x W places is a row of a matrix, and a window is a column of zeros and ones. The sums
are planes @ windows; the gradient is shares @ windows^T. This multiplies many zeros and is quick
all the same: NumPy would run a short loop for each window and row, BLAS computes all at once.

As 0 * inf is NaN, a value that is not finite would spoil every window. Where there is one, or the
loops over windows are quicker, the functions return None, and adaptive_pool.py goes on with those.
"""

import numpy as np

from minseg.array import Array
from minseg.parallel import PASS, parallel_for

MOST_WINDOWS = 64  # with more multiplications for each place, the loops are quicker
MOST_ELEMENTS = 2**18  # of the matrix
LEAST_PLANES, BLOCKS = 64, 8  # how a product is cut, whatever the number of threads

Windows = tuple[slice, ...]


def fits(rows: Windows, cols: Windows, x_shape: tuple[int, ...]) -> bool:
    windows = len(rows) * len(cols)
    return windows <= MOST_WINDOWS and windows * x_shape[2] * x_shape[3] <= MOST_ELEMENTS


def forward(x: Array, rows: Windows, cols: Windows) -> Array | None:
    """The means (N, C, H', W') of x (N, C, H, W) over every window of rows and of columns."""
    if not fits(rows, cols, x.shape):
        return None
    matrix, count = _matrix(rows, cols, x.shape, x.dtype)
    with np.errstate(invalid="ignore"):  # 0 * inf: see above
        y = _product(x, matrix)
    y /= count
    return y.reshape(*x.shape[:2], len(rows), len(cols)) if np.isfinite(y).all() else None


def grad_input(grad: Array, rows: Windows, cols: Windows, x_shape: tuple[int, ...]) -> Array | None:
    """The gradient of x: each place of a window gets an equal share of its mean's."""
    one = len(rows) == len(cols) == 1  # whose share goes to every place: there is nothing to add up
    if one or not fits(rows, cols, x_shape) or not np.isfinite(grad).all():
        return None
    matrix, count = _matrix(rows, cols, x_shape, grad.dtype)
    shares = grad / count.reshape(grad.shape[2:])
    return _product(shares, matrix.T).reshape(x_shape)


def _matrix(
    rows: Windows, cols: Windows, x_shape: tuple[int, ...], dtype: np.dtype
) -> tuple[Array, Array]:
    """Which places (H W) are in which windows (H' W'), and the number of places in each window."""
    H, W = x_shape[2:]
    matrix = np.zeros((H, W, len(rows), len(cols)), dtype)
    for r, row in enumerate(rows):
        for q, col in enumerate(cols):
            matrix[row, col, r, q] = 1
    matrix = matrix.reshape(H * W, -1)
    return matrix, matrix.sum(axis=0)


def _product(images: Array, matrix: Array) -> Array:
    """Every plane as a row: (N, C, h, w) @ (h w, columns) -> (N C, columns)"""
    planes = images.reshape(-1, len(matrix))
    result = np.empty((len(planes), matrix.shape[1]), planes.dtype)
    step = max(LEAST_PLANES, -(-len(planes) // BLOCKS))

    def one_block(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        np.matmul(planes[block], matrix, out=result[block])

    work = len(planes) * matrix.size + PASS * (planes.size + result.size)
    parallel_for(one_block, -(-len(planes) // step), work)
    return result
