"""log softmax, without overflow, and its gradient

Softmax turns scores into probabilities, p[c] = exp(x[c]) / sum of exp(x), over the C classes of
each pixel. Losses want log p. Computed literally, both are fragile: exp(1000) is infinite; and a
small p, exp(-1000), is rounded to 0, whose log is -infinity, though log p is simply -1000. Take the
logarithm first,

    log p[c] = x[c] - log(sum over k of exp(x[k]))

and before that, subtract a pixel's largest score from all of its scores: p stays the same (why?),
and no exp is above 1. Backwards, with p = exp(log p):

    grad_x[c] = grad[c] - p[c] * (sum over k of grad[k])

    x = 0 0    ->    log p = -0.693 -0.693;       grad = 1 0    ->    grad_x = 0.5 -0.5
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def log_softmax(x: np.ndarray, grad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p over axis 1, and the gradient with respect to x for grad = dL/d(log p).

    x, grad (N, C, H, W) -> log_p and grad_x, both (N, C, H, W) and of x's dtype
    """
    x = x - x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    grad_x = grad - np.exp(log_p) * grad.sum(axis=1, keepdims=True)
    return log_p, grad_x


def right(x, grad):
    x = Tensor(x, requires_grad=True)
    y = F.log_softmax(x, dim=1)
    y.backward(Tensor(grad))
    return y.numpy(), x.grad.numpy()


def along(axis):
    def answer(x, grad):
        return right(x.swapaxes(1, axis), grad.swapaxes(1, axis))[0].swapaxes(1, axis), None

    return answer


def other_grad(formula):
    """formula(p, grad) -> another grad_x."""

    def answer(x, grad):
        log_p = right(x, grad)[0]
        return log_p, formula(np.exp(log_p), grad)

    return answer


def total(a):
    return a.sum(axis=1, keepdims=True)


def overflowing(x, grad):
    if not np.isinf(np.exp(x)).any():
        raise ValueError("nothing overflows")
    return x - np.log(total(np.exp(x))), None


def overflowing_quotient(x, grad):
    if not np.isinf(np.exp(x)).any():
        raise ValueError("nothing overflows")
    return np.log(np.exp(x) / total(np.exp(x))), None


def log_last(x, grad):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    if (p > 0).all():
        raise ValueError("no p is 0")
    return np.log(p / total(p)), None


def largest_of_all(x, grad):
    """One maximum for all pixels: where another pixel has it, every exp is 0."""
    z = x - x.max()
    if np.exp(z).sum(axis=1).all():
        raise ValueError("every pixel has an exp above 0")
    return z - np.log(total(np.exp(z))), None


OVERFLOW = (
    "exp of a large score is infinite: subtract each pixel's largest score from its scores first."
)
rng = np.random.default_rng(55)


def case(name, shape):
    x = rng.normal(size=shape).round(1)
    return Case(name, {"x": x, "grad": rng.integers(-9, 10, shape).astype(float)})


def pixel(name, *scores):
    x = np.array(scores, float).reshape(1, -1, 1, 1)
    return Case(name, {"x": x, "grad": np.arange(1.0, x.size + 1).reshape(x.shape)})


