"""Focal loss: look at what is still wrong

Cross-entropy never stops caring about pixels that are already right, and there are millions of
those. The focal loss turns them down: with p the probability of a pixel's true class,

    loss of a pixel = (1 - p)^gamma * ce,    ce = -log p

A pixel with p = 0.9 counts a hundredth of its cross-entropy for gamma = 2; gamma = 0 is plain
cross-entropy. The loss is the mean over the pixels whose label is not `ignore_index`. With respect
to a pixel's scores, the gradient of cross-entropy is q[c] - 1 for the label and q[c] for all other
classes, where q[c] is the probability of class c. The chain rule multiplies it by one factor, the
derivative of the loss by ce:

    (1 - p)^gamma + gamma * p * ce * (1 - p)^(gamma - 1)

All of this is divided by the number of pixels that count.
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def focal_loss(
    scores: np.ndarray, labels: np.ndarray, gamma: float = 2.0, ignore_index: int = 255
) -> tuple[np.ndarray, np.ndarray]:
    """The mean loss, and its gradient with respect to the scores.

    scores (N, C, H, W), labels (N, H, W) of ints -> loss, a number, and grad (N, C, H, W), both of
    the scores' dtype
    """
    scores = scores - scores.max(axis=1, keepdims=True)
    log_q = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    counts = labels != ignore_index
    number = int(counts.sum())
    label = np.where(counts, labels, 0)
    ce = -np.take_along_axis(log_q, label[:, None], axis=1)[:, 0]  # (N, H, W)
    p = np.exp(-ce)
    loss = ((1 - p) ** gamma * ce)[counts].sum() / number
    slope = (1 - p) ** gamma + gamma * p * ce * (1 - p) ** (gamma - 1)
    truth = label[:, None] == np.arange(scores.shape[1])[:, None, None]  # (N, C, H, W)
    grad = slope[:, None] * (np.exp(log_q) - truth)
    return loss, np.where(counts[:, None], grad, 0) / number


def right(scores, labels, gamma=2.0, ignore_index=255):
    x = Tensor(scores, requires_grad=True)
    loss = F.focal_loss(x, Tensor(labels), gamma=gamma, ignore_index=ignore_index)
    loss.backward()
    return loss.numpy(), x.grad.numpy()


def pixels(scores, labels, ignore_index):
    """ce, p, where it counts, and the gradient of ce by the scores, of every pixel."""
    q = np.exp(scores - scores.max(axis=1, keepdims=True))
    q = q / q.sum(axis=1, keepdims=True)
    counts = labels != ignore_index
    truth = np.where(counts, labels, -1)[:, None] == np.arange(q.shape[1])[:, None, None]
    p = (q * truth).sum(axis=1)
    return -np.log(np.where(counts, p, 1)), p, counts, (q - truth) * counts[:, None]


def other_loss(formula):
    """formula(p, ce, gamma) -> the loss of a pixel."""

    def answer(scores, labels, gamma=2.0, ignore_index=255):
        ce, p, counts, _ = pixels(scores, labels, ignore_index)
        return formula(p, ce, gamma)[counts].mean(), None

    return answer


def other_slope(formula):
    """formula(p, ce, gamma) -> what stands before the gradient of cross-entropy."""

    def answer(scores, labels, gamma=2.0, ignore_index=255):
        ce, p, counts, slope = pixels(scores, labels, ignore_index)
        loss = right(scores, labels, gamma, ignore_index)[0]
        return loss, formula(p, ce, gamma)[:, None] * slope / counts.sum()

    return answer


def scaled(loss=lambda given: 1, grad=lambda given: 1):
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

    def answer(scores, labels, gamma=2.0, ignore_index=255):
        if not np.isinf(np.exp(scores)).any():
            raise ValueError("nothing overflows")
        return loss, None

    return answer


def largest_of_all(loss):
    """One maximum for all pixels: where another pixel has it, every exp is 0."""

    def answer(scores, labels, gamma=2.0, ignore_index=255):
        if np.exp(scores - scores.max()).sum(axis=1).all():
            raise ValueError("every pixel has an exp above 0")
        return loss, None

    return answer


def weighted_mean(scores, labels, gamma=2.0, ignore_index=255):
    ce, p, counts, _ = pixels(scores, labels, ignore_index)
    factor = ((1 - p) ** gamma)[counts]
    return (factor * ce[counts]).sum() / factor.sum(), None


LARGEST = (
    "The largest score of all pixels is subtracted. Where a pixel's own are far below it, every "
    "exp is 0: each pixel needs its own largest score."
)
OVERFLOW = (
    "exp of a large score is infinite: subtract each pixel's largest score from its scores first."
)
rng = np.random.default_rng(61)


def case(name, shape, ignored=0, **how):
    labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
    labels.flat[rng.choice(labels.size, ignored, replace=False)] = how.get("ignore_index", 255)
    return Case(name, {"scores": rng.normal(size=shape).round(1), "labels": labels, **how})


def pixel(name, scores, label, **how):
    return Case(
        name,
        {
            "scores": np.array(scores, float).reshape(1, -1, 1, 1),
            "labels": np.array([[[label]]]),
            **how,
        },
    )


TASK = Task(
    outputs=("loss", "grad"),
    reference=right,
    terms=2000,  # a score of 1000 is rounded as a sum of so many
    cases=(
        Case("two pixels, two classes", {"scores": np.array([[[[2.0, 1.0]], [[0.0, 0.0]]]]),
                                         "labels": np.array([[[0, 1]]])}),
        case("three classes, 2x3 pixels", (1, 3, 2, 3)),
        case("gamma = 3", (1, 3, 2, 3), gamma=3.0),
        case("gamma = 0: cross-entropy", (1, 3, 2, 2), gamma=0.0),
        case("two pixels do not count", (2, 3, 2, 2), ignored=2),
        case("gamma = 1.5, ignore_index is -100", (1, 2, 3, 2), ignored=2, gamma=1.5,
             ignore_index=-100),
    ),
    edge_cases=(
        pixel("scores of 1000", [1000, 998], 1),
        pixel("all but certain", [0, 30], 1),
        Case("scores of 1000 beside 0", {
            "scores": np.array([[1000.0, 0], [998, 1]]).reshape(1, 2, 1, 2),
            "labels": np.array([[[1, 0]]])}),
    ),
    hints=(
        "Start from your cross_entropy: log q of the label gives ce, exp(-ce) gives p. Then each "
        "pixel's loss has a factor, and each pixel's gradient another one.",
        "loss = mean of (1 - p)^gamma * ce. Its derivative by ce has two terms, since p = exp(-ce) "
        "has the derivative -p.",
        "slope = (1 - p) ** gamma + gamma * p * ce * (1 - p) ** (gamma - 1); grad = np.where("
        "counts[:, None], slope[:, None] * (q - truth), 0) / number.",
    ),
    slips=(
        Slip("the largest of all", LARGEST, largest_of_all(-np.inf)),
        Slip("the largest of all", LARGEST, largest_of_all(np.nan)),
        Slip("overflow", OVERFLOW, overflowing(np.inf)),
        Slip("overflow", OVERFLOW, overflowing(np.nan)),
        Slip("this is cross-entropy", "The factor (1 - p)^gamma is missing.",
             other_loss(lambda p, ce, gamma: ce)),
        Slip("p in place of 1 - p", "p^gamma turns down the pixels that are *wrong*; (1 - p)^gamma "
             "turns down those that are right.", other_loss(lambda p, ce, gamma: p**gamma * ce)),
        Slip("gamma as a factor", "gamma is the exponent of 1 - p, not a factor.",
             other_loss(lambda p, ce, gamma: gamma * (1 - p) * ce)),
        Slip("sign of the loss", "log p is negative; ce is -log p.",
             other_loss(lambda p, ce, gamma: -((1 - p) ** gamma) * ce)),
        Slip("divided by the factors", "The sum is divided by the sum of the factors (1 - "
             "p)^gamma: a weighted mean. Divide by the number of pixels.", weighted_mean),
        Slip("summed, not averaged", "This is the sum over the pixels; the mean is wanted.",
             lambda **given: (scaled(loss=number)(**given)[0], None)),
        Slip("ignored pixels in the mean", "The sum is divided by the number of all pixels; those "
             "that are ignored do not count.", scaled(loss=share, grad=share)),
        Slip("gradient not averaged", "The loss is a mean, so its gradient has the division, too.",
             scaled(grad=number)),
        Slip("factor taken for a constant", "The factor (1 - p)^gamma depends on the scores, too: "
             "the second term of the slope is missing.",
             other_slope(lambda p, ce, gamma: (1 - p) ** gamma)),
        Slip("sign of the second term", "The second term is subtracted. As ce rises, p falls, and "
             "1 - p rises: it is added.",
             other_slope(lambda p, ce, gamma: (1 - p) ** gamma
                         - gamma * p * ce * (1 - p) ** (gamma - 1))),
        Slip("forgot p in the slope", "The second term lacks the factor p, which comes from the "
             "slope of p = exp(-ce).",
             other_slope(lambda p, ce, gamma: (1 - p) ** gamma
                         + gamma * ce * (1 - p) ** (gamma - 1))),
        Slip("gradient of cross-entropy", "This is the gradient of cross-entropy: multiply it by "
             "the slope.", other_slope(lambda p, ce, gamma: np.ones_like(p))),
    ),
    mutants=(
        Mutant("the largest of all", "scores - scores.max(axis=1, keepdims=True)",
               "scores - scores.max()"),
        Mutant("this is cross-entropy", "((1 - p) ** gamma * ce)[counts]", "ce[counts]"),
        Mutant("p in place of 1 - p", "((1 - p) ** gamma * ce)[counts]",
               "(p**gamma * ce)[counts]"),
        Mutant("gamma as a factor", "((1 - p) ** gamma * ce)[counts]",
               "(gamma * (1 - p) * ce)[counts]"),
        Mutant("divided by the factors", "* ce)[counts].sum() / number",
               "* ce)[counts].sum() / ((1 - p) ** gamma)[counts].sum()"),
        Mutant("ignored pixels in the mean", "int(counts.sum())", "counts.size"),
        Mutant("factor taken for a constant", " + gamma * p * ce * (1 - p) ** (gamma - 1)\n", "\n"),
        Mutant("forgot p in the slope", "gamma * p * ce * (1 - p) **", "gamma * ce * (1 - p) **"),
        Mutant("gradient of cross-entropy", "slope[:, None] * (np.exp", "(np.exp"),
        Mutant("overflow", "scores - scores.max(axis=1, keepdims=True)", "scores.copy()"),
    ),
)  # fmt: skip
