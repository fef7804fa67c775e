"""Convolution, batch norm in evaluation and ReLU: one convolution, one pass over its outputs.

With given statistics a batch norm is a straight line for each channel. After a convolution,

    gamma (w * x + b - mean) / sqrt(var + eps) + beta  =  s (w * x) + (s (b - mean) + beta)

with s = gamma / sqrt(var + eps). Each block of outputs gets its line and its ReLU while it is in
the cache (epilogue.py): two walks through memory less, and two new arrays. Where there are fewer
weights than outputs, the weights are multiplied by s; deep layers have more, and would have to be
multiplied anew for each prediction. (Small outputs get their line and ReLU when they are complete:
they are in the cache anyway.) Only for predictions: training needs the batch's own mean, and
what lies in between for the gradient.

Error: s, the product by it and the bias are rounded once each, which adds (2 |s w| * |x| + |bias|)
eps / 2 to the rounding of the sum of products; the norm's own three roundings fall away.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 2018, section 3.2
"""

from typing import Any

import numpy as np

from minseg.ops import conv2d as conv
from minseg.ops.activation import relu_op
from minseg.ops.fast import conv2d as fast
from minseg.ops.fast.epilogue import Epilogue
from minseg.ops.norm import batch_norm_op
from minseg.ops.norm_formulas import inverse_deviation
from minseg.ops.window import Window
from minseg.tape import is_grad_enabled
from minseg.tensor import Tensor


def serves(input: Tensor, relu: bool) -> bool:
    """Is nothing recorded, and would each of the ops run the library's own NumPy functions?"""
    ops = (conv.op, batch_norm_op, *([relu_op] if relu else []))
    return not is_grad_enabled() and all(op.is_numpy(input.data) for op in ops)


def line(
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """s and s (b - mean) + beta, (O,): what the norm makes of a convolution with this bias."""
    scale = inverse_deviation(var.data.astype(np.float64), eps)
    if gamma is not None:
        scale *= gamma.data
    shift = ((0 if bias is None else bias.data) - mean.data.astype(np.float64)) * scale
    if beta is not None:
        shift += beta.data
    dtype = mean.data.dtype
    return Tensor(scale.astype(dtype)), Tensor(shift.astype(dtype))


def scaled_conv2d(
    input: Tensor, weight: Tensor, scale: Tensor, shift: Tensor, *how: Any, relu: bool
) -> Tensor:
    """scale conv2d(input, weight) + shift, with the ReLU of it if `relu`; for where it `serves`."""
    input, stride, padding, dilation, groups = conv.check_arguments(input, weight, shift, *how)
    x, w, window = input.data, weight.data, Window(weight.shape[2:], stride, padding, dilation)
    epilogue = Epilogue(shift.data, scale.data, relu)
    if fast.fits(x.shape, w.shape, window, groups):
        return Tensor(fast.forward(x, w, window, groups, epilogue))
    y = conv.op.numpy["forward"](x, w, None, stride, padding, dilation, groups)
    epilogue.apply(y, axis=1)
    return Tensor(y)
