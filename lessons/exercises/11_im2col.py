"""im2col: a convolution becomes one matrix product

Matrix products are what computers are fastest at. So lay every patch of the image that the kernel
will meet into a column of its own; then w, reshaped to (O, C kh kw), times these columns is the
convolution:

    columns[n, (k * kh + i) * kw + j, r * W' + c] =
        x[n, k, r * stride - padding + i, c * stride - padding + j],    0 outside of the image

A row of `columns` belongs to one place of the kernel (channel k, row i, column j), a column to one
place of the output. A pixel is copied as often as the kernel meets it: the speed is paid for in
memory.

    0 1 2                            0 1 3 4
    3 4 5    kernel 2x2    ->        1 2 4 5      row 1: what the kernel's upper right meets
    6 7 8                            3 4 6 7
                                     4 5 7 8
"""

import numpy as np

import minseg.functional as F
from minseg import Tensor
from minseg.exercises.task import Case, Mutant, Slip, Task


def im2col(
    x: np.ndarray, kernel_size: tuple[int, int], stride: int = 1, padding: int = 0
) -> np.ndarray:
    """The formula above.

    x (N, C, H, W), kernel_size (kh, kw) -> columns (N, C * kh * kw, H' * W'), of x's dtype, with
    H' = (H + 2 * padding - kh) // stride + 1, and W' likewise
    """
    kh, kw = kernel_size
    N, C, H, W = x.shape
    H_out, W_out = (H + 2 * padding - kh) // stride + 1, (W + 2 * padding - kw) // stride + 1
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    columns = np.empty((N, C, kh, kw, H_out, W_out), x.dtype)
    for i, j in np.ndindex(kh, kw):
        columns[:, :, i, j] = x[
            :, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride
        ]
    return columns.reshape(N, C * kh * kw, H_out * W_out)


def right(x, kernel_size, stride=1, padding=0):
    return F.unfold(Tensor(x), kernel_size, stride=stride, padding=padding).numpy()


def reordered(axes):
    """The right columns as (N, C, kh, kw, H', W'), with axes in another order."""

    def answer(x, kernel_size, stride=1, padding=0):
        columns = right(x, kernel_size, stride, padding)
        size = [(n + 2 * padding - k) // stride + 1
                for n, k in zip(x.shape[2:], kernel_size, strict=True)]  # fmt: skip
        return columns.reshape(*x.shape[:2], *kernel_size, *size).transpose(axes).reshape(
            columns.shape)  # fmt: skip

    return answer


rng = np.random.default_rng(31)


def case(name, shape, kernel_size, **how):
    x = rng.permutation(np.prod(shape)).reshape(shape) + 1.0
    return Case(name, {"x": x, "kernel_size": kernel_size, **how})


