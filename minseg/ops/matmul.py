"""Matrix product: c[m, l] = sum over k of a[m, k] * b[k, l], for each matrix of a batch.

This op takes arrays, not Tensors: `Tensor.__matmul__` and linear are made of it, and so are their
gradients (dA = dC @ B^T, dB = A^T @ dC).

Shapes: a (..., M, K), b (..., K, L) -> (..., M, L); leading dimensions broadcast, and a vector is a
        matrix of one row (left) or one column (right), as in NumPy
"""

import math

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.op import Op, launch
from minseg.parallel import blas_on_one_thread, parallel_for

# Multiply-adds of a block: below, handing out the work takes longer than doing it. And blocks that
# one product is cut into, at the most. The number of threads has no say in it: sums of parts round
# otherwise than whole ones.
BLOCK = 1 << 22
BLOCKS = 8


def matmul_definition(a: Array, b: Array) -> Array:
    """The formula above, as loops, for two matrices."""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for m, l in np.ndindex(c.shape):
        for k in range(a.shape[1]):
            c[m, l] += a[m, k] * b[k, l]
    return c


def _forward_numpy(a: Array, b: Array) -> Array:
    """The matrices of a batch share the cores; so do the parts of a single large one."""
    if a.ndim < 2 or b.ndim < 2:
        with blas_on_one_thread():
            return a @ b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) if a.ndim + b.ndim > 4 else ()
    size = math.prod(batch) * a.shape[-2] * a.shape[-1] * b.shape[-1]
    if size < 2 * BLOCK:
        with blas_on_one_thread():
            return np.matmul(a, b)
    c = np.empty((*batch, a.shape[-2], b.shape[-1]), np.result_type(a, b))
    if math.prod(batch) == 1:
        a, b, whole = (m.reshape(m.shape[-2:]) for m in (a, b, c))
        _in_parts(a, b, whole, min(size // BLOCK, BLOCKS))
        return c
    a = np.broadcast_to(a, (*batch, *a.shape[-2:]))
    b = np.broadcast_to(b, (*batch, *b.shape[-2:]))

    def one_matrix(index: int) -> None:
        place = np.unravel_index(index, batch)
        np.matmul(a[place], b[place], out=c[place])

    parallel_for(one_matrix, math.prod(batch))
    return c


def _in_parts(a: Array, b: Array, c: Array, count: int) -> None:
    """c = a @ b of two matrices, cut along the longest of the three axes."""
    (M, K), L = a.shape, b.shape[1]
    longest = max(M, K, L)
    step = -(-longest // count)
    parts = [slice(start, start + step) for start in range(0, longest, step)]
    if longest == M:
        parallel_for(lambda i: np.matmul(a[parts[i]], b, out=c[parts[i]]), len(parts))
    elif longest == L:
        parallel_for(lambda i: np.matmul(a, b[:, parts[i]], out=c[:, parts[i]]), len(parts))
    else:  # each part is a share of every sum
        shares = np.empty((len(parts), M, L), c.dtype)
        parallel_for(lambda i: np.matmul(a[:, parts[i]], b[parts[i]], out=shares[i]), len(parts))
        shares.sum(axis=0, out=c)


def _forward_cuda(a: Array, b: Array) -> Array:
    """kernels/matmul.cu, for all products of the batch in one launch."""
    xp = array_module(a)
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    n, (m, k), l = math.prod(batch), left.shape[-2:], right.shape[-1]
    c = xp.empty((*batch, m, l), a.dtype)
    left = xp.ascontiguousarray(xp.broadcast_to(left, (*batch, m, k)))
    right = xp.ascontiguousarray(xp.broadcast_to(right, (*batch, k, l)))
    launch("matmul", left, right, c, n, m, k, l)
    c = c.reshape(c.shape[:-1]) if b.ndim == 1 else c
    return c.reshape((*batch, l) if b.ndim > 1 else batch) if a.ndim == 1 else c


op = Op(
    "matmul",
    definition=matmul_definition,
    numpy={"forward": _forward_numpy},
    cuda={"forward": _forward_cuda},
)
