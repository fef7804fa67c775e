"""A 3x3 convolution with 16 multiplications where there are 36: Winograd's F(2x2, 3x3).

Two neighbouring outputs of a kernel of three, d0 g0 + d1 g1 + d2 g2 and d1 g0 + d2 g1 + d3 g2, take
six multiplications. They are also m0 + m1 + m2 and m1 - m2 + m3 of four:

    m0 = (d0 - d2) g0                           m3 = (d3 - d1) g2
    m1 = (d1 + d2) (g0 + g1 + g2) / 2           m2 = (d2 - d1) (g0 - g1 + g2) / 2

Written as matrices, m = (G g) * (B^T d) and y = A^T m, element by element. Along rows and along
columns, an image is cut into tiles of 2x2 outputs, which read 4x4 inputs each:

    y = A^T [(G g G^T) * (B^T d B)] A

Of each of the 16 elements, the sum over the channels of all tiles is one product of matrices. So a
convolution is 16 products, of (tiles, C) by (C, O), in place of one of (4 tiles, 9 C) by (9 C, O):
4/9 of the work. The additions before and after do not depend on the number of the other side's
channels: it pays where there are many of both. Channels lie side by side here, (tiles, C), so that
the additions run along whole rows of tiles.

The gradient of the inputs is a convolution again. That of the weights goes backwards through the
same formula,

    dg = G^T [(A dy A^T) * (B^T d B)] G,        summed over the tiles by the 16 products

Error: of B, A and twice G all elements are 0, 1 or -1; the roundings are about those of the plain
sum. But an infinite input makes NaNs, inf - inf, where the plain sum is infinite.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1, with
        the last row of B^T and the last column of A^T negated
"""

import math
from typing import Any

import numpy as np

from minseg.array import Array
from minseg.ops.fast.blocks import buffer, counted, even, row_blocks, workspace_of_a_thread
from minseg.ops.fast.epilogue import NOTHING, Epilogue
from minseg.ops.window import Window, overlap
from minseg.parallel import blas_on_one_thread, parallel_for

G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])

# With fewer channels, or fewer positions times channels, additions and kernels take too long.
CHANNELS, WORK = 64, 2**18
SMALLEST_MAP = 8  # rows or columns: on small maps too many tiles hang over the edge

# Of a block, for all that it computes on the way: smaller ones would stay in a nearer cache, but
# two threads whose calls of NumPy are short wait for each other.
BLOCK_BYTES = 3 * 2**20
BLOCKS = 4  # at least, if they have so many tiles:
TILES = 32

Block = tuple[slice, slice]  # a range of images and of their rows of tiles


