"""Nearest-neighbour upsampling of images by whole factors f x g: each pixel becomes a block.

That needs no table of taps. A row is written g times, each time to every g-th column, and the
result is copied f - 1 times. The gradient adds up the f rows of each block, whole rows at once,
and then its g columns.
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array
from minseg.parallel import parallel_for

BLOCK_BYTES = 2**20  # of the larger image, for one thread at a time


def fits(size: Sequence[int], indices: Sequence[np.ndarray]) -> bool:
    """Two axes, whose outputs read 0, 0, ..., 1, 1, ...: each pixel the same number of times."""
    if len(size) != 2 or any(len(index) != 1 for index in indices):
        return False
    factors = [index.size // n for n, index in zip(size, indices, strict=True)]
    return all(
        index.size == n * f and np.array_equal(index[0], np.arange(index.size) // f)
        for n, f, index in zip(size, factors, indices, strict=True)
    )


def forward(x: Array, out: Sequence[int]) -> Array:
    """(N, C, H, W) -> (N, C, H f, W g)."""
    planes = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])
    y = np.empty((len(planes), *out), x.dtype)
    blocks = _in_blocks_of_pixels(y, x.shape[2:])
    step = _planes_a_block(y)

    def one_block(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        target = blocks[block]
        for j in range(target.shape[4]):
            target[:, :, 0, :, j] = planes[block]
        for i in range(1, target.shape[2]):
            target[:, :, i] = target[:, :, 0]

    parallel_for(one_block, -(-len(planes) // step))
    return y.reshape(*x.shape[:2], *out)


def grad_input(grad: Array, size: Sequence[int]) -> Array:
    """(N, C, H f, W g) -> (N, C, H, W): the sum of each block."""
    planes = grad.reshape(grad.shape[0] * grad.shape[1], *grad.shape[2:])
    dx = np.empty((len(planes), *size), grad.dtype)
    blocks = _in_blocks_of_pixels(planes, size)
    step = _planes_a_block(planes)

    def one_block(index: int) -> None:
        block = slice(index * step, (index + 1) * step)
        rows = blocks[block]
        total = rows[:, :, 0]  # (P, H, W, g)
        for i in range(1, rows.shape[2]):
            total = total + rows[:, :, i] if i == 1 else np.add(total, rows[:, :, i], out=total)
        dx[block] = total[..., 0]
        for j in range(1, total.shape[3]):
            dx[block] += total[..., j]

    parallel_for(one_block, -(-len(planes) // step))
    return dx.reshape(*grad.shape[:2], *size)


def _in_blocks_of_pixels(image: Array, size: Sequence[int]) -> Array:
    """A view (P, H, f, W, g) of planes (P, H f, W g)."""
    (H, W), (height, width) = size, image.shape[1:]
    return image.reshape(len(image), H, height // H, W, width // W)


def _planes_a_block(planes: Array) -> int:
    return max(1, BLOCK_BYTES // max(planes[:1].nbytes, 1))
