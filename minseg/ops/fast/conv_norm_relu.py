"""Convolution, batch norm in evaluation and ReLU: one convolution, one pass over its outputs.

With given statistics a batch norm is a straight line for each channel, y -> s y + t. A convolution
that stands before it can take that line into its own weights and bias,

    s (w * x + b - mean) + beta = (s w) * x + (s (b - mean) + beta),    s = gamma / sqrt(var + eps)

and ReLU each block of outputs while it is in the cache: two walks through memory less, and two new
arrays. Only for predictions: training needs the batch's own mean, and what lies in between for the
gradient.

Error: s, s w and the bias are rounded once each, which adds (2 |s w| * |x| + |bias|) eps / 2 to the
rounding of the sum of products; the norm's own three roundings fall away.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 2018, section 3.2
"""

from typing import Any

import numpy as np

from minseg.array import Array
from minseg.ops import conv2d as conv
from minseg.ops.activation import relu_op
from minseg.ops.norm import batch_norm_op
from minseg.ops.normalization import inverse_deviation
from minseg.tape import is_grad_enabled
from minseg.tensor import Tensor


def serves(input: Tensor, relu: bool) -> bool:
    """Is nothing recorded, and would each of the ops run the library's own NumPy functions?"""
    ops = (conv.op, batch_norm_op, *([relu_op] if relu else []))
    return not is_grad_enabled() and all(op.is_numpy(input.data) for op in ops)


def fold(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Weight (O, C, kh, kw) and bias (O,) of the convolution that has the norm in it."""
    scale = inverse_deviation(var.data.astype(np.float64), eps)
    if gamma is not None:
        scale *= gamma.data
    shift = ((0 if bias is None else bias.data) - mean.data.astype(np.float64)) * scale
    if beta is not None:
        shift += beta.data
    w: Array = weight.data
    return Tensor(w * scale.astype(w.dtype)[:, None, None, None]), Tensor(shift.astype(w.dtype))


def conv2d_relu(input: Tensor, weight: Tensor, bias: Tensor, *how: Any, relu: bool) -> Tensor:
    """conv2d(input, weight, bias, *how), with the ReLU of it if `relu`; for where it `serves`."""
    input, *numbers = conv.check_arguments(input, weight, bias, *how)
    forward = conv.op.numpy["forward"]
    return Tensor(forward(input.data, weight.data, bias.data, *numbers, relu))
