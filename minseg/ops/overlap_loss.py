"""Dice, generalised Dice and Tversky losses: 1 - how much the prediction overlaps the truth.

With p = softmax(input) and t = 1 for a pixel's class, else 0, for each class, summed over pixels:

    TP = sum p t,  FP = sum p (1 - t),  FN = sum (1 - p) t
    Dice = 2 TP / (2 TP + FP + FN),  Tversky = TP / (TP + alpha FP + beta FN)
    generalised Dice = 2 sum_c w_c TP_c / sum_c w_c (2 TP_c + FP_c + FN_c),  w_c = 1 / (sum t)^2

The sums run over the pixels of the whole batch, or of each image by itself (`per_image`). The mean
runs over the classes that occur there: a class without a pixel has no overlap to measure, and a
pixel wrongly given to it already counts as missing from another. `smooth` is added to numerator and
denominator of Dice and of Tversky. Ignored pixels are in no sum; where all are, the loss is 0.

Shapes: input (N, C, ...), target (N, ...) of class indices -> one number
Source: Milletari et al., "V-Net", 2016; Sudre et al., "Generalised Dice overlap", 2017, section
        2.1; Salehi et al., "Tversky loss function", 2017, equations 1-3
"""

import math

import numpy as np

from minseg.array import Array, array_module, contiguous
from minseg.ops.labels import check_classes
from minseg.ops.op import Op, launch
from minseg.ops.reduction import at_least_one
from minseg.ops.softmax import softmax
from minseg.tensor import Tensor, record

PIXELS_A_BLOCK = 2**14  # summed by one block of the kernel


def overlap_definition(p: Array, t: Array, valid: Array) -> tuple[float, float, float]:
    """TP, FP and FN of one class, pixel by pixel; all three arguments are 1-D."""
    tp = fp = fn = 0.0
    for i in range(len(p)):
        if valid[i]:
            tp += p[i] * t[i]
            fp += p[i] * (1 - t[i])
            fn += (1 - p[i]) * t[i]
    return tp, fp, fn


