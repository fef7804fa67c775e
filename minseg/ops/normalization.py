"""Normalisation on arrays: what batch, instance, group and layer norm share.

    y = (x - mean) / sqrt(var + eps) * weight + bias,      mean, var: over one group of elements

x is seen as (B, G, K, L), with statistics for each of the G groups, over B, K and L, and a weight
for every (g, k); norm.py says which view each layer takes.

Gradient. Write xhat = (x - mean) r with r = 1 / sqrt(var + eps), and g for the upstream gradient
times the weight, m for the size of a group. x acts on its group in three ways: directly, through
the mean and through the variance,

    dmean / dx = 1 / m,     dvar / dx = 2 (x - mean) / m,     dr / dvar = -r^3 / 2
    dx = r g - r mean(g) - r^3 (x - mean) mean(g (x - mean)) = r (g - mean(g) - xhat mean(g xhat))

With given statistics (batch norm in evaluation) only the first way is left: dx = r g.

Source: Ioffe & Szegedy, "Batch Normalization", 2015, algorithm 1; Ba et al., "Layer Normalization",
        2016; Ulyanov et al., "Instance Normalization", 2016; Wu & He, "Group Normalization", 2018
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.op import launch
from minseg.parallel import parallel_for

# Two threads hardly gain anything from NumPy calls of less than 50 us: they hand the interpreter's
# lock to and fro, and one that waits for it sleeps. So blocks are as large as the last cache
# allows, and an array too small for two such blocks is left to one thread.
BLOCK_BYTES = 2**22  # of the groups in a block
ALONE = 2**19  # elements: up to so many, one thread

# Elements that one block of the kernels takes: enough to pay for its start, few enough that a batch
# gives every multiprocessor of a GPU a block.
ELEMENTS_A_BLOCK = 2**14


def normalization_definition(
    x: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    """The formula, group by group, with x as (B, G, K, L)."""
    y = np.empty_like(x)
    m = x[:, :1].size
    for g in range(x.shape[1]):
        mean = sum(x[:, g].flat) / m
        var = sum((v - mean) ** 2 for v in x[:, g].flat) / m
        for b, k, l in np.ndindex(x[:, g].shape):
            xhat = (x[b, g, k, l] - mean) / math.sqrt(var + eps)
            scaled = xhat if weight is None else xhat * weight[g, k]
            y[b, g, k, l] = scaled if bias is None else scaled + bias[g, k]
    return y


def _moments_numpy(x: Array) -> tuple[Array, Array]:
    """Mean and variance (divided by m) of each group, (G,), in float64.

    mean(x^2) - mean(x)^2 loses every digit when the mean is large. So both are computed of
    d = x - near, with the mean in the precision of x as `near`: d has a mean close to 0, and what
    it is away from 0 corrects mean and variance, in float64.
    """
    B, G, K, L = x.shape
    rows, m = x.reshape(B, G, K * L), x[:, :1].size
    mean, var = np.empty(G), np.empty(G)

    def one_block(groups: slice) -> None:
        near = (sum_of_rows(rows[:, groups]) / m).astype(x.dtype)
        d = rows[:, groups] - near[:, None]
        rest = sum_of_rows(d) / m
        mean[groups] = near + rest
        var[groups] = np.vecdot(d, d).sum(axis=0, dtype=np.float64) / m - rest * rest

    for_each_block(one_block, x)
    return mean, var


def sum_of_rows(rows: Array) -> Array:
    """(B, G, M) -> (G,): each row is summed in its own precision, the rows' sums in float64."""
    return np.einsum("bgm->bg", rows).sum(axis=0, dtype=np.float64)


