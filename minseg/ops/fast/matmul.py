"""Large matrix products on the CPU: the matrices of a batch share the threads, or a single one's
parts do.

How a product is cut depends on its shape, not on the number of threads: sums of parts round
otherwise than whole ones.
"""

import math

import numpy as np

from minseg.array import Array
from minseg.parallel import parallel_for

BLOCK = 1 << 22  # multiply-adds: of fewer, handing out the work takes longer than doing it
BLOCKS = 8  # that one product is cut into, at the most


def fits(a: Array, b: Array) -> bool:
    """Are these matrices, and is there work for two blocks?"""
    return a.ndim > 1 and b.ndim > 1 and _multiplications(a, b) >= 2 * BLOCK


def forward(a: Array, b: Array) -> Array:
    batch = _batch(a, b)
    c = np.empty((*batch, a.shape[-2], b.shape[-1]), np.result_type(a, b))
    if math.prod(batch) == 1:
        _in_parts(*(m.reshape(m.shape[-2:]) for m in (a, b, c)))
        return c
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))

    def one_matrix(index: int) -> None:
        place = np.unravel_index(index, batch)
        np.matmul(a[place], b[place], out=c[place])

    parallel_for(one_matrix, math.prod(batch))
    return c


def _in_parts(a: Array, b: Array, c: Array) -> None:
    """c = a @ b of two matrices, cut along the longest of the three axes."""
    (M, K), L = a.shape, b.shape[1]
    longest = max(M, K, L)
    step = -(-longest // min(_multiplications(a, b) // BLOCK, BLOCKS))
    parts = [slice(start, start + step) for start in range(0, longest, step)]
    if longest == M:
        parallel_for(lambda i: np.matmul(a[parts[i]], b, out=c[parts[i]]), len(parts))
    elif longest == L:
        parallel_for(lambda i: np.matmul(a, b[:, parts[i]], out=c[:, parts[i]]), len(parts))
    else:  # each part is a share of every sum
        shares = np.empty((len(parts), M, L), c.dtype)
        parallel_for(lambda i: np.matmul(a[:, parts[i]], b[parts[i]], out=shares[i]), len(parts))
        shares.sum(axis=0, out=c)


def _multiplications(a: Array, b: Array) -> int:
    return math.prod(_batch(a, b)) * a.shape[-2] * a.shape[-1] * b.shape[-1]


def _batch(a: Array, b: Array) -> tuple[int, ...]:
    """The leading dimensions of a @ b."""
    return np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if a.ndim + b.ndim > 4 else ()
