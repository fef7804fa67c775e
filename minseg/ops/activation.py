"""Activations: one function, applied to each element.

    relu(x)        = max(x, 0)                          Nair & Hinton, 2010
    leaky_relu(x)  = x if x > 0 else slope x            Maas et al., 2013
    elu(x)         = x if x > 0 else alpha (e^x - 1)    Clevert et al., 2016
    relu6(x)       = min(max(x, 0), 6)                  Howard et al., "MobileNets", 2017
    sigmoid(x)     = 1 / (1 + e^-x)
    hardsigmoid(x) = relu6(x + 3) / 6                   Howard et al., "MobileNetV3", 2019
    silu(x)        = x sigmoid(x)                       Elfwing et al., 2018
    hardswish(x)   = x hardsigmoid(x)                   Howard et al., "MobileNetV3", 2019
    tanh(x)        = (e^x - e^-x) / (e^x + e^-x)
    softplus(x)    = log(1 + e^(beta x)) / beta         Dugas et al., 2001

(gelu has a file of its own.) At a kink the gradient is PyTorch's choice, the left slope for relu.
Nothing overflows: where e^x would, it is written with e^-|x|. `inplace` is PyTorch's argument; True
raises ValueError, since the tape keeps what would be overwritten.

Shapes: any -> the same
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import check_not_inplace, check_tensor
from minseg.ops.op import Op
from minseg.tensor import Tensor, record


def elementwise_definition(scalar: Callable[..., float]) -> Callable[..., Array]:
    """The definition of an elementwise op: `scalar` on one number after the other."""

    def definition(x: Array, *arguments: float | str) -> Array:
        y = np.empty_like(x)
        for index in np.ndindex(x.shape):
            y[index] = scalar(float(x[index]), *arguments)
        return y

    return definition


def of_input(op: Op, input: Tensor, *arguments: float | str) -> Tensor:
    """An activation whose gradient is a function of its input."""
    check_tensor(op.name, "input", input, ndim=None)
    x = input.data

    def quiet(part: str, array: Array, *others: Any) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # an infinity times 0 is NaN: it shows
            return op.run(part, array, *others)

    def backward(grad: Array) -> tuple[Array]:
        return (quiet("grad_input", grad, x, *arguments),)

    return record(op.name, quiet("forward", x, *arguments), (input,), backward)


def of_output(op: Op, input: Tensor) -> Tensor:
    """One whose gradient is a function of its output: the next layer keeps that array anyway."""
    check_tensor(op.name, "input", input, ndim=None)
    y = op.forward(input.data)
    return record(op.name, y, (input,), lambda grad: (op.grad_input(grad, y),))


# -- piecewise linear, and elu ---------------------------------------------------------------------
def _where(condition: Array, a: Array | float, b: Array | float) -> Array:
    return array_module(condition).where(condition, a, b)


relu_op = Op(
    "relu",
    definition=elementwise_definition(lambda x: max(x, 0.0)),
    numpy={
        "forward": lambda x: array_module(x).maximum(x, 0),
        "grad_input": lambda grad, y: grad * ~(y <= 0),  # so written, a NaN shows
    },
)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), each element."""
    check_not_inplace("relu", inplace)
    return of_output(relu_op, input)


leaky_relu_op = Op(
    "leaky_relu",
    definition=elementwise_definition(lambda x, slope: x if x > 0 else slope * x),
    numpy={
        "forward": lambda x, slope: _where(x > 0, x, slope * x),
        "grad_input": lambda grad, x, slope: _where(x > 0, grad, slope * grad),
    },
)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x if x > 0 else negative_slope x, each element."""
    check_not_inplace("leaky_relu", inplace)
    return of_input(leaky_relu_op, input, negative_slope)


def _elu_forward(x: Array, alpha: float) -> Array:
    xp = array_module(x)
    return xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0)))


def _elu_grad_input(grad: Array, x: Array, alpha: float) -> Array:
    xp = array_module(x)
    return grad * xp.where(x <= 0, alpha * xp.exp(xp.minimum(x, 0)), 1)


elu_op = Op(
    "elu",
    definition=elementwise_definition(lambda x, alpha: x if x > 0 else alpha * math.expm1(x)),
    numpy={"forward": _elu_forward, "grad_input": _elu_grad_input},
)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x if x > 0 else alpha (e^x - 1), each element."""
    check_not_inplace("elu", inplace)
    return of_input(elu_op, input, alpha)


