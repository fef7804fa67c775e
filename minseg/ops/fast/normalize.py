"""Norms of long groups on the CPU, in few passes, together with a ReLU that follows.

The formulas are those of normalization.py, whose parts each read x anew. Here a block of groups
stays in the cache from the first pass over it to the last, and each pass is the cheapest that NumPy
has. x is seen as rows (B, R, L), with R = G K:

- NumPy takes longer to begin a short row than to compute it. So a number for each row is repeated
  along it, and all rows of an image are computed as one (_along); and the sums of all rows are one
  matrix product (_sums);
- the ReLU is computed while the block is in the cache, forwards and backwards. Neither gradient
  needs the norm's own result, so that it is never kept: y is the ReLU's;
- mean(x^2) - mean(x)^2 is the variance, but loses digits where the mean is large. A mean of at most
  two deviations costs two bits, and x is used as it is. Only where a block has a larger one,
  d = x - mean is computed; as the precision of x does not hold all of a large mean, d still has a
  small mean, called offset.
"""

import numpy as np

from minseg.array import Array
from minseg.ops.fast.activation import relu_grad
from minseg.ops.fast.dots import dots
from minseg.ops.normalization import for_each_block, inverse_deviation, two_parts
from minseg.parallel import UFUNC_BUFFER

SHORT = UFUNC_BUFFER  # longer rows are computed where they lie, at full speed


def normalize(
    x: Array, weight: Array | None, bias: Array | None, eps: float, relu: bool = False
) -> tuple[Array, tuple[Array, Array]]:
    """x (B, G, K, L), weight and bias (G, K) -> y, and the mean and the variance (G,), float64.

    With `relu`, y is max(y, 0).
    """
    B, G, K, L = x.shape
    y, mean, var, m = np.empty(x.shape, x.dtype), np.empty(G), np.empty(G), B * K * L
    all_rows, results = (a.reshape(B, G * K, L) for a in (x, y))

    def moments(d: Array) -> tuple[Array, Array]:
        average = _of_groups(_sums(d), K) / m
        return average, _of_groups(_totals(dots(d, d)), K) / m - average * average

    def one_block(groups: slice) -> None:
        block = slice(groups.start * K, groups.stop * K)
        rows, out = all_rows[:, block], results[:, block]
        with np.errstate(over="ignore", invalid="ignore"):  # those of x - mean may be finite
            offset, var[groups] = moments(rows)
        mean[groups] = offset
        if not _is_small(offset, var[groups]):
            near = offset.astype(x.dtype)
            rows = np.subtract(rows, _along(near, out), out=out)
            offset, var[groups] = moments(rows)
            mean[groups] = near + offset
        scale = inverse_deviation(var[groups], eps).repeat(K)
        if weight is not None:
            scale *= weight[groups].reshape(-1)
        shift = -offset.repeat(K) * scale
        if bias is not None:
            shift += bias[groups].reshape(-1)
        np.multiply(rows, _along(scale, out), out=out)
        out += _along(shift, out)
        if relu:
            np.clip(out, 0, np.inf, out=out)

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
    """The gradients to x, weight and bias. y: the ReLU's result; None where there was no ReLU."""
    B, G, K, L = x.shape
    dx, m = np.empty(x.shape, x.dtype), B * K * L
    dw, db = np.zeros((2, G, K), x.dtype)  # an empty batch leaves them so
    r = inverse_deviation(var, eps)
    near, rest = two_parts(mean, x.dtype)
    all_rows, upstream, results = (a.reshape(B, G * K, L) for a in (x, grad, dx))
    after = None if y is None else y.reshape(B, G * K, L)

    def one_block(groups: slice) -> None:
        block = slice(groups.start * K, groups.stop * K)
        g, out = upstream[:, block], results[:, block]
        if after is not None:
            relu_grad(out, g, after[:, block])
            g = out
        d, offset, inverse = all_rows[:, block], mean[groups], r[groups].repeat(K)
        if not _is_small(offset, var[groups]):
            d, offset = d - _along(near[groups], out), rest[groups]
        to_bias = _sums(g)  # xhat = (d - offset) inverse
        to_weight = (_totals(dots(g, d)) - offset.repeat(K) * to_bias) * inverse
        db[groups], dw[groups] = to_bias.reshape(-1, K), to_weight.reshape(-1, K)
        # dx = g' - mean(g') - xhat mean(g' xhat), with g' = g w r: its sums over (B, L) are there
        scale = inverse if weight is None else inverse * weight[groups].reshape(-1)
        slope = _of_groups(scale * to_weight, K) / m * r[groups]
        average = _of_groups(scale * to_bias, K) / m
        np.multiply(g, _along(scale, out), out=out)
        through_moments = d * _along(-slope, out)
        through_moments += _along(slope * offset - average, out)
        out += through_moments

    for_each_block(one_block, x)
    return dx, dw, db


def _is_small(mean: Array, var: Array) -> bool:
    """Are all means within two deviations? A NaN is not, nor one whose square is infinite."""
    return bool((mean * mean <= 4 * var).all() and np.isfinite(var).all())


def _sums(rows: Array) -> Array:
    """(B, R, L) -> (R,): each row is summed in its own precision, the rows' sums in float64."""
    L = rows.shape[2]
    return _totals(np.einsum("brl->br", rows) if L > SHORT else rows @ np.ones(L, rows.dtype))


def _totals(sums: Array) -> Array:
    """(B, R) -> (R,), in float64."""
    return np.add.reduce(sums, axis=0, dtype=np.float64)


def _of_groups(values: Array, K: int) -> Array:
    """Sums over groups of K rows: (R,) -> (R / K,)."""
    return values if K == 1 else values.reshape(-1, K).sum(axis=1)


def _along(values: Array, rows: Array) -> Array:
    """A number for each group, or for each row, as it broadcasts to rows (B, R, L)."""
    _, R, L = rows.shape
    values, each = values.astype(rows.dtype), R // len(values)
    if L > SHORT:
        return values.repeat(each)[:, None]
    return values.repeat(each * L).reshape(R, L)
