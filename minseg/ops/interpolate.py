"""Resizing: each output pixel reads a place of the input and mixes the pixels around it.

    place p of output o     (o + 1/2) in / out - 1/2     pixels are squares, corners meet corners
    with align_corners      o (in - 1) / (out - 1)       pixels are points, ends meet ends

    y[o] = sum over i of k(|p - i|) x[i],     x continued by its edge pixels
    linear          k(s) = 1 - s                              for s < 1
    cubic           k(s) = (a + 2) s^3 - (a + 3) s^2 + 1      for s <= 1,    a = -3/4
                           a s^3 - 5a s^2 + 8a s - 4a         for 1 < s < 2
    nearest         y[o] = x[floor(o in / out)]
    nearest-exact   y[o] = x[floor((o + 1/2) in / out)]
    area            y[o] = mean of x[floor(o in / out) : ceil((o + 1) in / out)]
    antialias       linear or cubic (a = -1/2); where the image gets smaller, the kernel is
                    stretched to reach every pixel: k(|p - i| / max(in / out, 1)) with
                    p = (o + 1/2) in / out - 1/2, over the pixels there are, divided by its sum

Where a scale factor is given, 1 / scale takes the place of in / out: they differ when in * scale is
not a whole number. Two axes are resized one after the other. So all that is needed is a table of
taps for each axis: which inputs each output reads, with which weights. The gradient uses the
transposed table: which outputs each input reached.

Shapes: x (N, C, *size) -> y (N, C, *out), one to three dimensions of size
Source: Keys, "Cubic convolution interpolation for digital image processing", 1981, section III
        (the kernel); the choice a = -3/4 is common to image libraries
"""

import math
import numbers
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from minseg.array import Array, array_module
from minseg.device import device_of, to_device
from minseg.ops.checks import check_tensor
from minseg.ops.fast import interpolate as fast
from minseg.ops.interpolate_taps import (
    ANTIALIASED,
    Taps,
    cubic_kernel,
    linear_kernel,
    taps_of,
    transposed,
)
from minseg.ops.op import Op, launch
from minseg.tensor import Tensor, record

Sizes = tuple[int, ...]
Scales = tuple[float | None, ...]  # None: the ratio of the sizes

# mode -> the numbers of dimensions that it can resize, and how it treats each axis
MODES = {
    "nearest": ((1, 2, 3), "nearest"),
    "nearest-exact": ((1, 2, 3), "nearest-exact"),
    "linear": ((1,), "linear"),
    "bilinear": ((2,), "linear"),
    "trilinear": ((3,), "linear"),
    "bicubic": ((2,), "cubic"),
    "area": ((1, 2, 3), "area"),
}


def interpolate_definition(
    x: Array, out: Sizes, scales: Scales, how: str, align_corners: bool
) -> Array:
    """The formulas above, as loops: per output, the weight of every input, then their sum."""
    for axis, scale in enumerate(scales):
        x = np.moveaxis(x, axis + 2, 0)
        y = np.zeros((out[axis], *x.shape[1:]), x.dtype)
        line = (len(x), out[axis], scale, how, align_corners)
        for o in range(out[axis]):
            for i, weight in _weights_by_definition(o, *line):
                y[o] += weight * x[i]
        x = np.moveaxis(y, 0, axis + 2)
    return x