def fits(x_shape: tuple[int, ...], w_shape: tuple[int, ...], window: Window, groups: int) -> bool:
    """Is this the quicker way?"""
    height, width = window.output_size(*x_shape[2:])
    return (
        window.kernel == (3, 3)
        and window.stride == window.dilation == (1, 1)
        and max(window.padding) <= 2
        and groups == 1
        and min(w_shape[:2]) >= CHANNELS
        and min(height, width) >= SMALLEST_MAP
        and x_shape[0] * height * width * min(w_shape[:2]) >= WORK
        and -(-width // 2) * _bytes_a_tile(w_shape, 8) <= workspace_of_a_thread()
        and 4 * 16 * math.prod(w_shape[:2]) <= workspace_of_a_thread()  # kernels, in float32
    )


def explain(x: Array, w_shape: tuple[int, ...], window: Window) -> str:
    size = window.output_size(*x.shape[2:])
    blocks = _blocks(len(x), size, _bytes_a_tile(w_shape, 4))
    tiles = math.prod(_grid(blocks[0], size[1]))
    return f"Winograd, {counted(blocks)} of {tiles} tiles"


def forward(x: Array, w: Array, window: Window, epilogue: Epilogue = NOTHING) -> Array:
    """conv2d's forward, for a 3x3 kernel at stride 1."""
    O, C = w.shape[:2]
    height, width = window.output_size(*x.shape[2:])
    y = np.empty((len(x), O, height, width), x.dtype)
    kernels = _kernels(w)
    blocks = _blocks(len(x), (height, width), _bytes_a_tile(w.shape, w.itemsize))

    def one_block(index: int) -> None:
        images, rows = blocks[index]
        grid = _grid(blocks[index], width)
        tiles = math.prod(grid)
        inputs, memory = _inputs(x[images], window, rows, grid, 20 * O * tiles)
        m = memory[: 16 * O * tiles].reshape(16, tiles, O)
        np.matmul(inputs.reshape(16, tiles, C), kernels, out=m)
        m = m.reshape(4, 4, *grid, O)
        sums = memory[16 * O * tiles : 20 * O * tiles].reshape(4, *grid, O)
        _two_of_four(m, sums)
        _two_of_four(m[::3].swapaxes(0, 1), sums[:2])
        outputs = m[::3, ::3]
        epilogue.apply(outputs, outputs.ndim - 1)
        of_block = y[images, :, 2 * rows.start : 2 * rows.stop]
        for i, j in np.ndindex(2, 2):
            part = of_block[:, :, i::2, j::2]
            inside = outputs[i, j, :, : part.shape[2], : part.shape[3]]
            part[...] = inside.transpose(0, 3, 1, 2)

    with np.errstate(invalid="ignore"):  # inf - inf
        parallel_for(one_block, len(blocks), 9 * C * y.size)
    return y


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    """The adjoint of `forward` in w: sums over tiles, taken back to 3x3 once, at the end."""
    O, C = w_shape[:2]
    blocks = _blocks(len(x), grad.shape[2:], _bytes_a_tile(w_shape, x.itemsize))
    sums: list[Any] = [0] * min(len(blocks), BLOCKS)

    def one_sum(index: int) -> None:
        for images, rows in blocks[index :: len(sums)]:
            grid = _grid((images, rows), grad.shape[3])
            tiles = math.prod(grid)
            inputs, memory = _inputs(x[images], window, rows, grid, 16 * O * tiles)
            m = memory[: 16 * O * tiles].reshape(4, 4, *grid, O)
            of_block = grad[images, :, 2 * rows.start : 2 * rows.stop]
            for i, j in np.ndindex(2, 2):
                outputs = m[3 * i, 3 * j]
                part = of_block[:, :, i::2, j::2].transpose(0, 2, 3, 1)
                outputs[:, part.shape[1] :] = outputs[:, :, part.shape[2] :] = 0
                outputs[:, : part.shape[1], : part.shape[2]] = part
            _four_of_two(m[:, ::3])
            _four_of_two(m.swapaxes(0, 1))
            by_output = m.reshape(16, tiles, O).swapaxes(1, 2)
            sums[index] += by_output @ inputs.reshape(16, tiles, C)

    if not blocks:
        return np.zeros(w_shape, x.dtype)
    with np.errstate(invalid="ignore"):  # inf - inf
        parallel_for(one_sum, len(sums), 9 * C * grad.size)
    total = sum(sums[1:], sums[0])
    with blas_on_one_thread():
        return (total.reshape(16, -1).T @ np.kron(G, G).astype(x.dtype)).reshape(w_shape)


def _kernels(w: Array) -> Array:
    """G g G^T of all kernels (O, C, 3, 3), as (16, C, O)."""
    O, C = w.shape[:2]
    rows, both = np.empty((4, 3, C, O), w.dtype), np.empty((4, 4, C, O), w.dtype)
    step = -(-C // 2)

    def one_share(index: int) -> None:
        share = slice(index * step, (index + 1) * step)
        g = np.ascontiguousarray(w[:, share].transpose(2, 3, 1, 0))
        _halves(g, rows[:, :, share])
        _halves(rows[:, :, share].swapaxes(0, 1), both[:, :, share].swapaxes(0, 1))

    parallel_for(one_share, -(-C // step))
    return both.reshape(16, C, O)


def _halves(g: Array, out: Array) -> None:
    """G g, into out (4, ...)."""
    out[0], out[3] = g[0], g[2]
    np.add(g[0], g[2], out=out[1])
    out[1] *= 0.5
    middle = g[1] * g.dtype.type(0.5)
    np.subtract(out[1], middle, out=out[2])
    out[1] += middle


def _inputs(
    x: Array, window: Window, rows: slice, grid: tuple[int, int, int], more: int
) -> tuple[Array, Array]:
    """B^T d B of the tiles in these rows of images x (n, C, H, W), as (4, 4, *grid, C).

    And memory for `more` elements.
    """
    (n, h, w), C = grid, x.shape[1]
    size, even_and_odd = 16 * n * h * w * C, n * (w + 1) * 2 * C
    memory = buffer((size + max(even_and_odd * (2 * h + 2 + 4 * h), more),), x.dtype)
    inputs, memory = memory[:size].reshape(4, 4, *grid, C), memory[size:]

    # Even and odd columns apart, for each to stand beside its like
    of_image = even_and_odd * (2 * h + 2)
    d = memory[:of_image].reshape(n, 2 * h + 2, 2, w + 1, C)
    d[...] = 0  # what lies outside of the image
    top, left = window.padding
    source, target = overlap(slice(0, 2 * h + 2), 2 * rows.start - top, 1, x.shape[2])
    for j in (0, 1):
        columns, places = overlap(slice(0, w + 1), j - left, 2, x.shape[3])
        d[:, target, j, places] = x[:, :, source, columns].transpose(0, 2, 3, 1)

    t = memory[of_image : of_image + 4 * h * even_and_odd].reshape(4, n, h, 2, w + 1, C)
    _four_differences(d[:, :-2:2], d[:, 1:-1:2], d[:, 2::2], d[:, 3::2], t)
    evens, odds = t.transpose(3, 0, 1, 2, 4, 5)
    here, right = np.s_[..., :-1, :], np.s_[..., 1:, :]
    _four_differences(evens[here], odds[here], evens[right], odds[right], inputs.swapaxes(0, 1))
    return inputs, memory


def _four_differences(d0: Array, d1: Array, d2: Array, d3: Array, out: Array) -> None:
    """B^T d, into out (4, ...)."""
    np.subtract(d0, d2, out=out[0])
    np.add(d1, d2, out=out[1])
    np.subtract(d2, d1, out=out[2])
    np.subtract(d3, d1, out=out[3])


def _two_of_four(m: Array, sums: Array) -> None:
    """A^T m of m (4, ...), in place: into m[0] and m[3]."""
    np.add(m[1], m[2], out=sums)
    m[1] -= m[2]
    m[0] += sums
    m[3] += m[1]


def _four_of_two(m: Array) -> None:
    """A y of y = (m[0], m[3]), in place: into m (4, ...)."""
    np.add(m[0], m[3], out=m[1])
    np.subtract(m[0], m[3], out=m[2])


def _grid(block: Block, width: int) -> tuple[int, int, int]:
    """Images, rows and columns of a block's tiles, where the output is so wide."""
    images, rows = block
    return images.stop - images.start, rows.stop - rows.start, -(-width // 2)


def _bytes_a_tile(w_shape: tuple[int, ...], itemsize: int) -> int:
    """Of memory, at most, for all that is computed of a tile on the way."""
    O, C = w_shape[:2]
    return (16 * C + 20 * max(O, C)) * itemsize


def _blocks(N: int, size: tuple[int, ...], bytes_a_tile: int) -> list[Block]:
    """Several images, or rows of tiles of one: small enough for the cache, enough for all cores."""
    height, width = (-(-n // 2) for n in size)
    most = min(BLOCK_BYTES, workspace_of_a_thread()) // (bytes_a_tile * width)
    count = even(min(BLOCKS, N * height * width // TILES))
    return row_blocks(N, height, most, count)
