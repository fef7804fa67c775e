"""Softmax: scores as probabilities along one dimension; and its logarithm.

    softmax(x)_i = e^x_i / sum over j of e^x_j,    log_softmax(x)_i = x_i - log(sum_j e^x_j)

Both are computed with x - max(x) in the place of x: it cancels, and no e^x is above 1. The
logarithm is an op of its own because log(softmax(x)) is -inf where e^x rounds to 0.

Shapes: any -> the same
Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.checks import check_tensor
from minseg.ops.fast import softmax as fast
from minseg.ops.op import Op, launch
from minseg.tensor import Tensor, record


def _lines(x: Array, axis: int) -> list[tuple]:
    """The index of each line of `x` along `axis`."""
    others = x.shape[:axis] + x.shape[axis + 1 :]
    return [(*i[:axis], slice(None), *i[axis:]) for i in np.ndindex(others)]


def softmax_definition(x: Array, axis: int) -> Array:
    """The formula above, line by line."""
    y = np.empty_like(x)
    for line in _lines(x, axis):
        top = max(x[line], default=0.0)
        powers = [math.exp(v - top) for v in x[line]]
        y[line] = [p / sum(powers) for p in powers]
    return y


def log_softmax_definition(x: Array, axis: int) -> Array:
    """The formula above, line by line."""
    y = np.empty_like(x)
    for line in _lines(x, axis):
        top = max(x[line], default=0.0)
        y[line] = [v - top - math.log(sum(math.exp(u - top) for u in x[line])) for v in x[line]]
    return y


def _softmax(x: Array, axis: int) -> Array:
    powers = np.exp(_below_top(x, axis))
    return powers / powers.sum(axis=axis, keepdims=True)


def _softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    """dy_j / dx_i = y_j ([i = j] - y_i), times grad_j, summed over j."""
    return y * (grad - (grad * y).sum(axis=axis, keepdims=True))


def _log_softmax(x: Array, axis: int) -> Array:
    z = _below_top(x, axis)
    with np.errstate(divide="ignore"):  # the sum of an empty line is 0
        return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def _log_softmax_grad(grad: Array, y: Array, axis: int) -> Array:
    """dy_j / dx_i = [i = j] - softmax(x)_i, times grad_j, summed over j."""
    return grad - np.exp(y) * grad.sum(axis=axis, keepdims=True)


def _below_top(x: Array, axis: int) -> Array:
    """x - max(x) along `axis`; NaN in a line that is -inf throughout: it has no softmax."""
    if x.size == 0:
        return x
    with np.errstate(invalid="ignore"):
        return x - x.max(axis=axis, keepdims=True)


# The formulas above on NumPy arrays, of which large ones are computed block by block.
softmax_of = fast.by_blocks(_softmax, fast.softmax)
log_softmax_of = fast.by_blocks(_log_softmax, fast.log_softmax)


def _cuda(logarithm: bool) -> dict[str, Callable[..., Array]]:
    """kernels/softmax.cu, for softmax or for its logarithm."""

    def forward(x: Array, axis: int) -> Array:
        xp = array_module(x)
        y = xp.empty(x.shape, x.dtype)
        launch("softmax_forward", xp.ascontiguousarray(x), y, *_shape_and_lanes(x, axis), logarithm)
        return y

    def grad_input(grad: Array, y: Array, axis: int) -> Array:
        xp = array_module(grad)
        dx = xp.empty(y.shape, y.dtype)
        grad, y = contiguous(grad, y)
        launch("softmax_grad_input", grad, y, dx, *_shape_and_lanes(y, axis), logarithm)
        return dx

    return {"forward": forward, "grad_input": grad_input}


def _shape_and_lanes(x: Array, axis: int) -> tuple[int, int, int, int]:
    """`x` as (outer, C, inner), and how many threads share a line: a warp if it is in one piece."""
    inner = math.prod(x.shape[axis + 1 :])
    return math.prod(x.shape[:axis]), x.shape[axis], inner, 32 if inner == 1 else 1


softmax_op = Op(
    "softmax",
    definition=softmax_definition,
    numpy={
        "forward": softmax_of,
        "grad_input": fast.by_blocks(_softmax_grad, fast.softmax_grad),
    },
    cuda=_cuda(logarithm=False),
)
log_softmax_op = Op(
    "log_softmax",
    definition=log_softmax_definition,
    numpy={
        "forward": log_softmax_of,
        "grad_input": fast.by_blocks(_log_softmax_grad, fast.log_softmax_grad),
    },
    cuda=_cuda(logarithm=True),
)


def softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Probabilities along `dim`, computed in `dtype` (the input's own if None).

    Raises ValueError for a `dim` that the input lacks, TypeError for one that is not an int.
    """
    return _along(softmax_op, input, dim, dtype)


def log_softmax(input: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """The logarithms of the probabilities along `dim`; arguments and errors as for softmax."""
    return _along(log_softmax_op, input, dim, dtype)


def _along(op: Op, input: Tensor, dim: int, dtype: Any) -> Tensor:
    if dtype is not None and isinstance(input, Tensor):
        input = input.to(dtype)
    check_tensor(op.name, "input", input, ndim=None)
    if not isinstance(dim, int | np.integer):
        raise TypeError(f"{op.name}: dim is {dim!r}, needs an int")
    ndim = max(input.ndim, 1)  # a single number counts as a line of one
    if not -ndim <= dim < ndim:
        raise ValueError(f"{op.name}: dim is {dim}, the input {input.shape} has {input.ndim} dims")
    axis = dim % ndim
    x = input.data if input.ndim else input.data.reshape(1)
    y = op.forward(x, axis)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad.reshape(y.shape), y, axis).reshape(input.shape),)

    return record(op.name, y.reshape(input.shape), (input,), backward)
