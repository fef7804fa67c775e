"""Lovasz losses: intersection over union, made differentiable.

1 - IoU is a function of the *set* of wrong pixels. Its Lovasz extension allows pixels to be wrong
by degrees m_i: sort them, the worst first, and weight each by what it adds to 1 - IoU when it joins
those before it,

    loss = sum_i m_i (J_i - J_(i - 1)),   J_i = 1 - (total - hits_i) / (total + others_i),   J_0 = 0

with `total` pixels of the class, of which hits_i are among the first i, beside others_i of other
classes. As long as the order stays, the factors J_i - J_(i - 1) do: they are the gradient.

    softmax: m = 1 - p for a pixel of the class, p for another; the mean over classes that occur
    hinge (binary): m = max(0, 1 - x) for a pixel of the class, max(0, 1 + x) for another

The sums run over the batch, or over each image by itself (`per_image`). Ignored pixels are left
out; where none is left the loss is 0.

Source: Berman et al., "The Lovasz-softmax loss", 2018, equations 8, 9 and 11, algorithm 1
"""

import numpy as np

from minseg.array import Array, array_module
from minseg.ops.activation import relu
from minseg.ops.checks import check_tensor
from minseg.ops.labels import check_segmentation, check_yes_or_no
from minseg.ops.reduction import at_least_one
from minseg.ops.softmax import softmax
from minseg.tensor import Tensor


def lovasz_definition(m: Array, truth: Array) -> float:
    """The Lovasz extension of 1 - IoU at errors `m` (P,): set by set, each IoU counted anew."""
    order = sorted(range(len(m)), key=lambda i: -m[i])
    loss = before = 0.0
    for i in range(len(order)):
        wrong = order[: i + 1]
        hits = sum(bool(truth[j]) for j in wrong)
        total = sum(bool(t) for t in truth)
        jaccard = 1 - (total - hits) / (total + len(wrong) - hits)
        loss += m[order[i]] * (jaccard - before)
        before = jaccard
    return loss


def lovasz_factors(m: Array, truth: Array, valid: Array) -> Array:
    """The factor of each error, each row by itself: m, truth, valid (R, P) -> (R, P)."""
    xp = array_module(m)
    order = xp.argsort(xp.where(valid, -m, np.inf), axis=1, kind="stable")  # the ignored come last
    hits = xp.take_along_axis(truth, order, axis=1)
    total = hits.sum(axis=1, keepdims=True)
    union = total + (~hits).cumsum(axis=1)
    jaccard = 1 - (total - hits.cumsum(axis=1)) / xp.maximum(union, 1)
    steps = xp.diff(jaccard, axis=1, prepend=0)
    factors = xp.zeros(m.shape, m.dtype)
    factors[xp.arange(len(m))[:, None], order] = steps
    return xp.where(valid, factors, 0)


def lovasz_softmax(
    input: Tensor, target: Tensor, ignore_index: int = -100, per_image: bool = False
) -> Tensor:
    """Lovasz-softmax of scores (N, C, ...) and labels (N, ...); see the top of this file.

    Raises ValueError for labels out of range and shapes that do not fit, TypeError for dtypes.
    """
    of_class, valid = check_segmentation("lovasz_softmax", input, target, ignore_index)
    xp = array_module(of_class)
    p = softmax(input, 1)
    errors = (1 - p).where(of_class, p)
    valid = xp.broadcast_to(valid, input.shape)

    lead = (0, 1) if per_image else (1, 0)  # (N, C) rows of one image, or (C,) of the batch
    axes = (*lead, *range(2, input.ndim))
    count = input.shape[0] * input.shape[1] if per_image else input.shape[1]

    def rows(a: Array) -> Array:
        return a.transpose(axes).reshape(count, a.size // max(count, 1))

    truth = rows(of_class)
    occurs = truth.any(axis=1)
    factors = lovasz_factors(rows(errors.data), truth, rows(valid)) * occurs[:, None]
    moved = errors.data.transpose(axes).shape
    factors = factors.reshape(moved).transpose(axes)  # swapping two axes undoes itself
    weighted = errors.where(valid, 0.0) * Tensor(factors.astype(input.dtype))
    return weighted.sum() / at_least_one(occurs.sum(), input.dtype)


def lovasz_hinge(
    input: Tensor, target: Tensor, ignore_index: int = -100, per_image: bool = False
) -> Tensor:
    """Lovasz hinge of yes-or-no scores and a target of 0 and 1, both (N, ...).

    `per_image` takes the mean over the images with a pixel that counts. Raises ValueError for a
    value other than 0, 1 and ignore_index, and for shapes that differ.
    """
    check_tensor("lovasz_hinge", "input", input, ndim=None)
    yes, valid = check_yes_or_no("lovasz_hinge", input, target, ignore_index)
    xp = array_module(yes)
    sign = Tensor(xp.where(yes, 1, -1).astype(input.dtype))
    errors = relu(1 - input * sign).where(valid, 0.0)
    images = len(yes) if per_image else 1
    shape = (images, yes.size // max(images, 1))
    factors = lovasz_factors(*(a.reshape(shape) for a in (errors.data, yes, valid)))
    count = valid.reshape(shape).any(axis=1).sum()
    total = (errors * Tensor(factors.reshape(input.shape))).sum()
    return total / at_least_one(count, input.dtype)
