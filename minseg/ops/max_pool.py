"""Max-pooling: every output is the largest value of a window, and remembers where it stood.

    y[n, c, r, q] = max over i, j of x[n, c, r * stride - padding + i * dilation, q * ... + j * ...]

The padding is never the largest. Of equal values the first in row-major order counts, and a NaN is
larger than all (of several, the last counts): PyTorch's rules. The place, row * W + column, is the
index; the gradient of an output goes to that place alone, and max-unpooling puts values back there.

Shapes: x (N, C, H, W) -> y, indices (N, C, H', W'),
        H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, W' likewise; with
        ceil_mode a ceiling instead, without windows that would start in the bottom padding
Source: LeCun et al., 1998 (subsampling); Zeiler & Fergus, "Visualizing and Understanding
        Convolutional Networks", 2014, section 2.1 (the indices, "switches")
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.checks import Pair
from minseg.ops.fast import max_pool as fast
from minseg.ops.fast.planes import for_planes
from minseg.ops.fast.window_maxima import window_maxima
from minseg.ops.op import Op, launch
from minseg.ops.pool import check_window, number_of_windows, starts
from minseg.ops.window import Window, taps
from minseg.tape import is_grad_enabled
from minseg.tensor import Tensor, record


def max_pool2d_definition(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """The formula above, as loops."""
    N, C, H, W = x.shape
    size = number_of_windows(Window(kernel, stride, padding, dilation), (H, W), ceil_mode)
    y = np.full((N, C, *size), -np.inf, x.dtype)
    indices = np.full(y.shape, -1)
    for n, c, r, q in np.ndindex(y.shape):
        for i, j in np.ndindex(kernel):
            row = r * stride[0] - padding[0] + i * dilation[0]
            col = q * stride[1] - padding[1] + j * dilation[1]
            if not (0 <= row < H and 0 <= col < W):
                continue
            value, first = x[n, c, row, col], indices[n, c, r, q] < 0
            if first or value > y[n, c, r, q] or np.isnan(value):
                y[n, c, r, q], indices[n, c, r, q] = value, row * W + col
    return y, indices


def _forward_numpy(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """The running maximum: place (i, j) of all windows at once is one strided slice of the image.

    Where windows are many or large, fast/max_pool.py knows quicker ways to the same result.
    """
    window, (H, W) = Window(kernel, stride, padding, dilation), x.shape[2:]
    size = number_of_windows(window, (H, W), ceil_mode)
    if fast.fits(x.shape, kernel, size):
        return fast.forward(x, window, size)
    y = np.full((*x.shape[:2], *size), -np.inf, x.dtype)
    indices = np.full(y.shape, -1, np.int64)
    places = np.arange(H * W).reshape(H, W)
    for _, _, source, target in taps(window, (H, W), size):
        value, best, index = x[source], y[target], indices[target]
        larger = (value > best) | (index < 0) | np.isnan(value)  # index < 0: it is the first
        np.copyto(best, value, where=larger)
        np.copyto(index, places[source], where=larger)
    return y, indices


def add_at_indices(grad: Array, indices: Array, x_shape: tuple[int, ...]) -> Array:
    """Add each gradient at its index; windows that overlap may share one."""
    dx = np.empty(x_shape, grad.dtype)

    def add(grad: Array, indices: Array, dx: Array) -> None:  # planes (P, H', W'), (P, H, W)
        sums = np.bincount(_in_all_planes(indices, dx), grad.ravel(), minlength=dx.size)
        dx[...] = sums.reshape(dx.shape)

    for_planes(add, grad, indices, dx)
    return dx


def put_at_indices(values: Array, indices: Array, shape: tuple[int, ...]) -> Array:
    """An image of zeros, with each value at its index; where several share one, the last stays."""
    image = np.empty(shape, values.dtype)

    def put(values: Array, indices: Array, image: Array) -> None:  # planes, too
        image[...] = 0
        image.reshape(-1)[_in_all_planes(indices, image)] = values.ravel()  # one after the other

    for_planes(put, values, indices, image)
    return image


def _in_all_planes(indices: Array, planes: Array) -> Array:
    """Each plane's indices, row * W + column, as places in all planes (P, H, W), end to end."""
    P, H, W = planes.shape
    return (indices + H * W * np.arange(P)[:, None, None]).ravel()


def _grad_input_numpy(
    grad: Array,
    indices: Array,
    x_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Array:
    """Each gradient goes to its index. Only windows that overlap can share one, and need a sum."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if all(s >= r for s, r in zip(stride, reach, strict=True)):
        return put_at_indices(grad, indices, x_shape)
    return add_at_indices(grad, indices, x_shape)


def _forward_cuda(
    x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, ceil_mode: bool
) -> tuple[Array, Array]:
    """kernels/pool.cu: a thread looks through a window."""
    xp = array_module(x)
    size = number_of_windows(Window(kernel, stride, padding, dilation), x.shape[2:], ceil_mode)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    indices = xp.empty(y.shape, np.int64)
    how = (*kernel, *stride, *padding, *dilation)
    launch("max_pool2d_forward", xp.ascontiguousarray(x), y, indices, *x.shape, *size, *how)
    return y, indices


def _grad_input_cuda(
    grad: Array,
    indices: Array,
    x_shape: tuple[int, ...],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Array:
    """kernels/pool.cu: a thread looks at the windows that hold its input."""
    xp = array_module(grad)
    dx = xp.empty(x_shape, grad.dtype)
    how = (*kernel, *stride, *padding, *dilation)
    grad, indices = contiguous(grad, indices)
    launch("max_pool2d_grad_input", grad, indices, dx, *x_shape, *grad.shape[2:], *how)
    return dx


op = Op(
    "max_pool2d",
    definition=max_pool2d_definition,
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
    cuda={"forward": _forward_cuda, "grad_input": _grad_input_cuda},
)


def max_pool2d(
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """2-D max-pooling; shapes and formula at the top of this file. `stride=None`: the kernel size.

    With `return_indices` also the places of the maxima, int64, as max_unpool2d takes them.
    Raises ValueError or TypeError for arguments that do not fit together.
    """
    window = check_window("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    _check_no_window_is_empty(window, input.shape[2:], ceil_mode)
    x = input.data
    if not (is_grad_enabled() or return_indices) and op.is_numpy(x):  # nobody needs the indices
        return Tensor(window_maxima(x, window, ceil_mode))
    how = (window.kernel, window.stride, window.padding, window.dilation)
    y, indices = op.forward(x, *how, ceil_mode)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad, indices, x.shape, *how),)

    pooled = record("max_pool2d", y, (input,), backward)
    return (pooled, Tensor(indices)) if return_indices else pooled


@lru_cache
def _check_no_window_is_empty(window: Window, size: Pair, ceil_mode: bool) -> None:
    """Raise ValueError for a dilated window that steps over a small image, into padding only."""
    counts = number_of_windows(window, size, ceil_mode)
    for n, count, k, s, p, d in zip(
        size, counts, window.kernel, window.stride, window.padding, window.dilation, strict=True
    ):
        places = starts(count, s, p)[:, None] + np.arange(k) * d
        if not ((places >= 0) & (places < n)).any(axis=1).all():
            raise ValueError(
                f"max_pool2d: a window of kernel {window.kernel}, dilation {window.dilation}, "
                f"padding {window.padding} holds no pixel of the input {size[0]}x{size[1]}"
            )
