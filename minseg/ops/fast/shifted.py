"""A convolution of stride 1 with fewer copies than im2col's: one for each column of the kernel.

im2col copies every pixel kh * kw times. But patches one above the other share most of their pixels,
and in an image stored row after row, "one row down" is W places further on. So the image is copied
only kw times, once for each column of the kernel, shifted sideways,

    moved[j, k, r, c] = x[k, r, c + j * dilation - padding],    0 outside

and row i of the kernel multiplies a range of whole rows of these copies in place:

    y[:, rows] = sum over i of w[:, :, i] @ moved[rows + i * dilation - padding]

Of a channel of 3x3 pixels, with a kernel of 3x3 and padding 1:

    x           moved[0]    moved[1]    moved[2]
    a b c       0 a b       a b c       b c 0
    d e f       0 d e       d e f       e f 0
    g h i       0 g h       g h i       h i 0

Row 0 of y takes row 1 of the kernel times the first rows of all copies, and row 2 of the kernel
times the second rows; row 0 of the kernel would lie above the image.

Rows of padding are not multiplied at all. As the output is as wide as the image, a shift is one
long copy, after which the ends of the rows are set to 0. The gradient of the weights pairs each
row i of the kernel with each column j,

    dw[:, :, i, j] = lowered[i] @ moved[j]^T,    lowered[i, o, r] = grad[o, r - i * dilation + ...]

which is one product of a (kh O, positions) and a (positions, kw C) matrix.

A block may hold several small images. Then all rows of the kernel are one product, of which ranges
of rows are added up. That makes fewer and longer calls of NumPy, as threads need them: calls of
less than about 20 microseconds take turns at the interpreter's lock.

Blocks are cut by shapes alone and sums have a fixed order: the bits are the same for any number of
threads.

Source: Cho & Brand, "MEC: Memory-efficient Convolution for Deep Neural Network", 2017, section 3
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from minseg.array import Array
from minseg.ops.fast.blocks import buffer, counted, even, row_blocks, workspace_of_a_thread
from minseg.ops.fast.epilogue import NOTHING, Epilogue
from minseg.ops.window import Window, overlap
from minseg.parallel import SMALL, parallel_for

BLOCK_BYTES = 4 * 2**20  # for the copies of a block and its outputs: a share of the cache
BLOCKS = 4  # at least so many, for several threads, ...
POSITIONS = 256  # ... unless a block would then have fewer positions than this
SMALLEST_MAP = 64  # positions of an image: on smaller ones the products are too narrow to be fast

# OpenBLAS first packs large matrices, which takes as long as the product itself where one of them
# is narrow. With up to 100^3 multiplications it may skip that. So large products are cut into such
# pieces, if each has at least PIECE columns.
SMALL_PRODUCT = 100**3
PIECE = 64

# A dilated kernel's rows may read padding. A block of several images multiplies that, too; so it is
# used only where at least this share of the rows that are read lies within the image.
MOSTLY = 0.8

# The weight gradient is cut into about eight tasks: by input channels, and, if these give too few,
# by positions, with a sum for each task.
CHANNELS_A_TASK = 64
TASKS = 8

Block = tuple[slice, slice]  # a range of images and of their rows


def fits(x_shape: tuple[int, ...], w_shape: tuple[int, ...], window: Window, groups: int) -> bool:
    """Is this the quicker way? Not where many more outputs are added up than inputs copied."""
    (H, W), (O, C, kh, kw) = x_shape[2:], w_shape
    height, width = window.output_size(H, W)
    return (
        window.stride == (1, 1)
        and groups == 1
        and kh * kw > 1
        and width == W
        and min(H, height) * W >= SMALLEST_MAP
        and kw * C >= O
        and (kh * O + kw * C) * W * 8 <= _block_bytes()
    )


def explain(x: Array, w_shape: tuple[int, ...], window: Window) -> str:
    (N, _, H, W), (O, C, kh, kw) = x.shape, w_shape
    blocks = _blocks(N, window.output_size(H, W)[0], W, (kw * C + kh * O) * 4, _dense(window, H, W))
    images, rows = blocks[0]
    columns = images.stop * rows.stop * W
    size = f"{4 * kw * C * columns >> 10} KiB"
    return f"shifted columns, {counted(blocks)} of {columns} columns, {size}"


def forward(x: Array, w: Array, window: Window, epilogue: Epilogue = NOTHING) -> Array:
    """y (N, O, H', W) of x (N, C, H, W) and w (O, C, kh, kw), where `fits` holds."""
    (N, C, H, W), (O, _, kh, kw) = x.shape, w.shape
    y = np.empty((N, O, window.output_size(H, W)[0], W), x.dtype)
    matrices = _by_kernel_row(w)
    blocks = _blocks(N, y.shape[2], W, (kw * C + kh * O) * x.itemsize, _dense(window, H, W))

    def one_block(index: int) -> None:
        images, rows = blocks[index]
        out = y[images, :, rows].swapaxes(0, 1)  # (O, n, rows, W)
        read, taps = _reads(window, rows.start, rows.stop, H)
        together = out.shape[1] > 1  # several images: all rows of the kernel in one product
        copied = kw * C * out.shape[1] * (read.stop - read.start) * W
        sums = kh * O * copied // (kw * C) if together else out.size
        memory = buffer((copied + sums,), x.dtype)
        moved = memory[:copied].reshape(kw, C, out.shape[1], read.stop - read.start, W)
        _move(x[images, :, read].swapaxes(0, 1), window, moved)
        moved = moved.reshape(kw * C, *moved.shape[2:])
        if together:
            products = memory[copied:].reshape(kh, O, *moved.shape[1:])
            multiply(matrices.reshape(kh * O, -1), moved.reshape(kw * C, -1),
                      products.reshape(kh * O, -1))  # fmt: skip

        to_all = bool(taps) and taps[0].target == slice(0, out.shape[2])
        if not to_all:
            out[...] = 0
        for tap in taps:
            first = to_all and tap is taps[0]
            if together:
                term = products[tap.row, :, :, tap.source]
                if first:
                    out[...] = term
                else:
                    out[:, :, tap.target] += term
            else:
                factor, part = _flat(moved[:, 0, tap.source]), _flat(out[:, 0, tap.target])
                term = part if first else memory[copied : copied + part.size].reshape(part.shape)
                multiply(matrices[tap.row], factor, term)
                if not first:
                    part += term
        epilogue.apply(out, 0)

    parallel_for(one_block, len(blocks), w[0].size * y.size)
    return y


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    """dw (O, C, kh, kw) of grad (N, O, H', W) and x (N, C, H, W), by the formula above."""
    (N, C, H, W), (O, _, kh, kw) = x.shape, w_shape
    width = min(C, CHANNELS_A_TASK)
    blocks = _blocks(N, H, W, (kw * width + kh * O) * x.itemsize, together=True)  # of rows of x
    channels = [slice(k, min(k + width, C)) for k in range(0, C, width)]
    shares = max(1, min(len(blocks), TASKS // len(channels)))
    sums: list[Any] = [0] * (shares * len(channels))

    def one_task(index: int) -> None:
        share, inputs = index // len(channels), channels[index % len(channels)]
        for images, rows in blocks[share::shares]:
            pixels = x[images, inputs, rows].swapaxes(0, 1)  # (C, n, rows, W)
            lowered_size = kh * O * pixels[0].size
            memory = buffer((lowered_size + kw * pixels.size,), x.dtype)
            lowered = memory[:lowered_size].reshape(kh, O, *pixels.shape[1:])
            moved = memory[lowered_size:].reshape(kw, *pixels.shape)
            _move(pixels, window, moved)
            for copy, offset in zip(lowered, _offsets(window, 0), strict=True):
                source, into = overlap(rows, -offset, 1, grad.shape[2])
                if into != slice(0, copy.shape[2]):
                    copy[:, :, : into.start] = copy[:, :, into.stop :] = 0
                copy[:, :, into] = grad[images, :, source].swapaxes(0, 1)
            sums[index] += lowered.reshape(kh * O, -1) @ moved.reshape(kw * len(pixels), -1).T

    if not blocks:
        return np.zeros(w_shape, x.dtype)
    parallel_for(one_task, len(sums), w_shape[1] * kh * kw * grad.size)
    dw = np.empty(w_shape, x.dtype)
    for part, inputs in enumerate(channels):
        total, *others = sums[part :: len(channels)]
        for other in others:
            total += other
        total = total.reshape(kh, O, kw, -1)
        for i, j in np.ndindex(kh, kw):  # a third of the time that one transposed copy takes
            dw[:, inputs, i, j] = total[i, :, j]
    return dw


class Tap(NamedTuple):
    """A row of the kernel: the copied rows that it reads, for which of the block's output rows."""

    row: int
    source: slice
    target: slice


@lru_cache(maxsize=1024)
def _reads(window: Window, start: int, stop: int, height: int) -> tuple[slice, tuple[Tap, ...]]:
    """The rows of x that the output rows start to stop read, and the taps that read them.

    The tap that reaches the most outputs comes first.
    """
    met = [
        (row, *overlap(slice(start, stop), offset, 1, height))
        for row, offset in enumerate(_offsets(window, 0))
    ]
    met = [(row, source, target) for row, source, target in met if source != slice(0, 0)]
    met.sort(key=lambda tap: tap[1].start - tap[1].stop)
    first = min((source.start for _, source, _ in met), default=0)
    last = max((source.stop for _, source, _ in met), default=0)
    taps = (Tap(row, slice(s.start - first, s.stop - first), target) for row, s, target in met)
    return slice(first, last), tuple(taps)


def _by_kernel_row(w: Array) -> Array:
    """(O, C, kh, kw) -> (kh, O, kw C); two threads copy a half each of large weights."""
    O, C, kh, kw = w.shape
    matrices = np.empty((kh, O, kw, C), w.dtype)

    def copy(part: slice) -> None:
        matrices[:, part] = w[part].transpose(2, 0, 3, 1)

    if w.size <= 2 * SMALL:
        copy(slice(0, O))
    else:
        halves = slice(0, O // 2), slice(O // 2, O)
        parallel_for(lambda half: copy(halves[half]), 2)
    return matrices.reshape(kh, O, kw * C)


def _dense(window: Window, height: int, width: int) -> bool:
    """May a block hold several images, whose rows of padding are then multiplied, too?"""
    if window.dilation[0] == 1:
        return True
    met = sum(max(0, height - abs(offset)) for offset in _offsets(window, 0))
    return height * width < POSITIONS and met >= MOSTLY * window.kernel[0] * height


def _offsets(window: Window, axis: int) -> list[int]:
    """The offset from an output to what each row (axis 0) or column (1) of the kernel reads."""
    count, dilation, padding = window.kernel[axis], window.dilation[axis], window.padding[axis]
    return [i * dilation - padding for i in range(count)]


def _move(pixels: Array, window: Window, moved: Array) -> None:
    """Copy pixels (C, n, h, W) into moved (kw, C, n, h, W), shifted by each column's offset."""
    W, source = pixels.shape[-1], _flat(pixels)
    end = source.shape[-1]
    for copy, to, offset in zip(moved, _flat(moved), _offsets(window, 1), strict=True):
        left, right = min(max(-offset, 0), W), min(max(offset, 0), W)  # columns that get 0
        if left < W and right < W:
            to[..., left : end - right] = source[..., right : end - left]
        if left:
            copy[..., :left] = 0
        if right:
            copy[..., W - right :] = 0


def multiply(a: Array, b: Array, out: Array) -> None:
    """out = a @ b, where it is worth it in pieces that BLAS need not pack."""
    (rows, length), columns = a.shape, b.shape[1]
    piece = SMALL_PRODUCT // (rows * length) // PIECE * PIECE
    whole = columns // piece if piece else 0
    if whole > 1:
        end = whole * piece
        of_b, of_out = (m[:, :end].reshape(-1, whole, piece).swapaxes(0, 1) for m in (b, out))
        np.matmul(a, of_b, out=of_out)
        b, out = b[:, end:], out[:, end:]
    np.matmul(a, b, out=out)


def _flat(maps: Array) -> Array:
    """(..., h, W) as (..., h W): a view, if each row lies right behind the one above it."""
    return maps.reshape(*maps.shape[:-2], -1)


def _blocks(
    images: int, height: int, width: int, bytes_a_position: int, together: bool
) -> list[Block]:
    """Cut the rows of all images into blocks: small enough for the cache, enough for all cores.

    together: a block may hold several whole images.
    """
    most = _block_bytes() // (bytes_a_position * width)
    count = even(min(BLOCKS, images * height * width // POSITIONS))
    return row_blocks(images, height, most, count, together)


def _block_bytes() -> int:
    return min(BLOCK_BYTES, workspace_of_a_thread())
