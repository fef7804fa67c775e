"""Sampling: each output reads the input at a place that a grid gives.

    y[n, :, o] = sum over i, j of k(p_y - i) k(p_x - j) x[n, :, i, j],     p = place(grid[n, o])

    place(g) = ((g + 1) size - 1) / 2     -1 and 1 are the outer edges of the border pixels
               (g + 1) (size - 1) / 2     with align_corners: -1 and 1 are their centres

with k the kernel of linear or cubic interpolation (see interpolate.py), or the nearest pixel alone.
What lies outside is

    zeros        0
    border       the nearest place inside
    reflection   mirrored at the ends of the image until it is inside

The elements (i, j) that an output reads are its taps. A tap outside that counts as 0 reads an extra
element, a zero, whose gradient is dropped. The input gradient is a scatter: it adds in the order of
the taps and outputs, the same each time.

Shapes: x (N, C, *size), grid (N, *out, D) -> y (N, C, *out), D = 2 or 3 dimensions of size; the
        grid's last axis runs x, y(, z): the last dimension of size first
Source: Jaderberg et al., "Spatial Transformer Networks", 2015, eq. 1, 5-7
"""

import math
from itertools import product

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.checks import check_tensor
from minseg.ops.fast import grid_sample as fast
from minseg.ops.grid_sample_taps import find_taps, samples, weight_of
from minseg.ops.interpolate_taps import cubic_kernel, linear_kernel
from minseg.ops.op import Op, launch
from minseg.tensor import Tensor, record

MODES = ("bilinear", "nearest", "bicubic")  # in the order of the kernels' enums
PADDINGS = ("zeros", "border", "reflection")


def grid_sample_definition(
    x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    """The formula, output by output."""
    size, kernel = x.shape[2:], cubic_kernel if mode == "bicubic" else linear_kernel
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)

    def place(g: float, length: int) -> float:
        return (g + 1) / 2 * (length - 1) if align_corners else ((g + 1) * length - 1) / 2

    def inside(p: float, length: int) -> float:
        return _inside_by_definition(p, length, padding_mode, align_corners)

    for n, *o in np.ndindex(grid.shape[:-1]):
        places = list(map(place, grid[(n, *o)][::-1], size))
        if mode != "bicubic":  # there, each tap is brought inside
            places = list(map(inside, places, size))
        if mode == "nearest":
            places = [round(p) for p in places]  # halves to the even neighbour
        for taps in product(*(range(math.floor(p) - 1, math.floor(p) + 3) for p in places)):
            weight = math.prod(float(kernel(abs(p - i))) for p, i in zip(places, taps, strict=True))
            if mode == "bicubic":
                taps = tuple(int(inside(i, length)) for i, length in zip(taps, size, strict=True))
            if all(0 <= i < length for i, length in zip(taps, size, strict=True)):
                y[(n, slice(None), *o)] += weight * x[(n, slice(None), *taps)]
    return y


def _inside_by_definition(p: float, size: int, padding_mode: str, align_corners: bool) -> float:
    if padding_mode == "zeros":
        return p
    low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
    while padding_mode == "reflection" and low < high and not low <= p <= high:
        p = 2 * low - p if p < low else 2 * high - p
    return min(max(p, 0), size - 1)


