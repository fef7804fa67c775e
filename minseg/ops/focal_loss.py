"""Focal loss: cross-entropy that all but forgets the pixels which are right already.

    loss = alpha_t (1 - p_t)^gamma (-log p_t),   p_t the probability of the true class

With ce = -log p_t this is ce (1 - e^-ce)^gamma, a function of the cross-entropy alone, so softmax
(one of C classes) and sigmoid (yes or no, for each score) differ in their cross-entropy only.

Shapes: focal_loss: input (N, C, ...), target (N, ...); sigmoid_focal_loss: both any, the same
Source: Lin et al., "Focal loss for dense object detection", 2017, equation 5
"""

import math

from minseg.array import Array, array_module, contiguous
from minseg.ops.activation import elementwise_definition, of_input, softplus
from minseg.ops.checks import check_tensor
from minseg.ops.cross_entropy import cross_entropy
from minseg.ops.labels import check_classes, check_weight, check_yes_or_no
from minseg.ops.op import Op, launch
from minseg.ops.reduction import at_least_one, check_reduction
from minseg.tensor import Tensor


def _scalar(ce: float, gamma: float) -> float:
    return ce * (1 - math.exp(-ce)) ** gamma


def _forward_numpy(ce: Array, gamma: float) -> Array:
    return ce * (-array_module(ce).expm1(-ce)) ** gamma


def _grad_input_numpy(grad: Array, ce: Array, gamma: float) -> Array:
    """(1 - p)^gamma + gamma p ce (1 - p)^(gamma - 1); the last two are near ce^gamma at ce = 0."""
    xp = array_module(ce)
    miss = -xp.expm1(-ce)  # 1 - p
    relative = ce / xp.where(miss > 0, miss, 1)
    return grad * (miss**gamma * (1 + gamma * (1 - miss) * relative))


def _forward_cuda(ce: Array, gamma: float) -> Array:
    """kernels/focal.cu: the same in one go through memory."""
    xp = array_module(ce)
    y = xp.empty(ce.shape, ce.dtype)
    launch("focal_forward", xp.ascontiguousarray(ce), y, gamma, ce.size)
    return y


def _grad_input_cuda(grad: Array, ce: Array, gamma: float) -> Array:
    xp = array_module(grad)
    dce = xp.empty(ce.shape, ce.dtype)
    grad, ce = contiguous(grad, ce)
    launch("focal_grad_input", grad, ce, dce, gamma, ce.size)
    return dce


op = Op(
    "focal_loss",
    definition=elementwise_definition(_scalar),
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
    cuda={"forward": _forward_cuda, "grad_input": _grad_input_cuda},
)


def focal_loss(
    input: Tensor,
    target: Tensor,
    alpha: Tensor | None = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss of class scores; `alpha` (C,) weighs the classes.

    "mean" divides by the number of pixels that are not ignored; of none it is 0. Raises ValueError
    for labels out of range, shapes that do not fit or a negative gamma, TypeError for dtypes.
    """
    _check("focal_loss", gamma, reduction)
    labels = check_classes("focal_loss", input, target, ignore_index)
    w = check_weight("focal_loss", input, alpha, "alpha")
    valid = labels != ignore_index
    ce = cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
    weights = Tensor(array_module(w).where(valid, w[labels * valid], 0).astype(w.dtype))
    return _reduced(of_input(op, ce, gamma) * weights, valid, reduction)


def sigmoid_focal_loss(
    input: Tensor,
    target: Tensor,
    alpha: float | None = 0.25,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Focal loss of yes-or-no scores: `target` is 1 (weight alpha) or 0 (weight 1 - alpha).

    alpha=None weighs both 1; else as for focal_loss. Raises ValueError for a target with another
    value than 0, 1 and ignore_index, for shapes that differ, for alpha outside 0 .. 1.
    """
    name = "sigmoid_focal_loss"
    _check(name, gamma, reduction)
    check_tensor(name, "input", input, ndim=None)
    if alpha is not None and not 0 <= alpha <= 1:
        raise ValueError(f"{name}: alpha is {alpha}, needs 0 to 1 or None")
    yes, valid = check_yes_or_no(name, input, target, ignore_index)
    xp = array_module(yes)
    sign = Tensor(xp.where(yes, -1, 1).astype(input.dtype))
    # -log sigmoid(x) = softplus(-x), to the last digit: without the straight line above a threshold
    ce = softplus((input * sign).where(valid, 0.0), threshold=math.inf)
    w = xp.ones(()) if alpha is None else xp.where(yes, alpha, 1 - alpha)
    weights = Tensor(xp.where(valid, w, 0).astype(input.dtype))
    return _reduced(of_input(op, ce, gamma) * weights, valid, reduction)


def _check(op: str, gamma: float, reduction: str) -> None:
    check_reduction(op, reduction)
    if gamma < 0:
        raise ValueError(f"{op}: gamma is {gamma}, needs at least 0")


def _reduced(loss: Tensor, valid: Array, reduction: str) -> Tensor:
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / at_least_one(valid.sum(), loss.dtype)
