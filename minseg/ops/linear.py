"""Linear: a matrix product along the last axis, plus a bias.

    y[..., o] = b[o] + sum over k of w[o, k] * x[..., k]

With all of x as one matrix of many rows, y = x w^T + b, and with the gradient of y, grad,

    dx = grad w,   dw = grad^T x,   db = sum of the rows of grad

Shapes: x (..., K), w (O, K), b (O,) -> y (..., O); w (K,), without a bias -> y (...)
"""

import math

import numpy as np

from minseg.array import Array
from minseg.ops.checks import check_tensor
from minseg.ops.fast import linear as fast
from minseg.ops.matmul import op as matmul
from minseg.ops.op import Op
from minseg.tensor import Tensor, record


def linear_definition(x: Array, w: Array, b: Array | None) -> Array:
    """The formula above, as loops."""
    y = np.zeros((*x.shape[:-1], w.shape[0]), x.dtype)
    for index in np.ndindex(y.shape):
        lead, o = index[:-1], index[-1]
        for k in range(x.shape[-1]):
            y[index] += w[o, k] * x[lead][k]
        if b is not None:
            y[index] += b[o]
    return y


def _forward(x: Array, w: Array, b: Array | None) -> Array:
    rows = _rows(x)
    if b is not None and matmul.is_numpy(rows) and fast.fits(rows, w):
        y = fast.forward(rows, w, b)  # which adds b while a block of y is in the cache
    else:
        y = matmul.forward(rows, w.T)
        if b is not None:
            y += b
    return y.reshape(*x.shape[:-1], w.shape[0])


def _grad_input(grad: Array, w: Array) -> Array:
    return matmul.forward(_rows(grad), w).reshape(*grad.shape[:-1], w.shape[1])


def _grad_weight(grad: Array, x: Array) -> Array:
    return matmul.forward(_rows(grad).T, _rows(x))


def _rows(x: Array) -> Array:
    """`x` as one matrix: one large product is faster than many small ones."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


op = Op(
    "linear",
    definition=linear_definition,
    numpy={"forward": _forward, "grad_input": _grad_input, "grad_weight": _grad_weight},
)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x w^T + b; shapes and formula at the top of this file.

    Raises ValueError or TypeError for arguments that do not fit together.
    """
    check_tensor("linear", "input", input, ndim=None)
    if isinstance(weight, Tensor) and weight.ndim == 1:
        if bias is not None:
            raise ValueError(f"linear: a weight of shape {weight.shape} takes no bias")
        return linear(input, weight.reshape(1, -1))[..., 0]
    check_tensor("linear", "weight", weight, ndim=2, like=input)
    outputs, inputs = weight.shape
    if input.shape[-1:] != (inputs,):
        raise ValueError(f"linear: input has shape {input.shape}, needs (..., {inputs})")
    if bias is not None:
        check_tensor("linear", "bias", bias, ndim=1, like=input)
        if bias.shape != (outputs,):
            raise ValueError(f"linear: bias has shape {bias.shape}, needs ({outputs},)")

    x, w, b = input.data, weight.data, None if bias is None else bias.data

    def backward(grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        dx = op.grad_input(grad, w) if input.requires_grad else None
        dw = op.grad_weight(grad, x) if weight.requires_grad else None
        return dx, dw, None if b is None else grad.sum(axis=tuple(range(grad.ndim - 1)))

    return record("linear", op.forward(x, w, b), (input, weight, bias), backward)
