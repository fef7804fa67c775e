"""Transposed convolution: learnt upsampling

A convolution with stride 2 halves an image; its gradient with respect to the input goes from the
small size back to the large one. Used forward, as a layer of its own, that is the transposed
convolution of FCN and U-Net: every pixel of x stamps the kernel into y. The stamps lie `stride`
pixels apart, and where they overlap they add up:

    y[n, o, r * stride - padding + i, c * stride - padding + j] += w[k, o, i, j] * x[n, k, r, c]

then b[o] is added everywhere. Padding *cuts off* that many rows and columns on each side; of those
below and right, output_padding keeps some: so 2 H rows are possible as well as 2 H - 1.

    x = 1 10, kernel 1 2 3, stride 2   ->   1 2 3 + 10 20 30 from place 2 on   =   1 2 13 20 30

Mind the order of w's axes: input channels first, (C, O, kh, kw), where conv2d has output channels
first.
"""

import numpy as np

from minseg.exercises.task import Case, Mutant, Slip, Task, Use
from minseg.ops.op import get_op


def conv_transpose2d(
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
) -> np.ndarray:
    """The formula above.

    x (N, C, H, W), w (C, O, kh, kw), b (O,) -> y (N, O, H', W'), of x's dtype, with
    H' = (H - 1) * stride - 2 * padding + kh + output_padding, and W' likewise
    """
    N, _, H, W = x.shape
    _, O, kh, kw = w.shape
    H_out = (H - 1) * stride - 2 * padding + kh + output_padding
    W_out = (W - 1) * stride - 2 * padding + kw + output_padding
    y = np.zeros((N, O, H_out + 2 * padding, W_out + 2 * padding), x.dtype)  # nothing cut off yet
    for i, j in np.ndindex(kh, kw):
        stamp = np.einsum("ko,nkrc->norc", w[:, :, i, j], x)
        y[:, :, i : i + stride * H : stride, j : j + stride * W : stride] += stamp
    y = y[:, :, padding : padding + H_out, padding : padding + W_out]
    return y + b[:, None, None]


def right(x, w, b, stride=1, padding=0, output_padding=0):
    pairs = [(n, n) for n in (stride, padding, output_padding)]
    return get_op("conv_transpose2d").definition(x, w, b, *pairs, 1, (1, 1))


def zeros_around(y, b, before, after):
    """y with rows and columns around it that hold nothing but the bias."""
    around = ((0, 0), (0, 0), (before, after), (before, after))
    return np.pad(y - b[:, None, None], around) + b[:, None, None]


def last_stamp(x, w, b, stride=1, padding=0, output_padding=0):
    (H, W), (O, kh, kw) = x.shape[2:], w.shape[1:]
    size = [(n - 1) * stride + k + output_padding for n, k in ((H, kh), (W, kw))]
    y = np.zeros((len(x), O, *size))
    for i, j in np.ndindex(kh, kw):
        y[:, :, i : i + stride * H : stride, j : j + stride * W : stride] = np.einsum(
            "ko,nkrc->norc", w[:, :, i, j], x)  # fmt: skip
    y = y[:, :, padding : size[0] - padding, padding : size[1] - padding]
    return y + b[:, None, None]


def cut_below_only(x, w, b, stride=1, padding=0, output_padding=0):
    height, width = right(x, w, b, stride, padding, output_padding).shape[2:]
    return right(x, w, b, stride, 0, output_padding)[:, :, :height, :width]


def output_padding_above(x, w, b, stride=1, padding=0, output_padding=0):
    """The rows are kept on the other side."""
    height, width = right(x, w, b, stride, padding, output_padding).shape[2:]
    y = right(x, w, b, stride)
    start = padding - output_padding
    if start < 0:
        raise ValueError("there is nothing to keep")
    return y[:, :, start : start + height, start : start + width]


def in_op(conv_transpose2d, x, w, b, stride, padding, output_padding, groups, dilation):
    """Pairs become numbers, no bias becomes zeros. The exercise knows no groups, no dilation."""
    pairs = (stride, padding, output_padding)
    if groups > 1 or dilation != (1, 1) or any(rows != cols for rows, cols in pairs):
        return NotImplemented
    b = np.zeros(w.shape[1], x.dtype) if b is None else b
    return conv_transpose2d(x, w, b, *(rows for rows, _ in pairs))


rng = np.random.default_rng(34)


def case(name, x, out, kernel_size, **how):
    b = np.arange(1.0, out + 1) * 10
    x, w = (rng.integers(-3, 4, shape).astype(float) for shape in (x, (x[1], out, *kernel_size)))
    return Case(name, {"x": x, "w": w, "b": b, **how})


