"""A number for each row times a number for each column, written out as a matrix.

NumPy repeats a column slowly along short rows. BLAS is quicker, but not at products with an inner
length of 1: so of 2, the second of them 0.
"""

import numpy as np

from minseg.array import Array


def outer(column: Array, row: Array, out: Array | None = None) -> Array:
    """column (M,), row (K,) -> column[:, None] * row, (M, K), into `out` if there is one."""
    left, right = np.zeros((len(column), 2), row.dtype), np.zeros((2, len(row)), row.dtype)
    left[:, 0], right[0] = column, row
    return np.matmul(left, right, out=out)
