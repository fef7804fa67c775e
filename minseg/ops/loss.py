"""Losses of a difference d = input - target, each element by itself, then reduced.

    mse_loss        d^2
    l1_loss         |d|
    smooth_l1_loss  d^2 / (2 beta) where |d| < beta, else |d| - beta / 2     (beta = 0: l1_loss)
    huber_loss      d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2)

A `weight` multiplies each element's loss. With it, "mean" divides by the sum of the weights; in
huber_loss, as in PyTorch, by the number of elements.

Shapes: input, target, weight: any, the same -> the same ("none") or one number
Source: Huber, "Robust estimation of a location parameter", 1964; smooth L1: Girshick, "Fast R-CNN",
        2015, equation 3
"""

import math
from collections.abc import Callable
from typing import Any

from minseg.array import Array, array_module
from minseg.ops.checks import check_tensor
from minseg.ops.fast import loss as fast
from minseg.ops.op import Op
from minseg.ops.pointwise import check_pair, pointwise_definition, pointwise_loss
from minseg.tensor import Tensor


def _smooth_l1_scalar(d: float, beta: float) -> float:
    return d * d / (2 * beta) if abs(d) < beta else abs(d) - beta / 2


def _smooth_l1_value(d: Array, beta: float) -> Array:
    if beta == 0:
        return abs(d)
    return array_module(d).where(abs(d) < beta, d * d / (2 * beta), abs(d) - beta / 2)


def _smooth_l1_slope(d: Array, beta: float) -> Array:
    xp = array_module(d)
    return xp.sign(d) if beta == 0 else (d / beta).clip(-1, 1)


def _huber_scalar(d: float, delta: float) -> float:
    return d * d / 2 if abs(d) <= delta else delta * (abs(d) - delta / 2)


def _huber_value(d: Array, delta: float) -> Array:
    return array_module(d).where(abs(d) <= delta, d * d / 2, delta * (abs(d) - delta / 2))


def _difference_op(
    name: str, *, scalar: Callable[..., float], value: Callable[..., Array], slope: Callable
) -> Op:
    """An op of d = x - t: its value, and its slope, which the target gets with a minus."""
    return Op(
        name,
        definition=pointwise_definition(lambda x, t, *how: scalar(x - t, *how)),
        numpy={
            "forward": lambda x, t, *how: value(x - t, *how),
            "grad_input": lambda grad, x, t, *how: grad * slope(x - t, *how),
            "grad_target": lambda grad, x, t, *how: -grad * slope(x - t, *how),
        },
    )


mse_op = _difference_op(
    "mse_loss", scalar=lambda d: d * d, value=lambda d: d * d, slope=lambda d: 2 * d
)
l1_op = _difference_op("l1_loss", scalar=abs, value=abs, slope=lambda d: array_module(d).sign(d))
smooth_l1_op = _difference_op(
    "smooth_l1_loss", scalar=_smooth_l1_scalar, value=_smooth_l1_value, slope=_smooth_l1_slope
)
huber_op = _difference_op(
    "huber_loss",
    scalar=_huber_scalar,
    value=_huber_value,
    slope=lambda d, delta: d.clip(-delta, delta),
)


def mse_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """The squared difference. Raises ValueError for shapes that differ (nothing is broadcast)."""
    return _loss_of_difference(mse_op, input, target, (), reduction, weight)


def l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", weight: Tensor | None = None
) -> Tensor:
    """The absolute difference, with slope 0 at 0. Raises ValueError for shapes that differ."""
    return _loss_of_difference(l1_op, input, target, (), reduction, weight)


def smooth_l1_loss(
    input: Tensor, target: Tensor, *, reduction: str = "mean", beta: float = 1.0
) -> Tensor:
    """A parabola within `beta`, straight outside, with slope 1; PyTorch's has no weight either.

    Raises ValueError for a negative beta.
    """
    check_pair("smooth_l1_loss", input, target, reduction)
    if beta < 0:
        raise ValueError(f"smooth_l1_loss: beta is {beta}, needs at least 0")
    return pointwise_loss(smooth_l1_op, input, target, (float(beta),), reduction)


def huber_loss(
    input: Tensor,
    target: Tensor,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Tensor | None = None,
) -> Tensor:
    """A parabola within `delta`, straight outside, with slope delta. ValueError for delta <= 0."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta is {delta}, needs to be above 0")
    return _loss_of_difference(huber_op, input, target, (float(delta),), reduction, weight)


def _loss_of_difference(
    op: Op,
    input: Tensor,
    target: Tensor,
    arguments: tuple[Any, ...],
    reduction: str,
    weight: Tensor | None,
) -> Tensor:
    """Those with a weight, which may want a gradient as well: it is multiplied on the tape."""
    check_pair(op.name, input, target, reduction)
    if weight is None:
        with_slope = fast.squared_error if op is mse_op else None
        return pointwise_loss(op, input, target, arguments, reduction, with_slope)
    check_tensor(op.name, "weight", weight, ndim=None, like=input)
    if weight.shape != input.shape:
        raise ValueError(f"{op.name}: weight has shape {weight.shape}, the input {input.shape}")
    loss = pointwise_loss(op, input, target, arguments, "none") * weight
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if op is huber_op:
        return loss.mean()
    total = weight.sum()
    return loss.sum() / total.where(total != 0, math.nan)  # all weights 0: the mean of nothing