def _forward_numpy(
    x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    """Tap by tap: what all outputs read, times their weights.

    fast/grid_sample.py finds the taps once, for the output and both gradients.
    """
    (N, C, *_), out = x.shape, grid.shape[1:-1]
    axes = find_taps(grid, x.shape[2:], mode, padding_mode, align_corners)
    flat, y = _flat_with_zero(x), np.zeros((N, C, math.prod(out)), x.dtype)
    for index, taps in samples(axes, x.shape[2:]):
        y += flat.take(_in_flat(index, x.shape)) * weight_of(axes, taps)[:, None]
    return y.reshape(N, C, *out)


def _grad_input_numpy(
    grad: Array,
    grid: Array,
    x_shape: tuple[int, ...],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Array:
    """Where an output read, there it adds its gradient, times the same weight."""
    N, C, *size = x_shape
    axes = find_taps(grid, x_shape[2:], mode, padding_mode, align_corners)
    grad = grad.reshape(N, C, math.prod(grid.shape[1:-1]))
    total = np.zeros((N, C, math.prod(size) + 1))  # in float64, as bincount has it
    for index, taps in samples(axes, x_shape[2:]):
        place, share = _in_flat(index, x_shape), grad * weight_of(axes, taps)[:, None]
        sums = np.bincount(place.ravel(), share.ravel(), minlength=total.size)
        total += sums.reshape(total.shape)
    return total[..., :-1].reshape(x_shape).astype(grad.dtype)


def _grad_grid_numpy(
    grad: Array, x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    """A grid value moves the weights: sum over channels and taps of grad * x * slope."""
    dgrid = np.zeros(grid.shape, grid.dtype)
    if mode == "nearest":
        return dgrid
    axes = find_taps(grid, x.shape[2:], mode, padding_mode, align_corners)
    flat, grad = _flat_with_zero(x), grad.reshape(*x.shape[:2], math.prod(grid.shape[1:-1]))
    for index, taps in samples(axes, x.shape[2:]):
        value = (grad * flat.take(_in_flat(index, x.shape))).sum(axis=1)  # (N, outputs)
        for d in range(len(axes)):
            moved = value * weight_of(axes, taps, slope_of=d)
            dgrid[..., -1 - d] += moved.reshape(dgrid.shape[:-1])
    return dgrid


def _flat_with_zero(x: Array) -> Array:
    """(N, C, *size) -> (N, C, places + 1): the last is 0, for what lies outside."""
    flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    return np.concatenate([flat, np.zeros_like(flat[..., :1])], axis=2)


def _in_flat(index: Array, x_shape: tuple[int, ...]) -> Array:
    """Places in an image (N, outputs) as indices (N, C, outputs) of all of _flat_with_zero(x)."""
    N, C, *size = x_shape
    first = np.arange(N * C) * (math.prod(size) + 1)  # of each channel
    return first.reshape(N, C, 1) + index[:, None]


def _sizes(size: tuple[int, ...], grid: Array) -> tuple[int, ...]:
    """Depth (1 of an image), height, width, number of outputs, number of dimensions."""
    return (*(1, *size)[-3:], math.prod(grid.shape[1:-1]), len(size))


def _how(mode: str, padding_mode: str, align_corners: bool) -> tuple[int, int, bool]:
    return MODES.index(mode), PADDINGS.index(padding_mode), align_corners


def _forward_cuda(
    x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    """kernels/grid_sample.cu: each thread finds the taps of one place, for all channels."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    sizes = (*x.shape[:2], *_sizes(x.shape[2:], grid))
    x, grid = contiguous(x, grid)
    launch("grid_sample_forward", x, grid, y, *sizes, *_how(mode, padding_mode, align_corners))
    return y


def _grad_input_cuda(
    grad: Array,
    grid: Array,
    x_shape: tuple[int, ...],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Array:
    """List all taps, sort them by the input that they read, and sum each input's in order."""
    xp, (N, C, *size) = array_module(grad), x_shape
    sizes, area = _sizes(x_shape[2:], grid), math.prod(size)
    each = {"bilinear": 2, "nearest": 1, "bicubic": 4}[mode] ** len(size)  # taps of a place
    key = xp.empty((each, N, sizes[3]), np.int64)
    weight = xp.empty(key.shape, grad.dtype)
    how = _how(mode, padding_mode, align_corners)
    launch("grid_sample_entries", xp.ascontiguousarray(grid), key, weight, N, *sizes, *how, each)
    key = xp.sort(key.ravel())
    start = xp.searchsorted(key, xp.arange(N * area + 1) * key.size).astype(np.int64)
    dx = xp.empty(x_shape, grad.dtype)
    grad = xp.ascontiguousarray(grad)
    launch("grid_sample_grad_input", grad, key, weight, start, dx, N, C, area, sizes[3], each)
    return dx


def _grad_grid_cuda(
    grad: Array, x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    xp = array_module(grad)
    dgrid = xp.empty(grid.shape, grid.dtype)
    sizes = (*x.shape[:2], *_sizes(x.shape[2:], grid))
    how = _how(mode, padding_mode, align_corners)
    grad, x, grid = contiguous(grad, x, grid)
    launch("grid_sample_grad_grid", grad, x, grid, dgrid, *sizes, *how)
    return dgrid


op = Op(
    "grid_sample",
    definition=grid_sample_definition,
    numpy={
        "forward": _forward_numpy,
        "grad_input": _grad_input_numpy,
        "grad_grid": _grad_grid_numpy,
    },
    cuda={
        "forward": _forward_cuda,
        "grad_input": _grad_input_cuda,
        "grad_grid": _grad_grid_cuda,
    },
)


def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """Sample input (N, C, *size) at grid (N, *out, D); formula and shapes at the top of this file.

    `mode` is "bilinear", "nearest" or, of images, "bicubic"; `padding_mode` is "zeros", "border" or
    "reflection"; `align_corners` of None is False. Raises ValueError or TypeError for arguments
    that do not fit together, or an input without pixels.
    """
    check_tensor("grid_sample", "input", input, ndim=None)
    check_tensor("grid_sample", "grid", grid, ndim=None, like=input)
    dims = input.ndim - 2
    modes = MODES if dims == 2 else MODES[:2]
    if dims not in (2, 3):
        raise ValueError(
            f"grid_sample: input has shape {input.shape}, needs 4 dimensions (N, C, H, W) or "
            "5 (N, C, D, H, W)"
        )
    if mode not in modes:
        raise ValueError(f"grid_sample: mode is {mode!r}, needs one of {', '.join(modes)}")
    if padding_mode not in PADDINGS:
        raise ValueError(
            f"grid_sample: padding_mode is {padding_mode!r}, needs one of {', '.join(PADDINGS)}"
        )
    if grid.ndim != input.ndim or grid.shape[-1] != dims or grid.shape[0] != input.shape[0]:
        raise ValueError(
            f"grid_sample: grid has shape {grid.shape}; input {input.shape} needs "
            f"({input.shape[0]}, {'..., ' * dims}{dims})"
        )
    if 0 in input.shape[2:]:
        raise ValueError(f"grid_sample: input has shape {input.shape}: there is nothing to sample")

    x, places, how = input.data, grid.data, (mode, padding_mode, bool(align_corners))
    if op.is_numpy(x) and fast.fits(x.shape, places.shape, mode):
        y, grad_input, grad_grid = fast.grid_sample(x, places, *how)
    else:
        y, grad_input, grad_grid = (
            op.forward(x, places, *how),
            lambda grad: op.grad_input(grad, places, x.shape, *how),
            lambda grad: op.grad_grid(grad, x, places, *how),
        )

    def backward(grad: Array) -> tuple[Array | None, Array | None]:
        dx = dgrid = None
        if input.requires_grad:
            dx = grad_input(grad)
        if grid.requires_grad:
            dgrid = grad_grid(grad)
        return dx, dgrid

    return record("grid_sample", y, (input, grid), backward)
