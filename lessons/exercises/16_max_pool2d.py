"""Max-pooling that remembers

Every output is the largest value of its window. Besides the value we keep *where* it stood, as
row * W + column in the image (not in the window, and not in the padded image): SegNet's decoder
puts values back at these places, and the gradient goes there.

Padding never wins, even where the whole image is negative. Of equal values the first in reading
order counts.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.op import get_op


def max_pool2d(
    x: np.ndarray, kernel_size: int, stride: int, padding: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The largest value of each window, and its place.

    x (N, C, H, W) -> y, of x's dtype, and indices, int64, both (N, C, H', W'), with
    H' = (H + 2 * padding - kernel_size) // stride + 1, and W' likewise
    """
    N, C, H, W = x.shape
    H_out = (H + 2 * padding - kernel_size) // stride + 1
    W_out = (W + 2 * padding - kernel_size) // stride + 1
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    x = np.pad(x, around, constant_values=-np.inf)
    y = np.full((N, C, H_out, W_out), -np.inf, x.dtype)
    indices = np.zeros(y.shape, np.int64)
    for i, j in np.ndindex(kernel_size, kernel_size):
        value = x[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride]
        row = np.arange(H_out)[:, None] * stride - padding + i
        col = np.arange(W_out) * stride - padding + j
        larger = value > y
        y = np.where(larger, value, y)
        indices = np.where(larger, row * W + col, indices)
    return y, indices


def right(x, kernel_size, stride, padding=0):
    pairs = [(n, n) for n in (kernel_size, stride, padding, 1)]
    return get_op("max_pool2d").definition(x, *pairs, False)


def with_places(place):
    """The right values, with another index for the place (row, col) of window (r, c)."""

    def answer(x, kernel_size, stride, padding=0):
        y, indices = right(x, kernel_size, stride, padding)
        row, col = np.divmod(indices, x.shape[3])
        r, c = np.indices(indices.shape[2:])
        i, j = row - r * stride + padding, col - c * stride + padding  # in the window
        return y, place(row, col, i, j, x.shape, kernel_size, padding)

    return answer


def last_of_equals(x, kernel_size, stride, padding=0):
    """The first in reading order of an image that is turned round."""
    y, indices = right(x, kernel_size, stride, padding)
    image = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)),
                   constant_values=-np.inf)  # fmt: skip
    for n, c, r, q in np.ndindex(y.shape):
        top, left = r * stride, q * stride
        window = image[n, c, top : top + kernel_size, left : left + kernel_size]
        i, j = np.argwhere(window == window.max())[-1]
        indices[n, c, r, q] = (top - padding + i) * x.shape[3] + left - padding + j
    return y, indices


def zeros_win(x, kernel_size, stride, padding=0):
    around = ((0, 0), (0, 0), (padding, padding), (padding, padding))
    return right(np.pad(x, around), kernel_size, stride)[0], None


def in_op(max_pool2d, x, kernel, stride, padding, dilation, ceil_mode):
    """Pairs become numbers. The op can spread a window, and let one hang over the edge, too."""
    sides = zip(x.shape[2:], kernel, stride, padding, strict=True)
    hangs_over = ceil_mode and any((n + 2 * p - k) % s for n, k, s, p in sides)
    squares = all(rows == cols for rows, cols in (kernel, stride, padding))
    if not squares or dilation != (1, 1) or hangs_over:
        return NotImplemented
    return max_pool2d(x, kernel[0], stride[0], padding[0])


rng = np.random.default_rng(4)


def case(name, shape, **how):
    return Case(name, {"x": rng.permutation(np.prod(shape)).reshape(shape) - 9.5, **how})


ties = np.array([[1.0, 1, 2, 0], [1, 1, 2, 2], [3, 0, 5, 5], [0, 3, 5, 4]])[None, None]
TASK = Task(
    outputs=("y", "indices"),
    reference=right,
    use=Use("max_pool2d", "forward", in_op, lesson="14"),
    terms=1,
    cases=(
        case("two windows", (1, 1, 2, 4), kernel_size=2, stride=2),
        case("two images, two channels", (2, 2, 4, 2), kernel_size=2, stride=2),
        case("a row and a column left over", (1, 1, 5, 3), kernel_size=2, stride=2),
        case("windows that overlap", (1, 1, 4, 5), kernel_size=3, stride=1),
        case("padding 1", (1, 1, 3, 4), kernel_size=3, stride=2, padding=1),
        Case("equal values", {"x": ties, "kernel_size": 2, "stride": 2}),
    ),
    edge_cases=(
        Case("all negative, with padding", {
            "x": -1.0 * rng.permutation(12).reshape(1, 1, 3, 4) - 1, "kernel_size": 3, "stride": 1,
            "padding": 1}),
        case("a window as large as the image", (2, 1, 3, 3), kernel_size=3, stride=3),
    ),
    hints=(
        "Go through the places (i, j) of a window, for all windows at once, and keep the largest "
        "value so far together with its place.",
        "Window (r, c) has its place (i, j) at row r * stride - padding + i and column "
        "c * stride - padding + j of the image; the index is row * W + column.",
        "Pad with -np.inf. larger = value > y; y = np.where(larger, value, y); "
        "indices = np.where(larger, row * W + col, indices).",
    ),
    slips=(
        Slip("padding wins", "A zero of the padding is larger than the negative numbers around it. "
             "Pad with -infinity.", zeros_win),
        Slip("begins at 0", "Where all numbers are negative, the result is 0, which is in no "
             "window. Start the search at -infinity, or at the window's first number.",
             lambda **given: (np.maximum(right(**given)[0], 0), None)),
        Slip("index in the window", "The index counts within the window; it should count in the "
             "image: row * W + column.",
             with_places(lambda row, col, i, j, shape, k, p: i * k + j)),
        Slip("index in the padded image", "The index counts in the padded image: subtract the "
             "padding from row and column, and multiply by the width of the image itself.",
             with_places(lambda row, col, i, j, shape, k, p:
                         (row + p) * (shape[3] + 2 * p) + col + p)),
        Slip("row times height", "A row is W numbers long: row * W + column, not row * H.",
             with_places(lambda row, col, i, j, shape, k, p: row * shape[2] + col)),
        Slip("column first", "Row and column have changed places: row * W + column.",
             with_places(lambda row, col, i, j, shape, k, p: col * shape[3] + row)),
        Slip("last of equals", "Of equal values the last is taken: > keeps the first, >= does not.",
             last_of_equals),
        Slip("the smallest", "This is the smallest value of each window.",
             lambda x, **how: (-right(-x, **how)[0], None)),
    ),
    mutants=(
        Mutant("begins at 0", "np.full((N, C, H_out, W_out), -np.inf, x.dtype)",
               "np.zeros((N, C, H_out, W_out), x.dtype)"),
        Mutant("padding wins", ", constant_values=-np.inf", ""),
        Mutant("index in the window", "larger, row * W + col", "larger, i * kernel_size + j"),
        Mutant("index in the padded image", "larger, row * W + col",
               "larger, (row + padding) * x.shape[3] + col + padding"),
        Mutant("row times height", "larger, row * W + col", "larger, row * H + col"),
        Mutant("column first", "larger, row * W + col", "larger, col * W + row"),
        Mutant("last of equals", "larger = value > y", "larger = value >= y"),
        Mutant("dtype", "np.zeros(y.shape, np.int64)", "np.zeros(y.shape)"),
    ),
)  # fmt: skip
