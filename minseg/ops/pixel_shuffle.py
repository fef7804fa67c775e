"""Pixel shuffle: r x r channels become the r x r pixels of a block, and back.

    shuffle:    y[..., c, h r + i, w r + j] = x[..., c r^2 + i r + j, h, w]
    unshuffle:  the same with x and y exchanged

A network that upsamples so computes at the low resolution. Nothing is computed here, elements only
move: each of the two is the gradient of the other.

Shapes: shuffle (..., C r^2, H, W) -> (..., C, H r, W r)
Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
        Convolutional Neural Network", 2016, equation 4
"""

import math

import numpy as np

from minseg.array import Array
from minseg.ops.checks import check_tensor
from minseg.ops.op import Op
from minseg.tensor import Tensor, record


def pixel_shuffle_definition(x: Array, r: int) -> Array:
    """The formula above, as loops."""
    *lead, channels, H, W = x.shape
    y = np.empty((*lead, channels // r**2, H * r, W * r), x.dtype)
    for index in np.ndindex(y.shape):
        n, (c, row, col) = index[:-3], index[-3:]
        y[index] = x[n][c * r**2 + row % r * r + col % r, row // r, col // r]
    return y


def pixel_unshuffle_definition(y: Array, r: int) -> Array:
    """The formula above, as loops."""
    *lead, channels, H, W = y.shape
    x = np.empty((*lead, channels * r**2, H // r, W // r), y.dtype)
    for index in np.ndindex(x.shape):
        n, (k, row, col) = index[:-3], index[-3:]
        x[index] = y[n][k // r**2, row * r + k % r**2 // r, col * r + k % r]
    return x


def _shuffle(x: Array, r: int) -> Array:
    *lead, channels, H, W = x.shape
    x = x.reshape(math.prod(lead), channels // r**2, r, r, H, W)
    x = x.transpose(0, 1, 4, 2, 5, 3)  # (N, C, H, i, W, j)
    return x.reshape(*lead, channels // r**2, H * r, W * r)


def _unshuffle(y: Array, r: int) -> Array:
    *lead, channels, H, W = y.shape
    y = y.reshape(math.prod(lead), channels, H // r, r, W // r, r)
    y = y.transpose(0, 1, 3, 5, 2, 4)  # (N, C, i, j, H, W)
    return y.reshape(*lead, channels * r**2, H // r, W // r)


pixel_shuffle_op = Op(
    "pixel_shuffle",
    definition=pixel_shuffle_definition,
    numpy={"forward": _shuffle, "grad_input": _unshuffle},
)
pixel_unshuffle_op = Op(
    "pixel_unshuffle",
    definition=pixel_unshuffle_definition,
    numpy={"forward": _unshuffle, "grad_input": _shuffle},
)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels to pixels; shapes and formula at the top of this file.

    Raises ValueError where the number of channels is no multiple of upscale_factor^2.
    """
    r = upscale_factor
    _check("pixel_shuffle", "upscale_factor", input, r)
    if input.shape[-3] % r**2:
        raise ValueError(
            f"pixel_shuffle: input {input.shape} has {input.shape[-3]} channels, "
            f"needs a multiple of upscale_factor^2 = {r**2}"
        )
    y = pixel_shuffle_op.forward(input.data, r)
    return record("pixel_shuffle", y, (input,), lambda g: (pixel_shuffle_op.grad_input(g, r),))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels to channels; shapes and formula at the top of this file.

    Raises ValueError where height or width is no multiple of downscale_factor.
    """
    r = downscale_factor
    _check("pixel_unshuffle", "downscale_factor", input, r)
    if input.shape[-2] % r or input.shape[-1] % r:
        raise ValueError(
            f"pixel_unshuffle: input {input.shape} is {input.shape[-2]}x{input.shape[-1]}, "
            f"needs multiples of downscale_factor = {r}"
        )
    y = pixel_unshuffle_op.forward(input.data, r)
    return record("pixel_unshuffle", y, (input,), lambda g: (pixel_unshuffle_op.grad_input(g, r),))


def _check(op: str, name: str, input: Tensor, factor: int) -> None:
    check_tensor(op, "input", input, ndim=None)
    if input.ndim < 3:
        raise ValueError(f"{op}: input has shape {input.shape}, needs (..., C, H, W)")
    if not isinstance(factor, int | np.integer):
        raise TypeError(f"{op}: {name} is {factor!r}, needs an int")
    if factor < 1:
        raise ValueError(f"{op}: {name} is {factor}, needs at least 1")
