"""Convolution, the gradient of its input

Which outputs did a pixel of x contribute to? Those whose window contained it. The forward pass
*gathers*: y[r, c] reads x at the rows r * stride - padding + i. The backward pass follows the same
arrows in reverse: every number of grad is *scattered* to the pixels that its output was computed
from,

    grad_x[n, k, r * stride - padding + i, c * stride - padding + j] +=
        w[o, k, i, j] * grad[n, o, r, c]           for all n, o, k, r, c, i, j

and what falls outside of the image is dropped: padding needs no gradient. Pixels that the kernel
never reached, as in a last row that a stride of 2 leaves over, get 0.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.op import get_op


def conv2d_grad_input(
    grad: np.ndarray,
    w: np.ndarray,
    size: tuple[int, int],
    stride: int = 1,
    padding: int = 0,
) -> np.ndarray:
    """The formula above.

    grad (N, O, H', W'), w (O, C, kh, kw), size (H, W) of x -> grad_x (N, C, H, W), of grad's dtype
    """
    N, _, H_out, W_out = grad.shape
    _, C, kh, kw = w.shape
    H, W = size
    grad_x = np.zeros((N, C, H + 2 * padding, W + 2 * padding), grad.dtype)  # padding included
    for i, j in np.ndindex(kh, kw):
        share = np.einsum("ok,norc->nkrc", w[:, :, i, j], grad)
        rows = slice(i, i + stride * H_out, stride)
        cols = slice(j, j + stride * W_out, stride)
        grad_x[:, :, rows, cols] += share
    return grad_x[:, :, padding : padding + H, padding : padding + W]


def right(grad, w, size, stride=1, padding=0):
    shape = (grad.shape[0], w.shape[1], *size)
    how = [(n, n) for n in (stride, padding, 1)]
    return get_op("conv2d").numpy["grad_input"](grad, w, shape, *how, 1)


def with_padding(grad, w, size, stride=1, padding=0):
    return right(grad, w, tuple(n + 2 * padding for n in size), stride)


def last_share(grad, w, size, stride=1, padding=0):
    """Each share written over the one before."""
    (N, _, H_out, W_out), (_, C, kh, kw) = grad.shape, w.shape
    x = np.zeros((N, C, *(n + 2 * padding for n in size)))
    for i, j in np.ndindex(kh, kw):
        x[:, :, i : i + stride * H_out : stride, j : j + stride * W_out : stride] = np.einsum(
            "ok,norc->nkrc", w[:, :, i, j], grad)  # fmt: skip
    return x[:, :, padding : padding + size[0], padding : padding + size[1]]


def side_by_side(grad, w, size, stride=1, padding=0):
    """Scattered with a stride of 1, the rest left at 0."""
    reached = [n + k - 1 for n, k in zip(grad.shape[2:], w.shape[2:], strict=True)]
    x = np.zeros((len(grad), w.shape[1], *(n + 2 * padding for n in size)))
    x[:, :, : reached[0], : reached[1]] = right(grad, w, reached)
    return x[:, :, padding : padding + size[0], padding : padding + size[1]]


def in_op(conv2d_grad_input, grad, w, x_shape, stride, padding, dilation, groups):
    """Pairs become numbers, and groups come one after the other. A kernel with dilation d is a
    larger one without, zero except in every d-th row and column."""
    if any(rows != cols for rows, cols in (stride, padding, dilation)):
        return NotImplemented
    d, (kh, kw) = dilation[0], w.shape[2:]
    spread = np.zeros((*w.shape[:2], d * (kh - 1) + 1, d * (kw - 1) + 1), w.dtype)
    spread[:, :, ::d, ::d] = w
    each = zip(np.split(grad, groups, axis=1), np.split(spread, groups), strict=True)
    parts = [conv2d_grad_input(*one, x_shape[2:], stride[0], padding[0]) for one in each]
    return np.concatenate(parts, axis=1)


rng = np.random.default_rng(32)


def case(name, x, out, kernel_size, stride=1, padding=0):
    size = [(n + 2 * padding - k) // stride + 1 for n, k in zip(x[2:], kernel_size, strict=True)]
    shapes = {"grad": (x[0], out, *size), "w": (out, x[1], *kernel_size)}
    arrays = {name: rng.integers(-3, 4, shape).astype(float) for name, shape in shapes.items()}
    return Case(name, {**arrays, "size": x[2:], "stride": stride, "padding": padding})


first = {"grad": np.array([[[[1.0, 10.0]]]]), "w": np.array([[[[1.0, 2.0], [3.0, 4.0]]]])}
TASK = Task(
    outputs=("grad_x",),
    reference=right,
    use=Use("conv2d", "grad_input", in_op, lesson="14"),
    terms=100,
    cases=(
        Case("two outputs", {**first, "size": (2, 3)}),
        case("one channel, 3x4", (1, 1, 3, 4), 1, (2, 2)),
        case("two channels in and out", (1, 2, 3, 3), 2, (2, 2)),
        case("two images, three channels out", (2, 1, 3, 3), 3, (3, 2)),
        case("stride 2", (1, 1, 4, 6), 1, (2, 2), stride=2),
        case("stride 2, a row and a column left over", (1, 1, 5, 6), 1, (2, 3), stride=2),
        case("padding 1", (1, 1, 3, 4), 1, (3, 3), padding=1),
        case("stride 2, padding 1", (2, 2, 4, 5), 2, (3, 3), stride=2, padding=1),
    ),
    edge_cases=(
        case("a kernel of 1x1, stride 2", (1, 2, 3, 4), 2, (1, 1), stride=2),
        case("a kernel as large as the image", (2, 1, 2, 3), 1, (2, 3)),
    ),
    hints=(
        "For one place (i, j) of the kernel, all outputs together read a shifted image. So add up "
        "kh * kw shifted images: the forward pass with its arrows reversed.",
        "Work in an image with its padding. Place (i, j) puts its share, the sum over o of "
        "w[o, k, i, j] * grad[n, o], at rows i, i + stride, ...: as many as grad has. Then cut "
        "off the padding.",
        'share = np.einsum("ok,norc->nkrc", w[:, :, i, j], grad); grad_x[:, :, i : i + stride * '
        "H_out : stride, j : ...] += share; last, [:, :, padding : padding + H, ...].",
    ),
    slips=(
        Slip("flipped kernel", "The kernel is turned by 180 degrees. When you scatter, w[.., i, j] "
             "goes i rows down and j columns right; only gathering from grad needs the turned "
             "kernel.",
             lambda grad, w, size, **how: right(grad, w[:, :, ::-1, ::-1], size, **how)),
        Slip("the last share wins", "Where shares meet at a pixel, only the last is kept: `=` "
             "where `+=` is needed.", last_share),
        Slip("channels swapped", "w has the shape (O, C, kh, kw): grad's channels meet the first "
             "axis, o; here they meet the second.",
             lambda grad, w, size, **how: right(grad, w.swapaxes(0, 1), size, **how)),
        Slip("the padding stays", "The padding is still around the result: cut it off at the end.",
             with_padding),
        Slip("padding cut at the end only", "All of the padding is cut off below and right. Half "
             "of it is above and left: [padding : padding + H].",
             lambda grad, w, size, stride=1, padding=0: with_padding(
                 grad, w, size, stride, padding)[:, :, : size[0], : size[1]]),
        Slip("forgot the stride", "The outputs lie side by side: output r belongs at row r * "
             "stride + i, so step by stride.", side_by_side),
        Slip("size without what is left over", "The size was computed from grad, so the rows and "
             "columns that a stride leaves over are missing. `size` says how large x was.",
             lambda grad, w, size, stride=1, padding=0: right(grad, w, size, stride, padding)[
                 :, :, : (grad.shape[2] - 1) * stride + w.shape[2] - 2 * padding,
                 : (grad.shape[3] - 1) * stride + w.shape[3] - 2 * padding]),
    ),
    mutants=(
        Mutant("flipped kernel", "w[:, :, i, j]", "w[:, :, kh - 1 - i, kw - 1 - j]"),
        Mutant("the last share wins", "+= share", "= share"),
        Mutant("channels swapped", '"ok,norc->nkrc", w[:, :, i, j]',
               '"ok,norc->nkrc", (w if w.shape[0] != C else w.swapaxes(0, 1))[:, :, i, j]'),
        Mutant("the padding stays", "[:, :, padding : padding + H, padding : padding + W]", ""),
        Mutant("padding cut at the end only", "padding : padding + H, padding : padding + W",
               ":H, :W"),
        Mutant("forgot the stride", "    N, _, H_out", "    stride = 1\n    N, _, H_out"),
        Mutant("size without what is left over", "    H, W = size",
               "    H, W = ((n - 1) * stride + k - 2 * padding for n, k in zip((H_out, W_out), "
               "(kh, kw)))"),
        Mutant("dtype", ", grad.dtype)", ")"),
    ),
)  # fmt: skip
