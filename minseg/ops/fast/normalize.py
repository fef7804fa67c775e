"""Norms of long groups on the CPU, in few passes, and the ReLU after them in the same go.

The formulas are those of normalization.py, whose parts each read x anew. Here a block of groups
stays in the cache from the first pass over it to the last, and each pass is the cheapest that NumPy
has. x is seen as rows (B, R, L), with R = G K:

- short rows cost more for where they begin than for what is in them. So a number for each row is
  written out along it, and meets all rows of an image as one (_along); and the sums of all rows are
  one product of BLAS's (_sums);
- a ReLU takes its turn while the block is in the cache, forwards and backwards. Neither gradient
  needs the norm's own result, which is never written down: y is ReLU's.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.normalization import for_each_block, inverse_deviation, two_parts
from minseg.parallel import UFUNC_BUFFER

SHORT = UFUNC_BUFFER  # longer rows are computed where they lie, at full speed


def normalize(
    x: Array, weight: Array | None, bias: Array | None, eps: float, relu: bool = False
) -> tuple[Array, tuple[Array, Array]]:
    """x (B, G, K, L), weight and bias (G, K) -> y, and the mean and the variance (G,), float64.

    With `relu`, max(y, 0) is in the place of y.
    """
    B, G, K, L = x.shape
    y, mean, var, m = np.empty(x.shape, x.dtype), np.empty(G), np.empty(G), B * K * L
    all_rows, results = (a.reshape(B, G * K, L) for a in (x, y))

    def one_block(groups: slice) -> None:
        block = slice(groups.start * K, groups.stop * K)
        rows, d = all_rows[:, block], results[:, block]  # d = x - mean, in the place of y
        near = (_of_groups(_sums(rows), K) / m).astype(x.dtype)
        np.subtract(rows, _along(near, d), out=d)
        rest = _of_groups(_sums(d), K) / m  # of the mean: x's precision does not hold all of it
        mean[groups] = near + rest
        var[groups] = _of_groups(_totals(np.vecdot(d, d)), K) / m - rest * rest
        scale = inverse_deviation(var[groups], eps).repeat(K)
        if weight is not None:
            scale *= weight[groups].reshape(-1)
        shift = -rest.repeat(K) * scale
        if bias is not None:
            shift += bias[groups].reshape(-1)
        d *= _along(scale, d)
        d += _along(shift, d)
        if relu:  # with zeros as many as a row has, or an image: a single one is not SIMD
            np.maximum(d, np.zeros(d.shape[1:] if L <= SHORT else L, d.dtype), out=d)

    for_each_block(one_block, x)
    return y, (mean, var)


def normalize_grad(
    grad: Array,
    x: Array,
    y: Array | None,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
) -> tuple[Array, Array, Array]:
    """The gradients to x, weight and bias. y: the result, if a ReLU made it; None: no ReLU."""
    B, G, K, L = x.shape
    dx, m = np.empty(x.shape, x.dtype), B * K * L
    dw, db = np.empty((2, G, K), x.dtype)
    r = inverse_deviation(var, eps)
    near, rest = two_parts(mean, x.dtype)
    all_rows, upstream, results = (a.reshape(B, G * K, L) for a in (x, grad, dx))
    after = None if y is None else y.reshape(B, G * K, L)

    def one_block(groups: slice) -> None:
        block = slice(groups.start * K, groups.stop * K)
        g, out = upstream[:, block], results[:, block]
        if after is not None:
            g = np.multiply(g, after[:, block] != 0, out=out)  # a NaN is not 0: it shows
        d = all_rows[:, block] - _along(near[groups], out)  # xhat = (d - offset) inverse
        inverse, offset = r[groups].repeat(K), rest[groups].repeat(K)
        to_bias = _sums(g)
        to_weight = (_totals(np.vecdot(g, d)) - offset * to_bias) * inverse
        db[groups], dw[groups] = to_bias.reshape(-1, K), to_weight.reshape(-1, K)
        # dx = g' - mean(g') - xhat mean(g' xhat), with g' = g w r: its sums over (B, L) are there
        scale = inverse if weight is None else inverse * weight[groups].reshape(-1)
        slope = _of_groups(scale * to_weight, K) / m * r[groups]
        average = _of_groups(scale * to_bias, K) / m
        np.multiply(g, _along(scale, out), out=out)
        d *= _along(-slope, out)
        d += _along(slope * rest[groups] - average, out)
        out += d

    for_each_block(one_block, x)
    return dx, dw, db


def _sums(rows: Array) -> Array:
    """(B, R, L) -> (R,), in float64 but for each row by itself."""
    L = rows.shape[2]
    return _totals(np.einsum("brl->br", rows) if L > SHORT else rows @ np.ones(L, rows.dtype))


def _totals(sums: Array) -> Array:
    """(B, R) -> (R,), in float64."""
    return np.add.reduce(sums, axis=0, dtype=np.float64)


def _of_groups(values: Array, K: int) -> Array:
    """Sums over groups of K rows: (R,) -> (R / K,)."""
    return values if K == 1 else values.reshape(-1, K).sum(axis=1)


def _along(values: Array, rows: Array) -> Array:
    """A number for each group, or for each row, in the shape in which it meets rows (B, R, L)."""
    _, R, L = rows.shape
    values, each = values.astype(rows.dtype), R // len(values)
    if L > SHORT:
        return values.repeat(each)[:, None]
    return values.repeat(each * L).reshape(R, L)
