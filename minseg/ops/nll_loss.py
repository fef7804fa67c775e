"""Negative log-likelihood: minus the score of each pixel's class, where scores are logarithms.

    loss = -w_t x_t;   nll_loss(log_softmax(x)) is cross_entropy(x)

"mean" divides by the sum of the weights w_t of the pixels that are not ignored.

Shapes: x (N, C, ...) or (C,); target (N, ...) or () of class indices
"""

import math

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.checks import check_tensor
from minseg.ops.cross_entropy import as_pixels
from minseg.ops.labels import check_labels, check_weight, sum_of_weights
from minseg.ops.op import Op
from minseg.ops.reduction import check_reduction, reduce, spread
from minseg.tensor import Tensor, record


def nll_loss_definition(x: Array, target: Array, w: Array, ignore_index: int) -> Array:
    """x (N, C, P), target (N, P) -> (N, P), pixel by pixel."""
    loss = np.zeros(target.shape, x.dtype)
    for n, p in np.ndindex(target.shape):
        label = target[n, p]
        if label != ignore_index:
            loss[n, p] = -w[label] * x[n, label, p]
    return loss


def _forward(x: Array, target: Array, w: Array, ignore_index: int) -> Array:
    xp = array_module(x)
    valid = target != ignore_index
    label = xp.where(valid, target, 0)
    chosen = xp.take_along_axis(x, label[:, None], axis=1)[:, 0]
    return xp.where(valid, -w[label] * chosen, 0)


def _grad_input(
    grad: Array, x_shape: tuple[int, ...], target: Array, w: Array, ignore_index: int
) -> Array:
    xp = array_module(grad)
    valid = target != ignore_index
    label = xp.where(valid, target, 0)
    at_label = xp.where(valid, -w[label] * grad, 0)[:, None]
    classes = xp.arange(x_shape[1])[:, None]
    return xp.where(label[:, None] == classes, at_label, 0)


op = Op(
    "nll_loss",
    definition=nll_loss_definition,
    numpy={"forward": _forward, "grad_input": _grad_input},
)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probabilities `input` at the labels `target`; see the top of this file.

    "mean" of no pixel at all is NaN, with a gradient of zeros. Errors as for cross_entropy.
    """
    check_reduction("nll_loss", reduction)
    check_tensor("nll_loss", "input", input, ndim=None)
    w = check_weight("nll_loss", input, weight)
    labels = check_labels("nll_loss", input, target, ignore_index)
    x = as_pixels(input.data)
    t = labels.reshape(x.shape[0], math.prod(labels.shape[1:]))
    denominator = sum_of_weights(w, labels, ignore_index)
    loss = op.forward(x, t, w, ignore_index)
    y = reduce(loss.reshape(labels.shape), reduction, denominator)

    def backward(grad: Array) -> tuple[Array]:
        grad = spread(grad, loss.shape, reduction, denominator)
        return (op.grad_input(grad, x.shape, t, w, ignore_index).reshape(input.shape),)

    return record("nll_loss", y, (input,), backward)
