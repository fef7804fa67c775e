"""A bias for each channel and an activation, as one op: what follows a convolution without a bias.

    y[n, c, l] = act(z),  z = x[n, c, l] + b[c]
    dx = grad act'(z),      db[c] = sum over n and l of dx[n, c, l]

Done apart, the sum z goes to memory and comes back, and dx comes back once more for db: a kernel
does without. (minseg's own conv2d adds its bias to a result before it writes it: behind it, only
the gradient would gain.)

Shapes: x (N, C, ...), b (C,) -> y as x; the parts on arrays take x as (N, C, L)
"""

import math
from collections.abc import Callable

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.activation import leaky_relu, relu, sigmoid, silu
from minseg.ops.checks import check_tensor
from minseg.ops.gelu import gelu
from minseg.ops.op import Op, get_op, launch
from minseg.tensor import Tensor, record

# In the order of their numbers in the kernel.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda z: z,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "silu": silu,
    "gelu": gelu,
    "sigmoid": sigmoid,
}
DEFAULTS = {"leaky_relu": (0.01,), "gelu": ("none",)}  # to be named to their functions on arrays

# Elements that one block of the kernels takes: enough to pay for its start, few enough that a batch
# gives every multiprocessor of a GPU a block.
ELEMENTS_A_BLOCK = 2**14


def bias_activation_definition(x: Array, b: Array, activation: str) -> Array:
    """The formula above, element by element."""
    z = np.empty_like(x)
    for n, c, l in np.ndindex(x.shape):
        z[n, c, l] = x[n, c, l] + b[c]
    formula = get_op(activation).definition if activation != "none" else None
    return z if formula is None else formula(z, *DEFAULTS.get(activation, ()))


def _forward_numpy(x: Array, b: Array, activation: str) -> Array:
    """Two steps: NumPy is no quicker if both are done block by block, in the cache."""
    return _activate(x + b[:, None], activation)


def _grad_numpy(grad: Array, x: Array, b: Array, activation: str) -> tuple[Array, Array]:
    """The gradients to x and to b."""
    dx = _grad_of(grad, x + b[:, None], activation)
    return dx, dx.sum(axis=2).sum(axis=0)  # in this order: short sums round less


def _activate(z: Array, activation: str) -> Array:
    if activation == "none":
        return z
    return get_op(activation).numpy["forward"](z, *DEFAULTS.get(activation, ()))


def _grad_of(grad: Array, z: Array, activation: str) -> Array:
    if activation == "none":
        return grad
    of_output = activation in ("relu", "sigmoid")  # whose gradients are functions of their outputs
    kept = _activate(z, activation) if of_output else z
    return get_op(activation).numpy["grad_input"](grad, kept, *DEFAULTS.get(activation, ()))


def _forward_cuda(x: Array, b: Array, activation: str) -> Array:
    """kernels/bias_activation.cu: a block takes a range of a channel's elements."""
    xp = array_module(x)
    y = xp.empty(x.shape, x.dtype)
    x, b = contiguous(x, b)
    launch("bias_activation_forward", x, b, y, *x.shape, _number(activation), _splits(x))
    return y


def _grad_cuda(grad: Array, x: Array, b: Array, activation: str) -> tuple[Array, Array]:
    """Each block adds up its dx; the sums of the blocks are then added in order."""
    xp = array_module(x)
    splits = _splits(x)
    dx, partial = xp.empty(x.shape, x.dtype), xp.empty((splits, x.shape[1]), x.dtype)
    grad, x, b = contiguous(grad, x, b)
    how = (*x.shape, _number(activation), splits)
    launch("bias_activation_grad", grad, x, b, dx, partial, *how)
    return dx, partial.sum(axis=0)


def _splits(x: Array) -> int:
    """How many blocks share a channel."""
    return max(1, -(-x.shape[0] * x.shape[2] // ELEMENTS_A_BLOCK))


def _number(activation: str) -> int:
    return list(ACTIVATIONS).index(activation)


op = Op(
    "bias_activation",
    definition=bias_activation_definition,
    numpy={"forward": _forward_numpy, "grad": _grad_numpy},
    cuda={"forward": _forward_cuda, "grad": _grad_cuda},
)


def bias_activation(input: Tensor, bias: Tensor, activation: str = "relu") -> Tensor:
    """activation(input + bias), with a bias for each channel; minseg's own, PyTorch has no such op.

    `activation` is "none", "relu", "leaky_relu" (slope 0.01), "silu", "gelu" (not its tanh form) or
    "sigmoid". Raises ValueError for another and for shapes that do not fit, TypeError for dtypes.
    """
    name = "bias_activation"
    if activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"{name}: activation is {activation!r}, needs one of {known}")
    check_tensor(name, "input", input, ndim=None)
    check_tensor(name, "bias", bias, ndim=1, like=input)
    if input.ndim < 2:
        raise ValueError(f"{name}: input has shape {input.shape}, needs (N, C, ...)")
    N, C = input.shape[:2]
    if bias.shape != (C,):
        raise ValueError(
            f"{name}: bias has shape {bias.shape}, needs ({C},), a number for each channel of the "
            f"input {input.shape}"
        )
    if activation != "none" and get_op(activation).overrides:  # a learner's own: it is to run
        return ACTIVATIONS[activation](input + bias.reshape(C, *(1,) * (input.ndim - 2)))

    x, b = input.data.reshape(N, C, math.prod(input.shape[2:])), bias.data

    def backward(grad: Array) -> tuple[Array, Array]:
        with np.errstate(over="ignore", invalid="ignore"):
            dx, db = op.grad(grad.reshape(x.shape), x, b, activation)
        return dx.reshape(input.shape), db

    with np.errstate(over="ignore", invalid="ignore"):  # an infinity times 0 is NaN: it shows
        y = op.forward(x, b, activation)
    return record(name, y.reshape(input.shape), (input, bias), backward)