TASK = Task(
    outputs=("y",),
    reference=right,
    use=Use("conv_transpose2d", "forward", in_op, lesson="14"),
    terms=100,
    cases=(
        Case("the example", {"x": np.array([[[[1.0, 10.0]]]]), "w": np.array([[[[1.0, 2.0, 3.0]]]]),
                             "b": np.zeros(1), "stride": 2}),
        case("U-Net's: a kernel 2x2, stride 2", (1, 1, 2, 3), 1, (2, 2), stride=2),
        case("stamps overlap", (1, 1, 2, 3), 1, (3, 2)),
        case("two channels in and out", (1, 2, 2, 2), 2, (2, 2), stride=2),
        case("two images, 3 channels to 2", (2, 3, 2, 1), 2, (2, 3), stride=2),
        case("padding 1", (1, 1, 3, 3), 1, (3, 3), padding=1),
        case("exactly twice as large: kernel 4, stride 2, padding 1", (1, 1, 2, 3), 1, (4, 4),
             stride=2, padding=1),
        case("output padding: kernel 5, stride 2, padding 2", (1, 2, 2, 3), 2, (5, 5), stride=2,
             padding=2, output_padding=1),
    ),
    edge_cases=(
        case("gaps: the kernel is smaller than the stride", (1, 1, 2, 2), 1, (1, 1), stride=3),
        case("output padding alone", (1, 1, 2, 2), 2, (2, 2), stride=2, output_padding=1),
    ),
    hints=(
        "This is conv2d's gradient with respect to its input, under other names: x takes the place "
        "of grad. For one place (i, j) of the kernel, all pixels of x are stamped at once.",
        "Work in an image from which nothing is cut yet: H' + 2 * padding rows. Place (i, j) adds "
        "at rows i, i + stride, ...: H of them. Then keep rows padding .. padding + H'.",
        'stamp = np.einsum("ko,nkrc->norc", w[:, :, i, j], x); y[:, :, i : i + stride*H : stride, '
        "j : ...] += stamp; y = y[:, :, padding : padding + H_out, ...]; add b[:, None, None].",
    ),
    slips=(
        Slip("flipped kernel", "The kernel is turned by 180 degrees: w[.., i, j] is stamped i rows "
             "down and j columns right.",
             lambda x, w, b, **how: right(x, w[:, :, ::-1, ::-1], b, **how)),
        Slip("the last stamp wins", "Where stamps overlap, only the last is kept; add them up: +=.",
             last_stamp),
        Slip("channels swapped", "w has the shape (C, O, kh, kw): its *first* axis meets the "
             "channels of x.",
             lambda x, w, b, **how: right(x, w.swapaxes(0, 1), b, **how)),
        Slip("forgot the bias", "b is missing: each output channel o gets b[o] added.",
             lambda x, w, b, **how: right(x, w, 0 * b, **how)),
        Slip("nothing cut off", "Padding is left out: here it cuts rows and columns off.",
             lambda x, w, b, stride=1, padding=0, output_padding=0:
             right(x, w, b, stride, 0, output_padding)),
        Slip("padding added", "Padding makes y larger here; for a transposed convolution it makes "
             "y smaller: rows and columns are cut off.",
             lambda x, w, b, stride=1, padding=0, output_padding=0:
             zeros_around(right(x, w, b, stride, 0, output_padding), b, padding, padding)),
        Slip("cut off below and right only", "All padding is cut off below and right; half of it "
             "belongs above and left.", cut_below_only),
        Slip("output padding of zeros", "The rows of output_padding hold no stamps here. They are "
             "rows that padding would have cut off: keep what is in them.",
             lambda x, w, b, stride=1, padding=0, output_padding=0:
             zeros_around(right(x, w, b, stride, padding), b, 0, output_padding)),
        Slip("output padding above and left", "output_padding keeps rows above and columns left; "
             "they belong below and right.", output_padding_above),
        Slip("forgot the output padding", "output_padding is left out.",
             lambda x, w, b, stride=1, padding=0, output_padding=0:
             right(x, w, b, stride, padding)),
        Slip("forgot the stride", "The stamps lie one pixel apart: stride is left out.",
             lambda x, w, b, stride=1, padding=0, output_padding=0:
             right(x, w, b, 1, padding, output_padding)),
    ),
    mutants=(
        Mutant("flipped kernel", "w[:, :, i, j]", "w[:, :, kh - 1 - i, kw - 1 - j]"),
        Mutant("the last stamp wins", "+= stamp", "= stamp"),
        Mutant("channels swapped", "w[:, :, i, j], x)", "(w if len(w) != O else w.swapaxes(0, 1))"
               "[:, :, i, j], x)"),
        Mutant("forgot the bias", "return y + b[:, None, None]", "return y"),
        Mutant("nothing cut off", "    N, _, H, W", "    padding = 0\n    N, _, H, W"),
        Mutant("cut off below and right only", "padding : padding + H_out, padding : padding + "
               "W_out", ":H_out, :W_out"),
        Mutant("output padding of zeros", "    y = y[", "    y[:, :, H_out + padding - "
               "output_padding :] = 0\n    y[..., W_out + padding - output_padding :] = 0\n"
               "    y = y["),
        Mutant("output padding above and left", "padding : padding + H_out, padding : padding + "
               "W_out", "padding - output_padding : padding - output_padding + H_out, padding - "
               "output_padding : padding - output_padding + W_out"),
        Mutant("dtype", "padding), x.dtype)", "padding))"),
    ),
)  # fmt: skip
