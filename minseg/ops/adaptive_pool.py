"""Adaptive pooling: the windows are chosen so that a given number of them covers the image.

    window i of n along an axis of L places:  floor(i L / n) ... ceil((i + 1) L / n) - 1

They are of nearly equal size, and neighbours overlap by one place where the size does not divide.
Over each of them adaptive_avg_pool2d takes the mean (rows first, then columns) and
adaptive_max_pool2d the largest value, with max_pool2d's rules for ties and NaN.

Shapes: x (N, C, H, W) -> y (N, C, H', W') for any H', W', even larger than H, W
Source: He et al., "Spatial Pyramid Pooling in Deep Convolutional Networks", 2014, section 2.3; in
        segmentation: Zhao et al., "Pyramid Scene Parsing Network", 2017, section 3.2
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import Pair, check_tensor, pair
from minseg.ops.fast import window_means
from minseg.ops.max_pool import add_at_indices
from minseg.ops.op import Op, launch
from minseg.ops.pool import as_planes, plane_blocks
from minseg.parallel import parallel_for
from minseg.tensor import Tensor, record


def adaptive_windows(size: int, count: int) -> list[slice]:
    """The windows along one axis, by the formula above."""
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def adaptive_avg_pool2d_definition(x: Array, size: Pair) -> Array:
    """The mean of each window, as loops."""
    N, C, H, W = x.shape
    y = np.zeros((N, C, *size), x.dtype)
    rows, cols = adaptive_windows(H, size[0]), adaptive_windows(W, size[1])
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
    planes, windows = as_planes(x)[:, 0], _windows(x.shape, size)
    if window_means.serves(*windows, x.shape[2:]):
        means = window_means.forward(planes, *windows)
        if means is not None:
            return means.reshape(*x.shape[:2], *size)
    y = np.empty((planes.shape[0], *size), x.dtype)
    blocks = plane_blocks(planes, fit_cache=False)

    def one_block(index: int) -> None:
        block = blocks[index]
        narrow = np.empty((block.stop - block.start, size[0], x.shape[3]), x.dtype)
        for r, rows in enumerate(windows[0]):
            narrow[:, r] = planes[block, rows].mean(axis=1)
        for q, cols in enumerate(windows[1]):
            y[block, :, q] = narrow[:, :, cols].mean(axis=2)

    parallel_for(one_block, len(blocks))
    return y.reshape(*x.shape[:2], *size)


def _avg_grad_input_numpy(grad: Array, x_shape: tuple[int, ...]) -> Array:
    """Every element of a window gets the same share; where windows overlap, one of each."""
    planes, windows = as_planes(grad)[:, 0], _windows(x_shape, grad.shape[2:])
    if window_means.serves(*windows, x_shape[2:]):
        shares = window_means.grad_input(planes, *windows, x_shape[2:])
        if shares is not None:
            return shares.reshape(x_shape)
    dx = np.zeros((planes.shape[0], *x_shape[2:]), grad.dtype)
    blocks = plane_blocks(dx, fit_cache=False)

    def one_block(index: int) -> None:
        block = blocks[index]
        wide = np.zeros((block.stop - block.start, grad.shape[2], x_shape[3]), grad.dtype)
        for q, cols in enumerate(windows[1]):
            wide[:, :, cols] += planes[block, :, q, None] / (cols.stop - cols.start)
        for r, rows in enumerate(windows[0]):
            dx[block, rows] += wide[:, r, None] / (rows.stop - rows.start)

    parallel_for(one_block, len(blocks))
    return dx.reshape(x_shape)


def _windows(
    x_shape: tuple[int, ...], size: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Of the rows and of the columns."""
    rows, cols = (tuple(adaptive_windows(*axis)) for axis in zip(x_shape[2:], size, strict=True))
    return rows, cols


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
    N, C, H, W = x.shape
    y = np.empty((N, C, *size), x.dtype)
    indices = np.full(y.shape, -1)
    rows, cols = adaptive_windows(H, size[0]), adaptive_windows(W, size[1])
    for n, c, r, q in np.ndindex(y.shape):
        for row in range(rows[r].start, rows[r].stop):
            for col in range(cols[q].start, cols[q].stop):
                value, first = x[n, c, row, col], indices[n, c, r, q] < 0
                if first or value > y[n, c, r, q] or np.isnan(value):
                    y[n, c, r, q], indices[n, c, r, q] = value, row * W + col
    return y, indices


def _max_forward_numpy(x: Array, size: Pair) -> tuple[Array, Array]:
    H, W = x.shape[2:]
    planes = as_planes(x)[:, 0]
    y = np.empty((planes.shape[0], *size), x.dtype)
    indices = np.empty(y.shape, np.int64)
    blocks = plane_blocks(planes, fit_cache=False)

    def one_block(index: int) -> None:
        block = blocks[index]
        for r, rows in enumerate(adaptive_windows(H, size[0])):
            for q, cols in enumerate(adaptive_windows(W, size[1])):
                values = planes[block, rows, cols]
                row, col = np.divmod(_argmax(values), values.shape[2])
                row, col = row + rows.start, col + cols.start
                y[block, r, q] = planes[np.arange(block.start, block.stop), row, col]
                indices[block, r, q] = row * W + col

    parallel_for(one_block, len(blocks))
    shape = (*x.shape[:2], *size)
    return y.reshape(shape), indices.reshape(shape)


def _argmax(values: Array) -> Array:
    """The first largest element of each plane (P, h, w), counted row by row, or its last NaN."""
    flat = values.reshape(values.shape[0], -1)
    nan = np.isnan(flat)
    last_nan = flat.shape[1] - 1 - nan[:, ::-1].argmax(axis=1)
    return np.where(nan.any(axis=1), last_nan, flat.argmax(axis=1))


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
    grad, indices = xp.ascontiguousarray(grad), xp.ascontiguousarray(indices)
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
