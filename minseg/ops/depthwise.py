"""Depthwise convolution: a kernel of its own for every channel, no sum over channels.

    y[n, c, r, q] = b[c] + sum over i, j of
        w[c, 0, i, j] * x[n, c, r * stride - padding + i * dilation, q * ... + j * ...]

It is conv2d with groups = C. As a product of matrices (conv2d.py), each group has a single kernel:
of the 64 rows that a block of the GPU computes at once, one would be in use. So conv2d.py calls the
functions here. Their kernels make no tiles and no columns: a thread reads what it needs where it
lies. On the CPU, small inputs are products of matrices all the same; for large ones,
fast/depthwise.py has quicker ways.

Shapes: x (N, C, H, W), w (C, 1, kh, kw), b (C,) -> y (N, C, H', W'), as in conv2d.py
Source: Chollet, "Xception", 2017, section 2; Howard et al., "MobileNets", 2017, section 3.1
"""

from minseg.array import Array, array_module, contiguous
from minseg.ops.checks import Pair
from minseg.ops.op import launch
from minseg.ops.window import Window


def is_depthwise(w_shape: tuple[int, ...], groups: int) -> bool:
    """Has every channel a kernel of its own? Then there is no sum over channels."""
    return groups > 1 and w_shape[:2] == (groups, 1)


def forward_cuda(
    x: Array, w: Array, b: Array | None, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """kernels/depthwise.cu: a thread takes the taps of one output."""
    xp = array_module(x)
    size = Window(w.shape[2:], stride, padding, dilation).output_size(*x.shape[2:])
    y = xp.empty((*x.shape[:2], *size), x.dtype)
    how = (*w.shape[2:], *stride, *padding, *dilation)
    x, w, b = contiguous(x, w, b)
    launch("depthwise_forward", x, w, b, y, *x.shape, *size, *how)
    return y


def grad_input_cuda(
    grad: Array, w: Array, x_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """kernels/depthwise.cu: a thread looks at the outputs that one input reaches."""
    xp = array_module(grad)
    dx = xp.empty(x_shape, grad.dtype)
    how = (*w.shape[2:], *stride, *padding, *dilation)
    grad, w = contiguous(grad, w)
    launch("depthwise_grad_input", grad, w, dx, *x_shape, *grad.shape[2:], *how)
    return dx


def grad_weight_cuda(
    grad: Array, x: Array, w_shape: tuple[int, ...], stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    """kernels/depthwise.cu: a block sums the dot product of one weight."""
    xp = array_module(grad)
    dw = xp.empty(w_shape, grad.dtype)
    how = (*w_shape[2:], *stride, *padding, *dilation)
    grad, x = contiguous(grad, x)
    launch("depthwise_grad_weight", grad, x, dw, *x.shape, *grad.shape[2:], *how)
    return dw
