"""Matrix product: c[m, l] = sum over k of a[m, k] * b[k, l], for each matrix of a batch.

This op takes arrays, not Tensors: `Tensor.__matmul__` and linear are made of it, and so are their
gradients (da = dc @ b^T, db = a^T @ dc).

Shapes: a (..., M, K), b (..., K, L) -> (..., M, L); leading dimensions broadcast, and a vector is a
        matrix of one row (left) or one column (right), as in NumPy
"""

import math

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.fast import matmul as fast
from minseg.ops.op import Op, launch
from minseg.parallel import blas_on_one_thread


def matmul_definition(a: Array, b: Array) -> Array:
    """The formula above, as loops, for two matrices."""
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for m, l in np.ndindex(c.shape):
        for k in range(a.shape[1]):
            c[m, l] += a[m, k] * b[k, l]
    return c


def _forward_numpy(a: Array, b: Array) -> Array:
    """NumPy's own; of a large product, fast/matmul.py gives each thread a part."""
    if fast.fits(a, b):
        return fast.forward(a, b)
    with blas_on_one_thread():
        return np.matmul(a, b)


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
