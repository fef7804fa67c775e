"""Depthwise convolution of large maps on the CPU, in the way that is the quickest for its shapes.

At stride 1, channels_last.py serves short rows and maps whose channels lie side by side, and
kernel_columns.py all others. What is left is here, tap by tap: for each of the few kernel elements,
the image is shifted, multiplied by it, and added to the result.

An image whose rows are padded at their end lies in memory as one long row, and a tap is a shift of
it. What the shift carries from one row into the next lands in the padding and is cut off. With
stride s the image is first dealt out into s x s smaller ones, its phases:

    phase a, b at (p, q)  =  x at (p s + a - padding, q s + b - padding)

Tap i reads output r's input at r s + i dilation - padding: row r + q of phase a, where
q s + a = i dilation. So within a phase every tap is a shift again.
"""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from minseg.array import Array
from minseg.ops.checks import Pair
from minseg.ops.fast import channels_last, kernel_columns
from minseg.ops.fast.planes import as_planes, plane_blocks
from minseg.ops.window import Window, overlap, reads
from minseg.parallel import parallel_for


@dataclass(frozen=True)
class Phase:
    """A phase: which pixels of the planes it has, where in it they lie, and the taps that read it.

    A tap is (i, j, shift): kernel element i, j, and how far it shifts the phase as one long row.
    """

    image: tuple[slice, slice, slice]
    places: tuple[slice, slice, slice]
    taps: list[tuple[int, int, int]]


@dataclass(frozen=True)
class Layout:
    """A plane dealt out into phases of one size, and the size of the outputs.

    The outputs are computed in rows as wide as a phase; what is too wide is cut off in the end.
    """

    phases: list[Phase]
    size: Pair
    out: Pair

    @property
    def length(self) -> int:
        """From the first output to the last, when each row is as wide as the phase."""
        return (self.out[0] - 1) * self.size[1] + self.out[1]


def _layout(window: Window, image: Pair, out: Pair) -> Layout:
    """The layout for planes of size `image` whose outputs have size `out`."""
    axes, reach = [], []  # of each axis: phase -> (tap, shift) pairs; the largest shift
    for k, s, d in zip(window.kernel, window.stride, window.dilation, strict=True):
        shifts = defaultdict(list)
        for i in range(k):
            shifts[i * d % s].append((i, i * d // s))
        axes.append(shifts)
        reach.append((k - 1) * d // s)
    height, width = (n + r for n, r in zip(out, reach, strict=True))
    phases = []
    for a, rows in axes[0].items():
        for b, cols in axes[1].items():
            (row_source, row_target), (col_source, col_target) = (
                overlap(slice(0, length), phase - p, s, n)
                for length, phase, p, s, n in zip(
                    (height, width), (a, b), window.padding, window.stride, image, strict=True
                )
            )
            phases.append(
                Phase(
                    (slice(None), row_source, col_source),
                    (slice(None), row_target, col_target),
                    [(i, j, down * width + right) for i, down in rows for j, right in cols],
                )
            )
    return Layout(phases, (height, width), out)


def forward(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    """conv2d's forward, for groups = C. With `relu`, y is max(y, 0)."""
    if channels_last.fits(x, window):
        return channels_last.forward(x, w, b, window, relu)
    if kernel_columns.fits(window):
        return kernel_columns.forward(x, w, b, window, relu)
    size = window.output_size(*x.shape[2:])
    layout = _layout(window, x.shape[2:], size)
    y = np.empty((x.shape[0] * x.shape[1], *size), x.dtype)
    planes, weights = as_planes(x), np.tile(w[:, 0], (x.shape[0], 1, 1))
    biases = None if b is None else np.tile(b, x.shape[0])[:, None, None]
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        block = blocks[index]
        weight = weights[block, :, :, None]
        total = np.zeros((len(weight), size[0] * layout.size[1]), x.dtype)
        inside = total[:, : layout.length]
        product = np.empty_like(inside)
        for phase in layout.phases:
            part = np.zeros((len(weight), *layout.size), x.dtype)
            part[phase.places] = planes[block][phase.image]
            flat = part.reshape(len(part), -1)
            for i, j, shift in phase.taps:
                shifted = flat[:, shift : shift + layout.length]
                inside += np.multiply(shifted, weight[:, i, j], out=product)
        y[block] = total.reshape(len(weight), size[0], -1)[:, :, : size[1]]
        if biases is not None:
            y[block] += biases[block]
        if relu:
            np.clip(y[block], 0, np.inf, out=y[block])

    parallel_for(one_block, len(blocks))
    return y.reshape(*x.shape[:2], *size)


def grad_input(grad: Array, w: Array, x_shape: tuple[int, ...], window: Window) -> Array:
    if channels_last.fits(grad, window):
        return channels_last.grad_input(grad, w, window)
    if kernel_columns.fits(window):
        return kernel_columns.grad_input(grad, w, window)
    layout = _layout(window, (x_shape[2], x_shape[3]), grad.shape[2:])
    planes, weights = as_planes(grad), np.tile(w[:, 0], (x_shape[0], 1, 1))
    dx = np.zeros((len(planes), *x_shape[2:]), grad.dtype)
    blocks = plane_blocks(dx)

    def one_block(index: int) -> None:
        block = blocks[index]
        weight = weights[block, :, :, None]
        wide = np.zeros((len(weight), layout.out[0], layout.size[1]), grad.dtype)
        wide[:, :, : layout.out[1]] = planes[block]
        inside = wide.reshape(len(weight), -1)[:, : layout.length]
        product = np.empty_like(inside)
        for phase in layout.phases:
            part = np.zeros((len(weight), *layout.size), grad.dtype)
            flat = part.reshape(len(part), -1)
            for i, j, shift in phase.taps:
                shifted = flat[:, shift : shift + layout.length]
                shifted += np.multiply(inside, weight[:, i, j], out=product)
            dx[block][phase.image] = part[phase.places]

    parallel_for(one_block, len(blocks))
    return dx.reshape(x_shape)


def grad_weight(grad: Array, x: Array, w_shape: tuple[int, ...], window: Window) -> Array:
    if channels_last.fits(x, window):
        return channels_last.grad_weight(grad, x, w_shape, window)
    if kernel_columns.fits(window):
        total = kernel_columns.grad_weight(grad, x, w_shape, window)
        if np.isfinite(total).all():
            return total
    rows, cols = reads(window, (x.shape[2], x.shape[3]), (grad.shape[2], grad.shape[3]))
    planes, grads = as_planes(x), as_planes(grad)
    dw = np.empty((len(planes), *w_shape[2:]), x.dtype)  # of each image
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        block = blocks[index]
        for i, (row_source, row_target) in enumerate(rows):
            for j, (col_source, col_target) in enumerate(cols):
                read = planes[block, row_source, col_source]
                # lines end to end, however x lies: else a plane alone is summed in another order
                lines = np.vecdot(grads[block, row_target, col_target], read, order="C")
                dw[block, i, j] = lines.sum(axis=1)

    parallel_for(one_block, len(blocks))
    return dw.reshape(x.shape[0], *w_shape).sum(axis=0)


def explain(x: Array, window: Window) -> str:
    if channels_last.fits(x, window):
        return "depthwise: channels side by side, one einsum of all taps"
    if kernel_columns.fits(window):
        return "depthwise: a copy for each column of the kernel, products of small matrices"
    return "depthwise: a multiply-add of whole maps for each kernel element"
