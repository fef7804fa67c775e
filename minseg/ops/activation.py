"""Activations: one function, applied to each element.

    relu(x)        = max(x, 0)                          Nair & Hinton, 2010
    leaky_relu(x)  = x if x > 0 else slope x            Maas et al., 2013
    elu(x)         = x if x > 0 else alpha (e^x - 1)    Clevert et al., 2016
    relu6(x)       = min(max(x, 0), 6)                  Krizhevsky, 2010 (CIFAR-10)
    sigmoid(x)     = 1 / (1 + e^-x)
    hardsigmoid(x) = relu6(x + 3) / 6                   Howard et al., "MobileNetV3", 2019
    silu(x)        = x sigmoid(x)                       Elfwing et al., 2018
    hardswish(x)   = x hardsigmoid(x)                   Howard et al., "MobileNetV3", 2019
    tanh(x)        = (e^x - e^-x) / (e^x + e^-x)
    softplus(x)    = log(1 + e^(beta x)) / beta         Dugas et al., 2001

(gelu has a file of its own.) At a kink the gradient is PyTorch's: for relu, the slope on the left.
`inplace` is PyTorch's argument; True raises ValueError, since the tape keeps what would be
overwritten.

Shapes: any -> the same
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import check_not_inplace, check_tensor
from minseg.ops.fast import activation as fast
from minseg.ops.op import Op
from minseg.parallel import in_blocks
from minseg.tensor import Tensor, record


def elementwise_definition(scalar: Callable[..., float]) -> Callable[..., Array]:
    """The definition of an elementwise op: `scalar` on one number after the other."""

    def definition(x: Array, *arguments: float | str) -> Array:
        y = np.empty_like(x)
        for index in np.ndindex(x.shape):
            y[index] = scalar(float(x[index]), *arguments)
        return y

    return definition


def elementwise_op(
    name: str,
    *,
    scalar: Callable[..., float],
    forward: Callable[..., Array],
    grad_input: Callable[..., Array],
    fast_forward: Callable[..., None] | None = None,
    fast_grad_input: Callable[..., None] | None = None,
    light: bool = False,
) -> Op:
    """The op of a function of one number, `scalar`, and of its derivative.

    forward(x, ...) and grad_input(grad, x or y, ...) are its formulas on arrays. in_blocks computes
    them block by block; of float32 by the fast functions, where there are any.
    """
    return Op(
        name,
        definition=elementwise_definition(scalar),
        numpy={
            "forward": in_blocks(forward, fast_forward, light),
            "grad_input": in_blocks(grad_input, fast_grad_input, light),
        },
    )


def of_input(op: Op, input: Tensor, *arguments: float | str) -> Tensor:
    """The activation `op` of a tensor, where the gradient is computed from the input."""
    check_tensor(op.name, "input", input, ndim=None)
    x = input.data
    # NumPy's scalars become Python's: an np.float64 would turn float32 arrays into float64.
    arguments = tuple(a.item() if hasattr(a, "item") else a for a in arguments)

    def quiet(part: str, array: Array, *others: Any) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):  # an infinity times 0 is NaN: it shows
            return op.run(part, array, *others)

    if input.requires_grad and fast.has_slope(op.name, x) and not op.overrides:
        with np.errstate(over="ignore", invalid="ignore"):
            y, slope = fast.value_and_slope(op.name, x, *arguments)
        return record(op.name, y, (input,), lambda grad: (fast.product(grad, slope),))

    def backward(grad: Array) -> tuple[Array]:
        return (quiet("grad_input", grad, x, *arguments),)

    return record(op.name, quiet("forward", x, *arguments), (input,), backward)


def of_output(op: Op, input: Tensor) -> Tensor:
    """The same, where the gradient is computed from the output: the next layer keeps it anyway."""
    check_tensor(op.name, "input", input, ndim=None)
    y = op.forward(input.data)
    return record(op.name, y, (input,), lambda grad: (op.grad_input(grad, y),))


# -- piecewise linear, and elu ---------------------------------------------------------------------
# Cases are told apart by factors of 0 and 1. `where` would branch at each element; as the sign of
# an activation cannot be predicted, the processor would guess wrong half of the time, and take ten
# times as long. But a factor of 0 turns an infinite gradient into NaN. Where PyTorch gives 0, in
# relu, relu6 and the hard ones, `where` is needed (for float32, fast/activation.py has no branch).
relu_op = elementwise_op(
    "relu",
    scalar=lambda x: max(x, 0.0),
    forward=lambda x: array_module(x).maximum(x, 0),
    # y <= 0, and not y > 0 the other way round: that would hide a NaN
    grad_input=lambda grad, y: array_module(y).where(y <= 0, 0, grad),
    fast_forward=fast.relu,
    fast_grad_input=fast.relu_grad,
    light=True,
)


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0), each element."""
    check_not_inplace("relu", inplace)
    return of_output(relu_op, input)


def _leaky_relu_forward(x: Array, slope: float) -> Array:
    xp = array_module(x)
    return xp.maximum(x, 0) + slope * xp.minimum(x, 0)


def _leaky_relu_grad_input(grad: Array, x: Array, slope: float) -> Array:
    positive = (x > 0).astype(x.dtype)  # 1 or 0
    return grad * (positive + slope * (1 - positive))


