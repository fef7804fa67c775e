"""Unfold and fold: the patches under a moving window as columns, and columns added back up.

    unfold:  y[n, (c, i, j), (r, q)] = x[n, c, r * stride - padding + i * dilation, q * ... + j ...]
    fold:    x[n, c, r * stride - padding + i * dilation, q * ...] += y[n, (c, i, j), (r, q)]

with 0 outside of the image; (c, i, j) and (r, q) are single axes, counted in row-major order. Each
is the adjoint, and so the gradient, of the other. They are not inverses: fold adds where patches
overlap. (conv2d multiplies such columns, "im2col"; where they are many, block by block.)

Shapes: image (N, C, H, W), columns (N, C kh kw, H' W'),
        H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, W' likewise
Source: Chellapilla et al., "High Performance Convolutional Neural Networks for Document
        Processing", 2006, section 3
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import Pair, check_tensor, pair
from minseg.ops.op import Op
from minseg.ops.window import Window, taps
from minseg.tensor import Tensor, record


def unfold_definition(x: Array, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Array:
    """The first formula above, as loops."""
    N, C, H, W = x.shape
    counts = Window(kernel, stride, padding, dilation).output_size(H, W)
    y = np.zeros((N, C, *kernel, *counts), x.dtype)
    for n, c, i, j, r, q in np.ndindex(y.shape):
        row = r * stride[0] - padding[0] + i * dilation[0]
        col = q * stride[1] - padding[1] + j * dilation[1]
        if 0 <= row < H and 0 <= col < W:
            y[n, c, i, j, r, q] = x[n, c, row, col]
    return y.reshape(N, C * kernel[0] * kernel[1], counts[0] * counts[1])


def fold_definition(
    y: Array, size: Pair, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> Array:
    """The second formula above, as loops."""
    counts = Window(kernel, stride, padding, dilation).output_size(*size)
    N, C = y.shape[0], y.shape[1] // (kernel[0] * kernel[1])
    y = y.reshape(N, C, *kernel, *counts)
    x = np.zeros((N, C, *size), y.dtype)
    for n, c, i, j, r, q in np.ndindex(y.shape):
        row = r * stride[0] - padding[0] + i * dilation[0]
        col = q * stride[1] - padding[1] + j * dilation[1]
        if 0 <= row < size[0] and 0 <= col < size[1]:
            x[n, c, row, col] += y[n, c, i, j, r, q]
    return x


def _unfold_numpy(x: Array, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Array:
    """What one element of the kernel meets, in all patches of all images, is copied at once."""
    window = Window(kernel, stride, padding, dilation)
    N, C, H, W = x.shape
    counts = window.output_size(H, W)
    columns = array_module(x).zeros((N, C, *kernel, *counts), x.dtype)
    for i, j, source, target in taps(window, (H, W), counts):
        columns[:, :, i, j][target] = x[source]
    return columns.reshape(N, C * kernel[0] * kernel[1], counts[0] * counts[1])


def _fold_numpy(
    columns: Array, size: Pair, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> Array:
    """The same the other way round. One element of the kernel meets no pixel twice."""
    window = Window(kernel, stride, padding, dilation)
    counts = window.output_size(*size)
    N, C = columns.shape[0], columns.shape[1] // (kernel[0] * kernel[1])
    columns = columns.reshape(N, C, *kernel, *counts)
    x = array_module(columns).zeros((N, C, *size), columns.dtype)
    for i, j, source, target in taps(window, size, counts):
        x[source] += columns[:, :, i, j][target]
    return x


unfold_op = Op(
    "unfold",
    definition=unfold_definition,
    numpy={"forward": _unfold_numpy, "grad_input": _fold_numpy},
)
fold_op = Op(
    "fold",
    definition=fold_definition,
    numpy={"forward": _fold_numpy, "grad_input": _unfold_numpy},
)


def unfold(
    input: Tensor,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
) -> Tensor:
    """The patches of images as columns; shapes and formula at the top of this file.

    Raises ValueError or TypeError for arguments that do not fit together.
    """
    check_tensor("unfold", "input", input, ndim=4)
    window = _window("unfold", kernel_size, dilation, padding, stride)
    size = input.shape[2:]
    _positions("unfold", window, size)
    how = (window.kernel, window.dilation, window.padding, window.stride)

    def backward(grad: Array) -> tuple[Array]:
        return (unfold_op.grad_input(grad, size, *how),)

    return record("unfold", unfold_op.forward(input.data, *how), (input,), backward)


def fold(
    input: Tensor,
    output_size: int | Sequence[int],
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    stride: int | Sequence[int] = 1,
) -> Tensor:
    """Columns added up to images of `output_size`; shapes and formula at the top of this file.

    Raises ValueError or TypeError for arguments that do not fit together.
    """
    check_tensor("fold", "input", input, ndim=3)
    size = pair("fold", "output_size", output_size, least=1)
    window = _window("fold", kernel_size, dilation, padding, stride)
    counts, area = _positions("fold", window, size), window.kernel[0] * window.kernel[1]
    if input.shape[1] % area or input.shape[2] != counts[0] * counts[1]:
        raise ValueError(
            f"fold: input has shape {input.shape}, needs (N, a multiple of {area}, "
            f"{counts[0] * counts[1]}): kernel {window.kernel} at {counts[0]}x{counts[1]} positions"
        )
    how = (window.kernel, window.dilation, window.padding, window.stride)

    def backward(grad: Array) -> tuple[Array]:
        return (fold_op.grad_input(grad, *how),)

    return record("fold", fold_op.forward(input.data, size, *how), (input,), backward)


def _window(
    op: str,
    kernel_size: int | Sequence[int],
    dilation: int | Sequence[int],
    padding: int | Sequence[int],
    stride: int | Sequence[int],
) -> Window:
    return Window(
        kernel=pair(op, "kernel_size", kernel_size, least=1),
        stride=pair(op, "stride", stride, least=1),
        padding=pair(op, "padding", padding, least=0),
        dilation=pair(op, "dilation", dilation, least=1),
    )


def _positions(op: str, window: Window, size: Sequence[int]) -> Pair:
    """Positions of the window along each axis. Raises ValueError where it does not fit."""
    counts = window.output_size(size[0], size[1])
    if min(counts) < 1:
        raise ValueError(
            f"{op}: no patch fits: kernel {window.kernel}, dilation {window.dilation}, on the "
            f"image {size[0]}x{size[1]}, padding {window.padding}"
        )
    return counts
