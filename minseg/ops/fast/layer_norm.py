"""Layer norm on the CPU: short rows, one after the other, that share their weights.

The formulas are those of normalization.py. There, each group of elements is long, and NumPy works
along it. Here a group is a row of perhaps 64 elements, and a call of a sum, or of a product with
one number, costs more than the elements. So all that is done row by row is a product of BLAS's:

- sums along the rows, of many rows at once, are products with a vector of ones, or of the weights;
- a number a row times a weight a column, r w, is a product of matrices, too (outer.py); so is a
  number a row that meets all columns, which NumPy would repeat slowly along short rows.

What is normalised is kept, as d = x - mean, from the forward to the backward pass, which needs
nothing else of x. float32 does not hold all of the mean of large numbers, so d has a mean, too: e,
which is put right where it costs a number a row. In the terms of normalization.py, with sums over
a row of K,

    var = sum(d^2) / K - e^2,      y = d (r w) - (e r) w + b
    dx = g (r w) - average - (d - e) slope,      average = sum(g (r w)) / K
    dw = sum over rows of r (d - e) g,           slope = r^3 sum(g (d - e) w) / K
"""

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
    ones = np.ones(K, x.dtype)
    w = ones if weight is None else weight.reshape(K)
    b = np.zeros_like(ones) if bias is None else bias.reshape(K)
    # -(e r) w + b is the product of (-e r, 1) and these. An infinite weight needs no more of it.
    rows = np.array([np.where(np.isfinite(w), w, 0), b])
    y, d = np.empty_like(x), np.empty_like(x)
    e, r = np.empty((2, G), x.dtype)
    blocks = blocks_of(x[None, :, :, None])

    def forward(index: int) -> None:
        block = blocks[index]
        part, out, rest = d[block], y[block], e[block]
        np.subtract(x[block], outer(x[block] @ ones / K, ones, part), out=part)
        np.matmul(part, ones, out=rest)
        rest /= K
        var = np.vecdot(part, part) / K - rest * rest
        r[block] = inverse_deviation(var, eps)
        np.multiply(part, outer(r[block], w, out), out=out)
        numbers = np.ones((len(out), 2), x.dtype)
        numbers[:, 0] = -rest * r[block]
        out += numbers @ rows

    def grad(grad: Array) -> tuple[Array, Array, Array]:
        grad = grad.reshape(G, K)
        dx = np.empty_like(x)
        dw, db = np.zeros((2, len(blocks), K), x.dtype)  # to be summed over the blocks, in order

        def one_block(index: int) -> None:
            block = blocks[index]
            g, part, rest, inverse, out = grad[block], d[block], e[block], r[block], dx[block]
            product = g * part
            db[index] = np.ones_like(rest) @ g
            dw[index] = inverse @ product - (rest * inverse) @ g
            np.multiply(g, outer(inverse, w, out), out=out)
            average = out @ ones / K
            slope = inverse**2 * (inverse * (product @ w) / K - rest * average)
            out -= outer(average - rest * slope, ones, product)
            outer(slope, ones, product)
            product *= part
            out -= product

        parallel_for(one_block, len(blocks))
        return dx, dw.sum(axis=0), db.sum(axis=0)

    parallel_for(forward, len(blocks))
    return y, grad
