"""Losses of pairs of numbers, one by one: what loss.py and binary_cross_entropy.py share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from minseg.array import Array
from minseg.ops.checks import check_tensor
from minseg.ops.fast import loss as fast
from minseg.ops.op import Op
from minseg.ops.reduction import check_reduction, reduce, spread
from minseg.tensor import Tensor, record


def pointwise_definition(scalar: Callable[..., float]) -> Callable[..., Array]:
    """The definition of a loss: `scalar` on one element of each array after the other."""

    def definition(x: Array, target: Array, *arguments: Any) -> Array:
        loss = np.empty_like(x)
        for i in np.ndindex(x.shape):
            numbers = [float(a[i]) if np.ndim(a) else a for a in (x, target, *arguments)]
            loss[i] = scalar(*numbers)
        return loss

    return definition


def pointwise_loss(
    op: Op,
    input: Tensor,
    target: Tensor,
    arguments: tuple[Any, ...],
    reduction: str,
    with_slope: fast.Formula | None = None,
) -> Tensor:
    """What `op` gives for each element of input and target, reduced; both may want a gradient.

    `with_slope` computes the loss and its slope at once, where the target wants no gradient.
    """
    x, t = input.data, target.data
    grad_input: Callable[[Array], Array]
    wanted = input.requires_grad, target.requires_grad
    if with_slope and wanted == (True, False) and op.is_numpy(x) and fast.fits(x):
        loss, slope = fast.value_and_slope(with_slope, x, t, summed=reduction != "none")
        grad_input = partial(fast.grad_input, slope=slope)
    else:
        loss = op.forward(x, t, *arguments)
        grad_input = lambda grad: op.grad_input(grad, x, t, *arguments)  # noqa: E731
    y = reduce(loss, reduction, x.size)

    def backward(grad: Array) -> tuple[Array | None, Array | None]:
        dx = dt = None
        grad = spread(grad, input.shape, reduction, x.size)
        if input.requires_grad:
            dx = grad_input(grad)
        if target.requires_grad:
            dt = op.grad_target(grad, x, t, *arguments)
        return dx, dt

    return record(op.name, y, (input, target), backward)


def check_pair(op: str, input: Tensor, target: Tensor, reduction: str) -> None:
    """Raise unless `target` has the input's dtype and shape, and `reduction` is a known one."""
    check_reduction(op, reduction)
    check_tensor(op, "input", input, ndim=None)
    check_tensor(op, "target", target, ndim=None, like=input)
    if target.shape != input.shape:
        raise ValueError(f"{op}: target has shape {target.shape}, the input has {input.shape}")