TASK = Task(
    outputs=("columns",),
    reference=right,
    terms=1,
    cases=(
        Case("the example", {"x": np.arange(9.0).reshape(1, 1, 3, 3), "kernel_size": (2, 2)}),
        case("an image that is not square", (1, 1, 3, 5), (2, 2)),
        case("two channels", (1, 2, 3, 4), (2, 2)),
        case("a kernel 3x2, two images", (2, 1, 4, 3), (3, 2)),
        case("stride 2", (1, 1, 4, 5), (2, 2), stride=2),
        case("padding 1, stride 2", (1, 2, 3, 4), (3, 2), stride=2, padding=1),
    ),
    edge_cases=(
        case("a kernel of 1x1", (2, 3, 2, 2), (1, 1)),
        case("a kernel as large as the image", (1, 2, 3, 2), (3, 2)),
    ),
    hints=(
        "First fill an array of six axes, (N, C, kh, kw, H', W'); there every index of the formula "
        "has an axis of its own. In the end a single reshape merges them.",
        "columns[:, :, i, j] is the padded image from row i and column j on, every stride-th, H' "
        "rows and W' columns of it.",
        "columns[:, :, i, j] = x[:, :, i : i + stride*H_out : stride, j : j + stride*W_out : "
        "stride], for all i, j; return columns.reshape(N, C * kh * kw, H_out * W_out).",
    ),
    slips=(
        Slip("patches as rows", "A patch is a row here; it should be a column: (C kh kw, H' W').",
             lambda **given: right(**given).swapaxes(1, 2)),
        Slip("patches as rows", "The shape is right, but a patch's numbers lie one after the "
             "other, as in a row. Swap the two axes with swapaxes; a reshape mixes up the numbers.",
             lambda **given: right(**given).swapaxes(1, 2).reshape(right(**given).shape)),
        Slip("channels last", "In a column the channel changes fastest. It should be the slowest: "
             "k, then i, then j, as in w.reshape(O, C * kh * kw).",
             reordered((0, 2, 3, 1, 4, 5))),
        Slip("kernel by columns", "The places of the kernel are in the wrong order: j changes "
             "faster than i.", reordered((0, 1, 3, 2, 4, 5))),
        Slip("outputs by columns", "The places of the output are in the wrong order: along a row "
             "of `columns`, c changes faster than r.", reordered((0, 1, 2, 3, 5, 4))),
        Slip("flipped kernel", "The places of the kernel come from the last to the first: (i, j) "
             "is the pixel i rows down and j columns right.",
             lambda x, kernel_size, stride=1, padding=0: right(x, kernel_size, stride, padding)
             .reshape(*x.shape[:2], kernel_size[0] * kernel_size[1], -1)[:, :, ::-1]
             .reshape(right(x, kernel_size, stride, padding).shape)),
        Slip("forgot the stride", "The kernel moves by 1 each time: stride is left out.",
             lambda x, kernel_size, stride=1, padding=0: right(x, kernel_size, 1, padding)),
        Slip("neighbours, not every stride-th", "The number of columns is right, but the kernel "
             "moves by 1: step by stride in the slice.",
             lambda x, kernel_size, stride=1, padding=0: right(
                 np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))[
                     :, :, : (x.shape[2] + 2 * padding - kernel_size[0]) // stride + kernel_size[0],
                     : (x.shape[3] + 2 * padding - kernel_size[1]) // stride + kernel_size[1]],
                 kernel_size)),
        Slip("forgot the padding", "The padding is left out.",
             lambda x, kernel_size, stride=1, padding=0: right(x, kernel_size, stride)),
        Slip("padding after the image only", "All padding is below and right of the image.",
             lambda x, kernel_size, stride=1, padding=0: right(
                 np.pad(x, ((0, 0), (0, 0), (0, 2 * padding), (0, 2 * padding))), kernel_size,
                 stride)),
    ),
    mutants=(
        Mutant("channels last", "columns.reshape(N", "columns.transpose(0, 2, 3, 1, 4, 5)"
               ".reshape(N"),
        Mutant("patches as rows", "return columns.reshape(N, C * kh * kw, H_out * W_out)",
               "return columns.reshape(N, C * kh * kw, H_out * W_out).swapaxes(1, 2)"),
        Mutant("kernel by columns", "columns.reshape(N", "columns.swapaxes(2, 3).reshape(N"),
        Mutant("outputs by columns", "columns.reshape(N", "columns.swapaxes(4, 5).reshape(N"),
        Mutant("flipped kernel", "columns[:, :, i, j]", "columns[:, :, kh - 1 - i, kw - 1 - j]"),
        Mutant("neighbours, not every stride-th", "i : i + stride * H_out : stride, j : j + stride "
               "* W_out : stride", "i : i + H_out, j : j + W_out"),
        Mutant("padding after the image only", "(padding, padding), (padding, padding)",
               "(0, 2 * padding), (0, 2 * padding)"),
        Mutant("dtype", "W_out), x.dtype)", "W_out))"),
    ),
)  # fmt: skip