def _weights_by_definition(
    o: int, size: int, out: int, scale: float | None, how: str, align_corners: bool
) -> list[tuple[int, float]]:
    step = 1 / scale if scale else size / out
    if how == "nearest":
        return [(o if out == size else min(math.floor(o * step), size - 1), 1.0)]
    if how == "nearest-exact":
        return [(min(math.floor((o + 0.5) * step), size - 1), 1.0)]
    if how == "area":
        window = range(o * size // out, -(-(o + 1) * size // out))
        return [(i, 1 / len(window)) for i in window]
    if how in ANTIALIASED:
        if align_corners:
            step = (size - 1) / (out - 1) if out > 1 else 0
        kernel, place = ANTIALIASED[how][0], (o + 0.5) * step - 0.5
        weights = [float(kernel(abs(place - i) / max(step, 1))) for i in range(size)]
        return [(i, weight / sum(weights)) for i, weight in enumerate(weights)]
    place = o * (size - 1) / max(out - 1, 1) if align_corners else (o + 0.5) * step - 0.5
    if how == "linear" and out == size:
        place = o
    kernel = {"linear": linear_kernel, "cubic": cubic_kernel}[how]
    near = range(math.floor(place) - 1, math.floor(place) + 3)
    return [(min(max(i, 0), size - 1), float(kernel(abs(place - i)))) for i in near]


def _resize(x: Array, axes: list[Taps]) -> Array:
    """x (N, C, *size) along one axis of size after the other: take by the table, weight, sum."""
    for axis, taps in enumerate(axes, start=2):
        weight = taps.weight.reshape(*taps.weight.shape, *(1,) * (x.ndim - axis - 1))
        taken = x.take(taps.index, axis=axis) * weight  # (N, C, ..., T, out, ...)
        x = np.add.reduce(taken, axis=axis, initial=None)  # not 0: 0 + -0 would be 0
    return x


def _forward_numpy(x: Array, out: Sizes, scales: Scales, how: str, align_corners: bool) -> Array:
    """Few elements by _resize; what is quicker for more stands in fast/interpolate.py."""
    lines = zip(x.shape[2:], out, scales, strict=True)
    axes = [taps_of(*line, how, align_corners, x.dtype) for line in lines]
    if fast.fits(x.shape, axes):
        return fast.forward(x, axes)
    return _resize(x, axes)


def _grad_input_numpy(
    grad: Array, size: Sizes, scales: Scales, how: str, align_corners: bool
) -> Array:
    """Resizing again, by the transposed tables: each input takes from the outputs it reached."""
    lines = zip(size, grad.shape[2:], scales, strict=True)
    axes = [taps_of(*line, how, align_corners, grad.dtype) for line in lines]
    if fast.fits((*grad.shape[:2], *size), axes):
        return fast.grad_input(grad, size, axes)
    return _resize(grad, [transposed(taps, n) for taps, n in zip(axes, size, strict=True)])


Table = tuple[Array, Array]  # taps on a device: index (int32) and weight, each (T, out)


@lru_cache(maxsize=256)
def _table(
    size: int,
    out: int,
    scale: float | None,
    how: str,
    align_corners: bool,
    dtype: np.dtype,
    device: str,
    transpose: bool,
) -> Table:
    """Cached, so that only the first of many training steps copies a table to the GPU."""
    taps = taps_of(size, out, scale, how, align_corners, dtype)
    taps = transposed(taps, size) if transpose else taps
    index, weight = taps.index.astype(np.int32), np.ascontiguousarray(taps.weight)
    return to_device(index, device), to_device(weight, device)


def _apply_cuda(x: Array, tables: list[Table]) -> Array:
    """kernels/interpolate.cu resizes rows and columns; one or three axes are reduced to two."""
    xp, device = array_module(x), device_of(x)
    if len(tables) == 1:
        unchanged = _table(1, 1, None, "nearest", False, x.dtype, device, transpose=False)
        return _apply_cuda(x[:, :, None], [unchanged, *tables])[:, :, 0]
    if len(tables) == 3:
        N, C, D, H, W = x.shape
        slices = _apply_cuda(x.reshape(N, C * D, H, W), tables[1:])
        flat = slices.reshape(N, C, D, slices.shape[2] * slices.shape[3])
        length = flat.shape[3]
        unchanged = _table(length, length, None, "nearest", False, x.dtype, device, transpose=False)
        volume = _apply_cuda(flat, [tables[0], unchanged])
        return volume.reshape(N, C, volume.shape[2], *slices.shape[2:])
    (row_taps, height), (col_taps, width) = (index.shape for index, _ in tables)
    y = xp.empty((*x.shape[:2], height, width), x.dtype)
    sizes = (x.shape[0] * x.shape[1], *x.shape[2:], height, width, row_taps, col_taps)
    launch("interpolate", xp.ascontiguousarray(x), *tables[0], *tables[1], y, *sizes)
    return y


def _forward_cuda(x: Array, out: Sizes, scales: Scales, how: str, align_corners: bool) -> Array:
    lines = zip(x.shape[2:], out, scales, strict=True)
    kind = (how, align_corners, x.dtype, device_of(x))
    return _apply_cuda(x, [_table(*line, *kind, transpose=False) for line in lines])


def _grad_input_cuda(
    grad: Array, size: Sizes, scales: Scales, how: str, align_corners: bool
) -> Array:
    lines = zip(size, grad.shape[2:], scales, strict=True)
    kind = (how, align_corners, grad.dtype, device_of(grad))
    return _apply_cuda(grad, [_table(*line, *kind, transpose=True) for line in lines])


op = Op(
    "interpolate",
    definition=interpolate_definition,
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
    cuda={"forward": _forward_cuda, "grad_input": _grad_input_cuda},
)


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """Resize input (N, C, *size) to `size`, or to floor(size * scale_factor).

    `mode` is "nearest", "nearest-exact", "area" (one to three dimensions), "linear" (one),
    "bilinear", "bicubic" (two) or "trilinear" (three). `recompute_scale_factor` replaces the given
    scale factor by the ratio of the sizes; "area" always does.

    `antialias`, for "bilinear" and "bicubic", lets every input pixel count when downsampling.

    Raises ValueError or TypeError for arguments that do not fit together, an empty image and a
    result of size 0.
    """
    check_tensor("interpolate", "input", input, ndim=None)
    if mode not in MODES:
        raise ValueError(f"interpolate: mode is {mode!r}, needs one of {', '.join(MODES)}")
    ranks, how = MODES[mode]
    if input.ndim - 2 not in ranks:
        needed = " or ".join(f"{rank + 2}" for rank in ranks)
        raise ValueError(
            f"interpolate: input has shape {input.shape}; mode {mode!r} needs {needed} dimensions "
            "(N, C, *size)"
        )
    if align_corners is not None and how not in ("linear", "cubic"):
        raise ValueError(f"interpolate: align_corners has no meaning for mode {mode!r}")
    if antialias:
        if mode not in ("bilinear", "bicubic"):
            raise ValueError(f"interpolate: antialias has no meaning for mode {mode!r}")
        how += " antialias"
    out, scales = _target(input.shape[2:], size, scale_factor, recompute_scale_factor)
    if mode == "area":
        scales = (None,) * len(out)

    aligned = bool(align_corners)
    y = op.forward(input.data, out, scales, how, aligned)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad, input.shape[2:], scales, how, aligned),)

    return record("interpolate", y, (input,), backward)