leaky_relu_op = elementwise_op(
    "leaky_relu",
    scalar=lambda x, slope: x if x > 0 else slope * x,
    forward=_leaky_relu_forward,
    grad_input=_leaky_relu_grad_input,
    fast_forward=fast.leaky_relu,
    fast_grad_input=fast.leaky_relu_grad,
    light=True,
)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x if x > 0 else negative_slope x, each element."""
    check_not_inplace("leaky_relu", inplace)
    return of_input(leaky_relu_op, input, negative_slope)


def _elu_forward(x: Array, alpha: float) -> Array:
    xp = array_module(x)
    t = xp.tanh(xp.minimum(x, 0) / 2)  # e^x - 1 = 2 t / (1 - t), also close to 0; faster than expm1
    return xp.maximum(x, 0) + alpha * (2 * t / (1 - t))


def _elu_grad_input(grad: Array, x: Array, alpha: float) -> Array:
    xp = array_module(x)
    other = (x <= 0).astype(x.dtype)  # 0 for a NaN: PyTorch's choice
    return grad * (1 - other + other * alpha * xp.exp(xp.fmin(x, 0)))


elu_op = elementwise_op(
    "elu",
    scalar=lambda x, alpha: x if x > 0 else alpha * math.expm1(x),
    forward=_elu_forward,
    grad_input=_elu_grad_input,
    fast_forward=fast.elu,
)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x if x > 0 else alpha (e^x - 1), each element."""
    check_not_inplace("elu", inplace)
    return of_input(elu_op, input, alpha)


relu6_op = elementwise_op(
    "relu6",
    scalar=lambda x: min(max(x, 0.0), 6.0),
    forward=lambda x: x.clip(0, 6),
    grad_input=lambda grad, y: array_module(y).where((y <= 0) | (y >= 6), 0, grad),
    fast_grad_input=fast.relu6_grad,
)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), each element."""
    check_not_inplace("relu6", inplace)
    return of_output(relu6_op, input)


hardsigmoid_op = elementwise_op(
    "hardsigmoid",
    scalar=lambda x: min(max(x + 3, 0.0), 6.0) / 6,
    forward=lambda x: (x + 3).clip(0, 6) / 6,
    grad_input=lambda grad, x: array_module(x).where((x <= -3) | (x >= 3), 0, grad / 6),
    fast_grad_input=fast.hardsigmoid_grad,
)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6, each element."""
    check_not_inplace("hardsigmoid", inplace)
    return of_input(hardsigmoid_op, input)


def _hardswish_grad_input(grad: Array, x: Array) -> Array:
    between = ~((x <= -3) | (x >= 3))
    slope = between * (x.clip(-3, 3) / 3 + 0.5) + (x >= 3)
    return array_module(x).where(x <= -3, 0, grad * slope)


hardswish_op = elementwise_op(
    "hardswish",
    scalar=lambda x: x * min(max(x + 3, 0.0), 6.0) / 6,
    forward=lambda x: x * ((x + 3).clip(0, 6) / 6),
    grad_input=_hardswish_grad_input,
    fast_forward=fast.hardswish,
    fast_grad_input=fast.hardswish_grad,
)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x relu6(x + 3) / 6, each element."""
    check_not_inplace("hardswish", inplace)
    return of_input(hardswish_op, input)


# -- smooth ----------------------------------------------------------------------------------------
def sigmoid_of(x: Array) -> Array:
    """1 / (1 + e^-x). Where e^-x is infinite, the result is 0, as it should be."""
    with np.errstate(over="ignore"):
        return 1 / (1 + array_module(x).exp(-x))


def _sigmoid_scalar(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))


sigmoid_op = elementwise_op(
    "sigmoid",
    scalar=_sigmoid_scalar,
    forward=sigmoid_of,
    grad_input=lambda grad, y: grad * (y * (1 - y)),
    fast_forward=fast.sigmoid,
    fast_grad_input=fast.sigmoid_grad,
)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e^-x), each element."""
    return of_output(sigmoid_op, input)


def _silu_grad_input(grad: Array, x: Array) -> Array:
    s = sigmoid_of(x)
    return grad * (s * (1 + x * (1 - s)))


silu_op = elementwise_op(
    "silu",
    scalar=lambda x: x * _sigmoid_scalar(x),
    forward=lambda x: x * sigmoid_of(x),
    grad_input=_silu_grad_input,
    fast_forward=fast.silu,
)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x), each element; also called swish."""
    check_not_inplace("silu", inplace)
    return of_input(silu_op, input)


tanh_op = elementwise_op(
    "tanh",
    scalar=math.tanh,
    forward=lambda x: array_module(x).tanh(x),
    grad_input=lambda grad, y: grad * (1 - y * y),
    fast_forward=fast.tanh,
    fast_grad_input=fast.tanh_grad,
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
    return grad * array_module(x).where(beta * x > threshold, 1, sigmoid_of(beta * x))


softplus_op = elementwise_op(
    "softplus",
    scalar=_softplus_scalar,
    forward=_softplus_forward,
    grad_input=_softplus_grad_input,
)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta x)) / beta, each element; x itself where beta x is above `threshold`."""
    return of_input(softplus_op, input, beta, threshold)
