"""How the work of a convolution is cut into blocks, and the memory in which a block is computed.

A block is a range of output positions: a Box, or a range of images and of their rows (row_blocks).
It is small enough for what it computes on the way to stay in the processor's cache, and never
larger than its share of the workspace. Blocks depend on shapes alone, not on the number of threads.
"""

import math
import threading
from typing import NamedTuple

import numpy as np

from minseg.array import Array
from minseg.ops.checks import Pair

CACHE_BYTES = 6 * 2**20  # a block of about this size is still in cache when it is multiplied
MIN_COLUMNS = 512  # but narrower products than this read the weights too often to be fast

# There are at least BLOCKS blocks, so that several threads have work, as long as each then has
# SHARED_COLUMNS columns. Their number is even: three would leave one of two threads waiting.
BLOCKS = 4
SHARED_COLUMNS = 64

_workspace_limit = 48 * 2**20
_buffers = threading.local()


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


def buffer(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Uninitialised memory of this thread, kept: fresh memory costs a page fault every 4 KiB."""
    size = math.prod(shape) * dtype.itemsize
    memory = getattr(_buffers, "memory", None)
    if memory is None or memory.size < size:
        memory = _buffers.memory = np.empty(size, np.uint8)
    return memory[:size].view(dtype).reshape(shape)
