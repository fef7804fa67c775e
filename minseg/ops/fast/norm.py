"""Norms of long groups on the CPU, in few passes, together with a ReLU that follows.

The formulas are those of norm_formulas.py, whose parts each read x anew. Here a block of groups
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

from collections.abc import Callable

import numpy as np

from minseg.array import Array
from minseg.ops.fast.activation import relu_grad
from minseg.ops.fast.dots import dots
from minseg.ops.norm_formulas import inverse_deviation
from minseg.parallel import UFUNC_BUFFER, parallel_for

FEW = 4096  # elements: the plain formulas take 0.6 of the time here for 1000, as long for 8000
SHORT = UFUNC_BUFFER  # longer rows are computed where they lie, at full speed

# Two threads hardly gain anything from NumPy calls of less than 50 us: they hand the interpreter's
# lock to and fro, and one that waits for it sleeps. So blocks are as large as the last cache
# allows, and an array too small for two such blocks is left to one thread.
BLOCK_BYTES = 2**22  # of the groups in a block
ALONE = 2**19  # elements: up to so many, one thread


def fits(x: Array) -> bool:
    """Is x large enough for these ways to be quicker than the plain formulas?"""
    return x.size > FEW


def forward(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    eps: float,
    given: tuple[Array, Array] | None = None,
    relu: bool = False,
) -> tuple[Array, tuple[Array, Array]]:
    """x (B, G, K, L), weight and bias (G, K) -> y, and the mean and the variance (G,), float64.

    given: a mean and a variance to use in place of x's own. With `relu`, y is max(y, 0).
    """
    B, G, K, L = x.shape
    y, m = np.empty(x.shape, x.dtype), B * K * L
    mean, var = given or (np.empty(G), np.empty(G))
    all_rows, results = (a.reshape(B, G * K, L) for a in (x, y))

    def moments(d: Array) -> tuple[Array, Array]:
        average = _of_groups(_sums(d), K) / m
        return average, _of_groups(_totals(dots(d, d)), K) / m - average * average

    def one_block(groups: slice) -> None:
        block = slice(groups.start * K, groups.stop * K)
        rows, out = all_rows[:, block], results[:, block]
        if given is None:
            with np.errstate(over="ignore", invalid="ignore"):  # those of x - mean may be finite
                mean[groups], var[groups] = moments(rows)
        offset = mean[groups]
        if not _is_small(offset, var[groups]):
            near = offset.astype(x.dtype)
            rows = np.subtract(rows, _along(near, out), out=out)
            if given is None:
                rest, var[groups] = moments(rows)
                mean[groups] = near + rest
            else:
                rest = offset - near
            offset = rest
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

    _for_each_block(one_block, x)
    return y, (mean, var)


def grad(
    grad: Array,
    x: Array,
    y: Array | None,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
    constant: bool = False,
) -> tuple[Array, Array, Array]:
    """The gradients to x, weight and bias. y: the ReLU's result; None where there was no ReLU.

    constant: mean and variance were given, and do not depend on x.
    """
    B, G, K, L = x.shape
    dx, m = np.empty(x.shape, x.dtype), B * K * L
    dw, db = np.zeros((2, G, K), x.dtype)  # an empty batch leaves them so
    r = inverse_deviation(var, eps)
    near = mean.astype(x.dtype)
    rest = mean - near
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
        np.multiply(g, _along(scale, out), out=out)
        if constant:
            return
        slope = _of_groups(scale * to_weight, K) / m * r[groups]
        average = _of_groups(scale * to_bias, K) / m
        through_moments = d * _along(-slope, out)
        through_moments += _along(slope * offset - average, out)
        out += through_moments

    _for_each_block(one_block, x)
    return dx, dw, db


def blocks_of(x: Array) -> list[slice]:
    """Slices of groups. They depend on the shape alone: the same bits on every machine."""
    if not x.size:
        return []
    groups, pairs = x.shape[1], -(-x.nbytes // (2 * BLOCK_BYTES))
    count = 2 * pairs if x.size > ALONE else 1  # an even number, so that two cores share alike
    step = -(-groups // min(count, groups))
    return [slice(i, i + step) for i in range(0, groups, step)]


def _for_each_block(body: Callable[[slice], None], x: Array) -> None:
    """Call body(slice of groups) for all groups, on all cores."""
    blocks = blocks_of(x)
    parallel_for(lambda i: body(blocks[i]), len(blocks))


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
