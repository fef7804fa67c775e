"""Adaptive pooling: the windows are chosen so that a given number of them covers the image.

    window i of n along an axis of L places:  floor(i L / n) ... ceil((i + 1) L / n) - 1

They are of nearly equal size, and neighbours overlap by one place where the size does not divide.
Over each of them adaptive_avg_pool2d takes the mean (rows first, then columns) and
adaptive_max_pool2d the largest value, with max_pool2d's rules for ties and NaN.

Shapes: x (N, C, H, W) -> y (N, C, H', W') for any H', W', even larger than H, W
Source: He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks", 2014, appendix A; in
        segmentation: Zhao et al., "Pyramid Scene Parsing Network", 2017, section 3.2
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.checks import Pair, check_tensor, pair
from minseg.ops.fast import window_means
from minseg.ops.fast.planes import for_planes
from minseg.ops.fast.window_means import Windows
from minseg.ops.max_pool import add_at_indices
from minseg.ops.op import Op, launch
from minseg.tensor import Tensor, record


def adaptive_windows(size: int, count: int) -> Windows:
    """The windows along one axis, by the formula above."""
    return tuple(slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count))


def _windows(x_shape: tuple[int, ...], size: tuple[int, ...]) -> tuple[Windows, Windows]:
    """Of the rows and of the columns of images (N, C, H, W)."""
    return adaptive_windows(x_shape[2], size[0]), adaptive_windows(x_shape[3], size[1])


def adaptive_avg_pool2d_definition(x: Array, size: Pair) -> Array:
    """The mean of each window, as loops."""
    y = np.zeros((*x.shape[:2], *size), x.dtype)
    rows, cols = _windows(x.shape, size)
    for n, c, r, q in np.ndindex(y.shape):
        places = [
            (row, col)
            for row in range(rows[r].start, rows[r].stop)
            for col in range(cols[q].start, cols[q].stop)
        ]
        for row, col in places:
            y[n, c, r, q] += x[n, c, row, col] / len(places)
    return y


def _avg_forward_numpy(x: Array, size: Pair) -> Array:
    """The mean of each window's rows, then that of what is left.

    fast/window_means.py is quicker for few windows, if all values are finite.
    """
    rows, cols = _windows(x.shape, size)
    if (means := window_means.forward(x, rows, cols)) is not None:
        return means
    y = np.empty((*x.shape[:2], *size), x.dtype)

    def average(x: Array, y: Array) -> None:  # planes (P, H, W), (P, H', W')
        means = np.empty((len(x), size[0], x.shape[2]), x.dtype)
        for r, row in enumerate(rows):
            means[:, r] = x[:, row].mean(axis=1)
        for q, col in enumerate(cols):
            y[:, :, q] = means[:, :, col].mean(axis=2)

    for_planes(average, x, y, fit_cache=False)
    return y


def _avg_grad_input_numpy(grad: Array, x_shape: tuple[int, ...]) -> Array:
    """Every element of a window gets the same share; where windows overlap, one of each."""
    rows, cols = _windows(x_shape, grad.shape[2:])
    if (shares := window_means.grad_input(grad, rows, cols, x_shape)) is not None:
        return shares
    dx = np.zeros(x_shape, grad.dtype)

    def share(grad: Array, dx: Array) -> None:  # planes (P, H', W'), (P, H, W)
        shares = np.zeros((*grad.shape[:2], dx.shape[2]), grad.dtype)
        for q, col in enumerate(cols):
            shares[:, :, col] += grad[:, :, q, None] / (col.stop - col.start)
        for r, row in enumerate(rows):
            dx[:, row] += shares[:, r, None] / (row.stop - row.start)

    for_planes(share, grad, dx, fit_cache=False)
    return dx


def _avg_forward_cuda(x: Array, size: Pair) -> Array:
    """kernels/pool.cu: a warp sums a window, which may be the whole image."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    launch("adaptive_avg_pool2d_forward", xp.ascontiguousarray(x), y, *x.shape, *size)
    return y


def _avg_grad_input_cuda(grad: Array, x_shape: tuple[int, ...]) -> Array:
    xp = array_module(grad)
    dx = xp.empty(x_shape, grad.dtype)
    grad = xp.ascontiguousarray(grad)
    launch("adaptive_avg_pool2d_grad_input", grad, dx, *x_shape, *grad.shape[2:])
    return dx


avg_op = Op(
    "adaptive_avg_pool2d",
    definition=adaptive_avg_pool2d_definition,
    numpy={"forward": _avg_forward_numpy, "grad_input": _avg_grad_input_numpy},
    cuda={"forward": _avg_forward_cuda, "grad_input": _avg_grad_input_cuda},
)


