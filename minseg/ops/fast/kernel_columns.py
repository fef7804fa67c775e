"""A depthwise convolution of large maps: a copy for each column of the kernel, then products.

Tap by tap, NumPy would multiply and add whole maps, and each call would read and write more than
fits into the nearest cache. Here the planes are copied for each column j of the kernel, padded and
shifted:

    copy[j][r, c] = x[r - top, c + j dilation - left],  0 outside

A copy is as wide as the result. A matrix product sums over the columns of each row i of the kernel,
and these sums are added up, each shifted by its row:

    part[i][r, c] = sum over j of  w[i, j] copy[j][r, c]
    y[r, c]       = sum over i of  part[i][r + i dilation, c]

All rows lie end to end, so r and c are one long axis. The gradient of the weights is the dot
product of the shifted copies with the outputs' gradient. The gradient of the input is a convolution
by the kernel turned round (turned.py).

A thread goes through its planes a few at a time, in the same memory, which stays in its cache.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minseg.array import Array
from minseg.ops.fast.dots import dots
from minseg.ops.fast.planes import as_planes, plane_blocks
from minseg.ops.fast.turned import turned, turns
from minseg.ops.window import Window, overlap
from minseg.parallel import parallel_for

PART_BYTES = 2**19  # of the planes copied at once: with fewer, the calls of NumPy are too short


def fits(window: Window) -> bool:
    """Is the gradient of the input such a convolution, too?"""
    return turns(window)


def forward(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    """conv2d's forward, for groups = C and stride 1."""
    (N, C), size = x.shape[:2], window.output_size(*x.shape[2:])
    planes, y = as_planes(x), np.empty((N * C, size[0] * size[1]), x.dtype)
    weights = np.tile(w[:, 0], (N, 1, 1))  # of each plane
    biases = None if b is None else np.tile(b, N)[:, None]
    blocks = plane_blocks(planes, fit_cache=False)

    def one_block(index: int) -> None:
        columns = _Columns(planes, window)
        sums = np.empty((columns.most, window.kernel[0], columns.copies.shape[2]), x.dtype)
        plane, row, place = sums.strides
        step = (plane, row + columns.step * place, place)
        moved = as_strided(sums, (*sums.shape[:2], y.shape[1]), step, writeable=False)
        for part, copies in columns.parts(blocks[index]):
            np.matmul(weights[part], copies, out=sums[: len(copies)])
            np.add.reduce(moved[: len(copies)], axis=1, out=y[part])
            if biases is not None:
                y[part] += biases[part]
            if relu:
                np.clip(y[part], 0, np.inf, out=y[part])

    with np.errstate(over="ignore", invalid="ignore"):  # inf * 0, inf - inf: NaN, it shows
        parallel_for(one_block, len(blocks))
    return y.reshape(N, C, *size)


def grad_input(grad: Array, w: Array, window: Window) -> Array:
    return forward(grad, w[..., ::-1, ::-1], None, turned(window))


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    """conv2d's grad_weight, but an infinite gradient at the edge gives NaN: padding counts as 0."""
    planes, outputs = as_planes(x), grad.shape[2] * grad.shape[3]
    grads = grad.reshape(len(planes), 1, 1, outputs)
    dw = np.empty((len(planes), *window.kernel), x.dtype)  # of each image
    blocks = plane_blocks(planes, fit_cache=False)

    def one_block(index: int) -> None:
        columns = _Columns(planes, window)
        plane, column, place = columns.copies.strides
        step = (plane, columns.step * place, column, place)
        shape = (columns.most, *window.kernel, outputs)
        lines = math.prod(shape[:3])
        moved = as_strided(columns.copies, shape, step, writeable=False)
        for part, copies in columns.parts(blocks[index]):
            dw[part] = dots(moved[: len(copies)], grads[part], lines)

    with np.errstate(over="ignore", invalid="ignore"):
        parallel_for(one_block, len(blocks))
    return dw.reshape(x.shape[0], *w_shape).sum(axis=0)


class _Columns:
    """The copies of a few planes at a time, (planes, kw, places), always in the same memory."""

    def __init__(self, planes: Array, window: Window) -> None:
        (P, height, width), (top, left) = planes.shape, window.padding
        self.planes = planes
        self.most = max(1, min(P, PART_BYTES // max(planes[:1].nbytes, 1)))
        out_width = window.output_size(height, width)[1]
        self.step = window.dilation[0] * out_width  # from one row of the kernel to the next
        copies = np.zeros((self.most, window.kernel[1], height + 2 * top, out_width), planes.dtype)
        self.reads = []
        for j in range(window.kernel[1]):
            source, target = overlap(slice(0, out_width), j * window.dilation[1] - left, 1, width)
            self.reads.append((source, copies[:, j, top : top + height, target]))
        self.copies = copies.reshape(*copies.shape[:2], -1)

    def parts(self, block: slice) -> Iterator[tuple[slice, Array]]:
        for start in range(block.start, block.stop, self.most):
            part = slice(start, min(start + self.most, block.stop))
            count = part.stop - part.start
            for source, target in self.reads:
                target[:count] = self.planes[part, :, source]
            yield part, self.copies[:count]
