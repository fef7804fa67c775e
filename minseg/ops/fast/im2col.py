"""Convolution as a product of matrices, block by block, so that the columns stay in the cache.

    y = w @ columns,        (O / G, C / G kh kw) @ (C / G kh kw, positions) for each of the G groups

and the gradients, of the columns w^T @ grad, of the weights grad @ columns^T. This is the way for
any stride, padding, dilation and groups; for some, conv2d.py here knows quicker ones.

How the work is cut never depends on the number of threads: neither do the bits.

Source: Chellapilla, Puri & Simard, "High Performance Convolutional Neural Networks for Document
        Processing", 2006, section 4
"""

import math

import numpy as np

from minseg.array import Array
from minseg.ops.fast import shifted
from minseg.ops.fast.blocks import BLOCKS, CACHE_BYTES, Box, boxes, counted
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.fast.windows import gather, scatter_add
from minseg.ops.window import Window
from minseg.parallel import parallel_for

TASKS = 4  # that a gradient is cut into, about: with more, products get short, copies repeat
CHANNELS_A_TASK = 16  # at least
MOST_SUMS = 2**20  # elements that the partial sums of the weights may have in all
MIN_PIXELS = 64  # an image with as many is multiplied by itself where pixels need no copy
MORE_PIXELS = 256  # the same, where blocks are large, and could hold several images
MOVE = 32  # multiplications in the time of copying an element: about 20 to 75


def explain(x: Array, w_shape: tuple[int, ...], window: Window, groups: int) -> str:
    halves = len(_shares(w_shape, groups, 4)) > 1
    blocks = _boxes(x.shape, w_shape, window, 4, halves)
    n, h, w = blocks[0].shape
    columns = n * h * w
    if window.is_pixel and n == 1:
        return f"the pixels as they lie, {counted(blocks)} of {columns}"
    size = f"{_bytes_a_column(x.shape, w_shape, 4) * columns >> 10} KiB"
    return f"im2col, {counted(blocks)} of {columns} columns, {size}" + halves * ", in halves"


