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
from minseg.ops.fast import max_pool_2x2
from minseg.ops.fast.window_maxima import window_maxima
from minseg.ops.op import Op, launch
from minseg.ops.pool import as_planes, check_window, number_of_windows, plane_blocks, starts
from minseg.ops.window import Window, reads
from minseg.parallel import parallel_for
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
    """The maximum down the columns of all windows at once, then along what is left of each.

    Element i of all windows is one strided slice of the image. To find where a maximum stood, each
    place of a window has a rank: the earlier in row-major order, the larger. Of the places equal to
    the maximum, the one of the largest rank is it. (A comparison, a product and a maximum are
    vector instructions; an assignment under a mask is not.)
    """
    window, (kh, kw), (H, W) = Window(kernel, stride, padding, dilation), kernel, x.shape[2:]
    H_out, W_out = number_of_windows(window, (H, W), ceil_mode)
    rows, cols = reads(window, (H, W), (H_out, W_out))
    planes, shape = as_planes(x)[:, 0], (*x.shape[:2], H_out, W_out)
    if max_pool_2x2.serves(kernel, stride, padding, dilation):
        y, indices = max_pool_2x2.forward(planes, (H_out, W_out))
        return y.reshape(shape), indices.reshape(shape)
    y = np.full((planes.shape[0], H_out, W_out), -np.inf, x.dtype)
    indices = np.empty(y.shape, np.int64)
    corner = starts(H_out, stride[0], padding[0])[:, None] * W + starts(
        W_out, stride[1], padding[1]
    )
    offsets = np.arange(kh)[:, None] * dilation[0] * W + np.arange(kw) * dilation[1]
    offset_of_rank = np.append(0, offsets.ravel()[::-1])
    number = np.min_scalar_type(kh * kw).type  # the smallest type that holds a rank: the fastest
    blocks = plane_blocks(planes)

    def one_block(index: int) -> None:
        block = blocks[index]
        inside, best = planes[block], y[block]
        row_best = np.full((len(inside), H_out, W), -np.inf, x.dtype)
        row_rank, rank = np.zeros(row_best.shape, number), np.zeros(best.shape, number)
        for source, target in rows:
            np.maximum(row_best[:, target], inside[:, source], out=row_best[:, target])
        for i, (source, target) in enumerate(rows):
            hit = inside[:, source] == row_best[:, target]
            np.maximum(row_rank[:, target], hit * number(kh - i), out=row_rank[:, target])
        for source, target in cols:
            np.maximum(best[..., target], row_best[..., source], out=best[..., target])
        for j, (source, target) in enumerate(cols):
            hit = row_best[..., source] == best[..., target]
            here = hit * (row_rank[..., source] * number(kw) - number(j))
            np.maximum(rank[..., target], here, out=rank[..., target])
        if np.isnan(best).any():  # NaN equals nothing, so no place has been found for it
            for i, (row_source, row_target) in enumerate(rows):
                for j, (col_source, col_target) in enumerate(cols):
                    nan = np.isnan(inside[:, row_source, col_source])
                    rank[:, row_target, col_target][nan] = kh * kw - (i * kw + j)
        indices[block] = offset_of_rank.take(rank, mode="clip")  # spares the check of the range
        indices[block] += corner

    parallel_for(one_block, len(blocks))
    return y.reshape(shape), indices.reshape(shape)


def add_at_indices(grad: Array, indices: Array, x_shape: tuple[int, ...]) -> Array:
    """Add each gradient at its index; windows that overlap may share one."""
    N, C, H, W = x_shape
    dx = np.empty((N * C, H * W), grad.dtype)
    outputs = grad.shape[2] * grad.shape[3]  # not -1, which reshape cannot tell of an empty batch
    flat_grad, flat_indices = grad.reshape(N * C, outputs), indices.reshape(N * C, outputs)

    def one_plane(p: int) -> None:
        dx[p] = np.bincount(flat_indices[p], flat_grad[p], minlength=H * W)

    parallel_for(one_plane, N * C)
    return dx.reshape(x_shape)


def put_at_indices(values: Array, indices: Array, shape: tuple[int, ...]) -> Array:
    """An image of zeros, with each value at its index; where several share one, the last stays."""
    N, C, H, W = shape
    image = np.empty((N * C, H * W), values.dtype)
    number = values.shape[2] * values.shape[3]
    flat_values, flat_indices = values.reshape(N * C, number), indices.reshape(N * C, number)
    blocks = plane_blocks(image)

    def one_block(index: int) -> None:
        block = blocks[index]
        planes = image[block]
        planes[...] = 0
        places = flat_indices[block] + H * W * np.arange(len(planes))[:, None]
        planes.reshape(-1)[places.ravel()] = flat_values[block].ravel()  # NumPy assigns in order

    parallel_for(one_block, len(blocks))
    return image.reshape(shape)


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
    if not (is_grad_enabled() or return_indices) and op.is_numpy(x):
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
