"""Broadcasting, backwards: what was copied gets a sum

In y = x + b, let b have the shape (3, 1) and x the shape (2, 3, 4). NumPy repeats b along every
axis that it lacks (in front), and along every axis where its size is 1. Each number of b is then
used 8 times, and changing it changes 8 numbers of y. So its gradient is the *sum* of 8 numbers:

    b of (3, 1)     y of (2, 3, 4)     grad of (2, 3, 4)  ->  sum over axes 0 and 2  ->  (3, 1)

Every op with two inputs needs this in its backward pass. An axis that was not repeated stays as it
is.
"""

import numpy as np

from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def unbroadcast(grad: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of an array that was broadcast from `shape` to the shape of grad.

    grad: dL/dy, of any shape that `shape` can be broadcast to; returns an array of shape `shape`
    and of grad's dtype.
    """
    added = grad.ndim - len(shape)
    repeated = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return grad.sum(axis=tuple(range(added))).sum(axis=repeated, keepdims=True)


def right(grad, shape):
    b = Tensor(np.zeros(shape), requires_grad=True)
    (b + Tensor(np.zeros(grad.shape))).backward(Tensor(grad))
    return b.grad.numpy()


def in_front(grad, shape):
    return tuple(range(grad.ndim - len(shape)))


def mean(grad, shape):
    return right(grad, shape) * max(np.prod(shape), 1) / grad.size


def first_only(grad, shape):
    return grad[tuple(0 for _ in in_front(grad, shape))][tuple(slice(n) for n in shape)]


def without_keepdims(grad, shape):
    ones = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return grad.sum(axis=in_front(grad, shape)).sum(axis=ones)


def axes_from_the_front(grad, shape):
    """Sizes compared from the first axis on: broadcasting compares from the last."""
    ones = tuple(axis for axis, n in enumerate(shape) if n == 1)
    rest = tuple(range(len(shape), grad.ndim))
    return grad.sum(axis=ones, keepdims=True).sum(axis=rest)


rng = np.random.default_rng(21)


def case(name, grad, shape):
    return Case(name, {"grad": rng.integers(-9, 10, grad).astype(float), "shape": shape})


TASK = Task(
    outputs=("grad_b",),
    reference=right,
    terms=24,
    cases=(
        case("a row added to every row", (2, 3), (3,)),
        case("a column added to every column", (2, 3), (2, 1)),
        case("a row of two dimensions", (3, 3), (1, 3)),
        case("the bias of a convolution", (2, 3, 2, 2), (3, 1, 1)),
        case("an axis in front, and one of size 1", (2, 3, 4), (3, 1)),
        case("nothing was repeated", (2, 3), (2, 3)),
    ),
    edge_cases=(
        case("a single number", (2, 3), ()),
        case("size 1 met size 1", (2, 1), (1, 1)),
        case("no images", (0, 3), (3,)),
    ),
    hints=(
        "Find the axes that were repeated, and sum over them. There are two kinds: those that "
        "`shape` lacks, always the first ones of grad, and those where `shape` has a 1.",
        "grad has grad.ndim - len(shape) axes too many in front: sum over these. After that the "
        "axes match: sum over every one with shape[axis] == 1, too, but keep it as an axis of size "
        "1.",
        "grad = grad.sum(axis=tuple(range(grad.ndim - len(shape)))); then "
        "grad.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True).",
    ),
    slips=(
        Slip("averaged, not summed", "This is the mean over what was repeated. Every copy adds its "
             "own share to the change of the loss: sum.", mean),
        Slip("only the first copy", "Only the gradient of the first copy is taken. All copies are "
             "the same number, and every use of it counts: sum them.", first_only),
        Slip("size 1 is lost", "An axis of size 1 has vanished: sum with keepdims=True over the "
             "axes where shape has a 1.", without_keepdims),
        Slip("only the axes in front", "The axes that `shape` lacks are summed away, but those "
             "where it has a 1 were repeated, too.",
             lambda grad, shape: grad.sum(axis=in_front(grad, shape))),
        Slip("the axes in front stay", "The axes that `shape` lacks are still there: sum over the "
             "first grad.ndim - len(shape) axes, without keepdims.",
             lambda grad, shape: right(grad, shape)[(None,) * len(in_front(grad, shape))]),
        Slip("axes counted from the front", "The shapes are compared from the first axis on. "
             "Broadcasting lines them up at the last: what is missing is missing in front.",
             axes_from_the_front),
        Slip("summed up altogether", "Everything is summed; sum over the repeated axes only.",
             lambda grad, shape: np.broadcast_to(grad.sum(), shape)),
        Slip("nothing summed", "This is grad itself: nothing was summed.",
             lambda grad, shape: grad),
    ),
    mutants=(
        Mutant("averaged, not summed", "grad.sum(axis=tuple(range(added))).sum(",
               "grad.mean(axis=tuple(range(added))).mean("),
        Mutant("only the first copy", "    added = grad.ndim",
               "    while grad.ndim > len(shape):\n        grad = grad[0]\n"
               "    return grad[tuple(slice(n) for n in shape)]\n    added = grad.ndim"),
        Mutant("size 1 is lost", ", keepdims=True", ""),
        Mutant("only the axes in front", ".sum(axis=repeated, keepdims=True)", ""),
        Mutant("the axes in front stay", "tuple(range(added)))", "tuple(range(added)), "
               "keepdims=True)"),
        Mutant("axes counted from the front", "grad.sum(axis=tuple(range(added))).sum("
               "axis=repeated, keepdims=True)", "grad.sum(axis=repeated, keepdims=True).sum("
               "axis=tuple(range(len(shape), grad.ndim)))"),
        Mutant("dtype", "keepdims=True)", "keepdims=True, dtype=np.float64)"),
        Mutant("nothing summed", "    added", "    if not shape:\n        return grad\n    added"),
    ),
)  # fmt: skip
