"""Max-unpooling: back to where it stood

SegNet's decoder has no weights for its upsampling. It remembers where each maximum stood, and puts
a value there again; everything else is 0. So borders keep their places, to the pixel:

    y[n, c, indices[n, c, r, q]] = x[n, c, r, q],     y as a flat row of H * W, 0 elsewhere

    x 3 8,  indices 1 6,  size (2, 4)    ->     0 3 0 0
                                                0 0 8 0

Two windows that overlap may name the same place, but their values need not agree after a
convolution. Then the last in reading order (row by row) stays: a value is put there, not added.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task
from minseg.ops.max_pool import add_at_indices, max_pool2d_definition
from minseg.ops.unpool import max_unpool2d_definition


def max_unpool2d(x: np.ndarray, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The formula above.

    x (N, C, H', W'), indices (N, C, H', W') of ints, size (H, W) -> y (N, C, H, W), of x's dtype
    """
    N, C = x.shape[:2]
    H, W = size
    y = np.zeros((N, C, H * W), x.dtype)
    for n, c in np.ndindex(N, C):
        for index, value in zip(indices[n, c].ravel(), x[n, c].ravel(), strict=True):
            y[n, c, index] = value
    return y.reshape(N, C, H, W)


def right(x, indices, size):
    return max_unpool2d_definition(x, indices, size)


def added(x, indices, size):
    return add_at_indices(x, indices, (*x.shape[:2], *size))


def largest(x, indices, size):
    y = np.zeros((*x.shape[:2], size[0] * size[1]))
    for n, c, r, q in np.ndindex(x.shape):
        y[n, c, indices[n, c, r, q]] = max(y[n, c, indices[n, c, r, q]], x[n, c, r, q])
    return y.reshape(*x.shape[:2], *size)


def one_plane(x, indices, size):
    y = np.zeros(x.shape[0] * x.shape[1] * size[0] * size[1])
    for index, value in zip(indices.ravel(), x.ravel(), strict=True):
        y[index] = value
    return y.reshape(*x.shape[:2], *size)


def gathered(x, indices, size):
    """The values at the indices, as the gradient of unpooling takes them."""
    flat = x.reshape(*x.shape[:2], -1)
    return np.take_along_axis(flat, indices.reshape(*x.shape[:2], -1), axis=2).reshape(x.shape)


def columns_first(x, indices, size):
    row, col = np.divmod(indices, size[1])
    return right(x, col * size[0] + row, size)


def wide(x, indices, size):
    """As if the index counted in an image of x's width."""
    row, col = np.divmod(indices, x.shape[3])
    if row.max() >= size[0]:
        raise ValueError("outside")
    return right(x, row * size[1] + col, size)


def upper_left(x, indices, size):
    """Each value at the first place of its window, for windows side by side."""
    y = np.zeros((*x.shape[:2], *size))
    y[:, :, :: size[0] // x.shape[2], :: size[1] // x.shape[3]] = x
    return y


rng = np.random.default_rng(42)


def case(name, shape, kernel_size, stride):
    """The places are those of a table that the library pools; the values are others."""
    pairs = [(n, n) for n in (kernel_size, stride, 0, 1)]
    table = rng.permutation(np.prod(shape)).reshape(shape) * 1.0
    indices = max_pool2d_definition(table, *pairs, False)[1]
    x = rng.permutation(indices.size).reshape(indices.shape) + 1.0
    return Case(name, {"x": x, "indices": indices, "size": shape[2:]})


TASK = Task(
    outputs=("y",),
    reference=right,
    terms=1,
    cases=(
        Case("the example", {"x": np.array([[[[3.0, 8.0]]]]), "indices": np.array([[[[1, 6]]]]),
                             "size": (2, 4)}),
        case("4x6", (1, 1, 4, 6), 2, 2),
        case("two images, two channels", (2, 2, 2, 4), 2, 2),
        case("a row and a column left over", (1, 2, 5, 3), 2, 2),
        case("windows that overlap", (1, 1, 4, 5), 3, 1),
        case("windows that overlap, 2 images, 2 channels", (2, 2, 3, 5), 3, 1),
    ),
    edge_cases=(
        Case("negative values", {"x": np.array([[[[-3.0, -8.0]]]]),
                                 "indices": np.array([[[[0, 3]]]]), "size": (1, 4)}),
        case("one window", (2, 1, 2, 2), 2, 2),
    ),
    hints=(
        "Begin with zeros. For one image and channel a flat array of H * W numbers makes a place a "
        "single index; go through x in reading order and put each value there.",
        "y[n, c, indices[n, c, r, q]] = x[n, c, r, q], with y as (N, C, H * W); r outside, q "
        "inside, so that a later value replaces an earlier one.",
        "for n, c in np.ndindex(N, C): for index, value in zip(indices[n, c].ravel(), "
        "x[n, c].ravel()): y[n, c, index] = value; then y.reshape(N, C, H, W).",
    ),
    slips=(
        Slip("added up", "Where two windows name one place, their values are added. That is what "
             "gradients do; here a value is put there, and the last one stays.", added),
        Slip("the first stays", "Where two windows name one place, the first value stays; the last "
             "in reading order should.",
             lambda x, indices, size: right(x[:, :, ::-1, ::-1], indices[:, :, ::-1, ::-1], size)),
        Slip("the largest stays", "Where two windows name one place, the largest value stays; the "
             "last in reading order should, whatever its value.", largest),
        Slip("all in one plane", "An index counts within its own image and channel; here it counts "
             "from the start of the whole array, so all land in the first plane.", one_plane),
        Slip("gathered, not scattered", "This reads x *at* the indices. The indices say where a "
             "value goes to: y[..., indices] = x.", gathered),
        Slip("column first", "Row and column have changed places: the index is row * W + column, "
             "counted along rows.", columns_first),
        Slip("the width of x", "The index is split into row and column with the width of x; it "
             "counts in the large image: row = index // W with W from `size`.", wide),
        Slip("upper left corner", "Each value stands in the first place of its window: the indices "
             "are not used.", upper_left),
    ),
    mutants=(
        Mutant("added up", "y[n, c, index] = value", "y[n, c, index] += value"),
        Mutant("the first stays", "            y[n, c, index] = value",
               "            y[n, c, index] = y[n, c, index] or value"),
        Mutant("the largest stays", "y[n, c, index] = value",
               "y[n, c, index] = max(y[n, c, index], value)"),
        Mutant("upper left corner", "    for n, c in", "    if H % x.shape[2] + W % x.shape[3] == 0"
               ":\n        y = y.reshape(N, C, H, W)\n"
               "        y[:, :, :: H // x.shape[2], :: W // x.shape[3]] = x\n        return y\n"
               "    for n, c in"),
        Mutant("all in one plane", "y[n, c, index] = value", "y.reshape(-1)[index] = value"),
        Mutant("column first", "y[n, c, index] = value", "y[n, c, index % W * H + index // W] = "
               "value"),
        Mutant("dtype", "H * W), x.dtype)", "H * W))"),
    ),
)  # fmt: skip
