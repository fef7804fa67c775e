"""Dice loss: overlap as a loss

Where 99 % of the pixels are background, a network that finds nothing is right in 99 % of them. The
Dice loss asks how much of the object is found. For probabilities p and a mask t of zeros and ones:

    overlap = 2 * sum of p t + smooth         total = sum of p + sum of t + smooth
    loss = 1 - overlap / total

Both sums run over all pixels of all images. p stands in the numerator and in the denominator, so
the gradient has two terms (quotient rule):

    dL/dp = -(2 t * total - overlap) / total^2
"""

import numpy as np

from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def dice_loss(p: np.ndarray, t: np.ndarray, smooth: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The loss, and its gradient with respect to p.

    p (N, H, W) in 0..1, t (N, H, W) of 0 and 1, of p's dtype -> loss, a number, and grad (N, H, W),
    both of p's dtype
    """
    overlap = 2 * (p * t).sum() + smooth
    total = p.sum() + t.sum() + smooth
    grad = -(2 * t * total - overlap) / total**2
    return 1 - overlap / total, grad


def by_tape(loss):
    """Loss and gradient of a formula, by the tape."""

    def answer(p, t, smooth=1.0):
        p = Tensor(p, requires_grad=True)
        value = loss(p, Tensor(t), smooth)
        value.backward()
        return value.numpy(), p.grad.numpy()

    return answer


def loss_only(loss):
    return lambda **given: (by_tape(loss)(**given)[0], None)


def dice(p, t, smooth):
    return 1 - (2 * (p * t).sum() + smooth) / (p.sum() + t.sum() + smooth)


def iou(p, t, smooth):
    both = (p * t).sum()
    return 1 - (both + smooth) / (p.sum() + t.sum() - both + smooth)


def of_each_image(p, t, smooth):
    overlap = 2 * (p * t).sum((1, 2)) + smooth
    return (1 - overlap / (p.sum((1, 2)) + t.sum((1, 2)) + smooth)).mean()


def other_grad(grad):
    def answer(p, t, smooth=1.0):
        overlap, total = 2 * (p * t).sum() + smooth, p.sum() + t.sum() + smooth
        return by_tape(dice)(p, t, smooth)[0], grad(t, overlap, total)

    return answer


right = by_tape(dice)
rng = np.random.default_rng(7)


def case(name, shape, **how):
    t = (rng.random(shape) < 0.4).astype(float)
    return Case(name, {"p": rng.random(shape).round(2), "t": t, **how})


TASK = Task(
    outputs=("loss", "grad"),
    reference=right,
    terms=100,
    cases=(
        Case("two pixels", {"p": np.array([[[0.5, 0.25]]]), "t": np.array([[[1.0, 0.0]]])}),
        case("3x4 pixels", (1, 3, 4)),
        case("two images", (2, 2, 3)),
        case("another smooth", (1, 2, 3), smooth=0.1),
    ),
    edge_cases=(
        Case("nothing there, nothing found", {"p": np.zeros((1, 2, 2)), "t": np.zeros((1, 2, 2))}),
        Case("all there, all found", {"p": np.ones((1, 2, 2)), "t": np.ones((1, 2, 2))}),
    ),
    hints=(
        "First the two sums, overlap and total, as single numbers; then everything is one line.",
        "overlap = 2 * sum(p t) + smooth and total = sum(p) + sum(t) + smooth. A pixel's p changes "
        "overlap by 2 t, and total by 1: put both into (u / v)' = (u' v - u v') / v^2.",
        "grad = -(2 * t * total - overlap) / total**2; return 1 - overlap / total, grad.",
    ),
    slips=(
        Slip("this is IoU", "The denominator is that of IoU, sum p + sum t - sum p t. Dice has 2 "
             "sum p t in the numerator, and just sum p + sum t in the denominator.",
             loss_only(iou)),
        Slip("mean over images", "This is the mean of each image's Dice; here the sums run over "
             "all images.", loss_only(of_each_image)),
        Slip("forgot the 2", "The overlap counts twice: 2 * sum of p t.",
             loss_only(lambda p, t, s: 1 - ((p * t).sum() + s) / (p.sum() + t.sum() + s))),
        Slip("smooth below only", "smooth is missing in the numerator.",
             loss_only(lambda p, t, s: 1 - 2 * (p * t).sum() / (p.sum() + t.sum() + s))),
        Slip("forgot smooth", "smooth is missing.",
             loss_only(lambda p, t, s: 1 - 2 * (p * t).sum() / (p.sum() + t.sum()))),
        Slip("overlap, not loss", "This is the Dice coefficient; the loss is 1 minus that.",
             loss_only(lambda p, t, s: 1 - dice(p, t, s))),
        Slip("total taken for a constant", "p stands in the denominator, too: the second term of "
             "the quotient rule is missing.",
             other_grad(lambda t, overlap, total: -2 * t / total)),
        Slip("denominator not squared", "The quotient rule divides by total squared.",
             other_grad(lambda t, overlap, total: -(2 * t * total - overlap) / total)),
    ),
    mutants=(
        Mutant("this is IoU", "overlap = 2 * (p * t).sum() + smooth\n    total = p.sum() + t.sum()",
               "overlap = (p * t).sum() + smooth\n    total = p.sum() + t.sum() - (p * t).sum()"),
        Mutant("mean over images", "    overlap = 2 * (", "    each = (1, 2)\n"
               "    return np.mean(1 - (2 * (p * t).sum(each) + smooth) / "
               "(p.sum(each) + t.sum(each) + smooth)), 0 * p\n"
               "    overlap = 2 * ("),
        Mutant("forgot the 2", "overlap = 2 * (", "overlap = ("),
        Mutant("smooth below only", "(p * t).sum() + smooth\n", "(p * t).sum()\n"),
        Mutant("overlap, not loss", "return 1 - overlap", "return overlap"),
        Mutant("total taken for a constant", "-(2 * t * total - overlap) / total**2",
               "-2 * t / total"),
        Mutant("denominator not squared", "total**2", "total"),
        Mutant("sign", "grad = -(2", "grad = (2"),
    ),
)  # fmt: skip
