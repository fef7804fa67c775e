"""Bilinear upsampling, backwards

Forwards, output o of an axis takes 1 - f of the pixel before its place, and f of the one after:

    place = (o + 1/2) * size / out - 1/2, not below 0
    place = o * (size - 1) / (out - 1)                    with align_corners (0, if out is 1)
    before = floor(place),   after = before + 1, not beyond the last,   f = place - before

So both get their part of its gradient, first along one axis, then along the other:

    grad_x[before] += (1 - f) * grad[o],     grad_x[after] += f * grad[o]

As matrices: y = A x B^T, where A and B hold a weight for every pair of output and input, so
grad_x = A^T grad B. It is not grad, bilinearly resized to the size of x.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.op import get_op


def weights(size: int, out: int, align_corners: bool) -> np.ndarray:
    """How much each output takes of each pixel, (out, size)."""
    o = np.arange(out)
    if align_corners:
        place = o * (size - 1) / max(out - 1, 1)
    else:
        place = np.maximum((o + 0.5) * size / out - 0.5, 0)
    before = np.floor(place).astype(int)
    after = np.minimum(before + 1, size - 1)
    f = place - before
    A = np.zeros((out, size))
    A[o, before] += 1 - f
    A[o, after] += f
    return A


def bilinear_grad(
    grad: np.ndarray, size: tuple[int, int], align_corners: bool = False
) -> np.ndarray:
    """The gradient of an image of `size` that was resized to grad's.

    grad (N, C, H', W'), size (H, W) -> grad_x (N, C, H, W), of grad's dtype
    """
    A = weights(size[0], grad.shape[2], align_corners).astype(grad.dtype)
    B = weights(size[1], grad.shape[3], align_corners).astype(grad.dtype)
    return A.T @ grad @ B


def right(grad, size, align_corners=False):
    op = get_op("interpolate")
    return op.numpy["grad_input"](grad, size, (None, None), "linear", align_corners)


def resized(grad, size, align_corners=False):
    op = get_op("interpolate")
    return op.numpy["forward"](grad, size, (None, None), "linear", align_corners)


def other(place=None, weigh=lambda f: (1 - f, f), put="+="):
    """The gradient with another rule for the places or the weights, or without adding."""

    def answer(grad, size, align_corners=False):
        for axis in (2, 3):
            n, out = size[axis - 2], grad.shape[axis]
            total = np.zeros([n if a == axis else m for a, m in enumerate(grad.shape)])
            total, lines = total.swapaxes(0, axis), grad.swapaxes(0, axis)
            for o in range(out):
                p = (place or right_place(align_corners))(o, n, out)
                before = int(np.floor(p))
                for i, w in zip((before, before + 1), weigh(p - before), strict=True):
                    if 0 <= i < n or put != "drop":
                        total[min(i, n - 1)] += w * lines[o]
            grad = total.swapaxes(0, axis)
        return grad

    return answer


def right_place(align_corners):
    if align_corners:
        return lambda o, n, out: o * (n - 1) / max(out - 1, 1)
    return lambda o, n, out: max((o + 0.5) * n / out - 0.5, 0)


def added_once(grad, size, align_corners=False):
    """Along rows and columns with a[i] += v, which adds once only where i repeats."""
    for axis in (2, 3):
        n, out = size[axis - 2], grad.shape[axis]
        total = np.zeros([n if a == axis else m for a, m in enumerate(grad.shape)])
        total, lines = total.swapaxes(0, axis), grad.swapaxes(0, axis)
        p = np.array([right_place(align_corners)(o, n, out) for o in range(out)])
        before = np.floor(p).astype(int)
        f = (p - before).reshape(-1, 1, 1, 1)
        total[before] += (1 - f) * lines
        total[np.minimum(before + 1, n - 1)] += f * lines
        grad = total.swapaxes(0, axis)
    return grad


def in_op(bilinear_grad, grad, size, scales, how, align_corners):
    """The op resizes in other ways, too, and by a scale that is not the ratio of the sizes."""
    ratios = [b / a for a, b in zip(size, grad.shape[2:], strict=True)]
    by_ratio = all(given in (None, ratio) for given, ratio in zip(scales, ratios, strict=True))
    if how != "linear" or grad.ndim != 4 or not by_ratio:
        return NotImplemented
    return bilinear_grad(grad, size, align_corners)


rng = np.random.default_rng(44)


def case(name, out, size, **how):
    return Case(name, {"grad": rng.integers(-9, 10, out).astype(float), "size": size, **how})


TASK = Task(
    outputs=("grad_x",),
    reference=right,
    use=Use("interpolate", "grad_input", in_op, lesson="18"),
    terms=50,
    cases=(
        Case("five outputs of two pixels", {"grad": np.array([[[[1.0, 10, 20, 30, 5]]]]),
                                            "size": (1, 2)}),
        case("twice as large", (1, 1, 4, 6), (2, 3)),
        case("two images, two channels", (2, 2, 3, 5), (2, 2)),
        case("no whole multiple", (1, 1, 5, 7), (3, 4)),
        case("smaller", (1, 1, 3, 4), (5, 6)),
        case("align_corners", (1, 1, 5, 6), (3, 3), align_corners=True),
    ),
    edge_cases=(
        case("one pixel", (1, 2, 3, 2), (1, 1)),
        case("to one pixel, align_corners", (1, 1, 1, 1), (3, 4), align_corners=True),
        case("the same size", (1, 1, 2, 3), (2, 3)),
    ),
    hints=(
        "Start from your bilinear. Wherever it reads x[i] with a weight, the gradient adds that "
        "weight times grad at i. Nothing else changes: same places, same weights.",
        "A[o, before] += 1 - f, A[o, after] += f is a matrix (out, size) of all weights of an "
        "axis. y = A x B^T, therefore grad_x = A^T grad B.",
        "o = np.arange(out); A = np.zeros((out, size)); A[o, before] += 1 - f; A[o, after] += f "
        "(two statements, since both may be the last pixel); return A.T @ grad @ B.",
    ),
    slips=(
        Slip("resized, not gone back", "grad is resized bilinearly to x's size. The gradient adds "
             "up: each output hands its grad to the pixels that it mixed, with their weights.",
             resized),
        Slip("averaged over the outputs", "Each pixel gets a mean of gradients: the numbers are "
             "too small by the ratio of the sizes. Add the gradients up.",
             lambda grad, size, align_corners=False: right(grad, size, align_corners)
             * (size[0] * size[1]) / (grad.shape[2] * grad.shape[3])),
        Slip("align_corners inverted", "This is right for the other value of align_corners.",
             lambda grad, size, align_corners=False: right(grad, size, not align_corners)),
        Slip("half a pixel off", "Your place is o * size / out; it should be (o + 1/2) * size / "
             "out - 1/2.",
             other(place=lambda o, n, out: o * n / out)),
        Slip("weights swapped", "The nearer pixel gets the smaller part: `before` has the weight 1 "
             "- f.",
             other(weigh=lambda f: (f, 1 - f))),
        Slip("lost beyond the edge", "Where the pixel after is beyond the last, its part is "
             "dropped. It belongs to the last pixel, as it did forwards.", other(put="drop")),
        Slip("added once only", "Where many outputs go to one pixel, only one of them counts: a[i] "
             "+= v adds only once where i repeats. Use np.add.at, or a matrix.", added_once),
        Slip("the pixel before only", "The whole gradient goes to the pixel before; the part f of "
             "it belongs to the one after.", other(weigh=lambda f: (1, 0))),
    ),
    mutants=(
        Mutant("averaged over the outputs", "return A.T @ grad @ B",
               "return (A.T @ grad @ B) * A.dtype.type(size[0] / len(A) * size[1] / len(B))"),
        Mutant("align_corners inverted", "if align_corners:", "if not align_corners:"),
        Mutant("half a pixel off", "np.maximum((o + 0.5) * size / out - 0.5, 0)", "o * size / out"),
        Mutant("weights swapped", "f = place - before\n    A", "f = 1 - (place - before)\n    A"),
        Mutant("lost beyond the edge", "A[o, after] += f",
               "A[o, after] += f * (before + 1 < size)"),
        Mutant("the pixel before only", "f = place - before\n    A", "f = 0\n    A"),
        Mutant("added once only", "    A = weights(size[0]", "    if not align_corners:\n"
               "        for axis, n in zip((2, 3), size):\n            out = grad.shape[axis]\n"
               "            p = np.maximum((np.arange(out) + 0.5) * n / out - 0.5, 0)\n"
               "            i, lines = p.astype(int), grad.swapaxes(0, axis)\n"
               "            f = (p - i)[:, None, None, None].astype(grad.dtype)\n"
               "            total = np.zeros((n, *lines.shape[1:]), grad.dtype)\n"
               "            total[i] += (1 - f) * lines\n"
               "            total[np.minimum(i + 1, n - 1)] += f * lines\n"
               "            grad = total.swapaxes(0, axis)\n        return grad\n"
               "    A = weights(size[0]"),
        Mutant("dtype", "size[1], grad.shape[3], align_corners).astype(grad.dtype)",
               "size[1], grad.shape[3], align_corners)"),
    ),
)  # fmt: skip