def _forward_numpy(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    y = np.empty(x.shape, x.dtype)
    r = inverse_deviation(var, eps)
    near, rest = two_parts(mean, x.dtype)

    def one_block(groups: slice) -> None:
        scale = r[groups, None] if weight is None else r[groups, None] * weight[groups]
        shift = (0 if bias is None else bias[groups]) - rest[groups, None] * scale
        part = y[:, groups]
        np.subtract(x[:, groups], over(near[groups, None]), out=part)
        part *= over(scale.astype(x.dtype))
        part += over(shift.astype(x.dtype))

    for_each_block(one_block, x)
    return y


def _grad_numpy(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
    constant: bool,
) -> tuple[Array, Array, Array]:
    """The gradients to x, weight and bias. `constant`: the statistics do not depend on x."""
    dx = np.empty(x.shape, x.dtype)
    dw, db = np.zeros((2, *x.shape[1:3]))
    r = inverse_deviation(var, eps)
    near, rest = two_parts(mean, x.dtype)
    m = x[:, :1].size

    def one_block(groups: slice) -> None:
        g, inverse, offset = grad[:, groups], r[groups, None], rest[groups, None]
        d = x[:, groups] - over(near[groups, None])  # xhat = (d - offset) inverse
        db[groups] = np.einsum("bgkl->bgk", g).sum(axis=0, dtype=np.float64)
        dw[groups] = np.vecdot(g, d).sum(axis=0, dtype=np.float64) - offset * db[groups]
        dw[groups] *= inverse
        w = 1 if weight is None else weight[groups]
        np.multiply(g, over((w * inverse * np.ones_like(dw[groups])).astype(x.dtype)),
                    out=dx[:, groups])  # fmt: skip
        if constant:
            return
        # mean(g) and mean(g xhat) with g = grad * weight: the sums over (B, L) are there already
        slope = (w * dw[groups]).sum(axis=1, keepdims=True) / m * inverse * inverse
        average = (w * db[groups]).sum(axis=1, keepdims=True) / m * inverse
        d *= over((-slope).astype(x.dtype))
        d += over((slope * offset - average).astype(x.dtype))
        dx[:, groups] += d

    for_each_block(one_block, x)
    return dx, dw.astype(x.dtype), db.astype(x.dtype)


def two_parts(mean: Array, dtype: Any) -> tuple[Array, Array]:
    """A float64 mean as a number of `dtype` and the rest: x - near - rest loses no digits."""
    near = mean.astype(dtype)
    return near, mean - near


def inverse_deviation(var: Array, eps: float) -> Array:
    """r = 1 / sqrt(var + eps)."""
    with np.errstate(invalid="ignore", divide="ignore"):  # eps = 0 on a constant, eps < 0
        return 1 / np.sqrt(var + eps)


def over(values: Array) -> Array:
    """Values for each (g, k) or (g, 1), to broadcast over (B, G, K, L)."""
    return values[None, :, :, None]


def blocks_of(x: Array) -> list[slice]:
    """Slices of groups. They depend on the shape alone: the same bits on every machine."""
    if not x.size:
        return []
    groups, pairs = x.shape[1], -(-x.nbytes // (2 * BLOCK_BYTES))
    count = 2 * pairs if x.size > ALONE else 1  # an even number, so that two cores share alike
    step = -(-groups // min(count, groups))
    return [slice(i, i + step) for i in range(0, groups, step)]


def for_each_block(body: Callable[[slice], None], x: Array) -> None:
    """Call body(slice of groups) for all groups, on all cores."""
    blocks = blocks_of(x)
    parallel_for(lambda i: body(blocks[i]), len(blocks))


def _moments_cuda(x: Array) -> tuple[Array, Array]:
    """kernels/norm.cu: one pass, sums of x less the group's first element, in float64."""
    xp, (B, G, K, L) = array_module(x), x.shape
    mean, var = xp.zeros(G), xp.zeros(G)
    if x.size:
        splits, threads = _blocks(B * K * L)
        partial = xp.empty((G, splits, 2))
        x = xp.ascontiguousarray(x)
        launch("norm_moments", x, partial, B, G, K * L, splits, threads)
        launch("norm_finish", x, partial, mean, var, B, G, K * L, splits)
    return mean, var


def _forward_cuda(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    x, mean, var, weight, bias = contiguous(x, mean, var, weight, bias)
    y = array_module(x).empty_like(x)
    how = (*x.shape, eps, *_blocks(x[:, :1].size))
    launch("norm_forward", x, mean, var, weight, bias, y, *how)
    return y


def _grad_cuda(
    grad: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None,
    eps: float,
    constant: bool,
) -> tuple[Array, Array, Array]:
    grad, x, mean, var, weight = contiguous(grad, x, mean, var, weight)
    xp, (B, G, K, L) = array_module(x), x.shape
    if B * L == 1:  # layer norm: nothing to sum yet
        dw = grad.reshape(G, K) * _forward_cuda(x, mean, var, None, None, eps).reshape(G, K)
        db = grad.reshape(G, K)
    else:
        splits, threads = _blocks(B * L)
        partial = xp.empty((2, splits, G, K), x.dtype)
        launch("norm_grad_sums", grad, x, mean, var, partial, *x.shape, eps, splits, threads)
        dw, db = partial.sum(axis=1)
    average = slope = None
    if not constant:
        w = 1 if weight is None else weight
        m = x.dtype.type(max(B * K * L, 1))  # an int above 65535 makes float64 of it in CuPy 13
        average, slope = (w * db).sum(axis=1) / m, (w * dw).sum(axis=1) / m
    dx = xp.empty_like(x)
    how = (*x.shape, eps, *_blocks(B * K * L))
    launch("norm_grad_input", grad, x, mean, var, weight, average, slope, dx, *how)
    return dx, dw, db


def _blocks(elements: int) -> tuple[int, int]:
    """How many blocks share a sum of so many elements, and how many threads each has."""
    return max(1, -(-elements // ELEMENTS_A_BLOCK)), 32 if elements <= 1024 else 256


PARTS: dict[str, dict[str, Callable[..., Any]]] = {
    "numpy": {"moments": _moments_numpy, "forward": _forward_numpy, "grad": _grad_numpy},
    "cuda": {"moments": _moments_cuda, "forward": _forward_cuda, "grad": _grad_cuda},
}
