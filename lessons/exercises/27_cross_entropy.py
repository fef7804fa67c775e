"""Softmax and cross-entropy in one, with pixels that do not count

For every pixel the network gives a score to each class. With p = softmax(scores) over the classes,
the loss of a pixel is -log p[its class], and the loss is the mean over all pixels whose label is
not `ignore_index`. Its gradient is short, which is why the two are one function:

    dL/dscores[n, c, r, q] = (p[n, c, r, q] - (1 if c is the label, else 0)) / pixels that count

and 0 for every class of a pixel that does not count. Mind large scores: exp(1000) is infinite, and
p stays the same if the largest score of a pixel is subtracted from all of its scores.
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task, Use


def cross_entropy(
    scores: np.ndarray, labels: np.ndarray, ignore_index: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss, and its gradient with respect to the scores.

    scores (N, C, H, W), labels (N, H, W) of ints -> loss, a number, and grad (N, C, H, W), both of
    the scores' dtype
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    counts = labels != ignore_index
    number = int(counts.sum())
    label = np.where(counts, labels, 0)
    on_label = np.take_along_axis(log_p, label[:, None], axis=1)[:, 0]  # (N, H, W)
    loss = -on_label[counts].sum() / number
    truth = label[:, None] == np.arange(scores.shape[1])[:, None, None]  # (N, C, H, W)
    grad = np.where(counts[:, None], np.exp(log_p) - truth, 0) / number
    return loss, grad


def right(scores, labels, ignore_index=255):
    x = Tensor(scores, requires_grad=True)
    loss = F.cross_entropy(x, Tensor(labels), ignore_index=ignore_index)
    loss.backward()
    return loss.numpy(), x.grad.numpy()


def scaled(loss=lambda given: 1, grad=lambda given: 1):
    """The right answers, times a factor each."""

    def answer(**given):
        value, slope = right(**given)
        return value * loss(given), slope * grad(given)

    return answer


def number(given):
    return (given["labels"] != given.get("ignore_index", 255)).sum()


def share(given):
    return number(given) / given["labels"].size


def overflowing(loss):
    """inf or NaN, whichever way the loss is taken, where exp(scores) is infinite."""

    def answer(scores, labels, ignore_index=255):
        if not np.isinf(np.exp(scores)).any():
            raise ValueError("nothing overflows")
        return loss, None

    return answer


def largest_of_all(loss):
    """One maximum for all pixels: where another pixel has it, every exp is 0."""

    def answer(scores, labels, ignore_index=255):
        if np.exp(scores - scores.max()).sum(axis=1).all():
            raise ValueError("every pixel has an exp above 0")
        return loss, None

    return answer


def ignored_as_first_class(scores, labels, ignore_index=255):
    return right(scores, np.where(labels == ignore_index, 0, labels), ignore_index)


def ignored_has_a_gradient(scores, labels, ignore_index=255):
    loss, grad = right(scores, labels, ignore_index)
    counts = (labels != ignore_index)[:, None]
    _, all_count = ignored_as_first_class(scores, labels, ignore_index)
    return loss, np.where(counts, grad, all_count * labels.size / counts.sum())


def softmax_over_columns(scores, labels, ignore_index=255):
    log_p = scores - np.log(np.exp(scores).sum(axis=3, keepdims=True))
    counts = labels != ignore_index
    label = np.where(counts, labels, 0)
    on_label = np.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
    return -on_label[counts].mean(), None


LARGEST = (
    "The largest score of all pixels is subtracted. Where a pixel's own are far below it, every "
    "exp is 0: each pixel needs its own largest score."
)
OVERFLOW = (
    "exp of a large score is infinite, and inf / inf is not a number: subtract each pixel's "
    "largest score first."
)


def in_op(cross_entropy, grad, scores, labels, weight, ignore_index, smoothing):
    """The op's pixels are in a row, (N, C, P), and `grad` says how much the loss of each counts: in
    a mean all count the same. The exercise knows no weights of classes, and no smoothing."""
    if labels.ndim == 3 or smoothing or (weight != 1).any():
        return NotImplemented
    counts = grad[labels != ignore_index]
    if counts.size == 0 or (counts != counts[0]).any():
        return NotImplemented
    _, slope = cross_entropy(scores[..., None], labels[..., None], ignore_index)
    return slope[..., 0] * counts.sum()


rng = np.random.default_rng(6)


def case(name, shape, ignored=0, **how):
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    labels.flat[rng.choice(labels.size, ignored, replace=False)] = how.get("ignore_index", 255)
    return Case(name, {"scores": rng.normal(size=shape).round(1), "labels": labels, **how})


one = np.array([[[[2.0]], [[0.0]]]]), np.array([[[0]]])
large = np.array([[[[1000.0]], [[998.0]]]]), np.array([[[1]]])
TASK = Task(
    outputs=("loss", "grad"),
    reference=right,
    use=Use("cross_entropy", "grad_input", in_op, lesson="14"),
    terms=2000,  # a score of 1000 is rounded as a sum of so many
    cases=(
        Case("one pixel, two classes", {"scores": one[0], "labels": one[1]}),
        case("three classes, 2x3 pixels", (1, 3, 2, 3)),
        case("two images", (2, 2, 2, 3)),
        case("two pixels do not count", (1, 3, 2, 3), ignored=2),
        case("ignore_index is -100", (1, 2, 3, 2), ignored=2, ignore_index=-100),
    ),
    edge_cases=(
        Case("scores of 1000", {"scores": large[0], "labels": large[1]}),
        Case("scores of 1000 beside 0", {
            "scores": np.array([[1000.0, 0], [998, 1]]).reshape(1, 2, 1, 2),
            "labels": np.array([[[1, 0]]])}),
        case("one class", (1, 1, 2, 2)),
    ),
    hints=(
        "log p = scores - log(sum of exp(scores)), over axis 1. The label picks one class of each "
        "pixel; the mean runs over the pixels that count.",
        "np.take_along_axis(log_p, label[:, None], axis=1)[:, 0] is log p of each pixel's label. "
        "Give ignored pixels some valid label first, 0 for one, and leave them out of the sum.",
        "truth = label[:, None] == np.arange(C)[:, None, None]; "
        "grad = np.where(counts[:, None], np.exp(log_p) - truth, 0) / int(counts.sum()).",
    ),
    slips=(
        Slip("the largest of all", LARGEST, largest_of_all(-np.inf)),
        Slip("the largest of all", LARGEST, largest_of_all(np.nan)),
        Slip("overflow", OVERFLOW, overflowing(np.inf)),
        Slip("overflow", OVERFLOW, overflowing(np.nan)),
        Slip("summed, not averaged", "This is the sum over the pixels; the mean is wanted.",
             scaled(loss=number, grad=number)),
        Slip("summed, not averaged", "The loss is the sum over the pixels; the mean is wanted.",
             lambda **given: (scaled(loss=number)(**given)[0], None)),
        Slip("gradient not averaged", "The loss is a mean, so its gradient has the division, too.",
             scaled(grad=number)),
        Slip("ignored pixels in the mean", "The sum is divided by the number of all pixels; those "
             "that are ignored do not count.", scaled(loss=share, grad=share)),
        Slip("ignored as class 0", "A pixel that does not count is taken for one of class 0.",
             ignored_as_first_class),
        Slip("ignored has a gradient", "Pixels that do not count have a gradient; it should be 0.",
             ignored_has_a_gradient),
        Slip("softmax over the wrong axis", "The probabilities of *one pixel* sum to 1: the "
             "softmax runs over axis 1.", softmax_over_columns),
        Slip("sign of the loss", "log p is negative; the loss is -log p.",
             lambda **given: (-right(**given)[0], None)),
    ),
    mutants=(
        Mutant("the largest of all", "scores - scores.max(axis=1, keepdims=True)",
               "scores - scores.max()"),
        Mutant("summed, not averaged", "on_label[counts].sum() / number",
               "on_label[counts].sum()"),
        Mutant("gradient not averaged", "- truth, 0) / number", "- truth, 0)"),
        Mutant("ignored pixels in the mean", "int(counts.sum())", "counts.size"),
        Mutant("ignored as class 0", "counts = labels != ignore_index",
               "counts = labels == labels\n"
               "    labels = np.where(labels == ignore_index, 0, labels)"),
        Mutant("ignored has a gradient", "np.where(counts[:, None], np.exp(log_p) - truth, 0)",
               "(np.exp(log_p) - truth)"),
        Mutant("softmax over the wrong axis", "np.exp(scores).sum(axis=1",
               "np.exp(scores).sum(axis=3"),
        Mutant("overflow", "scores - scores.max(axis=1, keepdims=True)", "scores.copy()"),
        Mutant("sign of the loss", "loss = -on_label", "loss = on_label"),
        Mutant("dtype", "int(counts.sum())", "counts.sum()"),
        Mutant("inputs untouched", "scores = scores - scores.max(axis=1, keepdims=True)",
               "scores -= scores.max(axis=1, keepdims=True)"),
    ),
)  # fmt: skip
