"""A convolution of maps whose channels lie side by side: patches as rows of a matrix.

im2col.py copies patches out of maps that lie channel by channel: with a stride of two or more, no
two numbers that it copies in a row are neighbours. But the tokens of a transformer, seen as a map,
lie pixel by pixel, (N, H, W, C), and a row of a patch is one run of kw C numbers. So here a patch
is a row of the matrix, its channels last:

    y = patches @ w^T,      (positions, kh kw C) @ (kh kw C, O)

and the gradients: of the patches grad @ w, of the weights grad^T @ patches. The results lie pixel
by pixel, too, as they become tokens again.

How the work is cut never depends on the number of threads: neither do the bits.
"""

import math
from itertools import groupby

import numpy as np
from numpy.lib.stride_tricks import as_strided

from minseg.array import Array
from minseg.ops.checks import Pair
from minseg.ops.fast.blocks import counted, row_blocks, workspace_of_a_thread
from minseg.ops.fast.epilogue import NOTHING, Epilogue
from minseg.ops.window import Window
from minseg.parallel import parallel_for

BLOCK_BYTES = 2**20  # of patches: a share of the cache
TASKS = 4  # of the weights' gradient, at most: each has its own sums

Block = tuple[slice, slice]  # a range of images and of their rows


def fits(maps: Array, w_shape: tuple[int, ...], width: int, groups: int) -> bool:
    """Do the channels of `maps`, an input or a gradient, lie side by side in memory?

    And does the workspace hold the patches of one row of outputs, of which there are `width`?
    """
    row_bytes = width * math.prod(w_shape[1:]) * maps.itemsize
    side_by_side = maps.shape[1] > 1 and maps.strides[1] == maps.itemsize
    return groups == 1 and side_by_side and row_bytes <= workspace_of_a_thread()


def explain(x: Array, w_shape: tuple[int, ...], window: Window) -> str:
    patches = _patches(_padded(x, window), window, window.output_size(*x.shape[2:]))
    blocks = _blocks(patches)
    block = patches[blocks[0]]
    rows = math.prod(block.shape[:3])
    return f"patches as rows, {counted(blocks)} of {rows} patches, {block.nbytes >> 10} KiB"


def forward(x: Array, w: Array, window: Window, epilogue: Epilogue = NOTHING) -> Array:
    """conv2d's forward, for groups = 1."""
    patches = _patches(_padded(x, window), window, window.output_size(*x.shape[2:]))
    matrix, blocks = _matrix(w), _blocks(patches)
    y = np.empty((*patches.shape[:3], len(w)), x.dtype)

    def one_block(index: int) -> None:
        out = y[blocks[index]].reshape(-1, len(w))
        np.matmul(patches[blocks[index]].reshape(len(out), -1), matrix.T, out=out)
        epilogue.apply(out, 1)

    parallel_for(one_block, len(blocks), w[0].size * y.size)
    return y.transpose(0, 3, 1, 2)


def grad_input(grad: Array, w: Array, x_shape: tuple[int, ...], window: Window) -> Array:
    """The gradient of the patches, each tap's part added to the pixels that it came from."""
    (N, C, H, W), (top, left) = x_shape, window.padding
    dx = np.zeros((N, H + 2 * top, W + 2 * left, C), grad.dtype)
    patches = _patches(dx, window, grad.shape[2:])  # which overlap in memory
    grad, matrix = grad.transpose(0, 2, 3, 1), _matrix(w)
    by_images = [list(blocks) for _, blocks in groupby(_blocks(patches), lambda block: block[0])]

    def some_images(index: int) -> None:
        for block in by_images[index]:
            target = patches[block]
            parts = (grad[block].reshape(-1, len(w)) @ matrix).reshape(target.shape)
            if window.kernel == window.stride and window.dilation == (1, 1):
                target += parts  # these do not overlap
                continue
            for i, j in np.ndindex(window.kernel):
                target[:, :, :, i, j] += parts[:, :, :, i, j]

    parallel_for(some_images, len(by_images), w[0].size * grad.size)
    return dx[:, top : top + H, left : left + W].transpose(0, 3, 1, 2)


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    """The sum over all positions: each task has its own, and these are added up in order."""
    patches = _patches(_padded(x, window), window, grad.shape[2:])
    blocks, grad = _blocks(patches), grad.transpose(0, 2, 3, 1)
    O, C, kh, kw = w_shape
    sums = np.zeros((min(TASKS, len(blocks)), O, kh * kw * C), x.dtype)

    def one_task(index: int) -> None:
        for block in blocks[index :: len(sums)]:
            rows = grad[block].reshape(-1, O)
            sums[index] += rows.T @ patches[block].reshape(len(rows), -1)

    parallel_for(one_task, len(sums), kh * kw * C * grad.size)
    return sums.sum(axis=0).reshape(O, kh, kw, C).transpose(0, 3, 1, 2)


def _padded(x: Array, window: Window) -> Array:
    """Pixel by pixel, (N, H + 2 padding, W + 2 padding, C)."""
    (N, C, H, W), (top, left) = x.shape, window.padding
    if window.padding == (0, 0):
        return x.transpose(0, 2, 3, 1)
    padded = np.zeros((N, H + 2 * top, W + 2 * left, C), x.dtype)
    padded[:, top : top + H, left : left + W] = x.transpose(0, 2, 3, 1)
    return padded


def _patches(pixels: Array, window: Window, size: Pair) -> Array:
    """The view (N, H', W', kh, kw, C) of padded pixels (N, H, W, C)."""
    image, row, col, channel = pixels.strides
    (sh, sw), (dh, dw) = window.stride, window.dilation
    shape = (len(pixels), *size, *window.kernel, pixels.shape[3])
    return as_strided(pixels, shape, (image, sh * row, sw * col, dh * row, dw * col, channel))


def _matrix(w: Array) -> Array:
    """(O, C, kh, kw) as (O, kh kw C)"""
    return w.transpose(0, 2, 3, 1).reshape(len(w), -1)


def _blocks(patches: Array) -> list[Block]:
    """All rows of several images, or some of one: an even number, or one."""
    images, height = patches.shape[:2]
    row_bytes = math.prod(patches.shape[2:]) * patches.itemsize
    most = min(BLOCK_BYTES, workspace_of_a_thread()) // max(row_bytes, 1)
    pairs = -(-images * height * row_bytes // (2 * BLOCK_BYTES))
    single = images * height * row_bytes <= BLOCK_BYTES
    return row_blocks(images, height, most, 1 if single else 2 * pairs)
