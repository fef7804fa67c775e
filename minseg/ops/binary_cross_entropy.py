"""Binary cross-entropy: how badly a probability p predicts a target t between 0 and 1.

    binary_cross_entropy              -w (t log p + (1 - t) log(1 - p)),   logarithms at least -100
    binary_cross_entropy_with_logits  the same of p = sigmoid(x), with t log p weighted by q:
                                      w ((1 - t) x + (1 + (q - 1) t) softplus(-x))

The second form is the one to train with: from x, log(sigmoid(x)) = -softplus(-x) has no limit.

Shapes: input, target: any, the same; w, q (`pos_weight`): what broadcasts to it
"""

import math
from functools import partial
from typing import NoReturn

import numpy as np

from minseg.array import Array, array_module
from minseg.device import raise_where
from minseg.ops.activation import sigmoid_of
from minseg.ops.checks import check_tensor
from minseg.ops.fast import loss as fast
from minseg.ops.op import Op
from minseg.ops.pointwise import check_pair, pointwise_definition, pointwise_loss
from minseg.tensor import Tensor

LEAST_LOG = -100.0  # PyTorch's: the loss of a certain and wrong prediction stays finite
LEAST_VARIANCE = 1e-12  # and so does the gradient, which divides by p (1 - p)


# -- of probabilities ------------------------------------------------------------------------------
def _bce_scalar(p: float, t: float, w: float) -> float:
    log_p = max(math.log(p), LEAST_LOG) if p > 0 else LEAST_LOG
    log_rest = max(math.log1p(-p), LEAST_LOG) if p < 1 else LEAST_LOG
    return -w * (t * log_p + (1 - t) * log_rest)


def _logs(p: Array) -> tuple[Array, Array]:
    """log p and log(1 - p), each at least -100."""
    xp = array_module(p)
    with np.errstate(divide="ignore"):
        return xp.log(p).clip(LEAST_LOG), xp.log1p(-p).clip(LEAST_LOG)


def _bce_forward(p: Array, t: Array, w: Array) -> Array:
    log_p, log_rest = _logs(p)
    return -w * (t * log_p + (1 - t) * log_rest)


def _bce_grad_input(grad: Array, p: Array, t: Array, w: Array) -> Array:
    return grad * w * ((p - t) / (p * (1 - p)).clip(LEAST_VARIANCE))


def _bce_grad_target(grad: Array, p: Array, t: Array, w: Array) -> Array:
    log_p, log_rest = _logs(p)
    return grad * w * (log_rest - log_p)


# -- of logits -------------------------------------------------------------------------------------
def _logits_scalar(x: float, t: float, w: float, q: float) -> float:
    log_p = -max(-x, 0.0) - math.log1p(math.exp(-abs(x)))
    log_rest = -max(x, 0.0) - math.log1p(math.exp(-abs(x)))
    return -w * (q * t * log_p + (1 - t) * log_rest)


def _softplus_of_minus(x: Array) -> Array:
    xp = array_module(x)
    return xp.maximum(-x, 0) + xp.log1p(xp.exp(-abs(x)))


def _logits_forward(x: Array, t: Array, w: Array, q: Array) -> Array:
    return w * ((1 - t) * x + (1 + (q - 1) * t) * _softplus_of_minus(x))


def _logits_grad_input(grad: Array, x: Array, t: Array, w: Array, q: Array) -> Array:
    return grad * w * ((1 - t) - (1 + (q - 1) * t) * sigmoid_of(-x))


def _logits_grad_target(grad: Array, x: Array, t: Array, w: Array, q: Array) -> Array:
    return grad * w * ((q - 1) * _softplus_of_minus(x) - x)


op = Op(
    "binary_cross_entropy",
    definition=pointwise_definition(_bce_scalar),
    numpy={
        "forward": _bce_forward,
        "grad_input": _bce_grad_input,
        "grad_target": _bce_grad_target,
    },
)
with_logits_op = Op(
    "binary_cross_entropy_with_logits",
    definition=pointwise_definition(_logits_scalar),
    numpy={
        "forward": _logits_forward,
        "grad_input": _logits_grad_input,
        "grad_target": _logits_grad_target,
    },
)


def binary_cross_entropy(
    input: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy of probabilities; formula and shapes at the top of this file.

    Raises ValueError for an input or a target outside 0 .. 1, for shapes that differ or do not
    broadcast; TypeError for dtypes that differ.
    """
    check_pair(op.name, input, target, reduction)
    for name, x in (("input", input), ("target", target)):
        wrong = ~((x.data >= 0) & (x.data <= 1))
        raise_where(wrong, partial(_outside, name, x, wrong))
    arguments = (_weight(op.name, "weight", input, weight),)
    return pointwise_loss(op, input, target, arguments, reduction)


def _outside(name: str, x: Tensor, wrong: Array) -> NoReturn:
    at = np.unravel_index(int(wrong.argmax()), x.shape)
    raise ValueError(
        f"{op.name}: {name} is {float(x.data[at]):.6g} at {tuple(map(int, at))}, needs 0 to 1"
    )


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """Binary cross-entropy of sigmoid(input), sound for any finite input; see the top of this file.

    Raises ValueError for shapes that differ or do not broadcast; TypeError for dtypes that differ.
    """
    name = with_logits_op.name
    check_pair(name, input, target, reduction)
    w = _weight(name, "weight", input, weight)
    q = _weight(name, "pos_weight", input, pos_weight)
    plain = weight is None and pos_weight is None
    with_slope = fast.bce_with_logits if plain else None
    return pointwise_loss(with_logits_op, input, target, (w, q), reduction, with_slope)


def _weight(op: str, name: str, input: Tensor, weight: Tensor | None) -> Array:
    """`weight` for each element of the input; 1 for None."""
    xp = array_module(input.data)
    if weight is None:
        return xp.broadcast_to(xp.ones((), input.dtype), input.shape)
    check_tensor(op, name, weight, ndim=None, like=input)
    try:
        return xp.broadcast_to(weight.data, input.shape)
    except ValueError:
        raise ValueError(
            f"{op}: {name} has shape {weight.shape}, which does not broadcast to the input's "
            f"{input.shape}"
        ) from None
