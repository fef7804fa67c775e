"""A number for each row times a number for each column, written out as a matrix.

NumPy repeats a column slowly along short rows. A matrix product of BLAS's is quicker, though not
one with an inner dimension of 1: so it is 2 here, filled up with zeros.
"""

import numpy as np

from minseg.array import Array


def outer(column: Array, row: Array, out: Array | None = None) -> Array:
    """column (M,), row (K,) -> column[:, None] * row, (M, K), into `out` if it is given."""
    left, right = np.zeros((len(column), 2), row.dtype), np.zeros((2, len(row)), row.dtype)
    left[:, 0], right[0] = column, row
    return np.matmul(left, right, out=out)
