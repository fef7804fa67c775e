"""im2col in one copy: all patches of a block are one view of its padded pixels.

columns.py makes one copy for each element of the kernel. For a 7x7 kernel these are 49 copies per
block, of a few microseconds each, and threads whose calls are so short take turns at the
interpreter's lock. But once the image is padded, the patches are a view of it, whose elements
overlap:

    patch[k, i, j, n, r, c] = padded[k, n, r * stride + i * dilation, c * stride + j * dilation]

Along each axis of `patch`, every step is the same number of bytes. NumPy can describe such a view
by its strides, so one call copies all columns.

The adjoint cannot add to this view, as += loses all but one of the values for an element that
occurs several times. Where a kernel is as large as its stride (patches of a vision transformer),
each element occurs once, and one call does that, too.
"""

import math

from numpy.lib.stride_tricks import as_strided

from minseg.array import Array
from minseg.ops.fast import columns as plain
from minseg.ops.fast.blocks import Box, buffer, workspace_of_a_thread
from minseg.ops.window import Window, overlap


def gather(x: Array, window: Window, box: Box) -> Array:
    """columns.gather, by one copy unless that takes much more memory."""
    if window.kernel == (1, 1):
        return plain.gather(x, window, box)
    (rows, to_rows, height), (cols, to_cols, width) = _reads(x.shape, window, box)
    pixels = x[box.images, :, rows, cols].swapaxes(0, 1)
    shape = (*pixels.shape[:2], height, width)  # with the padding
    space = 0 if pixels.shape == shape else math.prod(shape)
    size = x.shape[1] * math.prod(window.kernel + box.shape)
    if space > size or (size + space) * x.itemsize > workspace_of_a_thread():
        return plain.gather(x, window, box)
    memory = buffer((size + space,), x.dtype)
    columns = memory[:size].reshape(x.shape[1], *window.kernel, *box.shape)
    if space:
        padded = memory[size:].reshape(shape)
        padded[...] = 0
        padded[:, :, to_rows, to_cols] = pixels
        pixels = padded
    columns[...] = _patches(pixels, window, box)
    return columns


def scatter_add(columns: Array, window: Window, box: Box, x: Array) -> None:
    """columns.scatter_add, by one addition where the patches do not overlap."""
    if window == Window(window.stride, window.stride, (0, 0), (1, 1)):
        (rows, _, _), (cols, _, _) = _reads(x.shape, window, box)
        patches = _patches(x[box.images, :, rows, cols].swapaxes(0, 1), window, box)
        patches += columns
    else:
        plain.scatter_add(columns, window, box, x)


Reads = tuple[slice, slice, int]


def _reads(x_shape: tuple[int, ...], window: Window, box: Box) -> tuple[Reads, Reads]:
    """For rows and for columns: those of x that a box reads, their places in it, and its length.

    Its other places are padding.
    """
    rows, cols = (
        _reads_along(*axis)
        for axis in zip(
            (box.rows, box.cols), x_shape[2:], window.kernel, window.stride, window.padding,
            window.dilation, strict=True,
        )
    )  # fmt: skip
    return rows, cols


def _reads_along(
    positions: slice, size: int, kernel: int, stride: int, padding: int, dilation: int
) -> Reads:
    length = (positions.stop - positions.start - 1) * stride + (kernel - 1) * dilation + 1
    return *overlap(slice(0, length), positions.start * stride - padding, 1, size), length


def _patches(pixels: Array, window: Window, box: Box) -> Array:
    """The view (C, kh, kw, n, h, w) of a box's pixels (C, n, rows, columns)."""
    channel, image, row, col = pixels.strides
    (sh, sw), (dh, dw) = window.stride, window.dilation
    shape = (len(pixels), *window.kernel, *box.shape)
    return as_strided(pixels, shape, (channel, dh * row, dw * col, image, sh * row, sw * col))
