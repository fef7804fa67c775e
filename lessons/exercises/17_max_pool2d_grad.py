"""Max-pooling, backwards: to the winner

Only the winner of a window determined its output, so it alone gets the gradient; max_pool2d kept
its place, as row * W + column within its image and channel. Windows may overlap, and one pixel can
win several of them. Then the gradients of these windows add up:

    grad_x[n, c, p] = sum of grad[n, c, r, q] over all (r, q) with indices[n, c, r, q] = p

    grad 5 7 9,  indices 1 1 3,  in a row of 4    ->    0 12 0 9

NumPy has a trap here: a[i] += v adds only once where i names a place twice. np.add.at adds every
time.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.max_pool import add_at_indices, max_pool2d_definition


def max_pool2d_grad(grad: np.ndarray, indices: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The formula above.

    grad (N, C, H', W'), indices (N, C, H', W') of ints, size (H, W) of x -> grad_x (N, C, H, W), of
    grad's dtype
    """
    N, C = grad.shape[:2]
    H, W = size
    grad_x = np.zeros((N, C, H * W), grad.dtype)
    n, c = np.arange(N)[:, None, None, None], np.arange(C)[:, None, None]
    np.add.at(grad_x, (n, c, indices), grad)
    return grad_x.reshape(N, C, H, W)


def right(grad, indices, size):
    return add_at_indices(grad, indices, (*grad.shape[:2], *size))


def placed(put):
    """Go through all windows in reading order; put(plane, index, value, number of windows)."""

    def answer(grad, indices, size):
        x = np.zeros((*grad.shape[:2], size[0] * size[1]))
        for n, c, r, q in np.ndindex(grad.shape):
            put(x[n, c], indices[n, c, r, q], grad[n, c, r, q], indices[n, c])
        return x.reshape(*grad.shape[:2], *size)

    return answer


def put_last(plane, index, value, indices):
    plane[index] = value


def put_first(plane, index, value, indices):
    if plane[index] == 0:
        plane[index] = value


def put_mean(plane, index, value, indices):
    plane[index] += value / (indices == index).sum()


def one_plane(grad, indices, size):
    """The indices taken for places in the whole array."""
    x = np.zeros(grad.shape[0] * grad.shape[1] * size[0] * size[1])
    np.add.at(x, indices, grad)
    return x.reshape(*grad.shape[:2], *size)


def columns_first(grad, indices, size):
    row, col = np.divmod(indices, size[1])
    return right(grad, col * size[0] + row, size[::-1]).reshape(*grad.shape[:2], *size)


