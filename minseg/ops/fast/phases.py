"""Strided transposed convolution without a scatter: every phase of the output is a convolution.

The definition adds the kernel to the output at each input, and neighbouring inputs meet there (a
scatter). Asking instead what each output reads avoids that. Count the rows of the output from where
the first kernel begins. Row s a + i, with i < s its phase, is reached by the rows i, i + s,
i + 2 s, ... of the kernel, placed at the inputs a, a - 1, a - 2, ... So

    y[o, s a + i - padding] = sum over k and taps t of w[k, o, i + s t] x[k, a - t]

is a small convolution at the input's resolution, which reads the same columns for all phases. Along
one axis, with stride 2, padding 0 and a kernel of 3, phase 0 has two taps and phase 1 has one:

    x          x0          x1          x2
    kernels    w0    w1    w2
                           w0    w1    w2
                                       w0    w1    w2
    y          y0    y1    y2    y3    y4    y5    y6
    phase      0     1     0     1     0     1     0

    y[2a] = w0 x[a] + w2 x[a - 1],      y[2a + 1] = w1 x[a]

All phases of a kind are one matrix product, whose rows go to every s-th row and column of y. There
is one kind where s divides the kernel's size; else, along that axis, two: with T and with T - 1
taps.

The gradients gather the phases of y's gradient and multiply them by the same matrix (for x), or by
the same columns (for w).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minseg.array import Array
from minseg.ops.checks import Pair
from minseg.ops.fast.blocks import Box
from minseg.ops.window import overlap
from minseg.parallel import PASS, parallel_for

Slices = tuple[slice, slice]  # of rows and of columns

# How the work is cut: never by the number of threads, as the last bit of a matrix product depends
# on the cuts.
BLOCK_BYTES = 2**21
LEAST, WANTED = 64, 4  # positions in a block, number of blocks; LEAST goes before WANTED
SUM_POSITIONS = 2**11  # positions in a block of grad_weight, which sums over the blocks
# How many rows of the product (output channels times phases) a task of grad_weight sums. Few tasks:
# each copies the columns anew.
SUM_ROWS = 128


def fits(stride: Pair, groups: int, dilation: Pair) -> bool:
    """Is there more than one phase, and neither groups nor dilation, which conv2d.py serves?"""
    return groups == 1 and dilation == (1, 1) and stride != (1, 1)


@dataclass(frozen=True)
class Kind:
    """A range of phases along each axis, all with the same number of taps."""

    rows: slice
    cols: slice
    taps: Pair

    @property
    def shape(self) -> Pair:
        return self.rows.stop - self.rows.start, self.cols.stop - self.cols.start


@dataclass(frozen=True)
class Phases:
    """How an output of size `out` is made from an image of size `image`, phase by phase."""

    kernel: tuple[int, ...]
    stride: Pair
    padding: Pair
    image: tuple[int, ...]
    out: tuple[int, ...]

    @property
    def taps(self) -> Pair:
        """The largest number of taps along each axis, T and U."""
        t, u = (-(-k // s) for k, s in zip(self.kernel, self.stride, strict=True))
        return t, u

    @property
    def size(self) -> Pair:
        """The size of a phase: as far as there are inputs and outputs."""
        height, width = (
            min(n + t - 1, -(-(m + p) // s))
            for n, m, t, p, s in zip(
                self.image, self.out, self.taps, self.padding, self.stride, strict=True
            )
        )
        return height, width

    def kinds(self) -> Iterator[Kind]:
        rows, cols = (
            [(slice(0, k - s * (t - 1)), t), (slice(k - s * (t - 1), s), t - 1)]
            for k, s, t in zip(self.kernel, self.stride, self.taps, strict=True)
        )
        for row, t in rows:
            for col, u in cols:
                if t and u and row.start < row.stop and col.start < col.stop:
                    yield Kind(row, col, (t, u))

    def split(self, w: Array) -> Array:
        """The kernel (C, O, kh, kw) by tap and phase: (C, O, T, s, U, s), padded with zeros."""
        (t, u), (sh, sw), (kh, kw) = self.taps, self.stride, self.kernel
        if (kh, kw) != (t * sh, u * sw):
            w = np.pad(w, ((0, 0), (0, 0), (0, t * sh - kh), (0, u * sw - kw)))
        return w.reshape(*w.shape[:2], t, sh, u, sw)

    def outputs(self, box: Box) -> tuple[Slices, Slices]:
        """The rows and columns of the output in a box, and their places in its joined phases."""
        (rows, to_rows), (cols, to_cols) = (
            overlap(slice(s * place.start, s * place.stop), -p, 1, n)
            for place, s, p, n in zip(
                (box.rows, box.cols), self.stride, self.padding, self.out, strict=True
            )
        )
        return (rows, cols), (to_rows, to_cols)

    def wide(self, box: Box) -> Pair:
        """The size of a box's phases when they are joined."""
        return box.shape[1] * self.stride[0], box.shape[2] * self.stride[1]

    def deal(self, whole: Array) -> Array:
        """A view (n, O, h, s, w, s) of joined phases (n, O, h s, w s)."""
        (sh, sw), (height, width) = self.stride, whole.shape[2:]
        return whole.reshape(*whole.shape[:2], height // sh, sh, width // sw, sw)


def forward(x: Array, w: Array, stride: Pair, padding: Pair, out: Pair) -> Array:
    """y (N, O, *out) of x (N, C, H, W) and w (C, O, kh, kw), without a bias."""
    phases = Phases(w.shape[2:], stride, padding, x.shape[2:], out)
    y = np.zeros((len(x), w.shape[1], *out), x.dtype)
    parts = phases.split(w)
    matrices = [(kind, _matrix(parts, kind).T) for kind in phases.kinds()]
    blocks = _blocks(len(x), w, phases)

    def one_block(index: int) -> None:
        box = blocks[index]
        (rows, cols), (from_rows, from_cols) = phases.outputs(box)
        target = y[box.images, :, rows, cols]
        size = phases.wide(box)
        complete = target.shape[2:] == size  # else some of its rows or columns are cut off
        whole = target if complete else np.zeros((*target.shape[:2], *size), x.dtype)
        for kind, matrix in matrices:
            product = matrix @ _columns(x, kind.taps, box)
            product = product.reshape(w.shape[1], *kind.shape, *box.shape)
            own = phases.deal(whole)[:, :, :, kind.rows, :, kind.cols]
            for j in range(kind.shape[1]):  # one by one, so that NumPy copies along the rows of x
                own[..., j] = product[:, :, j].transpose(2, 0, 3, 1, 4)
        if not complete:
            target[...] = whole[:, :, from_rows, from_cols]

    parallel_for(one_block, len(blocks), _work(x.shape, w.shape, y.shape))
    return y


def grad_input(
    grad: Array, w: Array, x_shape: tuple[int, ...], stride: Pair, padding: Pair
) -> Array:
    """The gradients of the columns, each added to the input that it was copied from."""
    phases = Phases(w.shape[2:], stride, padding, x_shape[2:], grad.shape[2:])
    parts = phases.split(w)
    matrices = [(kind, _matrix(parts, kind)) for kind in phases.kinds()]
    blocks = _blocks(len(grad), w, phases)
    shares = np.empty((*x_shape[:2], *phases.taps, *phases.size), grad.dtype)

    def one_block(index: int) -> None:
        box = blocks[index]
        share = np.zeros((*shares.shape[1:4], *box.shape), grad.dtype)
        for kind, matrix in matrices:
            t, u = kind.taps
            product = matrix @ _gather(grad, phases, kind, box)
            share[:, :t, :u] += product.reshape(-1, t, u, *box.shape)
        shares[box.images, ..., box.rows, box.cols] = np.moveaxis(share, 3, 0)

    work = _work(x_shape, w.shape, grad.shape)
    parallel_for(one_block, len(blocks), work)
    if phases.taps == (1, 1) and phases.size == x_shape[2:]:
        return shares.reshape(x_shape)
    dx = np.zeros(x_shape, grad.dtype)
    whole = Box(slice(0, 1), slice(0, phases.size[0]), slice(0, phases.size[1]))

    def one_image(n: int) -> None:
        for t, u in np.ndindex(*phases.taps):
            (rows, cols), (at_rows, at_cols) = _reads((t, u), whole, x_shape)
            dx[n, :, rows, cols] += shares[n, :, t, u, at_rows, at_cols]

    parallel_for(one_image, len(dx), work)
    return dx


def grad_weight(
    grad: Array, x: Array, w_shape: tuple[int, ...], stride: Pair, padding: Pair
) -> Array:
    """Columns times phases, summed over blocks in order."""
    phases = Phases(w_shape[2:], stride, padding, x.shape[2:], grad.shape[2:])
    (t, u), (sh, sw) = phases.taps, stride
    dw = np.zeros((*w_shape[:2], t, sh, u, sw), x.dtype)
    blocks = _boxes(len(x), phases.size, SUM_POSITIONS)
    step = -(-SUM_ROWS // (sh * sw))

    def one_part(index: int) -> None:
        part = slice(index * step, (index + 1) * step)
        for kind in phases.kinds():
            own = dw[:, part, : kind.taps[0], kind.rows, : kind.taps[1], kind.cols]
            own = own.transpose(0, 2, 4, 1, 3, 5)  # (C, T, U, O, i, j)
            for box in blocks:
                product = _columns(x, kind.taps, box) @ _gather(grad[:, part], phases, kind, box).T
                own += product.reshape(own.shape)

    parallel_for(one_part, -(-w_shape[1] // step), _work(x.shape, w_shape, grad.shape))
    return dw.reshape(*w_shape[:2], t * sh, u * sw)[:, :, : w_shape[2], : w_shape[3]]


def _work(x_shape: tuple[int, ...], w_shape: tuple[int, ...], y_shape: tuple[int, ...]) -> int:
    """For parallel_for: each pixel meets every weight, and all outputs are copied, or read."""
    N, _, H, W = x_shape
    return N * H * W * math.prod(w_shape) + PASS * math.prod(y_shape)


def _matrix(parts: Array, kind: Kind) -> Array:
    """The weights of a kind: (C T U, O phases); with one tap and one kind, a view of the kernel."""
    t, u = kind.taps
    own = parts[:, :, :t, kind.rows, :u, kind.cols].transpose(0, 2, 4, 1, 3, 5)
    return own.reshape(own.shape[0] * t * u, -1)


def _columns(x: Array, taps: Pair, box: Box) -> Array:
    """The inputs that each position of a box reads: (C T U, positions)."""
    columns = np.zeros((x.shape[1], *taps, *box.shape), x.dtype)
    for t, u in np.ndindex(*taps):
        (rows, cols), (at_rows, at_cols) = _reads((t, u), box, x.shape)
        columns[:, t, u, :, at_rows, at_cols] = x[box.images, :, rows, cols].swapaxes(0, 1)
    return columns.reshape(len(columns) * math.prod(taps), -1)


def _reads(tap: Pair, box: Box, x_shape: tuple[int, ...]) -> tuple[Slices, Slices]:
    """The rows and columns of x that a tap reads, and the places in the box that read them."""
    (rows, to_rows), (cols, to_cols) = (
        overlap(place, -t, 1, n)
        for place, t, n in zip((box.rows, box.cols), tap, x_shape[2:], strict=True)
    )
    return (rows, cols), (to_rows, to_cols)


def _gather(grad: Array, phases: Phases, kind: Kind, box: Box) -> Array:
    """A gradient's phases of one kind: (O phases, positions), 0 beyond the gradient's edges."""
    (rows, cols), (to_rows, to_cols) = phases.outputs(box)
    inside = grad[box.images, :, rows, cols]
    size = phases.wide(box)
    if inside.shape[2:] != size:
        whole = np.zeros((*inside.shape[:2], *size), grad.dtype)
        whole[:, :, to_rows, to_cols] = inside
        inside = whole
    own = phases.deal(inside)[:, :, :, kind.rows, :, kind.cols]
    gathered = np.empty((grad.shape[1], *kind.shape, *box.shape), grad.dtype)
    for j in range(kind.shape[1]):
        gathered[:, :, j] = own[..., j].transpose(1, 3, 0, 2, 4)
    return gathered.reshape(grad.shape[1] * math.prod(kind.shape), -1)


def _blocks(images: int, w: Array, phases: Phases) -> list[Box]:
    """Blocks whose columns and phases fit into the cache; several, if there is enough to do."""
    read, written = w.shape[0] * math.prod(phases.taps), w.shape[1] * math.prod(phases.stride)
    fit = BLOCK_BYTES // ((read + written) * w.itemsize)
    share = -(-images * math.prod(phases.size) // WANTED)
    return _boxes(images, phases.size, max(LEAST, min(fit, share)))


def _boxes(images: int, size: Pair, positions: int) -> list[Box]:
    """Boxes of about `positions`: whole images, or whole rows of one image."""
    height, width = size
    n = max(1, positions // (height * width))
    h = min(height, max(1, positions // width))
    return [
        Box(slice(i, min(i + n, images)), slice(r, min(r + h, height)), slice(0, width))
        for i in range(0, images, n)
        for r in range(0, height, h)
    ]