relu6_op = Op(
    "relu6",
    definition=elementwise_definition(lambda x: min(max(x, 0.0), 6.0)),
    numpy={
        "forward": lambda x: x.clip(0, 6),
        "grad_input": lambda grad, y: grad * ~((y <= 0) | (y >= 6)),
    },
)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), each element."""
    check_not_inplace("relu6", inplace)
    return of_output(relu6_op, input)


hardsigmoid_op = Op(
    "hardsigmoid",
    definition=elementwise_definition(lambda x: min(max(x + 3, 0.0), 6.0) / 6),
    numpy={
        "forward": lambda x: (x + 3).clip(0, 6) / 6,
        "grad_input": lambda grad, x: _where((x <= -3) | (x >= 3), 0, grad / 6),
    },
)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6, each element."""
    check_not_inplace("hardsigmoid", inplace)
    return of_input(hardsigmoid_op, input)


hardswish_op = Op(
    "hardswish",
    definition=elementwise_definition(lambda x: x * min(max(x + 3, 0.0), 6.0) / 6),
    numpy={
        "forward": lambda x: x * ((x + 3).clip(0, 6) / 6),
        "grad_input": lambda grad, x: grad * _where(x >= 3, 1, _where(x <= -3, 0, x / 3 + 0.5)),
    },
)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x relu6(x + 3) / 6, each element."""
    check_not_inplace("hardswish", inplace)
    return of_input(hardswish_op, input)


# -- smooth ----------------------------------------------------------------------------------------
def sigmoid_of(x: Array) -> Array:
    """1 / (1 + e^-x); for x < 0 as e^x / (1 + e^x), so that no power of e is above 1."""
    xp = array_module(x)
    small = xp.exp(-abs(x))
    return xp.where(x < 0, small, 1) / (1 + small)


def _sigmoid_scalar(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


sigmoid_op = Op(
    "sigmoid",
    definition=elementwise_definition(_sigmoid_scalar),
    numpy={"forward": sigmoid_of, "grad_input": lambda grad, y: grad * (y * (1 - y))},
)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-x), each element."""
    return of_output(sigmoid_op, input)


def _silu_grad_input(grad: Array, x: Array) -> Array:
    s = sigmoid_of(x)
    return grad * (s * (1 + x * (1 - s)))


silu_op = Op(
    "silu",
    definition=elementwise_definition(lambda x: x * _sigmoid_scalar(x)),
    numpy={"forward": lambda x: x * sigmoid_of(x), "grad_input": _silu_grad_input},
)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x), each element; also called swish."""
    check_not_inplace("silu", inplace)
    return of_input(silu_op, input)


tanh_op = Op(
    "tanh",
    definition=elementwise_definition(math.tanh),
    numpy={
        "forward": lambda x: array_module(x).tanh(x),
        "grad_input": lambda grad, y: grad * (1 - y * y),
    },
)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent of each element."""
    return of_output(tanh_op, input)


def _softplus_scalar(x: float, beta: float, threshold: float) -> float:
    return x if beta * x > threshold else math.log1p(math.exp(beta * x)) / beta


def _softplus_forward(x: Array, beta: float, threshold: float) -> Array:
    xp = array_module(x)
    return xp.where(beta * x > threshold, x, xp.logaddexp(beta * x, x.dtype.type(0)) / beta)


def _softplus_grad_input(grad: Array, x: Array, beta: float, threshold: float) -> Array:
    return grad * _where(beta * x > threshold, 1, sigmoid_of(beta * x))


softplus_op = Op(
    "softplus",
    definition=elementwise_definition(_softplus_scalar),
    numpy={"forward": _softplus_forward, "grad_input": _softplus_grad_input},
)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, each element; x itself where beta x is above `threshold`."""
    return of_input(softplus_op, input, beta, threshold)
