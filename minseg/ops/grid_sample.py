"""Sampling: each output reads the input at a place that a grid gives.

    y[n, :, o] = sum over i, j of k(p_y - i) k(p_x - j) x[n, :, i, j],     p = place(grid[n, o])

with k the kernel of linear or cubic interpolation (see interpolate.py), or the nearest pixel alone.
A grid value of -1 is one end of the image and 1 the other: the centres of the border pixels with
align_corners, else their outer edges. What lies outside is

    zeros        0
    border       the nearest place inside
    reflection   mirrored at the ends of the image until it is inside

A tap that is outside and counts as 0 reads an extra element, a zero, whose gradient is dropped. The
input gradient is a scatter, summed in float64 in the order of the outputs: the same each time.

Shapes: x (N, C, *size), grid (N, *out, D) -> y (N, C, *out), D = 2 or 3 dimensions of size; the
        grid's last axis runs x, y(, z): the last dimension of size first
Source: Jaderberg et al., "Spatial Transformer Networks", 2015, eq. 1, 5-7
"""

import math
from itertools import product
from typing import Any

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import check_tensor
from minseg.ops.fast import grid_sample as fast
from minseg.ops.grid_sample_taps import find_taps, samples, weight_of
from minseg.ops.interpolate_taps import cubic_kernel, linear_kernel
from minseg.ops.op import Op, launch
from minseg.parallel import parallel_for
from minseg.tensor import Tensor, record

MODES = ("bilinear", "nearest", "bicubic")  # in the order of the kernels' enums
PADDINGS = ("zeros", "border", "reflection")


def grid_sample_definition(
    x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    """The formula, output by output."""
    size = x.shape[2:]
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    pixels, results = np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)  # (N, ..., C)
    for o in np.ndindex(grid.shape[:-1]):
        places = []
        for g, length in zip(grid[o][::-1], size, strict=True):
            places.append(
                (g + 1) / 2 * (length - 1) if align_corners else ((g + 1) * length - 1) / 2
            )
        if mode != "bicubic":
            places = [
                _inside_by_definition(p, length, padding_mode, align_corners)
                for p, length in zip(places, size, strict=True)
            ]
        if mode == "nearest":
            places = [round(p) for p in places]  # halves to the even neighbour
        kernel = cubic_kernel if mode == "bicubic" else linear_kernel
        for taps in product(*(range(math.floor(p) - 1, math.floor(p) + 3) for p in places)):
            weight = math.prod(float(kernel(abs(p - i))) for p, i in zip(places, taps, strict=True))
            if mode == "bicubic":
                taps = tuple(
                    int(_inside_by_definition(i, length, padding_mode, align_corners))
                    for i, length in zip(taps, size, strict=True)
                )
            if all(0 <= i < length for i, length in zip(taps, size, strict=True)):
                results[o] += weight * pixels[o[0]][taps]
    return y


def _inside_by_definition(p: float, size: int, padding_mode: str, align_corners: bool) -> float:
    if padding_mode == "zeros":
        return p
    low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
    while padding_mode == "reflection" and low < high and not low <= p <= high:
        p = 2 * low - p if p < low else 2 * high - p
    return min(max(p, 0), size - 1)


def _flat_with_zero(image: Array) -> Array:
    """(C, *size) -> (C, places + 1): the last is 0, for what lies outside."""
    flat = image.reshape(image.shape[0], -1)
    return np.concatenate([flat, np.zeros_like(flat[:, :1])], axis=1)


