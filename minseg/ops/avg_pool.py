"""Average-pooling: every output is the mean of a window.

    y[n, c, r, q] = 1 / d[r, q] * sum over i, j of x[n, c, r * stride - padding + i, q * ... + j]

with x = 0 outside of the image. The divisor d is the number of places of the window, padding
included or not (`count_include_pad`; what hangs over the padding never counts), or a given number.

The sum is separable: down the columns of a window first, then over these sums. The gradient goes
the same way back, and hands every element of a window the same share.

Shapes: x (N, C, H, W) -> y (N, C, H', W'), H' = floor((H + 2 padding - kh) / stride) + 1, W'
        likewise; with ceil_mode a ceiling instead, without windows that would start in the bottom
        padding
Source: LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, section II.A
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import Pair
from minseg.ops.fast.planes import for_planes
from minseg.ops.op import Op, launch
from minseg.ops.pool import check_window, number_of_windows, starts
from minseg.ops.window import Window, reads
from minseg.tensor import Tensor, record


def avg_pool2d_definition(
    x: Array,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """The formula above, as loops."""
    N, C, H, W = x.shape
    (kh, kw), (ph, pw) = kernel, padding
    size = number_of_windows(Window(kernel, stride, padding, (1, 1)), (H, W), ceil_mode)
    y = np.zeros((N, C, *size), x.dtype)
    for n, c, r, q in np.ndindex(y.shape):
        top, left = r * stride[0] - ph, q * stride[1] - pw
        counted = 0
        for row in range(top, min(top + kh, H + ph)):
            for col in range(left, min(left + kw, W + pw)):
                inside = 0 <= row < H and 0 <= col < W
                y[n, c, r, q] += x[n, c, row, col] if inside else 0
                counted += inside or count_include_pad
        y[n, c, r, q] /= counted if divisor_override is None else divisor_override
    return y


def _forward_numpy(
    x: Array,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """Of all windows at once: the sums down their columns, then those of what is left."""
    window, (H, W) = Window(kernel, stride, padding, (1, 1)), x.shape[2:]
    size = number_of_windows(window, (H, W), ceil_mode)
    divisor = _divisor(window, (H, W), size, count_include_pad, divisor_override)
    rows, cols = reads(window, (H, W), size)
    y = np.zeros((*x.shape[:2], *size), x.dtype)

    def average(x: Array, y: Array) -> None:  # planes (P, H, W), (P, H', W')
        sums = np.zeros((len(x), size[0], W), x.dtype)  # (P, H', W)
        for source, target in rows:
            sums[:, target] += x[:, source]
        for source, target in cols:
            y[:, :, target] += sums[:, :, source]
        y /= divisor.astype(x.dtype)

    for_planes(average, x, y)
    return y


def _grad_input_numpy(
    grad: Array,
    x_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """The same additions backwards: what was read is added to, columns come first."""
    window, (H, W), size = Window(kernel, stride, padding, (1, 1)), x_shape[2:], grad.shape[2:]
    divisor = _divisor(window, (H, W), size, count_include_pad, divisor_override)
    rows, cols = reads(window, (H, W), size)
    dx = np.zeros(x_shape, grad.dtype)

    def share(grad: Array, dx: Array) -> None:  # planes (P, H', W'), (P, H, W)
        shares = grad / divisor.astype(grad.dtype)
        sums = np.zeros((len(grad), size[0], W), grad.dtype)
        for source, target in cols:
            sums[:, :, source] += shares[:, :, target]
        for source, target in rows:
            dx[:, source] += sums[:, target]

    for_planes(share, grad, dx)
    return dx


def _divisor(
    window: Window, image: Pair, size: Pair, count_include_pad: bool, divisor_override: int | None
) -> np.ndarray:
    """Of all windows of an image of (H, W) places: (H', W'), or a single number."""
    if divisor_override is not None:
        return np.asarray(divisor_override)
    lengths = []
    for n, count, k, s, p in zip(
        image, size, window.kernel, window.stride, window.padding, strict=True
    ):
        first = starts(count, s, p)
        end = np.minimum(first + k, n + p)
        lengths.append(end - first if count_include_pad else end.clip(0, n) - first.clip(0, n))
    return np.multiply.outer(*lengths)


def _forward_cuda(
    x: Array,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    """kernels/pool.cu: a thread sums a window."""
    xp = array_module(x)
    size = number_of_windows(Window(kernel, stride, padding, (1, 1)), x.shape[2:], ceil_mode)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    how = (*kernel, *stride, *padding, count_include_pad, divisor_override or 0)
    launch("avg_pool2d_forward", xp.ascontiguousarray(x), y, *x.shape, *size, *how)
    return y


def _grad_input_cuda(
    grad: Array,
    x_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Array:
    xp = array_module(grad)
    dx = xp.empty(x_shape, grad.dtype)
    how = (*kernel, *stride, *padding, count_include_pad, divisor_override or 0)
    grad = xp.ascontiguousarray(grad)
    launch("avg_pool2d_grad_input", grad, dx, *x_shape, *grad.shape[2:], *how)
    return dx


op = Op(
    "avg_pool2d",
    definition=avg_pool2d_definition,
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
    cuda={"forward": _forward_cuda, "grad_input": _grad_input_cuda},
)


def avg_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """2-D average-pooling; shapes and formula at the top of this file.

    `stride=None` is the kernel size; `divisor_override` takes the place of every divisor.
    Raises ValueError or TypeError for arguments that do not fit together.
    """
    window = check_window("avg_pool2d", input, kernel_size, stride, padding, 1, ceil_mode)
    if divisor_override == 0:
        raise ValueError("avg_pool2d: divisor_override is 0, needs another number")
    how = (window.kernel, window.stride, window.padding)
    counting = (count_include_pad, divisor_override)
    x = input.data
    y = op.forward(x, *how, ceil_mode, *counting)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad, x.shape, *how, *counting),)

    return record("avg_pool2d", y, (input,), backward)
