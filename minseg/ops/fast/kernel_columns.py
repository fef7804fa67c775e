"""A depthwise convolution of large maps: a copy for each column of the kernel, one einsum.

depthwise.py multiplies and adds whole maps, a call of NumPy for each: every call reads and writes
what no longer fits the nearest cache. One einsum of all taps would go plane by plane, and find the
plane in that cache each time, but for two things. Rows padded at their end make the result wider
than it is to be; and einsum goes through its axes in the order of their strides, where a step to
the next column of the kernel is as long as one to the next place, so that it would walk the columns
innermost, three at a time. So each column j of the kernel gets a copy of the planes, moved so that

    copy[j][r, c] = x[r - top, c + j dilation - left],  0 outside

The copies are as wide as the result. A row i of the kernel reads from i dilation rows further on,
and a tap (i, j) one piece of memory as long as the result, whole rows end to end:

    y[r, c] = sum over i, j of  w[i, j] copy[j][r + i dilation, c]

The gradient of the weights is the dot product of the same pieces with the outputs' gradient. The
gradient of the input is a convolution by the kernel turned by 180 degrees.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minseg.array import Array
from minseg.ops.columns import Window, overlap
from minseg.ops.fast.channels_last import turned
from minseg.ops.pool import as_planes, plane_blocks
from minseg.parallel import parallel_for


def forward(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    """conv2d's forward, for groups = C and stride 1."""
    (N, C), size = x.shape[:2], window.output_size(*x.shape[2:])
    planes, y = as_planes(x)[:, 0], np.empty((N * C, size[0] * size[1]), x.dtype)
    weights = np.tile(w[:, 0], (N, 1, 1))  # of each plane
    biases = None if b is None else np.tile(b, N)[:, None]
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        block = blocks[index]
        np.einsum("pijo,pij->po", _taps(planes[block], window), weights[block], out=y[block])
        if biases is not None:
            y[block] += biases[block]
        if relu:
            np.clip(y[block], 0, np.inf, out=y[block])

    parallel_for(one_block, len(blocks))
    return y.reshape(N, C, *size)


def grad_input(grad: Array, w: Array, window: Window) -> Array:
    return forward(grad, w[..., ::-1, ::-1], None, turned(window))


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    """NaN of infinite gradients at the edge: what lies outside of x is a 0 here, not left out."""
    planes = as_planes(x)[:, 0]
    grads = grad.reshape(len(planes), 1, 1, grad.shape[2] * grad.shape[3])
    dw = np.empty((len(planes), *window.kernel), x.dtype)  # of each image
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        block = blocks[index]
        np.vecdot(_taps(planes[block], window), grads[block], out=dw[block])

    with np.errstate(invalid="ignore"):
        parallel_for(one_block, len(blocks))
    return dw.reshape(x.shape[0], *w_shape).sum(axis=0)


def _taps(planes: Array, window: Window) -> Array:
    """What each tap reads for all outputs, (planes, kh, kw, outputs): a view of the copies."""
    (P, height, width), (top, left) = planes.shape, window.padding
    out = window.output_size(height, width)
    copies = np.empty((P, window.kernel[1], height + 2 * top, out[1]), planes.dtype)
    copies[:, :, :top], copies[:, :, top + height :] = 0, 0
    for j in range(window.kernel[1]):
        source, target = overlap(slice(0, out[1]), j * window.dilation[1] - left, 1, width)
        copy = copies[:, j, top : top + height]
        copy[..., : target.start], copy[..., target.stop :] = 0, 0
        copy[..., target] = planes[..., source]
    plane, column, row, place = copies.strides
    return as_strided(
        copies,
        (P, *window.kernel, out[0] * out[1]),
        (plane, window.dilation[0] * row, column, place),
        writeable=False,
    )