def forward(x: Array, w: Array, window: Window, groups: int, epilogue: Epilogue) -> Array:
    """conv2d's forward."""
    size = window.output_size(*x.shape[2:])
    y = np.empty((x.shape[0], w.shape[0], *size), x.dtype)
    matrices = w.reshape(groups, w.shape[0] // groups, -1)
    shares = _shares(w.shape, groups, w.itemsize)
    blocks = _boxes(x.shape, w.shape, window, w.itemsize, large=len(shares) > 1)

    def one_block(index: int) -> None:
        box, share = blocks[index // len(shares)], shares[index % len(shares)]
        matrix = matrices[:, share]
        columns = gather(x, window, box).reshape(groups, matrix.shape[2], -1)
        out = y[box.images, share, box.rows, box.cols]  # (n, O, h, w)
        if box.shape[0] == 1 and box.shape[2] == size[1]:  # these lie in y as a matrix's rows do
            _multiply(matrix, columns, out.reshape(groups, matrix.shape[1], -1))
        else:
            product = np.empty((*matrix.shape[:2], columns.shape[2]), x.dtype)
            _multiply(matrix, columns, product)
            out[...] = product.reshape(-1, *box.shape).swapaxes(0, 1)
        epilogue.apply(out, 1, share)

    moved = 0 if window.is_pixel else y[:, 0].size * _bytes_a_column(x.shape, w.shape, itemsize=1)
    work = w[0].size * y.size + MOVE * moved
    parallel_for(one_block, len(blocks) * len(shares), work)
    return y


def grad_input(
    grad: Array, w: Array, x_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """The gradient of the columns, added to the places that these came from."""
    dx = np.zeros(x_shape, grad.dtype)
    blocks = _boxes(x_shape, w.shape, window, w.itemsize, large=True)
    parts = _parts(w.shape, groups)

    def one_part(index: int) -> None:
        inputs, outputs, columns_of, count = parts[index]
        matrix = w[outputs, columns_of]
        matrix = matrix.reshape(count, len(matrix) // count, -1).swapaxes(1, 2)
        for box in blocks:
            columns = matrix @ _by_group(grad[:, outputs], box, count)
            columns = columns.reshape(-1, *window.kernel, *box.shape)
            scatter_add(columns, window, box, dx[:, inputs])

    parallel_for(one_part, len(parts), w[0].size * grad.size)
    return dx


def grad_weight(
    grad: Array, x: Array, w_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """A weight meets one column element at every output: a product, summed over blocks.

    Where there are few weights, the blocks are shared among tasks, each with sums of its own.
    """
    parts = _parts(w_shape, groups)
    blocks = _boxes(x.shape, w_shape, window, x.itemsize, large=len(parts) > 1)
    few = MOST_SUMS // max(math.prod(w_shape), 1)
    shares = max(1, min(TASKS // len(parts), len(blocks), few))
    sums = np.empty((shares, *w_shape), x.dtype)

    def one_task(index: int) -> None:
        share, part = divmod(index, len(parts))
        inputs, outputs, columns_of, count = parts[part]
        target = sums[share, outputs, columns_of]
        size, length = target.shape[0] // count, target[0].size
        turned = length > size  # BLAS is up to twice as quick with the larger factor first
        total = np.zeros((count, length, size) if turned else (count, size, length), x.dtype)
        for box in blocks[share::shares]:
            columns = gather(x[:, inputs], window, box).reshape(count, length, -1)
            factors = columns, _by_group(grad[:, outputs], box, count)
            first, last = factors if turned else factors[::-1]
            total += first @ last.swapaxes(1, 2)
        target[...] = (total.swapaxes(1, 2) if turned else total).reshape(target.shape)

    parallel_for(one_task, shares * len(parts), math.prod(w_shape[1:]) * grad.size)
    return sums.sum(axis=0) if shares > 1 else sums[0]


def _multiply(matrices: Array, columns: Array, out: Array) -> None:
    """out = matrices @ columns, of each group; a single small matrix in pieces."""
    if len(matrices) == 1 and matrices.size <= shifted.SMALL_PRODUCT // shifted.PIECE:
        shifted.multiply(matrices[0], columns[0], out[0])
    else:
        np.matmul(matrices, columns, out=out)


def _parts(w_shape: tuple[int, ...], groups: int) -> list[tuple[slice, slice, slice, int]]:
    """Cut the gradients into tasks: by input channels, or, if there are groups, by groups.

    A part is the slices of its input channels, its output channels and its channels within a group,
    and the number of its groups.
    """
    out_channels, in_channels = w_shape[0] // groups, w_shape[1]
    length = in_channels if groups == 1 else groups
    step = max(-(-length // TASKS), CHANNELS_A_TASK if groups == 1 else 1)
    ranges = [(start, min(start + step, length)) for start in range(0, length, step)]
    if groups == 1:
        return [(slice(a, b), slice(0, out_channels), slice(a, b), 1) for a, b in ranges]
    return [
        (
            slice(a * in_channels, b * in_channels),
            slice(a * out_channels, b * out_channels),
            slice(0, in_channels),
            b - a,
        )
        for a, b in ranges
    ]


def _shares(w_shape: tuple[int, ...], groups: int, itemsize: int) -> list[slice]:
    """The output channels, in halves where the weights do not fit the cache."""
    O = w_shape[0]
    heavy = groups == 1 < O and math.prod(w_shape) * itemsize > CACHE_BYTES
    return [slice(0, O // 2), slice(O // 2, O)] if heavy else [slice(0, O)]


def _boxes(
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    window: Window,
    itemsize: int,
    large: bool = False,
) -> list[Box]:
    """The blocks of output positions, `large` ones if there is work for all threads without them.

    Pixels that need no copy are taken image by image.
    """
    size = window.output_size(*x_shape[2:])
    apart = window.is_pixel and math.prod(size) >= (MORE_PIXELS if large else MIN_PIXELS)
    bytes_a_column = _bytes_a_column(x_shape, w_shape, itemsize)
    return boxes(x_shape[0], size, bytes_a_column, apart, 1 if large else BLOCKS)


def _bytes_a_column(x_shape: tuple[int, ...], w_shape: tuple[int, ...], itemsize: int) -> int:
    """Memory for one output position: its patch, in all groups, and its outputs."""
    return (x_shape[1] * w_shape[2] * w_shape[3] + w_shape[0]) * itemsize


def _by_group(grad: Array, box: Box, groups: int) -> Array:
    """What `grad` (N, O, H', W') holds in `box`, as (groups, O / groups, positions)."""
    inside = grad[box.images, :, box.rows, box.cols].swapaxes(0, 1)
    return inside.reshape(groups, grad.shape[1] // groups, -1)