def adaptive_avg_pool2d(input: Tensor, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Average-pooling to `output_size` (height, width); None keeps the input's along that axis.

    Raises ValueError or TypeError for arguments that do not fit together.
    """
    size = _output_size("adaptive_avg_pool2d", input, output_size)
    x = input.data

    def backward(grad: Array) -> tuple[Array]:
        return (avg_op.grad_input(grad, x.shape),)

    return record("adaptive_avg_pool2d", avg_op.forward(x, size), (input,), backward)


def adaptive_max_pool2d_definition(x: Array, size: Pair) -> tuple[Array, Array]:
    """The largest value of each adaptive window, as loops."""
    y = np.empty((*x.shape[:2], *size), x.dtype)
    indices = np.full(y.shape, -1)
    rows, cols = _windows(x.shape, size)
    for n, c, r, q in np.ndindex(y.shape):
        for row in range(rows[r].start, rows[r].stop):
            for col in range(cols[q].start, cols[q].stop):
                value, first = x[n, c, row, col], indices[n, c, r, q] < 0
                if first or value > y[n, c, r, q] or np.isnan(value):
                    y[n, c, r, q], indices[n, c, r, q] = value, row * x.shape[3] + col
    return y, indices


def _max_forward_numpy(x: Array, size: Pair) -> tuple[Array, Array]:
    """Window by window, for all planes at once."""
    rows, cols = _windows(x.shape, size)
    y = np.empty((*x.shape[:2], *size), x.dtype)
    indices = np.empty(y.shape, np.int64)

    def largest(x: Array, y: Array, indices: Array) -> None:  # planes (P, H, W), (P, H', W')
        for (r, row), (q, col) in product(enumerate(rows), enumerate(cols)):
            height, width = row.stop - row.start, col.stop - col.start
            values = x[:, row, col].reshape(len(x), height * width)
            place = _argmax(values)
            y[:, r, q] = values[np.arange(len(x)), place]
            i, j = np.divmod(place, width)
            indices[:, r, q] = (row.start + i) * x.shape[2] + col.start + j

    for_planes(largest, x, y, indices, fit_cache=False)
    return y, indices


def _argmax(values: Array) -> Array:
    """Of each row of values (P, n): where the first largest is, or the last NaN."""
    nan = np.isnan(values)
    last_nan = values.shape[1] - 1 - nan[:, ::-1].argmax(axis=1)
    return np.where(nan.any(axis=1), last_nan, values.argmax(axis=1))


def _max_forward_cuda(x: Array, size: Pair) -> tuple[Array, Array]:
    """kernels/pool.cu: a thread looks through a window."""
    xp = array_module(x)
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    indices = xp.empty(y.shape, np.int64)
    launch("adaptive_max_pool2d_forward", xp.ascontiguousarray(x), y, indices, *x.shape, *size)
    return y, indices


def _max_grad_input_cuda(grad: Array, indices: Array, x_shape: tuple[int, ...]) -> Array:
    xp = array_module(grad)
    dx = xp.empty(x_shape, grad.dtype)
    grad, indices = contiguous(grad, indices)
    launch("adaptive_max_pool2d_grad_input", grad, indices, dx, *x_shape, *grad.shape[2:])
    return dx


max_op = Op(
    "adaptive_max_pool2d",
    definition=adaptive_max_pool2d_definition,
    numpy={"forward": _max_forward_numpy, "grad_input": add_at_indices},
    cuda={"forward": _max_forward_cuda, "grad_input": _max_grad_input_cuda},
)


def adaptive_max_pool2d(
    input: Tensor, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """Max-pooling to `output_size` (height, width); None keeps the input's size along that axis.

    Shapes: (N, C, H, W) -> (N, C, *output_size); with `return_indices` also the places (int64).
    Raises ValueError or TypeError for arguments that do not fit together.
    """
    size = _output_size("adaptive_max_pool2d", input, output_size)
    x = input.data
    y, indices = max_op.forward(x, size)

    def backward(grad: Array) -> tuple[Array]:
        return (max_op.grad_input(grad, indices, x.shape),)

    pooled = record("adaptive_max_pool2d", y, (input,), backward)
    return (pooled, Tensor(indices)) if return_indices else pooled


def _output_size(op: str, input: Tensor, output_size: int | Sequence[int | None] | None) -> Pair:
    """`output_size` as (height, width); None keeps the input's. Raises ValueError below 1."""
    check_tensor(op, "input", input, ndim=4)
    sizes = tuple(output_size) if isinstance(output_size, Sequence) else (output_size,) * 2
    if len(sizes) == 2:
        sizes = tuple(n if s is None else s for s, n in zip(sizes, input.shape[2:], strict=True))
    if 0 in input.shape[1:]:
        raise ValueError(f"{op}: input has shape {input.shape}, only N may be 0")
    return pair(op, "output_size", sizes, least=1)  # type: ignore[arg-type]
