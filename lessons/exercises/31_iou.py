"""IoU: the score of segmentation, with absent classes

Intersection over union of a class: the pixels that are this class *and* were predicted so, divided
by the pixels that are this class *or* were predicted so. Pixels whose target is `ignore_index` do
not count, whatever was predicted there.

A class that neither occurs nor is predicted has no score: its IoU is NaN ("not a number"), and the
mean runs over the other classes. Counting it as 0 would punish a right answer; counting it as 1
would reward an easy data set.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.metrics import ConfusionMatrix


def iou(
    prediction: np.ndarray, target: np.ndarray, num_classes: int, ignore_index: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """The IoU of each class, and their mean.

    prediction, target (N, H, W) of class indices -> ious (num_classes,), NaN for an absent class,
    and mean, a number; both float64
    """
    counts = target != ignore_index
    prediction = prediction[counts].astype(np.int64)
    target = target[counts].astype(np.int64)
    pairs = np.bincount(target * num_classes + prediction, minlength=num_classes**2)
    matrix = pairs.reshape(num_classes, num_classes)  # [class, predicted class]
    both = np.diag(matrix)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    ious = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    return ious, np.nanmean(ious)


def matrix_of(prediction, target, num_classes, ignore_index=255):
    """[class, predicted class], and whatever ignored pixels were predicted as."""
    matrix = np.zeros((num_classes, num_classes))
    ignored = np.zeros(num_classes)
    for p, t in zip(prediction.flat, target.flat, strict=True):
        if t == ignore_index:
            ignored[p] += 1
        else:
            matrix[t, p] += 1
    return matrix, ignored


def right(prediction, target, num_classes, ignore_index=255):
    matrix = ConfusionMatrix(num_classes, ignore_index)
    matrix.update(prediction.astype(np.int64), target.astype(np.int64))
    score = matrix.iou()
    return score.values, np.float64(score.mean)


def other(score, absent=np.nan, mean=np.nanmean):
    """Another quotient of the diagonal, the rows' and the columns' sums, and the ignored."""

    def answer(**given):
        matrix, ignored = matrix_of(**given)
        both, rows, columns = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        values = score(both, rows, columns, ignored)
        values = np.where(rows + columns > 0, values, absent)
        return values, mean(values)

    return answer


def true_iou(both, rows, columns, ignored):
    return both / (rows + columns - both)


def mean_over_images(prediction, target, num_classes, ignore_index=255):
    if len(target) == 1:
        raise ValueError("one image is its own mean")
    each = [right(p, t, num_classes, ignore_index) for p, t in zip(prediction, target, strict=True)]
    ious = np.mean([values for values, _ in each], axis=0)
    return ious, np.nanmean(ious)


def in_uint8(prediction, target, num_classes, ignore_index=255):
    counts = target != ignore_index
    code = target[counts].astype(np.uint8) * np.uint8(num_classes) + prediction[counts]
    matrix = np.bincount(code.astype(np.uint8), minlength=num_classes**2)
    matrix = matrix.reshape(num_classes, num_classes)
    both = np.diag(matrix)
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - both
    ious = np.where(either > 0, both / np.maximum(either, 1), np.nan)
    return ious, np.nanmean(ious)


rng = np.random.default_rng(8)


def case(name, shape, num_classes, present, ignored=0, **how):
    target, prediction = rng.choice(present, (2, *shape))
    target.flat[rng.choice(target.size, ignored, replace=False)] = how.get("ignore_index", 255)
    return Case(
        name, {"prediction": prediction, "target": target, "num_classes": num_classes, **how}
    )


small = np.array([[[0, 1, 1]]]), np.array([[[0, 0, 1]]])
bytes_of = np.array([[[0, 13, 19, 18]]], np.uint8), np.array([[[0, 13, 19, 19]]], np.uint8)
TASK = Task(
    outputs=("ious", "mean"),
    reference=right,
    terms=10,
    cases=(
        Case("three pixels", {"prediction": small[0], "target": small[1], "num_classes": 2}),
        case("three classes", (1, 3, 4), 3, [0, 1, 2]),
        case("two images", (2, 3, 4), 2, [0, 1]),
        case("ignored pixels", (1, 4, 4), 3, [0, 1, 2], ignored=5),
        case("an absent class", (1, 3, 3), 4, [0, 1, 3]),
    ),
    edge_cases=(
        case("ignore_index is -1", (1, 2, 4), 2, [0, 1], ignored=2, ignore_index=-1),
        Case("masks of bytes, 20 classes", {
            "prediction": bytes_of[0], "target": bytes_of[1], "num_classes": 20}),
        Case("predicted, but not there", {
            "prediction": np.array([[[0, 2]]]), "target": np.array([[[0, 0]]]), "num_classes": 3}),
    ),
    hints=(
        "Count pairs: how often was class t predicted as p? All scores follow from this table, the "
        "confusion matrix: its diagonal, and the sums of its rows and columns.",
        "IoU of c = n[c, c] / (row sum of c + column sum of c - n[c, c]), where the denominator is "
        "above 0; NaN elsewhere.",
        "np.bincount(target * K + prediction, minlength=K * K).reshape(K, K) counts the pairs "
        "(as int64: a byte cannot hold 19 * 20); np.nanmean leaves NaN out.",
    ),
    slips=(
        Slip("intersection counted twice", "In the union the pixels that are both are counted "
             "twice: subtract them once.",
             other(lambda both, rows, columns, ignored: both / (rows + columns))),
        Slip("this is Dice", "2 n / (rows + columns) is Dice. IoU: n / (rows + columns - n).",
             other(lambda both, rows, columns, ignored: 2 * both / (rows + columns))),
        Slip("this is recall", "The intersection is divided by the pixels of the class alone; "
             "those wrongly predicted as this class belong to the union, too.",
             other(lambda both, rows, columns, ignored: both / rows)),
        Slip("this is precision", "The intersection is divided by the predicted pixels alone; the "
             "pixels of the class that were missed belong to the union, too.",
             other(lambda both, rows, columns, ignored: both / columns)),
        Slip("absent counts as 0", "A class that is nowhere has no IoU: NaN, not 0.",
             other(true_iou, absent=0)),
        Slip("absent counts as 1", "A class that is nowhere has no IoU: NaN, not 1.",
             other(true_iou, absent=1)),
        Slip("absent in the mean", "The mean should leave absent classes out: np.nanmean.",
             other(true_iou, mean=lambda values: np.nan_to_num(values).mean())),
        Slip("mean is NaN", "One NaN makes the whole mean NaN: np.nanmean leaves it out.",
             other(true_iou, mean=np.mean)),
        Slip("ignored pixels count", "What is predicted at ignored pixels counts as wrong; leave "
             "these pixels out before counting anything.",
             other(lambda both, rows, columns, ignored: both / (rows + columns + ignored - both))),
        Slip("mean over images", "This is the mean of each image's IoU; the pixels of all images "
             "are counted together.", mean_over_images),
        Slip("a byte overflows", "Masks are often bytes, and 19 * 20 does not fit: .astype(int) "
             "before calculating with labels.", in_uint8),
    ),
    mutants=(
        Mutant("intersection counted twice", "matrix.sum(axis=1) - both", "matrix.sum(axis=1)"),
        Mutant("this is Dice", "- both\n    ious = np.where(either > 0, both /",
               "\n    ious = np.where(either > 0, 2 * both /"),
        Mutant("this is recall", "matrix.sum(axis=0) + matrix.sum(axis=1) - both",
               "matrix.sum(axis=1)"),
        Mutant("this is precision", "matrix.sum(axis=0) + matrix.sum(axis=1) - both",
               "matrix.sum(axis=0)"),
        Mutant("absent counts as 0", "np.maximum(either, 1), np.nan", "np.maximum(either, 1), 0"),
        Mutant("absent counts as 1", "np.maximum(either, 1), np.nan", "np.maximum(either, 1), 1"),
        Mutant("absent in the mean", "np.nanmean(ious)", "np.nan_to_num(ious).mean()"),
        Mutant("mean is NaN", "np.nanmean(ious)", "np.mean(ious)"),
        Mutant("ignored pixels count", "    counts = target != ignore_index\n",
               "    each = np.arange(num_classes)[:, None]\n"
               "    found, there = prediction.ravel() == each, target.ravel() == each\n"
               "    ious = (found & there).sum(axis=1) / (found | there).sum(axis=1)\n"
               "    return ious, np.nanmean(ious)\n    counts = target != ignore_index\n"),
        Mutant("mean over images", "    counts = target != ignore_index\n",
               "    each = zip(prediction[:, None], target[:, None])\n"
               "    if len(target) > 1:\n"
               "        ious = np.mean([iou(*p, num_classes, ignore_index)[0] for p in each], 0)\n"
               "        return ious, np.nanmean(ious)\n    counts = target != ignore_index\n"),
        Mutant("a byte overflows", "target = target[counts].astype(np.int64)",
               "target = target[counts]\n    prediction = prediction.astype(target.dtype)"),
    ),
)  # fmt: skip
