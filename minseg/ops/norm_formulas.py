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

Source: Ioffe & Szegedy, "Batch Normalization", 2015, section 3
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.op import launch

# Elements that one block of the kernels takes: enough to pay for its start, few enough that a batch
# gives every multiprocessor of a GPU a block.
ELEMENTS_A_BLOCK = 2**14


def norm_definition(x: Array, weight: Array | None, bias: Array | None, eps: float) -> Array:
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
    """Mean and variance (divided by m) of each group, (G,), in float64."""
    mean = _mean(x)
    return mean, _mean(np.square(x - mean[None, :, None, None]))


def _forward_numpy(
    x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> Array:
    y = _xhat(x, mean, inverse_deviation(var, eps))
    if weight is not None:
        y *= weight[None, :, :, None]
    if bias is not None:
        y += bias[None, :, :, None]
    return y.astype(x.dtype)


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
    r = inverse_deviation(var, eps)
    xhat = _xhat(x, mean, r)
    dw, db = (grad * xhat).sum(axis=(0, 3)), grad.sum(axis=(0, 3), dtype=np.float64)
    g = grad if weight is None else grad * weight[None, :, :, None]
    if not constant:
        through_var = xhat * _mean(g * xhat)[None, :, None, None]
        g = g - _mean(g)[None, :, None, None] - through_var
    dx = r[None, :, None, None] * g
    return dx.astype(x.dtype), dw.astype(x.dtype), db.astype(x.dtype)


def _mean(x: Array) -> Array:
    """Of each group, (G,), in float64; 0 where a batch is empty."""
    return x.sum(axis=(0, 2, 3), dtype=np.float64) / max(x[:, :1].size, 1)


def _xhat(x: Array, mean: Array, r: Array) -> Array:
    """In float64, as the statistics are: float32 would not hold all of a large mean."""
    return (x - mean[None, :, None, None]) * r[None, :, None, None]


def inverse_deviation(var: Array, eps: float) -> Array:
    """r = 1 / sqrt(var + eps)."""
    with np.errstate(invalid="ignore", divide="ignore"):  # eps = 0 on a constant, eps < 0
        return 1 / np.sqrt(var + eps)


def _moments_cuda(x: Array) -> tuple[Array, Array]:
    """kernels/norm.cu: one pass, sums of x less the group's first element, in float64."""
    xp, (B, G, K, L) = array_module(x), x.shape
    mean, var = xp.zeros(G), xp.zeros(G)
    if x.size:
        splits, threads = _blocks(B * K * L)
        partial = xp.empty((2, splits, G))
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
    """First dw and db; dx's two means, of g xhat and of g, are sums of these times the weight."""
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
