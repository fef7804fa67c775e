"""Layer norm on the CPU: short rows, one after the other, that share their weights.

The formulas are those of normalization.py. There, each group of elements is long, and NumPy works
along it. Here a group is a row of perhaps 64 elements, and a call of a sum, or of a product with
one number, costs more than the elements. So all that is done row by row is a product of BLAS's:

- sums along the rows, of many rows at once, are products with a vector of ones, or of the weights;
- a number a row times a weight a column, r w, is a product of matrices, too (outer.py); so is a
  number a row that meets all columns, which NumPy would repeat slowly along short rows;
- a number a column meets several rows at once, as one long row (_add_row).

What is normalised is kept, as d = x - mean, from the forward to the backward pass, which needs
nothing else of x. In the terms of normalization.py, with sums over a row of K,

    y = d (r w) + b,      dx = g (r w) - sum(g (r w)) / K - d r^3 sum(g d w) / K
"""

import math
from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.fast.outer import outer
from minseg.ops.normalization import blocks_of, inverse_deviation
from minseg.parallel import parallel_for


def layer_norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """x (G, K), weight and bias (K,) -> y (G, K), and what turns its gradient into those of all."""
    x = np.ascontiguousarray(x)
    G, K = x.shape
    w = np.ones(K, x.dtype) if weight is None else weight.reshape(K)
    y, d = np.empty_like(x), np.empty_like(x)
    r = np.empty(G, x.dtype)
    blocks = blocks_of(x[None, :, :, None])

    def forward(index: int) -> None:
        block = blocks[index]
        part, out, ones = d[block], y[block], np.ones(K, x.dtype)
        np.subtract(x[block], outer(x[block] @ ones / K, ones, part), out=part)
        rest = part @ ones / K  # of the mean: float32 does not hold all of it
        var = np.vecdot(part, part).astype(np.float64) / K - rest.astype(np.float64) ** 2
        inverse = inverse_deviation(var, eps).astype(x.dtype)
        r[block] = inverse
        if not (abs(rest * inverse) <= np.finfo(x.dtype).eps / 2).all():
            part -= rest[:, None]  # more than the rounding of results, which are of about 1
        np.multiply(part, outer(inverse, w, out), out=out)
        if bias is not None:
            _add_row(out, bias.reshape(K))

    def grad(grad: Array) -> tuple[Array, Array, Array]:
        grad = grad.reshape(G, K)
        dx = np.empty_like(x)
        dw, db = np.zeros((2, len(blocks), K), x.dtype)  # to be summed over the blocks, in order

        def one_block(index: int) -> None:
            block = blocks[index]
            g, part, inverse, out = grad[block], d[block], r[block], dx[block]
            ones, product = np.ones(K, x.dtype), g * part
            dw[index], db[index] = inverse @ product, np.ones(len(g), x.dtype) @ g
            slope = inverse**3 * (product @ w) / K
            np.multiply(g, outer(inverse, w, out), out=out)
            average = out @ ones / K
            out -= outer(average, ones, product)
            outer(slope, ones, product)
            product *= part
            out -= product

        parallel_for(one_block, len(blocks))
        return dx, dw.sum(axis=0), db.sum(axis=0)

    parallel_for(forward, len(blocks))
    return y, grad


def _add_row(matrix: Array, row: Array) -> None:
    """matrix (M, K) += row (K,), in place."""
    together = math.gcd(len(matrix), 32)
    matrix.reshape(-1, together * len(row))[...] += np.tile(row, together)
