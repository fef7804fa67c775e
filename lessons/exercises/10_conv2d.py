"""Convolution, forward

Lay the kernel on the image, multiply each weight by the pixel under it, add up, move on:

    y[n, o, r, c] = b[o] + sum over k, i, j of
        w[o, k, i, j] * x[n, k, r * stride - padding + i * dilation,
                                c * stride - padding + j * dilation]

where x is 0 outside of the image. The kernel is not flipped. Loops over i and j alone, with slices
for the rest, are fast enough; seven nested loops are right, too. Lesson 02 goes through this
slowly.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.op import get_op


def conv2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> np.ndarray:
    """The formula above.

    x (N, C, H, W), w (O, C, kh, kw), b (O,) -> y (N, O, H', W'), of x's dtype, with
    H' = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1, and W' likewise
    """
    N, _, H, W = x.shape
    O, _, kh, kw = w.shape
    H_out = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    W_out = (W + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    y = np.zeros((N, O, H_out, W_out), x.dtype)
    for i, j in np.ndindex(kh, kw):
        top, left = i * dilation, j * dilation
        under = x[:, :, top : top + stride * H_out : stride, left : left + stride * W_out : stride]
        y += np.einsum("ok,nkrc->norc", w[:, :, i, j], under)  # (N, O, H', W')
    return y + b[:, None, None]


def right(x, w, b, stride=1, padding=0, dilation=1):
    pairs = [(n, n) for n in (stride, padding, dilation)]
    return get_op("conv2d").definition(x, w, b, *pairs, 1)


def padded(x, before, after, **how):
    return np.pad(x, ((0, 0), (0, 0), (before, after), (before, after)), **how)


def places_side_by_side(x, w, b, stride=1, padding=0, dilation=1):
    height, width = right(x, w, b, stride, padding, dilation).shape[2:]
    return right(x, w, b, stride, padding)[:, :, :height, :width]


def in_op(conv2d, x, w, b, stride, padding, dilation, groups):
    """Pairs become numbers, no bias becomes zeros, and groups come one after the other."""
    if any(rows != cols for rows, cols in (stride, padding, dilation)):
        return NotImplemented
    b = np.zeros(len(w), x.dtype) if b is None else b
    each = zip(np.split(x, groups, axis=1), np.split(w, groups), np.split(b, groups), strict=True)
    how = (stride[0], padding[0], dilation[0])
    return np.concatenate([conv2d(*one, *how) for one in each], axis=1)


rng = np.random.default_rng(2)


def case(name, x, w, **how):
    """Whole numbers: easy to follow by hand, and their sums are exact."""
    b = np.arange(1.0, w[0] + 1) * 10
    x, w = (rng.integers(-3, 4, shape).astype(float) for shape in (x, w))
    return Case(name, {"x": x, "w": w, "b": b, **how})


first = {
    "x": np.arange(12.0).reshape(1, 1, 3, 4),
    "w": np.array([[[[1.0, 2.0], [3.0, 4.0]]]]),
    "b": np.zeros(1),
}
TASK = Task(
    outputs=("y",),
    reference=right,
    use=Use("conv2d", "forward", in_op, lesson="14"),
    terms=100,
    cases=(
        Case("one channel, no bias", first),
        case("a bias", (1, 1, 3, 3), (2, 1, 2, 2)),
        case("two images, two channels, a kernel 3x2", (2, 2, 4, 3), (3, 2, 3, 2)),
        case("padding 1", (1, 1, 3, 4), (1, 1, 3, 3), padding=1),
        case("stride 2", (1, 1, 5, 6), (1, 1, 2, 2), stride=2),
        case("dilation 2", (1, 1, 5, 4), (1, 1, 2, 2), dilation=2),
        case("stride 2, padding 3, dilation 3", (1, 2, 5, 6), (1, 2, 3, 3), stride=2, padding=3,
             dilation=3),
    ),
    edge_cases=(
        case("a kernel of 1x1", (2, 3, 2, 2), (2, 3, 1, 1)),
        case("a kernel as large as the image", (1, 2, 3, 2), (1, 2, 3, 2)),
        case("an image smaller than the kernel", (1, 1, 2, 1), (1, 1, 3, 3), padding=1),
    ),
    hints=(
        "Turn the loops round: for each of the kernel's places (i, j), *all* outputs need the image"
        " shifted by (i, j), times one weight. So add up kh * kw shifted images.",
        "Pad first. Then output (r, c) meets the padded image at row r * stride + i * dilation: "
        "a slice that starts at i * dilation, takes H' rows, and steps by stride.",
        "under = x[:, :, i*dilation : i*dilation + stride*H_out : stride, ...], then "
        'y += np.einsum("ok,nkrc->norc", w[:, :, i, j], under); last, add b[:, None, None].',
    ),
    slips=(
        Slip("flipped kernel", "The kernel is turned by 180 degrees: w[.., i, j] belongs to the "
             "pixel i rows down and j columns right, not up and left.",
             lambda x, w, b, **how: right(x, w[:, :, ::-1, ::-1], b, **how)),
        Slip("transposed kernel", "Rows and columns of the kernel have changed places: i goes with "
             "the rows, j with the columns.",
             lambda x, w, b, **how: right(x, w.swapaxes(2, 3), b, **how)),
        Slip("forgot the bias", "b is missing: each output channel o gets b[o] added.",
             lambda x, w, b, **how: right(x, w, 0 * b, **how)),
        Slip("bias along the columns", "`+ b` lays b along the last axis, as NumPy does. It "
             "belongs to the channels: b[:, None, None] is (O, 1, 1).",
             lambda x, w, b, **how: right(x, w, 0 * b, **how) + b),
        Slip("stride and dilation swapped", "The stride moves the kernel, the dilation spreads its "
             "places: here each does the other's work.",
             lambda x, w, b, stride=1, padding=0, dilation=1:
             right(x, w, b, dilation, padding, stride)),
        Slip("padding after the image only", "All rows and columns of padding are below and right "
             "of the image. Half of them belong above and left.",
             lambda x, w, b, stride=1, padding=0, dilation=1:
             right(padded(x, 0, 2 * padding), w, b, stride, 0, dilation)),
        Slip("padding not zero", "The padding repeats the border pixels. Outside is 0.",
             lambda x, w, b, stride=1, padding=0, dilation=1:
             right(padded(x, padding, padding, mode="edge"), w, b, stride, 0, dilation)),
        Slip("forgot the padding", "The padding is left out.",
             lambda x, w, b, stride=1, padding=0, dilation=1: right(x, w, b, stride, 0, dilation)),
        Slip("forgot the dilation", "The kernel's places lie side by side: dilation is left out.",
             lambda x, w, b, stride=1, padding=0, dilation=1: right(x, w, b, stride, padding)),
        Slip("places side by side", "The size is right, but the kernel's places lie side by side: "
             "row i of the kernel is i * dilation rows down.", places_side_by_side),
        Slip("forgot the stride", "The kernel moves by 1 each time: stride is left out.",
             lambda x, w, b, stride=1, padding=0, dilation=1:
             right(x, w, b, 1, padding, dilation)),
        Slip("one row and column short", "The last row and column are missing: did you forget the "
             "+ 1 in H'?",
             lambda **given: right(**given)[:, :, :-1, :-1]),
    ),
    mutants=(
        Mutant("flipped kernel", "w[:, :, i, j]", "w[:, :, kh - 1 - i, kw - 1 - j]"),
        Mutant("transposed kernel", "w[:, :, i, j]", "w[:, :, j % kh, i % kw]"),
        Mutant("forgot the bias", "return y + b[:, None, None]", "return y"),
        Mutant("bias along the columns", "y + b[:, None, None]", "y + b"),
        Mutant("stride and dilation swapped", "    N, _, H, W", "    stride, dilation = dilation, "
               "stride\n    N, _, H, W"),
        Mutant("padding after the image only", "(padding, padding), (padding, padding)",
               "(0, 2 * padding), (0, 2 * padding)"),
        Mutant("padding not zero", "(padding, padding)))", '(padding, padding)), mode="edge")'),
        Mutant("places side by side", "top, left = i * dilation, j * dilation", "top, left = i, j"),
        Mutant("one row and column short", "return y + b[:, None, None]",
               "return (y + b[:, None, None])[..., :-1, :-1]"),
        Mutant("dtype", "np.zeros((N, O, H_out, W_out), x.dtype)",
               "np.zeros((N, O, H_out, W_out))"),
        Mutant("signature", "dilation: int = 1", "dilation: int = 0"),
    ),
)  # fmt: skip
