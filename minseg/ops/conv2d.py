"""Convolution: every output is the kernel's dot product with the patch beneath it.

    y[n, o, r, c] = b[o] + sum over k, i, j of
        w[o, k, i, j] * x[n, g * C/G + k, r * stride - padding + i * dilation, c * ... + j * ...]

with x = 0 outside the image, and g the group that output channel o belongs to. (The kernel is not
flipped: mathematicians call this a cross-correlation.)

Shapes: x (N, C, H, W), w (O, C / G, kh, kw), b (O,) -> y (N, O, H', W'),
        H' = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, W' likewise
Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016;
        dilation ("a trous"): Chen et al., "DeepLab", 2016, section 3.1
"""

import math
from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops import depthwise
from minseg.ops.checks import Pair, check_kernels, check_tensor, pair
from minseg.ops.depthwise import is_depthwise
from minseg.ops.fast import conv2d as fast
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.op import Op, launch
from minseg.ops.pad import pad
from minseg.ops.window import Window, taps
from minseg.parallel import blas_on_one_thread
from minseg.tensor import Tensor, record

# Output positions that one block of the weight gradient's kernel sums over: enough that adding up
# the blocks' sums costs little, few enough that a batch gives every multiprocessor a block.
POSITIONS_A_SPLIT = 4096
MOST_BLOCKS = 65535  # CUDA's limit along a grid's z axis