def _definition(p: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """The result of `_forward_numpy`, computed for each class of each image."""
    sums, sizes = np.zeros((2, *p.shape[:2]), p.dtype), np.zeros(p.shape[:2], int)
    for n, c in np.ndindex(p.shape[:2]):
        of_class, valid = labels[n] == c, labels[n] != ignore_index
        tp, fp, _ = overlap_definition(p[n, c], of_class, valid)
        sums[:, n, c] = tp, fp
        sizes[n, c] = sum(of_class & valid)
    return sums, sizes


def _forward_numpy(p: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """TP and FP (2, N, C) of p (N, C, P) and labels (N, P), and the classes' sizes (N, C)."""
    of_class = labels[:, None] == np.arange(p.shape[1])[:, None]
    valid = (labels != ignore_index)[:, None]
    tp = np.where(of_class & valid, p, 0).sum(axis=2)
    fp = np.where(~of_class & valid, p, 0).sum(axis=2)
    return np.stack([tp, fp]), (of_class & valid).sum(axis=2)


def _grad_input_numpy(grad: Array, labels: Array, ignore_index: int) -> Array:
    """A probability is in TP for its pixel's class, in FP for the others; in none if ignored."""
    of_class = labels[:, None] == np.arange(grad.shape[2])[:, None]
    tp, fp = grad[..., None]
    return np.where((labels != ignore_index)[:, None], np.where(of_class, tp, fp), 0)


def _forward_cuda(p: Array, labels: Array, ignore_index: int) -> tuple[Array, Array]:
    """kernels/dice.cu: sums over ranges of pixels, which are then added in order."""
    xp = array_module(p)
    N, C, P = p.shape
    splits = max(1, -(-P // PIXELS_A_BLOCK))
    partial, sizes = xp.empty((2, splits, N, C), p.dtype), xp.empty((splits, N, C), np.int32)
    p, labels = contiguous(p, labels)
    launch("overlap_sums", p, labels, partial, sizes, N, C, P, ignore_index, splits)
    return partial.sum(axis=1), sizes.sum(axis=0)


def _grad_input_cuda(grad: Array, labels: Array, ignore_index: int) -> Array:
    xp = array_module(grad)
    dp = xp.empty((*grad.shape[1:], labels.shape[1]), grad.dtype)
    grad, labels = contiguous(grad, labels)
    launch("overlap_grad", grad, labels, dp, *dp.shape, ignore_index)
    return dp


op = Op(
    "overlap",
    definition=_definition,
    numpy={"forward": _forward_numpy, "grad_input": _grad_input_numpy},
    cuda={"forward": _forward_cuda, "grad_input": _grad_input_cuda},
)


def dice_loss(
    input: Tensor,
    target: Tensor,
    ignore_index: int = -100,
    per_image: bool = False,
    smooth: float = 0.0,
) -> Tensor:
    """1 - Dice, the mean over the classes that occur; formula at the top of this file.

    Raises ValueError for labels out of range and shapes that do not fit, TypeError for dtypes.
    """
    tp, fp, fn, occurs = _overlap("dice_loss", input, target, ignore_index, per_image)
    return _mean_loss(2 * tp + smooth, 2 * tp + fp + fn + smooth, occurs)


def tversky_loss(
    input: Tensor,
    target: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    ignore_index: int = -100,
    per_image: bool = False,
    smooth: float = 0.0,
) -> Tensor:
    """1 - Tversky index, the mean over the classes that occur; formula at the top of this file.

    `alpha` weighs false positives, `beta` false negatives; 0.5 and 0.5 is Dice. Raises as
    dice_loss, and ValueError for a negative weight.
    """
    if min(alpha, beta) < 0:
        raise ValueError(f"tversky_loss: alpha is {alpha}, beta is {beta}, need at least 0")
    tp, fp, fn, occurs = _overlap("tversky_loss", input, target, ignore_index, per_image)
    return _mean_loss(tp + smooth, tp + alpha * fp + beta * fn + smooth, occurs)


def generalized_dice_loss(
    input: Tensor, target: Tensor, ignore_index: int = -100, per_image: bool = False
) -> Tensor:
    """1 - generalised Dice, over the classes that occur; formula at the top of this file.

    `per_image` takes the mean over the images with a pixel that counts. Raises as dice_loss.
    """
    name = "generalized_dice_loss"
    tp, fp, fn, occurs = _overlap(name, input, target, ignore_index, per_image)
    size = np.where(occurs, (tp + fn).data, 1)
    w = Tensor(np.where(occurs, 1 / size**2, 0).astype(input.dtype))
    numerator, denominator = ((w * s).sum(1) for s in (2 * tp, 2 * tp + fp + fn))
    return _mean_loss(numerator, denominator, occurs.any(axis=1))


def _overlap(
    name: str, input: Tensor, target: Tensor, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor, Tensor, Array]:
    """TP, FP, FN and whether the class occurs, each (N, C), or (1, C) for the whole batch."""
    labels = check_classes(name, input, target, ignore_index)
    N, C = input.shape[:2]
    p = softmax(input, 1).reshape(N, C, math.prod(input.shape[2:]))
    t = labels.reshape(N, p.shape[2])
    sums, count = op.forward(p.data, t, ignore_index)

    def backward(grad: Array) -> tuple[Array]:
        return (op.grad_input(grad, t, ignore_index),)

    of_image = record("overlap", sums, (p,), backward)  # (2, N, C)
    if not per_image:
        of_image, count = of_image.sum(1, keepdim=True), count.sum(axis=0, keepdims=True)
    tp, fp = of_image[0], of_image[1]
    return tp, fp, Tensor(count.astype(input.dtype)) - tp, count > 0


def _mean_loss(numerator: Tensor, denominator: Tensor, counts: Array) -> Tensor:
    """The mean of 1 - numerator / denominator over the elements that count; 0 without any."""
    ratio = numerator.where(counts, 1.0) / denominator.where(counts, 1.0)
    return (1 - ratio).sum() / at_least_one(counts.sum(), ratio.dtype)
