"""Convolution on the CPU, in the way that is the quickest for its shapes.

minseg/ops/conv2d.py makes all patches columns of one matrix, and multiplies once. That is quick
while they are few. But columns take kh kw times the memory of the image, and soon leave the cache.
So each way here has fewer of them at a time, or does without:

    depthwise.py     where there is no sum over channels
    winograd.py      3x3, stride 1, many channels: with fewer multiplications
    shifted.py       stride 1: a copy for each column of the kernel, not for each of its elements
    patch_rows.py    channels that lie side by side in memory: copies of whole rows of patches
    im2col.py        everything else: the columns in blocks that fit the cache
"""

import math
from functools import lru_cache
from types import ModuleType

import numpy as np

from minseg.array import Array
from minseg.ops.depthwise import is_depthwise
from minseg.ops.fast import depthwise, im2col, patch_rows, shifted, winograd
from minseg.ops.fast.blocks import workspace_of_a_thread
from minseg.ops.fast.epilogue import NOTHING, Epilogue
from minseg.ops.fast.turned import turned, turns
from minseg.ops.window import Window, overlap

FEW = 16_000  # elements of all columns: up to so many are copied and multiplied at once


def fits(x_shape: tuple[int, ...], w_shape: tuple[int, ...], window: Window, groups: int) -> bool:
    """Is one of these ways quicker? They also serve where some taps meet nothing but padding."""
    columns = math.prod(x_shape[:2] + window.kernel + window.output_size(*x_shape[2:]))
    return (
        columns > min(FEW, workspace_of_a_thread() // 8)  # float64 has 8 bytes
        or within_reach(window, *x_shape[2:])[1] != window
    )


def forward(x: Array, w: Array, window: Window, groups: int, epilogue: Epilogue = NOTHING) -> Array:
    """conv2d's forward, and what the epilogue makes of it.

    Its scale is multiplied into the weights or the outputs, whichever are fewer.
    """
    (rows, cols), window = within_reach(window, *x.shape[2:])
    w = w[:, :, rows, cols]
    outputs = len(x) * len(w) * math.prod(window.output_size(*x.shape[2:]))
    alone = is_depthwise(w.shape, groups)
    if epilogue.scale is not None and (w.size <= outputs or alone):
        by_output = w.reshape(len(w), -1)  # NumPy is slow along kernels of 3x3
        w = (by_output * epilogue.scale[:, None]).reshape(w.shape)
        epilogue = epilogue._replace(scale=None)
    if alone:
        return depthwise.forward(x, w, epilogue.bias, window, epilogue.relu)
    if (way := _quicker_than_im2col(x, w.shape, window, groups)) is not None:
        return way.forward(x, w, window, epilogue)
    return im2col.forward(x, w, window, groups, epilogue)


def grad_input(
    grad: Array, w: Array, x_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """Which outputs does an input reach, and with which weight?

    At stride 1 the answer is a convolution again: of grad, with the kernel turned round (turned.py)
    and its channel axes swapped. Otherwise, or where turning so many weights would take longer, the
    gradient of the columns is added to the places that they came from.
    """
    (rows, cols), window = within_reach(window, *x_shape[2:])
    w = w[:, :, rows, cols]
    if is_depthwise(w.shape, groups):
        return depthwise.grad_input(grad, w, x_shape, window)
    few_positions = grad[:, 0].size < w.shape[0]  # then turning the weights takes longer
    if turns(window) and not few_positions:
        # (G O/G, C/G, kh, kw) -> (G C/G, O/G, kh, kw)
        by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
        kernels = by_group.swapaxes(1, 2)[..., ::-1, ::-1].reshape(-1, *by_group[0, :, 0].shape)
        return forward(grad, kernels, turned(window), groups)
    several_images = len(grad) > 1  # within one, patches overlap: no work for two threads
    if several_images and patch_rows.fits(grad, w.shape, grad.shape[3], groups):
        return patch_rows.grad_input(grad, w, x_shape, window)
    return im2col.grad_input(grad, w, x_shape, window, groups)


def grad_weight(
    grad: Array, x: Array, w_shape: tuple[int, ...], window: Window, groups: int
) -> Array:
    """A weight meets one input at every output: the sum of their products."""
    (rows, cols), inner = within_reach(window, *x.shape[2:])
    if inner != window:  # weights that meet padding only have the gradient 0
        dw = np.zeros(w_shape, x.dtype)
        met = dw[:, :, rows, cols]
        met[...] = grad_weight(grad, x, met.shape, inner, groups)
        return dw
    if is_depthwise(w_shape, groups):
        return depthwise.grad_weight(grad, x, w_shape, window)
    if (way := _quicker_than_im2col(x, w_shape, window, groups)) is not None:
        return way.grad_weight(grad, x, w_shape, window)
    return im2col.grad_weight(grad, x, w_shape, window, groups)


def explain(x: Array, w_shape: tuple[int, ...], window: Window, groups: int) -> str:
    """How a convolution of float32 is computed, in a few words.

    x itself is needed, not its shape alone: how it lies in memory matters, too.
    """
    if not fits(x.shape, w_shape, window, groups):
        return "all columns at once"
    _, window = within_reach(window, *x.shape[2:])
    w_shape = (*w_shape[:2], *window.kernel)
    if is_depthwise(w_shape, groups):
        return depthwise.explain(x, window)
    if (way := _quicker_than_im2col(x, w_shape, window, groups)) is not None:
        return way.explain(x, w_shape, window)
    return im2col.explain(x, w_shape, window, groups)


def _quicker_than_im2col(
    x: Array, w_shape: tuple[int, ...], window: Window, groups: int
) -> ModuleType | None:
    for way in (winograd, shifted):
        if way.fits(x.shape, w_shape, window, groups):
            return way
    width = window.output_size(*x.shape[2:])[1]
    return patch_rows if patch_rows.fits(x, w_shape, width, groups) else None


@lru_cache
def within_reach(window: Window, height: int, width: int) -> tuple[tuple[slice, slice], Window]:
    """The rows and columns of a kernel that meet the image anywhere, and the window of these alone.

    The others meet padding only: of a 3x3 kernel at a rate as large as the image, all but the
    centre (Chen et al., "Rethinking Atrous Convolution", 2017, section 3.3). Without them there is
    less to compute, and a weight that is NaN there has no effect, as in the definition.
    """
    outputs = window.output_size(height, width)
    (rows, top), (cols, left) = (
        _taps_within_reach(*along)
        for along in zip(
            (height, width), outputs, window.kernel, window.stride, window.padding,
            window.dilation, strict=True,
        )
    )  # fmt: skip
    kernel = rows.stop - rows.start, cols.stop - cols.start
    inner = Window(kernel, window.stride, (top, left), window.dilation)
    if min(top, left) >= 0 and inner.output_size(height, width) == outputs:
        return (rows, cols), inner
    # What is left would need a negative padding, or another one at the bottom or right.
    return (slice(None), slice(None)), window


def _taps_within_reach(
    size: int, count: int, kernel: int, stride: int, padding: int, dilation: int
) -> tuple[slice, int]:
    """Along one axis: the taps that meet the image, and the padding before the first of them."""
    reads = [overlap(slice(0, count), i * dilation - padding, stride, size) for i in range(kernel)]
    meets = [i for i, (source, _) in enumerate(reads) if source != slice(0, 0)] or [0, kernel - 1]
    return slice(meets[0], meets[-1] + 1), padding - meets[0] * dilation
