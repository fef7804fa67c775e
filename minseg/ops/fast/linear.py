"""A linear layer for many rows: the bias is added to each block while it is in the cache.

NumPy is slow at adding a short row to each row of a matrix, and would read and write the whole
product once more. Here several rows are seen as one long row, to which the bias, repeated as often,
is added.
"""

import math

import numpy as np

from minseg.array import Array
from minseg.parallel import BLOCK, parallel_for


def fits(x: Array, w: Array) -> bool:
    """Are there enough rows for several threads, and as many as the result has columns?"""
    return len(x) >= len(w) and len(x) * len(w) > BLOCK


def forward(x: Array, w: Array, b: Array) -> Array:
    """x (M, K), w (O, K), b (O,) -> x w^T + b (M, O)."""
    M, O = len(x), len(w)
    y = np.empty((M, O), x.dtype)
    together = math.gcd(M, 32)  # rows that are one long row, in each block
    long_bias = np.tile(b, together)
    count = 2 * -(-y.size // (2 * BLOCK))  # even: two cores' share
    step = together * -(-M // (count * together))

    def some_rows(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        np.matmul(x[block], w.T, out=y[block])
        long_rows = y[block].reshape(-1, together * O)
        long_rows += long_bias

    parallel_for(some_rows, -(-M // step))
    return y