def windows_filled(grad, indices, size):
    """Every pixel of a window gets its gradient, for windows side by side."""
    repeats = [n // m for n, m in zip(size, grad.shape[2:], strict=True)]
    return grad.repeat(repeats[0], axis=2).repeat(repeats[1], axis=3)


def in_op(max_pool2d_grad, grad, indices, x_shape, *window):
    """The indices are enough: the windows need not be known."""
    return max_pool2d_grad(grad, indices, x_shape[2:])


rng = np.random.default_rng(41)


def case(name, shape, kernel_size, stride):
    """The places come from the library's pooling of a table."""
    x = rng.permutation(np.prod(shape)).reshape(shape) * 1.0
    pairs = [(n, n) for n in (kernel_size, stride, 0, 1)]
    indices = max_pool2d_definition(x, *pairs, False)[1]
    grad = rng.choice([-4.0, -3, -2, -1, 1, 2, 3, 4], indices.shape)
    return Case(name, {"grad": grad, "indices": indices, "size": shape[2:]})


TASK = Task(
    outputs=("grad_x",),
    reference=right,
    use=Use("max_pool2d", "grad_input", in_op, lesson="14"),
    terms=9,
    cases=(
        Case("three windows in a row of six", {
            "grad": np.array([[[[5.0, 7.0, 9.0]]]]), "indices": np.array([[[[1, 2, 4]]]]),
            "size": (1, 6)}),
        case("windows side by side, 4x6", (1, 1, 4, 6), 2, 2),
        Case("a pixel wins twice: the example", {
            "grad": np.array([[[[5.0, 7.0, 9.0]]]]), "indices": np.array([[[[1, 1, 3]]]]),
            "size": (1, 4)}),
        case("two images, two channels", (2, 2, 2, 4), 2, 2),
        case("windows that overlap", (1, 1, 4, 5), 3, 1),
        case("windows that overlap, 2 images, 2 channels", (2, 2, 3, 5), 3, 1),
    ),
    edge_cases=(
        case("a row and a column left over", (1, 1, 5, 3), 2, 2),
        case("one window", (2, 1, 2, 2), 2, 2),
    ),
    hints=(
        "Begin with zeros, and add every number of grad at its place. For one image and channel a "
        "flat array of H * W numbers makes the place a single index.",
        "grad_x.reshape(N, C, H * W)[n, c, indices[n, c, r, q]] += grad[n, c, r, q], for all n, c, "
        "r, q. A loop does it; so does np.add.at, for all at once.",
        "n, c = np.arange(N)[:, None, None, None], np.arange(C)[:, None, None]; "
        "np.add.at(grad_x, (n, c, indices), grad), with grad_x of zeros, (N, C, H * W).",
    ),
    slips=(
        Slip("the last window wins", "Where a pixel won several windows, only the last one counts. "
             "Did you write `=`, or a[indices] += grad, which adds only once to each place? Use "
             "np.add.at.",
             placed(put_last)),
        Slip("the first window wins", "Where a pixel won several windows, only the first one "
             "counts; the gradients of all of them add up.", placed(put_first)),
        Slip("averaged over the windows", "Where a pixel won several windows, the mean of their "
             "gradients is taken; take the sum.", placed(put_mean)),
        Slip("all in one plane", "An index counts within its own image and channel; here it counts "
             "from the start of the whole array, so all land in the first plane.", one_plane),
        Slip("column first", "Row and column have changed places: the index is row * W + column.",
             columns_first),
        Slip("to the whole window", "Every pixel of a window gets its gradient. Only the winner "
             "does: the others changed nothing.", windows_filled),
    ),
    mutants=(
        Mutant("the last window wins", "np.add.at(grad_x, (n, c, indices), grad)",
               "grad_x[n, c, indices] += grad"),
        Mutant("the first window wins", "np.add.at(grad_x, (n, c, indices), grad)",
               "places = np.arange(grad.size)[::-1]\n"
               "    for n, c, r, q in zip(*np.unravel_index(places, grad.shape)):\n"
               "        grad_x[n, c, indices[n, c, r, q]] = grad[n, c, r, q]"),
        Mutant("averaged over the windows", "np.add.at(grad_x, (n, c, indices), grad)",
               "times = np.zeros_like(grad_x)\n    np.add.at(times, (n, c, indices), 1)\n"
               "    np.add.at(grad_x, (n, c, indices), grad)\n    grad_x /= np.maximum(times, 1)"),
        Mutant("all in one plane", "np.add.at(grad_x, (n, c, indices), grad)",
               "np.add.at(grad_x.reshape(-1), indices, grad)"),
        Mutant("column first", "grad_x.reshape(N, C, H, W)",
               "grad_x.reshape(N, C, H, W).swapaxes(2, 3).reshape(N, C, H, W)"),
        Mutant("to the whole window", "    grad_x = np.zeros", "    if H % grad.shape[2] + W % "
               "grad.shape[3] == 0:\n        return grad.repeat(H // grad.shape[2], 2).repeat("
               "W // grad.shape[3], 3)\n    grad_x = np.zeros"),
        Mutant("dtype", "H * W), grad.dtype)", "H * W))"),
    ),
)  # fmt: skip
