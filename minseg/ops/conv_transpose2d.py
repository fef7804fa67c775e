"""Transposed convolution: every input paints the kernel, times its value, onto the output.

    y[n, o, r * stride - padding + i * dilation, c * ... + j * ...] += w[k, o, i, j] * x[n, k, r, c]

summed over all k of the group, r, c, i, j; then b[o] is added. As a matrix it is the transpose of a
convolution with the same kernel: the forward of one is the input gradient of the other. Nothing is
inverted ("deconvolution" is a misnomer); only the shapes go back.

Several input sizes of a strided convolution lead to the same output size; `output_padding` says
which of them to go back to, by adding rows and columns at the bottom and right.

Shapes: x (N, C, H, W), w (C, O / G, kh, kw), b (O,) -> y (N, O, H', W'),
        H' = (H - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1, W' likewise
Source: Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016, section 4;
        in segmentation: Long et al., "Fully Convolutional Networks", 2015, section 3.3
"""

from collections.abc import Sequence

import numpy as np

from minseg.array import Array, array_module
from minseg.ops import conv2d
from minseg.ops.checks import Pair, check_kernels, check_tensor, pair
from minseg.ops.fast import phases
from minseg.ops.op import Op
from minseg.tensor import Tensor, record


def conv_transpose2d_definition(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    """The formula above, as loops."""
    N, C, H, W = x.shape
    channels, kh, kw = w.shape[1:]
    H_out, W_out = _output_size((H, W), (kh, kw), stride, padding, output_padding, dilation)
    y = np.zeros((N, groups * channels, H_out, W_out), x.dtype)
    for n, k, r, c in np.ndindex(N, C, H, W):
        first_channel = k // (C // groups) * channels
        for o, i, j in np.ndindex(channels, kh, kw):
            row = r * stride[0] - padding[0] + i * dilation[0]
            col = c * stride[1] - padding[1] + j * dilation[1]
            if 0 <= row < H_out and 0 <= col < W_out:
                y[n, first_channel + o, row, col] += w[k, o, i, j] * x[n, k, r, c]
    if b is not None:
        y += b[:, None, None]
    return y


def _forward_by_conv2d(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    """The input gradient of a convolution: the transpose of its matrix, times x. On any device."""
    size = _output_size(x.shape[2:], w.shape[2:], stride, padding, output_padding, dilation)
    x = _with_rows_of_zeros(x, stride, output_padding)
    y_shape = (x.shape[0], w.shape[1] * groups, *size)
    y = conv2d.op.grad_input(x, w, y_shape, stride, padding, dilation, groups)
    return y if b is None else y + b[:, None, None]


def _forward_numpy(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    """At strides above 1, fast/phases.py is quicker: it knows which inputs reach an output."""
    if not phases.fits(stride, groups, dilation):
        return _forward_by_conv2d(x, w, b, stride, padding, output_padding, groups, dilation)
    size = _output_size(x.shape[2:], w.shape[2:], stride, padding, output_padding, dilation)
    y = phases.forward(x, w, stride, padding, size)
    return y if b is None else np.add(y, b[:, None, None], out=y)


def _grad_input_by_conv2d(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    """The transpose of the transpose: the convolution itself."""
    dx = conv2d.op.forward(grad, w, None, stride, padding, dilation, groups)
    return dx[:, :, : x_shape[2], : x_shape[3]]  # without the rows of zeros


def _grad_input_numpy(
    grad: Array,
    w: Array,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    if not phases.fits(stride, groups, dilation):
        return _grad_input_by_conv2d(grad, w, x_shape, stride, padding, groups, dilation)
    return phases.grad_input(grad, w, x_shape, stride, padding)


def _grad_weight_by_conv2d(
    grad: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    """The weight gradient of that convolution: grad is its input, and x its output's gradient."""
    x = _with_rows_of_zeros(x, stride, output_padding)
    return conv2d.op.grad_weight(x, grad, w_shape, stride, padding, dilation, groups)


def _grad_weight_numpy(
    grad: Array,
    x: Array,
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> Array:
    if not phases.fits(stride, groups, dilation):
        how = (stride, padding, output_padding, groups, dilation)
        return _grad_weight_by_conv2d(grad, x, w_shape, *how)
    return phases.grad_weight(grad, x, w_shape, stride, padding)


def _with_rows_of_zeros(x: Array, stride: Pair, output_padding: Pair) -> Array:
    """An output padding of `stride` rows is one more row of the input, of zeros.

    With these, y has the size of an input from which conv2d really makes an output of x's size.
    """
    below, right = (p // s for p, s in zip(output_padding, stride, strict=True))
    if not below and not right:
        return x
    return array_module(x).pad(x, ((0, 0), (0, 0), (0, below), (0, right)))


def _output_size(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    dilation: Pair,
) -> Pair:
    H_out, W_out = (
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, k, s, p, o, d in zip(
            size, kernel, stride, padding, output_padding, dilation, strict=True
        )
    )
    return H_out, W_out


op = Op(
    "conv_transpose2d",
    definition=conv_transpose2d_definition,
    numpy={
        "forward": _forward_numpy,
        "grad_input": _grad_input_numpy,
        "grad_weight": _grad_weight_numpy,
    },
    cuda={
        "forward": _forward_by_conv2d,
        "grad_input": _grad_input_by_conv2d,
        "grad_weight": _grad_weight_by_conv2d,
    },
)


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """2-D transposed convolution; shapes and formula at the top of this file.

    Raises ValueError or TypeError for arguments that do not fit together.
    """
    stride = pair("conv_transpose2d", "stride", stride, least=1)
    padding = pair("conv_transpose2d", "padding", padding, least=0)
    output_padding = pair("conv_transpose2d", "output_padding", output_padding, least=0)
    dilation = pair("conv_transpose2d", "dilation", dilation, least=1)
    check_tensor("conv_transpose2d", "input", input, ndim=4)
    check_tensor("conv_transpose2d", "weight", weight, ndim=4, like=input)
    check_kernels("conv_transpose2d", weight, groups)
    _check_channels(input, weight, bias, groups)
    for o, s, d in zip(output_padding, stride, dilation, strict=True):
        if o >= max(s, d):
            raise ValueError(
                f"conv_transpose2d: output_padding is {output_padding}, needs to be smaller than "
                f"stride {stride} or dilation {dilation}"
            )
    how = (stride, padding, output_padding)
    size = _output_size(input.shape[2:], weight.shape[2:], *how, dilation)
    if min(*size, *input.shape[2:]) < 1:
        raise ValueError(
            f"conv_transpose2d: the output would be {size[0]}x{size[1]} for the input "
            f"{input.shape}, kernel {weight.shape[2:]}, padding {padding}; needs at least 1x1"
        )

    x, w, b = input.data, weight.data, None if bias is None else bias.data
    y = op.forward(x, w, b, *how, groups, dilation)

    def backward(grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = dw = None
        if weight.requires_grad:
            work = w[0].size * x.size
            dw = op.later("grad_weight", work, grad, x, w.shape, *how, groups, dilation)
        if input.requires_grad:
            dx = op.grad_input(grad, w, x.shape, stride, padding, groups, dilation)
        db = None
        if bias is not None and bias.requires_grad:
            db = grad.sum(axis=(2, 3)).sum(axis=0)  # in this order: short sums round less
        return dx, dw, db

    return record("conv_transpose2d", y, (input, weight, bias), backward)


def _check_channels(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    channels, out_channels = weight.shape[0], weight.shape[1] * groups
    if input.shape[1] != channels:
        raise ValueError(
            f"conv_transpose2d: weight {weight.shape} needs {channels} input channels, "
            f"the input {input.shape} has {input.shape[1]}"
        )
    if groups < 1 or channels % groups:
        raise ValueError(
            f"conv_transpose2d: groups is {groups}, needs to divide the {channels} input channels"
        )
    if bias is not None:
        check_tensor("conv_transpose2d", "bias", bias, ndim=1, like=input)
        if bias.shape != (out_channels,):
            raise ValueError(
                f"conv_transpose2d: bias has shape {bias.shape}, needs ({out_channels},)"
            )