def _target(
    old: Sizes,
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute: bool | None,
) -> tuple[Sizes, Scales]:
    """The new size, and each axis' scale, or None where it is the ratio of the sizes."""
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: needs either size or scale_factor, and not both")
    if size is not None and recompute:
        raise ValueError("interpolate: recompute_scale_factor needs scale_factor, got size")
    name, value, kind = "scale_factor", scale_factor, "numbers"
    if size is not None:
        name, value, kind = "size", size, "ints"
    values: tuple[Any, ...] = tuple(value) if isinstance(value, Sequence) else (value,) * len(old)
    allowed = numbers.Real if kind == "numbers" else numbers.Integral
    if not all(isinstance(v, allowed) for v in values):
        raise TypeError(f"interpolate: {name} is {value!r}, needs {kind}")
    if len(values) != len(old):
        raise ValueError(f"interpolate: {name} is {value!r}, needs {len(old)} values")
    if not all(0 < v < math.inf for v in values):
        raise ValueError(f"interpolate: {name} is {value!r}, needs to be positive")
    scales: Scales = (None,) * len(old)
    if size is not None:
        out = tuple(int(v) for v in values)
    else:
        out = tuple(math.floor(n * v) for n, v in zip(old, values, strict=True))
        scales = scales if recompute else tuple(float(v) for v in values)
    if min(old) < 1 or min(out) < 1:
        raise ValueError(f"interpolate: an image of size {old} cannot become {out}")
    return out, scales