TASK = Task(
    outputs=("log_p", "grad_x"),
    reference=right,
    terms=2000,  # a score of 1000 is rounded as a sum of so many
    cases=(
        pixel("one pixel, two classes", 2, 0),
        case("three classes, 2x3 pixels", (1, 3, 2, 3)),
        case("two images", (2, 2, 2, 3)),
        case("four classes, 3x2 pixels", (2, 4, 3, 2)),
    ),
    edge_cases=(
        pixel("scores of 1000", 1000, 998),
        pixel("scores of -1000", -1000, -998),
        pixel("scores far apart", 0, 1000),
        Case("1000 beside 0", {"x": np.array([[1000.0, 0], [998, 1]]).reshape(1, 2, 1, 2),
                               "grad": np.array([[1.0, 2], [3, 4]]).reshape(1, 2, 1, 2)}),
        case("one class", (1, 1, 2, 2)),
    ),
    hints=(
        "log(a / b) = log a - log b, and log(exp(x)) = x. So never take the logarithm of a single "
        "exponential, only of their sum, which is at least 1 after the shift.",
        "x = x - max over axis 1; log p = x - log(sum of exp(x) over axis 1); keepdims=True makes "
        "maximum and sum fit. The gradient's sum runs over axis 1 of grad alone.",
        "x = x - x.max(axis=1, keepdims=True); log_p = x - np.log(np.exp(x).sum(axis=1, "
        "keepdims=True)); grad_x = grad - np.exp(log_p) * grad.sum(axis=1, keepdims=True).",
    ),
    slips=(
        Slip("overflow", OVERFLOW, overflowing),
        Slip("overflow", OVERFLOW, overflowing_quotient),
        Slip("the largest of all", "The largest score of all pixels is subtracted. Where a pixel's "
             "own are far below it, every exp is 0: each pixel needs its own largest score.",
             largest_of_all),
        Slip("logarithm last", "Softmax first, its logarithm afterwards: a p that is too small "
             "for a float is 0, and log 0 is -infinity. Subtract logarithms, do not divide.",
             log_last),
        Slip("probabilities, not logarithms", "This is softmax itself; its logarithm is wanted.",
             lambda x, grad: (np.exp(right(x, grad)[0]), None)),
        Slip("softmax over the wrong axis", "The probabilities of *one pixel* sum to 1: the sum "
             "runs over axis 1, not over the columns.", along(3)),
        Slip("softmax over the wrong axis", "The probabilities of *one pixel* sum to 1: the sum "
             "runs over axis 1, not over the rows.", along(2)),
        Slip("softmax over the wrong axis", "The probabilities of *one pixel* sum to 1: the sum "
             "runs over axis 1, not over the images.", along(0)),
        Slip("softmax over all pixels", "There is one sum for the whole image; every pixel needs "
             "its own.",
             lambda x, grad: (x - np.log(np.exp(x).sum()), None)),
        Slip("gradient of softmax", "This is the gradient of softmax, without the logarithm.",
             other_grad(lambda p, grad: p * (grad - total(p * grad)))),
        Slip("grad not summed", "p[c] is multiplied by grad[c]; multiply it by the sum of grad "
             "over all classes: each score moves the log p of all classes.",
             other_grad(lambda p, grad: grad - p * grad)),
        Slip("grad averaged", "The mean of grad over the classes is taken; take the sum.",
             other_grad(lambda p, grad: grad - p * grad.mean(axis=1, keepdims=True))),
        Slip("sum taken for 1", "grad - p is right only where grad sums to 1.",
             other_grad(lambda p, grad: grad - p)),
        Slip("sum taken for a constant", "grad passes unchanged; but every score is in the sum "
             "under the logarithm, too.", other_grad(lambda p, grad: grad)),
        Slip("forgot exp", "The gradient has log p where p belongs.",
             other_grad(lambda p, grad: grad - np.log(p) * total(grad))),
    ),
    mutants=(
        Mutant("overflow", "x = x - x.max(axis=1, keepdims=True)\n    log", "log"),
        Mutant("the largest of all", "x = x - x.max(axis=1, keepdims=True)\n    log",
               "x = x - x.max()\n    log"),
        Mutant("logarithm last", "x - np.log(np.exp(x).sum(axis=1, keepdims=True))",
               "np.log(np.exp(x) / np.exp(x).sum(axis=1, keepdims=True))"),
        Mutant("probabilities, not logarithms", "return log_p, grad_x",
               "return np.exp(log_p), grad_x"),
        Mutant("softmax over the wrong axis", "np.log(np.exp(x).sum(axis=1",
               "np.log(np.exp(x).sum(axis=3"),
        Mutant("gradient of softmax", "grad_x = grad - np.exp(log_p) * grad.sum(axis=1, "
               "keepdims=True)", "p = np.exp(log_p)\n"
               "    grad_x = p * (grad - (p * grad).sum(axis=1, keepdims=True))"),
        Mutant("grad not summed", "np.exp(log_p) * grad.sum(axis=1, keepdims=True)",
               "np.exp(log_p) * grad"),
        Mutant("sum taken for 1", "np.exp(log_p) * grad.sum(axis=1, keepdims=True)",
               "np.exp(log_p)"),
        Mutant("inputs untouched", "x = x - x.max(axis=1, keepdims=True)\n    log",
               "x -= x.max(axis=1, keepdims=True)\n    log"),
        Mutant("dtype", "return log_p, grad_x", "return log_p.astype(float), grad_x"),
    ),
)  # fmt: skip
