"""Nearest neighbour: copies, forwards and backwards

The cheapest way to make an image larger: output o of an axis copies the input

    floor(o * size / out)         `size` pixels become `out` pixels; each axis by itself

Masks are resized this way, since the mean of class 3 and class 5 is not class 4. Backwards every
copy hands its gradient to the pixel that it was copied from: a pixel gets the *sum* of its copies'
gradients.

    3 pixels a b c to 5:   o * 3 / 5 = 0, 0.6, 1.2, 1.8, 2.4    ->    a a b b c
    their gradients:       g0 + g1,  g2 + g3,  g4
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def nearest(
    x: np.ndarray, size: tuple[int, int], grad: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """x, resized to `size`, and the gradient of x for grad = dL/dy.

    x (N, C, H, W), size (H', W'), grad (N, C, H', W') -> y (N, C, H', W') and grad_x (N, C, H, W),
    of their dtypes
    """
    rows = np.arange(size[0]) * x.shape[2] // size[0]
    cols = np.arange(size[1]) * x.shape[3] // size[1]
    y = x[:, :, rows[:, None], cols]
    grad_x = np.zeros(x.shape, grad.dtype)
    np.add.at(grad_x, (slice(None), slice(None), rows[:, None], cols), grad)
    return y, grad_x


def right(x, size, grad):
    x = Tensor(x, requires_grad=True)
    y = F.interpolate(x, size, mode="nearest")
    y.backward(Tensor(grad))
    return y.numpy(), x.grad.numpy()


def other_places(place):
    """Another rule for the place: place(o, size, out)."""

    def answer(x, size, grad):
        rows, cols = (
            np.array([min(max(int(place(o, n, out)), 0), n - 1) for o in range(out)])
            for n, out in zip(x.shape[2:], size, strict=True)
        )
        return x[:, :, rows[:, None], cols], None

    return answer


def grad_of(put):
    """Another gradient: put(list of the copies' gradients)."""

    def answer(x, size, grad):
        places = [np.arange(out) * n // out for n, out in zip(x.shape[2:], size, strict=True)]
        result = np.zeros(x.shape)
        for r, c in np.ndindex(x.shape[2:]):
            copies = grad[:, :, places[0] == r][:, :, :, places[1] == c]
            if copies.size:
                result[:, :, r, c] = put(copies)
        return right(x, size, grad)[0], result

    return answer


rng = np.random.default_rng(43)


def case(name, shape, size):
    x = rng.permutation(np.prod(shape)).reshape(shape) * 1.0
    return Case(
        name, {"x": x, "size": size, "grad": rng.integers(-9, 10, (*shape[:2], *size)) * 1.0}
    )


TASK = Task(
    outputs=("y", "grad_x"),
    reference=right,
    terms=20,
    cases=(
        Case("three pixels to five", {"x": np.array([[[[7.0, 9.0, 8.0]]]]), "size": (1, 5),
                                    "grad": np.array([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]])}),
        case("twice as large", (1, 1, 2, 3), (4, 6)),
        case("two images, two channels", (2, 2, 2, 2), (3, 4)),
        case("no whole multiple", (1, 1, 3, 4), (5, 7)),
        case("smaller: some pixels are not copied", (1, 1, 5, 6), (3, 4)),
    ),
    edge_cases=(
        case("one pixel", (1, 2, 1, 1), (3, 2)),
        case("the same size", (1, 1, 2, 3), (2, 3)),
    ),
    hints=(
        "Two arrays of whole numbers say it all: which row each row of y is copied from, and which "
        "column. Forwards one reads at these places, backwards one adds there.",
        "rows[o] = o * H // H', cols[o] = o * W // W'; y[n, c, r, q] = x[n, c, rows[r], cols[q]], "
        "and grad_x[n, c, rows[r], cols[q]] += grad[n, c, r, q].",
        "y = x[:, :, rows[:, None], cols]; np.add.at(grad_x, (slice(None), slice(None), "
        "rows[:, None], cols), grad), since a[i] += v adds once only where i repeats.",
    ),
    slips=(
        Slip("rounded, not floored", "o * size / out is rounded to the nearest whole number. Round "
             "it down.", other_places(lambda o, n, out: np.round(o * n / out))),
        Slip("rounded up", "o * size / out is rounded up. Round it down.",
             other_places(lambda o, n, out: np.ceil(o * n / out))),
        Slip("pixel centres", "This looks at the centres, (o + 1/2) * size / out. That is sound, "
             "and PyTorch calls it nearest-exact; here the place is o * size / out.",
             other_places(lambda o, n, out: np.floor((o + 0.5) * n / out))),
        Slip("corners aligned", "The first and the last pixels are made to meet, with (size - 1) / "
             "(out - 1). Nearest does not do that: o * size / out.",
             other_places(lambda o, n, out: np.floor(o * (n - 1) / max(out - 1, 1) + 0.5))),
        Slip("repeated and cut off", "Every pixel is repeated equally often, and the excess is cut "
             "off. The copies spread evenly: floor(o * size / out).",
             other_places(lambda o, n, out: o // -(-out // n))),
        Slip("the other way round", "Your place is o * out / size; it should be o * size / out.",
             other_places(lambda o, n, out: o * out // n)),
        Slip("the last copy wins", "A pixel gets the gradient of its last copy alone. Did you "
             "write `=`, or grad_x[i] += grad, which adds only once where i repeats? Use "
             "np.add.at.",
             grad_of(lambda copies: copies[:, :, -1, -1])),
        Slip("averaged over the copies", "A pixel gets the mean of its copies' gradients; every "
             "copy adds to the loss: sum.", grad_of(lambda copies: copies.mean(axis=(2, 3)))),
        Slip("the first copy only", "A pixel gets the gradient of its first copy alone; sum all.",
             grad_of(lambda copies: copies[:, :, 0, 0])),
    ),
    mutants=(
        Mutant("rounded up", "np.arange(size[1]) * x.shape[3] // size[1]",
               "np.minimum(-(-np.arange(size[1]) * x.shape[3] // size[1]), x.shape[3] - 1)"),
        Mutant("rounded, not floored", "    y = x[", "    rows, cols = (np.minimum(np.round("
               "np.arange(out) * n / out).astype(int), n - 1)\n"
               "                  for n, out in zip(x.shape[2:], size))\n    y = x["),
        Mutant("pixel centres", "    y = x[", "    rows, cols = ((2 * np.arange(out) + 1) * n // "
               "(2 * out)\n                  for n, out in zip(x.shape[2:], size))\n    y = x["),
        Mutant("repeated and cut off", "    y = x[", "    rows, cols = (np.arange(out) // "
               "-(-out // n) for n, out in zip(x.shape[2:], size))\n    y = x["),
        Mutant("the last copy wins", "np.add.at(grad_x, (slice(None), slice(None), rows[:, None], "
               "cols), grad)", "grad_x[:, :, rows[:, None], cols] += grad"),
        Mutant("averaged over the copies", "    return y, grad_x", "    copies = np.zeros(x.shape)"
               "\n    np.add.at(copies, (slice(None), slice(None), rows[:, None], cols), 1)\n"
               "    return y, grad_x / np.maximum(copies, 1).astype(grad.dtype)"),
        Mutant("the first copy only", "np.add.at(grad_x, (slice(None), slice(None), rows[:, None], "
               "cols), grad)", "for r, q in reversed(list(np.ndindex(size))):\n"
               "        grad_x[:, :, rows[r], cols[q]] = grad[:, :, r, q]"),
        Mutant("dtype", "x.shape, grad.dtype)", "x.shape)"),
    ),
)  # fmt: skip