def _forward_numpy(
    x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    size = x.shape[2:]
    y = np.empty((*x.shape[:2], *grid.shape[1:-1]), x.dtype)

    def one_image(n: int) -> None:
        axes = find_taps(grid[n], size, mode, padding_mode, align_corners)
        image = _flat_with_zero(x[n])
        total = np.zeros((x.shape[1], grid[n, ..., 0].size), x.dtype)
        for index, taps in samples(axes, size):
            total += image.take(index, axis=1) * weight_of(axes, taps)
        y[n] = total.reshape(y.shape[1:])

    parallel_for(one_image, x.shape[0])
    return y


def _grad_input_numpy(
    grad: Array,
    grid: Array,
    x_shape: tuple[int, ...],
    mode: str,
    padding_mode: str,
    align_corners: bool,
) -> Array:
    size = x_shape[2:]
    places = math.prod(size)
    dx = np.empty(x_shape, grad.dtype)

    def one_image(n: int) -> None:
        axes = find_taps(grid[n], size, mode, padding_mode, align_corners)
        indices, taps = zip(*samples(axes, size), strict=True)
        index = np.concatenate(indices)  # tap by tap
        weights = np.stack([weight_of(axes, each) for each in taps])
        for channel, share in zip(dx[n], grad[n].reshape(x_shape[1], -1), strict=True):
            total = np.bincount(index, (weights * share).ravel(), minlength=places + 1)
            channel[...] = total[:-1].reshape(size)

    parallel_for(one_image, x_shape[0])
    return dx


def _grad_grid_numpy(
    grad: Array, x: Array, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Array:
    """A grid value moves the weights: sum over channels and taps of grad * x * slope."""
    size = x.shape[2:]
    d_grid = np.zeros(grid.shape, grid.dtype)

    def one_image(n: int) -> None:
        axes = find_taps(grid[n], size, mode, padding_mode, align_corners)
        image, g = _flat_with_zero(x[n]), grad[n].reshape(x.shape[1], -1)
        total = d_grid[n].reshape(-1, len(size))
        for index, taps in samples(axes, size):
            value = (g * image.take(index, axis=1)).sum(axis=0)
            for d in range(len(size)):
                total[:, -1 - d] += value * weight_of(axes, taps, slope_of=d)
        d_grid[n] = total.reshape(grid.shape[1:])

    if mode != "nearest":
        parallel_for(one_image, x.shape[0])
    return d_grid


def _all_at_once(input: Tensor, grid: Tensor, *how: Any) -> Tensor:
    """The op on NumPy arrays: all taps are found once, for the output and both gradients."""
    x, (N, C, *size) = input.data, input.shape
    places, outputs = math.prod(size), math.prod(grid.shape[1:-1])
    axes = find_taps(grid.data, tuple(size), *how)
    indices, taps = zip(*samples(axes, tuple(size)), strict=True)
    index, weight = (
        np.stack([values.reshape(N, outputs) for values in each], axis=1)
        for each in (indices, [weight_of(axes, tap) for tap in taps])
    )
    pixels = fast.pixels_of(x.reshape(N, C, places))
    y = fast.forward(pixels, index, weight).reshape(N, C, *grid.shape[1:-1])

    def backward(grad: Array) -> tuple[Array | None, Array | None]:
        grad = grad.reshape(N, C, outputs)

        def of_input() -> Array:
            return fast.grad_input(grad, index, weight, places).reshape(x.shape)

        def of_grid() -> Array:
            values = fast.grad_weight(grad, pixels, index).swapaxes(0, 1)
            d_grid = np.empty(grid.shape, grid.dtype)
            for d in range(len(size)):
                moved = [
                    v.ravel() * weight_of(axes, tap, d) for v, tap in zip(values, taps, strict=True)
                ]
                d_grid[..., -1 - d] = sum(moved).reshape(grid.shape[:-1])
            return d_grid

        if not input.requires_grad or not grid.requires_grad:
            return (of_input(), None) if input.requires_grad else (None, of_grid())
        parts, results = (of_input, of_grid), {}

        def one_part(i: int) -> None:
            results[i] = parts[i]()

        parallel_for(one_part, 2)  # of_input is in one thread in any case
        return results[0], results[1]

    return record("grid_sample", y, (input, grid), backward)


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
    x, grid = xp.ascontiguousarray(x), xp.ascontiguousarray(grid)
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
    key = xp.empty((N, sizes[3], each), np.int64)
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
    d_grid = xp.empty(grid.shape, grid.dtype)
    sizes = (*x.shape[:2], *_sizes(x.shape[2:], grid))
    how = _how(mode, padding_mode, align_corners)
    grad, x, grid = (xp.ascontiguousarray(a) for a in (grad, x, grid))
    launch("grid_sample_grad_grid", grad, x, grid, d_grid, *sizes, *how)
    return d_grid


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

    x, where, how = input.data, grid.data, (mode, padding_mode, bool(align_corners))
    if op.is_numpy(x):
        return _all_at_once(input, grid, *how)
    y = op.forward(x, where, *how)

    def backward(grad: Array) -> tuple[Array | None, Array | None]:
        dx = d_grid = None
        if input.requires_grad:
            dx = op.grad_input(grad, where, x.shape, *how)
        if grid.requires_grad:
            d_grid = op.grad_grid(grad, x, where, *how)
        return dx, d_grid

    return record("grid_sample", y, (input, grid), backward)
