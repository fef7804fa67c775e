"""Layer norm on the CPU: many short rows that share their weights.

The formulas are those of norm_formulas.py. There, each group of elements is long, and NumPy works
along it. Here a group is a row of perhaps 64 elements, and NumPy takes longer to begin a row than
to compute it. So whatever is done row by row is a matrix product of BLAS's:

- the sums of many rows are one product with a vector of ones, or of the weights;
- one number per row times one weight per column, r w, is a matrix product, too (outer.py); so is
  one number per row for all columns, which NumPy would repeat slowly along short rows.

sum(x^2) / K - e^2, with e the mean of x, is the variance, but loses digits where the mean is large.
A mean of at most two deviations, the common case, costs two bits, and x is used as it is: d = x.
Elsewhere d = x - mean; as the precision of float32 does not hold all of a large mean, d still has a
small mean, again called e. Either way, in the terms of norm_formulas.py, with sums over a row of K,

    var = sum(d^2) / K - e^2,      y = d (r w) - (e r) w + b
    dx = g (r w) - average - (d - e) slope,      average = sum(g (r w)) / K
    dw = sum over rows of r (d - e) g,           slope = r^2 (r sum(g d w) / K - e average)

For few rows, all these calls take longer than NumPy's slow repeating: there `_of_few_rows` computes
the formulas of norm_formulas.py as they stand.
"""

from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.fast.norm import blocks_of
from minseg.ops.fast.outer import outer
from minseg.ops.norm_formulas import inverse_deviation
from minseg.parallel import parallel_for

FEW_ROWS = 512  # of 32 elements, in SegFormer: 70 us by _of_few_rows, else 113; not so for 2048
SHORT = 32  # rows of fewer elements: np.vecdot would take three times as long as a matrix product

Gradients = Callable[[Array], tuple[Array, Array, Array]]


def layer_norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Array, Gradients]:
    """x (G, K), weight and bias (K,) -> y (G, K), and the function that computes the gradients."""
    x = np.ascontiguousarray(x)  # and so y is, as the next layer wants it
    G, K = x.shape
    w = np.ones(K, x.dtype) if weight is None else weight.reshape(K)
    if G <= FEW_ROWS:
        return _of_few_rows(x, w, bias, eps)
    ones = np.ones(K, x.dtype)
    finite = np.isfinite(w).all()
    shift = np.zeros((2, K), x.dtype)  # to be multiplied by (e r, 1)
    shift[0] = np.where(np.isfinite(w), -w, 0)  # where w is infinite, d (r w) decides alone
    if bias is not None:
        shift[1] = bias.reshape(K)
    y = np.empty_like(x)
    e, r = np.empty((2, G), x.dtype)
    blocks = blocks_of(x[None, :, :, None])
    deviations = [x[block] for block in blocks]

    def forward(index: int) -> None:
        block = blocks[index]
        d, out, mean = deviations[index], y[block], e[block]
        squares, var = _moments(d, ones, mean)
        # x will not do where e^2 >= 4 var, or either is NaN, or a sum of squares is infinite. And
        # an infinite w needs the sign of x - mean.
        if not (finite and (squares / 5 < var).all()):
            d = deviations[index] = d - outer(mean, ones, out)
            _, var = _moments(d, ones, mean)
        r[block] = inverse_deviation(var, eps)
        outer(r[block], w, out)
        out *= d
        numbers = np.ones((len(out), 2), x.dtype)
        np.multiply(mean, r[block], out=numbers[:, 0])
        out += numbers @ shift

    def grad(grad: Array) -> tuple[Array, Array, Array]:
        grad = grad.reshape(G, K)
        dx = np.empty_like(x)
        dw, db = np.empty((2, len(blocks), K), x.dtype)  # to be summed over the blocks, in order
        mean_of, mean_of_w = ones / K, w / K

        def one_block(index: int) -> None:
            block = blocks[index]
            g, d, out, mean, inverse = grad[block], deviations[index], dx[block], e[block], r[block]
            product = g * d
            db[index] = np.ones_like(mean) @ g
            dw[index] = inverse @ product - (mean * inverse) @ g
            outer(inverse, w, out)
            out *= g
            average, slope = out @ mean_of, product @ mean_of_w
            slope *= inverse
            slope -= mean * average
            slope *= inverse * inverse
            average -= mean * slope
            out -= outer(average, ones, product)
            outer(slope, ones, product)
            product *= d
            out -= product

        parallel_for(one_block, len(blocks))
        return dx, dw.sum(axis=0), db.sum(axis=0)

    parallel_for(forward, len(blocks))
    return y, grad


def _of_few_rows(x: Array, w: Array, bias: Array | None, eps: float) -> tuple[Array, Gradients]:
    mean_of = np.full(x.shape[1], 1 / x.shape[1], x.dtype)

    def centred(rows: Array) -> Array:
        return rows - (rows @ mean_of)[:, None]

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        xhat = centred(x)
        xhat -= (xhat @ mean_of)[:, None]  # again: float32 does not hold all of a large mean
        r = 1 / np.sqrt(np.vecdot(xhat, xhat) / x.shape[1] + eps)
        xhat *= r[:, None]
    y = xhat * w
    if bias is not None:
        y += bias.reshape(-1)

    def grad(grad: Array) -> tuple[Array, Array, Array]:
        grad = grad.reshape(x.shape)
        product = grad * xhat
        dx = centred(grad * w)
        dx -= xhat * (product @ (w * mean_of))[:, None]
        dx *= r[:, None]
        return dx, product.sum(axis=0), grad.sum(axis=0)

    return y, grad


def _moments(d: Array, ones: Array, mean: Array) -> tuple[Array, Array]:
    """Each row's mean of the squares, and its variance; its mean goes to `mean`."""
    np.matmul(d, ones, out=mean)
    mean /= len(ones)
    with np.errstate(over="ignore", invalid="ignore"):  # for x; x - mean may have finite squares
        squares = np.square(d) @ ones if len(ones) < SHORT else np.vecdot(d, d)
        squares /= len(ones)
        return squares, squares - mean * mean
