"""Layer norm on the CPU: short rows, one after the other, that share their weights.

The formulas are those of normalization.py. There, each group of elements is long, and NumPy works
along it. Here a group is a row of perhaps 64 elements, shorter than what a call of a sum costs: so
the sums of many rows are products with a vector of ones, which BLAS computes in a tenth of the
time. The gradients of weight and bias are sums over the rows of a block, and then over the blocks.

x is (1, G, K, 1), with statistics for each of the G rows; the weights (G, K) repeat one row.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.normalization import blocks_of, for_each_block, inverse_deviation, two_parts
from minseg.parallel import blas_on_one_thread, parallel_for


def moments(x: Array) -> tuple[Array, Array]:
    """Mean and variance of each row, (G,), in float64."""
    _, G, K, _ = x.shape
    rows, ones = x.reshape(G, K), np.ones(K, x.dtype)
    mean, var = np.empty(G), np.empty(G)

    def one_block(block: slice) -> None:
        near = rows[block] @ ones
        near /= K
        d = rows[block] - near[:, None]
        rest = (d @ ones).astype(np.float64) / K
        mean[block] = near + rest
        var[block] = np.vecdot(d, d).astype(np.float64) / K - rest * rest

    for_each_block(one_block, x)
    return mean, var


def forward(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    y = np.empty(x.shape, x.dtype)
    rows, out = x.reshape(x.shape[1:3]), y.reshape(x.shape[1:3])

    def one_block(block: slice) -> None:
        _normalized(out[block], rows[block], mean[block], var[block], eps)
        if weight is not None:
            out[block] *= weight[0]
        if bias is not None:
            out[block] += bias[0]

    for_each_block(one_block, x)
    return y


def grad(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
    constant: bool,
) -> tuple[Array, Array, Array]:
    """The gradients to x, weight and bias; of these, (blocks, K), still to be summed."""
    _, G, K, _ = x.shape
    dx, rows, upstream = np.empty(x.shape, x.dtype), x.reshape(G, K), grad.reshape(G, K)
    result, ones = dx.reshape(G, K), np.ones(K, x.dtype)
    blocks = blocks_of(x)
    dw, db = np.zeros((2, len(blocks), K), x.dtype)

    def one_block(i: int) -> None:
        block, g, out = blocks[i], upstream[blocks[i]], result[blocks[i]]
        xhat = np.empty_like(out)
        r = _normalized(xhat, rows[block], mean[block], var[block], eps)
        np.multiply(g, xhat, out=out)
        column = np.ones(len(out), x.dtype)
        dw[i], db[i] = column @ out, column @ g
        if weight is not None:
            out *= weight[0]
            g = g * weight[0]
        xhat *= (out @ ones / K)[:, None]
        xhat += (g @ ones / K)[:, None]
        np.subtract(g, xhat, out=out)
        out *= r[:, None]

    with blas_on_one_thread():
        parallel_for(one_block, len(blocks))
    return dx, dw, db


def _normalized(out: Array, rows: Array, mean: Array, var: Array, eps: float) -> Array:
    """(x - mean) r, written into `out`; r is returned."""
    r = inverse_deviation(var, eps)
    near, rest = two_parts(mean, rows.dtype)
    np.subtract(rows, near[:, None], out=out)
    scale, shift = r.astype(rows.dtype), (rest * r).astype(rows.dtype)
    out *= scale[:, None]
    if not (abs(shift) <= np.finfo(rows.dtype).eps / 8).all():  # of results of about 1
        out -= shift[:, None]
    return scale
