"""im2col in blocks: the patches under a kernel as the columns of a matrix, within bounded memory.

A convolution is a matrix product once each patch of the image is a column. Written out whole, that
matrix is kernel height x kernel width times as large as the image; so it is made and used one block
of output positions at a time, in a buffer small enough to stay in the processor's cache.
"""

import math
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minseg.array import Array
from minseg.ops.checks import Pair
from minseg.ops.window import Window, overlap

CACHE_BYTES = 6 * 2**20  # a block of about this size is still in cache when it is multiplied
MIN_COLUMNS = 512  # but narrower products than this read the weights too often to be fast

# There are at least BLOCKS blocks, so that several threads have work, as long as each then has
# SHARED_COLUMNS columns. Their number is even: three would leave one of two threads waiting.
BLOCKS = 4
SHARED_COLUMNS = 64

_workspace_limit = 48 * 2**20
_buffers = threading.local()

Index = tuple[slice, slice, slice, slice]


def get_workspace_limit() -> int:
    """The most bytes that the buffers of a convolution take, over up to eight threads."""
    return _workspace_limit


def workspace_of_a_thread() -> int:
    """An eighth of the limit, however many threads there are, so that all cut the work alike."""
    return _workspace_limit // 8


def set_workspace_limit(limit: int) -> None:
    """Bound the buffers of a convolution to `limit` bytes. Raises ValueError below 64 KiB."""
    global _workspace_limit
    if limit < 2**16:
        raise ValueError(
            f"set_workspace_limit: {limit} bytes is too little, needs at least {2**16}"
        )
    _workspace_limit = limit


class Box(NamedTuple):
    """A block of output positions: a range of images, of rows and of columns."""

    images: slice
    rows: slice
    cols: slice

    @property
    def shape(self) -> tuple[int, int, int]:
        n, h, w = (s.stop - s.start for s in (self.images, self.rows, self.cols))
        return n, h, w


def all_positions(x_shape: tuple[int, ...], window: Window) -> Box:
    """The box of all output positions, of images of shape (N, C, H, W)."""
    height, width = window.output_size(*x_shape[2:])
    return Box(slice(0, x_shape[0]), slice(0, height), slice(0, width))


def boxes(
    images: int, size: Pair, bytes_a_column: int, apart: bool = False, blocks: int = BLOCKS
) -> list[Box]:
    """Cut images * height * width positions into boxes whose columns fit into the workspace.

    `apart`: no box has positions of two images. `blocks`: how many boxes there should be at least.
    """
    wanted = max(CACHE_BYTES // bytes_a_column, MIN_COLUMNS)
    allowed = workspace_of_a_thread() // bytes_a_column
    positions = images * math.prod(size)
    fair = math.ceil(positions / even(min(blocks, positions // SHARED_COLUMNS)))
    n, h, w = _box_size(max(1, min(wanted, allowed, fair)), images if not apart else 1, size)
    return [
        Box(
            slice(i, min(i + n, images)),
            slice(r, min(r + h, size[0])),
            slice(c, min(c + w, size[1])),
        )
        for i in range(0, images, n)
        for r in range(0, size[0], h)
        for c in range(0, size[1], w)
    ]


def even(count: int) -> int:
    """`count` rounded down to an even number of blocks, at least 1."""
    return max(count // 2 * 2, 1)


def row_blocks(
    images: int, height: int, most: int, count: int, together: bool = True
) -> list[tuple[slice, slice]]:
    """Cut the rows of all images into blocks, about `count` of them, of at most `most` rows each.

    A block is a range of images and of their rows: some of one image's or, if they are `together`,
    all of several. All blocks have about the same size.
    """
    rows = max(1, min(most, -(-images * height // count)))
    n = max(1, min(rows // height, images)) if together else 1
    n = _equal(images, n) or 1
    rows = _equal(height, min(rows, height))
    return [
        (slice(image, min(image + n, images)), slice(row, min(row + rows, height)))
        for image in range(0, images, n)
        for row in range(0, height, rows)
    ]


def counted(blocks: list) -> str:
    """ "1 block" or "8 blocks", for what tells how a convolution is cut."""
    return f"{len(blocks)} block{'s' * (len(blocks) != 1)}"


def _box_size(positions: int, images: int, size: Pair) -> tuple[int, int, int]:
    """The (images, rows, columns) of a box of at most so many positions.

    Whole images if one fits, else whole rows of one, else a piece of a row; all of about one size.
    """
    height, width = size
    if positions >= height * width:
        return _equal(images, positions // (height * width)), height, width
    if positions >= width:
        return 1, _equal(height, positions // width), width
    return 1, 1, _equal(width, positions)


def _equal(length: int, most: int) -> int:
    """`length` cut into as few equal parts of at most `most` as possible: the size of a part."""
    return math.ceil(length / math.ceil(length / most)) if length else 1


def gather(x: Array, window: Window, box: Box) -> Array:
    """The patches of `x` (N, C, H, W) at the positions in `box`, as (C, kh, kw, n, h, w).

    Outside of `x` is 0. The result is not to be written to: it lives in this thread's buffer, which
    the next call overwrites, or, where a patch is a single pixel, it is a view of `x` itself.
    """
    if window.is_pixel and box.shape[0] == 1:
        return x[box.images, :, box.rows, box.cols].swapaxes(0, 1)[:, None, None]
    columns = buffer((x.shape[1], *window.kernel, *box.shape), x.dtype)
    for i, j, source, target in taps(x, window, box):
        tap = columns[:, i, j]
        piece = x[source].swapaxes(0, 1)
        if piece.shape != tap.shape:
            tap[...] = 0
        tap[target] = piece
    return columns


def scatter_add(columns: Array, window: Window, box: Box, x: Array) -> None:
    """The adjoint of `gather`: add every column's elements to the places of `x` they came from."""
    for i, j, source, target in taps(x, window, box):
        x[source] += columns[:, i, j][target].swapaxes(0, 1)


def taps(x: Array, window: Window, box: Box) -> Iterator[tuple[int, int, Index, Index]]:
    """For each kernel element (i, j): what of `x` it reads, and to which positions of the box."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
        window.kernel,
        window.stride,
        window.padding,
        window.dilation,
    )
    rows = [overlap(box.rows, i * dh - ph, sh, x.shape[2]) for i in range(kh)]
    cols = [overlap(box.cols, j * dw - pw, sw, x.shape[3]) for j in range(kw)]
    for i, (row_source, row_target) in enumerate(rows):
        for j, (col_source, col_target) in enumerate(cols):
            source = (box.images, slice(None), row_source, col_source)
            yield i, j, source, (slice(None), slice(None), row_target, col_target)


def buffer(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Uninitialised memory of this thread, kept: fresh memory costs a page fault every 4 KiB."""
    size = math.prod(shape) * dtype.itemsize
    memory = getattr(_buffers, "memory", None)
    if memory is None or memory.size < size:
        memory = _buffers.memory = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)
