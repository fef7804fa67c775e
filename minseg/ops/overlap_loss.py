"""Dice, generalised Dice and Tversky losses: 1 - how much the prediction overlaps the truth.

With p = softmax(input) and t = 1 for a pixel's class, else 0, for each class, summed over pixels:

    TP = sum p t,  FP = sum p (1 - t),  FN = sum (1 - p) t
    Dice = 2 TP / (2 TP + FP + FN),  Tversky = TP / (TP + alpha FP + beta FN)
    generalised Dice = 2 sum_c w_c TP_c / sum_c w_c (2 TP_c + FP_c + FN_c),  w_c = 1 / (sum t)^2

The sums run over the pixels of the whole batch, or of each image by itself (`per_image`). The mean
runs over the classes that occur there: a class without a pixel has no overlap to speak of, and what
is wrongly given to it already counts as missing from another. `smooth` is added to numerator and
denominator of Dice and of Tversky. Ignored pixels are in no sum; where none is left the loss is 0.

Shapes: input (N, C, ...), target (N, ...) of class indices -> one number
Source: Milletari et al., "V-Net", 2016; Sudre et al., "Generalised Dice overlap", 2017, section
        2.1; Salehi et al., "Tversky loss function", 2017, equations 1-3
"""

import numpy as np

from minseg.array import Array
from minseg.ops.labels import check_segmentation
from minseg.ops.softmax import softmax
from minseg.tensor import Tensor


def overlap_definition(p: Array, t: Array, valid: Array) -> tuple[float, float, float]:
    """TP, FP and FN of one class, pixel by pixel; all three arguments are 1-D."""
    tp = fp = fn = 0.0
    for i in range(len(p)):
        if valid[i]:
            tp += p[i] * t[i]
            fp += p[i] * (1 - t[i])
            fn += (1 - p[i]) * t[i]
    return tp, fp, fn


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

    `per_image` takes the mean over the images that have a pixel. Raises as dice_loss.
    """
    name = "generalized_dice_loss"
    tp, fp, fn, occurs = _overlap(name, input, target, ignore_index, per_image)
    size = np.where(occurs, (tp + fn).data, 1)
    w = Tensor(np.where(occurs, 1 / size**2, 0).astype(input.dtype))
    numerator, denominator = ((w * s).sum(1) for s in (2 * tp, 2 * tp + fp + fn))
    return _mean_loss(numerator, denominator, occurs.any(axis=1))


def _overlap(
    op: str, input: Tensor, target: Tensor, ignore_index: int, per_image: bool
) -> tuple[Tensor, Tensor, Tensor, Array]:
    """TP, FP, FN and whether the class occurs, each (N, C), or (1, C) for the whole batch."""
    of_class, valid = check_segmentation(op, input, target, ignore_index)
    p = softmax(input, 1)
    axes = tuple(range(2, input.ndim)) if per_image else (0, *range(2, input.ndim))
    rows = (input.shape[0] if per_image else 1, input.shape[1])
    tp = p.where(of_class, 0.0).sum(axes).reshape(*rows)
    fp = p.where(valid & ~of_class, 0.0).sum(axes).reshape(*rows)
    count = of_class.sum(axis=axes).reshape(rows)
    return tp, fp, Tensor(count.astype(input.dtype)) - tp, count > 0


def _mean_loss(numerator: Tensor, denominator: Tensor, counts: Array) -> Tensor:
    """The mean of 1 - numerator / denominator where `counts`; 0 if it counts nowhere."""
    ratio = numerator.where(counts, 1.0) / denominator.where(counts, 1.0)
    return (1 - ratio).sum() / max(int(counts.sum()), 1)
