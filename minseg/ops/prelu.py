"""PReLU: a leaky ReLU whose slope on the negative side is learnt, one for all channels or one each.

    prelu(x) = x if x > 0 else w_c x

Shapes: x (N, C, ...) or any; w (C,), (1,) or () -> as x
Source: He et al. 2015, "Delving Deep into Rectifiers", arXiv:1502.01852, equation 1; the gradient
        of w: equation 3
"""

import numpy as np

from minseg.array import Array, array_module, unbroadcast
from minseg.ops.checks import check_tensor
from minseg.ops.op import Op
from minseg.tensor import Tensor, record


def prelu_definition(x: Array, w: Array) -> Array:
    """The formula above, element by element."""
    y = np.empty_like(x)
    for index in np.ndindex(x.shape):
        slope = w.flat[index[1] if w.size > 1 else 0]
        y[index] = x[index] if x[index] > 0 else slope * x[index]
    return y


def _forward(x: Array, w: Array) -> Array:
    return array_module(x).where(x > 0, x, _beside(w, x.ndim) * x)


def _grad_input(grad: Array, x: Array, w: Array) -> Array:
    return array_module(x).where(x > 0, grad, _beside(w, x.ndim) * grad)


def _grad_weight(grad: Array, x: Array, w: Array) -> Array:
    products = array_module(x).where(x > 0, 0, grad * x)
    return unbroadcast(products, _beside(w, x.ndim).shape).reshape(w.shape)


def _beside(w: Array, ndim: int) -> Array:
    """(C,) as (1, C, 1, ...), which broadcasts with x."""
    return w.reshape((1, -1) + (1,) * (ndim - 2)) if ndim > 1 else w.reshape((1,) * ndim)


op = Op(
    "prelu",
    definition=prelu_definition,
    numpy={"forward": _forward, "grad_input": _grad_input, "grad_weight": _grad_weight},
)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x if x > 0 else weight x; shapes at the top of this file.

    Raises ValueError unless there is one weight, or one for each channel (dimension 1), and
    TypeError for dtypes that differ.
    """
    check_tensor("prelu", "input", input, ndim=None)
    check_tensor("prelu", "weight", weight, ndim=None, like=input)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.numel() not in (1, channels):
        raise ValueError(
            f"prelu: weight has shape {weight.shape}, needs (1,) or ({channels},), a slope for "
            f"each channel of the input {input.shape}"
        )
    x, w = input.data, weight.data

    def backward(grad: Array) -> tuple[Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            return op.grad_input(grad, x, w), op.grad_weight(grad, x, w)

    with np.errstate(over="ignore", invalid="ignore"):  # an infinity times 0 is NaN: it shows
        y = op.forward(x, w)
    return record("prelu", y, (input, weight), backward)