def conv2d_definition(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """The formula above, as loops."""
    N, _, H, W = x.shape
    O, channels, kh, kw = w.shape
    H_out, W_out = Window((kh, kw), stride, padding, dilation).output_size(H, W)
    y = np.zeros((N, O, H_out, W_out), x.dtype)
    for n, o, r, c in np.ndindex(y.shape):
        first_channel = o // (O // groups) * channels
        for k, i, j in np.ndindex(channels, kh, kw):
            row = r * stride[0] - padding[0] + i * dilation[0]
            col = c * stride[1] - padding[1] + j * dilation[1]
            if 0 <= row < H and 0 <= col < W:
                y[n, o, r, c] += w[o, k, i, j] * x[n, first_channel + k, row, col]
        if b is not None:
            y[n, o, r, c] += b[o]
    return y


def _forward_numpy(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """A product of matrices ("im2col"): each kernel is a row, and each patch of x is a column.

    Where there are many patches, fast/conv2d.py knows quicker ways to the same result.
    """
    window = Window(w.shape[2:], stride, padding, dilation)
    if fast.fits(x.shape, w.shape, window, groups):
        return fast.forward(x, w, window, groups, Epilogue(b))
    with blas_on_one_thread():
        y = _kernels(w, groups) @ _columns(x, window, groups)  # (G, O / G, N H' W')
    y = y.reshape(len(w), len(x), *window.output_size(*x.shape[2:]))
    if b is not None:
        y += b[:, None, None, None]
    return np.ascontiguousarray(y.swapaxes(0, 1))  # (N, O, H', W')


def _grad_input_numpy(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """The columns' gradient is w^T @ grad; it is added to the pixels that they were copied from."""
    window = Window(w.shape[2:], stride, padding, dilation)
    if fast.fits(x_shape, w.shape, window, groups):
        return fast.grad_input(grad, w, x_shape, window, groups)
    with blas_on_one_thread():
        columns = _kernels(w, groups).swapaxes(1, 2) @ _by_group(grad, groups)
    columns = columns.reshape(x_shape[1], *window.kernel, len(grad), *grad.shape[2:])
    dx = np.zeros(x_shape, grad.dtype)
    for i, j, source, target in taps(window, x_shape[2:], grad.shape[2:]):
        dx[source] += columns[:, i, j][target].swapaxes(0, 1)
    return dx


def _grad_weight_numpy(
    grad: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """A weight meets one pixel of each patch: grad @ columns^T sums over all of them."""
    window = Window((w_shape[2], w_shape[3]), stride, padding, dilation)
    if fast.fits(x.shape, w_shape, window, groups):
        return fast.grad_weight(grad, x, w_shape, window, groups)
    with blas_on_one_thread():
        dw = _by_group(grad, groups) @ _columns(x, window, groups).swapaxes(1, 2)
    return dw.reshape(w_shape)


def _kernels(w: Array, groups: int) -> Array:
    """(O, C / G, kh, kw) -> (G, O / G, C / G kh kw)"""
    return w.reshape(groups, len(w) // groups, w[0].size)


def _columns(x: Array, window: Window, groups: int) -> Array:
    """The patches of all images, of each group: (N, C, H, W) -> (G, C / G kh kw, N H' W')"""
    (N, C), counts = x.shape[:2], window.output_size(*x.shape[2:])
    columns = np.zeros((C, *window.kernel, N, *counts), x.dtype)  # 0 where there is padding
    for i, j, source, target in taps(window, x.shape[2:], counts):
        columns[:, i, j][target] = x[source].swapaxes(0, 1)
    return columns.reshape(groups, C // groups * math.prod(window.kernel), -1)


def _by_group(grad: Array, groups: int) -> Array:
    """(N, O, H', W') -> (G, O / G, N H' W')"""
    return grad.swapaxes(0, 1).reshape(groups, grad.shape[1] // groups, -1)


def _forward_cuda(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """kernels/conv2d.cu: the same matrix product, its columns gathered tile by tile."""
    if is_depthwise(w.shape, groups):
        return depthwise.forward_cuda(x, w, b, stride, padding, dilation)
    xp = array_module(x)
    size = Window(w.shape[2:], stride, padding, dilation).output_size(*x.shape[2:])
    y = xp.empty((x.shape[0], w.shape[0], *size), x.dtype)
    how = (*w.shape[2:], *stride, *padding, *dilation, groups)
    x, w, b = contiguous(x, w, b)
    launch("conv2d_forward", x, w, b, y, *x.shape, *y.shape[1:], *how)
    return y


def _grad_input_cuda(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """kernels/conv2d.cu: an input's gradient is a sum over the outputs that it reaches."""
    if is_depthwise(w.shape, groups):
        return depthwise.grad_input_cuda(grad, w, x_shape, stride, padding, dilation)
    xp = array_module(grad)
    dx = xp.empty(x_shape, grad.dtype)
    how = (*w.shape[2:], *stride, *padding, *dilation, groups)
    grad, w = contiguous(grad, w)
    launch("conv2d_grad_input", grad, w, dx, *x_shape, *grad.shape[1:], *how)
    return dx


def _grad_weight_cuda(
    grad: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> Array:
    """kernels/conv2d.cu: each split sums over a part of the positions; then these are added."""
    if is_depthwise(w_shape, groups):
        return depthwise.grad_weight_cuda(grad, x, w_shape, stride, padding, dilation)
    xp = array_module(grad)
    positions = grad.shape[0] * grad.shape[2] * grad.shape[3]
    splits = _splits(positions, groups)
    partial = xp.empty((splits, *w_shape), grad.dtype)
    how = (*w_shape[2:], *stride, *padding, *dilation, groups)
    grad, x = contiguous(grad, x)
    launch("conv2d_grad_weight", grad, x, partial, *x.shape, *grad.shape[1:], *how, splits)
    return partial.sum(axis=0)


def _splits(positions: int, groups: int) -> int:
    """How many blocks share the sum of a weight; each group has its own."""
    return min(-(-positions // POSITIONS_A_SPLIT), max(1, MOST_BLOCKS // groups))


op = Op(
    "conv2d",
    definition=conv2d_definition,
    numpy={
        "forward": _forward_numpy,
        "grad_input": _grad_input_numpy,
        "grad_weight": _grad_weight_numpy,
    },
    cuda={
        "forward": _forward_cuda,
        "grad_input": _grad_input_cuda,
        "grad_weight": _grad_weight_cuda,
    },
)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """2-D convolution; shapes and formula at the top of this file.

    `padding` is a number, a pair, "valid" (none) or "same" (output size = input size, stride 1).
    Raises ValueError or TypeError for arguments that do not fit together.
    """
    input, *how = check_arguments(input, weight, bias, stride, padding, dilation, groups)
    x, w, b = input.data, weight.data, None if bias is None else bias.data
    y = op.forward(x, w, b, *how)

    def backward(grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = dw = None
        if weight.requires_grad:  # begun first: no layer waits for dw, so another thread may do it
            dw = op.later("grad_weight", w[0].size * grad.size, grad, x, w.shape, *how)
        if input.requires_grad:
            dx = op.grad_input(grad, w, x.shape, *how)
        db = None
        if bias is not None and bias.requires_grad:
            db = grad.sum(axis=(2, 3)).sum(axis=0)  # in this order: short sums round less
        return dx, dw, db

    return record("conv2d", y, (input, weight, bias), backward)


def check_arguments(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int | Sequence[int],
    padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
    groups: int,
) -> tuple[Tensor, Pair, Pair, Pair, int]:
    """conv2d's input, stride, padding, dilation and groups, as `op.forward` takes them.

    Raises as conv2d does. Only a "same" that cannot be halved changes the input: it is padded.
    """
    stride = pair("conv2d", "stride", stride, least=1)
    dilation = pair("conv2d", "dilation", dilation, least=1)
    check_tensor("conv2d", "input", input, ndim=4)
    check_tensor("conv2d", "weight", weight, ndim=4, like=input)
    check_kernels("conv2d", weight, groups)
    if isinstance(padding, str):
        input, padding = _pad_as_named(input, weight, padding, stride, dilation)
    padding = pair("conv2d", "padding", padding, least=0)
    _check_channels(input, weight, bias, groups)
    height, width = input.shape[2:]
    size = Window(weight.shape[2:], stride, padding, dilation).output_size(height, width)
    if min(size) < 1:
        raise ValueError(
            f"conv2d: the output would be {size[0]}x{size[1]}: kernel {weight.shape[2:]}, "
            f"dilation {dilation}, does not fit the input {height}x{width}, padding {padding}"
        )
    return input, stride, padding, dilation, groups


def _pad_as_named(
    input: Tensor, weight: Tensor, padding: str, stride: Pair, dilation: Pair
) -> tuple[Tensor, Pair]:
    """padding="same" or "valid" as numbers; what cannot be halved goes to the right and bottom."""
    if padding == "valid":
        return input, (0, 0)
    if padding != "same":
        raise ValueError(f'conv2d: padding is {padding!r}, needs "same", "valid", an int or a pair')
    if stride != (1, 1):
        raise ValueError(f'conv2d: padding="same" needs stride 1, got {stride}')
    total_h, total_w = (d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True))
    if total_h % 2 or total_w % 2:
        input = pad(input, (0, total_w % 2, 0, total_h % 2))
    return input, (total_h // 2, total_w // 2)


def _check_channels(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    channels, (out_channels, channels_a_group) = input.shape[1], weight.shape[:2]
    if groups < 1 or channels % groups or out_channels % groups:
        raise ValueError(
            f"conv2d: groups is {groups}, needs to divide the {channels} input channels and the "
            f"{out_channels} output channels"
        )
    if channels_a_group * groups != channels:
        raise ValueError(
            f"conv2d: weight {weight.shape} with groups {groups} needs {channels_a_group * groups} "
            f"input channels, the input {input.shape} has {channels}"
        )
    if bias is not None:
        check_tensor("conv2d", "bias", bias, ndim=1, like=input)
        if bias.shape != (out_channels,):
            raise ValueError(f"conv2d: bias has shape {bias.shape}, needs ({out_channels},)")
